//! A whole system for one command alone: a PostgreSQL cluster of its own, the simulated gateway, one app-server or two and,
//! if wanted, one reconciler, on free ports of 127.0.0.1. Nothing has to run, and nothing that runs is touched. Each
//! program writes its log to a file. Dropping it ends all of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cluster::{DATABASE, Kind, Running};
use crate::http::Http;
use crate::program::{self, Program};
use crate::{steps, workspace};

/// The second app-server's name in logs and messages.
const SECOND: &str = "app-server-2";

/// What to start.
pub(crate) struct Plan<'a> {
    /// Names the cluster, and the folder of the logs under `target/`.
    pub(crate) name: &'a str,
    /// Where the programs lie.
    pub(crate) binaries: &'a Path,
    /// A second app-server on the same database.
    pub(crate) second: bool,
    pub(crate) reconciler: bool,
    /// For app-servers and reconciler: `HOLDFAST__...` and what it is set to.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

/// The running system. Fields end in the order in which they stand: the database last.
pub(crate) struct Private {
    pub(crate) http: Http,
    pub(crate) api: String,
    pub(crate) ops: String,
    /// The second app-server's API, whether or not there is one.
    pub(crate) second_api: String,
    pub(crate) simulator: String,
    /// Its operations port, whether or not there is one.
    pub(crate) reconciler: String,
    programs: Vec<Program>,
    gateway: Program,
    _database: Running,
}

/// Builds the programs and returns their folder. Always all of them: fewer packages at once need fewer features of what they
/// depend on, and much would be built a second time.
pub(crate) fn build(root: &Path, release: bool) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(root).args([
        "build",
        "-p",
        "app-server",
        "-p",
        "reconciler",
        "-p",
        "pg-simulator",
        "-p",
        "chaos",
    ]);
    cargo.args(release.then_some("--release"));
    steps::check(&mut cargo).context("cargo build")?;
    let target = workspace::metadata(root, &["--no-deps"])?.target_directory;
    Ok(target.join(if release { "release" } else { "debug" }))
}

impl Private {
    /// Starts everything; returns when all of it works.
    pub(crate) fn start(root: &Path, plan: &Plan<'_>) -> Result<Self> {
        let folder = root.join("target").join(plan.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let database = Running::fresh(root, plan.name, Kind::Expendable)?;
        let url = database.cluster().url(DATABASE).context("the cluster went away")?;
        let mut taken = Vec::new();
        let mut address = || program::free_port(&mut taken).map(|port| format!("127.0.0.1:{port}"));
        let (api, ops, simulator, reconciler) = (address()?, address()?, address()?, address()?);
        let (second_api, second_ops) = (address()?, address()?);

        let mut settings = vec![
            ("DATABASE_URL".to_owned(), url),
            ("HOLDFAST__SERVER__BIND".to_owned(), api.clone()),
            ("HOLDFAST__OPS__BIND".to_owned(), ops.clone()),
            ("HOLDFAST__RECONCILER__BIND".to_owned(), reconciler.clone()),
            ("HOLDFAST__PG__BASE_URL".to_owned(), format!("http://{simulator}")),
            ("HOLDFAST__PG__CALLBACK_BASE_URL".to_owned(), format!("http://{api}")),
            ("HOLDFAST__PG__CALLBACK_SECRET".to_owned(), "private-".repeat(8)),
            ("RUST_LOG".to_owned(), "info,actix_server=warn".to_owned()),
        ];
        settings.extend(plan.settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let make = |name: &str, arguments: &[&str], ready: String| -> Result<Program> {
            let mut command =
                Command::new(plan.binaries.join(if name == SECOND { "app-server" } else { name }));
            command.args(arguments);
            if name != "pg-simulator" {
                command.envs(settings.iter().map(|(key, value)| (key, value)));
            }
            Program::new(name, command, ready, &folder)
        };
        // It plays a foreign server: it has settings of its own, and is told nothing of ours.
        let prefix = format!("callback_url_prefix=http://{api}");
        let arguments = ["--bind", &simulator, "--seed", "1", "--set", &prefix];
        let mut gateway =
            make("pg-simulator", &arguments, format!("http://{simulator}/admin/requests?orderId=none"))?;
        let mut programs = vec![make("app-server", &[], format!("http://{ops}/health/ready"))?];
        if plan.second {
            let mut second = make(SECOND, &[], format!("http://{second_ops}/health/ready"))?;
            second.env("HOLDFAST__SERVER__BIND", &second_api);
            second.env("HOLDFAST__OPS__BIND", &second_ops);
            programs.push(second);
        }
        if plan.reconciler {
            programs.push(make("reconciler", &["run"], format!("http://{reconciler}/health/ready"))?);
        }
        program::migrate(plan.binaries, &settings, &folder)?;
        let http = Http::new();
        gateway.start(&http)?;
        for program in &mut programs {
            program.start(&http)?;
        }
        Ok(Self {
            http,
            api: format!("http://{api}"),
            ops: format!("http://{ops}"),
            second_api: format!("http://{second_api}"),
            simulator: format!("http://{simulator}"),
            reconciler: format!("http://{reconciler}"),
            programs,
            gateway,
            _database: database,
        })
    }

    /// From now on connections to the gateway are refused; what it knew is lost.
    pub(crate) fn kill_gateway(&mut self) {
        self.gateway.kill();
    }

    pub(crate) fn start_gateway(&mut self) -> Result<()> {
        self.gateway.start(&self.http)
    }

    /// Ends the programs in good order; the database follows.
    pub(crate) fn stop(mut self) -> Result<()> {
        for program in self.programs.iter_mut().rev() {
            program.stop()?;
        }
        Ok(())
    }
}
