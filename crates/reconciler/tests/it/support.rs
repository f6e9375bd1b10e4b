//! The program as a process, and a plain HTTP client.

use serde_json::Value;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::task::TaskTracker;

/// Nothing here takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Settings as they stand in the environment.
pub(crate) type Settings<'a> = &'a [(&'a str, &'a str)];

/// The program with these settings and arguments; nothing that is set around the tests reaches it.
pub(crate) fn command(settings: Settings<'_>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconciler"));
    command.env_clear().envs(settings.iter().copied()).env("HOLDFAST__LOG__FORMAT", "json");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// `reconciler run`. Killed when dropped.
pub(crate) struct Running {
    _child: Child,
    pub(crate) addr: SocketAddr,
}

impl Running {
    pub(crate) async fn start(settings: Settings<'_>) -> Self {
        let mut child = command(settings, &["run"]).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let mut said = Vec::new();
        let listening = async {
            while let Some(text) = lines.next_line().await.expect("lines of text") {
                let line: Value = serde_json::from_str(&text).unwrap_or_default();
                if line["message"] == "listening" {
                    return line["addr"].as_str().expect("an address").parse().expect("an address");
                }
                said.push(text);
            }
            panic!("it ended before it listened: {said:#?}")
        };
        let addr = tokio::time::timeout(DEADLINE, listening).await.expect("it listens in time");
        // The pipe must not fill up.
        drop(TaskTracker::new().spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} }));
        Self { _child: child, addr }
    }

    /// Sends a request with these further header lines; status, head in lower case, and body.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.addr).await.expect("it listens");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request that is read");
        let mut answer = String::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
        read.expect("an answer in time").expect("an answer to its end");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, head.to_lowercase(), body.to_owned())
    }
}
