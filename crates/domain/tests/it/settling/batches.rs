//! Several payments in one transaction, and one payment twice: what one changes, the next one sees.

use super::{NEW, NOW, State, case, key, kinds, leased, rules, secs, shared, transaction, won};
use domain::PaymentStatus;
use domain::ports::{Cause, ChargeOutcome, FailureCause, GatewayAnswer, StoredAnswer, Versioned};
use domain::settlement::{
    Changes, Check, DiscrepancyKind, Learned, NotSent, SettleError, Settled, Settlement, Settling,
    TransactionStatus,
};
use domain::{PaymentId, UserId};
use std::collections::{BTreeMap, BTreeSet};

fn id(id: i64) -> PaymentId {
    PaymentId::new(id).unwrap()
}

/// Payments 1, 2, ... of one buyer in these states, all goods locked.
fn batch(states: &[State]) -> Settling {
    let cases =
        (1..).zip(states).map(|(number, state)| (id(number), case(number, *state, 100, Check::default())));
    let cases: BTreeMap<_, _> = cases.collect();
    Settling { with_goods: cases.keys().copied().collect(), cases, shared: shared() }
}

fn learn(batch: &mut Settling, number: i64, learned: &Learned<'_>) -> Settlement {
    batch.settle(id(number), learned, Cause::Api, &rules()).unwrap().unwrap()
}

fn accepted(text: &str) -> ChargeOutcome {
    ChargeOutcome {
        answer: GatewayAnswer::Accepted { key: key(text), status: TransactionStatus::Pending },
        watch: false,
    }
}

/// Each gives back to the account that the one before left.
#[test]
fn points_go_back_one_after_the_other() {
    let mut batch = batch(&[State::Started(false); 3]);
    let mut balances = Vec::new();
    for number in [2, 1, 3] {
        let settlement = learn(&mut batch, number, &Learned::NotSent(NotSent::DeadlinePassed));
        let entry = settlement.changes.points_back.unwrap();
        assert_eq!(entry.payment_id, Some(id(number)));
        balances.push(entry.account.balance());
    }
    assert_eq!(balances, [won(600), won(1100), won(1600)]);
    assert_eq!(batch.shared.points[&UserId::new(1).unwrap()].balance(), won(1600));
}

/// A key that one of the batch has just got is another's for the next.
#[test]
fn a_key_is_given_once_in_a_batch() {
    let mut batch = batch(&[State::Started(false), State::Started(false)]);
    let outcome = accepted(NEW);
    let first = learn(&mut batch, 1, &Learned::Answer(&outcome));
    assert!(first.changes.discrepancies.is_empty());
    let second = learn(&mut batch, 2, &Learned::Answer(&outcome));
    assert_eq!(kinds(&second.changes), [DiscrepancyKind::KeyReused]);
    assert_eq!(batch.cases[&id(1)].record.payment.key(), Some(&key(NEW)));
    assert_eq!(batch.cases[&id(2)].record.payment.key(), None);
    assert_eq!(batch.shared.key_owners[&key(NEW)], id(1));
    // Neither is it PAID by what the other one owns.
    let check = leased(Check::default());
    batch.cases.get_mut(&id(2)).unwrap().check = check;
    let case = batch.cases[&id(2)].clone();
    let (claim, findings) = (
        super::claim(&case, true),
        super::findings(&case, vec![transaction(2, NEW, TransactionStatus::Success)]),
    );
    let learned = Learned::Findings { claim: &claim, findings: &findings, not_found_suspended: false };
    let third = learn(&mut batch, 2, &learned);
    assert!(matches!(third.settled, Settled::Waiting(_)), "{third:?}");
}

/// Who is not there, and who can't be settled, changes nothing and stops nobody.
#[test]
fn one_that_can_not_be_settled_stops_nobody() {
    let mut batch = batch(&[State::Started(false), State::Started(false)]);
    batch.with_goods = BTreeSet::from([id(2)]);
    let before = batch.clone();
    let learned = Learned::NotSent(NotSent::DeadlinePassed);
    assert_eq!(batch.settle(id(9), &learned, Cause::Api, &rules()), Ok(None));
    let refused = batch.settle(id(1), &learned, Cause::Api, &rules());
    assert_eq!(refused, Err(SettleError::GoodsNeeded(id(1))));
    assert_eq!(batch, before);
    assert_eq!(learn(&mut batch, 2, &learned).settled, Settled::Failed { forced: false });
}

