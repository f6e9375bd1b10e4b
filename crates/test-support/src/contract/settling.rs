//! What settling does: payments, orders, the ledger.

use super::World;
use super::world::{Placed, key, tick, user, waits_for, won};
use domain::ports::{Cause, DiscrepancyStatus, NewDiscrepancy, PaymentEvent, StoreError, StoreTx, Versioned};
use domain::settlement::{Discrepancy, DiscrepancyKind};
use domain::{DiscrepancyId, FailureMessage, OrderId, OrderStatus, Payment, PaymentId, PaymentStatus};

async fn save(tx: &dyn StoreTx, payment: &Versioned<Payment>) -> Result<(), StoreError> {
    let event = PaymentEvent {
        from: None,
        to: payment.value.status(),
        cause: Cause::Api,
        reason: Some("왜".into()),
        key: payment.value.key().cloned(),
    };
    tx.save_payment(payment, &[event]).await
}

/// Saving counts the version up and moves `updated_at`; an older version is a conflict.
pub async fn a_payment_is_saved_at_its_version(world: World) {
    let placed = world.place().await;
    let before = world.record(placed).await;
    tick().await;
    let started = before.payment.with(before.payment.value.clone().start().unwrap());
    let tx = world.begin().await;
    save(&*tx, &started).await.unwrap();
    tx.commit().await.unwrap();
    let after = world.record(placed).await;
    assert_eq!((after.payment.version, after.payment.value.status()), (1, PaymentStatus::InProgress));
    assert!(after.updated_at > before.updated_at);
    assert_eq!((after.created_at, after.send_deadline), (before.created_at, before.send_deadline));

    let tx = world.begin().await;
    assert!(matches!(save(&*tx, &started).await, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
    assert_eq!(world.record(placed).await, after);
}

/// Two that read the same version: the second waits for the first and loses, whatever it wanted.
pub async fn a_payment_race_has_one_winner(world: World) {
    let placed = world.place().await;
    world.start(placed).await;
    let read = world.record(placed).await.payment;
    let paid = read.value.clone().update_external_payment_key(key("k")).unwrap().success().unwrap();
    let failed = read.value.clone().fail(None).unwrap();
    let (one, two) = (world.begin().await, world.begin().await);
    save(&*one, &read.with(paid)).await.unwrap();
    let late = read.with(failed);
    let (lost, _) = waits_for(save(&*two, &late), one.commit()).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    two.rollback().await;
    assert_eq!(world.record(placed).await.payment.value.status(), PaymentStatus::Paid);
}

/// PAID and FAILED never leave, whoever tries.
pub async fn ended_payments_never_change(world: World) {
    let (paid, failed) = (world.place().await, world.place().await);
    world.pay(paid, "k").await;
    world.fail(failed).await;
    for placed in [paid, failed] {
        let record = world.record(placed).await;
        let fresh =
            Payment::create(placed.payment_id, placed.order_id, user(1), *record.payment.value.amounts());
        let tx = world.begin().await;
        assert!(save(&*tx, &record.payment.with(fresh.start().unwrap())).await.is_err());
        assert!(tx.commit().await.is_err());
        assert_eq!(world.record(placed).await, record);
    }
}

/// PAID and CANCELLED orders never leave.
pub async fn ended_orders_never_change(world: World) {
    for end in [OrderStatus::Paid, OrderStatus::Cancelled] {
        let placed = world.place().await;
        let tx = world.begin().await;
        let order = tx.lock_order(placed.order_id).await.unwrap().unwrap();
        let ended = match end {
            OrderStatus::Paid => order.value.clone().pay().unwrap(),
            OrderStatus::Placed | OrderStatus::Cancelled => order.value.clone().cancel().unwrap(),
        };
        tx.save_order(&order.with(ended)).await.unwrap();
        tx.commit().await.unwrap();
        let tx = world.begin().await;
        let again = Versioned { version: 1, value: order.value.cancel().unwrap() };
        assert!(tx.save_order(&again).await.is_err());
        tx.rollback().await;
        let view = world.ports.queries.order(None, placed.order_id).await.unwrap().unwrap();
        assert_eq!(view.order.status(), end);
    }
}

/// A key that another payment owns is a conflict, and can be asked for.
pub async fn a_key_has_one_owner(world: World) {
    let (owner, other) = (world.place().await, world.place().await);
    world.pay(owner, "taken").await;
    world.start(other).await;
    let keys = [key("taken"), key("free")];
    let tx = world.begin().await;
    let elsewhere = tx.keys_owned_elsewhere(other.payment_id, &keys).await.unwrap();
    assert_eq!(elsewhere.into_iter().collect::<Vec<_>>(), [key("taken")]);
    assert!(tx.keys_owned_elsewhere(owner.payment_id, &keys).await.unwrap().is_empty());
    assert!(tx.keys_owned_elsewhere(owner.payment_id, &[]).await.unwrap().is_empty());
    let read = world.record(other).await.payment;
    let stolen = read.value.clone().update_external_payment_key(key("taken")).unwrap();
    assert!(matches!(save(&*tx, &read.with(stolen)).await, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
}

/// A key that its payment replaced by another is free again.
pub async fn a_replaced_key_is_free(world: World) {
    let (one, two) = (world.place().await, world.place().await);
    world.start(one).await;
    world.start(two).await;
    for name in ["first", "second"] {
        world.change(one, |payment| payment.update_external_payment_key(key(name)).unwrap()).await;
    }
    world.change(two, |payment| payment.update_external_payment_key(key("first")).unwrap()).await;
    assert_eq!(world.record(one).await.payment.value.key(), Some(&key("second")));
    assert_eq!(world.record(two).await.payment.value.key(), Some(&key("first")));
}

/// Two payments take one key at once: the second waits and loses.
pub async fn two_take_one_key_at_once(world: World) {
    let (first, second) = (world.place().await, world.place().await);
    world.start(first).await;
    world.start(second).await;
    let with_key = |read: Versioned<Payment>| {
        let payment = read.value.clone().update_external_payment_key(key("one")).unwrap();
        read.with(payment)
    };
    let a = with_key(world.record(first).await.payment);
    let b = with_key(world.record(second).await.payment);
    let (one, two) = (world.begin().await, world.begin().await);
    save(&*one, &a).await.unwrap();
    let (lost, _) = waits_for(save(&*two, &b), one.commit()).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    two.rollback().await;
}

/// PAID by card without a key: refused.
pub async fn a_card_payment_needs_its_key_to_be_paid(world: World) {
    let placed = world.place().await;
    world.start(placed).await;
    let read = world.record(placed).await.payment;
    let tx = world.begin().await;
    assert!(save(&*tx, &read.with(read.value.clone().success().unwrap())).await.is_err());
    tx.rollback().await;
    assert_eq!(world.record(placed).await.payment, read);
}

/// Saving counts an order's version up; an older version is a conflict.
pub async fn an_order_is_saved_at_its_version(world: World) {
    let placed = world.place().await;
    let tx = world.begin().await;
    let order = tx.lock_order(placed.order_id).await.unwrap().unwrap();
    assert_eq!((order.version, order.value.status()), (0, OrderStatus::Placed));
    assert_eq!(order.value.items().len(), 1);
    let stale = Versioned { version: 5, value: order.value.clone().pay().unwrap() };
    assert!(matches!(tx.save_order(&stale).await, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
    let tx = world.begin().await;
    tx.save_order(&order.with(order.value.clone().pay().unwrap())).await.unwrap();
    let after = tx.lock_order(placed.order_id).await.unwrap().unwrap();
    assert_eq!((after.version, after.value.status()), (1, OrderStatus::Paid));
    tx.commit().await.unwrap();
}

/// What does not exist is `None`, not an error.
pub async fn unknown_rows_are_none(world: World) {
    let tx = world.begin().await;
    assert_eq!(tx.lock_payment(PaymentId::new(1 << 40).unwrap()).await, Ok(None));
    assert_eq!(tx.lock_order(OrderId::new(1 << 40).unwrap()).await, Ok(None));
    assert_eq!(tx.find_payment_by_token_hash(&[255; 32]).await, Ok(None));
    let issued = domain::IssuedCouponId::new(1 << 40).unwrap();
    assert_eq!(tx.find_coupon_holding(issued).await, Ok(None));
    let row = DiscrepancyId::new(1 << 40).unwrap();
    assert_eq!(tx.resolve_discrepancy(row, "x", "", "me").await, Ok(None));
    assert_eq!(
        tx.set_stock(domain::ProductId::new(1 << 40).unwrap(), domain::Stock::new(1).unwrap()).await,
        Ok(false)
    );
    tx.commit().await.unwrap();
}

fn discrepancy(placed: Placed, kind: DiscrepancyKind, name: &str) -> NewDiscrepancy {
    NewDiscrepancy {
        payment_id: placed.payment_id,
        discrepancy: Discrepancy {
            kind,
            key: Some(key(name)),
            amount: Some(won(1000)),
            evidence: "증거".into(),
        },
    }
}

async fn record(world: &World, row: &NewDiscrepancy) -> Option<DiscrepancyId> {
    let tx = world.begin().await;
    let id = tx.record_discrepancy(row).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// The same fact makes one row; another key or another payment makes another.
pub async fn one_fact_makes_one_row(world: World) {
    let (placed, other) = (world.place().await, world.place().await);
    let row = discrepancy(placed, DiscrepancyKind::PgLost, "a");
    let id = record(&world, &row).await.unwrap();
    assert_eq!(record(&world, &row).await, None);
    assert!(record(&world, &discrepancy(placed, DiscrepancyKind::PgLost, "b")).await.is_some());
    assert!(record(&world, &discrepancy(other, DiscrepancyKind::PgLost, "a")).await.is_some());
    let view = world.ports.queries.discrepancy(id).await.unwrap().unwrap();
    assert_eq!((view.kind, view.status), (DiscrepancyKind::PgLost, DiscrepancyStatus::Open));
    assert_eq!((view.payment_id, view.order_id), (placed.payment_id, placed.order_id));
    assert_eq!((view.key, view.amount), (Some(key("a")), Some(won(1000))));
    assert_eq!(view.evidence, "증거");
    assert_eq!((view.resolution, view.resolved_by, view.resolved_at), (None, None, None));
}

/// Two that find it at once: one row, and the second goes on.
pub async fn one_fact_at_once_makes_one_row(world: World) {
    let row = discrepancy(world.place().await, DiscrepancyKind::PgLost, "a");
    let (one, two) = (world.begin().await, world.begin().await);
    assert!(one.record_discrepancy(&row).await.unwrap().is_some());
    let (second, _) = waits_for(two.record_discrepancy(&row), one.commit()).await;
    assert_eq!(second, Ok(None));
    two.commit().await.unwrap();
    assert_eq!(world.ports.queries.discrepancies(None, None, 10).await.unwrap().len(), 1);
}

/// One charge makes one row, whatever it is first seen as.
pub async fn a_charge_is_one_fact(world: World) {
    let placed = world.place().await;
    let first = discrepancy(placed, DiscrepancyKind::AmountMismatch, "a");
    assert!(record(&world, &first).await.is_some());
    assert_eq!(record(&world, &discrepancy(placed, DiscrepancyKind::LateSuccess, "a")).await, None);
    assert!(record(&world, &discrepancy(placed, DiscrepancyKind::Conflict, "a")).await.is_some());
}

/// Resolving a second time changes nothing.
pub async fn a_row_is_resolved_once(world: World) {
    let placed = world.place().await;
    let id = record(&world, &discrepancy(placed, DiscrepancyKind::LateSuccess, "a")).await.unwrap();
    for (by, first) in [("first", true), ("second", false)] {
        let tx = world.begin().await;
        assert_eq!(tx.resolve_discrepancy(id, "REFUNDED", "메모", by).await, Ok(Some(first)));
        tx.commit().await.unwrap();
    }
    let view = world.ports.queries.discrepancy(id).await.unwrap().unwrap();
    assert_eq!(view.status, DiscrepancyStatus::Resolved);
    assert_eq!(view.resolution.as_deref(), Some("REFUNDED"));
    assert_eq!(view.note.as_deref(), Some("메모"));
    assert_eq!(view.resolved_by.as_deref(), Some("first"));
    assert!(view.resolved_at.is_some());
    let open = Some(DiscrepancyStatus::Open);
    assert!(world.ports.queries.discrepancies(open, None, 10).await.unwrap().is_empty());
    // A resolved fact is still the same fact.
    assert_eq!(record(&world, &discrepancy(placed, DiscrepancyKind::LateSuccess, "a")).await, None);
}

/// A failed payment keeps its message.
pub async fn a_failure_keeps_its_message(world: World) {
    let placed = world.place().await;
    let text = "가".repeat(FailureMessage::MAX_CHARS);
    let message = FailureMessage::new(text.clone()).unwrap();
    world.change(placed, |payment| payment.fail(Some(message)).unwrap()).await;
    let stored = world.record(placed).await.payment.value;
    assert!(matches!(
        stored.state(),
        domain::PaymentState::Failed { message: Some(message), .. } if message.as_str() == text
    ));
}
