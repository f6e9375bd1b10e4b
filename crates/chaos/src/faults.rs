//! Every few seconds something breaks: a process, a connection, PostgreSQL, the gateway.
//!
//! The faults are dealt from a shuffled deck in which one of each kind lies on top, so that a short run sees every kind
//! and a long one sees them in ever other orders. One fault at a time holds a process, the database or the gateway;
//! faults of different ones overlap.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use test_support::{Cut, FaultProxy, NetworkFault};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::diary::Absent;
use crate::programs::Program;
use crate::world::World;

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL, and a new process a moment later.
    Kill,
    /// SIGSTOP and SIGCONT, within a second or two.
    ShortFreeze,
    /// The same, for longer than the send deadline and a lease.
    LongFreeze,
    /// SIGTERM; it must end by itself with exit code 0.
    Terminate,
    /// `pg_ctl -m immediate restart`.
    DatabaseRestart,
    /// All connections to PostgreSQL are lost at once.
    DatabaseCut,
    /// A COMMIT is delivered, its answer is not.
    CommitUnknown,
    /// A COMMIT is not delivered.
    CommitLost,
    /// Nothing passes to or from PostgreSQL; what was held back passes later, or never.
    DatabaseSilent,
    /// New connections to PostgreSQL fail.
    DatabaseRefuses,
    /// Each piece of data to or from PostgreSQL is late.
    DatabaseSlow,
    /// All connections to the gateway are lost at once.
    GatewayCut,
    /// A request reaches the gateway, its answer is lost, whole or in part.
    AnswerLost,
    /// Nothing passes to or from the gateway.
    GatewaySilent,
    GatewayRefuses,
    GatewaySlow,
    /// The gateway is out of order.
    GatewayOutage,
    /// The gateway dies and forgets what it had not decided.
    GatewayRestart,
    /// Other bad manners from now on.
    GatewayManners,
}

/// How often each is in the deck.
const DECK: &[(Fault, usize)] = &[
    (Fault::Kill, 6),
    (Fault::ShortFreeze, 2),
    (Fault::LongFreeze, 1),
    (Fault::Terminate, 1),
    (Fault::DatabaseRestart, 1),
    (Fault::DatabaseCut, 2),
    (Fault::CommitUnknown, 4),
    (Fault::CommitLost, 2),
    (Fault::DatabaseSilent, 1),
    (Fault::DatabaseRefuses, 1),
    (Fault::DatabaseSlow, 1),
    (Fault::GatewayCut, 1),
    (Fault::AnswerLost, 3),
    (Fault::GatewaySilent, 1),
    (Fault::GatewayRefuses, 1),
    (Fault::GatewaySlow, 1),
    (Fault::GatewayOutage, 1),
    (Fault::GatewayRestart, 1),
    (Fault::GatewayManners, 3),
];

const TERMINATE_GRACE: Duration = Duration::from_secs(30);

pub(crate) struct Faults {
    world: Arc<World>,
    database: Mutex<()>,
    gateway: Mutex<()>,
}

