//! What happens to sessions: settings of the database, changed tables, ended backends, age. Tests that set something have a
//! database of their own, which no other test meets.

use crate::support::{Ask, Db, eventually, patient, token_hash, user};
use adapters_db::{DatabaseOptions, PgStore, migrate};
use domain::GatewayKey;
use domain::ports::{
    CallbackNote, ClaimOptions, Due, GatewayAnswer, IdempotencyKey, KeyedRequest, Queries, Store, StoreError,
};
use domain::settlement::TransactionStatus;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use test_support::TestDatabase;
use tokio::task::JoinSet;

/// A database beside that of the other tests.
struct Own {
    name: String,
    url: String,
    beside: TestDatabase,
}

impl Own {
    /// `how`: the options of CREATE DATABASE.
    async fn create(how: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let beside = TestDatabase::create().await;
        let name = format!("own_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 {how}");
        beside.client().await.batch_execute(&create).await.unwrap();
        let shared = beside.url();
        let (address, _) = shared.split_once('?').unwrap();
        let (server, _) = address.rsplit_once('/').unwrap();
        Self { url: format!("{server}/{name}"), name, beside }
    }

    /// Migrated, with a store on it.
    async fn with_store(change: impl FnOnce(&mut DatabaseOptions)) -> (Self, Arc<Db>) {
        let own = Self::create("ENCODING 'UTF8'").await;
        migrate(&own.url.clone().into()).await.unwrap();
        let db = Db::over(TestDatabase::create().await, own.url.clone(), change);
        (own, Arc::new(db))
    }

    /// Sets something for sessions to come.
    async fn set(&self, what: &str) {
        let alter = format!("ALTER DATABASE {} {what}", self.name);
        self.beside.client().await.batch_execute(&alter).await.unwrap();
    }

    /// Ends all sessions, as a restart or a failover does.
    async fn end_sessions(&self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        self.beside.client().await.query(end, &[&self.name]).await.unwrap();
    }

    async fn run(&self, sql: &str) {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async { drop(connection.await) });
        client.batch_execute(sql).await.unwrap();
    }

    async fn drop(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.beside.client().await.batch_execute(&drop).await.unwrap();
    }
}

/// What a failover to a standby does: sessions end, new ones may not write; later they may again.
#[tokio::test]
async fn a_database_that_takes_no_writes_for_a_while_needs_no_restart() {
    let (own, db) = Own::with_store(|_| {}).await;
    let product = db.product(10).await;
    own.set("SET default_transaction_read_only = on").await;
    own.end_sessions().await;
    let refused = eventually("the store notices", async || db.store.ready().await.err()).await;
    assert!(refused.to_string().contains("takes no writes"), "{refused}");
    // All sessions that are open now were opened while nothing could be written.
    for _ in 0..3 {
        assert!(matches!(db.place_all(&[Ask::of(product)]).await, Err(StoreError::Unavailable { .. })));
        assert_eq!(db.stock(product).await, 10, "reading goes on");
    }
    own.set("RESET default_transaction_read_only").await;
    assert_eq!(db.store.ready().await, Ok(()));
    db.place_all(&[Ask::of(product)]).await.unwrap();
    assert_eq!(db.stock(product).await, 9);
    own.drop().await;
}

/// The same without an end of the sessions: those that are open may not write from one moment on.
#[tokio::test]
async fn an_open_session_that_may_not_write_any_more_is_replaced() {
    let (own, db) = Own::with_store(|options| options.pool_size = 1).await;
    let product = db.product(10).await;
    // The store's one session, as a standby's would be.
    let sql = "CREATE FUNCTION demote() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM set_config('default_transaction_read_only', 'on', false); RETURN NULL; END $$; \
        CREATE TRIGGER demote AFTER INSERT ON coupon EXECUTE FUNCTION demote();";
    own.run(sql).await;
    db.issued_coupon(user(1)).await;
    let before = db.connections().await;
    db.place_all(&[Ask::of(product)]).await.unwrap();
    assert_eq!(db.stock(product).await, 9);
    assert!(before.is_disjoint(&db.connections().await), "another session");
    own.drop().await;
}

/// Opens as many sessions as the pool holds, all of which have prepared everything.
async fn fill(db: &Arc<Db>, number: usize) {
    let mut holding = Vec::new();
    for _ in 0..number {
        holding.push(db.begin().await);
    }
    for tx in holding {
        tx.rollback().await;
    }
    assert_eq!(db.connections().await.len(), number);
}

