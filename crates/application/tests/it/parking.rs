//! What can't be examined: backed off, parked with a ledger row, and looked at again when somebody asks; and asking by hand
//! (F71, issue "parked for ever").

use crate::faults::strike;
use crate::gateway::{Made, Plan, Reply, TestGateway, made};
use crate::world::{Placed, World, secs};
use application::examine::Examined;
use domain::ports::Oddity;
use domain::settlement::TransactionStatus::{Failed, Success};
use domain::settlement::{DiscrepancyKind, Settled, Waiting};
use domain::{OrderStatus, PaymentStatus};
use std::time::Duration;
use test_support::Fault;
use tokio_util::sync::CancellationToken;

const PAID: (PaymentStatus, OrderStatus) = (PaymentStatus::Paid, OrderStatus::Paid);
const FAILED: (PaymentStatus, OrderStatus) = (PaymentStatus::Failed, OrderStatus::Cancelled);
const OPEN: (PaymentStatus, OrderStatus) = (PaymentStatus::InProgress, OrderStatus::Placed);

fn decided_after(seconds: u64) -> Made {
    Made { decided_after: secs(seconds), ..made(Success) }
}

async fn placed(world: &World, reply: Reply, transactions: Vec<Made>) -> Placed {
    world.gateway.plan(Plan::new(reply, transactions));
    world.placed(world.command()).await
}

fn key() -> domain::GatewayKey {
    TestGateway::key(1)
}

fn parked(world: &World, placed: Placed) -> bool {
    world.database.read(|tables| tables.checks[&placed.payment_id].parked_at.is_some())
}

/// F71: one that always fails is parked with a row; the others are served.
#[tokio::test(start_paused = true)]
async fn a_poisoned_payment_is_parked_and_the_others_are_served() {
    let world = World::with(|policy| policy.rules.park_after_failures = 4).await;
    let poisoned = placed(&world, Reply::Accepted, vec![made(Success)]).await;
    let fine = world.placed(world.plain()).await;
    // It is listed, but its details are never found: an examination that can't be finished.
    world.gateway.plan(Plan::new(Reply::Uncertain, vec![made(Success)]));
    world.minutes(2).await;
    assert_eq!((world.status(poisoned), world.status(fine)), (PAID, PAID));

    let broken = strike("settle", "tx.lock_payments", 1000, Fault::Conflict);
    let third = world.placed(world.plain()).await;
    let program = world.program(broken);
    for _ in 0..30 {
        tokio::time::sleep(secs(60)).await;
        program.reconcile(&CancellationToken::new()).await.unwrap();
    }
    // A race that is lost again and again is not the payment's own fault: never parked.
    assert_eq!(world.status(third), OPEN);
    assert!(world.ledger().is_empty());
    world.minutes(6).await;
    assert_eq!(world.status(third), PAID);
}

/// F71 with the one examination that fails for good: listed by the gateway, and not found by its key.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_examined_is_parked_until_it_is_woken() {
    let world = World::with(|policy| policy.rules.park_after_failures = 4).await;
    let placed = placed(&world, Reply::Uncertain, vec![made(Success)]).await;
    world.gateway.set_listing_only(&key(), true);
    let fine = world.placed(world.plain()).await;
    world.minutes(12).await;
    assert_eq!((world.status(placed), world.status(fine)), (OPEN, PAID));
    assert_eq!(world.ledger(), [(DiscrepancyKind::Poison, None)]);
    let before = world.gateway.queries();
    world.minutes(60).await;
    assert_eq!(world.gateway.queries(), before, "parked");
    world.gateway.set_listing_only(&key(), false);
    world.callback(placed, &key()).await;
    world.minutes(2).await;
    assert_eq!(world.status(placed), PAID);
}

/// A long outage of the gateway, and then one thing that is the payment's fault: not parked for the outage.
#[tokio::test(start_paused = true)]
async fn an_outage_brings_nothing_near_being_parked() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Uncertain, vec![made(Success)]).await;
    world.gateway.set_down(true);
    world.minutes(240).await;
    world.gateway.set_down(false);
    world.gateway.set_listing_only(&key(), true);
    world.minutes(20).await;
    world.gateway.set_listing_only(&key(), false);
    world.minutes(6).await;
    assert_eq!(world.status(placed), PAID);
    assert!(world.ledger().is_empty());
}

