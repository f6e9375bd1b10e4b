//! The pool: connections that are ready for work, not too old, and its gauges.

use crate::connecting;
use crate::error::unavailable;
use crate::options::DatabaseOptions;
use deadpool::Runtime;
use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType,
};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use domain::ports::StoreError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A pooled connection.
pub(crate) type Pooled = Object<Connections>;

/// One connection with what is known about it.
pub(crate) struct Connection {
    pub(crate) session: AsyncPgConnection,
    /// All statements of transactions are prepared; else why not, and the connection serves for a single read.
    pub(crate) prepared: Result<(), StoreError>,
    opened: Instant,
    /// From then on it is not given out again.
    until: Instant,
}

impl Connection {
    /// What is sent now surely does not arrive.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.session.is_broken()
    }
}

/// Opens connections, and says which of those that come back may be given out again.
pub(crate) struct Connections {
    config: connecting::Config,
    max_age: Duration,
    /// Connections from before this moment are not given out again.
    renewed: Arc<Mutex<Option<Instant>>>,
}

impl Manager for Connections {
    type Type = Connection;
    type Error = StoreError;

    async fn create(&self) -> Result<Connection, StoreError> {
        // Before: what changes while it is being opened may have come too late for it.
        let opened = Instant::now();
        let (session, prepared) = connecting::open(&self.config).await?;
        Ok(Connection { session, prepared, opened, until: opened + lifetime(self.max_age) })
    }

    /// A closed connection is noticed without asking the server; an open transaction never comes back here.
    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<StoreError> {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = if connection.is_closed() {
            "closed"
        } else if connection.prepared.is_err() {
            "for a single read"
        } else if Instant::now() >= connection.until {
            "old"
        } else if renewed.is_some_and(|renewed| connection.opened <= renewed) {
            "from before what made another one stale"
        } else {
            return Ok(());
        };
        Err(RecycleError::message(reason))
    }
}

/// Between three quarters of the greatest age and all of it, so that connections that were opened together don't end
/// together.
fn lifetime(max_age: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    // A new hasher's keys are random; chance for anything else must come by the port.
    let random = RandomState::new().hash_one(()) % 1024;
    max_age - (max_age / 4096) * u32::try_from(random).unwrap_or(0)
}

/// A pool with its name and limits.
#[derive(Clone)]
pub(crate) struct NamedPool {
    pool: Pool<Connections>,
    name: &'static str,
    acquire_timeout: Duration,
    renewed: Arc<Mutex<Option<Instant>>>,
}

impl NamedPool {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`StoreError::Other`] for an unreadable address.
    pub(crate) fn new(options: &DatabaseOptions) -> Result<Self, StoreError> {
        let renewed = Arc::new(Mutex::new(None));
        let manager = Connections {
            config: connecting::Config::new(options)?,
            max_age: options.max_age,
            renewed: Arc::clone(&renewed),
        };
        let pool = Pool::builder(manager)
            .max_size(options.pool_size.max(1))
            .wait_timeout(Some(options.acquire_timeout))
            .create_timeout(Some(options.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Other { what: error.to_string() })?;
        Ok(Self { pool, name: options.pool_name, acquire_timeout: options.acquire_timeout, renewed })
    }

    /// # Errors
    /// [`StoreError::Unavailable`] when none comes in time or none can be opened; [`StoreError::Other`] when one was
    /// opened but does not keep what this program relies on.
    pub(crate) async fn get(&self) -> Result<Pooled, StoreError> {
        // The pool's own limits are for waiting and for opening, one after the other; this one is for both.
        let got = tokio::time::timeout(self.acquire_timeout, self.pool.get()).await;
        match got {
            Ok(Ok(connection)) => Ok(connection),
            Err(_) | Ok(Err(PoolError::Timeout(TimeoutType::Wait))) => Err(unavailable(format_args!(
                "no connection of pool {} within {:?}",
                self.name, self.acquire_timeout
            ))),
            Ok(Err(PoolError::Timeout(_))) => Err(unavailable("opening a connection took too long")),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(error)) => Err(StoreError::Other { what: error.to_string() }),
        }
    }

    /// Gives out no connection any more that is open by now.
    pub(crate) fn renew(&self) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_opened_together_do_not_end_together() {
        let age = Duration::from_secs(1800);
        let ages: std::collections::BTreeSet<Duration> = (0..64).map(|_| lifetime(age)).collect();
        assert!(ages.iter().all(|one| *one > age / 2 && *one <= age), "{ages:?}");
        assert!(ages.len() > 8, "{ages:?}");
    }
}
