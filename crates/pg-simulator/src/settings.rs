//! Settings at start: defaults in the code < TOML file < environment < command line.
//!
//! The simulator reads its own, under its own prefix `PG_SIMULATOR__`: it stands for a foreign server, and the knobs of a
//! test gateway have no place among the product's settings. The log format is shared with the other binaries
//! (`HOLDFAST__LOG__FORMAT`).

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::knobs::patch::{self, Change};
use crate::knobs::{KnobError, Knobs};
use crate::server::DEFAULT_BIND;

/// Environment variables of the simulator begin with this.
const PREFIX: &str = "PG_SIMULATOR__";

/// The one variable that is shared with the other binaries.
const SHARED_LOG_FORMAT: &str = "HOLDFAST__LOG__FORMAT";

/// What is logged when `RUST_LOG` says nothing. actix-http logs every connection that is cut on purpose as an error.
const DEFAULT_LOG_FILTER: &str = "info,actix_http=off,actix_server=warn";

/// A payment gateway for development and tests, with a ledger and every kind of misbehaviour.
#[derive(Debug, Default, Parser)]
#[command(name = "pg-simulator", version, about)]
pub struct Arguments {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Checks the settings, says whether they are valid, and ends.
    #[arg(long)]
    pub check_config: bool,
    /// Where to listen [default: 127.0.0.1:8082].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub bind: Option<SocketAddr>,
    /// Where chance begins; the same seed repeats a run [default: a random one, told in the log].
    #[arg(long)]
    pub seed: Option<u64>,
    /// Sets any knob, such as `request.error_500=0` or `settlement.processing.max=1s`. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Everything that is set at start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Where to listen.
    pub bind: SocketAddr,
    /// How to log.
    pub log: LogSettings,
    /// How to behave.
    #[serde(flatten)]
    pub knobs: Knobs,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// For people or for programs.
    pub format: LogFormat,
}

/// The two kinds of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line, coloured on a terminal.
    Human,
    /// One JSON object per line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bind: DEFAULT_BIND, log: LogSettings { format: LogFormat::Human }, knobs: Knobs::default() }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML")]
    NotToml {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: toml::de::Error,
    },
    /// One setting is wrong.
    #[error("{from}: {error}")]
    Setting {
        /// Where it was set: the file, a variable, an argument.
        from: String,
        /// Which and why. Named in the message itself, so not given again as the source.
        error: KnobError,
    },
    /// An argument is not `KEY=VALUE`.
    #[error("--set {0}: write KEY=VALUE")]
    NotKeyValue(String),
}

impl Settings {
    /// Reads all sources. Without a seed in any of them, `random_seed` is taken.
    ///
    /// # Errors
    /// The first source that cannot be read, or key that is unknown, of the wrong type or out of range.
    pub fn load(
        arguments: &Arguments,
        environment: impl IntoIterator<Item = (String, String)>,
        random_seed: u64,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        settings.knobs.seed = random_seed;
        if let Some(path) = &arguments.config {
            let from = path.display().to_string();
            settings = settings.with(&from, |_| read_file(path))?;
        }
        let mut variables: Vec<(String, String)> = environment.into_iter().collect();
        variables.sort();
        for (name, text) in variables {
            let key = match name.strip_prefix(PREFIX) {
                Some(key) => key.to_lowercase().replace("__", "."),
                None if name == SHARED_LOG_FORMAT => "log.format".to_owned(),
                None => continue,
            };
            settings = settings.with_text(&name, &key, &text)?;
        }
        for argument in &arguments.set {
            let (key, text) =
                argument.split_once('=').ok_or_else(|| SettingsError::NotKeyValue(argument.clone()))?;
            settings = settings.with_text("--set", key.trim(), text.trim())?;
        }
        if let Some(bind) = arguments.bind {
            settings.bind = bind;
        }
        if let Some(seed) = arguments.seed {
            settings.knobs.seed = seed;
        }
        // Ranges last: a later source may complete what an earlier one left out of balance.
        settings
            .knobs
            .validate()
            .map_err(|error| SettingsError::Setting { from: "settings".to_owned(), error })?;
        Ok(settings)
    }

    fn with(
        &self,
        from: &str,
        changes: impl FnOnce(&Self) -> Result<Vec<Change>, SettingsError>,
    ) -> Result<Self, SettingsError> {
        let changes = changes(self)?;
        patch::apply(self, &changes).map_err(|error| setting(from, error))
    }

    fn with_text(&self, from: &str, key: &str, text: &str) -> Result<Self, SettingsError> {
        self.with(from, |settings| {
            let change =
                patch::change_from_text(settings, key, text).map_err(|error| setting(from, error))?;
            Ok(vec![change])
        })
    }
}

