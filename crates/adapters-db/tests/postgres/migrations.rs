//! Migrating: by many at once, on every runtime, up and down and up again.

use crate::support::migrated;
use crate::support::patient;
use adapters_db::{MigrateError, PgStore, migrate};
use domain::ports::{Queries, StoreError};
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use test_support::{TestClient, TestDatabase};
use tokio::task::JoinSet;

#[tokio::test]
async fn many_at_once_migrate_once() {
    let database = TestDatabase::create().await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let url = database.url();
        tasks.spawn(async move { migrate(&url.into()).await.unwrap() });
    }
    let applied = tasks.join_all().await;
    let worked = applied.iter().filter(|versions| !versions.is_empty()).count();
    assert_eq!(worked, 1, "{applied:?}");
    assert_eq!(migrate(&database.url().into()).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_on_a_runtime_of_several_threads() {
    let database = TestDatabase::create().await;
    assert!(!migrate(&database.url().into()).await.unwrap().is_empty());
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&patient(database.url())).unwrap();
    let not_ready =
        |error| matches!(error, Err(StoreError::Unavailable { what }) if what.contains("20261122000001"));
    assert!(not_ready(store.ready().await));
    migrate(&database.url().into()).await.unwrap();
    assert_eq!(store.ready().await, Ok(()));
    let forget = "DELETE FROM __diesel_schema_migrations WHERE version = '20261122000001'";
    database.client().await.batch_execute(forget).await.unwrap();
    assert!(not_ready(store.ready().await));
}

#[tokio::test]
async fn a_database_out_of_reach_is_an_error_without_the_password() {
    let error = migrate(&"postgres://me:secret@127.0.0.1:1/x".to_owned().into()).await.unwrap_err();
    assert!(matches!(error, MigrateError::Connect(_)));
    assert!(!format!("{error:?} {error}").contains("secret"));
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// Everything in the schema, by name and definition.
async fn describe(client: &TestClient) -> Vec<String> {
    let sql = "SELECT format('%s %s %s %s', table_name, column_name, data_type, column_default) AS what
            FROM information_schema.columns WHERE table_schema = current_schema()
        UNION ALL SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
            WHERE connamespace = current_schema()::regnamespace
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal
        UNION ALL SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace
        UNION ALL SELECT sequencename::text FROM pg_sequences WHERE schemaname = current_schema()
        ORDER BY what";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn down_takes_back_all_that_up_made() {
    let database = TestDatabase::create().await;
    let client = database.client().await;
    migrate(&database.url().into()).await.unwrap();
    let complete = describe(&client).await;
    assert!(complete.len() > 100, "{complete:#?}");
    for folder in folders().iter().rev() {
        let down = std::fs::read_to_string(folder.join("down.sql")).unwrap();
        client.batch_execute(&down).await.unwrap();
    }
    client.batch_execute("DROP TABLE __diesel_schema_migrations").await.unwrap();
    assert_eq!(describe(&client).await, Vec::<String>::new());
    migrate(&database.url().into()).await.unwrap();
    assert_eq!(describe(&client).await, complete);
}

/// What deployments give the programs in production: rows, and nothing of the schema.
#[tokio::test]
async fn who_may_only_read_and_write_finds_nothing_to_migrate() {
    let database = migrated().await;
    let (owner, schema) = (database.client().await, database.schema().to_owned());
    let role = format!("{schema}_rows");
    let grants = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
    );
    owner.batch_execute(&grants).await.unwrap();
    let as_role = SecretString::from(format!("{}%20-crole%3D{role}", database.url()));
    let up_to_date = migrate(&as_role).await;

    // Something is missing: that takes the rights, and who has none is told.
    let latest = "DELETE FROM __diesel_schema_migrations WHERE version = \
        (SELECT max(version) FROM __diesel_schema_migrations)";
    owner.batch_execute(latest).await.unwrap();
    let pending = migrate(&as_role).await;
    owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    assert_eq!(up_to_date.unwrap(), Vec::<String>::new());
    let error = pending.unwrap_err().to_string();
    assert!(error.contains("permission denied"), "{error}");
}

