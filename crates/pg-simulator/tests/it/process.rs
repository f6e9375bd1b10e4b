//! The program: its arguments, its log, its end.

use std::process::{ExitStatus, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::{CARD, DEADLINE, payment};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pg-simulator"));
    command.args(arguments).env_remove("RUST_LOG").kill_on_drop(true);
    command
}

async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        tokio::time::timeout(DEADLINE, program(arguments).output()).await.expect("an end in time").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn it_says_what_it_is_and_what_it_takes() {
    let (code, version, _) = run(&["--version"]).await;
    assert_eq!(
        (code, version.as_str()),
        (Some(0), concat!("pg-simulator ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let (code, help, _) = run(&["--help"]).await;
    assert_eq!(code, Some(0));
    for argument in ["--config", "--check-config", "--bind", "--seed", "--set"] {
        assert!(help.contains(argument), "{help}");
    }
}

#[tokio::test]
async fn a_configuration_is_checked_without_starting() {
    let (code, out, _) = run(&["--check-config", "--set", "request.hang=0.1"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "the configuration is valid\n"));
    let (code, out, error) = run(&["--check-config", "--set", "request.hang=1.1"]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(error, "pg-simulator: settings: request.hang: must be from 0 to 1, not 1.1\n");
    let (code, _, error) = run(&["--config", "/nonexistent.toml"]).await;
    assert_eq!(code, Some(2));
    assert_eq!(
        error,
        "pg-simulator: cannot read /nonexistent.toml: No such file or directory (os error 2)\n"
    );
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, _, error) = run(&["--bind", &addr]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains(&format!("cannot listen on {addr}: Address already in use")), "{error}");
}

/// Starts it, and reads its log until it tells its address.
async fn started() -> (Child, BufReader<tokio::process::ChildStderr>, Value) {
    let mut command = program(&["--bind", "127.0.0.1:0", "--set", "request.error_500=0"]);
    command
        .env("HOLDFAST__LOG__FORMAT", "json")
        .env("RUST_LOG", "trace")
        .env("PG_SIMULATOR__CALLBACK_URL_PREFIX", "http://127.0.0.1")
        .env("PG_SIMULATOR__SETTLEMENT__PROCESSING__MIN", "0s")
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let told = async {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(log.read_line(&mut line).await.unwrap() > 0, "it ended before it listened");
            let event: Value = serde_json::from_str(&line).expect("a JSON line");
            if event["addr"].is_string() {
                return event;
            }
        }
    };
    let event = tokio::time::timeout(DEADLINE, told).await.expect("an address in time");
    (child, log, event)
}

async fn ended_by(signal: &str, child: &mut Child) -> ExitStatus {
    let pid = child.id().unwrap();
    let kill = format!("kill -{signal} {pid}");
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    tokio::time::timeout(DEADLINE, child.wait()).await.expect("an end in time").unwrap()
}

#[tokio::test]
async fn it_ends_cleanly_on_both_signals_and_its_log_bears_no_card_number() {
    for signal in ["TERM", "INT"] {
        let (mut child, mut log, event) = started().await;
        assert!(event["seed"].is_u64(), "{event}");
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
        let url = format!("http://{}/api/v1/payments", event["addr"].as_str().unwrap());
        let pay = async |body: Value| {
            http.post(&url)
                .header("X-USER-ID", "holdfast")
                .json(&body)
                .send()
                .await
                .unwrap()
                .status()
                .as_u16()
        };
        assert_eq!(pay(payment("order-1")).await, 200);
        assert_eq!(pay(json!({ "cardNo": CARD })).await, 400);
        let code = ended_by(signal, &mut child).await.code();
        let mut text = String::new();
        log.read_to_string(&mut text).await.unwrap();
        assert_eq!(code, Some(0), "{signal}: {text}");
        assert!(text.contains("payment request accepted"), "{text}");
        assert!(!text.contains(CARD) && !text.contains("1234567898141451"), "{text}");
        assert!(!text.contains("/callback/token"), "{text}");
    }
}
