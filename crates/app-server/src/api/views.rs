//! The public API's JSON, as spec 03 has it: camelCase, ids and won as integers below 2^53, times RFC 3339 in UTC.

use domain::ports::{IssuedCouponView, OrderView, PaymentEventView, PaymentRecord, PaymentView, ProductView};
use domain::{Discount, IssuedCouponStatus, OrderItem, PaymentState};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

macro_rules! mirrored {
    ($(#[$doc:meta])* $name:ident of $domain:ty { $( $variant:ident = $text:tt ),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        pub(crate) enum $name { $( #[serde(rename = $text)] $variant, )+ }

        impl From<$domain> for $name {
            fn from(value: $domain) -> Self {
                match value { $( <$domain>::$variant => Self::$variant, )+ }
            }
        }
    };
}

mirrored! {
    /// Where an order stands. PAID and CANCELLED are final.
    OrderStatus of domain::OrderStatus { Placed = "PLACED", Paid = "PAID", Cancelled = "CANCELLED" }
}
mirrored! {
    /// Where a payment stands. PAID and FAILED are final.
    PaymentStatus of domain::PaymentStatus {
        Pending = "PENDING", InProgress = "IN_PROGRESS", Paid = "PAID", Failed = "FAILED",
    }
}
mirrored! {
    /// How an order is paid.
    PaymentMethod of domain::PaymentMethod { Point = "POINT", Card = "CARD", Mixed = "MIXED" }
}
mirrored! {
    /// A card company.
    CardType of domain::CardType { Samsung = "SAMSUNG", Kb = "KB", Hyundai = "HYUNDAI" }
}
mirrored! {
    /// Who or what changed a payment.
    Cause of domain::ports::Cause {
        Api = "api", Callback = "callback", Reconciler = "reconciler", Operator = "operator",
    }
}

/// One product of an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderItemBody {
    /// The product.
    #[schema(example = 1)]
    product_id: i64,
    /// Its name when the order was placed.
    #[schema(example = "텀블러")]
    product_name: String,
    /// Its price then, in won.
    #[schema(example = 15000)]
    unit_price: i64,
    /// How many.
    #[schema(example = 2)]
    quantity: u32,
    /// Price times quantity.
    #[schema(example = 30000)]
    amount: i64,
}

impl From<&OrderItem> for OrderItemBody {
    fn from(item: &OrderItem) -> Self {
        let quantity = item.quantity.get();
        Self {
            product_id: item.product_id.get(),
            product_name: item.product_name.clone(),
            unit_price: item.unit_price.won(),
            quantity,
            amount: item.unit_price.won().saturating_mul(i64::from(quantity)),
        }
    }
}