/// Payments from before this migration: one of each state, with and without something on the card, with and without a
/// check row of each kind.
const OLD: &str = "
    INSERT INTO orders (id, user_id, status, total_amount) SELECT id, 1, 'PLACED', 1000
        FROM unnest(ARRAY[7, 100002, 100003, 100004, 100005, 1234567]) AS id;
    INSERT INTO payment (id, order_id, user_id, status, total_amount, used_point, coupon_discount, paid_amount,
            card_type, card_no, merchant_id, external_payment_key, send_deadline, updated_at)
        SELECT n, o, 1, s, 1000, 1000 - card, 0, card, 'KB', '1234-****-****-1451', 'm', 'key' || n, now(),
            '2026-01-01 00:00 UTC'
        FROM (VALUES (1, 7, 'IN_PROGRESS', 1000), (2, 100002, 'PAID', 1000), (3, 100003, 'FAILED', 1000),
            (4, 100004, 'PAID', 0), (5, 100005, 'IN_PROGRESS', 1000), (6, 1234567, 'IN_PROGRESS', 1000))
            AS p (n, o, s, card);
    INSERT INTO payment_check (payment_id, due_at, parked_at, lease_id, leased_until, scheduled) VALUES
        (2, 'infinity', NULL, NULL, NULL, false), (3, '2027-01-01 00:00 UTC', NULL, 4, '2026-06-01 00:00 UTC', true),
        (5, '2027-02-01 00:00 UTC', now(), NULL, NULL, false), (6, 'infinity', NULL, NULL, NULL, false);";

#[tokio::test]
async fn payments_from_before_keep_their_reference_and_get_their_check() {
    let database = TestDatabase::create().await;
    let client = database.client().await;
    let [first, second, ..] = &folders()[..] else { panic!("two migrations") };
    let sql = |folder: &Path, file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    client.batch_execute(&sql(first, "up.sql")).await.unwrap();
    client.batch_execute(OLD).await.unwrap();
    client.batch_execute(&sql(second, "up.sql")).await.unwrap();

    let payments = "SELECT p.id || ' ' || gateway_order_ref || ' ' || coalesce(to_char(due_at, 'YYYY-MM-DD HH24:MI'), '-') \
            || ' ' || coalesce(to_char(next_at, 'YYYY-MM'), '-') \
        FROM payment p LEFT JOIN payment_check c ON c.payment_id = p.id ORDER BY p.id";
    let seen: Vec<String> = client.query(payments, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(
        seen,
        [
            "1 000007 2026-01-01 00:01 2026-01",
            "2 100002 - -",
            "3 100003 2027-01-01 00:00 2026-06",
            "4 100004 - -",
            "5 100005 2027-02-01 00:00 -",
            "6 1234567 2026-01-01 00:01 2026-01",
        ]
    );
    let rows = "SELECT count(*) FROM payment_check";
    assert_eq!(
        client.query_one(rows, &[]).await.unwrap().get::<_, i64>(0),
        5,
        "all but the one without a card"
    );
    let installation: String = client.query_one("SELECT id FROM installation", &[]).await.unwrap().get(0);
    assert!(
        installation.len() == 8 && installation.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{installation}"
    );

    // Back again: nothing that the version before knows is lost.
    client.batch_execute(&sql(second, "down.sql")).await.unwrap();
    let before = "SELECT payment_id || ' ' || to_char(due_at, 'YYYY-MM') FROM payment_check WHERE due_at IS NOT NULL ORDER BY 1";
    let back: Vec<String> = client.query(before, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(back, ["1 2026-01", "3 2027-01", "5 2027-02", "6 2026-01"]);
    let lease = client.query_one("SELECT nextval('payment_check_lease_seq')", &[]).await.unwrap();
    assert_eq!(lease.get::<_, i64>(0), 5);
}

#[tokio::test]
async fn two_databases_are_two_installations() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let database = crate::support::migrated().await;
        let row = database.client().await.query_one("SELECT id FROM installation", &[]).await.unwrap();
        seen.insert(row.get::<_, String>(0));
    }
    assert_eq!(seen.len(), 3);
}
