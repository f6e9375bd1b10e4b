//! The payment: PENDING, IN_PROGRESS, then PAID or FAILED for good.

use crate::{AmountOverflow, GatewayKey, Money, OrderId, PaymentId, UserId};
use std::fmt;

/// Where a payment stands, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaymentStatus {
    /// Written, the gateway surely not asked yet.
    Pending,
    /// The gateway may have been asked.
    InProgress,
    /// Charged.
    Paid,
    /// Not charged as far as is known; all the order had taken was given back.
    Failed,
}

impl PaymentStatus {
    /// All of them.
    pub const ALL: [PaymentStatus; 4] = [Self::Pending, Self::InProgress, Self::Paid, Self::Failed];

    /// As it stands in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Paid => "PAID",
            Self::Failed => "FAILED",
        }
    }

    /// The inverse of [`PaymentStatus::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// PAID and FAILED never leave.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Paid | Self::Failed)
    }
}

impl fmt::Display for PaymentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an order is paid; derived from the amounts (spec 01 section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentMethod {
    /// Nothing on the card.
    Point,
    /// No points.
    Card,
    /// Both.
    Mixed,
}

impl PaymentMethod {
    /// As it stands in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Point => "POINT",
            Self::Card => "CARD",
            Self::Mixed => "MIXED",
        }
    }
}

/// What can happen to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaymentEventKind {
    /// The gateway is about to be asked.
    Start,
    /// The gateway's key is known.
    UpdateExternalPaymentKey,
    /// The gateway charged the card.
    Success,
    /// It surely did not, or that was decided.
    Fail,
}

impl PaymentEventKind {
    /// All of them.
    pub const ALL: [PaymentEventKind; 4] =
        [Self::Start, Self::UpdateExternalPaymentKey, Self::Success, Self::Fail];

    /// Its name in the table of spec 01 section 1.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::UpdateExternalPaymentKey => "updateExternalPaymentKey",
            Self::Success => "success",
            Self::Fail => "fail",
        }
    }

    /// What the contract says when it is not allowed.
    const fn refusal(self) -> &'static str {
        match self {
            Self::Start => "결제 대기 상태에서만 결제를 시작할 수 있습니다.",
            Self::UpdateExternalPaymentKey => "결제 진행 중 상태에서만 외부 결제 키를 저장할 수 있습니다.",
            Self::Success => "결제 진행 중 상태에서만 성공 처리할 수 있습니다.",
            Self::Fail => "이미 처리된 결제입니다.",
        }
    }
}

/// Why a payment could not be made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// Used points below zero.
    #[error("사용 포인트는 0 이상이어야 합니다.")]
    UsedPointNegative,
    /// An amount on the card below zero.
    #[error("카드 결제 금액은 0 이상이어야 합니다.")]
    PaidAmountNegative,
    /// A discount below zero.
    #[error("쿠폰 할인 금액은 0 이상이어야 합니다.")]
    CouponDiscountNegative,
    /// The parts don't add up to the order's total.
    #[error("결제 금액이 주문 금액과 일치하지 않습니다.")]
    AmountMismatch,
    /// A failure message of more than 500 characters.
    #[error("실패 사유는 500자 이하여야 합니다.")]
    FailureMessageTooLong,
    /// An event that this state does not take.
    #[error("{}", event.refusal())]
    InvalidTransition {
        /// Which payment.
        payment_id: PaymentId,
        /// Where it stands.
        from: PaymentStatus,
        /// What was tried.
        event: PaymentEventKind,
    },
}

/// The parts of an order's total; `used_point + paid_amount + coupon_discount == total`, each 0 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentAmounts {
    total: Money,
    used_point: Money,
    coupon_discount: Money,
    paid_amount: Money,
}

