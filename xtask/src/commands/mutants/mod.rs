//! `mutants`: the known bugs of payment code that the simulation must find (spec 04).
//!
//! No product code bears a switch for them. A bug is a named edit: a text that stands once in a source file, and what
//! stands there instead. The edits of all of them are made in a copy of the sources under `target/`, each beside the
//! original and behind a switch that only the copy has; it is built once, and each bug is looked for with a plan of its own:
//! the faults that lead to it, so that finding it is no luck. Without any of them the copy must find nothing.

mod edits;
mod scratch;
mod table;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, Group};
use crate::workspace;

/// A known bug.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mutant {
    /// What it is called.
    pub(super) name: &'static str,
    /// What is wrong.
    pub(super) what: &'static str,
    /// The simulation's arguments with which it is likely to show.
    pub(super) plan: &'static str,
    /// Where it stands.
    pub(super) edits: &'static [Edit],
}

/// A change of a source file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    /// The file, from the root.
    pub(super) file: &'static str,
    /// A text that stands in it once.
    pub(super) find: &'static str,
    /// What stands there instead: `ORIGINAL` is the text that was found, `BUG` is true when the bug is switched on.
    pub(super) replace: &'static str,
}

/// A seed that failed, and what it broke first.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    seed: u64,
    broken: String,
}

/// Whatever a bug does to it, a run of the simulation has ended by then.
const LIMIT: Duration = Duration::from_mins(10);
const STOP_GRACE: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these
    names: Vec<String>,
    /// How many seeds a bug has to be found in
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// By how many of them it must be found, so that it is no luck
    #[arg(long, default_value_t = 3)]
    kills: usize,
    /// List them
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let all: Vec<&Mutant> = table::ALL.iter().copied().flatten().collect();
    if args.list {
        all.iter().for_each(|mutant| println!("{:<26} {}", mutant.name, mutant.what));
        return Ok(());
    }
    let wanted = |mutant: &&&Mutant| {
        args.names.is_empty() || args.names.iter().any(|name| name.eq_ignore_ascii_case(mutant.name))
    };
    let chosen: Vec<&Mutant> = all.iter().filter(wanted).copied().collect();
    if chosen.is_empty() {
        bail!("no such bug: `--list` names them");
    }
    let root = workspace::root()?;
    let scratch = root.join("target/mutants");
    let program = scratch::build(&root, &scratch, &all)?;
    let sound = simulate(&program, &scratch, None, &["--seeds", "200", "--brief"])?;
    if let Some(one) = sound.first() {
        bail!("without any bug the copy fails: seed {} breaks {}", one.seed, one.broken);
    }
    let mut alive = Vec::new();
    for mutant in &chosen {
        let (seeds, kills) = (args.seeds.to_string(), args.kills.to_string());
        let mut arguments = vec!["--seeds", &seeds, "--failures", &kills, "--twice", "0", "--brief"];
        arguments.extend(mutant.plan.split_whitespace());
        let mut found = simulate(&program, &scratch, Some(mutant.name), &arguments)?;
        found.truncate(args.kills);
        let told: Vec<String> = found.iter().map(|one| format!("{} ({})", one.seed, one.broken)).collect();
        let told = told.join(", ");
        if found.len() < args.kills {
            alive.push(mutant.name);
            println!("{:<26} ALIVE: {} of {seeds} seeds [{told}] {}", mutant.name, found.len(), mutant.what);
        } else {
            println!("{:<26} killed by seeds {told}", mutant.name);
        }
        innocent(&program, &scratch, mutant, &found)?;
        if process::interrupted() {
            bail!("interrupted");
        }
    }
    println!(
        "{} of {} known bugs are each found by at least {} of {} seeds",
        chosen.len() - alive.len(),
        chosen.len(),
        args.kills,
        args.seeds
    );
    if !alive.is_empty() {
        bail!("not found: {}", alive.join(", "));
    }
    Ok(())
}

