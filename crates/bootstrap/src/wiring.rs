//! Builds the adapters from the settings and binds the use-cases to them: the one place where all crates meet.

use crate::entropy::OsEntropy;
use crate::settings::{
    CircuitSettings, DatabaseSettings, GatewayCallSettings, GatewaySettings, Settings, WindowType,
};
use adapters_db::{DatabaseOptions, PgListener, PgStore};
use adapters_pg::breaker::{Config as CircuitConfig, SlidingWindow};
use adapters_pg::retry_budget::RetryBudgetConfig;
use adapters_pg::{CallConfig, Circuits, GatewayConfig, GuardedGateway, RetryConfig};
use adapters_pg::{HttpConfig, HttpTransport};
use anyhow::Context as _;
use application::{Adapters, Application, BatchLimits, CallbackTokens, Policy};
use domain::MerchantId;
use domain::ports::{Entropy, Queries};
use domain::settlement::{DiscrepancyKind, SettlementRules};
use metrics::gauge;
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;
use std::time::Duration;

pub use adapters_db::OrderNotice;

/// A program's use-cases and what its operations port shows of the adapters.
#[derive(Clone)]
pub struct System {
    /// The use-cases.
    pub application: Application,
    /// The circuits, for operators.
    pub circuits: Circuits,
    gateway: Arc<GuardedGateway<HttpTransport>>,
    pools: [PgStore; 3],
}

impl System {
    /// Takes away what has expired in the database. To be called now and then; what is left waits for the next time.
    pub async fn sweep(&self) {
        let [_, settlement, _] = &self.pools;
        match settlement.sweep_expired_keys().await {
            Ok(swept) => tracing::debug!(swept, "expired Idempotency-Keys are swept"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "expired Idempotency-Keys could not be swept"
                );
            }
        }
    }

    /// Brings gauges up to date that nobody sets at the moment they change. To be called before each scrape; when the
    /// database can't be read, its gauges stay as they were.
    pub async fn publish_metrics(&self) {
        self.gateway.publish_metrics();
        for pool in &self.pools {
            pool.record_pool_gauges();
        }
        match self.application.health_queries().statistics().await {
            Ok(statistics) => {
                gauge!("payment_in_progress_count").set(count(statistics.unsettled));
                let oldest = statistics.oldest_unsettled.unwrap_or_default();
                gauge!("payment_oldest_in_progress_seconds").set(oldest.as_secs_f64());
                gauge!("payment_watched_count").set(count(statistics.watched));
                for (kind, open) in statistics.open_discrepancies {
                    gauge!("payment_discrepancy_open", "kind" => kind.as_str()).set(count(open));
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "gauges of payments could not be read"
                );
            }
        }
    }
}

/// A gauge's value; exact far beyond any number of payments.
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

/// Builds everything. No connection is made yet.
///
/// # Errors
/// A setting that only an adapter can judge.
pub fn build(settings: &Settings) -> anyhow::Result<System> {
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let transport = HttpTransport::new(&http(&settings.pg)).context("pg.base_url")?;
    let gateway =
        GuardedGateway::new(transport, gateway(&settings.pg), Arc::clone(&entropy)).context("pg")?;
    let gateway = Arc::new(gateway);
    let requests = PgStore::connect(&database(&settings.database, "api", settings.database.pool_size))?;
    let settlement = PgStore::connect(&database(
        &settings.database,
        "settlement",
        settings.database.settlement_pool_size,
    ))?;
    let health = PgStore::connect(&database(&settings.database, "health", 1))?;
    let adapters = Adapters {
        store: Arc::new(requests.clone()),
        queries: Arc::new(requests.clone()),
        settlement_store: Arc::new(settlement.clone()),
        settlement_queries: Arc::new(settlement.clone()),
        health_queries: Arc::new(health.clone()) as Arc<dyn Queries>,
        gateway: Arc::clone(&gateway) as Arc<dyn domain::ports::PaymentGateway>,
        entropy,
    };
    let tokens = CallbackTokens::new(settings.pg.callback_secret.expose_secret().as_bytes())?;
    let application = Application::new(adapters, policy(settings)?, tokens);
    for kind in DiscrepancyKind::ALL {
        gauge!("payment_discrepancy_open", "kind" => kind.as_str()).set(0.0);
    }
    Ok(System { application, circuits: gateway.circuits(), gateway, pools: [requests, settlement, health] })
}

/// Hears of orders that end, in whatever process. Subscribe, then run it in a task.
///
/// # Errors
/// An unreadable database address.
pub fn order_listener(settings: &Settings) -> anyhow::Result<PgListener> {
    Ok(PgListener::new(&database(&settings.database, "listener", 1))?)
}

/// Applies all migrations that are missing; says which.
///
/// # Errors
/// The database is out of reach, or a migration failed.
pub async fn migrate(settings: &Settings) -> anyhow::Result<Vec<String>> {
    Ok(adapters_db::migrate(&SecretString::from(settings.database.url.expose())).await?)
}

