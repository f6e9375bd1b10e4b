//! Metrics and log lines of the guarded call (spec 03). Labels come from fixed lists: nothing that a request or an answer
//! bears ever becomes one, and no line bears more than a cause.

use crate::breaker::{Snapshot, State, Transition};
use crate::transport::{LookupAttempt, LookupFailure, PaymentAttempt, cause};
use domain::ports::{FailureCause, Lookup, Oddity};
use metrics::{counter, gauge, histogram};
use std::time::Duration;

/// `operation` of a payment request.
pub(super) const CHARGE: &str = "charge";
/// `operation` of a look-up by key.
pub(super) const FIND_BY_KEY: &str = "find_by_key";
/// `operation` of a look-up by order.
pub(super) const FIND_BY_ORDER: &str = "find_by_order";
/// `operation` of the question by order id before a request is repeated or compensated.
pub(super) const PROBE: &str = "probe";
/// `operation` of any look-up, where they share something.
pub(super) const LOOK_UP: &str = "look_up";

/// How an attempt ended: the values of the labels `result` and `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    result: &'static str,
    error: &'static str,
    misconfigured: Option<u16>,
}

impl Ending {
    fn misconfigured(status: u16) -> Self {
        Self { result: "misconfigured", error: cause::of_status(status).0, misconfigured: Some(status) }
    }
}

impl From<&PaymentAttempt> for Ending {
    fn from(attempt: &PaymentAttempt) -> Self {
        let ending = |result, error| Self { result, error, misconfigured: None };
        match attempt {
            PaymentAttempt::Accepted { .. } => ending("accepted", ""),
            PaymentAttempt::Rejected { .. } => ending("rejected", ""),
            PaymentAttempt::Misconfigured { status, .. } => Self::misconfigured(*status),
            PaymentAttempt::TooLate => ending("not_reached", cause::SEND_DEADLINE.0),
            PaymentAttempt::NotReached { cause, .. } => ending("not_reached", cause.0),
            PaymentAttempt::Uncertain { cause } => ending("uncertain", cause.0),
        }
    }
}

impl<T> From<&LookupAttempt<T>> for Ending {
    fn from(attempt: &LookupAttempt<T>) -> Self {
        match attempt {
            Ok(Lookup::Found(_)) => Self { result: "found", error: "", misconfigured: None },
            Ok(Lookup::NotFound) => Self { result: "not_found", error: "", misconfigured: None },
            Err(LookupFailure::Misconfigured { status }) => Self::misconfigured(*status),
            Err(LookupFailure::Unreachable { cause, .. }) => {
                Self { result: "unreachable", error: cause.0, misconfigured: None }
            }
            Err(LookupFailure::Odd { what }) => {
                Self { result: "odd", error: what.label(), misconfigured: None }
            }
            Err(LookupFailure::NotAskable) => {
                Self { result: "odd", error: Oddity::BadKey.label(), misconfigured: None }
            }
        }
    }
}

/// One HTTP attempt has ended; `nth` begins with 1.
pub(super) fn attempt_ended(operation: &'static str, nth: u32, ending: Ending, took: Duration) {
    let Ending { result, error, misconfigured } = ending;
    counter!("pg_request_total", "operation" => operation, "result" => result, "error" => error).increment(1);
    histogram!("pg_request_latency_seconds", "operation" => operation, "result" => result)
        .record(took.as_secs_f64());
    if nth > 1 {
        counter!("pg_retry_attempts_total", "operation" => operation, "result" => result).increment(1);
    }
    if let Some(status) = misconfigured {
        counter!("pg_misconfigured_total", "operation" => operation, "status" => status.to_string())
            .increment(1);
        tracing::error!(
            operation,
            status,
            "PG answers that we are configured wrongly: check pg.base_url and pg.merchant_id"
        );
    }
}

/// A retry is about to be made.
pub(super) fn retrying(attempt: u32, reason: FailureCause) {
    tracing::warn!("PG request retry. attempt={attempt}, reason={}", reason.0);
}

/// A retry was not made for want of budget.
pub(super) fn budget_exhausted(operation: &'static str) {
    counter!("pg_retry_budget_exhausted_total", "operation" => operation).increment(1);
}

/// A call was not made because too many were under way.
pub(super) fn bulkhead_full(operation: &'static str) {
    counter!("pg_bulkhead_rejected_total", "operation" => operation).increment(1);
}

/// What a probe said.
pub(super) fn probed(result: &'static str) {
    counter!("pg_probe_total", "result" => result).increment(1);
}

/// What the circuit was told of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    Successful,
    Failed,
    /// A readable refusal: it shows that the gateway is there, which counts while the circuit is HALF_OPEN, and then says
    /// nothing about how well it is.
    Refused,
    Ignored,
}

/// A whole call has ended, after all its attempts. A refusal is an answer: no retry could have helped, and none failed.
pub(super) fn call_ended(circuit: &'static str, recorded: Recorded, attempts: u32, slowest: Duration) {
    let kind = match recorded {
        Recorded::Successful => "successful",
        Recorded::Failed => "failed",
        Recorded::Refused | Recorded::Ignored => "ignored",
    };
    histogram!("resilience4j_circuitbreaker_calls_seconds", "name" => circuit, "kind" => kind)
        .record(slowest.as_secs_f64());
    let kind = match (recorded, attempts > 1) {
        (Recorded::Failed, false) => "failed_without_retry",
        (Recorded::Failed, true) => "failed_with_retry",
        (_, false) => "successful_without_retry",
        (_, true) => "successful_with_retry",
    };
    counter!("resilience4j_retry_calls_total", "name" => circuit, "kind" => kind).increment(1);
}