/// The payment of an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PaymentBody {
    /// Which.
    #[schema(example = 100001)]
    payment_id: i64,
    /// Where it stands.
    status: PaymentStatus,
    /// How it is paid.
    method: PaymentMethod,
    /// The order's total, in won.
    #[schema(example = 30000)]
    total_amount: i64,
    /// Paid by points.
    #[schema(example = 0)]
    used_point: i64,
    /// Taken off by a coupon.
    #[schema(example = 0)]
    coupon_discount: i64,
    /// What is on the card.
    #[schema(example = 30000)]
    paid_amount: i64,
    /// The coupon that was used.
    #[schema(required = true)]
    issued_coupon_id: Option<i64>,
    /// The card company.
    #[schema(required = true)]
    card_type: Option<CardType>,
    /// The card number, masked.
    #[schema(required = true, example = "1234-****-****-1451")]
    card_no: Option<String>,
    /// The payment gateway's key, once known.
    #[schema(required = true, example = "20250816:TR:9577c5")]
    external_payment_key: Option<String>,
    /// Why it failed.
    #[schema(required = true)]
    failure_message: Option<String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<&PaymentRecord> for PaymentBody {
    fn from(record: &PaymentRecord) -> Self {
        let payment = &record.payment;
        let amounts = payment.amounts();
        let failure_message = match payment.state() {
            PaymentState::Failed { message, .. } => message.as_ref().map(|text| text.as_str().to_owned()),
            PaymentState::Pending | PaymentState::InProgress { .. } | PaymentState::Paid { .. } => None,
        };
        Self {
            payment_id: payment.id().get(),
            status: payment.status().into(),
            method: amounts.method().into(),
            total_amount: amounts.total().won(),
            used_point: amounts.used_point().won(),
            coupon_discount: amounts.coupon_discount().won(),
            paid_amount: amounts.paid_amount().won(),
            issued_coupon_id: record.issued_coupon_id.map(domain::IssuedCouponId::get),
            card_type: record.card.as_ref().map(|card| card.card_type.into()),
            card_no: record.card.as_ref().map(|card| card.masked.clone()),
            external_payment_key: payment.key().map(|key| key.as_str().to_owned()),
            failure_message,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// An order with its payment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderBody {
    /// Which.
    #[schema(example = 100001)]
    order_id: i64,
    /// Whose.
    #[schema(example = 1)]
    user_id: i64,
    /// Where it stands.
    status: OrderStatus,
    /// The sum of its items, in won.
    #[schema(example = 30000)]
    total_amount: i64,
    /// What was ordered, ascending by product.
    items: Vec<OrderItemBody>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    placed_at: OffsetDateTime,
    /// Its payment.
    #[schema(example = 100001)]
    payment_id: i64,
    /// Where its payment stands.
    payment_status: PaymentStatus,
    /// Its payment in full.
    payment: PaymentBody,
}

impl From<&OrderView> for OrderBody {
    fn from(view: &OrderView) -> Self {
        let payment = &view.payment.payment;
        Self {
            order_id: view.order.id().get(),
            user_id: view.order.user_id().get(),
            status: view.order.status().into(),
            total_amount: view.order.total().won(),
            items: view.order.items().iter().map(OrderItemBody::from).collect(),
            placed_at: view.placed_at,
            payment_id: payment.id().get(),
            payment_status: payment.status().into(),
            payment: PaymentBody::from(&view.payment),
        }
    }
}

/// A page of orders.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderPage {
    /// Newest first.
    pub(crate) orders: Vec<OrderBody>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required = true)]
    pub(crate) next_cursor: Option<String>,
}

/// One change of a payment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PaymentEventBody {
    /// Counts up, from 1 for each payment.
    #[schema(minimum = 1, example = 2)]
    sequence: usize,
    /// The status before; `null` for the first row.
    #[schema(required = true)]
    from: Option<PaymentStatus>,
    /// The status after.
    to: PaymentStatus,
    /// Who or what.
    cause: Cause,
    /// Why.
    #[schema(required = true)]
    reason: Option<String>,
    /// The gateway's key at that time.
    #[schema(required = true)]
    external_payment_key: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl PaymentEventBody {
    /// The rows of a payment's history, oldest first. They are counted here: the numbers that they have in the store
    /// count over all payments, and would tell every buyer how many there are.
    pub(crate) fn all(history: &[PaymentEventView]) -> impl Iterator<Item = Self> {
        history.iter().zip(1..).map(|(event, sequence)| Self::new(event, sequence))
    }

    fn new(event: &PaymentEventView, sequence: usize) -> Self {
        Self {
            sequence,
            from: event.from.map(Into::into),
            to: event.to.into(),
            cause: event.cause.into(),
            reason: event.reason.clone(),
            external_payment_key: event.key.as_ref().map(|key| key.as_str().to_owned()),
            at: event.at,
        }
    }
}

/// A payment with its history.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PaymentDetailBody {
    /// The order it pays.
    #[schema(example = 100001)]
    order_id: i64,
    /// The payment itself.
    #[serde(flatten)]
    payment: PaymentBody,
    /// What happened to it, oldest first.
    history: Vec<PaymentEventBody>,
    /// When the payment gateway is asked about it next, if that is planned.
    #[schema(required = true)]
    #[serde(with = "time::serde::rfc3339::option")]
    next_check_at: Option<OffsetDateTime>,
}

