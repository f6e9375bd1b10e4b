//! Runs the rows of the table against real sockets, holds each against what it must come to, and keeps the document.

use super::rows;
use super::server::{FullBacklog, Manners, Server, Step, nobody};
use super::shop::Shop;
use crate::model::Seeded;
use adapters_pg::transport::{Limits, LookupAttempt, PaymentAttempt, Transport};
use adapters_pg::{GatewayConfig, GuardedGateway, HttpConfig, HttpTransport};
use async_trait::async_trait;
use domain::ports::{ChargeRequest, TransactionSummary};
use domain::settlement::Transaction;
use domain::{GatewayKey, GatewayOrderRef, MerchantId};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where the request goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Server(Manners),
    Nobody,
    FullBacklog,
    UnknownHost,
    /// The client speaks TLS; the server does this instead.
    NoTls(Vec<Step>),
}

/// What becomes of the order (spec 01 section 2).
pub(crate) mod order {
    pub(crate) const IN_PROGRESS: &str = "IN_PROGRESS with key | stay taken";
    pub(crate) const IN_PROGRESS_WATCHED: &str = "IN_PROGRESS with key, watched | stay taken";
    pub(crate) const UNCERTAIN: &str = "IN_PROGRESS without key | stay taken";
    pub(crate) const UNCERTAIN_WATCHED: &str = "IN_PROGRESS without key, watched | stay taken";
    pub(crate) const REJECTED: &str = "FAILED, buyer is told why | given back";
    pub(crate) const REJECTED_WATCHED: &str = "FAILED, buyer is told why, watched | given back";
    pub(crate) const FAILED: &str = "FAILED | given back";
    pub(crate) const FAILED_WATCHED: &str = "FAILED, watched | given back";
}

/// One behaviour of a gateway and what it must come to.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    what: &'static str,
    target: Target,
    connect: Duration,
    read: Duration,
    at_least: Duration,
    /// Any of these: where the kernel decides which error is seen first.
    attempts: Vec<String>,
    requests: usize,
    questions: usize,
    order: &'static str,
}

/// For rows in which an answer or an error comes: so long that a slow machine makes no difference.
const PATIENT: Duration = Duration::from_secs(20);
/// For rows in which nothing comes.
const SHORT: Duration = Duration::from_millis(250);

impl Row {
    pub(crate) fn new(what: &'static str, target: Target) -> Self {
        Self {
            what,
            target,
            connect: PATIENT,
            read: PATIENT,
            at_least: Duration::ZERO,
            attempts: Vec::new(),
            requests: 0,
            questions: 0,
            order: "",
        }
    }

    pub(crate) fn short_connect(self) -> Self {
        Self { connect: SHORT, ..self }
    }

    pub(crate) fn short_read(self) -> Self {
        Self { read: SHORT, ..self }
    }

    /// A head that must arrive, and then nothing: long enough for the one, short enough to wait for the other.
    pub(crate) fn medium_read(self) -> Self {
        Self { read: Duration::from_secs(2), ..self }
    }

    /// Three waits of the second that the gateway asks for.
    pub(crate) fn waits_a_second(self) -> Self {
        Self { at_least: Duration::from_secs(3), ..self }
    }

    /// `requests` are made, all with this result, or with these one after the other.
    pub(crate) fn comes_to(self, attempts: &str, requests: usize, order: &'static str) -> Self {
        Self { attempts: vec![attempts.to_owned()], requests, order, ..self }
    }

    pub(crate) fn uncertain(self, cause: &str) -> Self {
        self.comes_to(&format!("uncertain ({cause})"), 1, order::UNCERTAIN)
    }

    /// One attempt, `arrived` of which the gateway reads whole.
    pub(crate) fn uncertain_any(self, causes: &[&str], arrived: usize) -> Self {
        let attempts = causes.iter().map(|cause| format!("uncertain ({cause})")).collect();
        Self { attempts, requests: arrived, order: order::UNCERTAIN, ..self }
    }

    pub(crate) fn asked(self, questions: usize) -> Self {
        Self { questions, ..self }
    }

    /// What arrives whole at the gateway: nothing where there is none.
    fn arrives(&self) -> usize {
        if matches!(self.target, Target::Server(_)) { self.requests } else { 0 }
    }
}

