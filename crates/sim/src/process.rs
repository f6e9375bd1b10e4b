//! Programs that can die, stand still, be stopped, and come back: each with its own pools, circuits and tasks over the
//! one database.

use crate::gateway::ModelTransport;
use crate::kinds::Kind;
use crate::world::{FLOW, World, flow, lock};
use adapters_pg::{Circuits, GatewayConfig, GuardedGateway};
use application::{Adapters, Application, CallbackTokens, Policy};
use async_trait::async_trait;
use domain::MerchantId;
use domain::ports::{Entropy, Queries, Store};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use test_support::{ConnectionOptions, Fault, Faults, Site, TestEntropy};
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
        let entropy: Arc<dyn Entropy> = Arc::new(TestEntropy::new(self.seed ^ (generation << 48)));
        let hook: Arc<dyn Faults> =
            Arc::new(Hook { world: Arc::downgrade(world), process: Arc::clone(self) });
        let orders = world.database.connect(Arc::clone(&hook), ConnectionOptions::default());
        let settlement = world.database.connect(hook, ConnectionOptions::default());
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
            store: Arc::new(orders.clone()) as Arc<dyn Store>,
            settlement_store: Arc::new(settlement),
            queries: Arc::new(orders) as Arc<dyn Queries>,
            gateway: Arc::new(guarded),
            entropy,
        };
        let policy = Policy::new(merchant, "http://localhost:8080");
        let application = Application::new(adapters, policy, tokens);
        let running = Running { application, circuits, stop: CancellationToken::new() };
        {
            let mut inner = lock(&self.inner);
            inner.running = Some(running.clone());
            inner.accepting = true;
        }
        world.tell(0, "boot", || format!("{} starts", self.name));
        if self.role == Role::Reconciler {
            self.spawn(0, turns(Arc::clone(world), running));
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
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let tracker = tokio_util::task::TaskTracker::new();
        let task = tracker.spawn(FLOW.scope(Arc::new(AtomicI64::new(order)), work));
        let mut inner = lock(&self.inner);
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

    /// It stands still; the world goes on.
    pub fn freeze(&self, span: Duration) {
        lock(&self.inner).frozen_until = Instant::now() + span;
    }

    /// It goes on.
    pub fn thaw(&self) {
        lock(&self.inner).frozen_until = Instant::now();
    }

    /// It is told to stop: takes nothing new, ends what is under way within 5 s, and is started again.
    pub fn drain(self: &Arc<Self>, world: &Arc<World>) {
        lock(&self.inner).accepting = false;
        let (world, process) = (Arc::clone(world), Arc::clone(self));
        let tasks = world.tasks.clone();
        tasks.spawn(async move {
            sleep(Duration::from_secs(5)).await;
            process.crash(&world, Duration::from_secs(2));
        });
    }

    /// Waits while it stands still.
    async fn gate(&self) {
        loop {
            let until = lock(&self.inner).frozen_until;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// A step of this program: it may stand still, or die here.
    pub async fn step(self: &Arc<Self>, world: &Arc<World>, site: Site) {
        self.gate().await;
        let kind = match self.role {
            Role::App => Kind::CrashApp,
            Role::Reconciler => Kind::CrashReconciler,
        };
        if world.strikes(kind, 0) {
            *lock(&world.counts).crashes.entry(site).or_default() += 1;
            world.tell(flow(), "crash", || format!("{} dies at {site}", self.name));
            let chance = world.chance(kind);
            let down_for = Duration::from_millis(200 + chance.below(90_000));
            self.crash(world, down_for);
            // The task is aborted; it never gets beyond this point.
            std::future::pending::<()>().await;
        }
    }
}

/// A reconciler's life: a turn at every full minute. In the long quiet after the faults it sleeps until something is due.
async fn turns(world: Arc<World>, running: Running) {
    const MINUTE: u64 = 60;
    let min_age = running.application.policy().min_age;
    loop {
        let now = world.elapsed().as_secs();
        let mut next = (now / MINUTE + 1) * MINUTE;
        if world.is_quiet() {
            let look = world.database.next_look(min_age).map(|at| at - world.database.now());
            let wait = look.map_or(600, |wait| u64::try_from(wait.whole_seconds()).unwrap_or_default());
            next = next.max((now + wait.min(600)).div_ceil(MINUTE) * MINUTE);
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
        if world.plan.crowded && !world.is_quiet() {
            sleep(Duration::from_millis(world.draw.below(50))).await;
        }
        if world.strikes(Kind::DbSlow, 0) {
            sleep(Duration::from_millis(100 + world.chance(Kind::DbSlow).below(2900))).await;
        }
        world.tell_step(flow(), site.call, || format!("{} {site}", self.process.name));
        if *lock(&world.database_back) > Instant::now() {
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
        self.process.step(&world, Site { within: site.within, call: after_name(site.call) }).await;
        let is_lost = site.call != "tx.commit" && world.strikes(Kind::DbAnswerLost, 0);
        if is_lost { Fault::Unavailable } else { Fault::None }
    }
}

/// The step after a call is a site of its own where it matters most: a commit that was stored.
const fn after_name(call: &'static str) -> &'static str {
    if call.len() == "tx.commit".len() && matches!(call.as_bytes(), b"tx.commit") {
        "tx.commit, stored"
    } else {
        call
    }
}
