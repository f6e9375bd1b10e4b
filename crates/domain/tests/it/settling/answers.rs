//! The gateway's answer to our own request, and a request that was never sent.

use super::{HELD, NEW, NOW, OTHERS, State, case, check_after, key, kinds, learn, payment_after, secs};
use domain::ports::{ChargeOutcome, FailureCause, GatewayAnswer};
use domain::settlement::{Check, DiscrepancyKind, Learned, NotSent, Settled, Settlement, TransactionStatus};
use domain::{FailureMessage, PaymentState, PaymentStatus, Timestamp};
use std::time::Duration;

const ACCEPTED: [&str; 3] = [HELD, NEW, OTHERS];

fn answers() -> Vec<GatewayAnswer> {
    let status = TransactionStatus::Pending;
    let retry_after = secs(1);
    let cause = FailureCause("Refused");
    let mut answers: Vec<_> =
        ACCEPTED.iter().map(|text| GatewayAnswer::Accepted { key: key(text), status }).collect();
    answers.extend([
        GatewayAnswer::Rejected { message: FailureMessage::from_outside("한도초과입니다.") },
        GatewayAnswer::NotReached { cause, retry_after },
        GatewayAnswer::CircuitOpen { retry_after },
        GatewayAnswer::Uncertain { cause },
    ]);
    answers
}

/// Check rows that a payment may have when the answer comes.
fn checks() -> Vec<Check> {
    let due = Check { due_at: Some(NOW + secs(55)), ..Check::default() };
    vec![
        due,
        Check { watch_wanted: true, ..due },
        Check { woken_at: Some(NOW - secs(2)), watch_step: 3, ..due },
        Check { parked_at: Some(NOW - secs(3)), failures: 8, ..due },
        super::leased(due),
    ]
}

/// What the table says: what became of it, the payment's status and key, its next look and the rest of the check row.
#[derive(Debug, PartialEq)]
struct Expected {
    settled: Settled,
    status: PaymentStatus,
    key: Option<&'static str>,
    check: Check,
    sending_ended: bool,
    hint: Option<&'static str>,
    rows: Vec<DiscrepancyKind>,
}

fn at(wait: u64) -> Option<Timestamp> {
    Some(NOW + Duration::from_secs(wait))
}

fn expected(state: State, check: Check, outcome: &ChargeOutcome) -> Expected {
    let held = state.holds_key().then_some(HELD);
    let check = Check { watch_wanted: check.watch_wanted || outcome.watch, ..check };
    let stays = Expected {
        settled: Settled::InProgress,
        status: state.status(),
        key: held,
        check,
        sending_ended: false,
        hint: None,
        rows: vec![],
    };
    let accepted = match &outcome.answer {
        GatewayAnswer::Accepted { key: accepted, .. } => {
            ACCEPTED.into_iter().find(|text| key(text) == *accepted)
        }
        _ => None,
    };
    let watched = Check { due_at: at(60), watch_step: 0, ..check };
    match (state.ended(), accepted) {
        // It ended without this transaction, or as not charged: the gateway is asked at once what that charged.
        (true, Some(new)) if held != Some(new) || state.status() == PaymentStatus::Failed => Expected {
            settled: Settled::AlreadyEnded,
            hint: Some(new),
            check: Check { woken_at: check.woken_at.or(Some(NOW)), parked_at: None, ..watched },
            ..stays
        },
        (true, _) if outcome.watch => Expected { settled: Settled::AlreadyEnded, check: watched, ..stays },
        (true, _) => Expected { settled: Settled::AlreadyEnded, ..stays },
        (false, Some(new)) => {
            // Left alone until it has not changed for a minute.
            let check = Check { due_at: at(60), ..check };
            let stays = Expected { check, sending_ended: true, ..stays };
            match new {
                _ if held == Some(new) => stays,
                OTHERS => Expected { rows: vec![DiscrepancyKind::KeyReused], ..stays },
                _ => Expected { status: PaymentStatus::InProgress, key: Some(new), ..stays },
            }
        }
        // Somebody else learned meanwhile that the gateway has it.
        (false, None) if held.is_some() => stays,
        (false, None) if matches!(outcome.answer, GatewayAnswer::Uncertain { .. }) => {
            Expected { sending_ended: true, check: Check { due_at: at(60), ..check }, ..stays }
        }
        (false, None) => Expected {
            settled: Settled::Failed { forced: false },
            status: PaymentStatus::Failed,
            check: fails(check),
            ..stays
        },
    }
}

