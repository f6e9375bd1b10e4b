//! The rules, as a plain state machine: no atomics, no locks, no clock. One thread at a time calls it.

use std::{sync::Arc, time::Duration, time::Instant};

use super::{
    config::Config,
    report::{Buffered, Cause, Command, Rejected, Snapshot, State, Totals, Transition},
    window::{Outcome, Window},
};

/// What a ticket is settled with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Settlement {
    Success { slowest: Duration },
    Failure { slowest: Duration, cause: &'static str },
    Ignored,
    Abandoned,
}

/// Leave to make one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permit {
    pub(super) generation: u64,
    pub(super) probe: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Instant, wait: Duration },
    HalfOpen { permits: u32, until: Option<Instant> },
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

impl Phase {
    fn state(self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen { .. } => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::Disabled => State::Disabled,
            Self::MetricsOnly => State::MetricsOnly,
        }
    }
}

const STATES: usize = State::ALL.len();

#[derive(Debug)]
pub(super) struct Machine {
    name: Arc<str>,
    config: Config,
    phase: Phase,
    generation: u64,
    since: Instant,
    built: Instant,
    /// The newest time seen, for what is settled without one.
    latest: Instant,
    window: Window,
    /// Openings since it was last closed.
    openings: u32,
    jitter: u64,
    totals: Totals,
    transitions: [[u64; STATES]; STATES],
    /// Changes the observer has not been told of.
    news: Vec<Transition>,
}

impl Machine {
    pub(super) fn new(name: Arc<str>, config: Config, seed: u64, state: State, now: Instant) -> Self {
        let window = Window::sliding(config.window, config.minimum_calls, 0);
        let mut machine = Self {
            name,
            config,
            phase: Phase::Closed,
            generation: 1,
            since: now,
            built: now,
            latest: now,
            window,
            openings: 0,
            jitter: seed,
            totals: Totals::default(),
            transitions: [[0; STATES]; STATES],
            news: Vec::new(),
        };
        machine.phase = machine.begin(state, now);
        machine
    }

    pub(super) fn acquire(&mut self, now: Instant) -> Result<Permit, Rejected> {
        self.advance(now, true);
        let generation = self.generation;
        let retry_after = match &mut self.phase {
            Phase::Closed | Phase::Disabled | Phase::MetricsOnly => {
                return Ok(Permit { generation, probe: false });
            }
            Phase::HalfOpen { permits, until } => {
                if let Some(left) = permits.checked_sub(1) {
                    *permits = left;
                    // The deadline guards against probes that never end: it runs while one is under way.
                    if until.is_none() {
                        *until = self.config.half_open_max.map(|limit| later(now, limit));
                    }
                    return Ok(Permit { generation, probe: true });
                }
                self.config.slow_call_duration
            }
            Phase::Open { until, .. } => wait_left(*until, now),
            Phase::ForcedOpen => self.config.open_wait,
        };
        self.window.not_permitted += 1;
        self.totals.not_permitted += 1;
        Err(Rejected { state: self.phase.state(), retry_after })
    }

    /// Ends the call that was permitted in `generation`. Without a time the newest one seen is taken.
    pub(super) fn settle(&mut self, generation: u64, settlement: Settlement, now: Option<Instant>) {
        let now = now.unwrap_or(self.latest);
        self.advance(now, false);
        if generation != self.generation {
            self.totals.stale += 1;
            return;
        }
        let (slowest, failure) = match settlement {
            Settlement::Success { slowest } => (slowest, None),
            Settlement::Failure { slowest, cause } => (slowest, Some(cause)),
            Settlement::Ignored => {
                self.totals.ignored += 1;
                return self.give_back();
            }
            Settlement::Abandoned => {
                self.totals.abandoned += 1;
                return self.give_back();
            }
        };
        match self.phase {
            Phase::Closed | Phase::HalfOpen { .. } | Phase::MetricsOnly => {}
            // Nothing is recorded in DISABLED; no ticket is of a generation that let nothing pass.
            Phase::Disabled | Phase::Open { .. } | Phase::ForcedOpen => return,
        }
        let outcome = Outcome { failed: failure.is_some(), slow: slowest > self.config.slow_call_duration };
        self.window.record(outcome, self.second(now));
        self.window.last_cause = failure.or(self.window.last_cause);
        self.totals.successful += u64::from(!outcome.failed);
        self.totals.failed += u64::from(outcome.failed);
        self.totals.slow += u64::from(outcome.slow);
        self.decide(now);
        self.extend_half_open(now);
    }

