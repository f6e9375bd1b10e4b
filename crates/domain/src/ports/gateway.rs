//! The payment gateway as the use-cases see it: three calls whose answers are values, not errors that `?` could skip.

use crate::settlement::{Transaction, TransactionStatus};
use crate::{CardNumber, CardType, FailureMessage, GatewayKey, GatewayOrderRef, MerchantId, Money};
use async_trait::async_trait;
use std::time::{Duration, Instant};

/// One card payment to be requested.
#[derive(Debug, Clone)]
pub struct ChargeRequest {
    /// Who we are at the gateway.
    pub merchant: MerchantId,
    /// Our order, as the gateway will list it.
    pub order_ref: GatewayOrderRef,
    /// The card company.
    pub card_type: CardType,
    /// The card; gone from memory when this value is.
    pub card_number: CardNumber,
    /// What to charge, more than 0.
    pub amount: Money,
    /// Where the gateway calls back, with the payment's token at its end.
    pub callback_url: String,
    /// No request leaves after this moment, and the call ends by it.
    pub deadline: Instant,
}

/// Why a call did not get an answer: the label of metrics and log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureCause(pub &'static str);

/// What came of a request (spec 01 section 2, table of outcomes).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum GatewayAnswer {
    /// The gateway has a transaction.
    Accepted {
        /// Its key.
        key: GatewayKey,
        /// What the gateway said of it; anything but PENDING is a hint to ask at once (F44).
        status: TransactionStatus,
    },
    /// The gateway refused for a business reason, or we are configured wrongly (401, 403, 404, 405).
    Rejected {
        /// What it said.
        message: FailureMessage,
    },
    /// Surely not reached; retries are used up.
    NotReached {
        /// Why.
        cause: FailureCause,
        /// When to try again.
        retry_after: Duration,
    },
    /// The circuit is open: not even tried.
    CircuitOpen {
        /// When to try again.
        retry_after: Duration,
    },
    /// Nobody knows. Callback or reconciler will.
    Uncertain {
        /// Why.
        cause: FailureCause,
    },
}

/// A [`GatewayAnswer`] and what else is known of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ChargeOutcome {
    /// What came of it.
    pub answer: GatewayAnswer,
    /// Some request of this call may have made a transaction that the answer does not name: the payment belongs on the
    /// watch list (spec 01 section 2: after a 500 or 503).
    pub watch: bool,
}

/// One line of the gateway's list for an order; it bears no amount (spec 02).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionSummary {
    /// Its key.
    pub key: GatewayKey,
    /// Where it stands.
    pub status: TransactionStatus,
    /// What the gateway says about it.
    pub reason: Option<String>,
}

/// The answer to a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// The gateway has none (404).
    NotFound,
}

/// The gateway could not be asked, or its answer could not be read. Nothing may be concluded from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("asked the payment gateway without getting an answer ({})", cause.0)]
pub struct GatewayUnreachable {
    /// Why.
    pub cause: FailureCause,
    /// The circuit is open: nothing was asked.
    pub circuit_open: bool,
}

/// The payment gateway.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait PaymentGateway: Send + Sync {
    /// Requests a card payment, with all protection: time-outs, retry, circuit breaker, bulkhead.
    async fn charge(&self, request: &ChargeRequest) -> ChargeOutcome;

    /// A transaction by its key.
    ///
    /// # Errors
    /// [`GatewayUnreachable`].
    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
    ) -> Result<Lookup<Transaction>, GatewayUnreachable>;

    /// All transactions of an order; an empty list is never returned, but [`Lookup::NotFound`].
    ///
    /// # Errors
    /// [`GatewayUnreachable`].
    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
    ) -> Result<Lookup<Vec<TransactionSummary>>, GatewayUnreachable>;
}
