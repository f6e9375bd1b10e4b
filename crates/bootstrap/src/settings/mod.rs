//! Settings: defaults in the code, then a TOML file, then the environment (spec/03, "Settings").
//!
//! One pass over the sections reads the values, and describes the keys for the documentation. Whatever is wrong is
//! reported at once, a line for each key. Nothing else in the workspace reads the environment for settings, and
//! nothing here is read again later: a change needs a restart.

mod checks;
mod defaults;
mod error;
mod reader;
#[cfg(test)]
mod reference;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod types;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::path::Path;

use domain::ports::Entropy as _;
use secrecy::SecretString;

pub use error::{Problem, SettingsError, Source};
pub use reader::{EffectiveValue, KeyDescription};
pub use sections::{
    AuthSettings, BatchSettings, CallbackSettings, CircuitSettings, CorsSettings, DatabaseSettings,
    EventSettings, GatewayCallSettings, GatewaySettings, IdempotencySettings, JwtSettings, LocaleSettings,
    LogSettings, OpsSettings, OrderSettings, PointSettings, RateLimitSettings, ReconcilerSettings,
    RetryBudgetSettings, RetrySettings, ServerSettings, Settings, SyncSettings,
};
pub use source::Environment;
pub use types::{
    AuthMode, BaseUrl, CronExpression, DatabaseUrl, JwtAlgorithm, Locale, LogFormat, Origin, WindowType,
};

use crate::entropy::OsEntropy;
use reader::{Outcome, Reader};

/// Settings that passed every check, and what an operator should know of them.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Every key's value in force, in the order of the documentation; secrets only say whether they are set.
    pub effective: Vec<EffectiveValue>,
    /// What is allowed but unwise; log it once logging is set up ([`Loaded::log_warnings`]).
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Logs the warnings, each once.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// Shows every value in force, a line each: `key = value (source)`.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for EffectiveValue { key, value, source } in &self.effective {
            writeln!(f, "{key} = {value} ({source})")?;
        }
        Ok(())
    }
}

/// Loads the settings of a file, if one is named, under those of an environment.
///
/// # Errors
/// The file can't be read or is not TOML; a key is unknown; a value is missing, of another type, out of range, or
/// contradicts another one. All wrong keys are reported together.
pub fn load(file: Option<&Path>, environment: Environment) -> Result<Loaded, SettingsError> {
    let file = file.map(source::read_file).transpose()?.unwrap_or_default();
    let (settings, outcome) = read(file, environment);
    let Outcome { effective, mut problems, .. } = outcome;
    if problems.is_empty() {
        problems = checks::problems(&settings);
    }
    if !problems.is_empty() {
        return Err(SettingsError::Invalid(problems));
    }
    let is_default = |name: &str| effective.iter().any(|v| v.key == name && v.source == Source::Default);
    let mut warnings = Vec::new();
    if is_default("pg.callback_secret") {
        warnings.push(format!(
            "pg.callback_secret is not set: a random one was made, so callbacks sent to another server or after a \
             restart are refused and such payments wait for the reconciler; set {} when several servers run",
            source::env_name("pg.callback_secret")
        ));
    }
    if settings.points.self_charge {
        warnings.push("points.self_charge is on: every buyer can give himself points".to_owned());
    }
    Ok(Loaded { settings, effective, warnings })
}

/// Every key with its default, allowed values and meaning, in the order of the documentation.
#[must_use]
pub fn keys() -> Vec<KeyDescription> {
    read(BTreeMap::new(), Environment::default()).1.keys
}

fn read(file: BTreeMap<String, toml::Value>, environment: Environment) -> (Settings, Outcome) {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut reader = Reader::new(file, environment);
    let settings = Settings::read(&mut reader, "", defaults::settings(cores, random_secret()));
    (settings, reader.finish())
}

/// 32 random bytes in hexadecimal.
fn random_secret() -> SecretString {
    SecretString::from(OsEntropy.token().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
