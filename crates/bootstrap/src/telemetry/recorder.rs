//! The recorder behind the `metrics` macros, and its text for a scrape.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use super::TelemetryError;
use super::catalogue::{METRICS, Metric, MetricKind};

/// How often recorded histogram values are folded into their buckets when nobody scrapes: until then each one takes
/// memory of its own.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The process's metrics, for whoever serves `GET /metrics`.
#[derive(Debug, Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Installs the recorder for the whole process and describes every metric of the catalogue.
    ///
    /// # Errors
    /// A recorder is installed already.
    pub fn install(program: &'static str, version: &'static str) -> Result<Self, TelemetryError> {
        let handle = builder()?.install_recorder()?;
        describe(program, version);
        Ok(Self { handle })
    }

    /// The metrics as Prometheus text, those of the process freshly read.
    #[must_use]
    pub fn text(&self) -> String {
        record_process();
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Keeps the recorder's memory flat when nobody scrapes, until the token is cancelled. Spawn it on a tracker.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.handle.run_upkeep();
        }
    }
}

/// Without buckets a histogram would be rendered as a summary, which can't be added up over servers.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    METRICS.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        MetricKind::Histogram(bounds) => {
            builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)
        }
        MetricKind::Counter | MetricKind::Gauge => Ok(builder),
    })
}

fn describe(program: &'static str, version: &'static str) {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram(_) => describe_histogram!(metric.name, metric.help),
        }
        begin(metric);
    }
    gauge!("build_info", "program" => program, "version" => version).set(1.0);
}

/// Gauges that count what is under way: nothing, at the start. The others are read before each scrape.
const BEGIN_AT_0: &[&str] = &["orders_in_flight", "event_streams_open", "reconciler_interlock_active"];

/// What has not happened yet is 0, not absent: else its first increase is invisible to rate().
fn begin(metric: &Metric) {
    match metric.kind {
        MetricKind::Counter => {
            for labels in metric.first_series() {
                counter!(metric.name, &labels).absolute(0);
            }
        }
        MetricKind::Gauge if BEGIN_AT_0.contains(&metric.name) => gauge!(metric.name).set(0.0),
        MetricKind::Histogram(_) if metric.labels.is_empty() => drop(histogram!(metric.name)),
        MetricKind::Gauge | MetricKind::Histogram(_) => {}
    }
}

/// What Linux tells of this process; elsewhere nothing is recorded.
fn record_process() {
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        if let Some(kib) = number_after(&status, "VmRSS:") {
            gauge!("process_resident_memory_bytes").set(kib * 1024.0);
        }
        if let Some(threads) = number_after(&status, "Threads:") {
            gauge!("process_threads").set(threads);
        }
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // One of them is this directory itself.
        let open = u32::try_from(entries.count().saturating_sub(1)).unwrap_or(u32::MAX);
        gauge!("process_open_fds").set(f64::from(open));
    }
}

fn number_after(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::undocumented;

    /// Records into a recorder of its own and returns the scrape.
    fn scraped(work: impl FnOnce()) -> String {
        let recorder = builder().unwrap().build_recorder();
        let metrics = Metrics { handle: recorder.handle() };
        metrics::with_local_recorder(&recorder, || {
            describe("test", "1.2.3");
            work();
            metrics.text()
        })
    }

    /// Records every metric of the catalogue once.
    fn record_all() {
        for metric in METRICS {
            let labels: Vec<(&str, &str)> = metric.labels.iter().map(|label| (*label, "value")).collect();
            match metric.kind {
                MetricKind::Counter => counter!(metric.name, &labels).increment(1),
                MetricKind::Gauge => gauge!(metric.name, &labels).set(1.0),
                MetricKind::Histogram(_) => histogram!(metric.name, &labels).record(0.3),
            }
        }
    }

    #[test]
    fn every_metric_is_scraped_as_documented() {
        let text = scraped(record_all);
        assert_eq!(undocumented(&text), Vec::<String>::new());
        for metric in METRICS {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram(_) => "histogram",
            };
            assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}", metric.name);
            assert!(text.contains(&format!("# HELP {} ", metric.name)), "{}", metric.name);
        }
        assert!(text.contains(
            "pg_request_latency_seconds_bucket{operation=\"value\",result=\"value\",le=\"0.3\"} 1\n"
        ));
        assert!(text.contains("build_info{program=\"test\",version=\"1.2.3\"} 1\n"), "{text}");
    }

    #[test]
    fn what_has_not_happened_yet_is_0() {
        let text = scraped(|| ());
        assert_eq!(undocumented(&text), Vec::<String>::new());
        assert!(text.contains("\npanics_total 0\n"), "{text}");
        assert!(text.contains("\norders_refused_total 0\n"), "{text}");
        assert!(text.contains("\norders_in_flight 0\n"), "{text}");
        assert!(text.contains("\nreconciler_turn_seconds_count 0\n"), "{text}");
        assert!(text.contains("payment_settled_total{by=\"callback\",result=\"paid\"} 0\n"), "{text}");
        // A gauge that is read from the database says nothing before it was read.
        assert!(!text.contains("\npayment_in_progress_count "), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_measured() {
        let text = scraped(|| ());
        let value = |name: &str| number_after(&text, name).unwrap_or_default();
        assert!(value("process_resident_memory_bytes ") > 1_000_000.0, "{text}");
        assert!(value("process_threads ") >= 1.0 && value("process_open_fds ") >= 3.0, "{text}");
    }
}
