//! Card orders over real sockets, without the shop around them: how the guarded call treats a gateway that runs.
//!
//! ```text
//! cargo run -p pg-simulator -- --bind 127.0.0.1:8082      # or any gateway of the protocol, on this machine
//! cargo run -p adapters-pg --example orders -- http://127.0.0.1:8082 2000 20
//! ```
//!
//! Arguments: the gateway's address, how many orders, how many a second. Prints what they came to and what the circuit
//! counted; fails when the circuit rejected any. Order ids begin with 1 in each run: a gateway that knows them from an
//! earlier one would answer questions by order id with those.

use adapters_pg::{GatewayConfig, GuardedGateway, HttpConfig, HttpTransport};
use domain::ports::{ChargeRequest, Entropy, GatewayAnswer, PaymentGateway};
use domain::{CardType, GatewayOrderRef, MerchantId, Money};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Jitter that is the same in each run (a Weyl sequence).
struct Even(AtomicU64);

impl Entropy for Even {
    fn token(&self) -> [u8; 32] {
        [7; 32]
    }

    fn fraction(&self) -> f64 {
        let drawn = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        (drawn >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn request(order: u32) -> Result<ChargeRequest, Box<dyn Error + Send + Sync>> {
    Ok(ChargeRequest {
        merchant: MerchantId::new("holdfast")?,
        order_ref: GatewayOrderRef::from_gateway(format!("{:06}", i64::from(order) + 1)),
        card_type: CardType::Kb,
        card_number: "1234-5678-9814-1451".parse()?,
        amount: Money::new(5_000)?,
        callback_url: "http://localhost:8080/api/v1/payments/callback/example".to_owned(),
        deadline: (Instant::now() + Duration::from_millis(4_500)).into_std(),
    })
}

fn name(answer: &GatewayAnswer) -> String {
    match answer {
        GatewayAnswer::Accepted { .. } => "accepted".to_owned(),
        GatewayAnswer::Rejected { .. } => "rejected".to_owned(),
        GatewayAnswer::NotReached { cause, .. } => format!("not reached ({})", cause.0),
        GatewayAnswer::CircuitOpen { .. } => "circuit open".to_owned(),
        GatewayAnswer::Uncertain { cause } => format!("uncertain ({})", cause.0),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base_url, orders, per_second] = arguments.as_slice() else {
        return Err("usage: orders BASE_URL ORDERS PER_SECOND".into());
    };
    let (orders, per_second) = (orders.parse::<u32>()?, per_second.parse::<f64>()?);
    let http = HttpConfig { base_url: base_url.clone(), ..HttpConfig::default() };
    let entropy = Arc::new(Even(AtomicU64::new(1)));
    let gateway =
        Arc::new(GuardedGateway::new(HttpTransport::new(&http)?, GatewayConfig::default(), entropy)?);
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for order in 0..orders {
        let gateway = Arc::clone(&gateway);
        calls.spawn(async move {
            sleep_until(begun + Duration::from_secs_f64(f64::from(order) / per_second)).await;
            let request = request(order)?;
            let begun = Instant::now();
            let outcome = gateway.charge(&request).await;
            Ok::<_, Box<dyn Error + Send + Sync>>((outcome, begun.elapsed()))
        });
    }
    let (mut came_to, mut longest, mut watched) = (BTreeMap::<String, u32>::new(), Duration::ZERO, 0_u32);
    while let Some(done) = calls.join_next().await {
        let (outcome, took) = done??;
        *came_to.entry(name(&outcome.answer)).or_default() += 1;
        longest = longest.max(took);
        watched += u32::from(outcome.watch);
    }
    println!("{orders} orders at {per_second}/s in {:.1} s", begun.elapsed().as_secs_f64());
    for (what, count) in &came_to {
        println!("{count:>7} {what}");
    }
    let [circuit, _] = gateway.circuits().snapshots();
    println!("longest call {longest:.2?}, {watched} payments to watch");
    println!("circuit {}: {:?}, changes {:?}", circuit.state, circuit.totals, circuit.transitions);
    if came_to.contains_key("circuit open") {
        return Err("the circuit rejected orders".into());
    }
    Ok(())
}
