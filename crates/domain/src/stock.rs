//! The stock of one product.

/// Why a stock could not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StockError {
    /// Fewer pieces are there than asked for.
    #[error("재고가 부족합니다.")]
    OutOfStock,
    /// A decrease of zero or less.
    #[error("재고 차감량은 0보다 커야 합니다.")]
    DecreaseNotPositive,
    /// An increase of zero or less.
    #[error("재고 증가량은 0보다 커야 합니다.")]
    IncreaseNotPositive,
    /// A quantity below zero or not below 2^53.
    #[error("재고 수량이 허용 범위를 벗어났습니다.")]
    OutOfRange,
}

/// Pieces on hand: 0 to 2^53 - 1, never less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stock(i64);

impl Stock {
    /// # Errors
    /// [`StockError::OutOfRange`] below 0 or from 2^53 up.
    pub const fn new(pieces: i64) -> Result<Self, StockError> {
        if pieces < 0 || pieces >= 1 << 53 { Err(StockError::OutOfRange) } else { Ok(Self(pieces)) }
    }

    /// The number of pieces.
    pub const fn quantity(self) -> i64 {
        self.0
    }

    /// Takes `pieces` out.
    ///
    /// # Errors
    /// [`StockError::OutOfStock`] when fewer are there; [`StockError::DecreaseNotPositive`].
    pub const fn decrease(self, pieces: i64) -> Result<Self, StockError> {
        if pieces <= 0 {
            Err(StockError::DecreaseNotPositive)
        } else if self.0 < pieces {
            Err(StockError::OutOfStock)
        } else {
            Ok(Self(self.0 - pieces))
        }
    }

    /// Puts `pieces` back.
    ///
    /// # Errors
    /// [`StockError::IncreaseNotPositive`]; [`StockError::OutOfRange`] from 2^53 up.
    pub const fn increase(self, pieces: i64) -> Result<Self, StockError> {
        if pieces <= 0 {
            return Err(StockError::IncreaseNotPositive);
        }
        match self.0.checked_add(pieces) {
            Some(sum) => Self::new(sum),
            None => Err(StockError::OutOfRange),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_falls_below_zero() {
        assert_eq!(Stock(3).decrease(3), Ok(Stock(0)));
        assert_eq!(Stock(3).decrease(4), Err(StockError::OutOfStock));
        assert_eq!(Stock(3).decrease(0), Err(StockError::DecreaseNotPositive));
        assert_eq!(Stock(3).decrease(i64::MIN), Err(StockError::DecreaseNotPositive));
        assert_eq!(StockError::OutOfStock.to_string(), "재고가 부족합니다.");
    }

    #[test]
    fn increases_by_something_and_within_its_range() {
        assert_eq!(Stock(3).increase(1), Ok(Stock(4)));
        assert_eq!(Stock(3).increase(0), Err(StockError::IncreaseNotPositive));
        assert_eq!(Stock(3).increase(i64::MAX), Err(StockError::OutOfRange));
        assert_eq!(StockError::IncreaseNotPositive.to_string(), "재고 증가량은 0보다 커야 합니다.");
    }
}
