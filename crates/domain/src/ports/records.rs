//! What crosses the store ports: aggregates with their storage facts, ledger entries, claims.

use crate::{
    Coupon, GatewayKey, GatewayOrderRef, IssuedCoupon, IssuedCouponId, MerchantId, Money, OrderId, Payment,
    PaymentId, PaymentStatus, PointAccount, ProductId, Stock, Timestamp, UserId,
};
use std::time::Duration;

/// A value and the version that storage had when it was read. Saving it needs that version still there and counts it
/// up; else [`StoreError::Conflict`](super::StoreError::Conflict).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versioned<T> {
    /// As it was read; 0 for a new row.
    pub version: i64,
    /// The value.
    pub value: T,
}

impl<T> Versioned<T> {
    /// The same version with another value.
    pub fn with<U>(&self, value: U) -> Versioned<U> {
        Versioned { version: self.version, value }
    }
}

/// A product with its stock, locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductForSale {
    /// Which.
    pub id: ProductId,
    /// What buyers see.
    pub name: String,
    /// The price of one piece, 0 or more.
    pub price: Money,
    /// What is there.
    pub stock: Stock,
}

/// An issued coupon and the terms of its coupon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CouponHolding {
    /// The buyer's.
    pub issued: IssuedCoupon,
    /// Its terms.
    pub coupon: Coupon,
}

/// Why points move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PointEntryKind {
    /// Paid in.
    Charge,
    /// Spent on an order.
    Deduct,
    /// Given back when it failed. At most once per payment: the ledger refuses a second.
    Restore,
}

/// One movement of a buyer's points, with the account after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointEntry {
    /// The account after the movement.
    pub account: PointAccount,
    /// Why.
    pub kind: PointEntryKind,
    /// How much, more than 0.
    pub amount: Money,
    /// For which payment; none for a charge.
    pub payment_id: Option<PaymentId>,
}

/// The ids of a new order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewOrderIds {
    /// The order's.
    pub order_id: OrderId,
    /// The payment's.
    pub payment_id: PaymentId,
}

/// What is kept of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCard {
    /// The card company.
    pub card_type: crate::CardType,
    /// `1234-****-****-1451`.
    pub masked: String,
}

/// A payment with what storage knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRecord {
    /// The payment.
    pub payment: Payment,
    /// As it was read; 0 for a new row. Storing a new state needs it still there.
    pub version: i64,
    /// The coupon it used.
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// The card, when something is on it.
    pub card: Option<StoredCard>,
    /// Who we were at the gateway when it was requested.
    pub merchant: MerchantId,
    /// What the gateway calls its order.
    pub order_ref: GatewayOrderRef,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// No request leaves after this moment.
    pub send_deadline: Timestamp,
}

/// Who or what changed a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The order itself: its placing, and the gateway's answer.
    Api,
    /// A callback.
    Callback,
    /// The reconciler.
    Reconciler,
    /// A person: a sync by hand.
    Operator,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 4] = [Self::Api, Self::Callback, Self::Reconciler, Self::Operator];

    /// As it stands in the API, in metrics and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Callback => "callback",
            Self::Reconciler => "reconciler",
            Self::Operator => "operator",
        }
    }

    /// The inverse of [`Cause::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

/// One row of a payment's history. Rows are only added; each change of the status has exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The status before; none for the first row.
    pub from: Option<PaymentStatus>,
    /// The status after; the same as before when only the key changed.
    pub to: PaymentStatus,
    /// Who or what.
    pub cause: Cause,
    /// Why, in words, without card data.
    pub reason: Option<String>,
    /// The gateway's key at that time.
    pub key: Option<GatewayKey>,
}

/// Where a ledger row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiscrepancyStatus {
    /// Nobody has settled it yet.
    Open,
    /// A person has.
    Resolved,
}

impl DiscrepancyStatus {
    /// As it stands in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Resolved => "RESOLVED",
        }
    }

    /// The inverse of [`DiscrepancyStatus::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Resolved].into_iter().find(|status| status.as_str() == text)
    }
}

/// Which payments to claim, of those that nobody works on. A payment that its own order may still be sending a request for
/// is left alone: whoever stores the gateway's answer looks whether it was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those that have not ended and whose time has come, or that were woken.
    Unsettled,
    /// Those that have ended, and are on the watch list.
    Watched,
    /// Those that have not ended and were woken, by a callback for instance, unless they were claimed less long ago.
    Woken {
        /// The least time between two claims.
        min_interval: Duration,
    },
    /// This one, ended or not, whatever its time, even a parked one; unless it was claimed less long ago.
    One {
        /// Which.
        payment_id: PaymentId,
        /// The least time between two claims.
        min_interval: Duration,
    },
}

/// How to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimOptions {
    /// Which.
    pub due: Due,
    /// At most so many, longest due first.
    pub limit: u32,
    /// Names these claims; any number that no other claims have.
    pub lease_id: i64,
    /// Nobody else gets them for so long.
    pub lease: Duration,
    /// Only those that were due at this moment; `None`: now. A turn passes its beginning, so that it examines no
    /// payment twice however soon that is due again. A moment that is still to come, by a clock that was turned back
    /// meanwhile, counts as now.
    pub due_by: Option<Timestamp>,
}

/// The right to examine a payment, until its lease ends. It holds no lock and no transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Names this claim; a later one of the same payment has another.
    pub lease_id: i64,
    /// The payment as it was when claimed.
    pub record: PaymentRecord,
    /// When, by the database's clock.
    pub claimed_at: Timestamp,
    /// Its time had come; false: only a callback or a person woke it before that.
    pub scheduled: bool,
    /// Keys that callbacks named and nobody has looked up yet.
    pub hints: Vec<GatewayKey>,
}

/// What a callback says, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackNote {
    /// It came to the address with a payment's token: the key that it names is to be looked up.
    Named {
        /// The keyed hash of the token.
        token_hash: [u8; 32],
        /// The key.
        key: GatewayKey,
    },
    /// It came without a token, and only makes us ask about that order's payment.
    Unproven {
        /// What the gateway calls the order.
        order_ref: GatewayOrderRef,
    },
}

/// A buyer's Idempotency-Key: 1 to 255 characters, unique per buyer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdempotencyKey {
    /// Whose.
    pub user_id: UserId,
    /// The header's text.
    pub key: String,
}

/// A request that bears an Idempotency-Key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// The key.
    pub key: IdempotencyKey,
    /// A hash of what was asked for.
    pub fingerprint: [u8; 32],
    /// Kept for so long.
    pub retention: Duration,
}

/// An answer that was given once and is given again, to the letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// What an Idempotency-Key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// Of the first request.
    pub fingerprint: [u8; 32],
    /// Its order.
    pub order_id: OrderId,
    /// Its answer, once given.
    pub answer: Option<StoredAnswer>,
    /// The first request can't be under way any more.
    pub abandoned: bool,
}
