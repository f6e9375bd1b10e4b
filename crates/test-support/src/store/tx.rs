//! One open transaction: statements one after the other, poison, commit.

use super::{FakeStore, Tables, Work, conflict, examining, goods, other, placing, settling, unavailable};
use crate::faults::{Fault, Site};
use async_trait::async_trait;
use domain::ports::{
    Claim, ClaimOptions, CommitError, CouponHolding, IdempotencyClaim, IdempotencyKey, IdempotencyRecord,
    NewDiscrepancy, NewOrderIds, NewPayment, NextCheck, PaymentEvent, PaymentRecord, PointEntry,
    ProductForSale, StockEntry, StoreError, StoreTx, StoredAnswer, Versioned,
};
use domain::{
    Coupon, CouponId, Discount, DiscrepancyId, GatewayKey, IssuedCoupon, IssuedCouponId, Money, Order,
    OrderId, Payment, PaymentId, PointAccount, ProductId, Stock, Timestamp, UserId,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit};

pub(super) struct FakeTx {
    store: FakeStore,
    name: &'static str,
    now: Timestamp,
    /// Statements of one connection run one after the other, in the order they were sent.
    work: Mutex<Work>,
    poisoned: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

/// One statement under way. Dropped unfinished (its future was), it poisons the transaction, as a connection that was
/// left in the middle of a statement is of no more use.
struct Statement<'a> {
    tx: &'a FakeTx,
    site: Site,
    work: MutexGuard<'a, Work>,
    finished: bool,
}