impl Faults {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, database: Mutex::default(), gateway: Mutex::default() }
    }

    /// Breaks things until `end`, with pauses from this range in between; returns when all that was broken is whole.
    pub(crate) async fn run(
        self: &Arc<Self>,
        seed: u64,
        pause_ms: std::ops::Range<u64>,
        end: Instant,
    ) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        self.world.gateway.misbehave(&mut rng).await?;
        let mut deck: Vec<Fault> = Vec::new();
        let mut under_way: JoinSet<Result<()>> = JoinSet::new();
        loop {
            sleep(Duration::from_millis(rng.random_range(pause_ms.clone()))).await;
            if Instant::now() >= end {
                break;
            }
            let Some(fault) = deck.pop() else {
                deck = shuffled(&mut rng);
                continue;
            };
            let own = StdRng::seed_from_u64(rng.random());
            let faults = Arc::clone(self);
            under_way.spawn(async move { faults.strike(fault, own).await });
            while let Some(ended) = under_way.try_join_next() {
                ended??;
            }
        }
        while let Some(ended) = under_way.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn strike(&self, fault: Fault, mut rng: StdRng) -> Result<()> {
        let trouble = self.world.diary.trouble(format!("{fault:?}"));
        let struck = match fault {
            Fault::Kill | Fault::ShortFreeze | Fault::LongFreeze | Fault::Terminate => {
                self.strike_program(fault, &mut rng).await
            }
            Fault::DatabaseRestart
            | Fault::DatabaseCut
            | Fault::CommitUnknown
            | Fault::CommitLost
            | Fault::DatabaseSilent
            | Fault::DatabaseRefuses
            | Fault::DatabaseSlow => self.strike_database(fault, &mut rng).await,
            _ => self.strike_gateway(fault, &mut rng).await,
        };
        self.world.diary.trouble_ended(trouble);
        struck
    }

    fn tell(&self, fault: Fault, what: &str) {
        self.world.diary.count(format!("fault: {fault:?}"));
        self.world.diary.say(what);
    }

    /// A program that nothing else is being done to.
    fn victim(&self, rng: &mut StdRng) -> Option<(usize, OwnedMutexGuard<Program>)> {
        let mut order: Vec<usize> = (0..self.world.programs.len()).collect();
        order.shuffle(rng);
        order.into_iter().find_map(|index| {
            let program = Arc::clone(self.world.programs.get(index)?);
            Some((index, program.try_lock_owned().ok()?))
        })
    }

    async fn strike_program(&self, fault: Fault, rng: &mut StdRng) -> Result<()> {
        let Some((index, mut program)) = self.victim(rng) else { return Ok(()) };
        let diary = &self.world.diary;
        let gone = Duration::from_millis(rng.random_range(0..2_000));
        let absent = (index < self.world.servers.len()).then_some(Absent::Server(index));
        if let Some(absent) = absent {
            diary.absent(absent);
        }
        match fault {
            Fault::Kill => {
                self.tell(fault, &format!("kill -9 {}, back after {} ms", program.name, gone.as_millis()));
                program.kill().await?;
                sleep(gone).await;
                program.start()?;
            }
            Fault::Terminate => {
                self.tell(fault, &format!("SIGTERM to {}", program.name));
                match program.terminate(TERMINATE_GRACE).await? {
                    Some(status) if status.success() => {}
                    Some(status) => {
                        diary.violation(format!("{} ended on SIGTERM with {status}", program.name));
                    }
                    None => diary.violation(format!("{} did not end on SIGTERM", program.name)),
                }
                sleep(gone).await;
                program.start()?;
            }
            _ => {
                let long = self.world.gateway.times.long_freeze;
                let duration = if fault == Fault::LongFreeze { long } else { gone };
                self.tell(fault, &format!("SIGSTOP {} for {} ms", program.name, duration.as_millis()));
                program.freeze(duration).await?;
            }
        }
        if let Some(absent) = absent {
            if matches!(fault, Fault::Kill | Fault::Terminate)
                && let Some(status) = program.wait_until_listening(&self.world.http).await?
            {
                diary.violation(format!("{} did not start: {status}", program.name));
                program.start()?;
            }
            diary.back(absent);
        }
        Ok(())
    }

    async fn strike_database(&self, fault: Fault, rng: &mut StdRng) -> Result<()> {
        let _guard = self.database.lock().await;
        let proxy = &self.world.database_proxy;
        let diary = &self.world.diary;
        let cut = cut(rng);
        let time = Duration::from_millis(rng.random_range(500..3_000));
        match fault {
            Fault::DatabaseRestart => {
                diary.absent(Absent::Database);
                let took = self.world.server.restart().await?;
                diary.back(Absent::Database);
                self.tell(
                    fault,
                    &format!("PostgreSQL was restarted at once, within {} ms", took.as_millis()),
                );
            }
            Fault::DatabaseCut => {
                self.tell(fault, &format!("all connections to PostgreSQL are cut ({cut:?})"));
                proxy.cut(cut);
            }
            Fault::CommitUnknown | Fault::CommitLost => {
                let times = rng.random_range(1..=4);
                let skip = rng.random_range(0..20);
                for _ in 0..times {
                    let fault = match fault {
                        Fault::CommitLost => NetworkFault::BeforeRequest(cut),
                        _ => NetworkFault::BeforeAnswer(cut),
                    };
                    proxy.arm_after(skip, *b"COMMIT", fault);
                }
                self.tell(fault, &format!("{times} COMMITs: {fault:?} ({cut:?})"));
            }
            Fault::DatabaseSilent => {
                let never = rng.random_bool(0.5);
                diary.absent(Absent::Database);
                let end = if never { "lost" } else { "passed on" };
                self.tell(
                    fault,
                    &format!("PostgreSQL is silent for {} ms, then all is {end}", time.as_millis()),
                );
                silence(proxy, time, never, cut).await;
                diary.back(Absent::Database);
            }
            Fault::DatabaseRefuses => {
                diary.absent(Absent::Database);
                self.tell(fault, &format!("PostgreSQL refuses connections for {} ms", time.as_millis()));
                proxy.refuse(Some(cut));
                proxy.cut(cut);
                sleep(time).await;
                proxy.refuse(None);
                diary.back(Absent::Database);
            }
            _ => {
                let delay = Duration::from_millis(rng.random_range(1..5));
                self.tell(fault, &format!("PostgreSQL is {} ms late, both ways", delay.as_millis()));
                proxy.delay(delay);
                sleep(time).await;
                proxy.delay(Duration::ZERO);
            }
        }
        Ok(())
    }

    async fn strike_gateway(&self, fault: Fault, rng: &mut StdRng) -> Result<()> {
        let _guard = self.gateway.lock().await;
        let proxy = &self.world.gateway_proxy;
        let gateway = &self.world.gateway;
        let cut = cut(rng);
        let time = Duration::from_millis(rng.random_range(500..4_000));
        match fault {
            Fault::GatewayCut => {
                self.tell(fault, &format!("all connections to the gateway are cut ({cut:?})"));
                proxy.cut(cut);
            }
            Fault::AnswerLost => {
                let times = rng.random_range(1..=5);
                for _ in 0..times {
                    let bytes: &[u8] = if rng.random_bool(0.7) { b"POST /api" } else { b"GET /api" };
                    let bite = *[
                        NetworkFault::BeforeAnswer(cut),
                        NetworkFault::InAnswer(40, cut),
                        NetworkFault::SilentAfterRequest,
                        NetworkFault::BeforeRequest(cut),
                        NetworkFault::SilentBeforeRequest,
                    ]
                    .choose(rng)
                    .unwrap_or(&NetworkFault::BeforeAnswer(cut));
                    proxy.arm_after(rng.random_range(0..10), bytes, bite);
                }
                self.tell(fault, &format!("{times} answers of the gateway, or requests to it, are lost"));
            }
            Fault::GatewaySilent => {
                self.tell(fault, &format!("the gateway is silent for {} ms", time.as_millis()));
                // What was held back must not come through after its sender's deadline: nobody can prevent that, and
                // the audit would call it a late request.
                silence(proxy, time, true, cut).await;
            }
            Fault::GatewayRefuses => {
                self.tell(fault, &format!("the gateway refuses connections for {} ms", time.as_millis()));
                proxy.refuse(Some(cut));
                proxy.cut(cut);
                sleep(time).await;
                proxy.refuse(None);
            }
            Fault::GatewaySlow => {
                let delay = Duration::from_millis(rng.random_range(50..400));
                self.tell(fault, &format!("the gateway is {} ms late, both ways", delay.as_millis()));
                proxy.delay(delay);
                sleep(time).await;
                proxy.delay(Duration::ZERO);
            }
            Fault::GatewayOutage => {
                let mode = ["close", "reset", "hang", "unavailable"].choose(rng).copied().unwrap_or("close");
                self.tell(fault, &format!("outage of the gateway ({mode}) for {} ms", time.as_millis()));
                gateway.outage(Some(mode)).await?;
                sleep(time).await;
                gateway.outage(None).await?;
            }
            Fault::GatewayRestart => {
                self.tell(fault, "the gateway dies and is started again: what was undecided stays so");
                gateway.restart().await?;
            }
            _ => {
                let manners = gateway.misbehave(rng).await?;
                self.tell(fault, &format!("other manners of the gateway: {manners}"));
            }
        }
        Ok(())
    }

    /// The deck's kinds that did not strike.
    pub(crate) fn missing(&self) -> Vec<Fault> {
        let struck: BTreeMap<String, u64> = self.world.diary.counts("fault: ").into_iter().collect();
        DECK.iter()
            .map(|(fault, _)| *fault)
            .filter(|fault| !struck.contains_key(&format!("{fault:?}")))
            .collect()
    }
}

