use std::path::PathBuf;
use std::time::Duration;

use super::*;

mod together;

const URL: (&str, &str) = ("DATABASE_URL", "postgres://app:hunter2@localhost/holdfast");

/// A file of its own below the target directory's temporary folder, removed when dropped.
struct File(PathBuf);

impl File {
    fn with(text: impl AsRef<[u8]>) -> Self {
        let name: String = OsEntropy.token().iter().map(|byte| format!("{byte:02x}")).collect();
        let path = std::env::temp_dir().join(format!("holdfast-settings-{name}.toml"));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn from(toml: &str, environment: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    let file = File::with(toml);
    load(Some(&file.0), Environment::from_pairs(environment.iter().copied()))
}

/// With a database address, so that nothing but the case itself is wrong.
fn message(toml: &str, environment: &[(&str, &str)]) -> String {
    let mut environment = environment.to_vec();
    environment.push(URL);
    match from(toml, &environment) {
        Ok(_) => format!("accepted: {toml} {environment:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn defaults_are_those_of_the_contract() {
    let loaded = load(None, Environment::from_pairs([URL])).unwrap();
    let value = |key: &str| loaded.effective.iter().find(|v| v.key == key).map(|v| v.value.as_str());
    let contract = [
        ("server.bind", "0.0.0.0:8080"),
        ("server.trusted_proxies", r#"["127.0.0.0/8","::1/128"]"#),
        // Balancers in front commonly keep theirs for 60 s.
        ("server.keep_alive", "75s"),
        ("ops.bind", "127.0.0.1:8081"),
        ("ops.token", "none"),
        ("database.acquire_timeout", "2s"),
        ("pg.base_url", "http://localhost:8082"),
        ("pg.merchant_id", "holdfast"),
        ("pg.callback_base_url", "http://localhost:8080"),
        ("pg.deadline", "4500ms"),
        ("pg.max_concurrent_calls", "256"),
        ("pg.probe_before_retry", "true"),
        ("pg.payment.connect_timeout", "1s"),
        ("pg.payment.read_timeout", "1s"),
        ("pg.payment.retry.max_attempts", "4"),
        ("pg.payment.retry.initial_interval", "100ms"),
        ("pg.payment.retry.max_interval", "1s"),
        ("pg.payment.circuit.failure_rate_threshold", "30"),
        ("pg.payment.circuit.slow_call_rate_threshold", "50"),
        ("pg.payment.circuit.slow_call_duration", "700ms"),
        ("pg.payment.circuit.sliding_window_size", "100"),
        ("pg.payment.circuit.minimum_number_of_calls", "20"),
        ("pg.payment.circuit.wait_duration_in_open_state", "5s"),
        ("pg.payment.circuit.permitted_calls_in_half_open", "3"),
        ("pg.query.connect_timeout", "1s"),
        ("pg.query.read_timeout", "500ms"),
        ("pg.query.retry.max_attempts", "2"),
        ("pg.query.retry.initial_interval", "100ms"),
        ("pg.query.retry.max_interval", "1s"),
        ("pg.query.circuit.failure_rate_threshold", "20"),
        ("pg.query.circuit.slow_call_rate_threshold", "50"),
        ("pg.query.circuit.slow_call_duration", "400ms"),
        ("pg.query.circuit.sliding_window_size", "50"),
        ("pg.query.circuit.minimum_number_of_calls", "10"),
        ("pg.query.circuit.wait_duration_in_open_state", "5s"),
        ("pg.query.circuit.permitted_calls_in_half_open", "3"),
        ("points.self_charge", "false"),
        ("locale.default", "ko"),
        ("auth.mode", "header"),
        ("reconciler.bind", "127.0.0.1:8083"),
        ("reconciler.schedule", "0 * * * * *"),
        ("reconciler.batch_size", "100"),
        ("reconciler.concurrency", "16"),
        ("reconciler.min_age", "1m"),
        ("reconciler.force_fail_after", "5m"),
        ("reconciler.not_found_confirmations", "2"),
        ("reconciler.not_found_grace", "1m"),
        ("reconciler.watch_after", r#"["1m","5m","30m","2h","24h"]"#),
    ];
    for (key, expected) in contract {
        assert_eq!(value(key), Some(expected), "{key}");
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(loaded.settings.database.pool_size, 4 * cores);
}

/// Each default, written as documented, is accepted from the environment and from a file, and comes back the same.
#[test]
fn every_default_reads_back_from_both_sources() {
    let secret = "s".repeat(64);
    for described in keys() {
        let text = match described.default.as_str() {
            "none" if described.key == "database.url" => URL.1,
            _ if described.key == "pg.callback_secret" => secret.as_str(),
            _ if described.is_worked_out => "7",
            "none" => continue,
            written => written,
        };
        let by_environment =
            load(None, Environment::from_pairs([URL, (described.env.as_str(), text)])).unwrap();
        let bare = text.parse::<f64>().is_ok() || matches!(text, "true" | "false") || text.starts_with('[');
        let toml = if bare {
            format!("{} = {text}", described.key)
        } else {
            format!("{} = {text:?}", described.key)
        };
        let by_file = from(&toml, if described.key == "database.url" { &[] } else { &[URL] })
            .unwrap_or_else(|error| panic!("{toml}: {error}"));
        let value =
            |loaded: &Loaded| loaded.effective.iter().find(|v| v.key == described.key).cloned().unwrap();
        let (environment, file) = (value(&by_environment), value(&by_file));
        assert_eq!(environment.value, file.value, "{}", described.key);
        assert_eq!(
            (environment.source, file.source),
            (Source::Environment, Source::File),
            "{}",
            described.key
        );
        if !described.is_worked_out && described.key != "database.url" {
            assert_eq!(environment.value, described.default, "{}", described.key);
        }
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let toml = "[pg]\ndeadline = \"4s\"\nmerchant_id = \"from-file\"\n[pg.payment.retry]\nmax_attempts = 2";
    let loaded = from(toml, &[URL, ("HOLDFAST__PG__MERCHANT_ID", "from-env"), ("UNRELATED", "x")]).unwrap();
    assert_eq!(loaded.settings.pg.merchant_id, "from-env");
    assert_eq!(loaded.settings.pg.deadline, Duration::from_secs(4));
    assert_eq!(loaded.settings.pg.payment.retry.max_attempts, 2);
    assert_eq!(loaded.settings.pg.query.retry.max_attempts, 2);
    assert_eq!(loaded.settings.pg.max_concurrent_calls, 256);
}

#[test]
fn database_url_has_a_second_name_that_yields_to_the_first() {
    let first = ("HOLDFAST__DATABASE__URL", "postgres://first/db");
    let only_second = load(None, Environment::from_pairs([URL])).unwrap();
    assert_eq!(only_second.settings.database.url.expose(), URL.1);
    for both in [[first, URL], [URL, first]] {
        assert_eq!(
            load(None, Environment::from_pairs(both)).unwrap().settings.database.url.expose(),
            first.1
        );
    }
    let over_file = from("database.url = \"postgres://file/db\"", &[URL]).unwrap();
    assert_eq!(over_file.settings.database.url.expose(), URL.1);
}

#[test]
fn an_empty_environment_value_counts_as_not_set() {
    let loaded = load(None, Environment::from_pairs([URL, ("HOLDFAST__OPS__TOKEN", "")])).unwrap();
    assert!(loaded.settings.ops.token.is_none());
}

#[test]
fn the_database_address_is_needed() {
    let error = load(None, Environment::default()).unwrap_err().to_string();
    assert_eq!(
        error,
        "setting database.url (environment HOLDFAST__DATABASE__URL) is not set: expected an address such as \
         `postgres://user:password@localhost:5432/holdfast`"
    );
}

#[test]
fn wrong_values_are_named_with_what_is_allowed() {
    let environment = [
        (
            ("HOLDFAST__PG__DEADLINE", "9h"),
            "setting pg.deadline (environment HOLDFAST__PG__DEADLINE) is \"9h\" in the environment: expected a time such as `700ms`, `1s`, `5m` or `2h`, from 100ms to 1m",
        ),
        (
            ("HOLDFAST__PG__DEADLINE", "5"),
            "setting pg.deadline (environment HOLDFAST__PG__DEADLINE) is \"5\" in the environment: expected a time",
        ),
        (
            ("HOLDFAST__SERVER__BIND", "8080"),
            "setting server.bind (environment HOLDFAST__SERVER__BIND) is \"8080\" in the environment: expected an IP address and port",
        ),
        (
            ("HOLDFAST__PG__PAYMENT__CIRCUIT__FAILURE_RATE_THRESHOLD", "101"),
            "setting pg.payment.circuit.failure_rate_threshold (environment HOLDFAST__PG__PAYMENT__CIRCUIT__FAILURE_RATE_THRESHOLD) is \"101\" in the environment: expected a whole number from 1 to 100",
        ),
        // Shorter ones would never end anything.
        (("HOLDFAST__SERVER__KEEP_ALIVE", "999ms"), "0s or from 1s to 1h"),
        (("HOLDFAST__SERVER__CLIENT_REQUEST_TIMEOUT", "999ms"), "from 1s to 1m"),
        (("HOLDFAST__SERVER__CLIENT_DISCONNECT_TIMEOUT", "999ms"), "from 1s to 1m"),
        (("HOLDFAST__PG__PROBE_BEFORE_RETRY", "yes"), "expected `true` or `false`"),
        (("HOLDFAST__AUTH__MODE", "none"), "expected one of `header` `jwt`"),
        (("HOLDFAST__PG__BASE_URL", "localhost:8082"), "expected an address such as"),
        (("HOLDFAST__PG__MERCHANT_ID", "two words"), "expected text of 1 to 100 visible ASCII characters"),
        (("HOLDFAST__RECONCILER__SCHEDULE", "hourly"), "expected a cron expression"),
        (("HOLDFAST__RECONCILER__WATCH_AFTER", "[]"), "expected a list of 1 to 20 entries, each a time"),
        (("HOLDFAST__PG__RETRY_BUDGET__TOKENS_PER_CALL", "-0.5"), "expected a number from 0 to 10"),
        (("HOLDFAST__CORS__ALLOWED_ORIGINS", "*"), "each an origin such as"),
        (("HOLDFAST__SERVER__TRUSTED_PROXIES", "10.1.2.3/8"), "each an address or a network such as"),
    ];
    for ((name, value), expected) in environment {
        let message = message("", &[(name, value)]);
        assert!(message.contains(expected), "{name}={value}: {message}");
        assert!(message.contains(name) && message.lines().count() == 1, "{message}");
    }
    let file = [
        (
            "pg.deadline = 5",
            "setting pg.deadline (environment HOLDFAST__PG__DEADLINE) is 5 in the configuration file: expected a time",
        ),
        (
            "pg.max_concurrent_calls = \"256\"",
            "setting pg.max_concurrent_calls (environment HOLDFAST__PG__MAX_CONCURRENT_CALLS) is \"256\" in the configuration file: expected a whole number from 1 to 100000",
        ),
        ("pg.max_concurrent_calls = 0", "is 0 in the configuration file"),
        ("[pg.deadline]", "setting pg.deadline"),
        ("reconciler.watch_after = [\"1m\", 5]", "setting reconciler.watch_after"),
        ("points.self_charge = \"true\"", "expected `true` or `false`"),
    ];
    for (toml, expected) in file {
        let message = message(toml, &[]);
        assert!(message.contains(expected), "{toml}: {message}");
    }
}

#[test]
fn unknown_keys_are_named_with_the_one_that_was_meant() {
    let table = [
        (
            "pg.dedline = \"4s\"",
            "",
            "unknown setting pg.dedline in the configuration file; did you mean pg.deadline?",
        ),
        ("[pg.payment]\nretries = 3", "", "unknown setting pg.payment.retries in the configuration file"),
        (
            "zzz = 1",
            "",
            "unknown setting zzz in the configuration file; docs/configuration.md lists every key",
        ),
        ("pg = 1", "", "unknown setting pg in the configuration file"),
        ("[pg.deadline]\nseconds = 4", "", "unknown setting pg.deadline.seconds in the configuration file"),
        ("[nothing]", "", "unknown setting nothing in the configuration file"),
        (
            "",
            "HOLDFAST__PG__DEDLINE",
            "unknown setting HOLDFAST__PG__DEDLINE in the environment; did you mean HOLDFAST__PG__DEADLINE?",
        ),
        ("", "HOLDFAST__log__format", "unknown setting HOLDFAST__log__format in the environment"),
        ("", "HOLDFAST__LOG", "unknown setting HOLDFAST__LOG in the environment"),
        ("", "HOLDFAST__", "unknown setting HOLDFAST__ in the environment"),
    ];
    for (toml, name, expected) in table {
        let environment: Vec<(&str, &str)> =
            Some((name, "4s")).filter(|_| !name.is_empty()).into_iter().collect();
        let message = message(toml, &environment);
        assert!(message.starts_with(expected), "{toml}{name}: {message}");
    }
    assert!(from("[pg]\n[pg.payment]", &[URL]).is_ok(), "an empty section is no mistake");
    assert!(from("", &[URL, ("HOLDFAST_CRASH_AT", "C7:3")]).is_ok(), "one underscore is not ours");
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let message = message("nonsense = 1\npg.deadline = \"0s\"", &[("HOLDFAST__SERVER__BIND", "x")]);
    assert_eq!(message.lines().count(), 3, "{message}");
    for key in ["nonsense", "pg.deadline", "server.bind"] {
        assert!(message.contains(key), "{message}");
    }
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named() {
    let missing = load(Some(Path::new("/nonexistent/holdfast.toml")), Environment::default()).unwrap_err();
    assert!(
        missing.to_string().starts_with("cannot read the configuration file /nonexistent/holdfast.toml: ")
    );

    let not_text = File::with([0xff, 0xfe, 0x00]);
    let error = load(Some(&not_text.0), Environment::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration file"), "{error}");

    for toml in [
        "[ops]\ntoken = \"swordfish-swordfish",
        "[ops]\ntoken = swordfish-swordfish",
        "[ops]\ntoken swordfish",
    ] {
        let message = message(toml, &[]);
        assert!(message.contains(".toml:2:") && message.contains("not valid TOML"), "{message}");
        assert!(!message.contains("swordfish"), "the line is not shown: {message}");
    }
    let twice = message("[pg]\ndeadline = \"1s\"\ndeadline = \"2s\"", &[]);
    assert!(twice.contains(".toml:3:1"), "{twice}");
}

#[cfg(unix)]
#[test]
fn an_environment_value_that_is_not_text_is_named() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    let value = OsString::from_vec(vec![0xff]);
    let environment = Environment::from_pairs([("HOLDFAST__PG__MERCHANT_ID", value), (URL.0, URL.1.into())]);
    let error = load(None, environment).unwrap_err().to_string();
    assert_eq!(error, "the environment's HOLDFAST__PG__MERCHANT_ID is not Unicode text");
}

#[test]
fn secrets_are_shown_nowhere() {
    const CANARY: &str = "canary-0123456789-0123456789-0123456789";
    let url = format!("postgres://app:{CANARY}@localhost/holdfast?password={CANARY}");
    let set = [
        ("HOLDFAST__DATABASE__URL", url.as_str()),
        ("HOLDFAST__OPS__TOKEN", CANARY),
        ("HOLDFAST__PG__CALLBACK_SECRET", CANARY),
        ("HOLDFAST__AUTH__JWT__SECRET", CANARY),
    ];
    let loaded = load(None, Environment::from_pairs(set)).unwrap();
    let shown = format!("{loaded} {loaded:?} {:?}", loaded.settings);
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("ops.token = (set, not shown) (environment)"), "{shown}");
    assert!(shown.contains("database.url = localhost/holdfast (environment)"), "{shown}");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);

    let short = "canary";
    for (name, _) in set {
        let message = message("", &[(name, short)]);
        assert!(message.contains(name) && !message.contains("canary"), "{message}");
        let key = name.trim_start_matches("HOLDFAST__").replace("__", ".").to_lowercase();
        let Err(error) = from(&format!("{key} = \"{short}\""), &[]) else { panic!("{key} accepted") };
        assert!(error.to_string().contains(&key) && !error.to_string().contains("canary"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[test]
fn a_missing_callback_secret_is_made_and_told_without_being_shown() {
    use secrecy::ExposeSecret as _;

    let load = || load(None, Environment::from_pairs([URL])).unwrap();
    let (one, two) = (load(), load());
    let secret = one.settings.pg.callback_secret.expose_secret();
    assert!(secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_ne!(secret, two.settings.pg.callback_secret.expose_secret());
    let [warning] = one.warnings.as_slice() else { panic!("{:?}", one.warnings) };
    assert!(
        warning.contains("HOLDFAST__PG__CALLBACK_SECRET") && warning.contains("several servers"),
        "{warning}"
    );
    assert!(!warning.contains(secret) && !one.to_string().contains(secret));
}

#[test]
fn no_key_is_described_twice_or_without_words() {
    let keys = keys();
    let names: std::collections::BTreeSet<&str> =
        keys.iter().map(|described| described.key.as_str()).collect();
    assert_eq!(names.len(), keys.len());
    for described in &keys {
        assert!(described.meaning.ends_with('.') && described.meaning.len() > 10, "{described:?}");
        assert!(!described.default.is_empty() && !described.allowed.is_empty(), "{described:?}");
        assert_eq!(described.env, source::env_name(&described.key));
    }
}

/// `docs/configuration.md` is generated: `UPDATE_DOCS=1 cargo test -p bootstrap` writes it, otherwise drift fails.
#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of this test, not a setting")]
fn the_reference_in_the_docs_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let expected = reference::replace(&document, &reference::tables(&keys())).expect("the marks are there");
    if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(
            document == expected,
            "docs/configuration.md is out of date: UPDATE_DOCS=1 cargo test -p bootstrap"
        );
    }
}
