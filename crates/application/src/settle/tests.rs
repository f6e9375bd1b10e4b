//! One batch of lessons, in one transaction: each is settled upon what the ones before it leave.

mod alike;

use super::*;
use crate::shop::{PRICE, Shop, Strike, key, lesson, transaction, user, won};
use domain::FailureMessage;
use domain::PaymentStatus::{Failed, InProgress, Paid};
use domain::ports::{FailureCause, GatewayAnswer};
use domain::settlement::{DiscrepancyKind, KeyAnswer, Transaction, TransactionStatus, Waiting};
use domain::{OrderStatus, PaymentStatus};
use std::sync::Mutex;
use std::time::Duration;
use test_support::{Fault, Faults, NoFaults, Site};

const PAID: (PaymentStatus, OrderStatus) = (Paid, OrderStatus::Paid);
const FAILED: (PaymentStatus, OrderStatus) = (Failed, OrderStatus::Cancelled);
const OPEN: (PaymentStatus, OrderStatus) = (InProgress, OrderStatus::Placed);

fn accepted(named: &str) -> Fact {
    let status = TransactionStatus::Pending;
    let answer = GatewayAnswer::Accepted { key: key(named), status };
    Fact::Answer(ChargeOutcome { answer, watch: false })
}

fn rejected() -> Fact {
    let answer = GatewayAnswer::Rejected { message: FailureMessage::new("no").unwrap() };
    Fact::Answer(ChargeOutcome { answer, watch: false })
}

/// What the list shows.
fn listed(claim: Claim, transactions: Vec<Transaction>) -> Fact {
    let hints_asked = claim.hints.clone();
    let findings = Findings { by_order: Some(transactions), hints_asked, ..Findings::default() };
    Fact::Findings { claim, findings, not_found_suspended: false }
}

fn settled(outcomes: &[SettledInBatch]) -> Vec<Settled> {
    outcomes.iter().map(|outcome| outcome.as_ref().unwrap().settled.clone()).collect()
}

const DECLINED: TransactionStatus = TransactionStatus::Failed;
const APPROVED: TransactionStatus = TransactionStatus::Success;

/// Our own answer and what a callback made somebody find, of the same payment: in both orders the same end.
#[tokio::test(start_paused = true)]
async fn one_payment_twice_in_a_batch_ends_once() {
    for answer_first in [true, false] {
        let shop = Shop::new(10).await;
        let order = shop.sent([shop.order(user(1), 2)]).await.remove(0);
        let id = order.payment.payment.id();
        let claim = shop.claim(&order, 7).await;
        let found = listed(claim, vec![transaction(&order, "k1", APPROVED)]);
        let mut batch =
            vec![lesson(&order, accepted("k1"), Cause::Api), lesson(&order, found, Cause::Callback)];
        if !answer_first {
            batch.reverse();
        }
        let outcomes = shop.settle(batch).await.unwrap();
        let first = if answer_first { Settled::InProgress } else { Settled::Paid };
        let second = if answer_first { Settled::Paid } else { Settled::AlreadyEnded };
        assert_eq!(settled(&outcomes), [first, second]);
        // Each is told of the payment as it stood after its own lesson.
        let told = |at: usize| outcomes[at].as_ref().unwrap().order.payment.payment.status();
        assert_eq!((told(0), told(1)), (if answer_first { InProgress } else { Paid }, Paid));
        assert_eq!((shop.status(id), shop.commits("settle")), (PAID, vec![1]));
        let history: Vec<_> = shop.database.read(|tables| {
            let rows = tables.history(id);
            rows.map(|row| (row.to, row.key.is_some(), row.cause)).collect()
        });
        let by = if answer_first { Cause::Api } else { Cause::Callback };
        assert_eq!(history[2..], [(InProgress, true, by), (Paid, true, Cause::Callback)]);
    }
}