fn policy(settings: &Settings) -> anyhow::Result<Policy> {
    let merchant = MerchantId::new(settings.pg.merchant_id.as_str()).context("pg.merchant_id")?;
    let reconciler = &settings.reconciler;
    Ok(Policy {
        merchant,
        callback_base_url: settings.pg.callback_base_url.as_str().to_owned(),
        deadline: settings.pg.deadline,
        record_patience: settings.orders.record_patience,
        conflict_wait: (settings.orders.conflict_wait_min, settings.orders.conflict_wait_max),
        idempotency_retention: settings.idempotency.retention,
        batch: BatchLimits {
            size: settings.batch.size,
            lanes: settings.batch.lanes,
            queue: settings.batch.queue,
            wait: settings.batch.wait,
        },
        lease: reconciler.lease,
        query_interval: settings.callback.query_interval,
        sync_interval: settings.sync.min_interval,
        max_transactions: settings.pg.max_transactions,
        max_hints: settings.callback.max_hints,
        callback_concurrency: settings.callback.concurrency,
        turn_timeout: reconciler.turn_timeout,
        batch_size: reconciler.batch_size,
        concurrency: reconciler.concurrency,
        rules: SettlementRules {
            min_age: reconciler.min_age,
            force_fail_after: reconciler.force_fail_after,
            not_found_confirmations: reconciler.not_found_confirmations,
            not_found_grace: reconciler.not_found_grace,
            watch_after: reconciler.watch_after.clone(),
            backoff_max: reconciler.backoff_max,
            park_after_failures: reconciler.park_after_failures,
        },
        interlock_lost_keys: reconciler.interlock_lost_keys,
        interlock_not_found_percent: reconciler.interlock_not_found_percent,
    })
}

fn database(settings: &DatabaseSettings, pool_name: &'static str, pool_size: usize) -> DatabaseOptions {
    DatabaseOptions {
        url: SecretString::from(settings.url.expose()),
        pool_name,
        pool_size,
        acquire_timeout: settings.acquire_timeout,
        connect_timeout: settings.connect_timeout,
        max_age: settings.max_connection_age,
        statement_timeout: settings.statement_timeout,
        lock_timeout: settings.lock_timeout,
        idle_in_transaction_session_timeout: settings.idle_in_transaction_session_timeout,
        client_connection_check_interval: settings.client_connection_check_interval,
    }
}

fn http(settings: &GatewaySettings) -> HttpConfig {
    HttpConfig {
        base_url: settings.base_url.as_str().to_owned(),
        payment_connect_timeout: settings.payment.connect_timeout,
        query_connect_timeout: settings.query.connect_timeout,
        max_answer_size: settings.max_answer_size,
        idle_connection_timeout: settings.idle_connection_timeout,
        max_idle_connections: settings.max_concurrent_calls,
    }
}

fn gateway(settings: &GatewaySettings) -> GatewayConfig {
    GatewayConfig {
        deadline: settings.deadline,
        max_concurrent_calls: settings.max_concurrent_calls,
        probe_before_retry: settings.probe_before_retry,
        retry_budget: RetryBudgetConfig {
            per_call: settings.retry_budget.tokens_per_call,
            per_second: settings.retry_budget.tokens_per_second,
            capacity: f64::from(settings.retry_budget.capacity),
        },
        payment: call(&settings.payment),
        query: call(&settings.query),
    }
}

fn call(settings: &GatewayCallSettings) -> CallConfig {
    CallConfig {
        connect_timeout: settings.connect_timeout,
        read_timeout: settings.read_timeout,
        retry: RetryConfig {
            max_attempts: settings.retry.max_attempts,
            initial_interval: settings.retry.initial_interval,
            multiplier: settings.retry.multiplier,
            max_interval: settings.retry.max_interval,
            jitter: f64::from(settings.retry.jitter_percent) / 100.0,
        },
        circuit: circuit(&settings.circuit),
    }
}

fn circuit(settings: &CircuitSettings) -> CircuitConfig {
    CircuitConfig {
        window: match settings.sliding_window_type {
            WindowType::Count => SlidingWindow::CountBased(settings.sliding_window_size),
            WindowType::Time => SlidingWindow::TimeBased(settings.sliding_window_size),
        },
        minimum_calls: settings.minimum_number_of_calls,
        failure_rate_threshold: settings.failure_rate_threshold,
        slow_call_rate_threshold: settings.slow_call_rate_threshold,
        slow_call_duration: settings.slow_call_duration,
        open_wait: settings.wait_duration_in_open_state,
        open_wait_factor: settings.open_wait_multiplier,
        open_wait_max: settings.max_wait_duration_in_open_state,
        open_wait_jitter: settings.open_wait_jitter_percent,
        half_open_calls: settings.permitted_calls_in_half_open,
        half_open_max: Some(settings.max_wait_duration_in_half_open_state)
            .filter(|limit| *limit > Duration::ZERO),
        automatic_half_open: true,
    }
}

#[cfg(test)]
mod tests;
