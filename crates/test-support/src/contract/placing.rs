//! What TX1 does.

use super::World;
use super::world::{HOUR, Placed, first_event, idempotency, new_payment, order, tick, user, waits_for, won};
use domain::ports::{
    IdempotencyKey, NewPayment, PointEntry, PointEntryKind, StockEntry, StockEntryKind, StoreError,
    StoredAnswer, Versioned,
};
use domain::{Discount, IssuedCoupon, IssuedCouponStatus, PaymentStatus, ProductId, Quantity, UserId};
use std::time::Duration;

fn stock_entry(product_id: ProductId, placed: Placed, kind: StockEntryKind, pieces: i64) -> StockEntry {
    let quantity = Quantity::new(pieces).unwrap();
    StockEntry { product_id, payment_id: placed.payment_id, kind, quantity }
}

async fn move_stock(world: &World, entry: StockEntry) -> Result<(), StoreError> {
    let tx = world.begin().await;
    tx.lock_products(&[entry.product_id]).await.unwrap();
    match tx.move_stock(&[entry]).await {
        Ok(()) => {
            tx.commit().await.unwrap();
            Ok(())
        }
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

/// Everything that was written is read back as it was.
pub async fn an_order_is_there_as_it_was_placed(world: World) {
    let placed = world.place().await;
    let view = world.ports.queries.order(Some(user(1)), placed.order_id).await.unwrap().unwrap();
    assert_eq!(view.order.id(), placed.order_id);
    assert_eq!(view.order.total(), won(1000));
    assert_eq!(view.order.items()[0].product_name, "product");
    let record = view.payment;
    assert_eq!(record.payment.version, 0);
    assert_eq!(record.payment.value.id(), placed.payment_id);
    assert_eq!(record.payment.value.status(), PaymentStatus::Pending);
    assert_eq!(record.payment.value.amounts().paid_amount(), won(1000));
    assert_eq!(record.card.as_ref().unwrap().masked, "1234-****-****-1451");
    assert_eq!(record.merchant.as_str(), "holdfast");
    assert_eq!(record.send_deadline, record.created_at + time::Duration::hours(1));
    assert_eq!(record.updated_at, record.created_at);
    assert_eq!(view.placed_at, record.created_at);
    assert!(!record.watch_wanted);
    assert_eq!(world.record(placed).await, record);
}

/// Locking products that don't exist leaves them out; the others come ascending.
pub async fn unknown_products_are_left_out(world: World) {
    let (a, b) = (world.product(1, 1).await, world.product(2, 2).await);
    let tx = world.begin().await;
    let unknown = ProductId::new(1 << 40).unwrap();
    let products = tx.lock_products(&[b, unknown, a]).await.unwrap();
    let ids: Vec<_> = products.iter().map(|product| product.id).collect();
    assert_eq!(ids, [a, b]);
    assert_eq!(products[1].price, won(2));
    assert_eq!(products[1].stock.quantity(), 2);
    tx.rollback().await;
}

/// A reserve that would fall below zero is a conflict and takes nothing.
pub async fn stock_never_falls_below_zero(world: World) {
    let product = world.product(1000, 3).await;
    let placed = world.place().await;
    let too_much = stock_entry(product, placed, StockEntryKind::Reserve, 4);
    assert!(matches!(move_stock(&world, too_much).await, Err(StoreError::Conflict { .. })));
    assert_eq!(world.stock(product).await, 3);
    let all = stock_entry(product, placed, StockEntryKind::Reserve, 3);
    assert_eq!(move_stock(&world, all).await, Ok(()));
    assert_eq!(world.stock(product).await, 0);
}

/// The ledger refuses a second restore for the same payment and product.
pub async fn stock_comes_back_once(world: World) {
    let product = world.product(1000, 3).await;
    let placed = world.place().await;
    let restore = stock_entry(product, placed, StockEntryKind::Restore, 2);
    move_stock(&world, stock_entry(product, placed, StockEntryKind::Reserve, 2)).await.unwrap();
    move_stock(&world, restore).await.unwrap();
    assert!(matches!(move_stock(&world, restore).await, Err(StoreError::Conflict { .. })));
    assert_eq!(world.stock(product).await, 3);
}

async fn move_points(
    world: &World,
    buyer: UserId,
    kind: PointEntryKind,
    amount: i64,
    placed: Option<Placed>,
) -> Result<(), StoreError> {
    let tx = world.begin().await;
    let account = tx.lock_points(buyer).await.unwrap();
    let account = match kind {
        PointEntryKind::Charge => account.charge(won(amount)).unwrap(),
        PointEntryKind::Deduct => account.deduct(won(amount)).unwrap(),
        PointEntryKind::Restore => account.restore(won(amount)).unwrap(),
    };
    let payment_id = placed.map(|placed| placed.payment_id);
    let entry = PointEntry { account, kind, amount: won(amount), payment_id };
    match tx.save_points(&entry).await {
        Ok(()) => {
            tx.commit().await.unwrap();
            Ok(())
        }
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

/// The ledger refuses a second restore, and a second deduction, for the same payment.
pub async fn points_come_back_once(world: World) {
    let buyer = user(1);
    let placed = Some(world.place().await);
    move_points(&world, buyer, PointEntryKind::Charge, 100, None).await.unwrap();
    move_points(&world, buyer, PointEntryKind::Charge, 100, None).await.unwrap();
    move_points(&world, buyer, PointEntryKind::Deduct, 30, placed).await.unwrap();
    let again = move_points(&world, buyer, PointEntryKind::Deduct, 30, placed).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })));
    move_points(&world, buyer, PointEntryKind::Restore, 30, placed).await.unwrap();
    let again = move_points(&world, buyer, PointEntryKind::Restore, 30, placed).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })));
    assert_eq!(world.ports.queries.point_balance(buyer).await, Ok(won(200)));
}

