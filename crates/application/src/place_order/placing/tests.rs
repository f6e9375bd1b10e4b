//! One batch of orders, in one transaction: each is decided upon what the ones before it leave, and none takes another
//! with it.

mod alike;

use super::*;
use crate::shop::{PRICE, Shop, Strike, keyed, user, won};
use domain::placement::OrderLines;
use domain::{
    AmountOverflow, CouponError, Money, OrderError, PaymentError, PointError, ProductId, Quantity, StockError,
};
use std::time::Duration;
use test_support::Fault;

/// What a member got, in a word.
fn told(outcome: &PlacedInBatch) -> String {
    match outcome {
        PlacedInBatch::Placed(order) => format!("placed {}", order.payment.payment.status()),
        PlacedInBatch::KnownKey(_) => "known key".to_owned(),
        PlacedInBatch::KeyBeingTaken => "key being taken".to_owned(),
        PlacedInBatch::Refused(error) => format!("refused {error:?}"),
        PlacedInBatch::TooLate => "too late".to_owned(),
        PlacedInBatch::Unknown(_) => "unknown".to_owned(),
    }
}

fn all_told(outcomes: &[PlacedInBatch]) -> Vec<String> {
    outcomes.iter().map(told).collect()
}

const PLACED: &str = "placed PENDING";
const OUT_OF_STOCK: &str = "refused Stock(OutOfStock)";

#[tokio::test(start_paused = true)]
async fn fifty_orders_for_ten_pieces_sell_ten() {
    let shop = Shop::new(10).await;
    let outcomes = shop.place((1..=50).map(|buyer| shop.order(user(buyer), 1))).await.unwrap();
    let told = all_told(&outcomes);
    // In order of arrival.
    assert!(told[..10].iter().all(|told| told == PLACED), "{told:?}");
    assert!(told[10..].iter().all(|told| told == OUT_OF_STOCK), "{told:?}");
    assert_eq!((shop.stock(shop.product), shop.commits("place_orders")), (0, vec![10]));
}

/// Who is refused takes nothing, and stops nobody behind it.
#[tokio::test(start_paused = true)]
async fn a_smaller_order_behind_one_that_is_too_large_is_placed() {
    let shop = Shop::new(10).await;
    let pieces = [4, 5, 2, 1, 1];
    let outcomes = shop.place(pieces.map(|pieces| shop.order(user(pieces), pieces))).await.unwrap();
    assert_eq!(all_told(&outcomes), [PLACED, PLACED, OUT_OF_STOCK, PLACED, OUT_OF_STOCK]);
    assert_eq!(shop.stock(shop.product), 0);
}

#[tokio::test(start_paused = true)]
async fn one_buyers_points_are_spent_one_after_the_other() {
    let shop = Shop::new(100).await;
    let buyer = user(1);
    shop.give_points(buyer, 5000).await;
    shop.give_points(user(2), 700).await;
    let uses = [(buyer, 800), (user(2), 700), (buyer, 4000), (buyer, 300), (user(2), 1), (buyer, 200)];
    let orders = uses.map(|(buyer, points)| PlaceOrder { use_point: won(points), ..shop.order(buyer, 5) });
    let outcomes = shop.place(orders).await.unwrap();
    let short = "refused Point(InsufficientPoint)";
    assert_eq!(all_told(&outcomes), [PLACED, PLACED, PLACED, short, short, PLACED]);
    assert_eq!((shop.points(buyer), shop.points(user(2))), (0, 0));
    // The ledger, row by row: what was there before and after each (the store refuses an entry that does not go on from the
    // one before).
    let mut balance = 5000;
    let rows = shop.database.read(|tables| {
        let rows = tables.point_ledger.values().filter(|row| row.user_id == buyer && row.delta < 0);
        rows.map(|row| row.delta).collect::<Vec<_>>()
    });
    let after: Vec<i64> = rows
        .iter()
        .map(|delta| {
            balance += delta;
            balance
        })
        .collect();
    assert_eq!(after, [4200, 200, 0]);
    assert_eq!(shop.commits("place_orders"), [4]);
}

