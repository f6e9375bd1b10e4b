//! What happened in this process during the last hour: samples of the same numbers that `/metrics` shows.
//!
//! One task takes a sample every few seconds while somebody watches, else one a minute that costs the database nothing; the
//! oldest make room. Counters only grow while a process lives, so that what happened in a stretch of time is the difference of
//! two samples.

use super::latency::Buckets;
use super::scrape::series;
use crate::ops::CircuitBody;
use crate::state::OpsState;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Between two samples while somebody watches.
const INTERVAL: Duration = Duration::from_secs(3);
/// Between two samples while nobody does.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Somebody watches who has looked at a page so long ago at most: open pages look every few seconds.
const WATCHED_FOR: Duration = Duration::from_secs(30);
/// As far back as the pages look.
pub(super) const SPAN: Duration = Duration::from_secs(3600);
/// The samples of [`SPAN`], and one before them.
const CAPACITY: usize = 1201;
/// A sample does not wait for the database longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Orders by what became of them at their placing, counted since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// Paid, in progress, or being confirmed.
    pub(super) accepted: u64,
    /// The gateway refused the card.
    pub(super) refused: u64,
    /// The gateway was away, the circuit open, the database away, or something is broken: the buyer did nothing wrong.
    pub(super) troubled: u64,
}

impl Orders {
    /// All of them.
    pub(super) const fn total(self) -> u64 {
        self.accepted + self.refused + self.troubled
    }

    const fn since(self, earlier: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            refused: self.refused.saturating_sub(earlier.refused),
            troubled: self.troubled.saturating_sub(earlier.troubled),
        }
    }

    /// Orders that did not count (invalid ones, repetitions) are in none of the three.
    fn add(&mut self, result: &str, count: u64) {
        match result {
            "paid" | "in_progress" | "confirming" => self.accepted += count,
            "refused" => self.refused += count,
            "circuit_open" | "pg_unavailable" | "not_sent" | "unavailable" | "conflict" | "error" => {
                self.troubled += count
            }
            _ => {}
        }
    }
}

/// A pool of database connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) in_use: u64,
    pub(super) idle: u64,
    pub(super) max: u64,
    pub(super) waiting: u64,
}

/// A circuit at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CircuitSample {
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) failure_rate: f64,
}

/// What kind of call to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// Payment requests.
    Charges,
    /// Look-ups and probes.
    LookUps,
}

/// All that is read at one moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    at: Instant,
    orders: Orders,
    charges: Buckets,
    look_ups: Buckets,
    pub(super) pools: Vec<Pool>,
    circuits: Vec<CircuitSample>,
}

impl Sample {
    /// Reads the text of `/metrics`.
    fn read(at: Instant, text: &str, circuits: &[CircuitBody]) -> Self {
        let mut sample = Self {
            at,
            orders: Orders::default(),
            charges: Buckets::default(),
            look_ups: Buckets::default(),
            pools: Vec::new(),
            circuits: circuits.iter().map(CircuitSample::from).collect(),
        };
        for series in series(text) {
            let label = |name| series.label(name).unwrap_or_default();
            match series.name {
                "order_placed_total" => sample.orders.add(label("result"), series.count()),
                "orders_refused_total" => sample.orders.troubled += series.count(),
                "pg_request_latency_seconds_bucket" if label("operation") == "charge" => {
                    sample.charges.add(label("le"), series.count());
                }
                "pg_request_latency_seconds_bucket" => sample.look_ups.add(label("le"), series.count()),
                "database_pool_connections" => {
                    let pool = sample.pool(label("pool"));
                    match label("state") {
                        "in_use" => pool.in_use = series.count(),
                        "idle" => pool.idle = series.count(),
                        "max" => pool.max = series.count(),
                        _ => {}
                    }
                }
                "database_pool_waiting" => sample.pool(label("pool")).waiting = series.count(),
                _ => {}
            }
        }
        sample.pools.sort_by(|a, b| a.name.cmp(&b.name));
        sample
    }

    fn pool(&mut self, name: &str) -> &mut Pool {
        let at = self.pools.iter().position(|pool| pool.name == name).unwrap_or_else(|| {
            self.pools.push(Pool { name: name.to_owned(), ..Pool::default() });
            self.pools.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found, or pushed just now")]
        &mut self.pools[at]
    }

    fn latencies(&self, calls: Calls) -> &Buckets {
        match calls {
            Calls::Charges => &self.charges,
            Calls::LookUps => &self.look_ups,
        }
    }
}

impl From<&CircuitBody> for CircuitSample {
    fn from(body: &CircuitBody) -> Self {
        Self { name: body.name.clone(), state: known_state(&body.state), failure_rate: body.failure_rate }
    }
}

/// The states that a circuit can be in, without a text of its own in each sample.
pub(super) fn known_state(text: &str) -> &'static str {
    ["CLOSED", "OPEN", "HALF_OPEN", "FORCED_OPEN", "DISABLED", "METRICS_ONLY"]
        .into_iter()
        .find(|state| *state == text)
        .unwrap_or("UNKNOWN")
}

/// A stretch of time in one state; both ends as shares of [`SPAN`], 1.0 being now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    pub(super) state: &'static str,
    pub(super) from: f64,
    pub(super) to: f64,
}

/// The samples, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
}

