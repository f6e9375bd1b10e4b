//! Callbacks: early, late, lost, repeated, forged, out of order, and while something else is down (F45 to F57).

use crate::faults::strike;
use crate::gateway::{Made, Plan, Reply, TestGateway, made};
use crate::world::{Placed, World, secs, won};
use application::receive_callback::ReceiveCallbackError;
use domain::settlement::DiscrepancyKind;
use domain::settlement::TransactionStatus::{Failed, Success};
use domain::{GatewayOrderRef, OrderId, OrderStatus, PaymentStatus};
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

/// F45: the callback is faster than the answer to our own request.
#[tokio::test(start_paused = true)]
async fn a_callback_before_the_answer_pays_and_the_answer_changes_nothing() {
    let world = World::new().await;
    world.gateway.plan(Plan::new(Reply::Accepted, vec![at_once(made(Success))]));
    let early = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let placed = only_payment(&world);
        assert_eq!(world.status(placed), OPEN);
        world.callback(placed, &key()).await;
        assert_eq!(world.status(placed), PAID);
    };
    let (outcome, ()) = tokio::join!(world.place(world.command()), early);
    assert_eq!(crate::world::name(&outcome.unwrap()), "paid");
    world.a_day().await;
    assert!(world.ledger().is_empty());
    world.assert_quiet();
}

/// A declined first attempt must not fail the order while a second one may still leave: it fails when the deadline has
/// passed, or as soon as the answer is stored.
#[tokio::test(start_paused = true)]
async fn a_declining_callback_before_the_answer_waits_for_it() {
    let world = World::new().await;
    world.gateway.plan(Plan::new(Reply::Uncertain, vec![at_once(made(Failed))]));
    let early = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let placed = only_payment(&world);
        let receipt = world.app.receive_callback(&world.token(placed), &key()).await.unwrap();
        let asked = world.app.examine_callback(receipt.payment_id);
        let watched = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(world.status(placed), OPEN);
            tokio::time::sleep(secs(4)).await;
            assert_eq!(world.status(placed), OPEN);
        };
        tokio::join!(asked, watched);
        placed
    };
    let (outcome, placed) = tokio::join!(world.place(world.command()), early);
    assert_eq!(crate::world::name(&outcome.unwrap()), "confirming");
    // By the callback's own task, without the reconciler.
    assert_eq!(world.status(placed), FAILED);
    assert!(world.nothing_taken());
    world.a_day().await;
    world.assert_quiet();
}

/// F45, then the answer names another transaction: the charge that the order was not paid by is found.
#[tokio::test(start_paused = true)]
async fn an_answer_that_names_another_transaction_is_examined() {
    let world = World::new().await;
    let slow = Made { decided_after: secs(20), ..made(Success) };
    let plan = Plan { watch: true, ..Plan::new(Reply::Accepted, vec![at_once(made(Success)), slow]) };
    world.gateway.plan(plan);
    let early = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let placed = only_payment(&world);
        world.callback(placed, &key()).await;
        placed
    };
    let (_, placed) = tokio::join!(world.place(world.command()), early);
    assert_eq!(world.status(placed), PAID);
    assert_eq!(world.record(placed).payment.value.key(), Some(&key()));
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
    let plan = Plan { watch: true, ..Plan::new(Reply::Accepted, vec![late, at_once(made(Success))]) };
    world.gateway.plan(plan);
    let named = TestGateway::key(2);
    let early = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let placed = only_payment(&world);
        world.callback(placed, &named).await;
        placed
    };
    let (_, placed) = tokio::join!(world.place(world.command()), early);
    assert_eq!(world.status(placed), PAID);
    assert_eq!(world.next_look(placed).map(|wait| wait <= secs(60)), Some(true));
    world.a_day().await;
    assert_eq!(world.ledger(), [(DiscrepancyKind::DuplicateCharge, Some(key()))]);
    world.assert_quiet();
}

