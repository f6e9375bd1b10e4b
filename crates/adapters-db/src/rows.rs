//! Rows as they come out of the database, and their conversion into the domain. A row that breaks a rule is
//! [`StoreError::Corrupt`].

use crate::error::corrupt;
use crate::schema::{
    coupon, discrepancy, issued_coupon, order_item, orders, payment, payment_check, payment_event,
};
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel::{Queryable, QueryableByName, Selectable};
use domain::ports::{
    Cause, CouponHolding, DiscrepancyStatus, DiscrepancyView, PaymentEventView, PaymentRecord, ProductView,
    StoreError, StoredCard, Versioned,
};
use domain::settlement::{Check, DiscrepancyKind, Lease};
use domain::{
    CardType, Coupon, CouponId, Discount, DiscrepancyId, FailureMessage, GatewayKey, GatewayOrderRef,
    IssuedCoupon, IssuedCouponId, IssuedCouponStatus, MerchantId, Money, Order, OrderId, OrderItem,
    OrderStatus, Payment, PaymentAmounts, PaymentId, PaymentState, PaymentStatus, ProductId, Quantity, Stock,
    Timestamp, UserId,
};
use std::fmt::Display;
use std::time::Duration;

/// Says where a value that breaks a rule stands.
pub(crate) struct At {
    table: &'static str,
    id: i64,
}

impl At {
    pub(crate) const fn row(table: &'static str, id: i64) -> Self {
        Self { table, id }
    }

    /// For `map_err`.
    pub(crate) fn corrupt(&self, what: impl Display) -> StoreError {
        corrupt(self.table, self.id, what)
    }

    fn known<T>(&self, column: &str, text: &str, parsed: Option<T>) -> Result<T, StoreError> {
        parsed.ok_or_else(|| self.corrupt(format_args!("{column} {text:?}")))
    }

    fn key(&self, text: Option<String>) -> Result<Option<GatewayKey>, StoreError> {
        text.map(GatewayKey::new).transpose().map_err(|error| self.corrupt(error))
    }

    pub(crate) fn money(&self, won: i64) -> Result<Money, StoreError> {
        Money::new(won).map_err(|error| self.corrupt(error))
    }

    /// Money that is not below zero.
    pub(crate) fn price(&self, won: i64) -> Result<Money, StoreError> {
        let price = self.money(won)?;
        if price.is_negative() { Err(self.corrupt("a price below zero")) } else { Ok(price) }
    }
}

/// A time for PostgreSQL: microseconds, at most 100 years.
pub(crate) fn micros(duration: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 86_400 * 1_000_000;
    i64::try_from(duration.as_micros()).unwrap_or(CENTURY).min(CENTURY)
}

/// A text that fits its column: without NUL, which PostgreSQL refuses, and cut at `max` characters.
pub(crate) fn clip(text: &str, max: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(max).collect()
}

/// The columns of a [`PaymentRow`], of `payment p`.
macro_rules! payment_columns {
    () => {
        "p.id, p.order_id, p.user_id, p.status, p.total_amount, p.used_point, p.coupon_discount, p.paid_amount, \
        p.issued_coupon_id, p.card_type, p.card_no, p.merchant_id, p.gateway_order_ref, p.external_payment_key, \
        p.failure_message, p.send_deadline, p.version, p.created_at, p.updated_at"
    };
}
pub(crate) use payment_columns;

