//! `bench`: what is measured by hand, because its figures are the machine's.

mod figures;
mod hang;
mod load;
mod orders;
mod streams;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::{steps, workspace};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// One guarded call: this project's circuit breaker beside others
    Breaker,
    /// The shop while the gateway accepts connections and never answers, and while it is dead: a system of its own, built
    /// for release
    Hang(hang::Args),
    /// Buyers who wait for the end of an order on two servers, and thousands of idle event streams on one: a system of its
    /// own, built for release
    Streams(streams::Args),
    /// Orders by points, by card and of one hot product beside what PostgreSQL does alone: rates, times, CPU, round trips;
    /// a system of its own, built for release
    Orders(orders::Args),
    /// Two runs of `orders --json` side by side
    Compare(orders::compare::Args),
    /// The generator of `orders`
    #[command(hide = true)]
    Generate(orders::generator::Args),
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Breaker => breaker(),
        Command::Hang(args) => hang::run(args),
        Command::Streams(args) => streams::run(args),
        Command::Orders(args) => orders::run(args),
        Command::Compare(args) => orders::compare::run(args),
        Command::Generate(args) => orders::generator::run(args),
    }
}

/// Outside the workspace, because it brings the peers it compares with.
fn breaker() -> Result<()> {
    let root = workspace::root()?;
    let manifest = root.join("benches/breaker/Cargo.toml");
    if !manifest.is_file() {
        bail!("{} is missing", manifest.display());
    }
    let mut cargo = workspace::cargo();
    cargo.current_dir(&root).args(["run", "--release", "--manifest-path"]).arg(manifest);
    steps::check(&mut cargo)?;
    Ok(())
}