/// Sync by hand: asks now, throttled; about what has ended, too ("the buyer says that he was charged").
#[tokio::test(start_paused = true)]
async fn a_sync_by_hand_asks_now() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Accepted, vec![decided_after(30)]).await;
    let first = world.sync(placed.payment_id).await;
    let waits = Settled::Waiting(Waiting::TransactionPending);
    assert_eq!(first.examined, Examined::Settled(waits));
    assert_eq!(world.sync(placed.payment_id).await.examined, Examined::NotClaimed);
    tokio::time::sleep(secs(31)).await;
    assert_eq!(world.sync(placed.payment_id).await.examined, Examined::Settled(Settled::Paid));
    tokio::time::sleep(secs(31)).await;
    let before = world.gateway.queries();
    let after = world.sync(placed.payment_id).await;
    assert_eq!(after.examined, Examined::Settled(Settled::AlreadyEnded));
    assert!(world.gateway.queries() > before);
    assert_eq!(world.sync(placed.payment_id).await.examined, Examined::NotClaimed);
    assert_eq!(after.payment.record.payment.status(), PaymentStatus::Paid);
    let causes: Vec<_> = after.payment.history.iter().map(|event| event.cause.as_str()).collect();
    assert_eq!(causes.last(), Some(&"operator"));
}

/// One payment's look-up gives a status that nobody knows: that payment's trouble alone. It is parked with a row, the others
/// are served, and each sync by its buyer asks once, and not more often than the throttle allows.
#[tokio::test(start_paused = true)]
async fn an_odd_answer_parks_its_payment_alone() {
    for what in [Oddity::UnknownStatus, Oddity::BadAmount, Oddity::WrongSubject, Oddity::Unreadable] {
        let world = World::with(|policy| policy.rules.park_after_failures = 4).await;
        let odd = placed(&world, Reply::Accepted, vec![made(Success)]).await;
        world.gateway.set_odd(&key(), Some(what));
        world.minutes(12).await;
        assert!(parked(&world, odd) && world.status(odd) == OPEN);
        let fine = world.placed(world.plain()).await;
        world.minutes(2).await;
        assert_eq!(world.status(fine), PAID);
        assert_eq!(world.ledger(), [(DiscrepancyKind::Poison, Some(key()))]);
        let evidence = world
            .database
            .read(|tables| tables.discrepancies.values().next().unwrap().discrepancy.evidence.clone());
        assert!(evidence.contains(what.label()), "{evidence}");
        let before = world.gateway.queries();
        world.minutes(60).await;
        assert_eq!(world.gateway.queries(), before, "parked");
        let asked = futures_util::future::join_all((0..12).map(|_| world.sync(odd.payment_id))).await;
        let asked: Vec<_> =
            asked.into_iter().filter(|synced| synced.examined != Examined::NotClaimed).collect();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].examined, Examined::Parked);
        assert!(asked[0].payment.parked && world.ledger().len() == 1);
        // The gateway mends its answer; the buyer asks again.
        world.gateway.set_odd(&key(), None);
        assert_eq!(world.sync(odd.payment_id).await.examined, Examined::NotClaimed);
        tokio::time::sleep(world.policy.sync_interval).await;
        let synced = world.sync(odd.payment_id).await;
        assert_eq!((synced.examined, synced.payment.parked), (Examined::Settled(Settled::Paid), false));
        assert_eq!(world.status(odd), PAID);
        world.a_day().await;
        world.assert_quiet();
    }
}

