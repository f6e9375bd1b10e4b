//! On mocks, for what only an order of calls can show: TX1 and the start of the payment are committed, in this order,
//! before the gateway is asked to charge; and whatever goes wrong before that, it is not asked.

use crate::world::won;
use application::place_order::PlaceOrderOutcome;
use application::{Adapters, Application, BatchError, CallbackTokens, PlaceOrder, PlaceOrderError, Policy};
use domain::placement::{OrderLines, Placing};
use domain::ports::{
    ChargeOutcome, CommitError, FailureCause, GatewayAnswer, MockEntropy, MockPaymentGateway, MockQueries,
    MockStore, MockStoreTx, NewOrderIds, ProductForSale, StoreError,
};
use domain::{CardType, MerchantId, Money, OrderId, PaymentId, ProductId, Quantity, Stock, UserId};
use mockall::Sequence;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use time::macros::datetime;

type Commit = Result<(), CommitError>;

fn lost() -> StoreError {
    StoreError::Unavailable { what: "a test".into() }
}

fn payment() -> PaymentId {
    PaymentId::new(1).unwrap()
}

/// What the shop has: one piece at 5000 won.
fn placing() -> Placing {
    let id = ProductId::new(1).unwrap();
    let product = ProductForSale { id, name: "p".into(), price: won(5000), stock: Stock::new(1).unwrap() };
    Placing {
        now: datetime!(2026-01-01 00:00 UTC),
        installation: "shop1".into(),
        ids: vec![NewOrderIds { order_id: OrderId::new(100_001).unwrap(), payment_id: payment() }],
        products: BTreeMap::from([(id, product)]),
        points: BTreeMap::new(),
        coupons: BTreeMap::new(),
        keys: BTreeMap::new(),
    }
}

/// The next steps: TX1 is opened, stored to, and committed with `commit`.
fn place(store: &mut MockStore, order: &mut Sequence, commit: Commit) {
    let (hand_over, tx) = std::sync::mpsc::channel::<MockStoreTx>();
    let tx = std::sync::Mutex::new(tx);
    store.expect_open_placing().withf(|needs| needs.len() == 1).times(1).in_sequence(order).return_once(
        move |_| {
            let tx = tx.lock().unwrap().recv().unwrap();
            Ok((Box::new(tx), placing()))
        },
    );
    let mut tx = MockStoreTx::new();
    tx.expect_store_orders()
        .withf(|orders| orders.len() == 1 && orders[0].callback_token_hash.is_some())
        .times(1)
        .in_sequence(order)
        .return_once(|_| Ok(()));
    tx.expect_commit().times(1).in_sequence(order).return_once(move || commit);
    hand_over.send(tx).unwrap();
}

/// The next step: the payment is started, in a transaction of its own.
fn start(store: &mut MockStore, order: &mut Sequence, started: Result<BTreeSet<PaymentId>, StoreError>) {
    store
        .expect_start_payments()
        .withf(|ids| ids == [payment()])
        .times(1)
        .in_sequence(order)
        .return_once(move |_| started);
}

fn command() -> PlaceOrder {
    PlaceOrder {
        user_id: UserId::new(1).unwrap(),
        lines: OrderLines::new([(ProductId::new(1).unwrap(), Quantity::new(1).unwrap())]).unwrap(),
        use_point: Money::ZERO,
        issued_coupon_id: None,
        card: Some((CardType::Kb, "1234-5678-9814-1451".parse().unwrap())),
        idempotency: None,
        placed: None,
    }
}

/// Runs one order; what comes after the call finds no database, as that is not looked at here.
async fn run(
    mut store: MockStore,
    gateway: MockPaymentGateway,
) -> Result<PlaceOrderOutcome, PlaceOrderError> {
    store.expect_open_settling().returning(|_| Err(lost()));
    let mut queries = MockQueries::new();
    queries.expect_order().returning(|_, _| Ok(None));
    let mut entropy = MockEntropy::new();
    entropy.expect_token().return_const([7; 32]);
    entropy.expect_fraction().return_const(0.5);
    let (store, queries) = (Arc::new(store), Arc::new(queries));
    let adapters = Adapters {
        store: Arc::clone(&store) as _,
        settlement_store: store,
        queries: Arc::clone(&queries) as _,
        settlement_queries: Arc::clone(&queries) as _,
        health_queries: queries,
        gateway: Arc::new(gateway),
        entropy: Arc::new(entropy),
    };
    let policy = Policy::new(MerchantId::new("shop").unwrap(), "http://localhost:8080");
    let app = Application::new(adapters, policy, CallbackTokens::new(b"s").unwrap());
    app.place_order(command()).await
}

