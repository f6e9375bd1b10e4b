//! Settings of one breaker and their limits.

use std::time::Duration;

/// Which results the rates are computed from while the breaker is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlidingWindow {
    /// The last so many recorded calls (1..=65536).
    CountBased(u32),
    /// The calls recorded in the last so many seconds (1..=3600), kept in buckets of one second.
    TimeBased(u32),
}

/// Settings of a [`CircuitBreaker`](super::CircuitBreaker). [`Config::default`] is what suits a card payment request.
///
/// ```
/// use adapters_pg::breaker::{Config, SlidingWindow};
/// use std::time::Duration;
///
/// let look_ups = Config {
///     window: SlidingWindow::CountBased(50),
///     minimum_calls: 10,
///     failure_rate_threshold: 20,
///     slow_call_duration: Duration::from_millis(400),
///     ..Config::default()
/// };
/// look_ups.validate()?;
///
/// let refused = Config { failure_rate_threshold: 0, ..look_ups }.validate();
/// assert_eq!(refused.map_err(|e| e.field), Err("failure_rate_threshold"));
/// # Ok::<(), adapters_pg::breaker::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The results that count while closed. Default: the last 100 calls.
    pub window: SlidingWindow,
    /// No rate exists, and so nothing trips, before this many results (1..=65536). A count-based window lowers it to
    /// its own size, half-open to the number of probes. Default 20.
    pub minimum_calls: u32,
    /// Opens when at least this share of the results failed, in percent (1..=100). Default 30.
    pub failure_rate_threshold: u8,
    /// Opens when at least this share of the results was slow, in percent (1..=100). Default 50.
    pub slow_call_rate_threshold: u8,
    /// A call is slow when it took strictly longer, however it ended (above zero, at most 30 days). Default 700 ms.
    pub slow_call_duration: Duration,
    /// How long the first opening lasts (1 ms to 30 days). Default 5 s.
    pub open_wait: Duration,
    /// Each opening that follows without a recovery in between waits this many times longer (1.0..=100.0). Default 1.0:
    /// a service that is back, but whose first calls are slow, is cut off once more for as long as the last wait was.
    pub open_wait_factor: f64,
    /// The wait grows no further than this (`open_wait` to 30 days), jitter excepted. Default 10 s.
    pub open_wait_max: Duration,
    /// Every wait is lengthened by a random share between half of this and all of it, in percent (0..=100), so that
    /// instances that opened together don't probe together. Default 20, so 10 to 20 %; 0 turns it off.
    pub open_wait_jitter: u8,
    /// Probes let through in one half-open period (1..=65536). Default 3.
    pub half_open_calls: u32,
    /// A half-open period opens again when a probe is under way and none has ended for so long (1 ms to 30 days; `None`:
    /// waits for ever). Must be longer than a probe can take. Default 10 s.
    pub half_open_max: Option<Duration>,
    /// Whether OPEN becomes HALF_OPEN by time alone, so that an idle breaker doesn't show OPEN for ever. Without it
    /// the next call does it. It changes what is shown, never which call gets through. Default `true`.
    pub automatic_half_open: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: SlidingWindow::CountBased(100),
            minimum_calls: 20,
            failure_rate_threshold: 30,
            slow_call_rate_threshold: 50,
            slow_call_duration: Duration::from_millis(700),
            open_wait: Duration::from_secs(5),
            open_wait_factor: 1.0,
            open_wait_max: Duration::from_secs(10),
            open_wait_jitter: 20,
            half_open_calls: 3,
            half_open_max: Some(Duration::from_secs(10)),
            automatic_half_open: true,
        }
    }
}

/// A setting outside its limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, allowed is {allowed}")]
pub struct ConfigError {
    /// The field of [`Config`] that is wrong.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What it may be.
    pub allowed: &'static str,
}

const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const MOST_CALLS: u32 = 65_536;
const MOST_SECONDS: u32 = 3_600;

fn check(
    ok: bool,
    field: &'static str,
    value: impl std::fmt::Debug,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError { field, value: format!("{value:?}"), allowed }) }
}

