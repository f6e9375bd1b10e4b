//! Child processes, each in a process group of its own, and the signals that end us.
//!
//! Children get their own group so that Ctrl-C in the terminal reaches this program alone: it then stops them in the
//! order that is right, instead of all of them ending at once. Only groups that were started here are ever signalled.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often something that is waited for is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// From now on Ctrl-C, SIGTERM and SIGHUP are only noted; whoever waits asks [`interrupted`] and cleans up.
pub(crate) fn catch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst))
        .context("could not install the signal handler")
}

/// Whether the user, or whoever started us, wants us to end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Asks `ready` again and again until it is true; false when `limit` has passed or we were told to end.
pub(crate) fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if ready() {
            return true;
        }
        if interrupted() || started.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// A child and the group it leads. Dropping it kills the group: nothing that was started here outlives us.
pub(crate) struct Group {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Group {
    /// Starts `command` as the leader of a new process group, without standard input.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start {}", command.get_program().to_string_lossy()))?;
        Ok(Self { child, ended: None })
    }

    /// The child, to take its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context("could not ask for a child's state")?;
        }
        Ok(self.ended)
    }

    /// Sends `signal` to the whole group, as long as its leader is alive.
    fn signal(&mut self, signal: Signal) {
        if self.ended.is_some() {
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // The group may have ended between the look and the signal: then there is nobody to tell.
            killpg(Pid::from_raw(pid), signal).ok();
        }
    }

    /// SIGTERM, then SIGKILL when `grace` has passed. Returns how it ended.
    pub(crate) fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let started = Instant::now();
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() >= grace {
                self.signal(Signal::SIGKILL);
                let status = self.child.wait().context("could not wait for a child")?;
                self.ended = Some(status);
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.try_wait(), Ok(None)) {
            self.signal(Signal::SIGKILL);
            self.child.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ignores_sigterm_is_killed_after_the_grace() {
        let mut group =
            Group::spawn(Command::new("sh").args(["-c", "trap '' TERM; while :; do sleep 1; done"])).unwrap();
        let status = group.stop(Duration::from_millis(100)).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn a_child_that_ends_by_itself_keeps_its_status() {
        let mut group = Group::spawn(Command::new("sh").args(["-c", "exit 3"])).unwrap();
        assert!(wait_until(Duration::from_secs(20), || matches!(group.try_wait(), Ok(Some(_)))));
        assert_eq!(group.try_wait().unwrap().unwrap().code(), Some(3));
        assert_eq!(group.stop(Duration::from_secs(1)).unwrap().code(), Some(3));
    }
}