/// It was the bug: without it the same seeds break nothing.
fn innocent(program: &Path, scratch: &Path, mutant: &Mutant, found: &[Found]) -> Result<()> {
    for one in found {
        let seed = one.seed.to_string();
        let mut arguments = vec!["--from", &seed, "--seeds", "1", "--brief"];
        arguments.extend(mutant.plan.split_whitespace());
        if let Some(broken) = simulate(program, scratch, None, &arguments)?.first() {
            bail!("with the plan of {} seed {seed} breaks {} without it, too", mutant.name, broken.broken);
        }
    }
    Ok(())
}

/// Every edit finds its text, once; nothing is built.
pub(crate) fn check_repository(root: &Path) -> Result<()> {
    let all: Vec<&Mutant> = table::ALL.iter().copied().flatten().collect();
    let edited = edits::apply(&all, |file| {
        fs::read_to_string(root.join(file)).with_context(|| format!("could not read {file}"))
    })?;
    println!("{} known bugs can be put into {} files", all.len(), edited.len());
    Ok(())
}

/// Runs the simulation with one bug switched on: the seeds that failed, and what each of them broke.
fn simulate(program: &Path, scratch: &Path, bug: Option<&str>, arguments: &[&str]) -> Result<Vec<Found>> {
    let output: PathBuf = scratch.join("output.txt");
    let mut command = std::process::Command::new(program);
    command.args(arguments).env_remove(edits::VARIABLE);
    command.stdout(File::create(&output).context("could not write the output")?);
    // It tells how far it is.
    command.stderr(File::create(scratch.join("progress.txt")).context("could not write the output")?);
    if let Some(bug) = bug {
        command.env(edits::VARIABLE, bug);
    }
    let mut group = Group::spawn(&mut command)?;
    let mut status = None;
    let ended = process::wait_until(LIMIT, || {
        status = group.try_wait().ok().flatten();
        status.is_some()
    });
    if !ended {
        group.stop(STOP_GRACE)?;
        bail!("the simulation of {} did not end", bug.unwrap_or("no bug"));
    }
    let text = fs::read_to_string(&output).context("could not read the output")?;
    let failed: Vec<Found> = text.lines().filter_map(failure).collect();
    let success = status.is_some_and(|status| status.success());
    if success != failed.is_empty() {
        bail!("the simulation of {} ended without a verdict: {}", bug.unwrap_or("no bug"), scratch.display());
    }
    Ok(failed)
}

/// Reads `seed 17: I8: 700 won were charged`.
fn failure(line: &str) -> Option<Found> {
    let (seed, rest) = line.strip_prefix("seed ")?.split_once(": ")?;
    let (broken, _) = rest.split_once(": ")?;
    Some(Found { seed: seed.parse().ok()?, broken: broken.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_known_bug_can_be_put_into_the_present_sources() {
        check_repository(&workspace::root().unwrap()).unwrap();
    }

    #[test]
    fn plans_name_kinds_of_faults_that_exist() {
        let kinds = fs::read_to_string(workspace::root().unwrap().join("crates/sim/src/kinds.rs")).unwrap();
        let mut names = BTreeSet::new();
        for mutant in table::ALL.iter().copied().flatten() {
            assert!(names.insert(mutant.name), "{} twice", mutant.name);
            assert!(mutant.what.ends_with('.') && !mutant.edits.is_empty(), "{}", mutant.name);
            let mut words = mutant.plan.split_whitespace();
            while let Some(word) = words.next() {
                let value = words.next().unwrap();
                if matches!(word, "--with" | "--only" | "--without") {
                    for kind in value.split(',') {
                        assert!(kinds.contains(&format!(" {kind} \"")), "{}: no kind {kind}", mutant.name);
                    }
                }
            }
        }
        assert!(names.len() >= 42);
    }

    #[test]
    fn a_failed_seed_is_told_with_what_it_broke() {
        let found = Found { seed: 17, broken: "I8".to_owned() };
        assert_eq!(failure("seed 17: I8: 700 won were charged: x"), Some(found));
        assert_eq!(failure("seed 17 breaks:"), None);
        assert_eq!(failure("0 violations"), None);
    }
}
