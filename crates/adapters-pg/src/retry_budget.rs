//! A token bucket for retries: every call pays in, every retry takes one token out, and when none is left the last error
//! stands. In an outage retries are the first thing to stop, so they can't multiply the load of a service that is down.
//!
//! A call pays in a whole token and time pays in more, because the gateway's documented noise (40 % of its answers are
//! 500s) needs 0.62 retries per call: the usual 0.2 would starve a healthy gateway. The clock is the caller's.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

const MICRO: u64 = 1_000_000;

/// Settings of a [`RetryBudget`], in tokens. One token is one retry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudgetConfig {
    /// Paid in by each call (0.0..=100.0). Default 1.0.
    pub per_call: f64,
    /// Paid in by each second (0.0..=100,000.0). Default 10.
    pub per_second: f64,
    /// The most that can be saved up, and the level at the start (1.0..=1,000,000.0). Default 200: what 256 calls at the
    /// same moment, the default bulkhead's worth, need of a healthy gateway, and some more.
    pub capacity: f64,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        Self { per_call: 1.0, per_second: 10.0, capacity: 200.0 }
    }
}

/// A setting that is out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {value}, allowed is {allowed}")]
pub struct RetryBudgetError {
    /// The field of [`RetryBudgetConfig`] that is wrong.
    pub field: &'static str,
    /// What it was.
    pub value: f64,
    /// What it may be.
    pub allowed: &'static str,
}

/// The budget that all calls to one service share.
///
/// ```
/// use adapters_pg::retry_budget::{RetryBudget, RetryBudgetConfig};
/// use std::time::Instant;
///
/// let now = Instant::now();
/// let budget = RetryBudget::new(RetryBudgetConfig { capacity: 1.0, ..Default::default() }, now)?;
/// budget.call(now);
/// assert!(budget.try_retry(now)); // sends again
/// assert!(!budget.try_retry(now)); // the last error stands
/// # Ok::<(), adapters_pg::retry_budget::RetryBudgetError>(())
/// ```
#[derive(Debug)]
pub struct RetryBudget {
    per_call: u64,
    per_second: u64,
    capacity: u64,
    bucket: Mutex<Bucket>,
}

/// Tokens are kept in millionths, so that sums are exact.
#[derive(Debug)]
struct Bucket {
    level: u64,
    filled: Instant,
    refused: u64,
}

