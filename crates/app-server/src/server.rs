//! Starts and stops the two listeners of one process.

use crate::auth::{AuthError, Authenticator};
use crate::events::OrderChanges;
use crate::http::access_log::AccessLog;
use crate::http::border::border;
use crate::http::read::{BodyLimits, HeadLimits};
use crate::http::routes::unknown_path;
use crate::limits::Limiter;
use crate::ops::Circuits;
use crate::proxies::Proxies;
use crate::state::{ApiState, OpsState, Prepared, Runner};
use crate::{api, console, openapi, ops};
use actix_cors::Cors;
use actix_web::dev::ServerHandle;
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, HttpServer, web};
use application::Application;
use bootstrap::settings::{Origin, ServerSettings, Settings};
use bootstrap::shutdown::{Drained, Shutdown};
use futures_util::future::BoxFuture;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing_actix_web::TracingLogger;

/// The limits that the settings give, for a listener with so many threads. A macro, since the type of what it is about
/// can't be written down in a few words.
macro_rules! limited {
    ($server:expr, $settings:expr, $workers:expr) => {{
        let (settings, workers): (&ServerSettings, usize) = ($settings, $workers);
        let grace = settings.shutdown_grace;
        $server
            .workers(workers)
            .max_connections(settings.max_connections.div_ceil(workers))
            .keep_alive(settings.keep_alive)
            .client_request_timeout(settings.client_request_timeout)
            .client_disconnect_timeout(settings.client_disconnect_timeout)
            .shutdown_timeout(grace.as_secs() + u64::from(grace.subsec_nanos() > 0))
            .disable_signals()
    }};
}

/// The operations port has little to do.
const OPS_WORKERS: usize = 1;
/// Long enough for a worker to begin with the connections it was given.
const PAUSE_BEFORE_STOP: Duration = Duration::from_millis(50);

/// What a server serves.
#[derive(Clone)]
pub struct Parts {
    /// The use-cases.
    pub application: Application,
    /// The circuits of this process.
    pub circuits: Arc<dyn Circuits>,
    /// Brings the gauges up to date before a scrape.
    pub publish_metrics: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    /// The scrape's text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Who waits for which order; to be told of what other processes change.
    pub changes: OrderChanges,
    /// The process's stop.
    pub shutdown: Shutdown,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not one of this machine's.
    #[error("could not listen on {address} ({key})")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The settings of `auth.jwt` can't be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// A server that is running. It stops when [`Running::stop`] is called, not when it is dropped.
pub struct Running {
    /// Where the public API listens.
    pub addr: SocketAddr,
    /// Where the operations API listens.
    pub ops_addr: SocketAddr,
    listeners: [(ServerHandle, JoinHandle<std::io::Result<()>>); 2],
    shutdown: Shutdown,
    grace: Duration,
}

impl Running {
    /// Stops cleanly: accepts nothing more, lets requests and their work end within the grace period.
    pub async fn stop(self) -> Drained {
        self.shutdown.begin();
        let [(api, api_ended), (ops, ops_ended)] = self.listeners;
        // A worker that is told to stop drops connections that it has not looked at yet: first no new ones, then a moment.
        api.pause().await;
        tokio::time::sleep(PAUSE_BEFORE_STOP).await;
        // The operations port answers to the last, so that the stop can be watched.
        api.stop(true).await;
        log_end(api_ended.await);
        let drained = self.shutdown.drain(self.grace).await;
        ops.stop(true).await;
        log_end(ops_ended.await);
        drained
    }

    /// Ends when a listener ends by itself, which it should not.
    pub async fn failed(&mut self) {
        let [(_, api), (_, ops)] = &mut self.listeners;
        tokio::select! {
            ended = api => log_end(ended),
            ended = ops => log_end(ended),
        }
    }
}

fn log_end(ended: Result<std::io::Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "a listener failed"),
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "a listener failed"),
    }
}

