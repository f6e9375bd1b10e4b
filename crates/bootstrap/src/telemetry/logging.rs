//! Log lines on stderr.

use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::TelemetryError;
use crate::settings::LogFormat;

/// Without `RUST_LOG`: our own lines from INFO on, those of the libraries from WARN on.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_http=warn,hyper=warn,hyper_util=warn,reqwest=warn,\
                              rustls=warn,tokio_postgres=warn,h2=warn";

/// Sends log lines to stderr, at the level of `RUST_LOG`. The human format is coloured on a terminal only.
///
/// # Errors
/// `RUST_LOG` can't be understood, or logging is set up already.
pub fn init_logging(format: LogFormat) -> Result<(), TelemetryError> {
    let rust_log = std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned());
    let filter = filter(rust_log.as_deref())?;
    subscriber(format, filter, std::io::stderr().is_terminal(), std::io::stderr)
        .try_init()
        .map_err(|_| TelemetryError::LoggingTwice)
}

fn filter(rust_log: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let directives = rust_log.filter(|text| !text.trim().is_empty()).unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder().parse(directives).map_err(|error| TelemetryError::Filter(error.to_string()))
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn subscriber<W>(format: LogFormat, filter: EnvFilter, colours: bool, writer: W) -> Subscriber
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Human => Box::new(builder.with_ansi(colours).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_span_list(false).finish()),
    }
}

/// Logs panics as errors, so that they stand among the other lines and in their format, and counts them.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(no text)");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    metrics::counter!("panics_total").increment(1);
    tracing::error!(location, thread, "panicked: {message}");
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, rust_log: Option<&str>, work: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(format, filter(rust_log).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, work);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn human_lines_read_as_they_were_written() {
        let text = logged(LogFormat::Human, None, || {
            tracing::warn!("PG request retry. attempt=2, reason=ConnectRefused");
            tracing::debug!("not shown");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains(" WARN ") && text.contains("PG request retry. attempt=2, reason=ConnectRefused"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "no colours outside a terminal: {text}");
    }

    #[test]
    fn json_lines_are_one_object_each_with_fields_and_span() {
        let text = logged(LogFormat::Json, None, || {
            let span = tracing::info_span!("request", request_id = "r1");
            span.in_scope(|| tracing::info!(payment_id = 12, "first \"quoted\"\nline"));
            tracing::error!("second");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["payment_id"], 12);
        assert_eq!(lines[0]["message"], "first \"quoted\"\nline");
        assert_eq!(lines[0]["span"]["request_id"], "r1");
        assert_eq!(lines[1]["level"], "ERROR");
    }

    #[test]
    fn rust_log_sets_the_level() {
        let work = || {
            tracing::debug!("detail");
            tracing::info!("news");
            tracing::warn!(target: "hyper::client", "library warning");
            tracing::info!(target: "hyper::client", "library chatter");
        };
        let count = |rust_log| logged(LogFormat::Human, rust_log, work).lines().count();
        assert_eq!(count(None), 2);
        assert_eq!(count(Some("")), 2, "empty counts as not set");
        assert_eq!(count(Some("warn")), 1);
        assert_eq!(count(Some("debug")), 4);
        assert_eq!(count(Some("off")), 0);
        let error = filter(Some("info,=x=y")).unwrap_err().to_string();
        assert!(error.contains("RUST_LOG"), "{error}");
    }
}