/// TX2 once, whoever gets there first, and how often it is learned.
#[tokio::test(start_paused = true)]
async fn what_an_order_took_comes_back_once() {
    for found_first in [true, false] {
        let shop = Shop::new(10).await;
        shop.give_points(user(1), 500).await;
        let coupon = shop.give_coupon(user(1), None).await;
        let takes = crate::PlaceOrder {
            use_point: won(500),
            issued_coupon_id: Some(coupon),
            ..shop.order(user(1), 3)
        };
        let order = shop.sent([takes]).await.remove(0);
        assert_eq!((shop.stock(shop.product), shop.points(user(1))), (7, 0));
        let claim = shop.claim(&order, 7).await;
        let found = listed(claim, vec![transaction(&order, "k1", DECLINED)]);
        let not_sent = Fact::NotSent(NotSent::DeadlinePassed);
        let mut batch = vec![
            lesson(&order, found, Cause::Reconciler),
            lesson(&order, rejected(), Cause::Api),
            lesson(&order, not_sent, Cause::Api),
        ];
        if !found_first {
            batch.reverse();
        }
        let outcomes = shop.settle(batch).await.unwrap();
        let failed = Settled::Failed { forced: false };
        assert_eq!(settled(&outcomes), [failed, Settled::AlreadyEnded, Settled::AlreadyEnded]);
        assert_eq!(shop.status(order.payment.payment.id()), FAILED);
        assert_eq!((shop.stock(shop.product), shop.points(user(1))), (10, 500));
        let coupon_moves = shop.database.read(|tables| tables.coupon_ledger.len());
        assert_eq!(coupon_moves, 2);
    }
}

/// Several orders of one buyer fail at once, beside one that is paid: stock and balance carried from one to the next.
#[tokio::test(start_paused = true)]
async fn orders_that_fail_together_give_back_all_they_took() {
    let shop = Shop::new(10).await;
    shop.give_points(user(1), 600).await;
    let takes = |points| crate::PlaceOrder { use_point: won(points), ..shop.order(user(1), 2) };
    let orders = shop.sent([takes(100), takes(200), takes(0), takes(300)]).await;
    assert_eq!((shop.stock(shop.product), shop.points(user(1))), (2, 0));
    let paying = shop.claim(&orders[1], 7).await;
    let paid = listed(paying, vec![transaction(&orders[1], "k1", APPROVED)]);
    let batch = [
        lesson(&orders[3], rejected(), Cause::Api),
        lesson(&orders[0], Fact::NotSent(NotSent::DatabaseUnavailable), Cause::Api),
        lesson(&orders[1], paid, Cause::Reconciler),
        lesson(&orders[2], rejected(), Cause::Api),
    ];
    let failed = Settled::Failed { forced: false };
    let outcomes = shop.settle(batch).await.unwrap();
    assert_eq!(settled(&outcomes), [failed.clone(), failed.clone(), Settled::Paid, failed]);
    assert_eq!((shop.stock(shop.product), shop.points(user(1))), (8, 400));
    assert_eq!(shop.commits("settle"), [4]);
}

/// Counts how often a transaction is opened.
#[derive(Default)]
struct Openings(Mutex<usize>);

#[async_trait]
impl Faults for Openings {
    async fn before(&self, site: Site) -> Fault {
        let opening = site == (Site { within: "settle", call: "store.begin" });
        *self.0.lock().unwrap() += usize::from(opening);
        Fault::None
    }
}

