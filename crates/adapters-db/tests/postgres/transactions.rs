//! What holds a transaction together: poison, dropping, limits, one round trip for what travels together.

use crate::support::{Db, PATIENCE, eventually, user, won};
use domain::ports::{CommitError, Queries, StockEntry, StockEntryKind, Store, StoreError, StoreTx};
use domain::{PaymentId, ProductId, Quantity};
use std::time::Duration;
use test_support::Cut;
use tokio::time::{Instant, timeout};

fn entry(product_id: ProductId, kind: StockEntryKind) -> StockEntry {
    StockEntry {
        product_id,
        payment_id: PaymentId::new(7).unwrap(),
        kind,
        quantity: Quantity::new(1).unwrap(),
    }
}

async fn restore(tx: &dyn StoreTx, product: ProductId) -> Result<(), StoreError> {
    tx.move_stock(&[entry(product, StockEntryKind::Restore)]).await
}

/// Spec 04, F11: within 1.5 s. The server's own time-outs are far away here, so that only the closing can have done it.
/// A machine that is slow at one moment is not slow five times.
#[tokio::test]
async fn a_dropped_transaction_frees_its_locks_within_1500_ms() {
    let db = Db::new().await;
    let product = db.product(10).await;
    let mut best = PATIENCE;
    for _ in 0..5 {
        let tx = db.begin().await;
        tx.lock_products(&[product]).await.unwrap();
        let other = db.begin().await;
        let dropped = Instant::now();
        drop(tx);
        other.lock_products(&[product]).await.unwrap();
        best = best.min(dropped.elapsed());
        other.rollback().await;
    }
    assert!(best < Duration::from_millis(1500), "{best:?}");
}

/// The same when it is dropped while a statement waits for another lock: the server must first notice.
#[tokio::test]
async fn a_transaction_that_is_dropped_while_it_waits_frees_its_locks_within_1500_ms() {
    let db = Db::with(|options| options.client_connection_check_interval = Duration::from_secs(1)).await;
    let (held, wanted) = (db.product(10).await, db.product(10).await);
    let mut best = PATIENCE;
    for _ in 0..3 {
        let blocker = db.begin().await;
        blocker.lock_products(&[wanted]).await.unwrap();
        let waiting = db.begin().await;
        waiting.lock_products(&[held]).await.unwrap();
        let wait = timeout(Duration::from_millis(50), waiting.lock_products(&[wanted])).await;
        assert!(wait.is_err(), "it must wait");
        let other = db.begin().await;
        let dropped = Instant::now();
        drop(waiting);
        other.lock_products(&[held]).await.unwrap();
        best = best.min(dropped.elapsed());
        other.rollback().await;
        blocker.rollback().await;
    }
    assert!(best < Duration::from_millis(1500), "{best:?}");
}

#[tokio::test]
async fn the_connection_of_a_dropped_transaction_is_never_given_out_again() {
    let db = Db::with(|options| options.pool_size = 1).await;
    let product = db.product(3).await;
    for _ in 0..3 {
        let tx = db.begin().await;
        tx.set_stock(product, domain::Stock::new(1).unwrap()).await.unwrap();
        drop(tx);
        // On the same connection this would still see the change.
        assert_eq!(db.stock(product).await, 3);
    }
}

