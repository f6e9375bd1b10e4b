//! Takes the keys one by one and remembers what it saw: every key's description (the documentation is made of it),
//! every value in force (for `--check-config`), and everything that is wrong.

use std::collections::BTreeMap;

use super::error::{Problem, Source};
use super::source::{Environment, env_name};
use super::value::{Rule, Value};

/// One key as documented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDescription {
    /// The dotted key.
    pub key: String,
    /// Its environment name.
    pub env: String,
    /// The default as it would be written, or in words when it is worked out at start.
    pub default: String,
    /// True when the default is given in words.
    pub is_worked_out: bool,
    /// What is allowed, in words.
    pub allowed: String,
    /// What it means, from the field's own documentation.
    pub meaning: String,
}

/// One key's value in force; secrets only say whether they are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveValue {
    /// The dotted key.
    pub key: String,
    /// The value as it would be written.
    pub value: String,
    /// Who set it.
    pub source: Source,
}

/// What was wrong with the values, and what was learnt while reading them.
pub(crate) struct Outcome {
    pub(crate) keys: Vec<KeyDescription>,
    pub(crate) effective: Vec<EffectiveValue>,
    pub(crate) problems: Vec<Problem>,
}

pub(crate) struct Reader {
    file: BTreeMap<String, toml::Value>,
    environment: BTreeMap<String, String>,
    outcome: Outcome,
}

impl Reader {
    pub(crate) fn new(file: BTreeMap<String, toml::Value>, environment: Environment) -> Self {
        let (environment, problems) = environment.into_parts();
        Self { file, environment, outcome: Outcome { keys: Vec::new(), effective: Vec::new(), problems } }
    }

    /// Takes one key: environment before file before `default`. A wrong value is remembered and `default` stands in,
    /// so that one run reports all that is wrong. The default itself has to pass the rule too: that is how a key
    /// without a usable default is needed.
    pub(crate) fn take<T: Value + Clone>(
        &mut self,
        section: &str,
        field: &str,
        meaning: &str,
        rule: &Rule<T>,
        default: T,
    ) -> T {
        let key = join(section, field);
        let env = env_name(&key);
        self.outcome.keys.push(KeyDescription {
            key: key.clone(),
            env: env.clone(),
            default: rule.default_text.map_or_else(|| default.show(), str::to_owned),
            is_worked_out: rule.default_text.is_some(),
            allowed: rule.allowed.clone(),
            meaning: meaning.to_owned(),
        });
        // Both are taken out, so that what is left at the end is unknown.
        let from_file = self.file.remove(&key);
        let (source, read, found) = match (self.environment.remove(&env), from_file) {
            (Some(text), _) => (Source::Environment, T::from_text(&text), format!("{text:?}")),
            (None, Some(raw)) => (Source::File, T::from_toml(&raw), raw.to_string()),
            (None, None) => (Source::Default, Some(default.clone()), String::new()),
        };
        let value = read.filter(|value| rule.holds(value)).unwrap_or_else(|| {
            let found = (!T::SECRET).then(|| shortened(&found));
            let allowed = rule.allowed.clone();
            self.outcome.problems.push(Problem::Value { key: key.clone(), env, source, found, allowed });
            default
        });
        self.outcome.effective.push(EffectiveValue { key, value: value.show(), source });
        value
    }

    /// Ends the reading: what nobody took is unknown.
    pub(crate) fn finish(self) -> Outcome {
        let Self { file, environment, mut outcome } = self;
        let keys: Vec<&str> = outcome.keys.iter().map(|known| known.key.as_str()).collect();
        let envs: Vec<&str> = outcome.keys.iter().map(|known| known.env.as_str()).collect();
        let is_section = |name: &str| keys.iter().any(|key| key.starts_with(&format!("{name}.")));
        let unknown_in_file = file
            .into_iter()
            // An empty section is no mistake.
            .filter(|(name, value)| !(value.is_table() && is_section(name)))
            .map(|(name, _)| Problem::Unknown {
                similar: most_like(&name, &keys),
                name,
                in_environment: false,
            });
        let unknown_in_environment = environment.into_keys().map(|name| Problem::Unknown {
            similar: most_like(&name, &envs),
            name,
            in_environment: true,
        });
        let unknown: Vec<Problem> = unknown_in_file.chain(unknown_in_environment).collect();
        outcome.problems.extend(unknown);
        outcome
    }
}

/// A key of a section; the outermost section has no name.
pub(crate) fn join(section: &str, field: &str) -> String {
    if section.is_empty() { field.to_owned() } else { format!("{section}.{field}") }
}

/// Long enough to recognise a value, short enough for one line.
fn shortened(text: &str) -> String {
    const LIMIT: usize = 80;
    let one_line = text.replace(char::is_control, " ");
    match one_line.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}...", one_line.get(..end).unwrap_or_default()),
        None => one_line,
    }
}

/// The known name that is most like an unknown one, if any is like it at all.
fn most_like(name: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.9)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}