/// A charge over another amount looks as if it might pay, so that goods are not locked at first: the batch is loaded again
/// with them, and everybody gets what is right.
#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_expected_is_loaded_with_its_goods() {
    let shop = Shop::new(10).await;
    shop.give_points(user(1), 600).await;
    let takes = || crate::PlaceOrder { use_point: won(300), ..shop.order(user(1), 2) };
    let orders = shop.sent([takes(), shop.order(user(2), 1), takes()]).await;
    let mut batch = Vec::new();
    for (at, amount) in [1, PRICE, 2].into_iter().enumerate() {
        let claim = shop.claim(&orders[at], 7).await;
        let charged =
            Transaction { amount: won(amount), ..transaction(&orders[at], ["a", "b", "c"][at], APPROVED) };
        batch.push(lesson(&orders[at], listed(claim, vec![charged]), Cause::Reconciler));
    }
    assert!(batch.iter().all(|lesson| !lesson.learned().may_fail()));
    let openings = Arc::new(Openings::default());
    let settling = shop.settling(Arc::clone(&openings) as _, EndedOrders::default());
    let outcomes = settling.run(&batch).await.unwrap();
    let failed = Settled::Failed { forced: false };
    assert_eq!(settled(&outcomes), [failed.clone(), Settled::Paid, failed]);
    // Once more for each payment that was not expected to fail, and not once more than that.
    assert_eq!((*openings.0.lock().unwrap(), shop.commits("settle")), (3, vec![3]));
    assert_eq!((shop.stock(shop.product), shop.points(user(1))), (9, 600));
    let ledger: Vec<_> = shop.database.read(|tables| {
        tables.discrepancies.values().map(|row| (row.payment_id, row.discrepancy.kind)).collect()
    });
    let mismatch = DiscrepancyKind::AmountMismatch;
    let ids = [orders[0].payment.payment.id(), orders[2].payment.payment.id()];
    assert_eq!(ledger, ids.map(|id| (id, mismatch)));
    // All of it in the history once.
    let rows = shop.database.read(|tables| tables.payment_events.len());
    assert_eq!(rows, 2 * 3 + 1 + 2 + 1);
}

/// It may be stored or not: nobody is told that it is, everybody may try again, and trying again gives the same.
#[tokio::test(start_paused = true)]
async fn a_lost_commit_is_tried_again_by_everybody() {
    for stored in [false, true] {
        let shop = Shop::new(10).await;
        let orders = shop.sent((1..=3).map(|buyer| shop.order(user(buyer), 1))).await;
        let lessons = || {
            vec![
                lesson(&orders[0], accepted("a"), Cause::Api),
                lesson(&orders[1], rejected(), Cause::Api),
                lesson(&orders[2], accepted("c"), Cause::Api),
            ]
        };
        let told: Arc<Mutex<Vec<OrderId>>> = Arc::default();
        let lost = Strike::new("settle", "tx.commit", 1, Fault::CommitUnknown { stored });
        let settling = shop.settling(lost, telling(&told));
        let outcomes = settling.run(&lessons()).await.unwrap();
        assert_eq!(outcomes.len(), 3);
        for outcome in &outcomes {
            let error = outcome.as_ref().unwrap_err();
            let expected = StoreError::Unavailable { what: "COMMIT's answer".into() };
            assert_eq!(*error, SettleError::Batch(BatchError::Store(expected)));
            assert!(error.is_passing());
        }
        assert!(told.lock().unwrap().is_empty());
        let again = settled(&settling.run(&lessons()).await.unwrap());
        let ended = if stored { Settled::AlreadyEnded } else { Settled::Failed { forced: false } };
        assert_eq!(again, [Settled::InProgress, ended, Settled::InProgress]);
        let states: Vec<_> = orders.iter().map(|order| shop.status(order.payment.payment.id())).collect();
        assert_eq!((states, shop.stock(shop.product)), (vec![OPEN, FAILED, OPEN], 8));
        assert_eq!(shop.database.read(|tables| tables.payment_events.len()), 9);
    }
}

fn telling(told: &Arc<Mutex<Vec<OrderId>>>) -> EndedOrders {
    let (ended, told) = (EndedOrders::default(), Arc::clone(told));
    let _new = ended.set(Box::new(move |id| told.lock().unwrap().push(id)));
    ended
}

