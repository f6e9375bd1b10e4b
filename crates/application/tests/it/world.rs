//! A shop with one product, one buyer with points and a coupon, and what tests do with it.

use crate::faults::slow;
use crate::gateway::TestGateway;
use crate::oracle;
use application::place_order::PlaceOrderOutcome;
use application::reconcile::Turn;
use application::{
    Adapters, Application, CallbackTokens, Idempotency, PlaceOrder, PlaceOrderError, Policy, Synced,
};
use domain::placement::OrderLines;
use domain::ports::{Cause, OrderView, PaymentRecord, Queries, Store, StoredAnswer};
use domain::settlement::DiscrepancyKind;
use domain::{
    CardType, Discount, GatewayKey, GatewayOrderRef, IssuedCouponId, IssuedCouponStatus, MerchantId, Money,
    OrderId, OrderStatus, PaymentId, PaymentStatus, ProductId, Quantity, Stock, UserId,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::store::Tables;
use test_support::{
    CommitObserver, ConnectionOptions, FakeDatabase, FakeStore, Faults, NoFaults, TestEntropy,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub(crate) const STOCK: i64 = 10;
pub(crate) const POINTS: i64 = 5000;
pub(crate) const PRICE: i64 = 10_000;
/// What the usual order takes: two pieces, 1000 points, 10 % off.
pub(crate) const ON_CARD: i64 = 17_000;

pub(crate) fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn buyer() -> UserId {
    UserId::new(1).unwrap()
}

/// The names of all commits, with how many payments each stored (or woke, or claimed).
#[derive(Default)]
struct Commits(Mutex<Vec<(&'static str, usize)>>);

impl CommitObserver for Commits {
    fn committing(&self, name: &'static str, _: &Tables, changes: &Tables) {
        let payments = changes.payments.len().max(changes.checks.len());
        self.0.lock().unwrap().push((name, payments));
    }
}

/// Each place that a command may come from has its own faults; the database and the gateway are one.
pub(crate) struct World {
    pub(crate) database: FakeDatabase,
    pub(crate) gateway: Arc<TestGateway>,
    pub(crate) app: Application,
    pub(crate) policy: Policy,
    pub(crate) product: ProductId,
    pub(crate) coupon: IssuedCouponId,
    entropy: Arc<TestEntropy>,
    tokens: CallbackTokens,
    commits: Arc<Commits>,
    /// `app` takes up callbacks for as long as the world stands.
    _until_dropped: DropGuard,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let database = FakeDatabase::new();
        let gateway = Arc::new(TestGateway::new(database.clone(), Arc::new(NoFaults)));
        Self::over(database, gateway, 7, change).await
    }

    /// Another shop with a database of its own, at the same gateway and with the same merchant id.
    pub(crate) async fn rival(&self) -> Self {
        let database = FakeDatabase::new();
        self.gateway.serve(database.clone());
        Self::over(database, Arc::clone(&self.gateway), 8, |_| {}).await
    }

    async fn over(
        database: FakeDatabase,
        gateway: Arc<TestGateway>,
        seed: u64,
        change: impl FnOnce(&mut Policy),
    ) -> Self {
        let mut policy = Policy::new(MerchantId::new("shop").unwrap(), "http://localhost:8080");
        change(&mut policy);
        let entropy = Arc::new(TestEntropy::new(seed));
        let tokens = CallbackTokens::new(b"secret").unwrap();
        let adapters = adapters(&database, &gateway, &entropy, Arc::new(NoFaults));
        let app = Application::new(adapters, policy.clone(), tokens.clone());
        let product = app.create_product("p", won(PRICE), Stock::new(STOCK).unwrap()).await.unwrap();
        app.charge_points(buyer(), won(POINTS)).await.unwrap();
        let coupon = app.create_coupon("c", Discount::rate(10).unwrap(), None).await.unwrap();
        let (issued, _) = app.issue_coupon(coupon.id, buyer()).await.unwrap();
        let stop = CancellationToken::new();
        let (taker, stopped) = (app.clone(), stop.clone());
        TaskTracker::new().spawn(async move { taker.take_up_callbacks(&stopped).await });
        let _until_dropped = stop.drop_guard();
        let coupon = issued.id;
        let commits = Arc::new(Commits::default());
        database.observe(Arc::clone(&commits) as _);
        Self { database, gateway, app, policy, product, coupon, entropy, tokens, commits, _until_dropped }
    }

    /// Another program on the same database and gateway, with faults of its own.
    pub(crate) fn program(&self, faults: Arc<dyn Faults>) -> Application {
        let adapters = adapters(&self.database, &self.gateway, &self.entropy, faults);
        Application::new(adapters, self.policy.clone(), self.tokens.clone())
    }

    /// Another program, which settles on a connection that `change` makes of its own.
    pub(crate) fn program_over<S: Store + 'static>(
        &self,
        change: impl FnOnce(FakeStore) -> S,
    ) -> Application {
        let settlement_store = Arc::new(change(self.database.connect(slow(), ConnectionOptions::default())));
        let adapters = adapters(&self.database, &self.gateway, &self.entropy, slow());
        let adapters = Adapters { settlement_store, ..adapters };
        Application::new(adapters, self.policy.clone(), self.tokens.clone())
    }

    /// Two pieces with points and coupon, the rest by card.
    pub(crate) fn command(&self) -> PlaceOrder {
        PlaceOrder {
            user_id: buyer(),
            lines: OrderLines::new([(self.product, Quantity::new(2).unwrap())]).unwrap(),
            use_point: won(1000),
            issued_coupon_id: Some(self.coupon),
            card: Some((CardType::Kb, "1234-5678-9814-1451".parse().unwrap())),
            idempotency: None,
            placed: None,
        }
    }

    /// One piece by card alone.
    pub(crate) fn plain(&self) -> PlaceOrder {
        PlaceOrder {
            lines: OrderLines::new([(self.product, Quantity::new(1).unwrap())]).unwrap(),
            use_point: Money::ZERO,
            issued_coupon_id: None,
            ..self.command()
        }
    }

    pub(crate) async fn place(&self, command: PlaceOrder) -> Result<PlaceOrderOutcome, PlaceOrderError> {
        self.app.place_order(command).await
    }

    /// Places and gives the order, whatever came of the gateway call.
    pub(crate) async fn placed(&self, command: PlaceOrder) -> Placed {
        let outcome = self.place(command).await.unwrap();
        Placed::of(order_of(&outcome))
    }

    pub(crate) async fn turn(&self) -> Turn {
        self.app.reconcile(&CancellationToken::new()).await.unwrap()
    }

    /// Turns, one a minute.
    pub(crate) async fn minutes(&self, count: u64) {
        for _ in 0..count {
            tokio::time::sleep(secs(60)).await;
            self.turn().await;
        }
    }

    /// Turns over more than a day, past the last look of every watch list.
    pub(crate) async fn a_day(&self) {
        self.minutes(40).await;
        for _ in 0..54 {
            tokio::time::sleep(secs(1800)).await;
            self.turn().await;
        }
    }

    pub(crate) async fn sync(&self, payment_id: PaymentId) -> Synced {
        self.app.sync_payment(payment_id, Cause::Operator).await.unwrap().unwrap()
    }

    /// The callback that the gateway sends for a transaction: written down, then taken up by the worker.
    pub(crate) async fn callback(&self, placed: Placed, key: &GatewayKey) {
        let token = self.token(placed);
        assert_eq!(self.app.receive_callback(&token, key).await, Ok(placed.payment_id));
        self.idle().await;
    }

    /// Until nothing can go on without time going by.
    pub(crate) async fn idle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// What the gateway calls the order.
    pub(crate) fn order_ref(&self, placed: Placed) -> GatewayOrderRef {
        self.record(placed).order_ref
    }

    /// The token at the end of the address that the gateway was given.
    pub(crate) fn token(&self, placed: Placed) -> String {
        let reference = self.order_ref(placed);
        let charges = self.gateway.charges();
        let charge = charges.iter().find(|charge| charge.order_ref == reference).unwrap();
        let (address, token) = charge.callback_url.rsplit_once('/').unwrap();
        assert_eq!(address, "http://localhost:8080/api/v1/payments/callback");
        token.to_owned()
    }

    pub(crate) fn record(&self, placed: Placed) -> PaymentRecord {
        self.database.read(|tables| tables.payments[&placed.payment_id].record.clone())
    }

    pub(crate) fn status(&self, placed: Placed) -> (PaymentStatus, OrderStatus) {
        let order = self.database.read(|tables| tables.orders[&placed.order_id].order.status());
        (self.record(placed).payment.status(), order)
    }

    pub(crate) fn failure(&self, placed: Placed) -> Option<String> {
        match self.record(placed).payment.state() {
            domain::PaymentState::Failed { message, .. } => message.as_ref().map(|m| m.as_str().to_owned()),
            _ => None,
        }
    }

    /// Stock, points, and whether the coupon is free.
    pub(crate) fn goods(&self) -> (i64, i64, bool) {
        self.database.read(|tables| {
            let free = tables.issued_coupons[&self.coupon].issued.status == IssuedCouponStatus::Available;
            (tables.stock[&self.product].quantity(), tables.points[&buyer()].won(), free)
        })
    }

    pub(crate) fn nothing_taken(&self) -> bool {
        self.goods() == (STOCK, POINTS, true)
    }

    pub(crate) fn taken(&self) -> bool {
        self.goods() == (STOCK - 2, POINTS - 1000, false)
    }

    /// The ledger: kind and key of each row, oldest first.
    pub(crate) fn ledger(&self) -> Vec<(DiscrepancyKind, Option<GatewayKey>)> {
        self.database.read(|tables| {
            let rows = tables.discrepancies.values().map(|row| &row.discrepancy);
            rows.map(|row| (row.kind, row.key.clone())).collect()
        })
    }

    /// When the watch list looks next, from now; `None`: never.
    pub(crate) fn next_look(&self, placed: Placed) -> Option<Duration> {
        let due = self.database.read(|tables| tables.checks.get(&placed.payment_id)?.due_at)?;
        Some(Duration::try_from(due - self.database.now()).unwrap_or_default())
    }

    /// The commits named `name`, by how many payments each was about.
    pub(crate) fn commits(&self, name: &'static str) -> Vec<usize> {
        let commits = self.commits.0.lock().unwrap();
        commits.iter().filter(|(named, _)| *named == name).map(|(_, payments)| *payments).collect()
    }

    /// Everything that must hold at any moment, and that everything has ended.
    pub(crate) fn assert_quiet(&self) {
        oracle::at_any_time(&self.database);
        oracle::at_rest(&self.database, &self.gateway);
    }
}

fn adapters(
    database: &FakeDatabase,
    gateway: &Arc<TestGateway>,
    entropy: &Arc<TestEntropy>,
    faults: Arc<dyn Faults>,
) -> Adapters {
    let store = Arc::new(database.connect(faults, ConnectionOptions::default()));
    Adapters {
        store: Arc::clone(&store) as Arc<dyn Store>,
        settlement_store: Arc::clone(&store) as Arc<dyn Store>,
        settlement_queries: Arc::clone(&store) as Arc<dyn Queries>,
        health_queries: Arc::clone(&store) as Arc<dyn Queries>,
        queries: store,
        gateway: Arc::clone(gateway) as Arc<_>,
        entropy: Arc::clone(entropy) as Arc<_>,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) order_id: OrderId,
    pub(crate) payment_id: PaymentId,
}

impl Placed {
    pub(crate) fn of(view: &OrderView) -> Self {
        Self { order_id: view.order.id(), payment_id: view.payment.payment.id() }
    }
}

pub(crate) fn order_of(outcome: &PlaceOrderOutcome) -> &OrderView {
    match outcome {
        PlaceOrderOutcome::Paid(order)
        | PlaceOrderOutcome::InProgress(order)
        | PlaceOrderOutcome::Confirming(order)
        | PlaceOrderOutcome::Refused { order, .. }
        | PlaceOrderOutcome::CircuitOpen { order, .. }
        | PlaceOrderOutcome::GatewayUnavailable { order, .. }
        | PlaceOrderOutcome::NotSent { order, .. } => order,
        PlaceOrderOutcome::Replayed(answer) => panic!("replayed {answer:?}"),
    }
}

/// A short name for each outcome: what the tests' Idempotency-Keys are answered with.
pub(crate) fn name(outcome: &PlaceOrderOutcome) -> &'static str {
    match outcome {
        PlaceOrderOutcome::Paid(_) => "paid",
        PlaceOrderOutcome::InProgress(_) => "in progress",
        PlaceOrderOutcome::Confirming(_) => "confirming",
        PlaceOrderOutcome::Refused { .. } => "refused",
        PlaceOrderOutcome::CircuitOpen { .. } => "circuit open",
        PlaceOrderOutcome::GatewayUnavailable { .. } => "unavailable",
        PlaceOrderOutcome::NotSent { .. } => "not sent",
        PlaceOrderOutcome::Replayed(_) => "replayed",
    }
}

pub(crate) fn idempotency(key: &str, content: u8) -> Option<Idempotency> {
    Some(Idempotency {
        key: key.to_owned(),
        fingerprint: [content; 32],
        render: Arc::new(|outcome| StoredAnswer {
            status: 200,
            body: format!("{} {}", name(outcome), order_of(outcome).order.id()),
        }),
    })
}

/// The one payment there is.
pub(crate) fn only(world: &World) -> Placed {
    world.database.read(|tables| {
        let (id, row) = tables.payments.iter().next().unwrap();
        Placed { order_id: row.record.payment.order_id(), payment_id: *id }
    })
}
