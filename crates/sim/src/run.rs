//! One run: buyers and faults, then healing, then 25 quiet hours, then the oracle.

use crate::books::Violation;
use crate::plan::Plan;
use crate::process::{Process, Role};
use crate::world::{Counts, Line, World, lock};
use crate::{buyers, chaos, oracle};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The watch list's last look comes 24 hours after a payment's end.
const QUIET: Duration = Duration::from_secs(25 * 3600);

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The run.
    pub plan: Plan,
    /// What was broken; empty when all is well.
    pub violations: Vec<Violation>,
    /// The same for the same plan.
    pub trace_hash: u64,
    /// What struck.
    pub counts: Counts,
    /// The story, when it was asked for.
    pub lines: Vec<Line>,
}

/// Runs a plan in virtual time. With `tell` the report bears every step.
///
/// # Errors
/// When the shop could not even be opened: a defect of the simulation.
pub fn run(plan: Plan, tell: bool) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async move {
        let world = World::new(plan, tell);
        live(&world).await?;
        oracle::at_the_end(&world);
        let counts = lock(&world.counts).clone();
        let violations = lock(&world.books).violations.clone();
        let (trace_hash, lines) = (world.trace_hash(), world.lines());
        for process in lock(&world.processes).drain(..) {
            process.end();
        }
        Ok(Report { plan: world.plan.clone(), violations, trace_hash, counts, lines })
    })
}

async fn live(world: &Arc<World>) -> anyhow::Result<()> {
    let observer = oracle::Observer(Arc::downgrade(world));
    world.database.observe(Arc::new(observer));
    let shop = buyers::open_shop(world).await?;
    let mut processes = Vec::new();
    for (role, name, count) in
        [(Role::App, "app", world.plan.apps), (Role::Reconciler, "rec", world.plan.reconcilers)]
    {
        for nth in 0..count {
            let seed = world.plan.seed.rotate_left(31) ^ (processes.len() as u64 + 1).wrapping_mul(0xA11CE);
            processes.push(Process::new(format!("{name}{nth}"), role, seed));
        }
    }
    lock(&world.processes).clone_from(&processes);
    for process in &processes {
        process.boot(world);
    }
    chaos::unleash(world);
    for index in 0..world.plan.clients {
        let tasks = world.tasks.clone();
        tasks.spawn(buyers::buyer(Arc::clone(world), shop.clone(), index));
    }
    sleep(world.plan.workload).await;

    world.heal();
    heal(world, &processes);
    // Buyers who are still at it finish; circuits close.
    sleep(Duration::from_secs(180)).await;
    for process in &processes {
        if process.accepting().is_none() {
            process.boot(world);
        }
    }
    // Even a healthy gateway fails 2.6 % of the orders, so that a probe may open the circuit once more; not for long.
    let mut cut_off = 0;
    for nth in 0..5 {
        cut_off += usize::from(!buyers::order_after_the_faults(world, &shop, nth).await);
        sleep(Duration::from_secs(7)).await;
    }
    if cut_off > 3 {
        world.violation("I9", 0, "the circuit stays open long after the faults");
    }
    sleep_until(Instant::now() + QUIET).await;
    Ok(())
}

fn heal(world: &Arc<World>, processes: &[Arc<Process>]) {
    {
        let mut gateway = lock(&world.gateway);
        gateway.away_until = None;
        gateway.blind_until = None;
        gateway.look_ups_fail_until = None;
    }
    for process in processes {
        process.thaw();
        process.may_reconnect();
        process.boot(world);
    }
}