/// Writes down what the attempts came to.
struct Recorded {
    inner: HttpTransport,
    attempts: Arc<Mutex<Vec<String>>>,
}

fn label(attempt: &PaymentAttempt) -> String {
    match attempt {
        PaymentAttempt::Accepted { .. } => "accepted".to_owned(),
        PaymentAttempt::Rejected { .. } => "rejected".to_owned(),
        PaymentAttempt::Misconfigured { status, .. } => format!("misconfigured ({status})"),
        PaymentAttempt::TooLate => "too late".to_owned(),
        PaymentAttempt::NotReached { cause, .. } => format!("not reached ({})", cause.0),
        PaymentAttempt::Uncertain { cause } => format!("uncertain ({})", cause.0),
    }
}

#[async_trait]
impl Transport for Recorded {
    async fn request_payment(&self, request: &ChargeRequest, limits: Limits) -> PaymentAttempt {
        let attempt = self.inner.request_payment(request, limits).await;
        self.attempts.lock().unwrap().push(label(&attempt));
        attempt
    }

    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
        limits: Limits,
    ) -> LookupAttempt<Transaction> {
        self.inner.find_by_key(merchant, key, limits).await
    }

    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
        limits: Limits,
    ) -> LookupAttempt<Vec<TransactionSummary>> {
        self.inner.find_by_order(merchant, order_ref, limits).await
    }
}

/// What a row came to.
struct Seen {
    attempts: Vec<String>,
    arrived: (usize, usize),
    /// What became of the order, read from the shop's database.
    order: String,
    /// `success`, `failure` or `ignored`.
    circuit: &'static str,
    took: Duration,
}

async fn call(row: &Row, base_url: String, server: Option<&Server>) -> Seen {
    let http = HttpConfig {
        base_url,
        payment_connect_timeout: row.connect,
        query_connect_timeout: row.connect,
        ..HttpConfig::default()
    };
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let transport = Recorded { inner: HttpTransport::new(&http).unwrap(), attempts: Arc::clone(&attempts) };
    let mut config = GatewayConfig { deadline: Duration::from_secs(90), ..GatewayConfig::default() };
    config.payment.connect_timeout = row.connect;
    config.payment.read_timeout = row.read;
    config.payment.retry.initial_interval = Duration::from_millis(1);
    config.payment.retry.max_interval = Duration::from_millis(1);
    config.query.read_timeout = PATIENT;
    let gateway = GuardedGateway::new(transport, config, Arc::new(Seeded::new(1))).unwrap();
    let gateway = Arc::new(gateway);
    let shop = Shop::open(Arc::clone(&gateway) as Arc<_>, Duration::from_secs(90)).await;
    let begun = Instant::now();
    let order = shop.sell().await.order;
    let took = begun.elapsed();
    let [circuit, _] = gateway.circuits().snapshots();
    let circuit = match (circuit.totals.successful, circuit.totals.failed, circuit.totals.ignored) {
        (1, 0, 0) => "success",
        (0, 1, 0) => "failure",
        (0, 0, 1) => "ignored",
        other => panic!("{}: {other:?}", row.what),
    };
    // What the client has given up may still be on its way into the server.
    let arrives = (row.arrives(), row.questions);
    let patience = Instant::now() + Duration::from_secs(10);
    let counts = || server.map_or((0, 0), Server::counts);
    while counts() != arrives && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let attempts = attempts.lock().unwrap().clone();
    Seen { attempts, arrived: counts(), order, circuit, took }
}

async fn run(row: &Row) -> Seen {
    match &row.target {
        Target::Server(manners) => {
            let server = Server::start(manners.clone()).await;
            call(row, server.base_url(), Some(&server)).await
        }
        Target::Nobody => {
            let (_held, address) = nobody();
            call(row, format!("http://{address}"), None).await
        }
        Target::FullBacklog => {
            let full = FullBacklog::start().await;
            call(row, format!("http://{}", full.address), None).await
        }
        Target::UnknownHost => {
            // Too long for a name, so that no name server is asked.
            call(row, format!("http://{}.invalid", "x".repeat(64)), None).await
        }
        Target::NoTls(steps) => {
            let manners = Manners { before_reading: steps.clone(), ..Manners::answering(vec![]) };
            let server = Server::start(manners).await;
            call(row, format!("https://{}", server.address), Some(&server)).await
        }
    }
}

