//! Which line of the table each error of domain and use-cases is: matches without `_`, so that a new error stops the build.

use super::failure::{Case, Failure};
use application::callbacks::ReceiveCallbackError;
use application::manage::ManageError;
use application::{BatchError, PlaceOrderError};
use domain::placement::PlacementError;
use domain::ports::StoreError;
use domain::{
    AmountOverflow, CouponError, InvalidCardNumber, InvalidCardType, InvalidQuantity, OrderError,
    PaymentError, PointError, StockError,
};

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let case = match error {
            StoreError::Conflict { .. } => Case::ConcurrentUpdate,
            StoreError::Unavailable { .. } => Case::DatabaseUnavailable,
            StoreError::Corrupt { .. } | StoreError::Other { .. } => Case::Internal,
        };
        Self::new(case).because(&error)
    }
}

impl From<PlaceOrderError> for Failure {
    fn from(error: PlaceOrderError) -> Self {
        let case = match error {
            PlaceOrderError::Placement(error) => return error.into(),
            PlaceOrderError::IdempotencyInProgress => Case::IdempotencyInProgress,
            PlaceOrderError::IdempotencyKeyReused => Case::IdempotencyKeyReused,
            PlaceOrderError::Conflict => Case::ConcurrentUpdate,
            PlaceOrderError::Unavailable(BatchError::Full | BatchError::TooLate) => Case::Overloaded,
            PlaceOrderError::Unavailable(BatchError::Store(_) | BatchError::Abandoned) => {
                Case::DatabaseUnavailable
            }
            PlaceOrderError::OutcomeUnknown => Case::OutcomeUnknown,
            PlaceOrderError::Internal(_) => Case::Internal,
        };
        Self::new(case).because(&error)
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Store(error) => error.into(),
            BatchError::Full | BatchError::TooLate => Self::new(Case::Overloaded).because(&error),
            BatchError::Abandoned => Self::new(Case::DatabaseUnavailable).because(&error),
        }
    }
}

impl From<ReceiveCallbackError> for Failure {
    fn from(error: ReceiveCallbackError) -> Self {
        match error {
            ReceiveCallbackError::Unknown => Case::CallbackNotFound.into(),
            ReceiveCallbackError::Store(error) => error.into(),
        }
    }
}

/// What "there is no such thing" and "it is there already" mean depends on what was asked for.
pub(crate) fn managed(error: ManageError, not_found: Case, exists: Case) -> Failure {
    match error {
        ManageError::Point(error) => error.into(),
        ManageError::NotFound => not_found.into(),
        ManageError::AlreadyExists => exists.into(),
        ManageError::Store(error) => error.into(),
    }
}

impl From<PlacementError> for Failure {
    fn from(error: PlacementError) -> Self {
        match error {
            PlacementError::TooManyItems => Case::TooManyItems.into(),
            PlacementError::Quantity(error) => error.into(),
            PlacementError::UnknownProduct { .. } => Case::ProductNotFound.into(),
            PlacementError::Stock(error) => error.into(),
            PlacementError::Coupon(error) => error.into(),
            PlacementError::Point(error) => error.into(),
            PlacementError::Order(error) => error.into(),
            PlacementError::Payment(error) => error.into(),
            PlacementError::Overflow(error) => error.into(),
            PlacementError::CardRequired => Case::CardRequired.into(),
        }
    }
}

impl From<StockError> for Failure {
    fn from(error: StockError) -> Self {
        match error {
            StockError::OutOfStock => Case::OutOfStock.into(),
            StockError::OutOfRange => Case::InvalidStock.into(),
            StockError::DecreaseNotPositive | StockError::IncreaseNotPositive => Self::internal(&error),
        }
    }
}

impl From<CouponError> for Failure {
    fn from(error: CouponError) -> Self {
        let case = match error {
            CouponError::AlreadyUsed => Case::CouponAlreadyUsed,
            CouponError::NotOwned => Case::CouponNotOwned,
            CouponError::NotUsed => return Self::internal(&error),
            CouponError::Expired => Case::CouponExpired,
            CouponError::DiscountNotPositive => Case::DiscountNotPositive,
            CouponError::RateOutOfRange => Case::RateOutOfRange,
        };
        case.into()
    }
}

impl From<PointError> for Failure {
    fn from(error: PointError) -> Self {
        match error {
            PointError::ChargeNotPositive => Case::ChargeNotPositive.into(),
            PointError::InsufficientPoint => Case::InsufficientPoint.into(),
            PointError::Overflow(error) => error.into(),
            PointError::DeductionNotPositive | PointError::RestoreNotPositive => Self::internal(&error),
        }
    }
}

impl From<OrderError> for Failure {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::NoItems => Case::NoItems.into(),
            OrderError::TotalNotPositive => Case::TotalNotPositive.into(),
            OrderError::Overflow(error) => error.into(),
            OrderError::CannotPay { .. } | OrderError::CannotCancel { .. } => Self::internal(&error),
        }
    }
}

impl From<PaymentError> for Failure {
    fn from(error: PaymentError) -> Self {
        match error {
            PaymentError::UsedPointNegative => Case::UsedPointNegative.into(),
            PaymentError::PaidAmountNegative => Case::PaidAmountNegative.into(),
            PaymentError::AmountMismatch => Case::AmountMismatch.into(),
            PaymentError::CouponDiscountNegative
            | PaymentError::FailureMessageTooLong
            | PaymentError::InvalidTransition { .. } => Self::internal(&error),
        }
    }
}

impl From<AmountOverflow> for Failure {
    fn from(AmountOverflow: AmountOverflow) -> Self {
        Case::AmountOverflow.into()
    }
}

impl From<InvalidQuantity> for Failure {
    fn from(InvalidQuantity: InvalidQuantity) -> Self {
        Case::InvalidQuantity.into()
    }
}

impl From<InvalidCardNumber> for Failure {
    fn from(InvalidCardNumber: InvalidCardNumber) -> Self {
        Case::InvalidCardNumber.into()
    }
}

impl From<InvalidCardType> for Failure {
    fn from(InvalidCardType: InvalidCardType) -> Self {
        Case::InvalidCardType.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootstrap::settings::Locale;
    use std::fmt::Display;

    fn same_text(error: impl Display + Into<Failure>) {
        let text = error.to_string();
        let failure: Failure = error.into();
        assert_eq!(failure.message(Locale::Ko), text, "{:?}", failure.case());
    }

    #[test]
    fn korean_messages_are_the_contracts() {
        let product_id = domain::ProductId::new(1).unwrap();
        for error in [
            PlacementError::TooManyItems,
            PlacementError::UnknownProduct { product_id },
            PlacementError::CardRequired,
            PlacementError::Quantity(InvalidQuantity),
            PlacementError::Overflow(AmountOverflow),
        ] {
            same_text(error);
        }
        same_text(StockError::OutOfStock);
        same_text(StockError::OutOfRange);
        for error in [
            CouponError::AlreadyUsed,
            CouponError::NotOwned,
            CouponError::Expired,
            CouponError::DiscountNotPositive,
            CouponError::RateOutOfRange,
        ] {
            same_text(error);
        }
        same_text(PointError::ChargeNotPositive);
        same_text(PointError::InsufficientPoint);
        same_text(OrderError::NoItems);
        same_text(OrderError::TotalNotPositive);
        same_text(PaymentError::UsedPointNegative);
        same_text(PaymentError::PaidAmountNegative);
        same_text(PaymentError::AmountMismatch);
        same_text(InvalidCardNumber);
        same_text(InvalidCardType);
    }
}