/// "The buyer says that he was charged": a payment that has ended and is parked is asked about when somebody wants it, and the
/// charge that nobody could see is found.
#[tokio::test(start_paused = true)]
async fn a_parked_payment_that_has_ended_is_looked_at_when_somebody_asks() {
    for by_callback in [false, true] {
        let world = World::with(|policy| policy.rules.park_after_failures = 4).await;
        // After a 500 the order was given back; the request had made a transaction that shows only later, and oddly.
        let late = Made { appears_after: secs(10), ..made(Success) };
        world.gateway.plan(Plan { watch: true, ..Plan::new(Reply::NotReached, vec![late]) });
        let placed = world.placed(world.command()).await;
        assert_eq!(world.status(placed), FAILED);
        world.gateway.set_odd(&key(), Some(Oddity::UnknownStatus));
        world.minutes(30).await;
        assert!(parked(&world, placed));
        assert_eq!(world.ledger(), [(DiscrepancyKind::Poison, None)]);
        let before = world.gateway.queries();
        world.a_day().await;
        assert_eq!(world.gateway.queries(), before, "parked");

        world.gateway.set_odd(&key(), None);
        if by_callback {
            world.callback(placed, &key()).await;
            world.minutes(1).await;
        } else {
            let synced = world.sync(placed.payment_id).await;
            assert_eq!(synced.examined, Examined::Settled(Settled::AlreadyEnded));
            // Throttled, like any other.
            let before = world.gateway.queries();
            for _ in 0..10 {
                assert_eq!(world.sync(placed.payment_id).await.examined, Examined::NotClaimed);
            }
            assert_eq!(world.gateway.queries(), before);
            tokio::time::sleep(world.policy.sync_interval).await;
            assert_ne!(world.sync(placed.payment_id).await.examined, Examined::NotClaimed);
        }
        let found = (DiscrepancyKind::LateSuccess, Some(key()));
        assert_eq!(world.ledger(), [(DiscrepancyKind::Poison, None), found]);
        assert!(!parked(&world, placed) && world.status(placed) == FAILED && world.nothing_taken());
        // Its watch goes on from where it stood still.
        world.a_day().await;
        assert_eq!(world.ledger().len(), 2);
        world.assert_quiet();
    }
}

/// What a sync finds about an order that was paid: the second charge.
#[tokio::test(start_paused = true)]
async fn a_sync_of_a_paid_order_finds_a_second_charge() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Accepted, vec![made(Success)]).await;
    world.minutes(2).await;
    assert_eq!((world.status(placed), world.next_look(placed)), (PAID, None));
    let amount = world.record(placed).payment.amounts().paid_amount();
    let second = world.gateway.put(
        &world.order_ref(placed),
        amount,
        &Made { decided_after: Duration::ZERO, ..made(Success) },
    );
    assert_eq!(world.sync(placed.payment_id).await.examined, Examined::Settled(Settled::AlreadyEnded));
    assert_eq!(world.ledger(), [(DiscrepancyKind::DuplicateCharge, Some(second))]);
    assert_eq!(world.status(placed), PAID);
    world.a_day().await;
    world.assert_quiet();
}

/// A part of an order's transactions would pass for all of them: no verdict, a row at once, and nothing given back.
#[tokio::test(start_paused = true)]
async fn more_transactions_than_are_looked_into_decide_nothing() {
    let world = World::with(|policy| policy.max_transactions = 5).await;
    let placed = placed(&world, Reply::Uncertain, vec![made(Failed); 6]).await;
    tokio::time::sleep(secs(61)).await;
    world.turn().await;
    // Not after twenty failures: asking again does not help.
    assert_eq!((world.status(placed), world.ledger()), (OPEN, vec![(DiscrepancyKind::Poison, None)]));
    // However old it is.
    world.a_day().await;
    assert_eq!((world.status(placed), world.ledger().len()), (OPEN, 1));
    assert!(world.taken() && parked(&world, placed));
    // A person has the gateway tidied up.
    world.gateway.hide(&TestGateway::key(6), true);
    assert_eq!(
        world.sync(placed.payment_id).await.examined,
        Examined::Settled(Settled::Failed { forced: false })
    );
    assert_eq!(world.status(placed), FAILED);
    world.a_day().await;
    assert_eq!(world.ledger().len(), 1);
    world.assert_quiet();
}

/// Twenty-five transactions of one order, and the charged one is the last: it pays, whether its key is known or not.
#[tokio::test(start_paused = true)]
async fn the_charged_one_of_many_pays() {
    for reply in [Reply::Uncertain, Reply::Accepted] {
        for charged in [0, 19, 24] {
            let world = World::new().await;
            let many = (0..25).map(|at| made(if at == charged { Success } else { Failed })).collect();
            let placed = placed(&world, reply, many).await;
            world.minutes(2).await;
            assert_eq!(world.status(placed), PAID, "{reply:?} {charged}");
            assert_eq!(world.record(placed).payment.key(), Some(&TestGateway::key(charged + 1)));
            assert!(world.ledger().is_empty());
            world.a_day().await;
            world.assert_quiet();
        }
    }
}
