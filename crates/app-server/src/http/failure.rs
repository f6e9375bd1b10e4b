//! Everything that an API call can answer other than what was asked for: one table from case to HTTP status, error code,
//! reason, and log level. The messages stand in the catalogue (`crate::texts`) under the reason.
//!
//! `docs/errors.md` is written from this table and the catalogue by a test. Where the contract gives a Korean text (spec 01 section 1), the
//! domain's error has it too, and a test holds the two against each other. What happened inside (the source of an
//! error) is logged at the border and never told.

use crate::texts::Texts;
use actix_web::http::StatusCode;
use bootstrap::settings::Locale;
use std::fmt;
use std::time::Duration;
use tracing::Level;

macro_rules! codes {
    ($( $(#[$doc:meta])* $name:ident = $text:literal, $status:ident; )+) => {
        /// `meta.errorCode`: the few that programs can rely on (spec 03).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode { $( $(#[$doc])* $name, )+ }

        impl ErrorCode {
            /// As it stands in the envelope.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $( Self::$name => StatusCode::$status, )+ }
            }
        }
    };
}

codes! {
    /// Invalid input or a broken business rule.
    BadRequest = "BAD_REQUEST", BAD_REQUEST;
    /// No or bad credentials.
    Unauthorized = "UNAUTHORIZED", UNAUTHORIZED;
    /// The gateway refused the card payment; the order is CANCELLED.
    PaymentFailed = "PAYMENT_FAILED", PAYMENT_REQUIRED;
    /// Known, but not allowed.
    Forbidden = "FORBIDDEN", FORBIDDEN;
    /// Unknown id or path.
    NotFound = "NOT_FOUND", NOT_FOUND;
    /// The path does not take this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", METHOD_NOT_ALLOWED;
    /// Exists already, lost a race, or is still under way.
    Conflict = "CONFLICT", CONFLICT;
    /// The body is too long.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", PAYLOAD_TOO_LARGE;
    /// The request's head is too long, or has too many headers.
    HeadersTooLarge = "REQUEST_HEADER_FIELDS_TOO_LARGE", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// The body is not JSON by its header.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", UNSUPPORTED_MEDIA_TYPE;
    /// The same Idempotency-Key with other content.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", UNPROCESSABLE_ENTITY;
    /// Too many requests.
    TooManyRequests = "TOO_MANY_REQUESTS", TOO_MANY_REQUESTS;
    /// Our fault.
    InternalError = "INTERNAL_ERROR", INTERNAL_SERVER_ERROR;
    /// The circuit is open: the gateway was not called, the order is CANCELLED.
    CircuitOpen = "CIRCUIT_OPEN", SERVICE_UNAVAILABLE;
    /// The gateway was surely not reached, the order is CANCELLED.
    PgUnavailable = "PG_UNAVAILABLE", SERVICE_UNAVAILABLE;
    /// Database out of reach, or overloaded; nothing was taken.
    ServiceUnavailable = "SERVICE_UNAVAILABLE", SERVICE_UNAVAILABLE;
}

macro_rules! table {
    ($( $case:ident => $code:ident, $reason:literal, $level:ident; )+) => {
        /// Which case of an error code: one for each line of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the catalogue's English text says what each case means")]
        pub enum Case { $( $case, )+ }

        impl Case {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Case] = &[ $( Self::$case, )+ ];

            /// Its error code; the HTTP status follows from it.
            #[must_use]
            pub const fn code(self) -> ErrorCode {
                match self { $( Self::$case => ErrorCode::$code, )+ }
            }

            /// `meta.reason`.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $( Self::$case => $reason, )+ }
            }

            /// The level that it is logged at.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $( Self::$case => Level::$level, )+ }
            }
        }
    };
}

