//! Where raw values come from: the environment and the TOML file.
//!
//! The environment is collected here and not by the `config` crate: that one lowers names before unknown ones can be
//! reported as they were written, guesses types from text, and can't tell `HOLDFAST__LOG` (unknown) from a section.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::error::{Problem, SettingsError};

/// Every environment name of ours begins so. `HOLDFAST_` with one underscore (test and tool switches) is not ours.
const PREFIX: &str = "HOLDFAST__";
/// What the world calls `database.url`.
const DATABASE_URL: &str = "DATABASE_URL";

/// The environment name of a key: `pg.base_url` is `HOLDFAST__PG__BASE_URL`.
pub(crate) fn env_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The part of an environment that concerns us, as a value, so that tests need not change the process's.
#[derive(Debug, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Environment {
    /// The process's own environment.
    #[must_use]
    pub fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os())
    }

    /// An environment given by name and value. Other programs' names are skipped, and an empty value counts as not
    /// set (compose files pass `${NAME:-}` on). `DATABASE_URL` stands for `HOLDFAST__DATABASE__URL`, which wins.
    pub fn from_pairs<N: Into<OsString>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in pairs {
            let Ok(name) = name.into().into_string() else { continue };
            if !name.starts_with(PREFIX) && name != DATABASE_URL {
                continue;
            }
            match value.into().into_string() {
                Ok(value) if value.is_empty() => {}
                Ok(value) => drop(environment.values.insert(name, value)),
                Err(_) => environment.problems.push(Problem::NotUnicode { env: name }),
            }
        }
        if let Some(url) = environment.values.remove(DATABASE_URL) {
            environment.values.entry(env_name("database.url")).or_insert(url);
        }
        environment
    }

    pub(crate) fn into_parts(self) -> (BTreeMap<String, String>, Vec<Problem>) {
        (self.values, self.problems)
    }
}

/// Reads a TOML file into dotted keys and values; sections disappear, an empty one stays as an empty table.
pub(crate) fn read_file(path: &Path) -> Result<BTreeMap<String, toml::Value>, SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let (line, column) = position(&text, error.span().map_or(0, |span| span.start));
        SettingsError::NotToml { path: path.to_owned(), line, column, message: error.message().to_owned() }
    })?;
    let mut flat = BTreeMap::new();
    flatten("", table, &mut flat);
    Ok(flat)
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn flatten(prefix: &str, table: toml::Table, flat: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => flatten(&key, inner, flat),
            other => drop(flat.insert(key, other)),
        }
    }
}
