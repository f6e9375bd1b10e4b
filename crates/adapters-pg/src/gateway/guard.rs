//! What stands before every call of one kind: circuit, bulkhead, and the waits between attempts.

use super::config::{CallConfig, GatewayConfigError};
use super::telemetry::{self, Recorded};
use crate::backoff::{Backoff, Delays};
use crate::breaker::{CircuitBreaker, Rejected, Ticket};
use crate::transport::Limits;
use domain::ports::{Entropy, FailureCause};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// So much later than its own limits an attempt is cut off.
const CUT_OFF_SLACK: Duration = Duration::from_millis(250);

/// The guard of one kind of call.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) config: CallConfig,
    pub(super) breaker: CircuitBreaker,
    backoff: Backoff,
    bulkhead: Semaphore,
    size: usize,
    operation: &'static str,
}

/// A call was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    CircuitOpen { retry_after: Duration },
    BulkheadFull,
}

/// Leave for one call. Dropping it gives everything back.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    pub(super) ticket: Ticket,
    /// The slowest attempt so far: what the circuit is told, without waits and queues (spec 01 section 3).
    pub(super) slowest: Duration,
    _slot: SemaphorePermit<'a>,
}

impl Entered<'_> {
    /// Tells the circuit, and the metrics, how the call ended.
    pub(super) fn settle(
        self,
        circuit: &'static str,
        recorded: Recorded,
        cause: FailureCause,
        attempts: u32,
    ) {
        let recorded = match recorded {
            // Ignored there too it would keep the circuit HALF_OPEN, and others out, for as long as cards are refused.
            Recorded::Refused if self.ticket.is_probe() => Recorded::Successful,
            other => other,
        };
        telemetry::call_ended(circuit, recorded, attempts, self.slowest);
        match recorded {
            Recorded::Successful => self.ticket.success(now(), self.slowest),
            Recorded::Failed => self.ticket.failure(now(), self.slowest, cause.0),
            Recorded::Refused | Recorded::Ignored => self.ticket.ignored(),
        }
    }
}

impl Guard {
    pub(super) fn new(
        name: &'static str,
        operation: &'static str,
        config: CallConfig,
        max_concurrent_calls: usize,
        seed: u64,
    ) -> Result<Self, GatewayConfigError> {
        if !(1..=Semaphore::MAX_PERMITS).contains(&max_concurrent_calls) || config.retry.max_attempts == 0 {
            return Err(GatewayConfigError::NoCalls);
        }
        let backoff = config.retry.backoff().map_err(|source| GatewayConfigError::Retry { name, source })?;
        let breaker = CircuitBreaker::builder(name, config.circuit.clone(), seed)
            .observer(telemetry::circuit_changed)
            .build(now())
            .map_err(|source| GatewayConfigError::Circuit { name, source })?;
        let bulkhead = Semaphore::new(max_concurrent_calls);
        Ok(Self { config, breaker, backoff, bulkhead, size: max_concurrent_calls, operation })
    }

    /// Asks circuit and bulkhead. A full bulkhead is our own doing: the circuit hears nothing of it, and a probe goes back.
    pub(super) fn enter(&self) -> Result<Entered<'_>, Refused> {
        let ticket = self
            .breaker
            .acquire(now())
            .map_err(|Rejected { retry_after, .. }| Refused::CircuitOpen { retry_after })?;
        match self.bulkhead.try_acquire() {
            Ok(slot) => Ok(Entered { ticket, slowest: Duration::ZERO, _slot: slot }),
            Err(_full) => {
                ticket.ignored();
                telemetry::bulkhead_full(self.operation);
                Err(Refused::BulkheadFull)
            }
        }
    }

    /// The waits of one call.
    pub(super) fn delays<'a>(&self, entropy: &'a dyn Entropy) -> Delays<impl FnMut() -> f64 + use<'a>> {
        self.backoff.delays(move || entropy.fraction())
    }

    /// When an order that was not let through may be tried again, if nobody knows better.
    pub(super) fn default_retry_after(&self) -> Duration {
        self.config.circuit.open_wait
    }

    /// The limits of an attempt that begins now, and when it is cut off should the transport not keep them. The transport's
    /// own limits come first: it knows whether anything was sent.
    pub(super) fn limits(&self, until: Instant) -> (Limits, Instant) {
        let CallConfig { connect_timeout: connect, read_timeout: read, .. } = self.config;
        let cut_off = Instant::now() + connect + read + CUT_OFF_SLACK;
        (Limits { connect, read, until }, cut_off.min(until))
    }

    /// Calls under way.
    pub(super) fn in_flight(&self) -> usize {
        self.size.saturating_sub(self.bulkhead.available_permits())
    }
}

/// The runtime's clock, which virtual time moves, as the circuit takes it.
pub(super) fn now() -> std::time::Instant {
    Instant::now().into_std()
}
