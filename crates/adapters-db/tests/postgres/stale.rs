//! Whoever waited for a lock decides upon what is there after the wait. A statement that reads beside the lock it waits
//! for would still see the moment before.
//!
//! In each test another session holds what ours waits for, changes something beside it, and commits.

use crate::support::{Ask, Db, Placed, commit, token_hash, user, won};
use domain::placement::KeyState;
use domain::ports::{CallbackNote, IdempotencyKey, KeyedRequest, Queries, Store};
use domain::settlement::{Case, Hint, Lease};
use domain::{GatewayKey, IssuedCouponStatus, OrderStatus, PaymentStatus, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Runs `ours` while another session holds what `hold` locks; when ours waits (in a statement that bears `waits_in`), it
/// does what `change` says and commits.
async fn meanwhile<T: Send + 'static>(
    db: &Arc<Db>,
    hold: &str,
    waits_in: &str,
    change: &str,
    ours: impl Future<Output = T> + Send + 'static,
) -> T {
    let client = db.database.client().await;
    client.batch_execute(&format!("BEGIN; {hold}")).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(ours);
    db.waiting(waits_in).await;
    client.batch_execute(&format!("{change}; COMMIT")).await.unwrap();
    running.join_next().await.unwrap().unwrap()
}

async fn new() -> Arc<Db> {
    Arc::new(Db::new().await)
}

async fn case_meanwhile(db: &Arc<Db>, placed: Placed, hold: &str, waits_in: &str, change: &str) -> Case {
    let ours = Arc::clone(db);
    meanwhile(db, hold, waits_in, change, async move { ours.case(placed).await }).await
}

/// The defect that cost money: the wish to be watched, read beside the payment's lock.
#[tokio::test]
async fn a_case_is_read_after_its_payment_is_locked() {
    let db = new().await;
    let ask =
        Ask { coupon: Some(db.issued_coupon(user(1)).await), points: 100, ..Ask::of(db.product(9).await) };
    db.charge_points(user(1), 100).await;
    let placed = db.place_all(&[ask]).await.unwrap()[0];
    let change = "UPDATE payment SET status = 'IN_PROGRESS', external_payment_key = 'k', version = 5;
        UPDATE payment_check SET watch_wanted = true, failures = 3, lease_id = 7, leased_until = '2100-01-01 00:00 UTC';
        UPDATE orders SET status = 'PAID', version = 4;
        INSERT INTO callback_inbox (payment_id, external_payment_key) SELECT id, 'named' FROM payment;
        UPDATE issued_coupon SET version = 9;
        UPDATE point_account SET balance = 77";
    let case = case_meanwhile(&db, placed, "SELECT FROM payment FOR UPDATE", "FROM payment p", change).await;
    let key = |text: &str| GatewayKey::new(text).unwrap();
    assert_eq!((case.record.payment.status(), case.record.version), (PaymentStatus::InProgress, 5));
    assert_eq!(case.record.payment.key(), Some(&key("k")));
    assert!(case.check.watch_wanted);
    let until: Timestamp = time_of_2100();
    assert_eq!((case.check.failures, case.check.lease), (3, Some(Lease { id: 7, until })));
    assert_eq!((case.order.value.status(), case.order.version), (OrderStatus::Paid, 4));
    assert_eq!(case.hints, [Hint { key: key("named"), lease_id: None }]);
    assert_eq!(case.coupon.unwrap().version, 9);
}

fn time_of_2100() -> Timestamp {
    Timestamp::from_unix_timestamp(4_102_444_800).unwrap()
}

/// The check row is locked apart: a callback changes it without the payment's lock.
#[tokio::test]
async fn hints_are_read_after_their_check_row_is_locked() {
    let db = new().await;
    let placed = db.place().await;
    let change = "UPDATE payment_check SET woken_at = now();
        INSERT INTO callback_inbox (payment_id, external_payment_key) SELECT id, 'named' FROM payment";
    let hold = "SELECT FROM payment_check FOR UPDATE";
    let case = case_meanwhile(&db, placed, hold, "FROM payment_check", change).await;
    assert!(case.check.woken_at.is_some());
    assert_eq!(case.hints.len(), 1);
}

