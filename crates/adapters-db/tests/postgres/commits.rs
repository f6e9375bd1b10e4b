//! A commit whose answer is lost, at every moment it can be lost.

use crate::support::{Ask, Db, eventually};
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
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    let killed = db.database.client().await.query(kill, &[&db.application]).await.unwrap();
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
    let product = db.product(1).await;
    let ask = Ask::of(product);
    let (tx, mut placing) = db.store.open_placing(&[ask.needs()]).await.unwrap();
    let order = ask.decide(&mut placing, 0).unwrap();
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            RAISE EXCEPTION 'not today' USING ERRCODE = 'check_violation'; END $$; \
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON payment DEFERRABLE INITIALLY DEFERRED \
            FOR EACH ROW EXECUTE FUNCTION refuse();";
    db.database.client().await.batch_execute(refuse).await.unwrap();
    tx.store_orders(&[order]).await.unwrap();
    let refused = tx.commit().await;
    assert!(matches!(refused, Err(CommitError::RolledBack(StoreError::Other { .. }))), "{refused:?}");
    assert_eq!(db.stock(product).await, 1);
}

/// The server can say so just after the commit record was written, too.
#[tokio::test]
async fn a_session_that_is_ended_at_its_commit_has_an_unknown_outcome() {
    let db = Db::new().await;
    let product = db.product(1).await;
    let ask = Ask::of(product);
    let (tx, mut placing) = db.store.open_placing(&[ask.needs()]).await.unwrap();
    let order = ask.decide(&mut placing, 0).unwrap();
    // Within COMMIT the session ends itself.
    let end = "CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(30); RETURN NULL; END $$; \
        CREATE CONSTRAINT TRIGGER end_session AFTER INSERT ON payment DEFERRABLE INITIALLY DEFERRED \
            FOR EACH ROW EXECUTE FUNCTION end_session();";
    db.database.client().await.batch_execute(end).await.unwrap();
    tx.store_orders(&[order]).await.unwrap();
    assert_eq!(tx.commit().await, Err(CommitError::OutcomeUnknown));
    assert_eq!(db.stock(product).await, 1);
}