/// A circuit has changed its state.
pub(super) fn circuit_changed(transition: &Transition) {
    tracing::info!(circuit = %transition.breaker, "{transition}");
    if let Some(opened) = transition.opened() {
        tracing::warn!(circuit = %transition.breaker, "{opened}");
    }
}

/// Counters that have counted nothing yet, as 0: one that appears with its first increase hides that increase from `rate()`.
pub(super) fn publish_zeros() {
    for (operation, results) in [
        (CHARGE, &["accepted", "rejected", "not_reached", "uncertain"] as &[&'static str]),
        (FIND_BY_KEY, &["found", "not_found", "odd", "unreachable"]),
        (FIND_BY_ORDER, &["found", "not_found", "odd", "unreachable"]),
        (PROBE, &["found", "not_found", "odd", "unreachable"]),
    ] {
        for result in results {
            drop(histogram!("pg_request_latency_seconds", "operation" => operation, "result" => *result));
            // Why an attempt fails stands in the label `error`: those follow.
            if !matches!(*result, "not_reached" | "uncertain" | "odd" | "unreachable") {
                counter!("pg_request_total", "operation" => operation, "result" => *result, "error" => "")
                    .increment(0);
            }
            if operation != PROBE {
                counter!("pg_retry_attempts_total", "operation" => operation, "result" => *result)
                    .increment(0);
            }
        }
    }
    for (result, causes) in [
        ("not_reached", &[cause::CONNECT_REFUSED, cause::CONNECT_TIMEOUT, cause::HTTP_500, cause::HTTP_503]),
        (
            "uncertain",
            &[cause::READ_TIMEOUT, cause::CONNECTION_RESET, cause::CONNECTION_CLOSED, cause::DEADLINE],
        ),
    ] {
        for FailureCause(error) in causes {
            counter!("pg_request_total", "operation" => CHARGE, "result" => result, "error" => *error)
                .increment(0);
        }
    }
    for status in ["401", "403", "404", "405"] {
        counter!("pg_misconfigured_total", "operation" => CHARGE, "status" => status).increment(0);
    }
    for result in ["found", "none", "unanswered"] {
        counter!("pg_probe_total", "result" => result).increment(0);
    }
    for operation in [CHARGE, FIND_BY_KEY, FIND_BY_ORDER] {
        counter!("pg_retry_budget_exhausted_total", "operation" => operation).increment(0);
    }
    for operation in [CHARGE, LOOK_UP] {
        counter!("pg_bulkhead_rejected_total", "operation" => operation).increment(0);
    }
}

/// A circuit's gauges, and its counters, which it keeps itself.
pub(super) fn publish_circuit(snapshot: &Snapshot) {
    let name = snapshot.name.as_ref().to_owned();
    for state in State::ALL {
        let is_it = f64::from(u8::from(state == snapshot.state));
        gauge!("resilience4j_circuitbreaker_state", "name" => name.clone(), "state" => state.label())
            .set(is_it);
    }
    gauge!("resilience4j_circuitbreaker_failure_rate", "name" => name.clone())
        .set(snapshot.failure_percent());
    gauge!("resilience4j_circuitbreaker_slow_call_rate", "name" => name.clone())
        .set(snapshot.slow_call_percent());
    for (kind, calls) in [("successful", snapshot.buffered.successful), ("failed", snapshot.buffered.failed)]
    {
        gauge!("resilience4j_circuitbreaker_buffered_calls", "name" => name.clone(), "kind" => kind)
            .set(f64::from(calls));
    }
    for kind in ["successful", "failed", "ignored"] {
        drop(histogram!("resilience4j_circuitbreaker_calls_seconds", "name" => name.clone(), "kind" => kind));
    }
    let totals = &snapshot.totals;
    counter!("resilience4j_circuitbreaker_not_permitted_calls_total", "name" => name.clone(), "kind" => "not_permitted")
        .absolute(totals.not_permitted);
    counter!("circuitbreaker_slow_calls_total", "name" => name.clone()).absolute(totals.slow);
    counter!("circuitbreaker_stale_results_total", "name" => name.clone()).absolute(totals.stale);
    counter!("circuitbreaker_abandoned_calls_total", "name" => name.clone()).absolute(totals.abandoned);
    let usual = [
        (State::Closed, State::Open, 0),
        (State::Open, State::HalfOpen, 0),
        (State::HalfOpen, State::Open, 0),
        (State::HalfOpen, State::Closed, 0),
    ];
    // `absolute` never lowers a counter, so the zeros only make the usual ones exist.
    for (from, to, count) in usual.iter().chain(&snapshot.transitions) {
        counter!(
            "circuitbreaker_transitions_total",
            "name" => name.clone(), "from" => from.label(), "to" => to.label()
        )
        .absolute(*count);
    }
    for kind in
        ["successful_without_retry", "successful_with_retry", "failed_without_retry", "failed_with_retry"]
    {
        counter!("resilience4j_retry_calls_total", "name" => name.clone(), "kind" => kind).increment(0);
    }
    let next_probe = snapshot.retry_after.unwrap_or_default();
    gauge!("circuitbreaker_next_probe_seconds", "name" => name).set(next_probe.as_secs_f64());
}

/// Calls under way.
pub(super) fn publish_calls(in_flight: usize) {
    gauge!("pg_calls_in_flight").set(in_flight as f64);
}

/// The retry budget.
pub(super) fn publish_budget(tokens: f64) {
    gauge!("pg_retry_budget_tokens").set(tokens);
}
