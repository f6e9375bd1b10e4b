//! When a payment is looked at next: what a look tells the decision about the past, and what it leaves for the next look.

use super::{Blame, Case, Check, Decision, Findings, SettlementPolicy, Shared, Subject, Waiting, Watch};
use crate::Timestamp;
use crate::ports::Claim;
use std::time::Duration;

/// The numbers of settling (spec 03, `reconciler.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlementRules {
    /// An undecided payment is looked at when it has not changed for so long.
    pub min_age: Duration,
    /// It is forced FAILED from this age on, upon a fresh answer.
    pub force_fail_after: Duration,
    /// How often the gateway must say that it has no such transaction.
    pub not_found_confirmations: u32,
    /// That is believed so long after the send deadline; two answers count when half of it (at most 30 s) lies between.
    pub not_found_grace: Duration,
    /// The looks of the watch list, each counted from the payment's end.
    pub watch_after: Vec<Duration>,
    /// The longest pause after failures to examine a payment.
    pub backoff_max: Duration,
    /// So many failures in a row park a payment.
    pub park_after_failures: u32,
}

impl SettlementRules {
    /// What the decision needs of them.
    pub const fn policy(&self, not_found_suspended: bool) -> SettlementPolicy {
        SettlementPolicy {
            force_fail_after: self.force_fail_after,
            not_found_confirmations: self.not_found_confirmations,
            not_found_grace: self.not_found_grace,
            not_found_suspended,
        }
    }

    /// Two "no such transaction" count as two when so long lies between them.
    pub fn not_found_spacing(&self) -> Duration {
        (self.not_found_grace / 2).min(Duration::from_secs(30))
    }

    /// The wait from the payment's end, or from the look before, to look `step` of the watch list.
    pub fn watch_wait(&self, step: u32) -> Option<Duration> {
        let at = usize::try_from(step).ok()?;
        let due = *self.watch_after.get(at)?;
        let before = at.checked_sub(1).and_then(|at| self.watch_after.get(at)).copied().unwrap_or_default();
        Some(due.saturating_sub(before))
    }

    /// The last look of the watch list and its wait from the payment's end.
    pub fn last_watch(&self) -> Option<(u32, Duration)> {
        let due = *self.watch_after.last()?;
        Some((u32::try_from(self.watch_after.len()).ok()?.checked_sub(1)?, due))
    }

    /// The pause after a failed examination that so many others came before.
    fn pause_after(&self, failures: u32) -> Duration {
        let base = self.min_age.min(Duration::from_secs(1));
        base.saturating_mul(1 << failures.min(16)).min(self.backoff_max)
    }
}

/// `wait` after `now`; the end of time where that is too far.
fn after(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = time::Duration::try_from(wait).unwrap_or(time::Duration::MAX);
    now.checked_add(wait).unwrap_or(time::macros::datetime!(9999-12-31 00:00 UTC))
}

fn since(now: Timestamp, then: Timestamp) -> Option<Duration> {
    Duration::try_from(now - then).ok()
}

/// A look of the watch list whose time had come, not one that a callback or a person asked for in between.
pub(super) const fn is_watch_look(claim: &Claim) -> bool {
    claim.scheduled && claim.record.payment.status().is_terminal()
}

/// What the decision is told about a payment.
pub(super) fn subject(
    case: &Case,
    shared: &Shared,
    claim: &Claim,
    findings: &Findings,
    rules: &SettlementRules,
    not_found_suspended: bool,
) -> Subject {
    let Case { record, check, .. } = case;
    let payment = &record.payment;
    // The gateway was asked after the claim: ages counted to that moment are never too long.
    let asked_at = claim.claimed_at;
    // What is not believed is not counted either.
    let counts = findings.none_there() && !not_found_suspended && {
        // After the send deadline, and apart enough from the one before.
        let apart = check
            .not_found_at
            .is_none_or(|before| since(asked_at, before).is_some_and(|gap| gap >= rules.not_found_spacing()));
        asked_at >= record.send_deadline && apart
    };
    let elsewhere =
        |key: &&crate::GatewayKey| shared.key_owners.get(*key).is_some_and(|owner| *owner != payment.id());
    Subject {
        status: payment.status(),
        key: payment.key().cloned(),
        order_ref: record.order_ref.clone(),
        created_at: record.created_at,
        paid_amount: payment.amounts().paid_amount(),
        age: since(asked_at, record.created_at).unwrap_or_default(),
        since_send_deadline: since(asked_at, record.send_deadline),
        transaction_seen: check.transaction_seen,
        not_found_count: check.not_found_count + u32::from(counts),
        keys_owned_elsewhere: findings
            .transactions()
            .map(|transaction| &transaction.key)
            .chain(payment.key())
            .filter(elsewhere)
            .cloned()
            .collect(),
        last_look: is_watch_look(claim)
            && rules.last_watch().is_some_and(|(last, _)| check.watch_step >= last),
    }
}

