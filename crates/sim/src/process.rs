//! Programs that can die, stand still, be stopped, and come back: each with its own pools, circuits and tasks over the
//! one database.

use crate::crash_points::{self, State};
use crate::draws::Drawing;
use crate::flow::{FLOW, Flow, Stage, flow, is_recording, stage, stage_at};
use crate::gateway::ModelTransport;
use crate::kinds::Kind;
use crate::oracle;
use crate::store::WatchedStore;
use crate::world::{World, lock};
use adapters_pg::{Circuits, GatewayConfig, GuardedGateway};
use application::{Adapters, Application, CallbackTokens, Policy};
use async_trait::async_trait;
use domain::MerchantId;
use domain::ports::{Entropy, Queries, Store};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use test_support::{ConnectionOptions, FakeStore, Fault, Faults, Site, TestEntropy};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// What a program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves orders and callbacks.
    App,
    /// Runs turns.
    Reconciler,
}

/// What a running program works with.
#[derive(Clone)]
pub struct Running {
    /// The use-cases.
    pub application: Application,
    /// Its circuits.
    pub circuits: Circuits,
    stop: CancellationToken,
}

struct Inner {
    running: Option<Running>,
    accepting: bool,
    generation: u64,
    tasks: Vec<AbortHandle>,
    frozen_until: Instant,
    /// Its sessions with the database are of no use, nor are new ones until then.
    spoilt: Option<Instant>,
    draining: bool,
    armed: Option<Armed>,
}

/// The most transactions of an order that the simulated shop looks into.
pub const MAX_TRANSACTIONS: usize = 40;

/// Transactions that are done in batches, led by the task of one member.
const BATCHES: [&str; 4] = ["place_orders", "start_payments", "settle", "note_callbacks"];

/// A fault that waits for a program to be in the middle of something.
#[derive(Debug, Clone, Copy)]
pub enum Armed {
    /// Stands still as soon as the gateway has answered a look-up.
    Freeze(Duration),
    /// Is told to stop as soon as it requests a charge.
    Drain,
}

/// A program.
pub struct Process {
    /// `app0`, `rec1`.
    pub name: String,
    /// What it does.
    pub role: Role,
    seed: u64,
    inner: Mutex<Inner>,
}

impl Process {
    /// A program that is not running yet.
    pub fn new(name: String, role: Role, seed: u64) -> Arc<Self> {
        let inner = Inner {
            running: None,
            accepting: false,
            generation: 0,
            tasks: Vec::new(),
            frozen_until: Instant::now(),
            spoilt: None,
            draining: false,
            armed: None,
        };
        Arc::new(Self { name, role, seed, inner: Mutex::new(inner) })
    }

