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
