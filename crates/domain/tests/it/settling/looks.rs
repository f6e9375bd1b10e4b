//! When a payment is looked at next: counting "none there", the watch list, back-off, parking, hints.

use super::{
    HELD, NEW, NOW, State, case, check_after, claim, findings, key, kinds, learn, leased, rules, secs,
    transaction,
};
use domain::ports::Cause;
use domain::settlement::{
    Blame, Case, Check, DiscrepancyKind, Findings, Hint, Learned, Settled, TransactionStatus, Waiting, settle,
};
use std::time::Duration;

fn ask(case: &Case, scheduled: bool, findings: &Findings) -> (Settled, Check) {
    let claim = claim(case, scheduled);
    let learned = Learned::Findings { claim: &claim, findings, not_found_suspended: false };
    let settlement = learn(case, &learned);
    (settlement.settled.clone(), check_after(case, &settlement.changes))
}

/// Twice, half a minute apart, and not before the send deadline: only then is it counted, and it counts twice.
#[test]
fn none_there_is_counted_when_it_can_count() {
    let nothing = Findings { by_order: Some(vec![]), ..Findings::default() };
    // The gateway was asked after the claim, which was made a second ago.
    let counted = |count, ago: Option<u64>| {
        let not_found_at = ago.map(|ago| NOW - secs(1) - secs(ago));
        leased(Check { not_found_count: count, not_found_at, ..Check::default() })
    };
    let (settled, after) = ask(&case(1, State::Started(false), 100, counted(0, None)), true, &nothing);
    assert_eq!(settled, Settled::Waiting(Waiting::NotFoundYet));
    assert_eq!((after.not_found_count, after.not_found_at), (1, Some(NOW)));
    // Too soon after the first: not counted.
    let early = counted(1, Some(29));
    let (settled, after) = ask(&case(1, State::Started(false), 100, early), true, &nothing);
    assert_eq!(settled, Settled::Waiting(Waiting::NotFoundYet));
    assert_eq!((after.not_found_count, after.not_found_at), (1, early.not_found_at));
    // The second, but too soon after the send deadline: counted, not believed.
    let (settled, after) = ask(&case(1, State::Started(false), 60, counted(1, Some(30))), true, &nothing);
    assert_eq!((settled, after.not_found_count), (Settled::Waiting(Waiting::NotFoundYet), 2));
    let (settled, after) = ask(&case(1, State::Started(false), 100, counted(1, Some(30))), true, &nothing);
    assert_eq!((settled, after.not_found_count), (Settled::Failed { forced: false }, 2));
    // Before the send deadline it says nothing.
    let (settled, after) = ask(&case(1, State::Started(false), 4, counted(0, None)), true, &nothing);
    assert_eq!((settled, after.not_found_count), (Settled::Waiting(Waiting::StillSending), 0));
    // While too many are not found at once it is neither believed nor counted.
    let suspended = case(1, State::Started(false), 400, counted(1, Some(30)));
    let claim = claim(&suspended, true);
    let learned = Learned::Findings { claim: &claim, findings: &nothing, not_found_suspended: true };
    let settlement = learn(&suspended, &learned);
    assert_eq!(settlement.settled, Settled::Waiting(Waiting::NotFoundSuspended));
    assert_eq!(check_after(&suspended, &settlement.changes).not_found_count, 1);
}

/// What the gateway once showed is remembered, though it shows it no more.
#[test]
fn a_transaction_once_seen_is_remembered() {
    let pending = case(1, State::Started(false), 100, leased(Check::default()));
    let (_, after) =
        ask(&pending, true, &findings(&pending, vec![transaction(1, NEW, TransactionStatus::Pending)]));
    assert!(after.transaction_seen);
    let gone = case(1, State::Started(false), 100, leased(after));
    let (settled, after) = ask(&gone, true, &findings(&gone, vec![]));
    assert_eq!(settled, Settled::Waiting(Waiting::KeyContradicted));
    assert!(after.transaction_seen);
}

/// A payment whose own request may still be on its way is looked at as soon as it can't be.
#[test]
fn who_is_still_sending_is_asked_after_the_deadline() {
    let sending = case(1, State::Started(false), 2, leased(Check::default()));
    let nothing = findings(&sending, vec![transaction(1, NEW, TransactionStatus::Failed)]);
    let (settled, after) = ask(&sending, false, &nothing);
    assert_eq!(settled, Settled::Waiting(Waiting::StillSending));
    // The deadline is 2 s away; the claim is 1 s old.
    assert_eq!(after.due_at, Some(NOW + secs(3)));
}

