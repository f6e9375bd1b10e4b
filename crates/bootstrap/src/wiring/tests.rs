//! Every documented key is read by something, and ends where it belongs and nowhere else.

use super::*;
use crate::settings::{Environment, keys, load};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const URL: &str = "postgres://app@localhost/holdfast";

fn settings(key: &str, value: &str) -> Settings {
    let name = format!("HOLDFAST__{}", key.replace('.', "__").to_uppercase());
    let environment = [("DATABASE_URL", URL), (name.as_str(), value)];
    load(None, Environment::from_pairs(environment)).unwrap_or_else(|error| panic!("{error}")).settings
}

/// The leaves of a value's `Debug`, each with its path: `policy.conflict_wait.0`.
fn leaves(name: &str, value: &impl std::fmt::Debug, into: &mut BTreeMap<String, String>) {
    let text = format!("{value:#?}");
    // Each level with the number of its next nameless entry.
    let mut path = vec![(name.to_owned(), 0)];
    for line in text.lines().skip(1).map(|line| line.trim().trim_end_matches(',')) {
        if matches!(line, "}" | ")" | "]") {
            path.pop();
            continue;
        }
        let named = line
            .split_once(": ")
            .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        let (entry, rest) = match (named, path.last_mut()) {
            (Some((name, rest)), _) => (name.to_owned(), rest),
            (None, Some((_, next))) => {
                *next += 1;
                ((*next - 1).to_string(), line)
            }
            (None, None) => panic!("{text}"),
        };
        let above: Vec<&str> = path.iter().map(|(name, _)| name.as_str()).collect();
        into.insert(format!("{}.{entry}", above.join(".")), rest.to_owned());
        if rest.ends_with(['{', '(', '[']) {
            path.push((entry, 0));
        }
    }
}

/// All that the adapters and use-cases are made with.
fn made(settings: &Settings) -> BTreeMap<String, String> {
    let mut made = BTreeMap::new();
    leaves("policy", &policy(settings).unwrap(), &mut made);
    leaves("http", &http(&settings.pg), &mut made);
    leaves("gateway", &gateway(&settings.pg), &mut made);
    let options = database(&settings.database, "test", 1);
    leaves("database", &options, &mut made);
    // Its `Debug` hides it.
    made.insert("database.url".to_owned(), options.url.expose_secret().to_owned());
    made
}

/// A key, another value than its default, and all that changes by it.
const WIRED: &[(&str, &str, &[&str])] = &[
    ("orders.conflict_wait_min", "150ms", &["policy.conflict_wait.0"]),
    ("orders.conflict_wait_max", "600ms", &["policy.conflict_wait.1"]),
    ("orders.record_patience", "300ms", &["policy.record_patience"]),
    ("batch.size", "16", &["policy.batch.size"]),
    ("batch.lanes", "1", &["policy.batch.lanes"]),
    ("batch.queue", "100", &["policy.batch.queue"]),
    ("batch.wait", "1s", &["policy.batch.wait"]),
    ("idempotency.retention", "2h", &["policy.idempotency_retention"]),
    ("database.url", "postgres://other@localhost/shop", &["database.url"]),
    ("database.acquire_timeout", "1500ms", &["database.acquire_timeout"]),
    ("database.connect_timeout", "1500ms", &["database.connect_timeout"]),
    ("database.max_connection_age", "10m", &["database.max_age"]),
    ("database.statement_timeout", "4s", &["database.statement_timeout"]),
    ("database.lock_timeout", "900ms", &["database.lock_timeout"]),
    ("database.idle_in_transaction_session_timeout", "3s", &["database.idle_in_transaction_session_timeout"]),
    ("database.client_connection_check_interval", "2s", &["database.client_connection_check_interval"]),
    ("pg.base_url", "http://gateway:1", &["http.base_url"]),
    ("pg.merchant_id", "shop", &["policy.merchant.0"]),
    ("pg.callback_base_url", "http://shop:1", &["policy.callback_base_url"]),
    ("pg.deadline", "4s", &["gateway.deadline", "policy.deadline"]),
    ("pg.max_concurrent_calls", "100", &["gateway.max_concurrent_calls", "http.max_idle_connections"]),
    ("pg.probe_before_retry", "false", &["gateway.probe_before_retry"]),
    ("pg.max_answer_size", "2048", &["http.max_answer_size"]),
    ("pg.max_transactions", "50", &["policy.max_transactions"]),
    ("pg.idle_connection_timeout", "3s", &["http.idle_connection_timeout"]),
    ("pg.retry_budget.tokens_per_call", "0.5", &["gateway.retry_budget.per_call"]),
    ("pg.retry_budget.tokens_per_second", "5", &["gateway.retry_budget.per_second"]),
    ("pg.retry_budget.capacity", "50", &["gateway.retry_budget.capacity"]),
    ("callback.query_interval", "3s", &["policy.query_interval"]),
    ("callback.concurrency", "3", &["policy.callback_concurrency"]),
    ("callback.max_hints", "3", &["policy.max_hints"]),
    ("sync.min_interval", "3s", &["policy.sync_interval"]),
    ("reconciler.batch_size", "10", &["policy.batch_size"]),
    ("reconciler.concurrency", "3", &["policy.concurrency"]),
    ("reconciler.turn_timeout", "40s", &["policy.turn_timeout"]),
    ("reconciler.lease", "70s", &["policy.lease"]),
    ("reconciler.min_age", "2m", &["policy.rules.min_age"]),
    ("reconciler.force_fail_after", "6m", &["policy.rules.force_fail_after"]),
    ("reconciler.not_found_confirmations", "3", &["policy.rules.not_found_confirmations"]),
    ("reconciler.not_found_grace", "2m", &["policy.rules.not_found_grace"]),
    (
        "reconciler.watch_after",
        "2m,5m,30m,2h,25h",
        &["policy.rules.watch_after.0", "policy.rules.watch_after.4"],
    ),
    ("reconciler.backoff_max", "6m", &["policy.rules.backoff_max"]),
    ("reconciler.park_after_failures", "21", &["policy.rules.park_after_failures"]),
    ("reconciler.interlock_lost_keys", "4", &["policy.interlock_lost_keys"]),
    ("reconciler.interlock_not_found_percent", "30", &["policy.interlock_not_found_percent"]),
];

