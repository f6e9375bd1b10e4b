//! `chaos`: real processes under every fault, then quiet, then the audit.
//!
//! The work is done by the program `chaos` of `crates/chaos`; this brings what it needs: the programs, built, and a
//! PostgreSQL cluster of its own that it may stop without warning and that keeps what was committed all the same.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::{Kind, Running};
use crate::private;
use crate::process::{self, Group};
use crate::workspace;

/// It ends its processes by itself when it is told to.
const STOP_GRACE: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how long things break; then come up to eight minutes of quiet
    #[arg(long)]
    minutes: Option<f64>,
    /// Orders a second
    #[arg(long)]
    rate: Option<f64>,
    /// Repeats the orders and faults of another run
    #[arg(long)]
    seed: Option<u64>,
    /// The drill, and half a minute of faults: what `test` runs
    #[arg(long, conflicts_with_all = ["minutes", "rate", "drill"])]
    quick: bool,
    /// Only the drill: kill -9 of the app-server in the middle of 100 orders, then `reconciler once` until quiet
    #[arg(long, conflicts_with_all = ["minutes", "rate"])]
    drill: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            arguments.extend([name.to_owned(), value]);
        }
    };
    option("--minutes", args.minutes.map(|minutes| minutes.to_string()));
    option("--rate", args.rate.map(|rate| rate.to_string()));
    option("--seed", args.seed.map(|seed| seed.to_string()));
    arguments.extend(args.quick.then(|| "--quick".to_owned()));
    arguments.extend(args.drill.then(|| "--drill".to_owned()));
    start(&workspace::root()?, &arguments, !args.quick && !args.drill)
}

/// The step of `test`.
pub(crate) fn quick(root: &Path) -> Result<()> {
    start(root, &["--quick".to_owned()], false)
}

/// `release`: where times are judged, the programs are those that are shipped, and leave the machine to what is tested.
fn start(root: &Path, arguments: &[String], release: bool) -> Result<()> {
    let binaries = private::build(root, release)?;
    let target = binaries.parent().context("the programs' folder has no parent")?;

    let running = Running::fresh(root, "chaos", Kind::Expendable)?;
    let cluster = running.cluster();
    let mut command = Command::new(binaries.join("chaos"));
    command.current_dir(root);
    command.arg("--postgres").arg(cluster.url("postgres").context("the cluster went away")?);
    command.arg("--postgres-bin").arg(cluster.program(""));
    command.arg("--postgres-data").arg(cluster.data());
    command.arg("--postgres-log").arg(cluster.log_file());
    if let Some((uid, gid)) = cluster.account() {
        command.arg("--postgres-account").arg(format!("{uid}:{gid}"));
    }
    command.arg("--binaries").arg(&binaries).arg("--folder").arg(target.join("chaos"));
    command.arg("--auditor").arg(std::env::current_exe().context("this program has no path")?);
    let mut group = Group::spawn(command.args(arguments))?;
    loop {
        if let Some(status) = group.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("chaos: {status}");
        }
        if process::interrupted() {
            group.stop(STOP_GRACE)?;
            bail!("interrupted");
        }
        std::thread::sleep(process::POLL);
    }
}
