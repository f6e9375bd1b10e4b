//! Every metric: name, kind, labels and meaning (spec/03, "Metrics"; design of the circuit breaker, "Metrics").
//!
//! `docs/metrics.md` is generated from this table, and tests hold live scrapes, dashboards and alert rules against it.

/// What a metric's value does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size; its upper bounds of buckets, in seconds where they are times.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// As scraped; a histogram's series have `_bucket`, `_sum` and `_count` behind it.
    pub name: &'static str,
    /// What its value does.
    pub kind: MetricKind,
    /// The labels that every series of it bears.
    pub labels: &'static [&'static str],
    /// For each label the values with which a series is there from the start, at 0; there may be others. None: the series
    /// appear with what they tell of.
    pub values: &'static [&'static [&'static str]],
    /// What it says.
    pub help: &'static str,
}

/// Around the gateway's own times: 100-500 ms to answer, slow over 700 ms, 1 s time-out, 4.5 s in all.
const CALL: MetricKind = MetricKind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.5, 10.0,
]);
/// Requests and transactions, most of which take milliseconds.
const SHORT: MetricKind = MetricKind::Histogram(&[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0,
]);
/// Members of batches.
const SIZES: MetricKind = MetricKind::Histogram(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);
/// Turns of the reconciler, up to the minute between them and beyond.
const LONG: MetricKind =
    MetricKind::Histogram(&[0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 60.0, 120.0]);

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, labels, values: &[], help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels, values: &[], help }
}

const fn histogram(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, values: &[], help }
}

