//! What the programs say about themselves: log lines on stderr and metrics.
//!
//! Names, labels and meaning of every metric stand in [`METRICS`]; whoever records one uses a name from there, and
//! [`undocumented`] holds a scrape against it. Deliberately absent: exporters that push, and log files (stderr is
//! the process manager's).

mod catalogue;
mod logging;
mod recorder;

pub use catalogue::{METRICS, Metric, MetricKind, undocumented};
pub use logging::{init_logging, install_panic_hook};
pub use recorder::Metrics;

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` can't be understood.
    #[error("the environment's RUST_LOG is no log filter such as `info` or `info,adapters_pg=debug`: {0}")]
    Filter(String),
    /// Another logger is installed already.
    #[error("logging is set up already")]
    LoggingTwice,
    /// Another metrics recorder is installed already, or refuses its settings.
    #[error("cannot set up metrics")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}
