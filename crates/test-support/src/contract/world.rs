//! What the cases share: making rows as the use-cases make them, reading them back, waiting with a deadline.

use super::Ports;
use domain::placement::{
    NewOrder, OrderLines, PlacementError, PlacementRequest, Placing, PlacingNeeds, decide,
};
use domain::ports::{
    CallbackNote, Cause, Claim, ClaimOptions, CommitError, Due, IdempotencyKey, KeyedRequest, PaymentEvent,
    PaymentRecord, PaymentView, PointEntry, PointEntryKind, StoreError, StoreTx, StoredCard,
};
use domain::settlement::{Case, Changes, Check, Settling, SettlingNeeds};
use domain::{
    CardType, FailureMessage, GatewayKey, GatewayOrderRef, IssuedCouponId, MerchantId, Money, OrderId,
    Payment, PaymentId, PaymentStatus, ProductId, Quantity, Stock, Timestamp, UserId,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Longer than any case takes, however slow the machine.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// How long a statement that must wait is watched waiting.
const WATCHED: Duration = Duration::from_millis(60);
/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An order that a case places: by default one piece of 1000 won by card, for which nothing can be sent any more, to be
/// looked at at once.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) user: UserId,
    pub(crate) lines: Vec<(ProductId, i64)>,
    pub(crate) points: i64,
    pub(crate) coupon: Option<IssuedCouponId>,
    pub(crate) key: Option<KeyedRequest>,
    pub(crate) send_within: Duration,
    pub(crate) check_in: Duration,
}

impl Ask {
    pub(crate) fn of(product: ProductId) -> Self {
        Self {
            user: user(1),
            lines: vec![(product, 1)],
            points: 0,
            coupon: None,
            key: None,
            send_within: Duration::ZERO,
            check_in: Duration::ZERO,
        }
    }

    fn request(&self) -> PlacementRequest {
        let lines = self.lines.iter().map(|(id, pieces)| (*id, Quantity::new(*pieces).unwrap()));
        PlacementRequest {
            user_id: self.user,
            lines: OrderLines::new(lines).unwrap(),
            use_point: won(self.points),
            wants_coupon: self.coupon.is_some(),
            has_card: true,
        }
    }

    pub(crate) fn needs(&self) -> PlacingNeeds {
        PlacingNeeds {
            user_id: self.user,
            product_ids: self.request().lines.product_ids(),
            points: self.points > 0,
            issued_coupon_id: self.coupon,
            key: self.key.clone(),
        }
    }
}

/// The order of the batch's place `at`, decided upon what the ones before it leave.
pub(crate) fn decided(placing: &mut Placing, at: usize, ask: &Ask) -> NewOrder {
    try_decided(placing, at, ask).unwrap()
}

/// The same, for an order that may be refused.
pub(crate) fn try_decided(placing: &mut Placing, at: usize, ask: &Ask) -> Result<NewOrder, PlacementError> {
    let (ids, request) = (placing.ids[at], ask.request());
    let placement = decide(&request, placing.offer(ids, &request, ask.coupon))?;
    placing.take(&placement)?;
    let on_card = placement.payment.amounts().paid_amount().is_positive();
    let status = placement.payment.status();
    let first = PaymentEvent { from: None, to: status, cause: Cause::Api, reason: None, key: None };
    Ok(NewOrder {
        record: PaymentRecord {
            version: 0,
            issued_coupon_id: ask.coupon,
            card: on_card
                .then(|| StoredCard { card_type: CardType::Kb, masked: "1234-****-****-1451".into() }),
            merchant: MerchantId::new("holdfast").unwrap(),
            order_ref: GatewayOrderRef::new(&placing.installation, ids.order_id, random(ids.payment_id)),
            created_at: placing.now,
            updated_at: placing.now,
            send_deadline: placing.now + ask.send_within,
            payment: placement.payment,
        },
        callback_token_hash: on_card.then(|| token_hash(ids.payment_id)),
        check_at: on_card.then(|| placing.now + ask.check_in),
        history: vec![first],
        points: placement.points.map(|account| PointEntry {
            account,
            kind: PointEntryKind::Deduct,
            amount: won(ask.points),
            payment_id: Some(ids.payment_id),
        }),
        coupon: placement.coupon,
        key: ask.key.clone().map(|key| (key, None)),
        order: placement.order,
    })
}

fn random(id: PaymentId) -> [u8; 8] {
    id.get().to_be_bytes()
}

pub(crate) fn token_hash(id: PaymentId) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&id.get().to_le_bytes());
    hash
}

/// An order that a case placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) order_id: OrderId,
    pub(crate) payment_id: PaymentId,
}

/// The ports, and what cases do with them.
pub struct World {
    pub(crate) ports: Ports,
}

impl World {
    /// Over an empty database.
    pub const fn new(ports: Ports) -> Self {
        Self { ports }
    }

    pub(crate) async fn begin(&self) -> Box<dyn StoreTx> {
        self.ports.store.begin("contract").await.unwrap()
    }

