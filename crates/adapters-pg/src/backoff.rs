//! How long to wait between attempts: exponential, then capped, then jittered.
//!
//! The order matters: jitter that is applied before the cap dies at the cap, and all callers retry in step. tokio-retry's
//! own strategies draw from ambient randomness and its `from_millis(100)` means 100 ms, 10 s, 1000 s; the iterator here
//! goes in their place, since a strategy there is any `IntoIterator<Item = Duration>`. Counting attempts is left to the
//! caller (`.take(attempts - 1)`), as are deadlines.

use std::time::Duration;

/// Settings of a backoff, known to be in range.
///
/// ```
/// use adapters_pg::backoff::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::new(Duration::from_millis(100), 2.0, Duration::from_secs(1), 0.5)?;
/// let mut seeded = || 0.5; // numbers in 0.0..1.0 from the caller's generator
/// let four_attempts: Vec<_> = backoff.delays(&mut seeded).take(3).map(|d| d.as_millis()).collect();
/// assert_eq!(four_attempts, [75, 150, 300]);
/// # Ok::<(), adapters_pg::backoff::BackoffError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    initial: Duration,
    factor: f64,
    max: Duration,
    jitter: f64,
}

/// A setting of a [`Backoff`] that is out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {value}, allowed is {allowed}")]
pub struct BackoffError {
    /// The argument of [`Backoff::new`] that is wrong.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What it may be.
    pub allowed: &'static str,
}

impl Backoff {
    /// `initial`: the first wait (1 ms to 1 h). `factor`: what each wait is multiplied with for the next (1.0..=10.0).
    /// `max`: the longest wait (`initial` to 1 h), never exceeded, jitter included. `jitter`: the share of a wait that
    /// is random (0.0..=1.0): with 0.5 a wait of 1 s becomes one of 0.5 to 1 s.
    ///
    /// # Errors
    /// The first argument that is out of range.
    pub fn new(initial: Duration, factor: f64, max: Duration, jitter: f64) -> Result<Self, BackoffError> {
        let hour = Duration::from_secs(3_600);
        let wrong = |field, value: String, allowed| Err(BackoffError { field, value, allowed });
        if initial < Duration::from_millis(1) || initial > hour {
            return wrong("initial", format!("{initial:?}"), "1 ms to 1 h");
        }
        if !(1.0..=10.0).contains(&factor) {
            return wrong("factor", factor.to_string(), "1.0 to 10.0");
        }
        if max < initial || max > hour {
            return wrong("max", format!("{max:?}"), "initial to 1 h");
        }
        if !(0.0..=1.0).contains(&jitter) {
            return wrong("jitter", jitter.to_string(), "0.0 to 1.0");
        }
        Ok(Self { initial, factor, max, jitter })
    }

    /// The waits, without end. `random` gives numbers in 0.0..1.0; what is outside counts as the nearest inside.
    pub fn delays<R: FnMut() -> f64>(self, random: R) -> Delays<R> {
        Delays { backoff: self, next: self.initial, random }
    }
}

/// See [`Backoff::delays`].
#[derive(Debug, Clone)]
pub struct Delays<R> {
    backoff: Backoff,
    /// Capped, not jittered.
    next: Duration,
    random: R,
}

impl<R: FnMut() -> f64> Iterator for Delays<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let whole = self.next;
        // At most an hour times ten: far from overflow.
        self.next = whole.mul_f64(self.backoff.factor).min(self.backoff.max);
        let drawn = (self.random)();
        let drawn = if drawn.is_nan() { 0.0 } else { drawn.clamp(0.0, 1.0) };
        Some(whole.mul_f64(1.0 - self.backoff.jitter * drawn))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn doubles_up_to_the_cap_without_jitter() {
        let backoff = Backoff::new(ms(100), 2.0, ms(1_000), 0.0).unwrap();
        let waits: Vec<_> = backoff.delays(|| 0.9).take(6).collect();
        assert_eq!(waits, [ms(100), ms(200), ms(400), ms(800), ms(1_000), ms(1_000)]);
    }

    #[test]
    fn jitter_is_alive_at_the_cap() {
        let mut drawn = 0.0;
        let backoff = Backoff::new(ms(100), 2.0, ms(1_000), 0.5).unwrap();
        let waits = backoff.delays(|| {
            drawn += 0.125;
            drawn
        });
        let waits: Vec<_> = waits.skip(4).take(3).collect();
        assert_eq!(waits, [Duration::from_micros(687_500), ms(625), Duration::from_micros(562_500)]);
    }

    #[test]
    fn each_argument_is_held_against_its_limits_and_named() {
        let hour = ms(3_600_000);
        for (initial, factor, max, jitter, field) in [
            (ms(0), 2.0, ms(1), 0.5, "initial"),
            (hour + ms(1), 2.0, hour, 0.5, "initial"),
            (ms(1), 0.9, ms(1), 0.5, "factor"),
            (ms(1), f64::NAN, ms(1), 0.5, "factor"),
            (ms(2), 2.0, ms(1), 0.5, "max"),
            (ms(2), 2.0, hour + ms(1), 0.5, "max"),
            (ms(1), 2.0, ms(1), 1.1, "jitter"),
            (ms(1), 2.0, ms(1), f64::NAN, "jitter"),
        ] {
            let error = Backoff::new(initial, factor, max, jitter).unwrap_err();
            assert_eq!(error.field, field);
            assert!(error.to_string().starts_with(field), "{error}");
        }
        assert!(Backoff::new(hour, 10.0, hour, 1.0).is_ok());
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_its_share_and_itself_and_never_over_the_cap(
            initial in 1_u64..5_000,
            more in 0_u64..100_000,
            factor in 1.0..10.0_f64,
            jitter in 0.0..=1.0_f64,
            draws in proptest::collection::vec(any::<f64>(), 1..20),
        ) {
            let max = ms(initial + more);
            let backoff = Backoff::new(ms(initial), factor, max, jitter).unwrap();
            let whole = backoff.delays(|| 0.0);
            let mut draws_left = draws.iter().copied();
            let waits = backoff.delays(|| draws_left.next().unwrap_or(f64::NAN));
            for (wait, whole) in waits.zip(whole).take(draws.len()) {
                prop_assert!(wait <= whole && whole <= max);
                prop_assert!(wait >= whole.mul_f64(1.0 - jitter));
            }
        }
    }
}