/// To be dealt from the end.
fn shuffled(rng: &mut StdRng) -> Vec<Fault> {
    let mut deck: Vec<Fault> =
        DECK.iter().flat_map(|(fault, times)| std::iter::repeat_n(*fault, times - 1)).collect();
    deck.shuffle(rng);
    let mut top: Vec<Fault> = DECK.iter().map(|(fault, _)| *fault).collect();
    top.shuffle(rng);
    deck.extend(top);
    deck
}

/// Everything is passed on again, at once, and no fault lies in wait.
pub(crate) fn heal(proxy: &FaultProxy) {
    proxy.disarm();
    proxy.delay(Duration::ZERO);
    proxy.refuse(None);
    proxy.hold(false);
    // Some of what is open now was silenced for good.
    proxy.cut(Cut::Close);
}

fn cut(rng: &mut StdRng) -> Cut {
    if rng.random_bool(0.5) { Cut::Reset } else { Cut::Close }
}

/// Holds all data back for `time`; then it is lost, or passed on.
async fn silence(proxy: &FaultProxy, time: Duration, lost: bool, cut: Cut) {
    proxy.hold(true);
    sleep(time).await;
    if lost {
        proxy.cut(cut);
        // So that the cut is seen before what is held may pass.
        sleep(Duration::from_millis(100)).await;
    }
    proxy.hold(false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_is_dealt_before_any_is_dealt_twice() {
        for seed in 0..50 {
            let deck = shuffled(&mut StdRng::seed_from_u64(seed));
            assert_eq!(deck.len(), DECK.iter().map(|(_, times)| times).sum::<usize>());
            let dealt_first: BTreeSet<Fault> = deck.iter().rev().take(DECK.len()).copied().collect();
            assert_eq!(dealt_first.len(), DECK.len(), "seed {seed}");
        }
    }
}
