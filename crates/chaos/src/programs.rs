//! The programs under test as processes: started, killed, stopped, ended. None outlives this one.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::http::Http;

/// A cold start on a machine with much else to do.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(90);

/// One program: how it is started, and its process while there is one.
pub(crate) struct Program {
    pub(crate) name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
    /// Answers 200 when the program can do its work.
    ready: String,
    /// Both outputs of all its processes.
    pub(crate) log: PathBuf,
    child: Option<Child>,
}

impl Program {
    pub(crate) fn new(name: &str, binary: PathBuf, folder: &Path, ready: String) -> Self {
        Self {
            name: name.to_owned(),
            binary,
            arguments: Vec::new(),
            settings: Vec::new(),
            ready,
            log: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    pub(crate) fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn settings(mut self, settings: &[(String, String)]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("could not write {}", self.log.display()))?;
        let mut command = Command::new(&self.binary);
        command.args(arguments).envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().context("could not share a file")?).stderr(log);
        command.kill_on_drop(true);
        Ok(command)
    }

    /// Starts a process unless there is one.
    pub(crate) fn start(&mut self) -> Result<()> {
        if self.child.is_none() {
            let child = self.command(&self.arguments)?.spawn();
            self.child = Some(child.with_context(|| format!("could not start {}", self.binary.display()))?);
        }
        Ok(())
    }

    /// Runs to its end, with these arguments instead of its own; the log holds what it said.
    pub(crate) async fn run_to_end(&self, arguments: &[&str]) -> Result<ExitStatus> {
        let mut command = self.command(arguments)?;
        command.status().await.with_context(|| format!("could not start {}", self.binary.display()))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // Not waited for yet, so that the number is still this process's.
        let pid =
            self.child.as_ref().and_then(Child::id).with_context(|| format!("{} does not run", self.name))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal)
            .with_context(|| format!("could not signal {} (process {pid})", self.name))
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait().await.context("could not wait for a process")?;
        }
        Ok(())
    }

    /// SIGSTOP, and SIGCONT after `duration`.
    pub(crate) async fn freeze(&mut self, duration: Duration) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        tokio::time::sleep(duration).await;
        self.signal(Signal::SIGCONT)
    }

    /// SIGTERM; None when it had to be killed after `grace`.
    pub(crate) async fn terminate(&mut self, grace: Duration) -> Result<Option<ExitStatus>> {
        self.signal(Signal::SIGTERM)?;
        let Some(mut child) = self.child.take() else { bail!("{} does not run", self.name) };
        if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
            return Ok(Some(status.context("could not wait for a process")?));
        }
        child.kill().await.context("could not kill a process")?;
        Ok(None)
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait().context("could not ask for a process's state")?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Waits until it answers at all, whether or not it can work; how it ended, if it did so instead.
    pub(crate) async fn wait_until_listening(&mut self, http: &Http) -> Result<Option<ExitStatus>> {
        let began = Instant::now();
        while http.get(&self.ready).await.is_err() && began.elapsed() < READY_LIMIT {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(None)
    }

    /// Waits until it says that it can work.
    pub(crate) async fn wait_until_ready(&mut self, http: &Http) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                bail!("{} ended by itself: {status}; see {}", self.name, self.log.display());
            }
            if http.get(&self.ready).await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if began.elapsed() > READY_LIMIT {
                bail!(
                    "{} was not ready within {} s; see {}",
                    self.name,
                    READY_LIMIT.as_secs(),
                    self.log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A free port below the range from which the system numbers outgoing connections, so that none of those takes it while
/// the program that it belongs to is dead.
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