/// The looks at 1, 5 and 30 min, 2 h and 24 h after the end, each counted from the look before; then none.
#[test]
fn the_watch_list_has_five_looks() {
    let declined = |case: &Case| findings(case, vec![transaction(1, HELD, TransactionStatus::Failed)]);
    let mut check = leased(Check { due_at: Some(NOW), ..Check::default() });
    let mut looks = Vec::new();
    for _ in 0..5 {
        let failed = case(1, State::Failed(true), 400, check);
        let (settled, after) = ask(&failed, true, &declined(&failed));
        assert_eq!(settled, Settled::AlreadyEnded);
        looks.push(after.due_at.map(|at| at - NOW));
        check = leased(after);
    }
    let waits = [240, 1500, 5400, 79_200].map(|wait| Some(time::Duration::seconds(wait)));
    assert_eq!(looks, [&waits[..], &[None]].concat());
    assert_eq!(rules().last_watch(), Some((4, secs(86_400))));
    assert_eq!(rules().watch_wait(5), None);
}

/// What is undecided at the last look is written down; at an extra look it is not, and the list begins anew.
#[test]
fn the_last_look_is_the_last() {
    let check = leased(Check { due_at: Some(NOW), watch_step: 4, ..Check::default() });
    let failed = case(1, State::Failed(true), 90_000, check);
    let undecided = findings(&failed, vec![transaction(1, HELD, TransactionStatus::Pending)]);
    for (scheduled, rows, due, step) in
        [(true, vec![DiscrepancyKind::NeverSettled], None, 5), (false, vec![], Some(NOW + secs(60)), 0)]
    {
        let claim = claim(&failed, scheduled);
        let learned = Learned::Findings { claim: &claim, findings: &undecided, not_found_suspended: false };
        let settlement = learn(&failed, &learned);
        assert_eq!(kinds(&settlement.changes), rows);
        let after = check_after(&failed, &settlement.changes);
        assert_eq!((after.due_at, after.watch_step), (due, step));
    }
}

/// A callback or a person that asks in between moves no look of the watch list, found or failed.
#[test]
fn an_extra_look_leaves_the_watch_list_as_it_is() {
    let set = Some(NOW + secs(5000));
    let check = leased(Check { due_at: set, watch_step: 3, ..Check::default() });
    for state in [State::Paid, State::Failed(true)] {
        let ended = case(1, state, 2000, check);
        let (_, after) =
            ask(&ended, false, &findings(&ended, vec![transaction(1, HELD, TransactionStatus::Failed)]));
        assert_eq!((after.due_at, after.watch_step, after.woken_at), (set, 3, None));
        for blame in [Blame::Elsewhere, Blame::Payment("odd")] {
            let claim = claim(&ended, false);
            let settlement = learn(&ended, &Learned::NotExamined { claim: &claim, blame });
            let after = check_after(&ended, &settlement.changes);
            assert_eq!(settlement.settled, Settled::BackedOff);
            assert_eq!((after.due_at, after.watch_step), (set, 3));
            assert_eq!(after.woken_at, Some(NOW), "it is looked at again all the same");
        }
    }
}

/// Pauses double from a second up to the longest; the gateway's own trouble never parks a payment.
#[test]
fn pauses_double_up_to_the_longest() {
    let mut check = leased(Check { due_at: Some(NOW), ..Check::default() });
    let mut pauses = Vec::new();
    for _ in 0..40 {
        let case = case(1, State::Started(true), 100, check);
        let claim = claim(&case, true);
        let settlement = learn(&case, &Learned::NotExamined { claim: &claim, blame: Blame::Elsewhere });
        assert_eq!(settlement.settled, Settled::BackedOff);
        let after = check_after(&case, &settlement.changes);
        assert!(after.failures <= 4 && after.parked_at.is_none());
        pauses.push(Duration::try_from(after.due_at.unwrap() - NOW).unwrap());
        check = leased(after);
    }
    assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 16].map(secs));
    assert!(pauses.iter().all(|pause| *pause <= rules().backoff_max));
    let long = leased(Check { failures: 30, ..Check::default() });
    let case = case(1, State::Started(true), 100, long);
    let claim = claim(&case, true);
    let settlement = learn(&case, &Learned::NotExamined { claim: &claim, blame: Blame::Elsewhere });
    assert_eq!(check_after(&case, &settlement.changes).due_at, Some(NOW + rules().backoff_max));
}

