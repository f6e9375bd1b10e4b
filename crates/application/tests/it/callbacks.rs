//! Callbacks: early, late, lost, repeated, forged, out of order, and while something else is down (F45 to F57).

use crate::faults::strike;
use crate::gateway::{Made, Plan, Reply, TestGateway, made};
use crate::world::{Placed, World, only, secs, won};
use application::callbacks::ReceiveCallbackError;
use domain::settlement::DiscrepancyKind;
use domain::settlement::TransactionStatus::{Failed, Success};
use domain::{GatewayOrderRef, OrderStatus, PaymentStatus};
use std::time::Duration;
use test_support::Fault;

const PAID: (PaymentStatus, OrderStatus) = (PaymentStatus::Paid, OrderStatus::Paid);
const FAILED: (PaymentStatus, OrderStatus) = (PaymentStatus::Failed, OrderStatus::Cancelled);
const OPEN: (PaymentStatus, OrderStatus) = (PaymentStatus::InProgress, OrderStatus::Placed);

fn at_once(made: Made) -> Made {
    Made { decided_after: Duration::ZERO, ..made }
}

/// An accepted order whose transaction is decided by now.
async fn accepted(world: &World, transaction: Made) -> Placed {
    world.gateway.plan(Plan::new(Reply::Accepted, vec![transaction]));
    let placed = world.placed(world.command()).await;
    tokio::time::sleep(secs(5)).await;
    placed
}

fn key() -> domain::GatewayKey {
    TestGateway::key(1)
}

#[tokio::test(start_paused = true)]
async fn a_callback_settles_at_once() {
    for (end, then) in [(Success, PAID), (Failed, FAILED)] {
        let world = World::new().await;
        let placed = accepted(&world, made(end)).await;
        assert_eq!(world.status(placed), OPEN);
        world.callback(placed, &key()).await;
        assert_eq!(world.status(placed), then);
        world.a_day().await;
        world.assert_quiet();
    }
}

/// F46, F52: a hundred at once, and an old one again.
#[tokio::test(start_paused = true)]
async fn repeated_callbacks_change_nothing() {
    for (end, then) in [(Success, PAID), (Failed, FAILED)] {
        let world = World::new().await;
        let placed = accepted(&world, made(end)).await;
        let (before, key) = (world.gateway.queries(), key());
        futures_util::future::join_all((0..100).map(|_| world.callback(placed, &key))).await;
        assert_eq!(world.status(placed), then);
        // By key, by order: one examination, not a hundred.
        assert!(world.gateway.queries() - before <= 4, "{}", world.gateway.queries() - before);
        let history = world.database.read(|tables| tables.history(placed.payment_id).count());
        for _ in 0..5 {
            tokio::time::sleep(secs(600)).await;
            world.callback(placed, &key).await;
        }
        assert_eq!(world.database.read(|tables| tables.history(placed.payment_id).count()), history);
        world.a_day().await;
        assert_eq!(world.status(placed), then);
        assert!(world.ledger().is_empty());
        world.assert_quiet();
    }
}

/// F45: the callback is faster than the answer to our own request. Nobody asks while that may still be on its way, but as
/// soon as its answer is stored, and not two seconds later.
#[tokio::test(start_paused = true)]
async fn an_early_callback_is_taken_up_as_soon_as_our_answer_is_stored() {
    for (reply, told) in [(Reply::Accepted, "in progress"), (Reply::Uncertain, "confirming")] {
        for (end, then) in [(Success, PAID), (Failed, FAILED)] {
            let world = World::new().await;
            world.gateway.plan(Plan::new(reply, vec![at_once(made(end))]));
            let began = tokio::time::Instant::now();
            let early = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let placed = only(&world);
                world.callback(placed, &key()).await;
                tokio::time::sleep(Duration::from_millis(150)).await;
                assert_eq!((world.status(placed), world.gateway.queries()), (OPEN, 0));
                placed
            };
            let (outcome, placed) = tokio::join!(world.place(world.command()), early);
            assert_eq!(crate::world::name(&outcome.unwrap()), told);
            world.idle().await;
            assert_eq!(world.status(placed), then, "{reply:?}");
            // The answer came after 300 ms.
            assert!(began.elapsed() < Duration::from_millis(310), "{:?}", began.elapsed());
            let events =
                world.database.read(|tables| tables.history(placed.payment_id).cloned().collect::<Vec<_>>());
            assert_eq!(events.last().unwrap().cause, domain::ports::Cause::Callback);
            world.a_day().await;
            assert!(world.ledger().is_empty());
            world.assert_quiet();
        }
    }
}

/// F45, and the worker that took it up belongs to another process than the order's flow.
#[tokio::test(start_paused = true)]
async fn an_early_callback_at_another_process_is_taken_up_by_the_orders_own() {
    let world = World::new().await;
    world.gateway.plan(Plan::new(Reply::Accepted, vec![at_once(made(Success))]));
    let other = world.program(std::sync::Arc::new(test_support::NoFaults));
    let early = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let placed = only(&world);
        assert_eq!(other.receive_callback(&world.token(placed), &key()).await, Ok(placed.payment_id));
        placed
    };
    let (_, placed) = tokio::join!(world.place(world.command()), early);
    world.idle().await;
    assert_eq!(world.status(placed), PAID);
}

