//! A migrated database per test, and short ways to put rows into it.

use adapters_db::{DatabaseOptions, PgStore, migrate};
use domain::ports::{PointEntry, PointEntryKind, Queries, Store, StoreTx};
use domain::{Discount, IssuedCouponId, Money, OrderId, PaymentId, ProductId, Stock, UserId};
use std::time::Duration;
use test_support::{FaultProxy, TestDatabase};
use tokio::time::{Instant, sleep};

/// Longer than anything takes, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A migrated schema with a store on it. The store is dropped first.
pub(crate) struct Db {
    pub(crate) store: PgStore,
    pub(crate) database: TestDatabase,
}

/// An order in the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) order_id: OrderId,
    pub(crate) payment_id: PaymentId,
}

/// Limits that no slow machine meets.
pub(crate) fn patient(url: String) -> DatabaseOptions {
    let mut options = DatabaseOptions::new(url, "test");
    options.acquire_timeout = PATIENCE;
    options.connect_timeout = PATIENCE;
    options.lock_timeout = PATIENCE;
    options.statement_timeout = PATIENCE;
    options.idle_in_transaction_session_timeout = PATIENCE;
    options
}

pub(crate) async fn migrated() -> TestDatabase {
    let database = TestDatabase::create().await;
    migrate(&database.url().into()).await.unwrap();
    database
}

impl Db {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut DatabaseOptions)) -> Self {
        let database = migrated().await;
        let mut options = patient(database.url());
        change(&mut options);
        Self { store: PgStore::connect(&options).unwrap(), database }
    }

    /// Through a proxy that can break the connection.
    pub(crate) async fn behind_proxy(change: impl FnOnce(&mut DatabaseOptions)) -> (Self, FaultProxy) {
        let database = migrated().await;
        let proxy = FaultProxy::start(database.server_address().await).await.unwrap();
        let mut options = patient(database.url_through(proxy.address()));
        change(&mut options);
        (Self { store: PgStore::connect(&options).unwrap(), database }, proxy)
    }

    pub(crate) async fn begin(&self) -> Box<dyn StoreTx> {
        self.store.begin("test").await.unwrap()
    }

    pub(crate) async fn product(&self, pieces: i64) -> ProductId {
        let tx = self.begin().await;
        let id = tx.insert_product("product", won(1000), Stock::new(pieces).unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    pub(crate) async fn stock(&self, id: ProductId) -> i64 {
        self.store.product(id).await.unwrap().unwrap().stock.quantity()
    }

    pub(crate) async fn charge_points(&self, user_id: UserId, amount: i64) {
        let tx = self.begin().await;
        let account = tx.lock_points(user_id).await.unwrap().charge(won(amount)).unwrap();
        let entry =
            PointEntry { account, kind: PointEntryKind::Charge, amount: won(amount), payment_id: None };
        tx.save_points(&entry).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub(crate) async fn issued_coupon(&self, user_id: UserId) -> IssuedCouponId {
        let tx = self.begin().await;
        let coupon = tx.insert_coupon("coupon", Discount::Fixed(won(100)), None).await.unwrap();
        let issued = tx.insert_issued_coupon(coupon.id, user_id).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        issued.id
    }
}

pub(crate) fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

pub(crate) fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

/// Polls until `look` gives something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}