/// Those that ended, each once, after it is stored; not those that go on, nor what is not stored.
#[tokio::test(start_paused = true)]
async fn an_end_is_told_after_it_is_stored() {
    let shop = Shop::new(10).await;
    let orders = shop.sent((1..=4).map(|buyer| shop.order(user(buyer), 1))).await;
    let claim = shop.claim(&orders[2], 7).await;
    let paid = listed(claim, vec![transaction(&orders[2], "c", APPROVED)]);
    let batch = [
        lesson(&orders[0], rejected(), Cause::Api),
        lesson(&orders[1], accepted("b"), Cause::Api),
        lesson(&orders[2], paid, Cause::Callback),
        lesson(&orders[2], accepted("c"), Cause::Api),
        lesson(&orders[0], rejected(), Cause::Api),
    ];
    for call in ["tx.store_checks", "tx.commit"] {
        let told = Arc::default();
        let failing = Strike::new("settle", call, 1, Fault::Unavailable);
        assert!(shop.settling(failing, telling(&told)).run(&batch).await.is_err());
        assert!(told.lock().unwrap().is_empty(), "{call}");
    }
    let told: Arc<Mutex<Vec<(OrderId, OrderStatus)>>> = Arc::default();
    let (ended, database) = (EndedOrders::default(), shop.database.clone());
    let telling = Arc::clone(&told);
    let _new = ended.set(Box::new(move |id| {
        let stored = database.read(|tables| tables.orders[&id].order.status());
        telling.lock().unwrap().push((id, stored));
    }));
    shop.settling(Arc::new(NoFaults), ended).run(&batch).await.unwrap();
    let expected =
        [(orders[0].order.id(), OrderStatus::Cancelled), (orders[2].order.id(), OrderStatus::Paid)];
    assert_eq!(*told.lock().unwrap(), expected);
}

/// It may be lost: who waits elsewhere looks.
#[tokio::test(start_paused = true)]
async fn an_end_that_can_not_be_announced_is_stored_all_the_same() {
    let shop = Shop::new(10).await;
    let order = shop.sent([shop.order(user(1), 1)]).await.remove(0);
    let silent = Strike::new("", "store.announce_ended", 1, Fault::Unavailable);
    let settling = shop.settling(silent.clone(), EndedOrders::default());
    let outcomes = settling.run(&[lesson(&order, rejected(), Cause::Api)]).await.unwrap();
    assert_eq!(settled(&outcomes), [Settled::Failed { forced: false }]);
    assert!(silent.is_over());
}

/// What an examiner learned whose lease ended is old, in the same batch as what the next one learned, too.
#[tokio::test(start_paused = true)]
async fn an_examiner_that_lost_its_lease_changes_nothing() {
    for zombie_first in [true, false] {
        let shop = Shop::new(10).await;
        let order = shop.sent([shop.order(user(1), 1)]).await.remove(0);
        let zombie = shop.claim(&order, 1).await;
        tokio::time::sleep(shop.policy.lease + Duration::from_secs(1)).await;
        let claim = shop.claim(&order, 2).await;
        let old = listed(zombie.clone(), vec![transaction(&order, "k1", DECLINED)]);
        let not_examined = Fact::NotExamined { claim: zombie, blame: Blame::Payment("x") };
        let pending = listed(claim, vec![transaction(&order, "k1", TransactionStatus::Pending)]);
        let mut batch = vec![
            lesson(&order, old, Cause::Reconciler),
            lesson(&order, not_examined, Cause::Reconciler),
            lesson(&order, pending, Cause::Callback),
        ];
        let waits = Settled::Waiting(Waiting::TransactionPending);
        let mut expected = vec![Settled::LeaseLost, Settled::LeaseLost, waits];
        if !zombie_first {
            batch.reverse();
            expected.reverse();
        }
        assert_eq!(settled(&shop.settle(batch).await.unwrap()), expected);
        let id = order.payment.payment.id();
        let check = shop.database.read(|tables| tables.checks[&id]);
        assert_eq!((shop.status(id), check.lease, check.failures), (OPEN, None, 0));
        // Its claim is ended by its own lesson: said again, it has lost it, too.
        let again = shop.claim(&order, 3).await;
        let twice = || {
            lesson(
                &order,
                Fact::NotExamined { claim: again.clone(), blame: Blame::Elsewhere },
                Cause::Callback,
            )
        };
        let outcomes = shop.settle([twice(), twice()]).await.unwrap();
        assert_eq!(settled(&outcomes), [Settled::BackedOff, Settled::LeaseLost]);
    }
}