impl From<&PaymentView> for PaymentDetailBody {
    fn from(view: &PaymentView) -> Self {
        Self {
            order_id: view.record.payment.order_id().get(),
            payment: PaymentBody::from(&view.record),
            history: PaymentEventBody::all(&view.history).collect(),
            next_check_at: view.next_check_at,
        }
    }
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductBody {
    /// Which.
    #[schema(example = 1)]
    product_id: i64,
    /// Its name.
    #[schema(example = "텀블러")]
    name: String,
    /// The price of one piece, in won.
    #[schema(example = 15000)]
    price: i64,
    /// Pieces on hand.
    #[schema(example = 100)]
    stock: i64,
}

impl From<&ProductView> for ProductBody {
    fn from(view: &ProductView) -> Self {
        Self {
            product_id: view.id.get(),
            name: view.name.clone(),
            price: view.price.won(),
            stock: view.stock.quantity(),
        }
    }
}

/// A page of products.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductPage {
    /// Ascending by id.
    pub(crate) products: Vec<ProductBody>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required = true)]
    pub(crate) next_cursor: Option<String>,
}

/// A buyer's points.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PointsBody {
    /// What is there, in won.
    #[schema(example = 50000)]
    pub(crate) balance: i64,
}

/// How a coupon takes something off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DiscountType {
    /// So many won.
    Fixed,
    /// So many per cent.
    Rate,
}

/// A coupon's terms.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CouponBody {
    /// Which.
    #[schema(example = 1)]
    coupon_id: i64,
    /// What buyers see.
    #[schema(example = "신규 가입 10% 할인")]
    name: String,
    /// How it takes something off.
    discount_type: DiscountType,
    /// Won, or per cent.
    #[schema(example = 10)]
    discount_value: i64,
    /// It can be used before this moment; `null`: for ever.
    #[schema(required = true)]
    #[serde(with = "time::serde::rfc3339::option")]
    valid_until: Option<OffsetDateTime>,
}

impl From<&domain::Coupon> for CouponBody {
    fn from(coupon: &domain::Coupon) -> Self {
        let (discount_type, discount_value) = match coupon.discount {
            Discount::Fixed(amount) => (DiscountType::Fixed, amount.won()),
            Discount::Rate(percent) => (DiscountType::Rate, i64::from(percent)),
        };
        Self {
            coupon_id: coupon.id.get(),
            name: coupon.name.clone(),
            discount_type,
            discount_value,
            valid_until: coupon.valid_until,
        }
    }
}

/// Where an issued coupon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum IssuedCouponState {
    /// Can be used.
    Available,
    /// Used by an order.
    Used,
}

/// One coupon in a buyer's hands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IssuedCouponBody {
    /// Names it when an order is placed.
    #[schema(example = 1)]
    issued_coupon_id: i64,
    /// Its terms.
    #[serde(flatten)]
    coupon: CouponBody,
    /// Where it stands.
    status: IssuedCouponState,
    /// When it was used.
    #[schema(required = true)]
    #[serde(with = "time::serde::rfc3339::option")]
    used_at: Option<OffsetDateTime>,
}

impl From<&IssuedCouponView> for IssuedCouponBody {
    fn from(view: &IssuedCouponView) -> Self {
        let (status, used_at) = match view.issued.status {
            IssuedCouponStatus::Available => (IssuedCouponState::Available, None),
            IssuedCouponStatus::Used { used_at } => (IssuedCouponState::Used, Some(used_at)),
        };
        Self {
            issued_coupon_id: view.issued.id.get(),
            coupon: CouponBody::from(&view.coupon),
            status,
            used_at,
        }
    }
}

/// A buyer's coupons.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IssuedCouponList {
    /// Newest first.
    pub(crate) issued_coupons: Vec<IssuedCouponBody>,
}
