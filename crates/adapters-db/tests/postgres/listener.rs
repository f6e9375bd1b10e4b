//! Who waits for an order is told across processes.

use crate::support::{Db, PATIENCE, Placed, fail_payment, patient};
use adapters_db::{OrderNotice, PgListener};
use test_support::{Cut, FaultProxy};
use tokio::sync::broadcast::Receiver;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Channels are shared by all schemas of the database: these tests' orders must have ids of their own.
async fn placed_apart(db: &Db, from: u32) -> Placed {
    let restart = format!("ALTER SEQUENCE orders_id_seq RESTART WITH {from}{:07}", std::process::id());
    db.database.client().await.batch_execute(&restart).await.unwrap();
    db.place().await
}

async fn next(notices: &mut Receiver<OrderNotice>, wanted: OrderNotice) {
    let found = async { while notices.recv().await.unwrap() != wanted {} };
    timeout(PATIENCE, found).await.unwrap();
}

#[tokio::test]
async fn an_end_is_told_when_it_is_committed_and_the_connection_comes_back() {
    let db = Db::new().await;
    let proxy = FaultProxy::start(db.database.server_address().await).await.unwrap();
    let listener = PgListener::new(&patient(db.database.url_through(proxy.address()))).unwrap();
    let mut notices = listener.subscribe();
    let mut tasks = JoinSet::new();
    tasks.spawn(listener.run());
    next(&mut notices, OrderNotice::Reconnected).await;

    let (taken_back, ended) = (placed_apart(&db, 11).await, placed_apart(&db, 12).await);
    let tx = db.begin().await;
    fail_payment(tx.as_ref(), taken_back).await;
    tx.rollback().await;
    let tx = db.begin().await;
    fail_payment(tx.as_ref(), ended).await;
    tx.commit().await.unwrap();
    let told = async {
        loop {
            let notice = notices.recv().await.unwrap();
            assert_ne!(notice, OrderNotice::Ended(taken_back.order_id), "it was rolled back");
            if notice == OrderNotice::Ended(ended.order_id) {
                return;
            }
        }
    };
    timeout(PATIENCE, told).await.unwrap();

    proxy.cut(Cut::Reset);
    next(&mut notices, OrderNotice::Reconnected).await;
    let later = placed_apart(&db, 13).await;
    let tx = db.begin().await;
    fail_payment(tx.as_ref(), later).await;
    tx.commit().await.unwrap();
    next(&mut notices, OrderNotice::Ended(later.order_id)).await;
}
