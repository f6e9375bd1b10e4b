//! What the gateway said when asked: by callback, reconciler, watch list, sync by hand.

use super::{
    HELD, NEW, NOW, OTHERS, State, case, check_after, claim, findings, key, kinds, learn, leased,
    payment_after, secs, transaction,
};
use domain::PaymentStatus;
use domain::settlement::{
    Case, Check, DiscrepancyKind, Findings, Learned, Settled, TransactionStatus, Waiting,
};

/// What the gateway shows of one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Charged, as ordered.
    Success,
    /// Charged by a key that another payment owns.
    SuccessOfOthers,
    /// Charged with another amount.
    WrongAmount,
    Declined,
    Undecided,
    Nothing,
    /// It was asked by the key only.
    NoList,
}

impl Shown {
    const ALL: [Self; 7] = [
        Self::Success,
        Self::SuccessOfOthers,
        Self::WrongAmount,
        Self::Declined,
        Self::Undecided,
        Self::Nothing,
        Self::NoList,
    ];

    fn findings(self, case: &Case) -> Findings {
        let name = case.record.payment.key().map_or(NEW, |_| HELD);
        let one = |status| vec![transaction(1, name, status)];
        match self {
            Self::Success => findings(case, one(TransactionStatus::Success)),
            Self::SuccessOfOthers => findings(case, vec![transaction(1, OTHERS, TransactionStatus::Success)]),
            Self::WrongAmount => {
                let mut wrong = one(TransactionStatus::Success);
                wrong[0].amount = super::won(1);
                findings(case, wrong)
            }
            Self::Declined => findings(case, one(TransactionStatus::Failed)),
            Self::Undecided => findings(case, one(TransactionStatus::Pending)),
            Self::Nothing => findings(case, vec![]),
            Self::NoList => {
                let asked = findings(case, one(TransactionStatus::Failed));
                Findings { by_order: None, ..asked }
            }
        }
    }
}

/// Which looks follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// In so many seconds.
    In(u64),
    /// The whole watch list.
    Watched,
    /// Its last look only.
    LastLook,
    /// None.
    Never,
    /// As it was.
    Same,
}