impl History {
    fn push(&mut self, sample: Sample) {
        if self.samples.len() >= CAPACITY {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The newest sample.
    pub(super) fn latest(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// The last sample that was taken `ago` or longer before the newest.
    fn before(&self, ago: Duration) -> Option<&Sample> {
        let moment = self.latest()?.at.checked_sub(ago)?;
        let after = self.samples.partition_point(|sample| sample.at <= moment);
        self.samples.get(after.checked_sub(1)?)
    }

    /// The ends of the stretch from `from` ago to `to` ago; it begins with the first sample when that is later. `None` when
    /// nothing was recorded then.
    fn stretch(&self, from: Duration, to: Duration) -> Option<(&Sample, &Sample)> {
        let end = self.before(to)?;
        let begin = self.before(from).or(self.samples.front())?;
        (begin.at < end.at).then_some((begin, end))
    }

    /// Orders of the last `length`, or since the process started when that is shorter ago.
    pub(super) fn orders(&self, length: Duration) -> Orders {
        self.stretch(length, Duration::ZERO)
            .map_or(Orders::default(), |(begin, end)| end.orders.since(begin.orders))
    }

    /// Orders by minute, oldest first; `None` where nothing was recorded.
    pub(super) fn orders_by_minute(&self, minutes: u32) -> Vec<Option<Orders>> {
        let minute = Duration::from_secs(60);
        (0..minutes)
            .rev()
            .map(|ago| {
                let (begin, end) = self.stretch(minute * (ago + 1), minute * ago)?;
                Some(end.orders.since(begin.orders))
            })
            .collect()
    }

    /// Latencies of the last `length`.
    pub(super) fn latencies(&self, calls: Calls, length: Duration) -> Buckets {
        self.stretch(length, Duration::ZERO)
            .map_or(Buckets::default(), |(begin, end)| end.latencies(calls).since(begin.latencies(calls)))
    }

    /// Latencies by step, oldest first.
    pub(super) fn latencies_by(&self, calls: Calls, step: Duration, steps: u32) -> Vec<Option<Buckets>> {
        (0..steps)
            .rev()
            .map(|ago| {
                let (begin, end) = self.stretch(step * (ago + 1), step * ago)?;
                Some(end.latencies(calls).since(begin.latencies(calls)))
            })
            .collect()
    }

    /// The states of a circuit during [`SPAN`], oldest first.
    pub(super) fn states(&self, name: &str) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (sample, circuit) in self.of_circuit(name) {
            let at = self.share(sample);
            match runs.last_mut() {
                Some(run) if run.state == circuit.state => run.to = at,
                last => {
                    // A state lasts until the next one is seen.
                    let from = last.map_or(at, |run| {
                        run.to = at;
                        at
                    });
                    runs.push(Run { state: circuit.state, from, to: at });
                }
            }
        }
        runs
    }

    /// A circuit's failure rates during [`SPAN`] with their moments (1.0 is now); `None` where too few calls were made.
    pub(super) fn failure_rates(&self, name: &str) -> Vec<(f64, Option<f64>)> {
        let rates = self.of_circuit(name);
        rates
            .map(|(sample, circuit)| {
                (self.share(sample), Some(circuit.failure_rate).filter(|rate| *rate >= 0.0))
            })
            .collect()
    }

    fn of_circuit<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Sample, &'a CircuitSample)> {
        self.samples.iter().filter_map(move |sample| {
            Some((sample, sample.circuits.iter().find(|circuit| circuit.name == name)?))
        })
    }

    fn share(&self, sample: &Sample) -> f64 {
        let ago = self.latest().map_or(Duration::ZERO, |latest| latest.at - sample.at);
        (1.0 - ago.as_secs_f64() / SPAN.as_secs_f64()).max(0.0)
    }
}

/// The history, as the pages and the task share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    history: Mutex<History>,
    /// When a page was last looked at.
    looked_at: Mutex<Option<Instant>>,
    looked: Notify,
}

impl Shared {
    /// For a page that somebody looks at. Never held over an await.
    pub(super) fn read(&self) -> MutexGuard<'_, History> {
        let was_watched = self.is_watched();
        *self.0.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if !was_watched {
            self.0.looked.notify_one();
        }
        self.history()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_watched(&self) -> bool {
        let looked_at = *self.0.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        looked_at.is_some_and(|at| at.elapsed() <= WATCHED_FOR)
    }
}

/// The task that takes the samples.
pub(super) struct Recorder {
    ops: Arc<OpsState>,
    history: Shared,
}

impl Recorder {
    pub(super) const fn new(ops: Arc<OpsState>, history: Shared) -> Self {
        Self { ops, history }
    }

    /// Takes samples until the program begins to stop.
    pub(super) async fn run(self) {
        let work = async {
            loop {
                let watched = self.history.is_watched();
                self.sample(watched).await;
                if watched {
                    tokio::time::sleep(INTERVAL).await;
                } else {
                    // Whoever looks again sees numbers of now at the page's next look.
                    drop(tokio::time::timeout(IDLE_INTERVAL, self.history.0.looked.notified()).await);
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = self.ops.runner.stopping() => {}
        }
    }

    async fn sample(&self, watched: bool) {
        // When the database is away its numbers stay as they were; everything else is recorded all the same.
        if watched {
            drop(tokio::time::timeout(PATIENCE, (self.ops.publish_metrics)()).await);
        }
        let (text, circuits) = ((self.ops.metrics)(), self.ops.circuits.list());
        let sample = Sample::read(Instant::now(), &text, &circuits);
        self.history.history().push(sample);
    }
}

#[cfg(test)]
mod tests;
