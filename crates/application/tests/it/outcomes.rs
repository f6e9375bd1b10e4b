//! The table of outcomes of spec 01 section 2, row by row: what the buyer is told, and what becomes of payment, order,
//! stock, points, coupon and watch list.

use crate::gateway::{DECLINED, Plan, Reply, TestGateway, made};
use crate::world::{ON_CARD, Placed, World, name, order_of, secs, won};
use application::place_order::PlaceOrderOutcome;
use domain::settlement::TransactionStatus::{Failed, Success};
use domain::{Money, OrderStatus, PaymentMethod, PaymentStatus};
use std::time::Duration;
use test_support::Fault;

/// Runs one order through `plan`; gives what the buyer was told.
async fn order(world: &World, plan: Plan) -> (PlaceOrderOutcome, Placed) {
    world.gateway.plan(plan);
    let outcome = world.place(world.command()).await.unwrap();
    let placed = Placed::of(order_of(&outcome));
    // What the buyer is told is what is stored.
    let told = order_of(&outcome);
    assert_eq!((told.payment.payment.status(), told.order.status()), world.status(placed));
    assert_eq!(told.payment.payment, world.record(placed).payment);
    (outcome, placed)
}

#[tokio::test(start_paused = true)]
async fn accepted_is_in_progress_with_its_key() {
    let world = World::new().await;
    let (outcome, placed) = order(&world, Plan::new(Reply::Accepted, vec![made(Success)])).await;
    assert_eq!(name(&outcome), "in progress");
    assert_eq!(world.status(placed), (PaymentStatus::InProgress, OrderStatus::Placed));
    assert_eq!(world.record(placed).payment.key(), Some(&TestGateway::key(1)));
    assert!(world.taken());
    let charge = world.gateway.charges().remove(0);
    assert_eq!((charge.amount, charge.order_ref), (won(ON_CARD), world.order_ref(placed)));
    let amounts = *world.record(placed).payment.amounts();
    assert_eq!(amounts.method(), PaymentMethod::Mixed);
    world.a_day().await;
    assert_eq!(world.status(placed), (PaymentStatus::Paid, OrderStatus::Paid));
    assert!(world.taken() && world.ledger().is_empty());
    world.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn rejected_gives_everything_back_and_says_why() {
    let world = World::new().await;
    let (outcome, placed) = order(&world, Plan::new(Reply::Rejected, vec![])).await;
    let PlaceOrderOutcome::Refused { message, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(message.as_str(), "카드 번호가 잘못되었습니다.");
    assert_eq!(world.failure(placed).as_deref(), Some("카드 번호가 잘못되었습니다."));
    assert_eq!(world.status(placed), (PaymentStatus::Failed, OrderStatus::Cancelled));
    assert!(world.nothing_taken());
    assert_eq!(world.next_look(placed), None);
    world.assert_quiet();
}

/// F35, F39: surely not reached needs no watch list.
#[tokio::test(start_paused = true)]
async fn surely_not_reached_gives_everything_back() {
    for (reply, told) in [(Reply::NotReached, "unavailable"), (Reply::CircuitOpen, "circuit open")] {
        let world = World::new().await;
        let (outcome, placed) = order(&world, Plan::new(reply, vec![])).await;
        assert_eq!(name(&outcome), told);
        assert_eq!(world.status(placed), (PaymentStatus::Failed, OrderStatus::Cancelled));
        assert!(world.nothing_taken());
        assert_eq!(world.next_look(placed), None);
        world.assert_quiet();
    }
}

/// F28: after a 500 or 503 a transaction may exist all the same.
#[tokio::test(start_paused = true)]
async fn not_reached_after_a_500_is_watched() {
    let world = World::new().await;
    let (_, placed) = order(&world, Plan { watch: true, ..Plan::new(Reply::NotReached, vec![]) }).await;
    assert!(world.nothing_taken());
    assert_eq!(world.next_look(placed), Some(secs(60)));
    world.a_day().await;
    assert!(world.ledger().is_empty());
    world.assert_quiet();
}

/// F29, F30: the 500 did create one, and nobody saw it in time.
#[tokio::test(start_paused = true)]
async fn a_500_that_created_a_charge_ends_in_the_ledger() {
    let world = World::new().await;
    let late = crate::gateway::Made { appears_after: secs(10), ..made(Success) };
    let (_, placed) = order(&world, Plan { watch: true, ..Plan::new(Reply::NotReached, vec![late]) }).await;
    world.a_day().await;
    let expected = (domain::settlement::DiscrepancyKind::LateSuccess, Some(TestGateway::key(1)));
    assert_eq!(world.ledger(), [expected]);
    assert_eq!(world.status(placed), (PaymentStatus::Failed, OrderStatus::Cancelled));
    world.assert_quiet();
}

/// F36: the gateway had it.
#[tokio::test(start_paused = true)]
async fn uncertain_waits_and_is_paid() {
    let world = World::new().await;
    let (outcome, placed) = order(&world, Plan::new(Reply::Uncertain, vec![made(Success)])).await;
    assert_eq!(name(&outcome), "confirming");
    assert_eq!(world.status(placed), (PaymentStatus::InProgress, OrderStatus::Placed));
    assert_eq!(world.record(placed).payment.key(), None);
    assert!(world.taken());
    world.minutes(2).await;
    assert_eq!(world.status(placed), (PaymentStatus::Paid, OrderStatus::Paid));
    assert_eq!(world.record(placed).payment.key(), Some(&TestGateway::key(1)));
    world.a_day().await;
    world.assert_quiet();
}

/// F37: the gateway never got it.
#[tokio::test(start_paused = true)]
async fn uncertain_waits_and_is_given_back() {
    let world = World::new().await;
    let (_, placed) = order(&world, Plan::new(Reply::Uncertain, vec![])).await;
    world.minutes(1).await;
    assert_eq!(world.status(placed).0, PaymentStatus::InProgress);
    world.minutes(3).await;
    assert_eq!(world.status(placed), (PaymentStatus::Failed, OrderStatus::Cancelled));
    assert_eq!(world.failure(placed).as_deref(), Some("PG에 결제 내역이 없습니다."));
    assert!(world.nothing_taken());
    assert!(world.next_look(placed).is_some());
    world.a_day().await;
    assert_eq!(world.gateway.charges().len(), 1);
    world.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn declined_gives_everything_back_once() {
    let world = World::new().await;
    let (_, placed) = order(&world, Plan::new(Reply::Accepted, vec![made(Failed)])).await;
    world.minutes(5).await;
    assert_eq!(world.status(placed), (PaymentStatus::Failed, OrderStatus::Cancelled));
    assert_eq!(world.failure(placed).as_deref(), Some(DECLINED));
    assert!(world.nothing_taken());
    // F76: one last look at the end of the watch time.
    assert!(world.next_look(placed).unwrap() > secs(23 * 3600));
    world.a_day().await;
    world.assert_quiet();
}

/// F44: the answer itself says how it ended; the gateway's own record is asked at once.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_decided_already_settles_at_once() {
    for (end, told) in [(Success, "paid"), (Failed, "refused")] {
        let world = World::new().await;
        let at_once = crate::gateway::Made { decided_after: Duration::ZERO, ..made(end) };
        let (outcome, placed) = order(&world, Plan::new(Reply::AcceptedDecided, vec![at_once])).await;
        assert_eq!(name(&outcome), told);
        assert!(world.status(placed).0.is_terminal());
        world.a_day().await;
        world.assert_quiet();
    }
}

/// F23: nothing left for the card.
#[tokio::test(start_paused = true)]
async fn without_anything_on_the_card_the_gateway_is_not_asked() {
    let world = World::new().await;
    world.app.charge_points(crate::world::buyer(), won(100_000)).await.unwrap();
    let command = application::PlaceOrder { use_point: won(18_000), card: None, ..world.command() };
    let outcome = world.place(command).await.unwrap();
    assert_eq!(name(&outcome), "paid");
    let placed = Placed::of(order_of(&outcome));
    assert_eq!(world.status(placed), (PaymentStatus::Paid, OrderStatus::Paid));
    let record = world.record(placed);
    assert_eq!(record.payment.amounts().paid_amount(), Money::ZERO);
    assert_eq!((record.card, record.payment.key()), (None, None));
    assert!(world.gateway.charges().is_empty());
    assert_eq!(world.next_look(placed), None);
    world.a_day().await;
    assert_eq!(world.gateway.queries(), 0);
    world.assert_quiet();
}

/// F30: two transactions of one request: the order is paid once, and the other charge is in the ledger.
#[tokio::test(start_paused = true)]
async fn a_second_charge_of_one_order_goes_to_the_ledger() {
    for reply in [Reply::Accepted, Reply::Uncertain] {
        let world = World::new().await;
        let plan = Plan { watch: true, ..Plan::new(reply, vec![made(Success), made(Success)]) };
        let (_, placed) = order(&world, plan).await;
        world.a_day().await;
        assert_eq!(world.status(placed), (PaymentStatus::Paid, OrderStatus::Paid));
        assert_eq!(world.ledger().len(), 1, "{reply:?}");
        assert_eq!(world.ledger()[0].0, domain::settlement::DiscrepancyKind::DuplicateCharge);
        world.assert_quiet();
    }
}

/// The gateway has it, as somebody else has learned: a request that did not get through is no reason to give it back.
#[tokio::test(start_paused = true)]
async fn an_answer_never_fails_a_payment_whose_transaction_is_known() {
    for reply in [Reply::NotReached, Reply::CircuitOpen, Reply::Rejected] {
        let world = World::new().await;
        let slow = crate::gateway::Made { decided_after: secs(20), ..made(Success) };
        // The call stands still beyond its deadline; meanwhile a callback names the transaction.
        let plan = Plan { watch: true, answered_after: secs(7), ..Plan::new(reply, vec![slow]) };
        let learned = async {
            tokio::time::sleep(secs(3)).await;
            let placed = crate::world::only(&world);
            world.callback(placed, &TestGateway::key(1)).await;
            tokio::time::sleep(secs(3)).await;
            assert_eq!(world.record(placed).payment.key(), Some(&TestGateway::key(1)));
        };
        let ((outcome, placed), ()) = tokio::join!(order(&world, plan), learned);
        assert_eq!(name(&outcome), "in progress", "{reply:?}");
        assert_eq!(world.status(placed), (PaymentStatus::InProgress, OrderStatus::Placed));
        assert!(world.taken());
        world.a_day().await;
        assert_eq!(world.status(placed), (PaymentStatus::Paid, OrderStatus::Paid));
        world.assert_quiet();
    }
}

/// The commit of the answer's record may be stored or not: it is recorded again, and leaves one row in the history.
#[tokio::test(start_paused = true)]
async fn an_answer_whose_commit_was_lost_is_recorded_once() {
    for stored in [false, true] {
        for (reply, told) in [(Reply::Accepted, "in progress"), (Reply::Rejected, "refused")] {
            let world = World::new().await;
            let lost = crate::faults::strike("settle", "tx.commit", 1, Fault::CommitUnknown { stored });
            let transactions = if reply == Reply::Accepted { vec![made(Success)] } else { vec![] };
            world.gateway.plan(Plan::new(reply, transactions));
            let outcome = world.program(lost.clone()).place_order(world.command()).await.unwrap();
            // Ended by the first try: that is what the second one finds.
            assert_eq!((name(&outcome), lost.met() >= 1), (told, true), "{stored}");
            let placed = Placed::of(order_of(&outcome));
            assert_eq!(world.database.read(|tables| tables.history(placed.payment_id).count()), 3);
            assert_eq!(world.nothing_taken(), reply == Reply::Rejected);
            world.a_day().await;
            world.assert_quiet();
        }
    }
}