/// A callback that comes while the last failure is being written down: it is not parked, and whoever settles is told that it
/// waits.
#[tokio::test(start_paused = true)]
async fn a_payment_that_was_woken_meanwhile_is_not_parked() {
    for woken in [true, false] {
        let shop = Shop::new(10).await;
        let order = shop.sent([shop.order(user(1), 1)]).await.remove(0);
        let id = order.payment.payment.id();
        let most = shop.policy.rules.park_after_failures;
        for round in 1..=most {
            let claim = shop.claim(&order, i64::from(round)).await;
            if woken && round == most {
                shop.callback(&order, &key("k1")).await;
            }
            let failure = Fact::NotExamined { claim, blame: Blame::Payment("odd") };
            let outcome = shop.settle([lesson(&order, failure, Cause::Reconciler)]).await.unwrap().remove(0);
            let outcome = outcome.unwrap();
            let parked = !woken && round == most;
            assert_eq!(outcome.settled, if parked { Settled::Parked } else { Settled::BackedOff }, "{round}");
            assert_eq!(outcome.woken, woken && round == most);
        }
        let (check, rows) = shop.database.read(|tables| (tables.checks[&id], tables.discrepancies.len()));
        assert_eq!(
            (check.parked_at.is_some(), check.woken_at.is_some(), rows),
            (!woken, woken, usize::from(!woken))
        );
        // A claim that comes at once unparks it; the failures count from then on.
        let again = shop.claim(&order, 99).await;
        let seen = listed(again, vec![transaction(&order, "k1", APPROVED)]);
        let outcomes = shop.settle([lesson(&order, seen, Cause::Operator)]).await.unwrap();
        assert_eq!((settled(&outcomes), shop.status(id)), (vec![Settled::Paid], PAID));
    }
}

/// One that is not there, or has nothing on the card, is told so, and the others are settled.
#[tokio::test(start_paused = true)]
async fn one_that_is_not_there_stops_nobody() {
    let shop = Shop::new(10).await;
    shop.give_points(user(2), PRICE).await;
    let orders = shop.sent([shop.order(user(1), 1)]).await;
    let by_points = crate::PlaceOrder { use_point: won(PRICE), card: None, ..shop.order(user(2), 1) };
    let paid = shop.place([by_points]).await.unwrap().remove(0);
    let crate::place_order::PlacedInBatch::Placed(paid) = paid else { panic!() };
    let nobody = PaymentId::new(999).unwrap();
    let mut unknown = lesson(&orders[0], rejected(), Cause::Api);
    unknown.payment_id = nobody;
    let batch =
        [unknown, lesson(&paid, rejected(), Cause::Api), lesson(&orders[0], accepted("a"), Cause::Api)];
    let outcomes = shop.settle(batch).await.unwrap();
    let on_card = paid.payment.payment.id();
    assert_eq!(outcomes[0].as_ref().unwrap_err(), &SettleError::NotFound(nobody));
    assert_eq!(outcomes[1].as_ref().unwrap_err(), &SettleError::NotFound(on_card));
    assert_eq!(settled(&outcomes[2..]), [Settled::InProgress]);
    assert_eq!((shop.status(on_card), shop.status(orders[0].payment.payment.id())), (PAID, OPEN));
}

/// F43: the gateway gives one key to two payments of one batch. The first one has it; the other's is a row.
#[tokio::test(start_paused = true)]
async fn one_key_for_two_payments_of_a_batch_is_the_firsts() {
    let shop = Shop::new(10).await;
    let orders = shop.sent([shop.order(user(1), 1), shop.order(user(2), 1)]).await;
    // In order of arrival, not of the payments' ids.
    let batch =
        [lesson(&orders[1], accepted("k1"), Cause::Api), lesson(&orders[0], accepted("k1"), Cause::Api)];
    let outcomes = shop.settle(batch).await.unwrap();
    assert_eq!(settled(&outcomes), [Settled::InProgress, Settled::InProgress]);
    let ids = [&orders[0], &orders[1]].map(|order| order.payment.payment.id());
    let keys = ids.map(|id| shop.database.read(|tables| tables.payments[&id].record.payment.key().cloned()));
    assert_eq!(keys, [None, Some(key("k1"))]);
    let ledger: Vec<_> = shop.database.read(|tables| {
        tables.discrepancies.values().map(|row| (row.payment_id, row.discrepancy.kind)).collect()
    });
    assert_eq!(ledger, [(ids[0], DiscrepancyKind::KeyReused)]);
}

