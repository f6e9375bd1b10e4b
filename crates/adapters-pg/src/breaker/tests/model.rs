//! The breaker beside a second, simple one: lists and arithmetic on milliseconds, written from the rules alone. Random
//! histories must look the same in both after every step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::*, Duration, ms, start};

#[derive(Debug, Clone)]
enum Op {
    Acquire { thread: usize },
    Success { pick: usize, slow: bool },
    Failure { pick: usize, slow: bool },
    Ignored { pick: usize },
    Drop { pick: usize },
    Wait { millis: u64 },
    Apply(Command),
    Look,
}

#[derive(Debug, Clone, Copy)]
struct Recorded {
    second: u64,
    failed: bool,
    slow: bool,
}

/// The second breaker.
struct Model {
    config: Config,
    now: u64,
    state: State,
    generation: u64,
    /// All results since the window began; which of them count is worked out each time.
    results: Vec<Recorded>,
    /// The rates' window when it was looked at last, for OPEN shows it unchanged.
    frozen_at: u64,
    size: usize,
    by_time: bool,
    needed: usize,
    not_permitted: u64,
    state_since: u64,
    openings: i32,
    first_probe: Option<u64>,
    /// Probes handed out and not given back.
    probes_out: u32,
    totals: Totals,
    transitions: BTreeMap<(State, State), u64>,
}

impl Model {
    fn new(config: Config, state: State) -> Self {
        let mut model = Self {
            config,
            now: 0,
            state,
            generation: 1,
            results: vec![],
            frozen_at: 0,
            size: 0,
            by_time: false,
            needed: 0,
            not_permitted: 0,
            state_since: 0,
            openings: 0,
            first_probe: None,
            probes_out: 0,
            totals: Totals::default(),
            transitions: BTreeMap::new(),
        };
        model.closed_window();
        model.enter(state, 0);
        model
    }

    fn closed_window(&mut self) {
        (self.size, self.by_time) = match self.config.window {
            SlidingWindow::CountBased(n) => (n as usize, false),
            SlidingWindow::TimeBased(n) => (n as usize, true),
        };
        self.needed = self.config.minimum_calls as usize;
        if !self.by_time {
            self.needed = self.needed.min(self.size);
        }
        self.results.clear();
        self.not_permitted = 0;
    }

    fn enter(&mut self, state: State, at: u64) {
        self.state = state;
        self.state_since = at;
        match state {
            State::Open => {
                self.openings += 1;
                self.frozen_at = self.now;
            }
            State::HalfOpen => {
                let usual = match self.config.window {
                    SlidingWindow::CountBased(n) => self.config.minimum_calls.min(n),
                    SlidingWindow::TimeBased(_) => self.config.minimum_calls,
                };
                self.closed_window();
                self.by_time = false;
                self.size = self.config.half_open_calls as usize;
                self.needed = usual.min(self.config.half_open_calls) as usize;
                self.first_probe = None;
                self.probes_out = 0;
            }
            _ => {
                self.closed_window();
                self.openings = 0;
            }
        }
    }

    fn change(&mut self, to: State, at: u64) {
        *self.transitions.entry((self.state, to)).or_default() += 1;
        self.generation += 1;
        self.enter(to, at);
    }

    fn open_until(&self) -> Duration {
        let mut wait = self.config.open_wait.as_nanos() as f64;
        for _ in 1..self.openings {
            wait *= self.config.open_wait_factor;
        }
        ms(self.state_since) + Duration::from_nanos(wait as u64).min(self.config.open_wait_max)
    }

    fn time_passes(&mut self, calling: bool) {
        if self.state == State::HalfOpen
            && let (Some(first), Some(limit)) = (self.first_probe, self.config.half_open_max)
            && self.now > first + limit.as_millis() as u64
        {
            self.change(State::Open, first + limit.as_millis() as u64);
        }
        if self.state == State::Open
            && ms(self.now) > self.open_until()
            && (calling || self.config.automatic_half_open)
        {
            self.change(State::HalfOpen, self.now);
        }
    }

    /// calls, failed, slow, slow and failed
    fn sums(&self) -> [u32; 4] {
        let seen_at = if self.state == State::Open { self.frozen_at } else { self.now };
        let counted: Vec<&Recorded> = if self.by_time {
            self.results.iter().filter(|r| r.second + self.size as u64 > seen_at / 1000).collect()
        } else {
            self.results.iter().rev().take(self.size).collect()
        };
        let count = |what: fn(&Recorded) -> bool| counted.iter().filter(|r| what(r)).count() as u32;
        [count(|_| true), count(|r| r.failed), count(|r| r.slow), count(|r| r.failed && r.slow)]
    }