/// What is stored for each: the account as it stands after it.
#[tokio::test(start_paused = true)]
async fn each_order_stores_the_balance_after_itself() {
    let shop = Shop::new(100).await;
    shop.give_points(user(1), 5000).await;
    let orders =
        [800, 4000, 200].map(|points| PlaceOrder { use_point: won(points), ..shop.order(user(1), 5) });
    let members: Vec<NewcomerOrder> = orders.map(|order| shop.member(order)).into();
    let needs: Vec<PlacingNeeds> = members.iter().map(NewcomerOrder::needs).collect();
    let placing = PlaceOrders { store: std::sync::Arc::new(shop.database.store()), min_age: Duration::ZERO };
    let (tx, mut loaded) = placing.store.open_placing(&needs).await.unwrap();
    let ids = loaded.ids.clone();
    let entries: Vec<_> = members
        .iter()
        .zip(ids)
        .map(|(member, ids)| placing.decide(&mut loaded, member, ids, Instant::now()).ok().unwrap())
        .map(|order| order.points.unwrap())
        .map(|entry| (entry.amount.won(), entry.account.balance().won()))
        .collect();
    assert_eq!(entries, [(800, 4200), (4000, 200), (200, 0)]);
    tx.rollback().await;
}

#[tokio::test(start_paused = true)]
async fn one_coupon_is_used_once() {
    let shop = Shop::new(10).await;
    let buyer = user(1);
    let coupon = shop.give_coupon(buyer, None).await;
    let with = |pieces| PlaceOrder { issued_coupon_id: Some(coupon), ..shop.order(buyer, pieces) };
    // The first one is refused and leaves it to the second.
    let outcomes = shop.place([with(11), with(2), with(3), shop.order(buyer, 4)]).await.unwrap();
    let used = "refused Coupon(AlreadyUsed)";
    assert_eq!(all_told(&outcomes), [OUT_OF_STOCK, PLACED, used, PLACED]);
    let PlacedInBatch::Placed(order) = &outcomes[1] else { panic!() };
    assert_eq!(order.payment.payment.amounts().paid_amount(), won(2 * PRICE - 300));
    assert_eq!((shop.stock(shop.product), shop.commits("place_orders")), (4, vec![2]));
    let moves = shop.database.read(|tables| tables.coupon_ledger.keys().copied().collect::<Vec<_>>());
    assert_eq!(moves.len(), 1);
}

/// As one after the other: in progress while the first has no answer; its answer to the letter when it has one; refused
/// when it asks for something else. A key whose order was refused is free.
#[tokio::test(start_paused = true)]
async fn one_key_in_one_batch_is_taken_once() {
    let shop = Shop::new(10).await;
    shop.give_points(user(1), 50_000).await;
    let card = |key, content| PlaceOrder { idempotency: keyed(key, content), ..shop.order(user(1), 1) };
    let points = |key, content| PlaceOrder { use_point: won(PRICE), card: None, ..card(key, content) };
    let too_many = PlaceOrder { idempotency: keyed("free", 1), ..shop.order(user(1), 11) };
    let other_buyer = PlaceOrder { idempotency: keyed("card", 9), ..shop.order(user(2), 1) };
    let batch = [
        card("card", 1),
        card("card", 1),
        points("points", 1),
        points("points", 1),
        card("points", 2),
        too_many,
        card("free", 2),
        other_buyer,
    ];
    let outcomes = shop.place(batch).await.unwrap();
    let known = "known key";
    let paid = "placed PAID";
    assert_eq!(all_told(&outcomes), [PLACED, known, paid, known, known, OUT_OF_STOCK, PLACED, PLACED]);
    let record = |at: usize| match &outcomes[at] {
        PlacedInBatch::KnownKey(record) => record.clone(),
        other => panic!("{}", told(other)),
    };
    let ids: Vec<OrderId> = shop.database.read(|tables| tables.orders.keys().copied().collect());
    assert_eq!((record(1).order_id, record(1).answer, record(1).abandoned), (ids[0], None, false));
    let answer = StoredAnswer { status: 201, body: format!("order {} is paid", ids[1]) };
    assert_eq!((record(3).order_id, record(3).answer), (ids[1], Some(answer)));
    assert_eq!((record(4).fingerprint, record(3).fingerprint), ([1; 32], [1; 32]));
    assert_eq!((ids.len(), shop.stock(shop.product)), (4, 6));
}

/// What the first of one key took is what is stored for the key, as anybody sees it afterwards.
#[tokio::test(start_paused = true)]
async fn a_key_is_known_by_what_its_batch_stored() {
    let shop = Shop::new(10).await;
    let order = || PlaceOrder { idempotency: keyed("k", 1), ..shop.order(user(1), 1) };
    let within = shop.place([order(), order()]).await.unwrap();
    let after = shop.place([order()]).await.unwrap();
    let (PlacedInBatch::KnownKey(within), PlacedInBatch::KnownKey(after)) = (&within[1], &after[0]) else {
        panic!("{} {}", told(&within[1]), told(&after[0]))
    };
    assert_eq!(within, after);
}

