//! PostgreSQL against the fake: random interleavings of transactions over few rows, compared step by step.
//!
//! A difference is printed as the shortest schedule that still shows it. `SCHEDULES_SEED` chooses other schedules,
//! `SCHEDULES` another number of them.

use crate::support::{PATIENCE, migrated};
use adapters_db::{DatabaseOptions, PgStore};
use async_trait::async_trait;
use domain::ports::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use test_support::schedules::{Bench, Compared, Side, compare, generate};
use test_support::{TestClient, TestDatabase};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// At once, each in a schema of its own.
const WORKERS: [&str; 4] = ["schedules0", "schedules1", "schedules2", "schedules3"];
const SCHEDULES: u64 = 2_000;
const SEED: u64 = 20_261_128;

/// So soon PostgreSQL looks whether a wait is one of a circle.
const DEADLOCK_TIMEOUT: &str = "1ms";

/// The database of one worker, looked at from beside its store.
struct Beside {
    client: TestClient,
    /// As PostgreSQL knows its connections.
    application: String,
    _database: TestDatabase,
}

async fn postgres(name: &'static str) -> Side {
    let database = migrated().await;
    let url = format!("{}%20-cdeadlock_timeout%3D{DEADLOCK_TIMEOUT}", database.url());
    let mut options = DatabaseOptions::new(url, name);
    options.acquire_timeout = PATIENCE;
    options.connect_timeout = PATIENCE;
    // Schedules end their transactions; no limit of time does.
    options.lock_timeout = 4 * PATIENCE;
    options.statement_timeout = 4 * PATIENCE;
    options.idle_in_transaction_session_timeout = 4 * PATIENCE;
    let store = PgStore::connect(&options).unwrap();
    let client = database.client().await;
    let bench = Beside { client, application: format!("holdfast/{name}"), _database: database };
    Side {
        name: "PostgreSQL",
        store: Arc::new(store.clone()),
        queries: Arc::new(store),
        bench: Arc::new(bench),
    }
}

#[async_trait]
impl Bench for Beside {
    /// Connections whose lock is not granted: a lock is granted by whoever frees it, so one that has just got it is not
    /// among them. Neither are those whose circle is not broken yet, or could still be found to be one.
    async fn waiting(&self) -> usize {
        const SQL: &str = "SELECT a.pid, pg_blocking_pids(a.pid), \
                coalesce(min(l.waitstart) < clock_timestamp() - interval '3 ms', \
                    false) \
            FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted \
            WHERE a.application_name = $1 GROUP BY a.pid";
        let rows = self.client.query(SQL, &[&self.application]).await.unwrap();
        if !rows.iter().all(|row| row.get(2)) {
            return usize::MAX;
        }
        let blockers: BTreeMap<i32, Vec<i32>> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let ways = |pid: &i32| blockers.get(pid).into_iter().flatten().copied();
        let in_circle = |start: &i32| {
            let mut met: Vec<i32> = ways(start).collect();
            for _ in 0..blockers.len() {
                met = met.iter().flat_map(ways).chain(met.iter().copied()).collect();
            }
            met.contains(start)
        };
        if blockers.keys().any(in_circle) { usize::MAX } else { blockers.len() }
    }

    async fn pause(&self) {
        sleep(Duration::from_millis(2)).await;
    }

    async fn tick(&self) {}

    async fn forget(&self) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE payment_check SET due_at = NULL, woken_at = NULL, lease_id = NULL, \
            leased_until = NULL, parked_at = NULL WHERE next_at IS NOT NULL OR parked_at IS NOT NULL";
        let forgotten = self.client.batch_execute(SQL).await;
        forgotten.map_err(|error| StoreError::Other { what: error.to_string() })
    }
}

fn number(variable: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fake_and_postgresql_do_the_same_on_every_schedule() {
    let (seed, schedules) = (number("SCHEDULES_SEED", SEED), number("SCHEDULES", SCHEDULES));
    let mut workers = JoinSet::new();
    for (worker, name) in (0..).zip(WORKERS) {
        workers.spawn(async move {
            let side = postgres(name).await;
            let mut whole = 0;
            for number in (worker..schedules).step_by(WORKERS.len()) {
                let seed = seed + number;
                match compare(&side, &generate(seed)).await.unwrap() {
                    Compared::Equal { whole: true } => whole += 1,
                    Compared::Equal { whole: false } => {}
                    Compared::Differs(difference) => return Err(format!("seed {seed}: {difference}")),
                }
            }
            Ok(whole)
        });
    }
    let (mut whole, mut differences) = (0, Vec::new());
    for result in workers.join_all().await {
        match result {
            Ok(compared) => whole += compared,
            Err(difference) => differences.push(difference),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    println!(
        "{whole} of {schedules} schedules compared to their ends, the others up to where chance decides"
    );
    assert!(whole * 10 >= schedules * 9, "{whole} of {schedules}");
}
