//! A payment request under guard.
//!
//! A 500 or 503 is classified as not reached, and yet the gateway may have made the transaction, and would charge twice
//! for two. So before such a request is sent again, and before the caller is told something that makes him compensate, the
//! gateway is asked by order id; what it finds is the outcome. Whatever remains possible is told by
//! [`ChargeOutcome::watch`].

use super::GuardedGateway;
use super::guard::{Entered, Refused, now};
use super::telemetry::{self, CHARGE, Ending, PROBE, Recorded};
use crate::transport::{LookupFailure, PaymentAttempt, Transport, cause};
use domain::FailureMessage;
use domain::ports::{
    ChargeOutcome, ChargeRequest, FailureCause, GatewayAnswer, Lookup, Oddity, TransactionSummary,
};
use domain::settlement::TransactionStatus;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the buyer is told when the gateway refuses us instead of his card.
const MISCONFIGURED_MESSAGE: &str = "결제 서비스 설정 문제로 결제를 진행할 수 없습니다.";

/// One call, over all its attempts.
struct Charge<'a> {
    request: &'a ChargeRequest,
    until: Instant,
    /// The attempt under way, from 1.
    nth: u32,
    /// Attempts that ended with a 500 or 503: each may have made a transaction.
    open_ends: u32,
}

impl Charge<'_> {
    /// Something other than what the answer names may exist.
    fn outcome(&self, answer: GatewayAnswer) -> ChargeOutcome {
        ChargeOutcome { answer, watch: self.open_ends > 0 }
    }

    fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

impl<T: Transport> GuardedGateway<T> {
    pub(super) async fn guarded_charge(&self, request: &ChargeRequest) -> ChargeOutcome {
        let begun = Instant::now();
        let until = Instant::from_std(request.deadline).min(begun + self.config.deadline);
        let retry_after = self.payments.default_retry_after();
        let not_begun = |answer| ChargeOutcome { answer, watch: false };
        if begun >= until {
            return not_begun(GatewayAnswer::NotReached { cause: cause::SEND_DEADLINE, retry_after });
        }
        let entered = match self.payments.enter() {
            Ok(entered) => entered,
            Err(Refused::CircuitOpen { retry_after }) => {
                return not_begun(GatewayAnswer::CircuitOpen { retry_after });
            }
            Err(Refused::BulkheadFull) => {
                return not_begun(GatewayAnswer::NotReached { cause: cause::BULKHEAD_FULL, retry_after });
            }
        };
        self.budget.call(now());
        self.attempts(Charge { request, until, nth: 1, open_ends: 0 }, entered).await
    }

    async fn attempts(&self, mut charge: Charge<'_>, mut entered: Entered<'_>) -> ChargeOutcome {
        let mut delays = self.payments.delays(self.entropy.as_ref());
        let (outcome, heard) = loop {
            let attempt = self.attempt(&charge, &mut entered).await;
            let heard = heard(&attempt);
            match attempt {
                PaymentAttempt::Accepted { key, status } => {
                    break (charge.outcome(GatewayAnswer::Accepted { key, status }), heard);
                }
                PaymentAttempt::Uncertain { cause } => {
                    break (charge.outcome(GatewayAnswer::Uncertain { cause }), heard);
                }
                PaymentAttempt::Rejected { message } => {
                    break (self.last_look(&charge, GatewayAnswer::Rejected { message }).await, heard);
                }
                PaymentAttempt::Misconfigured { .. } => {
                    let message = FailureMessage::from_outside(MISCONFIGURED_MESSAGE);
                    break (self.last_look(&charge, GatewayAnswer::Rejected { message }).await, heard);
                }
                PaymentAttempt::TooLate => {
                    let retry_after = self.payments.default_retry_after();
                    let answer = GatewayAnswer::NotReached { cause: cause::SEND_DEADLINE, retry_after };
                    break (self.last_look(&charge, answer).await, heard);
                }
                PaymentAttempt::NotReached { cause, may_have_created, retry_after } => {
                    charge.open_ends += u32::from(may_have_created);
                    let wait = delays.next().unwrap_or_default().max(retry_after.unwrap_or_default());
                    let waited = self.waited(&charge, &entered, wait).await;
                    let retry_after = retry_after.unwrap_or_else(|| self.payments.default_retry_after());
                    let answer = GatewayAnswer::NotReached { cause, retry_after };
                    let looked = self.last_look(&charge, answer).await;
                    let still_none = matches!(looked.answer, GatewayAnswer::NotReached { .. });
                    let useful = charge.time_left() >= self.payments.config.useful_time();
                    if !still_none || !waited || !useful || !entered.ticket.is_current() {
                        break (looked, heard);
                    }
                    charge.nth += 1;
                    telemetry::retrying(charge.nth, cause);
                }
            }
        };
        // A look that found the transaction speaks for the gateway, whatever the last request came to.
        let (recorded, failure) = match outcome.answer {
            GatewayAnswer::Accepted { .. } => (Recorded::Successful, FailureCause("")),
            _ => heard,
        };
        entered.settle(super::PAYMENT_CIRCUIT, recorded, failure, charge.nth);
        outcome
    }

