//! A circuit breaker: it stops calling a service that fails or is slow, and finds out by a few probes when it is well
//! again. The rules are those of [Resilience4j](https://resilience4j.readme.io/docs/circuitbreaker)'s; where ours are
//! stricter, it says so below.
//!
//! ```
//! use adapters_pg::breaker::{CircuitBreaker, Config, State};
//! use std::time::{Duration, Instant};
//!
//! let seed = 42; // of the jitter: different in every process
//! let breaker = CircuitBreaker::builder("gateway", Config { minimum_calls: 2, ..Config::default() }, seed)
//!     .observer(|change| {
//!         println!("{change}"); // CircuitBreaker state changed: CLOSED -> OPEN
//!         if let Some(opened) = change.opened() {
//!             println!("{opened}"); // CircuitBreaker opened. reason=100.0%, lastException=ReadTimeout
//!         }
//!     })
//!     .build(Instant::now())?;
//!
//! for _ in 0..2 {
//!     let started = Instant::now();
//!     match breaker.acquire(started) {
//!         Ok(ticket) => {
//!             // ... the call, which times out here ...
//!             let ended = Instant::now();
//!             ticket.failure(ended, ended - started, "ReadTimeout");
//!         }
//!         Err(rejected) => println!("not called: {rejected}"),
//!     }
//! }
//!
//! let now = Instant::now();
//! assert_eq!(breaker.snapshot(now).state, State::Open);
//! let rejected = breaker.acquire(now).err().ok_or("passed")?;
//! assert!(breaker.acquire(now + rejected.retry_after).is_ok_and(|probe| probe.is_probe()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rules
//! - **CLOSED** records results in a [`SlidingWindow`]. At each result the failure rate and the rate of slow calls are
//!   computed, in integers, and the breaker opens when one of them is at or over its threshold. Below the minimum
//!   number of results there is no rate. A call is slow when it took strictly longer than the threshold, whatever its
//!   outcome; a slow failure counts in both rates; a success can be the call that trips.
//! - **OPEN** lets nothing through until strictly after the wait. Then the next call makes it **HALF_OPEN** and is the
//!   first probe. The wait can be made to grow with every opening that follows without a recovery, up to a cap, and is then
//!   lengthened by a seeded random share, so that instances don't probe together.
//! - **HALF_OPEN** lets exactly the configured number of probes through, never refilled by finished ones, and decides
//!   when the smaller of that number and the minimum number of calls have ended. An ignored or abandoned probe gives
//!   its permit back. A period in which a probe is under way and none ends by a deadline opens again.
//! - Every change of state begins a new **generation**. What is settled with a [`Ticket`] of an earlier one changes nothing
//!   and is counted as stale: a late time-out of the outage can't spoil the recovery, nor a late success end it early.
//! - **FORCED_OPEN**, **DISABLED**, **METRICS_ONLY** come and go by [`Command`] only.
//!
//! # Shape
//! Every method takes the time; the clock is the caller's, and must be monotonic. Readings that overtake each other
//! between threads do no harm. Deadlines are evaluated when somebody calls or looks; there are no timers, tasks or
//! threads. No method blocks on anything but a short critical section; the observer is called outside it. While closed, and
//! once it knows its rates, a count-based breaker's successful call takes no lock and touches no memory that another
//! thread writes (`stripe.rs` tells how, and why that is exact).
//!
//! # Deliberately absent
//! No wrapper for closures or futures, no time-out, retry or bulkhead: they compose around a [`Ticket`]. No classification of
//! errors: the caller says success, failure or ignored, and there is no fourth way by which an unknown error could
//! count as a success. No registry: a breaker is a value. No reading of the environment, clock or random source.

mod config;
mod machine;
mod report;
mod stripe;
mod sync;
#[cfg(test)]
mod tests;
mod ticket;
mod window;

use std::{fmt, sync::Arc, time::Instant};

pub use config::{Config, ConfigError, SlidingWindow};
pub use report::{
    Buffered, Cause, Command, Opened, Rate, Rejected, Snapshot, State, Totals, Transition, UnknownCommand,
};
pub use ticket::Ticket;

use machine::Machine;
use stripe::{Core, Observer};

/// A circuit breaker. Clones are handles on the same one. See the [module's documentation](self).
#[derive(Clone)]
pub struct CircuitBreaker {
    core: Arc<Core>,
    name: Arc<str>,
}

impl CircuitBreaker {
    /// Begins a breaker. `name` stands in snapshots and transitions; `seed` is that of the jitter and should differ
    /// between processes.
    #[must_use = "nothing exists before build"]
    pub fn builder(name: &str, config: Config, seed: u64) -> Builder {
        Builder { name: name.into(), config, seed, state: State::Closed, observer: None }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for leave to make one call at `now`.
    ///
    /// # Errors
    /// [`Rejected`] with the state that refuses and how long to wait.
    pub fn acquire(&self, now: Instant) -> Result<Ticket, Rejected> {
        self.acquire_as(sync::thread_number(), now)
    }

    fn acquire_as(&self, thread: usize, now: Instant) -> Result<Ticket, Rejected> {
        let stripe = self.core.stripe(thread);
        let permit = match stripe.pass() {
            Some(permit) => permit,
            None => self.core.with_machine(|machine| machine.acquire(now))?,
        };
        Ok(Ticket::new(stripe, permit, now))
    }

    /// Does what an operator wants. A command that asks for the present state changes nothing, except
    /// [`Command::Reset`].
    pub fn apply(&self, command: Command, now: Instant) {
        self.core.with_exact_machine(|machine| machine.apply(command, now));
    }

    /// Looks at it. What time alone has done since it was last used is done first, so a snapshot is never out of date.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        self.core.with_exact_machine(|machine| machine.snapshot(now))
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A breaker about to be built; see [`CircuitBreaker::builder`].
pub struct Builder {
    name: Arc<str>,
    config: Config,
    seed: u64,
    state: State,
    observer: Option<Box<Observer>>,
}

impl Builder {
    /// Begins in another state than CLOSED.
    #[must_use]
    pub fn initial_state(mut self, state: State) -> Self {
        self.state = state;
        self
    }

    /// Is told of every change of state, after it, on the thread that caused or noticed it, and without any lock held: it
    /// may use the breaker. It should be quick, and must not panic: a ticket dropped by a panicking thread calls it too.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Builds it, beginning at `now`.
    ///
    /// # Errors
    /// A setting that is out of range, by [`Config::validate`].
    pub fn build(self, now: Instant) -> Result<CircuitBreaker, ConfigError> {
        self.config.validate()?;
        let slow_call_duration = self.config.slow_call_duration;
        let machine = Machine::new(Arc::clone(&self.name), self.config, self.seed, self.state, now);
        Ok(CircuitBreaker { core: Core::new(machine, slow_call_duration, self.observer), name: self.name })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
