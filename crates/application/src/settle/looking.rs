//! What the decision is told about a payment, and when the payment is looked at next.

use super::Examination;
use crate::{Policy, Tx};
use domain::ports::{Claim, NextCheck, NextDue, PaymentRecord, StoreError};
use domain::settlement::{Decision, Findings, Subject, Verdict, Waiting, Watch};
use domain::{GatewayKey, GatewayOrderRef, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) async fn subject(
    tx: &Tx<'_>,
    policy: &Policy,
    record: &PaymentRecord,
    examination: &Examination<'_>,
) -> Result<Subject, StoreError> {
    let Examination { claim, findings, not_found_suspended } = examination;
    let keys: BTreeSet<GatewayKey> = findings
        .by_order
        .iter()
        .flatten()
        .chain(&findings.hinted)
        .map(|transaction| transaction.key.clone())
        .chain(record.payment.value.key().cloned())
        .collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let payment_id = record.payment.value.id();
    let keys_owned_elsewhere =
        if keys.is_empty() { BTreeSet::new() } else { tx.keys_owned_elsewhere(payment_id, &keys).await? };
    // The gateway was asked after the claim: ages counted to that moment are never too long.
    let asked_at = claim.claimed_at;
    // What is not believed is not counted either.
    let none_there = findings.by_order.as_ref().is_some_and(Vec::is_empty) && !not_found_suspended;
    Ok(Subject {
        status: record.payment.value.status(),
        key: record.payment.value.key().cloned(),
        order_ref: GatewayOrderRef::from(record.payment.value.order_id()),
        paid_amount: record.payment.value.amounts().paid_amount(),
        age: since(asked_at, record.created_at).unwrap_or_default(),
        since_send_deadline: since(asked_at, record.send_deadline),
        transaction_seen: claim.transaction_seen,
        not_found_count: claim.not_found_count
            + u32::from(none_there && counts_as_not_found(policy, record, claim)),
        keys_owned_elsewhere,
        last_look: is_watch_look(claim)
            && policy.last_watch().is_some_and(|(last, _)| claim.watch_step >= last),
    })
}

/// A look of the watch list whose time had come, not one that a callback or a person asked for in between.
pub(super) fn is_watch_look(claim: &Claim) -> bool {
    claim.scheduled && claim.record.payment.value.status().is_terminal()
}

fn since(now: Timestamp, then: Timestamp) -> Option<Duration> {
    Duration::try_from(now - then).ok()
}

/// One more "no such transaction" counts after the send deadline, and apart enough from the one before.
fn counts_as_not_found(policy: &Policy, record: &PaymentRecord, claim: &Claim) -> bool {
    let apart = claim.not_found_at.is_none_or(|before| {
        since(claim.claimed_at, before).is_some_and(|gap| gap >= policy.not_found_spacing())
    });
    claim.claimed_at >= record.send_deadline && apart
}

pub(super) fn next_check(
    policy: &Policy,
    record: &PaymentRecord,
    claim: &Claim,
    subject: &Subject,
    findings: &Findings,
    decision: &Decision,
) -> NextCheck {
    let seen_now = findings.by_order.as_ref().is_some_and(|listed| !listed.is_empty());
    let counted = subject.not_found_count > claim.not_found_count;
    let mut next = NextCheck {
        due: NextDue::Keep,
        transaction_seen: claim.transaction_seen || seen_now,
        not_found_count: subject.not_found_count,
        not_found_now: counted,
        failures: 0,
        watch_step: claim.watch_step,
    };
    match &decision.verdict {
        Verdict::Wait { why: Waiting::StillSending, .. } => {
            // Asked again as soon as our own request can't be on its way any more.
            next.due = NextDue::In(since(record.send_deadline, claim.claimed_at).unwrap_or_default());
        }
        Verdict::Wait { .. } => next.due = NextDue::In(policy.not_found_spacing().min(policy.min_age)),
        Verdict::Ended if is_watch_look(claim) => {
            next.watch_step = claim.watch_step.saturating_add(1);
            next.due = policy.watch_wait(next.watch_step).map_or(NextDue::Never, NextDue::In);
        }
        Verdict::Ended if decision.watch == Watch::Full => next.watch_step = 0,
        Verdict::Ended => {}
        // The watch list was set by the end itself; see `watch_again`.
        Verdict::Pay { .. } | Verdict::Fail { .. } => {
            next.watch_step = if record.watch_wanted || decision.watch == Watch::Full {
                0
            } else {
                policy.last_watch().map_or(0, |(step, _)| step)
            };
        }
    }
    next
}
