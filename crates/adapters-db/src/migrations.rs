//! The schema's migrations: embedded, and applied by one process at a time.

use crate::error::{Cause, Failure};
use crate::options::{connect_error, parse};
use crate::schema::__diesel_schema_migrations as applied;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use domain::ports::StoreError;
use secrecy::SecretString;
use std::time::Duration;
use tokio_postgres::NoTls;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// How long to wait for another process that migrates the same database.
const LOCK_TIMEOUT: &str = "60s";

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database can't be reached, or the address is wrong.
    #[error("could not connect to migrate the database")]
    Connect(#[source] StoreError),
    /// Another process held the lock for a minute.
    #[error("another process has been migrating this database for too long")]
    Locked(#[source] diesel::result::Error),
    /// A migration failed; it was rolled back, those before it stay.
    #[error("a migration failed: {0}")]
    Failed(String),
    /// The work was interrupted.
    #[error("the migration was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// Applies all pending migrations and returns their versions; none when the schema is up to date, for which reading is
/// right enough. Any number of processes may do so at once: the others wait and then find nothing to do. Works on every
/// kind of tokio runtime.
///
/// # Errors
/// [`MigrateError`].
pub async fn migrate(url: &SecretString) -> Result<Vec<String>, MigrateError> {
    let mut config = parse(url).map_err(MigrateError::Connect)?;
    config.connect_timeout(Duration::from_secs(10)).application_name("holdfast/migrate");
    let lost = |error: tokio_postgres::Error| MigrateError::Connect(connect_error(&error));
    let (client, connection) = config.connect(NoTls).await.map_err(lost)?;
    let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection)
        .await
        .map_err(|error| MigrateError::Connect(StoreError::Other { what: error.to_string() }))?;
    // Looked at first: to find nothing to do takes neither the lock nor any right to change the schema. Whatever is in the
    // way of looking is in the way below, too.
    let versions = embedded_versions().map_err(|error| MigrateError::Failed(error.to_string()))?;
    if missing(&connection, &versions).await.is_ok_and(|missing| missing.is_empty()) {
        return Ok(Vec::new());
    }
    // Two processes that migrate at once fail at creating the same tables. The lock is of this schema only, and is
    // freed when the connection closes.
    let lock = format!(
        "SET lock_timeout = '{LOCK_TIMEOUT}';
         SELECT pg_advisory_lock(hashtext('holdfast migrations'), hashtext(coalesce(current_schema(), '')));
         SET lock_timeout = '10s'"
    );
    connection.batch_execute(&lock).await.map_err(MigrateError::Locked)?;
    // diesel's harness is synchronous; it must not block a thread that drives the connection.
    let harness = move || {
        let mut connection: AsyncConnectionWrapper<AsyncPgConnection> = connection.into();
        let versions = connection.run_pending_migrations(MIGRATIONS);
        versions.map(|versions| versions.iter().map(ToString::to_string).collect()).map_err(|e| e.to_string())
    };
    let done: Result<Vec<String>, String> =
        tokio::task::spawn_blocking(harness).await.map_err(MigrateError::Interrupted)?;
    done.map_err(MigrateError::Failed)
}

/// # Errors
/// [`StoreError::Other`] when the embedded files make no sense; that would be a defect.
pub(crate) fn embedded_versions() -> Result<Vec<String>, StoreError> {
    let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS)
        .map_err(|error| StoreError::Other { what: error.to_string() })?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}

/// Fails unless all of `versions` have been applied.
pub(crate) async fn ready(connection: &AsyncPgConnection, versions: &[String]) -> Result<(), Failure> {
    let missing = missing(connection, versions).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("migrations are missing: {}", missing.join(", "));
    Err(StoreError::Unavailable { what }.into())
}

/// Those of `versions` that have not been applied.
async fn missing<'v>(
    connection: &AsyncPgConnection,
    versions: &'v [String],
) -> Result<Vec<&'v str>, Failure> {
    let mut connection = connection;
    let found: Result<Vec<String>, _> = applied::table
        .filter(applied::version.eq_any(versions))
        .select(applied::version)
        .load(&mut connection)
        .await;
    let found = match found.map_err(Failure::from) {
        Ok(found) => found,
        // An empty database has no such table.
        Err(Failure { cause: Cause::Store(StoreError::Other { what }), .. })
            if what.contains("does not exist") =>
        {
            Vec::new()
        }
        Err(failure) => return Err(failure),
    };
    Ok(versions.iter().map(String::as_str).filter(|version| !found.iter().any(|v| v == version)).collect())
}