impl Metric {
    const fn with(self, values: &'static [&'static [&'static str]]) -> Self {
        Self { values, ..self }
    }

    /// The labels of each series that is there from the start: every combination of [`Metric::values`].
    pub(super) fn first_series(&self) -> Vec<Vec<(&'static str, &'static str)>> {
        if self.values.len() != self.labels.len() {
            return Vec::new();
        }
        self.labels.iter().zip(self.values).fold(vec![Vec::new()], |series, (label, values)| {
            let longer = |labels: &Vec<(&'static str, &'static str)>| {
                let labels = labels.clone();
                values.iter().map(move |value| [labels.clone(), vec![(*label, *value)]].concat())
            };
            series.iter().flat_map(longer).collect()
        })
    }
}

/// Every metric of every program.
pub const METRICS: &[Metric] = &[
    // Calls to the gateway.
    counter(
        "pg_request_total",
        &["operation", "result", "error"],
        "HTTP attempts to the gateway by operation, result and error (none: empty)",
    ),
    histogram(
        "pg_request_latency_seconds",
        CALL,
        &["operation", "result"],
        "Time of one HTTP attempt to the gateway",
    ),
    counter(
        "pg_misconfigured_total",
        &["operation", "status"],
        "Answers that say that we are configured wrongly: 401, 403, 404 (to a request), 405",
    ),
    counter(
        "pg_probe_total",
        &["result"],
        "Questions by order id before a request is sent again or compensated",
    ),
    counter("pg_retry_attempts_total", &["operation", "result"], "Second and further attempts by result"),
    counter(
        "pg_retry_budget_exhausted_total",
        &["operation"],
        "Retries not made because the retry budget was empty",
    ),
    gauge("pg_retry_budget_tokens", &[], "Tokens left in the retry budget"),
    gauge("pg_calls_in_flight", &[], "Calls to the gateway under way"),
    counter("pg_bulkhead_rejected_total", &["operation"], "Calls refused because too many were under way"),
    // Circuit breaker and retry, under the names that existing dashboards know.
    gauge(
        "resilience4j_circuitbreaker_state",
        &["name", "state"],
        "1 for the state that the circuit is in, 0 for the others",
    ),
    gauge(
        "resilience4j_circuitbreaker_failure_rate",
        &["name"],
        "Failures in percent of the window; -1 while unknown",
    ),
    gauge(
        "resilience4j_circuitbreaker_slow_call_rate",
        &["name"],
        "Slow calls in percent of the window; -1 while unknown",
    ),
    histogram(
        "resilience4j_circuitbreaker_calls_seconds",
        CALL,
        &["name", "kind"],
        "Recorded calls and the time of their slowest attempt: successful, failed, ignored",
    ),
    counter(
        "resilience4j_circuitbreaker_not_permitted_calls_total",
        &["name", "kind"],
        "Calls that the circuit let not pass",
    ),
    gauge(
        "resilience4j_circuitbreaker_buffered_calls",
        &["name", "kind"],
        "Results in the window: successful, failed",
    ),
    counter(
        "resilience4j_retry_calls_total",
        &["name", "kind"],
        "Calls by whether a retry was needed and helped: successful_without_retry, successful_with_retry, failed_without_retry, failed_with_retry",
    ),
    counter("circuitbreaker_transitions_total", &["name", "from", "to"], "Changes of the circuit's state"),
    counter(
        "circuitbreaker_slow_calls_total",
        &["name"],
        "Calls that took longer than the slow-call threshold",
    ),
    counter(
        "circuitbreaker_stale_results_total",
        &["name"],
        "Results that came after the circuit had changed its state, and count for nothing",
    ),
    counter(
        "circuitbreaker_abandoned_calls_total",
        &["name"],
        "Calls whose caller went away; their permit was given back",
    ),
    gauge(
        "circuitbreaker_next_probe_seconds",
        &["name"],
        "Time until an open circuit lets the next call through; 0 when it is not open",
    ),
    // Orders and payments.
    counter("order_placed_total", &["result"], "Orders asked for, by what the buyer was told").with(&[&[
        "paid",
        "in_progress",
        "confirming",
        "refused",
        "circuit_open",
        "pg_unavailable",
        "not_sent",
        "replayed",
        "invalid",
        "idempotency",
        "conflict",
        "unavailable",
        "error",
    ]]),
    gauge("orders_in_flight", &[], "Orders under way in this process"),
    counter("orders_refused_total", &[], "Orders refused because too many were under way; nothing was taken"),
    counter(
        "possible_duplicate_orders_total",
        &[],
        "Orders that look like a repetition without an Idempotency-Key: the same buyer asked the same process for the same within a minute",
    ),
    counter("idempotency_replayed_total", &[], "Requests answered with a stored answer"),
    gauge("payment_in_progress_count", &[], "Payments that are not final"),
    gauge(
        "payment_oldest_in_progress_seconds",
        &[],
        "Age of the oldest payment that is not final; 0 when there is none",
    ),
    counter("payment_settled_total", &["by", "result"], "Payments brought to their end, by who learnt of it")
        .with(&[&["api", "callback", "reconciler", "operator"], &["paid", "failed", "forced"]]),
    gauge("payment_discrepancy_open", &["kind"], "Ledger rows that a person must settle"),
    counter("callback_received_total", &["result"], "Callbacks of the gateway by what became of them")
        .with(&[&["taken", "unknown", "unreadable", "unavailable"]]),
    // Reconciler.
    histogram("reconciler_turn_seconds", LONG, &[], "Time of one turn of the reconciler"),
    counter("reconciler_payments_total", &["outcome"], "Payments examined, by outcome").with(&[&[
        "paid",
        "failed",
        "forced",
        "waiting",
        "ended",
        "unreachable",
        "error",
        "parked",
    ]]),
    gauge("reconciler_interlock_active", &[], "1 while verdicts of \"no such transaction\" are suspended"),
    gauge("payment_watched_count", &[], "Failed payments that are asked about again for a while"),
    // Database.
    gauge("database_pool_connections", &["pool", "state"], "Connections of a pool: in_use, idle, max"),
    gauge("database_pool_waiting", &["pool"], "Callers that wait for a connection"),
    histogram(
        "database_transaction_seconds",
        SHORT,
        &["name", "result"],
        "Time of a named transaction, from begin to its end",
    ),
    counter(
        "database_transaction_retries_total",
        &["name", "reason"],
        "Further tries of a named transaction: after a lost race (version, serialization, deadlock), or since the database was out of reach",
    )
    .with(&[&["place", "settle"], &["conflict", "unavailable"]]),
    histogram("batch_size", SIZES, &["batch"], "Members of a batch: place, start, settle, note"),
    counter(
        "batch_refused_total",
        &["batch", "reason"],
        "Members that were refused before anything was begun: the queue was full, or no turn came in time",
    )
    .with(&[&["place", "start", "settle", "note"], &["full", "late"]]),
    counter("batch_split_total", &["batch"], "Batches that could not be stored and were run member by member")
        .with(&[&["place", "start", "settle", "note"]]),
    // HTTP.
    histogram(
        "http_request_seconds",
        SHORT,
        &["method", "route", "status"],
        "Time of a request to its answer's headers, by route template",
    ),
    gauge("event_streams_open", &[], "Open event streams"),
    // The process.
    gauge("build_info", &["program", "version"], "Always 1; says what is running"),
    counter("panics_total", &[], "Panics, each a defect"),
    gauge("process_resident_memory_bytes", &[], "Resident memory of the process"),
    gauge("process_threads", &[], "Threads of the process"),
    gauge("process_open_fds", &[], "Open file descriptors of the process"),
];

/// What a scrape shows that this catalogue doesn't know: an unknown name, or a series with other labels than documented.
/// Empty when all is well.
#[must_use]
pub fn undocumented(scrape: &str) -> Vec<String> {
    let mut found: Vec<String> = scrape
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(complaint)
        .collect();
    found.sort();
    found.dedup();
    found
}

fn complaint(line: &str) -> Option<String> {
    let (series, labels) = match line.split_once('{') {
        Some((series, rest)) => (series, label_names(rest)),
        None => (line.split(' ').next().unwrap_or_default(), Vec::new()),
    };
    let Some(metric) = METRICS.iter().find(|metric| metric.has_series(series)) else {
        return Some(format!("{series}: unknown metric"));
    };
    let is_bucket = matches!(metric.kind, MetricKind::Histogram(_)) && series.ends_with("_bucket");
    let mut expected: Vec<&str> = metric.labels.iter().copied().chain(is_bucket.then_some("le")).collect();
    let mut actual: Vec<&str> = labels.iter().map(String::as_str).collect();
    expected.sort_unstable();
    actual.sort_unstable();
    (expected != actual).then(|| format!("{series}: labels {actual:?} instead of {expected:?}"))
}

impl Metric {
    fn has_series(&self, series: &str) -> bool {
        match self.kind {
            MetricKind::Counter | MetricKind::Gauge => series == self.name,
            MetricKind::Histogram(_) => {
                let suffix = series.strip_prefix(self.name);
                matches!(suffix, Some("_bucket" | "_sum" | "_count"))
            }
        }
    }
}

/// The names in `a="1",b="x,\"y\""} 7`.
fn label_names(labels: &str) -> Vec<String> {
    let (mut names, mut name, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in labels.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '=' => names.push(std::mem::take(&mut name)),
            '}' => break,
            ',' => name.clear(),
            other => name.push(other),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_of_the_accepted_form() {
        let names: std::collections::BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        let word =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        for metric in METRICS {
            assert!(word(metric.name) && metric.labels.iter().all(|label| word(label)), "{metric:?}");
            assert!(!metric.help.is_empty() && !metric.help.contains('\n'), "{metric:?}");
            assert!(metric.values.is_empty() || metric.values.len() == metric.labels.len(), "{metric:?}");
            match metric.kind {
                MetricKind::Counter => assert!(metric.name.ends_with("_total"), "{metric:?}"),
                MetricKind::Gauge => assert!(!metric.name.ends_with("_total"), "{metric:?}"),
                MetricKind::Histogram(bounds) => {
                    let unit = ["_seconds", "_size"].iter().any(|unit| metric.name.ends_with(unit));
                    assert!(unit && bounds.is_sorted() && bounds.len() > 5, "{metric:?}");
                }
            }
        }
    }

    /// The names and labels of spec/03, which others build on.
    #[test]
    fn the_contract_is_in_the_catalogue() {
        let contract: &[(&str, &[&str])] = &[
            ("pg_request_total", &["operation", "result", "error"]),
            ("pg_request_latency_seconds", &["operation", "result"]),
            ("payment_in_progress_count", &[]),
            ("payment_oldest_in_progress_seconds", &[]),
            ("payment_settled_total", &["by", "result"]),
            ("payment_discrepancy_open", &["kind"]),
            ("order_placed_total", &["result"]),
            ("reconciler_turn_seconds", &[]),
            ("reconciler_payments_total", &["outcome"]),
            ("resilience4j_circuitbreaker_state", &["name", "state"]),
            ("resilience4j_circuitbreaker_failure_rate", &["name"]),
            ("resilience4j_circuitbreaker_slow_call_rate", &["name"]),
            ("resilience4j_circuitbreaker_calls_seconds", &["name", "kind"]),
            ("resilience4j_circuitbreaker_not_permitted_calls_total", &["name", "kind"]),
            ("resilience4j_circuitbreaker_buffered_calls", &["name", "kind"]),
            ("resilience4j_retry_calls_total", &["name", "kind"]),
        ];
        for (name, labels) in contract {
            let metric =
                METRICS.iter().find(|metric| metric.name == *name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(metric.labels, *labels, "{name}");
        }
    }

    #[test]
    fn a_scrape_is_held_against_the_catalogue() {
        let good = "# HELP x y\n\
                    payment_in_progress_count 3\n\
                    pg_request_total{operation=\"charge\",result=\"ok\",error=\"a,b=\\\"}\"} 1\n\
                    reconciler_turn_seconds_bucket{le=\"1\"} 1\n\
                    reconciler_turn_seconds_sum 1\n\n";
        assert_eq!(undocumented(good), Vec::<String>::new());
        for (line, complaint) in [
            ("nonsense_total 1", "nonsense_total: unknown metric"),
            ("reconciler_turn_seconds 1", "reconciler_turn_seconds: unknown metric"),
            ("payment_in_progress_count_sum 1", "payment_in_progress_count_sum: unknown metric"),
            (
                "payment_in_progress_count{x=\"1\"} 1",
                "payment_in_progress_count: labels [\"x\"] instead of []",
            ),
            ("order_placed_total 1", "order_placed_total: labels [] instead of [\"result\"]"),
            (
                "reconciler_turn_seconds_bucket 1",
                "reconciler_turn_seconds_bucket: labels [] instead of [\"le\"]",
            ),
        ] {
            assert_eq!(undocumented(line), [complaint], "{line}");
        }
    }

    /// `docs/metrics.md` is generated: `UPDATE_DOCS=1 cargo test -p bootstrap` writes it, otherwise drift fails.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not a setting")]
    fn the_list_in_the_docs_is_up_to_date() {
        let mut expected = "# Metrics\n\n\
            Served as Prometheus text at `GET /metrics` of the operations ports. Generated from\n\
            `crates/bootstrap/src/telemetry/catalogue.rs` by its test; do not edit. Breaker and retry keep the names of\n\
            Resilience4j, so that existing dashboards work.\n\n\
            A counter without labels, and a series with the label values of the last column, is there from the start, at 0, so that\n\
            its first increase is seen by `rate()`. What a scrape really shows is held against this table, the dashboard and the\n\
            alert rules by `cargo xtask metrics`.\n\n\
            | metric | kind | labels | meaning | from the start |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
        for metric in METRICS {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram(_) => "histogram",
            };
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let values: Vec<String> = metric.values.iter().map(|values| values.join(", ")).collect();
            expected += &format!(
                "| `{}` | {kind} | {} | {} | {} |\n",
                metric.name,
                labels.join(", "),
                metric.help,
                values.join("; ")
            );
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
            std::fs::write(&path, &expected).unwrap();
        } else {
            let document = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                document == expected,
                "docs/metrics.md is out of date: UPDATE_DOCS=1 cargo test -p bootstrap"
            );
        }
    }
}