impl PaymentAmounts {
    /// Checks the parts against each other (spec 01 section 1, create).
    ///
    /// # Errors
    /// [`PaymentError::UsedPointNegative`], [`PaymentError::PaidAmountNegative`],
    /// [`PaymentError::CouponDiscountNegative`], [`PaymentError::AmountMismatch`], in this order.
    pub fn new(
        total: Money,
        used_point: Money,
        coupon_discount: Money,
        paid_amount: Money,
    ) -> Result<Self, PaymentError> {
        if used_point.is_negative() {
            return Err(PaymentError::UsedPointNegative);
        }
        if paid_amount.is_negative() {
            return Err(PaymentError::PaidAmountNegative);
        }
        if coupon_discount.is_negative() {
            return Err(PaymentError::CouponDiscountNegative);
        }
        let parts = used_point
            .checked_add(paid_amount)
            .and_then(|sum| sum.checked_add(coupon_discount))
            .map_err(|AmountOverflow| PaymentError::AmountMismatch)?;
        if parts == total {
            Ok(Self { total, used_point, coupon_discount, paid_amount })
        } else {
            Err(PaymentError::AmountMismatch)
        }
    }

    /// The order's total.
    pub const fn total(&self) -> Money {
        self.total
    }

    /// Paid by points.
    pub const fn used_point(&self) -> Money {
        self.used_point
    }

    /// Taken off by a coupon.
    pub const fn coupon_discount(&self) -> Money {
        self.coupon_discount
    }

    /// What goes on the card.
    pub const fn paid_amount(&self) -> Money {
        self.paid_amount
    }

    /// How it is paid.
    pub const fn method(&self) -> PaymentMethod {
        if !self.paid_amount.is_positive() {
            PaymentMethod::Point
        } else if self.used_point.is_positive() {
            PaymentMethod::Mixed
        } else {
            PaymentMethod::Card
        }
    }
}

/// Why a payment failed: at most 500 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureMessage(String);

impl FailureMessage {
    /// The most characters it has.
    pub const MAX_CHARS: usize = 500;

    /// # Errors
    /// [`PaymentError::FailureMessageTooLong`].
    pub fn new(text: impl Into<String>) -> Result<Self, PaymentError> {
        let text = text.into();
        if text.chars().count() > Self::MAX_CHARS {
            Err(PaymentError::FailureMessageTooLong)
        } else {
            Ok(Self(text))
        }
    }

