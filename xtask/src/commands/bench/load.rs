//! What buyers do meanwhile: card orders in an open loop, and beside them reads, orders by points and health checks, each
//! at its own rate.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::commands::demo::shop::Shop;
use crate::http::{Answer, Http};
use crate::load::open_loop;
use crate::private::Private;
use crate::process;

const CARD_NUMBER: &str = "1234-5678-9814-1451";
/// Several: what is measured is the gateway's step, not the queue for one row of stock.
const PRODUCTS: usize = 20;
const STOCK: i64 = 1_000_000;
const PRICE: i64 = 10_000;

/// One thing that is measured beside the card orders.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    pub(super) name: &'static str,
    /// Requests a second.
    rate: f64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Api(&'static str),
    Ops(&'static str),
    ByPoints,
}

/// The first one is what the verdict about the shop is given by.
pub(super) const PROBES: [Probe; 5] = [
    Probe { name: "GET /api/v1/products", rate: 50.0, kind: Kind::Api("/api/v1/products") },
    Probe { name: "GET /api/v1/orders", rate: 20.0, kind: Kind::Api("/api/v1/orders") },
    Probe { name: "POST /api/v1/orders, points", rate: 10.0, kind: Kind::ByPoints },
    Probe { name: "GET /health/live", rate: 10.0, kind: Kind::Ops("/health/live") },
    Probe { name: "GET /health/ready", rate: 10.0, kind: Kind::Ops("/health/ready") },
];

/// One card order as its buyer saw it.
pub(super) struct Placed {
    pub(super) ended: Instant,
    pub(super) took: Duration,
    /// Status and error code, or why there is no answer.
    pub(super) answer: String,
}

impl Placed {
    /// The gateway has it.
    pub(super) fn is_accepted(&self) -> bool {
        self.answer == "202"
    }
}

/// Everything of one stretch of time.
#[derive(Default)]
pub(super) struct Phase {
    pub(super) orders: Vec<Placed>,
    /// In the order of [`PROBES`], sorted.
    pub(super) probes: Vec<Vec<Duration>>,
    /// Probes that were not answered as they must be.
    pub(super) failures: BTreeMap<String, u32>,
}

impl Phase {
    /// How long card orders took, sorted.
    pub(super) fn order_times(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.orders.iter().map(|order| order.took).collect();
        times.sort_unstable();
        times
    }

    /// What they were answered.
    pub(super) fn answers(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for order in &self.orders {
            *counts.entry(order.answer.as_str()).or_default() += 1;
        }
        counts.iter().map(|(answer, count)| format!("{count} x {answer}")).collect::<Vec<_>>().join(", ")
    }
}

/// The buyers, and what they buy.
pub(super) struct Load {
    shop: Shop,
    api: String,
    ops: String,
    products: Vec<i64>,
    rate: f64,
    /// Buys by points, and has orders to look at.
    regular: i64,
}

impl Load {
    pub(super) fn prepare(system: &Private, rate: f64) -> Result<Self> {
        let shop = Shop::new(&system.api, &system.ops);
        let products = (0..PRODUCTS)
            .map(|index| shop.make_product(&format!("bench {index}"), PRICE, STOCK))
            .collect::<Result<_>>()?;
        // The last one of this run's block of buyers.
        let regular = shop.buyer(99_999)?;
        shop.give_points(regular, 1_000_000_000)?;
        Ok(Self { shop, api: system.api.clone(), ops: system.ops.clone(), products, rate, regular })
    }

    /// Card orders and probes together, for so long.
    pub(super) fn run(&self, length: Duration) -> Result<Phase> {
        let stop = AtomicBool::new(false);
        let end = Instant::now() + length;
        std::thread::scope(|scope| {
            let probes: Vec<_> =
                PROBES.iter().map(|probe| scope.spawn(|| self.probe(*probe, &stop))).collect();
            let orders = self.orders(|| Instant::now() < end);
            stop.store(true, Ordering::SeqCst);
            let mut phase = Phase { orders: orders?, ..Phase::default() };
            for probe in probes {
                let (mut times, failures) =
                    probe.join().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))?;
                times.sort_unstable();
                phase.probes.push(times);
                for (failure, count) in failures {
                    *phase.failures.entry(failure).or_default() += count;
                }
            }
            Ok(phase)
        })
    }

    /// Card orders alone, as long as `go_on` says so.
    pub(super) fn orders(&self, go_on: impl Fn() -> bool) -> Result<Vec<Placed>> {
        open_loop(self.rate, |_| go_on(), |index| self.place(index))
    }

    fn place(&self, index: u32) -> Placed {
        let began = Instant::now();
        let answer = self.try_place(index);
        let took = began.elapsed();
        let answer = match answer {
            Ok(answer) => format!("{} {}", answer.status, answer.meta("errorCode")).trim_end().to_owned(),
            Err(error) => format!("no answer ({error:#})"),
        };
        Placed { ended: Instant::now(), took, answer }
    }

    fn try_place(&self, index: u32) -> Result<Answer> {
        let index = usize::try_from(index)?;
        let product = self.products.get(index % PRODUCTS).context("there is no product")?;
        let items = json!([{ "productId": product, "quantity": 1 }]);
        let body = json!({ "items": items, "cardType": "SAMSUNG", "cardNo": CARD_NUMBER });
        // Buyers come back: what they bought before is no hindrance.
        self.shop.place(self.shop.buyer(index % 50_000)?, &body)
    }

    /// One request after the other at the probe's rate. A time begins when the request was due: one that had to wait for
    /// the one before it took so much longer.
    fn probe(&self, probe: Probe, stop: &AtomicBool) -> (Vec<Duration>, BTreeMap<String, u32>) {
        let http = Http::new();
        let (mut times, mut failures) = (Vec::new(), BTreeMap::new());
        let began = Instant::now();
        for index in 0_u32.. {
            let due = began + Duration::from_secs_f64(f64::from(index) / probe.rate);
            while Instant::now() < due {
                if stop.load(Ordering::SeqCst) || process::interrupted() {
                    return (times, failures);
                }
                std::thread::sleep(due.saturating_duration_since(Instant::now()).min(process::POLL));
            }
            let expected = if matches!(probe.kind, Kind::ByPoints) { 201 } else { 200 };
            match self.ask(&http, probe.kind) {
                Ok(answer) if answer.status == expected => times.push(due.elapsed()),
                Ok(answer) => *failures.entry(format!("{}: {}", probe.name, answer.status)).or_default() += 1,
                Err(error) => *failures.entry(format!("{}: {error:#}", probe.name)).or_default() += 1,
            }
            if stop.load(Ordering::SeqCst) {
                break;
            }
        }
        (times, failures)
    }

    fn ask(&self, http: &Http, kind: Kind) -> Result<Answer> {
        match kind {
            Kind::Api(path) => http.get(&format!("{}{path}", self.api), Some(self.regular)),
            Kind::Ops(path) => http.get(&format!("{}{path}", self.ops), None),
            Kind::ByPoints => {
                let product = self.products.first().context("there is no product")?;
                let items: Value = json!([{ "productId": product, "quantity": 1 }]);
                let url = format!("{}/api/v1/orders", self.api);
                http.post(&url, Some(self.regular), &json!({ "items": items, "usePoint": PRICE }))
            }
        }
    }
}
