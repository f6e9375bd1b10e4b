//! Look-ups under guard. Asking changes nothing at the gateway, so whatever failed may be asked once more; only an answer
//! that says that we are configured wrongly is not, and it is no fault of the gateway.

use super::GuardedGateway;
use super::guard::{Entered, Refused, now};
use super::telemetry::{self, Ending, Recorded};
use crate::transport::{Limits, LookupAttempt, LookupFailure, Transport, cause};
use domain::ports::{FailureCause, Lookup, LookupError};
use std::pin::Pin;
use tokio::time::{Instant, sleep, timeout_at};

type Attempt<'a, R> = Pin<Box<dyn Future<Output = LookupAttempt<R>> + Send + 'a>>;

impl<T: Transport> GuardedGateway<T> {
    pub(super) async fn guarded_look_up<'a, R, F>(
        &self,
        operation: &'static str,
        ask: F,
    ) -> Result<Lookup<R>, LookupError>
    where
        F: Fn(Limits) -> Attempt<'a, R>,
    {
        let guard = &self.queries;
        let mut entered = guard.enter().map_err(|refused| match refused {
            Refused::CircuitOpen { .. } => {
                LookupError::Unreachable { cause: cause::CIRCUIT_OPEN, circuit_open: true }
            }
            Refused::BulkheadFull => {
                LookupError::Unreachable { cause: cause::BULKHEAD_FULL, circuit_open: false }
            }
        })?;
        self.budget.call(now());
        let until = Instant::now() + self.config.deadline;
        let mut delays = guard.delays(self.entropy.as_ref());
        let mut nth = 1;
        let result = loop {
            let result = self.ask_once(operation, nth, &ask, until, &mut entered).await;
            let Err(failure) = &result else { break result };
            let wait = delays.next().unwrap_or_default().max(failure.retry_after.unwrap_or_default());
            let left = until.saturating_duration_since(Instant::now());
            let in_time = wait.saturating_add(guard.config.useful_time()) <= left;
            let allowed = failure.misconfigured.is_none() && nth < guard.config.retry.max_attempts;
            if !allowed || !in_time || !entered.ticket.is_current() || !self.may_retry(operation) {
                break result;
            }
            sleep(wait).await;
            if !entered.ticket.is_current() {
                break result;
            }
            nth += 1;
            telemetry::retrying(nth, failure.cause);
        };
        let (recorded, cause) = match &result {
            Ok(Lookup::Found(_)) => (Recorded::Successful, FailureCause("")),
            Ok(Lookup::NotFound) => (Recorded::Ignored, FailureCause("")),
            Err(failure) if failure.misconfigured.is_some() => (Recorded::Ignored, failure.cause),
            Err(failure) => (Recorded::Failed, failure.cause),
        };
        entered.settle(super::QUERY_CIRCUIT, recorded, cause, nth);
        result.map_err(|failure| LookupError::Unreachable { cause: failure.cause, circuit_open: false })
    }

    async fn ask_once<'a, R>(
        &self,
        operation: &'static str,
        nth: u32,
        ask: &impl Fn(Limits) -> Attempt<'a, R>,
        until: Instant,
        entered: &mut Entered<'_>,
    ) -> LookupAttempt<R> {
        let begun = Instant::now();
        let (limits, cut_off) = self.queries.limits(until);
        let late = LookupFailure { cause: cause::DEADLINE, misconfigured: None, retry_after: None };
        let result = timeout_at(cut_off, ask(limits)).await.unwrap_or(Err(late));
        let took = begun.elapsed();
        entered.slowest = entered.slowest.max(took);
        telemetry::attempt_ended(operation, nth, Ending::from(&result), took);
        result
    }
}