/// A buyer who never had points has none, and can get some.
pub async fn an_account_that_is_not_there_is_empty(world: World) {
    let buyer = user(5);
    assert_eq!(world.ports.queries.point_balance(buyer).await, Ok(won(0)));
    let tx = world.begin().await;
    assert_eq!(tx.lock_points(buyer).await.unwrap().balance(), won(0));
    tx.rollback().await;
    move_points(&world, buyer, PointEntryKind::Charge, 7, None).await.unwrap();
    assert_eq!(world.ports.queries.point_balance(buyer).await, Ok(won(7)));
}

/// Two at once on one account: the second sees what the first left, even for a new account.
pub async fn points_are_locked(world: World) {
    let buyer = user(6);
    let (one, two) = (world.begin().await, world.begin().await);
    let account = one.lock_points(buyer).await.unwrap().charge(won(10)).unwrap();
    let charge = PointEntry { account, kind: PointEntryKind::Charge, amount: won(10), payment_id: None };
    one.save_points(&charge).await.unwrap();
    let (waited, _) = waits_for(two.lock_points(buyer), one.commit()).await;
    assert_eq!(waited.unwrap().balance(), won(10));
    two.rollback().await;
}

async fn coupon(world: &World) -> IssuedCoupon {
    let tx = world.begin().await;
    let coupon = tx.insert_coupon("c", Discount::rate(10).unwrap(), None).await.unwrap();
    let issued = tx.insert_issued_coupon(coupon.id, user(1)).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    issued
}

/// Saving counts the version up; an older version is a conflict.
pub async fn a_coupon_is_saved_at_its_version(world: World) {
    let issued = coupon(&world).await;
    let placed = world.place().await;
    let tx = world.begin().await;
    let holding = tx.find_coupon_holding(issued.id).await.unwrap().unwrap();
    assert_eq!(holding.version, 0);
    assert_eq!(holding.value.issued, issued);
    let used = holding.value.issued.redeem(user(1), &holding.value.coupon, tx.now()).unwrap();
    tx.save_issued_coupon(&holding.with(used), placed.payment_id).await.unwrap();
    tx.commit().await.unwrap();

    let other = world.place().await;
    let tx = world.begin().await;
    let now = tx.find_coupon_holding(issued.id).await.unwrap().unwrap();
    assert_eq!((now.version, now.value.issued), (1, used));
    let stale = tx.save_issued_coupon(&holding.with(used), other.payment_id).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
}

/// Two transactions with the same version: the second waits and loses.
pub async fn a_coupon_race_has_one_winner(world: World) {
    let issued = coupon(&world).await;
    let (first, second) = (world.place().await, world.place().await);
    let (one, two) = (world.begin().await, world.begin().await);
    let holding = one.find_coupon_holding(issued.id).await.unwrap().unwrap();
    let seen = two.find_coupon_holding(issued.id).await.unwrap().unwrap();
    let used = issued.redeem(user(1), &holding.value.coupon, one.now()).unwrap();
    one.save_issued_coupon(&holding.with(used), first.payment_id).await.unwrap();
    let (lost, _) =
        waits_for(two.save_issued_coupon(&seen.with(used), second.payment_id), one.commit()).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    two.rollback().await;
}