/// An order that does not take its payment's end is a defect, told as such, and nothing changes.
#[test]
fn what_does_not_fit_is_inconsistent() {
    let mut batch = batch(&[State::Started(false)]);
    let order = &mut batch.cases.get_mut(&id(1)).unwrap().order;
    *order = order.with(order.value.clone().cancel().unwrap());
    let before = batch.clone();
    let refused = batch.settle(id(1), &Learned::NotSent(NotSent::DeadlinePassed), Cause::Api, &rules());
    assert!(matches!(refused, Err(SettleError::Inconsistent { payment_id, .. }) if payment_id == id(1)));
    assert_eq!(batch, before);
}

/// A payment twice in one batch: its changes are stored once, as the one after the other would be.
#[test]
fn a_payment_twice_is_stored_once() {
    let mut batch = batch(&[State::Pending]);
    batch.cases.get_mut(&id(1)).unwrap().record.send_deadline = NOW + secs(3);
    let uncertain =
        ChargeOutcome { answer: GatewayAnswer::Uncertain { cause: FailureCause("Reset") }, watch: true };
    let first = learn(&mut batch, 1, &Learned::Answer(&uncertain)).changes;
    assert!(first.sending_ended && first.check.unwrap().watch_wanted);
    assert_eq!(batch.cases[&id(1)].record.send_deadline, NOW, "nothing is sent any more");
    let outcome = accepted(NEW);
    let second = learn(&mut batch, 1, &Learned::Answer(&outcome)).changes;
    let third = learn(&mut batch, 1, &Learned::NotSent(NotSent::DeadlinePassed));
    assert_eq!(third.settled, Settled::InProgress);
    let all = first.then(second).then(third.changes);
    let payment = all.payment.clone().unwrap();
    assert_eq!((payment.version, payment.value.status()), (3, PaymentStatus::InProgress));
    assert_eq!(payment.value.key(), Some(&key(NEW)));
    let steps: Vec<_> = all.history.iter().map(|event| (event.from, event.to)).collect();
    let (pending, started) = (PaymentStatus::Pending, PaymentStatus::InProgress);
    assert_eq!(steps, [(Some(pending), started), (Some(started), started)]);
    assert!(all.sending_ended && all.check.unwrap().watch_wanted);
}

/// An end in the second part is stored by the version that was read for the first.
#[test]
fn what_comes_second_is_stored_by_the_version_that_was_read() {
    let mut batch = batch(&[State::Pending]);
    let started = learn(
        &mut batch,
        1,
        &Learned::Answer(&ChargeOutcome {
            answer: GatewayAnswer::Uncertain { cause: FailureCause("Reset") },
            watch: false,
        }),
    );
    let failed = learn(&mut batch, 1, &Learned::NotSent(NotSent::DeadlinePassed));
    let after = learn(&mut batch, 1, &Learned::NotSent(NotSent::DeadlinePassed));
    assert_eq!(after.settled, Settled::AlreadyEnded);
    let all = started.changes.then(failed.changes.clone()).then(after.changes);
    assert_eq!(all.payment.as_ref().map(|payment| payment.version), Some(3));
    assert_eq!(all.order.as_ref().map(|order| order.version), Some(2));
    assert_eq!(all.coupon_back.map(|coupon| coupon.version), Some(4));
    assert_eq!((&all.stock_back, all.points_back), (&failed.changes.stock_back, failed.changes.points_back));
}

/// The first answer of a key stays, as in the store; the last check and hint count; lists are one after the other.
#[test]
fn changes_add_up() {
    let answer = |body: &str| {
        let key = domain::ports::IdempotencyKey { user_id: UserId::new(1).unwrap(), key: "k".into() };
        Some((key, StoredAnswer { status: 200, body: body.into() }))
    };
    let order_id = super::order_id(1);
    let nothing = Changes::none(id(1), order_id);
    assert!(nothing.is_nothing());
    assert!(nothing.clone().then(nothing.clone()).is_nothing());
    let with = |step: u32, hint: &str, body: &str| Changes {
        check: Some(Check { watch_step: step, ..Check::default() }),
        hint: Some(key(hint)),
        hints_done: vec![key(hint)],
        answer: answer(body),
        ..nothing.clone()
    };
    let both = with(1, "A", "first").then(with(2, "B", "second"));
    assert_eq!(both.check.map(|check| check.watch_step), Some(2));
    assert_eq!((both.hint.clone(), both.answer.clone()), (Some(key("B")), answer("first")));
    assert_eq!(both.hints_done, [key("A"), key("B")]);
    assert_eq!(both.clone().then(nothing.clone()), both);
    assert_eq!(nothing.then(both.clone()), both);
    let version = |version| Versioned { version, value: () };
    assert_eq!(version(1).with(2).version, 1);
}
