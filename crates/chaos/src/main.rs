//! Real processes under every fault that a machine, a network, PostgreSQL and a gateway have to offer, then quiet, then
//! an audit: started by `cargo xtask chaos`, which brings the PostgreSQL cluster.
//!
//! Two app-servers, two reconcilers, the simulated gateway with bad manners, a [`test_support::FaultProxy`] before the
//! gateway and one before PostgreSQL. While buyers place orders, hang up and try again, something breaks every few
//! seconds ([`faults`]). Then everything is made whole, and all must come to rest: every payment ended, the books right
//! among themselves and against the gateway's, nothing that a buyer was told contradicted, no card number anywhere.
//!
//! The seed fixes orders, faults and their order; when exactly each strikes is the machine's.
//!
//! Deliberately absent: hooks in the programs. They are the ones that are shipped, and know nothing of this.

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

mod buyers;
mod canary;
mod database;
mod diary;
mod drill;
mod faults;
mod gateway;
mod http;
mod programs;
mod run;
mod shop;
mod times;
mod verdict;
mod world;

use diary::Diary;

#[derive(Parser)]
#[command(
    name = "chaos",
    about = "Real processes under every fault; use `cargo xtask chaos`, which starts it"
)]
struct Args {
    #[command(flatten)]
    server: database::Server,
    /// Where app-server, reconciler and pg-simulator lie
    #[arg(long, value_name = "FOLDER")]
    binaries: PathBuf,
    /// The program that audits: `PROGRAM audit --database URL --simulator URL`
    #[arg(long, value_name = "PROGRAM")]
    auditor: PathBuf,
    /// For logs and dumps; emptied first
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    kind: Kind,
}

/// What is run.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Kind {
    /// For how long things break
    #[arg(long, default_value_t = 15.0)]
    minutes: f64,
    /// Orders a second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Repeats the orders and faults of another run
    #[arg(long)]
    seed: Option<u64>,
    /// The drill, and half a minute of faults with times shortened further; slowness is told and not judged
    #[arg(long, conflicts_with_all = ["minutes", "rate", "drill"])]
    quick: bool,
    /// Only the drill: kill -9 of the app-server in the middle of 100 orders, then `reconciler once` until quiet
    #[arg(long, conflicts_with_all = ["minutes", "rate"])]
    drill: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result = tokio::select! {
        result = all(&args) => result,
        result = told_to_end() => result.and(Err(anyhow::anyhow!("interrupted"))),
    };
    // Whatever of our processes still runs ends with the runtime, which holds them.
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn told_to_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn all(args: &Args) -> Result<()> {
    if !(args.kind.minutes > 0.0 && args.kind.minutes <= 24.0 * 60.0) {
        bail!("--minutes must be more than 0 and at most a day");
    }
    if !(args.kind.rate > 0.0 && args.kind.rate <= 1000.0) {
        bail!("--rate must be more than 0 and at most 1000");
    }
    if args.folder.exists() {
        std::fs::remove_dir_all(&args.folder)
            .with_context(|| format!("could not empty {}", args.folder.display()))?;
    }
    std::fs::create_dir_all(&args.folder)
        .with_context(|| format!("could not make {}", args.folder.display()))?;
    let seed = args.kind.seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    println!("seed {seed}: `--seed {seed}` repeats these orders and faults");
    let diary = Arc::new(Diary::new());
    if args.kind.drill || args.kind.quick {
        drill::run(args, seed, &diary).await?;
    }
    if !args.kind.drill {
        run::run(args, seed, &diary).await?;
    }
    let violations = diary.violations();
    if violations.is_empty() {
        println!("\n0 violations");
        return Ok(());
    }
    println!("\nviolations:");
    for violation in &violations {
        println!("  {violation}");
    }
    bail!("{} violations; logs are in {}", violations.len(), args.folder.display())
}
