//! The contract of the ports, which the fake keeps too.

use crate::support::Db;
use std::sync::Arc;
use test_support::contract::Ports;

async fn postgres() -> Ports {
    let db = Arc::new(Db::new().await);
    Ports { store: Arc::new(db.store.clone()), queries: Arc::new(db.store.clone()), guard: db }
}

test_support::port_contract!(
    #[tokio::test]
    crate::contract::postgres
);