fn only_payment(world: &World) -> Placed {
    world.database.read(|tables| {
        let (id, row) = tables.payments.iter().next().unwrap();
        Placed { order_id: row.record.payment.value.order_id(), payment_id: *id }
    })
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
    let foreign = world.gateway.put(OrderId::new(999_999).unwrap(), won(17_000), &at_once(made(Success)));
    world.callback(placed, &foreign).await;
    assert_eq!(world.status(placed), OPEN);
    assert!(world.ledger().is_empty());
    world.minutes(3).await;
    assert_eq!(world.record(placed).payment.value.key(), Some(&key()));
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

/// F51, F53: without a token the gateway is asked, at most once in the interval.
#[tokio::test(start_paused = true)]
async fn a_flood_without_tokens_asks_as_the_throttle_allows() {
    let world = World::new().await;
    let slow = Made { decided_after: secs(100), ..made(Success) };
    let placed = accepted(&world, slow).await;
    let before = world.gateway.queries();
    let interval = world.policy.query_interval;
    for _ in 0..10 {
        let flood = (0..500).map(|_| async {
            let receipt = world.app.receive_untokened_callback(placed.order_id).await.unwrap();
            world.app.examine_callback(receipt.payment_id).await;
        });
        futures_util::future::join_all(flood).await;
        tokio::time::sleep(interval / 2).await;
    }
    // Ten floods over half an interval each, and each waits one out: twenty intervals at most, two questions each.
    let asked = world.gateway.queries() - before;
    assert!((2..=40).contains(&asked), "{asked}");
    let unknown = world.app.receive_untokened_callback(OrderId::new(5).unwrap()).await;
    assert_eq!(unknown, Err(ReceiveCallbackError::Unknown));
    // F53: an ended payment is not asked about at all.
    tokio::time::sleep(secs(200)).await;
    world.sync(placed.payment_id).await;
    assert_eq!(world.status(placed), PAID);
    let before = world.gateway.queries();
    for _ in 0..10 {
        world.app.examine_callback(placed.payment_id).await;
        tokio::time::sleep(secs(10)).await;
    }
    assert_eq!(world.gateway.queries(), before);
}

/// F49, F50, F51, F53, all ways to forge in one place, each a hundred times at once: without a token, with a wrong one, with
/// another payment's, with the right one for a transaction over a wrong amount. Nothing is settled but by the gateway's own
/// record of the payment's own transaction, and each payment is asked about once per interval at most.
#[tokio::test(start_paused = true)]
async fn forgeries_by_the_hundred_change_nothing_and_ask_as_the_throttle_allows() {
    let world = World::new().await;
    let slow = || Made { decided_after: secs(100), ..made(Success) };
    let victim = accepted(&world, slow()).await;
    world.gateway.plan(Plan::new(Reply::Accepted, vec![slow()]));
    let attacker = world.placed(world.plain()).await;
    tokio::time::sleep(secs(10)).await;
    // The attacker knows the victim's key, and has a charge of one won of his own. What a body says of amounts is not even
    // read: only a key is taken from it.
    let elsewhere = OrderId::new(999_999).unwrap();
    let (victims, one_won) = (key(), world.gateway.put(elsewhere, won(1), &at_once(made(Success))));
    let (own, others) = (world.token(victim), world.token(attacker));
    let wrong = "0".repeat(64);
    let (interval, goods) = (world.policy.query_interval, world.goods());
    for (what, token, named, known) in [
        ("a wrong token", Some(&wrong), &victims, false),
        ("another payment's token", Some(&others), &victims, true),
        ("no token", None, &victims, true),
        ("the right token, a wrong amount", Some(&own), &one_won, true),
    ] {
        let (before, began) = (world.gateway.queries(), tokio::time::Instant::now());
        let hundred = (0..100).map(|_| async {
            let received = match token {
                Some(token) => world.app.receive_callback(token, named).await,
                None => world.app.receive_untokened_callback(victim.order_id).await,
            };
            match received {
                Ok(receipt) => world.app.examine_callback(receipt.payment_id).await,
                Err(ref refused) => assert_eq!(*refused, ReceiveCallbackError::Unknown, "{what}"),
            }
            received.is_ok()
        });
        let taken = futures_util::future::join_all(hundred).await;
        assert!(taken.iter().all(|taken| *taken == known), "{what}");
        let asked = world.gateway.queries() - before;
        // One examination of the one payment that the token stands for: by key, by order, and the key that was named.
        let examinations = 1 + usize::try_from(began.elapsed().as_millis() / interval.as_millis()).unwrap();
        println!(
            "{what}: 100 callbacks, {asked} questions to the gateway in {examinations} examinations at most"
        );
        assert!(asked <= 3 * examinations, "{what}: {asked}");
        assert_eq!(asked > 0, known, "{what}");
        assert_eq!((world.status(victim), world.status(attacker)), (OPEN, OPEN), "{what}");
        tokio::time::sleep(interval).await;
    }
    assert_eq!(world.goods(), goods, "nothing was given back");
    world.minutes(3).await;
    assert_eq!((world.status(victim), world.status(attacker)), (PAID, PAID));
    assert_eq!(world.record(victim).payment.value.key(), Some(&victims));
    world.a_day().await;
    assert!(world.ledger().is_empty());
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
    for call in
        ["store.begin", "tx.find_payment_by_token_hash", "tx.lock_payment", "tx.record_callback", "tx.commit"]
    {
        let down = strike("receive_callback", call, 1, Fault::Unavailable);
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
    let named = world.gateway.put(OrderId::new(999_999).unwrap(), won(17_000), &at_once(made(Success)));
    // By key it is this order's; the list does not have it, as its index is behind.
    world.gateway.alter(&named, |transaction| {
        transaction.order_ref = GatewayOrderRef::from(placed.order_id);
    });
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
