//! Leave for one call.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{machine::Permit, machine::Settlement, stripe::Stripe};

/// Leave for one call, to be settled exactly once: by [`success`](Ticket::success), [`failure`](Ticket::failure) or
/// [`ignored`](Ticket::ignored), each of which consumes it, or by being dropped.
///
/// Dropped without a result (a caller that went away) it is *abandoned*: nothing is recorded and a probe's permit
/// goes back. Dropped while its thread panics it is a failure labelled `Panic`, at the newest time the breaker has seen.
///
/// A ticket belongs to the generation in which it was acquired. Settled in a later one it changes nothing and is
/// counted as stale. It is owned and `Send`, so that it may be settled by another thread; it doesn't keep the breaker alive.
#[must_use = "dropping a ticket abandons the call: settle it by success, failure or ignored"]
pub struct Ticket {
    /// `None` once settled.
    stripe: Option<Arc<Stripe>>,
    permit: Permit,
    acquired: Instant,
}

impl Ticket {
    pub(super) fn new(stripe: &Arc<Stripe>, permit: Permit, acquired: Instant) -> Self {
        Self { stripe: Some(Arc::clone(stripe)), permit, acquired }
    }

    /// The call succeeded. `slowest` is how long it took, or the slowest of its attempts: it decides whether the call
    /// counts as slow. Time that was spent waiting between attempts should not be in it.
    pub fn success(mut self, now: Instant, slowest: Duration) {
        if let Some(stripe) = self.stripe.take() {
            stripe.success(self.permit.generation, now, slowest);
        }
    }

    /// The call failed in a way that speaks against its target. `cause` is the label that a change of state which
    /// follows from it shows as its last failure.
    pub fn failure(mut self, now: Instant, slowest: Duration, cause: &'static str) {
        self.settle(Settlement::Failure { slowest, cause }, Some(now));
    }

    /// The call ended in a way that says nothing about its target's health (a refusal for a business reason).
    /// Nothing is recorded and a probe's permit goes back.
    pub fn ignored(mut self) {
        self.settle(Settlement::Ignored, None);
    }

    /// Whether the breaker is still in the state that let this call through. A retry loop asks this before every
    /// further attempt and stops when it is not: its breaker has opened meanwhile, and its result would be stale.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.stripe.as_ref().is_some_and(|stripe| stripe.is_current(self.permit.generation))
    }

    /// Whether this call is a probe of a half-open period.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.permit.probe
    }

    /// The generation it was acquired in.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.permit.generation
    }

    /// The time since it was acquired: the `slowest` of a call with one attempt.
    #[must_use]
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.acquired)
    }

    fn settle(&mut self, settlement: Settlement, now: Option<Instant>) {
        if let Some(stripe) = self.stripe.take() {
            stripe.settle(self.permit.generation, settlement, now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.stripe.is_none() {
            return;
        }
        let settlement = if std::thread::panicking() {
            Settlement::Failure { slowest: Duration::ZERO, cause: "Panic" }
        } else {
            Settlement::Abandoned
        };
        self.settle(settlement, None);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("generation", &self.permit.generation)
            .field("probe", &self.permit.probe)
            .finish_non_exhaustive()
    }
}