    /// A text from outside, cut at 500 characters, without control characters (PostgreSQL refuses NUL).
    pub fn from_outside(text: &str) -> Self {
        Self(text.chars().filter(|c| !c.is_control()).take(Self::MAX_CHARS).collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a payment stands, with what belongs to that state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentState {
    /// Written, the gateway surely not asked yet.
    Pending,
    /// The gateway may have been asked.
    InProgress {
        /// The gateway's key, once known.
        key: Option<GatewayKey>,
    },
    /// Charged; without a key when nothing was on the card.
    Paid {
        /// The transaction that paid it.
        key: Option<GatewayKey>,
    },
    /// Failed.
    Failed {
        /// The gateway's key, when one was known.
        key: Option<GatewayKey>,
        /// Why.
        message: Option<FailureMessage>,
    },
}

impl PaymentState {
    /// The state without its data.
    pub const fn status(&self) -> PaymentStatus {
        match self {
            Self::Pending => PaymentStatus::Pending,
            Self::InProgress { .. } => PaymentStatus::InProgress,
            Self::Paid { .. } => PaymentStatus::Paid,
            Self::Failed { .. } => PaymentStatus::Failed,
        }
    }

    /// The gateway's key, when known.
    pub const fn key(&self) -> Option<&GatewayKey> {
        match self {
            Self::Pending => None,
            Self::InProgress { key } | Self::Paid { key } | Self::Failed { key, .. } => key.as_ref(),
        }
    }
}

/// The payment of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    id: PaymentId,
    order_id: OrderId,
    user_id: UserId,
    amounts: PaymentAmounts,
    state: PaymentState,
}

impl Payment {
    /// A new payment, PENDING. Storage begins its version at 0.
    pub const fn create(id: PaymentId, order_id: OrderId, user_id: UserId, amounts: PaymentAmounts) -> Self {
        Self { id, order_id, user_id, amounts, state: PaymentState::Pending }
    }

    /// A payment as it is stored.
    pub const fn restore(
        id: PaymentId,
        order_id: OrderId,
        user_id: UserId,
        amounts: PaymentAmounts,
        state: PaymentState,
    ) -> Self {
        Self { id, order_id, user_id, amounts, state }
    }

    /// PENDING -> IN_PROGRESS, written before the gateway is asked.
    ///
    /// # Errors
    /// [`PaymentError::InvalidTransition`] outside PENDING.
    pub fn start(self) -> Result<Self, PaymentError> {
        match self.state {
            PaymentState::Pending => Ok(Self { state: PaymentState::InProgress { key: None }, ..self }),
            PaymentState::InProgress { .. } | PaymentState::Paid { .. } | PaymentState::Failed { .. } => {
                Err(self.refused(PaymentEventKind::Start))
            }
        }
    }

    /// Stores the gateway's key; a later key replaces an earlier one.
    ///
    /// # Errors
    /// [`PaymentError::InvalidTransition`] outside IN_PROGRESS.
    pub fn update_external_payment_key(self, key: GatewayKey) -> Result<Self, PaymentError> {
        match self.state {
            PaymentState::InProgress { .. } => {
                Ok(Self { state: PaymentState::InProgress { key: Some(key) }, ..self })
            }
            PaymentState::Pending | PaymentState::Paid { .. } | PaymentState::Failed { .. } => {
                Err(self.refused(PaymentEventKind::UpdateExternalPaymentKey))
            }
        }
    }

    /// IN_PROGRESS -> PAID.
    ///
    /// # Errors
    /// [`PaymentError::InvalidTransition`] outside IN_PROGRESS.
    pub fn success(self) -> Result<Self, PaymentError> {
        match self.state {
            PaymentState::InProgress { key } => Ok(Self { state: PaymentState::Paid { key }, ..self }),
            PaymentState::Pending | PaymentState::Paid { .. } | PaymentState::Failed { .. } => {
                Err(self.refused(PaymentEventKind::Success))
            }
        }
    }

    /// PENDING or IN_PROGRESS -> FAILED.
    ///
    /// # Errors
    /// [`PaymentError::InvalidTransition`] in PAID and FAILED.
    pub fn fail(self, message: Option<FailureMessage>) -> Result<Self, PaymentError> {
        match self.state {
            PaymentState::Pending => Ok(Self { state: PaymentState::Failed { key: None, message }, ..self }),
            PaymentState::InProgress { key } => {
                Ok(Self { state: PaymentState::Failed { key, message }, ..self })
            }
            PaymentState::Paid { .. } | PaymentState::Failed { .. } => {
                Err(self.refused(PaymentEventKind::Fail))
            }
        }
    }

    const fn refused(&self, event: PaymentEventKind) -> PaymentError {
        PaymentError::InvalidTransition { payment_id: self.id, from: self.state.status(), event }
    }

    /// Its id.
    pub const fn id(&self) -> PaymentId {
        self.id
    }

    /// The order it pays.
    pub const fn order_id(&self) -> OrderId {
        self.order_id
    }

    /// Who pays.
    pub const fn user_id(&self) -> UserId {
        self.user_id
    }

    /// Its amounts.
    pub const fn amounts(&self) -> &PaymentAmounts {
        &self.amounts
    }

    /// Where it stands, with its data.
    pub const fn state(&self) -> &PaymentState {
        &self.state
    }

    /// Where it stands.
    pub const fn status(&self) -> PaymentStatus {
        self.state.status()
    }

    /// The gateway's key, when known.
    pub const fn key(&self) -> Option<&GatewayKey> {
        self.state.key()
    }
}
