//! What the handlers share: the use-cases, where their work runs, and the settings that concern HTTP.

use crate::auth::Authenticator;
use crate::events::OrderChanges;
use crate::http::failure::{Case, Failure};
use crate::http::read::{BodyLimits, HeadLimits};
use crate::ops::Circuits;
use crate::repeats::Repeats;
use application::Application;
use bootstrap::settings::Locale;
use bootstrap::shutdown::Shutdown;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;

pub(crate) use crate::limits::Limiter;

/// Runs use-cases in tracked tasks on the process's own runtime.
///
/// A connection never owns a flow: when its client resets it, actix drops the handler, and the task goes on. And no pooled
/// connection belongs to a listener's thread, which ends before the work does when the program stops.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) application: Application,
    handle: Handle,
    shutdown: Shutdown,
}

impl Runner {
    /// Tasks go to the runtime that this is called in.
    pub(crate) fn new(application: Application, shutdown: Shutdown) -> Self {
        Self { application, handle: Handle::current(), shutdown }
    }

    /// Runs a use-case or a query, as [`Self::complete`] does.
    pub(crate) async fn run<T, E, W>(&self, work: impl FnOnce(Application) -> W) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        self.complete(work(self.application.clone())).await
    }

    /// Runs `work` to its end, whoever stops waiting for it. A panic in it is an internal error.
    pub(crate) async fn complete<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let task = self.shutdown.tasks().spawn_on(work.in_current_span(), &self.handle);
        match task.await {
            Ok(outcome) => outcome.map_err(Into::into),
            Err(panicked) => Err(Failure::internal(&panicked)),
        }
    }

    /// Begins `work` that nobody waits for.
    pub(crate) fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.shutdown.tasks().spawn_on(work.in_current_span(), &self.handle));
    }

    /// Ends when the program begins to stop.
    pub(crate) async fn stopping(&self) {
        self.shutdown.token().cancelled().await;
    }

    /// No new work is taken.
    pub(crate) fn is_stopping(&self) -> bool {
        self.shutdown.token().is_cancelled()
    }
}

/// Of the public API.
pub(crate) struct ApiState {
    pub(crate) runner: Runner,
    pub(crate) authenticator: Authenticator,
    pub(crate) limiter: Limiter,
    pub(crate) body_limits: BodyLimits,
    /// Orders under way: each holds a permit until its flow has ended.
    pub(crate) orders: Arc<Semaphore>,
    /// After this long a buyer is told that the outcome is not known yet.
    pub(crate) response_deadline: Duration,
    pub(crate) self_charge: bool,
    pub(crate) changes: OrderChanges,
    /// Reads of those who wait: they queue here, and leave half of the connections to those who order.
    pub(crate) readers: Arc<Semaphore>,
    /// Orders without an Idempotency-Key, to notice repeated ones.
    pub(crate) repeats: Repeats,
    /// Event streams that are open.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) heartbeat: Duration,
}

impl ApiState {
    /// Runs a read of somebody who waits for a change. When thousands wait for one order, they look one after the other.
    pub(crate) async fn read_in_turn<T, E, W>(
        &self,
        work: impl FnOnce(Application) -> W,
    ) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        // Never closed, so there is always a permit to come.
        let _permit = self.readers.acquire().await.map_err(|closed| Failure::internal(&closed))?;
        self.runner.run(work).await
    }

    /// The right to place an order; none is left when too many are under way or the program is stopping.
    pub(crate) fn admit_order(&self) -> Result<OrderUnderWay, Failure> {
        if self.runner.is_stopping() {
            return Err(Case::ShuttingDown.into());
        }
        let Ok(permit) = Arc::clone(&self.orders).try_acquire_owned() else {
            metrics::counter!("orders_refused_total").increment(1);
            return Err(Case::Overloaded.into());
        };
        metrics::gauge!("orders_in_flight").increment(1.0);
        Ok(OrderUnderWay { _permit: permit })
    }
}

/// Counts an order as under way as long as it lives.
pub(crate) struct OrderUnderWay {
    _permit: OwnedSemaphorePermit,
}

impl Drop for OrderUnderWay {
    fn drop(&mut self) {
        metrics::gauge!("orders_in_flight").decrement(1.0);
    }
}

/// Of the operations API.
pub(crate) struct OpsState {
    pub(crate) runner: Runner,
    pub(crate) body_limits: BodyLimits,
    pub(crate) token: Option<SecretString>,
    pub(crate) circuits: Arc<dyn Circuits>,
    /// Brings the gauges up to date.
    pub(crate) publish_metrics: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    /// The scrape's text.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What the border needs on both ports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    /// The language of those who ask for none.
    pub(crate) locale: Locale,
    /// What a request's head may be.
    pub(crate) head: HeadLimits,
}
