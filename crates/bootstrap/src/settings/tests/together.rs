//! Rules between settings, and what only an adapter can judge.

use super::*;

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let table: &[(&str, &[&str])] = &[
        (
            "pg.query.circuit.max_wait_duration_in_half_open_state = \"4500ms\"",
            &["pg.query.circuit.max_wait_duration_in_half_open_state", "longer than a probe"],
        ),
        (
            "pg.query.circuit.sliding_window_type = \"time\"\npg.query.circuit.sliding_window_size = 3601",
            &["pg.query.circuit.sliding_window_size", "3600"],
        ),
        ("ops.bind = \"0.0.0.0:8081\"", &["ops.bind", "ops.token must be set", "HOLDFAST__OPS__TOKEN"]),
        ("reconciler.bind = \"[::]:8083\"", &["reconciler.bind", "ops.token must be set"]),
        ("ops.bind = \"127.0.0.1:9\"\nserver.bind = \"127.0.0.1:9\"", &["ops.bind", "server.bind"]),
        ("pg.deadline = \"1999ms\"", &["pg.payment.connect_timeout", "pg.deadline", "2s"]),
        ("pg.query.read_timeout = \"4s\"", &["pg.query.read_timeout", "pg.deadline"]),
        (
            "pg.deadline = \"4700ms\"",
            &["orders.response_deadline", "pg.deadline", "up to 5100ms", "5s promised"],
        ),
        (
            "pg.payment.read_timeout = \"699ms\"",
            &["pg.payment.circuit.slow_call_duration", "pg.payment.read_timeout (699ms)"],
        ),
        (
            "pg.query.circuit.slow_call_duration = \"501ms\"",
            &["pg.query.circuit.slow_call_duration is 501ms"],
        ),
        (
            "pg.payment.circuit.sliding_window_size = 19",
            &["pg.payment.circuit.minimum_number_of_calls", "at least 20", "only 19"],
        ),
        (
            "pg.query.retry.initial_interval = \"2s\"",
            &["pg.query.retry.initial_interval", "pg.query.retry.max_interval (1s)"],
        ),
        (
            "pg.payment.circuit.wait_duration_in_open_state = \"2m\"",
            &["pg.payment.circuit.max_wait_duration_in_open_state"],
        ),
        (
            "orders.conflict_wait_min = \"1s\"",
            &["orders.conflict_wait_min is 1s", "orders.conflict_wait_max (500ms)"],
        ),
        (
            "database.lock_timeout = \"4s\"",
            &["database.lock_timeout is 4s", "database.statement_timeout (3s)"],
        ),
        ("reconciler.min_age = \"6m\"", &["reconciler.min_age is 6m", "reconciler.force_fail_after (5m)"]),
        ("reconciler.watch_after = [\"5m\", \"1m\"]", &["reconciler.watch_after", "must not decrease"]),
        ("reconciler.lease = \"5s\"", &["reconciler.lease", "5s"]),
        ("auth.mode = \"jwt\"", &["auth.jwt.audience", "auth.jwt.jwks_file"]),
        (
            "auth.mode = \"jwt\"\nauth.jwt.audience = \"shop\"\nauth.jwt.algorithms = [\"HS256\"]",
            &["auth.jwt.secret", "HS256"],
        ),
        (
            "auth.mode = \"jwt\"\nauth.jwt.audience = \"shop\"\nauth.jwt.jwks_file = \"/nonexistent/jwks.json\"",
            &["auth.jwt.jwks_file", "cannot read /nonexistent/jwks.json"],
        ),
    ];
    for (toml, expected) in table {
        let message = message(toml, &[]);
        for part in *expected {
            assert!(message.contains(part), "{toml}\n{message}\nlacks {part}");
        }
    }
}

