//! Transactions: atomic, isolated, poisoned by a failure, and locks.

use super::World;
use super::world::{tick, waits_for, won};
use domain::Stock;
use domain::ports::{CommitError, StoreError};
use std::collections::BTreeSet;
use std::time::Duration;

/// Dropped without commit: nothing stays, and the locks are free.
pub async fn a_dropped_transaction_leaves_nothing(world: World) {
    let product = world.product(1000, 5).await;
    let tx = world.begin().await;
    assert!(tx.set_stock(product, Stock::new(9).unwrap()).await.unwrap());
    drop(tx);
    assert_eq!(world.stock(product).await, 5);
}

/// Rolled back: nothing stays.
pub async fn a_rolled_back_transaction_leaves_nothing(world: World) {
    let product = world.product(1000, 5).await;
    let tx = world.begin().await;
    assert!(tx.set_stock(product, Stock::new(9).unwrap()).await.unwrap());
    tx.rollback().await;
    assert_eq!(world.stock(product).await, 5);
}

/// READ COMMITTED: own writes are seen, others' only after their commit.
pub async fn nobody_sees_what_is_not_committed(world: World) {
    let tx = world.begin().await;
    let other = world.begin().await;
    let coupon = tx.insert_coupon("c", domain::Discount::fixed(won(1)).unwrap(), None).await.unwrap();
    assert_eq!(tx.find_coupon(coupon.id).await.unwrap(), Some(coupon.clone()));
    assert_eq!(other.find_coupon(coupon.id).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert_eq!(other.find_coupon(coupon.id).await.unwrap(), Some(coupon));
    other.rollback().await;
}

/// After a failed statement nothing more is done, and commit refuses.
pub async fn a_failed_statement_poisons_its_transaction(world: World) {
    let product = world.product(1000, 5).await;
    let placed = world.place().await;
    let tx = world.begin().await;
    assert!(tx.set_stock(product, Stock::new(9).unwrap()).await.unwrap());
    let record = tx.lock_payment(placed.payment_id).await.unwrap().unwrap();
    let stale = domain::ports::Versioned { version: 77, value: record.payment.value };
    assert!(matches!(tx.save_payment(&stale, &[]).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(tx.commit().await, Err(CommitError::RolledBack(_))));
    assert_eq!(world.stock(product).await, 5);
}

/// `now` stands still within a transaction, moves on between, and has whole microseconds.
pub async fn a_transaction_has_one_moment(world: World) {
    let tx = world.begin().await;
    let moment = tx.now();
    tick().await;
    assert_eq!(tx.now(), moment);
    assert_eq!(moment.nanosecond() % 1000, 0);
    assert!(moment.offset().is_utc());
    tx.rollback().await;
    let later = world.begin().await;
    assert!(later.now() > moment);
    later.rollback().await;
}

/// Each kind of row that can be locked is waited for until the other commits.
pub async fn locks_are_waited_for(world: World) {
    let product = world.product(1000, 5).await;
    let placed = world.place().await;

    let (one, two) = (world.begin().await, world.begin().await);
    one.lock_products(&[product]).await.unwrap();
    let (waited, _) = waits_for(two.lock_products(&[product]), one.commit()).await;
    assert_eq!(waited.unwrap().len(), 1);
    two.rollback().await;

    let (one, two) = (world.begin().await, world.begin().await);
    one.lock_payment(placed.payment_id).await.unwrap();
    let (waited, _) = waits_for(two.lock_payment(placed.payment_id), one.commit()).await;
    assert!(waited.unwrap().is_some());
    two.rollback().await;

    let (one, two) = (world.begin().await, world.begin().await);
    one.lock_order(placed.order_id).await.unwrap();
    let (waited, _) = waits_for(two.lock_order(placed.order_id), one.commit()).await;
    assert!(waited.unwrap().is_some());
    two.rollback().await;
}

/// Who waits goes on when the other takes it back.
pub async fn a_rollback_frees_its_locks(world: World) {
    let product = world.product(1000, 5).await;
    let (one, two) = (world.begin().await, world.begin().await);
    one.set_stock(product, Stock::new(1).unwrap()).await.unwrap();
    let (waited, ()) = waits_for(two.lock_products(&[product]), one.rollback()).await;
    assert_eq!(waited.unwrap()[0].stock.quantity(), 5);
    two.rollback().await;
}

/// Who waits goes on when the other's task dies.
pub async fn a_drop_frees_its_locks(world: World) {
    let product = world.product(1000, 5).await;
    let one = world.begin().await;
    one.set_stock(product, Stock::new(1).unwrap()).await.unwrap();
    drop(one);
    // The server may need a moment to notice: a lock time-out is allowed, for so long as it is promised.
    let start = tokio::time::Instant::now();
    loop {
        let two = world.begin().await;
        if two.lock_products(&[product]).await.is_ok() {
            two.rollback().await;
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the lock was never freed");
    }
    assert_eq!(world.stock(product).await, 5);
}

/// After the wait a row is read anew, so no update is lost.
pub async fn a_locked_row_is_read_after_the_wait(world: World) {
    let product = world.product(1000, 5).await;
    let (one, two) = (world.begin().await, world.begin().await);
    one.lock_products(&[product]).await.unwrap();
    one.set_stock(product, Stock::new(2).unwrap()).await.unwrap();
    let (waited, _) = waits_for(two.lock_products(&[product]), one.commit()).await;
    assert_eq!(waited.unwrap()[0].stock.quantity(), 2);
    two.rollback().await;
}

/// Two that wait for each other: one gets a conflict (or its time-out), and nothing hangs.
pub async fn a_circle_of_waiting_is_broken(world: World) {
    let (a, b) = (world.product(1000, 5).await, world.product(1000, 5).await);
    let (one, two) = (world.begin().await, world.begin().await);
    one.lock_products(&[a]).await.unwrap();
    two.lock_products(&[b]).await.unwrap();
    let first = async {
        let result = one.lock_products(&[b]).await;
        one.rollback().await;
        result
    };
    let second = async {
        let result = two.lock_products(&[a]).await;
        two.rollback().await;
        result
    };
    let (first, second) = tokio::join!(first, second);
    let broken = |result: &Result<_, StoreError>| {
        matches!(result, Err(StoreError::Conflict { .. } | StoreError::Unavailable { .. }))
    };
    assert!(broken(&first) || broken(&second));
}

/// Ids are not given out again, even after a rollback.
pub async fn ids_are_never_given_twice(world: World) {
    let mut orders = BTreeSet::new();
    let mut payments = BTreeSet::new();
    for round in 0..6 {
        let tx = world.begin().await;
        let ids = tx.next_order_ids().await.unwrap();
        assert!(ids.order_id.get() > 100_000, "the gateway wants six characters");
        assert!(orders.insert(ids.order_id) && payments.insert(ids.payment_id));
        if round % 2 == 0 { tx.commit().await.unwrap() } else { tx.rollback().await }
    }
}
