//! One run: load and faults together, then quiet until everything has ended.

use anyhow::{Context, Result, bail};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Args;
use crate::buyers::Buyers;
use crate::canary::Canary;
use crate::database::Open;
use crate::diary::Diary;
use crate::faults::{Faults, heal};
use crate::shop::Shop;
use crate::times::{FIFTH, QUICK};
use crate::verdict::{self, Rest};
use crate::world::{Shape, World};

/// Then something is stuck for good.
const QUIET_LIMIT: Duration = Duration::from_mins(8);

const QUICK_TIME: Duration = Duration::from_secs(28);

pub(crate) async fn run(args: &Args, seed: u64, diary: &Arc<Diary>) -> Result<()> {
    let quick = args.kind.quick;
    let (times, length, rate, users, pause_ms) = if quick {
        (QUICK, QUICK_TIME, 15.0, 20, 300..1_300)
    } else {
        (FIFTH, Duration::from_secs_f64(args.kind.minutes * 60.0), args.kind.rate, 60, 1_500..5_000)
    };
    let log_from = args.server.log_end();
    args.server.create_database("chaos").await?;
    diary.say("starting 2 app-servers, 2 reconcilers, the simulated gateway and the fault proxies");
    let shape = Shape { database: "chaos", servers: 2, reconcilers: 2, times, seed };
    let world =
        World::start(&shape, args.server.clone(), &args.binaries, &args.folder, Arc::clone(diary)).await?;
    let world = Arc::new(world);
    let shop = Arc::new(Shop::stock(&world, users).await?);
    let buyers = Arc::new(Buyers::new(Arc::clone(&world), shop, seed));
    let faults = Arc::new(Faults::new(Arc::clone(&world)));
    let mut watchers = JoinSet::new();
    watchers.spawn(look_after(Arc::clone(&world)));

    diary.say(&format!("{rate} orders/s and faults for {:.0} s", length.as_secs_f64()));
    let end = Instant::now() + length;
    let ((), broken) = tokio::join!(buyers.run(rate, end), faults.run(seed, pause_ms, end));
    broken.context("a fault could not be made, or unmade")?;
    let rest = quiet(&world, quick).await?;
    watchers.shutdown().await;
    let missing = faults.missing();
    if !missing.is_empty() {
        diary.say(&format!("kinds of faults that found no victim this time: {missing:?}"));
    }
    verdict::judge(&world, &buyers.promises(), &args.auditor, log_from, Some(&rest), !quick).await
}

/// Starts again, and reports, what ended by itself; reads what operators read, and looks for card numbers in it.
async fn look_after(world: Arc<World>) {
    let canary = Canary::new();
    for turn in 0_u64.. {
        sleep(Duration::from_millis(500)).await;
        for program in &world.programs {
            let Ok(mut program) = program.try_lock() else { continue };
            match program.ended() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    world.diary.violation(format!("{} ended by itself: {status}", program.name));
                    if let Err(error) = program.start() {
                        world.diary.violation(format!("{error:#}"));
                    }
                }
                Err(error) => world.diary.violation(format!("{error:#}")),
            }
        }
        if turn % 10 == 0 {
            read_operations(&world, &canary).await;
        }
    }
}

/// Metrics and the operators' lists, of all programs that answer.
pub(crate) async fn read_operations(world: &World, canary: &Canary) {
    let mut addresses = Vec::new();
    for server in 0..world.servers.len() {
        if let Ok(ops) = world.ops(server) {
            for path in ["metrics", "admin/payments", "admin/discrepancies", "admin/circuits"] {
                addresses.push(format!("{ops}/{path}"));
            }
        }
    }
    addresses.extend(world.reconcilers.iter().map(|port| format!("http://127.0.0.1:{port}/metrics")));
    for address in addresses {
        // Some of them are dead or stopped now.
        if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(2), world.http.get(&address)).await {
            world.diary.count("read: pages of the operations ports");
            if canary.hits(answer.text.as_bytes()) > 0 {
                world.diary.violation(format!("I14: {address} shows a card number"));
            }
        }
    }
}

/// Everything is made whole; waits until every payment has ended and no failed one is watched any more.
async fn quiet(world: &Arc<World>, quick: bool) -> Result<Rest> {
    let diary = &world.diary;
    heal(&world.database_proxy);
    heal(&world.gateway_proxy);
    world.gateway.behave().await?;
    for program in &world.programs {
        program.lock().await.start()?;
    }
    world.wait_until_ready().await?;
    let began = Instant::now();
    let connection = world.server.connect(world.database).await?;
    let first = connection.open().await?;
    diary.say(&format!(
        "quiet: {} payments have not ended, the oldest {:.0} s old; {} ended ones are watched",
        first.unsettled, first.oldest, first.watched
    ));
    let mut oldest = first.oldest;
    let mut settled = None;
    let mut told = Instant::now();
    loop {
        let open: Open = connection.open().await?;
        oldest = oldest.max(open.oldest);
        if open.unsettled == 0 && settled.is_none() {
            settled = Some(began.elapsed());
            diary.say(&format!("every payment has ended; {} failed ones are watched", open.watched));
        }
        if let Some(settled) = settled
            && open.unsettled == 0
            && open.watched == 0
        {
            let limit = world.gateway.times.settled_within;
            if !quick && settled > limit {
                let text =
                    format!("I9: the last payment ended {:.0} s after the last fault", settled.as_secs_f64());
                diary.violation(format!("{text}, {} s are allowed", limit.as_secs()));
            }
            return Ok(Rest {
                unsettled_at_first: first.unsettled,
                settled_after: settled,
                oldest: Duration::from_secs_f64(oldest),
                watched_until: began.elapsed(),
            });
        }
        if began.elapsed() > QUIET_LIMIT {
            bail!("{open:?} after {} min of quiet", QUIET_LIMIT.as_secs() / 60);
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            diary.say(&format!("{} have not ended, {} are watched", open.unsettled, open.watched));
        }
        sleep(Duration::from_millis(250)).await;
    }
}