/// An ended payment gives nothing back, and its goods are not locked: here they are held by another one.
#[tokio::test]
async fn whose_payment_ended_while_it_was_waited_for_has_no_goods_to_lock() {
    let db = new().await;
    let placed = db.place().await;
    let change = "UPDATE payment SET status = 'FAILED', version = 1";
    let other = db.database.client().await;
    other.batch_execute("BEGIN; SELECT FROM stock FOR UPDATE").await.unwrap();
    let case = case_meanwhile(&db, placed, "SELECT FROM payment FOR UPDATE", "FROM payment p", change).await;
    assert_eq!(case.record.payment.status(), PaymentStatus::Failed);
    other.batch_execute("ROLLBACK").await.unwrap();
}

/// F24: price and stock change between the buyer's look and TX1, and both again while TX1 waits for its lock. What counts
/// is what TX1 reads after it.
#[tokio::test]
async fn an_order_costs_and_takes_what_is_there_after_the_wait() {
    let db = new().await;
    let product = db.product(5).await;
    let coupon = db.issued_coupon(user(1)).await;
    let key = IdempotencyKey { user_id: user(1), key: "k".into() };
    let keyed = KeyedRequest { key, fingerprint: [1; 32], retention: Duration::from_secs(9) };
    let needs = Ask { coupon: Some(coupon), key: Some(keyed), ..Ask::of(product) }.needs();
    let ours = Arc::clone(&db);
    let change = "UPDATE stock SET quantity = 4; UPDATE product SET price = 1300;
        UPDATE issued_coupon SET status = 'USED', used_at = now(), version = 1;
        INSERT INTO idempotency_key (user_id, key, fingerprint, order_id, expires_at)
            VALUES (1, 'k', decode(repeat('00', 32), 'hex'), 1, now() + interval '1 hour')";
    let (waits_in, hold) = ("FROM stock", "SELECT FROM stock FOR UPDATE");
    let placing = meanwhile(&db, hold, waits_in, change, async move {
        let (tx, placing) = ours.store.open_placing(&[needs]).await.unwrap();
        tx.rollback().await;
        placing
    })
    .await;
    let sold = &placing.products[&product];
    assert_eq!((sold.stock.quantity(), sold.price), (4, won(1300)));
    assert!(matches!(placing.coupons[&coupon].value.issued.status, IssuedCouponStatus::Used { .. }));
    assert!(matches!(placing.keys.values().next(), Some(KeyState::Known(_))));
}

#[tokio::test]
async fn points_are_what_is_left_after_the_wait() {
    let db = new().await;
    db.charge_points(user(1), 100).await;
    let needs = Ask { points: 60, ..Ask::of(db.product(5).await) }.needs();
    let ours = Arc::clone(&db);
    let (hold, change) = ("SELECT FROM point_account FOR UPDATE", "UPDATE point_account SET balance = 40");
    let placing = meanwhile(&db, hold, "point_account", change, async move {
        let (tx, placing) = ours.store.open_placing(&[needs]).await.unwrap();
        tx.rollback().await;
        placing
    })
    .await;
    assert_eq!(placing.points[&user(1)].balance(), won(40));
}

/// A payment that ended while its start waited is not started: nothing may be sent for it.
#[tokio::test]
async fn a_payment_that_moved_while_it_was_waited_for_is_not_started() {
    let db = new().await;
    let placed = db.place_all(&vec![Ask::of(db.product(9).await); 3]).await.unwrap();
    let ids: Vec<_> = placed.iter().map(|placed| placed.payment_id).collect();
    let (ours, asked) = (Arc::clone(&db), ids.clone());
    let change = "UPDATE payment SET status = 'FAILED', version = 1 WHERE id = (SELECT min(id) FROM payment);
        UPDATE payment SET version = 1 WHERE id = (SELECT max(id) FROM payment)";
    let started = meanwhile(&db, "SELECT FROM payment FOR UPDATE", "IN_PROGRESS", change, async move {
        ours.store.start_payments(&asked).await.unwrap()
    })
    .await;
    assert_eq!(started.into_iter().collect::<Vec<_>>(), [ids[1]]);
    let history = db.store.payment(None, ids[0]).await.unwrap().unwrap().history;
    assert_eq!(history.len(), 1, "no row says that it was started");
}

