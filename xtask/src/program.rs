//! One of the project's programs, started by a command for itself: on a port of its own, with its log in a file, waited for
//! until it can do its work. Dropping it ends it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::http::Http;
use crate::process::{self, Group};

/// A cold start on a machine with much else to do.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// More than the programs' own grace period, so that they end by themselves.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// A program, and its process while there is one.
pub(crate) struct Program {
    name: String,
    command: Command,
    /// Answers 200 when the program can do its work.
    ready: String,
    log: PathBuf,
    process: Option<Group>,
}

impl Program {
    /// Nothing runs yet. `name` names it in messages, and its log in `folder`; `ready` is the address of its readiness.
    pub(crate) fn new(name: &str, mut command: Command, ready: String, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        log_to(&mut command, &log)?;
        Ok(Self { name: name.to_owned(), command, ready, log, process: None })
    }

    /// Sets something in its environment; a process that runs already keeps what it has.
    pub(crate) fn env(&mut self, key: &str, value: &str) {
        self.command.env(key, value);
    }

    /// Starts it; returns when it can do its work.
    pub(crate) fn start(&mut self, http: &Http) -> Result<()> {
        let mut process = Group::spawn(&mut self.command)?;
        let mut ended = None;
        let in_time = process::wait_until(READY_LIMIT, || {
            ended = process.try_wait().ok().flatten();
            ended.is_some() || http.get(&self.ready, None).is_ok_and(|answer| answer.status == 200)
        });
        let Self { name, log, .. } = self;
        match ended {
            Some(status) => bail!("{name} ended by itself ({status}): {} says why", log.display()),
            None if process::interrupted() => bail!("interrupted while {name} was starting"),
            None if !in_time => bail!("{name} is not ready: {} says why", log.display()),
            None => {}
        }
        self.process = Some(process);
        Ok(())
    }

    /// The process's id, if it runs.
    pub(crate) fn pid(&mut self) -> Option<u32> {
        self.process.as_mut().map(|process| process.child().id())
    }

    /// Ends it in good order; an error if it did not end cleanly.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let status = process.stop(STOP_GRACE)?;
        if !status.success() {
            bail!("{} did not stop cleanly ({status}): {} says why", self.name, self.log.display());
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
    }
}

/// Brings a database to the schema of these programs. The log lies in `folder`.
pub(crate) fn migrate(binaries: &Path, settings: &[(String, String)], folder: &Path) -> Result<()> {
    let log = folder.join("migrate.log");
    let mut command = Command::new(binaries.join("app-server"));
    command.arg("migrate").envs(settings.iter().map(|(key, value)| (key, value))).stdin(Stdio::null());
    log_to(&mut command, &log)?;
    let status = command.status().context("could not start app-server migrate")?;
    if !status.success() {
        bail!("app-server migrate failed ({status}): {} says why", log.display());
    }
    Ok(())
}

fn log_to(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("could not write {}", log.display()))?;
    command.stdout(file.try_clone().context("could not share a file")?).stderr(file);
    Ok(())
}

/// A free port below the range from which the system numbers outgoing connections, so that none of those takes it while
/// the program that it belongs to is dead. It is added to `taken`.
pub(crate) fn free_port(taken: &mut Vec<u16>) -> Result<u16> {
    let first = 20_000 + u16::try_from(std::process::id() % 11_000)?;
    for port in (first..32_000).chain(20_000..first) {
        if !taken.contains(&port) && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.push(port);
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 between 20000 and 32000")
}
