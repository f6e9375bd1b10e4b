//! A batch of orders: each is decided upon what the ones before it leave, as it would be alone and later.

use domain::placement::{self, OrderLines, Placement, PlacementError, PlacementRequest, Placing};
use domain::ports::{CouponHolding, NewOrderIds, ProductForSale, Versioned};
use domain::{
    Coupon, CouponError, CouponId, Discount, IssuedCoupon, IssuedCouponId, IssuedCouponStatus, Money,
    OrderId, PaymentId, PointAccount, PointError, ProductId, Quantity, Stock, StockError, Timestamp, UserId,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use time::macros::datetime;

const NOW: Timestamp = datetime!(2026-01-01 00:00 UTC);
const PRICE: i64 = 1000;

fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

fn product_id(id: i64) -> ProductId {
    ProductId::new(id).unwrap()
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn coupon_id() -> IssuedCouponId {
    IssuedCouponId::new(7).unwrap()
}

/// Products 1 and 2, points of buyers 1 and 2, and one coupon of buyer 1 for 10 %.
fn placing(stock: [i64; 2], points: [i64; 2]) -> Placing {
    let product = |(id, pieces): (i64, i64)| {
        let (id, name, price) = (product_id(id), format!("product {id}"), won(PRICE));
        (id, ProductForSale { id, name, price, stock: Stock::new(pieces).unwrap() })
    };
    let account = |(id, balance)| (user(id), PointAccount::new(user(id), won(balance)).unwrap());
    let terms = CouponId::new(3).unwrap();
    let issued = IssuedCoupon {
        id: coupon_id(),
        coupon_id: terms,
        user_id: user(1),
        status: IssuedCouponStatus::Available,
    };
    let coupon =
        Coupon { id: terms, name: "c".into(), discount: Discount::rate(10).unwrap(), valid_until: None };
    Placing {
        now: NOW,
        installation: "simul8".into(),
        ids: Vec::new(),
        products: (1..).zip(stock).map(product).collect(),
        points: (1..).zip(points).map(account).collect(),
        coupons: BTreeMap::from([(
            coupon_id(),
            Versioned { version: 4, value: CouponHolding { issued, coupon } },
        )]),
        keys: BTreeMap::new(),
    }
}

#[derive(Debug, Clone)]
struct Ask {
    buyer: i64,
    lines: Vec<(i64, i64)>,
    points: i64,
    coupon: bool,
}

impl Ask {
    fn of(lines: &[(i64, i64)]) -> Self {
        Self { buyer: 1, lines: lines.to_vec(), points: 0, coupon: false }
    }
}

/// Decides one order and takes what it takes.
fn place(placing: &mut Placing, number: i64, ask: &Ask) -> Result<Placement, PlacementError> {
    let lines = ask.lines.iter().map(|(id, pieces)| (product_id(*id), Quantity::new(*pieces).unwrap()));
    let request = PlacementRequest {
        user_id: user(ask.buyer),
        lines: OrderLines::new(lines)?,
        use_point: won(ask.points),
        wants_coupon: ask.coupon,
        has_card: true,
    };
    let ids = NewOrderIds {
        order_id: OrderId::new(100_000 + number).unwrap(),
        payment_id: PaymentId::new(number).unwrap(),
    };
    let offer = placing.offer(ids, &request, ask.coupon.then(coupon_id));
    let placement = placement::decide(&request, offer)?;
    placing.take(&placement)?;
    Ok(placement)
}

fn left(placing: &Placing) -> (Vec<i64>, Vec<i64>, bool) {
    let stock = placing.products.values().map(|product| product.stock.quantity()).collect();
    let points = placing.points.values().map(|account| account.balance().won()).collect();
    let free = placing.coupons[&coupon_id()].value.issued.status == IssuedCouponStatus::Available;
    (stock, points, free)
}

#[test]
fn each_order_takes_from_what_the_one_before_left() {
    let mut placing = placing([5, 5], [1000, 0]);
    let first = place(&mut placing, 1, &Ask { points: 600, ..Ask::of(&[(1, 3), (2, 1)]) }).unwrap();
    assert_eq!(first.points.unwrap().balance(), won(400));
    assert_eq!(left(&placing), (vec![2, 4], vec![400, 0], true));
    let refused = place(&mut placing, 2, &Ask::of(&[(2, 1), (1, 3)]));
    assert_eq!(refused, Err(StockError::OutOfStock.into()));
    let refused = place(&mut placing, 3, &Ask { points: 401, ..Ask::of(&[(1, 1)]) });
    assert_eq!(refused, Err(PointError::InsufficientPoint.into()));
    assert_eq!(left(&placing), (vec![2, 4], vec![400, 0], true), "who is refused takes nothing");
    let last = place(&mut placing, 4, &Ask { points: 400, ..Ask::of(&[(1, 2)]) }).unwrap();
    assert_eq!(last.points.unwrap().balance(), won(0));
    assert_eq!(left(&placing), (vec![0, 4], vec![0, 0], true));
}

/// The second of a batch sees the coupon as used, whoever it is; its version is the one that was read.
#[test]
fn a_coupon_is_used_once_in_a_batch() {
    let mut placing = placing([5, 5], [0, 0]);
    let ask = Ask { coupon: true, ..Ask::of(&[(1, 1)]) };
    let foreign = place(&mut placing, 1, &Ask { buyer: 2, ..ask.clone() });
    assert_eq!(foreign, Err(CouponError::NotOwned.into()));
    let used = place(&mut placing, 2, &ask).unwrap().coupon.unwrap();
    assert_eq!((used.version, used.value.status), (4, IssuedCouponStatus::Used { used_at: NOW }));
    assert_eq!(place(&mut placing, 3, &ask), Err(CouponError::AlreadyUsed.into()));
    assert_eq!(left(&placing), (vec![4, 5], vec![0, 0], false));
}

/// What was decided upon something else is not taken at all: neither the lines that would fit, nor points, nor the coupon.
#[test]
fn what_was_not_decided_upon_this_offer_takes_nothing() {
    let mut elsewhere = placing([5, 5], [1000, 0]);
    let ask = Ask { coupon: true, points: 100, ..Ask::of(&[(1, 2), (2, 2)]) };
    let decided = place(&mut elsewhere, 1, &ask).unwrap();
    for stock in [[2, 1], [1, 2]] {
        let mut here = placing(stock, [1000, 0]);
        let before = here.clone();
        assert_eq!(here.take(&decided), Err(StockError::OutOfStock));
        assert_eq!(here, before);
    }
    let mut unknown = placing([5, 5], [1000, 0]);
    unknown.products.remove(&product_id(2));
    let before = unknown.clone();
    assert!(unknown.take(&decided).is_err());
    assert_eq!(unknown, before);
}

/// An offer holds what the order asked for, and nothing of the others: no points that it does not spend.
#[test]
fn an_offer_is_the_orders_own() {
    let placing = placing([5, 5], [1000, 0]);
    let request = |use_point| PlacementRequest {
        user_id: user(1),
        lines: OrderLines::new([(product_id(2), Quantity::new(1).unwrap())]).unwrap(),
        use_point: won(use_point),
        wants_coupon: false,
        has_card: true,
    };
    let ids =
        NewOrderIds { order_id: OrderId::new(100_001).unwrap(), payment_id: PaymentId::new(1).unwrap() };
    let offer = placing.offer(ids, &request(0), None);
    assert_eq!(offer.products.iter().map(|product| product.id).collect::<Vec<_>>(), [product_id(2)]);
    assert!(offer.points.is_none() && offer.coupon.is_none());
    assert_eq!((offer.order_id, offer.payment_id, offer.now), (ids.order_id, ids.payment_id, NOW));
    let offer = placing.offer(ids, &request(1), Some(IssuedCouponId::new(8).unwrap()));
    assert_eq!(offer.points.unwrap().balance(), won(1000));
    assert!(offer.coupon.is_none(), "unknown");
}

fn any_ask() -> impl Strategy<Value = Ask> {
    let lines = prop::collection::vec((1..=2_i64, 1..=4_i64), 1..=3);
    (1..=2_i64, lines, prop_oneof![Just(0), 1..=900_i64], prop::bool::weighted(0.3))
        .prop_map(|(buyer, lines, points, coupon)| Ask { buyer, lines, points, coupon })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any batch, against a model in plain numbers that serves one after the other.
    #[test]
    fn a_batch_gives_what_one_after_the_other_would(
        asks in prop::collection::vec(any_ask(), 1..12),
        stock in [0..12_i64, 0..12_i64],
        points in [0..2000_i64, 0..2000_i64],
    ) {
        let mut batch = placing(stock, points);
        let (mut pieces, mut balance, mut free) = (stock, points, true);
        for (number, ask) in (1..).zip(&asks) {
            let wanted = [1, 2].map(|id| ask.lines.iter().filter(|line| line.0 == id).map(|line| line.1).sum::<i64>());
            let buyer = usize::try_from(ask.buyer - 1).unwrap();
            let total = PRICE * (wanted[0] + wanted[1]);
            let discount = if ask.coupon { total / 10 } else { 0 };
            let fits = wanted[0] <= pieces[0]
                && wanted[1] <= pieces[1]
                && (!ask.coupon || (free && ask.buyer == 1))
                && ask.points <= balance[buyer]
                && ask.points + discount <= total;
            let placed = place(&mut batch, number, ask);
            prop_assert_eq!(placed.is_ok(), fits, "{:?}: {:?}", ask, placed);
            if fits {
                pieces = [pieces[0] - wanted[0], pieces[1] - wanted[1]];
                balance[buyer] -= ask.points;
                free &= !ask.coupon;
                prop_assert_eq!(placed.unwrap().payment.amounts().paid_amount(), won(total - discount - ask.points));
            }
            prop_assert_eq!(left(&batch), (pieces.to_vec(), balance.to_vec(), free));
        }
    }
}