    async fn attempt(&self, charge: &Charge<'_>, entered: &mut Entered<'_>) -> PaymentAttempt {
        let begun = Instant::now();
        let (limits, cut_off) = self.payments.limits(charge.until);
        let request = self.transport.request_payment(charge.request, limits);
        let attempt = match tokio::time::timeout_at(cut_off, request).await {
            Ok(attempt) => attempt,
            Err(_transport_kept_no_limits) => PaymentAttempt::Uncertain { cause: cause::DEADLINE },
        };
        let took = begun.elapsed();
        entered.slowest = entered.slowest.max(took);
        telemetry::attempt_ended(CHARGE, charge.nth, Ending::from(&attempt), took);
        attempt
    }

    /// Waits before a further attempt. `false`: there must not be one.
    async fn waited(&self, charge: &Charge<'_>, entered: &Entered<'_>, wait: Duration) -> bool {
        let config = &self.payments.config;
        let allowed = charge.nth < config.retry.max_attempts;
        let in_time = wait.saturating_add(config.useful_time()) <= charge.time_left();
        if !allowed || !in_time || !entered.ticket.is_current() || !self.may_retry(CHARGE) {
            return false;
        }
        sleep(wait).await;
        entered.ticket.is_current()
    }

    /// Takes a token out of the retry budget.
    pub(super) fn may_retry(&self, operation: &'static str) -> bool {
        let granted = self.budget.try_retry(now());
        if !granted {
            telemetry::budget_exhausted(operation);
        }
        granted
    }

    /// Asks, when an earlier answer was a 500 or 503, whether the gateway has the transaction after all. If it can't be
    /// asked, or has none, `otherwise` stands. If it has some that can't be read, nobody knows what they are: nothing may be
    /// sent again and nothing given back.
    async fn last_look(&self, charge: &Charge<'_>, otherwise: GatewayAnswer) -> ChargeOutcome {
        let needed = self.config.probe_before_retry && charge.open_ends > 0 && !charge.time_left().is_zero();
        if !needed {
            return charge.outcome(otherwise);
        }
        let begun = Instant::now();
        let (mut limits, _) = self.queries.limits(charge.until);
        // A short question: connecting included it takes no longer than a look-up's answer may.
        limits.until = limits.until.min(begun + limits.read);
        let request = charge.request;
        let asked = self.transport.find_by_order(&request.merchant, &request.order_ref, limits);
        let Ok(answer) = tokio::time::timeout_at(limits.until, asked).await else {
            telemetry::probed("unanswered");
            return charge.outcome(otherwise);
        };
        telemetry::attempt_ended(PROBE, 1, Ending::from(&answer), begun.elapsed());
        match answer {
            Ok(Lookup::Found(transactions)) => {
                telemetry::probed("found");
                let others = transactions.len() > 1 || charge.open_ends > 1;
                match adopted(transactions) {
                    Some(one) => ChargeOutcome {
                        answer: GatewayAnswer::Accepted { key: one.key, status: one.status },
                        watch: others,
                    },
                    None => charge.outcome(otherwise),
                }
            }
            Ok(Lookup::NotFound) => {
                telemetry::probed("none");
                charge.outcome(otherwise)
            }
            Err(LookupFailure::Odd {
                what: what @ (Oddity::UnknownStatus | Oddity::BadKey | Oddity::TooLarge),
            }) => {
                telemetry::probed("found");
                charge.outcome(GatewayAnswer::Uncertain { cause: FailureCause(what.label()) })
            }
            Err(_) => {
                telemetry::probed("unanswered");
                charge.outcome(otherwise)
            }
        }
    }
}

/// Of several transactions the one that most likely charged. The settlement decides over all of them; this one's key only
/// says where to begin.
fn adopted(transactions: Vec<TransactionSummary>) -> Option<TransactionSummary> {
    transactions.into_iter().min_by_key(|one| match one.status {
        TransactionStatus::Success => 0,
        TransactionStatus::Pending => 1,
        TransactionStatus::Failed => 2,
    })
}

/// What the circuit is told of a call that ends with this attempt (spec 01 section 3, "records as failure", "ignores").
fn heard(attempt: &PaymentAttempt) -> (Recorded, FailureCause) {
    let without_cause = |recorded| (recorded, FailureCause(""));
    match attempt {
        PaymentAttempt::Accepted { .. } => without_cause(Recorded::Successful),
        PaymentAttempt::Rejected { .. } | PaymentAttempt::Misconfigured { readable: true, .. } => {
            without_cause(Recorded::Refused)
        }
        // Perhaps the word of a proxy; and in the other case we were too late, not the gateway.
        PaymentAttempt::Misconfigured { readable: false, .. } | PaymentAttempt::TooLate => {
            without_cause(Recorded::Ignored)
        }
        PaymentAttempt::NotReached { cause, .. } | PaymentAttempt::Uncertain { cause } => {
            (Recorded::Failed, *cause)
        }
    }
}
