//! `metrics`: holds the metrics of real programs against what documents, dashboard and alert rules say about them.
//!
//! A small system of its own is driven through everything that is counted: success, refusal, retry, an outage that opens
//! the circuit, a callback, a wrong amount. Then the scrapes of app-server and reconciler must show what was done, every
//! metric of `docs/metrics.md` and none besides, and every series and label value that a query selects.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::commands::demo::shop::Shop;
use crate::http::{Answer, Stream};
use crate::monitoring;
use crate::private::{self, Plan, Private};
use crate::process;
use crate::scrape::Scrape;
use crate::workspace;

/// What each program must show after what was done: name, labels, and the least value.
type Expected = (&'static str, &'static [(&'static str, &'static str)], f64);

const APP_SERVER: &[Expected] = &[
    ("order_placed_total", &[("result", "paid")], 3.0),
    ("order_placed_total", &[("result", "in_progress")], 3.0),
    ("order_placed_total", &[("result", "confirming")], 5.0),
    ("order_placed_total", &[("result", "refused")], 1.0),
    ("order_placed_total", &[("result", "pg_unavailable")], 1.0),
    ("order_placed_total", &[("result", "circuit_open")], 1.0),
    ("order_placed_total", &[("result", "invalid")], 1.0),
    ("order_placed_total", &[("result", "replayed")], 1.0),
    ("idempotency_replayed_total", &[], 1.0),
    ("possible_duplicate_orders_total", &[], 1.0),
    ("orders_refused_total", &[], 1.0),
    ("callback_received_total", &[("result", "taken")], 1.0),
    ("callback_received_total", &[("result", "unknown")], 1.0),
    ("payment_settled_total", &[("by", "callback"), ("result", "paid")], 1.0),
    ("payment_settled_total", &[("by", "api"), ("result", "failed")], 3.0),
    ("payment_discrepancy_open", &[("kind", "AMOUNT_MISMATCH")], 1.0),
    ("payment_in_progress_count", &[], 1.0),
    ("payment_watched_count", &[], 1.0),
    ("event_streams_open", &[], 1.0),
    ("pg_request_total", &[("operation", "charge"), ("result", "accepted"), ("error", "")], 4.0),
    ("pg_request_total", &[("operation", "charge"), ("result", "rejected"), ("error", "")], 1.0),
    ("pg_request_total", &[("operation", "charge"), ("result", "not_reached"), ("error", "Http500")], 5.0),
    ("pg_request_total", &[("operation", "charge"), ("result", "uncertain"), ("error", "ReadTimeout")], 5.0),
    ("pg_request_latency_seconds_count", &[("operation", "charge"), ("result", "accepted")], 4.0),
    ("pg_retry_attempts_total", &[("operation", "charge"), ("result", "accepted")], 1.0),
    ("pg_probe_total", &[("result", "none")], 1.0),
    ("resilience4j_retry_calls_total", &[("name", "pg-payment"), ("kind", "successful_with_retry")], 1.0),
    ("resilience4j_circuitbreaker_calls_seconds_count", &[("name", "pg-payment"), ("kind", "failed")], 5.0),
    ("resilience4j_circuitbreaker_not_permitted_calls_total", &[("name", "pg-payment")], 1.0),
    ("circuitbreaker_transitions_total", &[("name", "pg-payment"), ("from", "closed"), ("to", "open")], 1.0),
    ("circuitbreaker_slow_calls_total", &[("name", "pg-payment")], 1.0),
    ("database_pool_connections", &[("pool", "api"), ("state", "max")], 1.0),
    ("database_transaction_seconds_count", &[("name", "placing"), ("result", "committed")], 5.0),
    ("batch_size_count", &[("batch", "place")], 5.0),
    (
        "http_request_seconds_count",
        &[("method", "POST"), ("route", "/api/v1/orders"), ("status", "202")],
        3.0,
    ),
    ("build_info", &[("program", "app-server")], 1.0),
    ("process_resident_memory_bytes", &[], 1_000_000.0),
];

