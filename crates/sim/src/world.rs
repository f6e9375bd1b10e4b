//! What all parts of one run share: the plan, virtual time, chance, the trace, and what struck where.
//!
//! Locks are taken one at a time and never over an await; nothing calls the database while it holds one.

use crate::books::Books;
use crate::gateway::Gateway;
use crate::kinds::Kind;
use crate::plan::Plan;
use crate::process::Process;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use test_support::{FakeDatabase, Site, TestEntropy};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// What every order's requests bear; it must never be seen anywhere else.
pub const CANARY_CARD: &str = "9273-5518-6402-7719";

tokio::task_local! {
    /// The order that this task is about, once known; 0 before.
    pub static FLOW: Arc<AtomicI64>;
}

/// Locks a mutex of a run, which has one thread.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line of the trace.
#[derive(Debug, Clone)]
pub struct Line {
    /// Since the run began.
    pub at: Duration,
    /// The order it is about; 0: all of them.
    pub order: i64,
    /// What happened.
    pub text: String,
    /// A single step of a program; the rest are events.
    pub step: bool,
}

#[derive(Debug, Default)]
struct Trace {
    hash: u64,
    steps: u64,
    lines: Option<Vec<Line>>,
}

/// How often what struck.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Faults by kind.
    pub struck: BTreeMap<Kind, u64>,
    /// Deaths of processes by site.
    pub crashes: BTreeMap<Site, u64>,
    /// Orders placed.
    pub orders: u64,
    /// Payment requests that reached the gateway's door.
    pub posts: u64,
    /// Runs of a plan without faults: card payments PAID of all that the gateway decided.
    pub clean_paid: u64,
    /// See [`Counts::clean_paid`].
    pub clean_decided: u64,
    /// Cards charged at the gateway, by final state of their payment.
    pub paid: u64,
    /// Payments FAILED.
    pub failed: u64,
    /// Rows of the discrepancy ledger.
    pub discrepancies: u64,
}

/// One run.
pub struct World {
    /// What it is.
    pub plan: Plan,
    /// The database.
    pub database: FakeDatabase,
    /// The gateway.
    pub gateway: Mutex<Gateway>,
    /// What the oracle keeps.
    pub books: Mutex<Books>,
    /// What struck.
    pub counts: Mutex<Counts>,
    /// All programs.
    pub processes: Mutex<Vec<Arc<Process>>>,
    /// Tasks that belong to no program: buyers, the adversary, the network.
    pub tasks: TaskTracker,
    /// Chance that belongs to no fault.
    pub draw: TestEntropy,
    /// The database is away until then.
    pub database_back: Mutex<Instant>,
    began: Instant,
    healed: AtomicBool,
    streams: Vec<TestEntropy>,
    trace: Mutex<Trace>,
}

impl World {
    /// A world before its first step. With `tell` the trace is kept line by line.
    pub fn new(plan: Plan, tell: bool) -> Arc<Self> {
        let began = Instant::now();
        let stream = |at: u64| TestEntropy::new(plan.seed.wrapping_mul(0x9E37_79B9).wrapping_add(at << 32));
        let streams = (1..=Kind::ALL.len() as u64).map(stream).collect();
        Arc::new(Self {
            draw: stream(0),
            streams,
            database: FakeDatabase::new(),
            gateway: Mutex::default(),
            books: Mutex::default(),
            counts: Mutex::default(),
            processes: Mutex::default(),
            tasks: TaskTracker::new(),
            database_back: Mutex::new(began),
            began,
            healed: AtomicBool::new(false),
            trace: Mutex::new(Trace { hash: plan.seed, steps: 0, lines: tell.then(Vec::new) }),
            plan,
        })
    }

    /// Since the run began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// No fault strikes any more.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        *lock(&self.database_back) = Instant::now();
        self.tell(0, "heal", || "all faults end".into());
    }

    /// See [`World::heal`].
    pub fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    /// Long after the faults: nothing new comes, so what is idle may sleep.
    pub fn is_quiet(&self) -> bool {
        self.is_healed() && self.elapsed() > self.plan.workload + Duration::from_secs(3600)
    }

    fn stream(&self, kind: Kind) -> &TestEntropy {
        self.streams.get(kind as usize).unwrap_or(&self.draw)
    }

    /// Chance that belongs to a kind of fault alone.
    pub fn chance(&self, kind: Kind) -> &TestEntropy {
        self.stream(kind)
    }

    /// Whether a fault of this kind strikes here and now, at an order (0: none in particular).
    pub fn strikes(&self, kind: Kind, order: i64) -> bool {
        if self.is_healed() || !self.plan.has(kind) {
            return false;
        }
        let per_mille = (kind.rate() * self.plan.intensity / 100).min(self.plan.most);
        let hit = self.stream(kind).below(1000) < per_mille;
        if hit {
            self.struck(kind, order);
        }
        hit
    }

    /// Notes that a fault struck.
    pub fn struck(&self, kind: Kind, order: i64) {
        *lock(&self.counts).struck.entry(kind).or_default() += 1;
        let order = if order == 0 { flow() } else { order };
        lock(&self.books).fault(order, kind);
        self.tell(order, kind.name(), || format!("FAULT {kind}"));
    }

    /// A line of the trace. `text` is made only when somebody reads it; the hash takes the rest.
    pub fn tell(&self, order: i64, what: &'static str, text: impl FnOnce() -> String) {
        self.note(order, what, false, text);
    }

    /// A line about a single step of a program.
    pub fn tell_step(&self, order: i64, what: &'static str, text: impl FnOnce() -> String) {
        self.note(order, what, true, text);
    }

    fn note(&self, order: i64, what: &'static str, step: bool, text: impl FnOnce() -> String) {
        let at = self.elapsed();
        let mut trace = lock(&self.trace);
        let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        let mut hash = trace.hash ^ micros.rotate_left(17) ^ order.unsigned_abs().rotate_left(41);
        for byte in what.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        trace.hash = hash.rotate_left(5);
        trace.steps += 1;
        if let Some(lines) = &mut trace.lines {
            lines.push(Line { at, order, text: text(), step });
        }
    }

    /// What two runs of a seed have in common.
    pub fn trace_hash(&self) -> u64 {
        let trace = lock(&self.trace);
        trace.hash ^ trace.steps
    }

    /// All lines, when they were kept.
    pub fn lines(&self) -> Vec<Line> {
        lock(&self.trace).lines.clone().unwrap_or_default()
    }

    /// A breach of an invariant.
    pub fn violation(&self, invariant: &'static str, order: i64, text: impl Into<String>) {
        let text = text.into();
        self.tell(order, "violation", || format!("VIOLATION of {invariant}: {text}"));
        lock(&self.books).violation(invariant, order, text);
    }
}

/// The order that the running task is about; 0 when none is known.
pub fn flow() -> i64 {
    FLOW.try_with(|flow| flow.load(Ordering::Relaxed)).unwrap_or_default()
}

/// Names the running flow; only equality means something.
pub fn flow_id() -> usize {
    FLOW.try_with(|flow| Arc::as_ptr(flow).addr()).unwrap_or_default()
}

/// From now on the running task is about this order.
pub fn set_flow(order: i64) {
    let _outside_a_flow = FLOW.try_with(|flow| flow.store(order, Ordering::Relaxed));
}
