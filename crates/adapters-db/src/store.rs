//! [`PgStore`]: the pool, and the opening of transactions.

use crate::error::Failure;
use crate::idempotency;
use crate::migrations;
use crate::options::DatabaseOptions;
use crate::pool::NamedPool;
use crate::session::Session;
use crate::transaction::PgTx;
use async_trait::async_trait;
use diesel::IntoSql;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use domain::Timestamp;
use domain::ports::{Store, StoreError, StoreTx};
use futures_util::try_join;
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
        let session = self.session().await?;
        match session.answer(idempotency::sweep(session.connection()?, BATCH)).await {
            Ok(swept) => {
                session.release();
                Ok(swept)
            }
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Closes idle connections and gives out no more; for a clean stop.
    pub fn close(&self) {
        self.pool.close();
    }

    pub(crate) async fn session(&self) -> Result<Session, StoreError> {
        Ok(Session::new(self.pool.get().await?, self.answer_timeout))
    }

    /// The versions of the migrations that this program was built with.
    pub(crate) fn migrations(&self) -> &[String] {
        &self.migrations
    }
}

#[async_trait]
impl Store for PgStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn StoreTx>, StoreError> {
        // From here on the session closes its connection if this future is dropped, or fails.
        let session = self.session().await?;
        let opened = session.answer(begin(session.connection()?)).await;
        let now = opened.map_err(Failure::into_error)?;
        Ok(Box::new(PgTx::new(session, name, now)))
    }
}

/// One round trip.
async fn begin(connection: &AsyncPgConnection) -> diesel::QueryResult<Timestamp> {
    let mut starting = connection;
    let mut asking = connection;
    let ((), now) = try_join!(
        starting.batch_execute("BEGIN"),
        diesel::select(diesel::dsl::now.into_sql::<Timestamptz>()).get_result(&mut asking)
    )?;
    Ok(now)
}
