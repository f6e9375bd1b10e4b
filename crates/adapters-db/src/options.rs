//! How to reach the database, and the limits of everything that is waited for.

use crate::error::unavailable;
use domain::ports::StoreError;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// The settings `database.*` for one pool. `Debug` hides the address, which bears the password.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// `postgres://user:password@host:port/database`. What stands in its own `options=` comes last and wins.
    pub url: SecretString,
    /// What the pool is called in metrics, and in `pg_stat_activity` (`holdfast/<name>`).
    pub pool_name: &'static str,
    /// The most connections, at least 1.
    pub pool_size: usize,
    /// Longest wait for a connection, the opening of a new one included.
    pub acquire_timeout: Duration,
    /// Longest time to open a connection.
    pub connect_timeout: Duration,
    /// A connection is not given out again once it is this old (each one up to a quarter earlier, by chance).
    pub max_age: Duration,
    /// Longest run of one statement; ended by the server.
    pub statement_timeout: Duration,
    /// Longest wait for a lock; ended by the server.
    pub lock_timeout: Duration,
    /// After this long the server ends a transaction whose owner says nothing any more.
    pub idle_in_transaction_session_timeout: Duration,
    /// How often the server looks whether the client of a running statement is still there.
    pub client_connection_check_interval: Duration,
}

impl DatabaseOptions {
    /// The defaults of `docs/configuration.md` for a pool called `pool_name`, with 8 connections.
    pub fn new(url: impl Into<SecretString>, pool_name: &'static str) -> Self {
        Self {
            url: url.into(),
            pool_name,
            pool_size: 8,
            acquire_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            max_age: Duration::from_secs(30 * 60),
            statement_timeout: Duration::from_secs(3),
            lock_timeout: Duration::from_secs(1),
            idle_in_transaction_session_timeout: Duration::from_secs(2),
            client_connection_check_interval: Duration::from_secs(1),
        }
    }

    /// How long an answer may take before the server counts as vanished: it ends every statement before that itself.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.statement_timeout + Duration::from_secs(2)
    }

    /// # Errors
    /// [`StoreError::Other`] when the address can't be read.
    pub(crate) fn config(&self) -> Result<tokio_postgres::Config, StoreError> {
        let mut config = parse(&self.url)?;
        let own = format!(
            "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={} \
             -c client_connection_check_interval={}",
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
            self.idle_in_transaction_session_timeout.as_millis(),
            self.client_connection_check_interval.as_millis(),
        );
        let options = match config.get_options() {
            Some(given) => format!("{own} {given}"),
            None => own,
        };
        config.options(options);
        config.application_name(format!("holdfast/{}", self.pool_name));
        config.connect_timeout(self.connect_timeout);
        // A peer that vanished without a word is noticed when it does not acknowledge what we sent for so long ...
        config.tcp_user_timeout(self.answer_timeout());
        // ... and on an idle connection by probes.
        config.keepalives(true);
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3);
        Ok(config)
    }
}

/// # Errors
/// [`StoreError::Other`]; the message says nothing of the address, which may bear a password.
pub(crate) fn parse(url: &SecretString) -> Result<tokio_postgres::Config, StoreError> {
    url.expose_secret()
        .parse()
        .map_err(|_| StoreError::Other { what: "database.url is not a PostgreSQL address".to_owned() })
}

/// Parameters of an address that are taken as they are.
const TAKEN: &[&str] = &[
    "user",
    "password",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "options",
    "target_session_attrs",
    "load_balance_hosts",
    // Of these the values that demand TLS are refused.
    "sslmode",
    "sslnegotiation",
    "channel_binding",
];

/// Parameters that the driver knows and that are overruled by settings, or by what every connection here needs.
const OVERRULED: &[(&str, &str)] = &[
    ("connect_timeout", "database.connect_timeout"),
    ("tcp_user_timeout", "database.statement_timeout"),
    ("application_name", "the programs"),
    ("keepalives", "the programs"),
    ("keepalives_idle", "the programs"),
    ("keepalives_interval", "the programs"),
    ("keepalives_retries", "the programs"),
];

/// Why an address can't be used. The text shows nothing of it but a parameter's name: the rest may be part of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It can't be read.
    #[error("it is not a PostgreSQL address")]
    Unreadable,
    /// A parameter that demands an encrypted connection.
    #[error(
        "{0} demands TLS, which is not there yet: connections are not encrypted. Use a private network or a tunnel, and set \
         sslmode=disable or leave it out"
    )]
    DemandsTls(&'static str),
    /// A parameter that would be ignored.
    #[error("{0} is not taken from the address, it is set by {1}: leave it out")]
    Overruled(&'static str, &'static str),
    /// A parameter's value that means nothing.
    #[error("the value of {0} is not one that PostgreSQL's clients know")]
    Value(&'static str),
    /// A parameter that means nothing here.
    #[error("it has a parameter that is not known: {0}")]
    Unknown(String),
}

/// Whether everything that an address asks for is done when it is connected to. Connects to nothing.
///
/// # Errors
/// [`AddressError`].
pub fn check_address(url: &SecretString) -> Result<(), AddressError> {
    let text = url.expose_secret();
    // As the driver reads it: a password may contain a question mark.
    let place = text.split_once('@').map_or(text, |(_, place)| place);
    let query = place.split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some((name, by)) = OVERRULED.iter().find(|(known, _)| *known == name) {
            return Err(AddressError::Overruled(name, by));
        }
        let Some(name) = TAKEN.iter().find(|known| **known == name) else {
            return Err(AddressError::Unknown(shown(name, pair, query)));
        };
        match (*name, value) {
            ("sslmode", "disable" | "prefer")
            | ("sslnegotiation", "postgres")
            | ("channel_binding", "disable" | "prefer") => {}
            ("sslmode" | "sslnegotiation" | "channel_binding", _) => {
                return Err(AddressError::DemandsTls(name));
            }
            _ if format!("postgres://localhost/?{pair}").parse::<tokio_postgres::Config>().is_err() => {
                return Err(AddressError::Value(name));
            }
            _ => {}
        }
    }
    parse(url).map(drop).map_err(|_| AddressError::Unreadable)
}

/// An unknown parameter's name, unless it may be a part of a password that is not encoded as it should be.
fn shown(name: &str, pair: &str, query: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && pair.contains('=') && !query.contains('@') {
        name.to_owned()
    } else {
        "(not shown)".to_owned()
    }
}

/// An error of opening a connection, with its causes: tokio-postgres names only the kind.
pub(crate) fn connect_error(error: &tokio_postgres::Error) -> StoreError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    unavailable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_has_the_last_word_and_is_never_shown() {
        let url = "postgres://me:secret@localhost/db?options=-c%20lock_timeout%3D5s";
        let options = DatabaseOptions::new(url, "api");
        let config = options.config().unwrap();
        let given = config.get_options().unwrap();
        assert!(given.starts_with("-c statement_timeout=3000 -c lock_timeout=1000 "), "{given}");
        assert!(given.ends_with("-c lock_timeout=5s"), "{given}");
        assert!(!format!("{options:?}").contains("secret"));
    }

    #[test]
    fn a_bad_address_is_refused_without_repeating_it() {
        let error = DatabaseOptions::new("postgres://me:secret@host:port/db", "api").config().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
