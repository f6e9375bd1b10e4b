//! A migrated database per test, and short ways to put rows into it.

use adapters_db::{DatabaseOptions, PgStore, migrate};
use domain::placement::{
    NewOrder, OrderLines, PlacementError, PlacementRequest, Placing, PlacingNeeds, decide,
};
use domain::ports::{
    Cause, ChargeOutcome, CommitError, GatewayAnswer, KeyedRequest, PaymentEvent, PaymentRecord, PointEntry,
    PointEntryKind, Queries, Store, StoreError, StoreTx, StoredCard,
};
use domain::settlement::{Case, Learned, SettlementRules, SettlingNeeds};
use domain::{
    CardType, Discount, FailureMessage, GatewayOrderRef, IssuedCouponId, MerchantId, Money, OrderId,
    PaymentId, ProductId, Quantity, Stock, UserId,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use test_support::{FaultProxy, TestDatabase};
use tokio::time::{Instant, sleep};

/// Longer than anything takes, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A migrated schema with a store on it. The store is dropped first.
pub(crate) struct Db {
    pub(crate) store: PgStore,
    pub(crate) database: TestDatabase,
    /// What its connections are called in `pg_stat_activity`: no other test's are.
    pub(crate) application: String,
}

/// An order that a test places: one piece, on the card, for which nothing can be sent any more, to be looked at at once.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) user: UserId,
    pub(crate) lines: Vec<(ProductId, i64)>,
    pub(crate) points: i64,
    pub(crate) coupon: Option<IssuedCouponId>,
    pub(crate) key: Option<KeyedRequest>,
    pub(crate) send_within: Duration,
}

impl Ask {
    pub(crate) fn of(product: ProductId) -> Self {
        Self {
            user: user(1),
            lines: vec![(product, 1)],
            points: 0,
            coupon: None,
            key: None,
            send_within: Duration::ZERO,
        }
    }

    pub(crate) fn request(&self) -> PlacementRequest {
        let lines = self.lines.iter().map(|(id, pieces)| (*id, Quantity::new(*pieces).unwrap()));
        PlacementRequest {
            user_id: self.user,
            lines: OrderLines::new(lines).unwrap(),
            use_point: won(self.points),
            wants_coupon: self.coupon.is_some(),
            has_card: true,
        }
    }

    pub(crate) fn needs(&self) -> PlacingNeeds {
        PlacingNeeds {
            user_id: self.user,
            product_ids: self.request().lines.product_ids(),
            points: self.points > 0,
            issued_coupon_id: self.coupon,
            key: self.key.clone(),
        }
    }

    /// Decides the order of the batch's place `at` upon what the ones before it leave, and takes it.
    pub(crate) fn decide(&self, placing: &mut Placing, at: usize) -> Result<NewOrder, PlacementError> {
        let (ids, request) = (placing.ids[at], self.request());
        let placement = decide(&request, placing.offer(ids, &request, self.coupon))?;
        placing.take(&placement).unwrap();
        let on_card = placement.payment.amounts().paid_amount().is_positive();
        let to = placement.payment.status();
        let card = StoredCard { card_type: CardType::Kb, masked: "1234-****-****-1451".into() };
        let random = ids.payment_id.get().to_be_bytes();
        Ok(NewOrder {
            record: PaymentRecord {
                version: 0,
                issued_coupon_id: self.coupon,
                card: on_card.then_some(card),
                merchant: MerchantId::new("holdfast").unwrap(),
                order_ref: GatewayOrderRef::new(&placing.installation, ids.order_id, random),
                created_at: placing.now,
                updated_at: placing.now,
                send_deadline: placing.now + self.send_within,
                payment: placement.payment,
            },
            callback_token_hash: on_card.then(|| token_hash(ids.payment_id)),
            check_at: on_card.then_some(placing.now),
            history: vec![PaymentEvent { from: None, to, cause: Cause::Api, reason: None, key: None }],
            points: placement.points.map(|account| PointEntry {
                account,
                kind: PointEntryKind::Deduct,
                amount: won(self.points),
                payment_id: Some(ids.payment_id),
            }),
            coupon: placement.coupon,
            key: self.key.clone().map(|key| (key, None)),
            order: placement.order,
        })
    }
}

pub(crate) fn token_hash(id: PaymentId) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&id.get().to_le_bytes());
    hash
}

/// An order in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) order_id: OrderId,
    pub(crate) payment_id: PaymentId,
}

