//! The thirty orders, each with what may become of it. Amounts are computed here once more, independently of the system.

/// The demo's own products: name, price, stock.
pub(super) const PRODUCTS: &[(&str, i64, i64)] = &[
    ("demo mug", 12_900, 1_000),
    ("demo bag", 15_505, 1_000),
    ("demo poster", 3_000, 1_000),
    ("demo last ones", 5_000, 2),
];
const MUG: usize = 0;
const BAG: usize = 1;
const POSTER: usize = 2;
const LAST_ONES: usize = 3;

pub(super) const FIXED_DISCOUNT: i64 = 5_000;
pub(super) const RATE_PERCENT: i64 = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coupon {
    None,
    /// Takes off [`FIXED_DISCOUNT`].
    Fixed,
    /// Takes off [`RATE_PERCENT`] %, rounded half up.
    Rate,
    /// Issued to another buyer.
    Foreign,
    /// The buyer's own, used up by an earlier order of his.
    Used,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Card {
    None,
    Good(&'static str),
    /// A number that the rules refuse.
    BadNumber,
    /// A card type that does not exist.
    BadType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nothing on the card: 201 and PAID at once.
    PaidAtOnce,
    /// By the card: 202, then PAID, or CANCELLED when the gateway declines; 402 or 503 and CANCELLED when it refused the
    /// request or was not reached.
    ByCard,
    /// Refused with one of these statuses; nothing is taken.
    Refused(&'static [u16]),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) kind: &'static str,
    /// Index into [`PRODUCTS`], or one beyond for a product that does not exist; and quantity.
    pub(super) items: &'static [(usize, i64)],
    pub(super) points_owned: i64,
    pub(super) points_used: i64,
    pub(super) coupon: Coupon,
    pub(super) card: Card,
    pub(super) expected: Expected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) total: i64,
    pub(super) coupon_discount: i64,
    pub(super) used_point: i64,
    pub(super) paid_amount: i64,
}

impl Case {
    /// What the order must cost, if it is accepted.
    pub(super) fn amounts(&self) -> Amounts {
        let price = |index: usize| PRODUCTS.get(index).map_or(0, |(_, price, _)| *price);
        let total: i64 = self.items.iter().map(|(product, quantity)| price(*product) * quantity).sum();
        let discount = match self.coupon {
            Coupon::None => 0,
            Coupon::Fixed | Coupon::Foreign | Coupon::Used => FIXED_DISCOUNT,
            Coupon::Rate => (total * RATE_PERCENT + 50) / 100,
        };
        let coupon_discount = discount.min(total);
        Amounts {
            total,
            coupon_discount,
            used_point: self.points_used,
            paid_amount: total - coupon_discount - self.points_used,
        }
    }
}

const CARD: Case = Case {
    kind: "card",
    items: &[(MUG, 1)],
    points_owned: 0,
    points_used: 0,
    coupon: Coupon::None,
    card: Card::Good("SAMSUNG"),
    expected: Expected::ByCard,
};
const POINTS: Case = Case {
    kind: "points",
    points_owned: 50_000,
    points_used: 12_900,
    card: Card::None,
    expected: Expected::PaidAtOnce,
    ..CARD
};
const MIXED: Case = Case { kind: "points + card", points_owned: 5_000, points_used: 4_000, ..CARD };
const REFUSED: Case = Case { expected: Expected::Refused(&[400]), points_owned: 30_000, ..CARD };

/// Every kind of order there is.
pub(super) const CASES: [Case; 30] = [
    CARD,
    CARD,
    Case { card: Card::Good("KB"), ..CARD },
    Case { card: Card::Good("KB"), ..CARD },
    Case { card: Card::Good("HYUNDAI"), ..CARD },
    Case { card: Card::Good("HYUNDAI"), ..CARD },
    POINTS,
    Case { points_owned: 12_900, kind: "points, all of them", ..POINTS },
    MIXED,
    Case { card: Card::Good("KB"), ..MIXED },
    Case { points_used: 5_000, kind: "all points + card", ..MIXED },
    Case { kind: "card, fixed coupon", coupon: Coupon::Fixed, ..CARD },
    Case { kind: "card, fixed coupon", coupon: Coupon::Fixed, card: Card::Good("HYUNDAI"), ..CARD },
    Case { kind: "card, rate coupon", coupon: Coupon::Rate, ..CARD },
    Case { kind: "card, rate rounded", coupon: Coupon::Rate, items: &[(BAG, 1)], ..CARD },
    Case { kind: "points, fixed coupon", coupon: Coupon::Fixed, points_used: 7_900, ..POINTS },
    Case {
        kind: "coupon covers all",
        coupon: Coupon::Fixed,
        items: &[(POSTER, 1)],
        points_used: 0,
        ..POINTS
    },
    Case { kind: "points + card, coupon", coupon: Coupon::Rate, items: &[(BAG, 3)], ..MIXED },
    Case { kind: "card, several items", items: &[(MUG, 2), (BAG, 1), (POSTER, 4)], ..CARD },
    Case {
        kind: "card, several items",
        items: &[(POSTER, 1), (BAG, 2), (MUG, 1)],
        card: Card::Good("KB"),
        ..CARD
    },
    Case { kind: "card, repeated item", items: &[(MUG, 1), (POSTER, 1), (MUG, 2)], ..CARD },
    Case { kind: "points, repeated item", items: &[(POSTER, 1), (POSTER, 2)], points_used: 9_000, ..POINTS },
    Case { kind: "bad card number", card: Card::BadNumber, ..REFUSED },
    Case { kind: "bad card type", card: Card::BadType, ..REFUSED },
    Case { kind: "card is missing", card: Card::None, ..REFUSED },
    Case { kind: "out of stock", items: &[(MUG, 1), (LAST_ONES, 3)], ..REFUSED },
    Case { kind: "too few points", points_owned: 100, points_used: 101, ..REFUSED },
    Case {
        kind: "foreign coupon",
        coupon: Coupon::Foreign,
        expected: Expected::Refused(&[400, 404]),
        ..REFUSED
    },
    Case { kind: "used coupon", coupon: Coupon::Used, expected: Expected::Refused(&[400, 409]), ..REFUSED },
    Case {
        kind: "unknown product",
        items: &[(PRODUCTS.len(), 1)],
        expected: Expected::Refused(&[404]),
        ..REFUSED
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_that_is_accepted_has_amounts_that_add_up() {
        for case in CASES.iter().filter(|case| !matches!(case.expected, Expected::Refused(_))) {
            let amounts = case.amounts();
            assert!(amounts.total > 0 && amounts.paid_amount >= 0, "{case:?}");
            assert_eq!(amounts.paid_amount == 0, case.expected == Expected::PaidAtOnce, "{case:?}");
            assert_eq!(amounts.paid_amount > 0, matches!(case.card, Card::Good(_)), "{case:?}");
            assert!(case.points_used <= case.points_owned, "{case:?}");
        }
    }

    #[test]
    fn a_rate_is_rounded_half_up_and_a_discount_never_exceeds_the_order() {
        let one_bag = CASES.iter().find(|case| case.kind == "card, rate rounded").unwrap();
        // 15 % of 15,505 is 2,325.75.
        assert_eq!(one_bag.amounts().coupon_discount, 2_326);
        let covered = CASES.iter().find(|case| case.kind == "coupon covers all").unwrap();
        assert_eq!(covered.amounts().coupon_discount, 3_000);
    }
}