/// A key that another transaction is taking is no reason to wait, nor for the others of the batch.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_being_taken_is_not_waited_for() {
    let shop = Shop::new(10).await;
    let keyed_order = || PlaceOrder { idempotency: keyed("k", 1), ..shop.order(user(1), 1) };
    let other = shop.product(PRICE, 10).await;
    let lines = OrderLines::new([(other, Quantity::new(1).unwrap())]).unwrap();
    let needs = shop.member(PlaceOrder { lines, ..keyed_order() }).needs();
    let (tx, _) = shop.database.store().open_placing(&[needs]).await.unwrap();
    let began = Instant::now();
    let outcomes = shop.place([shop.order(user(2), 1), keyed_order(), shop.order(user(3), 1)]).await.unwrap();
    assert_eq!(all_told(&outcomes), [PLACED, "key being taken", PLACED]);
    assert_eq!(began.elapsed(), Duration::ZERO);
    tx.rollback().await;
}

/// No request could be sent for it any more: then nothing is taken for it. One that needs no request is placed.
#[tokio::test(start_paused = true)]
async fn who_has_no_time_left_takes_nothing() {
    let shop = Shop::new(10).await;
    shop.give_points(user(1), PRICE).await;
    let coupon = shop.give_coupon(user(1), None).await;
    let late = |command| NewcomerOrder { deadline: Instant::now(), ..shop.member(command) };
    let with = || PlaceOrder { issued_coupon_id: Some(coupon), ..shop.order(user(1), 3) };
    let by_points = PlaceOrder { use_point: won(PRICE), card: None, ..shop.order(user(1), 1) };
    let keyed_one = || PlaceOrder { idempotency: keyed("k", 1), ..with() };
    let members = vec![late(keyed_one()), shop.member(keyed_one()), late(by_points)];
    let outcomes = shop.place_with(members, Arc::new(test_support::NoFaults)).await.unwrap();
    assert_eq!(all_told(&outcomes), ["too late", PLACED, "placed PAID"]);
    assert_eq!((shop.stock(shop.product), shop.commits("place_orders")), (6, vec![2]));
}

/// The stored send deadline is never before the one that is kept, though the transaction began late.
#[tokio::test(start_paused = true)]
async fn the_stored_deadline_is_the_members_own() {
    let shop = Shop::new(10).await;
    let early = shop.member(shop.order(user(1), 1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let outcomes = shop
        .place_with(vec![early, shop.member(shop.order(user(1), 1))], Arc::new(test_support::NoFaults))
        .await
        .unwrap();
    let left: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            PlacedInBatch::Placed(order) => order.payment.send_deadline - order.payment.created_at,
            other => panic!("{}", told(other)),
        })
        .collect();
    assert_eq!(left, [time::Duration::milliseconds(2500), time::Duration::milliseconds(4500)]);
}