const RECONCILER: &[Expected] = &[
    ("reconciler_turn_seconds_count", &[], 1.0),
    ("reconciler_payments_total", &[("outcome", "waiting")], 1.0),
    ("reconciler_payments_total", &[("outcome", "unreachable")], 1.0),
    ("pg_request_latency_seconds_count", &[("operation", "find_by_key")], 1.0),
    ("build_info", &[("program", "reconciler")], 1.0),
];

/// Few calls open the circuit, few orders are too many, and the reconciler looks at once. The gateway's answers are waited
/// for so long that a busy machine makes no difference.
const SETTINGS: &[(&str, &str)] = &[
    ("HOLDFAST__PG__PAYMENT__READ_TIMEOUT", "3s"),
    ("HOLDFAST__PG__QUERY__READ_TIMEOUT", "3s"),
    ("HOLDFAST__PG__PAYMENT__CIRCUIT__SLOW_CALL_RATE_THRESHOLD", "100"),
    ("HOLDFAST__PG__PAYMENT__CIRCUIT__MINIMUM_NUMBER_OF_CALLS", "5"),
    ("HOLDFAST__PG__PAYMENT__CIRCUIT__SLIDING_WINDOW_SIZE", "5"),
    ("HOLDFAST__PG__PAYMENT__CIRCUIT__WAIT_DURATION_IN_OPEN_STATE", "1m"),
    ("HOLDFAST__PG__PAYMENT__CIRCUIT__MAX_WAIT_DURATION_IN_OPEN_STATE", "1m"),
    ("HOLDFAST__ORDERS__MAX_IN_FLIGHT", "8"),
    ("HOLDFAST__RECONCILER__SCHEDULE", "* * * * * *"),
    ("HOLDFAST__RECONCILER__MIN_AGE", "0s"),
];

const PATIENCE: Duration = Duration::from_secs(60);
const CARD_NUMBER: &str = "1234-5678-9814-1451";
const PRICE: i64 = 10_000;

pub(crate) fn run() -> Result<()> {
    check_live(&workspace::root()?)
}

/// The step of `test`.
pub(crate) fn check_live(root: &Path) -> Result<()> {
    let binaries = private::build(root, false)?;
    let plan =
        Plan { name: "metrics", binaries: &binaries, second: false, reconciler: true, settings: SETTINGS };
    let system = Private::start(root, &plan)?;
    let shop = Shop::new(&system.api, &system.ops);
    let scene = Scene {
        product: shop.make_product("metrics", PRICE, 1_000)?,
        buyer: shop.buyer(0)?,
        system: &system,
        shop: &shop,
    };
    let _open_stream = scene.play()?;
    let server = shown(&system, &system.ops, APP_SERVER)?;
    let reconciler = shown(&system, &system.reconciler, RECONCILER)?;
    let wrong = complaints(root, &server, &reconciler)?;
    ensure!(wrong.is_empty(), "{} complaints:\n  {}", wrong.len(), wrong.join("\n  "));
    println!(
        "{} series of app-server and {} of reconciler: every documented metric is there, and all that queries select",
        server.series.len(),
        reconciler.series.len()
    );
    system.stop()
}

/// Scrapes until all is there that must be.
fn shown(system: &Private, ops: &str, expected: &[Expected]) -> Result<Scrape> {
    let began = Instant::now();
    loop {
        let scrape = Scrape::fetch(&system.http, ops)?;
        let lacking: Vec<String> = expected
            .iter()
            .filter(|(name, labels, least)| scrape.sum(name, labels) < *least)
            .map(|(name, labels, least)| format!("{name}{labels:?} is not {least} or more"))
            .collect();
        if lacking.is_empty() {
            return Ok(scrape);
        }
        if process::interrupted() || began.elapsed() > PATIENCE {
            bail!("{ops}/metrics after {} s: {}", began.elapsed().as_secs(), lacking.join("; "));
        }
        std::thread::sleep(process::POLL);
    }
}

