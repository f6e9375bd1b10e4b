//! The decision itself: one payment's case held against the rules.

use super::{
    AMOUNT_MISMATCH_MESSAGE, DECLINED_MESSAGE, Decision, Discrepancy, DiscrepancyKind, FORCED_MESSAGE,
    Findings, KeyAnswer, NOT_FOUND_MESSAGE, ORDER_MISMATCH_MESSAGE, SettlementPolicy, Subject, Transaction,
    TransactionStatus, Verdict, Waiting, Watch,
};
use crate::{FailureMessage, GatewayKey, PaymentStatus};
use std::collections::BTreeSet;

/// Decides by what the gateway said.
///
/// PAID needs one SUCCESS of our order with our amount and a key that is ours or free. FAILED needs the whole list, asked
/// for since the key we hold came, and that no request of ours can leave any more: the key came with the gateway's
/// answer, or the send deadline has passed. Else a second attempt could charge the card of an order that is CANCELLED.
pub fn decide(subject: &Subject, findings: &Findings, policy: &SettlementPolicy) -> Decision {
    let sorted = Sorted::of(subject, findings);
    if subject.status.is_terminal() {
        return ended(subject, &sorted);
    }
    if let Some((paying, further)) = sorted.paying(subject) {
        let discrepancies = further
            .iter()
            .map(|other| duplicate(other))
            .chain(sorted.foreign_rows())
            .chain(sorted.lost_row(subject))
            .collect();
        // Further charges are still possible: a transaction is undecided or lost; or the gateway's answer to our request was
        // never stored, and with it how often we asked.
        let more = sorted.any_pending() || sorted.contradicted || subject.key.is_none();
        let watch = if more { Watch::Full } else { Watch::No };
        return Decision { verdict: Verdict::Pay { key: paying.key.clone() }, discrepancies, watch };
    }
    undecided(subject, findings, policy, &sorted)
}

/// The transactions in the order they are considered: the one we hold first, then as the gateway lists them.
struct Sorted<'a> {
    own: Vec<&'a Transaction>,
    foreign: Vec<&'a Transaction>,
    contradicted: bool,
}

impl<'a> Sorted<'a> {
    fn of(subject: &Subject, findings: &'a Findings) -> Self {
        let held = match &findings.by_key {
            Some(KeyAnswer::Found(transaction)) => Some(transaction),
            Some(KeyAnswer::NotFound(_)) | None => None,
        };
        let listed = findings.by_order.iter().flatten();
        let mut sorted = Sorted { own: Vec::new(), foreign: Vec::new(), contradicted: false };
        let mut seen = BTreeSet::new();
        let ours = |t: &&Transaction| subject.asked_for(t);
        sorted
            .own
            .extend(held.into_iter().chain(listed.clone()).filter(ours).filter(|t| seen.insert(&t.key)));
        // The one we hold is no foreign one but a contradiction.
        let foreign = listed.filter(|t| !ours(t) && subject.key.as_ref() != Some(&t.key));
        sorted.foreign.extend(foreign.filter(|t| seen.insert(&t.key)));
        // A callback's transaction counts only when it is ours; another order's says nothing about this payment (F50).
        sorted.own.extend(findings.hinted.iter().filter(ours).filter(|t| seen.insert(&t.key)));
        sorted.contradicted = match &findings.by_key {
            Some(answer) if subject.key.as_ref() != Some(answer.key()) => false,
            Some(KeyAnswer::NotFound(_)) => true,
            Some(KeyAnswer::Found(transaction)) => !subject.asked_for(transaction),
            None => false,
        };
        sorted
    }

    /// The findings say something about the key we hold. They don't when it came while the gateway was asked: then they
    /// are older than the payment, and what they don't show may exist.
    fn covers_key(&self, subject: &Subject, findings: &Findings) -> bool {
        subject.key.as_ref().is_none_or(|key| {
            findings.by_key.as_ref().is_some_and(|answer| answer.key() == key)
                || self.own.iter().any(|t| t.key == *key)
        })
    }

    fn any_pending(&self) -> bool {
        self.own.iter().any(|t| t.status == TransactionStatus::Pending)
    }

