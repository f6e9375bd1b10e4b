//! Every default. Where spec/01 or spec/03 gives one, it is that one; each of the others has its reason beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use secrecy::SecretString;

use super::sections::{
    AuthSettings, BatchSettings, CallbackSettings, CircuitSettings, CorsSettings, DatabaseSettings,
    EventSettings, GatewayCallSettings, GatewaySettings, IdempotencySettings, JwtSettings, LocaleSettings,
    LogSettings, OpsSettings, OrderSettings, PointSettings, RateLimitSettings, ReconcilerSettings,
    RetryBudgetSettings, RetrySettings, ServerSettings, Settings, SyncSettings,
};
use super::types::{
    AuthMode, BaseUrl, CronExpression, DatabaseUrl, JwtAlgorithm, Locale, LogFormat, WindowType,
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// The defaults on a machine with so many cores, with the callback secret that this process would use.
pub(super) fn settings(cores: usize, callback_secret: SecretString) -> Settings {
    Settings {
        server: server(cores),
        ops: OpsSettings { bind: loopback(8081), token: None },
        auth: auth(),
        cors: CorsSettings { allowed_origins: Vec::new() },
        // The bursts only count once a rate is set: twice and four times what a page with its calls needs.
        rate_limit: RateLimitSettings {
            user_per_second: 0,
            user_burst: 20,
            address_per_second: 0,
            address_burst: 40,
        },
        orders: orders(),
        // See docs/performance.md: more lanes make smaller batches and wait for each other's locks; larger batches gain nothing.
        batch: BatchSettings { size: 64, lanes: 2, queue: 4096, wait: secs(2) },
        idempotency: IdempotencySettings { retention: secs(24 * 3600) },
        // The poll keeps the promise of one second even when every notification is lost; proxies commonly close
        // after 30 s or 60 s of silence.
        events: EventSettings { max_streams: 20_000, poll_interval: ms(500), heartbeat_interval: secs(15) },
        points: PointSettings { self_charge: false },
        locale: LocaleSettings { default: Locale::Ko },
        database: database(cores),
        pg: gateway(callback_secret),
        // One payment's result takes the gateway 1-5 s: asking more often than every 2 s learns nothing.
        callback: CallbackSettings { query_interval: secs(2), concurrency: 64, max_hints: 20 },
        sync: SyncSettings { min_interval: secs(2) },
        reconciler: reconciler(),
        log: LogSettings { format: LogFormat::Human },
    }
}

fn server(cores: usize) -> ServerSettings {
    ServerSettings {
        bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
        workers: cores,
        // Above events.max_streams, so that streams alone can't shut ordinary requests out.
        max_connections: 25_000,
        // The largest order that means anything (100 products) is below 8 KiB.
        max_body_size: 65_536,
        // What other servers and proxies take by default; a browser's or a proxy's request has 10 to 30 headers and,
        // with a token, 1 to 4 KiB.
        max_head_size: 16_384,
        max_headers: 64,
        // The programs of this machine: nobody else can have passed a proxy's checks.
        trusted_proxies: LOOPBACK.to_vec(),
        // Above the 60 s after which common balancers close their idle connections, so that it is they who close.
        keep_alive: secs(75),
        client_request_timeout: secs(5),
        client_disconnect_timeout: secs(1),
        shutdown_grace: secs(5),
    }
}

fn auth() -> AuthSettings {
    AuthSettings {
        mode: AuthMode::Header,
        jwt: JwtSettings {
            jwks_file: None,
            secret: None,
            issuer: None,
            audience: None,
            algorithms: vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256],
            leeway: secs(30),
        },
    }
}

fn orders() -> OrderSettings {
    OrderSettings {
        // Twice the calls that may be under way: the other half is in its database transactions.
        max_in_flight: 512,
        response_deadline: secs(5),
        conflict_wait_min: ms(100),
        conflict_wait_max: ms(500),
        // With pg.deadline it stays below the response deadline.
        record_patience: ms(400),
    }
}

