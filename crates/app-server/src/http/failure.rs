//! Everything that an API call can answer other than what was asked for: one table from case to HTTP status, error code,
//! reason, message in both languages, and log level.
//!
//! `docs/errors.md` is written from this table by a test. Where the contract gives a Korean text (spec 01 section 1), the
//! domain's error has it too, and a test holds the two against each other. What happened inside (the source of an
//! error) is logged at the border and never told.

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
    ($( $case:ident => $code:ident, $reason:literal, $level:ident, $ko:literal, $en:literal; )+) => {
        /// Which case of an error code: one for each line of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the table's English text says what each case means")]
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

            /// The message, with `{}` where the name of a field or the gateway's own words belong.
            #[must_use]
            pub const fn template(self, locale: Locale) -> &'static str {
                match (self, locale) {
                    $( (Self::$case, Locale::Ko) => $ko, (Self::$case, Locale::En) => $en, )+
                }
            }
        }
    };
}

table! {
    // The request itself.
    MalformedJson => BadRequest, "MALFORMED_JSON", DEBUG,
        "요청 본문이 올바른 JSON이 아닙니다.", "The request body is not valid JSON.";
    BodyUnreadable => BadRequest, "BODY_UNREADABLE", DEBUG,
        "요청 본문을 끝까지 읽지 못했습니다.", "The request body could not be read to its end in time.";
    MissingField => BadRequest, "MISSING_FIELD", DEBUG,
        "필수 항목이 없습니다: {}", "A required field is missing: {}";
    InvalidField => BadRequest, "INVALID_FIELD", DEBUG,
        "항목의 값이 올바르지 않습니다: {}", "A field has a value of a wrong type or out of range: {}";
    InvalidParameter => BadRequest, "INVALID_PARAMETER", DEBUG,
        "요청 파라미터가 올바르지 않습니다: {}", "A parameter of the path, the query or a header is not valid: {}";
    UserIdRequired => BadRequest, "USER_ID_REQUIRED", DEBUG,
        "X-USER-ID 헤더가 필요합니다.", "The header X-USER-ID is required.";
    InvalidUserId => BadRequest, "INVALID_USER_ID", DEBUG,
        "X-USER-ID 헤더는 양의 정수여야 합니다.", "The header X-USER-ID must be one positive integer.";
    InvalidIdempotencyKey => BadRequest, "INVALID_IDEMPOTENCY_KEY", DEBUG,
        "Idempotency-Key 헤더는 1자 이상 255자 이하의 ASCII 문자여야 합니다.",
        "The header Idempotency-Key must have 1 to 255 printable ASCII characters.";
    // What is ordered.
    NoItems => BadRequest, "NO_ITEMS", DEBUG,
        "주문 항목은 1개 이상이어야 합니다.", "An order needs at least one item.";
    TooManyItems => BadRequest, "TOO_MANY_ITEMS", DEBUG,
        "주문 항목은 100개 이하여야 합니다.", "An order may have at most 100 different products.";
    InvalidQuantity => BadRequest, "INVALID_QUANTITY", DEBUG,
        "수량은 1 이상 2147483647 이하여야 합니다.", "A quantity must be between 1 and 2147483647.";
    OutOfStock => BadRequest, "OUT_OF_STOCK", DEBUG,
        "재고가 부족합니다.", "The stock does not suffice.";
    InvalidStock => BadRequest, "INVALID_STOCK", DEBUG,
        "재고 수량이 허용 범위를 벗어났습니다.", "The stock's quantity is out of range.";
    TotalNotPositive => BadRequest, "TOTAL_NOT_POSITIVE", DEBUG,
        "주문 금액은 0보다 커야 합니다.", "The order's total must be more than 0.";
    AmountOverflow => BadRequest, "AMOUNT_OVERFLOW", DEBUG,
        "금액이 허용 범위를 벗어났습니다.", "The amount is out of range.";
    // How it is paid.
    CouponAlreadyUsed => BadRequest, "COUPON_ALREADY_USED", DEBUG,
        "이미 사용된 쿠폰입니다.", "The coupon has been used.";
    CouponNotOwned => BadRequest, "COUPON_NOT_OWNED", DEBUG,
        "보유하지 않은 쿠폰입니다.", "You do not have this coupon.";
    CouponExpired => BadRequest, "COUPON_EXPIRED", DEBUG,
        "유효 기간이 지난 쿠폰입니다.", "The coupon has expired.";
    DiscountNotPositive => BadRequest, "DISCOUNT_NOT_POSITIVE", DEBUG,
        "할인 금액은 양수여야 합니다.", "A discount must be more than 0.";
    RateOutOfRange => BadRequest, "RATE_OUT_OF_RANGE", DEBUG,
        "할인율은 1 이상 100 이하여야 합니다.", "A discount rate must be between 1 and 100.";
    InsufficientPoint => BadRequest, "INSUFFICIENT_POINT", DEBUG,
        "포인트가 부족합니다.", "The points do not suffice.";
    ChargeNotPositive => BadRequest, "CHARGE_NOT_POSITIVE", DEBUG,
        "충전 금액은 양수여야 합니다.", "A charge must be more than 0.";
    UsedPointNegative => BadRequest, "USED_POINT_NEGATIVE", DEBUG,
        "사용 포인트는 0 이상이어야 합니다.", "The points to use must be 0 or more.";
    PaidAmountNegative => BadRequest, "PAID_AMOUNT_NEGATIVE", DEBUG,
        "카드 결제 금액은 0 이상이어야 합니다.", "More points are used than the order costs.";
    AmountMismatch => BadRequest, "AMOUNT_MISMATCH", DEBUG,
        "결제 금액이 주문 금액과 일치하지 않습니다.", "The parts of the payment do not add up to the order's total.";
    CardRequired => BadRequest, "CARD_REQUIRED", DEBUG,
        "카드 결제에 필요한 카드 종류와 카드 번호가 없습니다.", "Something is left for a card: cardType and cardNo are needed.";
    InvalidCardNumber => BadRequest, "INVALID_CARD_NUMBER", DEBUG,
        "카드 번호는 xxxx-xxxx-xxxx-xxxx 형식이어야 합니다.", "A card number has the form xxxx-xxxx-xxxx-xxxx.";
    InvalidCardType => BadRequest, "INVALID_CARD_TYPE", DEBUG,
        "지원하지 않는 카드사입니다.", "This card company is not supported.";
    // Who asks.
    TokenRequired => Unauthorized, "TOKEN_REQUIRED", DEBUG,
        "인증 토큰이 필요합니다.", "A bearer token is required.";
    InvalidToken => Unauthorized, "INVALID_TOKEN", INFO,
        "인증 토큰이 올바르지 않습니다.", "The bearer token is not valid.";
    SelfChargeDisabled => Forbidden, "SELF_CHARGE_DISABLED", INFO,
        "포인트를 직접 충전할 수 없습니다.", "Points can't be charged by their owner.";
    LoopbackOnly => Forbidden, "LOOPBACK_ONLY", WARN,
        "운영 API는 이 서버 안에서만 사용할 수 있습니다.",
        "Without a token the operations API serves its own machine only.";
    CrossSite => Forbidden, "CROSS_SITE", WARN,
        "다른 사이트에서 온 요청은 허용되지 않습니다.", "Requests from other sites are not allowed.";
    // What is not there.
    UnknownPath => NotFound, "UNKNOWN_PATH", DEBUG,
        "존재하지 않는 경로입니다.", "There is no such path.";
    OrderNotFound => NotFound, "ORDER_NOT_FOUND", DEBUG,
        "존재하지 않는 주문입니다.", "There is no such order.";
    PaymentNotFound => NotFound, "PAYMENT_NOT_FOUND", DEBUG,
        "존재하지 않는 결제입니다.", "There is no such payment.";
    ProductNotFound => NotFound, "PRODUCT_NOT_FOUND", DEBUG,
        "존재하지 않는 상품입니다.", "There is no such product.";
    CouponNotFound => NotFound, "COUPON_NOT_FOUND", DEBUG,
        "존재하지 않는 쿠폰입니다.", "There is no such coupon.";
    CallbackNotFound => NotFound, "CALLBACK_NOT_FOUND", INFO,
        "존재하지 않는 콜백 주소입니다.", "There is no such callback address.";
    DiscrepancyNotFound => NotFound, "DISCREPANCY_NOT_FOUND", DEBUG,
        "존재하지 않는 불일치 항목입니다.", "There is no such row in the discrepancy ledger.";
    CircuitNotFound => NotFound, "CIRCUIT_NOT_FOUND", DEBUG,
        "존재하지 않는 서킷입니다.", "There is no such circuit.";
    MethodNotAllowed => MethodNotAllowed, "METHOD_NOT_ALLOWED", DEBUG,
        "허용되지 않는 메서드입니다.", "This path does not take this method.";
    // What is there, but not so.
    CouponAlreadyIssued => Conflict, "COUPON_ALREADY_ISSUED", DEBUG,
        "이미 발급받은 쿠폰입니다.", "You have this coupon already.";
    ConcurrentUpdate => Conflict, "CONCURRENT_UPDATE", INFO,
        "동시에 처리된 다른 요청이 있습니다. 다시 시도해주세요.",
        "Another request was faster; nothing was taken. Please try again.";
    IdempotencyInProgress => Conflict, "IDEMPOTENCY_IN_PROGRESS", DEBUG,
        "같은 Idempotency-Key의 요청이 처리 중입니다.", "A request with the same Idempotency-Key is still under way.";
    AlreadyResolved => Conflict, "ALREADY_RESOLVED", DEBUG,
        "이미 처리된 불일치 항목입니다.", "This row of the ledger has been resolved.";
    PayloadTooLarge => PayloadTooLarge, "PAYLOAD_TOO_LARGE", DEBUG,
        "요청 본문이 너무 큽니다.", "The request body is too large.";
    UnsupportedMediaType => UnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", DEBUG,
        "Content-Type은 application/json이어야 합니다.", "The Content-Type must be application/json.";
    IdempotencyKeyReused => IdempotencyKeyReused, "IDEMPOTENCY_KEY_REUSED", DEBUG,
        "같은 Idempotency-Key로 다른 내용의 요청을 보냈습니다.",
        "The same Idempotency-Key was used with other content.";
    RateLimited => TooManyRequests, "RATE_LIMITED", INFO,
        "요청이 너무 많습니다. 잠시 후 다시 시도해주세요.", "Too many requests. Please try again later.";
    SyncTooSoon => TooManyRequests, "SYNC_TOO_SOON", DEBUG,
        "방금 확인한 결제입니다. 잠시 후 다시 시도해주세요.",
        "This payment has just been asked about. Please try again later.";
    // The gateway.
    PaymentRefused => PaymentFailed, "PAYMENT_REFUSED", INFO,
        "{}", "The payment gateway refused the payment: {}";
    CircuitOpen => CircuitOpen, "CIRCUIT_OPEN", INFO,
        "결제 서비스를 일시적으로 이용할 수 없어 주문이 취소되었습니다. 잠시 후 다시 시도해주세요.",
        "The payment gateway is in trouble and was not called; the order is cancelled. Please try again later.";
    GatewayNotReached => PgUnavailable, "GATEWAY_NOT_REACHED", WARN,
        "결제 서비스에 연결하지 못해 주문이 취소되었습니다. 잠시 후 다시 시도해주세요.",
        "The payment gateway could not be reached; the order is cancelled. Please try again later.";
    GatewayNotAsked => ServiceUnavailable, "GATEWAY_NOT_ASKED", INFO,
        "결제 서비스에 확인할 수 없습니다. 잠시 후 다시 시도해주세요.",
        "The payment gateway can't be asked now; nothing changed. Please try again later.";
    // Us.
    DatabaseUnavailable => ServiceUnavailable, "DATABASE_UNAVAILABLE", WARN,
        "일시적으로 서비스를 이용할 수 없습니다. 잠시 후 다시 시도해주세요.",
        "The service is out of order for the moment. Please try again later.";
    OutcomeUnknown => ServiceUnavailable, "OUTCOME_UNKNOWN", WARN,
        "주문이 접수되었는지 확인하지 못했습니다. 같은 Idempotency-Key로 다시 요청하거나 주문 목록을 확인해주세요.",
        "Whether the order was stored is not known. Repeat the request with its Idempotency-Key, or look at your orders.";
    Overloaded => ServiceUnavailable, "OVERLOADED", WARN,
        "요청이 많아 처리할 수 없습니다. 잠시 후 다시 시도해주세요.",
        "The service is overloaded; nothing was taken. Please try again later.";
    ShuttingDown => ServiceUnavailable, "SHUTTING_DOWN", INFO,
        "서버가 종료되는 중입니다. 다시 시도해주세요.", "This server is stopping; nothing was taken. Please try again.";
    Internal => InternalError, "INTERNAL_ERROR", ERROR,
        "서버 내부 오류가 발생했습니다.", "An internal error occurred.";
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
    /// The case that `{}` in the table stands for nothing in.
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
        self.case.template(locale).replace("{}", subject.unwrap_or_default())
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