/// `payment_check c` and its `payment p`, of what is looked at again or waits for a person: every payment that has not ended,
/// and the watch list. Each half has an index of its own. (The payments are found one by one, whatever the statistics say.)
macro_rules! looked_at {
    () => {
        "(SELECT * FROM payment_check WHERE next_at IS NOT NULL \
            UNION ALL SELECT * FROM payment_check WHERE parked_at IS NOT NULL) c \
        CROSS JOIN LATERAL (SELECT * FROM payment WHERE id = c.payment_id OFFSET 0) p"
    };
}
pub(crate) use looked_at;

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = payment, check_for_backend(Pg))]
pub(crate) struct PaymentRow {
    id: i64,
    order_id: i64,
    user_id: i64,
    status: String,
    total_amount: i64,
    used_point: i64,
    coupon_discount: i64,
    paid_amount: i64,
    issued_coupon_id: Option<i64>,
    card_type: Option<String>,
    card_no: Option<String>,
    merchant_id: String,
    gateway_order_ref: String,
    external_payment_key: Option<String>,
    failure_message: Option<String>,
    send_deadline: Timestamp,
    version: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<PaymentRow> for PaymentRecord {
    type Error = StoreError;

    fn try_from(row: PaymentRow) -> Result<Self, StoreError> {
        let at = At::row("payment", row.id);
        let amounts = PaymentAmounts::new(
            at.money(row.total_amount)?,
            at.money(row.used_point)?,
            at.money(row.coupon_discount)?,
            at.money(row.paid_amount)?,
        )
        .map_err(|error| at.corrupt(error))?;
        let status = at.known("status", &row.status, PaymentStatus::parse(&row.status))?;
        let key = at.key(row.external_payment_key)?;
        let message =
            row.failure_message.map(FailureMessage::new).transpose().map_err(|error| at.corrupt(error))?;
        let state = match (status, key, message) {
            (PaymentStatus::Pending, None, None) => PaymentState::Pending,
            (PaymentStatus::InProgress, key, None) => PaymentState::InProgress { key },
            (PaymentStatus::Paid, key, None) => PaymentState::Paid { key },
            (PaymentStatus::Failed, key, message) => PaymentState::Failed { key, message },
            (PaymentStatus::Pending | PaymentStatus::InProgress | PaymentStatus::Paid, _, _) => {
                return Err(at.corrupt("a key or a failure message that this status does not have"));
            }
        };
        let payment = Payment::restore(
            PaymentId::new(row.id).map_err(|error| at.corrupt(error))?,
            OrderId::new(row.order_id).map_err(|error| at.corrupt(error))?,
            UserId::new(row.user_id).map_err(|error| at.corrupt(error))?,
            amounts,
            state,
        );
        let card = match (row.card_type, row.card_no) {
            (Some(kind), Some(masked)) => {
                let card_type: CardType = at.known("card_type", &kind, kind.parse().ok())?;
                Some(StoredCard { card_type, masked })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(at.corrupt("half a card")),
        };
        Ok(Self {
            payment,
            version: row.version,
            issued_coupon_id: row
                .issued_coupon_id
                .map(IssuedCouponId::new)
                .transpose()
                .map_err(|error| at.corrupt(error))?,
            card,
            merchant: MerchantId::new(row.merchant_id).map_err(|error| at.corrupt(error))?,
            order_ref: GatewayOrderRef::from_gateway(row.gateway_order_ref),
            created_at: row.created_at,
            updated_at: row.updated_at,
            send_deadline: row.send_deadline,
        })
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = payment_event, check_for_backend(Pg))]
pub(crate) struct EventRow {
    id: i64,
    from_status: Option<String>,
    to_status: String,
    cause: String,
    reason: Option<String>,
    external_payment_key: Option<String>,
    created_at: Timestamp,
}

impl TryFrom<EventRow> for PaymentEventView {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        let at = At::row("payment_event", row.id);
        let from = row.from_status.as_deref();
        Ok(Self {
            sequence: row.id,
            from: from.map(|text| at.known("from_status", text, PaymentStatus::parse(text))).transpose()?,
            to: at.known("to_status", &row.to_status, PaymentStatus::parse(&row.to_status))?,
            cause: at.known("cause", &row.cause, Cause::parse(&row.cause))?,
            reason: row.reason,
            key: at.key(row.external_payment_key)?,
            at: row.created_at,
        })
    }
}

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = orders, check_for_backend(Pg))]
pub(crate) struct OrderRow {
    pub(crate) id: i64,
    user_id: i64,
    status: String,
    total_amount: i64,
    version: i64,
    pub(crate) placed_at: Timestamp,
}

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = order_item, check_for_backend(Pg))]
pub(crate) struct ItemRow {
    pub(crate) order_id: i64,
    product_id: i64,
    product_name: String,
    unit_price: i64,
    quantity: i32,
}

impl TryFrom<ItemRow> for OrderItem {
    type Error = StoreError;

