//! A commit whose answer is lost, at every moment it can be lost.

use crate::support::{Db, eventually, order, payment};
use domain::Stock;
use domain::ports::{CommitError, Queries, Store, StoreError};
use std::time::Duration;
use test_support::{Cut, NetworkFault};

/// What was asked reached the server, or did not; the caller can't tell and must not be told that it can.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_has_an_unknown_outcome() {
    let (db, proxy) =
        Db::behind_proxy(|options| options.statement_timeout = Duration::from_millis(500)).await;
    let faults = [
        (NetworkFault::BeforeAnswer(Cut::Reset), true),
        (NetworkFault::BeforeAnswer(Cut::Close), true),
        (NetworkFault::InAnswer(3, Cut::Reset), true),
        (NetworkFault::InAnswer(1, Cut::Close), true),
        (NetworkFault::SilentAfterRequest, true),
        (NetworkFault::BeforeRequest(Cut::Reset), false),
        (NetworkFault::BeforeRequest(Cut::Close), false),
        (NetworkFault::SilentBeforeRequest, false),
    ];
    for (pieces, (fault, arrives)) in (1..).zip(faults) {
        let product = db.product(0).await;
        let tx = db.begin().await;
        tx.set_stock(product, Stock::new(pieces).unwrap()).await.unwrap();
        proxy.arm(*b"COMMIT", fault);
        assert_eq!(tx.commit().await, Err(CommitError::OutcomeUnknown), "{fault:?}");
        let expected = if arrives { pieces } else { 0 };
        // The pool's other connections may be as lost; reading again finds the truth.
        eventually("the outcome", async || {
            let seen = db.store.product(product).await.ok()??;
            (seen.stock.quantity() == expected).then_some(())
        })
        .await;
    }
    assert_eq!(proxy.fired(), 8);
}

/// A statement that is lost before the commit is no commit of unknown outcome.
#[tokio::test]
async fn a_connection_lost_before_the_commit_stored_nothing() {
    let (db, proxy) = Db::behind_proxy(|_| {}).await;
    let product = db.product(0).await;
    let tx = db.begin().await;
    proxy.arm(*b"stock", NetworkFault::BeforeAnswer(Cut::Reset));
    let lost = tx.set_stock(product, Stock::new(1).unwrap()).await;
    assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "{lost:?}");
    let refused = tx.commit().await;
    assert!(matches!(refused, Err(CommitError::RolledBack(StoreError::Unavailable { .. }))), "{refused:?}");
    assert_eq!(db.stock(product).await, 0);
}

#[tokio::test]
async fn a_backend_that_is_killed_commits_nothing() {
    let db = Db::with(|options| options.pool_size = 1).await;
    let product = db.product(0).await;
    let tx = db.begin().await;
    tx.set_stock(product, Stock::new(1).unwrap()).await.unwrap();
    let kill = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l \
        WHERE l.relation = to_regclass('stock') AND l.mode = 'RowExclusiveLock'";
    let killed = db.database.client().await.query(kill, &[]).await.unwrap();
    assert_eq!(killed.len(), 1);
    assert!(tx.commit().await.is_err());
    eventually("nothing was stored", async || {
        let seen = db.store.product(product).await.ok()??;
        (seen.stock.quantity() == 0).then_some(())
    })
    .await;
}

/// The server answers COMMIT with an error: a deferred constraint. That is an answer.
#[tokio::test]
async fn a_commit_that_the_server_refuses_is_rolled_back() {
    let db = Db::new().await;
    let tx = db.begin().await;
    let ids = tx.next_order_ids().await.unwrap();
    tx.insert_payment(&payment(ids), &[]).await.unwrap();
    let refused = tx.commit().await;
    assert!(matches!(refused, Err(CommitError::RolledBack(StoreError::Other { .. }))), "{refused:?}");
    assert_eq!(db.store.payment_of_order(ids.order_id).await, Ok(None));
}

/// Order and payment may be sent in either order.
#[tokio::test]
async fn a_payment_may_be_inserted_before_its_order() {
    let db = Db::new().await;
    let product = db.product(1).await;
    let tx = db.store.begin("reversed").await.unwrap();
    let ids = tx.next_order_ids().await.unwrap();
    let (order, payment) = (order(ids.order_id, product), payment(ids));
    tokio::try_join!(tx.insert_payment(&payment, &[]), tx.insert_order(&order)).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.store.payment_of_order(ids.order_id).await, Ok(Some(ids.payment_id)));
}
