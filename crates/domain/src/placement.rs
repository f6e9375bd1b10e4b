//! What placing an order takes and makes: the decision inside TX1, on rows that are locked ([`decide`]), and how the
//! orders of one batch follow each other ([`Placing`]).
//!
//! Deliberately absent: where the rows come from, and what is written first.

mod batch;

pub use batch::{KeyState, NewOrder, Placing, PlacingNeeds};

use crate::ports::{CouponHolding, ProductForSale, Versioned};
use crate::{
    AmountOverflow, CouponError, InvalidQuantity, IssuedCoupon, Money, Order, OrderError, OrderId, OrderItem,
    Payment, PaymentAmounts, PaymentError, PaymentId, PointAccount, PointError, ProductId, Quantity,
    StockError, Timestamp, UserId,
};
use std::collections::BTreeMap;

/// Why an order can't be placed. Nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// More than 100 different products.
    #[error("주문 항목은 100개 이하여야 합니다.")]
    TooManyItems,
    /// A repeated product adds up to more than a quantity can be.
    #[error(transparent)]
    Quantity(#[from] InvalidQuantity),
    /// There is no such product.
    #[error("존재하지 않는 상품입니다.")]
    UnknownProduct {
        /// Which.
        product_id: ProductId,
    },
    /// A product's stock does not suffice.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// The buyer has no such coupon: unknown and foreign ones look alike.
    #[error(transparent)]
    Coupon(#[from] CouponError),
    /// The points don't suffice.
    #[error(transparent)]
    Point(#[from] PointError),
    /// The order's own rules.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The amounts don't add up.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The amounts are too large.
    #[error(transparent)]
    Overflow(#[from] AmountOverflow),
    /// Something is left for the card, but no card was given.
    #[error("카드 결제에 필요한 카드 종류와 카드 번호가 없습니다.")]
    CardRequired,
}

/// The products of an order: 1 to 100 different ones, a repeated one added up, ascending by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderLines(BTreeMap<ProductId, Quantity>);

impl OrderLines {
    /// The most different products of one order (spec 03).
    pub const MAX: usize = 100;

    /// # Errors
    /// [`OrderError::NoItems`], [`PlacementError::TooManyItems`], [`PlacementError::Quantity`].
    pub fn new(lines: impl IntoIterator<Item = (ProductId, Quantity)>) -> Result<Self, PlacementError> {
        let mut merged = BTreeMap::new();
        for (product_id, quantity) in lines {
            let sum = match merged.get(&product_id) {
                Some(before) => quantity.checked_add(*before)?,
                None => quantity,
            };
            merged.insert(product_id, sum);
            if merged.len() > Self::MAX {
                return Err(PlacementError::TooManyItems);
            }
        }
        if merged.is_empty() { Err(OrderError::NoItems.into()) } else { Ok(Self(merged)) }
    }

    /// The different products, ascending: the order in which they are locked.
    pub fn product_ids(&self) -> Vec<ProductId> {
        self.0.keys().copied().collect()
    }

    /// Product and quantity, ascending by product.
    pub fn iter(&self) -> impl Iterator<Item = (ProductId, Quantity)> + '_ {
        self.0.iter().map(|(product_id, quantity)| (*product_id, *quantity))
    }
}

/// What the buyer asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementRequest {
    /// The buyer.
    pub user_id: UserId,
    /// The products.
    pub lines: OrderLines,
    /// Points to spend; 0 for none.
    pub use_point: Money,
    /// A coupon was named.
    pub wants_coupon: bool,
    /// A card was given.
    pub has_card: bool,
}

/// What is there, read and locked in the same transaction.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The order's id.
    pub order_id: OrderId,
    /// The payment's id.
    pub payment_id: PaymentId,
    /// The products that exist, of those asked for.
    pub products: Vec<ProductForSale>,
    /// The buyer's points, when any are to be spent.
    pub points: Option<PointAccount>,
    /// The coupon, when one was named and is there.
    pub coupon: Option<Versioned<CouponHolding>>,
    /// The transaction's moment, by the database's clock.
    pub now: Timestamp,
}

/// All that TX1 writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The order: PLACED, or PAID when nothing is left for the card.
    pub order: Order,
    /// The payment: PENDING, or PAID when nothing is left for the card.
    pub payment: Payment,
    /// The points after the deduction, when any are spent.
    pub points: Option<PointAccount>,
    /// The coupon after its use.
    pub coupon: Option<Versioned<IssuedCoupon>>,
}

/// Decides what an order takes, in the order of spec 01 section 2: stock, coupon, points, payment, order.
///
/// # Errors
/// The first rule that is broken.
pub fn decide(request: &PlacementRequest, offer: Offer) -> Result<Placement, PlacementError> {
    let items = take_stock(&request.lines, &offer.products)?;
    let order = Order::place(offer.order_id, request.user_id, items)?;

    let (coupon, coupon_discount) = match (request.wants_coupon, offer.coupon) {
        (false, _) => (None, Money::ZERO),
        (true, None) => return Err(CouponError::NotOwned.into()),
        (true, Some(Versioned { version, value })) => {
            let used = value.issued.redeem(request.user_id, &value.coupon, offer.now)?;
            (Some(Versioned { version, value: used }), value.coupon.discount.on(order.total()))
        }
    };

    let points = match offer.points {
        Some(account) if request.use_point.is_positive() => Some(account.deduct(request.use_point)?),
        None if request.use_point.is_positive() => return Err(PointError::InsufficientPoint.into()),
        Some(_) | None => None,
    };

    let due = order.total().checked_sub(coupon_discount)?;
    let paid_amount = due.checked_sub(request.use_point)?;
    let amounts = PaymentAmounts::new(order.total(), request.use_point, coupon_discount, paid_amount)?;
    let payment = Payment::create(offer.payment_id, order.id(), request.user_id, amounts);
    if paid_amount.is_positive() {
        if !request.has_card {
            return Err(PlacementError::CardRequired);
        }
        return Ok(Placement { order, payment, points, coupon });
    }
    // Nothing is left for the card: there is no gateway call, both are PAID in TX1 itself.
    Ok(Placement { order: order.pay()?, payment: payment.start()?.success()?, points, coupon })
}

fn take_stock(lines: &OrderLines, products: &[ProductForSale]) -> Result<Vec<OrderItem>, PlacementError> {
    lines
        .iter()
        .map(|(product_id, quantity)| {
            let product = products
                .iter()
                .find(|product| product.id == product_id)
                .ok_or(PlacementError::UnknownProduct { product_id })?;
            product.stock.decrease(i64::from(quantity.get()))?;
            Ok(OrderItem {
                product_id,
                product_name: product.name.clone(),
                unit_price: product.price,
                quantity,
            })
        })
        .collect()
}