    fn acquire(&mut self) -> std::result::Result<u64, (State, Duration)> {
        self.time_passes(true);
        let wait = match self.state {
            State::Closed | State::Disabled | State::MetricsOnly => return Ok(self.generation),
            State::HalfOpen if self.probes_out < self.config.half_open_calls => {
                self.probes_out += 1;
                self.first_probe.get_or_insert(self.now);
                return Ok(self.generation);
            }
            State::HalfOpen => self.config.slow_call_duration,
            State::Open => self.open_until() - ms(self.now) + Duration::from_nanos(1),
            State::ForcedOpen => self.config.open_wait,
        };
        self.not_permitted += 1;
        self.totals.not_permitted += 1;
        Err((self.state, wait))
    }

    fn stale(&mut self, generation: u64) -> bool {
        let stale = generation != self.generation;
        self.totals.stale += u64::from(stale);
        stale
    }

    fn result(&mut self, generation: u64, failed: bool, slow: bool) {
        self.time_passes(false);
        if self.stale(generation) || self.state == State::Disabled {
            return;
        }
        self.results.push(Recorded { second: self.now / 1000, failed, slow });
        *(if failed { &mut self.totals.failed } else { &mut self.totals.successful }) += 1;
        self.totals.slow += u64::from(slow);
        let [calls, failures, slows, _] = self.sums();
        if self.state == State::HalfOpen {
            // The others that are under way have as long again.
            self.first_probe = (self.probes_out > calls).then_some(self.now);
        }
        if self.state == State::MetricsOnly || (calls as usize) < self.needed {
            return;
        }
        let trips = failures * 100 >= calls * u32::from(self.config.failure_rate_threshold)
            || slows * 100 >= calls * u32::from(self.config.slow_call_rate_threshold);
        match (trips, self.state) {
            (true, _) => self.change(State::Open, self.now),
            (false, State::HalfOpen) => self.change(State::Closed, self.now),
            _ => {}
        }
    }

    fn no_result(&mut self, generation: u64, ignored: bool) {
        if self.stale(generation) {
            return;
        }
        *(if ignored { &mut self.totals.ignored } else { &mut self.totals.abandoned }) += 1;
        if self.state == State::HalfOpen {
            self.probes_out -= 1;
            if self.probes_out == self.sums()[0] {
                self.first_probe = None;
            }
        }
    }

    fn apply(&mut self, command: Command) {
        self.time_passes(false);
        let to = match command {
            Command::ForceOpen => State::ForcedOpen,
            Command::Close | Command::Reset => State::Closed,
            Command::Disable => State::Disabled,
            Command::MetricsOnly => State::MetricsOnly,
        };
        if to != self.state {
            self.change(to, self.now);
        } else if command == Command::Reset {
            self.generation += 1;
            self.enter(to, self.now);
        }
    }

    fn compare(&mut self, seen: &Snapshot) -> std::result::Result<(), TestCaseError> {
        self.time_passes(false);
        let [calls, failed, slow, slow_failed] = self.sums();
        let known = calls as usize >= self.needed;
        let rate = |part| known.then_some(Rate { part, of: calls });
        prop_assert_eq!(seen.state, self.state);
        prop_assert_eq!(seen.generation, self.generation);
        prop_assert_eq!(seen.failure_rate, rate(failed));
        prop_assert_eq!(seen.slow_call_rate, rate(slow));
        let buffered = Buffered {
            calls,
            successful: calls - failed,
            failed,
            slow_successful: slow - slow_failed,
            slow_failed,
        };
        prop_assert_eq!(seen.buffered, buffered);
        prop_assert_eq!(seen.not_permitted, self.not_permitted);
        prop_assert_eq!(seen.totals, self.totals);
        let left = (self.state == State::HalfOpen).then(|| self.config.half_open_calls - self.probes_out);
        prop_assert_eq!(seen.probes_left, left);
        let after = (self.state == State::Open)
            .then(|| self.open_until().saturating_sub(ms(self.now)) + Duration::from_nanos(1));
        prop_assert_eq!(seen.retry_after, after);
        let counts: BTreeMap<_, _> =
            seen.transitions.iter().map(|(from, to, n)| ((*from, *to), *n)).collect();
        prop_assert_eq!(&counts, &self.transitions);
        Ok(())
    }
}

