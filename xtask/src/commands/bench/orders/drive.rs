//! Starts the generator, and looks at the system when its window begins and ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::generator::{Seen, Task};
use super::wire::{Goods, Scenario};
use crate::process::{self, Group};
use crate::{steps, workspace};

/// More than a generator takes to connect, and to wait for the last answers.
const SLACK: Duration = Duration::from_secs(60);
/// What the generator is tried with, against an answer that costs nothing.
const TRIAL_CLIENTS: u32 = 32;
const TRIAL: Duration = Duration::from_millis(1_000);

/// This program as it is built for release: what it costs to send is not to be what is measured.
pub(super) fn build(root: &Path) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(root).args(["build", "--release", "-p", "xtask"]);
    steps::check(&mut cargo).context("cargo build")?;
    Ok(workspace::metadata(root, &["--no-deps"])?.target_directory.join("release/xtask"))
}

/// Runs a generator to its end; `look` is called when its window begins, and when it ends.
pub(super) fn run<T>(
    generator: &Path,
    task: &Task,
    mut look: impl FnMut() -> Result<T>,
) -> Result<(T, T, Seen)> {
    let mut command = Command::new(generator);
    command.args(["bench", "generate"]).arg(serde_json::to_string(task)?).stdout(Stdio::piped());
    let mut group = Group::spawn(&mut command)?;
    let output = group.child().stdout.take().context("the generator has no output")?;
    let (send, receive) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let limit = Instant::now() + task.warm_up + task.window + SLACK;
    let next = || loop {
        match receive.recv_timeout(process::POLL) {
            Ok(line) => return Ok(line),
            Err(RecvTimeoutError::Disconnected) => bail!("the generator ended by itself"),
            Err(RecvTimeoutError::Timeout) if process::interrupted() => bail!("interrupted"),
            Err(RecvTimeoutError::Timeout) if Instant::now() > limit => bail!("the generator does not end"),
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    let line = next()?;
    ensure!(line == "begin", "the generator said {line:?}");
    let begin = look()?;
    let line = next()?;
    ensure!(line == "end", "the generator said {line:?}");
    let end = look()?;
    let seen = serde_json::from_str(&next()?).context("could not read what the generator saw")?;
    reader.join().map_err(|_| anyhow::anyhow!("the generator's reader panicked"))?;
    Ok((begin, end, seen))
}

/// What the generator can do when the answer costs next to nothing: requests a second, and its own CPU for one.
pub(super) fn trial(generator: &Path) -> Result<(f64, Duration)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    let address = listener.local_addr()?;
    // Ends when the generator has closed its connections.
    let responder = std::thread::spawn(move || {
        let clients: Vec<_> = (0..TRIAL_CLIENTS).filter_map(|_| listener.accept().ok()).collect();
        for (stream, _) in clients {
            std::thread::spawn(move || respond(stream));
        }
    });
    let task = Task {
        addresses: vec![address],
        scenario: Scenario::Point,
        goods: Goods { first_product: 1, products: 1_000, first_buyer: 1, buyers: 10_000 },
        clients: TRIAL_CLIENTS,
        warm_up: TRIAL / 4,
        window: TRIAL,
        requests: None,
        rate: None,
        seed: 1,
    };
    let ((), (), seen) = run(generator, &task, || Ok(()))?;
    responder.join().map_err(|_| anyhow::anyhow!("the responder panicked"))?;
    ensure!(seen.bad.is_empty() && seen.good > 0, "the generator failed by itself: {:?}", seen.bad);
    let each = seen.cpu.div_f64(count(seen.good));
    Ok((count(seen.in_window) / seen.window.as_secs_f64(), each))
}

/// Every read is one request: the generator sends each in one piece, and the next when this one is answered.
fn respond(mut stream: std::net::TcpStream) {
    let body = "x".repeat(600);
    let answer = format!(
        "HTTP/1.1 201 Created\r\ncontent-length: {}\r\ncontent-type: application/json\r\n\r\n{body}",
        body.len()
    );
    stream.set_nodelay(true).ok();
    let mut request = [0; 4_096];
    while stream.read(&mut request).is_ok_and(|length| length > 0) {
        if stream.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
pub(super) fn count(count: u64) -> f64 {
    count as f64
}