/// The same for the keys that both kinds of calls to the gateway have, below `pg.payment` and `pg.query`.
const CALLS: &[(&str, &str, &[&str])] = &[
    ("read_timeout", "900ms", &["read_timeout"]),
    ("retry.max_attempts", "3", &["retry.max_attempts"]),
    ("retry.initial_interval", "150ms", &["retry.initial_interval"]),
    ("retry.multiplier", "3", &["retry.multiplier"]),
    ("retry.max_interval", "900ms", &["retry.max_interval"]),
    ("retry.jitter_percent", "40", &["retry.jitter"]),
    ("circuit.sliding_window_type", "time", &["circuit.window"]),
    ("circuit.sliding_window_size", "60", &["circuit.window.0"]),
    ("circuit.minimum_number_of_calls", "15", &["circuit.minimum_calls"]),
    ("circuit.failure_rate_threshold", "35", &["circuit.failure_rate_threshold"]),
    ("circuit.slow_call_rate_threshold", "55", &["circuit.slow_call_rate_threshold"]),
    ("circuit.slow_call_duration", "300ms", &["circuit.slow_call_duration"]),
    ("circuit.wait_duration_in_open_state", "6s", &["circuit.open_wait"]),
    ("circuit.open_wait_multiplier", "2", &["circuit.open_wait_factor"]),
    ("circuit.max_wait_duration_in_open_state", "11s", &["circuit.open_wait_max"]),
    ("circuit.open_wait_jitter_percent", "30", &["circuit.open_wait_jitter"]),
    ("circuit.permitted_calls_in_half_open", "4", &["circuit.half_open_calls"]),
    ("circuit.max_wait_duration_in_half_open_state", "12s", &["circuit.half_open_max.0"]),
];

/// Keys that a program reads by itself, or that are no plain value, with the test that shows what they do.
const BY_PROGRAMS: &[(&str, &[&str])] = &[
    (
        "app-server/tests/http/settings.rs",
        &[
            "server.workers",
            "server.max_connections",
            "server.max_body_size",
            "server.keep_alive",
            "server.shutdown_grace",
            "auth.mode",
            "auth.jwt.jwks_file",
            "auth.jwt.secret",
            "auth.jwt.issuer",
            "auth.jwt.audience",
            "auth.jwt.algorithms",
            "auth.jwt.leeway",
            "events.poll_interval",
            "events.heartbeat_interval",
            "events.max_streams",
            "locale.default",
        ],
    ),
    (
        "app-server/tests/http/bad_input.rs",
        &[
            "server.max_head_size",
            "server.max_headers",
            "server.client_request_timeout",
            "cors.allowed_origins",
            "points.self_charge",
            "rate_limit.user_per_second",
            "rate_limit.user_burst",
        ],
    ),
    (
        "app-server/tests/http/proxies.rs",
        &["server.trusted_proxies", "rate_limit.address_per_second", "rate_limit.address_burst"],
    ),
    ("app-server/tests/http/flow.rs", &["server.bind", "orders.max_in_flight"]),
    ("app-server/tests/http/support.rs", &["ops.bind", "orders.response_deadline"]),
    ("app-server/tests/http/operations.rs", &["ops.token"]),
    ("app-server/tests/http/killed.rs", &["pg.callback_secret"]),
    ("reconciler/tests/it/operations.rs", &["reconciler.bind"]),
    ("reconciler/tests/it/commands.rs", &["reconciler.schedule"]),
    ("bootstrap/src/start.rs", &["log.format"]),
];

