//! Opening a connection: the session's settings, whether they are in force, and the preparing of all statements that
//! are sent together.
//!
//! What this program relies on it sets by itself, whatever the database, the role or the server's file say. (Limits of
//! time, durability and the planner's settings can be overridden by `options=` in the address, on purpose.) Then it
//! looks whether the server took it over; a connection without it is refused with the setting's name.

use crate::error::{Failure, unavailable};
use crate::options::{DatabaseOptions, connect_error};
use crate::statement::{command, statement};
use crate::{callbacks, claims, placing, settled, settling, starting};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Text};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use domain::ports::StoreError;
use tokio_postgres::NoTls;

/// Set before `options=` of the address, which comes last and wins.
///
/// A plan is made once per connection: with arrays as parameters the planner would else make one at nearly every
/// execution. So that a plan made while a table was empty still serves when it is full, tables are found by their
/// indices; and what PostgreSQL would then take for costly is not compiled.
const OURS: &[(&str, &str)] = &[
    ("synchronous_commit", "on"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    // And in the order of their ids: of two payments in one batch the first may give up a key that the second one takes.
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// Set after it: with another isolation, waiting for a lock would end in an error instead of the newest row.
const ALWAYS: (&str, &str) = ("default_transaction_isolation", "read committed");

/// How connections are opened.
#[derive(Debug)]
pub(crate) struct Config {
    address: tokio_postgres::Config,
    /// Settings and what they must be, as `pg_settings` has it.
    expected: Vec<(&'static str, String)>,
}

impl Config {
    /// # Errors
    /// [`StoreError::Other`] for an unreadable address.
    pub(crate) fn new(options: &DatabaseOptions) -> Result<Self, StoreError> {
        let mut address = options.config()?;
        let given = address.get_options().unwrap_or_default().to_owned();
        let ours: String = OURS.iter().map(|(name, value)| format!("-c {name}={value} ")).collect();
        let (name, value) = ALWAYS;
        address.options(format!("{ours}{given} -c {name}={}", value.replace(' ', "\\ ")));
        let limits = [
            ("statement_timeout", options.statement_timeout),
            ("lock_timeout", options.lock_timeout),
            ("idle_in_transaction_session_timeout", options.idle_in_transaction_session_timeout),
        ];
        let limits = limits.map(|(name, limit)| (name, limit.as_millis().to_string()));
        let ours = OURS.iter().map(|(name, value)| (*name, (*value).to_owned()));
        // Named twice: by us and by the address, whose word counts.
        let named_by_address = |name: &str| given.matches(name).count() > usize::from(!is_ours(name));
        let mut expected: Vec<_> = limits.into_iter().chain(ours).collect();
        expected.retain(|(name, _)| !named_by_address(name));
        let text = |(name, value): (&'static str, &str)| (name, value.to_owned());
        expected
            .extend([ALWAYS, ("client_encoding", "UTF8"), ("session_replication_role", "origin")].map(text));
        Ok(Self { address, expected })
    }
}

fn is_ours(name: &str) -> bool {
    OURS.iter().any(|(ours, _)| *ours == name)
}

/// Opens one, and says whether all statements are prepared; if not, why.
///
/// # Errors
/// [`StoreError::Unavailable`] when the server is out of reach; [`StoreError::Other`] when it does not keep what this
/// program relies on, with what to do.
pub(crate) async fn open(config: &Config) -> Result<(AsyncPgConnection, Result<(), StoreError>), StoreError> {
    let (client, connection) = config.address.connect(NoTls).await.map_err(|error| connect_error(&error))?;
    // This sets the time zone to UTC too.
    let mut session =
        AsyncPgConnection::try_from_client_and_connection(client, connection).await.map_err(unavailable)?;
    // Causes are recognised by their messages in English (`error`). Only some roles may set the language.
    if let Err(error) = session.batch_execute("SET lc_messages = 'C'").await {
        tracing::debug!(%error, "could not set lc_messages");
    }
    let found = settings(&session, config).await.map_err(Failure::into_error)?;
    check(&found, config)?;
    let prepared = prepare(&session).await.map_err(Failure::into_error);
    Ok((session, prepared))
}

/// A setting in force.
#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    setting: String,
    #[diesel(sql_type = Text)]
    role: String,
}

async fn settings(connection: &AsyncPgConnection, config: &Config) -> Result<Vec<Setting>, Failure> {
    const SQL: &str = "SELECT name, setting, quote_ident(current_user) AS role FROM pg_settings \
        WHERE name = ANY($1::text[])";
    let names = config.expected.iter().map(|(name, _)| *name).chain(["server_encoding", "lc_messages"]);
    Ok(statement(SQL).bind::<Array<Text>, _>(names.collect::<Vec<_>>()).rows(connection).await?)
}

fn check(found: &[Setting], config: &Config) -> Result<(), StoreError> {
    let refuse = |what: String| Err(StoreError::Other { what });
    let setting = |name: &str| found.iter().find(|setting| setting.name == name);
    let value = |name: &str| setting(name).map_or("unknown", |setting| setting.setting.as_str());
    let encoding = value("server_encoding");
    if encoding != "UTF8" {
        return refuse(format!(
            "the database's encoding is {encoding}, which does not hold every text: make it anew by CREATE DATABASE \
             ... ENCODING 'UTF8' TEMPLATE template0 and move the data there"
        ));
    }
    let language = value("lc_messages");
    if !(matches!(language, "C" | "POSIX") || language.starts_with("C.") || language.starts_with("en")) {
        let role = setting("lc_messages").map_or("...", |setting| setting.role.as_str());
        return refuse(format!(
            "lc_messages is {language} and this role may not change it, so that the causes of errors can't be told \
             apart: as a superuser, ALTER ROLE {role} SET lc_messages = 'C' (or, from PostgreSQL 15 on, GRANT SET ON \
             PARAMETER lc_messages TO {role})"
        ));
    }
    for (name, wanted) in &config.expected {
        if value(name) != wanted {
            return refuse(format!(
                "the setting {name} is {} although {wanted} was asked for: does something between this program and \
                 the database drop the session's options?",
                value(name)
            ));
        }
    }
    Ok(())
}

/// Runs all statements that transactions send together once, with nothing to do. One that is not prepared would be sent
/// only after the answer to its preparing, behind those that were to come after it.
async fn prepare(connection: &AsyncPgConnection) -> Result<(), Failure> {
    command(connection, "BEGIN").await?;
    let prepared = async {
        placing::prepare(connection).await?;
        settling::prepare(connection).await?;
        settled::prepare(connection).await?;
        claims::prepare(connection).await?;
        callbacks::prepare(connection).await?;
        starting::prepare(connection).await
    };
    let prepared = prepared.await;
    command(connection, "ROLLBACK").await?;
    prepared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: &str) -> Config {
        Config::new(&DatabaseOptions::new(address, "api")).unwrap()
    }

    /// What a server says that has taken everything over, but for `changed`.
    fn found(config: &Config, changed: &[(&str, &str)]) -> Vec<Setting> {
        let kept = config.expected.iter().map(|(name, value)| (*name, value.as_str()));
        kept.chain([("server_encoding", "UTF8"), ("lc_messages", "C")])
            .map(|(name, value)| {
                let setting =
                    changed.iter().find(|(other, _)| *other == name).map_or(value, |(_, value)| value);
                Setting { name: name.to_owned(), setting: setting.to_owned(), role: "shop".to_owned() }
            })
            .collect()
    }

    fn refusal(config: &Config, name: &str, value: &str) -> Option<String> {
        check(&found(config, &[(name, value)]), config).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_not_in_force_is_named() {
        let config = config("postgres://localhost/db");
        assert_eq!(refusal(&config, "nothing", ""), None);
        for (name, value) in [
            ("default_transaction_isolation", "serializable"),
            ("synchronous_commit", "off"),
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("plan_cache_mode", "auto"),
            ("client_encoding", "LATIN1"),
            ("session_replication_role", "replica"),
        ] {
            let refusal = refusal(&config, name, value).unwrap();
            assert!(refusal.contains(name) && refusal.contains(value), "{refusal}");
        }
        let missing: Vec<Setting> =
            found(&config, &[]).into_iter().filter(|setting| setting.name != "lock_timeout").collect();
        assert!(check(&missing, &config).is_err_and(|error| error.to_string().contains("lock_timeout")));
    }

    #[test]
    fn another_encoding_or_language_is_refused_with_what_to_do() {
        let config = config("postgres://localhost/db");
        for encoding in ["SQL_ASCII", "EUC_KR", "LATIN1"] {
            let refusal = refusal(&config, "server_encoding", encoding).unwrap();
            assert!(refusal.contains(encoding) && refusal.contains("CREATE DATABASE"), "{refusal}");
        }
        for language in ["ko_KR.UTF-8", "de_DE.utf8", "", "Cs_CZ"] {
            let refusal = refusal(&config, "lc_messages", language).unwrap();
            assert!(refusal.contains("ALTER ROLE shop SET lc_messages = 'C'"), "{refusal}");
        }
        for language in ["C", "POSIX", "C.UTF-8", "en_US.UTF-8", "en_GB"] {
            assert_eq!(refusal(&config, "lc_messages", language), None, "{language}");
        }
    }

    /// The address has the last word about limits, but not about the isolation.
    #[test]
    fn the_address_may_set_limits_but_not_the_isolation() {
        let address = "postgres://localhost/db?options=-c%20lock_timeout%3D5s%20-c%20synchronous_commit%3Doff\
            %20-c%20default_transaction_isolation%3Dserializable";
        let config = config(address);
        assert_eq!(refusal(&config, "lock_timeout", "5000"), None);
        assert_eq!(refusal(&config, "synchronous_commit", "off"), None);
        assert!(refusal(&config, "statement_timeout", "5000").is_some());
        assert!(refusal(&config, "default_transaction_isolation", "serializable").is_some());
        let options = config.address.get_options().unwrap();
        let place = |text: &str| options.rfind(text).unwrap();
        assert!(place("lock_timeout=5s") > place("lock_timeout=1000"), "{options}");
        assert!(place("isolation=read\\ committed") > place("isolation=serializable"), "{options}");
    }
}
