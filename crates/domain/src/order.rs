//! The order: PLACED, then PAID or CANCELLED for good.

use crate::{AmountOverflow, Money, OrderId, ProductId, Quantity, UserId};

/// Why an order could not be made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No item.
    #[error("주문 항목은 1개 이상이어야 합니다.")]
    NoItems,
    /// A total of zero or less.
    #[error("주문 금액은 0보다 커야 합니다.")]
    TotalNotPositive,
    /// The total is too large.
    #[error(transparent)]
    Overflow(#[from] AmountOverflow),
    /// `pay` in another state than PLACED.
    #[error("주문 대기 상태에서만 결제 완료 처리할 수 있습니다.")]
    CannotPay {
        /// Which order.
        order_id: OrderId,
        /// Where it stands.
        from: OrderStatus,
    },
    /// `cancel` in another state than PLACED.
    #[error("주문 대기 상태에서만 취소할 수 있습니다.")]
    CannotCancel {
        /// Which order.
        order_id: OrderId,
        /// Where it stands.
        from: OrderStatus,
    },
}

/// Where an order stands. PAID and CANCELLED never leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderStatus {
    /// Placed, its payment not final.
    Placed,
    /// Paid.
    Paid,
    /// Cancelled, all it had taken given back.
    Cancelled,
}

impl OrderStatus {
    /// All of them.
    pub const ALL: [OrderStatus; 3] = [Self::Placed, Self::Paid, Self::Cancelled];

    /// As it stands in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "PLACED",
            Self::Paid => "PAID",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The inverse of [`OrderStatus::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// One product in an order, at the price it had when the order was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderItem {
    /// Which product.
    pub product_id: ProductId,
    /// Its name then.
    pub product_name: String,
    /// Its price then.
    pub unit_price: Money,
    /// How many pieces.
    pub quantity: Quantity,
}

impl OrderItem {
    /// Price times quantity.
    ///
    /// # Errors
    /// [`AmountOverflow`].
    pub fn amount(&self) -> Result<Money, AmountOverflow> {
        self.unit_price.checked_mul(self.quantity)
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    id: OrderId,
    user_id: UserId,
    items: Vec<OrderItem>,
    total: Money,
    status: OrderStatus,
}

impl Order {
    /// A new order, PLACED.
    ///
    /// # Errors
    /// [`OrderError::NoItems`], [`OrderError::TotalNotPositive`], [`OrderError::Overflow`].
    pub fn place(id: OrderId, user_id: UserId, items: Vec<OrderItem>) -> Result<Self, OrderError> {
        if items.is_empty() {
            return Err(OrderError::NoItems);
        }
        let total = items.iter().try_fold(Money::ZERO, |sum, item| sum.checked_add(item.amount()?))?;
        if !total.is_positive() {
            return Err(OrderError::TotalNotPositive);
        }
        Ok(Self { id, user_id, items, total, status: OrderStatus::Placed })
    }

    /// An order as it is stored.
    ///
    /// # Errors
    /// As [`Order::place`]: a stored order obeys the same rules.
    pub fn restore(
        id: OrderId,
        user_id: UserId,
        items: Vec<OrderItem>,
        status: OrderStatus,
    ) -> Result<Self, OrderError> {
        Ok(Self { status, ..Self::place(id, user_id, items)? })
    }

    /// PLACED -> PAID.
    ///
    /// # Errors
    /// [`OrderError::CannotPay`].
    pub fn pay(self) -> Result<Self, OrderError> {
        match self.status {
            OrderStatus::Placed => Ok(Self { status: OrderStatus::Paid, ..self }),
            from @ (OrderStatus::Paid | OrderStatus::Cancelled) => {
                Err(OrderError::CannotPay { order_id: self.id, from })
            }
        }
    }

    /// PLACED -> CANCELLED.
    ///
    /// # Errors
    /// [`OrderError::CannotCancel`].
    pub fn cancel(self) -> Result<Self, OrderError> {
        match self.status {
            OrderStatus::Placed => Ok(Self { status: OrderStatus::Cancelled, ..self }),
            from @ (OrderStatus::Paid | OrderStatus::Cancelled) => {
                Err(OrderError::CannotCancel { order_id: self.id, from })
            }
        }
    }

    /// Its id.
    pub const fn id(&self) -> OrderId {
        self.id
    }

    /// Whose order.
    pub const fn user_id(&self) -> UserId {
        self.user_id
    }

    /// What was ordered; never empty.
    pub fn items(&self) -> &[OrderItem] {
        &self.items
    }

    /// The sum of all items before any discount, more than 0.
    pub const fn total(&self) -> Money {
        self.total
    }

    /// Where it stands.
    pub const fn status(&self) -> OrderStatus {
        self.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(price: i64, quantity: i64) -> OrderItem {
        OrderItem {
            product_id: ProductId::new(1).unwrap(),
            product_name: "p".into(),
            unit_price: Money::new(price).unwrap(),
            quantity: Quantity::new(quantity).unwrap(),
        }
    }

    fn place(items: Vec<OrderItem>) -> Result<Order, OrderError> {
        Order::place(OrderId::new(7).unwrap(), UserId::new(1).unwrap(), items)
    }

    #[test]
    fn has_items_and_a_total() {
        assert_eq!(place(vec![]), Err(OrderError::NoItems));
        assert_eq!(place(vec![item(0, 5)]), Err(OrderError::TotalNotPositive));
        assert_eq!(place(vec![item(3, 5), item(2, 1)]).unwrap().total(), Money::new(17).unwrap());
        let all = Money::MAX.won();
        assert_eq!(place(vec![item(all, 1), item(1, 1)]), Err(OrderError::Overflow(AmountOverflow)));
        assert_eq!(place(vec![item(all, 2)]), Err(OrderError::Overflow(AmountOverflow)));
    }

    #[test]
    fn every_state_meets_every_event() {
        let id = OrderId::new(7).unwrap();
        for from in OrderStatus::ALL {
            let order = Order { status: from, ..place(vec![item(1, 1)]).unwrap() };
            let paid = order.clone().pay().map(|order| order.status());
            let cancelled = order.cancel().map(|order| order.status());
            if from == OrderStatus::Placed {
                assert_eq!(paid, Ok(OrderStatus::Paid));
                assert_eq!(cancelled, Ok(OrderStatus::Cancelled));
            } else {
                assert_eq!(paid, Err(OrderError::CannotPay { order_id: id, from }));
                assert_eq!(cancelled, Err(OrderError::CannotCancel { order_id: id, from }));
            }
        }
        let refused = OrderError::CannotCancel { order_id: id, from: OrderStatus::Paid };
        assert_eq!(refused.to_string(), "주문 대기 상태에서만 취소할 수 있습니다.");
    }
}
