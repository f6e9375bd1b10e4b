//! The program itself, killed by SIGKILL between an order's commit and its answer, and buyers who send the same request
//! again: to the next process on the same PostgreSQL, two hundred times at once, at each stage of the payment's life.

use crate::support::{DEADLINE, Request, Response, assert_failure, card_order, eventually, spawn};
use pg_simulator::engine::{Operation, RequestFate};
use pg_simulator::knobs::{Knobs, patch};
use pg_simulator::server::{Config, RunningSimulator};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use test_support::{TestClient, TestDatabase};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// As many as the issue asks for.
const MANY: usize = 200;

pub(crate) type Settings = Vec<(&'static str, String)>;

/// A process of the app-server. Killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    api: SocketAddr,
    ops: SocketAddr,
}

fn command(settings: &Settings) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_app-server"));
    // Nothing that is set around the tests reaches it.
    command.env_clear().envs(settings.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Program {
    pub(crate) async fn start(settings: &Settings) -> Self {
        let mut child = command(settings).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let mut said = Vec::new();
        let listening = async {
            while let Some(text) = lines.next_line().await.expect("lines of text") {
                let line: Value = serde_json::from_str(&text).unwrap_or_default();
                if line["message"] == "listening" {
                    return ["addr", "ops_addr"].map(|name| line[name].as_str().unwrap().parse().unwrap());
                }
                said.push(text);
            }
            panic!("it ended before it listened: {said:#?}")
        };
        let [api, ops] = tokio::time::timeout(DEADLINE, listening).await.expect("it listens in time");
        // The pipe must not fill up.
        drop(spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} }));
        Self { child, api, ops }
    }

    /// `kill -9`.
    async fn kill(mut self) {
        self.child.kill().await.expect("a process that ran until now");
    }
}

/// A gateway that takes everything at once, and approves it at once.
async fn gateway() -> RunningSimulator {
    let manners = json!({
        "callback_url_prefix": "http://127.0.0.1",
        "hang_for": "10m",
        "request": { "error_500": 0.0, "latency": { "min": "0s", "max": "0s" } },
        "settlement": {
            "processing": { "min": "0s", "max": "0s" }, "success": 1.0, "limit_exceeded": 0.0, "invalid_card": 0.0,
        },
        "callback": { "dropped": 1.0 },
    });
    let knobs = patch::apply(&Knobs::default(), &patch::changes_in(&manners).unwrap()).unwrap();
    let config = Config { bind: "127.0.0.1:0".parse().unwrap(), knobs };
    pg_simulator::server::start(config).await.expect("a free port")
}

/// Every time-out so long that a slow machine runs into none: what hangs here hangs until the process is killed.
fn settings(database: &TestDatabase, gateway: &RunningSimulator) -> Settings {
    let pairs = [
        ("HOLDFAST__SERVER__BIND", "127.0.0.1:0"),
        ("HOLDFAST__OPS__BIND", "127.0.0.1:0"),
        ("HOLDFAST__SERVER__WORKERS", "2"),
        ("HOLDFAST__LOG__FORMAT", "json"),
        ("HOLDFAST__PG__CALLBACK_BASE_URL", "http://127.0.0.1:9"),
        ("HOLDFAST__PG__CALLBACK_SECRET", "a-secret-of-the-tests-that-is-long-enough"),
        ("HOLDFAST__PG__DEADLINE", "50s"),
        ("HOLDFAST__PG__PAYMENT__READ_TIMEOUT", "30s"),
        ("HOLDFAST__PG__PAYMENT__CIRCUIT__MAX_WAIT_DURATION_IN_HALF_OPEN_STATE", "0s"),
        ("HOLDFAST__PG__QUERY__CIRCUIT__MAX_WAIT_DURATION_IN_HALF_OPEN_STATE", "0s"),
        ("HOLDFAST__ORDERS__RESPONSE_DEADLINE", "60s"),
        ("HOLDFAST__ORDERS__RECORD_PATIENCE", "1s"),
        ("HOLDFAST__DATABASE__POOL_SIZE", "8"),
        ("HOLDFAST__DATABASE__ACQUIRE_TIMEOUT", "60s"),
        ("HOLDFAST__DATABASE__STATEMENT_TIMEOUT", "60s"),
        ("HOLDFAST__DATABASE__LOCK_TIMEOUT", "60s"),
        ("HOLDFAST__SYNC__MIN_INTERVAL", "0s"),
        ("HOLDFAST__RECONCILER__NOT_FOUND_GRACE", "0s"),
    ];
    let mut settings: Settings = pairs.map(|(name, value)| (name, value.to_owned())).into();
    settings.push(("DATABASE_URL", database.url()));
    settings.push(("HOLDFAST__PG__BASE_URL", gateway.base_url()));
    settings
}

