//! Every setting: its name (the field's), type, allowed values and meaning stand in one place each.
//!
//! The field's documentation is the key's meaning in `docs/configuration.md`; the path of fields is the key:
//! `settings.pg.payment.read_timeout` is `pg.payment.read_timeout`. Defaults stand in `defaults.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::reader::{Reader, join};
use super::types::{
    AuthMode, BaseUrl, CronExpression, DatabaseUrl, JwtAlgorithm, Locale, LogFormat, Origin, WindowType,
};
use super::value::{Rule, any, between, each, optional, secret_of, visible_text, zero_or_between};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Makes a struct of settings and the function that reads it, so that no field can be forgotten in either.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $( keys { $( $(#[doc = $meaning:literal])+ $field:ident: $type:ty => $rule:expr, )+ } )?
            $( sections { $( $(#[doc = $inner_about:literal])+ $inner:ident: $inner_type:ty, )+ } )?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone)]
        pub struct $name {
            $( $( $(#[doc = $meaning])+ pub $field: $type, )+ )?
            $( $( $(#[doc = $inner_about])+ pub $inner: $inner_type, )+ )?
        }

        impl $name {
            pub(crate) fn read(reader: &mut Reader, section: &str, defaults: Self) -> Self {
                Self {
                    $( $( $field: reader.take(
                        section,
                        stringify!($field),
                        concat!($($meaning),+).trim(),
                        &$rule,
                        defaults.$field,
                    ), )+ )?
                    $( $( $inner: <$inner_type>::read(
                        reader,
                        &join(section, stringify!($inner)),
                        defaults.$inner,
                    ), )+ )?
                }
            }
        }
    };
}

section! {
    /// All settings of all programs. A program reads what concerns it, so that one file serves them all.
    pub struct Settings {
        sections {
            /// The public API.
            server: ServerSettings,
            /// The operations port of the app-server.
            ops: OpsSettings,
            /// Who is asking.
            auth: AuthSettings,
            /// Browsers of other origins.
            cors: CorsSettings,
            /// How many requests a caller may make.
            rate_limit: RateLimitSettings,
            /// Placing orders.
            orders: OrderSettings,
            /// Orders and settlements in batches.
            batch: BatchSettings,
            /// Repeated requests.
            idempotency: IdempotencySettings,
            /// Telling clients of changes.
            events: EventSettings,
            /// Points.
            points: PointSettings,
            /// Messages.
            locale: LocaleSettings,
            /// PostgreSQL.
            database: DatabaseSettings,
            /// The payment gateway.
            pg: GatewaySettings,
            /// Callbacks of the payment gateway.
            callback: CallbackSettings,
            /// Syncs by hand.
            sync: SyncSettings,
            /// The reconciler.
            reconciler: ReconcilerSettings,
            /// Logging.
            log: LogSettings,
        }
    }
}

// The HTTP library reads the time twice a second. A time-out that is shorter may be over before it has begun, and then it
// never ends anything: hence the second that its three times must have.
section! {
    /// The public API's listener and its limits.
    pub struct ServerSettings {
        keys {
            /// Address and port of the public API.
            bind: SocketAddr => any(),
            /// Threads that serve requests.
            workers: usize => between(1, 256).default_is("number of cores"),
            /// Connections open at once, over all workers; more wait in the operating system's backlog.
            max_connections: usize => between(1, 1_000_000),
            /// Bytes a request body may have (413 above; the callback has its own limit of 8 KiB by contract).
            max_body_size: usize => between(1024, 1_048_576),
            /// Bytes a request's head (its first line and all headers) may have (431 above; over 128 KiB the connection is
            /// closed with a bare 431).
            max_head_size: usize => between(1024, 131_072),
            /// Headers a request may have (431 above; over 96 the connection is closed with a bare 431).
            max_headers: usize => between(8, 96),
            /// Addresses and networks of the gateways and balancers in front. Who the client is, is read from `Forwarded` or
            /// `X-Forwarded-For` when the connection comes from one of them, and in `auth.mode = "header"` the header `X-USER-ID` is
            /// believed from them alone (401 else).
            trusted_proxies: Vec<IpNet> => each(0..=100, any()),
            /// How long an idle connection is kept; `0s` closes it after each answer. Longer than a balancer in front keeps
            /// its own (60 s is common), else it sends requests into connections that are just being closed.
            keep_alive: Duration => zero_or_between(secs(1), secs(3600)),
            /// How long a client may take to send a request's headers.
            client_request_timeout: Duration => between(secs(1), secs(60)),
            /// How long a client may take to close its connection.
            client_disconnect_timeout: Duration => between(secs(1), secs(60)),
            /// How long work under way may take after SIGTERM; what is left then is the reconciler's.
            shutdown_grace: Duration => between(ms(0), secs(300)),
        }
    }
}

section! {
    /// The operations port: health, metrics, admin calls, console.
    pub struct OpsSettings {
        keys {
            /// Address and port of the app-server's operations port.
            bind: SocketAddr => any(),
            /// Bearer token of the operations ports; without one they listen on loopback only.
            token: Option<SecretString> => optional(secret_of(16)),
        }
    }
}

section! {
    /// Who is asking.
    pub struct AuthSettings {
        keys {
            /// `header`: the gateway in front is trusted to set `X-USER-ID`; `jwt`: a bearer token is checked.
            mode: AuthMode => any(),
        }
        sections {
            /// What a token must be like in the mode `jwt`.
            jwt: JwtSettings,
        }
    }
}

section! {
    /// Bearer tokens, used with `auth.mode = "jwt"` only.
    pub struct JwtSettings {
        keys {
            /// JSON file with the public keys (JWKS) of RS256 and ES256. Looked at every 5 s: a change needs no restart.
            jwks_file: Option<PathBuf> => optional(any()),
            /// Shared secret of HS256.
            secret: Option<SecretString> => optional(secret_of(32)),
            /// Issuer (`iss`) a token must have; none: not checked.
            issuer: Option<String> => optional(visible_text(200)),
            /// Audience (`aud`) a token must have; needed in the mode `jwt`.
            audience: Option<String> => optional(visible_text(200)),
            /// Signature algorithms that are accepted.
            algorithms: Vec<JwtAlgorithm> => each(1..=3, any()),
            /// Difference of clocks forgiven when a token's times are checked.
            leeway: Duration => between(ms(0), secs(300)),
        }
    }
}

section! {
    /// Cross-origin requests.
    pub struct CorsSettings {
        keys {
            /// Origins whose pages may call the API; empty: no CORS headers at all.
            allowed_origins: Vec<Origin> => each(0..=100, any()),
        }
    }
}

section! {
    /// Rate limits of the public API, off by default.
    pub struct RateLimitSettings {
        keys {
            /// Requests a second a buyer may make on average; 0: no limit.
            user_per_second: u32 => between(0, 100_000),
            /// Requests a buyer may make at once.
            user_burst: u32 => between(1, 100_000),
            /// Requests a second an address may make on average; 0: no limit.
            address_per_second: u32 => between(0, 100_000),
            /// Requests an address may make at once.
            address_burst: u32 => between(1, 100_000),
        }
    }
}

section! {
    /// Placing orders.
    pub struct OrderSettings {
        keys {
            /// Orders under way at once in one process; more are refused with 503 before anything is taken.
            max_in_flight: usize => between(1, 100_000),
            /// After this long the buyer is told that the payment is being confirmed; the order's flow goes on.
            response_deadline: Duration => between(ms(100), secs(60)),
            /// The placing transaction is tried once more after a lost optimistic race; shortest random wait before that.
            conflict_wait_min: Duration => between(ms(0), secs(5)),
            /// Longest such wait.
            conflict_wait_max: Duration => between(ms(0), secs(5)),
            /// After `pg.deadline`, storing what came of the gateway call is tried for so long before it is the reconciler's.
            record_patience: Duration => between(ms(0), secs(60)),
        }
    }
}

section! {
    /// Idempotency-Key.
    pub struct IdempotencySettings {
        keys {
            /// How long the first answer is kept and given again.
            retention: Duration => between(secs(60), secs(30 * 86_400)),
        }
    }
}

section! {
    /// Waiting for an order's end and server-sent events.
    pub struct EventSettings {
        keys {
            /// Event streams open at once in one process; more are refused with 503.
            max_streams: usize => between(0, 1_000_000),
            /// How often waiting requests look into the database, should a notification be lost.
            poll_interval: Duration => between(ms(50), secs(60)),
            /// How often an idle stream sends a comment, so that proxies keep it open.
            heartbeat_interval: Duration => between(secs(1), secs(300)),
        }
    }
}

section! {
    /// Points.
    pub struct PointSettings {
        keys {
            /// Whether buyers may charge their own points. Points are money: for development only.
            self_charge: bool => any(),
        }
    }
}

section! {
    /// Messages.
    pub struct LocaleSettings {
        keys {
            /// Language of messages when the client asks for none by Accept-Language.
            default: Locale => any(),
        }
    }
}

section! {
    /// PostgreSQL: where it is, the two pools, and what every session is limited to.
    pub struct DatabaseSettings {
        keys {
            /// Address with user and password; needed. `DATABASE_URL` is another name for it.
            url: DatabaseUrl => Rule::new(<DatabaseUrl as super::value::Value>::NOUN, DatabaseUrl::is_set),
            /// Connections for requests.
            pool_size: usize => between(1, 1000).default_is("4 x number of cores"),
            /// Connections for settling (callbacks, reconciler, watch list), apart, so that neither starves the other.
            settlement_pool_size: usize => between(1, 1000).default_is("2 x number of cores"),
            /// Longest wait for a connection of a pool, before 503.
            acquire_timeout: Duration => between(ms(10), secs(60)),
            /// Longest time to open a connection.
            connect_timeout: Duration => between(ms(10), secs(60)),
            /// A connection is closed instead of used again from this age on, each one up to a quarter earlier, so that not all are at once.
            max_connection_age: Duration => between(secs(1), secs(86_400)),
            /// Longest run of one statement.
            statement_timeout: Duration => between(ms(100), secs(300)),
            /// Longest wait for a row lock.
            lock_timeout: Duration => between(ms(10), secs(60)),
            /// After this long the server ends a transaction that its owner abandoned, and frees its locks.
            idle_in_transaction_session_timeout: Duration => between(ms(100), secs(60)),
            /// How often the server looks whether the client of a running statement is still there.
            client_connection_check_interval: Duration => between(ms(0), secs(60)),
        }
    }
}

section! {
    /// The payment gateway (PG).
    pub struct GatewaySettings {
        keys {
            /// Address of the gateway, without `/api/v1/payments`.
            base_url: BaseUrl => any(),
            /// Merchant id, sent as `X-USER-ID`; stored with every payment, since look-ups see one merchant only.
            merchant_id: String => visible_text(100),
            /// Address under which the gateway reaches this API; the callback's path is added.
            callback_base_url: BaseUrl => any(),
            /// Secret that callback tokens are made with. Without one each process makes its own at start, and callbacks
            /// that reach another server, or come after a restart, are refused; must be set when several servers run.
            callback_secret: SecretString => secret_of(32).default_is("a random one, told in the log"),
            /// The whole gateway step of one order, retries and waits included, ends within this time.
            deadline: Duration => between(ms(100), secs(60)),
            /// Calls to the gateway under way at once; more fail at once as not reached.
            max_concurrent_calls: usize => between(1, 100_000),
            /// Ask by order id before sending again after a 500 or 503, and before compensating.
            probe_before_retry: bool => any(),
            /// Bytes an answer may have; a longer one is refused unread.
            max_answer_size: usize => between(1024, 16_777_216),
            /// Transactions of one order that are looked into; an order with more is not decided but put before a person.
            max_transactions: usize => between(1, 10_000),
            /// Idle connections are closed after this long; a stale one makes a request uncertain.
            idle_connection_timeout: Duration => between(ms(0), secs(300)),
        }
        sections {
            /// What retries may cost altogether.
            retry_budget: RetryBudgetSettings,
            /// Payment requests (circuit `pg-payment`).
            payment: GatewayCallSettings,
            /// Look-ups (circuit `pg-query`).
            query: GatewayCallSettings,
        }
    }
}

section! {
    /// The retry budget: a bucket of tokens, one taken by each retry.
    pub struct RetryBudgetSettings {
        keys {
            /// Tokens each call puts in. The documented gateway needs 0.62 retries per call.
            tokens_per_call: f64 => between(0.0, 10.0),
            /// Tokens that come in every second.
            tokens_per_second: f64 => between(0.0, 10_000.0),
            /// Tokens the bucket holds, and starts with.
            capacity: u32 => between(1, 1_000_000),
        }
    }
}

section! {
    /// One kind of call to the gateway.
    pub struct GatewayCallSettings {
        keys {
            /// Longest time to open a connection.
            connect_timeout: Duration => between(ms(10), secs(30)),
            /// Longest time from a request's first byte to its answer's last.
            read_timeout: Duration => between(ms(10), secs(30)),
        }
        sections {
            /// Repeating what surely did not reach the gateway.
            retry: RetrySettings,
            /// Calling no more when it makes no sense.
            circuit: CircuitSettings,
        }
    }
}

section! {
    /// Retries of one call.
    pub struct RetrySettings {
        keys {
            /// Attempts in all, the first included.
            max_attempts: u32 => between(1, 10),
            /// Wait before the second attempt.
            initial_interval: Duration => between(ms(1), secs(30)),
            /// The wait grows by this factor each time.
            multiplier: f64 => between(1.0, 10.0),
            /// Longest wait, before jitter.
            max_interval: Duration => between(ms(1), secs(30)),
            /// Jitter: the wait is shortened by a random share of up to so many percent.
            jitter_percent: u8 => between(0, 100),
        }
    }
}

section! {
    /// One circuit breaker; names and rules are those of Resilience4j.
    pub struct CircuitSettings {
        keys {
            /// `count`: the window holds the last N calls; `time`: the calls of the last N seconds.
            sliding_window_type: WindowType => any(),
            /// N: calls, or seconds (3600 at most).
            sliding_window_size: u32 => between(1, 65_536),
            /// No rate is known, and the circuit does not open, before so many results.
            minimum_number_of_calls: u32 => between(1, 65_536),
            /// The circuit opens when at least so many percent of the calls failed.
            failure_rate_threshold: u8 => between(1, 100),
            /// The circuit opens when at least so many percent of the calls were slow.
            slow_call_rate_threshold: u8 => between(1, 100),
            /// A call is slow when one attempt took longer.
            slow_call_duration: Duration => between(ms(1), secs(60)),
            /// How long an open circuit lets nothing through.
            wait_duration_in_open_state: Duration => between(ms(10), secs(3600)),
            /// The wait grows by this factor each time the circuit opens again without having closed.
            open_wait_multiplier: f64 => between(1.0, 10.0),
            /// Longest such wait, before jitter.
            max_wait_duration_in_open_state: Duration => between(ms(10), secs(3600)),
            /// The wait is lengthened by a random share of up to so many percent (at least half of it), so that servers
            /// don't probe together.
            open_wait_jitter_percent: u8 => between(0, 100),
            /// Calls let through when the wait is over, to see whether the gateway is back.
            permitted_calls_in_half_open: u32 => between(1, 1000),
            /// A half-open circuit that has not decided after this long opens again; `0s`: no limit.
            max_wait_duration_in_half_open_state: Duration => between(ms(0), secs(3600)),
        }
    }
}

section! {
    /// Orders, starts, settlements and callbacks that wait are stored together, each kind in batches of its own.
    pub struct BatchSettings {
        keys {
            /// Members of one batch at most.
            size: usize => between(1, 1000),
            /// Batches of one kind under way at once, in one process; each holds a connection.
            lanes: usize => between(1, 64),
            /// Orders, and callbacks, that wait at most; more are refused with 503 at once. Starts and settlements belong to
            /// orders and examinations under way, which have limits of their own.
            queue: usize => between(1, 1_000_000),
            /// Longest wait until a batch begins; then 503, and nothing was taken.
            wait: Duration => between(ms(10), secs(60)),
        }
    }
}

section! {
    /// Callbacks of the gateway: each may make us ask the gateway, so asking is throttled.
    pub struct CallbackSettings {
        keys {
            /// Least time between two questions about one payment that callbacks cause.
            query_interval: Duration => between(ms(0), secs(60)),
            /// Payments that callbacks make one process ask about at once; further ones wait.
            concurrency: usize => between(1, 1000),
            /// Keys named by callbacks for one payment that are looked up in one examination; the rest is next.
            max_hints: usize => between(1, 1000),
        }
    }
}

section! {
    /// Syncs by hand.
    pub struct SyncSettings {
        keys {
            /// Least time between two syncs of one payment; sooner ones answer 429.
            min_interval: Duration => between(ms(0), secs(60)),
        }
    }
}

section! {
    /// The reconciler: which payments it looks at, how often, and when it decides.
    pub struct ReconcilerSettings {
        keys {
            /// Address and port of the reconciler's operations port, in `run`.
            bind: SocketAddr => any(),
            /// When it turns, as a cron expression with seconds first; times are UTC.
            schedule: CronExpression => any(),
            /// Payments claimed at once.
            batch_size: u32 => between(1, 10_000),
            /// Payments examined at once by one process.
            concurrency: usize => between(1, 1000),
            /// Longest time one turn claims further batches; what is left waits for the next.
            turn_timeout: Duration => between(secs(1), secs(3600)),
            /// How long a claimed payment stays claimed, should its examiner die.
            lease: Duration => between(secs(1), secs(3600)),
            /// A payment is examined when it has not been final for this long.
            min_age: Duration => between(ms(0), secs(86_400)),
            /// A payment that the gateway still calls pending is failed after this long.
            force_fail_after: Duration => between(ms(0), secs(7 * 86_400)),
            /// How often the gateway must have said "no such transaction" before that is believed.
            not_found_confirmations: u32 => between(1, 100),
            /// "No such transaction" is believed so long after the send deadline; two such answers count as two when half
            /// of it (at most 30 s) lies between them.
            not_found_grace: Duration => between(ms(0), secs(86_400)),
            /// When a failed payment is asked about again, each counted from its failure.
            watch_after: Vec<Duration> => each(1..=20, between(ms(0), secs(30 * 86_400))),
            /// Longest wait after a payment could not be examined; it grows up to this with each further time.
            backoff_max: Duration => between(ms(0), secs(86_400)),
            /// A payment that failed to be examined so often in a row is parked with a ledger row.
            park_after_failures: u32 => between(1, 1000),
            /// So many "no such transaction" for keys we hold, in one batch, stop all such verdicts (interlock).
            interlock_lost_keys: u32 => between(1, 10_000),
            /// "No such transaction" for more than so many percent of a batch stops all such verdicts.
            interlock_not_found_percent: u32 => between(1, 100),
        }
    }
}

section! {
    /// Logging. The level is set by `RUST_LOG`.
    pub struct LogSettings {
        keys {
            /// `human` or `json` (one object a line).
            format: LogFormat => any(),
        }
    }
}
