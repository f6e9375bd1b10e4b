//! `sim`: the simulation of the whole shop, built with optimisation.

use anyhow::Result;

use crate::{steps, workspace};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What the simulation takes: `--seeds 20000`, `--seed 4711 --trace`, `--help` ...
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(workspace::root()?).args(["run", "--quiet", "--profile", "sim", "-p", "sim"]);
    cargo.arg("--").args(&args.arguments);
    steps::check(&mut cargo)?;
    Ok(())
}
