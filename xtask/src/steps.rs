//! Named, timed steps, and the table they end in.
//!
//! A step that fails doesn't keep the others from running: whoever waits for a run wants to know all that is wrong.
//! An interrupt ends the run after the step it hit.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{self, Group};

/// A step that hangs fails by name instead of holding up the machine: a cold build and all tests on two cores fit in.
const STEP_LIMIT: Duration = Duration::from_mins(35);
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What the test programs that cargo ran said in their closing lines, added up.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

struct Record {
    name: String,
    took: Duration,
    error: Option<String>,
}

/// The steps of one run.
#[derive(Default)]
pub(crate) struct Steps {
    records: Vec<Record>,
    counts: Counts,
}

impl Steps {
    /// Runs `work` as the step `name`; skipped when the run was interrupted.
    pub(crate) fn run(&mut self, name: &str, work: impl FnOnce() -> Result<Counts>) {
        if process::interrupted() {
            return;
        }
        println!("\n=== {name}");
        let started = Instant::now();
        let result = work();
        let took = started.elapsed();
        let error = match result {
            Ok(counts) => {
                self.counts.add(counts);
                (counts.failed > 0).then(|| format!("{} tests failed", counts.failed))
            }
            Err(error) => Some(format!("{error:#}")),
        };
        match &error {
            None => println!("=== {name}: ok, {:.1} s", took.as_secs_f64()),
            Some(error) => println!("=== {name}: FAILED after {:.1} s: {error}", took.as_secs_f64()),
        }
        self.records.push(Record { name: name.to_owned(), took, error });
    }

    /// Prints the table and the closing line `N passed, N failed`; an error when a step failed or none ran to its end.
    pub(crate) fn finish(self) -> Result<()> {
        println!();
        for record in &self.records {
            let verdict = if record.error.is_none() { "ok" } else { "FAILED" };
            println!("{:<20} {:>8.1} s  {verdict}", record.name, record.took.as_secs_f64());
        }
        let failed: Vec<&str> = self
            .records
            .iter()
            .filter(|record| record.error.is_some())
            .map(|record| record.name.as_str())
            .collect();
        // A failed step that ran no test (a lint, a build) counts as one, so that the line never looks green.
        let failures = self.counts.failed.max(u64::try_from(failed.len())?);
        if self.counts.passed + failures > 0 {
            println!("\n{} passed, {failures} failed", self.counts.passed);
        }
        if process::interrupted() {
            bail!("interrupted");
        }
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

/// Runs a command whose exit status is the verdict.
pub(crate) fn check(command: &mut Command) -> Result<Counts> {
    let mut group = Group::spawn(command)?;
    wait(&mut group)?;
    Ok(Counts::default())
}

/// Runs a `cargo test`, passes on what it prints, and adds up its closing lines. A run without any test is an error.
pub(crate) fn cargo_test(command: &mut Command) -> Result<Counts> {
    counted(command, std::io::stdout())
}

fn counted(command: &mut Command, mut output: impl Write + Send + 'static) -> Result<Counts> {
    let mut group = Group::spawn(command.stdout(Stdio::piped()))?;
    let stdout = group.child().stdout.take().context("the child has no output to read")?;
    let (send, receive) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        send.send(tee(stdout, &mut output)).ok();
    });
    let ended = wait(&mut group);
    // The child's end closes the pipe, unless a process that a test left behind still holds it.
    let counts = receive.recv_timeout(STOP_GRACE).unwrap_or_default();
    if reader.is_finished() {
        reader.join().ok();
    }
    match ended {
        Ok(()) if counts.passed + counts.failed == 0 => bail!("no test ran"),
        Ok(()) => Ok(counts),
        // The failed tests are the reason, and are told as a number.
        Err(_) if counts.failed > 0 && !process::interrupted() => Ok(counts),
        Err(error) => Err(error),
    }
}

fn wait(group: &mut Group) -> Result<()> {
    let mut ended = None;
    let in_time = process::wait_until(STEP_LIMIT, || match group.try_wait() {
        Ok(None) => false,
        other => {
            ended = Some(other);
            true
        }
    });
    match ended {
        Some(Ok(Some(status))) if status.success() => Ok(()),
        Some(Ok(Some(status))) => bail!("{status}"),
        Some(Err(error)) => Err(error),
        _ => {
            group.stop(STOP_GRACE)?;
            if in_time || process::interrupted() {
                bail!("interrupted");
            }
            bail!("still running after {} minutes: stopped", STEP_LIMIT.as_secs() / 60);
        }
    }
}

fn tee(from: impl Read, to: &mut impl Write) -> Counts {
    let mut counts = Counts::default();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    // A test may print bytes that are no text; they are passed on as they are.
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        to.write_all(&line).ok();
        if let Some(closing) = closing_line(&String::from_utf8_lossy(&line)) {
            counts.add(closing);
        }
        line.clear();
    }
    counts
}

/// Reads `test result: ok. 3 passed; 0 failed; 0 ignored; ...`, coloured or not.
fn closing_line(line: &str) -> Option<Counts> {
    let rest = line.split_once("test result: ")?.1;
    let number = |word: &str| {
        let before = rest.split_once(word)?.0;
        before.rsplit(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
    };
    Some(Counts { passed: number(" passed")?, failed: number(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up_and_everything_is_passed_on() {
        let output = "running 4 tests\n\
                      test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      \u{ff} test result: \u{1b}[31mFAILED\u{1b}[m. 10 passed; 2 failed; 1 ignored; 0 measured\n\
                      no newline at the end";
        let mut passed_on = Vec::new();
        let counts = tee(output.as_bytes(), &mut passed_on);
        assert_eq!(counts, Counts { passed: 14, failed: 2 });
        assert_eq!(passed_on, output.as_bytes());
    }

    #[test]
    fn other_lines_are_no_closing_lines() {
        for line in ["test tests::one ... ok", "test result: ok.", "3 passed; 0 failed", ""] {
            assert_eq!(closing_line(line), None, "{line}");
        }
    }

    #[test]
    fn a_run_with_a_failed_step_is_an_error_that_names_it() {
        let mut steps = Steps::default();
        steps.run("good", || Ok(Counts { passed: 2, failed: 0 }));
        steps.run("bad", || bail!("it broke"));
        steps.run("worse", || Ok(Counts { passed: 2, failed: 1 }));
        assert_eq!(steps.finish().unwrap_err().to_string(), "failed: bad, worse");
    }

    #[test]
    fn a_test_command_without_tests_is_an_error() {
        let error =
            counted(Command::new("sh").args(["-c", "echo nothing here"]), std::io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "no test ran");
        let script = "echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'; exit 101";
        let counts = counted(Command::new("sh").args(["-c", script]), std::io::sink()).unwrap();
        assert_eq!(counts, Counts { passed: 1, failed: 1 });
    }
}
