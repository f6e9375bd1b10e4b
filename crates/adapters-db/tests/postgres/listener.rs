//! Who waits for an order is told across processes.

use crate::support::{Db, PATIENCE, Placed, patient};
use adapters_db::{OrderNotice, PgListener};
use domain::ports::Store;
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
async fn ends_are_announced_and_the_connection_comes_back() {
    let db = Db::new().await;
    let proxy = FaultProxy::start(db.database.server_address().await).await.unwrap();
    let listener = PgListener::new(&patient(db.database.url_through(proxy.address()))).unwrap();
    let mut notices = listener.subscribe();
    let mut tasks = JoinSet::new();
    tasks.spawn(listener.run());
    next(&mut notices, OrderNotice::Reconnected).await;

    let (one, other) = (placed_apart(&db, 11).await, placed_apart(&db, 12).await);
    db.store.announce_ended(&[]).await.unwrap();
    db.store.announce_ended(&[one.order_id, other.order_id]).await.unwrap();
    for placed in [one, other] {
        next(&mut notices, OrderNotice::Ended(placed.order_id)).await;
    }

    proxy.cut(Cut::Reset);
    next(&mut notices, OrderNotice::Reconnected).await;
    let later = placed_apart(&db, 13).await;
    db.store.announce_ended(&[later.order_id]).await.unwrap();
    next(&mut notices, OrderNotice::Ended(later.order_id)).await;
}
