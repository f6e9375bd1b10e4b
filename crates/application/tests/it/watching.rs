//! The watch list: who is on it, when it looks, and what it finds (F54, F65, F66, F76).

use crate::gateway::{Made, Plan, Reply, TestGateway, made};
use crate::world::{Placed, World, secs};
use domain::settlement::DiscrepancyKind;
use domain::settlement::TransactionStatus::{Failed, Pending, Success};
use domain::{OrderStatus, PaymentStatus};
use std::time::Duration;

const FAILED: (PaymentStatus, OrderStatus) = (PaymentStatus::Failed, OrderStatus::Cancelled);

fn key() -> domain::GatewayKey {
    TestGateway::key(1)
}

async fn placed(world: &World, reply: Reply, transactions: Vec<Made>) -> Placed {
    world.gateway.plan(Plan::new(reply, transactions));
    world.placed(world.command()).await
}

/// Forced after five minutes; its transaction is decided never.
async fn forced(world: &World, transactions: Vec<Made>) -> Placed {
    let placed = placed(world, Reply::Accepted, transactions).await;
    while world.status(placed) != FAILED {
        world.minutes(1).await;
    }
    placed
}

fn endless() -> Made {
    Made { decided_after: secs(1_000_000), ..made(Pending) }
}

/// 1, 5 and 30 min, 2 h and 24 h after the end.
#[tokio::test(start_paused = true)]
async fn it_looks_five_times_and_then_says_that_it_never_settled() {
    let world = World::new().await;
    let placed = forced(&world, vec![endless()]).await;
    let ended = world.record(placed).updated_at;
    let mut looks = Vec::new();
    while let Some(wait) = world.next_look(placed) {
        tokio::time::sleep(wait).await;
        let before = world.gateway.queries();
        assert_eq!(world.turn().await.ended, 1);
        assert!(world.gateway.queries() > before);
        looks.push(Duration::try_from(world.database.now() - ended).unwrap().as_secs());
        assert!(looks.len() <= 5, "{looks:?}");
    }
    assert_eq!(looks, [60, 300, 1800, 7200, 86_400]);
    assert_eq!(world.ledger(), [(DiscrepancyKind::NeverSettled, Some(key()))]);
    world.minutes(200).await;
    assert_eq!(world.ledger().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_look_finds_a_late_success_and_writes_it_once() {
    for minutes in [0, 3, 20, 100, 1000] {
        let world = World::new().await;
        let placed = forced(&world, vec![endless()]).await;
        tokio::time::sleep(secs(60 * minutes)).await;
        world.turn().await;
        world.gateway.decide(&key(), Success);
        world.a_day().await;
        assert_eq!(world.ledger(), [(DiscrepancyKind::LateSuccess, Some(key()))], "after {minutes} min");
        assert_eq!(world.status(placed), FAILED);
        assert!(world.nothing_taken());
        world.assert_quiet();
    }
}

/// F76: the gateway called it FAILED and changes its mind, without a callback.
#[tokio::test(start_paused = true)]
async fn a_declined_one_that_turns_into_a_charge_is_found_by_the_last_look() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Accepted, vec![made(Failed)]).await;
    world.minutes(2).await;
    assert_eq!(world.status(placed), FAILED);
    world.gateway.decide(&key(), Success);
    world.a_day().await;
    assert_eq!(world.ledger(), [(DiscrepancyKind::LateSuccess, Some(key()))]);
    world.assert_quiet();
}

/// A look that the gateway can't answer is made up for, and no step is skipped by it.
#[tokio::test(start_paused = true)]
async fn a_look_that_could_not_be_made_is_made_later() {
    let world = World::new().await;
    let placed = forced(&world, vec![endless()]).await;
    world.gateway.set_down(true);
    world.minutes(30).await;
    let step = |world: &World| world.database.read(|tables| tables.checks[&placed.payment_id].watch_step);
    assert_eq!(step(&world), 0);
    world.gateway.set_down(false);
    while step(&world) == 0 {
        world.minutes(1).await;
    }
    assert_eq!(step(&world), 1);
    world.gateway.decide(&key(), Success);
    world.a_day().await;
    assert_eq!(world.ledger(), [(DiscrepancyKind::LateSuccess, Some(key()))]);
    world.assert_quiet();
}

/// A callback in between is looked into and leaves the scheduled looks where they are; also when the gateway was away.
#[tokio::test(start_paused = true)]
async fn an_extra_look_does_not_use_up_a_scheduled_one() {
    for down in [false, true] {
        let world = World::new().await;
        let placed = placed(&world, Reply::Accepted, vec![made(Failed)]).await;
        world.minutes(2).await;
        assert_eq!(world.status(placed), FAILED);
        let last = world.database.read(|tables| tables.checks[&placed.payment_id].due_at);
        world.gateway.set_down(down);
        world.callback(placed, &key()).await;
        world.minutes(5).await;
        world.gateway.set_down(false);
        world.minutes(5).await;
        assert_eq!(world.database.read(|tables| tables.checks[&placed.payment_id].due_at), last);
        let looked =
            world.database.read(|tables| tables.hints(placed.payment_id).next().unwrap().1.looked_up_at);
        assert!(looked.is_some());
        world.gateway.decide(&key(), Success);
        world.a_day().await;
        assert_eq!(world.ledger(), [(DiscrepancyKind::LateSuccess, Some(key()))], "down: {down}");
        world.assert_quiet();
    }
}

/// A callback names one that is still undecided after the payment failed: it is watched until it is decided, though the
/// failure itself asked for one last look only.
#[tokio::test(start_paused = true)]
async fn an_undecided_one_found_after_the_end_is_watched() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Accepted, vec![made(Failed)]).await;
    world.minutes(2).await;
    assert_eq!(world.status(placed), FAILED);
    assert!(world.next_look(placed).unwrap() > secs(3600));
    let amount = world.record(placed).payment.amounts().paid_amount();
    let second = world.gateway.put(
        &world.order_ref(placed),
        amount,
        &Made { decided_after: secs(200), ..made(Success) },
    );
    world.callback(placed, &second).await;
    world.turn().await;
    assert!(world.next_look(placed).unwrap() <= secs(60));
    world.minutes(10).await;
    assert_eq!(world.ledger(), [(DiscrepancyKind::LateSuccess, Some(second))]);
    world.a_day().await;
    world.assert_quiet();
}

/// Who examines it dies in the middle: a callback for an ended payment is looked into all the same.
#[tokio::test(start_paused = true)]
async fn an_extra_look_that_broke_off_is_made_again() {
    let world = World::new().await;
    let placed = placed(&world, Reply::Rejected, vec![]).await;
    assert_eq!((world.status(placed), world.next_look(placed)), (FAILED, None));
    let amount = world.record(placed).payment.amounts().paid_amount();
    let charged = world.gateway.put(&world.order_ref(placed), amount, &made(Success));
    world.callback(placed, &charged).await;
    tokio::time::sleep(secs(5)).await;
    let crash = crate::faults::Injector::new(Some((8, crate::faults::Harm::CrashBefore)));
    let program = world.program(crash.clone());
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::select! {
        biased;
        turn = program.reconcile(&stop) => panic!("not crashed: {turn:?}"),
        () = crash.reached.notified() => {}
    }
    drop(program);
    let claimed = world.database.read(|tables| tables.checks[&placed.payment_id].lease.is_some());
    assert!(claimed && world.ledger().is_empty());
    world.minutes(4).await;
    assert_eq!(world.ledger(), [(DiscrepancyKind::LateSuccess, Some(charged))]);
    world.assert_quiet();
}
