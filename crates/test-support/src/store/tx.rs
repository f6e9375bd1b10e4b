//! One open transaction: statements one after the other, poison, commit.

use super::work::{View, Work};
use super::{FakeStore, Tables, conflict, goods, other, placing, settling, unavailable};
use crate::faults::{Fault, Site};
use async_trait::async_trait;
use domain::placement::NewOrder;
use domain::ports::{CommitError, IdempotencyKey, PointEntry, StoreError, StoreTx, StoredAnswer};
use domain::settlement::Changes;
use domain::{
    Coupon, CouponId, Discount, DiscrepancyId, IssuedCoupon, Money, PointAccount, ProductId, Stock,
    Timestamp, UserId,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit};

pub(super) struct FakeTx {
    pub(super) store: FakeStore,
    name: &'static str,
    now: Timestamp,
    /// Statements of one connection run one after the other, in the order they were sent.
    work: Mutex<Work>,
    poisoned: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

/// One statement under way. Dropped unfinished (its future was), it poisons the transaction, as a connection that was
/// left in the middle of a statement is of no more use.
pub(super) struct Statement<'a> {
    tx: &'a FakeTx,
    site: Site,
    pub(super) work: MutexGuard<'a, Work>,
    finished: bool,
}

impl Statement<'_> {
    pub(super) async fn finish<T>(mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            // The database takes a transaction back as soon as a statement fails.
            self.work.abort();
        }
        let value = result?;
        self.tx.store.after(self.site).await?;
        self.finished = true;
        Ok(value)
    }
}

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.tx.poisoned.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs `$body` as the statement `$site`.
macro_rules! run {
    ($tx:expr, $site:literal, $module:ident :: $function:ident ( $($argument:expr),* $(,)? )) => {{
        let mut statement = $tx.statement($site).await?;
        let result = $module::$function(&mut statement.work $(, $argument)*).await;
        statement.finish(result).await
    }};
}
pub(super) use run;

impl FakeTx {
    pub(super) fn open(store: FakeStore, name: &'static str, permit: OwnedSemaphorePermit) -> Self {
        let now = store.shared.clock.now();
        let work = Work {
            shared: Arc::clone(&store.shared),
            id: store.shared.transactions.next().unsigned_abs(),
            now,
            lock_timeout: store.options.lock_timeout,
            changes: Tables::default(),
        };
        let work = Mutex::new(work);
        Self { store, name, now, work, poisoned: AtomicBool::new(false), _permit: permit }
    }

    pub(super) const fn moment(&self) -> Timestamp {
        self.now
    }

    pub(super) async fn statement(&self, call: &'static str) -> Result<Statement<'_>, StoreError> {
        let site = Site { within: self.name, call };
        let work = self.work.lock().await;
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(other("25P02 the transaction is aborted"));
        }
        let statement = Statement { tx: self, site, work, finished: false };
        self.store.before(site).await?;
        Ok(statement)
    }

    /// A statement that neither waits nor changes anything.
    pub(super) async fn load<T: Send>(
        &self,
        call: &'static str,
        look: impl FnOnce(View<'_>) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let statement = self.statement(call).await?;
        let result = statement.work.view(look);
        statement.finish(result).await
    }

    /// A statement that never waits.
    pub(super) async fn work<T: Send>(
        &self,
        call: &'static str,
        change: impl FnOnce(&mut Work) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let mut statement = self.statement(call).await?;
        let result = change(&mut statement.work);
        statement.finish(result).await
    }

    fn publish(name: &'static str, mut work: Work) {
        let changes = std::mem::take(&mut work.changes);
        let observer = work.shared.observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut state = work.shared.state();
        if let Some(observer) = observer {
            observer.committing(name, &state.tables, &changes);
        }
        state.tables.apply(changes);
        // Locks are freed when `work` is dropped, after the changes are visible.
        drop(state);
    }

    pub(super) async fn end(self) -> Result<(), CommitError> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(CommitError::RolledBack(other("25P02 the transaction is aborted")));
        }
        let site = Site { within: self.name, call: "tx.commit" };
        match self.store.faults.before(site).await {
            Fault::None => {}
            Fault::Conflict => {
                return Err(CommitError::RolledBack(conflict("40001 serialization failure")));
            }
            Fault::Unavailable => return Err(CommitError::RolledBack(unavailable("tx.commit"))),
            Fault::CommitUnknown { stored } => {
                if stored {
                    Self::publish(self.name, self.work.into_inner());
                }
                return Err(CommitError::OutcomeUnknown);
            }
        }
        Self::publish(self.name, self.work.into_inner());
        match self.store.faults.after(site).await {
            Fault::None => Ok(()),
            Fault::Conflict | Fault::Unavailable | Fault::CommitUnknown { .. } => {
                Err(CommitError::OutcomeUnknown)
            }
        }
    }
}

#[async_trait]
impl StoreTx for FakeTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn commit(self: Box<Self>) -> Result<(), CommitError> {
        self.end().await
    }

    async fn rollback(self: Box<Self>) {
        drop(self);
    }

    async fn store_orders(&self, orders: &[NewOrder]) -> Result<(), StoreError> {
        placing::store(self, orders).await
    }

    async fn store_changes(&self, changes: &[Changes]) -> Result<(), StoreError> {
        settling::store(self, changes).await
    }

    async fn save_idempotent_answer(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        run!(self, "tx.save_idempotent_answer", placing::save_answer(key, answer))
    }

    async fn lock_points(&self, user_id: UserId) -> Result<PointAccount, StoreError> {
        run!(self, "tx.lock_points", goods::lock_points(user_id))
    }

    async fn save_points(&self, entry: &PointEntry) -> Result<(), StoreError> {
        run!(self, "tx.save_points", goods::save_points(&[*entry]))
    }

    async fn insert_product(&self, name: &str, price: Money, stock: Stock) -> Result<ProductId, StoreError> {
        run!(self, "tx.insert_product", goods::insert_product(name, price, stock))
    }

    async fn set_stock(&self, id: ProductId, stock: Stock) -> Result<bool, StoreError> {
        run!(self, "tx.set_stock", goods::set_stock(id, stock))
    }

    async fn insert_coupon(
        &self,
        name: &str,
        discount: Discount,
        valid_until: Option<Timestamp>,
    ) -> Result<Coupon, StoreError> {
        run!(self, "tx.insert_coupon", goods::insert_coupon(name, discount, valid_until))
    }

    async fn find_coupon(&self, id: CouponId) -> Result<Option<Coupon>, StoreError> {
        self.load("tx.find_coupon", |view| Ok(view.get(|tables| &tables.coupons, &id).cloned())).await
    }

    async fn insert_issued_coupon(
        &self,
        coupon_id: CouponId,
        user_id: UserId,
    ) -> Result<Option<IssuedCoupon>, StoreError> {
        run!(self, "tx.insert_issued_coupon", goods::insert_issued_coupon(coupon_id, user_id))
    }

    async fn resolve_discrepancy(
        &self,
        id: DiscrepancyId,
        resolution: &str,
        note: &str,
        actor: &str,
    ) -> Result<Option<bool>, StoreError> {
        run!(self, "tx.resolve_discrepancy", settling::resolve_discrepancy(id, resolution, note, actor))
    }
}