/// What the scrapes lack or have too much.
fn complaints(root: &Path, server: &Scrape, reconciler: &Scrape) -> Result<Vec<String>> {
    let documented = monitoring::documented(root)?;
    let all = Scrape { series: [server.series.clone(), reconciler.series.clone()].concat() };
    let mut wrong = BTreeSet::new();
    for series in &all.series {
        let labels: BTreeSet<String> = series.labels.keys().cloned().collect();
        match documented.get(&series.name) {
            None => drop(wrong.insert(format!("{} is not documented", series.name))),
            Some(known) if *known != labels => {
                wrong.insert(format!("{} has the labels {labels:?} instead of {known:?}", series.name));
            }
            Some(_) => {}
        }
    }
    for name in documented.keys() {
        if !all.series.iter().any(|series| series.name == *name) {
            wrong.insert(format!("{name} is documented, and no program shows it"));
        }
    }
    let dashboard = monitoring::expressions(&monitoring::dashboard(root)?);
    let alerts = monitoring::alert_expressions(root)?.into_iter().map(|(_, query)| query);
    for query in dashboard.into_iter().chain(alerts) {
        wrong.extend(monitoring::missing(&query, &all));
    }
    Ok(wrong.into_iter().collect())
}

/// What is done.
struct Scene<'a> {
    system: &'a Private,
    shop: &'a Shop,
    product: i64,
    buyer: i64,
}