    /// The SUCCESS that pays, and every other SUCCESS.
    fn paying(&self, subject: &Subject) -> Option<(&'a Transaction, Vec<&'a Transaction>)> {
        let mut approved: Vec<_> = self.approved().collect();
        let at = approved.iter().position(|t| {
            t.amount == subject.paid_amount && !subject.keys_owned_elsewhere.contains(&t.key)
        })?;
        let paying = approved.remove(at);
        Some((paying, approved))
    }

    fn approved(&self) -> impl Iterator<Item = &'a Transaction> + '_ {
        self.own.iter().copied().filter(|t| t.status == TransactionStatus::Success)
    }

    fn foreign_rows(&self) -> impl Iterator<Item = Discrepancy> + '_ {
        self.foreign.iter().filter(|t| t.status == TransactionStatus::Success).map(|t| {
            charge(
                DiscrepancyKind::OrderMismatch,
                t,
                format!("listed for our order, but its details say order {}", t.order_ref),
            )
        })
    }

    fn lost_row(&self, subject: &Subject) -> Option<Discrepancy> {
        self.contradicted.then(|| Discrepancy {
            kind: DiscrepancyKind::PgLost,
            key: subject.key.clone(),
            amount: Some(subject.paid_amount),
            evidence: "the gateway does not know the key it gave us, or uses it for another order".to_owned(),
        })
    }
}

fn charge(kind: DiscrepancyKind, transaction: &Transaction, evidence: String) -> Discrepancy {
    Discrepancy {
        kind,
        key: Some(transaction.key.clone()),
        amount: Some(transaction.amount),
        evidence: FailureMessage::from_outside(&evidence).as_str().to_owned(),
    }
}

fn duplicate(transaction: &Transaction) -> Discrepancy {
    charge(
        DiscrepancyKind::DuplicateCharge,
        transaction,
        "a further approved transaction of a paid order".to_owned(),
    )
}

/// A payment that has ended: its state stays, but every charge that does not match it goes to the ledger.
fn ended(subject: &Subject, sorted: &Sorted<'_>) -> Decision {
    let mut discrepancies: Vec<_> = sorted
        .approved()
        .filter(|t| subject.status == PaymentStatus::Failed || subject.key.as_ref() != Some(&t.key))
        .map(|t| match subject.status {
            PaymentStatus::Failed => charge(
                DiscrepancyKind::LateSuccess,
                t,
                "approved at the gateway although the payment is FAILED".to_owned(),
            ),
            PaymentStatus::Pending | PaymentStatus::InProgress | PaymentStatus::Paid => duplicate(t),
        })
        .chain(sorted.foreign_rows())
        .collect();
    if subject.status == PaymentStatus::Paid {
        let held = sorted.own.iter().find(|t| subject.key.as_ref() == Some(&t.key));
        if let Some(t) = held.filter(|t| t.status == TransactionStatus::Failed) {
            discrepancies.push(charge(
                DiscrepancyKind::Conflict,
                t,
                "the gateway now calls the transaction of a paid order FAILED".to_owned(),
            ));
        }
    }
    if subject.last_look {
        let undecided = sorted.own.iter().filter(|t| t.status == TransactionStatus::Pending);
        discrepancies.extend(undecided.map(|t| {
            let evidence = "still undecided at the gateway at the last look of the watch list".to_owned();
            charge(DiscrepancyKind::NeverSettled, t, evidence)
        }));
    }
    // It may still be charged: not off the list before it is decided.
    let watch = if sorted.any_pending() && !subject.last_look { Watch::Full } else { Watch::No };
    Decision { verdict: Verdict::Ended, discrepancies, watch }
}

