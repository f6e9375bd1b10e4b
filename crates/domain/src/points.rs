//! A buyer's points. Points are money: one point is one won.

use crate::{AmountOverflow, Money, UserId};

/// Why a point account could not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// A charge of zero or less.
    #[error("충전 금액은 양수여야 합니다.")]
    ChargeNotPositive,
    /// A deduction of zero or less.
    #[error("차감 금액은 양수여야 합니다.")]
    DeductionNotPositive,
    /// The balance is smaller than the deduction.
    #[error("포인트가 부족합니다.")]
    InsufficientPoint,
    /// A restore of zero or less.
    #[error("복구 금액은 양수여야 합니다.")]
    RestoreNotPositive,
    /// The balance would leave its range.
    #[error(transparent)]
    Overflow(#[from] AmountOverflow),
}

/// The points of one buyer; the balance is never below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointAccount {
    user_id: UserId,
    balance: Money,
}

impl PointAccount {
    /// An account as it is stored.
    ///
    /// # Errors
    /// [`PointError::InsufficientPoint`] for a balance below zero.
    pub const fn new(user_id: UserId, balance: Money) -> Result<Self, PointError> {
        if balance.is_negative() { Err(PointError::InsufficientPoint) } else { Ok(Self { user_id, balance }) }
    }

    /// Whose points.
    pub const fn user_id(&self) -> UserId {
        self.user_id
    }

    /// What is there, 0 or more.
    pub const fn balance(&self) -> Money {
        self.balance
    }

    /// Adds points that the buyer or an operator paid in.
    ///
    /// # Errors
    /// [`PointError::ChargeNotPositive`], [`PointError::Overflow`].
    pub fn charge(self, amount: Money) -> Result<Self, PointError> {
        if !amount.is_positive() {
            return Err(PointError::ChargeNotPositive);
        }
        Ok(Self { balance: self.balance.checked_add(amount)?, ..self })
    }

    /// Spends points on an order.
    ///
    /// # Errors
    /// [`PointError::DeductionNotPositive`], [`PointError::InsufficientPoint`].
    pub fn deduct(self, amount: Money) -> Result<Self, PointError> {
        if !amount.is_positive() {
            return Err(PointError::DeductionNotPositive);
        }
        if self.balance < amount {
            return Err(PointError::InsufficientPoint);
        }
        Ok(Self { balance: self.balance.checked_sub(amount)?, ..self })
    }

    /// Gives back what a failed order had spent.
    ///
    /// # Errors
    /// [`PointError::RestoreNotPositive`], [`PointError::Overflow`].
    pub fn restore(self, amount: Money) -> Result<Self, PointError> {
        if !amount.is_positive() {
            return Err(PointError::RestoreNotPositive);
        }
        Ok(Self { balance: self.balance.checked_add(amount)?, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(balance: i64) -> PointAccount {
        PointAccount::new(UserId::new(1).unwrap(), Money::new(balance).unwrap()).unwrap()
    }

    fn won(amount: i64) -> Money {
        Money::new(amount).unwrap()
    }

    #[test]
    fn the_balance_never_falls_below_zero() {
        assert_eq!(account(10).deduct(won(10)), Ok(account(0)));
        assert_eq!(account(10).deduct(won(11)), Err(PointError::InsufficientPoint));
        assert_eq!(account(10).deduct(won(0)), Err(PointError::DeductionNotPositive));
        assert_eq!(account(10).deduct(won(-1)), Err(PointError::DeductionNotPositive));
        assert_eq!(PointError::InsufficientPoint.to_string(), "포인트가 부족합니다.");
        assert!(PointAccount::new(UserId::new(1).unwrap(), won(-1)).is_err());
    }

    #[test]
    fn charges_and_restores_add_something() {
        assert_eq!(account(1).charge(won(2)), Ok(account(3)));
        assert_eq!(account(1).charge(won(0)), Err(PointError::ChargeNotPositive));
        assert_eq!(account(1).restore(won(2)), Ok(account(3)));
        assert_eq!(account(1).restore(won(-2)), Err(PointError::RestoreNotPositive));
        assert_eq!(PointError::RestoreNotPositive.to_string(), "복구 금액은 양수여야 합니다.");
        assert_eq!(account(1).charge(Money::MAX), Err(PointError::Overflow(AmountOverflow)));
    }
}
