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
