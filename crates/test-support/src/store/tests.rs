use super::*;
use async_trait::async_trait;
use domain::ports::{CommitError, Queries};
use domain::{Money, ProductId, Stock};

/// One fault at one site.
struct At(&'static str, Fault, Fault);

#[async_trait]
impl Faults for At {
    async fn before(&self, site: Site) -> Fault {
        if site.call == self.0 { self.1 } else { Fault::None }
    }

    async fn after(&self, site: Site) -> Fault {
        if site.call == self.0 { self.2 } else { Fault::None }
    }
}

async fn commit_with(fault: At) -> (Result<(), CommitError>, usize) {
    let database = FakeDatabase::new();
    let store = database.connect(Arc::new(fault), ConnectionOptions::default());
    let tx = store.begin("test").await.unwrap();
    tx.insert_product("p", Money::new(1).unwrap(), Stock::new(1).unwrap()).await.unwrap();
    let outcome = tx.commit().await;
    (outcome, database.read(|tables| tables.products.len()))
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_commit_can_be_unknown_both_ways() {
    let unknown = |stored| At("tx.commit", Fault::CommitUnknown { stored }, Fault::None);
    assert_eq!(commit_with(unknown(true)).await, (Err(CommitError::OutcomeUnknown), 1));
    assert_eq!(commit_with(unknown(false)).await, (Err(CommitError::OutcomeUnknown), 0));
    let lost_answer = At("tx.commit", Fault::None, Fault::Unavailable);
    assert_eq!(commit_with(lost_answer).await, (Err(CommitError::OutcomeUnknown), 1));
    let refused = At("tx.commit", Fault::Unavailable, Fault::None);
    assert!(matches!(commit_with(refused).await, (Err(CommitError::RolledBack(_)), 0)));
    assert_eq!(commit_with(At("none", Fault::None, Fault::None)).await, (Ok(()), 1));
}

#[tokio::test(start_paused = true)]
async fn a_statement_whose_answer_is_lost_poisons_its_transaction() {
    let lost = At("tx.set_stock", Fault::None, Fault::Unavailable);
    let store = FakeDatabase::new().connect(Arc::new(lost), ConnectionOptions::default());
    let tx = store.begin("test").await.unwrap();
    let id = ProductId::new(1).unwrap();
    assert!(matches!(tx.set_stock(id, Stock::new(1).unwrap()).await, Err(StoreError::Unavailable { .. })));
    assert!(tx.commit().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pool_has_an_end() {
    let options = ConnectionOptions { pool_size: 1, ..ConnectionOptions::default() };
    let store = FakeDatabase::new().connect(Arc::new(NoFaults), options);
    let tx = store.begin("test").await.unwrap();
    assert!(matches!(store.begin("test").await, Err(StoreError::Unavailable { .. })));
    assert!(store.ready().await.is_err());
    tx.rollback().await;
    assert!(store.begin("test").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_does_not_come_is_a_time_out() {
    let store = FakeStore::new();
    let buyer = domain::UserId::new(1).unwrap();
    let (one, two) = (store.begin("one").await.unwrap(), store.begin("two").await.unwrap());
    one.lock_points(buyer).await.unwrap();
    let before = tokio::time::Instant::now();
    assert!(matches!(two.lock_points(buyer).await, Err(StoreError::Unavailable { .. })));
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    // Whoever gave up is not handed the lock.
    drop(one);
    let three = store.begin("three").await.unwrap();
    assert!(three.lock_points(buyer).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_circle_is_a_conflict_at_once() {
    let store = FakeStore::new();
    let buyers = [1, 2].map(|id| domain::UserId::new(id).unwrap());
    let (one, two) = (store.begin("one").await.unwrap(), store.begin("two").await.unwrap());
    one.lock_points(buyers[0]).await.unwrap();
    two.lock_points(buyers[1]).await.unwrap();
    let first = one.lock_points(buyers[1]);
    let second = async {
        let circle = two.lock_points(buyers[0]).await;
        assert!(matches!(circle, Err(StoreError::Conflict { .. })));
        two.rollback().await;
    };
    let (first, ()) = tokio::join!(first, second);
    assert!(first.is_ok());
}