/// No transaction pays: fail, or wait, and for what.
fn undecided(
    subject: &Subject,
    findings: &Findings,
    policy: &SettlementPolicy,
    sorted: &Sorted<'_>,
) -> Decision {
    let discrepancies = contradictions(subject, sorted);
    let wait = |why, adopt| Decision {
        verdict: Verdict::Wait { why, adopt },
        discrepancies: discrepancies.clone(),
        watch: Watch::No,
    };
    let fail = |text: &str, forced, watch| Decision {
        verdict: Verdict::Fail { message: FailureMessage::from_outside(text), forced },
        discrepancies: discrepancies.clone(),
        watch,
    };
    if findings.by_order.is_none() || !sorted.covers_key(subject, findings) {
        return wait(Waiting::ListUnknown, None);
    }
    if subject.key.is_none() && subject.since_send_deadline.is_none() {
        return wait(Waiting::StillSending, None);
    }
    let overdue = subject.age >= policy.force_fail_after && subject.since_send_deadline.is_some();
    let suspended = policy.not_found_suspended;

    if sorted.any_pending() {
        if overdue {
            return fail(FORCED_MESSAGE, true, Watch::Full);
        }
        return wait(Waiting::TransactionPending, adoptable(subject, sorted));
    }
    if sorted.approved().any(|t| subject.keys_owned_elsewhere.contains(&t.key)) {
        if overdue {
            return fail(FORCED_MESSAGE, true, Watch::Full);
        }
        return wait(Waiting::KeyOwnedElsewhere, None);
    }
    if sorted.contradicted {
        return match (suspended, overdue) {
            (true, _) => wait(Waiting::NotFoundSuspended, None),
            (false, true) => fail(FORCED_MESSAGE, true, Watch::Full),
            (false, false) => wait(Waiting::KeyContradicted, None),
        };
    }
    if sorted.approved().next().is_some() {
        return fail(AMOUNT_MISMATCH_MESSAGE, false, Watch::Full);
    }
    if let Some(declined) = sorted.own.first() {
        let reason = declined.reason.as_deref().filter(|text| !text.trim().is_empty());
        // Not all is declined while one that is listed for our order and says another's may be a charge, or while the answer
        // to our request was never stored: it may have been sent again, and that not be listed yet.
        let declined_all =
            subject.key.is_some() && sorted.foreign.iter().all(|t| t.status == TransactionStatus::Failed);
        let watch = if declined_all { Watch::Once } else { Watch::Full };
        return fail(reason.unwrap_or(DECLINED_MESSAGE), false, watch);
    }
    if sorted.foreign.iter().any(|t| t.status == TransactionStatus::Success) {
        return fail(ORDER_MISMATCH_MESSAGE, false, Watch::Full);
    }
    let seen = subject.transaction_seen || !sorted.foreign.is_empty();
    none_there(subject, policy, seen, overdue, wait, fail)
}

/// The gateway has no transaction of this order. `seen`: it once showed one, or lists some that say another order's.
fn none_there(
    subject: &Subject,
    policy: &SettlementPolicy,
    seen: bool,
    overdue: bool,
    wait: impl Fn(Waiting, Option<GatewayKey>) -> Decision,
    fail: impl Fn(&str, bool, Watch) -> Decision,
) -> Decision {
    if policy.not_found_suspended {
        return wait(Waiting::NotFoundSuspended, None);
    }
    if seen {
        return if overdue {
            fail(FORCED_MESSAGE, true, Watch::Full)
        } else {
            wait(Waiting::KeyContradicted, None)
        };
    }
    let late_enough = subject.since_send_deadline.is_some_and(|since| since >= policy.not_found_grace);
    if late_enough && subject.not_found_count >= policy.not_found_confirmations {
        fail(NOT_FOUND_MESSAGE, false, Watch::Full)
    } else {
        wait(Waiting::NotFoundYet, None)
    }
}

/// What is wrong already, whatever becomes of the payment.
fn contradictions(subject: &Subject, sorted: &Sorted<'_>) -> Vec<Discrepancy> {
    sorted
        .approved()
        .map(|t| {
            if subject.keys_owned_elsewhere.contains(&t.key) {
                let evidence = "the gateway gave this key to two of our payments".to_owned();
                charge(DiscrepancyKind::KeyReused, t, evidence)
            } else {
                let evidence =
                    format!("approved with {} won instead of {} won", t.amount, subject.paid_amount);
                charge(DiscrepancyKind::AmountMismatch, t, evidence)
            }
        })
        .chain(sorted.foreign_rows())
        .chain(sorted.lost_row(subject))
        .collect()
}

fn adoptable(subject: &Subject, sorted: &Sorted<'_>) -> Option<GatewayKey> {
    if subject.key.is_some() {
        return None;
    }
    sorted
        .own
        .iter()
        .find(|t| t.amount == subject.paid_amount && !subject.keys_owned_elsewhere.contains(&t.key))
        .map(|t| t.key.clone())
}