/// Given back once per payment, even if it is used again by another payment in between.
pub async fn a_coupon_comes_back_once(world: World) {
    let issued = coupon(&world).await;
    let (first, second) = (world.place().await, world.place().await);
    let terms = {
        let tx = world.begin().await;
        let terms = tx.find_coupon_holding(issued.id).await.unwrap().unwrap().value.coupon;
        tx.rollback().await;
        terms
    };
    let save = async |version, status, placed: Placed| {
        let tx = world.begin().await;
        let coupon = Versioned { version, value: IssuedCoupon { status, ..issued } };
        let result = tx.save_issued_coupon(&coupon, placed.payment_id).await;
        match result {
            Ok(()) => tx.commit().await.map_err(|_| ()),
            Err(_) => {
                tx.rollback().await;
                Err(())
            }
        }
    };
    let used = {
        let tx = world.begin().await;
        let used = issued.redeem(user(1), &terms, tx.now()).unwrap().status;
        tx.rollback().await;
        used
    };
    assert_eq!(save(0, used, first).await, Ok(()));
    assert_eq!(save(1, IssuedCouponStatus::Available, first).await, Ok(()));
    assert_eq!(save(2, used, second).await, Ok(()));
    assert_eq!(save(3, IssuedCouponStatus::Available, first).await, Err(()));
    assert_eq!(save(3, IssuedCouponStatus::Available, second).await, Ok(()));
}

