//! Faults that come at a time rather than at a step: outages, standstills, stops, a gateway that forgets, and the
//! adversary.

use crate::kinds::Kind;
use crate::network;
use crate::process::{Armed, Process, Role};
use crate::world::{World, lock};
use domain::GatewayKey;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// All of them that belong to the plan, each a few times while the buyers are at it.
pub fn unleash(world: &Arc<World>) {
    let timed = Kind::ALL.iter().copied().filter(|kind| kind.rate() == 0 && world.plan.has(*kind));
    for kind in timed {
        let world = Arc::clone(world);
        let tasks = world.tasks.clone();
        tasks.spawn(async move {
            let chance = world.chance(kind);
            let span = u64::try_from(world.plan.workload.as_millis()).unwrap_or(1);
            let times = match kind {
                Kind::GatewayWipe | Kind::GatewayRestart => 1,
                Kind::ForgedToken | Kind::ForgedWithoutToken | Kind::ForeignKey | Kind::UnknownKey => 8,
                _ => 1 + chance.below(3),
            };
            for _ in 0..times {
                sleep(Duration::from_millis(chance.below(span / times + 1))).await;
                if world.is_healed() {
                    return;
                }
                strike(&world, kind).await;
            }
        });
    }
}

async fn strike(world: &Arc<World>, kind: Kind) {
    let chance = world.chance(kind);
    let now = Instant::now();
    let between = |least: u64, most: u64| Duration::from_millis(least + chance.below(most - least));
    match kind {
        Kind::DbOutage => {
            let span = between(500, 180_000);
            *lock(&world.database_back) = now + span;
            lasting(world, kind, span);
        }
        Kind::SessionsSpoilt => {
            let role = if chance.percent(60) { Role::App } else { Role::Reconciler };
            if let Some(process) = some(world, kind, role) {
                let span = between(500, 60_000);
                lasting(world, kind, span);
                process.spoil(span);
            }
        }
        Kind::ClockBack => {
            let by = between(1_000, 600_000);
            lasting(world, kind, by);
            world.database.turn_clock_back(by);
        }
        Kind::GatewayOutage => {
            let (span, hangs) = (between(500, 240_000), chance.percent(50));
            lock(&world.gateway).away_until = Some((now + span, hangs));
            lasting(world, kind, span);
        }
        Kind::LookupOutage => {
            let span = between(500, 400_000);
            lock(&world.gateway).look_ups_fail_until = Some(now + span);
            lasting(world, kind, span);
        }
        Kind::WrongAccount => {
            let span = between(30_000, 300_000);
            lock(&world.gateway).blind_until = Some(now + span);
            lasting(world, kind, span);
        }
        Kind::GatewayRestart => {
            world.struck(kind, 0);
            lock(&world.gateway).restart(now);
        }
        Kind::GatewayWipe => {
            world.struck(kind, 0);
            lock(&world.gateway).wipe(now);
        }
        Kind::FreezeApp => freeze(world, kind, Role::App, between(500, 120_000)),
        Kind::FreezeReconciler => freeze(world, kind, Role::Reconciler, between(500, 180_000)),
        Kind::Drain => {
            if let Some(process) = some(world, kind, Role::App) {
                world.struck(kind, 0);
                if chance.percent(50) {
                    process.arm(Armed::Drain);
                } else {
                    process.drain(world);
                }
            }
        }
        _ => forge(world, kind).await,
    }
}

fn lasting(world: &World, kind: Kind, span: Duration) {
    world.struck(kind, 0);
    world.tell(0, "lasting", || format!("{kind} for {span:?}"));
}

fn some(world: &World, kind: Kind, role: Role) -> Option<Arc<Process>> {
    let processes = lock(&world.processes).clone();
    let candidates: Vec<_> = processes.into_iter().filter(|process| process.role == role).collect();
    let at = world.chance(kind).below(u64::try_from(candidates.len()).ok()?);
    candidates.into_iter().nth(usize::try_from(at).ok()?)
}

fn freeze(world: &Arc<World>, kind: Kind, role: Role, span: Duration) {
    if let Some(process) = some(world, kind, role) {
        lasting(world, kind, span);
        // At any moment, or in the middle of an examination, with a claim in hand.
        if world.chance(kind).percent(50) {
            process.arm(Armed::Freeze(span));
        } else {
            process.freeze(span);
        }
    }
}

/// A callback that the gateway did not send. The adversary knows keys and order numbers, and even tokens.
async fn forge(world: &Arc<World>, kind: Kind) {
    let chance = world.chance(kind);
    let picked = {
        let gateway = lock(&world.gateway);
        let ours: Vec<_> = gateway.all().iter().filter(|transaction| transaction.order != 0).collect();
        let count = u64::try_from(ours.len()).unwrap_or_default();
        let pick =
            || ours.get(usize::try_from(chance.below(count)).unwrap_or_default()).map(|one| (*one).clone());
        pick().zip(pick())
    };
    let Some((one, other)) = picked else { return };
    let order = one.order;
    world.struck(kind, order);
    match kind {
        Kind::ForgedWithoutToken => {
            network::deliver_without_token(world, order, one.order_ref).await;
        }
        Kind::ForgedToken => {
            let wrong = format!("{:064x}", chance.next_u64());
            let taken = network::deliver(world, order, &wrong, &one.key).await;
            if taken == Some(Ok(())) {
                world.violation("F51", order, "a forged token was taken");
            }
        }
        Kind::ForeignKey => {
            network::deliver(world, order, &one.token, &other.key).await;
        }
        Kind::UnknownKey => {
            if let Ok(key) = GatewayKey::new("20260101:TR:forged") {
                network::deliver(world, order, &one.token, &key).await;
            }
        }
        Kind::Flood => {
            for _ in 0..100 {
                let (world, one) = (Arc::clone(world), one.clone());
                let tasks = world.tasks.clone();
                tasks.spawn(async move {
                    network::deliver(&world, order, &one.token, &one.key).await;
                });
            }
        }
        _ => {}
    }
}