    fn try_from(row: ItemRow) -> Result<Self, StoreError> {
        let at = At::row("order_item of order", row.order_id);
        Ok(Self {
            product_id: ProductId::new(row.product_id).map_err(|error| at.corrupt(error))?,
            product_name: row.product_name,
            unit_price: at.money(row.unit_price)?,
            quantity: Quantity::new(i64::from(row.quantity)).map_err(|error| at.corrupt(error))?,
        })
    }
}

impl OrderRow {
    /// With its own items, ascending by product.
    pub(crate) fn into_order(self, items: Vec<ItemRow>) -> Result<Versioned<Order>, StoreError> {
        let at = At::row("orders", self.id);
        let items = items.into_iter().map(OrderItem::try_from).collect::<Result<Vec<_>, _>>()?;
        let order = Order::restore(
            OrderId::new(self.id).map_err(|error| at.corrupt(error))?,
            UserId::new(self.user_id).map_err(|error| at.corrupt(error))?,
            items,
            at.known("status", &self.status, OrderStatus::parse(&self.status))?,
        )
        .map_err(|error| at.corrupt(error))?;
        if order.total().won() != self.total_amount {
            return Err(at.corrupt("the total is not the sum of the items"));
        }
        Ok(Versioned { version: self.version, value: order })
    }
}

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = coupon, check_for_backend(Pg))]
pub(crate) struct CouponRow {
    id: i64,
    name: String,
    discount_type: String,
    discount_value: i64,
    valid_until: Option<Timestamp>,
}

impl TryFrom<CouponRow> for Coupon {
    type Error = StoreError;

    fn try_from(row: CouponRow) -> Result<Self, StoreError> {
        let at = At::row("coupon", row.id);
        let discount = match row.discount_type.as_str() {
            "FIXED" => Discount::fixed(at.money(row.discount_value)?),
            "RATE" => Discount::rate(row.discount_value),
            other => return Err(at.corrupt(format_args!("discount_type {other:?}"))),
        };
        Ok(Self {
            id: CouponId::new(row.id).map_err(|error| at.corrupt(error))?,
            name: row.name,
            discount: discount.map_err(|error| at.corrupt(error))?,
            valid_until: row.valid_until,
        })
    }
}

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = issued_coupon, check_for_backend(Pg))]
pub(crate) struct IssuedCouponRow {
    id: i64,
    coupon_id: i64,
    user_id: i64,
    status: String,
    used_at: Option<Timestamp>,
    version: i64,
}

impl TryFrom<IssuedCouponRow> for Versioned<IssuedCoupon> {
    type Error = StoreError;

    fn try_from(row: IssuedCouponRow) -> Result<Self, StoreError> {
        let at = At::row("issued_coupon", row.id);
        let status = match (row.status.as_str(), row.used_at) {
            ("AVAILABLE", None) => IssuedCouponStatus::Available,
            ("USED", Some(used_at)) => IssuedCouponStatus::Used { used_at },
            (other, _) => return Err(at.corrupt(format_args!("status {other:?} with this used_at"))),
        };
        let value = IssuedCoupon {
            id: IssuedCouponId::new(row.id).map_err(|error| at.corrupt(error))?,
            coupon_id: CouponId::new(row.coupon_id).map_err(|error| at.corrupt(error))?,
            user_id: UserId::new(row.user_id).map_err(|error| at.corrupt(error))?,
            status,
        };
        Ok(Self { version: row.version, value })
    }
}

pub(crate) fn holding(
    issued: IssuedCouponRow,
    coupon: CouponRow,
) -> Result<Versioned<CouponHolding>, StoreError> {
    let issued: Versioned<IssuedCoupon> = issued.try_into()?;
    let coupon = coupon.try_into()?;
    Ok(issued.with(CouponHolding { issued: issued.value, coupon }))
}

/// A buyer's coupon with its terms, by names.
#[derive(QueryableByName)]
pub(crate) struct HoldingRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    coupon_id: i64,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    used_at: Option<Timestamp>,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    discount_type: String,
    #[diesel(sql_type = BigInt)]
    discount_value: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    valid_until: Option<Timestamp>,
}

impl TryFrom<HoldingRow> for Versioned<CouponHolding> {
    type Error = StoreError;

