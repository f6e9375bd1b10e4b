//! The fake database's clock: tokio's, so that virtual time moves it, from a fixed start.

use domain::Timestamp;
use std::sync::atomic::{AtomicI64, Ordering};
use time::macros::datetime;
use tokio::time::Instant;

const START: Timestamp = datetime!(2026-01-01 00:00 UTC);

/// A clock in UTC that begins at 2026-01-01 and is truncated to microseconds, like PostgreSQL's.
#[derive(Debug)]
pub struct Clock {
    epoch: Instant,
    /// Microseconds that it was turned back by.
    behind: AtomicI64,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { epoch: Instant::now(), behind: AtomicI64::new(0) }
    }

    /// The moment.
    pub fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(i64::MAX);
        let behind = self.behind.load(Ordering::Relaxed);
        START.saturating_add(time::Duration::microseconds(micros.saturating_sub(behind)))
    }

    /// Jumps back, and goes on from there (F74).
    pub fn turn_back(&self, by: std::time::Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or_default();
        self.behind.fetch_add(micros, Ordering::Relaxed);
    }
}

/// `at + by`, at the calendar's end at the latest.
pub(crate) fn later(at: Timestamp, by: std::time::Duration) -> Timestamp {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    at.saturating_add(time::Duration::microseconds(micros))
}