table! {
    // The request itself.
    MalformedJson => BadRequest, "MALFORMED_JSON", DEBUG;
    BodyUnreadable => BadRequest, "BODY_UNREADABLE", DEBUG;
    MissingField => BadRequest, "MISSING_FIELD", DEBUG;
    InvalidField => BadRequest, "INVALID_FIELD", DEBUG;
    InvalidParameter => BadRequest, "INVALID_PARAMETER", DEBUG;
    UserIdRequired => BadRequest, "USER_ID_REQUIRED", DEBUG;
    InvalidUserId => BadRequest, "INVALID_USER_ID", DEBUG;
    InvalidIdempotencyKey => BadRequest, "INVALID_IDEMPOTENCY_KEY", DEBUG;
    // What is ordered.
    NoItems => BadRequest, "NO_ITEMS", DEBUG;
    TooManyItems => BadRequest, "TOO_MANY_ITEMS", DEBUG;
    InvalidQuantity => BadRequest, "INVALID_QUANTITY", DEBUG;
    OutOfStock => BadRequest, "OUT_OF_STOCK", DEBUG;
    InvalidStock => BadRequest, "INVALID_STOCK", DEBUG;
    TotalNotPositive => BadRequest, "TOTAL_NOT_POSITIVE", DEBUG;
    AmountOverflow => BadRequest, "AMOUNT_OVERFLOW", DEBUG;
    // How it is paid.
    CouponAlreadyUsed => BadRequest, "COUPON_ALREADY_USED", DEBUG;
    CouponNotOwned => BadRequest, "COUPON_NOT_OWNED", DEBUG;
    CouponExpired => BadRequest, "COUPON_EXPIRED", DEBUG;
    DiscountNotPositive => BadRequest, "DISCOUNT_NOT_POSITIVE", DEBUG;
    RateOutOfRange => BadRequest, "RATE_OUT_OF_RANGE", DEBUG;
    InsufficientPoint => BadRequest, "INSUFFICIENT_POINT", DEBUG;
    ChargeNotPositive => BadRequest, "CHARGE_NOT_POSITIVE", DEBUG;
    UsedPointNegative => BadRequest, "USED_POINT_NEGATIVE", DEBUG;
    PaidAmountNegative => BadRequest, "PAID_AMOUNT_NEGATIVE", DEBUG;
    AmountMismatch => BadRequest, "AMOUNT_MISMATCH", DEBUG;
    CardRequired => BadRequest, "CARD_REQUIRED", DEBUG;
    InvalidCardNumber => BadRequest, "INVALID_CARD_NUMBER", DEBUG;
    InvalidCardType => BadRequest, "INVALID_CARD_TYPE", DEBUG;
    // Who asks.
    TokenRequired => Unauthorized, "TOKEN_REQUIRED", DEBUG;
    InvalidToken => Unauthorized, "INVALID_TOKEN", INFO;
    UserIdNotTrusted => Unauthorized, "USER_ID_NOT_TRUSTED", DEBUG;
    SelfChargeDisabled => Forbidden, "SELF_CHARGE_DISABLED", INFO;
    LoopbackOnly => Forbidden, "LOOPBACK_ONLY", WARN;
    CrossSite => Forbidden, "CROSS_SITE", WARN;
    // What is not there.
    UnknownPath => NotFound, "UNKNOWN_PATH", DEBUG;
    OrderNotFound => NotFound, "ORDER_NOT_FOUND", DEBUG;
    PaymentNotFound => NotFound, "PAYMENT_NOT_FOUND", DEBUG;
    ProductNotFound => NotFound, "PRODUCT_NOT_FOUND", DEBUG;
    CouponNotFound => NotFound, "COUPON_NOT_FOUND", DEBUG;
    CallbackNotFound => NotFound, "CALLBACK_NOT_FOUND", INFO;
    DiscrepancyNotFound => NotFound, "DISCREPANCY_NOT_FOUND", DEBUG;
    CircuitNotFound => NotFound, "CIRCUIT_NOT_FOUND", DEBUG;
    MethodNotAllowed => MethodNotAllowed, "METHOD_NOT_ALLOWED", DEBUG;
    // What is there, but not so.
    CouponAlreadyIssued => Conflict, "COUPON_ALREADY_ISSUED", DEBUG;
    ConcurrentUpdate => Conflict, "CONCURRENT_UPDATE", INFO;
    IdempotencyInProgress => Conflict, "IDEMPOTENCY_IN_PROGRESS", DEBUG;
    AlreadyResolved => Conflict, "ALREADY_RESOLVED", DEBUG;
    PayloadTooLarge => PayloadTooLarge, "PAYLOAD_TOO_LARGE", DEBUG;
    HeadersTooLarge => HeadersTooLarge, "HEADERS_TOO_LARGE", DEBUG;
    UnsupportedMediaType => UnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", DEBUG;
    IdempotencyKeyReused => IdempotencyKeyReused, "IDEMPOTENCY_KEY_REUSED", DEBUG;
    RateLimited => TooManyRequests, "RATE_LIMITED", INFO;
    SyncTooSoon => TooManyRequests, "SYNC_TOO_SOON", DEBUG;
    // The gateway.
    PaymentRefused => PaymentFailed, "PAYMENT_REFUSED", INFO;
    CircuitOpen => CircuitOpen, "CIRCUIT_OPEN", INFO;
    GatewayNotReached => PgUnavailable, "GATEWAY_NOT_REACHED", WARN;
    GatewayNotAsked => ServiceUnavailable, "GATEWAY_NOT_ASKED", INFO;
    // Us.
    DatabaseUnavailable => ServiceUnavailable, "DATABASE_UNAVAILABLE", WARN;
    PaymentNotSent => ServiceUnavailable, "PAYMENT_NOT_SENT", WARN;
    OutcomeUnknown => ServiceUnavailable, "OUTCOME_UNKNOWN", WARN;
    Overloaded => ServiceUnavailable, "OVERLOADED", WARN;
    ShuttingDown => ServiceUnavailable, "SHUTTING_DOWN", INFO;
    Internal => InternalError, "INTERNAL_ERROR", ERROR;
}

