//! One HTTP attempt: what is asked, within which limits, and what came of it.
//!
//! [`Transport`] is the seam between protection ([`GuardedGateway`](crate::GuardedGateway)) and the wire
//! ([`HttpTransport`](crate::HttpTransport)): tests and the simulation put a model gateway here and keep every rule of
//! retry, circuit and deadline. An attempt's result is already classified; nothing above this trait sees a status or an
//! error of the HTTP client.
//!
//! Deliberately absent: retries, waits, circuits, metrics.

use async_trait::async_trait;
use domain::ports::{ChargeRequest, FailureCause, Lookup, Oddity, TransactionSummary};
use domain::settlement::{Transaction, TransactionStatus};
use domain::{FailureMessage, GatewayKey, GatewayOrderRef, MerchantId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To open a connection.
    pub connect: Duration,
    /// From the request's first byte to the answer's last.
    pub read: Duration,
    /// The end of it, whatever the other two say. No byte of a payment request leaves after this moment.
    pub until: Instant,
}

/// What came of one payment request (spec 01 section 2, table of outcomes).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum PaymentAttempt {
    /// The gateway has a transaction.
    Accepted {
        /// Its key.
        key: GatewayKey,
        /// What the gateway said of it.
        status: TransactionStatus,
    },
    /// Refused for a business reason: 400 with the error envelope.
    Rejected {
        /// What it said.
        message: FailureMessage,
    },
    /// 401, 403, 404 or 405: surely nothing was created, and asking again is of no use.
    Misconfigured {
        /// The HTTP status.
        status: u16,
        /// It bears the gateway's own error envelope, so it is not the word of a proxy before a gateway that is away.
        readable: bool,
    },
    /// The send deadline had passed before the first byte: nothing left, and that is no fault of the gateway.
    TooLate,
    /// On the list of what surely did not reach the gateway.
    NotReached {
        /// Why.
        cause: FailureCause,
        /// It is on the list, and yet a transaction may exist: the gateway answered 500 or 503.
        may_have_created: bool,
        /// When the gateway wants to be asked again, when it said so.
        retry_after: Option<Duration>,
    },
    /// Everything else.
    Uncertain {
        /// Why.
        cause: FailureCause,
    },
}

/// A look-up that brought nothing to conclude from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupFailure {
    /// No answer, or none that can be read.
    Unreachable {
        /// Why.
        cause: FailureCause,
        /// When the gateway wants to be asked again, when it said so.
        retry_after: Option<Duration>,
    },
    /// 400, 401, 403 or 405: the gateway is there, and asking again is of no use.
    Misconfigured {
        /// The HTTP status.
        status: u16,
    },
    /// The gateway is there and answered something that is of no use for this payment.
    Odd {
        /// What is odd about it.
        what: Oddity,
    },
    /// The key can't be asked for on this wire: nothing was asked.
    NotAskable,
}

/// What came of one look-up.
pub type LookupAttempt<T> = Result<Lookup<T>, LookupFailure>;

/// Makes single attempts. Dropping the future ends the attempt.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Requests a payment, once.
    async fn request_payment(&self, request: &ChargeRequest, limits: Limits) -> PaymentAttempt;

    /// Asks for a transaction by its key, once.
    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
        limits: Limits,
    ) -> LookupAttempt<Transaction>;

    /// Asks for all transactions of an order, once. Never finds an empty list: that is [`Lookup::NotFound`].
    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
        limits: Limits,
    ) -> LookupAttempt<Vec<TransactionSummary>>;
}

/// A transport that is shared with whoever watches it.
#[async_trait]
impl<T: Transport + ?Sized> Transport for Arc<T> {
    async fn request_payment(&self, request: &ChargeRequest, limits: Limits) -> PaymentAttempt {
        (**self).request_payment(request, limits).await
    }

    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
        limits: Limits,
    ) -> LookupAttempt<Transaction> {
        (**self).find_by_key(merchant, key, limits).await
    }

    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
        limits: Limits,
    ) -> LookupAttempt<Vec<TransactionSummary>> {
        (**self).find_by_order(merchant, order_ref, limits).await
    }
}

