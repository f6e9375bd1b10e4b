//! A database in memory that behaves like PostgreSQL as far as the ports can tell.
//!
//! READ COMMITTED: a statement sees what is committed when it starts and what its own transaction wrote; a statement that
//! waited for a row's lock sees that row's newest version, and of everything else the moment before the wait (so here it
//! reads nothing else). Written rows and locked rows are locked until the transaction's end; who comes later waits in
//! order of arrival, at most the lock time-out, and a circle of waiting is a conflict. Constraints, unique indexes and
//! triggers are those of the migrations. A failed statement poisons its transaction. A dropped transaction leaves
//! nothing. The clock is tokio's.
//!
//! An opening is several statements; each is a [`Site`] of its own, and another transaction can come between two of them.
//!
//! Deliberately absent: SQL, isolation levels that nobody uses, deletes (no port deletes).

mod examining;
mod goods;
mod locks;
mod placing;
mod queries;
mod settling;
mod tables;
mod tx;
mod work;

pub use tables::*;

use crate::clock::Clock;
use crate::faults::{Fault, Faults, NoFaults, Site};
use async_trait::async_trait;
use domain::placement::{Placing, PlacingNeeds};
use domain::ports::{CallbackNote, Claim, ClaimOptions, CommitError, Store, StoreError, StoreTx};
use domain::settlement::{Settling, SettlingNeeds};
use domain::{OrderId, PaymentId, Timestamp};
use locks::Locks;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What every fake database calls itself (see [`Placing::installation`]).
pub const INSTALLATION: &str = "simul8";

/// Sees every commit, before it takes effect: `before` is what is there, `changes` the rows that take their place.
pub trait CommitObserver: Send + Sync {
    /// A transaction named `name` commits. Must not use the store.
    fn committing(&self, name: &'static str, before: &Tables, changes: &Tables);
}

/// How a program connects.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionOptions {
    /// Connections at most.
    pub pool_size: usize,
    /// How long one is waited for.
    pub acquire_timeout: Duration,
    /// How long a lock is waited for.
    pub lock_timeout: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self { pool_size: 32, acquire_timeout: Duration::from_secs(2), lock_timeout: Duration::from_secs(1) }
    }
}

#[derive(Debug)]
struct Sequence(AtomicI64);

impl Sequence {
    fn next(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Default)]
struct State {
    tables: Tables,
    locks: Locks,
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    observer: Mutex<Option<Arc<dyn CommitObserver>>>,
    transactions: Sequence,
    products: Sequence,
    coupons: Sequence,
    issued_coupons: Sequence,
    orders: Sequence,
    payments: Sequence,
    discrepancies: Sequence,
    rows: Sequence,
    deadlocks: AtomicI64,
}

impl Shared {
    /// Never held over an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The database: one for all programs of a test.
#[derive(Clone)]
pub struct FakeDatabase(Arc<Shared>);

impl FakeDatabase {
    /// An empty one, whose clock starts now.
    pub fn new() -> Self {
        let from = |first| Sequence(AtomicI64::new(first));
        Self(Arc::new(Shared {
            clock: Clock::start(),
            state: Mutex::default(),
            observer: Mutex::default(),
            transactions: from(1),
            products: from(1),
            coupons: from(1),
            issued_coupons: from(1),
            // As in the migrations: the gateway wants an order id of at least six characters.
            orders: from(100_001),
            payments: from(1),
            discrepancies: from(1),
            rows: from(1),
            deadlocks: AtomicI64::new(0),
        }))
    }

    /// A connection of one program, with its own faults and its own pool.
    pub fn connect(&self, faults: Arc<dyn Faults>, options: ConnectionOptions) -> FakeStore {
        let pool = Arc::new(Semaphore::new(options.pool_size));
        FakeStore { shared: Arc::clone(&self.0), faults, options, pool }
    }

    /// A connection without faults.
    pub fn store(&self) -> FakeStore {
        self.connect(Arc::new(NoFaults), ConnectionOptions::default())
    }

    /// What is committed.
    pub fn read<R>(&self, look: impl FnOnce(&Tables) -> R) -> R {
        look(&self.0.state().tables)
    }

    /// When something is to be examined next, as far as is known now: the simulation skips idle turns by it.
    pub fn next_look(&self) -> Option<Timestamp> {
        self.read(|tables| tables.checks.values().filter_map(domain::settlement::Check::next_at).min())
    }

    /// How many transactions wait for a lock at this moment.
    pub fn waiting(&self) -> usize {
        self.0.state().locks.waiting()
    }

    /// Two or more transactions wait for one and the same.
    pub(crate) fn crowded(&self) -> bool {
        self.0.state().locks.crowded()
    }

    /// Nothing that is there is due any more.
    pub(crate) fn forget_checks(&self) {
        self.0.state().tables.checks.values_mut().for_each(|check| *check = Default::default());
    }

    /// The moment by the database's clock.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Its clock jumps back.
    pub fn turn_clock_back(&self, by: Duration) {
        self.0.clock.turn_back(by);
    }