/// A second payment for an order, and a second order with an id, are conflicts.
pub async fn an_order_has_one_payment(world: World) {
    let placed = world.place().await;
    let tx = world.begin().await;
    let ids = tx.next_order_ids().await.unwrap();
    let second = new_payment(domain::ports::NewOrderIds { order_id: placed.order_id, ..ids }, user(1));
    let result = tx.insert_payment(&second, &[first_event()]).await;
    assert!(matches!(result, Err(StoreError::Conflict { .. })));
    tx.rollback().await;

    let product = world.product(1000, 1).await;
    let tx = world.begin().await;
    let result = tx.insert_order(&order(placed.order_id, user(1), product)).await;
    assert!(matches!(result, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
}

/// Something on the card and no card: refused, and nothing stays.
pub async fn a_payment_on_a_card_needs_the_card(world: World) {
    let product = world.product(1000, 1).await;
    let tx = world.begin().await;
    let ids = tx.next_order_ids().await.unwrap();
    tx.insert_order(&order(ids.order_id, user(1), product)).await.unwrap();
    let payment = NewPayment { card: None, ..new_payment(ids, user(1)) };
    assert!(tx.insert_payment(&payment, &[first_event()]).await.is_err());
    assert!(tx.commit().await.is_err());
    assert_eq!(world.ports.queries.order(None, ids.order_id).await, Ok(None));
}

/// The first gets it, the second learns what it stands for.
pub async fn an_idempotency_key_is_taken_once(world: World) {
    let placed = world.place().await;
    let claim = idempotency(user(1), placed.order_id);
    let tx = world.begin().await;
    assert_eq!(tx.claim_idempotency(&claim).await, Ok(None));
    tx.commit().await.unwrap();
    let tx = world.begin().await;
    let record = tx.claim_idempotency(&claim).await.unwrap().unwrap();
    assert_eq!((record.fingerprint, record.order_id), ([7; 32], placed.order_id));
    assert_eq!((record.answer.clone(), record.abandoned), (None, false));
    tx.rollback().await;
    assert_eq!(world.ports.queries.idempotency(&claim.key).await, Ok(Some(record)));
}

/// The second waits for the first, then learns what it stands for.
pub async fn an_idempotency_key_waits_for_the_one_who_takes_it(world: World) {
    let (first, second) = (world.place().await, world.place().await);
    let (one, two) = (world.begin().await, world.begin().await);
    let (claim, late) = (idempotency(user(1), first.order_id), idempotency(user(1), second.order_id));
    assert_eq!(one.claim_idempotency(&claim).await, Ok(None));
    let (waited, _) = waits_for(two.claim_idempotency(&late), one.commit()).await;
    assert_eq!(waited.unwrap().unwrap().order_id, first.order_id);
    two.rollback().await;
}

/// The second waits, and takes it when the first takes its own back.
pub async fn an_idempotency_key_is_free_after_a_rollback(world: World) {
    let (first, second) = (world.place().await, world.place().await);
    let (one, two) = (world.begin().await, world.begin().await);
    assert_eq!(one.claim_idempotency(&idempotency(user(1), first.order_id)).await, Ok(None));
    let late = idempotency(user(1), second.order_id);
    let (waited, ()) = waits_for(two.claim_idempotency(&late), one.rollback()).await;
    assert_eq!(waited, Ok(None));
    two.commit().await.unwrap();
    let record = world.ports.queries.idempotency(&late.key).await.unwrap().unwrap();
    assert_eq!(record.order_id, second.order_id);
}

/// After its retention a key is free again.
pub async fn an_idempotency_key_expires(world: World) {
    let (first, second) = (world.place().await, world.place().await);
    let mut claim = idempotency(user(1), first.order_id);
    claim.retention = Duration::from_millis(1);
    let tx = world.begin().await;
    assert_eq!(tx.claim_idempotency(&claim).await, Ok(None));
    tx.commit().await.unwrap();
    tick().await;
    assert_eq!(world.ports.queries.idempotency(&claim.key).await, Ok(None));
    let claim = idempotency(user(1), second.order_id);
    let tx = world.begin().await;
    assert_eq!(tx.claim_idempotency(&claim).await, Ok(None));
    tx.commit().await.unwrap();
    let record = world.ports.queries.idempotency(&claim.key).await.unwrap().unwrap();
    assert_eq!((record.order_id, record.answer), (second.order_id, None));
}

/// Another buyer's key of the same text is another key.
pub async fn an_idempotency_key_belongs_to_its_buyer(world: World) {
    let placed = world.place().await;
    let tx = world.begin().await;
    assert_eq!(tx.claim_idempotency(&idempotency(user(1), placed.order_id)).await, Ok(None));
    assert_eq!(tx.claim_idempotency(&idempotency(user(2), placed.order_id)).await, Ok(None));
    tx.commit().await.unwrap();
}

/// The first answer stays, to the letter; answers for unknown keys go nowhere.
pub async fn the_first_answer_stays(world: World) {
    let placed = world.place().await;
    let claim = idempotency(user(1), placed.order_id);
    let tx = world.begin().await;
    assert_eq!(tx.claim_idempotency(&claim).await, Ok(None));
    tx.commit().await.unwrap();
    for (status, body) in [(201, "{\"주문\": 1}"), (402, "second")] {
        let tx = world.begin().await;
        let answer = StoredAnswer { status, body: body.into() };
        tx.save_idempotent_answer(&claim.key, &answer).await.unwrap();
        tx.commit().await.unwrap();
    }
    let record = world.ports.queries.idempotency(&claim.key).await.unwrap().unwrap();
    assert_eq!(record.answer, Some(StoredAnswer { status: 201, body: "{\"주문\": 1}".into() }));

    let unknown = IdempotencyKey { user_id: user(9), key: "never".into() };
    let tx = world.begin().await;
    let answer = StoredAnswer { status: 200, body: String::new() };
    tx.save_idempotent_answer(&unknown, &answer).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.ports.queries.idempotency(&unknown).await, Ok(None));
}

/// Without an answer, and past its order's send deadline, the first request can't be under way any more.
pub async fn a_key_without_an_answer_is_abandoned_after_the_deadline(world: World) {
    for (send_within, abandoned) in [(HOUR, false), (Duration::ZERO, true)] {
        let placed = world.place_with(user(1), send_within).await;
        let mut claim = idempotency(user(1), placed.order_id);
        claim.key.key = format!("abandoned {abandoned}");
        let tx = world.begin().await;
        assert_eq!(tx.claim_idempotency(&claim).await, Ok(None));
        tx.commit().await.unwrap();
        let start = tokio::time::Instant::now();
        loop {
            tick().await;
            let record = world.ports.queries.idempotency(&claim.key).await.unwrap().unwrap();
            // It may be called abandoned some time after the deadline, never before it.
            if record.abandoned == abandoned {
                break;
            }
            assert!(abandoned, "not past its deadline");
            assert!(start.elapsed() < Duration::from_secs(180), "never abandoned");
        }
    }
}
