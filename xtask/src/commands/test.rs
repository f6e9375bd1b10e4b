//! `check` and `test`: the steps that decide whether a change may land; `ci` is both.
//!
//! `check` reads the sources, cheapest first; `test` runs everything. It brings its own PostgreSQL cluster and needs
//! nothing that runs already. The tests find the cluster by `HOLDFAST_TEST_DATABASE_URL`, as a superuser who may make databases.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cluster::Running;
use crate::commands::{alerts, arch, chaos, coverage, db, metrics, mutants, tidy};
use crate::steps::{self, Counts, Steps};
use crate::workspace;

/// Where the tests find PostgreSQL.
pub(crate) const DATABASE_VARIABLE: &str = "HOLDFAST_TEST_DATABASE_URL";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this crate's tests (repeatable); no other steps
    #[arg(short, long)]
    package: Vec<String>,
    /// What to hand to `cargo test`, after `--`: a name to filter by, `--nocapture` ...; no other steps
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    let mut steps = Steps::default();
    if args.package.is_empty() && args.arguments.is_empty() {
        test_steps(&root, &mut steps);
    } else {
        on_cluster(&root, &mut steps, |steps, url, _| {
            steps.run("tests", || steps::cargo_test(cargo_test(&root, url).args(selection(args))));
        });
    }
    steps.finish()
}

pub(crate) fn check() -> Result<()> {
    let mut steps = Steps::default();
    check_steps(&workspace::root()?, &mut steps);
    steps.finish()
}

pub(crate) fn ci() -> Result<()> {
    let root = workspace::root()?;
    let mut steps = Steps::default();
    check_steps(&root, &mut steps);
    test_steps(&root, &mut steps);
    steps.finish()
}

fn check_steps(root: &Path, steps: &mut Steps) {
    steps.run("fmt", || steps::check(cargo(root).args(["fmt", "--all", "--check"])));
    steps.run("tidy", || tidy::check_repository(root).map(|()| Counts::default()));
    steps.run("coverage", || coverage::check_repository(root).map(|()| Counts::default()));
    steps.run("mutants", || mutants::check_repository(root).map(|()| Counts::default()));
    steps.run("arch", || arch::check_repository(root).map(|()| Counts::default()));
    steps.run("clippy", || {
        steps::check(cargo(root).args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    steps.run("docs", || {
        let mut doc = cargo(root);
        steps::check(doc.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--workspace", "--no-deps"]))
    });
}

/// Every step of `test`, in order. A new kind of test (a feature that replaces threads, a simulation, a chaos run)
/// gets its step here.
fn test_steps(root: &Path, steps: &mut Steps) {
    on_cluster(root, steps, |steps, url, cluster| {
        steps
            .run("tests", || steps::cargo_test(cargo_test(root, url).args(["--workspace", "--all-targets"])));
        // The programs that must not compile (a gateway call inside a transaction ...) are doc tests.
        steps.run("doc tests", || steps::cargo_test(cargo_test(root, url).args(["--workspace", "--doc"])));
        // The model checker's primitives replace the real ones, so this is a build of its own.
        let loom = ["-p", "adapters-pg", "--lib", "--features", "loom", "breaker::tests::interleavings"];
        steps.run("loom", || steps::cargo_test(cargo_test(root, url).args(loom)));
        steps.run("alert rules", || alerts::check_repository(root).map(|()| Counts::default()));
        steps.run("db check", || db::check(root, cluster.cluster()).map(|()| Counts::default()));
    });
    steps.run("metrics", || metrics::check_live(root).map(|()| Counts::default()));
    // It stops its PostgreSQL without warning, so it has one of its own.
    steps.run("chaos", || chaos::quick(root).map(|()| Counts::default()));
}

/// Runs steps that need the test cluster; it is stopped afterwards, whatever happened in them.
fn on_cluster(root: &Path, steps: &mut Steps, work: impl FnOnce(&mut Steps, &str, &Running)) {
    let mut started = None;
    steps.run("test cluster", || {
        let running = Running::scratch(root, "test")?;
        let url = running.cluster().url("postgres").context("the test cluster went away")?;
        println!("{DATABASE_VARIABLE}={url}");
        started = Some((running, url));
        Ok(Counts::default())
    });
    if let Some((running, url)) = started {
        work(steps, &url, &running);
    }
}

fn cargo(root: &Path) -> Command {
    let mut command = workspace::cargo();
    command.current_dir(root);
    command
}

fn cargo_test(root: &Path, url: &str) -> Command {
    let mut command = cargo(root);
    command.env(DATABASE_VARIABLE, url).args(["test", "--no-fail-fast"]);
    command
}

fn selection(args: &Args) -> Vec<String> {
    let mut arguments = Vec::new();
    if args.package.is_empty() {
        arguments.push("--workspace".to_owned());
    }
    for package in &args.package {
        arguments.extend(["--package".to_owned(), package.clone()]);
    }
    arguments.extend(args.arguments.iter().cloned());
    arguments
}