/// Our own request stands still beyond its deadline: nothing leaves any more, so callbacks are looked into meanwhile.
async fn paid_before_the_answer(world: &World, named: &domain::GatewayKey) -> Placed {
    let early = async {
        tokio::time::sleep(secs(3)).await;
        let placed = only(world);
        world.callback(placed, named).await;
        assert_eq!(world.status(placed), OPEN);
        tokio::time::sleep(secs(3)).await;
        assert_eq!(world.status(placed), PAID);
        placed
    };
    let (outcome, placed) = tokio::join!(world.place(world.command()), early);
    assert_eq!(crate::world::name(&outcome.unwrap()), "paid");
    placed
}

/// F45, then the answer names another transaction: the charge that the order was not paid by is found.
#[tokio::test(start_paused = true)]
async fn an_answer_that_names_another_transaction_is_examined() {
    let world = World::new().await;
    let slow = Made { decided_after: secs(20), ..made(Success) };
    let plan = Plan::new(Reply::Accepted, vec![at_once(made(Success)), slow]);
    world.gateway.plan(Plan { watch: true, answered_after: secs(7), ..plan });
    let placed = paid_before_the_answer(&world, &key()).await;
    assert_eq!(world.record(placed).payment.key(), Some(&key()));
    world.minutes(3).await;
    assert_eq!(world.ledger(), [(DiscrepancyKind::DuplicateCharge, Some(TestGateway::key(2)))]);
    world.a_day().await;
    world.assert_quiet();
}

/// The answer names the transaction that paid, and says that there may be another: it is looked for.
#[tokio::test(start_paused = true)]
async fn an_answer_after_the_end_that_wants_a_watch_gets_it() {
    let world = World::new().await;
    // The list shows the second one only minutes later; the answer names the one that the callback did.
    let late = Made { appears_after: secs(300), ..made(Success) };
    let plan = Plan::new(Reply::Accepted, vec![late, at_once(made(Success))]);
    world.gateway.plan(Plan { watch: true, answered_after: secs(7), ..plan });
    let placed = paid_before_the_answer(&world, &TestGateway::key(2)).await;
    assert_eq!(world.next_look(placed).map(|wait| wait <= secs(60)), Some(true));
    world.a_day().await;
    assert_eq!(world.ledger(), [(DiscrepancyKind::DuplicateCharge, Some(key()))]);
    world.assert_quiet();
}

fn elsewhere() -> GatewayOrderRef {
    GatewayOrderRef::from_gateway("other-999999-0123456789abcdef")
}

/// F47: the reconciler needs no callback.
#[tokio::test(start_paused = true)]
async fn a_lost_callback_costs_two_minutes_at_most() {
    let world = World::new().await;
    let placed = accepted(&world, made(Success)).await;
    world.minutes(2).await;
    assert_eq!(world.status(placed), PAID);
}

/// F48: what the gateway says now counts, not what the callback said or when it came.
#[tokio::test(start_paused = true)]
async fn a_status_that_flips_after_the_end_goes_to_the_ledger() {
    for (first, then, end, row) in [
        (Success, Failed, PAID, DiscrepancyKind::Conflict),
        (Failed, Success, FAILED, DiscrepancyKind::LateSuccess),
    ] {
        let world = World::new().await;
        let placed = accepted(&world, made(first)).await;
        world.callback(placed, &key()).await;
        assert_eq!(world.status(placed), end);
        world.gateway.decide(&key(), then);
        // A callback for a payment that was PAID by this very key says nothing new; one of another key has it looked at.
        let other = TestGateway::key(77);
        world.callback(placed, &if first == Success { other } else { key() }).await;
        world.minutes(2).await;
        assert_eq!(world.status(placed), end);
        assert_eq!(world.ledger(), [(row, Some(key()))]);
    }
}

/// F50: the right token with another order's transaction.
#[tokio::test(start_paused = true)]
async fn another_orders_transaction_settles_nothing() {
    let world = World::new().await;
    let slow = Made { decided_after: secs(100), ..made(Success) };
    let placed = accepted(&world, slow).await;
    let foreign = world.gateway.put(&elsewhere(), won(17_000), &at_once(made(Success)));
    world.callback(placed, &foreign).await;
    assert_eq!(world.status(placed), OPEN);
    assert!(world.ledger().is_empty());
    world.minutes(3).await;
    assert_eq!(world.record(placed).payment.key(), Some(&key()));
    assert_eq!(world.status(placed), PAID);
}

/// F49: the amount that counts is the one in the gateway's record.
#[tokio::test(start_paused = true)]
async fn a_wrong_amount_is_never_paid() {
    let world = World::new().await;
    let placed = accepted(&world, Made { amount: Some(16_999), ..made(Success) }).await;
    world.callback(placed, &key()).await;
    assert_eq!(world.status(placed), FAILED);
    assert_eq!(world.ledger(), [(DiscrepancyKind::AmountMismatch, Some(key()))]);
    assert!(world.nothing_taken());
    world.a_day().await;
    world.assert_quiet();
}