/// One buyer's order, and everything that can be looked at.
struct Shop {
    database: TestDatabase,
    sql: TestClient,
    gateway: RunningSimulator,
    settings: Settings,
    product: i64,
}

impl Shop {
    async fn open() -> (Self, Program) {
        let (database, gateway) = (TestDatabase::create().await, gateway().await);
        let settings = settings(&database, &gateway);
        let migrated = command(&settings).arg("migrate").output().await.expect("the program starts");
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let program = Program::start(&settings).await;
        let body = r#"{"name":"텀블러","price":15000,"stock":1000}"#;
        let made = Request::new(program.ops, "POST", "/admin/products").json(body).send().await;
        assert_eq!(made.status, 201, "{}", made.body);
        let product = made.data("productId").as_i64().unwrap();
        let sql = database.client().await;
        (Self { database, sql, gateway, settings, product }, program)
    }

    fn order(&self, program: &Program) -> Request {
        Request::new(program.api, "POST", "/api/v1/orders")
            .header("X-USER-ID", "1")
            .header("Idempotency-Key", "one order, whatever happens")
            .json(card_order(self.product, 1))
    }

    /// Two hundred at once, each on a connection of its own.
    async fn all_at_once(&self, stage: &str, program: &Program) -> Vec<Response> {
        let order = self.order(program);
        let sent: Vec<_> = (0..MANY)
            .map(|_| {
                let order = order.clone();
                spawn(async move { order.send().await })
            })
            .collect();
        let mut answers = Vec::with_capacity(MANY);
        for answer in sent {
            answers.push(answer.await.expect("an answer"));
        }
        let mut distribution = BTreeMap::<String, usize>::new();
        for answer in &answers {
            let code = answer.value()["meta"]["errorCode"].as_str().unwrap_or("-").to_owned();
            let replayed = answer.header("idempotency-replayed").map_or("", |_| " replayed");
            *distribution.entry(format!("{} {code}{replayed}", answer.status)).or_default() += 1;
        }
        println!("{stage}: {distribution:?}");
        answers
    }

    /// Orders, payments, keys, pieces that are gone; and requests to charge that reached the gateway.
    async fn counts(&self) -> ([i64; 4], u64) {
        const SQL: &str = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM payment), \
            (SELECT count(*) FROM idempotency_key), (SELECT 1000 - quantity FROM stock)";
        let row = self.sql.query_one(SQL, &[]).await.expect("counts");
        ([0, 1, 2, 3].map(|at| row.get(at)), self.gateway.log().total(Operation::Request))
    }

    async fn payment(&self) -> Option<(i64, i64, String)> {
        let row = self.sql.query_opt("SELECT id, order_id, status::text FROM payment", &[]).await;
        row.expect("at most one").map(|row| (row.get(0), row.get(1), row.get(2)))
    }

    /// Two hundred requests are under way, one of them has its order; then the process is gone, and another serves.
    async fn kill_it_at(&self, program: Program, status: &str) -> Program {
        let order = self.order(&program);
        let mut open = Vec::with_capacity(MANY);
        for _ in 0..MANY {
            open.push(order.begin().await);
        }
        eventually(async || self.payment().await.filter(|payment| payment.2 == status)).await;
        if status == "IN_PROGRESS" {
            eventually(async || (self.gateway.ledger().len() == 1).then_some(())).await;
        }
        program.kill().await;
        drop(open);
        Program::start(&self.settings).await
    }

    /// The gateway's callback for its one transaction, sent to this process; its status.
    async fn callback(&self, program: &Program) -> u16 {
        let entry = self.gateway.ledger().first().cloned().expect("a transaction");
        let path = entry.callback_url.strip_prefix("http://127.0.0.1:9").expect("our address");
        let body = format!(r#"{{"transactionKey":"{}"}}"#, entry.transaction_key);
        Request::new(program.api, "POST", path).json(body).send().await.status
    }

    /// As if so much time had gone by that the first request can't be under way anywhere.
    async fn let_time_pass(&self) {
        const SQL: &str = "UPDATE payment SET send_deadline = now() - interval '1 minute'";
        assert_eq!(self.sql.execute(SQL, &[]).await.expect("the time passes"), 1);
    }

    /// Asks for the sync by hand until the payment has ended so.
    async fn sync_until(&self, program: &Program, payment: i64, status: &str) {
        let path = format!("/api/v1/payments/{payment}/sync");
        let sync = Request::new(program.api, "POST", &path).header("X-USER-ID", "1").json("");
        eventually(async || {
            let synced = sync.send().await;
            assert!(matches!(synced.status, 200 | 429), "{}", synced.body);
            (synced.data("status") == status).then_some(())
        })
        .await;
    }

    /// What two hundred are told while nobody knows how the payment ends: first that it is under way, and once the first
    /// request can't be, the order as it is.
    async fn nobody_knows(&self, program: &Program, order: i64, charges: u64) {
        for answer in self.all_at_once("right after the restart", program).await {
            // After 55 s, on a very slow machine, the first request counts as gone already.
            if answer.status != 202 {
                assert_failure(&answer, 409, "CONFLICT", "IDEMPOTENCY_IN_PROGRESS");
            }
        }
        assert_eq!(self.counts().await, ([1, 1, 1, 1], charges));
        self.let_time_pass().await;
        for answer in self.all_at_once("when the first request is surely gone", program).await {
            let code = answer.value()["meta"]["errorCode"].clone();
            assert_eq!((answer.status, &code), (202, &json!("PAYMENT_IN_PROGRESS")), "{}", answer.body);
            assert_eq!(answer.data("orderId"), order);
            assert_eq!(answer.header("idempotency-replayed"), Some("true"));
        }
        assert_eq!(self.counts().await.0, [1, 1, 1, 1]);
    }

    /// What two hundred are told in the end: the same, to the letter.
    async fn all_are_told(&self, program: &Program, status: u16, order: i64) {
        let answers = self.all_at_once("when it is settled", program).await;
        let first = answers.first().expect("answers").body.clone();
        for answer in answers {
            assert_eq!(answer.status, status, "{}", answer.body);
            assert_eq!((&answer.body, answer.data("orderId")), (&first, json!(order)));
            assert_eq!(answer.header("idempotency-replayed"), Some("true"));
            assert_eq!(answer.header("location"), Some(format!("/api/v1/orders/{order}").as_str()));
        }
    }
}