    /// Starts it, with nothing left of an earlier life.
    pub fn boot(self: &Arc<Self>, world: &Arc<World>) {
        let generation = {
            let mut inner = lock(&self.inner);
            if inner.running.is_some() {
                return;
            }
            inner.generation += 1;
            inner.generation
        };
        let life = (self.seed, generation);
        let chance = TestEntropy::new(self.seed ^ (generation << 48));
        let entropy: Arc<dyn Entropy> = Arc::new(Drawing::new(chance, Arc::downgrade(world), life));
        let hook: Arc<dyn Faults> =
            Arc::new(Hook { world: Arc::downgrade(world), process: Arc::clone(self) });
        let connect = || world.database.connect(Arc::clone(&hook), ConnectionOptions::default());
        let (orders, settlement, health) = (connect(), connect(), connect());
        let watched = |store: &FakeStore| -> Arc<dyn Store> {
            Arc::new(WatchedStore::new(store.clone(), Arc::downgrade(world), life))
        };
        let transport = ModelTransport::new(Arc::downgrade(world), Arc::clone(self));
        let guarded = match GuardedGateway::new(transport, GatewayConfig::default(), Arc::clone(&entropy)) {
            Ok(guarded) => guarded,
            Err(error) => return world.violation("setup", 0, error.to_string()),
        };
        let circuits = guarded.circuits();
        let (Ok(merchant), Ok(tokens)) = (MerchantId::new("holdfast"), CallbackTokens::new(b"simulated"))
        else {
            return world.violation("setup", 0, "the merchant or the secret");
        };
        let adapters = Adapters {
            store: watched(&orders),
            settlement_store: watched(&settlement),
            queries: Arc::new(orders) as Arc<dyn Queries>,
            settlement_queries: Arc::new(settlement),
            health_queries: Arc::new(health),
            gateway: Arc::new(guarded),
            entropy,
        };
        let mut policy = Policy::new(merchant, "http://localhost:8080");
        policy.batch = world.plan.batch;
        policy.max_transactions = MAX_TRANSACTIONS;
        policy.rules.park_after_failures = world.plan.park_after;
        let application = Application::new(adapters, policy, tokens);
        let told = Arc::downgrade(world);
        application.on_ended(move |order| oracle::on_ended(&told, order));
        let running = Running { application, circuits, stop: CancellationToken::new() };
        {
            let mut inner = lock(&self.inner);
            inner.running = Some(running.clone());
            inner.accepting = true;
            inner.draining = false;
            inner.spoilt = None;
        }
        world.tell(0, "boot", || format!("{} starts", self.name));
        match self.role {
            Role::Reconciler => drop(self.spawn(0, Stage::Turn, turns(Arc::clone(world), running))),
            Role::App => {
                let worker = async move { running.application.take_up_callbacks(&running.stop).await };
                drop(self.spawn(0, Stage::Examining, worker));
            }
        }
    }

    /// The program, when it takes requests.
    pub fn accepting(&self) -> Option<Running> {
        let inner = lock(&self.inner);
        if inner.accepting { inner.running.clone() } else { None }
    }