impl Placed {
    pub(crate) fn needs(self) -> SettlingNeeds {
        SettlingNeeds { payment_id: self.payment_id, keys: Vec::new(), goods: true }
    }
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
        let url = database.url();
        Self::over(database, url, change)
    }

    /// Through a proxy that can break the connection.
    pub(crate) async fn behind_proxy(change: impl FnOnce(&mut DatabaseOptions)) -> (Self, FaultProxy) {
        let database = migrated().await;
        let proxy = FaultProxy::start(database.server_address().await).await.unwrap();
        let url = database.url_through(proxy.address());
        (Self::over(database, url, change), proxy)
    }

    pub(crate) fn over(
        database: TestDatabase,
        url: String,
        change: impl FnOnce(&mut DatabaseOptions),
    ) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut options = patient(url);
        options.pool_name = String::leak(name);
        change(&mut options);
        let application = format!("holdfast/{}", options.pool_name);
        Self { store: PgStore::connect(&options).unwrap(), database, application }
    }

    /// How many connections the store has open.
    pub(crate) async fn connections(&self) -> BTreeSet<i32> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
        let rows = self.database.client().await.query(sql, &[&self.application]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn begin(&self) -> Box<dyn StoreTx> {
        self.store.begin("test").await.unwrap()
    }

    /// Those that are in a transaction.
    pub(crate) async fn open_sessions(&self) -> BTreeSet<i32> {
        let sql =
            "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND state = 'idle in transaction'";
        let rows = self.database.client().await.query(sql, &[&self.application]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
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

    /// Places orders in one batch; those that are refused take nothing.
    pub(crate) async fn place_all(&self, asks: &[Ask]) -> Result<Vec<Placed>, StoreError> {
        let needs: Vec<_> = asks.iter().map(Ask::needs).collect();
        let (tx, mut placing) = self.store.open_placing(&needs).await?;
        let decided = asks.iter().enumerate().filter_map(|(at, ask)| ask.decide(&mut placing, at).ok());
        let orders: Vec<NewOrder> = decided.collect();
        if let Err(error) = tx.store_orders(&orders).await {
            tx.rollback().await;
            return Err(error);
        }
        commit(tx).await?;
        let placed =
            |new: &NewOrder| Placed { order_id: new.order.id(), payment_id: new.record.payment.id() };
        Ok(orders.iter().map(placed).collect())
    }

    /// An order of one piece, PENDING, 1000 won on the card.
    pub(crate) async fn place(&self) -> Placed {
        let ask = Ask::of(self.product(10).await);
        self.place_all(&[ask]).await.unwrap()[0]
    }

    /// Stores what became of payments by the gateway's answer, in one batch.
    pub(crate) async fn answer(&self, of: &[Placed], answer: GatewayAnswer) -> Result<(), StoreError> {
        let needs: Vec<_> = of.iter().map(|placed| placed.needs()).collect();
        let (tx, mut settling) = self.store.open_settling(&needs).await?;
        let outcome = ChargeOutcome { answer, watch: false };
        let mut changes = Vec::new();
        for placed in of {
            let learned = Learned::Answer(&outcome);
            let settled = settling.settle(placed.payment_id, &learned, Cause::Api, &rules()).unwrap();
            changes.extend(settled.map(|settled| settled.changes));
        }
        if let Err(error) = tx.store_changes(&changes).await {
            tx.rollback().await;
            return Err(error);
        }
        commit(tx).await
    }

    /// FAILED, all they took given back.
    pub(crate) async fn fail(&self, of: &[Placed]) -> Result<(), StoreError> {
        let message = FailureMessage::from_outside("no");
        self.answer(of, GatewayAnswer::Rejected { message }).await
    }

    /// One payment with all that belongs to it.
    pub(crate) async fn case(&self, placed: Placed) -> Case {
        let (tx, mut settling) = self.store.open_settling(&[placed.needs()]).await.unwrap();
        tx.rollback().await;
        settling.cases.remove(&placed.payment_id).unwrap()
    }

    /// Does so until somebody waits for a lock in a statement that bears `text`.
    pub(crate) async fn waiting(&self, text: &str) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
            AND query LIKE '%' || $1 || '%' AND application_name = $2";
        let client = self.database.client().await;
        eventually("somebody waits", async || {
            let rows = client.query_one(sql, &[&text, &self.application]).await.unwrap();
            (rows.get::<_, i64>(0) > 0).then_some(())
        })
        .await;
    }
}

pub(crate) async fn commit(tx: Box<dyn StoreTx>) -> Result<(), StoreError> {
    tx.commit().await.map_err(|error| match error {
        CommitError::RolledBack(error) => error,
        CommitError::OutcomeUnknown => panic!("{error}"),
    })
}

/// The defaults.
pub(crate) fn rules() -> SettlementRules {
    let secs = Duration::from_secs;
    SettlementRules {
        min_age: secs(60),
        force_fail_after: secs(300),
        not_found_confirmations: 2,
        not_found_grace: secs(60),
        watch_after: [60, 300, 1800, 7200, 86_400].map(secs).to_vec(),
        backoff_max: secs(600),
        park_after_failures: 8,
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