/// An ordinary expand migration changes the results of prepared statements. Nobody but the log learns of it: each session
/// fails once at most, and what it was asked for is done on a new one.
#[tokio::test]
async fn a_column_may_be_widened_under_open_sessions() {
    let (own, db) = Own::with_store(|options| options.pool_size = 4).await;
    let product = db.product(100).await;
    let placed = db.place_all(&[Ask::of(product), Ask::of(product)]).await.unwrap();
    fill(&db, 4).await;
    own.run("ALTER TABLE product ALTER name TYPE varchar(300)").await;
    db.place_all(&[Ask::of(product)]).await.unwrap();

    let column = "ALTER TABLE payment ALTER external_payment_key TYPE varchar(200)";
    for width in [200, 201, 202, 203] {
        fill(&db, 4).await;
        own.run(&column.replace("200", &width.to_string())).await;
        match width {
            200 => {
                let key = GatewayKey::new("k").unwrap();
                let accepted = GatewayAnswer::Accepted { key, status: TransactionStatus::Pending };
                db.answer(&placed[..1], accepted).await.unwrap();
            }
            201 => {
                let key = GatewayKey::new("k").unwrap();
                let token_hash = token_hash(placed[0].payment_id);
                let noted = db.store.note_callbacks(&[CallbackNote::Named { token_hash, key }]).await;
                assert_eq!(noted, Ok(vec![Some(placed[0].payment_id)]));
            }
            202 => {
                let lease = Duration::from_secs(9);
                let options =
                    ClaimOptions { due: Due::Unsettled, limit: 9, lease_id: 1, lease, due_by: None };
                assert!(!db.store.claim(&options).await.unwrap().is_empty());
            }
            _ => {
                let view = db.store.order(None, placed[0].order_id).await.unwrap().unwrap();
                assert_eq!(view.payment.payment.key().map(GatewayKey::as_str), Some("k"));
            }
        }
    }
    assert_eq!(db.store.ready().await, Ok(()));
    own.drop().await;
}

/// With another isolation, most of them would lose a race.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_isolation_is_the_programs() {
    for isolation in ["repeatable read", "serializable"] {
        let (own, db) = Own::with_store(|_| {}).await;
        own.set(&format!("SET default_transaction_isolation = '{isolation}'")).await;
        let product = db.product(100).await;
        let mut buyers = JoinSet::new();
        for _ in 0..24 {
            let db = Arc::clone(&db);
            buyers.spawn(async move { db.place_all(&[Ask::of(product)]).await });
        }
        for placed in buyers.join_all().await {
            assert_eq!(placed.map(|placed| placed.len()), Ok(1));
        }
        assert_eq!(db.stock(product).await, 76);
        own.drop().await;
    }
}

