//! Many card orders at a fixed rate, in an open loop: an order is placed when its time has come, not when the one before
//! has been answered, so that a slow system does not slow its callers down.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::ALL_ENDED_LIMIT;
use super::shop::{Order, Shop};
use crate::process;

const CARD_NUMBER: &str = "1234-5678-9814-1451";
const PRODUCTS: u32 = 20;
/// Orders under way at once; more would be a sign that nothing is answered any more.
const MAX_UNDER_WAY: usize = 2_000;

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
    let sent: Mutex<Vec<Result<Sent>>> = Mutex::new(Vec::new());
    let started = Instant::now();
    println!("placing {orders} card orders at {rate}/s");
    let mut placed = 0_u32;
    std::thread::scope(|scope| -> Result<()> {
        for index in 0..orders {
            let due = started + Duration::from_secs_f64(f64::from(index) / rate);
            while Instant::now() < due && !process::interrupted() {
                std::thread::sleep(due.saturating_duration_since(Instant::now()).min(process::POLL));
            }
            let answered = sent.lock().map_or(0, |sent| sent.len());
            if process::interrupted() || usize::try_from(index)?.saturating_sub(answered) >= MAX_UNDER_WAY {
                break;
            }
            let buyer = shop.buyer(usize::try_from(index)?)?;
            let body =
                bodies.get(usize::try_from(index)? % bodies.len().max(1)).context("there is no product")?;
            let sent = &sent;
            placed += 1;
            scope.spawn(move || {
                let at = Instant::now();
                let result = shop.place(buyer, body).map(|answer| Sent {
                    buyer,
                    status: answer.status,
                    reason: answer.meta("errorCode").to_owned(),
                    took: at.elapsed(),
                    order: None,
                });
                if let Ok(mut sent) = sent.lock() {
                    sent.push(result);
                }
            });
        }
        Ok(())
    })?;
    let mut sent = sent.into_inner().map_err(|_| anyhow!("a thread that placed an order panicked"))?;
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

/// The smallest time that at least this share of all did not exceed.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list that fits into memory"
    )]
    let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&times, 1.0), Duration::from_millis(100));
        assert_eq!(percentile(&times, 0.0), Duration::from_millis(1));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
