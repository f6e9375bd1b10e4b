//! Reading: no locks, no transaction, each call a snapshot of its own.

use super::records::{Cause, DiscrepancyStatus, IdempotencyKey, IdempotencyRecord, PaymentRecord};
use super::store::StoreError;
use crate::settlement::DiscrepancyKind;
use crate::{
    Coupon, DiscrepancyId, GatewayKey, IssuedCoupon, MerchantId, Money, Order, OrderId, OrderStatus,
    PaymentId, PaymentStatus, ProductId, Stock, Timestamp, UserId,
};
use async_trait::async_trait;
use std::time::Duration;

/// An order with its payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    /// The order.
    pub order: Order,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// Its payment.
    pub payment: PaymentRecord,
}

/// Where a page of orders, newest first, goes on: after this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderCursor(pub OrderId);

/// One row of a payment's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEventView {
    /// Counts up over all payments.
    pub sequence: i64,
    /// The status before.
    pub from: Option<PaymentStatus>,
    /// The status after.
    pub to: PaymentStatus,
    /// Who or what.
    pub cause: Cause,
    /// Why.
    pub reason: Option<String>,
    /// The gateway's key at that time.
    pub key: Option<GatewayKey>,
    /// When.
    pub at: Timestamp,
}

/// A payment with its history, oldest row first, and when it is looked at next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentView {
    /// The payment.
    pub record: PaymentRecord,
    /// What happened to it.
    pub history: Vec<PaymentEventView>,
    /// The reconciler's next look, when one is scheduled.
    pub next_check_at: Option<Timestamp>,
    /// It failed to be examined again and again, and waits for a person.
    pub parked: bool,
}

/// A product as buyers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductView {
    /// Which.
    pub id: ProductId,
    /// Its name.
    pub name: String,
    /// Its price.
    pub price: Money,
    /// What is there.
    pub stock: Stock,
}

/// A buyer's coupon with its terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCouponView {
    /// The buyer's.
    pub issued: IssuedCoupon,
    /// Its terms.
    pub coupon: Coupon,
}

/// A row of the discrepancy ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscrepancyView {
    /// Which.
    pub id: DiscrepancyId,
    /// What.
    pub kind: DiscrepancyKind,
    /// Where it stands.
    pub status: DiscrepancyStatus,
    /// Which payment.
    pub payment_id: PaymentId,
    /// Which order.
    pub order_id: OrderId,
    /// The transaction.
    pub key: Option<GatewayKey>,
    /// How much.
    pub amount: Option<Money>,
    /// What was seen.
    pub evidence: String,
    /// When.
    pub found_at: Timestamp,
    /// What a person did about it.
    pub resolution: Option<String>,
    /// In their words.
    pub note: Option<String>,
    /// Who.
    pub resolved_by: Option<String>,
    /// When.
    pub resolved_at: Option<Timestamp>,
}

/// Which payments an operator wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdminPaymentFilter {
    /// Of this status only.
    pub status: Option<PaymentStatus>,
    /// Placed longer ago than this.
    pub older_than: Option<Duration>,
    /// Ids below this one (the page's end).
    pub before: Option<PaymentId>,
    /// At most so many, newest first.
    pub limit: u32,
}

/// Numbers for gauges and the console.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PaymentStatistics {
    /// Payments PENDING or IN_PROGRESS.
    pub unsettled: u64,
    /// How long the oldest of them has been waiting.
    pub oldest_unsettled: Option<Duration>,
    /// Open rows of the ledger, by kind; every kind is there.
    pub open_discrepancies: Vec<(DiscrepancyKind, u64)>,
    /// Ended payments that are still looked at.
    pub watched: u64,
}

/// Up to these ages unsettled payments are counted apart in [`Worklist::unsettled_by_age`].
pub const AGE_BOUNDS: [Duration; 3] =
    [Duration::from_secs(60), Duration::from_secs(5 * 60), Duration::from_secs(30 * 60)];

