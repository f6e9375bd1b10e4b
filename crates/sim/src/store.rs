//! The database as one program sees it: every batch passes here on its way. Who belongs to it is told how far it has come,
//! how large it is is counted, and what it is about to store is held against what it loaded ([`oracle`]).

use crate::draws::{self, Life};
use crate::flow::{self, Flow, Stage};
use crate::kinds::Kind;
use crate::oracle;
use crate::world::{Batch, World, lock};
use async_trait::async_trait;
use domain::placement::{NewOrder, Placing, PlacingNeeds};
use domain::ports::{
    CallbackNote, Claim, ClaimOptions, CommitError, IdempotencyKey, PointEntry, Store, StoreError, StoreTx,
    StoredAnswer,
};
use domain::settlement::{Changes, Settling, SettlingNeeds};
use domain::{
    Coupon, CouponId, Discount, DiscrepancyId, IssuedCoupon, Money, OrderId, PaymentId, PointAccount,
    ProductId, Stock, Timestamp, UserId,
};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, Weak};
use test_support::FakeStore;
use tokio::time::Instant;

/// One life of a program's connection to the database.
pub struct WatchedStore {
    inner: FakeStore,
    world: Weak<World>,
    life: Life,
}

impl WatchedStore {
    /// Around `inner`.
    pub const fn new(inner: FakeStore, world: Weak<World>, life: Life) -> Self {
        Self { inner, world, life }
    }

    fn begins(&self, batch: Batch, members: usize) -> Leading {
        if let Some(world) = self.world.upgrade() {
            world.batch(batch, members);
        }
        let flow = flow::current();
        if let Some(flow) = &flow {
            flow.leads(members);
        }
        Leading { flow, world: Weak::clone(&self.world), members, batch, life: self.life }
    }
}

/// The running task leads a batch, until this is dropped.
struct Leading {
    flow: Option<Arc<Flow>>,
    world: Weak<World>,
    batch: Batch,
    members: usize,
    life: Life,
}

impl Leading {
    /// It could not be stored: if it has several members they are done one by one.
    fn failed(&self) {
        if let Some(world) = self.world.upgrade()
            && self.members > 1
        {
            world.batch_failed(self.batch);
            if self.batch == Batch::Place {
                let drawn = lock(&world.draws).count();
                lock(&world.queues).failed(self.life, drawn);
            }
        }
    }

    fn noted<T, E: Display>(&self, result: Result<T, E>) -> Result<T, E> {
        if let (Err(error), Some(world)) = (&result, self.world.upgrade()) {
            world.tell(flow::flow(), "batch", || {
                format!("a batch of {} ({}) can't be stored: {error}", self.members, self.batch.name())
            });
            self.failed();
        }
        result
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        if let Some(flow) = &self.flow {
            flow.leads(0);
        }
    }
}

#[async_trait]
impl Store for WatchedStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn StoreTx>, StoreError> {
        self.inner.begin(name).await
    }

    async fn open_placing(&self, orders: &[PlacingNeeds]) -> Result<(Box<dyn StoreTx>, Placing), StoreError> {
        let leading = self.begins(Batch::Place, orders.len());
        let opened = Instant::now();
        let (inner, placing) = leading.noted(self.inner.open_placing(orders).await)?;
        let loaded = Loaded::Placing { placing: placing.clone(), opened };
        Ok((WatchedTx::over(inner, leading, loaded), placing))
    }

    async fn open_settling(
        &self,
        payments: &[SettlingNeeds],
    ) -> Result<(Box<dyn StoreTx>, Settling), StoreError> {
        let leading = self.begins(Batch::Settle, payments.len());
        let (inner, settling) = leading.noted(self.inner.open_settling(payments).await)?;
        let loaded = Loaded::Settling(settling.clone());
        Ok((WatchedTx::over(inner, leading, loaded), settling))
    }

    async fn start_payments(&self, payments: &[PaymentId]) -> Result<BTreeSet<PaymentId>, StoreError> {
        let leading = self.begins(Batch::Start, payments.len());
        leading.noted(self.inner.start_payments(payments).await)
    }

    async fn note_callbacks(&self, notes: &[CallbackNote]) -> Result<Vec<Option<PaymentId>>, StoreError> {
        let leading = self.begins(Batch::Note, notes.len());
        leading.noted(self.inner.note_callbacks(notes).await)
    }

    async fn claim(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
        let claims = self.inner.claim(options).await;
        if let Some(world) = self.world.upgrade() {
            lock(&world.books).turns.remove(&self.life);
        }
        claims
    }

    async fn announce_ended(&self, orders: &[OrderId]) -> Result<(), StoreError> {
        self.inner.announce_ended(orders).await
    }
}

/// What a transaction was opened with.
enum Loaded {
    Placing { placing: Placing, opened: Instant },
    Settling(Settling),
}

/// The transaction of a batch.
struct WatchedTx {
    inner: Box<dyn StoreTx>,
    leading: Leading,
    loaded: Loaded,
    /// The tasks of the orders that it stores.
    members: Mutex<Vec<Arc<Flow>>>,
}

impl WatchedTx {
    fn over(inner: Box<dyn StoreTx>, leading: Leading, loaded: Loaded) -> Box<dyn StoreTx> {
        Box::new(Self { inner, leading, loaded, members: Mutex::default() })
    }

