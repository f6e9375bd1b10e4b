//! Stopping cleanly: no new work, work under way is finished within the grace period, exit 0.
//!
//! The first SIGTERM or SIGINT cancels a token that everything which takes work listens to. Work itself runs on a task
//! tracker and is never cancelled: [`Shutdown::drain`] waits for it. The second signal ends the process at once, with the
//! exit code that shells give a process killed by that signal. What was under way then is the reconciler's, as after a
//! crash; nothing is saved on the way out.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The stop of one process, shared by all its parts; clones are the same stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// All work was finished.
    Complete,
    /// The grace period ended first; this many tasks were still under way.
    Abandoned {
        /// At least 1.
        tasks: usize,
    },
}

impl Shutdown {
    /// A stop that has not begun and that nothing triggers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets SIGTERM and SIGINT begin the stop, from now to the end of the process. Needs a tokio runtime.
    ///
    /// # Errors
    /// The operating system refuses the handlers.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        let token = self.token.clone();
        // On a tracker of its own, since the drain must not wait for it.
        TaskTracker::new().spawn(async move {
            let (name, _) = signals.next().await;
            tracing::info!(signal = name, "stopping; a second signal ends the process at once");
            token.cancel();
            let (name, number) = signals.next().await;
            tracing::warn!(
                signal = name,
                "second signal: ended at once, work under way is left to the reconciler"
            );
            std::process::exit(128 + number);
        });
        Ok(())
    }

    /// Begins the stop from inside, for instance when a listener failed.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Cancelled when the stop begins. For loops that take new work; work under way doesn't listen to it.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Where work that must not be lost runs (`shutdown.tasks().spawn(...)`).
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Waits until all tracked work is finished, but no longer than `grace`. Begins the stop if nobody did. Call it
    /// once the listeners are closed: work spawned meanwhile is still waited for.
    pub async fn drain(&self, grace: Duration) -> Drained {
        self.begin();
        self.tasks.close();
        match tokio::time::timeout(grace, self.tasks.wait()).await {
            Ok(()) => Drained::Complete,
            // The last one may have ended just now.
            Err(_) if self.tasks.is_empty() => Drained::Complete,
            Err(_) => {
                let tasks = self.tasks.len();
                tracing::warn!(tasks, "grace period is over; what is under way is left to the reconciler");
                Drained::Abandoned { tasks }
            }
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// The next signal's name and number.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_work_under_way() {
        let shutdown = Shutdown::new();
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let token = shutdown.token();
        shutdown.tasks().spawn(async move {
            token.cancelled().await;
            finished.await.unwrap();
        });
        let drain = shutdown.drain(Duration::from_secs(600));
        tokio::pin!(drain);
        tokio::select! {
            biased;
            _ = &mut drain => panic!("the drain ended before the work"),
            () = async { for _ in 0..100 { tokio::task::yield_now().await } } => {}
        }
        finish.send(()).unwrap();
        assert_eq!(drain.await, Drained::Complete);
    }

    #[tokio::test]
    async fn a_drain_ends_with_the_grace_period() {
        let shutdown = Shutdown::new();
        for _ in 0..2 {
            shutdown.tasks().spawn(std::future::pending::<()>());
        }
        let grace = Duration::from_millis(50);
        let before = tokio::time::Instant::now();
        assert_eq!(shutdown.drain(grace).await, Drained::Abandoned { tasks: 2 });
        assert!(before.elapsed() >= grace);
    }

    #[tokio::test]
    async fn a_drain_without_work_or_grace_is_complete() {
        assert_eq!(Shutdown::new().drain(Duration::ZERO).await, Drained::Complete);
    }

    const CHILD: &str = "HOLDFAST_TEST_SIGNALLED_CHILD";

    /// Runs this very test again as a child process, which is then sent real signals.
    #[test]
    fn signals_stop_a_process_and_the_second_ends_it_at_once() {
        match std::env::var_os(CHILD) {
            Some(work) => child(work == "endless"),
            None => {
                // Work that ends: one signal is enough, and the exit code is the test harness's 0.
                for signal in ["TERM", "INT"] {
                    assert_eq!(signalled("finite", &[signal]), Some(0), "{signal}");
                }
                assert_eq!(signalled("endless", &["TERM", "TERM"]), Some(128 + 15));
                assert_eq!(signalled("endless", &["TERM", "INT"]), Some(128 + 2));
            }
        }
    }

    fn child(endless: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shutdown = Shutdown::new();
            shutdown.on_signals().unwrap();
            if endless {
                shutdown.tasks().spawn(std::future::pending::<()>());
            }
            eprintln!("waiting");
            shutdown.token().cancelled().await;
            eprintln!("waiting");
            assert_eq!(shutdown.drain(Duration::from_secs(300)).await, Drained::Complete);
        });
    }

    /// Sends the signals, each once the child waits for it; the exit code.
    fn signalled(work: &str, signals: &[&str]) -> Option<i32> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "shutdown::tests::signals_stop_a_process_and_the_second_ends_it_at_once",
                "--nocapture",
            ])
            .env(CHILD, work)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut waiting = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        for signal in signals {
            assert!(waiting.any(|line| line == "waiting"), "the child ended before SIG{signal}");
            let sent =
                Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", child.id())).status().unwrap();
            assert!(sent.success());
        }
        waiting.by_ref().for_each(drop);
        child.wait().unwrap().code()
    }
}