/// What is refused when it connects is refused before anything is taken, with what to do.
#[tokio::test]
async fn a_database_that_does_not_hold_every_text_is_refused() {
    for encoding in ["SQL_ASCII", "EUC_KR", "LATIN1"] {
        let own = Own::create(&format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")).await;
        let store = PgStore::connect(&patient(own.url.clone())).unwrap();
        let ready = store.ready().await;
        let Err(StoreError::Other { what }) = ready else { panic!("{encoding}: {ready:?}") };
        assert!(what.contains(encoding) && what.contains("ENCODING 'UTF8'"), "{what}");
        assert!(store.begin("test").await.is_err());
        own.drop().await;
    }
}

/// A role that may set next to nothing gets all that the program relies on.
#[tokio::test]
async fn a_role_without_rights_gets_every_setting() {
    let (own, db) = Own::with_store(|_| {}).await;
    let role = format!("{}_role", own.name);
    own.run(&format!(
        "CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; \
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
    ))
    .await;
    own.set("SET synchronous_commit = off").await;
    own.set("SET lock_timeout = 0").await;
    let product = db.product(3).await;
    let (_, place) = own.url.split_once('@').unwrap();
    let store = PgStore::connect(&patient(format!("postgres://{role}@{place}"))).unwrap();
    assert_eq!(store.ready().await, Ok(()));
    assert_eq!(store.product(product).await.unwrap().unwrap().stock.quantity(), 3);
    // The settings belong to the session of the store, not to this one.
    let (tx, placing) = store.open_placing(&[Ask::of(product).needs()]).await.unwrap();
    assert_eq!(placing.products.len(), 1);
    tx.rollback().await;
    own.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    own.drop().await;
}

/// The pool goes on with the sessions it has, whatever a transaction ended in that was taken back.
#[tokio::test]
async fn a_session_survives_what_is_taken_back() {
    let db = Db::with(|options| {
        options.pool_size = 1;
        options.lock_timeout = Duration::from_millis(50);
    })
    .await;
    let product = db.product(10).await;
    let session = db.connections().await;
    assert_eq!(session.len(), 1);

    // Refused by a rule: nothing failed.
    let (tx, _) = db.store.open_placing(&[Ask::of(product).needs()]).await.unwrap();
    tx.rollback().await;
    // Lost a race: a key that was taken by somebody who does not know of our lock.
    let key = IdempotencyKey { user_id: user(1), key: "once".into() };
    let keyed = KeyedRequest { key, fingerprint: [1; 32], retention: Duration::from_secs(3600) };
    let ask = Ask { key: Some(keyed), ..Ask::of(product) };
    let (tx, mut placing) = db.store.open_placing(&[ask.needs()]).await.unwrap();
    let client = db.database.client().await;
    let take = "INSERT INTO idempotency_key (user_id, key, fingerprint, order_id, expires_at) \
        VALUES (1, 'once', decode(repeat('00', 32), 'hex'), 1, now() + interval '1 hour')";
    client.batch_execute(take).await.unwrap();
    let order = ask.decide(&mut placing, 0).unwrap();
    assert!(matches!(tx.store_orders(&[order]).await, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
    // A lock that does not come, at the opening and before anything is known.
    client.batch_execute("BEGIN; SELECT * FROM stock FOR UPDATE").await.unwrap();
    let late = db.store.open_placing(&[Ask::of(product).needs()]).await.err();
    assert!(matches!(&late, Some(StoreError::Unavailable { what }) if what.contains("55P03")), "{late:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    db.place_all(&[Ask::of(product)]).await.unwrap();
    assert_eq!(db.connections().await, session);
}

/// What nobody expected: the session is closed, the next one serves.
#[tokio::test]
async fn a_session_does_not_survive_what_nobody_expected() {
    let db = Db::with(|options| options.pool_size = 1).await;
    let product = db.product(10).await;
    let session = db.connections().await;
    let client = db.database.client().await;
    client.batch_execute("ALTER TABLE stock RENAME TO gone").await.unwrap();
    let refused = db.store.product(product).await;
    assert!(matches!(refused, Err(StoreError::Other { .. })), "{refused:?}");
    client.batch_execute("ALTER TABLE gone RENAME TO stock").await.unwrap();
    assert_eq!(db.stock(product).await, 10);
    assert!(session.is_disjoint(&db.connections().await));
}

/// Ended while they lay in the pool: nobody who opens a transaction or reads sees anything of it.
#[tokio::test]
async fn sessions_that_were_ended_in_the_pool_are_replaced() {
    let db = Arc::new(Db::with(|options| options.pool_size = 4).await);
    let product = db.product(100).await;
    let placed = db.place_all(&[Ask::of(product)]).await.unwrap()[0];
    for _ in 0..5 {
        fill(&db, 4).await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        db.database.client().await.query(end, &[&db.application]).await.unwrap();
        // Whether the loss has been noticed by now or not.
        db.store.open_placing(&[Ask::of(product).needs()]).await.unwrap().0.rollback().await;
        db.store.open_settling(&[placed.needs()]).await.unwrap().0.rollback().await;
        db.store.begin("test").await.unwrap().rollback().await;
        assert_eq!(db.stock(product).await, 99);
    }
}

#[tokio::test]
async fn a_session_is_not_given_out_again_when_it_is_old() {
    let sessions = async |max_age| {
        let db = Db::with(|options| {
            options.pool_size = 1;
            options.max_age = max_age;
        })
        .await;
        let product = db.product(1).await;
        let mut seen = BTreeSet::new();
        for _ in 0..5 {
            let (tx, _) = db.store.open_placing(&[Ask::of(product).needs()]).await.unwrap();
            seen.extend(db.open_sessions().await);
            tx.rollback().await;
        }
        seen.len()
    };
    assert_eq!(sessions(Duration::from_secs(1800)).await, 1);
    assert_eq!(sessions(Duration::ZERO).await, 5);
}
