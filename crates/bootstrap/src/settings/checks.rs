//! Rules between settings: each value is allowed alone, but they contradict each other.

use std::time::Duration;

use secrecy::SecretString;

use super::error::Problem;
use super::sections::{
    DatabaseSettings, GatewayCallSettings, GatewaySettings, JwtSettings, ReconcilerSettings, Settings,
};
use super::types::{AuthMode, JwtAlgorithm, WindowType};
use super::value::Value;

/// Collects what is broken.
struct Checker(Vec<Problem>);

impl Checker {
    /// `keys`: the one to change first.
    fn require(&mut self, holds: bool, keys: &[&str], rule: impl FnOnce() -> String) {
        if !holds {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            self.0.push(Problem::Together { keys, rule: rule() });
        }
    }

    /// `shorter` must not be longer than `longer`.
    fn ordered(&mut self, shorter: (&str, Duration), longer: (&str, Duration)) {
        self.require(shorter.1 <= longer.1, &[shorter.0, longer.0], || {
            format!(
                "{} is {}, which must not exceed {} ({})",
                shorter.0,
                shorter.1.show(),
                longer.0,
                longer.1.show()
            )
        });
    }
}

/// Everything that is wrong between the settings.
pub(super) fn problems(settings: &Settings) -> Vec<Problem> {
    let mut checker = Checker(Vec::new());
    addresses(&mut checker, settings);
    if settings.auth.mode == AuthMode::Jwt {
        jwt(&mut checker, &settings.auth.jwt);
    }
    checker.ordered(
        ("orders.conflict_wait_min", settings.orders.conflict_wait_min),
        ("orders.conflict_wait_max", settings.orders.conflict_wait_max),
    );
    let recorded = settings.pg.deadline + settings.orders.record_patience;
    let response = settings.orders.response_deadline;
    checker.require(
        recorded <= response,
        &["orders.response_deadline", "pg.deadline", "orders.record_patience"],
        || {
            let (recorded, response) = (recorded.show(), response.show());
            format!("the gateway step and storing its outcome take up to {recorded}, more than the {response} promised")
        },
    );
    database(&mut checker, &settings.database);
    gateway(&mut checker, &settings.pg);
    reconciler(&mut checker, &settings.reconciler, &settings.pg.query);
    checker.0
}

fn addresses(checker: &mut Checker, settings: &Settings) {
    let (ops, reconciler) = (settings.ops.bind, settings.reconciler.bind);
    for (key, address) in [("ops.bind", ops), ("reconciler.bind", reconciler)] {
        checker.require(
            address.ip().is_loopback() || settings.ops.token.is_some(),
            &[key, "ops.token"],
            || format!("{key} is {address}, which is not loopback: ops.token must be set"),
        );
    }
    let public = settings.server.bind;
    checker.require(public.port() == 0 || public != ops, &["ops.bind", "server.bind"], || {
        format!("both are {public}; the operations port must be another one")
    });
}

fn jwt(checker: &mut Checker, jwt: &JwtSettings) {
    checker.require(jwt.audience.is_some(), &["auth.jwt.audience"], || {
        "must be set when auth.mode is jwt, else tokens made for other services would be accepted".to_owned()
    });
    let uses = |algorithm| jwt.algorithms.contains(&algorithm);
    checker.require(
        jwt.secret.is_some() || !uses(JwtAlgorithm::Hs256),
        &["auth.jwt.secret", "auth.jwt.algorithms"],
        || "a secret must be set when HS256 is accepted".to_owned(),
    );
    let by_file = uses(JwtAlgorithm::Rs256) || uses(JwtAlgorithm::Es256);
    checker.require(
        jwt.jwks_file.is_some() || !by_file,
        &["auth.jwt.jwks_file", "auth.jwt.algorithms"],
        || "a file must be set when RS256 or ES256 is accepted".to_owned(),
    );
    let unreadable = jwt.jwks_file.as_ref().and_then(|file| Some((file, std::fs::File::open(file).err()?)));
    if let Some((file, error)) = unreadable {
        checker
            .require(false, &["auth.jwt.jwks_file"], || format!("cannot read {}: {error}", file.display()));
    }
}

fn database(checker: &mut Checker, database: &DatabaseSettings) {
    if let Err(error) = adapters_db::check_address(&SecretString::from(database.url.expose())) {
        checker.require(false, &["database.url"], || error.to_string());
    }
    checker.ordered(
        ("database.lock_timeout", database.lock_timeout),
        ("database.statement_timeout", database.statement_timeout),
    );
}

fn gateway(checker: &mut Checker, pg: &GatewaySettings) {
    for (name, call) in [("pg.payment", &pg.payment), ("pg.query", &pg.query)] {
        let key = |field: &str| format!("{name}.{field}");
        let attempt = call.connect_timeout + call.read_timeout;
        checker.require(
            attempt <= pg.deadline,
            &[&key("connect_timeout"), &key("read_timeout"), "pg.deadline"],
            || {
                let (attempt, deadline) = (attempt.show(), pg.deadline.show());
                format!("the two time-outs together are {attempt}; one attempt must fit into pg.deadline ({deadline})")
            },
        );
        checker.ordered(
            (&key("retry.initial_interval"), call.retry.initial_interval),
            (&key("retry.max_interval"), call.retry.max_interval),
        );
        let circuit = &call.circuit;
        checker.ordered(
            (&key("circuit.slow_call_duration"), circuit.slow_call_duration),
            (&key("read_timeout"), call.read_timeout),
        );
        checker.ordered(
            (&key("circuit.wait_duration_in_open_state"), circuit.wait_duration_in_open_state),
            (&key("circuit.max_wait_duration_in_open_state"), circuit.max_wait_duration_in_open_state),
        );
        let half_open = circuit.max_wait_duration_in_half_open_state;
        checker.require(
            half_open.is_zero() || half_open > pg.deadline,
            &[&key("circuit.max_wait_duration_in_half_open_state"), "pg.deadline"],
            || {
                let (half_open, deadline) = (half_open.show(), pg.deadline.show());
                format!("{half_open} must be longer than a probe may take ({deadline}), or 0s for no limit")
            },
        );
        let is_time = circuit.sliding_window_type == WindowType::Time;
        checker.require(
            !is_time || circuit.sliding_window_size <= 3600,
            &[&key("circuit.sliding_window_size")],
            || format!("{} seconds are more than 3600", circuit.sliding_window_size),
        );
        let (minimum, size) = (circuit.minimum_number_of_calls, circuit.sliding_window_size);
        checker.require(
            is_time || minimum <= size,
            &[&key("circuit.minimum_number_of_calls"), &key("circuit.sliding_window_size")],
            || format!("at least {minimum} results are needed, but the window holds only {size} calls"),
        );
    }
}

fn reconciler(checker: &mut Checker, reconciler: &ReconcilerSettings, query: &GatewayCallSettings) {
    checker.ordered(
        ("reconciler.min_age", reconciler.min_age),
        ("reconciler.force_fail_after", reconciler.force_fail_after),
    );
    checker.require(reconciler.watch_after.is_sorted(), &["reconciler.watch_after"], || {
        "the times must not decrease, since each counts from the payment's failure".to_owned()
    });
    let attempt = query.connect_timeout + query.read_timeout + query.retry.max_interval;
    let longest = attempt.saturating_mul(query.retry.max_attempts);
    checker.require(reconciler.lease > longest, &["reconciler.lease"], || {
        let (lease, longest) = (reconciler.lease.show(), longest.show());
        format!("a lease of {lease} can end while its look-up, which may take {longest} with its retries, is under way")
    });
}
