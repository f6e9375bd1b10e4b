//! The recorded cases of `breaker.json`: 28 or more short histories with what must be seen after each step.

use std::{collections::HashMap, path::PathBuf};

use serde_json::Value;

use super::{super::*, Duration, ms, start};

type Case = Value;

fn file() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "names a test's input, not a setting of the program")]
    let named = std::env::var("BREAKER_VECTORS");
    match named {
        Ok(path) => PathBuf::from(path),
        Err(_) => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/breaker.json"),
    }
}

fn number(of: &Value, key: &str) -> Result<Option<u64>, String> {
    match of.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("{key} is no whole number: {value}")),
    }
}

fn needed<T>(value: Option<T>, key: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("{key} is missing"))
}

fn text<'a>(of: &'a Value, key: &str) -> Result<&'a str, String> {
    needed(of.get(key).and_then(Value::as_str), key)
}

fn narrow<T: TryFrom<u64>>(of: &Value, key: &str) -> Result<T, String> {
    let value = needed(number(of, key)?, key)?;
    T::try_from(value).map_err(|_| format!("{key} is too big: {value}"))
}

fn state(name: &str) -> Result<State, String> {
    State::ALL.into_iter().find(|s| s.as_str() == name).ok_or_else(|| format!("unknown state {name}"))
}

fn breaker(case: &Case, at: Instant) -> Result<CircuitBreaker, String> {
    const KNOWN: [&str; 12] = [
        "window_size",
        "min_calls",
        "failure_rate_threshold",
        "slow_call_threshold_ms",
        "slow_rate_threshold",
        "open_ms",
        "half_open_calls",
        "open_multiplier",
        "open_max_ms",
        "max_half_open_ms",
        "auto_half_open",
        "initial_state",
    ];
    let given = needed(case.get("config"), "config")?;
    for key in given.as_object().into_iter().flat_map(|config| config.keys()) {
        if !KNOWN.contains(&key.as_str()) {
            return Err(format!("unknown setting {key}"));
        }
    }
    let open_wait = ms(narrow(given, "open_ms")?);
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    let config = Config {
        window: SlidingWindow::CountBased(narrow(given, "window_size")?),
        minimum_calls: narrow(given, "min_calls")?,
        failure_rate_threshold: narrow(given, "failure_rate_threshold")?,
        slow_call_rate_threshold: narrow(given, "slow_rate_threshold")?,
        slow_call_duration: ms(narrow(given, "slow_call_threshold_ms")?),
        open_wait,
        open_wait_factor: given.get("open_multiplier").and_then(Value::as_f64).unwrap_or(1.0),
        open_wait_max: number(given, "open_max_ms")?.map_or(month, ms),
        open_wait_jitter: 0,
        half_open_calls: narrow(given, "half_open_calls")?,
        half_open_max: number(given, "max_half_open_ms")?.filter(|limit| *limit > 0).map(ms),
        automatic_half_open: given.get("auto_half_open").and_then(Value::as_bool).unwrap_or(false),
    };
    let initial = given.get("initial_state").and_then(Value::as_str).unwrap_or("CLOSED");
    let builder = CircuitBreaker::builder("vectors", config, 0).initial_state(state(initial)?);
    builder.build(at).map_err(|e| e.to_string())
}

/// Compares what is expected after a step with what there is.
fn compare(expected: &Value, permitted: Option<bool>, seen: &Snapshot) -> Result<(), String> {
    for (key, want) in expected.as_object().into_iter().flatten() {
        let got = match key.as_str() {
            "permitted" => Value::from(permitted),
            "state" => Value::from(seen.state.as_str()),
            "failure_rate" => Value::from(seen.failure_percent()),
            "slow_rate" => Value::from(seen.slow_call_percent()),
            "buffered" => Value::from(seen.buffered.calls),
            "not_permitted" => Value::from(seen.not_permitted),
            other => return Err(format!("unknown expectation {other}")),
        };
        let same = match (want.as_f64(), got.as_f64()) {
            (Some(want), Some(got)) => (want - got).abs() <= 0.01,
            _ => *want == got,
        };
        if !same {
            return Err(format!("{key} is {got}, expected {want}; {seen:?}"));
        }
    }
    Ok(())
}

fn step(
    step: &Value,
    breaker: &CircuitBreaker,
    origin: Instant,
    tickets: &mut HashMap<String, Ticket>,
) -> Result<(), String> {
    let now = origin + ms(narrow(step, "at_ms")?);
    let op = text(step, "op")?;
    let mut permitted = None;
    if op == "acquire" {
        let got = breaker.acquire(now);
        permitted = Some(got.is_ok());
        if let Ok(ticket) = got {
            tickets.insert(text(step, "call")?.to_owned(), ticket);
        }
    } else if !["state", "metrics"].contains(&op) {
        let took = ms(number(step, "duration_ms")?.unwrap_or(0));
        // A call that was settled before has no ticket any more: settling twice can't be written.
        match (op, tickets.remove(text(step, "call")?)) {
            (_, None) => {}
            ("success" | "slow_success", Some(ticket)) => ticket.success(now, took),
            ("failure" | "slow_failure", Some(ticket)) => ticket.failure(now, took, "Failure"),
            ("ignored", Some(ticket)) => ticket.ignored(),
            ("cancel", Some(ticket)) => drop(ticket),
            (other, Some(_)) => return Err(format!("unknown op {other}")),
        }
    }
    match step.get("expect") {
        Some(expected) => compare(expected, permitted, &breaker.snapshot(now)),
        // Looking is never needed for a breaker to be right, so it is done only where the case looks.
        None if op == "state" || op == "metrics" => Err("looks, but expects nothing".to_owned()),
        None => Ok(()),
    }
}

#[test]
fn all_recorded_cases_pass() {
    let path = file();
    let content = std::fs::read_to_string(&path).unwrap_or_else(|e| {
        panic!("the cases can't be read from {}: {e}; BREAKER_VECTORS names another file", path.display())
    });
    let document: Value =
        serde_json::from_str(&content).unwrap_or_else(|e| panic!("{} is no JSON: {e}", path.display()));
    let cases = document["cases"].as_array().unwrap_or_else(|| panic!("{} has no cases", path.display()));
    assert!(!cases.is_empty(), "{} has no cases", path.display());

    let mut failures = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap_or("(a case without a name)");
        let origin = start();
        let mut tickets = HashMap::new();
        let breaker = match breaker(case, origin) {
            Ok(breaker) => breaker,
            Err(problem) => {
                failures.push(format!("{name}: {problem}"));
                continue;
            }
        };
        let steps = case["steps"].as_array().map_or(&[][..], Vec::as_slice);
        if steps.is_empty() {
            failures.push(format!("{name}: has no steps"));
        }
        for (index, given) in steps.iter().enumerate() {
            if let Err(problem) = step(given, &breaker, origin, &mut tickets) {
                failures.push(format!("{name}, step {} ({given}): {problem}", index + 1));
                break;
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    println!("{} cases pass", cases.len());
}