/// F51.
#[tokio::test(start_paused = true)]
async fn a_forged_callback_changes_nothing() {
    let world = World::new().await;
    let placed = accepted(&world, made(Success)).await;
    let before = world.gateway.queries();
    let token = world.token(placed);
    for forged in ["", "x", &token[1..], &token.to_uppercase(), &format!("{token}0")] {
        let refused = world.app.receive_callback(forged, &key()).await;
        assert_eq!(refused, Err(ReceiveCallbackError::Unknown), "{forged}");
    }
    assert_eq!(world.status(placed), OPEN);
    assert_eq!(world.gateway.queries(), before);
    assert_eq!(world.database.read(|tables| tables.inbox.len()), 0);
}

/// Another payment's token settles that payment by its own transactions, and this one not at all.
#[tokio::test(start_paused = true)]
async fn another_payments_token_is_no_way_to_this_one() {
    let world = World::new().await;
    let slow = || Made { decided_after: secs(100), ..made(Success) };
    let victim = accepted(&world, slow()).await;
    world.gateway.plan(Plan::new(Reply::Accepted, vec![slow()]));
    let attacker = world.placed(world.plain()).await;
    world.callback(attacker, &key()).await;
    assert_eq!((world.status(victim), world.status(attacker)), (OPEN, OPEN));
    world.a_day().await;
    world.assert_quiet();
}

/// F54.
#[tokio::test(start_paused = true)]
async fn a_callback_after_a_forced_failure_goes_to_the_ledger() {
    let world = World::new().await;
    let placed = accepted(&world, Made { decided_after: secs(15 * 60), ..made(Success) }).await;
    world.minutes(6).await;
    assert_eq!(world.status(placed), FAILED);
    assert_eq!(world.failure(placed).as_deref(), Some("결제 시간 초과"));
    tokio::time::sleep(secs(10 * 60)).await;
    world.callback(placed, &key()).await;
    world.minutes(1).await;
    assert_eq!(world.status(placed), FAILED);
    assert_eq!(world.ledger(), [(DiscrepancyKind::LateSuccess, Some(key()))]);
    assert!(world.nothing_taken());
    world.a_day().await;
    assert_eq!(world.ledger().len(), 1);
    world.assert_quiet();
}

/// F56: nothing is promised that was not written down.
#[tokio::test(start_paused = true)]
async fn a_callback_while_the_database_is_down_is_an_error_and_is_healed() {
    let world = World::new().await;
    let placed = accepted(&world, made(Success)).await;
    let token = world.token(placed);
    for call in ["store.begin", "tx.find_payments", "tx.lock_checks", "tx.store_hints", "tx.commit"] {
        let down = strike("note_callbacks", call, 1, Fault::Unavailable);
        let refused = world.program(down).receive_callback(&token, &key()).await;
        assert!(matches!(refused, Err(ReceiveCallbackError::Store(_))), "{call}: {refused:?}");
    }
    world.minutes(2).await;
    assert_eq!(world.status(placed), PAID);
    world.a_day().await;
    world.assert_quiet();
}

/// F57: written down, and looked into when the gateway can be asked again.
#[tokio::test(start_paused = true)]
async fn a_callback_while_the_gateway_is_down_is_kept() {
    let world = World::new().await;
    let placed = accepted(&world, made(Success)).await;
    world.gateway.set_down(true);
    world.callback(placed, &key()).await;
    assert_eq!(world.status(placed), OPEN);
    let open = |world: &World| {
        world.database.read(|tables| {
            tables.hints(placed.payment_id).filter(|(_, hint)| hint.looked_up_at.is_none()).count()
        })
    };
    assert_eq!(open(&world), 1);
    world.minutes(3).await;
    assert_eq!((world.status(placed), open(&world)), (OPEN, 1));
    world.gateway.set_down(false);
    world.minutes(6).await;
    assert_eq!((world.status(placed), open(&world)), (PAID, 0));
    world.a_day().await;
    world.assert_quiet();
}

/// The callback is about a transaction that the list does not show yet.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_only_the_callback_names_is_found() {
    let world = World::new().await;
    world.gateway.plan(Plan::new(Reply::Uncertain, vec![]));
    let placed = world.placed(world.command()).await;
    tokio::time::sleep(secs(10)).await;
    let named = world.gateway.put(&elsewhere(), won(17_000), &at_once(made(Success)));
    // By key it is this order's; the list does not have it, as its index is behind.
    let reference = world.order_ref(placed);
    world.gateway.alter(&named, |transaction| transaction.order_ref = reference);
    world.callback(placed, &named).await;
    assert_eq!(world.status(placed), PAID);
}

/// The token is 256 random bits, stored only as a keyed hash.
#[tokio::test(start_paused = true)]
async fn the_token_itself_is_not_stored() {
    let world = World::new().await;
    let placed = accepted(&world, made(Success)).await;
    let token = world.token(placed);
    assert_eq!(token.len(), 64);
    let hash = world.database.read(|tables| tables.payments[&placed.payment_id].callback_token_hash.unwrap());
    let hexadecimal: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_ne!(hexadecimal, token);
}
