//! Many card orders at a fixed rate, each followed to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ALL_ENDED_LIMIT;
use super::shop::{Order, Shop};
use crate::load::{self, percentile};
use crate::process;

const CARD_NUMBER: &str = "1234-5678-9814-1451";
const PRODUCTS: u32 = 20;

struct Sent {
    buyer: i64,
    status: u16,
    reason: String,
    took: Duration,
    order: Option<Order>,
}

pub(super) fn run(shop: &Shop, orders: u32, rate: f64) -> Result<()> {
    // Several products: what is measured is the gateway's step, not the queue for one row of stock.
    let products = (0..PRODUCTS)
        .map(|index| shop.make_product(&format!("demo load {index}"), 10_000, i64::from(orders)))
        .collect::<Result<Vec<i64>>>()?;
    let bodies: Vec<Value> = products
        .iter()
        .map(|product| {
            let items = json!([{ "productId": product, "quantity": 1 }]);
            json!({ "items": items, "cardType": "SAMSUNG", "cardNo": CARD_NUMBER })
        })
        .collect();
    let started = Instant::now();
    println!("placing {orders} card orders at {rate}/s");
    let place = |index: u32| -> Result<Sent> {
        let index = usize::try_from(index)?;
        let buyer = shop.buyer(index)?;
        let body = bodies.get(index % bodies.len().max(1)).context("there is no product")?;
        let at = Instant::now();
        let answer = shop.place(buyer, body)?;
        Ok(Sent {
            buyer,
            status: answer.status,
            reason: answer.meta("errorCode").to_owned(),
            took: at.elapsed(),
            order: None,
        })
    };
    let mut sent = load::open_loop(rate, |index| index < orders, place)?;
    let placed = u32::try_from(sent.len())?;
    println!("{placed} placed within {:.1} s; waiting for their ends", started.elapsed().as_secs_f64());
    let unfinished = follow(shop, &mut sent)?;
    report(&sent, unfinished)?;
    if placed < orders {
        bail!("stopped after {placed} of {orders} orders");
    }
    Ok(())
}

/// Looks at all orders until they are final; returns how many are not when the time is up.
fn follow(shop: &Shop, sent: &mut [Result<Sent>]) -> Result<usize> {
    let started = Instant::now();
    loop {
        let mut open = 0;
        for sent in sent.iter_mut().flatten() {
            if sent.order.as_ref().is_some_and(Order::is_final)
                || !matches!(sent.status, 201 | 202 | 402 | 503)
            {
                continue;
            }
            sent.order = match &sent.order {
                Some(order) => Some(shop.order(sent.buyer, order.id)?),
                None => shop.orders(sent.buyer)?.into_iter().next(),
            };
            open += usize::from(sent.order.as_ref().is_some_and(|order| !order.is_final()));
        }
        if open == 0 || started.elapsed() > ALL_ENDED_LIMIT {
            return Ok(open);
        }
        if process::interrupted() {
            bail!("interrupted; {open} orders had not ended");
        }
        println!("{:>4} s: {open} orders have not ended yet", started.elapsed().as_secs());
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn report(sent: &[Result<Sent>], unfinished: usize) -> Result<()> {
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let mut times: Vec<Duration> = Vec::new();
    let (mut reached, mut paid, mut broken) = (0_u32, 0_u32, 0_u32);
    for sent in sent {
        let key = match sent {
            Ok(sent) => {
                times.push(sent.took);
                let end = sent.order.as_ref().map_or("no order", |order| order.payment_status.as_str());
                reached += u32::from(sent.order.as_ref().is_some_and(|order| order.has_key));
                paid += u32::from(end == "PAID");
                broken += u32::from(!matches!(sent.status, 201 | 202 | 402 | 503));
                format!("{} {} -> {end}", sent.status, sent.reason)
            }
            Err(error) => {
                broken += 1;
                format!("no answer: {error:#}")
            }
        };
        *outcomes.entry(key).or_default() += 1;
    }
    println!("\n{:>6}  outcome", "orders");
    for (outcome, count) in &outcomes {
        println!("{count:>6}  {outcome}");
    }
    times.sort();
    let quantile = |share: f64| percentile(&times, share).as_secs_f64() * 1000.0;
    println!(
        "\nPOST /orders: p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
        quantile(0.50),
        quantile(0.95),
        quantile(0.99),
        quantile(1.0)
    );
    let share = |part: u32, whole: usize| {
        100.0 * f64::from(part) / f64::from(u32::try_from(whole.max(1)).unwrap_or(u32::MAX))
    };
    println!("known to the gateway: {reached} of {} ({:.1} %)", sent.len(), share(reached, sent.len()));
    println!("of those paid: {paid} ({:.1} %)", share(paid, usize::try_from(reached)?));
    println!("not ended after {} minutes: {unfinished}", ALL_ENDED_LIMIT.as_secs() / 60);
    if broken > 0 || unfinished > 0 {
        bail!("{broken} orders were answered as they must not be, {unfinished} have not ended");
    }
    Ok(())
}