/// What the database's address demands is kept, or the program does not start; nothing of it is shown but a parameter's name.
#[test]
fn an_address_that_demands_what_is_not_there_is_refused() {
    let refused = |parameters: &str| {
        let url = format!("postgres://app:hunter2@localhost/holdfast{parameters}");
        match load(None, Environment::from_pairs([(URL.0, url)])) {
            Ok(_) => format!("accepted: {parameters}"),
            Err(error) => error.to_string(),
        }
    };
    for (parameters, expected) in [
        ("?sslmode=verify-full", "sslmode"),
        ("?sslmode=verify-ca", "sslmode"),
        ("?sslmode=require", "sslmode"),
        ("?sslmode=REQUIRE", "sslmode"),
        ("?sslmode=", "sslmode"),
        ("?sslmode=disable&sslmode=require", "sslmode"),
        ("?sslrootcert=/etc/ca.pem", "sslrootcert"),
        ("?sslnegotiation=direct", "sslnegotiation"),
        ("?channel_binding=require", "channel_binding"),
        ("?foo=bar", "foo"),
        ("?Host=other", "Host"),
        ("?password=x&gssencmode=disable", "gssencmode"),
        ("?connect_timeout=5", "database.connect_timeout"),
        ("?application_name=shop", "application_name"),
        ("?keepalives=0", "keepalives"),
        ("?target_session_attrs=sometimes", "target_session_attrs"),
        ("?port=http", "port"),
        ("?foo", "(not shown)"),
        ("?hunter2@evil=1", "(not shown)"),
        ("?%66oo=bar", "(not shown)"),
    ] {
        let message = refused(parameters);
        assert!(
            message.starts_with("setting database.url (environment HOLDFAST__DATABASE__URL)"),
            "{message}"
        );
        assert!(message.contains(expected) && message.lines().count() == 1, "{parameters}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert!(refused("?sslmode=verify-full").contains("TLS"), "{}", refused("?sslmode=verify-full"));
    let bad_port = load(None, Environment::from_pairs([(URL.0, "postgres://app:hunter2@localhost:http/x")]));
    let message = bad_port.unwrap_err().to_string();
    assert!(message.contains("database.url") && !message.contains("hunter2"), "{message}");
    for parameters in [
        "",
        "?",
        "?sslmode=disable",
        "?sslmode=prefer",
        "?options=-csearch_path%3Dshop",
        "?host=/run/postgresql&port=5433",
        "?user=app&password=pa%26ss%3Dwo%40rd&dbname=shop",
        "?target_session_attrs=read-write&load_balance_hosts=random&channel_binding=disable",
        "?sslnegotiation=postgres",
    ] {
        assert!(refused(parameters).starts_with("accepted"), "{parameters}: {}", refused(parameters));
    }
}

#[test]
fn settings_at_the_edge_of_a_rule_are_accepted() {
    let table = [
        "ops.bind = \"0.0.0.0:8081\"\nops.token = \"0123456789abcdef\"",
        "ops.bind = \"[::1]:8081\"",
        "ops.bind = \"127.0.0.1:0\"\nserver.bind = \"127.0.0.1:0\"",
        "pg.deadline = \"2s\"",
        "pg.payment.read_timeout = \"700ms\"",
        "pg.payment.circuit.sliding_window_size = 20",
        "pg.payment.circuit.sliding_window_type = \"time\"\npg.payment.circuit.sliding_window_size = 10",
        "auth.mode = \"jwt\"\nauth.jwt.audience = \"shop\"\nauth.jwt.algorithms = [\"HS256\"]\nauth.jwt.secret = \"0123456789abcdef0123456789abcdef\"",
        // The reconciler's times may be 0s (tests and drills use that).
        "[reconciler]\nmin_age = \"0s\"\nforce_fail_after = \"0s\"\nnot_found_grace = \"0s\"\nbackoff_max = \"0s\"\nwatch_after = [\"0s\", \"0s\"]",
    ];
    for toml in table {
        assert!(from(toml, &[URL]).is_ok(), "{toml}: {}", message(toml, &[]));
    }
}

#[test]
fn risky_but_allowed_settings_are_warned_of() {
    let loaded = from("points.self_charge = true", &[URL]).unwrap();
    assert!(
        loaded.warnings.iter().any(|warning| warning.contains("points.self_charge")),
        "{:?}",
        loaded.warnings
    );
}
