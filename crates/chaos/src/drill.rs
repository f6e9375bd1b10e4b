//! The drill: `kill -9` of the only app-server in the middle of 100 orders, a new process, `reconciler once` until all
//! is quiet, audit. The gateway has its documented manners, and no reconciler runs by itself.

use anyhow::{Result, bail};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

use crate::Args;
use crate::buyers::Buyers;
use crate::diary::Diary;
use crate::shop::Shop;
use crate::times::DRILL;
use crate::verdict;
use crate::world::{Shape, World};

const ORDERS_PER_SECOND: f64 = 20.0;
const LENGTH: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_mins(5);

pub(crate) async fn run(args: &Args, seed: u64, diary: &Arc<Diary>) -> Result<()> {
    let log_from = args.server.log_end();
    args.server.create_database("drill").await?;
    diary.say("drill: starting 1 app-server and the simulated gateway");
    let shape = Shape { database: "drill", servers: 1, reconcilers: 0, times: DRILL, seed };
    let folder = args.folder.join("drill");
    std::fs::create_dir_all(&folder)?;
    let own = Arc::new(Diary::new());
    let world = World::start(&shape, args.server.clone(), &args.binaries, &folder, Arc::clone(&own)).await?;
    let world = Arc::new(world);
    let shop = Arc::new(Shop::stock(&world, 10).await?);
    let buyers = Arc::new(Buyers::new(Arc::clone(&world), shop, seed));
    let connection = world.server.connect(world.database).await?;

    diary.say("drill: 100 orders, and kill -9 of the app-server in their middle");
    let end = Instant::now() + LENGTH;
    let ((), killed) = tokio::join!(buyers.run(ORDERS_PER_SECOND, end), kill_in_the_middle(&world));
    killed?;
    let after = connection.open().await?;
    diary.say(&format!("drill: all answered or given up; {} payments have not ended", after.unsettled));

    let began = Instant::now();
    let mut turns = 0_u32;
    loop {
        let turn = world.program("rec-once", "reconciler", String::new());
        turn.run_to_end(&["once", "--json"]).await?;
        turns += 1;
        let open = connection.open().await?;
        if open.unsettled == 0 && open.watched == 0 {
            break;
        }
        if began.elapsed() > LIMIT {
            bail!("drill: {open:?} after {turns} times `reconciler once`");
        }
        sleep(Duration::from_millis(300)).await;
    }
    diary.say(&format!(
        "drill: quiet after {turns} times `reconciler once`, {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    let judged = verdict::judge(&world, &buyers.promises(), &args.auditor, log_from, None, false).await;
    for violation in own.violations() {
        diary.violation(format!("drill: {violation}"));
    }
    judged
}

async fn kill_in_the_middle(world: &World) -> Result<()> {
    let Some(program) = world.programs.first() else { bail!("there is no app-server") };
    sleep(LENGTH / 2).await;
    let mut program = program.lock().await;
    program.kill().await?;
    world.diary.say("drill: killed");
    sleep(Duration::from_millis(500)).await;
    program.start()?;
    program.wait_until_ready(&world.http).await?;
    world.diary.say("drill: a new app-server serves");
    Ok(())
}