/// F01, F02, F07, F26: the card was charged and nobody heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_the_gateway_call_leaves_one_order_and_one_charge() {
    let (shop, program) = Shop::open().await;
    shop.gateway.script_requests([RequestFate::named("create_then_hang").unwrap()]);
    let program = shop.kill_it_at(program, "IN_PROGRESS").await;
    let (payment, order, _) = shop.payment().await.expect("it was stored");
    shop.nobody_knows(&program, order, 1).await;
    shop.sync_until(&program, payment, "PAID").await;
    shop.all_are_told(&program, 201, order).await;
    assert_eq!(shop.counts().await, ([1, 1, 1, 1], 1));
    assert_eq!(shop.gateway.ledger().len(), 1, "one charge");
    assert_eq!(shop.callback(&program).await, 200, "the first process made its token, by the same secret");
    program.kill().await;
    let other = Program::start(&other_secret(&shop.settings)).await;
    assert_eq!(shop.callback(&other).await, 404);
    other.kill().await;
}

fn other_secret(settings: &Settings) -> Settings {
    let name = "HOLDFAST__PG__CALLBACK_SECRET";
    let mut settings: Settings = settings.iter().filter(|(other, _)| *other != name).cloned().collect();
    settings.push((name, "another-secret-of-the-tests-that-is-long-enough".to_owned()));
    settings
}

/// F01, F02, F07, F25: the order was stored, and its card not even asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_before_the_gateway_call_leaves_one_order_and_no_charge() {
    let (shop, program) = Shop::open().await;
    // PENDING -> IN_PROGRESS waits for a lock that the test holds.
    let lock = i64::from(std::process::id()) << 32 | 0x4b69_6c6c;
    let hold = format!(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared({lock}); RETURN NEW; END $$; \
         CREATE TRIGGER hold BEFORE UPDATE ON payment FOR EACH ROW EXECUTE FUNCTION hold(); \
         SELECT pg_advisory_lock({lock})"
    );
    let holder = shop.database.client().await;
    holder.batch_execute(&hold).await.expect("a trigger");
    let program = shop.kill_it_at(program, "PENDING").await;
    // The session that still waits has lost its client.
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
            AND (classid::bigint << 32 | objid::bigint) = {lock}; \
         DROP TRIGGER hold ON payment; SELECT pg_advisory_unlock({lock})"
    );
    holder.batch_execute(&end).await.expect("no trigger");
    let (payment, order, status) = shop.payment().await.expect("it was stored");
    assert_eq!(status, "PENDING");
    shop.nobody_knows(&program, order, 0).await;
    shop.sync_until(&program, payment, "FAILED").await;
    shop.all_are_told(&program, 402, order).await;
    assert_eq!(shop.counts().await, ([1, 1, 1, 0], 0), "nothing stays taken");
    assert_eq!(shop.gateway.ledger().len(), 0, "no charge");
    program.kill().await;
}
