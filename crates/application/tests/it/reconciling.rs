//! The reconciler: the table of spec 01 section 5 row by row, and how turns, claims, back-off, parking and the interlock
//! keep them apart (F58 to F72).

use crate::faults::{slow, strike};
use crate::gateway::{DECLINED, Made, Plan, Reply, TestGateway, made};
use crate::world::{Placed, World, secs};
use domain::ports::Oddity;
use domain::settlement::DiscrepancyKind;
use domain::settlement::TransactionStatus::{Failed, Success};
use domain::{GatewayOrderRef, OrderStatus, PaymentStatus};
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

/// "over 1 min": a younger one is left alone.
#[tokio::test(start_paused = true)]
async fn young_payments_are_left_alone() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Accepted, vec![made(Success)]).await;
    tokio::time::sleep(secs(58)).await;
    assert_eq!(world.turn().await.examined, 0);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(world.turn().await.paid, 1);
    assert_eq!(world.status(placed), PAID);
}

/// PENDING: the process died before or in the middle of the call. The card is never charged anew from here.
#[tokio::test(start_paused = true)]
async fn pending_is_treated_like_uncertain() {
    for sent in [false, true] {
        let world = World::new().await;
        let lost = strike("place_orders", "tx.commit", 1, Fault::CommitUnknown { stored: true });
        let outcome = world.program(lost).place_order(world.command()).await.unwrap();
        let placed = Placed::of(crate::world::order_of(&outcome));
        if sent {
            let amount = world.record(placed).payment.amounts().paid_amount();
            world.gateway.put(&world.order_ref(placed), amount, &made(Success));
        }
        world.minutes(4).await;
        assert_eq!(world.status(placed), if sent { PAID } else { FAILED });
        assert!(world.gateway.charges().is_empty());
        world.a_day().await;
        world.assert_quiet();
    }
}

#[tokio::test(start_paused = true)]
async fn some_still_pending_waits_and_adopts_the_key() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Uncertain, vec![made(Failed), decided_after(120)]).await;
    world.minutes(1).await;
    let turn = world.turn().await;
    assert_eq!((turn.examined, world.status(placed)), (0, OPEN));
    // The first in the list with our amount is adopted, whatever it is: its key is asked for from now on.
    assert_eq!(world.record(placed).payment.key(), Some(&key()));
    world.minutes(3).await;
    assert_eq!(world.status(placed), PAID);
    assert_eq!(world.record(placed).payment.key(), Some(&TestGateway::key(2)));
    world.a_day().await;
    world.assert_quiet();
}

/// The process died with the answer to a request that it had sent twice: the second charge is listed only after the order
/// was paid by the first, and is found all the same.
#[tokio::test(start_paused = true)]
async fn a_payment_whose_answer_was_never_stored_is_watched_when_it_is_paid() {
    for seconds in [3, 90] {
        let world = World::new().await;
        let late = Made { appears_after: secs(400), ..made(Success) };
        let placed = placed(&world, Reply::Uncertain, vec![decided_after(seconds), late]).await;
        world.minutes(3).await;
        assert_eq!(world.status(placed), PAID);
        world.a_day().await;
        assert_eq!(world.ledger(), [(DiscrepancyKind::DuplicateCharge, Some(TestGateway::key(2)))]);
        world.assert_quiet();
    }
}

#[tokio::test(start_paused = true)]
async fn all_failed_fails_with_the_gateways_reason() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Uncertain, vec![made(Failed), made(Failed)]).await;
    world.minutes(2).await;
    assert_eq!(world.status(placed), FAILED);
    assert_eq!(world.failure(placed).as_deref(), Some(DECLINED));
    assert!(world.nothing_taken());
    world.a_day().await;
    world.assert_quiet();
}

/// F65: five minutes after the start, on a fresh answer.
#[tokio::test(start_paused = true)]
async fn five_minutes_of_pending_are_forced() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Accepted, vec![decided_after(20 * 60)]).await;
    world.minutes(4).await;
    assert_eq!(world.status(placed), OPEN);
    tokio::time::sleep(secs(60)).await;
    let turn = world.turn().await;
    assert_eq!((turn.failed, turn.forced), (1, 1));
    assert_eq!(world.failure(placed).as_deref(), Some("결제 시간 초과"));
    assert_eq!(world.next_look(placed), Some(secs(60)));
    world.a_day().await;
    assert_eq!(world.ledger(), [(DiscrepancyKind::LateSuccess, Some(key()))]);
    world.assert_quiet();
}

