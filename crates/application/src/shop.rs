//! A shop on the in-memory store, for the tests of single batches: what is in a batch is in the test's hand here.

use crate::batch::Work;
use crate::place_order::{Idempotency, NewcomerOrder, PlaceOrder, PlaceOrders, PlacedInBatch, StartPayments};
use crate::settle::{EndedOrders, Fact, Lesson, SettlePayments, SettledInBatch};
use crate::{Policy, place_order::PlaceOrderOutcome};
use async_trait::async_trait;
use domain::placement::OrderLines;
use domain::ports::{
    CallbackNote, Cause, Claim, ClaimOptions, Due, OrderView, Store, StoreError, StoredAnswer,
};
use domain::settlement::{Transaction, TransactionStatus};
use domain::{
    CardType, Discount, GatewayKey, IssuedCouponId, MerchantId, Money, OrderStatus, PaymentId, PaymentStatus,
    ProductId, Quantity, Stock, UserId,
};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::{CommitObserver, ConnectionOptions, FakeDatabase, Fault, Faults, NoFaults, Site};
use tokio::time::Instant;

pub(crate) const PRICE: i64 = 1000;

pub(crate) fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

pub(crate) fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub(crate) fn key(text: &str) -> GatewayKey {
    GatewayKey::new(text).unwrap()
}

/// A database with one product.
pub(crate) struct Shop {
    pub(crate) database: FakeDatabase,
    pub(crate) product: ProductId,
    pub(crate) policy: Policy,
    commits: Arc<Commits>,
    drawn: AtomicU8,
}

