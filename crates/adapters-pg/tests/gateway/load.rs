//! Thousands of orders in virtual time: a healthy gateway is never cut off, a dead one at once.

use crate::model::*;
use adapters_pg::breaker::State;
use adapters_pg::transport::PaymentAttempt;
use adapters_pg::{GatewayConfig, GuardedGateway};
use domain::ports::{Entropy, GatewayAnswer, Lookup};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    accepted: usize,
    not_reached: usize,
    circuit_open: usize,
    uncertain: usize,
    longest: Duration,
}

/// Places `orders` orders, one every `interval`.
async fn place(gateway: &Arc<GuardedGateway<Arc<Model>>>, orders: u32, interval: Duration) -> Tally {
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for order in 0..orders {
        let gateway = Arc::clone(gateway);
        calls.spawn(async move {
            sleep_until(begun + interval * order).await;
            let begun = Instant::now();
            (charge(&gateway).await.answer, begun.elapsed())
        });
    }
    let mut tally = Tally::default();
    while let Some(done) = calls.join_next().await {
        let (answer, took) = done.unwrap();
        tally.longest = tally.longest.max(took);
        match answer {
            GatewayAnswer::Accepted { .. } => tally.accepted += 1,
            GatewayAnswer::NotReached { .. } => tally.not_reached += 1,
            GatewayAnswer::CircuitOpen { .. } => tally.circuit_open += 1,
            GatewayAnswer::Uncertain { .. } => tally.uncertain += 1,
            GatewayAnswer::Rejected { .. } => panic!("nothing is rejected here"),
        }
    }
    tally
}

/// The documented gateway: 100-500 ms, then 40 % of its answers are 500s, and nothing was created.
fn documented(random: &Seeded) -> (Duration, PaymentAttempt) {
    let takes = ms(100) + ms(400).mul_f64(random.fraction());
    (takes, if random.fraction() < 0.4 { error_500() } else { accepted() })
}

#[tokio::test(start_paused = true)]
async fn a_healthy_gateway_is_never_cut_off() {
    for orders_per_second in [1, 5, 20, 100] {
        for seed in 0..3 {
            let random = Seeded::new(seed);
            let model = Model::new(move |_| documented(&random), |_| (ms(5), Ok(Lookup::NotFound)));
            let gateway = guarded(&model, GatewayConfig::default());
            let tally = place(&gateway, 2000, Duration::from_secs(1) / orders_per_second).await;
            println!("{orders_per_second}/s, seed {seed}: {tally:?}, {} requests", model.requests());
            assert_eq!((tally.circuit_open, tally.uncertain), (0, 0), "{orders_per_second}/s, seed {seed}");
            // 97.4 % are expected (1 - 0.4^4): fewer would mean that retries were refused.
            assert!(tally.accepted >= 1920, "{orders_per_second}/s, seed {seed}: {tally:?}");
            assert!(tally.longest <= ms(4500));
            let [payments, _] = gateway.circuits().snapshots();
            assert!(payments.transitions.is_empty() && payments.totals.not_permitted == 0);
        }
    }
}

/// A gateway that can be switched off: then it refuses connections, or swallows requests.
fn switchable(hangs: bool) -> (Arc<Model>, Arc<AtomicBool>) {
    let off = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&off);
    let model = Model::new(
        move |_| match (switch.load(Ordering::SeqCst), hangs) {
            (false, _) => (ms(150), accepted()),
            (true, true) => (ms(1000), timed_out()),
            (true, false) => (ms(1), refused()),
        },
        |_| (ms(5), unanswered()),
    );
    (model, off)
}

#[tokio::test(start_paused = true)]
async fn a_dead_gateway_is_cut_off_within_the_minimum_number_of_calls() {
    for hangs in [true, false] {
        let (model, off) = switchable(hangs);
        off.store(true, Ordering::SeqCst);
        let gateway = guarded(&model, GatewayConfig::default());
        let mut calls = 0;
        while gateway.circuits().list()[0].state == "CLOSED" {
            let _outcome = charge(&gateway).await;
            calls += 1;
        }
        assert_eq!(calls, GatewayConfig::default().payment.circuit.minimum_calls, "hangs: {hangs}");
    }
}

/// When requests reached the gateway within (from, to].
fn requests_between(model: &Model, from: Instant, to: Instant) -> usize {
    let seen = model.seen();
    seen.iter().filter(|(call, at, _)| *call == Call::Request && *at > from && *at <= to).count()
}

