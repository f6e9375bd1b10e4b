//! The engine on a port: the gateway's three calls, the admin calls, and callbacks to the merchant.
//!
//! [`start`] runs it inside the caller's tokio runtime, on port 0 if wanted, so that tests of other crates need no process
//! of their own; [`RunningSimulator`] gives them the same controls that the admin calls give to everybody else.

mod admin_api;
mod driver;
mod gateway_api;
mod misbehaviour;
mod reply;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::Service as _;
use actix_web::http::Method;
use actix_web::{App, HttpServer, web};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, LedgerEntry, LookupFate, Refusal, RequestFate, RequestLog};
use crate::knobs::{KnobError, Knobs, patch};

/// Where the gateway listens when nobody says otherwise.
pub const DEFAULT_BIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

/// Bodies above this many bytes are refused with 413.
const LARGEST_BODY: usize = 64 * 1024;

/// Threads that serve connections.
const WORKERS: usize = 2;

/// How long a stop waits for answers that are under way, in seconds.
const STOP_GRACE_SECONDS: u64 = 2;

/// How to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// How to behave. An admin reset comes back to this.
    pub knobs: Knobs,
}

impl Default for Config {
    fn default() -> Self {
        Self { bind: DEFAULT_BIND, knobs: Knobs::default() }
    }
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A knob is out of range.
    #[error("the configuration is not valid")]
    Knob(#[from] KnobError),
    /// The address cannot be listened on.
    #[error("cannot listen on {bind}")]
    Listen {
        /// Which address.
        bind: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The client that sends callbacks cannot be built.
    #[error("cannot build the HTTP client for callbacks")]
    Client(#[source] reqwest::Error),
}

/// What all connections, the driver and the controls share.
struct Shared {
    engine: Mutex<Engine>,
    knobs_at_start: Knobs,
    clock: Clock,
    /// Told whenever something new may be due.
    changed: Notify,
    stop: CancellationToken,
}

impl Shared {
    /// The engine. A panic while it was held cannot leave it half-changed in a way that matters to a simulator.
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the engine at the present time, and wakes the driver.
    fn with_engine<R>(&self, action: impl FnOnce(&mut Engine, Duration) -> R) -> R {
        let result = action(&mut self.engine(), self.clock.now());
        self.changed.notify_one();
        result
    }

    /// How the gateway's own answers and callbacks are written.
    fn form(&self) -> reply::Form {
        reply::Form::from(&self.engine().knobs().wire)
    }

    fn patch_over(&self, base: &Knobs, change: &Value) -> Result<Knobs, KnobError> {
        let knobs = patch::apply(base, &patch::changes_in(change)?)?;
        self.with_engine(|engine, _| engine.set_knobs(knobs.clone()))?;
        Ok(knobs)
    }

    fn patch(&self, change: &Value) -> Result<Knobs, KnobError> {
        let base = self.engine().knobs().clone();
        self.patch_over(&base, change)
    }

    fn reset(&self) -> Result<(), KnobError> {
        self.with_engine(|engine, _| engine.reset(self.knobs_at_start.clone()))
    }
}

/// Time since the Unix epoch that never goes backwards: read from the system once, carried on by the monotonic clock.
struct Clock {
    started: Instant,
    started_since_epoch: Duration,
}

impl Clock {
    fn start() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the simulator is a server of its own, without a database to ask"
        )]
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self { started: Instant::now(), started_since_epoch: since_epoch.unwrap_or_default() }
    }

    fn now(&self) -> Duration {
        self.started_since_epoch + self.started.elapsed()
    }
}

/// A simulator that listens. Dropping it begins the stop; [`RunningSimulator::stop`] also waits for its end.
pub struct RunningSimulator {
    addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

/// Starts a simulator inside the present tokio runtime.
///
/// # Errors
/// When a knob is out of range or the address is taken.
pub async fn start(config: Config) -> Result<RunningSimulator, StartError> {
    let engine = Engine::new(config.knobs.clone())?;
    let client = driver::callback_client().map_err(StartError::Client)?;
    let refused = |source| StartError::Listen { bind: config.bind, source };

    let shared = Arc::new(Shared {
        engine: Mutex::new(engine),
        knobs_at_start: config.knobs,
        clock: Clock::start(),
        changed: Notify::new(),
        stop: CancellationToken::new(),
    });
    let data = web::Data::from(Arc::clone(&shared));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .app_data(web::PayloadConfig::new(LARGEST_BODY))
            .configure(gateway_api::routes)
            .configure(admin_api::routes)
            .default_service(web::to(gateway_api::unknown_path))
            .wrap_fn(|mut request, service| {
                // Every path takes HEAD as GET; the body is left away below.
                if *request.method() == Method::HEAD {
                    request.head_mut().method = Method::GET;
                }
                service.call(request)
            })
    })
    .on_connect(misbehaviour::remember_connection)
    .workers(WORKERS)
    .shutdown_timeout(STOP_GRACE_SECONDS)
    .disable_signals()
    .bind(config.bind)
    .map_err(refused)?;
    let addr =
        server.addrs().first().copied().ok_or_else(|| refused(io::ErrorKind::AddrNotAvailable.into()))?;
    let server = server.run();

    let tasks = TaskTracker::new();
    let stop = shared.stop.clone();
    tasks.spawn(async move {
        let handle = server.handle();
        tokio::pin!(server);
        tokio::select! {
            ended = &mut server => report_end(ended),
            () = stop.cancelled() => {
                let ((), ended) = tokio::join!(handle.stop(true), &mut server);
                report_end(ended);
            }
        }
    });
    tasks.spawn(driver::drive(Arc::clone(&shared), client, tasks.clone()));
    Ok(RunningSimulator { addr, shared, tasks })
}

fn report_end(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the server ended with an error");
    }
}

impl RunningSimulator {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Changes some knobs, as `PATCH /admin/config` does: `json!({"request": {"error_500": 0.0}})`.
    ///
    /// # Errors
    /// The first key that is unknown or out of range; then nothing has changed.
    pub fn patch(&self, change: &Value) -> Result<Knobs, KnobError> {
        self.shared.patch(change)
    }

    /// Says what becomes of the next valid payment requests.
    pub fn script_requests(&self, fates: impl IntoIterator<Item = RequestFate>) {
        self.shared.engine().script_requests(fates);
    }

    /// Says what becomes of the next look-ups.
    pub fn script_lookups(&self, fates: impl IntoIterator<Item = LookupFate>) {
        self.shared.engine().script_lookups(fates);
    }

    /// Decides a transaction now and reports it.
    ///
    /// # Errors
    /// When there is no such transaction.
    pub fn settle(&self, key: &str, succeed: bool) -> Result<LedgerEntry, Refusal> {
        self.shared.with_engine(|engine, now| engine.settle(now, key, succeed))
    }

    /// Forgets every transaction, as after a loss of its database.
    pub fn wipe(&self) -> usize {
        self.shared.with_engine(Engine::wipe)
    }

    /// Leaves every undecided transaction PENDING for ever, as after a restart.
    pub fn restart(&self) -> usize {
        self.shared.with_engine(Engine::restart)
    }

    /// Every transaction it ever created.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.shared.with_engine(|engine, now| engine.ledger(now))
    }

    /// Everything it was asked.
    #[must_use]
    pub fn log(&self) -> RequestLog {
        self.shared.engine().log().clone()
    }

    /// Stops: no new connections, answers under way are finished within two seconds, hanging ones are closed.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for RunningSimulator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
