//! What crosses the store ports: aggregates with their storage facts, ledger entries, claims.

use crate::settlement::Discrepancy;
use crate::{
    Coupon, GatewayKey, IssuedCoupon, IssuedCouponId, MerchantId, Money, OrderId, Payment, PaymentId,
    PaymentStatus, PointAccount, ProductId, Quantity, Stock, Timestamp, UserId,
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

/// Which way stock moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StockEntryKind {
    /// Out, when an order is placed.
    Reserve,
    /// Back, when it fails. At most once per payment and product: the ledger refuses a second.
    Restore,
}

/// One movement of one product's stock; applied to the stock and written to the stock ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockEntry {
    /// Which product.
    pub product_id: ProductId,
    /// For which payment.
    pub payment_id: PaymentId,
    /// Which way.
    pub kind: StockEntryKind,
    /// How many pieces.
    pub quantity: Quantity,
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

/// A payment to be inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPayment {
    /// The payment.
    pub payment: Payment,
    /// The coupon it used.
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// The card, when something is on it.
    pub card: Option<StoredCard>,
    /// Who we are at the gateway.
    pub merchant: MerchantId,
    /// The keyed hash of the callback token, when something is on the card.
    pub callback_token_hash: Option<[u8; 32]>,
    /// The send deadline lies so long after the transaction's moment.
    pub send_within: Duration,
}

/// A payment with what storage knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRecord {
    /// The payment.
    pub payment: Versioned<Payment>,
    /// The coupon it used.
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// The card, when something is on it.
    pub card: Option<StoredCard>,
    /// Who we were at the gateway when it was requested.
    pub merchant: MerchantId,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// No request leaves after this moment.
    pub send_deadline: Timestamp,
    /// It goes on the watch list whatever its end.
    pub watch_wanted: bool,
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

/// A row for the discrepancy ledger. One fact makes one row: a second insert of the same
/// ([`Discrepancy::fact`]) for the same payment does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDiscrepancy {
    /// Which payment.
    pub payment_id: PaymentId,
    /// What.
    pub discrepancy: Discrepancy,
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

/// Which payments to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimKind {
    /// Those that have not ended.
    Unsettled,
    /// Those that have, and are on the watch list.
    Watched,
}

/// How to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimOptions {
    /// Which.
    pub kind: ClaimKind,
    /// At most so many.
    pub limit: u32,
    /// Unsettled ones must not have changed for so long (a callback's wake-up overrides it).
    pub min_age: Duration,
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
    /// Names this claim; a later one has another.
    pub lease_id: i64,
    /// The payment as it was when claimed.
    pub record: PaymentRecord,
    /// When, by the database's clock.
    pub claimed_at: Timestamp,
    /// Its time had come; false: only a callback or a person woke it before that.
    pub scheduled: bool,
    /// Keys that callbacks named and nobody has looked up yet.
    pub hints: Vec<GatewayKey>,
    /// The gateway once showed a transaction for it.
    pub transaction_seen: bool,
    /// How often the gateway said that it has none.
    pub not_found_count: u32,
    /// When the last of these was counted.
    pub not_found_at: Option<Timestamp>,
    /// How often examining it failed, in a row.
    pub failures: u32,
    /// The next look of the watch list, from 0.
    pub watch_step: u32,
}

/// When a payment is looked at next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextDue {
    /// After so long.
    In(Duration),
    /// Never, unless a callback or a person wakes it.
    Never,
    /// As it stands: this was an extra look, or somebody else ended the payment meanwhile and has decided that.
    Keep,
}

/// What is kept of a finished examination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextCheck {
    /// When to look again.
    pub due: NextDue,
    /// As in [`Claim`].
    pub transaction_seen: bool,
    /// As in [`Claim`].
    pub not_found_count: u32,
    /// The last counted "no such transaction" is of now.
    pub not_found_now: bool,
    /// As in [`Claim`].
    pub failures: u32,
    /// As in [`Claim`].
    pub watch_step: u32,
}

/// A buyer's Idempotency-Key: 1 to 255 characters, unique per buyer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdempotencyKey {
    /// Whose.
    pub user_id: UserId,
    /// The header's text.
    pub key: String,
}

/// Takes an Idempotency-Key for an order, inside TX1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyClaim {
    /// Which.
    pub key: IdempotencyKey,
    /// A hash of what was asked for.
    pub fingerprint: [u8; 32],
    /// The order it is taken for.
    pub order_id: OrderId,
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