    /// Runs something in it, about an order (0: not known yet). It ends with the program.
    pub fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        order: i64,
        stage: Stage,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let tracker = tokio_util::task::TaskTracker::new();
        let mut inner = lock(&self.inner);
        let flow = Flow::new((self.seed, inner.generation), order, stage);
        let task = tracker.spawn(FLOW.scope(flow, work));
        inner.tasks.retain(|task| !task.is_finished());
        inner.tasks.push(task.abort_handle());
        task
    }

    /// It dies: whatever it was at is gone, its open transactions are rolled back. It comes back later.
    pub fn crash(self: &Arc<Self>, world: &Arc<World>, down_for: Duration) {
        let tasks = {
            let mut inner = lock(&self.inner);
            inner.running = None;
            inner.accepting = false;
            std::mem::take(&mut inner.tasks)
        };
        for task in tasks {
            task.abort();
        }
        let (world, process) = (Arc::clone(world), Arc::clone(self));
        let tasks = world.tasks.clone();
        tasks.spawn(async move {
            sleep(down_for).await;
            process.boot(&world);
        });
    }

    /// The run is over. A running program and its connections hold each other, so neither would be freed by itself.
    pub fn end(&self) {
        let running = lock(&self.inner).running.take();
        drop(running);
    }

    /// It stands still; the world goes on.
    pub fn freeze(&self, span: Duration) {
        lock(&self.inner).frozen_until = Instant::now() + span;
    }

    /// Its sessions are of no use any more, and for so long neither is any that it opens.
    pub fn spoil(&self, span: Duration) {
        lock(&self.inner).spoilt = Some(Instant::now() + span);
    }

    /// What it opens from now on is of use.
    pub fn may_reconnect(&self) {
        if let Some(until) = &mut lock(&self.inner).spoilt {
            *until = Instant::now();
        }
    }

    /// Its sessions are of no use. It closes such ones, and so has good ones as soon as there are any.
    fn is_spoilt(&self) -> bool {
        let mut inner = lock(&self.inner);
        if inner.spoilt.is_some_and(|until| until <= Instant::now()) {
            inner.spoilt = None;
        }
        inner.spoilt.is_some()
    }

    /// It goes on.
    pub fn thaw(&self) {
        lock(&self.inner).frozen_until = Instant::now();
    }

    /// It is told to stop: takes nothing new, ends what is under way within 5 s, and is started again.
    pub fn drain(self: &Arc<Self>, world: &Arc<World>) {
        let generation = {
            let mut inner = lock(&self.inner);
            inner.accepting = false;
            inner.draining = inner.running.is_some();
            if let Some(running) = &inner.running {
                running.stop.cancel();
            }
            inner.generation
        };
        let (world, process) = (Arc::clone(world), Arc::clone(self));
        let tasks = world.tasks.clone();
        tasks.spawn(async move {
            sleep(Duration::from_secs(5)).await;
            // It may have died meanwhile, and be alive again.
            if lock(&process.inner).generation == generation {
                process.crash(&world, Duration::from_secs(2));
            }
        });
    }

    /// A fault that is to come as soon as it is in the middle of something.
    pub fn arm(&self, armed: Armed) {
        lock(&self.inner).armed = Some(armed);
    }

    /// Waits while it stands still, and says how long.
    async fn gate(&self) -> Duration {
        let began = Instant::now();
        loop {
            let until = lock(&self.inner).frozen_until;
            if until <= Instant::now() {
                return began.elapsed();
            }
            sleep_until(until).await;
        }
    }

    /// What was armed strikes now, if this is the step that it waited for.
    fn spring(self: &Arc<Self>, world: &Arc<World>, site: Site) {
        let armed = {
            let mut inner = lock(&self.inner);
            match (inner.armed, site.call) {
                (Some(Armed::Freeze(_)), "look-up answered" | "watched look-up answered")
                | (Some(Armed::Drain), "request") => inner.armed.take(),
                _ => None,
            }
        };
        match armed {
            _ if world.is_healed() => {}
            Some(Armed::Freeze(span)) => self.freeze(span),
            Some(Armed::Drain) => self.drain(world),
            None => {}
        }
    }

    /// A step of this program: it may stand still, or die here.
    pub async fn step(self: &Arc<Self>, world: &Arc<World>, site: Site) {
        if world.is_healed() {
            // How far a task is matters to the oracle still.
            stage_at(site);
            self.gate().await;
            return;
        }
        self.spring(world, site);
        let stood = self.gate().await;
        let point = self.point(world, site, stood);
        let kind = match self.role {
            Role::App => Kind::CrashApp,
            Role::Reconciler => Kind::CrashReconciler,
        };
        if world.dies_at(point, kind) {
            world.died(site, point);
            world.tell(flow(), "crash", || {
                let point = point.and_then(|point| crash_points::CRASH_POINTS.get(point));
                format!("{} dies at {site} ({})", self.name, point.map_or("no crash point", |point| point.id))
            });
            let chance = world.chance(kind);
            let down_for = Duration::from_millis(200 + chance.below(90_000));
            self.crash(world, down_for);
            // The task is aborted; it never gets beyond this point.
            std::future::pending::<()>().await;
        }
        // The worker that takes up callbacks is no request's task: it lives as long as its program.
        let of_a_request = self.role == Role::App && stage() != Stage::Examining;
        if of_a_request && BATCHES.contains(&site.within) && world.strikes(Kind::LaneDies, 0) {
            world.task_died();
            world.tell(flow(), "lane", || format!("a task of {} dies at {site}", self.name));
            let own = tokio::task::try_id();
            for task in lock(&self.inner).tasks.iter().filter(|task| Some(task.id()) == own) {
                task.abort();
            }
            std::future::pending::<()>().await;
        }
    }

    /// The crash point that a step is, after the program stood still so long before it.
    fn point(&self, world: &World, site: Site, stood: Duration) -> Option<crash_points::PointIndex> {
        let stage = stage_at(site);
        let (draining, lease) = {
            let inner = lock(&self.inner);
            let lease = inner.running.as_ref().map(|running| running.application.policy().lease);
            (inner.draining, lease)
        };
        // Whoever is at the gateway, settles or ends a claim has one; orders ask the gateway without.
        let claimed = matches!(site.within, "gateway" | "settle")
            && !matches!(stage, Stage::Ordering | Stage::FirstCommitSent | Stage::Placed);
        let state = if draining {
            Some(State::Draining)
        } else if claimed && lease.is_some_and(|lease| stood >= lease) {
            Some(State::LeaseOver)
        } else {
            None
        };
        let at_site = crash_points::of_site(stage, site);
        if at_site.is_none() {
            world.unknown_step(stage, site);
        }
        let point = state.and_then(crash_points::of_state).or(at_site);
        world.came_to(point);
        point
    }
}