fn configs() -> impl Strategy<Value = Config> {
    let window = prop_oneof![
        3 => (1_u32..12).prop_map(SlidingWindow::CountBased),
        1 => (1_u32..6).prop_map(SlidingWindow::TimeBased),
    ];
    let limits = (1_u32..8, prop_oneof![Just(1_u8), 20..101_u8], prop_oneof![Just(1_u8), 20..101_u8]);
    let half_open = (1_u32..5, prop_oneof![Just(None), (1_u64..4_000).prop_map(|limit| Some(ms(limit)))]);
    let waits = (1_u64..4_000, prop_oneof![Just(1.0), Just(1.5), Just(2.0)], 0_u64..6_000);
    (window, limits, half_open, waits, any::<bool>()).prop_map(
        |(
            window,
            (minimum_calls, failed, slow),
            (half_open_calls, half_open_max),
            (wait, factor, more),
            auto,
        )| {
            Config {
                window,
                minimum_calls,
                failure_rate_threshold: failed,
                slow_call_rate_threshold: slow,
                slow_call_duration: ms(700),
                // 64 ms are 2^12 * 15625 ns: up to the cap a wait that grows by halves stays on whole nanoseconds.
                open_wait: ms(wait.next_multiple_of(64)),
                open_wait_factor: factor,
                open_wait_max: ms((wait + more).next_multiple_of(64)),
                open_wait_jitter: 0,
                half_open_calls,
                half_open_max,
                automatic_half_open: auto,
            }
        },
    )
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pick = any::<usize>();
    let slow = prop_oneof![4 => Just(false), 1 => Just(true)];
    let command = prop_oneof![
        Just(Command::ForceOpen),
        Just(Command::Close),
        Just(Command::Disable),
        Just(Command::MetricsOnly),
        Just(Command::Reset),
    ];
    let op = prop_oneof![
        10 => (0_usize..3).prop_map(|thread| Op::Acquire { thread }),
        6 => (pick, slow.clone()).prop_map(|(pick, slow)| Op::Success { pick, slow }),
        4 => (pick, slow).prop_map(|(pick, slow)| Op::Failure { pick, slow }),
        1 => pick.prop_map(|pick| Op::Ignored { pick }),
        1 => pick.prop_map(|pick| Op::Drop { pick }),
        4 => prop_oneof![0_u64..50, 0_u64..1_500, Just(64_u64), Just(1_000), 0_u64..8_000].prop_map(|millis| Op::Wait { millis }),
        1 => Just(Op::Look),
    ];
    // Commands are rare: they end what would have become interesting.
    proptest::collection::vec(prop_oneof![60 => op, 1 => command.prop_map(Op::Apply)], 1..250)
}

/// Runs a history on both. `looks`: after every step, or only where the history looks and at its end, so that the stripes
/// hold successes over longer stretches.
fn run(
    config: Config,
    initial: State,
    history: &[Op],
    looks: bool,
) -> std::result::Result<(), TestCaseError> {
    let origin = start();
    let mut model = Model::new(config.clone(), initial);
    let breaker = CircuitBreaker::builder("model", config, 0)
        .initial_state(initial)
        .build(origin)
        .map_err(|e| TestCaseError::fail(e.to_string()))?;
    let mut held: Vec<(Ticket, u64)> = vec![];
    for (number, op) in history.iter().enumerate() {
        let now = origin + ms(model.now);
        let take = |held: &mut Vec<(Ticket, u64)>, pick: usize| {
            (!held.is_empty()).then(|| held.swap_remove(pick % held.len()))
        };
        let took = |slow: bool| if slow { ms(701) } else { ms(700) };
        match op {
            Op::Wait { millis } => model.now += millis,
            Op::Look => model.compare(&breaker.snapshot(now))?,
            Op::Apply(command) => {
                breaker.apply(*command, now);
                model.apply(*command);
            }
            Op::Acquire { thread } => match (breaker.acquire_as(*thread, now), model.acquire()) {
                (Ok(ticket), Ok(generation)) => {
                    prop_assert_eq!(ticket.generation(), generation);
                    prop_assert_eq!(ticket.is_probe(), model.state == State::HalfOpen);
                    prop_assert!(ticket.is_current());
                    held.push((ticket, generation));
                }
                (Err(got), Err((state, retry_after))) => {
                    prop_assert_eq!(got, Rejected { state, retry_after });
                }
                (got, expected) => {
                    prop_assert!(false, "step {}: {:?}, expected {:?}", number, got, expected);
                }
            },
            Op::Success { pick, slow } => {
                if let Some((ticket, generation)) = take(&mut held, *pick) {
                    ticket.success(now, took(*slow));
                    model.result(generation, false, *slow);
                }
            }
            Op::Failure { pick, slow } => {
                if let Some((ticket, generation)) = take(&mut held, *pick) {
                    ticket.failure(now, took(*slow), "Failure");
                    model.result(generation, true, *slow);
                }
            }
            Op::Ignored { pick } => {
                if let Some((ticket, generation)) = take(&mut held, *pick) {
                    ticket.ignored();
                    model.no_result(generation, true);
                }
            }
            Op::Drop { pick } => {
                if let Some((ticket, generation)) = take(&mut held, *pick) {
                    drop(ticket);
                    model.no_result(generation, false);
                }
            }
        }
        if looks {
            model.compare(&breaker.snapshot(origin + ms(model.now)))?;
        }
    }
    model.compare(&breaker.snapshot(origin + ms(model.now)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn looked_at_after_every_step_it_is_the_model(config in configs(), history in ops(), initial in 0_usize..12) {
        let initial = State::ALL.get(initial).copied().unwrap_or(State::Closed);
        run(config, initial, &history, true)?;
    }

    #[test]
    fn looked_at_seldom_it_is_the_model(config in configs(), history in ops()) {
        run(config, State::Closed, &history, false)?;
    }
}
