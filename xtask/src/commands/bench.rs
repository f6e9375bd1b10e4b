//! `bench`: benchmarks that live outside the workspace, because they bring the peers they compare with.

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::{steps, workspace};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// One guarded call: this project's circuit breaker beside others
    Breaker,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let root = workspace::root()?;
    let manifest = match command {
        Command::Breaker => root.join("benches/breaker/Cargo.toml"),
    };
    if !manifest.is_file() {
        bail!("{} is missing", manifest.display());
    }
    let mut cargo = workspace::cargo();
    cargo.current_dir(&root).args(["run", "--release", "--manifest-path"]).arg(manifest);
    steps::check(&mut cargo)?;
    Ok(())
}
