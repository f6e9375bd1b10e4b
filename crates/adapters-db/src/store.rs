//! [`PgStore`]: the pool, the opening of transactions, and what commits by itself.

use crate::error::{Failure, Health};
use crate::options::DatabaseOptions;
use crate::pool::NamedPool;
use crate::session::Session;
use crate::statement::command;
use crate::transaction::{Ended, PgTx, Timer};
use crate::{callbacks, claims, keys, listener, migrations, placing, settling, starting};
use async_trait::async_trait;
use diesel_async::AsyncPgConnection;
use domain::placement::{Placing, PlacingNeeds};
use domain::ports::{CallbackNote, Claim, ClaimOptions, Store, StoreError, StoreTx};
use domain::settlement::{Settling, SettlingNeeds};
use domain::{OrderId, PaymentId, Timestamp};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, join};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// PostgreSQL behind the ports. Clones share one pool.
#[derive(Clone)]
pub struct PgStore {
    pool: NamedPool,
    answer_timeout: Duration,
    migrations: Arc<[String]>,
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore").finish_non_exhaustive()
    }
}

/// Statements on a connection, with what they are given.
pub(crate) type Work<A, T> = for<'a> fn(&'a AsyncPgConnection, &'a A) -> BoxFuture<'a, Result<T, Failure>>;

/// After which failures the same may be tried once more, on another connection.
#[derive(Clone, Copy)]
enum Again {
    /// The session was out of date: surely nothing was done.
    IfStale,
    /// Or the connection was lost: what was done by then is gone with it, or it was only a read.
    IfLost,
}

impl Again {
    fn allows(self, failure: &Failure) -> bool {
        match failure.health {
            Health::Stale => true,
            Health::Lost => matches!(self, Self::IfLost),
            Health::Fit | Health::Doubtful => false,
        }
    }
}

impl PgStore {
    /// Makes the pool. It opens connections when they are needed, so a database that is down is no error here.
    ///
    /// # Errors
    /// [`StoreError::Other`] for an unreadable address.
    pub fn connect(options: &DatabaseOptions) -> Result<Self, StoreError> {
        Ok(Self {
            pool: NamedPool::new(options)?,
            answer_timeout: options.answer_timeout(),
            migrations: migrations::embedded_versions()?.into(),
        })
    }

    /// Sets the gauges `database_pool_connections{pool,state}` and `database_pool_waiting{pool}`. To be called before
    /// metrics are read.
    pub fn record_pool_gauges(&self) {
        self.pool.record_gauges();
    }

    /// Deletes Idempotency-Keys that have expired, up to 1,000 of them, and says how many. To be called now and then:
    /// nothing else takes them away, as long as nobody uses them again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_expired_keys(&self) -> Result<usize, StoreError> {
        const BATCH: i64 = 1_000;
        self.read(&BATCH, |connection, batch| keys::sweep(connection, *batch).boxed()).await
    }

    /// Closes idle connections and gives out no more; for a clean stop.
    pub fn close(&self) {
        self.pool.close();
    }

    /// The versions of the migrations that this program was built with.
    pub(crate) fn migrations(&self) -> &[String] {
        &self.migrations
    }

    /// Runs a read, or what may be done twice, on a connection of the pool.
    pub(crate) async fn read<A: Sync, T>(&self, given: &A, work: Work<A, T>) -> Result<T, StoreError> {
        let (value, session) = self.run(Again::IfLost, Session::connection, given, work).await?;
        session.release();
        Ok(value)
    }

    /// Runs what commits by itself.
    async fn committed<A: Sync, T>(
        &self,
        name: &'static str,
        given: &A,
        work: Work<A, T>,
    ) -> Result<T, StoreError> {
        let mut timer = Timer::start(name);
        timer.ended(Ended::Unknown);
        let (value, session) = self.run(Again::IfStale, Session::prepared, given, work).await?;
        session.release();
        timer.ended(Ended::Committed);
        Ok(value)
    }

    /// Opens a transaction by `work`, which sends BEGIN and loads.
    async fn open<A: Sync, T>(
        &self,
        name: &'static str,
        given: &A,
        work: Work<A, T>,
        now: fn(&T) -> Timestamp,
    ) -> Result<(Box<dyn StoreTx>, T), StoreError> {
        let mut timer = Timer::start(name);
        timer.ended(Ended::RolledBack);
        let (loaded, session) = self.run(Again::IfLost, Session::prepared, given, work).await?;
        timer.ended(Ended::Dropped);
        let now = now(&loaded);
        Ok((Box::new(PgTx::new(session, timer, now)), loaded))
    }

    /// From here on the session closes its connection if this future is dropped, and after all failures that it may not
    /// survive.
    async fn run<A: Sync, T>(
        &self,
        again: Again,
        ready: fn(&Session) -> Result<&AsyncPgConnection, StoreError>,
        given: &A,
        work: Work<A, T>,
    ) -> Result<(T, Session), StoreError> {
        let mut tried = false;
        loop {
            let session = Session::open(&self.pool, self.answer_timeout).await?;
            match session.answer(work(ready(&session)?, given)).await {
                Ok(value) => return Ok((value, session)),
                Err(failure) => {
                    let repeat = !tried && again.allows(&failure);
                    if failure.health == Health::Fit {
                        session.roll_back().await;
                    }
                    if !repeat {
                        return Err(failure.into_error());
                    }
                    // Whatever struck this session may have struck those that lie in the pool.
                    self.pool.renew();
                    tracing::debug!(?failure, "once more, on a new connection");
                    tried = true;
                }
            }
        }
    }
}

#[async_trait]
impl Store for PgStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn StoreTx>, StoreError> {
        let (tx, _) = self.open(name, &(), |connection, ()| begin(connection).boxed(), |now| *now).await?;
        Ok(tx)
    }

    async fn open_placing(&self, orders: &[PlacingNeeds]) -> Result<(Box<dyn StoreTx>, Placing), StoreError> {
        let load: Work<&[PlacingNeeds], Placing> =
            |connection, orders| placing::open(connection, orders).boxed();
        self.open("placing", &orders, load, |placing| placing.now).await
    }

    async fn open_settling(
        &self,
        payments: &[SettlingNeeds],
    ) -> Result<(Box<dyn StoreTx>, Settling), StoreError> {
        let load: Work<&[SettlingNeeds], Settling> =
            |connection, needs| settling::open(connection, needs).boxed();
        self.open("settling", &payments, load, |settling| settling.shared.now).await
    }

    async fn start_payments(&self, payments: &[PaymentId]) -> Result<BTreeSet<PaymentId>, StoreError> {
        self.committed("start_payments", &payments, |connection, ids| {
            starting::start(connection, ids).boxed()
        })
        .await
    }

    async fn note_callbacks(&self, notes: &[CallbackNote]) -> Result<Vec<Option<PaymentId>>, StoreError> {
        self.committed("note_callbacks", &notes, |connection, notes| {
            callbacks::note(connection, notes).boxed()
        })
        .await
    }

    async fn claim(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
        self.committed("claim", options, |connection, options| claims::claim(connection, options).boxed())
            .await
    }

    async fn announce_ended(&self, orders: &[OrderId]) -> Result<(), StoreError> {
        self.read(&orders, |connection, orders| listener::announce(connection, orders).boxed()).await
    }
}

/// One round trip.
async fn begin(connection: &AsyncPgConnection) -> Result<Timestamp, Failure> {
    let (begun, now) = join!(command(connection, "BEGIN"), settling::moment(connection));
    begun?;
    now
}