/// F58: without the gateway nothing is decided, however long it takes.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_can_not_be_asked_decides_nothing() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Accepted, vec![made(Success)]).await;
    world.gateway.set_down(true);
    world.minutes(180).await;
    assert_eq!(world.status(placed), OPEN);
    // Backed off: asked every five minutes at the end, not in every turn.
    let before = world.gateway.queries();
    world.minutes(30).await;
    assert!(world.gateway.queries() - before <= 6, "{}", world.gateway.queries() - before);
    assert!(world.ledger().is_empty());
    world.gateway.set_down(false);
    world.minutes(6).await;
    assert_eq!(world.status(placed), PAID);
    world.a_day().await;
    world.assert_quiet();
}

/// F59: one that appears between two answers.
#[tokio::test(start_paused = true)]
async fn one_that_appears_late_is_found_or_ends_in_the_ledger() {
    for (appears, end) in [(30, PAID), (70, PAID), (600, FAILED)] {
        let world = World::new().await;
        let late = Made { appears_after: secs(appears), ..made(Success) };
        let placed = placed(&world, Reply::Uncertain, vec![late]).await;
        world.a_day().await;
        assert_eq!(world.status(placed), end, "after {appears} s");
        let rows = if end == PAID { vec![] } else { vec![(DiscrepancyKind::LateSuccess, Some(key()))] };
        assert_eq!(world.ledger(), rows);
        world.assert_quiet();
    }
}

/// "once the PG has said so twice, 30 s or more apart, at least 1 min after the send deadline".
#[tokio::test(start_paused = true)]
async fn none_there_is_believed_neither_too_early_nor_too_late() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Uncertain, vec![]).await;
    let began = world.record(placed).created_at;
    let mut turns = 0;
    while world.status(placed) == OPEN {
        tokio::time::sleep(secs(1)).await;
        world.turn().await;
        turns += 1;
        assert!(turns < 600);
    }
    let took = Duration::try_from(world.record(placed).updated_at - began).unwrap();
    let least = world.policy.deadline + secs(60);
    assert!(took >= least && took <= least + secs(35), "{took:?}");
    assert_eq!(world.database.read(|tables| tables.checks[&placed.payment_id].not_found_count), 2);
}

/// F60, F61: the key is gone, or is another order's.
#[tokio::test(start_paused = true)]
async fn a_lost_key_is_a_row_and_a_wait() {
    for overwritten in [false, true] {
        let world = World::new().await;
        let placed = placed(&world, Reply::Accepted, vec![made(Success)]).await;
        if overwritten {
            world.gateway.alter(&key(), |transaction| {
                transaction.order_ref = GatewayOrderRef::from_gateway("other-999999-0123456789abcdef");
            });
        } else {
            world.gateway.hide(&key(), true);
        }
        world.minutes(4).await;
        assert_eq!(world.status(placed), OPEN);
        assert_eq!(world.ledger(), [(DiscrepancyKind::PgLost, Some(key()))]);
        world.minutes(2).await;
        assert_eq!(world.status(placed), FAILED);
        assert_eq!(world.failure(placed).as_deref(), Some("결제 시간 초과"));
        // It turns up again: the watch list finds it.
        world.gateway.hide(&key(), false);
        let reference = world.order_ref(placed);
        world.gateway.alter(&key(), |transaction| transaction.order_ref = reference);
        world.a_day().await;
        let rows: Vec<_> = world.ledger().into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(rows, [DiscrepancyKind::PgLost, DiscrepancyKind::LateSuccess]);
        world.assert_quiet();
    }
}

/// F62: a wiped gateway, or another merchant's eyes: nothing is failed for it, and all is healed when it is back.
#[tokio::test(start_paused = true)]
async fn many_not_found_at_once_stop_all_such_verdicts() {
    let world = World::new().await;
    let paid = world.placed(world.plain()).await;
    world.minutes(2).await;
    assert_eq!(world.status(paid), PAID);
    let mut open = Vec::new();
    for reply in [Reply::Accepted, Reply::Accepted, Reply::Accepted, Reply::Uncertain, Reply::Uncertain] {
        world.gateway.plan(Plan::new(reply, vec![made(Success)]));
        open.push(world.placed(world.plain()).await);
    }
    for number in 1..=6 {
        world.gateway.hide(&TestGateway::key(number), true);
    }
    for _ in 0..15 {
        tokio::time::sleep(secs(60)).await;
        world.turn().await;
        // By hand, or by callbacks without a token, it is not believed either.
        tokio::time::sleep(secs(3)).await;
        world.sync(open[4].payment_id).await;
    }
    assert!(open.iter().all(|placed| world.status(*placed) == OPEN));
    // Nor is it kept against them for later.
    let counted = world.database.read(|tables| tables.checks[&open[4].payment_id].not_found_count);
    assert_eq!(counted, 0);
    assert!(world.turn().await.examined == 0 || world.turn().await.suspended);
    for number in 1..=6 {
        world.gateway.hide(&TestGateway::key(number), false);
    }
    world.minutes(2).await;
    assert!(open.iter().all(|placed| world.status(*placed) == PAID));
    world.a_day().await;
    world.assert_quiet();
}

