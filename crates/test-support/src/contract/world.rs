//! What the cases share: making rows, reading them back, waiting with a deadline.

use super::Ports;
use domain::ports::{
    Cause, Claim, ClaimKind, ClaimOptions, IdempotencyClaim, IdempotencyKey, NewOrderIds, NewPayment,
    NextCheck, NextDue, PaymentEvent, PaymentRecord, StoreTx,
};
use domain::{
    CardType, FailureMessage, GatewayKey, MerchantId, Money, Order, OrderId, OrderItem, Payment,
    PaymentAmounts, PaymentId, ProductId, Quantity, Stock, UserId,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Longer than any case takes, however slow the machine.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// How long a statement that must wait is watched waiting.
const WATCHED: Duration = Duration::from_millis(60);
/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An order that a case placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) order_id: OrderId,
    pub(super) payment_id: PaymentId,
}

/// The ports, and what cases do with them.
pub struct World {
    pub(super) ports: Ports,
}

impl World {
    /// Over an empty database.
    pub const fn new(ports: Ports) -> Self {
        Self { ports }
    }

    pub(super) async fn begin(&self) -> Box<dyn StoreTx> {
        self.ports.store.begin("contract").await.unwrap()
    }

    /// A product of `price` won with `pieces` in stock.
    pub(super) async fn product(&self, price: i64, pieces: i64) -> ProductId {
        let tx = self.begin().await;
        let id = tx.insert_product("product", won(price), Stock::new(pieces).unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    pub(super) async fn stock(&self, id: ProductId) -> i64 {
        self.ports.queries.product(id).await.unwrap().unwrap().stock.quantity()
    }

    /// An order of one piece for 1000 won by card, PENDING, whose send deadline is an hour away.
    pub(super) async fn place(&self) -> Placed {
        self.place_with(user(1), HOUR).await
    }

    pub(super) async fn place_with(&self, user_id: UserId, send_within: Duration) -> Placed {
        let product = self.product(1000, 10).await;
        let tx = self.begin().await;
        let ids = tx.next_order_ids().await.unwrap();
        let order = order(ids.order_id, user_id, product);
        tx.insert_order(&order).await.unwrap();
        let payment = NewPayment { send_within, ..new_payment(ids, user_id) };
        tx.insert_payment(&payment, &[first_event()]).await.unwrap();
        tx.commit().await.unwrap();
        Placed { order_id: ids.order_id, payment_id: ids.payment_id }
    }

    pub(super) async fn record(&self, placed: Placed) -> PaymentRecord {
        self.ports.queries.payment(None, placed.payment_id).await.unwrap().unwrap().record
    }

    /// Changes a payment in a transaction of its own.
    pub(super) async fn change(&self, placed: Placed, change: impl FnOnce(Payment) -> Payment + Send) {
        let tx = self.begin().await;
        let record = tx.lock_payment(placed.payment_id).await.unwrap().unwrap();
        let from = record.payment.value.status();
        let changed = change(record.payment.value.clone());
        let event = PaymentEvent {
            from: Some(from),
            to: changed.status(),
            cause: Cause::Reconciler,
            reason: None,
            key: changed.key().cloned(),
        };
        tx.save_payment(&record.payment.with(changed), &[event]).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub(super) async fn start(&self, placed: Placed) {
        self.change(placed, |payment| payment.start().unwrap()).await;
    }

    /// PENDING -> IN_PROGRESS -> PAID with `key`.
    pub(super) async fn pay(&self, placed: Placed, key_text: &'static str) {
        self.start(placed).await;
        self.change(placed, |payment| {
            payment.update_external_payment_key(key(key_text)).unwrap().success().unwrap()
        })
        .await;
    }

    pub(super) async fn fail(&self, placed: Placed) {
        let message = FailureMessage::from_outside("no");
        self.change(placed, |payment| payment.fail(Some(message)).unwrap()).await;
    }

    /// Claims in a transaction of its own.
    pub(super) async fn claim(&self, options: &ClaimOptions) -> Vec<Claim> {
        let tx = self.begin().await;
        let claims = tx.claim_due(options).await.unwrap();
        tx.commit().await.unwrap();
        claims
    }

    pub(super) async fn finish(&self, claim: &Claim, next: &NextCheck) -> bool {
        let tx = self.begin().await;
        let kept = tx.finish_claim(claim, next, true).await.unwrap();
        tx.commit().await.unwrap();
        kept
    }

    pub(super) async fn callback(&self, placed: Placed, key_text: &str) {
        let tx = self.begin().await;
        tx.record_callback(placed.payment_id, &key(key_text)).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Claims until something is there.
    pub(super) async fn claim_eventually(&self, options: &ClaimOptions) -> Vec<Claim> {
        let start = Instant::now();
        loop {
            let claims = self.claim(options).await;
            if !claims.is_empty() {
                return claims;
            }
            assert!(start.elapsed() < PATIENCE, "nothing became due");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Asserts that `first` waits until `then` has run, and gives the results of both.
pub(super) async fn waits_for<A, B>(first: impl Future<Output = A>, then: impl Future<Output = B>) -> (A, B) {
    let mut first = Box::pin(first);
    let early = timeout(WATCHED, &mut first).await;
    assert!(early.is_err(), "it must wait");
    let then = then.await;
    let first = timeout(PATIENCE, first).await;
    assert!(first.is_ok(), "it must go on");
    (first.unwrap(), then)
}

/// The database's clock moves on.
pub(super) async fn tick() {
    sleep(Duration::from_millis(3)).await;
}

pub(super) const fn claimable(kind: ClaimKind) -> ClaimOptions {
    ClaimOptions { kind, limit: 100, min_age: Duration::ZERO, lease: HOUR, due_by: None }
}

/// Look again at once.
pub(super) const AT_ONCE: NextDue = NextDue::In(Duration::ZERO);
/// Look again in an hour.
pub(super) const PUT_OFF: NextDue = NextDue::In(HOUR);

/// Unsettled payments of any age.
pub(super) const UNSETTLED: ClaimOptions = claimable(ClaimKind::Unsettled);
/// The watch list.
pub(super) const WATCHED_ONES: ClaimOptions = claimable(ClaimKind::Watched);

pub(super) const fn next_check(due: NextDue) -> NextCheck {
    NextCheck {
        due,
        transaction_seen: false,
        not_found_count: 0,
        not_found_now: false,
        failures: 0,
        watch_step: 0,
    }
}

pub(super) fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

pub(super) fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub(super) fn key(text: &str) -> GatewayKey {
    GatewayKey::new(text).unwrap()
}

pub(super) fn order(id: OrderId, user_id: UserId, product_id: ProductId) -> Order {
    let item = OrderItem {
        product_id,
        product_name: "product".into(),
        unit_price: won(1000),
        quantity: Quantity::new(1).unwrap(),
    };
    Order::place(id, user_id, vec![item]).unwrap()
}

/// 1000 won by card.
pub(super) fn new_payment(ids: NewOrderIds, user_id: UserId) -> NewPayment {
    let amounts = PaymentAmounts::new(won(1000), won(0), won(0), won(1000)).unwrap();
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&ids.payment_id.get().to_le_bytes());
    NewPayment {
        payment: Payment::create(ids.payment_id, ids.order_id, user_id, amounts),
        issued_coupon_id: None,
        card: Some(domain::ports::StoredCard {
            card_type: CardType::Kb,
            masked: "1234-****-****-1451".into(),
        }),
        merchant: MerchantId::new("holdfast").unwrap(),
        callback_token_hash: Some(hash),
        send_within: HOUR,
    }
}

pub(super) const fn first_event() -> PaymentEvent {
    PaymentEvent {
        from: None,
        to: domain::PaymentStatus::Pending,
        cause: Cause::Api,
        reason: None,
        key: None,
    }
}

pub(super) fn idempotency(user_id: UserId, order_id: OrderId) -> IdempotencyClaim {
    IdempotencyClaim {
        key: IdempotencyKey { user_id, key: "once".into() },
        fingerprint: [7; 32],
        order_id,
        retention: HOUR,
    }
}

pub(super) fn ids_of(claims: &[Claim]) -> Vec<PaymentId> {
    claims.iter().map(|claim| claim.record.payment.value.id()).collect()
}
