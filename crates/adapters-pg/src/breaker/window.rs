//! The results that rates are computed from: a ring of the last N, or a ring of one-second buckets.

use super::{SlidingWindow, report::Rate};

/// How one recorded call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outcome {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// Sums over recorded calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
    pub(super) slow_failed: u32,
}

impl Counts {
    fn of(outcome: Outcome) -> Self {
        Self {
            calls: 1,
            failed: u32::from(outcome.failed),
            slow: u32::from(outcome.slow),
            slow_failed: u32::from(outcome.failed && outcome.slow),
        }
    }

    fn add(&mut self, more: Self) {
        self.calls = self.calls.saturating_add(more.calls);
        self.failed = self.failed.saturating_add(more.failed);
        self.slow = self.slow.saturating_add(more.slow);
        self.slow_failed = self.slow_failed.saturating_add(more.slow_failed);
    }

    fn remove(&mut self, gone: Self) {
        self.calls = self.calls.saturating_sub(gone.calls);
        self.failed = self.failed.saturating_sub(gone.failed);
        self.slow = self.slow.saturating_sub(gone.slow);
        self.slow_failed = self.slow_failed.saturating_sub(gone.slow_failed);
    }
}

#[derive(Debug)]
enum Ring {
    Calls(Box<[Outcome]>),
    /// `head` is the second (since the breaker was built) of the newest bucket, which is the one at `next`.
    Seconds {
        buckets: Box<[Counts]>,
        head: u64,
    },
}

/// A window with its sums, what it needs before it knows a rate, and the rejections since it began.
#[derive(Debug)]
pub(super) struct Window {
    ring: Ring,
    next: usize,
    sums: Counts,
    minimum: u32,
    pub(super) not_permitted: u64,
    pub(super) last_cause: Option<&'static str>,
}

impl Window {
    /// The window of a closed breaker.
    pub(super) fn sliding(kind: SlidingWindow, minimum: u32, second: u64) -> Self {
        match kind {
            SlidingWindow::CountBased(size) => Self::of_calls(size, minimum),
            SlidingWindow::TimeBased(seconds) => {
                let buckets = vec![Counts::default(); seconds as usize].into_boxed_slice();
                Self::new(Ring::Seconds { buckets, head: second }, minimum)
            }
        }
    }

    /// A window over the last `size` calls.
    pub(super) fn of_calls(size: u32, minimum: u32) -> Self {
        let slots = vec![Outcome::default(); size as usize].into_boxed_slice();
        Self::new(Ring::Calls(slots), minimum.min(size))
    }

    fn new(ring: Ring, minimum: u32) -> Self {
        Self { ring, next: 0, sums: Counts::default(), minimum, not_permitted: 0, last_cause: None }
    }

    pub(super) fn counts(&self) -> Counts {
        self.sums
    }

    /// Whether enough results are there for a rate to exist.
    pub(super) fn knows_rates(&self) -> bool {
        self.sums.calls >= self.minimum
    }

    pub(super) fn failure_rate(&self) -> Option<Rate> {
        self.knows_rates().then_some(Rate { part: self.sums.failed, of: self.sums.calls })
    }

    pub(super) fn slow_rate(&self) -> Option<Rate> {
        self.knows_rates().then_some(Rate { part: self.sums.slow, of: self.sums.calls })
    }

    /// Whether a success that was not slow changes nothing but sums here: it can't trip the breaker, and when it came
    /// doesn't matter. True of a count-based window once a rate exists: from then on such a success only ever lowers
    /// rates that were below their thresholds.
    pub(super) fn takes_successes_in_bulk(&self) -> bool {
        matches!(self.ring, Ring::Calls(_)) && self.knows_rates()
    }

