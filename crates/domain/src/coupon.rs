//! Coupons: what they take off, and the one use each buyer has of one.

use crate::{CouponId, IssuedCouponId, Money, Timestamp, UserId};

/// Why a coupon could not be made, used or given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CouponError {
    /// USED already.
    #[error("이미 사용된 쿠폰입니다.")]
    AlreadyUsed,
    /// It belongs to another buyer, or is of another coupon.
    #[error("보유하지 않은 쿠폰입니다.")]
    NotOwned,
    /// Its use can't be cancelled, as there was none.
    #[error("사용되지 않은 쿠폰입니다.")]
    NotUsed,
    /// Its validity ended.
    #[error("유효 기간이 지난 쿠폰입니다.")]
    Expired,
    /// A fixed discount of zero or less.
    #[error("할인 금액은 양수여야 합니다.")]
    DiscountNotPositive,
    /// A rate outside 1..=100 %.
    #[error("할인율은 1 이상 100 이하여야 합니다.")]
    RateOutOfRange,
}

/// What a coupon takes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discount {
    /// So many won, more than 0.
    Fixed(Money),
    /// So many per cent, 1 to 100; the result is rounded half up to a whole won.
    Rate(u8),
}

impl Discount {
    /// # Errors
    /// [`CouponError::DiscountNotPositive`] at zero or below.
    pub const fn fixed(amount: Money) -> Result<Self, CouponError> {
        if amount.is_positive() { Ok(Self::Fixed(amount)) } else { Err(CouponError::DiscountNotPositive) }
    }

    /// # Errors
    /// [`CouponError::RateOutOfRange`] outside 1..=100.
    pub const fn rate(percent: i64) -> Result<Self, CouponError> {
        if percent < 1 || percent > 100 {
            Err(CouponError::RateOutOfRange)
        } else {
            Ok(Self::Rate(percent as u8))
        }
    }

    /// The discount on an order of `total` won (not negative): never more than the total.
    pub fn on(self, total: Money) -> Money {
        match self {
            Self::Fixed(amount) => amount.min(total),
            Self::Rate(percent) => total.percent_half_up(percent).min(total),
        }
    }
}

/// A coupon that can be issued to buyers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupon {
    /// Its id.
    pub id: CouponId,
    /// What buyers see.
    pub name: String,
    /// What it takes off.
    pub discount: Discount,
    /// It can be used before this moment; for ever when there is none.
    pub valid_until: Option<Timestamp>,
}

/// Where an issued coupon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuedCouponStatus {
    /// Can be used.
    Available,
    /// Used by an order.
    Used {
        /// When.
        used_at: Timestamp,
    },
}

/// One coupon in a buyer's hands; unique for (user, coupon). Storage counts its version up at each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuedCoupon {
    /// Its id.
    pub id: IssuedCouponId,
    /// Which coupon.
    pub coupon_id: CouponId,
    /// Whose.
    pub user_id: UserId,
    /// Where it stands.
    pub status: IssuedCouponStatus,
}

impl IssuedCoupon {
    /// AVAILABLE -> USED, for an order of `user_id` and by the terms of `coupon`.
    ///
    /// # Errors
    /// [`CouponError::NotOwned`] first, so that a stranger learns nothing; [`CouponError::AlreadyUsed`];
    /// [`CouponError::Expired`].
    pub fn redeem(self, user_id: UserId, coupon: &Coupon, now: Timestamp) -> Result<Self, CouponError> {
        if self.user_id != user_id || self.coupon_id != coupon.id {
            return Err(CouponError::NotOwned);
        }
        match self.status {
            IssuedCouponStatus::Used { .. } => Err(CouponError::AlreadyUsed),
            IssuedCouponStatus::Available if coupon.valid_until.is_some_and(|end| end <= now) => {
                Err(CouponError::Expired)
            }
            IssuedCouponStatus::Available => {
                Ok(Self { status: IssuedCouponStatus::Used { used_at: now }, ..self })
            }
        }
    }

    /// USED -> AVAILABLE, when the order failed.
    ///
    /// # Errors
    /// [`CouponError::NotUsed`].
    pub fn cancel_use(self) -> Result<Self, CouponError> {
        match self.status {
            IssuedCouponStatus::Used { .. } => Ok(Self { status: IssuedCouponStatus::Available, ..self }),
            IssuedCouponStatus::Available => Err(CouponError::NotUsed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    const NOW: Timestamp = datetime!(2026-01-01 00:00 UTC);

    fn won(amount: i64) -> Money {
        Money::new(amount).unwrap()
    }

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn coupon(valid_until: Option<Timestamp>) -> Coupon {
        let discount = Discount::fixed(won(1000)).unwrap();
        Coupon { id: CouponId::new(1).unwrap(), name: "c".into(), discount, valid_until }
    }

    fn issued() -> IssuedCoupon {
        IssuedCoupon {
            id: IssuedCouponId::new(1).unwrap(),
            coupon_id: CouponId::new(1).unwrap(),
            user_id: user(1),
            status: IssuedCouponStatus::Available,
        }
    }

    #[test]
    fn every_state_meets_every_event() {
        let used = issued().redeem(user(1), &coupon(None), NOW).unwrap();
        assert_eq!(used.status, IssuedCouponStatus::Used { used_at: NOW });
        assert_eq!(used.redeem(user(1), &coupon(None), NOW), Err(CouponError::AlreadyUsed));
        assert_eq!(used.cancel_use(), Ok(issued()));
        assert_eq!(issued().cancel_use(), Err(CouponError::NotUsed));
    }

    #[test]
    fn only_its_owner_uses_it_and_learns_of_it() {
        let used = issued().redeem(user(1), &coupon(None), NOW).unwrap();
        assert_eq!(used.redeem(user(2), &coupon(None), NOW), Err(CouponError::NotOwned));
        let other = Coupon { id: CouponId::new(2).unwrap(), ..coupon(None) };
        assert_eq!(issued().redeem(user(1), &other, NOW), Err(CouponError::NotOwned));
    }

    #[test]
    fn ends_at_its_last_moment() {
        assert_eq!(issued().redeem(user(1), &coupon(Some(NOW)), NOW), Err(CouponError::Expired));
        let later = NOW + Duration::microseconds(1);
        assert!(issued().redeem(user(1), &coupon(Some(later)), NOW).is_ok());
    }

    #[test]
    fn discounts_never_exceed_the_order() {
        assert_eq!(Discount::fixed(won(1000)).unwrap().on(won(999)), won(999));
        assert_eq!(Discount::rate(100).unwrap().on(won(999)), won(999));
        assert_eq!(Discount::rate(15).unwrap().on(won(1010)), won(152));
        assert_eq!(Discount::rate(0), Err(CouponError::RateOutOfRange));
        assert_eq!(Discount::rate(101), Err(CouponError::RateOutOfRange));
        assert_eq!(Discount::fixed(won(0)), Err(CouponError::DiscountNotPositive));
    }

    #[test]
    fn messages_are_the_contracts() {
        assert_eq!(CouponError::AlreadyUsed.to_string(), "이미 사용된 쿠폰입니다.");
        assert_eq!(CouponError::NotOwned.to_string(), "보유하지 않은 쿠폰입니다.");
        assert_eq!(CouponError::NotUsed.to_string(), "사용되지 않은 쿠폰입니다.");
    }
}