fn never_asked() -> MockPaymentGateway {
    let mut gateway = MockPaymentGateway::new();
    gateway.expect_charge().times(0);
    gateway
}

fn uncertain() -> ChargeOutcome {
    let answer = GatewayAnswer::Uncertain { cause: FailureCause("ReadTimeout") };
    ChargeOutcome { answer, watch: false }
}

#[tokio::test(start_paused = true)]
async fn both_commits_come_before_the_charge() {
    let mut order = Sequence::new();
    let (mut store, mut gateway) = (MockStore::new(), MockPaymentGateway::new());
    place(&mut store, &mut order, Ok(()));
    start(&mut store, &mut order, Ok(BTreeSet::from([payment()])));
    gateway
        .expect_charge()
        .withf(|request| {
            // The installation's name, the order, and what was drawn for it.
            request.amount == won(5000) && request.order_ref.as_str() == "shop1-100001-0707070707070707"
        })
        .times(1)
        .in_sequence(&mut order)
        .return_once(|_| uncertain());
    let outcome = run(store, gateway).await.unwrap();
    assert!(matches!(outcome, PlaceOrderOutcome::Confirming(_)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_charged_when_tx1_was_rolled_back() {
    let mut order = Sequence::new();
    let mut store = MockStore::new();
    place(&mut store, &mut order, Err(CommitError::RolledBack(lost())));
    let unavailable = PlaceOrderError::Unavailable(BatchError::Store(lost()));
    assert_eq!(run(store, never_asked()).await, Err(unavailable));
}

/// A9: a commit of unknown outcome is never followed by a gateway call, nor tried again.
#[tokio::test(start_paused = true)]
async fn nothing_is_charged_when_tx1s_outcome_is_unknown() {
    let mut order = Sequence::new();
    let mut store = MockStore::new();
    place(&mut store, &mut order, Err(CommitError::OutcomeUnknown));
    assert_eq!(run(store, never_asked()).await, Err(PlaceOrderError::OutcomeUnknown));
}

/// Not stored, or nobody knows, or somebody else moved the payment, so that it is not ours to send any more.
#[tokio::test(start_paused = true)]
async fn nothing_is_charged_when_the_start_is_not_durable_or_not_ours() {
    let other = PaymentId::new(2).unwrap();
    for started in [
        Err(lost()),
        Err(StoreError::Conflict { what: "version".into() }),
        Ok(BTreeSet::new()),
        Ok(BTreeSet::from([other])),
    ] {
        let mut order = Sequence::new();
        let mut store = MockStore::new();
        place(&mut store, &mut order, Ok(()));
        start(&mut store, &mut order, started);
        let outcome = run(store, never_asked()).await.unwrap();
        assert!(matches!(outcome, PlaceOrderOutcome::Confirming(_)));
    }
}

/// The same TX1 is tried again after a lost race, and what is charged is what the second one committed.
#[tokio::test(start_paused = true)]
async fn a_lost_race_repeats_only_what_comes_before_the_commit() {
    let mut order = Sequence::new();
    let (mut store, mut gateway) = (MockStore::new(), MockPaymentGateway::new());
    let race = CommitError::RolledBack(StoreError::Conflict { what: "40001".into() });
    let began = tokio::time::Instant::now();
    place(&mut store, &mut order, Err(race));
    place(&mut store, &mut order, Ok(()));
    start(&mut store, &mut order, Ok(BTreeSet::from([payment()])));
    gateway.expect_charge().times(1).in_sequence(&mut order).return_once(move |_| {
        // Halfway between 100 and 500 ms, as the randomness of this test says.
        assert_eq!(began.elapsed(), Duration::from_millis(300));
        uncertain()
    });
    assert!(run(store, gateway).await.is_ok());
}