/// A payment that is looked at again: one that has not ended, or one on the watch list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpcomingCheck {
    /// Which.
    pub payment_id: PaymentId,
    /// Its order.
    pub order_id: OrderId,
    /// Where it stands.
    pub status: PaymentStatus,
    /// What is on the card.
    pub paid_amount: Money,
    /// When it was placed.
    pub created_at: Timestamp,
    /// From then on anybody may claim it; `None`: never, unless a callback or a person wakes it.
    pub due_at: Option<Timestamp>,
    /// Somebody is at it, until then at the latest.
    pub leased_until: Option<Timestamp>,
    /// How often examining it failed, in a row.
    pub failures: u32,
    /// It waits for a person.
    pub parked: bool,
}

/// What waits, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worklist {
    /// The moment, by the database's clock.
    pub now: Timestamp,
    /// Payments that have not ended: younger than the first of [`AGE_BOUNDS`], than the second, than the third, older.
    pub unsettled_by_age: [u64; AGE_BOUNDS.len() + 1],
    /// The parked ones first, then those that are due first.
    pub checks: Vec<UpcomingCheck>,
}

/// A row of some payment's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentEvent {
    /// Whose.
    pub payment_id: PaymentId,
    /// What.
    pub event: PaymentEventView,
}

/// Reads of the database.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Queries: Send + Sync {
    /// The database answers, has the migrations this program needs, and takes writes.
    async fn ready(&self) -> Result<(), StoreError>;

    /// An order; with `user_id` only that buyer's.
    async fn order(&self, user_id: Option<UserId>, id: OrderId) -> Result<Option<OrderView>, StoreError>;

    /// A buyer's orders, newest first.
    async fn orders(
        &self,
        user_id: UserId,
        status: Option<OrderStatus>,
        after: Option<OrderCursor>,
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError>;

    /// A payment with its history; with `user_id` only that buyer's.
    async fn payment(
        &self,
        user_id: Option<UserId>,
        id: PaymentId,
    ) -> Result<Option<PaymentView>, StoreError>;

    /// Payments for an operator, newest first.
    async fn payments(&self, filter: &AdminPaymentFilter) -> Result<Vec<PaymentRecord>, StoreError>;

    /// What an Idempotency-Key stands for.
    async fn idempotency(&self, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError>;

    /// Products ascending by id.
    async fn products(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<ProductView>, StoreError>;

    /// A product.
    async fn product(&self, id: ProductId) -> Result<Option<ProductView>, StoreError>;

    /// A buyer's coupons, newest first.
    async fn issued_coupons(&self, user_id: UserId) -> Result<Vec<IssuedCouponView>, StoreError>;

    /// A buyer's points.
    async fn point_balance(&self, user_id: UserId) -> Result<Money, StoreError>;

    /// Ledger rows, newest first, ids below `before`.
    async fn discrepancies(
        &self,
        status: Option<DiscrepancyStatus>,
        before: Option<DiscrepancyId>,
        limit: u32,
    ) -> Result<Vec<DiscrepancyView>, StoreError>;

    /// A ledger row.
    async fn discrepancy(&self, id: DiscrepancyId) -> Result<Option<DiscrepancyView>, StoreError>;

    /// A payment's ledger rows, newest first, 100 at most.
    async fn discrepancies_of(&self, id: PaymentId) -> Result<Vec<DiscrepancyView>, StoreError>;

    /// What is looked at next, `limit` payments at most.
    async fn worklist(&self, limit: u32) -> Result<Worklist, StoreError>;

    /// The latest rows of all histories that have this cause, newest first, `limit` at most. Only the last 1,000 rows are
    /// looked through.
    async fn recent_events(&self, cause: Cause, limit: u32) -> Result<Vec<RecentEvent>, StoreError>;

    /// Numbers for gauges.
    async fn statistics(&self) -> Result<PaymentStatistics, StoreError>;

    /// Orders whose payments changed in the last `within`, by the database's clock, with the moment; in no order, at
    /// most `limit`. For those who wait for changes that other processes make.
    async fn changed_orders(
        &self,
        within: Duration,
        limit: u32,
    ) -> Result<Vec<(OrderId, Timestamp)>, StoreError>;

    /// The merchant and key of the payment last PAID by card: something the gateway must know.
    async fn last_paid_key(&self) -> Result<Option<(MerchantId, GatewayKey)>, StoreError>;
}
