//! A shop over the gateway under test. What an outcome does to payment, order, stock, points and coupon is read from its
//! database after a real order, not concluded from the outcome.

use crate::model::Seeded;
use application::{Adapters, Application, CallbackTokens, PlaceOrder, PlaceOrderOutcome, Policy};
use domain::placement::OrderLines;
use domain::ports::{Entropy as _, PaymentGateway, Queries, Store};
use domain::{
    CardType, Discount, GatewayKey, GatewayOrderRef, IssuedCouponId, IssuedCouponStatus, MerchantId, Money,
    OrderId, OrderStatus, PaymentStatus, ProductId, Quantity, Stock, UserId,
};
use std::sync::Arc;
use std::time::Duration;
use test_support::FakeDatabase;
use test_support::store::INSTALLATION;

const SEED: u64 = 2;

/// What the gateway knows the shop's first order by: each shop has a database and a chance of its own, and draws for the
/// callback's token first.
pub(crate) fn order_ref() -> GatewayOrderRef {
    let chance = Seeded::new(SEED);
    chance.token();
    let [a, b, c, d, e, f, g, h, ..] = chance.token();
    GatewayOrderRef::new(INSTALLATION, OrderId::new(100_001).unwrap(), [a, b, c, d, e, f, g, h])
}

const STOCK: i64 = 10;
const POINTS: i64 = 5000;

/// One product, one buyer with points and a coupon.
pub(crate) struct Shop {
    app: Application,
    database: FakeDatabase,
    buyer: UserId,
    product: ProductId,
    coupon: IssuedCouponId,
}

/// What became of an order.
#[derive(Debug)]
pub(crate) struct Aftermath {
    /// Payment and order, then stock, points and coupon, as the table shows them.
    pub(crate) order: String,
    /// The transaction key that is stored.
    pub(crate) key: Option<GatewayKey>,
}

fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

impl Shop {
    /// `deadline` is for the whole gateway step.
    pub(crate) async fn open(gateway: Arc<dyn PaymentGateway>, deadline: Duration) -> Self {
        let database = FakeDatabase::new();
        let store = Arc::new(database.store());
        let adapters = Adapters {
            store: Arc::clone(&store) as Arc<dyn Store>,
            queries: Arc::clone(&store) as Arc<dyn Queries>,
            settlement_store: Arc::clone(&store) as Arc<dyn Store>,
            settlement_queries: Arc::clone(&store) as Arc<dyn Queries>,
            health_queries: store,
            gateway,
            entropy: Arc::new(Seeded::new(SEED)),
        };
        let mut policy = Policy::new(MerchantId::new("holdfast").unwrap(), "http://localhost:8080");
        policy.deadline = deadline;
        let app = Application::new(adapters, policy, CallbackTokens::new(b"secret").unwrap());
        let buyer = UserId::new(1).unwrap();
        let product = app.create_product("p", won(10_000), Stock::new(STOCK).unwrap()).await.unwrap();
        app.charge_points(buyer, won(POINTS)).await.unwrap();
        let coupon = app.create_coupon("c", Discount::rate(10).unwrap(), None).await.unwrap();
        let (issued, _) = app.issue_coupon(coupon.id, buyer).await.unwrap();
        Self { app, database, buyer, product, coupon: issued.id }
    }

    /// Two pieces with points and coupon, the rest by card.
    pub(crate) async fn sell(&self) -> Aftermath {
        let command = PlaceOrder {
            user_id: self.buyer,
            lines: OrderLines::new([(self.product, Quantity::new(2).unwrap())]).unwrap(),
            use_point: won(1000),
            issued_coupon_id: Some(self.coupon),
            card: Some((CardType::Kb, "1234-5678-9814-1451".parse().unwrap())),
            idempotency: None,
            placed: None,
        };
        let told = self.app.place_order(command).await.unwrap();
        let (payment, key) = self.payment(&told);
        Aftermath { order: format!("{payment} | {}", self.goods()), key }
    }

    fn payment(&self, told: &PlaceOrderOutcome) -> (String, Option<GatewayKey>) {
        self.database.read(|tables| {
            let (id, row) = tables.payments.first_key_value().unwrap();
            let (_, order) = tables.orders.first_key_value().unwrap();
            assert_eq!((tables.payments.len(), tables.orders.len()), (1, 1));
            let payment = &row.record.payment;
            let check = tables.checks.get(id).copied().unwrap_or_default();
            let shown = match (payment.status(), order.order.status(), payment.key(), told) {
                (
                    PaymentStatus::InProgress,
                    OrderStatus::Placed,
                    Some(_),
                    PlaceOrderOutcome::InProgress(_),
                ) => "IN_PROGRESS with key".to_owned(),
                (PaymentStatus::InProgress, OrderStatus::Placed, None, PlaceOrderOutcome::Confirming(_)) => {
                    "IN_PROGRESS without key".to_owned()
                }
                (
                    PaymentStatus::Failed,
                    OrderStatus::Cancelled,
                    None,
                    PlaceOrderOutcome::GatewayUnavailable { .. },
                ) => "FAILED".to_owned(),
                (PaymentStatus::Failed, OrderStatus::Cancelled, None, PlaceOrderOutcome::Refused { .. }) => {
                    "FAILED, buyer is told why".to_owned()
                }
                (payment, order, key, told) => {
                    format!("payment {payment:?}, key {key:?}, order {order:?}, buyer is told {told:?}")
                }
            };
            let watched =
                if payment.status().is_terminal() { check.due_at.is_some() } else { check.watch_wanted };
            (shown + if watched { ", watched" } else { "" }, payment.key().cloned())
        })
    }

    fn goods(&self) -> String {
        self.database.read(|tables| {
            let stock = tables.stock[&self.product].quantity();
            let points = tables.points[&self.buyer].won();
            let coupon = tables.issued_coupons[&self.coupon].issued.status;
            match (stock, points, coupon) {
                (8, 4000, IssuedCouponStatus::Used { .. }) => "stay taken".to_owned(),
                (STOCK, POINTS, IssuedCouponStatus::Available) => "given back".to_owned(),
                other => format!("(stock, points, coupon) {other:?}"),
            }
        })
    }
}
