//! `demo`: orders of every kind through the public API of the running system, each followed to its end.
//!
//! Without options: thirty orders, each by a buyer of its own, whose points and coupon are looked at afterwards too. With
//! `--orders` and `--rate`: that many card orders at that rate, whether or not earlier ones have ended (open loop).
//! Either way it fails when an order ends where it must not, or does not end in time.

mod cases;
mod load;
pub(crate) mod shop;
mod tour;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::running::System;
use crate::workspace;
use shop::Shop;

/// The gateway's answer, a lost callback, the reconciler's five minutes and two of its turns fit in.
const ALL_ENDED_LIMIT: Duration = Duration::from_mins(7);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Place this many card orders instead of the thirty different ones
    #[arg(long, requires = "rate", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    orders: Option<u32>,
    /// Orders a second
    #[arg(long, requires = "orders")]
    rate: Option<f64>,
    /// Public API, if not that of `cargo xtask up`
    #[arg(long, requires = "ops")]
    api: Option<String>,
    /// Operations port, if not that of `cargo xtask up`
    #[arg(long, requires = "api")]
    ops: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (api, ops) = match (&args.api, &args.ops) {
        (Some(api), Some(ops)) => (api.clone(), ops.clone()),
        _ => {
            let system = System::load(&workspace::root()?)?;
            (system.api, system.ops)
        }
    };
    let shop = Shop::new(&api, &ops);
    match (args.orders, args.rate) {
        (Some(orders), Some(rate)) => {
            if !(0.01..=1000.0).contains(&rate) {
                bail!("--rate: from 0.01 to 1000 orders a second");
            }
            load::run(&shop, orders, rate)
        }
        _ => tour::run(&shop),
    }
}
