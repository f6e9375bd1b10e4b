//! `once`, `sync` and `run` on a real database and a simulated gateway: what they print, and the codes they end by.

use crate::support::{DEADLINE, Running, command};
use application::{PlaceOrder, PlaceOrderOutcome};
use bootstrap::settings::{Environment, Settings, load};
use bootstrap::wiring::{self, System};
use domain::placement::OrderLines;
use domain::{CardType, Money, PaymentId, PaymentStatus, Quantity, Stock, UserId};
use pg_simulator::engine::RequestFate;
use pg_simulator::knobs::{Knobs, patch};
use pg_simulator::server::{Config, RunningSimulator};
use serde_json::{Value, json};
use std::process::Output;
use test_support::TestDatabase;

/// A gateway that approves at once and tells nobody.
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

/// A database with orders, and the settings that lead to it.
struct Shop {
    environment: Vec<(&'static str, String)>,
    system: System,
    gateway: RunningSimulator,
    _database: TestDatabase,
}

/// Nothing has to be waited for, and no look-up runs out of time on a slow machine.
const SETTINGS: &[(&str, &str)] = &[
    ("HOLDFAST__PG__CALLBACK_BASE_URL", "http://127.0.0.1:9"),
    ("HOLDFAST__PG__CALLBACK_SECRET", "a-secret-of-the-tests-that-is-long-enough"),
    ("HOLDFAST__PG__DEADLINE", "50s"),
    ("HOLDFAST__PG__PAYMENT__READ_TIMEOUT", "700ms"),
    ("HOLDFAST__PG__QUERY__READ_TIMEOUT", "20s"),
    ("HOLDFAST__PG__PAYMENT__CIRCUIT__MAX_WAIT_DURATION_IN_HALF_OPEN_STATE", "0s"),
    ("HOLDFAST__PG__QUERY__CIRCUIT__MAX_WAIT_DURATION_IN_HALF_OPEN_STATE", "0s"),
    ("HOLDFAST__ORDERS__RESPONSE_DEADLINE", "60s"),
    ("HOLDFAST__DATABASE__ACQUIRE_TIMEOUT", "60s"),
    ("HOLDFAST__DATABASE__STATEMENT_TIMEOUT", "60s"),
    ("HOLDFAST__CALLBACK__QUERY_INTERVAL", "0s"),
    ("HOLDFAST__SYNC__MIN_INTERVAL", "0s"),
    ("HOLDFAST__RECONCILER__LEASE", "10m"),
    ("HOLDFAST__RECONCILER__MIN_AGE", "0s"),
    ("HOLDFAST__RECONCILER__BIND", "127.0.0.1:0"),
];

fn settings(environment: &[(&'static str, String)]) -> Settings {
    load(None, Environment::from_pairs(environment.iter().cloned())).expect("good settings").settings
}

impl Shop {
    async fn open() -> Self {
        let (database, gateway) = (TestDatabase::create().await, gateway().await);
        let mut environment: Vec<_> =
            SETTINGS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        environment.push(("DATABASE_URL", database.url()));
        environment.push(("HOLDFAST__PG__BASE_URL", gateway.base_url()));
        let settings = settings(&environment);
        wiring::migrate(&settings).await.expect("a schema");
        let system = wiring::build(&settings).expect("a system");
        Self { environment, system, gateway, _database: database }
    }

    /// An order whose card was charged, and nobody has heard of it.
    async fn undecided(&self) -> PaymentId {
        let application = &self.system.application;
        let (price, stock) = (Money::new(15_000).unwrap(), Stock::new(10).unwrap());
        let product = application.create_product("텀블러", price, stock).await.expect("a product");
        self.gateway.script_requests([RequestFate::named("create_then_hang").unwrap()]);
        let placed = application.place_order(PlaceOrder {
            user_id: UserId::new(1).unwrap(),
            lines: OrderLines::new([(product, Quantity::new(1).unwrap())]).unwrap(),
            use_point: Money::new(0).unwrap(),
            issued_coupon_id: None,
            card: Some((CardType::Samsung, "1234-5678-9814-1451".parse().unwrap())),
            idempotency: None,
            placed: None,
        });
        match placed.await {
            Ok(PlaceOrderOutcome::Confirming(order)) => order.payment.payment.id(),
            other => panic!("nobody should know yet: {other:?}"),
        }
    }

    async fn status(&self, id: PaymentId) -> PaymentStatus {
        let view = self.system.application.queries().payment(None, id).await.expect("a database");
        view.expect("a payment").record.payment.status()
    }

    /// Runs the program to its end, with these settings over the others.
    async fn run(&self, arguments: &[&str], over: &[(&'static str, &str)]) -> Ended {
        let mut settings: Vec<_> =
            self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        settings.extend(over);
        let output = tokio::time::timeout(DEADLINE, command(&settings, arguments).output()).await;
        Ended(output.expect("an end in time").expect("a program that starts"))
    }
}

struct Ended(Output);

impl Ended {
    #[track_caller]
    fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.0.status.code(),
            Some(code),
            "{} {}",
            self.out(),
            String::from_utf8_lossy(&self.0.stderr)
        );
        self
    }

    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn json(&self) -> Value {
        let out = self.out();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// The numbers of a turn, all that are not named being zero.
fn numbers(given: Value) -> Value {
    let mut all = json!({
        "examined": 0, "paid": 0, "failed": 0, "forced": 0, "waiting": 0, "ended": 0, "unreachable": 0, "errors": 0,
        "parked": 0, "notFoundSuspended": false, "complete": true,
    });
    for (name, value) in given.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

/// Nobody listens there.
const NO_GATEWAY: (&str, &str) = ("HOLDFAST__PG__BASE_URL", "http://127.0.0.1:1");
const NO_DATABASE: (&str, &str) = ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");

#[tokio::test(flavor = "multi_thread")]
async fn once_ends_with_0_unless_a_payment_could_not_be_examined() {
    let shop = Shop::open().await;
    let idle = shop.run(&["once", "--json"], &[]).await;
    assert_eq!(idle.assert_code(0).json(), numbers(json!({})));

    let payment = shop.undecided().await;
    let away = shop.run(&["once", "--json"], &[NO_GATEWAY]).await;
    assert_eq!(
        away.assert_code(1).json(),
        numbers(json!({"examined": 1, "unreachable": 1, "complete": false}))
    );
    assert_eq!(shop.status(payment).await, PaymentStatus::InProgress);

    let second = shop.undecided().await;
    let settled = shop.run(&["once", "--json"], &[]).await;
    assert_eq!(settled.assert_code(0).json()["paid"], settled.json()["examined"], "{}", settled.out());
    assert_eq!(shop.status(second).await, PaymentStatus::Paid);
    let line = shop.run(&["once"], &[]).await;
    assert!(line.assert_code(0).out().starts_with("turn: examined="), "{}", line.out());

    let no_database = shop.run(&["once"], &[NO_DATABASE]).await;
    assert_eq!(no_database.assert_code(1).out(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_ends_with_0_when_the_payment_has_ended() {
    let shop = Shop::open().await;
    let payment = shop.undecided().await;
    let id = payment.to_string();
    let away = shop.run(&["sync", &id, "--json"], &[NO_GATEWAY]).await;
    let told = away.assert_code(1).json();
    assert_eq!(told["examined"], "the gateway could not be asked");
    assert_eq!((&told["paymentId"], &told["status"]), (&json!(payment.get()), &json!("IN_PROGRESS")));

    let settled = shop.run(&["sync", &id, "--json"], &[]).await;
    let told = settled.assert_code(0).json();
    let key = shop.gateway.ledger().first().expect("a transaction").transaction_key.clone();
    let order = shop.system.application.queries().payment(None, payment).await.unwrap().unwrap();
    assert_eq!(
        told,
        json!({
            "paymentId": payment.get(), "orderId": order.record.payment.order_id().get(), "status": "PAID",
            "externalPaymentKey": key, "examined": "asked",
        })
    );
    let again = shop.run(&["sync", &id], &[]).await;
    assert!(again.assert_code(0).out().starts_with(&format!("payment {id} is PAID (")), "{}", again.out());

    for (arguments, code) in [(["sync", "999"], 1), (["sync", "0"], 1), (["sync", "one"], 2)] {
        let refused = shop.run(&arguments, &[]).await;
        assert_eq!(refused.assert_code(code).out(), "", "{arguments:?}");
    }
    shop.run(&["sync", &id], &[NO_DATABASE]).await.assert_code(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_turns_by_its_schedule() {
    let shop = Shop::open().await;
    let payment = shop.undecided().await;
    let mut settings: Vec<_> = shop.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    settings.push(("HOLDFAST__RECONCILER__SCHEDULE", "* * * * * *"));
    let _running = Running::start(&settings).await;
    let settled = async {
        while shop.status(payment).await != PaymentStatus::Paid {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, settled).await.expect("a turn in time");
}
