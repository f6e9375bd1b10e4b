//! What a breaker tells about itself: states, rates, changes of state, snapshots, rejections.

use std::{fmt, str::FromStr, sync::Arc, time::Duration, time::Instant};

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Calls pass and are recorded.
    Closed,
    /// Calls are rejected until the wait is over.
    Open,
    /// A fixed number of probes passes; their results decide.
    HalfOpen,
    /// Set by hand: all calls are rejected until it is changed by hand.
    ForcedOpen,
    /// Set by hand: all calls pass, nothing is recorded.
    Disabled,
    /// Set by hand: all calls pass and are recorded, nothing trips.
    MetricsOnly,
}

impl State {
    /// All states, for metrics that have one line per state.
    pub const ALL: [Self; 6] =
        [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::Disabled, Self::MetricsOnly];

    /// The name in logs and the operations API, `HALF_OPEN`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
            Self::ForcedOpen => "FORCED_OPEN",
            Self::Disabled => "DISABLED",
            Self::MetricsOnly => "METRICS_ONLY",
        }
    }

    /// The name as a metric label, `half_open`, as dashboards made for Resilience4j expect it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an operator can do to a breaker by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Reject every call until told otherwise.
    ForceOpen,
    /// Close, with an empty window. Nothing happens when it is closed already.
    Close,
    /// Let every call through and record nothing.
    Disable,
    /// Let every call through and record, without ever tripping.
    MetricsOnly,
    /// As when it was built: closed, empty window, first wait; also when it is closed already. Totals stay, because
    /// counters that metrics are read from must not go back.
    Reset,
}

/// A text that is no [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown circuit state; known are FORCED_OPEN, CLOSED, DISABLED, METRICS_ONLY, RESET")]
pub struct UnknownCommand;

impl FromStr for Command {
    type Err = UnknownCommand;

    fn from_str(text: &str) -> Result<Self, UnknownCommand> {
        match text {
            "FORCED_OPEN" => Ok(Self::ForceOpen),
            "CLOSED" => Ok(Self::Close),
            "DISABLED" => Ok(Self::Disable),
            "METRICS_ONLY" => Ok(Self::MetricsOnly),
            "RESET" => Ok(Self::Reset),
            _ => Err(UnknownCommand),
        }
    }
}

/// A share of calls, kept as the two whole numbers that it was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The calls that failed, or were slow.
    pub part: u32,
    /// All recorded calls; not 0.
    pub of: u32,
}

impl Rate {
    /// In percent, 0.0..=100.0, for metrics.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.part) * 100.0 / f64::from(self.of.max(1))
    }

    /// Whether it reaches `percent`, exactly.
    #[must_use]
    pub fn reaches(self, percent: u8) -> bool {
        u64::from(self.part) * 100 >= u64::from(percent) * u64::from(self.of)
    }
}

impl fmt::Display for Rate {
    /// In percent with one decimal, half rounded up: `43.0%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = u64::from(self.of.max(1));
        let tenths = (u64::from(self.part) * 1_000 + of / 2) / of;
        write!(f, "{}.{}%", tenths / 10, tenths % 10)
    }
}

/// A call that was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("circuit is {state}, retry after {retry_after:?}")]
pub struct Rejected {
    /// [`State::Open`], [`State::HalfOpen`] (all probes are out) or [`State::ForcedOpen`].
    pub state: State,
    /// How long to wait. Exact in OPEN: a call this much later is a probe. In HALF_OPEN what a probe should need
    /// (the slow-call duration); in FORCED_OPEN, which has no known end, the configured wait.
    pub retry_after: Duration,
}

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The failure rate reached its threshold.
    FailureRate(Rate),
    /// The rate of slow calls reached its threshold, the failure rate did not.
    SlowCallRate(Rate),
    /// The half-open period had not decided by its deadline.
    HalfOpenExpired,
    /// The wait in OPEN was over.
    WaitOver,
    /// The probes were good.
    Recovered,
    /// An operator's [`Command`].
    Manual,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailureRate(rate) => rate.fmt(f),
            Self::SlowCallRate(rate) => write!(f, "{rate} slow"),
            Self::HalfOpenExpired => f.write_str("half-open deadline"),
            Self::WaitOver => f.write_str("wait over"),
            Self::Recovered => f.write_str("recovered"),
            Self::Manual => f.write_str("by hand"),
        }
    }
}

/// A change of state, as given to the observer. Displays as the line operators search for,
/// `CircuitBreaker state changed: CLOSED -> OPEN`.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The breaker's name.
    pub breaker: Arc<str>,
    /// The state that ended.
    pub from: State,
    /// The state that began.
    pub to: State,
    /// The generation that began. Observers on several threads may be called out of order; this puts them in order.
    pub generation: u64,
    /// When it happened, which can be before it was noticed: deadlines are evaluated lazily.
    pub at: Instant,
    /// Why.
    pub cause: Cause,
    /// The label of the last failure recorded in the window that ended.
    pub last_failure: Option<&'static str>,
    /// How long OPEN lasts, jitter included, when `to` is [`State::Open`].
    pub wait: Option<Duration>,
}

