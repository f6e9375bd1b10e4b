//! `cargo xtask`: the commands of this repository's developers, in Rust so that they need nothing but cargo and PostgreSQL.
//!
//! One file per command under `commands/`; beside it what several of them need: the private PostgreSQL cluster
//! (`cluster`), child processes and signals (`process`), named and timed steps (`steps`), the repository's paths and
//! crates (`workspace`), the JSON calls to the programs (`http`), load at a fixed rate (`load`), scrapes (`scrape`), a
//! program that is started for a command (`program`), and a whole system for one command alone (`private`).
//!
//! No product code: nothing of a binary depends on this crate, and it depends on no crate of the workspace, so that
//! it is built in seconds on a fresh machine and still runs when the workspace doesn't compile.

#![expect(
    clippy::disallowed_methods,
    reason = "a command line tool: it reads the machine's clock and environment, and no test moves its time"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cluster;
mod commands;
#[cfg(test)]
mod deploy;
mod http;
mod load;
mod monitoring;
mod private;
mod process;
mod program;
mod running;
mod scrape;
mod steps;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Commands for developers of Holdfast")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole system on this machine: PostgreSQL, simulated gateway, app-server, reconciler
    Up(commands::up::Args),
    /// Place orders of every kind with the running system and follow each to its end
    Demo(commands::demo::Args),
    /// Check the invariants in the database, and our books against the simulated gateway's
    Audit(commands::audit::Args),
    /// Run every test on a private PostgreSQL cluster that is started for it and stopped after it
    Test(commands::test::Args),
    /// Run the checks: fmt, tidy, arch, clippy
    Check,
    /// Hold the table of tested faults in docs/guarantees.md against the tests
    Coverage(commands::coverage::Args),
    /// Run `check` and then `test`: what continuous integration runs
    Ci,
    /// Look after the private PostgreSQL cluster that `up` uses
    #[command(subcommand)]
    Db(commands::db::Command),
    /// Kill, stop and cut off real processes under load, then check that nothing was lost
    Chaos(commands::chaos::Args),
    /// Look at every page of the running system's console in chromium, and follow what an operator does there
    Browser,
    /// Drive a small system of its own through everything that is counted, and hold its metrics against documents,
    /// dashboard and alert rules
    Metrics,
    /// Hold the crates' dependencies against the arrows of the architecture
    Arch,
    /// Check the rules that a search for strings can check
    Tidy,
    /// Simulate the whole shop under every fault, in virtual time (`--help` tells more)
    Sim(commands::sim::Args),
    /// Put known bugs of payment code into a copy of the sources, and show which seeds of the simulation find each
    Mutants(commands::mutants::Args),
    /// Run a benchmark
    #[command(subcommand)]
    Bench(commands::bench::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let run = || {
        process::catch_interrupts()?;
        match cli.command {
            Command::Up(args) => commands::up::run(&args),
            Command::Audit(args) => commands::audit::run(&args),
            Command::Demo(args) => commands::demo::run(&args),
            Command::Test(args) => commands::test::run(&args),
            Command::Chaos(args) => commands::chaos::run(&args),
            Command::Check => commands::test::check(),
            Command::Coverage(args) => commands::coverage::run(&args),
            Command::Ci => commands::test::ci(),
            Command::Db(command) => commands::db::run(&command),
            Command::Browser => commands::browser::run(),
            Command::Metrics => commands::metrics::run(),
            Command::Arch => commands::arch::run(),
            Command::Tidy => commands::tidy::run(),
            Command::Sim(args) => commands::sim::run(&args),
            Command::Mutants(args) => commands::mutants::run(&args),
            Command::Bench(command) => commands::bench::run(&command),
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
