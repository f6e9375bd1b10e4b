//! The breaker held against the recorded cases, against an independent model, and against many threads.

#[cfg(feature = "loom")]
mod interleavings;
#[cfg(not(feature = "loom"))]
mod model;
#[cfg(not(feature = "loom"))]
mod rules;
#[cfg(not(feature = "loom"))]
mod threads;
#[cfg(not(feature = "loom"))]
mod vectors;

use std::time::{Duration, Instant};

/// Some moment; tests count from it and never look at the clock again.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can't be made from a number; tests only add to this one"
)]
fn start() -> Instant {
    Instant::now()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