impl Transition {
    /// The second line, for a breaker that opened: displays as
    /// `CircuitBreaker opened. reason=43.0%, lastException=ReadTimeout`. `None` for every other change.
    #[must_use]
    pub fn opened(&self) -> Option<Opened<'_>> {
        (self.to == State::Open).then_some(Opened(self))
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CircuitBreaker state changed: {} -> {}", self.from, self.to)
    }
}

/// See [`Transition::opened`].
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a>(&'a Transition);

impl fmt::Display for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.last_failure.unwrap_or("none");
        write!(f, "CircuitBreaker opened. reason={}, lastException={last}", self.0.cause)
    }
}

/// What a breaker looks like at one moment. Everything in it was true at the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The breaker's name.
    pub name: Arc<str>,
    /// Its state.
    pub state: State,
    /// Grows by one with every change of state.
    pub generation: u64,
    /// When this state began.
    pub since: Instant,
    /// `None` while fewer results are there than needed.
    pub failure_rate: Option<Rate>,
    /// `None` while fewer results are there than needed.
    pub slow_call_rate: Option<Rate>,
    /// Results in the current window. OPEN shows the window that it came with.
    pub buffered: Buffered,
    /// Rejections since the current window began.
    pub not_permitted: u64,
    /// Label of the last failure recorded in the current window.
    pub last_failure: Option<&'static str>,
    /// Probes that may still be handed out, in HALF_OPEN.
    pub probes_left: Option<u32>,
    /// How long OPEN still lasts.
    pub retry_after: Option<Duration>,
    /// Since the breaker was built.
    pub totals: Totals,
    /// How often each change of state happened since the breaker was built; only those that did.
    pub transitions: Vec<(State, State, u64)>,
}

impl Snapshot {
    /// The failure rate in percent, -1.0 while unknown, as existing dashboards expect it.
    #[must_use]
    pub fn failure_percent(&self) -> f64 {
        self.failure_rate.map_or(-1.0, Rate::percent)
    }

    /// The rate of slow calls in percent, -1.0 while unknown.
    #[must_use]
    pub fn slow_call_percent(&self) -> f64 {
        self.slow_call_rate.map_or(-1.0, Rate::percent)
    }
}

/// The results in the current window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buffered {
    /// All of them.
    pub calls: u32,
    /// Those that succeeded, slow or not.
    pub successful: u32,
    /// Those that failed, slow or not.
    pub failed: u32,
    /// Slow ones that succeeded.
    pub slow_successful: u32,
    /// Slow ones that failed.
    pub slow_failed: u32,
}

/// Counters since the breaker was built; they never go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Recorded successes.
    pub successful: u64,
    /// Recorded failures.
    pub failed: u64,
    /// Recorded calls that were slow, however they ended.
    pub slow: u64,
    /// Calls settled as ignored.
    pub ignored: u64,
    /// Tickets dropped without a result.
    pub abandoned: u64,
    /// Tickets settled or dropped after their generation had ended; they are in no other counter.
    pub stale: u64,
    /// Rejected calls.
    pub not_permitted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_exact_and_shown_with_one_decimal() {
        assert!(Rate { part: 3, of: 10 }.reaches(30));
        assert!(!Rate { part: 29_999, of: 100_000 }.reaches(30));
        assert!(Rate { part: u32::MAX, of: u32::MAX }.reaches(100));
        assert_eq!(Rate { part: 43, of: 100 }.to_string(), "43.0%");
        assert_eq!(Rate { part: 2, of: 3 }.to_string(), "66.7%");
        assert_eq!(Rate { part: 1, of: 8 }.to_string(), "12.5%");
        assert_eq!(Rate { part: 5, of: 5 }.to_string(), "100.0%");
        assert_eq!(Rate { part: 0, of: 0 }.to_string(), "0.0%");
    }

    #[test]
    fn commands_are_read_and_nonsense_is_refused() {
        for (text, command) in [
            ("FORCED_OPEN", Command::ForceOpen),
            ("CLOSED", Command::Close),
            ("DISABLED", Command::Disable),
            ("METRICS_ONLY", Command::MetricsOnly),
            ("RESET", Command::Reset),
        ] {
            assert_eq!(text.parse(), Ok(command));
        }
        for text in ["", "closed", "OPEN", "HALF_OPEN", " CLOSED", "\u{0}", "🔥"] {
            assert_eq!(text.parse::<Command>(), Err(UnknownCommand));
        }
    }
}
