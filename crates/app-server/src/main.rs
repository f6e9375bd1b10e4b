//! The app-server: serves orders. Without a subcommand it runs until it is stopped.

use app_server::{CircuitBody, CircuitCommand, Circuits, OrderChanges, Parts};
use bootstrap::cli::ConfigArgs;
use bootstrap::shutdown::Shutdown;
use bootstrap::wiring::{self, OrderNotice, System};
use clap::{Parser, Subcommand, ValueEnum};
use futures_util::FutureExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;

/// Order and payment service that stays correct when the payment gateway is slow, down, lying or silent
#[derive(Debug, Parser)]
#[command(name = "app-server", version)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply the database migrations that are missing, and exit
    Migrate,
    /// Print an OpenAPI document, and exit
    Openapi {
        /// Which API
        #[arg(value_enum, default_value_t = Api::Public)]
        api: Api,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Api {
    /// The public API
    Public,
    /// The operations API
    Operations,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Openapi { api }) = cli.command {
        let document = match api {
            Api::Public => app_server::openapi::public_document(),
            Api::Operations => app_server::openapi::operations_document(),
        };
        print!("{}", app_server::openapi::text(&document));
        return ExitCode::SUCCESS;
    }
    let started = match bootstrap::start(&cli.config, "app-server", env!("CARGO_PKG_VERSION")) {
        Ok(started) => started,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(error.into())),
    };
    let done = match cli.command {
        Some(Command::Migrate) => runtime.block_on(migrate(&started)),
        Some(Command::Openapi { .. }) | None => runtime.block_on(serve(&started)),
    };
    // What the grace period left is the reconciler's.
    runtime.shutdown_background();
    ended(done)
}

fn ended(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn migrate(started: &bootstrap::Started) -> anyhow::Result<()> {
    let applied = wiring::migrate(&started.settings).await?;
    tracing::info!(count = applied.len(), ?applied, "migrations applied");
    Ok(())
}

async fn serve(started: &bootstrap::Started) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let system = wiring::build(&started.settings)?;
    let metrics = started.metrics.clone();
    shutdown.tasks().spawn(metrics.clone().upkeep(shutdown.token()));
    let changes = OrderChanges::new();
    listen_for_orders(&started.settings, &shutdown, changes.clone())?;
    let publishing = system.clone();
    let parts = Parts {
        application: system.application.clone(),
        circuits: Arc::new(SystemCircuits(system)),
        publish_metrics: Arc::new(move || {
            let system = publishing.clone();
            async move { system.publish_metrics().await }.boxed()
        }),
        metrics: Arc::new(move || metrics.text()),
        changes,
        shutdown: shutdown.clone(),
    };
    let mut running = app_server::start(&parts, &started.settings)?;
    let stopping = shutdown.token();
    tokio::select! {
        () = stopping.cancelled() => {}
        () = running.failed() => anyhow::bail!("a listener ended"),
    }
    let drained = running.stop().await;
    tracing::info!(?drained, "stopped");
    Ok(())
}

/// Tells those who wait for an order's end what other processes settle.
fn listen_for_orders(
    settings: &bootstrap::settings::Settings,
    shutdown: &Shutdown,
    changes: OrderChanges,
) -> anyhow::Result<()> {
    let listener = wiring::order_listener(settings)?;
    let mut notices = listener.subscribe();
    let (stop, stopping) = (shutdown.token(), shutdown.token());
    shutdown.tasks().spawn(async move { stop.run_until_cancelled(listener.run()).await });
    shutdown.tasks().spawn(async move {
        while let Some(notice) = stopping.run_until_cancelled(notices.recv()).await {
            match notice {
                Ok(OrderNotice::Ended(order)) => changes.tell(order),
                // What was missed meanwhile is seen by looking.
                Ok(OrderNotice::Reconnected) | Err(RecvError::Lagged(_)) => changes.tell_all(),
                Err(RecvError::Closed) => break,
            }
        }
    });
    Ok(())
}

/// The circuits of the gateway's adapter.
struct SystemCircuits(System);

macro_rules! body {
    ($view:expr) => {{
        let view = $view;
        CircuitBody {
            name: view.name,
            state: view.state.to_owned(),
            failure_rate: view.failure_rate,
            slow_call_rate: view.slow_call_rate,
            buffered_calls: view.buffered_calls,
            not_permitted_calls: view.not_permitted_calls,
            retry_after: view.retry_after,
        }
    }};
}

impl Circuits for SystemCircuits {
    fn list(&self) -> Vec<CircuitBody> {
        self.0.circuits.list().into_iter().map(|view| body!(view)).collect()
    }

    fn set(&self, name: &str, command: CircuitCommand) -> Option<CircuitBody> {
        self.0.circuits.set(name, command.as_str()).ok().map(|view| body!(view))
    }
}