#[tokio::test(start_paused = true)]
async fn an_outage_under_load_is_cut_off_probed_and_overcome() {
    for hangs in [true, false] {
        let (model, off) = switchable(hangs);
        let gateway = guarded(&model, GatewayConfig::default());
        let interval = ms(20); // 50 orders a second
        // Healthy for 10 s, dead for 60 s, healthy again.
        let begun = Instant::now();
        let dies = begun + Duration::from_secs(10);
        let returns = dies + Duration::from_secs(60);
        let observed = Arc::clone(&gateway);
        let watcher = async {
            let mut changes = vec![(State::Closed, begun)];
            while Instant::now() < returns + Duration::from_secs(20) {
                if Instant::now() >= dies {
                    off.store(Instant::now() < returns, Ordering::SeqCst);
                }
                let [payments, _] = observed.circuits().snapshots();
                if changes.last().is_none_or(|(state, _)| *state != payments.state) {
                    changes.push((payments.state, Instant::from_std(payments.since)));
                }
                tokio::time::sleep(ms(1)).await;
            }
            changes
        };
        let (tally, changes) = tokio::join!(place(&gateway, 4500, interval), watcher);
        println!("hangs: {hangs}: {tally:?}, {} requests", model.requests());
        assert!(tally.longest <= ms(4500));

        // Opened by a full window's 30 failures at the latest: 50 orders/s, each of which fails within 4 attempts or 1 s.
        let (state, opened) = changes[1];
        assert_eq!(state, State::Open);
        assert!(opened <= dies + ms(1800), "opened {:?} after the end", opened - dies);
        // While it is open nothing is sent; half-open lets 3 through.
        for pair in changes.windows(2) {
            let [(state, from), (_, to)] = [pair[0], pair[1]];
            let requests = requests_between(&model, from, to - ms(1));
            match state {
                State::Open => assert_eq!(requests, 0, "{changes:?}"),
                State::HalfOpen => assert!(requests <= 3 * 4, "{requests} {changes:?}"),
                _ => {}
            }
        }
        // Back within the open wait (5 s, 20 % jitter) and the probes of its return.
        let (state, closed) = *changes.last().unwrap();
        assert_eq!(state, State::Closed, "{changes:?}");
        assert!(closed <= returns + Duration::from_secs(6) + ms(1000), "{:?}", closed - returns);
        // Retries of the whole run: requests beyond the first of each call that was let through.
        let let_through = 4500 - tally.circuit_open;
        let retries = model.requests() - let_through;
        let outage_budget = 200 + 30 + 10 * 60;
        assert!(retries <= outage_budget, "{retries}");
    }
}

/// How long a gateway that refused connections for two minutes and `more`, and whose first three calls then take over a
/// second, stays cut off although it is there.
async fn cut_off_after_a_slow_start(more: Duration) -> Duration {
    let back = Instant::now() + Duration::from_secs(120) + more;
    let mut calls = 0;
    let model = Model::new(
        move |_| {
            if Instant::now() < back {
                return (ms(1), refused());
            }
            calls += 1;
            if calls <= 3 { (ms(1000), timed_out()) } else { (ms(300), accepted()) }
        },
        |_| (ms(5), Ok(Lookup::NotFound)),
    );
    let gateway = guarded(&model, GatewayConfig::default());
    let orders = place(&gateway, 1600, ms(100));
    let closed = async {
        tokio::time::sleep_until(back).await;
        while gateway.circuits().list()[0].state != "CLOSED" {
            tokio::time::sleep(ms(10)).await;
        }
        back.elapsed()
    };
    tokio::join!(closed, orders).0
}

/// Its first probes time out, and the circuit opens once more: for one wait, not for the longest (docs/adr/0010).
#[tokio::test(start_paused = true)]
async fn a_gateway_that_starts_slowly_is_back_within_two_waits() {
    let mut worst = Duration::ZERO;
    for seconds in 0..12 {
        worst = worst.max(cut_off_after_a_slow_start(Duration::from_secs(seconds)).await);
    }
    println!("cut off for {worst:?} at worst");
    // Two waits of 5 s and 20 %, three probes that time out, three that succeed, and the next order after each wait.
    assert!(worst <= Duration::from_secs(12) + ms(1000 + 300 + 300), "{worst:?}");
}

#[tokio::test(start_paused = true)]
async fn retries_of_an_outage_stay_within_the_budget_even_without_a_circuit() {
    let (model, off) = switchable(false);
    off.store(true, Ordering::SeqCst);
    let gateway = guarded(&model, GatewayConfig::default());
    gateway.circuits().set("pg-payment", "DISABLED").unwrap();
    let seconds = 60;
    let tally = place(&gateway, 100 * seconds, ms(10)).await;
    assert_eq!(tally.not_reached, 100 * seconds as usize);
    let retries = model.requests() - tally.not_reached;
    // Three per order would be 18,000.
    let budget = 200 + tally.not_reached + 10 * (seconds as usize + 1);
    println!("{retries} retries, budget {budget}");
    assert!(retries <= budget, "{retries} > {budget}");
}