/// On the watch list when that was ever wanted, else never looked at again.
fn fails(check: Check) -> Check {
    Check { due_at: if check.watch_wanted { at(60) } else { None }, watch_step: 0, ..check }
}

fn actual(case: &domain::settlement::Case, settlement: &Settlement) -> Expected {
    let changes = &settlement.changes;
    let payment = payment_after(case, changes);
    let name = |key: &domain::GatewayKey| ACCEPTED.into_iter().find(|text| *text == key.as_str()).unwrap();
    Expected {
        settled: settlement.settled.clone(),
        status: payment.status(),
        key: payment.key().map(name),
        check: check_after(case, changes),
        sending_ended: changes.sending_ended,
        hint: changes.hint.as_ref().map(name),
        rows: kinds(changes),
    }
}

#[test]
fn every_answer_in_every_state_does_what_the_table_says() {
    let mut cases = 0;
    for state in State::ALL {
        for check in checks() {
            for answer in answers() {
                for watch in [false, true] {
                    let outcome = ChargeOutcome { answer: answer.clone(), watch };
                    let case = case(1, state, 2, check);
                    let settlement = learn(&case, &Learned::Answer(&outcome));
                    let expected = expected(state, check, &outcome);
                    assert_eq!(actual(&case, &settlement), expected, "{state:?} {check:?} {outcome:?}");
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 6 * 5 * 7 * 2);
}

#[test]
fn a_request_that_was_not_sent_fails_unless_the_gateway_has_it() {
    for state in State::ALL {
        for check in checks() {
            for why in [NotSent::DatabaseUnavailable, NotSent::DeadlinePassed] {
                let case = case(1, state, 2, check);
                let settlement = learn(&case, &Learned::NotSent(why));
                let stays = |settled| (settled, state.status(), check);
                let expected = match state {
                    State::Paid | State::Failed(_) => stays(Settled::AlreadyEnded),
                    State::Started(true) => stays(Settled::InProgress),
                    State::Pending | State::Started(false) => {
                        (Settled::Failed { forced: false }, PaymentStatus::Failed, fails(check))
                    }
                };
                let after = payment_after(&case, &settlement.changes).status();
                assert_eq!(
                    (settlement.settled.clone(), after, check_after(&case, &settlement.changes)),
                    expected
                );
            }
        }
    }
}

fn message(settlement: &Settlement) -> String {
    match settlement.changes.payment.as_ref().map(|payment| payment.value.state()) {
        Some(PaymentState::Failed { message: Some(message), .. }) => message.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// What the buyer reads, and the history with it.
#[test]
fn each_failure_says_why() {
    let case = case(1, State::Started(false), 2, Check::default());
    let mut said = Vec::new();
    for answer in answers().into_iter().skip(ACCEPTED.len()).take(3) {
        let outcome = ChargeOutcome { answer, watch: false };
        said.push(learn(&case, &Learned::Answer(&outcome)));
    }
    said.extend(
        [NotSent::DatabaseUnavailable, NotSent::DeadlinePassed]
            .map(|why| learn(&case, &Learned::NotSent(why))),
    );
    let expected = [
        "한도초과입니다.",
        "PG에 연결하지 못했습니다. (Refused)",
        "PG 장애로 결제를 요청하지 않았습니다. (CircuitOpen)",
        "데이터베이스 장애로 결제를 요청하지 못했습니다.",
        "제한 시간 안에 결제를 요청하지 못했습니다.",
    ];
    for (settlement, expected) in said.iter().zip(expected) {
        assert_eq!(message(settlement), expected);
        assert_eq!(settlement.changes.history.last().unwrap().reason.as_deref(), Some(expected));
    }
}

/// A batch locks goods for what may fail, and asks who owns the keys that are named.
#[test]
fn what_an_answer_needs_is_known_before() {
    let needs = |answer: &GatewayAnswer| {
        let outcome = ChargeOutcome { answer: answer.clone(), watch: false };
        let learned = Learned::Answer(&outcome);
        (learned.may_fail(), learned.keys())
    };
    for answer in answers() {
        let (may_fail, keys) = needs(&answer);
        let accepted = matches!(answer, GatewayAnswer::Accepted { .. });
        assert_eq!(may_fail, !accepted && !matches!(answer, GatewayAnswer::Uncertain { .. }));
        assert_eq!(keys.len(), usize::from(accepted));
    }
    assert!(Learned::NotSent(NotSent::DeadlinePassed).may_fail());
    assert!(Learned::NotSent(NotSent::DeadlinePassed).keys().is_empty());
}