/// So many failures in a row that are the payment's own park it, with a row for a person; unless it was woken meanwhile.
#[test]
fn a_payment_that_fails_to_be_examined_is_parked() {
    let blame = Blame::Payment("an answer of no use");
    for state in [State::Started(true), State::Failed(false)] {
        for woken_at in [None, Some(NOW - secs(1))] {
            for failures in [6, 7] {
                let check = leased(Check { failures, woken_at, ..Check::default() });
                let case = case(1, state, 100, check);
                let claim = claim(&case, true);
                let settlement = learn(&case, &Learned::NotExamined { claim: &claim, blame });
                let after = check_after(&case, &settlement.changes);
                let parked = failures == 7 && woken_at.is_none();
                assert_eq!(settlement.settled == Settled::Parked, parked);
                assert_eq!(after.parked_at, parked.then_some(NOW));
                assert_eq!((after.failures, after.woken_at), (failures + 1, woken_at));
                let rows = if parked { vec![DiscrepancyKind::Poison] } else { vec![] };
                assert_eq!(kinds(&settlement.changes), rows);
                if parked {
                    let evidence = &settlement.changes.discrepancies[0].evidence;
                    assert!(evidence.contains("8 times") && evidence.ends_with("an answer of no use"));
                }
            }
        }
    }
}

/// What can never be looked at whole is told to a person at once, and goes on being looked at.
#[test]
fn what_is_beyond_us_is_told_at_once() {
    let case = case(1, State::Started(true), 100, leased(Check::default()));
    let claim = claim(&case, true);
    let settlement = learn(&case, &Learned::NotExamined { claim: &claim, blame: Blame::Beyond("too many") });
    assert_eq!(settlement.settled, Settled::BackedOff);
    assert_eq!(kinds(&settlement.changes), [DiscrepancyKind::Poison]);
}

/// A hint is done when it was asked about under the claim that bears it. One that was named again since, or that was not
/// asked about, stays, and then the payment is looked at again at once.
#[test]
fn hints_are_done_when_they_were_asked_about() {
    let hint = |name, lease_id| Hint { key: key(name), lease_id };
    let mut case = case(1, State::Started(true), 100, leased(Check::default()));
    case.hints = vec![hint("A", Some(super::LEASE)), hint("B", Some(super::LEASE)), hint("C", None)];
    let claim = claim(&case, false);
    let asked = |names: &[&str]| Findings {
        hints_asked: names.iter().map(|name| key(name)).collect(),
        ..findings(&case, vec![transaction(1, HELD, TransactionStatus::Pending)])
    };
    for (names, done, woken) in [
        (&["A", "B", "C"][..], &["A", "B"][..], None),
        (&["A", "C"], &["A"], Some(NOW)),
        (&[], &[], Some(NOW)),
    ] {
        let findings = asked(names);
        let learned = Learned::Findings { claim: &claim, findings: &findings, not_found_suspended: false };
        let settlement = learn(&case, &learned);
        let expected: Vec<_> = done.iter().map(|name| key(name)).collect();
        assert_eq!(settlement.changes.hints_done, expected);
        assert_eq!(check_after(&case, &settlement.changes).woken_at, woken);
    }
}

/// A payment is FAILED for good although a rule has no looks at all.
#[test]
fn without_a_watch_list_nothing_is_watched() {
    let bare = domain::settlement::SettlementRules { watch_after: vec![], ..rules() };
    let case = case(1, State::Started(true), 400, leased(Check { watch_wanted: true, ..Check::default() }));
    let (claim, found) =
        (claim(&case, true), findings(&case, vec![transaction(1, HELD, TransactionStatus::Pending)]));
    let learned = Learned::Findings { claim: &claim, findings: &found, not_found_suspended: false };
    let settlement = settle(&case, &super::shared(), &learned, Cause::Reconciler, &bare).unwrap();
    assert_eq!(settlement.settled, Settled::Failed { forced: true });
    assert_eq!(check_after(&case, &settlement.changes).due_at, None);
    assert_eq!((bare.last_watch(), bare.watch_wait(0)), (None, None));
}
