//! The simulator as a program.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use pg_simulator::server::{self, Config};
use pg_simulator::settings::{self, Arguments, Settings};
use rand::TryRng as _;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = match load(&arguments) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("pg-simulator: {error:#}");
            return ExitCode::from(2);
        }
    };
    if arguments.check_config {
        println!("the configuration is valid");
        return ExitCode::SUCCESS;
    }
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pg-simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(arguments: &Arguments) -> anyhow::Result<Settings> {
    // Short enough to be typed again.
    let seed = rand::rngs::SysRng.try_next_u32().context("cannot draw a random seed")?;
    Ok(Settings::load(arguments, std::env::vars(), u64::from(seed))?)
}

#[tokio::main]
async fn run(settings: Settings) -> anyhow::Result<()> {
    settings::init_logging(settings.log.format).context("cannot set up logging")?;
    // Before listening: a signal must never meet the default action, which would end the process without its exit code.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let seed = settings.knobs.seed;
    let simulator = server::start(Config { bind: settings.bind, knobs: settings.knobs }).await?;
    tracing::info!(addr = %simulator.addr(), seed, "payment gateway simulator listens");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    simulator.stop().await;
    Ok(())
}