    fn come_to(&self, stage: Stage) {
        for flow in &*lock(&self.members) {
            flow.come_to(stage);
        }
    }

    /// Some member's row can't be stored, again and again.
    fn is_sick(&self, world: &World, id: (u8, u64), order: i64, flow: Option<&Arc<Flow>>) -> bool {
        if world.is_healed() || !world.plan.has(Kind::BadMember) {
            return false;
        }
        if !lock(&world.sick).contains_key(&id) && world.strikes(Kind::BadMember, order) {
            let failures = 2 + world.chance(Kind::BadMember).below(4);
            lock(&world.sick).insert(id, failures);
        }
        let mut sick = lock(&world.sick);
        let Some(failures) = sick.get_mut(&id).filter(|failures| **failures > 0) else { return false };
        *failures -= 1;
        if let Some(flow) = flow {
            flow.is_sick();
        }
        true
    }
}

fn refused() -> StoreError {
    StoreError::Other { what: "22001 value too long".to_owned() }
}

#[async_trait]
impl StoreTx for WatchedTx {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    async fn commit(self: Box<Self>) -> Result<(), CommitError> {
        self.come_to(Stage::FirstCommitSent);
        let Self { inner, leading, members, .. } = *self;
        let result = leading.noted(inner.commit().await);
        let stage = match &result {
            Ok(()) => Stage::Placed,
            Err(CommitError::RolledBack(_)) => Stage::Ordering,
            // Whoever goes on now asks what became of it.
            Err(CommitError::OutcomeUnknown) => return result,
        };
        for flow in &*lock(&members) {
            flow.come_to(stage);
        }
        result
    }

    async fn rollback(self: Box<Self>) {
        self.inner.rollback().await;
    }

    async fn store_orders(&self, orders: &[NewOrder]) -> Result<(), StoreError> {
        if let (Some(world), Loaded::Placing { placing, opened }) =
            (self.leading.world.upgrade(), &self.loaded)
        {
            oracle::fits_placing(&world, placing, orders);
            let numbers: Vec<u64> =
                orders.iter().filter_map(|new| draws::of_reference(&new.record.order_ref)).collect();
            oracle::in_order_of_arrival(&world, self.leading.life, *opened, &numbers);
            let mut sick = false;
            for number in numbers {
                let flow = lock(&world.draws).get(number).and_then(|draw| draw.flow.clone());
                sick |= self.is_sick(&world, (0, number), 0, flow.as_ref());
                lock(&self.members).extend(flow);
            }
            if sick {
                return self.leading.noted(Err(refused()));
            }
        }
        self.leading.noted(self.inner.store_orders(orders).await)
    }

    async fn store_changes(&self, changes: &[Changes]) -> Result<(), StoreError> {
        if let (Some(world), Loaded::Settling(settling)) = (self.leading.world.upgrade(), &self.loaded) {
            oracle::fits_settling(&world, settling, changes);
            if let Some(flow) = &self.leading.flow
                && changes.iter().any(|change| !change.discrepancies.is_empty())
            {
                flow.records();
            }
            let sick = |change: &Changes| {
                let id = (1, change.payment_id.get().unsigned_abs());
                self.is_sick(&world, id, change.order_id.get(), None)
            };
            // Each is asked, so that the same ones are sick whoever is beside them.
            if changes.iter().filter(|change| sick(change)).count() > 0 {
                return self.leading.noted(Err(refused()));
            }
        }
        self.leading.noted(self.inner.store_changes(changes).await)
    }

    async fn save_idempotent_answer(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        self.inner.save_idempotent_answer(key, answer).await
    }

    async fn lock_points(&self, user_id: UserId) -> Result<PointAccount, StoreError> {
        self.inner.lock_points(user_id).await
    }

    async fn save_points(&self, entry: &PointEntry) -> Result<(), StoreError> {
        self.inner.save_points(entry).await
    }

    async fn insert_product(&self, name: &str, price: Money, stock: Stock) -> Result<ProductId, StoreError> {
        self.inner.insert_product(name, price, stock).await
    }

    async fn set_stock(&self, id: ProductId, stock: Stock) -> Result<bool, StoreError> {
        self.inner.set_stock(id, stock).await
    }

    async fn insert_coupon(
        &self,
        name: &str,
        discount: Discount,
        valid_until: Option<Timestamp>,
    ) -> Result<Coupon, StoreError> {
        self.inner.insert_coupon(name, discount, valid_until).await
    }

    async fn find_coupon(&self, id: CouponId) -> Result<Option<Coupon>, StoreError> {
        self.inner.find_coupon(id).await
    }

    async fn insert_issued_coupon(
        &self,
        coupon_id: CouponId,
        user_id: UserId,
    ) -> Result<Option<IssuedCoupon>, StoreError> {
        self.inner.insert_issued_coupon(coupon_id, user_id).await
    }

    async fn resolve_discrepancy(
        &self,
        id: DiscrepancyId,
        resolution: &str,
        note: &str,
        actor: &str,
    ) -> Result<Option<bool>, StoreError> {
        self.inner.resolve_discrepancy(id, resolution, note, actor).await
    }
}
