//! The reconciler: brings payments that nobody settled to their end, as a sidecar (`run`), from cron (`once`), or for one
//! payment (`sync`).
//!
//! Any number of instances run side by side; they share the work by claims in the database. Deliberately absent: any
//! rule about payments, which are in `domain` and `application`.

mod operations;
mod report;
mod schedule;

use application::Application;
use bootstrap::cli::ConfigArgs;
use bootstrap::settings::Settings;
use bootstrap::shutdown::{Drained, Shutdown};
use bootstrap::telemetry::Metrics;
use bootstrap::wiring;
use clap::{Parser, Subcommand};
use domain::PaymentId;
use domain::ports::Cause;
use schedule::Schedule;
use std::error::Error;
use std::process::ExitCode;

/// Settles payments that neither the gateway's answer nor its callback has settled.
#[derive(Debug, Parser)]
#[command(name = "reconciler", version, about)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Turn on the cron expression `reconciler.schedule` until stopped (the default)
    Run,
    /// One full turn, for cron: exit 0, or 1 when a payment could not be examined
    Once {
        /// Print the summary as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Ask the gateway about one payment now and settle it: exit 0 when it has ended
    Sync {
        /// The payment's id
        #[arg(value_name = "PAYMENT_ID")]
        payment_id: i64,
        /// Print the payment as one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = match bootstrap::start(&arguments.config, "reconciler", env!("CARGO_PKG_VERSION")) {
        Ok(started) => started,
        Err(code) => return code,
    };
    match dispatch(arguments.command.unwrap_or(Command::Run), &started.settings, started.metrics).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = &*error as &dyn Error, "the reconciler ends");
            eprintln!("reconciler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command, settings: &Settings, metrics: Metrics) -> anyhow::Result<ExitCode> {
    let system = wiring::build(settings)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    match command {
        Command::Run => run(settings, system, metrics, &shutdown).await,
        Command::Once { json } => {
            let turn = system.application.reconcile(&shutdown.token()).await?;
            report::print_turn(&turn, json)?;
            system.sweep().await;
            Ok(if turn.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Sync { payment_id, json } => sync(&system.application, payment_id, json).await,
    }
}

/// Turns until the shutdown begins; the turn under way is finished within the grace period.
async fn run(
    settings: &Settings,
    system: wiring::System,
    metrics: Metrics,
    shutdown: &Shutdown,
) -> anyhow::Result<ExitCode> {
    let schedule: Schedule = settings.reconciler.schedule.as_str().parse()?;
    let operations = operations::serve(settings, &system, metrics.clone())?;
    let tasks = shutdown.tasks();
    tasks.spawn(metrics.upkeep(shutdown.token()));
    let stop = shutdown.token();
    tasks.spawn(async move {
        while stop.run_until_cancelled(schedule.next_turn()).await.is_some() {
            match system.application.reconcile(&stop).await {
                Ok(turn) if turn.examined == 0 => tracing::debug!("nothing is due"),
                Ok(turn) => tracing::info!("{}", report::summary(&turn)),
                Err(error) => tracing::error!(error = &error as &dyn Error, "a turn ended early"),
            }
            system.sweep().await;
        }
    });
    tracing::info!(schedule = settings.reconciler.schedule.as_str(), "reconciler runs");
    shutdown.token().cancelled().await;
    let drained = shutdown.drain(settings.server.shutdown_grace).await;
    operations.stop(false).await;
    if let Drained::Abandoned { tasks } = drained {
        tracing::warn!(tasks, "stopped in the middle of a turn; claims end by themselves");
    }
    Ok(ExitCode::SUCCESS)
}

async fn sync(application: &Application, payment_id: i64, json: bool) -> anyhow::Result<ExitCode> {
    let payment_id = PaymentId::new(payment_id)?;
    let Some(synced) = application.sync_payment(payment_id, Cause::Operator).await? else {
        anyhow::bail!("there is no payment {payment_id}");
    };
    report::print_synced(&synced, json)?;
    let ended = synced.payment.record.payment.status().is_terminal();
    Ok(if ended { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
