//! The numbers of the guarded call (spec 01 section 3, spec 03 `pg.*`).

use crate::backoff::{Backoff, BackoffError};
use crate::breaker;
use crate::retry_budget::{RetryBudgetConfig, RetryBudgetError};
use std::time::Duration;

/// Settings of a [`GuardedGateway`](super::GuardedGateway). The defaults are the specification's.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// `pg.deadline`: the whole gateway step of one call, retries, waits and probes included.
    pub deadline: Duration,
    /// `pg.max_concurrent_calls`: calls under way at once, of each kind: look-ups must not starve when requests hang.
    pub max_concurrent_calls: usize,
    /// `pg.probe_before_retry`: ask by order id before sending again after a 500 or 503, and before giving up.
    pub probe_before_retry: bool,
    /// What retries may cost altogether.
    pub retry_budget: RetryBudgetConfig,
    /// Payment requests, circuit `pg-payment`.
    pub payment: CallConfig,
    /// Look-ups, circuit `pg-query`.
    pub query: CallConfig,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(4500),
            max_concurrent_calls: 256,
            probe_before_retry: true,
            retry_budget: RetryBudgetConfig::default(),
            payment: CallConfig {
                connect_timeout: Duration::from_secs(1),
                read_timeout: Duration::from_secs(1),
                retry: RetryConfig { max_attempts: 4, ..RetryConfig::default() },
                circuit: breaker::Config::default(),
            },
            query: CallConfig {
                connect_timeout: Duration::from_secs(1),
                read_timeout: Duration::from_millis(500),
                retry: RetryConfig { max_attempts: 2, ..RetryConfig::default() },
                circuit: breaker::Config {
                    window: breaker::SlidingWindow::CountBased(50),
                    minimum_calls: 10,
                    failure_rate_threshold: 20,
                    slow_call_duration: Duration::from_millis(400),
                    ..breaker::Config::default()
                },
            },
        }
    }
}

/// One kind of call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallConfig {
    /// Longest time to open a connection.
    pub connect_timeout: Duration,
    /// Longest time from a request's first byte to its answer's last.
    pub read_timeout: Duration,
    /// Repeating it.
    pub retry: RetryConfig,
    /// Its circuit.
    pub circuit: breaker::Config,
}

impl CallConfig {
    /// What must be left of the deadline for a *further* attempt: less than a healthy gateway may take would only
    /// turn an order that surely did not reach the gateway into one that nobody knows about.
    pub(super) fn useful_time(&self) -> Duration {
        self.circuit.slow_call_duration.min(self.read_timeout)
    }
}

/// Repeating a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryConfig {
    /// Attempts in all, the first included (at least 1).
    pub max_attempts: u32,
    /// Wait before the second attempt.
    pub initial_interval: Duration,
    /// The wait grows by this factor each time.
    pub multiplier: f64,
    /// Longest wait.
    pub max_interval: Duration,
    /// The wait is shortened by a random share of up to so much (0.0..=1.0).
    pub jitter: f64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            initial_interval: Duration::from_millis(100),
            multiplier: 2.0,
            max_interval: Duration::from_secs(1),
            jitter: 0.5,
        }
    }
}

impl RetryConfig {
    pub(super) fn backoff(&self) -> Result<Backoff, BackoffError> {
        Backoff::new(self.initial_interval, self.multiplier, self.max_interval, self.jitter)
    }
}

/// A setting that is out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GatewayConfigError {
    /// Of a circuit.
    #[error("circuit {name}")]
    Circuit {
        /// The circuit's name.
        name: &'static str,
        /// Which setting.
        #[source]
        source: breaker::ConfigError,
    },
    /// Of the waits between attempts.
    #[error("retries of {name}")]
    Retry {
        /// The circuit's name.
        name: &'static str,
        /// Which setting.
        #[source]
        source: BackoffError,
    },
    /// Of the retry budget.
    #[error("retry budget")]
    RetryBudget(#[source] RetryBudgetError),
    /// No call could ever be made.
    #[error("max_concurrent_calls and max_attempts must be at least 1, max_concurrent_calls at most {}", usize::MAX >> 3)]
    NoCalls,
}
