//! Won and quantities: whole numbers, checked for overflow.

use std::fmt;

/// The result left the range that JSON integers can carry exactly (spec 03: below 2^53).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("금액이 허용 범위를 벗어났습니다.")]
pub struct AmountOverflow;

/// Whole Korean won, from `-MAX` to `MAX`. There is no minor unit.
///
/// Negative values exist so that the guards of the state machines can refuse them with the message of the contract.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// The largest amount: 2^53 - 1 won.
    pub const MAX: Money = Money((1 << 53) - 1);

    /// # Errors
    /// [`AmountOverflow`] beyond ±(2^53 - 1).
    pub const fn new(won: i64) -> Result<Self, AmountOverflow> {
        if won > Self::MAX.0 || won < -Self::MAX.0 { Err(AmountOverflow) } else { Ok(Self(won)) }
    }

    /// The number of won.
    pub const fn won(self) -> i64 {
        self.0
    }

    /// True below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// True above zero.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// # Errors
    /// [`AmountOverflow`] when the sum is out of range.
    pub const fn checked_add(self, other: Self) -> Result<Self, AmountOverflow> {
        // Both are within ±2^53, so the sum cannot leave i64.
        Self::new(self.0 + other.0)
    }

    /// # Errors
    /// [`AmountOverflow`] when the difference is out of range.
    pub const fn checked_sub(self, other: Self) -> Result<Self, AmountOverflow> {
        Self::new(self.0 - other.0)
    }

    /// # Errors
    /// [`AmountOverflow`] when the product is out of range.
    pub const fn checked_mul(self, quantity: Quantity) -> Result<Self, AmountOverflow> {
        match self.0.checked_mul(quantity.get() as i64) {
            Some(won) => Self::new(won),
            None => Err(AmountOverflow),
        }
    }

    /// `percent` % of this amount, rounded half up to a whole won. `percent` is at most 100, the amount not negative.
    pub(crate) const fn percent_half_up(self, percent: u8) -> Self {
        // 2^53 * 100 stays far below i64::MAX.
        Self((self.0 * percent as i64 + 50) / 100)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} won", self.0)
    }
}

/// A quantity outside 1..=2^31-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("수량은 1 이상 2147483647 이하여야 합니다.")]
pub struct InvalidQuantity;

/// How many pieces of a product: 1 to 2^31 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u32);

impl Quantity {
    /// # Errors
    /// [`InvalidQuantity`] outside 1..=2^31-1.
    pub const fn new(pieces: i64) -> Result<Self, InvalidQuantity> {
        if pieces < 1 || pieces > i32::MAX as i64 { Err(InvalidQuantity) } else { Ok(Self(pieces as u32)) }
    }

    /// The number of pieces.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// # Errors
    /// [`InvalidQuantity`] when the sum is out of range.
    pub const fn checked_add(self, other: Self) -> Result<Self, InvalidQuantity> {
        Self::new(self.0 as i64 + other.0 as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_ends_at_two_to_the_53() {
        assert_eq!(Money::new(1 << 53), Err(AmountOverflow));
        assert_eq!(Money::new(-(1 << 53)), Err(AmountOverflow));
        assert_eq!(Money::new(i64::MIN), Err(AmountOverflow));
        assert_eq!(Money::MAX.checked_add(Money(1)), Err(AmountOverflow));
        assert_eq!(Money(-3).checked_sub(Money::MAX), Err(AmountOverflow));
        assert_eq!(Money::MAX.checked_mul(Quantity(i32::MAX as u32)), Err(AmountOverflow));
        assert_eq!(Money(3).checked_mul(Quantity(4)), Ok(Money(12)));
    }

    #[test]
    fn percent_rounds_half_up() {
        assert_eq!(Money(50).percent_half_up(1), Money(1));
        assert_eq!(Money(49).percent_half_up(1), Money(0));
        assert_eq!(Money(1005).percent_half_up(10), Money(101));
        assert_eq!(Money::MAX.percent_half_up(100), Money::MAX);
    }

    #[test]
    fn quantity_has_both_limits() {
        assert_eq!(Quantity::new(0), Err(InvalidQuantity));
        assert_eq!(Quantity::new(-1), Err(InvalidQuantity));
        assert_eq!(Quantity::new(i64::from(i32::MAX) + 1), Err(InvalidQuantity));
        assert_eq!(Quantity(i32::MAX as u32).checked_add(Quantity(1)), Err(InvalidQuantity));
        assert_eq!(Quantity(5).checked_add(Quantity(1)), Ok(Quantity(6)));
    }
}