/// Not observable from outside, or only by what the operating system does.
const BY_EYE: &[(&str, &str)] = &[
    ("server.client_disconnect_timeout", "ends what the kernel would end later"),
    ("database.pool_size", "the pool's own; `build` passes it to the requests' pool"),
    ("database.settlement_pool_size", "the pool's own; `build` passes it to settling's pool"),
    ("pg.payment.connect_timeout", "see `connect_timeouts_end_in_both_places`"),
    ("pg.query.connect_timeout", "see `connect_timeouts_end_in_both_places`"),
];

fn changed(key: &str, value: &str) -> BTreeSet<String> {
    let (before, after) = (made(&settings("log.format", "json")), made(&settings(key, value)));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_setting_ends_where_it_belongs_and_nowhere_else() {
    for (key, value, expected) in WIRED {
        assert_eq!(changed(key, value), set(expected), "{key}");
    }
    for call in ["payment", "query"] {
        for (key, value, expected) in CALLS {
            // The one value that only one of the two may have: a look-up's attempt and its slowness are half as long.
            let value = if (call, *key) == ("query", "read_timeout") { "450ms" } else { value };
            let expected: Vec<String> =
                expected.iter().map(|leaf| format!("gateway.{call}.{leaf}")).collect();
            let expected: BTreeSet<String> = expected.into_iter().collect();
            assert_eq!(changed(&format!("pg.{call}.{key}"), value), expected, "pg.{call}.{key}");
        }
    }
}

#[test]
fn connect_timeouts_end_in_both_places() {
    for call in ["payment", "query"] {
        let key = format!("pg.{call}.connect_timeout");
        let expected = [format!("gateway.{call}.connect_timeout"), format!("http.{call}_connect_timeout")];
        assert_eq!(changed(&key, "900ms"), expected.into_iter().collect(), "{key}");
    }
}

/// A key without a test that shows what it does would be a key that perhaps nothing reads.
#[test]
fn every_documented_key_is_read_by_something() {
    let mut shown: Vec<String> = WIRED.iter().map(|(key, ..)| (*key).to_owned()).collect();
    for call in ["payment", "query"] {
        shown.extend(CALLS.iter().map(|(key, ..)| format!("pg.{call}.{key}")));
    }
    for (file, keys) in BY_PROGRAMS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        for key in *keys {
            let name = format!("HOLDFAST__{}", key.replace('.', "__").to_uppercase());
            assert!(text.contains(&format!("\"{name}\"")), "{file} does not set {name}");
            shown.push((*key).to_owned());
        }
    }
    shown.extend(BY_EYE.iter().map(|(key, _)| (*key).to_owned()));
    shown.sort();
    let mut documented: Vec<String> = keys().into_iter().map(|described| described.key).collect();
    documented.sort();
    assert_eq!(shown, documented);
}

/// What the crates take when nobody says otherwise is what the documentation says.
#[test]
fn there_is_one_truth_about_each_default() {
    let settings = settings("log.format", "json");
    let merchant = MerchantId::new(settings.pg.merchant_id.as_str()).unwrap();
    let mut expected = BTreeMap::new();
    leaves("policy", &Policy::new(merchant, settings.pg.callback_base_url.as_str()), &mut expected);
    leaves("http", &HttpConfig::default(), &mut expected);
    leaves("gateway", &GatewayConfig::default(), &mut expected);
    leaves(
        "database",
        &DatabaseOptions { pool_size: 1, ..DatabaseOptions::new(URL.to_owned(), "test") },
        &mut expected,
    );
    expected.insert("database.url".to_owned(), URL.to_owned());
    let made = made(&settings);
    assert!(made.len() > 70, "{made:#?}");
    for (name, value) in &made {
        assert_eq!(Some(value), expected.get(name), "{name}");
    }
    assert_eq!(made.len(), expected.len());
}