/// The names of all commits, with how many orders and payments each stored.
#[derive(Default)]
struct Commits(Mutex<Vec<(&'static str, usize)>>);

impl CommitObserver for Commits {
    fn committing(
        &self,
        name: &'static str,
        _: &test_support::store::Tables,
        changes: &test_support::store::Tables,
    ) {
        self.0.lock().unwrap().push((name, changes.payments.len()));
    }
}

/// The first calls of one step meet a fault.
pub(crate) struct Strike {
    pub(crate) site: Site,
    pub(crate) fault: Fault,
    pub(crate) times: AtomicU8,
}

impl Strike {
    pub(crate) fn new(within: &'static str, call: &'static str, times: u8, fault: Fault) -> Arc<Self> {
        Arc::new(Self { site: Site { within, call }, fault, times: AtomicU8::new(times) })
    }

    /// Each has met its fault.
    pub(crate) fn is_over(&self) -> bool {
        self.times.load(Ordering::Relaxed) == 0
    }
}

#[async_trait]
impl Faults for Strike {
    async fn before(&self, site: Site) -> Fault {
        let take = |left: u8| left.checked_sub(1);
        let struck =
            site == self.site && self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if struck { self.fault } else { Fault::None }
    }
}

impl Shop {
    pub(crate) async fn new(pieces: i64) -> Self {
        let database = FakeDatabase::new();
        let tx = database.store().begin("shop").await.unwrap();
        let product = tx.insert_product("p", won(PRICE), Stock::new(pieces).unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        let commits = Arc::new(Commits::default());
        database.observe(Arc::clone(&commits) as _);
        let policy = Policy::new(MerchantId::new("shop").unwrap(), "http://localhost:8080");
        Self { database, product, policy, commits, drawn: AtomicU8::new(0) }
    }

    pub(crate) async fn product(&self, price: i64, pieces: i64) -> ProductId {
        let tx = self.database.store().begin("shop").await.unwrap();
        let product = tx.insert_product("q", won(price), Stock::new(pieces).unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        product
    }

    pub(crate) async fn give_points(&self, buyer: UserId, amount: i64) {
        let tx = self.database.store().begin("shop").await.unwrap();
        let account = tx.lock_points(buyer).await.unwrap().charge(won(amount)).unwrap();
        let kind = domain::ports::PointEntryKind::Charge;
        let entry = domain::ports::PointEntry { account, kind, amount: won(amount), payment_id: None };
        tx.save_points(&entry).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// 300 won off, until then.
    pub(crate) async fn give_coupon(
        &self,
        buyer: UserId,
        until: Option<domain::Timestamp>,
    ) -> IssuedCouponId {
        let tx = self.database.store().begin("shop").await.unwrap();
        let coupon = tx.insert_coupon("c", Discount::fixed(won(300)).unwrap(), until).await.unwrap();
        let issued = tx.insert_issued_coupon(coupon.id, buyer).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        issued.id
    }

    pub(crate) fn stock(&self, product: ProductId) -> i64 {
        self.database.read(|tables| tables.stock[&product].quantity())
    }

    pub(crate) fn points(&self, buyer: UserId) -> i64 {
        self.database.read(|tables| tables.points[&buyer].won())
    }

    pub(crate) fn status(&self, id: PaymentId) -> (PaymentStatus, OrderStatus) {
        self.database.read(|tables| {
            let payment = &tables.payments[&id].record.payment;
            (payment.status(), tables.orders[&payment.order_id()].order.status())
        })
    }

    /// The commits named `name`, by how many payments each stored.
    pub(crate) fn commits(&self, name: &'static str) -> Vec<usize> {
        let commits = self.commits.0.lock().unwrap();
        commits.iter().filter(|(named, _)| *named == name).map(|(_, payments)| *payments).collect()
    }

    fn store(&self, faults: Arc<dyn Faults>) -> Arc<dyn Store> {
        Arc::new(self.database.connect(faults, ConnectionOptions::default()))
    }

    // ---- placing

    /// So many pieces by card.
    pub(crate) fn order(&self, buyer: UserId, pieces: i64) -> PlaceOrder {
        PlaceOrder {
            user_id: buyer,
            lines: OrderLines::new([(self.product, Quantity::new(pieces).unwrap())]).unwrap(),
            use_point: Money::ZERO,
            issued_coupon_id: None,
            card: Some((CardType::Kb, "1234-5678-9814-1451".parse().unwrap())),
            idempotency: None,
            placed: None,
        }
    }

    pub(crate) fn member(&self, command: PlaceOrder) -> NewcomerOrder {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        NewcomerOrder {
            command: Arc::new(command),
            merchant: self.policy.merchant.clone(),
            token_hash: [drawn; 32],
            random: [drawn; 8],
            retention: self.policy.idempotency_retention,
            deadline: Instant::now() + self.policy.deadline,
        }
    }

    /// One batch, in one transaction.
    pub(crate) async fn place(
        &self,
        commands: impl IntoIterator<Item = PlaceOrder>,
    ) -> Result<Vec<PlacedInBatch>, StoreError> {
        let members = commands.into_iter().map(|command| self.member(command)).collect();
        self.place_with(members, Arc::new(NoFaults)).await
    }

    pub(crate) async fn place_with(
        &self,
        members: Vec<NewcomerOrder>,
        faults: Arc<dyn Faults>,
    ) -> Result<Vec<PlacedInBatch>, StoreError> {
        PlaceOrders { store: self.store(faults), min_age: self.policy.rules.min_age }.run(&members).await
    }

    /// Placed, started, and past its send deadline: anybody may settle it.
    pub(crate) async fn sent(&self, commands: impl IntoIterator<Item = PlaceOrder>) -> Vec<OrderView> {
        let placed = self.place(commands).await.unwrap().into_iter().map(|placed| match placed {
            PlacedInBatch::Placed(order) => *order,
            _ => panic!("not placed"),
        });
        let placed: Vec<OrderView> = placed.collect();
        let ids: Vec<PaymentId> = placed.iter().map(|order| order.payment.payment.id()).collect();
        let starting = StartPayments { store: self.store(Arc::new(NoFaults)) };
        assert_eq!(starting.run(&ids).await.unwrap(), vec![Some(true); ids.len()]);
        tokio::time::sleep(self.policy.deadline).await;
        placed
    }

    // ---- settling

    pub(crate) fn settling(&self, faults: Arc<dyn Faults>, ended: EndedOrders) -> SettlePayments {
        SettlePayments { store: self.store(faults), rules: self.policy.rules.clone(), ended }
    }

    /// One batch.
    pub(crate) async fn settle(
        &self,
        lessons: impl IntoIterator<Item = Lesson>,
    ) -> Result<Vec<SettledInBatch>, StoreError> {
        let lessons: Vec<Lesson> = lessons.into_iter().collect();
        self.settling(Arc::new(NoFaults), EndedOrders::default()).run(&lessons).await
    }

    pub(crate) async fn claim(&self, order: &OrderView, lease_id: i64) -> Claim {
        let due = Due::One { payment_id: order.payment.payment.id(), min_interval: Duration::ZERO };
        let options = ClaimOptions { due, limit: 1, lease_id, lease: self.policy.lease, due_by: None };
        self.store(Arc::new(NoFaults)).claim(&options).await.unwrap().remove(0)
    }

    /// A callback names a key.
    pub(crate) async fn callback(&self, order: &OrderView, named: &GatewayKey) {
        let id = order.payment.payment.id();
        let token_hash = self.database.read(|tables| tables.payments[&id].callback_token_hash.unwrap());
        let note = CallbackNote::Named { token_hash, key: named.clone() };
        let noted = self.store(Arc::new(NoFaults)).note_callbacks(&[note]).await;
        assert_eq!(noted, Ok(vec![Some(id)]));
    }
}

pub(crate) fn lesson(order: &OrderView, fact: Fact, cause: Cause) -> Lesson {
    Lesson { payment_id: order.payment.payment.id(), fact: Arc::new(fact), cause, answer: None }
}

/// A transaction of this order over all that is on its card.
pub(crate) fn transaction(order: &OrderView, named: &str, status: TransactionStatus) -> Transaction {
    let record = &order.payment;
    Transaction {
        key: key(named),
        order_ref: record.order_ref.clone(),
        amount: record.payment.amounts().paid_amount(),
        status,
        reason: None,
        made_before: None,
    }
}

/// A key, what was asked with it, and answers that say what became of the order.
pub(crate) fn keyed(key: &str, content: u8) -> Option<Idempotency> {
    Some(Idempotency {
        key: key.to_owned(),
        fingerprint: [content; 32],
        render: Arc::new(|outcome| {
            let PlaceOrderOutcome::Paid(order) = outcome else { panic!("{outcome:?}") };
            StoredAnswer { status: 201, body: format!("order {} is paid", order.order.id()) }
        }),
    })
}
