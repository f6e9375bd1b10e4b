//! The simulated gateway's bad manners, by its admin calls.

use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::http::Http;
use crate::times::Times;

/// What every bad phase is made of: little enough of each that the circuits are not open all the time.
const REQUEST_FAULTS: &[&str] = &[
    "hang",
    "reset",
    "close",
    "cut_body",
    "error_502",
    "error_503",
    "error_504",
    "garbage",
    "empty",
    "data_null",
    "redirect",
    "backlog",
    "create_then_error_500",
    "create_then_close",
];
const LOOKUP_FAULTS: &[&str] = &[
    "hang",
    "reset",
    "close",
    "cut_body",
    "error_500",
    "error_503",
    "garbage",
    "empty",
    "data_null",
    "stale",
];

#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) http: Http,
    /// Past the fault proxy.
    pub(crate) base: String,
    pub(crate) times: Times,
}

impl Gateway {
    async fn admin(&self, method: Method, path: &str, body: &Value) -> Result<()> {
        self.http.demand(method, &format!("{}/admin/{path}", self.base), None, body).await.map(|_| ())
    }

    /// A new phase of bad manners, drawn anew each time: a few faults often, all others sometimes.
    pub(crate) async fn misbehave(&self, rng: &mut StdRng) -> Result<String> {
        let (manners, text) = manners(&self.times, rng);
        self.admin(Method::PUT, "config", &manners).await?;
        Ok(text)
    }

    /// Every request is accepted at once, decided within a second and reported once.
    pub(crate) async fn behave(&self) -> Result<()> {
        self.outage(None).await?;
        let manners = json!({
            "callback_url_prefix": PREFIX,
            "request": { "error_500": 0, "latency": { "min": "1ms", "max": "20ms" } },
            "settlement": { "processing": { "min": "100ms", "max": "1s" } },
        });
        self.admin(Method::PUT, "config", &manners).await
    }

    /// None: the front door is open again.
    pub(crate) async fn outage(&self, mode: Option<&str>) -> Result<()> {
        let body = mode.map_or_else(|| json!({ "on": false }), |mode| json!({ "on": true, "mode": mode }));
        self.admin(Method::POST, "outage", &body).await
    }

    /// As if its process had died: what is undecided stays so for ever.
    pub(crate) async fn restart(&self) -> Result<()> {
        self.admin(Method::POST, "restart", &json!({})).await
    }

    /// The ledger's sums.
    pub(crate) async fn sums(&self) -> Result<Value> {
        let answer = self.http.get(&format!("{}/admin/ledger?limit=1", self.base)).await?;
        answer.body.pointer("/data/totals").cloned().context("the simulator's ledger has no totals")
    }
}

/// Callbacks go to either app-server.
pub(crate) const PREFIX: &str = "http://127.0.0.1:";

fn manners(times: &Times, rng: &mut StdRng) -> (Value, String) {
    let mut request = faults(REQUEST_FAULTS, 0.004, 0.03, rng);
    request.insert("error_500".to_owned(), json!(0.2));
    request.insert("created_anyway".to_owned(), json!(share(rng, 0.3)));
    request.insert("decided_at_once".to_owned(), json!(share(rng, 0.1)));
    request.insert("wrong_amount".to_owned(), json!(share(rng, 0.03)));
    request.insert("backlog_delay".to_owned(), json!({ "min": "1s", "max": times.backlog }));
    let latency: u32 = *[50, 200, 600].choose(rng).unwrap_or(&200);
    request.insert("latency".to_owned(), json!({ "min": "10ms", "max": format!("{latency}ms") }));
    let mut lookup = faults(LOOKUP_FAULTS, 0.002, 0.015, rng);
    lookup.insert("visible_after".to_owned(), json!(*["0s", "0s", "500ms"].choose(rng).unwrap_or(&"0s")));
    let workers: u32 = *[6, 30, 100].choose(rng).unwrap_or(&30);
    let manners = json!({
        "callback_url_prefix": PREFIX,
        "hang_for": "8s",
        "request": request,
        "lookup": lookup,
        "settlement": {
            "processing": { "min": "200ms", "max": "3s" },
            "workers": workers,
            "stuck": share(rng, 0.02),
            "flip": share(rng, 0.03),
            "flip_after": { "min": "1s", "max": times.backlog },
        },
        "callback": {
            "dropped": share(rng, 0.4),
            "duplicated": share(rng, 0.3),
            "copies": rng.random_range(2..=10),
            "delayed": share(rng, 0.3),
            "delay": { "min": "1s", "max": times.backlog },
            "before_answer": share(rng, 0.2),
            "wrong_amount": share(rng, 0.1),
            "forged": share(rng, 0.1),
        },
    });
    let text = format!("answers within {latency} ms, {workers} workers");
    (manners, text)
}

/// A small share for each, a larger one for three of them.
fn faults(names: &[&str], small: f64, large: f64, rng: &mut StdRng) -> Map<String, Value> {
    let mut shares: Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!(small))).collect();
    for name in names.sample(rng, 3) {
        shares.insert((*name).to_owned(), json!(large));
    }
    shares
}

fn share(rng: &mut StdRng, most: f64) -> f64 {
    (rng.random_range(0.0..=most) * 1000.0).round() / 1000.0
}