    /// How many deadlocks were broken (I11: there should be none).
    pub fn deadlocks(&self) -> i64 {
        self.0.deadlocks.load(Ordering::Relaxed)
    }

    /// Shows every commit from now on to `observer`, in place of an earlier one.
    pub fn observe(&self, observer: Arc<dyn CommitObserver>) {
        *self.0.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }
}

impl Default for FakeDatabase {
    fn default() -> Self {
        Self::new()
    }
}

/// A program's connection to a [`FakeDatabase`]: [`Store`] and [`domain::ports::Queries`].
#[derive(Clone)]
pub struct FakeStore {
    shared: Arc<Shared>,
    faults: Arc<dyn Faults>,
    options: ConnectionOptions,
    pool: Arc<Semaphore>,
}

impl FakeStore {
    /// A connection to a new, empty database.
    #[expect(clippy::new_without_default, reason = "a store that opens a database is no default value")]
    pub fn new() -> Self {
        FakeDatabase::new().store()
    }

    /// Its database.
    pub fn database(&self) -> FakeDatabase {
        FakeDatabase(Arc::clone(&self.shared))
    }

    async fn connection(&self) -> Result<tokio::sync::OwnedSemaphorePermit, StoreError> {
        let wait = Arc::clone(&self.pool).acquire_owned();
        match tokio::time::timeout(self.options.acquire_timeout, wait).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(unavailable("a connection")),
        }
    }

    async fn before(&self, site: Site) -> Result<(), StoreError> {
        failed(self.faults.before(site).await, site)
    }

    async fn after(&self, site: Site) -> Result<(), StoreError> {
        failed(self.faults.after(site).await, site)
    }
}

fn failed(fault: Fault, site: Site) -> Result<(), StoreError> {
    match fault {
        Fault::None => Ok(()),
        Fault::Conflict if !site.within.is_empty() => Err(conflict("40001 serialization failure")),
        Fault::Conflict | Fault::Unavailable | Fault::CommitUnknown { .. } => Err(unavailable(site.call)),
    }
}

impl FakeStore {
    async fn open(&self, name: &'static str) -> Result<tx::FakeTx, StoreError> {
        let site = Site { within: name, call: "store.begin" };
        self.before(site).await?;
        let permit = self.connection().await?;
        let tx = tx::FakeTx::open(self.clone(), name, permit);
        self.after(site).await?;
        Ok(tx)
    }
}

/// A transaction of its own ends: whether it was stored is not known when the answer to COMMIT is lost.
async fn ended<T>(tx: tx::FakeTx, value: T) -> Result<T, StoreError> {
    match tx.end().await {
        Ok(()) => Ok(value),
        Err(CommitError::RolledBack(error)) => Err(error),
        Err(CommitError::OutcomeUnknown) => Err(unavailable("tx.commit")),
    }
}

#[async_trait]
impl Store for FakeStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn StoreTx>, StoreError> {
        Ok(Box::new(self.open(name).await?))
    }

    async fn open_placing(&self, orders: &[PlacingNeeds]) -> Result<(Box<dyn StoreTx>, Placing), StoreError> {
        let tx = self.open("place_orders").await?;
        let placing = placing::open(&tx, orders).await?;
        Ok((Box::new(tx), placing))
    }

    async fn open_settling(
        &self,
        payments: &[SettlingNeeds],
    ) -> Result<(Box<dyn StoreTx>, Settling), StoreError> {
        let tx = self.open("settle").await?;
        let settling = settling::open(&tx, payments).await?;
        Ok((Box::new(tx), settling))
    }

    async fn start_payments(&self, payments: &[PaymentId]) -> Result<BTreeSet<PaymentId>, StoreError> {
        let tx = self.open("start_payments").await?;
        let started = examining::start(&tx, payments).await?;
        ended(tx, started).await
    }

    async fn note_callbacks(&self, notes: &[CallbackNote]) -> Result<Vec<Option<PaymentId>>, StoreError> {
        let tx = self.open("note_callbacks").await?;
        let noted = examining::note(&tx, notes).await?;
        ended(tx, noted).await
    }

    async fn claim(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
        let tx = self.open("claim").await?;
        let claims = examining::claim(&tx, options).await?;
        ended(tx, claims).await
    }

    async fn announce_ended(&self, _orders: &[OrderId]) -> Result<(), StoreError> {
        let site = Site::outside("store.announce_ended");
        self.before(site).await?;
        self.after(site).await
    }
}

fn unavailable(what: &str) -> StoreError {
    StoreError::Unavailable { what: what.to_owned() }
}

fn conflict(what: &str) -> StoreError {
    StoreError::Conflict { what: what.to_owned() }
}

fn other(what: &str) -> StoreError {
    StoreError::Other { what: what.to_owned() }
}

fn check(holds: bool, constraint: &str) -> Result<(), StoreError> {
    if holds { Ok(()) } else { Err(other(constraint)) }
}

#[cfg(test)]
mod tests;