/// A callback that waits for whoever settles or claims its payment keeps their changes, and is not forgotten by them.
#[tokio::test]
async fn a_callback_adds_to_what_is_there_after_the_wait() {
    let db = new().await;
    let placed = db.place().await;
    let ours = Arc::clone(&db);
    let change = "UPDATE payment_check SET lease_id = 7, leased_until = '2100-01-01 00:00 UTC', failures = 4, \
        parked_at = now(), woken_at = NULL; \
        INSERT INTO callback_inbox (payment_id, external_payment_key, lease_id, looked_up_at) \
            SELECT id, 'k', 7, now() FROM payment";
    let hold = "SELECT FROM payment_check FOR UPDATE";
    let noted = meanwhile(&db, hold, "payment_check", change, async move {
        let key = GatewayKey::new("k").unwrap();
        let token_hash = token_hash(placed.payment_id);
        ours.store.note_callbacks(&[CallbackNote::Named { token_hash, key }]).await
    })
    .await;
    assert_eq!(noted, Ok(vec![Some(placed.payment_id)]));
    let case = db.case(placed).await;
    assert!(case.check.woken_at.is_some() && case.check.parked_at.is_none());
    assert_eq!((case.check.failures, case.check.lease.map(|lease| lease.id)), (4, Some(7)));
    assert_eq!(case.hints, [Hint { key: GatewayKey::new("k").unwrap(), lease_id: None }]);
}

/// What it found before the wait may be old: the payment ended meanwhile. It is looked at once more, that is all.
#[tokio::test]
async fn a_callback_for_a_payment_that_ends_meanwhile_wakes_it_all_the_same() {
    let db = new().await;
    let placed = db.place().await;
    let ours = Arc::clone(&db);
    let change = "UPDATE payment SET status = 'FAILED', version = 1; UPDATE payment_check SET due_at = NULL";
    let order_ref = db.case(placed).await.record.order_ref;
    let hold = "SELECT FROM payment_check FOR UPDATE";
    meanwhile(&db, hold, "payment_check", change, async move {
        ours.store.note_callbacks(&[CallbackNote::Unproven { order_ref }]).await.unwrap()
    })
    .await;
    let case = db.case(placed).await;
    assert!(case.check.woken_at.is_some() && case.check.due_at.is_none());
    // One that had ended before wakes nobody without a proof.
    let other = db.place().await;
    db.fail(&[other]).await.unwrap();
    let order_ref = db.case(other).await.record.order_ref;
    let noted = db.store.note_callbacks(&[CallbackNote::Unproven { order_ref }]).await;
    assert_eq!(noted, Ok(vec![Some(other.payment_id)]));
    assert_eq!(db.case(other).await.check.woken_at, None);
}

/// Who lost the lease while working, and commits all the same: the settling that follows refuses.
#[tokio::test]
async fn a_lease_that_passed_on_while_its_owner_waited_is_lost() {
    use domain::ports::{Cause, ClaimOptions, Due};
    use domain::settlement::{Blame, Learned, Settled};
    let db = new().await;
    let placed = db.place().await;
    let options =
        |lease_id, lease| ClaimOptions { due: Due::Unsettled, limit: 9, lease_id, lease, due_by: None };
    let zombie = db.store.claim(&options(1, Duration::ZERO)).await.unwrap().remove(0);
    // Another one claims it while the first one's settling waits for the payment.
    let hold = "SELECT FROM payment FOR UPDATE";
    let change = "UPDATE payment_check SET lease_id = 2, leased_until = now() + interval '1 hour'";
    let ours = Arc::clone(&db);
    meanwhile(&db, hold, "FROM payment p", change, async move {
        let (tx, mut settling) = ours.store.open_settling(&[placed.needs()]).await.unwrap();
        let learned = Learned::NotExamined { claim: &zombie, blame: Blame::Elsewhere };
        let rules = crate::support::rules();
        let settled =
            settling.settle(placed.payment_id, &learned, Cause::Reconciler, &rules).unwrap().unwrap();
        assert_eq!(settled.settled, Settled::LeaseLost);
        assert!(settled.changes.is_nothing());
        tx.store_changes(&[settled.changes]).await.unwrap();
        commit(tx).await.unwrap();
    })
    .await;
    assert_eq!(db.case(placed).await.check.lease.map(|lease| lease.id), Some(2));
}