    fn try_from(row: HoldingRow) -> Result<Self, StoreError> {
        let HoldingRow { id, coupon_id, user_id, status, used_at, version, .. } = row;
        let HoldingRow { name, discount_type, discount_value, valid_until, .. } = row;
        holding(
            IssuedCouponRow { id, coupon_id, user_id, status, used_at, version },
            CouponRow { id: coupon_id, name, discount_type, discount_value, valid_until },
        )
    }
}

/// A product with its stock.
#[derive(Queryable)]
pub(crate) struct ProductRow {
    id: i64,
    name: String,
    price: i64,
    quantity: i64,
}

impl TryFrom<ProductRow> for ProductView {
    type Error = StoreError;

    fn try_from(row: ProductRow) -> Result<Self, StoreError> {
        let at = At::row("product", row.id);
        Ok(Self {
            id: ProductId::new(row.id).map_err(|error| at.corrupt(error))?,
            name: row.name,
            price: at.price(row.price)?,
            stock: Stock::new(row.quantity).map_err(|error| at.corrupt(error))?,
        })
    }
}

#[derive(QueryableByName)]
#[diesel(table_name = payment_check, check_for_backend(Pg))]
pub(crate) struct CheckRow {
    pub(crate) payment_id: i64,
    due_at: Option<Timestamp>,
    lease_id: Option<i64>,
    leased_until: Option<Timestamp>,
    claimed_at: Option<Timestamp>,
    woken_at: Option<Timestamp>,
    failures: i32,
    parked_at: Option<Timestamp>,
    transaction_seen: bool,
    not_found_count: i32,
    not_found_at: Option<Timestamp>,
    watch_wanted: bool,
    watch_step: i32,
}

impl TryFrom<CheckRow> for Check {
    type Error = StoreError;

    fn try_from(row: CheckRow) -> Result<Self, StoreError> {
        let at = At::row("payment_check", row.payment_id);
        let count = |number: i32| u32::try_from(number).map_err(|_| at.corrupt("a count below zero"));
        let lease = match (row.lease_id, row.leased_until) {
            (Some(id), Some(until)) => Some(Lease { id, until }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(at.corrupt("half a lease")),
        };
        Ok(Self {
            due_at: row.due_at,
            woken_at: row.woken_at,
            lease,
            claimed_at: row.claimed_at,
            failures: count(row.failures)?,
            parked_at: row.parked_at,
            transaction_seen: row.transaction_seen,
            not_found_count: count(row.not_found_count)?,
            not_found_at: row.not_found_at,
            watch_wanted: row.watch_wanted,
            watch_step: count(row.watch_step)?,
        })
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = discrepancy, check_for_backend(Pg))]
pub(crate) struct DiscrepancyRow {
    id: i64,
    payment_id: i64,
    kind: String,
    status: String,
    external_payment_key: Option<String>,
    amount: Option<i64>,
    evidence: String,
    found_at: Timestamp,
    resolution: Option<String>,
    note: Option<String>,
    resolved_by: Option<String>,
    resolved_at: Option<Timestamp>,
}

impl DiscrepancyRow {
    /// With the order of its payment.
    pub(crate) fn into_view(self, order_id: i64) -> Result<DiscrepancyView, StoreError> {
        let at = At::row("discrepancy", self.id);
        Ok(DiscrepancyView {
            id: DiscrepancyId::new(self.id).map_err(|error| at.corrupt(error))?,
            kind: at.known("kind", &self.kind, DiscrepancyKind::parse(&self.kind))?,
            status: at.known("status", &self.status, DiscrepancyStatus::parse(&self.status))?,
            payment_id: PaymentId::new(self.payment_id).map_err(|error| at.corrupt(error))?,
            order_id: OrderId::new(order_id).map_err(|error| at.corrupt(error))?,
            key: at.key(self.external_payment_key)?,
            amount: self.amount.map(|won| at.money(won)).transpose()?,
            evidence: self.evidence,
            found_at: self.found_at,
            resolution: self.resolution,
            note: self.note,
            resolved_by: self.resolved_by,
            resolved_at: self.resolved_at,
        })
    }
}