/// The claim is ended, with what the look has shown. When to look next is set by [`wait`], [`watch_next`] or [`watch`].
pub(super) fn looked(
    check: &Check,
    claim: &Claim,
    findings: &Findings,
    subject: &Subject,
    now: Timestamp,
) -> Check {
    // More keys were named than are asked about at once: the rest is next.
    let unasked = claim.hints.iter().any(|hint| !findings.hints_asked.contains(hint));
    let seen_now = findings.by_order.as_ref().is_some_and(|listed| !listed.is_empty());
    let not_found_at = if subject.not_found_count > check.not_found_count {
        Some(now)
    } else {
        check.not_found_at.filter(|_| subject.not_found_count > 0)
    };
    Check {
        lease: None,
        woken_at: check.woken_at.or_else(|| unasked.then_some(now)),
        failures: 0,
        transaction_seen: check.transaction_seen || seen_now,
        not_found_count: subject.not_found_count,
        not_found_at,
        ..*check
    }
}

/// An undecided payment: asked again, as soon as that can tell something new.
pub(super) fn wait(
    check: &mut Check,
    case: &Case,
    why: Waiting,
    claim: &Claim,
    now: Timestamp,
    rules: &SettlementRules,
) {
    let pause = match why {
        // As soon as our own request can't be on its way any more.
        Waiting::StillSending => since(case.record.send_deadline, claim.claimed_at).unwrap_or_default(),
        Waiting::TransactionPending
        | Waiting::NotFoundYet
        | Waiting::KeyContradicted
        | Waiting::KeyOwnedElsewhere
        | Waiting::NotFoundSuspended
        | Waiting::ListUnknown => rules.not_found_spacing().min(rules.min_age),
    };
    check.due_at = Some(after(now, pause));
}

/// A payment that had ended: a look of the watch list sets the next one, an extra look changes nothing, unless a
/// transaction is still undecided.
pub(super) fn watch_next(
    check: &mut Check,
    claim: &Claim,
    decision: &Decision,
    now: Timestamp,
    rules: &SettlementRules,
) {
    if is_watch_look(claim) {
        check.watch_step = check.watch_step.saturating_add(1);
        check.due_at = rules.watch_wait(check.watch_step).map(|pause| after(now, pause));
    } else if decision.watch == Watch::Full {
        watch(check, Watch::Full, now, rules);
    }
}

/// The payment ends, or what is known of its end has changed: whether and when it is looked at after it. Once it was wanted,
/// it is watched whatever its end.
pub(super) fn watch(check: &mut Check, watch: Watch, now: Timestamp, rules: &SettlementRules) {
    let next = match if check.watch_wanted { Watch::Full } else { watch } {
        Watch::No => None,
        Watch::Once => rules.last_watch(),
        Watch::Full => rules.watch_wait(0).map(|pause| (0, pause)),
    };
    check.due_at = next.map(|(_, pause)| after(now, pause));
    check.watch_step = next.map_or(0, |(step, _)| step);
}

/// Our own request is over, its payment undecided: left alone until it has not changed for long enough.
pub(super) fn left_alone(check: &mut Check, now: Timestamp, rules: &SettlementRules) {
    check.due_at = Some(after(now, rules.min_age));
}

/// The examination came to nothing: longer and longer pauses, in the end parked. True when it is parked now.
pub(super) fn failed(
    case: &Case,
    claim: &Claim,
    blame: Blame,
    now: Timestamp,
    rules: &SettlementRules,
) -> (Check, bool) {
    let mut check = Check { lease: None, ..case.check };
    let counts = blame != Blame::Elsewhere;
    // What is not the payment's fault makes the pauses longer, but alone it never brings it near being parked.
    let most = if counts { u32::MAX } else { check.failures.max(rules.park_after_failures / 2) };
    let pause = rules.pause_after(check.failures);
    check.failures = check.failures.saturating_add(1).min(most);
    if counts && check.failures >= rules.park_after_failures {
        // A callback or a person that came meanwhile has woken it: then it is not parked.
        check.parked_at = if check.woken_at.is_some() { None } else { Some(now) };
        return (check, check.parked_at.is_some());
    }
    if case.record.payment.status().is_terminal() && !is_watch_look(claim) {
        // An extra look at an ended payment must not move the look that the watch list has set: it is woken again instead.
        check.woken_at = check.woken_at.or(Some(now));
    } else {
        check.due_at = Some(after(now, pause));
    }
    (check, false)
}