fn setting(from: &str, error: KnobError) -> SettingsError {
    SettingsError::Setting { from: from.to_owned(), error }
}

fn read_file(path: &Path) -> Result<Vec<Change>, SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
    let tree: Value =
        toml::from_str(&text).map_err(|source| SettingsError::NotToml { path: path.to_owned(), source })?;
    patch::changes_in(&tree).map_err(|error| setting(&path.display().to_string(), error))
}

/// Logs to stderr: level by `RUST_LOG`, `info` without it.
///
/// # Errors
/// When logging is set up already.
pub fn init_logging(format: LogFormat) -> Result<(), TryInitError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG_FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Human => registry.with(layer.with_ansi(io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let arguments = Arguments::try_parse_from([&["pg-simulator"], arguments].concat()).unwrap();
        let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Settings::load(&arguments, environment, 42)
    }

    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pg-simulator-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn without_any_source_it_is_the_documented_gateway_with_a_random_seed() {
        let settings = load(&[], &[("PATH", "/bin"), ("HOLDFAST__SERVER__BIND", "x")]).unwrap();
        assert_eq!(settings.bind, DEFAULT_BIND);
        assert_eq!(settings.knobs, Knobs { seed: 42, ..Knobs::default() });
    }

    #[test]
    fn later_sources_win() {
        let path = file(
            "order",
            "bind = '127.0.0.1:9001'\nseed = 7\n[request]\nerror_500 = 0.1\nlatency = { min = '1ms', max = '2ms' }\n",
        );
        let path = path.to_str().unwrap();
        let settings = load(
            &["--config", path, "--set", "request.latency.max=4ms", "--seed", "9"],
            &[
                ("PG_SIMULATOR__REQUEST__ERROR_500", "0.2"),
                ("PG_SIMULATOR__REQUEST__LATENCY__MAX", "3ms"),
                ("PG_SIMULATOR__CALLBACK_URL_PREFIX", "http://shop"),
                ("HOLDFAST__LOG__FORMAT", "json"),
            ],
        )
        .unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(settings.bind, "127.0.0.1:9001".parse().unwrap());
        assert_eq!(settings.knobs.seed, 9);
        assert!((settings.knobs.request.faults.error_500 - 0.2).abs() < f64::EPSILON);
        assert_eq!(settings.knobs.request.latency.min, Duration::from_millis(1));
        assert_eq!(settings.knobs.request.latency.max, Duration::from_millis(4));
        assert_eq!(settings.knobs.callback_url_prefix, "http://shop");
        assert_eq!(settings.log.format, LogFormat::Json);
    }

    #[test]
    fn every_mistake_names_its_key() {
        for (arguments, environment, expected) in [
            (vec!["--set", "request.nonsense=1"], vec![], "request.nonsense: there is no such setting"),
            (vec!["--set", "request.error_500=2"], vec![], "request.error_500: must be from 0 to 1, not 2"),
            (vec!["--set", "request.error_500=much"], vec![], "request.error_500: must be a number"),
            (vec!["--set", "hang_for=forever"], vec![], "hang_for: \"forever\" is not a duration"),
            (vec!["--set", "hang_for=25h"], vec![], "hang_for: must be at most 24h"),
            (vec!["--set", "request=1"], vec![], "request: is a group of settings"),
            (
                vec!["--set", "lookup.merchant_scoped=maybe"],
                vec![],
                "lookup.merchant_scoped: must be true or false",
            ),
            (vec!["--set", "outage=sometimes"], vec![], "outage: unknown variant"),
            (vec!["--set", "seed"], vec![], "--set seed: write KEY=VALUE"),
            (vec![], vec![("PG_SIMULATOR__NOPE", "1")], "PG_SIMULATOR__NOPE: nope: there is no such setting"),
            (vec![], vec![("PG_SIMULATOR__BIND", "here")], "bind: invalid socket address"),
            (vec![], vec![("HOLDFAST__LOG__FORMAT", "xml")], "log.format: unknown variant"),
            (vec!["--config", "/nonexistent/x.toml"], vec![], "cannot read /nonexistent/x.toml"),
        ] {
            let message = load(&arguments, &environment).unwrap_err().to_string();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }

    #[test]
    fn a_bad_file_is_told_apart_from_a_bad_key_in_it() {
        for (name, text, expected) in [
            ("syntax", "seed = ", "is not valid TOML"),
            ("key", "[request]\nerror_5000 = 1", "request.error_5000"),
        ] {
            let path = file(name, text);
            let message = load(&["--config", path.to_str().unwrap()], &[]).unwrap_err().to_string();
            std::fs::remove_file(&path).unwrap();
            assert!(message.contains(expected), "{message}");
        }
    }
}