impl Statement<'_> {
    async fn finish<T>(mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
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

    async fn statement(&self, call: &'static str) -> Result<Statement<'_>, StoreError> {
        let site = Site { within: self.name, call };
        let work = self.work.lock().await;
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(other("25P02 the transaction is aborted"));
        }
        let statement = Statement { tx: self, site, work, finished: false };
        self.store.before(site).await?;
        Ok(statement)
    }

    fn store_changes(name: &'static str, mut work: Work) {
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
}

/// Runs `$body` as the statement `$site`.
macro_rules! run {
    ($tx:ident, $site:literal, $module:ident :: $function:ident ( $($argument:expr),* )) => {{
        let mut statement = $tx.statement($site).await?;
        let result = $module::$function(&mut statement.work $(, $argument)*).await;
        statement.finish(result).await
    }};
}

#[async_trait]
impl StoreTx for FakeTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn commit(self: Box<Self>) -> Result<(), CommitError> {
        let this = *self;
        if this.poisoned.load(Ordering::Relaxed) {
            return Err(CommitError::RolledBack(other("25P02 the transaction is aborted")));
        }
        let site = Site { within: this.name, call: "tx.commit" };
        match this.store.faults.before(site).await {
            Fault::None => {}
            Fault::Conflict => {
                return Err(CommitError::RolledBack(conflict("40001 serialization failure")));
            }
            Fault::Unavailable => return Err(CommitError::RolledBack(unavailable("tx.commit"))),
            Fault::CommitUnknown { stored } => {
                if stored {
                    Self::store_changes(this.name, this.work.into_inner());
                }
                return Err(CommitError::OutcomeUnknown);
            }
        }
        Self::store_changes(this.name, this.work.into_inner());
        match this.store.faults.after(site).await {
            Fault::None => Ok(()),
            Fault::Conflict | Fault::Unavailable | Fault::CommitUnknown { .. } => {
                Err(CommitError::OutcomeUnknown)
            }
        }
    }

    async fn rollback(self: Box<Self>) {
        drop(self);
    }

    async fn next_order_ids(&self) -> Result<NewOrderIds, StoreError> {
        run!(self, "tx.next_order_ids", placing::next_order_ids())
    }

    async fn lock_products(&self, ids: &[ProductId]) -> Result<Vec<ProductForSale>, StoreError> {
        run!(self, "tx.lock_products", placing::lock_products(ids))
    }

    async fn move_stock(&self, entries: &[StockEntry]) -> Result<(), StoreError> {
        run!(self, "tx.move_stock", placing::move_stock(entries))
    }

    async fn lock_points(&self, user_id: UserId) -> Result<PointAccount, StoreError> {
        run!(self, "tx.lock_points", placing::lock_points(user_id))
    }

    async fn save_points(&self, entry: &PointEntry) -> Result<(), StoreError> {
        run!(self, "tx.save_points", placing::save_points(entry))
    }

    async fn find_coupon_holding(
        &self,
        id: IssuedCouponId,
    ) -> Result<Option<Versioned<CouponHolding>>, StoreError> {
        run!(self, "tx.find_coupon_holding", placing::find_coupon_holding(id))
    }

    async fn save_issued_coupon(
        &self,
        coupon: &Versioned<IssuedCoupon>,
        payment_id: PaymentId,
    ) -> Result<(), StoreError> {
        run!(self, "tx.save_issued_coupon", placing::save_issued_coupon(coupon, payment_id))
    }

    async fn insert_order(&self, order: &Order) -> Result<(), StoreError> {
        run!(self, "tx.insert_order", placing::insert_order(order))
    }

    async fn insert_payment(&self, payment: &NewPayment, history: &[PaymentEvent]) -> Result<(), StoreError> {
        run!(self, "tx.insert_payment", placing::insert_payment(payment, history))
    }

    async fn claim_idempotency(
        &self,
        claim: &IdempotencyClaim,
    ) -> Result<Option<IdempotencyRecord>, StoreError> {
        run!(self, "tx.claim_idempotency", placing::claim_idempotency(claim))
    }

    async fn save_idempotent_answer(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        run!(self, "tx.save_idempotent_answer", placing::save_idempotent_answer(key, answer))
    }

    async fn lock_payment(&self, id: PaymentId) -> Result<Option<PaymentRecord>, StoreError> {
        run!(self, "tx.lock_payment", settling::lock_payment(id))
    }

    async fn save_payment(
        &self,
        payment: &Versioned<Payment>,
        history: &[PaymentEvent],
    ) -> Result<(), StoreError> {
        run!(self, "tx.save_payment", settling::save_payment(payment, history))
    }

    async fn keys_owned_elsewhere(
        &self,
        payment_id: PaymentId,
        keys: &[GatewayKey],
    ) -> Result<BTreeSet<GatewayKey>, StoreError> {
        run!(self, "tx.keys_owned_elsewhere", settling::keys_owned_elsewhere(payment_id, keys))
    }

    async fn lock_order(&self, id: OrderId) -> Result<Option<Versioned<Order>>, StoreError> {
        run!(self, "tx.lock_order", settling::lock_order(id))
    }

    async fn save_order(&self, order: &Versioned<Order>) -> Result<(), StoreError> {
        run!(self, "tx.save_order", settling::save_order(order))
    }

    async fn record_discrepancy(&self, row: &NewDiscrepancy) -> Result<Option<DiscrepancyId>, StoreError> {
        run!(self, "tx.record_discrepancy", settling::record_discrepancy(row))
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

    async fn find_payment_by_token_hash(&self, hash: &[u8; 32]) -> Result<Option<PaymentId>, StoreError> {
        run!(self, "tx.find_payment_by_token_hash", settling::find_payment_by_token_hash(hash))
    }

    async fn record_callback(&self, payment_id: PaymentId, key: &GatewayKey) -> Result<(), StoreError> {
        run!(self, "tx.record_callback", examining::record_callback(payment_id, key))
    }

    async fn wake(&self, payment_id: PaymentId) -> Result<(), StoreError> {
        run!(self, "tx.wake", examining::wake(payment_id))
    }

    async fn claim_due(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
        run!(self, "tx.claim_due", examining::claim_due(options))
    }

    async fn claim_payment(
        &self,
        id: PaymentId,
        lease: Duration,
        min_interval: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        run!(self, "tx.claim_payment", examining::claim_payment(id, lease, min_interval))
    }

    async fn finish_claim(
        &self,
        claim: &Claim,
        next: &NextCheck,
        hints_done: bool,
    ) -> Result<bool, StoreError> {
        run!(self, "tx.finish_claim", examining::finish_claim(claim, next, hints_done))
    }

    async fn park(&self, claim: &Claim) -> Result<(), StoreError> {
        run!(self, "tx.park", examining::park(claim))
    }

    async fn want_watch(&self, payment_id: PaymentId) -> Result<(), StoreError> {
        run!(self, "tx.want_watch", examining::want_watch(payment_id))
    }

    async fn schedule_watch(
        &self,
        payment_id: PaymentId,
        next: Option<(u32, Duration)>,
    ) -> Result<(), StoreError> {
        run!(self, "tx.schedule_watch", examining::schedule_watch(payment_id, next))
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
        run!(self, "tx.find_coupon", goods::find_coupon(id))
    }

    async fn insert_issued_coupon(
        &self,
        coupon_id: CouponId,
        user_id: UserId,
    ) -> Result<Option<IssuedCoupon>, StoreError> {
        run!(self, "tx.insert_issued_coupon", goods::insert_issued_coupon(coupon_id, user_id))
    }
}