type Expected = (Settled, PaymentStatus, Option<&'static str>, Vec<DiscrepancyKind>, Next);

fn expected(state: State, shown: Shown, old: bool, wanted: bool) -> Expected {
    let held = state.holds_key().then_some(HELD);
    if state.ended() {
        let failed = state.status() == PaymentStatus::Failed;
        let rows = match shown {
            Shown::Success | Shown::WrongAmount if failed => vec![DiscrepancyKind::LateSuccess],
            Shown::SuccessOfOthers if failed => vec![DiscrepancyKind::LateSuccess],
            Shown::SuccessOfOthers => vec![DiscrepancyKind::DuplicateCharge],
            Shown::Declined | Shown::NoList if !failed => vec![DiscrepancyKind::Conflict],
            _ => vec![],
        };
        let next = if shown == Shown::Undecided { Next::Watched } else { Next::Same };
        return (Settled::AlreadyEnded, state.status(), held, rows, next);
    }
    let contradicted = held.is_some() && matches!(shown, Shown::SuccessOfOthers | Shown::Nothing);
    let mut rows = match shown {
        Shown::SuccessOfOthers => vec![DiscrepancyKind::KeyReused],
        Shown::WrongAmount => vec![DiscrepancyKind::AmountMismatch],
        _ => vec![],
    };
    if contradicted {
        rows.push(DiscrepancyKind::PgLost);
    }
    let waits = |why| (Settled::Waiting(why), state.status(), held, rows.clone(), Next::In(30));
    let fails = |forced, next| {
        let next = if wanted { Next::Watched } else { next };
        (Settled::Failed { forced }, PaymentStatus::Failed, held, rows.clone(), next)
    };
    match (shown, held) {
        (Shown::Success, _) => {
            let next = if wanted || held.is_none() { Next::Watched } else { Next::Never };
            (Settled::Paid, PaymentStatus::Paid, held.or(Some(NEW)), rows, next)
        }
        (Shown::WrongAmount, _) => fails(false, Next::Watched),
        (Shown::Declined, Some(_)) => fails(false, Next::LastLook),
        (Shown::Declined, None) => fails(false, Next::Watched),
        (Shown::NoList, _) => waits(Waiting::ListUnknown),
        (Shown::SuccessOfOthers | Shown::Undecided | Shown::Nothing, Some(_)) if old => {
            fails(true, Next::Watched)
        }
        (Shown::SuccessOfOthers | Shown::Undecided, None) if old => fails(true, Next::Watched),
        (Shown::SuccessOfOthers, _) => waits(Waiting::KeyOwnedElsewhere),
        (Shown::Undecided, Some(_)) => waits(Waiting::TransactionPending),
        // Its key is kept, so that it can be asked for.
        (Shown::Undecided, None) => {
            let waiting = Settled::Waiting(Waiting::TransactionPending);
            (waiting, PaymentStatus::InProgress, Some(NEW), rows, Next::In(30))
        }
        (Shown::Nothing, Some(_)) => waits(Waiting::KeyContradicted),
        (Shown::Nothing, None) => waits(Waiting::NotFoundYet),
    }
}

fn checks() -> Vec<Check> {
    let due = leased(Check { due_at: Some(NOW - secs(5)), ..Check::default() });
    vec![
        due,
        Check { watch_wanted: true, ..due },
        Check { woken_at: Some(NOW), failures: 5, ..due },
        Check { watch_wanted: true, watch_step: 2, transaction_seen: true, ..due },
    ]
}

#[test]
fn every_finding_in_every_state_does_what_the_table_says() {
    let mut cases = 0;
    for state in State::ALL {
        for check in checks() {
            for shown in Shown::ALL {
                for (old, age) in [(false, 100), (true, 400)] {
                    // Seen before and gone: not "none there".
                    if shown == Shown::Nothing && check.transaction_seen {
                        continue;
                    }
                    let case = case(1, state, age, check);
                    // An extra look; those of the watch list have a test of their own.
                    let claim = claim(&case, false);
                    let findings = shown.findings(&case);
                    let learned =
                        Learned::Findings { claim: &claim, findings: &findings, not_found_suspended: false };
                    let settlement = learn(&case, &learned);
                    let changes = &settlement.changes;
                    let payment = payment_after(&case, changes);
                    let after = check_after(&case, changes);
                    let (settled, status, key_after, rows, next) =
                        expected(state, shown, old, check.watch_wanted);
                    let what = format!("{state:?} {shown:?} old {old} {check:?}");
                    assert_eq!(settlement.settled, settled, "{what}");
                    assert_eq!(
                        (payment.status(), payment.key()),
                        (status, key_after.map(key).as_ref()),
                        "{what}"
                    );
                    assert_eq!(kinds(changes), rows, "{what}");
                    looks_next(check, after, next, &what);
                    let adopted =
                        matches!(settlement.settled, Settled::Waiting(_)) && !changes.history.is_empty();
                    assert_eq!(after.watch_wanted, check.watch_wanted || adopted, "{what}");
                    assert_eq!(after.woken_at, check.woken_at, "a wake-up since the claim stays");
                    assert_eq!(after.failures, 0, "it was examined");
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} cases");
    assert!(cases > 300);
}

fn looks_next(before: Check, after: Check, next: Next, what: &str) {
    let expected = match next {
        Next::In(seconds) => (Some(NOW + secs(seconds)), before.watch_step),
        Next::Watched => (Some(NOW + secs(60)), 0),
        Next::LastLook => (Some(NOW + secs(86_400)), 4),
        Next::Never => (None, 0),
        Next::Same => (before.due_at, before.watch_step),
    };
    assert_eq!((after.due_at, after.watch_step), expected, "{what}");
}

/// Whoever lost the claim to another changes nothing at all, whatever the gateway said.
#[test]
fn a_lost_lease_changes_nothing() {
    let others = Check { lease: Some(domain::settlement::Lease { id: 8, until: NOW }), ..Check::default() };
    for state in State::ALL {
        for check in [Check::default(), others] {
            let case = case(1, state, 400, check);
            let claim = claim(&case, true);
            for shown in Shown::ALL {
                let findings = shown.findings(&case);
                let learned =
                    Learned::Findings { claim: &claim, findings: &findings, not_found_suspended: false };
                let settlement = learn(&case, &learned);
                assert_eq!(settlement.settled, Settled::LeaseLost);
                assert!(settlement.changes.is_nothing());
            }
        }
    }
}

/// Findings that may end the payment as FAILED lock what it took; a SUCCESS, or an ended payment, does not.
#[test]
fn what_findings_need_is_known_before() {
    for state in State::ALL {
        for shown in Shown::ALL {
            let case = case(1, state, 400, leased(Check::default()));
            let (claim, findings) = (claim(&case, true), shown.findings(&case));
            let learned =
                Learned::Findings { claim: &claim, findings: &findings, not_found_suspended: false };
            let success = matches!(shown, Shown::Success | Shown::SuccessOfOthers | Shown::WrongAmount);
            assert_eq!(learned.may_fail(), !state.ended() && !success, "{state:?} {shown:?}");
            let expected = match shown {
                Shown::Nothing => 0,
                Shown::NoList if !state.holds_key() => 0,
                Shown::NoList | Shown::SuccessOfOthers => 1,
                _ => 1 + usize::from(state.holds_key()),
            };
            assert_eq!(learned.keys().len(), expected, "{state:?} {shown:?}");
        }
    }
}