impl Scene<'_> {
    /// Returns an event stream that stays open.
    fn play(&self) -> Result<Stream> {
        self.shop.give_points(self.buyer, 10 * PRICE)?;
        self.faithful()?;
        self.by_points()?;
        self.answers_of_the_gateway()?;
        let stream = self.an_order_that_stays_open()?;
        self.outage()?;
        let unknown = json!({ "transactionKey": "20250816:TR:000000", "orderId": "1", "amount": 1, "status": "SUCCESS" });
        let answer =
            self.system.http.post(&self.url("/api/v1/payments/callback/nonsense"), None, &unknown)?;
        ensure!(answer.status == 404, "a forged callback was answered {}", answer.status);
        Ok(stream)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.system.api)
    }

    /// The gateway accepts at once, charges, and reports it.
    fn faithful(&self) -> Result<()> {
        self.gateway(&json!({}))?;
        let order = self.placed(&self.card(), 202)?;
        self.ends(order, "PAID")
    }

    fn ends(&self, order: i64, status: &str) -> Result<()> {
        let began = Instant::now();
        while self.shop.order(self.buyer, order)?.payment_status != status {
            ensure!(began.elapsed() < PATIENCE && !process::interrupted(), "order {order} is not {status}");
            std::thread::sleep(process::POLL);
        }
        Ok(())
    }

    /// One with an Idempotency-Key, sent twice; one without, sent twice; one that breaks a rule.
    fn by_points(&self) -> Result<()> {
        let body = json!({ "items": [{ "productId": self.product, "quantity": 1 }], "usePoint": PRICE });
        for _ in 0..2 {
            let http = &self.system.http;
            let answer = http.post_keyed(&self.url("/api/v1/orders"), self.buyer, "metrics", &body)?;
            ensure!(answer.status == 201, "an order with a key was answered {}", answer.status);
            self.placed(&body, 201)?;
        }
        let too_many =
            json!({ "items": [{ "productId": self.product, "quantity": 1 }], "usePoint": 10 * PRICE });
        self.answered(&too_many, 400)?;
        Ok(())
    }

    fn answers_of_the_gateway(&self) -> Result<()> {
        // Retried once, after a probe.
        self.script(&["error_500"])?;
        self.placed(&self.card(), 202)?;
        // Retried until there is no attempt left.
        self.script(&["error_500", "error_500", "error_500", "error_500"])?;
        self.answered(&self.card(), 503)?;
        self.gateway(&json!({ "callback_url_prefix": "http://elsewhere.example" }))?;
        self.answered(&self.card(), 402)?;
        self.gateway(&json!({ "request": { "wrong_amount": 1 } }))?;
        let order = self.placed(&self.card(), 202)?;
        self.ends(order, "FAILED")
    }

    fn an_order_that_stays_open(&self) -> Result<Stream> {
        self.gateway(&json!({ "settlement": { "stuck": 1 } }))?;
        let order = self.placed(&self.card(), 202)?;
        // Before the outage, in which nothing more can be learnt of it.
        let looked_at: &[Expected] = &[("reconciler_payments_total", &[("outcome", "waiting")], 1.0)];
        shown(self.system, &self.system.reconciler, looked_at)?;
        self.system.http.stream(&self.url(&format!("/api/v1/orders/{order}/events")), self.buyer)
    }

    /// The gateway accepts and never answers: the circuit opens, and more orders come than may be under way.
    fn outage(&self) -> Result<()> {
        let outage = json!({ "on": true, "mode": "hang" });
        self.succeeded("outage", self.system.http.post(&self.admin("outage"), None, &outage)?)?;
        let began = Instant::now();
        loop {
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| self.shop.place(self.buyer, &self.card()).is_ok());
                }
            });
            let scrape = Scrape::fetch(&self.system.http, &self.system.ops)?;
            let open = [("name", "pg-payment"), ("state", "open")];
            let open = scrape.sum("resilience4j_circuitbreaker_state", &open) == 1.0;
            // Of sixteen at once eight are too many, unless the machine was slow to send them.
            let refused = scrape.sum("orders_refused_total", &[]) > 0.0;
            if open && refused {
                break;
            }
            ensure!(began.elapsed() < PATIENCE && !process::interrupted(), "the circuit is not open");
            if open {
                let url = format!("{}/admin/circuits/pg-payment", self.system.ops);
                self.system.http.post(&url, None, &json!({ "state": "RESET" }))?;
            }
        }
        let answer = self.shop.place(self.buyer, &self.card())?;
        ensure!(answer.meta("errorCode") == "CIRCUIT_OPEN", "answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    fn card(&self) -> Value {
        let items = json!([{ "productId": self.product, "quantity": 1 }]);
        json!({ "items": items, "cardType": "SAMSUNG", "cardNo": CARD_NUMBER })
    }

    fn answered(&self, body: &Value, status: u16) -> Result<Answer> {
        let answer = self.shop.place(self.buyer, body)?;
        ensure!(answer.status == status, "answered {} instead of {status}: {}", answer.status, answer.body);
        Ok(answer)
    }

    /// Returns the order.
    fn placed(&self, body: &Value, status: u16) -> Result<i64> {
        self.answered(body, status)?.number("/orderId")
    }

    fn admin(&self, path: &str) -> String {
        format!("{}/admin/{path}", self.system.simulator)
    }

    fn succeeded(&self, what: &str, answer: Answer) -> Result<()> {
        ensure!(answer.status == 200, "{what}: the simulator answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    /// Quick and without errors, but for `manners`.
    fn gateway(&self, manners: &Value) -> Result<()> {
        let mut config = json!({
            "callback_url_prefix": self.system.api,
            "request": { "latency": { "min": "0s", "max": "1ms" }, "error_500": 0 },
            "settlement": {
                "processing": { "min": "50ms", "max": "100ms" },
                "success": 1, "limit_exceeded": 0, "invalid_card": 0,
            },
        });
        merge(&mut config, manners);
        self.succeeded("config", self.system.http.put(&self.admin("config"), &config)?)
    }

    /// The fates of the next requests; then all are accepted.
    fn script(&self, fates: &[&str]) -> Result<()> {
        let answer = self.system.http.post(&self.admin("script"), None, &json!({ "requests": fates }))?;
        self.succeeded("script", answer)
    }
}

/// Puts all that `changes` has over `target`.
fn merge(target: &mut Value, changes: &Value) {
    match (target, changes) {
        (Value::Object(target), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(target.entry(name).or_insert(Value::Null), change);
            }
        }
        (target, change) => *target = change.clone(),
    }
}