impl Config {
    /// Holds every field against its limits.
    ///
    /// # Errors
    /// The first field that is out of range, with its value and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (in_window, allowed) = match self.window {
            SlidingWindow::CountBased(calls) => ((1..=MOST_CALLS).contains(&calls), "1 to 65536 calls"),
            SlidingWindow::TimeBased(seconds) => ((1..=MOST_SECONDS).contains(&seconds), "1 to 3600 seconds"),
        };
        let calls = 1..=MOST_CALLS;
        let percent = 1..=100;
        let wait = SHORTEST_WAIT..=LONGEST;
        check(in_window, "window", self.window, allowed)?;
        check(calls.contains(&self.minimum_calls), "minimum_calls", self.minimum_calls, "1 to 65536")?;
        check(
            percent.contains(&self.failure_rate_threshold),
            "failure_rate_threshold",
            self.failure_rate_threshold,
            "1 to 100 percent",
        )?;
        check(
            percent.contains(&self.slow_call_rate_threshold),
            "slow_call_rate_threshold",
            self.slow_call_rate_threshold,
            "1 to 100 percent",
        )?;
        let slow = self.slow_call_duration;
        check(
            slow > Duration::ZERO && slow <= LONGEST,
            "slow_call_duration",
            slow,
            "above zero, at most 30 days",
        )?;
        check(wait.contains(&self.open_wait), "open_wait", self.open_wait, "1 ms to 30 days")?;
        check(
            (1.0..=100.0).contains(&self.open_wait_factor),
            "open_wait_factor",
            self.open_wait_factor,
            "1.0 to 100.0",
        )?;
        check(
            (self.open_wait..=LONGEST).contains(&self.open_wait_max),
            "open_wait_max",
            self.open_wait_max,
            "open_wait to 30 days",
        )?;
        check(self.open_wait_jitter <= 100, "open_wait_jitter", self.open_wait_jitter, "0 to 100 percent")?;
        check(calls.contains(&self.half_open_calls), "half_open_calls", self.half_open_calls, "1 to 65536")?;
        check(
            self.half_open_max.is_none_or(|limit| wait.contains(&limit)),
            "half_open_max",
            self.half_open_max,
            "none, or 1 ms to 30 days",
        )
    }

    /// The wait of the opening after `earlier` openings in a row, before jitter.
    pub(super) fn wait_after(&self, earlier: u32) -> Duration {
        if earlier == 0 {
            return self.open_wait;
        }
        let exponent = i32::try_from(earlier).unwrap_or(i32::MAX);
        let seconds = self.open_wait.as_secs_f64() * self.open_wait_factor.powi(exponent);
        Duration::try_from_secs_f64(seconds).map_or(self.open_wait_max, |wait| wait.min(self.open_wait_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_held_against_its_limits_and_named() {
        let ok = Config::default();
        assert_eq!(ok.validate(), Ok(()));
        let long = LONGEST + Duration::from_nanos(1);
        let cases = [
            ("window", Config { window: SlidingWindow::CountBased(0), ..ok.clone() }),
            ("window", Config { window: SlidingWindow::CountBased(65_537), ..ok.clone() }),
            ("window", Config { window: SlidingWindow::TimeBased(0), ..ok.clone() }),
            ("window", Config { window: SlidingWindow::TimeBased(3_601), ..ok.clone() }),
            ("minimum_calls", Config { minimum_calls: 0, ..ok.clone() }),
            ("minimum_calls", Config { minimum_calls: 65_537, ..ok.clone() }),
            ("failure_rate_threshold", Config { failure_rate_threshold: 0, ..ok.clone() }),
            ("failure_rate_threshold", Config { failure_rate_threshold: 101, ..ok.clone() }),
            ("slow_call_rate_threshold", Config { slow_call_rate_threshold: 0, ..ok.clone() }),
            ("slow_call_rate_threshold", Config { slow_call_rate_threshold: 101, ..ok.clone() }),
            ("slow_call_duration", Config { slow_call_duration: Duration::ZERO, ..ok.clone() }),
            ("slow_call_duration", Config { slow_call_duration: long, ..ok.clone() }),
            ("open_wait", Config { open_wait: Duration::from_micros(999), ..ok.clone() }),
            ("open_wait", Config { open_wait: long, ..ok.clone() }),
            ("open_wait_factor", Config { open_wait_factor: 0.99, ..ok.clone() }),
            ("open_wait_factor", Config { open_wait_factor: f64::NAN, ..ok.clone() }),
            ("open_wait_factor", Config { open_wait_factor: f64::INFINITY, ..ok.clone() }),
            ("open_wait_max", Config { open_wait_max: Duration::from_secs(4), ..ok.clone() }),
            ("open_wait_max", Config { open_wait_max: long, ..ok.clone() }),
            ("open_wait_jitter", Config { open_wait_jitter: 101, ..ok.clone() }),
            ("half_open_calls", Config { half_open_calls: 0, ..ok.clone() }),
            ("half_open_calls", Config { half_open_calls: 65_537, ..ok.clone() }),
            ("half_open_max", Config { half_open_max: Some(Duration::ZERO), ..ok.clone() }),
            ("half_open_max", Config { half_open_max: Some(long), ..ok.clone() }),
        ];
        for (field, config) in cases {
            let error = config.validate().expect_err(field);
            assert_eq!(error.field, field);
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }

    #[test]
    fn the_wait_grows_by_the_factor_up_to_the_cap() {
        let config = Config {
            open_wait: Duration::from_secs(1),
            open_wait_factor: 2.0,
            open_wait_max: Duration::from_secs(3),
            ..Config::default()
        };
        let waits: Vec<u64> = (0..4).map(|earlier| config.wait_after(earlier).as_secs()).collect();
        assert_eq!(waits, [1, 2, 3, 3]);
        assert_eq!(config.wait_after(u32::MAX), Duration::from_secs(3));
        let steady = Config { open_wait_factor: 1.0, ..config };
        assert_eq!(steady.wait_after(u32::MAX), Duration::from_secs(1));
    }
}