impl RetryBudget {
    /// A full budget at `now`.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn new(config: RetryBudgetConfig, now: Instant) -> Result<Self, RetryBudgetError> {
        let RetryBudgetConfig { per_call, per_second, capacity } = config;
        let check = |ok: bool, field, value, allowed| {
            if ok { Ok(()) } else { Err(RetryBudgetError { field, value, allowed }) }
        };
        check((0.0..=100.0).contains(&per_call), "per_call", per_call, "0 to 100")?;
        check((0.0..=100_000.0).contains(&per_second), "per_second", per_second, "0 to 100000")?;
        check((1.0..=1_000_000.0).contains(&capacity), "capacity", capacity, "1 to 1000000")?;
        // Within these limits the conversion neither overflows nor meets a sign or NaN.
        let micro = |tokens: f64| (tokens * MICRO as f64).round() as u64;
        let bucket = Mutex::new(Bucket { level: micro(capacity), filled: now, refused: 0 });
        Ok(Self {
            per_call: micro(per_call),
            per_second: micro(per_second),
            capacity: micro(capacity),
            bucket,
        })
    }

    /// A call begins: pays in. To be said once per call, not per attempt.
    pub fn call(&self, now: Instant) {
        let mut bucket = self.filled(now);
        bucket.level = bucket.level.saturating_add(self.per_call).min(self.capacity);
    }

    /// Takes a token for one retry. `false`: none is left, and the retry must not be made.
    #[must_use = "without a token the retry must not be made"]
    pub fn try_retry(&self, now: Instant) -> bool {
        let mut bucket = self.filled(now);
        match bucket.level.checked_sub(MICRO) {
            Some(left) => {
                bucket.level = left;
                true
            }
            None => {
                bucket.refused += 1;
                false
            }
        }
    }

    /// The tokens that are left, for a gauge.
    #[must_use]
    pub fn level(&self, now: Instant) -> f64 {
        self.filled(now).level as f64 / MICRO as f64
    }

    /// How many retries were refused so far, for a counter.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        // Nothing panics while it is held.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket, with what time has paid in.
    fn filled(&self, now: Instant) -> MutexGuard<'_, Bucket> {
        let mut bucket = self.lock();
        // Whole microseconds only; the rest stays for the next time. A reading from before the last one pays nothing.
        let micros = now.saturating_duration_since(bucket.filled).as_micros();
        let earned = micros * u128::from(self.per_second) / u128::from(MICRO);
        if earned > 0 {
            // Move on only by the time that was paid for, so that many short steps earn what one long one does.
            let earned = u64::try_from(earned).unwrap_or(u64::MAX);
            let paid_micros = u128::from(earned) * u128::from(MICRO) / u128::from(self.per_second.max(1));
            let paid = std::time::Duration::from_micros(u64::try_from(paid_micros).unwrap_or(u64::MAX));
            bucket.filled = bucket.filled.checked_add(paid).unwrap_or(now);
            bucket.level = bucket.level.saturating_add(earned).min(self.capacity);
        }
        bucket
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use proptest::prelude::*;

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can't be made from a number; tests only add to this one"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    fn budget(per_call: f64, per_second: f64, capacity: f64, now: Instant) -> RetryBudget {
        RetryBudget::new(RetryBudgetConfig { per_call, per_second, capacity }, now).unwrap()
    }

    fn drain(budget: &RetryBudget, now: Instant) -> usize {
        std::iter::repeat_with(|| budget.try_retry(now)).take_while(|got| *got).count()
    }

    #[test]
    fn starts_full_and_refuses_when_empty() {
        let now = start();
        let budget = budget(1.0, 10.0, 5.0, now);
        assert_eq!(drain(&budget, now), 5);
        assert_eq!((budget.level(now), budget.refused()), (0.0, 1));
        budget.call(now);
        assert_eq!(drain(&budget, now), 1);
    }

    #[test]
    fn time_pays_in_up_to_the_capacity() {
        let now = start();
        let budget = budget(1.0, 10.0, 5.0, now);
        drain(&budget, now);
        assert_eq!(drain(&budget, now + Duration::from_millis(99)), 0);
        assert_eq!(drain(&budget, now + Duration::from_millis(100)), 1);
        assert_eq!(drain(&budget, now + Duration::from_millis(350)), 2);
        assert_eq!(drain(&budget, now + Duration::from_secs(1_000_000)), 5);
        assert_eq!(drain(&budget, now), 0, "a reading from before pays nothing");
    }

    #[test]
    fn many_short_steps_earn_what_one_long_one_does() {
        let now = start();
        let slow = budget(0.0, 0.3, 5.0, now);
        drain(&slow, now);
        for step in 1..=10_000 {
            let _level = slow.level(now + Duration::from_millis(step));
        }
        assert!((slow.level(now + Duration::from_secs(10)) - 3.0).abs() < 0.000_01);
    }

    #[test]
    fn documented_noise_is_never_refused() {
        // 100 calls per second, each needs up to three retries of 40 % each: 0.62 on average.
        let now = start();
        let budget = RetryBudget::new(RetryBudgetConfig::default(), now).unwrap();
        let mut random = 88_172_645_463_325_252_u64;
        let mut fails = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % 10 < 4
        };
        for call in 0..200_000 {
            let at = now + Duration::from_millis(call * 10);
            budget.call(at);
            let retries = (0..3).take_while(|_| fails()).count();
            for _ in 0..retries {
                assert!(budget.try_retry(at));
            }
        }
    }

    #[test]
    fn an_outage_gets_no_more_retries_than_were_paid_for() {
        let now = start();
        let budget = RetryBudget::new(RetryBudgetConfig::default(), now).unwrap();
        let mut retries = 0_u32;
        for call in 0..3_000 {
            let at = now + Duration::from_millis(call * 20);
            budget.call(at);
            retries += (0..3).map(|_| u32::from(budget.try_retry(at))).sum::<u32>();
        }
        assert!(retries <= 200 + 3_000 + 600, "{retries}");
        assert!(retries >= 3_000, "{retries}");
    }

    #[test]
    fn threads_share_it_without_losing_or_making_tokens() {
        let now = start();
        let budget = Arc::new(budget(0.0, 0.0, 1_000.0, now));
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let budget = Arc::clone(&budget);
                thread::spawn(move || (0..1_000).filter(|_| budget.try_retry(now)).count())
            })
            .collect();
        let taken: usize = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        assert_eq!((taken, budget.refused()), (1_000, 3_000));
    }

    #[test]
    fn settings_are_held_against_their_limits_and_named() {
        let ok = RetryBudgetConfig::default();
        for (field, config) in [
            ("per_call", RetryBudgetConfig { per_call: -0.1, ..ok }),
            ("per_call", RetryBudgetConfig { per_call: f64::NAN, ..ok }),
            ("per_second", RetryBudgetConfig { per_second: -1.0, ..ok }),
            ("per_second", RetryBudgetConfig { per_second: f64::INFINITY, ..ok }),
            ("capacity", RetryBudgetConfig { capacity: 0.5, ..ok }),
            ("capacity", RetryBudgetConfig { capacity: 1e9, ..ok }),
        ] {
            let error = RetryBudget::new(config, start()).unwrap_err();
            assert_eq!(error.field, field);
        }
    }

    proptest! {
        #[test]
        fn never_more_retries_than_tokens(
            per_call in 0.0..3.0_f64,
            per_second in 0.0..50.0_f64,
            capacity in 1.0..50.0_f64,
            steps in proptest::collection::vec((0_u64..2_000, any::<bool>()), 1..200),
        ) {
            let now = start();
            let budget = budget(per_call, per_second, capacity, now);
            let (mut millis, mut paid, mut taken) = (0, capacity, 0.0);
            for (wait, is_call) in steps {
                millis += wait;
                paid += per_second * wait as f64 / 1_000.0;
                let at = now + Duration::from_millis(millis);
                if is_call {
                    budget.call(at);
                    paid += per_call;
                } else if budget.try_retry(at) {
                    taken += 1.0;
                }
                prop_assert!(taken <= paid + 0.001);
                prop_assert!(budget.level(at) <= capacity + 0.001);
            }
        }
    }
}