/// Why attempts fail: the values of the label `error` and of `reason=` and `lastException=` in log lines.
pub mod cause {
    use domain::ports::FailureCause;

    macro_rules! causes {
        ($( $(#[doc = $doc:literal])+ $name:ident = $label:literal; )+) => {
            $( $(#[doc = $doc])+ pub const $name: FailureCause = FailureCause($label); )+

            /// All of them.
            pub const ALL: &[FailureCause] = &[$($name),+];
        };
    }

    causes! {
        /// Nobody listens there.
        CONNECT_REFUSED = "ConnectRefused";
        /// No connection in time.
        CONNECT_TIMEOUT = "ConnectTimeout";
        /// The gateway's name has no address.
        DNS_FAILURE = "DnsFailure";
        /// The TLS handshake failed.
        TLS_FAILURE = "TlsFailure";
        /// No connection for another reason, such as an unreachable network.
        CONNECT_FAILED = "ConnectFailed";
        /// No answer, or not all of it, in time.
        READ_TIMEOUT = "ReadTimeout";
        /// The connection was reset.
        CONNECTION_RESET = "ConnectionReset";
        /// The connection was closed before the answer was complete.
        CONNECTION_CLOSED = "ConnectionClosed";
        /// Not HTTP.
        MALFORMED_HTTP = "MalformedHttp";
        /// Another error of the HTTP client.
        HTTP_CLIENT = "HttpClientError";
        /// The send deadline had passed before the request's first byte; it did not leave.
        SEND_DEADLINE = "SendDeadline";
        /// The step's time was used up.
        DEADLINE = "Deadline";
        /// Too many calls were under way; this one was not made.
        BULKHEAD_FULL = "BulkheadFull";
        /// The circuit is open; the call was not made.
        CIRCUIT_OPEN = "CircuitOpen";
        /// A body that is not what the protocol defines.
        UNREADABLE_BODY = "UnreadableBody";
        /// Not `application/json`.
        WRONG_CONTENT_TYPE = "WrongContentType";
        /// Longer than `pg.max_answer_size`.
        BODY_TOO_LARGE = "BodyTooLarge";
        /// A success without `data`.
        NO_DATA = "NoData";
        /// Status and envelope contradict each other.
        CONTRADICTORY_BODY = "ContradictoryBody";
        /// A transaction key that can't be stored or asked for.
        BAD_KEY = "BadTransactionKey";
        /// A redirect; it is never followed.
        REDIRECT = "Redirect";
        /// 101: another protocol.
        HTTP_1XX = "Http1xx";
        /// 400 without the error envelope, or to a look-up.
        HTTP_400 = "Http400";
        /// Unauthorized.
        HTTP_401 = "Http401";
        /// Forbidden.
        HTTP_403 = "Http403";
        /// 404 without the error envelope.
        HTTP_404 = "Http404";
        /// Method not allowed.
        HTTP_405 = "Http405";
        /// Request time-out.
        HTTP_408 = "Http408";
        /// Conflict.
        HTTP_409 = "Http409";
        /// Unprocessable.
        HTTP_422 = "Http422";
        /// Too many requests.
        HTTP_429 = "Http429";
        /// Internal server error.
        HTTP_500 = "Http500";
        /// Not implemented.
        HTTP_501 = "Http501";
        /// Bad gateway.
        HTTP_502 = "Http502";
        /// Service unavailable.
        HTTP_503 = "Http503";
        /// Gateway time-out.
        HTTP_504 = "Http504";
        /// Any other status.
        HTTP_OTHER = "HttpOther";
    }

    /// The cause that an HTTP status is.
    #[must_use]
    pub const fn of_status(status: u16) -> FailureCause {
        match status {
            100..=199 => HTTP_1XX,
            300..=399 => REDIRECT,
            400 => HTTP_400,
            401 => HTTP_401,
            403 => HTTP_403,
            404 => HTTP_404,
            405 => HTTP_405,
            408 => HTTP_408,
            409 => HTTP_409,
            422 => HTTP_422,
            429 => HTTP_429,
            500 => HTTP_500,
            501 => HTTP_501,
            502 => HTTP_502,
            503 => HTTP_503,
            504 => HTTP_504,
            _ => HTTP_OTHER,
        }
    }
}
