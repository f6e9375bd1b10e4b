//! Look-ups under guard. Asking changes nothing at the gateway, so when it could not be asked it may be asked once more.
//!
//! For the circuit every answer that shows that the gateway is there is a success: "no such transaction" (ignored, it kept
//! the circuit HALF_OPEN for as long as nobody's transaction was found), one that can't be used for this payment, and one
//! that says that we are configured wrongly.

use super::GuardedGateway;
use super::guard::{Entered, Refused, now};
use super::telemetry::{self, Ending, Recorded};
use crate::transport::{Limits, LookupAttempt, LookupFailure, Transport, cause};
use domain::ports::{FailureCause, Lookup, LookupError, Oddity};
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
            let Err(LookupFailure::Unreachable { cause, retry_after }) = result else { break result };
            let wait = delays.next().unwrap_or_default().max(retry_after.unwrap_or_default());
            let left = until.saturating_duration_since(Instant::now());
            let in_time = wait.saturating_add(guard.config.useful_time()) <= left;
            let allowed = nth < guard.config.retry.max_attempts;
            if !allowed || !in_time || !entered.ticket.is_current() || !self.may_retry(operation) {
                break result;
            }
            sleep(wait).await;
            if !entered.ticket.is_current() {
                break result;
            }
            nth += 1;
            telemetry::retrying(nth, cause);
        };
        let (recorded, cause) = match &result {
            Ok(_) | Err(LookupFailure::Odd { .. } | LookupFailure::Misconfigured { .. }) => {
                (Recorded::Successful, FailureCause(""))
            }
            Err(LookupFailure::NotAskable) => (Recorded::Ignored, FailureCause("")),
            Err(LookupFailure::Unreachable { cause, .. }) => (Recorded::Failed, *cause),
        };
        entered.settle(super::QUERY_CIRCUIT, recorded, cause, nth);
        result.map_err(LookupError::from)
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
        let late = LookupFailure::Unreachable { cause: cause::DEADLINE, retry_after: None };
        let result = timeout_at(cut_off, ask(limits)).await.unwrap_or(Err(late));
        let took = begun.elapsed();
        entered.slowest = entered.slowest.max(took);
        telemetry::attempt_ended(operation, nth, Ending::from(&result), took);
        result
    }
}

impl From<LookupFailure> for LookupError {
    fn from(failure: LookupFailure) -> Self {
        match failure {
            LookupFailure::Unreachable { cause, .. } => Self::Unreachable { cause, circuit_open: false },
            LookupFailure::Misconfigured { status } => {
                Self::Unreachable { cause: cause::of_status(status), circuit_open: false }
            }
            LookupFailure::Odd { what } => Self::Odd { what },
            LookupFailure::NotAskable => Self::Odd { what: Oddity::BadKey },
        }
    }
}
