//! What all parts of one run share: the plan, virtual time, chance, the trace, and what struck where.
//!
//! Locks are taken one at a time and never over an await; nothing calls the database while it holds one.

use crate::books::Books;
use crate::crash_points::{self, PointIndex};
use crate::draws::Draws;
use crate::flow::{Stage, flow, leading};
use crate::gateway::Gateway;
use crate::kinds::Kind;
use crate::oracle::Queues;
use crate::plan::Plan;
use crate::process::Process;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use test_support::{FakeDatabase, Site, TestEntropy};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// What every order's requests bear; it must never be seen anywhere else.
pub const CANARY_CARD: &str = "9273-5518-6402-7719";

/// The most deaths at the point that a run is about: enough to meet it, few enough to leave the run its depth.
const AIMED_DEATHS: u64 = 3;

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

/// What befell programs at a crash point.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Steps there while faults could strike.
    pub hits: u64,
    /// Programs that died at one.
    pub deaths: u64,
}

/// What is done in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Batch {
    /// Orders are placed.
    Place,
    /// Payments are started.
    Start,
    /// What was learned about payments is stored.
    Settle,
    /// Callbacks are written down.
    Note,
}

impl Batch {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Place, Self::Start, Self::Settle, Self::Note];

    /// Its label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Start => "start",
            Self::Settle => "settle",
            Self::Note => "note",
        }
    }
}

/// The batches of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchTally {
    /// Batches.
    pub batches: u64,
    /// Members of all of them.
    pub members: u64,
    /// Batches of more than one.
    pub several: u64,
    /// Of these, so many could not be stored and were done one by one.
    pub failed: u64,
    /// The largest.
    pub largest: u64,
}

impl BatchTally {
    fn add(&mut self, one: &Self) {
        self.batches += one.batches;
        self.members += one.members;
        self.several += one.several;
        self.failed += one.failed;
        self.largest = self.largest.max(one.largest);
    }
}

/// How often what struck.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Faults by kind.
    pub struck: BTreeMap<Kind, u64>,
    /// Deaths of processes by site.
    pub crashes: BTreeMap<Site, u64>,
    /// By place in [`crash_points::CRASH_POINTS`].
    pub points: [Tally; crash_points::COUNT],
    /// Steps that no crash point has.
    pub unknown: BTreeSet<(Stage, Site)>,
    /// What was done in batches, by [`Batch::ALL`].
    pub batches: [BatchTally; 4],
    /// Deaths of a process, or of the task alone, in the middle of a batch of several.
    pub deaths_in_batches: u64,
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

impl Counts {
    /// Adds what befell another run.
    pub fn add(&mut self, one: &Self) {
        for (kind, count) in &one.struck {
            *self.struck.entry(*kind).or_default() += count;
        }
        for (site, count) in &one.crashes {
            *self.crashes.entry(*site).or_default() += count;
        }
        for (total, one) in self.points.iter_mut().zip(one.points) {
            total.hits += one.hits;
            total.deaths += one.deaths;
        }
        for (total, one) in self.batches.iter_mut().zip(&one.batches) {
            total.add(one);
        }
        self.deaths_in_batches += one.deaths_in_batches;
        self.unknown.extend(one.unknown.iter().copied());
        self.orders += one.orders;
        self.posts += one.posts;
        self.clean_paid += one.clean_paid;
        self.clean_decided += one.clean_decided;
        self.paid += one.paid;
        self.failed += one.failed;
        self.discrepancies += one.discrepancies;
    }
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
    /// Who drew which random number.
    pub draws: Mutex<Draws>,
    /// What is known of the programs' queues.
    pub queues: Mutex<Queues>,
    /// Members of batches that can't be stored, and how often not; an order by its number, a payment by its id.
    pub sick: Mutex<BTreeMap<(u8, u64), u64>>,
    began: Instant,
    healed: AtomicBool,
    streams: Vec<TestEntropy>,
    aimed: AtomicU64,
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
            aimed: AtomicU64::new(0),
            database: FakeDatabase::new(),
            gateway: Mutex::default(),
            books: Mutex::default(),
            counts: Mutex::default(),
            processes: Mutex::default(),
            tasks: TaskTracker::new(),
            database_back: Mutex::new(began),
            draws: Mutex::default(),
            queues: Mutex::default(),
            sick: Mutex::default(),
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

    /// Whether a program dies at a step of this crash point: by chance, or because this run is about the point.
    pub fn dies_at(&self, point: Option<PointIndex>, kind: Kind) -> bool {
        if self.is_healed() || !self.plan.has(kind) {
            return false;
        }
        if self.plan.aim.is_some() && self.plan.aim == point {
            let aimed = self.aimed.load(Ordering::Relaxed);
            if aimed < AIMED_DEATHS && self.stream(kind).percent(50) {
                self.aimed.store(aimed + 1, Ordering::Relaxed);
                self.struck(kind, 0);
                return true;
            }
        }
        self.strikes(kind, 0)
    }

    /// A program comes to a crash point.
    pub fn came_to(&self, point: Option<PointIndex>) {
        let mut counts = lock(&self.counts);
        if let Some(tally) = point.and_then(|point| counts.points.get_mut(point)) {
            tally.hits += 1;
        }
    }

    /// A batch is begun.
    pub fn batch(&self, batch: Batch, members: usize) {
        let members = u64::try_from(members).unwrap_or(u64::MAX);
        if let Some(tally) = lock(&self.counts).batches.get_mut(batch as usize) {
            tally.add(&BatchTally {
                batches: 1,
                members,
                several: u64::from(members > 1),
                failed: 0,
                largest: members,
            });
        }
    }

    /// A batch of several could not be stored.
    pub fn batch_failed(&self, batch: Batch) {
        if let Some(tally) = lock(&self.counts).batches.get_mut(batch as usize) {
            tally.failed += 1;
        }
    }

    /// The running task dies, alone or with its program.
    pub fn task_died(&self) {
        if leading() > 1 {
            lock(&self.counts).deaths_in_batches += 1;
        }
    }

    /// A program dies.
    pub fn died(&self, site: Site, point: Option<PointIndex>) {
        self.task_died();
        let mut counts = lock(&self.counts);
        *counts.crashes.entry(site).or_default() += 1;
        if let Some(tally) = point.and_then(|point| counts.points.get_mut(point)) {
            tally.deaths += 1;
        }
    }

    /// A step that the table of crash points lacks.
    pub fn unknown_step(&self, stage: Stage, site: Site) {
        lock(&self.counts).unknown.insert((stage, site));
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