    /// The generation in which successes that were not slow may be counted outside the machine and handed in later by
    /// [`Machine::record_successes`]; see [`Window::takes_successes_in_bulk`].
    pub(super) fn bulk_generation(&self) -> Option<u64> {
        (matches!(self.phase, Phase::Closed) && self.window.takes_successes_in_bulk())
            .then_some(self.generation)
    }

    /// Hands in what was counted outside the machine in the present generation.
    pub(super) fn record_successes(&mut self, count: u64) {
        self.window.record_successes(count);
        self.totals.successful += count;
    }

    pub(super) fn apply(&mut self, command: Command, now: Instant) {
        self.advance(now, false);
        let to = match command {
            Command::ForceOpen => State::ForcedOpen,
            Command::Close | Command::Reset => State::Closed,
            Command::Disable => State::Disabled,
            Command::MetricsOnly => State::MetricsOnly,
        };
        if to != self.phase.state() {
            self.change(to, now, Cause::Manual);
        } else if command == Command::Reset {
            self.generation += 1;
            self.since = now;
            self.phase = self.begin(to, now);
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn snapshot(&mut self, now: Instant) -> Snapshot {
        self.advance(now, false);
        let second = self.second(now);
        let (mut probes_left, mut retry_after) = (None, None);
        match self.phase {
            Phase::Closed | Phase::MetricsOnly => self.window.expire(second),
            Phase::HalfOpen { permits, .. } => probes_left = Some(permits),
            // The window stays as it was when it opened: it tells why.
            Phase::Open { until, .. } => retry_after = Some(wait_left(until, now)),
            Phase::ForcedOpen | Phase::Disabled => {}
        }
        let counts = self.window.counts();
        let successful = counts.calls - counts.failed;
        Snapshot {
            name: Arc::clone(&self.name),
            state: self.phase.state(),
            generation: self.generation,
            since: self.since,
            failure_rate: self.window.failure_rate(),
            slow_call_rate: self.window.slow_rate(),
            buffered: Buffered {
                calls: counts.calls,
                successful,
                failed: counts.failed,
                slow_successful: counts.slow - counts.slow_failed,
                slow_failed: counts.slow_failed,
            },
            not_permitted: self.window.not_permitted,
            last_failure: self.window.last_cause,
            probes_left,
            retry_after,
            totals: self.totals,
            transitions: self.transition_counts(),
        }
    }

    /// The changes since this was last asked.
    pub(super) fn take_news(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.news)
    }

    fn transition_counts(&self) -> Vec<(State, State, u64)> {
        let rows = State::ALL.iter().zip(&self.transitions);
        rows.flat_map(|(from, row)| State::ALL.iter().zip(row).map(|(to, count)| (*from, *to, *count)))
            .filter(|(_, _, count)| *count > 0)
            .collect()
    }

    /// Does what time alone does: ends a half-open period after its deadline, ends a wait.
    fn advance(&mut self, now: Instant, calling: bool) {
        self.latest = self.latest.max(now);
        if let Phase::HalfOpen { until: Some(until), .. } = self.phase
            && now > until
        {
            self.change(State::Open, until, Cause::HalfOpenExpired);
        }
        if let Phase::Open { until, .. } = self.phase
            && now > until
            && (calling || self.config.automatic_half_open)
        {
            self.change(State::HalfOpen, now, Cause::WaitOver);
        }
    }

    fn give_back(&mut self) {
        let ended = self.window.counts().calls;
        if let Phase::HalfOpen { permits, until } = &mut self.phase {
            *permits = permits.saturating_add(1).min(self.config.half_open_calls);
            if permits.saturating_add(ended) >= self.config.half_open_calls {
                *until = None;
            }
        }
    }

    /// A probe ended and the period goes on: the deadline is for those that are still under way. Without one it waits
    /// for the next: a service that is well, but seldom called, must not be cut off again for being seldom called.
    fn extend_half_open(&mut self, now: Instant) {
        let ended = self.window.counts().calls;
        let limit = self.config.half_open_max;
        if let Phase::HalfOpen { permits, until } = &mut self.phase {
            let under_way = permits.saturating_add(ended) < self.config.half_open_calls;
            *until = limit.filter(|_| under_way).map(|limit| later(now, limit));
        }
    }

    /// Looks at the rates after a result was recorded.
    fn decide(&mut self, now: Instant) {
        let (Some(failed), Some(slow)) = (self.window.failure_rate(), self.window.slow_rate()) else {
            return;
        };
        let trip = if failed.reaches(self.config.failure_rate_threshold) {
            Some(Cause::FailureRate(failed))
        } else if slow.reaches(self.config.slow_call_rate_threshold) {
            Some(Cause::SlowCallRate(slow))
        } else {
            None
        };
        match (self.phase, trip) {
            (Phase::Closed | Phase::HalfOpen { .. }, Some(cause)) => self.change(State::Open, now, cause),
            (Phase::HalfOpen { .. }, None) => self.change(State::Closed, now, Cause::Recovered),
            _ => {}
        }
    }

    fn change(&mut self, to: State, at: Instant, cause: Cause) {
        let from = self.phase.state();
        let last_failure = self.window.last_cause;
        if let Some(count) = self.transitions.get_mut(from as usize).and_then(|row| row.get_mut(to as usize))
        {
            *count += 1;
        }
        self.generation += 1;
        self.since = at;
        self.phase = self.begin(to, at);
        let wait = match self.phase {
            Phase::Open { wait, .. } => Some(wait),
            _ => None,
        };
        let breaker = Arc::clone(&self.name);
        let generation = self.generation;
        self.news.push(Transition { breaker, from, to, generation, at, cause, last_failure, wait });
    }

    /// Prepares window, permits and wait of a state that begins.
    fn begin(&mut self, state: State, at: Instant) -> Phase {
        if state != State::Open {
            // OPEN keeps the window it came with, all others begin one.
            self.window = match state {
                State::HalfOpen => Window::of_calls(
                    self.config.half_open_calls,
                    self.config.minimum_calls.min(match self.config.window {
                        super::SlidingWindow::CountBased(size) => size,
                        super::SlidingWindow::TimeBased(_) => u32::MAX,
                    }),
                ),
                _ => Window::sliding(self.config.window, self.config.minimum_calls, self.second(at)),
            };
        }
        if !matches!(state, State::Open | State::HalfOpen) {
            self.openings = 0;
        }
        match state {
            State::Closed => Phase::Closed,
            State::Open => {
                let wait = self.next_wait();
                Phase::Open { until: later(at, wait), wait }
            }
            State::HalfOpen => Phase::HalfOpen { permits: self.config.half_open_calls, until: None },
            State::ForcedOpen => Phase::ForcedOpen,
            State::Disabled => Phase::Disabled,
            State::MetricsOnly => Phase::MetricsOnly,
        }
    }

    fn next_wait(&mut self) -> Duration {
        let wait = self.config.wait_after(self.openings);
        self.openings = self.openings.saturating_add(1);
        // Lengthened, never shortened: nothing passes before the configured wait is over.
        let share = f64::from(self.config.open_wait_jitter) / 100.0 * (0.5 + 0.5 * unit(&mut self.jitter));
        wait + wait.mul_f64(share)
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.built).as_secs()
    }
}

/// The wait after which a call gets through: strictly later than `until`.
fn wait_left(until: Instant, now: Instant) -> Duration {
    until.saturating_duration_since(now) + Duration::from_nanos(1)
}

/// `at + wait`. The configuration keeps waits to days, so the sum exists on every platform's clock.
fn later(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or(at)
}

/// The next number in 0.0..1.0 of the sequence that belongs to a seed (SplitMix64, by Sebastiano Vigna).
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    // 53 bits are what an f64 holds exactly.
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