/// What was not answered to the end may be missing as well: two unanswered ones and one lost make three.
#[tokio::test(start_paused = true)]
async fn what_was_not_answered_counts_as_if_it_were_not_found() {
    let world = World::new().await;
    let paid = world.placed(world.plain()).await;
    world.minutes(2).await;
    assert_eq!(world.status(paid), PAID);
    let mut open = Vec::new();
    for _ in 0..3 {
        world.gateway.plan(Plan::new(Reply::Accepted, vec![made(Success)]));
        open.push(world.placed(world.plain()).await);
    }
    for number in [1, 2] {
        world.gateway.hide(&TestGateway::key(number), true);
    }
    let odd = |what| [3, 4].map(|number| world.gateway.set_odd(&TestGateway::key(number), what));
    odd(Some(Oddity::Unreadable));
    tokio::time::sleep(secs(600)).await;
    assert!(world.turn().await.suspended);
    assert!(open.iter().all(|placed| world.status(*placed) == OPEN));
    odd(None);
    for number in [1, 2] {
        world.gateway.hide(&TestGateway::key(number), false);
    }
    world.a_day().await;
    assert!(open.iter().all(|placed| world.status(*placed) == PAID));
    world.assert_quiet();
}

/// An outage of the gateway that swallowed many requests is no wiped gateway: it still knows the last one paid by.
#[tokio::test(start_paused = true)]
async fn many_lost_requests_are_failed_while_the_gateway_knows_us() {
    let world = World::new().await;
    world.placed(world.plain()).await;
    world.minutes(2).await;
    let mut lost = Vec::new();
    for _ in 0..6 {
        world.gateway.plan(Plan::new(Reply::Uncertain, vec![]));
        lost.push(world.placed(world.plain()).await);
    }
    world.minutes(4).await;
    assert!(lost.iter().all(|placed| world.status(*placed) == FAILED));
    world.a_day().await;
    world.assert_quiet();
}

/// F67: three at once, each payment to one of them.
#[tokio::test(start_paused = true)]
async fn several_reconcilers_never_meet() {
    let world = World::with(|policy| policy.batch_size = 2).await;
    let mut all = Vec::new();
    for _ in 0..9 {
        all.push(world.placed(world.plain()).await);
    }
    tokio::time::sleep(secs(61)).await;
    let before = world.gateway.queries();
    let programs: Vec<_> = (0..3).map(|_| world.program(slow())).collect();
    let stop = CancellationToken::new();
    let turns = futures_util::future::join_all(programs.iter().map(|program| program.reconcile(&stop))).await;
    let turns: Vec<_> = turns.into_iter().map(Result::unwrap).collect();
    assert_eq!(turns.iter().map(|turn| turn.examined).sum::<u64>(), 9, "{turns:?}");
    assert_eq!(turns.iter().map(|turn| turn.paid).sum::<u64>(), 9);
    // One question each, not three.
    assert_eq!(world.gateway.queries() - before, 9);
    assert!(all.iter().all(|placed| world.status(*placed) == PAID));
    world.a_day().await;
    world.assert_quiet();
}

/// F68: the lease ended while the examiner stood still; what it learned then is old.
#[tokio::test(start_paused = true)]
async fn a_lease_that_ended_changes_nothing() {
    struct Frozen;
    #[async_trait::async_trait]
    impl test_support::Faults for Frozen {
        async fn before(&self, site: test_support::Site) -> Fault {
            if site.within == "settle" && site.call == "store.begin" {
                tokio::time::sleep(secs(300)).await;
            }
            Fault::None
        }
    }
    let world = World::new().await;
    let placed = placed(&world, Reply::Accepted, vec![decided_after(90)]).await;
    tokio::time::sleep(secs(61)).await;
    let zombie = world.program(std::sync::Arc::new(Frozen));
    let stop = CancellationToken::new();
    let (turn, ()) = tokio::join!(zombie.reconcile(&stop), world.minutes(4));
    assert_eq!(world.status(placed), PAID);
    assert_eq!(turn.unwrap().waiting, 0);
    world.a_day().await;
    world.assert_quiet();
}

