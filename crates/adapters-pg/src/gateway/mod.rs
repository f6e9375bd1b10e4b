//! The guarded call to the payment gateway: CircuitBreaker( Retry( attempt )), one deadline around it all.
//!
//! The circuit hears one result per call, after retries, and the time of the slowest *single* attempt. Retries are made
//! only of what surely did not reach the gateway, draw on a budget, honour `Retry-After`, and stop when the circuit has moved
//! on. A call that comes on top of the allowed number fails at once. Whoever drops the future gives permit, slot and
//! connection back at that moment.
//!
//! Deliberately absent: any state that outlives the process, any knowledge of HTTP (behind [`Transport`]), any clock but the
//! runtime's, any randomness but [`Entropy`]'s.

mod charge;
mod circuits;
mod config;
mod guard;
mod lookup;
mod telemetry;

use crate::retry_budget::RetryBudget;
use crate::transport::Transport;
use async_trait::async_trait;
use domain::ports::{
    ChargeOutcome, ChargeRequest, Entropy, Lookup, LookupError, PaymentGateway, TransactionSummary,
};
use domain::settlement::Transaction;
use domain::{GatewayKey, GatewayOrderRef, MerchantId};
use guard::Guard;
use std::sync::Arc;

pub use circuits::{CircuitView, Circuits, SetCircuitError};
pub use config::{CallConfig, GatewayConfig, GatewayConfigError, RetryConfig};

/// The name of the circuit around payment requests.
pub const PAYMENT_CIRCUIT: &str = "pg-payment";
/// The name of the circuit around look-ups.
pub const QUERY_CIRCUIT: &str = "pg-query";

/// A [`PaymentGateway`] that protects a [`Transport`]. One circuit hears one result per call, after retries; one
/// deadline is around it all; who drops the future gives permit, slot and connection back.
pub struct GuardedGateway<T> {
    transport: T,
    config: GatewayConfig,
    payments: Guard,
    queries: Guard,
    budget: RetryBudget,
    entropy: Arc<dyn Entropy>,
}

impl<T: Transport> GuardedGateway<T> {
    /// Both circuits begin closed, the budget full. `entropy` gives the jitter: a seeded one makes the same waits again.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn new(
        transport: T,
        config: GatewayConfig,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, GatewayConfigError> {
        let guard = |name, operation, call: &CallConfig| {
            let [a, b, c, d, e, f, g, h, ..] = entropy.token();
            let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            Guard::new(name, operation, call.clone(), config.max_concurrent_calls, seed)
        };
        Ok(Self {
            payments: guard(PAYMENT_CIRCUIT, telemetry::CHARGE, &config.payment)?,
            queries: guard(QUERY_CIRCUIT, telemetry::LOOK_UP, &config.query)?,
            budget: RetryBudget::new(config.retry_budget, guard::now())
                .map_err(GatewayConfigError::RetryBudget)?,
            transport,
            entropy,
            config,
        })
    }

    /// A handle on both circuits, for operators.
    #[must_use]
    pub fn circuits(&self) -> Circuits {
        Circuits::new(self.payments.breaker.clone(), self.queries.breaker.clone())
    }

    /// Brings gauges, and counters that are kept elsewhere, up to date. To be called before each scrape.
    pub fn publish_metrics(&self) {
        telemetry::publish_zeros();
        for guard in [&self.payments, &self.queries] {
            telemetry::publish_circuit(&guard.breaker.snapshot(guard::now()));
        }
        telemetry::publish_calls(self.payments.in_flight() + self.queries.in_flight());
        telemetry::publish_budget(self.budget.level(guard::now()));
    }
}

impl<T: Transport> std::fmt::Debug for GuardedGateway<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedGateway").field("config", &self.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: Transport> PaymentGateway for GuardedGateway<T> {
    async fn charge(&self, request: &ChargeRequest) -> ChargeOutcome {
        self.guarded_charge(request).await
    }

    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
    ) -> Result<Lookup<Transaction>, LookupError> {
        let ask = |limits| self.transport.find_by_key(merchant, key, limits);
        self.guarded_look_up(telemetry::FIND_BY_KEY, ask).await
    }

    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
    ) -> Result<Lookup<Vec<TransactionSummary>>, LookupError> {
        let ask = |limits| self.transport.find_by_order(merchant, order_ref, limits);
        self.guarded_look_up(telemetry::FIND_BY_ORDER, ask).await
    }
}
