//! On mocks, for what only an order of calls can show: TX1 and the start of the payment are committed, in this order,
//! before the gateway is asked to charge; and whatever goes wrong before that, it is not asked.

use crate::world::won;
use application::place_order::{PlaceOrderOutcome, place_order};
use application::{CallbackTokens, Io, PlaceOrder, PlaceOrderError, Policy};
use domain::placement::OrderLines;
use domain::ports::{
    ChargeOutcome, CommitError, FailureCause, GatewayAnswer, MockEntropy, MockPaymentGateway, MockQueries,
    MockStore, MockStoreTx, NewOrderIds, ProductForSale, StoreError,
};
use domain::{CardType, MerchantId, Money, OrderId, PaymentId, ProductId, Quantity, Stock, UserId};
use mockall::Sequence;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::macros::datetime;

type Commit = Result<(), CommitError>;

fn lost() -> StoreError {
    StoreError::Unavailable { what: "a test".into() }
}

/// Opens TX1, whose commit comes to `commit`.
fn place(store: &mut MockStore, order: &mut Sequence, commit: Commit) {
    let (opened, tx) = opening(store, order, "place_order");
    let mut tx = tx;
    tx.expect_now().return_const(datetime!(2026-01-01 00:00 UTC));
    tx.expect_next_order_ids().times(1).returning(|| {
        let (order_id, payment_id) = (OrderId::new(100_001).unwrap(), PaymentId::new(1).unwrap());
        Ok(NewOrderIds { order_id, payment_id })
    });
    tx.expect_lock_products().times(1).returning(|ids| {
        let (price, stock) = (won(5000), Stock::new(1).unwrap());
        let product = |id: &ProductId| ProductForSale { id: *id, name: "p".into(), price, stock };
        Ok(ids.iter().map(product).collect())
    });
    tx.expect_move_stock().times(1).returning(|_| Ok(()));
    tx.expect_insert_order().times(1).returning(|_| Ok(()));
    tx.expect_insert_payment().times(1).returning(|_, _| Ok(()));
    tx.expect_commit().times(1).in_sequence(order).return_once(move || commit);
    opened.set(tx);
}

/// Opens the transaction that starts the payment; without `commit` it is rolled back.
fn start(store: &mut MockStore, order: &mut Sequence, saved: Result<(), StoreError>, commit: Option<Commit>) {
    let (opened, mut tx) = opening(store, order, "start_payment");
    tx.expect_save_payment().times(1).in_sequence(order).return_once(move |_, _| saved);
    match commit {
        Some(commit) => {
            tx.expect_commit().times(1).in_sequence(order).return_once(move || commit);
        }
        None => {
            tx.expect_rollback().times(1).in_sequence(order).return_once(|| ());
        }
    }
    opened.set(tx);
}

/// The transaction of a `begin` that is already the next step, to be filled in: steps count in the order in which they
/// are expected, and what happens in a transaction comes after its beginning.
struct Opened(Arc<Mutex<Option<MockStoreTx>>>);

impl Opened {
    fn set(self, tx: MockStoreTx) {
        *self.0.lock().unwrap() = Some(tx);
    }
}

fn opening(store: &mut MockStore, order: &mut Sequence, name: &'static str) -> (Opened, MockStoreTx) {
    let tx = Arc::new(Mutex::new(None::<MockStoreTx>));
    let given = Arc::clone(&tx);
    store
        .expect_begin()
        .withf(move |begun| begun == name)
        .times(1)
        .in_sequence(order)
        .return_once(move |_| Ok(Box::new(given.lock().unwrap().take().unwrap())));
    (Opened(tx), MockStoreTx::new())
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
    store.expect_begin().withf(|name| name == "record_answer").returning(|_| Err(lost()));
    let mut queries = MockQueries::new();
    queries.expect_order().returning(|_, _| Ok(None));
    let mut entropy = MockEntropy::new();
    entropy.expect_token().return_const([7; 32]);
    entropy.expect_fraction().return_const(0.5);
    let mut io = Io::new(Arc::new(store), Arc::new(queries), Arc::new(gateway), Arc::new(entropy));
    let policy = Policy::new(MerchantId::new("shop").unwrap(), "http://localhost:8080");
    place_order(&mut io, &policy, &CallbackTokens::new(b"s").unwrap(), command()).await
}

