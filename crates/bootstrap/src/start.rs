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