fn database(cores: usize) -> DatabaseSettings {
    DatabaseSettings {
        url: DatabaseUrl::not_set(),
        pool_size: cores.saturating_mul(4),
        settlement_pool_size: cores.saturating_mul(2),
        acquire_timeout: secs(2),
        connect_timeout: secs(2),
        max_connection_age: secs(1800),
        statement_timeout: secs(3),
        lock_timeout: secs(1),
        idle_in_transaction_session_timeout: secs(2),
        client_connection_check_interval: secs(1),
    }
}

fn gateway(callback_secret: SecretString) -> GatewaySettings {
    GatewaySettings {
        base_url: BaseUrl::known("http://localhost:8082"),
        merchant_id: "holdfast".to_owned(),
        callback_base_url: BaseUrl::known("http://localhost:8080"),
        callback_secret,
        deadline: ms(4_500),
        max_concurrent_calls: 256,
        probe_before_retry: true,
        // A hundred times the longest answer of the protocol but for lists of hundreds of transactions.
        max_answer_size: 65_536,
        max_transactions: 200,
        // Shorter than the idle time of common servers, so that it is we who close.
        idle_connection_timeout: secs(4),
        // As many calls at one moment as may be under way need 159 retries of the documented gateway, and some more.
        retry_budget: RetryBudgetSettings { tokens_per_call: 1.0, tokens_per_second: 10.0, capacity: 200 },
        payment: GatewayCallSettings {
            connect_timeout: secs(1),
            read_timeout: secs(1),
            retry: retry(4),
            circuit: CircuitSettings {
                sliding_window_size: 100,
                minimum_number_of_calls: 20,
                failure_rate_threshold: 30,
                slow_call_duration: ms(700),
                ..circuit()
            },
        },
        query: GatewayCallSettings {
            connect_timeout: secs(1),
            read_timeout: ms(500),
            retry: retry(2),
            circuit: circuit(),
        },
    }
}

const fn retry(max_attempts: u32) -> RetrySettings {
    RetrySettings {
        max_attempts,
        initial_interval: ms(100),
        multiplier: 2.0,
        max_interval: secs(1),
        // Enough to pull apart what failed together, while waits still grow.
        jitter_percent: 50,
    }
}

/// The circuit `pg-query`; `pg-payment` differs in four values.
const fn circuit() -> CircuitSettings {
    CircuitSettings {
        sliding_window_type: WindowType::Count,
        sliding_window_size: 50,
        minimum_number_of_calls: 10,
        failure_rate_threshold: 20,
        slow_call_rate_threshold: 50,
        slow_call_duration: ms(400),
        wait_duration_in_open_state: secs(5),
        // Little growth: probes cost a dead gateway next to nothing, and a long wait keeps buyers out after it is back.
        open_wait_multiplier: 1.0,
        max_wait_duration_in_open_state: secs(10),
        open_wait_jitter_percent: 20,
        permitted_calls_in_half_open: 3,
        // Twice what a probe may take.
        max_wait_duration_in_half_open_state: secs(10),
    }
}

fn reconciler() -> ReconcilerSettings {
    ReconcilerSettings {
        bind: loopback(8083),
        schedule: CronExpression::known("0 * * * * *"),
        batch_size: 100,
        concurrency: 16,
        // A turn ends before the next one begins.
        turn_timeout: secs(50),
        // Many times the longest examination (look-ups with their retries, one transaction).
        lease: secs(60),
        min_age: secs(60),
        force_fail_after: secs(5 * 60),
        not_found_confirmations: 2,
        not_found_grace: secs(60),
        watch_after: vec![secs(60), secs(5 * 60), secs(30 * 60), secs(2 * 3600), secs(24 * 3600)],
        // With a turn each minute this stays within the progress promise (I9: 5 min and two intervals).
        backoff_max: secs(5 * 60),
        // A payment that fails so often has been failing for more than an hour.
        park_after_failures: 20,
        interlock_lost_keys: 3,
        interlock_not_found_percent: 20,
    }
}
