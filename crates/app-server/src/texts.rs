//! What people read, in Korean and English: one catalogue for the API's messages and the console's pages, in the
//! syntax of [Fluent](https://projectfluent.org), embedded in the program.
//!
//! A text is a line of `locales/ko.ftl` and one of `locales/en.ftl` under the same key. An API message's key is its
//! `reason`; `notice-`, `status-`, `circuit-`, `cause-`, `kind-` and `to-do-` are followed by the name of what they are
//! about; the others are named where they are said. Tests hold the two files against each other and against the
//! sources, so that a key that is missing, misspelt or not used fails.
//!
//! Deliberately absent: the domain's own Korean messages (they are rules of the contract; a test compares), and a language
//! that falls back to another.

use bootstrap::settings::Locale;
use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use std::borrow::Cow;
use std::sync::LazyLock;

const KO: &str = include_str!("../locales/ko.ftl");
const EN: &str = include_str!("../locales/en.ftl");

type Bundle = FluentBundle<FluentResource>;

/// The texts of one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Texts(Locale);

impl Texts {
    /// Of this language.
    pub(crate) const fn of(locale: Locale) -> Self {
        Self(locale)
    }

    /// A text without variables.
    pub(crate) fn say(self, key: &str) -> &'static str {
        match self.format(key, None) {
            Some(Cow::Borrowed(text)) => text,
            Some(Cow::Owned(_)) | None => missing(key),
        }
    }

    /// A text with its variables filled in. Numbers are grouped (`1,234`) and choose between singular and plural.
    pub(crate) fn fill<'v>(
        self,
        key: &str,
        values: impl IntoIterator<Item = (&'static str, FluentValue<'v>)>,
    ) -> String {
        let values: FluentArgs<'_> =
            values.into_iter().map(|(name, value)| (Cow::<'v, str>::Borrowed(name), value)).collect();
        self.format(key, Some(&values)).map_or_else(|| missing(key).to_owned(), Cow::into_owned)
    }

    fn format(self, key: &str, values: Option<&FluentArgs<'_>>) -> Option<Cow<'static, str>> {
        static BUNDLES: LazyLock<[Bundle; 2]> = LazyLock::new(|| [bundle("ko", KO), bundle("en", EN)]);
        let [ko, en] = &*BUNDLES;
        let bundle: &'static Bundle = match self.0 {
            Locale::Ko => ko,
            Locale::En => en,
        };
        let pattern = bundle.get_message(key)?.value()?;
        let mut errors = Vec::new();
        let text = bundle.format_pattern(pattern, values, &mut errors);
        errors.is_empty().then_some(text)
    }
}

/// What is said in a missing text's place. The tests leave no way to get here.
fn missing(key: &str) -> &'static str {
    tracing::error!(key, "a text is not in the catalogue, or lacks a variable");
    "?"
}

fn bundle(language: &str, source: &str) -> Bundle {
    let mut bundle = Bundle::new_concurrent(language.parse().into_iter().collect());
    // Nothing here is written from right to left; the marks that would isolate such text confuse programs.
    bundle.set_use_isolating(false);
    bundle.set_formatter(Some(|value, _| match value {
        FluentValue::Number(number) if number.value >= 0.0 => Some(grouped(number.value as u64)),
        _ => None,
    }));
    // What can't be read is left out, and the tests of this module fail.
    let resource = FluentResource::try_new(source.to_owned()).unwrap_or_else(|(resource, _)| resource);
    bundle.add_resource_overriding(resource);
    bundle
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::spoken_keys;
    use crate::http::failure::Case;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    /// Each key with the variables of its text.
    fn keys(source: &str) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut keys = BTreeMap::<&str, BTreeSet<&str>>::new();
        let mut last = "";
        for line in source.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if !line.starts_with(' ') {
                last = line.split_once(" = ").unwrap_or_else(|| panic!("{line:?} is no text")).0;
                assert!(keys.insert(last, BTreeSet::new()).is_none(), "{last} is there twice");
            }
            let variables = line.split("{ $").skip(1).map(|rest| rest.split([' ', '}']).next().unwrap());
            keys.get_mut(last).unwrap().extend(variables);
        }
        keys
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    /// The keys that sources and templates name: `say("key")`, `fill("key"`.
    fn named() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut named = BTreeSet::new();
        for path in files(&root.join("src")).into_iter().chain(files(&root.join("templates"))) {
            // This file names none but in its tests.
            if path.ends_with("src/texts.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            // A call may be broken over lines.
            let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( \"", "(\"");
            for call in ["say(\"", "fill(\""] {
                named.extend(text.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
        named
    }

    #[test]
    fn both_languages_have_every_text_that_is_said_and_no_other() {
        let (ko, en) = (keys(KO), keys(EN));
        let reasons = Case::ALL.iter().map(|case| case.reason().to_owned());
        let spoken: BTreeSet<String> = named().into_iter().chain(spoken_keys()).chain(reasons).collect();
        let there =
            |keys: &BTreeMap<&str, _>| keys.keys().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
        let differ =
            |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
        for (language, keys) in [("ko", there(&ko)), ("en", there(&en))] {
            assert_eq!(differ(&spoken, &keys), [""; 0], "said, but not in {language}.ftl");
            assert_eq!(differ(&keys, &spoken), [""; 0], "in {language}.ftl, but never said");
        }
        for (key, variables) in &ko {
            assert_eq!(Some(variables), en.get(key), "{key} has other variables in the other language");
        }
    }

    #[test]
    fn every_text_can_be_said() {
        for (locale, source) in [(Locale::Ko, KO), (Locale::En, EN)] {
            assert!(
                FluentResource::try_new(source.to_owned()).is_ok(),
                "{locale:?}: not the syntax of Fluent"
            );
            let texts = Texts::of(locale);
            for (key, variables) in keys(source) {
                if variables.is_empty() {
                    assert_ne!(texts.say(key), "?", "{locale:?}: {key} can't be said; is it one line?");
                } else {
                    let values = variables
                        .into_iter()
                        .map(|name| (&*name.to_owned().leak(), FluentValue::from(7_u64)));
                    let text = texts.fill(key, values);
                    assert!(text.contains('7') && !text.contains('{'), "{locale:?}: {key}: {text}");
                }
            }
        }
    }

    #[test]
    fn numbers_are_grouped_and_counted() {
        let say = |locale, count: u64| Texts::of(locale).fill("alarm-parked", [("count", count.into())]);
        assert_eq!(say(Locale::En, 1), "1 payment is parked");
        assert_eq!(say(Locale::En, 1234), "1,234 payments are parked");
        assert_eq!(say(Locale::Ko, 1234), "보류된 결제 1,234건");
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn what_is_missing_is_a_question_mark() {
        let texts = Texts::of(Locale::En);
        assert_eq!((texts.say("no-such-text"), texts.say("MISSING_FIELD")), ("?", "?"));
        assert_eq!(texts.fill("MISSING_FIELD", [("other", "x".into())]), "?");
    }
}