/// Starts both listeners. Needs a multi-threaded tokio runtime, on which all work then runs.
///
/// # Errors
/// [`StartError`].
pub fn start(parts: &Parts, settings: &Settings) -> Result<Running, StartError> {
    let (listener, addr) = listen("server.bind", settings.server.bind)?;
    let (ops_listener, ops_addr) = listen("ops.bind", settings.ops.bind)?;
    let proxies = Arc::new(Proxies::new(settings.server.trusted_proxies.clone()));
    let api = web::Data::new(api_state(parts, settings, Arc::clone(&proxies))?);
    let proxies = web::Data::from(proxies);
    let keys = api.authenticator.follow_keys();
    let ops = web::Data::new(ops_state(parts, settings));
    let limiter = web::Data::new(api.limiter.clone());
    let prepared =
        web::Data::new(Prepared { locale: settings.locale.default, head: head_limits(&settings.server) });

    let public = {
        let prepared = prepared.clone();
        let origins = settings.cors.allowed_origins.clone();
        HttpServer::new(move || {
            App::new()
                .app_data(api.clone())
                .app_data(limiter.clone())
                .app_data(proxies.clone())
                .app_data(prepared.clone())
                .configure(api::routes)
                .configure(openapi::public_routes)
                .default_service(web::route().to(unknown_path))
                .wrap(cors(&origins))
                .wrap(from_fn(border))
                .wrap(TracingLogger::<AccessLog>::new())
        })
    };
    let public = limited!(public, &settings.server, settings.server.workers);
    let console = web::Data::new(console::start(&ops.clone().into_inner(), settings));
    let operations = HttpServer::new(move || {
        App::new()
            .app_data(ops.clone())
            .app_data(console.clone())
            .app_data(prepared.clone())
            .configure(ops::routes)
            .configure(console::routes)
            .configure(openapi::operations_routes)
            .default_service(web::route().to(unknown_path))
            .wrap(from_fn(ops::access::guard))
            .wrap(from_fn(border))
            .wrap(TracingLogger::<AccessLog>::new())
    });
    let operations = limited!(operations, &settings.server, OPS_WORKERS);

    let public = public.listen(listener).map_err(failed("server.bind", addr))?.run();
    let operations = operations.listen(ops_listener).map_err(failed("ops.bind", ops_addr))?.run();
    let listeners = [
        (public.handle(), Handle::current().spawn(public)),
        (operations.handle(), Handle::current().spawn(operations)),
    ];
    let poll = parts.changes.clone().poll(parts.application.clone(), settings.events.poll_interval);
    let stop = parts.shutdown.token();
    drop(parts.shutdown.tasks().spawn(async move { stop.run_until_cancelled(poll).await }));
    let (application, stop) = (parts.application.clone(), parts.shutdown.token());
    drop(parts.shutdown.tasks().spawn(async move { application.take_up_callbacks(&stop).await }));
    let changes = parts.changes.clone();
    parts.application.on_ended(move |order| changes.tell(order));
    let stop = parts.shutdown.token();
    drop(parts.shutdown.tasks().spawn(async move { stop.run_until_cancelled(keys).await }));
    tracing::info!(%addr, %ops_addr, "listening");
    Ok(Running {
        addr,
        ops_addr,
        listeners,
        shutdown: parts.shutdown.clone(),
        grace: settings.server.shutdown_grace,
    })
}

fn failed(key: &'static str, address: SocketAddr) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Listen { key, address, source }
}

fn listen(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = TcpListener::bind(address).map_err(failed(key, address))?;
    let address = listener.local_addr().map_err(failed(key, address))?;
    Ok((listener, address))
}

fn api_state(parts: &Parts, settings: &Settings, proxies: Arc<Proxies>) -> Result<ApiState, AuthError> {
    Ok(ApiState {
        runner: Runner::new(parts.application.clone(), parts.shutdown.clone()),
        authenticator: Authenticator::new(&settings.auth, proxies)?,
        limiter: Limiter::new(&settings.rate_limit),
        body_limits: body_limits(&settings.server),
        orders: Arc::new(Semaphore::new(settings.orders.max_in_flight)),
        response_deadline: settings.orders.response_deadline,
        self_charge: settings.points.self_charge,
        changes: parts.changes.clone(),
        readers: Arc::new(Semaphore::new(settings.database.pool_size.div_ceil(2))),
        repeats: Default::default(),
        streams: Arc::new(Semaphore::new(settings.events.max_streams)),
        heartbeat: settings.events.heartbeat_interval,
    })
}

fn ops_state(parts: &Parts, settings: &Settings) -> OpsState {
    OpsState {
        runner: Runner::new(parts.application.clone(), parts.shutdown.clone()),
        body_limits: body_limits(&settings.server),
        token: settings.ops.token.clone(),
        circuits: Arc::clone(&parts.circuits),
        publish_metrics: Arc::clone(&parts.publish_metrics),
        metrics: Arc::clone(&parts.metrics),
    }
}

/// Lets pages of the allowed origins call the API; without any there are no CORS headers at all.
fn cors(origins: &[Origin]) -> Condition<Cors> {
    let cors = origins.iter().fold(Cors::default(), |cors, origin| cors.allowed_origin(origin.as_str()));
    let cors = cors
        .allowed_methods(["GET", "POST"])
        .allowed_headers([
            "accept",
            "accept-language",
            "authorization",
            "content-type",
            "idempotency-key",
            "last-event-id",
            "x-request-id",
            "x-user-id",
        ])
        .expose_headers(["idempotency-replayed", "location", "retry-after", "x-request-id"])
        .block_on_origin_mismatch(false)
        .max_age(3600);
    Condition::new(!origins.is_empty(), cors)
}

const fn head_limits(settings: &ServerSettings) -> HeadLimits {
    HeadLimits { max_size: settings.max_head_size, max_headers: settings.max_headers }
}

/// A body may take as long to come as a head.
const fn body_limits(settings: &ServerSettings) -> BodyLimits {
    BodyLimits { max_size: settings.max_body_size, timeout: settings.client_request_timeout }
}