fn circuit_must_hear(row: &Row) -> &'static str {
    match row.order {
        order::IN_PROGRESS | order::IN_PROGRESS_WATCHED => "success",
        order::REJECTED | order::REJECTED_WATCHED => "ignored",
        _ => "failure",
    }
}

/// The attempts as the table shows them: repetitions once.
fn shown(attempts: &[String]) -> String {
    let mut attempts = attempts.to_vec();
    attempts.dedup();
    attempts.join(", ")
}

/// Everything about the row that is not as it must be.
fn complaints(row: &Row, seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let attempts = shown(&seen.attempts);
    if !row.attempts.contains(&attempts) {
        wrong.push(format!("{attempts} instead of {:?}", row.attempts));
    }
    let must_be_made = if row.requests == 0 { 1 } else { row.requests };
    if seen.attempts.len() != must_be_made {
        wrong.push(format!("{} attempts instead of {must_be_made}", seen.attempts.len()));
    }
    if seen.arrived != (row.arrives(), row.questions) {
        wrong.push(format!("(requests, questions) {:?} arrived", seen.arrived));
    }
    if seen.order != row.order {
        wrong.push(format!("{} instead of {}", seen.order, row.order));
    }
    if seen.circuit != circuit_must_hear(row) {
        wrong.push(format!("the circuit heard {}", seen.circuit));
    }
    if seen.took < row.at_least {
        wrong.push(format!("only {:?}", seen.took));
    }
    wrong
}

const HEADER: &str = "\
# What every behaviour of the payment gateway comes to

Written by a test that runs each row over real sockets (`crates/adapters-pg/tests/gateway/sockets`); `UPDATE_DOCS=1 cargo test
-p adapters-pg --test gateway` writes it again, every other run compares. Four attempts at most are made in all, as by
default. *Requests* and *questions* are what the gateway read whole: payment requests, and look-ups by order id before something
is sent again or given up. The rule: \"not reached\" is a list of what is allowed in; what is not on it is uncertain, and is
never sent again. *Watched* payments are asked about again for 24 hours. Where the kernel decides which of several errors is
seen, all are named. Each row is an order that is really placed, for two pieces with points and a coupon and the rest by card:
what became of payment, stock, points and coupon is read from the database (in memory) afterwards. *With key*: the order is
received; *without*: its payment is being confirmed, until callback or reconciler settles it. A refusal that the circuit
ignores is a success for it while it is HALF_OPEN, if it bears the gateway's own envelope: it shows that the gateway is there.

| the gateway does | requests | questions | each attempt | payment | stock, points, coupon | circuit hears |
| --- | --- | --- | --- | --- | --- | --- |
";

#[tokio::test]
async fn every_behaviour_comes_to_what_the_table_says() {
    let rows = rows::all();
    let mut running = JoinSet::new();
    for (at, row) in rows.clone().into_iter().enumerate() {
        running.spawn(async move { (at, run(&row).await) });
    }
    let mut seen: Vec<Option<Seen>> = rows.iter().map(|_| None).collect();
    while let Some(done) = running.join_next().await {
        let (at, result) = done.unwrap();
        seen[at] = Some(result);
    }
    let (mut document, mut wrong) = (HEADER.to_owned(), Vec::new());
    for (row, seen) in rows.iter().zip(seen) {
        let seen = seen.unwrap();
        for complaint in complaints(row, &seen) {
            wrong.push(format!("{}: {complaint}", row.what));
        }
        // `uncertain (A)` or `uncertain (B)` is shown as `uncertain (A or B)`.
        let attempts = row.attempts.join(" or ").replace(") or uncertain (", " or ");
        let (requests, questions) = seen.arrived;
        writeln!(
            document,
            "| {} | {requests} | {questions} | {attempts} | {} | {} |",
            row.what, seen.order, seen.circuit
        )
        .unwrap();
    }
    println!("{document}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    keep(&document);
}

#[expect(clippy::disallowed_methods, reason = "a switch of this test, not a setting")]
fn keep(document: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway-outcomes.md");
    if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, document).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == document,
        "docs/gateway-outcomes.md is out of date: UPDATE_DOCS=1 cargo test -p adapters-pg"
    );
}
