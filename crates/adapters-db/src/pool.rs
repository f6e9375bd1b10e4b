//! The pool: connections with their session settings, and its gauges.

use crate::error::unavailable;
use crate::options::{DatabaseOptions, connect_error};
use deadpool::Runtime;
use deadpool::managed::{PoolError as WaitError, TimeoutType};
use diesel::ConnectionError;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError, RecyclingMethod,
};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use domain::ports::StoreError;
use futures_util::FutureExt;
use std::time::Duration;
use tokio_postgres::NoTls;

/// A pooled connection.
pub(crate) type Pooled = Object<AsyncPgConnection>;

/// A pool with its name and limits.
#[derive(Clone)]
pub(crate) struct NamedPool {
    pool: Pool<AsyncPgConnection>,
    name: &'static str,
    acquire_timeout: Duration,
}

impl NamedPool {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`StoreError::Other`] for an unreadable address.
    pub(crate) fn new(options: &DatabaseOptions) -> Result<Self, StoreError> {
        let config = options.config()?;
        let mut manager = ManagerConfig::default();
        // A closed connection is noticed without asking the server; an open transaction never comes back here.
        manager.recycling_method = RecyclingMethod::Fast;
        manager.custom_setup = Box::new(move |_| {
            let config = config.clone();
            async move { connect(&config).await }.boxed()
        });
        let manager = AsyncDieselConnectionManager::new_with_config(String::new(), manager);
        let pool = Pool::builder(manager)
            .max_size(options.pool_size.max(1))
            .wait_timeout(Some(options.acquire_timeout))
            .create_timeout(Some(options.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Other { what: error.to_string() })?;
        Ok(Self { pool, name: options.pool_name, acquire_timeout: options.acquire_timeout })
    }

    /// # Errors
    /// [`StoreError::Unavailable`] when none comes in time or none can be opened.
    pub(crate) async fn get(&self) -> Result<Pooled, StoreError> {
        // The pool's own limits are for waiting and for opening, one after the other; this one is for both.
        let got = tokio::time::timeout(self.acquire_timeout, self.pool.get()).await;
        match got {
            Ok(Ok(connection)) => Ok(connection),
            Err(_) | Ok(Err(WaitError::Timeout(TimeoutType::Wait))) => Err(unavailable(format_args!(
                "no connection of pool {} within {:?}",
                self.name, self.acquire_timeout
            ))),
            Ok(Err(WaitError::Timeout(_))) => Err(unavailable("opening a connection took too long")),
            Ok(Err(WaitError::Backend(PoolError::ConnectionError(error)))) => Err(unavailable(error)),
            Ok(Err(WaitError::Backend(PoolError::QueryError(error)))) => Err(unavailable(error)),
            Ok(Err(error)) => Err(StoreError::Other { what: error.to_string() }),
        }
    }

    pub(crate) fn record_gauges(&self) {
        let status = self.pool.status();
        let connections = |state: &'static str, number: usize| {
            metrics::gauge!("database_pool_connections", "pool" => self.name, "state" => state)
                .set(number as f64);
        };
        connections("in_use", status.size.saturating_sub(status.available));
        connections("idle", status.available);
        connections("max", status.max_size);
        metrics::gauge!("database_pool_waiting", "pool" => self.name).set(status.waiting as f64);
    }

    /// Lets idle connections go and gives out no more.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

async fn connect(config: &tokio_postgres::Config) -> diesel::ConnectionResult<AsyncPgConnection> {
    let bad = |error: &tokio_postgres::Error| match connect_error(error) {
        StoreError::Unavailable { what } => ConnectionError::BadConnection(what),
        other => ConnectionError::BadConnection(other.to_string()),
    };
    let (client, connection) = config.connect(NoTls).await.map_err(|error| bad(&error))?;
    // This sets the time zone to UTC too.
    let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
    if let Err(error) = connection.batch_execute("SET lc_messages = 'C'").await {
        // Only a superuser may. With another language on the server some causes are not recognised (`error`).
        tracing::debug!(%error, "could not set lc_messages");
    }
    Ok(connection)
}
