//! The load: orders at a fixed rate, whether or not earlier ones were answered; buyers who hang up, and who try again.

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::canary::Canary;
use crate::diary::Post;
use crate::http::{Answer, place_and_hang_up};
use crate::shop::Shop;
use crate::world::World;

/// More would say that nothing is answered any more.
const MOST_UNDER_WAY: usize = 600;
const TRIES: u32 = 5;

/// An answer that a buyer got, to be held against the books at the end.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    pub(crate) user: i64,
    pub(crate) key: Option<String>,
    pub(crate) status: u16,
    /// Named by the answer.
    pub(crate) order: Option<i64>,
}

pub(crate) struct Buyers {
    world: Arc<World>,
    shop: Arc<Shop>,
    canary: Canary,
    seed: u64,
    promises: Mutex<Vec<Promise>>,
}

impl Buyers {
    pub(crate) fn new(world: Arc<World>, shop: Arc<Shop>, seed: u64) -> Self {
        Self { world, shop, canary: Canary::new(), seed, promises: Mutex::default() }
    }

    pub(crate) fn promises(&self) -> Vec<Promise> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Places `rate` orders a second until `end`; returns when all are answered, or their buyers gave up.
    pub(crate) async fn run(self: &Arc<Self>, rate: f64, end: Instant) {
        let began = Instant::now();
        let mut under_way = JoinSet::new();
        for number in 0_u32.. {
            let due = began + Duration::from_secs_f64(f64::from(number) / rate);
            if due >= end {
                break;
            }
            tokio::time::sleep_until(due).await;
            while under_way.try_join_next().is_some() {}
            if under_way.len() >= MOST_UNDER_WAY {
                self.world.diary.count("load: not placed, too many under way");
                continue;
            }
            let buyers = Arc::clone(self);
            under_way.spawn(async move { buyers.buy(u64::from(number)).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// One buyer, one order.
    async fn buy(&self, number: u64) {
        let mut rng = StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (user, body) = self.shop.order(&mut rng);
        let key = rng.random_bool(0.6).then(|| format!("chaos-{number}"));
        let impatient = rng.random_bool(0.1);
        self.world.diary.count(if key.is_some() { "load: with Idempotency-Key" } else { "load: without" });
        for attempt in 0..TRIES {
            let server = rng.random_range(0..self.world.servers.len());
            if attempt == 0 && impatient {
                self.hang_up(server, user, key.as_deref(), &body, rng.random_range(10..900)).await;
            } else if self.place(server, user, key.as_deref(), &body).await {
                return;
            }
            if key.is_none() {
                // Another try would be another order.
                return;
            }
            tokio::time::sleep(Duration::from_millis(rng.random_range(200..800))).await;
        }
        self.world.diary.count("buyer gave up");
    }

    async fn hang_up(&self, server: usize, user: i64, key: Option<&str>, body: &Value, after_ms: u64) {
        let Some(ports) = self.world.servers.get(server) else { return };
        let patience = Duration::from_millis(after_ms);
        let hung_up = place_and_hang_up(ports.api, user, key, body, patience).await;
        self.world.diary.count(if hung_up.is_ok() { "answer: reset by the buyer" } else { "answer: none" });
    }

    /// True when the buyer has got an answer that he takes for one.
    pub(crate) async fn place(&self, server: usize, user: i64, key: Option<&str>, body: &Value) -> bool {
        let began = Instant::now();
        match self.send(server, user, key, body).await {
            Ok(answer) => {
                let ended = Instant::now();
                self.world.diary.posted(Post { server, answer: told(&answer), began, ended });
                self.take(user, key, &answer)
            }
            Err(_) => {
                self.world.diary.count("answer: none");
                false
            }
        }
    }

    async fn send(&self, server: usize, user: i64, key: Option<&str>, body: &Value) -> Result<Answer> {
        let url = format!("{}/api/v1/orders", self.world.api(server)?);
        let answer = self.world.http.send(Method::POST, &url, Some(user), key, Some(body)).await;
        answer.context("no answer")
    }

    fn take(&self, user: i64, key: Option<&str>, answer: &Answer) -> bool {
        let diary = &self.world.diary;
        diary.count(format!("answer: {}", told(answer)));
        if self.canary.hits(answer.text.as_bytes()) > 0 {
            diary.violation(format!("I14: an answer with status {} bears a card number", answer.status));
        }
        if answer.status == 500 {
            diary.violation(format!("an order was answered with 500: {}", answer.text));
        }
        let order = answer.number("/data/orderId");
        let promise = Promise { user, key: key.map(str::to_owned), status: answer.status, order };
        self.promises.lock().unwrap_or_else(PoisonError::into_inner).push(promise);
        // Under way still, or nothing was taken: worth another try with the same key.
        !(answer.status == 409 || answer.error_code() == "SERVICE_UNAVAILABLE")
    }
}

/// Status, error code, reason.
fn told(answer: &Answer) -> String {
    let reason = answer.body.pointer("/meta/reason").and_then(Value::as_str).unwrap_or_default();
    format!("{} {} {reason}", answer.status, answer.error_code()).trim_end().to_owned()
}
