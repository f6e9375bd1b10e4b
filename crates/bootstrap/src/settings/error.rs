//! What can be wrong with a configuration, each said in one line that names the key.

use std::fmt;
use std::path::PathBuf;

/// Why the settings could not be loaded. The message names every key that is wrong, one a line, and never shows a
/// secret or a line of the file.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file named on the command line can't be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said. Shown in the message too, since the message stands alone at start.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}:{line}:{column}: the configuration file is not valid TOML: {message}", path = path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser expected; never the line itself, which may bear a secret.
        message: String,
    },
    /// One or several keys are wrong.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Where a setting's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The TOML file.
    File,
    /// The environment.
    Environment,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A key that doesn't exist.
    Unknown {
        /// As it was written: a key of the file, or an environment name.
        name: String,
        /// True for an environment name.
        in_environment: bool,
        /// The known name that looks most like it.
        similar: Option<String>,
    },
    /// A value of the wrong type or out of range, or a needed one that is not set.
    Value {
        /// The key.
        key: String,
        /// The key's environment name.
        env: String,
        /// Where the value came from; [`Source::Default`] when it is not set.
        source: Source,
        /// The value, shortened; nothing for a secret.
        found: Option<String>,
        /// What is allowed.
        allowed: String,
    },
    /// An environment value that isn't Unicode text.
    NotUnicode {
        /// The environment name.
        env: String,
    },
    /// Values that are allowed one by one, but not together.
    Together {
        /// The keys, the one to change first.
        keys: Vec<String>,
        /// The rule they break, with the values where they are no secrets.
        rule: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, in_environment, similar } => {
                let place = if *in_environment { "in the environment" } else { "in the configuration file" };
                write!(f, "unknown setting {name} {place}")?;
                match similar {
                    Some(similar) => write!(f, "; did you mean {similar}?"),
                    None => f.write_str("; docs/configuration.md lists every key"),
                }
            }
            Self::Value { key, env, source, found, allowed } => {
                write!(f, "setting {key} (environment {env}) ")?;
                let place = match source {
                    Source::Default => return write!(f, "is not set: expected {allowed}"),
                    Source::File => "in the configuration file",
                    Source::Environment => "in the environment",
                };
                match found {
                    Some(found) => write!(f, "is {found} {place}: expected {allowed}"),
                    None => write!(f, "has a wrong value (not shown) {place}: expected {allowed}"),
                }
            }
            Self::NotUnicode { env } => write!(f, "the environment's {env} is not Unicode text"),
            Self::Together { keys, rule } => {
                let named: Vec<String> = keys
                    .iter()
                    .map(|key| format!("{key} (environment {})", super::source::env_name(key)))
                    .collect();
                write!(f, "setting {}: {rule}", named.join(", "))
            }
        }
    }
}