    /// A product of `price` won with `pieces` in stock.
    pub(crate) async fn product(&self, price: i64, pieces: i64) -> ProductId {
        let tx = self.begin().await;
        let id = tx.insert_product("product", won(price), Stock::new(pieces).unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    pub(crate) async fn stock(&self, id: ProductId) -> i64 {
        self.ports.queries.product(id).await.unwrap().unwrap().stock.quantity()
    }

    pub(crate) async fn points(&self, id: UserId) -> i64 {
        self.ports.queries.point_balance(id).await.unwrap().won()
    }

    pub(crate) async fn charge_points(&self, id: UserId, amount: i64) {
        let tx = self.begin().await;
        let account = tx.lock_points(id).await.unwrap().charge(won(amount)).unwrap();
        let entry =
            PointEntry { account, kind: PointEntryKind::Charge, amount: won(amount), payment_id: None };
        tx.save_points(&entry).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub(crate) async fn open_placing(&self, asks: &[Ask]) -> (Box<dyn StoreTx>, Placing) {
        let needs: Vec<_> = asks.iter().map(Ask::needs).collect();
        self.ports.store.open_placing(&needs).await.unwrap()
    }

    /// Places orders in one batch.
    pub(crate) async fn place_all(&self, asks: &[Ask]) -> Vec<Placed> {
        let (tx, mut placing) = self.open_placing(asks).await;
        let orders: Vec<_> =
            asks.iter().enumerate().map(|(at, ask)| decided(&mut placing, at, ask)).collect();
        tx.store_orders(&orders).await.unwrap();
        tx.commit().await.unwrap();
        let placed =
            |ids: &domain::ports::NewOrderIds| Placed { order_id: ids.order_id, payment_id: ids.payment_id };
        placing.ids.iter().map(placed).collect()
    }

    pub(crate) async fn place_as(&self, ask: Ask) -> Placed {
        self.place_all(&[ask]).await[0]
    }

    /// The order of [`Ask::of`] a product of its own.
    pub(crate) async fn place(&self) -> Placed {
        self.place_as(Ask::of(self.product(1000, 10).await)).await
    }

    /// The same, but not to be looked at for an hour.
    pub(crate) async fn place_young(&self) -> Placed {
        self.place_as(Ask { check_in: HOUR, ..Ask::of(self.product(1000, 10).await) }).await
    }

    pub(crate) async fn view(&self, placed: Placed) -> PaymentView {
        self.ports.queries.payment(None, placed.payment_id).await.unwrap().unwrap()
    }

    pub(crate) async fn record(&self, placed: Placed) -> PaymentRecord {
        self.view(placed).await.record
    }

    pub(crate) async fn start(&self, placed: Placed) {
        let started = self.ports.store.start_payments(&[placed.payment_id]).await.unwrap();
        assert!(started.contains(&placed.payment_id));
    }

    pub(crate) async fn open_settling(&self, needs: &[SettlingNeeds]) -> (Box<dyn StoreTx>, Settling) {
        self.ports.store.open_settling(needs).await.unwrap()
    }

    /// The payment with all that belongs to it.
    pub(crate) async fn case(&self, placed: Placed) -> Case {
        let (tx, mut settling) = self.open_settling(&[with_goods(placed)]).await;
        tx.rollback().await;
        settling.cases.remove(&placed.payment_id).unwrap()
    }

    /// Changes a payment in a transaction of its own.
    pub(crate) async fn try_change(
        &self,
        placed: Placed,
        change: impl FnOnce(&Case, Timestamp) -> Changes + Send,
    ) -> Result<(), StoreError> {
        let (tx, settling) = self.open_settling(&[with_goods(placed)]).await;
        let changes = change(&settling.cases[&placed.payment_id], settling.shared.now);
        if let Err(error) = tx.store_changes(&[changes]).await {
            tx.rollback().await;
            return Err(error);
        }
        tx.commit().await.map_err(|error| match error {
            CommitError::RolledBack(error) => error,
            CommitError::OutcomeUnknown => panic!("{error}"),
        })
    }

    pub(crate) async fn change(
        &self,
        placed: Placed,
        change: impl FnOnce(&Case, Timestamp) -> Changes + Send,
    ) {
        self.try_change(placed, change).await.unwrap();
    }

    /// IN_PROGRESS -> PAID with `key_text`, to be looked at as `check` says.
    pub(crate) async fn pay_watched(&self, placed: Placed, key_text: &str, check: Check) {
        self.start(placed).await;
        self.change(placed, |case, _| Changes { check: Some(check), ..paid(case, key_text) }).await;
    }

    pub(crate) async fn pay(&self, placed: Placed, key_text: &str) {
        self.pay_watched(placed, key_text, Check::default()).await;
    }

    /// FAILED, to be looked at as `check` says.
    pub(crate) async fn fail_watched(&self, placed: Placed, check: Check) {
        self.change(placed, |case, _| Changes { check: Some(check), ..failed(case) }).await;
    }

    pub(crate) async fn fail(&self, placed: Placed) {
        self.fail_watched(placed, Check::default()).await;
    }

    pub(crate) async fn claim(&self, options: &ClaimOptions) -> Vec<Claim> {
        self.ports.store.claim(options).await.unwrap()
    }

    /// Ends a claim: the check row is as `check` makes it of what is there.
    pub(crate) async fn finish(&self, claim: &Claim, check: impl FnOnce(Check, Timestamp) -> Check + Send) {
        let placed =
            Placed { order_id: claim.record.payment.order_id(), payment_id: claim.record.payment.id() };
        self.change(placed, |case, now| {
            assert_eq!(case.check.lease.map(|lease| lease.id), Some(claim.lease_id), "the lease is held");
            let check = check(Check { lease: None, ..case.check }, now);
            Changes { check: Some(check), ..nothing(case) }
        })
        .await;
    }

    /// A callback with the payment's token names `key_text`.
    pub(crate) async fn callback(&self, placed: Placed, key_text: &str) {
        let noted = self.ports.store.note_callbacks(&[named(placed, key_text)]).await;
        assert_eq!(noted, Ok(vec![Some(placed.payment_id)]));
    }

    /// Claims until something is there.
    pub(crate) async fn claim_eventually(&self, options: &ClaimOptions) -> Vec<Claim> {
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
pub(crate) async fn waits_for<A, B>(first: impl Future<Output = A>, then: impl Future<Output = B>) -> (A, B) {
    let mut first = Box::pin(first);
    let early = timeout(WATCHED, &mut first).await;
    assert!(early.is_err(), "it must wait");
    let then = then.await;
    let first = timeout(PATIENCE, first).await;
    assert!(first.is_ok(), "it must go on");
    (first.unwrap(), then)
}

/// The database's clock moves on.
pub(crate) async fn tick() {
    sleep(Duration::from_millis(3)).await;
}

/// Claims of `due`, named `lease_id`.
pub(crate) const fn claimable(due: Due, lease_id: i64) -> ClaimOptions {
    ClaimOptions { due, limit: 100, lease_id, lease: HOUR, due_by: None }
}

/// Those that have not ended.
pub(crate) const fn unsettled(lease_id: i64) -> ClaimOptions {
    claimable(Due::Unsettled, lease_id)
}

/// The watch list.
pub(crate) const fn watched(lease_id: i64) -> ClaimOptions {
    claimable(Due::Watched, lease_id)
}

pub(crate) fn needs(placed: Placed) -> SettlingNeeds {
    SettlingNeeds { payment_id: placed.payment_id, keys: Vec::new(), goods: false }
}

pub(crate) fn with_goods(placed: Placed) -> SettlingNeeds {
    SettlingNeeds { goods: true, ..needs(placed) }
}

pub(crate) fn nothing(case: &Case) -> Changes {
    Changes::none(case.record.payment.id(), case.record.payment.order_id())
}

/// The payment as `next` makes it, with a row of history.
pub(crate) fn moved(case: &Case, next: impl FnOnce(Payment) -> Payment) -> Changes {
    let before = &case.record.payment;
    let value = next(before.clone());
    let event = PaymentEvent {
        from: Some(before.status()),
        to: value.status(),
        cause: Cause::Reconciler,
        reason: Some("왜".into()),
        key: value.key().cloned(),
    };
    let payment = Some(domain::ports::Versioned { version: case.record.version, value });
    Changes { payment, history: vec![event], ..nothing(case) }
}

pub(crate) fn with_key(case: &Case, key_text: &str) -> Changes {
    moved(case, |payment| payment.update_external_payment_key(key(key_text)).unwrap())
}

/// PAID, and its order with it.
pub(crate) fn paid(case: &Case, key_text: &str) -> Changes {
    let order = case.order.with(case.order.value.clone().pay().unwrap());
    let payment =
        |payment: Payment| payment.update_external_payment_key(key(key_text)).unwrap().success().unwrap();
    Changes { order: Some(order), ..moved(case, payment) }
}

/// FAILED, and its order CANCELLED; nothing goes back.
pub(crate) fn failed(case: &Case) -> Changes {
    let order = case.order.with(case.order.value.clone().cancel().unwrap());
    let payment = |payment: Payment| payment.fail(Some(FailureMessage::from_outside("no"))).unwrap();
    Changes { order: Some(order), ..moved(case, payment) }
}

pub(crate) fn named(placed: Placed, key_text: &str) -> CallbackNote {
    CallbackNote::Named { token_hash: token_hash(placed.payment_id), key: key(key_text) }
}

pub(crate) fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

pub(crate) fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub(crate) fn key(text: &str) -> GatewayKey {
    GatewayKey::new(text).unwrap()
}

/// The buyer's key `text`, kept for an hour.
pub(crate) fn keyed(user_id: UserId, text: &str) -> KeyedRequest {
    let key = IdempotencyKey { user_id, key: text.into() };
    KeyedRequest { key, fingerprint: [7; 32], retention: HOUR }
}

pub(crate) fn ids_of(claims: &[Claim]) -> Vec<PaymentId> {
    claims.iter().map(|claim| claim.record.payment.id()).collect()
}

/// What became of a payment.
pub(crate) async fn status(world: &World, placed: Placed) -> PaymentStatus {
    world.record(placed).await.payment.status()
}
