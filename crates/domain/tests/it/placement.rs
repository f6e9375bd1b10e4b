//! Placing: named rules, then any order at all against a model in wide integers that follows spec 01 section 2 in its
//! order: stock, coupon, points, payment.

use domain::placement::{self, Offer, OrderLines, Placement, PlacementError, PlacementRequest};
use domain::ports::{CouponHolding, ProductForSale, Versioned};
use domain::{
    AmountOverflow, Coupon, CouponError, CouponId, Discount, InvalidQuantity, IssuedCoupon, IssuedCouponId,
    IssuedCouponStatus, Money, OrderError, OrderId, OrderStatus, PaymentError, PaymentId, PaymentMethod,
    PaymentStatus, PointAccount, PointError, ProductId, Quantity, Stock, StockError, Timestamp, UserId,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use time::macros::datetime;

const NOW: Timestamp = datetime!(2026-01-01 00:00 UTC);
const MOST: i64 = Money::MAX.won();

fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn lines(lines: &[(i64, i64)]) -> Result<OrderLines, PlacementError> {
    OrderLines::new(
        lines.iter().map(|(id, quantity)| (ProductId::new(*id).unwrap(), Quantity::new(*quantity).unwrap())),
    )
}

fn product(id: i64, price: i64, stock: i64) -> ProductForSale {
    ProductForSale {
        id: ProductId::new(id).unwrap(),
        name: format!("product {id}"),
        price: won(price),
        stock: Stock::new(stock).unwrap(),
    }
}

fn holding(discount: Discount) -> CouponHolding {
    let coupon_id = CouponId::new(1).unwrap();
    CouponHolding {
        issued: IssuedCoupon {
            id: IssuedCouponId::new(1).unwrap(),
            coupon_id,
            user_id: user(1),
            status: IssuedCouponStatus::Available,
        },
        coupon: Coupon { id: coupon_id, name: "c".into(), discount, valid_until: None },
    }
}

/// One product of 1000 won, ten on stock, bought twice; 5000 points; a card.
struct Case {
    lines: OrderLines,
    products: Vec<ProductForSale>,
    use_point: i64,
    points: Option<i64>,
    coupon: Option<CouponHolding>,
    wants_coupon: bool,
    has_card: bool,
}

impl Case {
    fn new() -> Self {
        Self {
            lines: lines(&[(1, 2)]).unwrap(),
            products: vec![product(1, 1000, 10)],
            use_point: 0,
            points: Some(5000),
            coupon: None,
            wants_coupon: false,
            has_card: true,
        }
    }

    fn coupon(self, discount: Discount) -> Self {
        Self { coupon: Some(holding(discount)), wants_coupon: true, ..self }
    }

    fn decide(self) -> Result<Placement, PlacementError> {
        let request = PlacementRequest {
            user_id: user(1),
            lines: self.lines,
            use_point: won(self.use_point),
            wants_coupon: self.wants_coupon,
            has_card: self.has_card,
        };
        let offer = Offer {
            order_id: OrderId::new(100_001).unwrap(),
            payment_id: PaymentId::new(1).unwrap(),
            products: self.products,
            points: self.points.map(|balance| PointAccount::new(user(1), won(balance)).unwrap()),
            coupon: self.coupon.map(|value| Versioned { version: 3, value }),
            now: NOW,
        };
        placement::decide(&request, offer)
    }
}

fn parts(placement: &Placement) -> (i64, i64, i64, i64) {
    let amounts = placement.payment.amounts();
    (
        amounts.total().won(),
        amounts.used_point().won(),
        amounts.coupon_discount().won(),
        amounts.paid_amount().won(),
    )
}

#[test]
fn an_order_by_card_waits_for_its_payment() {
    let placed = Case::new().decide().unwrap();
    assert_eq!(parts(&placed), (2000, 0, 0, 2000));
    assert_eq!(placed.order.status(), OrderStatus::Placed);
    assert_eq!(placed.payment.status(), PaymentStatus::Pending);
    assert_eq!(placed.payment.amounts().method(), PaymentMethod::Card);
    assert_eq!((placed.points, placed.coupon), (None, None));
    assert_eq!(placed.payment.order_id(), placed.order.id());
}

#[test]
fn points_and_coupon_come_off_and_the_rest_is_on_the_card() {
    let placed = Case { use_point: 300, ..Case::new() }.coupon(Discount::rate(15).unwrap()).decide().unwrap();
    assert_eq!(parts(&placed), (2000, 300, 300, 1400));
    assert_eq!(placed.points.unwrap().balance(), won(4700));
    let coupon = placed.coupon.unwrap();
    assert_eq!(coupon.version, 3);
    assert_eq!(coupon.value.status, IssuedCouponStatus::Used { used_at: NOW });
    assert_eq!(placed.payment.amounts().method(), PaymentMethod::Mixed);
}

/// F14: 5 + 1 of one product need 6 on stock.
#[test]
fn a_repeated_product_is_added_up_before_the_stock_is_checked() {
    let merged = lines(&[(1, 5), (2, 1), (1, 1)]).unwrap();
    let quantities: Vec<_> = merged.iter().map(|(id, quantity)| (id.get(), quantity.get())).collect();
    assert_eq!(quantities, [(1, 6), (2, 1)]);
    let only_five = vec![product(1, 10, 5), product(2, 10, 5)];
    let refused = Case { lines: merged.clone(), products: only_five, ..Case::new() }.decide();
    assert_eq!(refused, Err(StockError::OutOfStock.into()));
    let six = vec![product(1, 10, 6), product(2, 10, 5)];
    let placed = Case { lines: merged, products: six, ..Case::new() }.decide().unwrap();
    assert_eq!(placed.order.items().len(), 2);
    assert_eq!(parts(&placed).0, 70);
}

#[test]
fn a_repeated_product_never_overflows_its_quantity() {
    let most = i64::from(i32::MAX);
    assert_eq!(lines(&[(1, most), (1, 1)]), Err(InvalidQuantity.into()));
    assert!(lines(&[(1, most), (2, most)]).is_ok());
}

/// F15: the order in which stock is locked does not depend on the request.
#[test]
fn products_come_in_ascending_order() {
    let ids: Vec<_> = lines(&[(9, 1), (2, 1), (5, 1)]).unwrap().product_ids();
    assert_eq!(ids.iter().map(|id| id.get()).collect::<Vec<_>>(), [2, 5, 9]);
}

#[test]
fn an_order_has_one_to_a_hundred_different_products() {
    assert_eq!(lines(&[]), Err(OrderError::NoItems.into()));
    let hundred: Vec<_> = (1..=100).map(|id| (id, 1)).collect();
    let repeated: Vec<_> = hundred.iter().chain(&hundred).copied().collect();
    assert_eq!(lines(&repeated).unwrap().product_ids().len(), OrderLines::MAX);
    let more: Vec<_> = (1..=101).map(|id| (id, 1)).collect();
    assert_eq!(lines(&more), Err(PlacementError::TooManyItems));
}

#[test]
fn an_unknown_product_is_named() {
    let refused = Case { lines: lines(&[(1, 1), (7, 1)]).unwrap(), ..Case::new() }.decide();
    assert_eq!(refused, Err(PlacementError::UnknownProduct { product_id: ProductId::new(7).unwrap() }));
}

/// F21: price x quantity, their sum, and 2^53.
#[test]
fn amounts_never_overflow() {
    let order = |bought: &[(i64, i64)], products| {
        Case { lines: lines(bought).unwrap(), products, ..Case::new() }.decide()
    };
    let most_pieces = i64::from(i32::MAX);
    assert_eq!(
        order(&[(1, most_pieces)], vec![product(1, MOST, MOST)]),
        Err(OrderError::Overflow(AmountOverflow).into())
    );
    assert_eq!(
        order(&[(1, 1), (2, 1)], vec![product(1, MOST, 1), product(2, 1, 1)]),
        Err(OrderError::Overflow(AmountOverflow).into())
    );
    let placed = order(&[(1, 1)], vec![product(1, MOST, 1)]).unwrap();
    assert_eq!(parts(&placed), (MOST, 0, 0, MOST));
}

#[test]
fn free_products_alone_are_no_order() {
    let refused = Case { products: vec![product(1, 0, 10)], ..Case::new() }.decide();
    assert_eq!(refused, Err(OrderError::TotalNotPositive.into()));
}

/// F19, F23: a discount is capped at the total; what costs nothing is PAID at once, and needs no card.
#[test]
fn nothing_left_for_the_card_is_paid_at_once() {
    let more_than_the_total = Discount::fixed(won(999_999)).unwrap();
    let by_coupon = Case { has_card: false, ..Case::new() }.coupon(more_than_the_total).decide().unwrap();
    assert_eq!(parts(&by_coupon), (2000, 0, 2000, 0));
    let by_points = Case { has_card: false, use_point: 2000, ..Case::new() }.decide().unwrap();
    assert_eq!(parts(&by_points), (2000, 2000, 0, 0));
    for placed in [by_coupon, by_points] {
        assert_eq!(placed.order.status(), OrderStatus::Paid);
        assert_eq!(placed.payment.status(), PaymentStatus::Paid);
        assert_eq!(placed.payment.key(), None);
        assert_eq!(placed.payment.amounts().method(), PaymentMethod::Point);
    }
}

#[test]
fn a_card_is_required_when_something_is_left_for_it() {
    let refused = Case { has_card: false, use_point: 1999, ..Case::new() }.decide();
    assert_eq!(refused, Err(PlacementError::CardRequired));
}

#[test]
fn points_must_be_there_and_not_exceed_what_is_due() {
    let refused = |case: Case| case.decide().unwrap_err();
    assert_eq!(
        refused(Case { use_point: 1, points: Some(0), ..Case::new() }),
        PointError::InsufficientPoint.into()
    );
    assert_eq!(
        refused(Case { use_point: 1, points: None, ..Case::new() }),
        PointError::InsufficientPoint.into()
    );
    assert_eq!(refused(Case { use_point: 2001, ..Case::new() }), PaymentError::PaidAmountNegative.into());
    assert_eq!(refused(Case { use_point: -1, ..Case::new() }), PaymentError::UsedPointNegative.into());
    let after_discount = Case { use_point: 1501, ..Case::new() }.coupon(Discount::fixed(won(500)).unwrap());
    assert_eq!(refused(after_discount), PaymentError::PaidAmountNegative.into());
}

/// F19: an unknown coupon and another buyer's look alike.
#[test]
fn a_coupon_must_be_the_buyers_own_unused_and_valid() {
    let discount = Discount::fixed(won(500)).unwrap();
    let refused = |change: fn(&mut CouponHolding)| {
        let mut coupon = holding(discount);
        change(&mut coupon);
        Case { coupon: Some(coupon), wants_coupon: true, ..Case::new() }.decide().unwrap_err()
    };
    let unknown = Case { wants_coupon: true, ..Case::new() }.decide();
    assert_eq!(unknown, Err(CouponError::NotOwned.into()));
    assert_eq!(refused(|coupon| coupon.issued.user_id = user(2)), CouponError::NotOwned.into());
    let used = IssuedCouponStatus::Used { used_at: NOW };
    assert_eq!(
        Case {
            coupon: Some(CouponHolding {
                issued: IssuedCoupon { status: used, ..holding(discount).issued },
                ..holding(discount)
            }),
            wants_coupon: true,
            ..Case::new()
        }
        .decide(),
        Err(CouponError::AlreadyUsed.into())
    );
    assert_eq!(refused(|coupon| coupon.coupon.valid_until = Some(NOW)), CouponError::Expired.into());
}

#[test]
fn a_coupon_that_was_not_asked_for_is_not_used() {
    let coupon = Some(holding(Discount::fixed(won(500)).unwrap()));
    let placed = Case { coupon, ..Case::new() }.decide().unwrap();
    assert_eq!((parts(&placed).2, placed.coupon), (0, None));
}

// ---- any order at all

#[derive(Debug, Clone)]
struct Any {
    lines: Vec<(i64, i64)>,
    products: BTreeMap<i64, (i64, i64)>,
    use_point: i64,
    balance: i64,
    /// Owner, used, expired, discount (fixed, or a rate when negative).
    coupon: Option<(i64, bool, bool, i64)>,
    has_card: bool,
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..20_000_i64,
        1 => Just(MOST),
        1 => Just(MOST / 2),
        1 => Just(MOST - 1),
    ]
}

