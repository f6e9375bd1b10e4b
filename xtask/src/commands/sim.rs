//! `sim` and `mutants`: the simulation of the whole shop, built with optimisation.

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
    simulation(&[], &args.arguments)
}

/// Every known bug of spec 04 that can be switched on, and the seed that finds it.
pub(crate) fn mutants(args: &Args) -> Result<()> {
    let mut arguments = vec!["--mutants".to_owned(), "--seeds".to_owned(), "2000".to_owned()];
    arguments.extend(args.arguments.iter().cloned());
    simulation(&["--features", "mutants"], &arguments)
}

fn simulation(features: &[&str], arguments: &[String]) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(workspace::root()?).args(["run", "--quiet", "--profile", "sim", "-p", "sim"]);
    cargo.args(features).arg("--").args(arguments);
    steps::check(&mut cargo)?;
    Ok(())
}