/// A reconciler's life: a turn at every full minute. In the long quiet after the faults it sleeps until something is due.
async fn turns(world: Arc<World>, running: Running) {
    const MINUTE: u64 = 60;
    const LONGEST_SLEEP: u64 = 3600;
    loop {
        let now = world.elapsed().as_secs();
        let mut next = (now / MINUTE + 1) * MINUTE;
        if world.is_quiet() {
            let look = world.database.next_look().map(|at| at - world.database.now());
            let wait =
                look.map_or(LONGEST_SLEEP, |wait| u64::try_from(wait.whole_seconds()).unwrap_or_default());
            next = next.max((now + wait.min(LONGEST_SLEEP)).div_ceil(MINUTE) * MINUTE);
        }
        sleep(Duration::from_secs(next).saturating_sub(world.elapsed())).await;
        if let Err(error) = running.application.reconcile(&running.stop).await {
            world.tell(0, "turn failed", || format!("a turn ended early: {error}"));
        }
    }
}

/// The faults of one program's database calls.
struct Hook {
    world: Weak<World>,
    process: Arc<Process>,
}

#[async_trait]
impl Faults for Hook {
    async fn before(&self, site: Site) -> Fault {
        let Some(world) = self.world.upgrade() else { return Fault::None };
        self.process.step(&world, site).await;
        // Some of the time a statement takes: enough for others to come between.
        let pace = world.draw.below(8);
        if pace > 4 {
            sleep(Duration::from_millis(pace - 4)).await;
        }
        if world.plan.is_crowded() && !world.is_quiet() {
            sleep(Duration::from_millis(world.draw.below(50))).await;
        }
        if world.strikes(Kind::DbSlow, 0) {
            sleep(Duration::from_millis(100 + world.chance(Kind::DbSlow).below(2900))).await;
        }
        world.tell_step(flow(), site.call, || format!("{} {site}", self.process.name));
        if *lock(&world.database_back) > Instant::now() || self.process.is_spoilt() {
            return Fault::Unavailable;
        }
        if site.call == "tx.commit" {
            for (kind, fault) in [
                (Kind::CommitRefused, Fault::Unavailable),
                (Kind::CommitUnknownStored, Fault::CommitUnknown { stored: true }),
                (Kind::CommitUnknownLost, Fault::CommitUnknown { stored: false }),
            ] {
                if world.strikes(kind, 0) {
                    return fault;
                }
            }
        }
        if world.strikes(Kind::DbConflict, 0) {
            return Fault::Conflict;
        }
        if world.strikes(Kind::DbUnavailable, 0) { Fault::Unavailable } else { Fault::None }
    }

    async fn after(&self, site: Site) -> Fault {
        let Some(world) = self.world.upgrade() else { return Fault::None };
        let call = crash_points::after(site.call, is_recording());
        self.process.step(&world, Site { within: site.within, call }).await;
        let is_lost = site.call != "tx.commit" && world.strikes(Kind::DbAnswerLost, 0);
        if is_lost { Fault::Unavailable } else { Fault::None }
    }
}