fn any_order() -> impl Strategy<Value = Any> {
    let quantity = prop_oneof![6 => 1..6_i64, 1 => Just(i64::from(i32::MAX))];
    let stock = prop_oneof![3 => 0..12_i64, 1 => Just(MOST)];
    let discount = prop_oneof![-100..=-1_i64, 1..30_000_i64, Just(MOST)];
    let coupon = (1..=2_i64, prop::bool::weighted(0.1), prop::bool::weighted(0.1), discount);
    (
        prop::collection::vec((1..=4_i64, quantity), 1..6),
        prop::collection::btree_map(1..=4_i64, (amount(), stock), 2..=4),
        prop_oneof![4 => 0..20_000_i64, 1 => Just(MOST), 1 => Just(-1), 1 => Just(-MOST)],
        amount(),
        prop::option::of(coupon),
        any::<bool>(),
    )
        .prop_map(|(lines, products, use_point, balance, coupon, has_card)| Any {
            lines,
            products,
            use_point,
            balance,
            coupon,
            has_card,
        })
}

/// Total, discount and card amount, or the message of the first rule that is broken.
fn model(any: &Any) -> Result<(i128, i128, i128), String> {
    let most = i128::from(MOST);
    let overflow = || AmountOverflow.to_string();
    let mut wanted: BTreeMap<i64, i128> = BTreeMap::new();
    for (id, quantity) in &any.lines {
        let sum = wanted.entry(*id).or_default();
        *sum += i128::from(*quantity);
        if *sum > i128::from(i32::MAX) {
            return Err(InvalidQuantity.to_string());
        }
    }
    let mut total = 0;
    for (id, quantity) in &wanted {
        let (_, stock) = any.products.get(id).ok_or("존재하지 않는 상품입니다.")?;
        if i128::from(*stock) < *quantity {
            return Err("재고가 부족합니다.".into());
        }
    }
    for (id, quantity) in &wanted {
        total += i128::from(any.products[id].0) * quantity;
        if total > most {
            return Err(overflow());
        }
    }
    if total == 0 {
        return Err("주문 금액은 0보다 커야 합니다.".into());
    }
    let discount = match any.coupon {
        None => 0,
        Some((owner, _, _, _)) if owner != 1 => return Err("보유하지 않은 쿠폰입니다.".into()),
        Some((_, true, _, _)) => return Err("이미 사용된 쿠폰입니다.".into()),
        Some((_, _, true, _)) => return Err("유효 기간이 지난 쿠폰입니다.".into()),
        // Half up: twice the exact value, plus one, halved.
        Some((_, _, _, rate)) if rate < 0 => (2 * total * i128::from(-rate) + 100) / 200,
        Some((_, _, _, fixed)) => i128::from(fixed).min(total),
    };
    let used = i128::from(any.use_point);
    if used > i128::from(any.balance) {
        return Err("포인트가 부족합니다.".into());
    }
    let paid = total - discount - used;
    if paid > most {
        return Err(overflow());
    }
    if used < 0 {
        return Err("사용 포인트는 0 이상이어야 합니다.".into());
    }
    if paid < 0 {
        return Err("카드 결제 금액은 0 이상이어야 합니다.".into());
    }
    if paid > 0 && !any.has_card {
        return Err("카드 결제에 필요한 카드 종류와 카드 번호가 없습니다.".into());
    }
    Ok((total, discount, paid))
}