/// Each rule that can be broken inside a batch, broken by the one in the middle.
#[tokio::test(start_paused = true)]
async fn one_that_breaks_a_rule_takes_nothing_and_stops_nobody() {
    let shop = Shop::new(100).await;
    let (buyer, free, dear) = (user(1), shop.product(0, 10).await, shop.product(Money::MAX.won(), 10).await);
    shop.give_points(buyer, 1_000_000).await;
    let foreign = shop.give_coupon(user(2), None).await;
    let expired = shop.give_coupon(buyer, Some(shop.database.now() - Duration::from_secs(1))).await;
    let gone = shop.give_coupon(buyer, None).await;
    let used = PlaceOrder { issued_coupon_id: Some(gone), ..shop.order(buyer, 1) };
    shop.place([used]).await.unwrap();
    let lines = |product: ProductId| OrderLines::new([(product, Quantity::new(2).unwrap())]).unwrap();
    let order = || shop.order(buyer, 3);
    let nobody = ProductId::new(999).unwrap();
    let cases: Vec<(PlaceOrder, PlacementError)> = vec![
        (
            PlaceOrder { lines: lines(nobody), ..order() },
            PlacementError::UnknownProduct { product_id: nobody },
        ),
        (shop.order(buyer, 1_000_000), StockError::OutOfStock.into()),
        (PlaceOrder { issued_coupon_id: Some(foreign), ..order() }, CouponError::NotOwned.into()),
        (PlaceOrder { issued_coupon_id: Some(expired), ..order() }, CouponError::Expired.into()),
        (PlaceOrder { issued_coupon_id: Some(gone), ..order() }, CouponError::AlreadyUsed.into()),
        (PlaceOrder { use_point: won(1_000_001), ..order() }, PointError::InsufficientPoint.into()),
        (PlaceOrder { lines: lines(free), ..order() }, OrderError::TotalNotPositive.into()),
        (PlaceOrder { lines: lines(dear), ..order() }, OrderError::Overflow(AmountOverflow).into()),
        (PlaceOrder { use_point: won(-1), ..order() }, PaymentError::UsedPointNegative.into()),
        (PlaceOrder { use_point: won(3001), ..order() }, PaymentError::PaidAmountNegative.into()),
        (PlaceOrder { card: None, ..order() }, PlacementError::CardRequired),
    ];
    for (bad, rule) in cases {
        let (stock, points) = (shop.stock(shop.product), shop.points(buyer));
        let keyed_bad = PlaceOrder { idempotency: keyed("bad", 1), ..bad };
        let good = || PlaceOrder { use_point: won(10), ..shop.order(buyer, 1) };
        let outcomes = shop.place([good(), keyed_bad, good()]).await.unwrap();
        assert_eq!(all_told(&outcomes), [PLACED.to_owned(), format!("refused {rule:?}"), PLACED.to_owned()]);
        assert_eq!((shop.stock(shop.product), shop.points(buyer)), (stock - 2, points - 20), "{rule:?}");
    }
    assert!(shop.database.read(|tables| tables.idempotency.is_empty()));
    assert_eq!(shop.commits("place_orders")[1..], [2; 11]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_refusals_commits_nothing() {
    let shop = Shop::new(1).await;
    let outcomes = shop.place([shop.order(user(1), 2), shop.order(user(2), 3)]).await.unwrap();
    assert_eq!(all_told(&outcomes), [OUT_OF_STOCK, OUT_OF_STOCK]);
    assert!(shop.commits("place_orders").is_empty());
    assert_eq!(shop.database.waiting(), 0);
}

/// Nobody is told of what is not stored.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_stored_is_told_to_nobody() {
    for call in [
        "store.begin",
        "tx.lock_products",
        "tx.store_stock",
        "tx.store_payments",
        "tx.store_keys",
        "tx.commit",
    ] {
        for fault in [Fault::Unavailable, Fault::Conflict] {
            let shop = Shop::new(10).await;
            let members = (1..=4).map(|buyer| shop.member(shop.order(user(buyer), 1))).collect();
            let strike = Strike::new("place_orders", call, 1, fault);
            let failed = shop.place_with(members, strike.clone()).await;
            let expected = |error: &StoreError| match fault {
                Fault::Conflict => matches!(error, StoreError::Conflict { .. }),
                _ => matches!(error, StoreError::Unavailable { .. }),
            };
            assert!(strike.is_over() && failed.as_ref().is_err_and(expected), "{call} {fault:?}");
            assert_eq!((shop.stock(shop.product), shop.database.waiting()), (10, 0));
            // Its locks are free at once: the members are done again, one by one.
            assert_eq!(all_told(&shop.place([shop.order(user(1), 10)]).await.unwrap()), [PLACED]);
        }
    }
}

/// The answer to COMMIT is lost: that is so for every member that was placed, and for no other.
#[tokio::test(start_paused = true)]
async fn a_lost_commit_is_unknown_to_all_its_members() {
    for stored in [false, true] {
        let shop = Shop::new(10).await;
        shop.give_points(user(5), PRICE).await;
        let keyed_order = |key| PlaceOrder { idempotency: keyed(key, 1), ..shop.order(user(1), 1) };
        shop.place([keyed_order("before")]).await.unwrap();
        let by_points = PlaceOrder { use_point: won(PRICE), card: None, ..shop.order(user(5), 1) };
        let batch = [
            shop.order(user(2), 1),
            shop.order(user(3), 11),
            keyed_order("k"),
            keyed_order("k"),
            keyed_order("before"),
            by_points,
            shop.order(user(4), 1),
        ];
        let members = batch.map(|command| shop.member(command)).into();
        let lost = Strike::new("place_orders", "tx.commit", 1, Fault::CommitUnknown { stored });
        let outcomes = shop.place_with(members, lost).await.unwrap();
        let unknown = "unknown";
        assert_eq!(
            all_told(&outcomes),
            [unknown, OUT_OF_STOCK, unknown, "key being taken", "known key", unknown, unknown]
        );
        // Each knows its own order, to ask for it.
        let ids: std::collections::BTreeSet<OrderId> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                PlacedInBatch::Unknown(order) => Some(order.order.id()),
                _ => None,
            })
            .collect();
        assert_eq!(ids.len(), 4);
        let there =
            shop.database.read(|tables| ids.iter().filter(|id| tables.orders.contains_key(id)).count());
        assert_eq!(there, if stored { 4 } else { 0 });
    }
}