/// The payment has ended; the answer changes nothing, but what it says about further charges counts.
#[tokio::test(start_paused = true)]
async fn an_answer_after_the_end_is_watched_by_what_it_says() {
    let status = TransactionStatus::Pending;
    for (named, watch, looks) in [("k1", false, false), ("k1", true, true), ("k2", false, true)] {
        let shop = Shop::new(10).await;
        let order = shop.sent([shop.order(user(1), 1)]).await.remove(0);
        let id = order.payment.payment.id();
        shop.settle([lesson(&order, accepted("k1"), Cause::Api)]).await.unwrap();
        let claim = shop.claim(&order, 1).await;
        let by_key = Some(KeyAnswer::Found(transaction(&order, "k1", APPROVED)));
        let findings = Findings { by_key, ..Findings::default() };
        let found = Fact::Findings { claim, findings, not_found_suspended: false };
        let outcomes = shop.settle([lesson(&order, found, Cause::Reconciler)]).await.unwrap();
        assert_eq!(settled(&outcomes), [Settled::Paid]);
        let due = || shop.database.read(|tables| tables.checks[&id].due_at);
        assert_eq!(due(), None);
        let answer = GatewayAnswer::Accepted { key: key(named), status };
        let late = Fact::Answer(ChargeOutcome { answer, watch });
        let outcomes = shop.settle([lesson(&order, late, Cause::Api)]).await.unwrap();
        assert_eq!(settled(&outcomes), [Settled::AlreadyEnded]);
        let wait = due().map(|at| at - shop.database.now());
        assert_eq!(wait, looks.then_some(time::Duration::MINUTE));
        let named =
            shop.database.read(|tables| tables.hints(id).map(|(key, _)| key.clone()).collect::<Vec<_>>());
        assert_eq!(named, if named.is_empty() { vec![] } else { vec![key("k2")] });
        assert_eq!(shop.status(id), PAID);
    }
}

/// The same answer once more, as after a commit whose answer was lost, changes nothing.
#[tokio::test(start_paused = true)]
async fn the_same_answer_again_changes_nothing() {
    let uncertain = || {
        let answer = GatewayAnswer::Uncertain { cause: FailureCause("ReadTimeout") };
        Fact::Answer(ChargeOutcome { answer, watch: false })
    };
    for answer in [|| accepted("k1"), uncertain] {
        let shop = Shop::new(10).await;
        let placed = shop.place([shop.order(user(1), 1)]).await.unwrap().remove(0);
        let crate::place_order::PlacedInBatch::Placed(order) = placed else { panic!() };
        let record =
            || shop.database.read(|tables| tables.payments[&order.payment.payment.id()].record.clone());
        let deadline = record().send_deadline;
        shop.settle([lesson(&order, answer(), Cause::Api)]).await.unwrap();
        let once = record();
        // Nothing leaves any more.
        assert_eq!((once.send_deadline, once.version), (shop.database.now(), 1));
        assert!(once.send_deadline < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
        shop.settle([lesson(&order, answer(), Cause::Api)]).await.unwrap();
        assert_eq!(record(), once);
    }
}

/// The first answer of a key stays, within a batch, too.
#[tokio::test(start_paused = true)]
async fn the_first_answer_of_a_key_stays() {
    let shop = Shop::new(10).await;
    let takes = crate::PlaceOrder { idempotency: crate::shop::keyed("k", 1), ..shop.order(user(1), 1) };
    let order = shop.sent([takes]).await.remove(0);
    let keyed = |body: &'static str| {
        let key = IdempotencyKey { user_id: user(1), key: "k".into() };
        let render: RenderSettled = Box::new(move |settled, order| {
            let body = format!("{body}: {settled:?}, {}", order.payment.payment.status());
            StoredAnswer { status: 201, body }
        });
        Lesson { answer: Some(KeyedAnswer { key, render }), ..lesson(&order, rejected(), Cause::Api) }
    };
    shop.settle([keyed("one"), keyed("two")]).await.unwrap();
    let answers: Vec<_> = shop
        .database
        .read(|tables| tables.idempotency.values().map(|row| row.answer.clone().unwrap().body).collect());
    assert_eq!(answers, ["one: Failed { forced: false }, FAILED"]);
}
