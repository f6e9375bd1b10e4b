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

/// Why a call did not get an answer: the label of metrics and log lines, for people. No decision hangs on its text.
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

/// A look-up from which nothing may be concluded about the payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The gateway could not be asked, or gave no readable answer: it would be so for any payment.
    #[error("asked the payment gateway without getting an answer ({})", cause.0)]
    Unreachable {
        /// Why.
        cause: FailureCause,
        /// The circuit is open: nothing was asked.
        circuit_open: bool,
    },
    /// The gateway is there and answered, but with something that can't be used for this payment. Others are not concerned,
    /// so it counts towards parking this one.
    #[error("the payment gateway's answer is of no use for this payment ({})", what.label())]
    Odd {
        /// What is odd about it.
        what: Oddity,
    },
}

/// What makes a readable answer to a look-up useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oddity {
    /// A transaction status that the protocol does not define.
    UnknownStatus,
    /// An amount that is no number of won, or out of range.
    BadAmount,
    /// A transaction key that can't be stored or asked for.
    BadKey,
    /// It is about another transaction or order than asked.
    WrongSubject,
    /// A success that bears no data.
    NoData,
    /// The envelope is the protocol's, what is in it is not.
    Unreadable,
    /// Longer than an answer may be; a part of a list would pass for all of it.
    TooLarge,
    /// The order's list names a transaction that the gateway, asked by its key, does not know.
    ListedButNotFound,
    /// The order has more transactions than are looked into.
    TooManyTransactions,
}

impl Oddity {
    /// There is more than can be looked at: asking again does not help, a person must.
    #[must_use]
    pub const fn is_beyond_us(self) -> bool {
        matches!(self, Self::TooLarge | Self::TooManyTransactions)
    }

    /// The word for it in log lines, metrics and evidence.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownStatus => "UnknownTransactionStatus",
            Self::BadAmount => "BadAmount",
            Self::BadKey => "BadTransactionKey",
            Self::WrongSubject => "WrongSubject",
            Self::NoData => "NoData",
            Self::Unreadable => "UnreadableBody",
            Self::TooLarge => "BodyTooLarge",
            Self::ListedButNotFound => "ListedButNotFound",
            Self::TooManyTransactions => "TooManyTransactions",
        }
    }
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
    /// [`LookupError`].
    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
    ) -> Result<Lookup<Transaction>, LookupError>;

    /// All transactions of an order, however many: never a part of them. An empty list is never returned, but
    /// [`Lookup::NotFound`].
    ///
    /// # Errors
    /// [`LookupError`].
    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
    ) -> Result<Lookup<Vec<TransactionSummary>>, LookupError>;
}