impl Case {
    /// The message in one language. `subject` is what it is about where it names something: a field, or the gateway's own
    /// words.
    #[must_use]
    pub fn message(self, locale: Locale, subject: &str) -> String {
        Texts::of(locale).fill(self.reason(), [("subject", subject.into())])
    }
}

/// Why a call is not answered with what was asked for.
#[derive(Debug)]
pub struct Failure {
    case: Case,
    details: Option<Box<Details>>,
}

/// What only some failures have.
#[derive(Debug, Default)]
struct Details {
    subject: Option<String>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    source: Option<String>,
}

impl Failure {
    /// The case, about nothing that could be named.
    #[must_use]
    pub const fn new(case: Case) -> Self {
        Self { case, details: None }
    }

    /// The case about a field, a parameter, or in the gateway's own words.
    pub(crate) fn about(case: Case, subject: impl Into<String>) -> Self {
        Self::new(case).with(|details| details.subject = Some(subject.into()))
    }

    /// A field of the body whose value is of a wrong type or out of range.
    pub(crate) fn field(path: impl Into<String>) -> Self {
        Self::about(Case::InvalidField, path)
    }

    /// A part of the path, the query or a header that is not valid.
    pub(crate) fn parameter(name: impl Into<String>) -> Self {
        Self::about(Case::InvalidParameter, name)
    }

    /// Our fault; `source` is logged and not told.
    pub(crate) fn internal(source: &dyn std::error::Error) -> Self {
        Self::new(Case::Internal).because(source)
    }

    /// When to come back.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        self.with(|details| details.retry_after = Some(wait))
    }

    /// The methods that a path takes.
    pub(crate) fn allow(self, methods: &'static str) -> Self {
        self.with(|details| details.allow = Some(methods))
    }

    /// What was behind it: logged with its whole chain, and not told.
    pub(crate) fn because(self, source: &dyn std::error::Error) -> Self {
        let mut chain = source.to_string();
        let mut next = source.source();
        while let Some(cause) = next {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            next = cause.source();
        }
        self.with(|details| details.source = Some(chain))
    }

    fn with(mut self, change: impl FnOnce(&mut Details)) -> Self {
        change(self.details.get_or_insert_default());
        self
    }

    /// Which case.
    #[must_use]
    pub const fn case(&self) -> Case {
        self.case
    }

    /// The message in one language.
    #[must_use]
    pub fn message(&self, locale: Locale) -> String {
        let subject = self.details.as_ref().and_then(|details| details.subject.as_deref());
        self.case.message(locale, subject.unwrap_or_default())
    }

    /// `Retry-After` in whole seconds, at least 1; every 429 and 503 has one.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let wait = self.details.as_ref().and_then(|details| details.retry_after);
        let needed = matches!(self.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        wait.map(seconds_rounded_up).or(needed.then_some(1))
    }

    /// The methods for `Allow`.
    pub(crate) fn allowed_methods(&self) -> Option<&'static str> {
        self.details.as_ref().and_then(|details| details.allow)
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.case.code().status()
    }

    /// Logs it once, at the level of the table. Nothing that a client wrote is in the line.
    pub(crate) fn log(&self) {
        let reason = self.case.reason();
        let source = self.details.as_ref().and_then(|details| details.source.as_deref());
        match self.case.level() {
            Level::ERROR => tracing::error!(reason, source, "request failed"),
            Level::WARN => tracing::warn!(reason, source, "request refused"),
            Level::INFO => tracing::info!(reason, source, "request refused"),
            _ => tracing::debug!(reason, source, "request refused"),
        }
    }
}

impl From<Case> for Failure {
    fn from(case: Case) -> Self {
        Self::new(case)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.case.reason())
    }
}

impl std::error::Error for Failure {}

/// Whole seconds, rounded up, at least 1: what `Retry-After` can say.
pub(crate) fn seconds_rounded_up(wait: Duration) -> u64 {
    let part = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(part).max(1)
}
