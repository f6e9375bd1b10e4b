//! The first lines of every program's `main`.

use std::process::ExitCode;

use crate::cli::{ConfigArgs, EXIT_BAD_SETTINGS};
use crate::settings::Settings;
use crate::telemetry::{Metrics, init_logging, install_panic_hook};

/// What a program has once it may begin.
#[derive(Debug)]
pub struct Started {
    /// Checked settings.
    pub settings: Settings,
    /// For the operations port.
    pub metrics: Metrics,
}

/// Loads the settings, sets up logging, the panic hook and metrics, and logs what an operator should know. Call it once.
///
/// # Errors
/// The exit code with which to end, everything being said: see [`ConfigArgs::load`]; 2 also for a `RUST_LOG` that can't
/// be understood.
pub fn start(args: &ConfigArgs, program: &'static str, version: &'static str) -> Result<Started, ExitCode> {
    let loaded = args.load()?;
    let telemetry =
        init_logging(loaded.settings.log.format).and_then(|()| Metrics::install(program, version));
    let metrics = telemetry.map_err(|error| {
        // No logger to rely on.
        eprintln!("{error}");
        ExitCode::from(EXIT_BAD_SETTINGS)
    })?;
    install_panic_hook();
    tracing::info!(program, version, "starting");
    loaded.log_warnings();
    Ok(Started { settings: loaded.settings, metrics })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    const CHILD: &str = "HOLDFAST_TEST_STARTED_CHILD";
    const NAME: &str = "start::tests::a_program_starts_with_logs_metrics_and_panics_reported";

    /// Runs this very test again as a child process, since what `start` sets up is the process's own.
    #[test]
    fn a_program_starts_with_logs_metrics_and_panics_reported() {
        if std::env::var_os(CHILD).is_some() {
            return child();
        }
        let started = child_with(&[("DATABASE_URL", "postgres://app:hunter2@localhost/holdfast")]);
        assert!(started.status.success(), "{started:?}");
        let stderr = String::from_utf8(started.stderr).unwrap();
        let (json, plain): (Vec<&str>, Vec<&str>) = stderr.lines().partition(|line| line.starts_with('{'));
        assert_eq!(plain, ["logging is set up already"]);
        let lines: Vec<serde_json::Value> =
            json.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
        let [starting, secret, panic] = messages.as_slice() else { panic!("{stderr}") };
        assert_eq!((*starting, &lines[0]["version"]), ("starting", &"1.2.3".into()));
        assert!(secret.starts_with("pg.callback_secret is not set"), "{secret}");
        assert_eq!(*panic, "panicked: on purpose");
        assert_eq!(lines[2]["level"], "ERROR");
        assert!(
            lines[2]["location"].as_str().is_some_and(|location| location.contains("start.rs")),
            "{stderr}"
        );
        assert!(!stderr.contains("hunter2"));

        let refused = child_with(&[("DATABASE_URL", "postgres://localhost/holdfast"), ("RUST_LOG", "=x=y")]);
        assert!(!refused.status.success());
        assert!(String::from_utf8(refused.stderr).unwrap().contains("RUST_LOG"));
    }

    fn child() {
        let started = start(&ConfigArgs::default(), "test", "1.2.3").expect("good settings");
        std::thread::spawn(|| panic!("on purpose")).join().unwrap_err();
        let scrape = started.metrics.text();
        assert!(scrape.contains("build_info{program=\"test\",version=\"1.2.3\"} 1\n"), "{scrape}");
        assert!(scrape.contains("\npanics_total 1\n"), "{scrape}");
        assert!(start(&ConfigArgs::default(), "test", "1.2.3").is_err(), "only once in a process");
    }

    fn child_with(environment: &[(&str, &str)]) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env_clear()
            .envs(environment.iter().copied())
            .env("HOLDFAST__LOG__FORMAT", "json")
            .env(CHILD, "1")
            .output()
            .unwrap()
    }
}