fn real(any: &Any) -> Result<Placement, PlacementError> {
    let coupon = any.coupon.map(|(owner, used, expired, discount)| {
        let discount = match discount {
            rate if rate < 0 => Discount::rate(-rate).unwrap(),
            fixed => Discount::fixed(won(fixed)).unwrap(),
        };
        let mut holding = holding(discount);
        holding.issued.user_id = user(owner);
        if used {
            holding.issued.status = IssuedCouponStatus::Used { used_at: NOW };
        }
        holding.coupon.valid_until = expired.then_some(NOW);
        holding
    });
    Case {
        lines: lines(&any.lines)?,
        products: any.products.iter().map(|(id, (price, stock))| product(*id, *price, *stock)).collect(),
        use_point: any.use_point,
        points: (any.use_point > 0).then_some(any.balance),
        wants_coupon: coupon.is_some(),
        coupon,
        has_card: any.has_card,
    }
    .decide()
}

fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -MOST - 2..=MOST + 2, 0..100_000_i64, Just(i64::from(i32::MAX)), Just(MOST)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_is_what_the_model_says(any in any_order()) {
        match (real(&any), model(&any)) {
            (Ok(placed), Ok((total, discount, paid))) => {
                let (real_total, used, real_discount, real_paid) = parts(&placed);
                prop_assert_eq!(i128::from(real_total), total);
                prop_assert_eq!(i128::from(real_discount), discount);
                prop_assert_eq!(i128::from(real_paid), paid);
                prop_assert_eq!(used, any.use_point);
                let at_once = paid == 0;
                prop_assert_eq!(placed.order.status() == OrderStatus::Paid, at_once);
                prop_assert_eq!(placed.payment.status() == PaymentStatus::Paid, at_once);
                prop_assert_eq!(placed.payment.status() == PaymentStatus::Pending, !at_once);
                let left = placed.points.map(|account| account.balance().won());
                prop_assert_eq!(left, (used > 0).then_some(any.balance - used));
                prop_assert_eq!(placed.coupon.is_some(), any.coupon.is_some());
            }
            (Err(error), Err(message)) => prop_assert_eq!(error.to_string(), message),
            (real, model) => prop_assert!(false, "{:?} but the model says {:?}", real, model),
        }
    }

    #[test]
    fn any_amount_at_all_is_an_error_or_in_range(
        price in any_number(), quantity in any_number(), points in any_number(), stock in any_number(),
    ) {
        let made = (Money::new(price), Quantity::new(quantity), Money::new(points), Stock::new(stock));
        if let (Ok(price), Ok(quantity), Ok(points), Ok(stock)) = made {
            if let Ok(amount) = price.checked_mul(quantity) {
                prop_assert!(amount <= Money::MAX);
            }
            prop_assert!(price.checked_add(points).is_ok_and(|sum| sum <= Money::MAX)
                || price.won().unsigned_abs() + points.won().unsigned_abs() > MOST.unsigned_abs());
            if let Ok(left) = stock.decrease(i64::from(quantity.get())) {
                prop_assert_eq!(left.increase(i64::from(quantity.get())), Ok(stock));
            }
        }
    }
}