/// F72: more than a batch, all in one turn.
#[tokio::test(start_paused = true)]
async fn a_backlog_is_worked_off_in_one_turn() {
    let world = World::with(|policy| policy.batch_size = 3).await;
    for _ in 0..10 {
        world.placed(world.plain()).await;
    }
    tokio::time::sleep(secs(70)).await;
    let turn = world.turn().await;
    assert_eq!((turn.examined, turn.paid), (10, 10));
    assert!(turn.is_complete());
}

/// A turn examines nothing twice, however soon it is due again.
#[tokio::test(start_paused = true)]
async fn a_turn_examines_nothing_twice() {
    let world = World::with(|policy| {
        policy.rules.min_age = Duration::ZERO;
        policy.rules.not_found_grace = Duration::ZERO;
    })
    .await;
    let placed = placed(&world, Reply::Accepted, vec![decided_after(600)]).await;
    tokio::time::sleep(secs(10)).await;
    assert_eq!(world.turn().await.examined, 1);
    world.gateway.set_down(true);
    assert_eq!(world.turn().await.examined, 1);
    assert_eq!(world.status(placed), OPEN);
}

/// Cancelled: the batch under way is finished, and no other begun.
#[tokio::test(start_paused = true)]
async fn a_stopped_turn_begins_nothing() {
    let world = World::new().await;
    placed(&world, Reply::Accepted, vec![made(Success)]).await;
    tokio::time::sleep(secs(61)).await;
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(world.app.reconcile(&stop).await.unwrap().examined, 0);
}

/// F42, F70: one that fails to be stored never stops the rest, and nothing of it stays.
#[tokio::test(start_paused = true)]
async fn a_compensation_that_breaks_off_leaves_nothing_half_done() {
    for call in [
        "tx.lock_payments",
        "tx.lock_checks",
        "tx.lock_products",
        "tx.lock_points",
        "tx.load_cases",
        "tx.load_key_owners",
        "tx.store_payments",
        "tx.store_orders",
        "tx.store_stock",
        "tx.store_points",
        "tx.store_coupons",
        "tx.store_discrepancies",
        "tx.store_checks",
        "tx.commit",
    ] {
        let world = World::new().await;
        let placed = placed(&world, Reply::Accepted, vec![made(Failed)]).await;
        let other = world.placed(world.plain()).await;
        tokio::time::sleep(secs(61)).await;
        let down = strike("settle", call, 1, Fault::Unavailable);
        let turn = world.program(down).reconcile(&CancellationToken::new()).await.unwrap();
        assert_eq!((turn.errors, turn.paid + turn.failed), (1, 1), "{call}");
        assert!(!turn.is_complete());
        crate::oracle::at_any_time(&world.database);
        world.minutes(2).await;
        assert_eq!((world.status(placed), world.status(other)), (FAILED, PAID));
        world.a_day().await;
        world.assert_quiet();
    }
}

/// F69: callback and reconciler at the same moment.
#[tokio::test(start_paused = true)]
async fn callback_and_reconciler_at_once_make_one_end() {
    for end in [Success, Failed] {
        let world = World::new().await;
        let placed = placed(&world, Reply::Accepted, vec![made(end)]).await;
        tokio::time::sleep(secs(61)).await;
        let key = key();
        tokio::join!(world.callback(placed, &key), world.turn(), world.callback(placed, &key), world.turn());
        assert!(world.status(placed).0.is_terminal());
        world.a_day().await;
        world.assert_quiet();
    }
}

/// F43: the gateway gave one key to two orders.
#[tokio::test(start_paused = true)]
async fn a_reused_key_pays_one_order_only() {
    let world = World::new().await;
    let first = placed(&world, Reply::Accepted, vec![decided_after(400)]).await;
    // The second order's transaction takes the first one's key, as a collision overwrites.
    world.gateway.plan(Plan::new(Reply::Uncertain, vec![]));
    let second = world.placed(world.plain()).await;
    let reference = world.order_ref(second);
    world.gateway.alter(&key(), |transaction| {
        transaction.order_ref = reference;
        transaction.amount = crate::world::won(crate::world::PRICE);
    });
    world.gateway.decide(&key(), Success);
    world.minutes(8).await;
    assert_eq!((world.status(first), world.status(second)), (FAILED, FAILED));
    let mut kinds: Vec<_> = world.ledger().into_iter().map(|(kind, _)| kind).collect();
    kinds.sort();
    assert_eq!(kinds, [DiscrepancyKind::PgLost, DiscrepancyKind::KeyReused]);
    world.a_day().await;
    world.assert_quiet();
}
