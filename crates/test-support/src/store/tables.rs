//! The rows. A transaction's changes have the same shape as the database: rows that take the place of others.

use domain::ports::{
    DiscrepancyStatus, IdempotencyKey, PaymentEventView, PaymentRecord, PointEntryKind, StoredAnswer,
};
use domain::settlement::{Check, Discrepancy};
use domain::{
    Coupon, DiscrepancyId, GatewayKey, IssuedCoupon, IssuedCouponId, Money, Order, OrderId, PaymentId,
    ProductId, Stock, Timestamp, UserId,
};
use std::collections::BTreeMap;

/// A product without its stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Its name.
    pub name: String,
    /// Its price.
    pub price: Money,
}

/// A buyer's coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuedCouponRow {
    /// The coupon.
    pub issued: IssuedCoupon,
    /// Counted up at each change.
    pub version: i64,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// The order.
    pub order: Order,
    /// Counted up at each change.
    pub version: i64,
    /// When it was placed.
    pub placed_at: Timestamp,
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    /// The payment.
    pub record: PaymentRecord,
    /// The keyed hash of its callback token.
    pub callback_token_hash: Option<[u8; 32]>,
}

/// What moved stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StockCause {
    /// The product was added.
    Initial,
    /// An operator counted it.
    Set,
    /// A payment took or gave back.
    Payment(PaymentId, StockMove),
}

/// Which way a payment moves stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StockMove {
    /// Its order took pieces.
    Reserve,
    /// It failed, and they go back.
    Restore,
}

/// A row of the stock ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockLedgerRow {
    /// Which product.
    pub product_id: ProductId,
    /// Why.
    pub cause: StockCause,
    /// By how much.
    pub delta: i64,
}

/// A row of the point ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointLedgerRow {
    /// Whose.
    pub user_id: UserId,
    /// Why.
    pub kind: PointEntryKind,
    /// For which payment.
    pub payment_id: Option<PaymentId>,
    /// By how much.
    pub delta: i64,
}

/// What happened to a coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CouponMove {
    /// A payment used it.
    Use,
    /// A payment gave it back.
    CancelUse,
}

/// What a callback named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxRow {
    /// How often it was named.
    pub times: u64,
    /// When it was first.
    pub received_at: Timestamp,
    /// The claim that bears it; none again when it is named again.
    pub lease_id: Option<i64>,
    /// When it was looked up.
    pub looked_up_at: Option<Timestamp>,
}

/// A row of the discrepancy ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscrepancyRow {
    /// Whose.
    pub payment_id: PaymentId,
    /// What.
    pub discrepancy: Discrepancy,
    /// Where it stands.
    pub status: DiscrepancyStatus,
    /// When it was found.
    pub found_at: Timestamp,
    /// How a person resolved it.
    pub resolved: Option<Resolution>,
}

/// What a person did about a discrepancy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// What was done.
    pub resolution: String,
    /// In their words.
    pub note: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A taken Idempotency-Key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRow {
    /// Of the first request.
    pub fingerprint: [u8; 32],
    /// Its order.
    pub order_id: OrderId,
    /// Its answer.
    pub answer: Option<StoredAnswer>,
    /// From then on the key is free.
    pub expires_at: Timestamp,
}

/// All rows. Nothing is ever deleted.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "each is the table of that name")]
pub struct Tables {
    pub products: BTreeMap<ProductId, ProductRow>,
    pub stock: BTreeMap<ProductId, Stock>,
    pub coupons: BTreeMap<domain::CouponId, Coupon>,
    pub issued_coupons: BTreeMap<IssuedCouponId, IssuedCouponRow>,
    pub points: BTreeMap<UserId, Money>,
    pub orders: BTreeMap<OrderId, OrderRow>,
    pub payments: BTreeMap<PaymentId, PaymentRow>,
    /// By payment and sequence number.
    pub payment_events: BTreeMap<(PaymentId, i64), PaymentEventView>,
    pub stock_ledger: BTreeMap<i64, StockLedgerRow>,
    pub point_ledger: BTreeMap<i64, PointLedgerRow>,
    pub coupon_ledger: BTreeMap<(PaymentId, IssuedCouponId, CouponMove), Timestamp>,
    pub checks: BTreeMap<PaymentId, Check>,
    pub inbox: BTreeMap<(PaymentId, GatewayKey), InboxRow>,
    pub discrepancies: BTreeMap<DiscrepancyId, DiscrepancyRow>,
    pub idempotency: BTreeMap<IdempotencyKey, IdempotencyRow>,
    /// Unique index: the payment of an order.
    pub payment_of_order: BTreeMap<OrderId, PaymentId>,
    /// Unique index: the payment of a token. Keys change, so an entry counts only while its payment still has the key.
    pub payment_of_token: BTreeMap<[u8; 32], PaymentId>,
    /// Index of gateway keys; an entry counts only while its payment still has the key.
    pub payment_of_key: BTreeMap<GatewayKey, PaymentId>,
    /// Unique index of the stock ledger's payment rows.
    pub stock_moved: BTreeMap<(PaymentId, ProductId, StockMove), ()>,
    /// Unique index of the point ledger's payment rows.
    pub points_moved: BTreeMap<(PaymentId, PointEntryKind), ()>,
    /// Unique index of the discrepancy ledger.
    pub facts: BTreeMap<(PaymentId, String), DiscrepancyId>,
    /// Unique index: one coupon per buyer.
    pub coupon_of_user: BTreeMap<(UserId, domain::CouponId), IssuedCouponId>,
}

impl Tables {
    /// Puts a transaction's changes in place.
    pub(crate) fn apply(&mut self, mut changes: Self) {
        macro_rules! append {
            ($($table:ident),*) => { $(self.$table.append(&mut changes.$table);)* };
        }
        append!(
            products,
            stock,
            coupons,
            issued_coupons,
            points,
            orders,
            payments,
            payment_events,
            stock_ledger,
            point_ledger,
            coupon_ledger,
            checks,
            inbox,
            discrepancies,
            idempotency,
            payment_of_order,
            payment_of_token,
            payment_of_key,
            stock_moved,
            points_moved,
            facts,
            coupon_of_user
        );
    }

    /// The payment of an order.
    pub fn payment_of(&self, order_id: OrderId) -> Option<&PaymentRow> {
        self.payments.get(self.payment_of_order.get(&order_id)?)
    }

    /// A payment's history, oldest first.
    pub fn history(&self, id: PaymentId) -> impl Iterator<Item = &PaymentEventView> + '_ {
        self.payment_events.range((id, i64::MIN)..=(id, i64::MAX)).map(|(_, event)| event)
    }

    /// Keys that callbacks named for a payment.
    pub fn hints(&self, id: PaymentId) -> impl Iterator<Item = (&GatewayKey, &InboxRow)> + '_ {
        self.inbox
            .iter()
            .filter(move |((payment_id, _), _)| *payment_id == id)
            .map(|((_, key), row)| (key, row))
    }
}