    pub(super) fn record(&mut self, outcome: Outcome, second: u64) {
        self.expire(second);
        match &mut self.ring {
            Ring::Calls(slots) => {
                let full = self.sums.calls as usize == slots.len();
                if let Some(slot) = slots.get_mut(self.next) {
                    if full {
                        self.sums.remove(Counts::of(*slot));
                    }
                    *slot = outcome;
                }
                self.next = if self.next + 1 < slots.len() { self.next + 1 } else { 0 };
            }
            Ring::Seconds { buckets, .. } => {
                if let Some(bucket) = buckets.get_mut(self.next) {
                    bucket.add(Counts::of(outcome));
                }
            }
        }
        self.sums.add(Counts::of(outcome));
    }

    /// Records `count` successes that were not slow; see [`Window::takes_successes_in_bulk`].
    pub(super) fn record_successes(&mut self, count: u64) {
        if let Ring::Calls(slots) = &self.ring {
            // More of them than slots leave nothing else in the ring.
            for _ in 0..count.min(slots.len() as u64) {
                self.record(Outcome::default(), 0);
            }
        }
    }

    /// Lets go of the buckets that have left a time-based window by `second`. A second before the newest one (two
    /// threads' clock readings overtook each other) counts as the newest.
    pub(super) fn expire(&mut self, second: u64) {
        let Ring::Seconds { buckets, head } = &mut self.ring else { return };
        let passed = second.saturating_sub(*head).min(buckets.len() as u64);
        for _ in 0..passed {
            self.next = if self.next + 1 < buckets.len() { self.next + 1 } else { 0 };
            if let Some(bucket) = buckets.get_mut(self.next) {
                self.sums.remove(std::mem::take(bucket));
            }
        }
        *head = second.max(*head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Outcome = Outcome { failed: true, slow: false };
    const SLOW: Outcome = Outcome { failed: false, slow: true };
    const BOTH: Outcome = Outcome { failed: true, slow: true };
    const FINE: Outcome = Outcome { failed: false, slow: false };

    fn sums(window: &Window) -> [u32; 4] {
        let Counts { calls, failed, slow, slow_failed } = window.counts();
        [calls, failed, slow, slow_failed]
    }

    #[test]
    fn the_oldest_call_leaves_a_full_ring() {
        let mut window = Window::of_calls(3, 10);
        assert!(!window.knows_rates());
        for outcome in [BOTH, SLOW, FAILED] {
            window.record(outcome, 0);
        }
        assert_eq!(sums(&window), [3, 2, 2, 1]);
        window.record(FINE, 0);
        assert_eq!(sums(&window), [3, 1, 1, 0]);
        window.record_successes(2);
        assert_eq!(sums(&window), [3, 0, 0, 0]);
        window.record(FAILED, 0);
        window.record_successes(u64::MAX);
        assert_eq!(sums(&window), [3, 0, 0, 0]);
    }

    #[test]
    fn seconds_leave_one_by_one_and_clocks_may_step_back() {
        let mut window = Window::sliding(SlidingWindow::TimeBased(3), 2, 10);
        window.record(FAILED, 10);
        window.record(FINE, 11);
        window.record(SLOW, 12);
        assert_eq!(sums(&window), [3, 1, 1, 0]);
        window.record(FAILED, 9);
        assert_eq!(sums(&window), [4, 2, 1, 0]);
        window.expire(13);
        assert_eq!(sums(&window), [3, 1, 1, 0]);
        window.expire(14);
        assert_eq!(sums(&window), [2, 1, 1, 0]);
        assert!(window.knows_rates());
        window.expire(u64::MAX);
        assert_eq!(sums(&window), [0, 0, 0, 0]);
        assert!(!window.knows_rates());
    }

    #[test]
    fn only_a_ring_of_calls_with_rates_takes_successes_in_bulk() {
        let mut calls = Window::of_calls(3, 2);
        assert!(!calls.takes_successes_in_bulk());
        calls.record(FINE, 0);
        calls.record(FINE, 0);
        assert!(calls.takes_successes_in_bulk());
        let mut seconds = Window::sliding(SlidingWindow::TimeBased(3), 1, 0);
        seconds.record(FINE, 0);
        assert!(!seconds.takes_successes_in_bulk());
    }
}