fn never_asked() -> MockPaymentGateway {
    let mut gateway = MockPaymentGateway::new();
    gateway.expect_charge().times(0);
    gateway
}

#[tokio::test(start_paused = true)]
async fn both_commits_come_before_the_charge() {
    let mut order = Sequence::new();
    let (mut store, mut gateway) = (MockStore::new(), MockPaymentGateway::new());
    place(&mut store, &mut order, Ok(()));
    start(&mut store, &mut order, Ok(()), Some(Ok(())));
    gateway
        .expect_charge()
        .withf(|request| request.amount == won(5000) && request.order_ref.as_str() == "100001")
        .times(1)
        .in_sequence(&mut order)
        .return_once(|_| ChargeOutcome {
            answer: GatewayAnswer::Uncertain { cause: FailureCause("ReadTimeout") },
            watch: false,
        });
    let outcome = run(store, gateway).await.unwrap();
    assert!(matches!(outcome, PlaceOrderOutcome::Confirming(_)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_charged_when_tx1_was_rolled_back() {
    let mut order = Sequence::new();
    let mut store = MockStore::new();
    place(&mut store, &mut order, Err(CommitError::RolledBack(lost())));
    assert_eq!(run(store, never_asked()).await, Err(PlaceOrderError::Unavailable(lost())));
}

/// A9: a commit of unknown outcome is never followed by a gateway call, nor tried again.
#[tokio::test(start_paused = true)]
async fn nothing_is_charged_when_tx1s_outcome_is_unknown() {
    let mut order = Sequence::new();
    let mut store = MockStore::new();
    place(&mut store, &mut order, Err(CommitError::OutcomeUnknown));
    assert_eq!(run(store, never_asked()).await, Err(PlaceOrderError::OutcomeUnknown));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_charged_when_the_start_is_not_durable() {
    for commit in [CommitError::RolledBack(lost()), CommitError::OutcomeUnknown] {
        let mut order = Sequence::new();
        let mut store = MockStore::new();
        place(&mut store, &mut order, Ok(()));
        start(&mut store, &mut order, Ok(()), Some(Err(commit)));
        let outcome = run(store, never_asked()).await.unwrap();
        assert!(matches!(outcome, PlaceOrderOutcome::Confirming(_)));
    }
}

/// Somebody else moved the payment: it is not ours to send any more.
#[tokio::test(start_paused = true)]
async fn nothing_is_charged_when_the_start_was_lost() {
    let mut order = Sequence::new();
    let mut store = MockStore::new();
    place(&mut store, &mut order, Ok(()));
    start(&mut store, &mut order, Err(StoreError::Conflict { what: "version".into() }), None);
    let outcome = run(store, never_asked()).await.unwrap();
    assert!(matches!(outcome, PlaceOrderOutcome::Confirming(_)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_charged_when_the_start_could_not_be_saved() {
    let mut order = Sequence::new();
    let mut store = MockStore::new();
    place(&mut store, &mut order, Ok(()));
    start(&mut store, &mut order, Err(lost()), None);
    let outcome = run(store, never_asked()).await.unwrap();
    assert!(matches!(outcome, PlaceOrderOutcome::Confirming(_)));
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
    start(&mut store, &mut order, Ok(()), Some(Ok(())));
    gateway.expect_charge().times(1).in_sequence(&mut order).return_once(move |_| {
        // Halfway between 100 and 500 ms, as the randomness of this test says.
        assert_eq!(began.elapsed(), Duration::from_millis(300));
        let answer = GatewayAnswer::Uncertain { cause: FailureCause("ReadTimeout") };
        ChargeOutcome { answer, watch: false }
    });
    assert!(run(store, gateway).await.is_ok());
}
