//! The yardstick: what the database does alone, by pgbench scripts over a minimal schema of the same shop, in a database
//! beside the service's in the same cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::usage;
use super::wire::Scenario;
use crate::cluster::Cluster;
use crate::process::{self, Group};

const DATABASE: &str = "yardstick";
/// The scripts' ids are `base`, a hundred million for each client, and a count: runs must not meet.
const BASES_APART: u64 = 10_000_000_000_000;
/// Beyond its seconds a run connects and disconnects.
const SLACK: Duration = Duration::from_secs(60);
/// A script that makes rows, for so long, before anything is measured.
const WARM_UP: u32 = 1;
/// pgbench's connections, beside all others of the cluster.
pub(super) const MOST_CLIENTS: u32 = 200;

/// The scripts that a scenario is held against.
pub(super) fn of(scenario: Scenario) -> &'static [&'static str] {
    match scenario {
        Scenario::Point => &["tx1_naive", "tx1_cte_safe"],
        Scenario::Card => &["life_naive", "life_opt"],
        Scenario::Hot => &["hot_last_pipe"],
        Scenario::Mixed => &[],
    }
}

/// One run of a script.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Transactions a second.
    pub(super) rate: f64,
    /// Milliseconds, on average.
    pub(super) latency: f64,
    /// CPU of PostgreSQL for one, in microseconds; opening the connections is in it.
    pub(super) database: f64,
}

/// The scripts, on a database that is filled and analysed.
pub(super) struct Yardsticks {
    scripts: PathBuf,
    pgbench: PathBuf,
    url: String,
    log: PathBuf,
    postmaster: u32,
    base: u64,
}

/// The folder of the scripts: what was asked for, or `../shared/perf` beside the checkout. None, and why is said, when
/// there are none and none were asked for.
pub(super) fn find(root: &Path, asked: Option<&Path>) -> Result<Option<PathBuf>> {
    let beside = root.join("../shared/perf");
    let folder = asked.unwrap_or(&beside);
    for folder in [folder.join("sql"), folder.to_path_buf()] {
        if folder.join("schema.sql").is_file() {
            return Ok(Some(folder));
        }
    }
    if asked.is_some() {
        bail!("{} has no schema.sql, and no sql/schema.sql", folder.display());
    }
    println!(
        "no yardstick: there are no scripts in {} (--perf, or HOLDFAST_PERF, names another folder); \
         the service is measured alone",
        beside.display()
    );
    Ok(None)
}

impl Yardsticks {
    /// Makes and fills the database; logs go to `folder`.
    pub(super) fn prepare(cluster: &Cluster, scripts: PathBuf, folder: &Path) -> Result<Self> {
        let mut server = cluster.connect("postgres")?;
        server.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
        // The schema's script sets this role's search path; the cluster's own role has another name.
        server.batch_execute("CREATE ROLE postgres")?;
        let mut yardsticks = Self {
            pgbench: cluster.program("pgbench"),
            url: cluster.url(DATABASE).context("the cluster went away")?,
            log: folder.join("pgbench.log"),
            postmaster: cluster.postmaster().context("the cluster went away")?,
            scripts,
            base: BASES_APART,
        };
        let mut psql = Command::new(cluster.program("psql"));
        psql.args(["--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-f"]);
        psql.arg(yardsticks.scripts.join("schema.sql")).arg(&yardsticks.url);
        yardsticks.run_to_end(&mut psql, SLACK)?;
        // As with the service: no plan is made while tables are empty.
        for script in ["tx1_naive", "life_opt"] {
            yardsticks.measure(script, 8, WARM_UP)?;
        }
        cluster.connect(DATABASE)?.batch_execute("VACUUM ANALYZE")?;
        Ok(yardsticks)
    }

    /// Runs a script.
    pub(super) fn measure(&mut self, script: &str, clients: u32, seconds: u32) -> Result<Mark> {
        let before = usage::of_family(self.postmaster)?;
        self.base += BASES_APART;
        let mut command = Command::new(&self.pgbench);
        command.args(["-n", "-M", "prepared", "-j", if clients > 1 { "2" } else { "1" }]);
        command.args(["-c", &clients.to_string(), "-T", &seconds.to_string(), "-D", "n=0"]);
        command.arg("-D").arg(format!("base={}", self.base));
        command.arg("-f").arg(self.scripts.join(format!("{script}.sql")));
        command.arg(&self.url).env("PGOPTIONS", "-c search_path=hf");
        let output = self.run_to_end(&mut command, SLACK + Duration::from_secs(seconds.into()))?;
        let used = usage::of_family(self.postmaster)?.saturating_sub(before);
        let said = parse(&output).with_context(|| format!("{} has no result", self.log.display()))?;
        ensure!(said.done > 0.0, "{script} did nothing: {} says why", self.log.display());
        let database = used.as_secs_f64() * 1e6 / said.done;
        Ok(Mark { rate: said.rate, latency: said.latency, database })
    }

    /// What the program printed.
    fn run_to_end(&self, command: &mut Command, limit: Duration) -> Result<String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = std::fs::File::create(&self.log)
            .with_context(|| format!("could not write {}", self.log.display()))?;
        command.stdout(file.try_clone().context("could not share a file")?).stderr(file);
        let mut group = Group::spawn(command)?;
        process::wait_until(limit, || !matches!(group.try_wait(), Ok(None)));
        match group.try_wait()? {
            Some(status) if status.success() => std::fs::read_to_string(&self.log)
                .with_context(|| format!("could not read {}", self.log.display())),
            Some(status) => bail!("{name} failed ({status}): {} says why", self.log.display()),
            None if process::interrupted() => bail!("interrupted"),
            None => bail!("{name} does not end: {} may say why", self.log.display()),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Said {
    rate: f64,
    latency: f64,
    done: f64,
}

/// What pgbench prints at its end.
fn parse(output: &str) -> Option<Said> {
    let number = |start: &str| {
        let rest = output.lines().find_map(|line| line.strip_prefix(start))?;
        rest.split([' ', '/']).next()?.parse().ok()
    };
    Some(Said {
        rate: number("tps = ")?,
        latency: number("latency average = ")?,
        done: number("number of transactions actually processed: ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_were_asked_for_must_be_there_and_others_need_not() {
        let nowhere = Path::new("/nowhere/at/all");
        let error = find(nowhere, Some(nowhere)).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/at/all has no schema.sql, and no sql/schema.sql");
        assert_eq!(find(nowhere, None).unwrap(), None);
    }

    #[test]
    fn pgbenchs_result_is_read() {
        let output = "pgbench (15.18)\nnumber of transactions actually processed: 4242\n\
                      number of failed transactions: 0 (0.000%)\nlatency average = 16.842 ms\n\
                      initial connection time = 60.1 ms\ntps = 1900.123456 (without initial connection time)\n";
        assert_eq!(parse(output), Some(Said { rate: 1_900.123_456, latency: 16.842, done: 4_242.0 }));
        assert_eq!(parse("pgbench: error: connection failed\n"), None);
    }
}
