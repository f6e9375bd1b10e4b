//! Placing under races, repeated requests and a database that goes away.

use crate::faults::strike;
use crate::gateway::{Plan, Reply, made};
use crate::world::{Placed, STOCK, World, idempotency, name, order_of, secs, won};
use application::place_order::PlaceOrderOutcome;
use application::{PlaceOrder, PlaceOrderError};
use domain::placement::{OrderLines, PlacementError};
use domain::settlement::TransactionStatus::{Failed, Success};
use domain::{CouponError, OrderStatus, PaymentError, PaymentStatus, Quantity, StockError};
use std::time::Duration;
use test_support::Fault;
use tokio::time::Instant;

// ---- races

/// Spec 01: "retried at most once more, after a random wait of 100-500 ms".
#[tokio::test(start_paused = true)]
async fn a_lost_race_is_tried_once_more_after_its_wait() {
    let world = World::new().await;
    let race = strike("place_orders", "tx.lock_products", 1, Fault::Conflict);
    let began = Instant::now();
    world.gateway.plan(Plan::new(Reply::Rejected, vec![]));
    let outcome = world.program(race.clone()).place_order(world.command()).await.unwrap();
    assert_eq!(name(&outcome), "refused");
    // The gateway takes 300 ms.
    let waited = began.elapsed() - Duration::from_millis(300);
    assert!((100..=500).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(race.met(), 2);
    assert_eq!(world.gateway.charges().len(), 1);
    world.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_race_lost_twice_is_given_up_and_nothing_is_taken() {
    for call in ["tx.lock_products", "tx.store_coupons", "tx.commit"] {
        let world = World::new().await;
        let race = strike("place_orders", call, 100, Fault::Conflict);
        let refused = world.program(race.clone()).place_order(world.command()).await;
        assert_eq!(refused, Err(PlaceOrderError::Conflict), "{call}");
        assert_eq!(race.met(), 2);
        assert!(world.nothing_taken() && world.gateway.charges().is_empty());
        world.assert_quiet();
    }
}

/// F18: one coupon, two orders at once. Who loses tries again, and learns that it is used.
#[tokio::test(start_paused = true)]
async fn one_coupon_at_once_has_one_winner() {
    let world = World::new().await;
    let (one, two) = tokio::join!(world.place(world.command()), world.place(world.command()));
    let won_by = [&one, &two].into_iter().filter(|result| result.is_ok()).count();
    assert_eq!(won_by, 1);
    let used = PlaceOrderError::Placement(PlacementError::Coupon(CouponError::AlreadyUsed));
    assert!([one, two].contains(&Err(used)));
    world.a_day().await;
    assert!(world.taken());
    world.assert_quiet();
}

/// F13: the last pieces.
#[tokio::test(start_paused = true)]
async fn stock_is_never_sold_twice() {
    let world = World::new().await;
    let all = futures_util::future::join_all((0..30).map(|_| world.place(world.plain()))).await;
    let sold = all.iter().filter(|result| result.is_ok()).count();
    assert_eq!(i64::try_from(sold).unwrap(), STOCK);
    let out = PlaceOrderError::Placement(PlacementError::Stock(StockError::OutOfStock));
    assert!(all.iter().filter_map(|result| result.as_ref().err()).all(|error| *error == out));
    world.a_day().await;
    world.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn a_broken_rule_takes_nothing() {
    let world = World::new().await;
    let too_many = OrderLines::new([(world.product, Quantity::new(STOCK + 1).unwrap())]).unwrap();
    let cases = [
        (PlaceOrder { lines: too_many, ..world.command() }, PlacementError::Stock(StockError::OutOfStock)),
        (PlaceOrder { card: None, ..world.command() }, PlacementError::CardRequired),
        (
            PlaceOrder { use_point: won(-1), ..world.command() },
            PlacementError::Payment(PaymentError::UsedPointNegative),
        ),
        (
            PlaceOrder { use_point: won(5001), ..world.command() },
            PlacementError::Point(domain::PointError::InsufficientPoint),
        ),
        (
            PlaceOrder { user_id: domain::UserId::new(2).unwrap(), use_point: won(0), ..world.command() },
            PlacementError::Coupon(CouponError::NotOwned),
        ),
    ];
    for (command, rule) in cases {
        assert_eq!(world.place(command).await, Err(PlaceOrderError::Placement(rule)));
        assert!(world.nothing_taken());
    }
    assert!(world.gateway.charges().is_empty());
    world.assert_quiet();
}

// ---- Idempotency-Key

fn keyed(world: &World, key: &str, content: u8) -> PlaceOrder {
    PlaceOrder { idempotency: idempotency(key, content), ..world.command() }
}

fn replayed(outcome: PlaceOrderOutcome) -> String {
    match outcome {
        PlaceOrderOutcome::Replayed(answer) => answer.body,
        other => panic!("{other:?}"),
    }
}

/// F01: whatever the first answer was, it is given again, and nothing happens twice.
#[tokio::test(start_paused = true)]
async fn the_first_answer_is_given_again() {
    for (reply, told) in [
        (Reply::Accepted, "in progress"),
        (Reply::AcceptedDecided, "in progress"),
        (Reply::Uncertain, "confirming"),
        (Reply::Rejected, "refused"),
        (Reply::NotReached, "unavailable"),
        (Reply::CircuitOpen, "circuit open"),
    ] {
        let world = World::new().await;
        let decided_after = Duration::ZERO;
        let transaction = crate::gateway::Made { decided_after, ..made(Success) };
        let transactions = if matches!(reply, Reply::Accepted | Reply::AcceptedDecided | Reply::Uncertain) {
            vec![transaction]
        } else {
            vec![]
        };
        world.gateway.plan(Plan::new(reply, transactions));
        let first = world.place(keyed(&world, "k", 1)).await.unwrap();
        assert_eq!(name(&first), told, "{reply:?}");
        let again = replayed(world.place(keyed(&world, "k", 1)).await.unwrap());
        assert_eq!(again, format!("{told} {}", order_of(&first).order.id()));
        world.a_day().await;
        assert_eq!(world.gateway.charges().len(), 1);
        assert_eq!(world.database.read(|tables| tables.orders.len()), 1);
        world.assert_quiet();
    }
}

/// F23 with a key: PAID in TX1, and its answer in TX1, too.
#[tokio::test(start_paused = true)]
async fn an_order_paid_at_once_stores_its_answer_with_it() {
    let world = World::new().await;
    world.app.charge_points(crate::world::buyer(), won(100_000)).await.unwrap();
    let command = || PlaceOrder { use_point: won(18_000), card: None, ..keyed(&world, "k", 1) };
    assert_eq!(name(&world.place(command()).await.unwrap()), "paid");
    assert_eq!(replayed(world.place(command()).await.unwrap()), "paid 100001");
}

/// F03.
#[tokio::test(start_paused = true)]
async fn a_key_is_not_taken_for_another_content() {
    let world = World::new().await;
    world.place(keyed(&world, "k", 1)).await.unwrap();
    assert_eq!(world.place(keyed(&world, "k", 2)).await, Err(PlaceOrderError::IdempotencyKeyReused));
    // Another buyer's key of the same text is another key.
    let other = PlaceOrder { user_id: domain::UserId::new(2).unwrap(), ..world.plain() };
    let other = PlaceOrder { idempotency: idempotency("k", 2), ..other };
    assert_eq!(name(&world.place(other).await.unwrap()), "in progress");
}

/// F02: while the first one is at the gateway.
#[tokio::test(start_paused = true)]
async fn the_same_key_at_once_is_told_so() {
    let world = World::new().await;
    let first = world.place(keyed(&world, "k", 1));
    let second = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.place(keyed(&world, "k", 1)).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(name(&first.unwrap()), "in progress");
    assert_eq!(second, Err(PlaceOrderError::IdempotencyInProgress));
    assert_eq!(world.gateway.charges().len(), 1);
}

/// F02: many at the very same moment make one order.
#[tokio::test(start_paused = true)]
async fn many_with_one_key_make_one_order() {
    let world = World::new().await;
    let all = futures_util::future::join_all((0..20).map(|_| world.place(keyed(&world, "k", 1)))).await;
    let placed = all.iter().filter(|result| matches!(result, Ok(PlaceOrderOutcome::InProgress(_)))).count();
    assert_eq!(placed, 1);
    assert_eq!(world.database.read(|tables| tables.orders.len()), 1);
    assert_eq!(world.gateway.charges().len(), 1);
    world.a_day().await;
    world.assert_quiet();
}

/// The first request died before it had an answer: the same request gets what the order has come to since.
#[tokio::test(start_paused = true)]
async fn an_abandoned_key_answers_with_what_became_of_the_order() {
    for (end, told) in [(Success, "paid 100001"), (Failed, "refused 100001")] {
        let world = World::new().await;
        world.gateway.plan(Plan::new(Reply::Uncertain, vec![made(end)]));
        let crashed = strike("settle", "store.begin", 1000, Fault::Unavailable);
        let outcome = world.program(crashed).place_order(keyed(&world, "k", 1)).await.unwrap();
        assert_eq!(name(&outcome), "confirming");
        tokio::time::sleep(secs(1)).await;
        // The first request might still be under way.
        let early = world.place(keyed(&world, "k", 1)).await;
        assert_eq!(early, Err(PlaceOrderError::IdempotencyInProgress));
        tokio::time::sleep(secs(5)).await;
        // Not stored: not final.
        let again = replayed(world.place(keyed(&world, "k", 1)).await.unwrap());
        assert_eq!(again, "confirming 100001");
        world.minutes(3).await;
        for _ in 0..2 {
            assert_eq!(replayed(world.place(keyed(&world, "k", 1)).await.unwrap()), told);
        }
        assert_eq!(world.gateway.charges().len(), 1);
        world.a_day().await;
        world.assert_quiet();
    }
}

// ---- the database goes away

/// F08: the answer to TX1's COMMIT is lost, but it was stored.
#[tokio::test(start_paused = true)]
async fn a_lost_commit_that_was_stored_is_never_sent() {
    let world = World::new().await;
    let lost = strike("place_orders", "tx.commit", 1, Fault::CommitUnknown { stored: true });
    let outcome = world.program(lost).place_order(world.command()).await.unwrap();
    assert_eq!(name(&outcome), "confirming");
    let placed = Placed::of(order_of(&outcome));
    assert_eq!(world.status(placed), (PaymentStatus::Pending, OrderStatus::Placed));
    world.minutes(4).await;
    assert_eq!(world.status(placed), (PaymentStatus::Failed, OrderStatus::Cancelled));
    assert!(world.gateway.charges().is_empty() && world.nothing_taken());
    world.a_day().await;
    world.assert_quiet();
}

/// F08: and was not.
#[tokio::test(start_paused = true)]
async fn a_lost_commit_that_was_not_stored_is_an_error() {
    let world = World::new().await;
    let lost = strike("place_orders", "tx.commit", 1, Fault::CommitUnknown { stored: false });
    let refused = world.program(lost.clone()).place_order(world.command()).await;
    assert_eq!(refused, Err(PlaceOrderError::OutcomeUnknown));
    // Not retried: it could be stored after all, later.
    assert_eq!(lost.met(), 1);
    assert!(world.gateway.charges().is_empty() && world.nothing_taken());
    world.assert_quiet();
}

/// F08 for an order that TX1 itself pays.
#[tokio::test(start_paused = true)]
async fn a_lost_commit_of_a_paid_order_is_read_again() {
    let world = World::new().await;
    world.app.charge_points(crate::world::buyer(), won(100_000)).await.unwrap();
    let command = PlaceOrder { use_point: won(18_000), card: None, ..world.command() };
    let lost = strike("place_orders", "tx.commit", 1, Fault::CommitUnknown { stored: true });
    let outcome = world.program(lost).place_order(command).await.unwrap();
    assert_eq!(name(&outcome), "paid");
    world.assert_quiet();
}

/// What must not happen again after a crash is written first; what could not be written is not sent.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_that_could_not_be_written() {
    for (call, fault) in [
        ("store.begin", Fault::Unavailable),
        ("tx.store_payments", Fault::Unavailable),
        ("tx.commit", Fault::Unavailable),
        ("tx.commit", Fault::CommitUnknown { stored: false }),
        ("tx.commit", Fault::CommitUnknown { stored: true }),
    ] {
        let world = World::new().await;
        let outcome = world
            .program(strike("start_payments", call, 1, fault))
            .place_order(world.command())
            .await
            .unwrap();
        // The database is to blame, and the buyer is not told that the gateway was.
        assert_eq!(name(&outcome), "not sent", "{call} {fault:?}");
        assert!(world.gateway.charges().is_empty() && world.nothing_taken());
        world.assert_quiet();
    }
}

/// F41, F42: TX2 is tried again until its time is up.
#[tokio::test(start_paused = true)]
async fn compensation_is_repeated_while_there_is_time() {
    for call in ["store.begin", "tx.store_stock", "tx.store_points", "tx.store_orders", "tx.commit"] {
        let world = World::new().await;
        world.gateway.plan(Plan::new(Reply::Rejected, vec![]));
        let down = strike("settle", call, 3, Fault::Unavailable);
        let outcome = world.program(down.clone()).place_order(world.command()).await.unwrap();
        assert_eq!((name(&outcome), down.met()), ("refused", 4), "{call}");
        assert!(world.nothing_taken());
        world.assert_quiet();
    }
}

/// F41: then it is left to the reconciler.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_recorded_in_time_is_left_to_the_reconciler() {
    for (reply, end) in [
        (Reply::Rejected, PaymentStatus::Failed),
        (Reply::NotReached, PaymentStatus::Failed),
        (Reply::Accepted, PaymentStatus::Paid),
    ] {
        let world = World::new().await;
        let transactions = if reply == Reply::Accepted { vec![made(Success)] } else { vec![] };
        world.gateway.plan(Plan::new(reply, transactions));
        let down = strike("settle", "tx.commit", 1000, Fault::Unavailable);
        let began = Instant::now();
        let outcome = world.program(down).place_order(world.command()).await.unwrap();
        assert_eq!(name(&outcome), "confirming");
        assert!(began.elapsed() <= world.policy.deadline + world.policy.record_patience);
        let placed = Placed::of(order_of(&outcome));
        assert_eq!(world.status(placed).0, PaymentStatus::InProgress);
        world.minutes(4).await;
        assert_eq!(world.status(placed).0, end, "{reply:?}");
        world.a_day().await;
        assert_eq!(world.gateway.charges().len(), 1);
        world.assert_quiet();
    }
}

/// The whole order ends within its promise, however slow the database is on the way.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_deadline() {
    struct Slow;
    #[async_trait::async_trait]
    impl test_support::Faults for Slow {
        async fn before(&self, site: test_support::Site) -> Fault {
            if site.within == "start_payments" && site.call == "tx.commit" {
                tokio::time::sleep(secs(5)).await;
            }
            Fault::None
        }
    }
    let world = World::new().await;
    let outcome = world.program(std::sync::Arc::new(Slow)).place_order(world.command()).await.unwrap();
    assert_eq!(name(&outcome), "not sent");
    assert!(world.gateway.charges().is_empty() && world.nothing_taken());
    world.assert_quiet();
}