#[tokio::test]
async fn a_begin_that_is_dropped_leaves_no_transaction_in_the_pool() {
    let db = Db::with(|options| {
        options.pool_name = "dropped-begin";
        options.idle_in_transaction_session_timeout = PATIENCE * 10;
    })
    .await;
    db.store.ready().await.unwrap();
    // From before the first byte to after the last answer.
    for micros in (0..4000).step_by(100) {
        drop(timeout(Duration::from_micros(micros), db.store.begin("cancelled")).await);
    }
    let client = db.database.client().await;
    let open = "SELECT count(*) FROM pg_stat_activity \
        WHERE application_name = 'holdfast/dropped-begin' AND state <> 'idle'";
    eventually("no transaction is left open", async || {
        let open: i64 = client.query_one(open, &[]).await.unwrap().get(0);
        (open == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_failed_statement_commit_refuses_and_nothing_stays() {
    let db = Db::new().await;
    let product = db.product(5).await;
    let tx = db.begin().await;
    restore(tx.as_ref(), product).await.unwrap();
    let failed = restore(tx.as_ref(), product).await;
    assert_eq!(failed, Err(StoreError::Conflict { what: "idx_stock_ledger_once".into() }));
    // The caller swallows it and goes on.
    let refused = tx.commit().await;
    let reason = StoreError::Conflict { what: "idx_stock_ledger_once".into() };
    assert_eq!(refused, Err(CommitError::RolledBack(reason)));
    assert_eq!(db.stock(product).await, 5);
}

/// Nothing failed at the server, but a rule of ours did: the transaction must not be committed either.
#[tokio::test]
async fn a_lost_version_poisons_too() {
    let db = Db::new().await;
    let product = db.product(0).await;
    let tx = db.begin().await;
    tx.insert_coupon("never", domain::Discount::Fixed(won(1)), None).await.unwrap();
    let reserve = tx.move_stock(&[entry(product, StockEntryKind::Reserve)]).await;
    assert!(matches!(reserve, Err(StoreError::Conflict { .. })), "{reserve:?}");
    assert!(matches!(tx.commit().await, Err(CommitError::RolledBack(StoreError::Conflict { .. }))));
    let count = "SELECT count(*) FROM coupon";
    let coupons: i64 = db.database.client().await.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(coupons, 0);
}

#[tokio::test]
async fn an_abandoned_statement_poisons() {
    let db = Db::new().await;
    let product = db.product(5).await;
    let blocker = db.begin().await;
    blocker.lock_products(&[product]).await.unwrap();
    let tx = db.begin().await;
    let abandoned = timeout(Duration::from_millis(30), restore(tx.as_ref(), product)).await;
    assert!(abandoned.is_err(), "it must wait");
    blocker.rollback().await;
    let refused = tx.commit().await;
    assert!(matches!(refused, Err(CommitError::RolledBack(StoreError::Other { .. }))), "{refused:?}");
    assert_eq!(db.stock(product).await, 5);
}

/// Of statements that travel together the caller learns the reason, in whichever order they are polled.
#[tokio::test]
async fn the_reason_of_a_failure_is_told_whichever_statement_is_polled_first() {
    let db = Db::new().await;
    let product = db.product(5).await;
    let tx = db.begin().await;
    restore(tx.as_ref(), product).await.unwrap();
    tx.commit().await.unwrap();
    let conflict = StoreError::Conflict { what: "idx_stock_ledger_once".into() };
    for _ in 0..3 {
        let tx = db.begin().await;
        // The second one is on the wire behind the first and fails with 25P02.
        let (failed, aborted) = tokio::join!(restore(tx.as_ref(), product), tx.lock_points(user(1)));
        assert_eq!(failed, Err(conflict.clone()));
        if let Err(error) = aborted {
            assert!(error.to_string().contains("idx_stock_ledger_once"), "{error}");
        }
        tx.rollback().await;
    }
}

#[tokio::test]
async fn a_lock_that_does_not_come_is_unavailable() {
    let db = Db::with(|options| options.lock_timeout = Duration::from_millis(50)).await;
    let product = db.product(5).await;
    let blocker = db.begin().await;
    blocker.lock_products(&[product]).await.unwrap();
    let tx = db.begin().await;
    let error = tx.lock_products(&[product]).await.unwrap_err();
    let StoreError::Unavailable { what } = &error else { panic!("{error:?}") };
    assert!(what.contains("55P03"), "{what}");
    assert!(matches!(tx.commit().await, Err(CommitError::RolledBack(StoreError::Unavailable { .. }))));
    blocker.rollback().await;
}

#[tokio::test]
async fn the_server_ends_a_transaction_whose_owner_says_nothing() {
    let db = Db::with(|options| {
        options.idle_in_transaction_session_timeout = Duration::from_millis(100);
    })
    .await;
    let product = db.product(5).await;
    let silent = db.begin().await;
    silent.lock_products(&[product]).await.unwrap();
    let other = db.begin().await;
    other.lock_products(&[product]).await.unwrap();
    other.rollback().await;
    // Its connection is known to be closed, so that nothing was sent: surely not stored.
    eventually("the connection is known to be lost", async || {
        let lost = silent.lock_products(&[product]).await;
        matches!(lost, Err(StoreError::Unavailable { .. })).then_some(())
    })
    .await;
    assert!(matches!(silent.commit().await, Err(CommitError::RolledBack(StoreError::Unavailable { .. }))));
}

#[tokio::test]
async fn a_pool_that_is_used_up_answers_in_time() {
    let db = Db::with(|options| {
        options.pool_size = 1;
        options.acquire_timeout = Duration::from_millis(50);
    })
    .await;
    // The first connection may take longer than that to open.
    let tx = eventually("a connection", async || db.store.begin("holds").await.ok()).await;
    for _ in 0..3 {
        let error = db.store.begin("waits").await.err().unwrap();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    }
    tx.rollback().await;
    assert!(db.store.begin("comes").await.is_ok());
}

#[tokio::test]
async fn a_database_out_of_reach_is_unavailable_and_found_again() {
    let (db, proxy) = Db::behind_proxy(|options| {
        options.acquire_timeout = Duration::from_millis(300);
        options.connect_timeout = Duration::from_millis(300);
    })
    .await;
    eventually("a first connection", async || db.store.ready().await.ok()).await;
    proxy.refuse(Some(Cut::Reset));
    proxy.cut(Cut::Reset);
    eventually("the loss is noticed", async || {
        matches!(db.store.begin("lost").await, Err(StoreError::Unavailable { .. })).then_some(())
    })
    .await;
    proxy.refuse(None);
    eventually("the way back", async || db.store.ready().await.ok()).await;
    // A black hole: connections are accepted and never answered.
    proxy.cut(Cut::Reset);
    proxy.hold(true);
    let begun = Instant::now();
    let lost = db.store.begin("black hole").await.err();
    assert!(matches!(lost, Some(StoreError::Unavailable { .. })), "{lost:?}");
    assert!(begun.elapsed() < PATIENCE);
    proxy.hold(false);
    eventually("the way back", async || db.store.ready().await.ok()).await;
}

/// Every round trip takes 60 ms here; the machine's own time is small beside that.
#[tokio::test]
async fn independent_statements_travel_together() {
    let (db, proxy) = Db::behind_proxy(|options| options.pool_size = 1).await;
    let product = db.product(5).await;
    let ids = [product];
    let together = async |tx: &dyn StoreTx| {
        tokio::try_join!(
            tx.lock_products(&ids),
            tx.next_order_ids(),
            tx.lock_points(user(1)),
            tx.find_payment_by_token_hash(&[0; 32]),
            tx.find_coupon(domain::CouponId::new(1).unwrap()),
            tx.lock_payment(PaymentId::new(1).unwrap()),
        )
        .unwrap();
    };
    // Prepares every statement on the one connection.
    let tx = db.begin().await;
    together(tx.as_ref()).await;
    tx.commit().await.unwrap();

    proxy.delay(Duration::from_millis(30));
    let begun = Instant::now();
    let tx = db.begin().await;
    let begin = begun.elapsed();
    let begun = Instant::now();
    together(tx.as_ref()).await;
    let joined = begun.elapsed();
    let begun = Instant::now();
    tx.lock_products(&ids).await.unwrap();
    tx.next_order_ids().await.unwrap();
    tx.lock_points(user(1)).await.unwrap();
    tx.find_payment_by_token_hash(&[0; 32]).await.unwrap();
    tx.find_coupon(domain::CouponId::new(1).unwrap()).await.unwrap();
    tx.lock_payment(PaymentId::new(1).unwrap()).await.unwrap();
    let one_by_one = begun.elapsed();
    tx.rollback().await;
    assert!(joined * 2 < one_by_one, "together {joined:?}, one by one {one_by_one:?}");
    assert!(begin * 3 < one_by_one, "begin {begin:?}, six round trips {one_by_one:?}");
}
