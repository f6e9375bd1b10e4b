//! Asking the gateway about one payment and settling it: what callback, reconciler, watch list and sync by hand share.
//!
//! A claim gives the right to ask, so that a payment is never examined twice at once; it holds no lock and no
//! transaction while the gateway is asked.

use crate::settle::{self, Examination, Learned, SettleError, Settled};
use crate::{Io, Policy};
use domain::mutants::{self, Mutant};
use domain::ports::{
    Cause, Claim, Lookup, LookupError, NewDiscrepancy, NextCheck, NextDue, Oddity, StoreError,
};
use domain::settlement::{Discrepancy, DiscrepancyKind, Findings, KeyAnswer, Transaction, TransactionStatus};
use domain::{GatewayOrderRef, PaymentId};
use std::time::Duration;

/// The most transactions of one order that are looked into at once.
const MAX_TRANSACTIONS: usize = 20;
/// The most keys named by callbacks that are looked up at once.
const MAX_HINTS: usize = 5;

/// What came of an examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// The gateway answered, and this came of it.
    Settled(Settled),
    /// Nothing was on the card: there is nothing to ask.
    NothingToAsk,
    /// Somebody else is at it, it was asked about just now, or there is no such payment.
    NotClaimed,
    /// The gateway could not be asked, or its answer was of no use; it will be asked again, later.
    Unreachable,
    /// The database could not be reached, or something is wrong with this payment; it will be examined again.
    Failed,
    /// It failed so often that it is parked, with a ledger row.
    Parked,
}

/// Claims one payment and examines it now.
///
/// # Errors
/// [`StoreError`] when it could not even be claimed.
pub async fn examine_one(
    io: &mut Io,
    policy: &Policy,
    payment_id: PaymentId,
    cause: Cause,
) -> Result<Examined, StoreError> {
    let tx = io.begin("claim_payment").await?;
    let claimed = tx.claim_payment(payment_id, policy.lease, policy.query_interval).await;
    let claim = tx.finish(claimed).await?;
    let Some(claim) = claim else {
        return Ok(Examined::NotClaimed);
    };
    let findings = investigate(io, &claim).await;
    // One payment alone never shows that many are not found: the gateway must prove that it knows us.
    let doubtful = findings.as_ref().is_ok_and(|found| none_there(found) || key_lost(found));
    let suspended = doubtful && !knows_last_paid(io).await;
    Ok(conclude(io, policy, &claim, findings, suspended, cause).await)
}

/// The gateway said that it has no transaction of the order.
pub(crate) fn none_there(findings: &Findings) -> bool {
    findings.by_order.as_ref().is_some_and(Vec::is_empty)
}

/// The gateway said that it does not know the key that we hold.
pub(crate) fn key_lost(findings: &Findings) -> bool {
    matches!(findings.by_key, Some(KeyAnswer::NotFound(_)))
}

/// Whether the gateway knows the transaction that was last paid by. When it does not, or can't be asked, it is wiped or
/// we are somebody else to it, and "no such transaction" means nothing.
pub(crate) async fn knows_last_paid(io: &mut Io) -> bool {
    match io.queries().last_paid_key().await {
        Ok(Some((merchant, key))) => {
            matches!(io.gateway().find_by_key(&merchant, &key).await, Ok(Lookup::Found(_)))
        }
        // Nothing was ever paid: there is nothing to hold it against.
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Asks the gateway what the decision needs, without any transaction.
///
/// # Errors
/// [`LookupError`]: nothing may be concluded.
pub async fn investigate(io: &mut Io, claim: &Claim) -> Result<Findings, LookupError> {
    let payment = &claim.record.payment.value;
    let merchant = &claim.record.merchant;
    let order_ref = GatewayOrderRef::from(payment.order_id());
    let gateway = io.gateway();
    let mut findings = Findings::default();
    if let Some(key) = payment.key() {
        let answer = match gateway.find_by_key(merchant, key).await? {
            Lookup::Found(transaction) => KeyAnswer::Found(transaction),
            Lookup::NotFound => KeyAnswer::NotFound(key.clone()),
        };
        let pays = matches!(&answer, KeyAnswer::Found(t) if t.status == TransactionStatus::Success
            && t.order_ref == order_ref
            && t.amount == payment.amounts().paid_amount());
        findings.by_key = Some(answer);
        // PAID needs only this one. To fail it, or to look for further charges, the whole list is needed.
        let only_this = claim.hints.iter().all(|hint| hint == key) && !payment.status().is_terminal();
        if pays && only_this {
            return Ok(findings);
        }
    }
    let mut listed: Vec<Transaction> = Vec::new();
    if let Lookup::Found(summaries) = gateway.find_by_order(merchant, &order_ref).await? {
        for summary in summaries.into_iter().take(MAX_TRANSACTIONS) {
            match &findings.by_key {
                Some(KeyAnswer::Found(held)) if held.key == summary.key => listed.push(held.clone()),
                _ => match gateway.find_by_key(merchant, &summary.key).await? {
                    Lookup::Found(transaction) => listed.push(transaction),
                    Lookup::NotFound => {
                        return Err(LookupError::Odd { what: Oddity::ListedButNotFound });
                    }
                },
            }
        }
    }
    if mutants::is(Mutant::NotFoundIsError) && listed.is_empty() {
        let cause = domain::ports::FailureCause("NotFound");
        return Err(LookupError::Unreachable { cause, circuit_open: false });
    }
    for hint in claim.hints.iter().take(MAX_HINTS) {
        let known = payment.key() == Some(hint) || listed.iter().any(|transaction| transaction.key == *hint);
        if !known && let Lookup::Found(transaction) = gateway.find_by_key(merchant, hint).await? {
            findings.hinted.push(transaction);
        }
    }
    findings.by_order = Some(listed);
    Ok(findings)
}

/// Settles by the findings, or notes that there were none; ends the claim.
pub async fn conclude(
    io: &mut Io,
    policy: &Policy,
    claim: &Claim,
    findings: Result<Findings, LookupError>,
    not_found_suspended: bool,
    cause: Cause,
) -> Examined {
    let payment_id = claim.record.payment.value.id();
    let findings = match findings {
        Ok(findings) => findings,
        Err(_) if mutants::is(Mutant::ForcedWithoutAsking) => {
            Findings { by_order: Some(Vec::new()), ..Findings::default() }
        }
        Err(LookupError::Unreachable { cause, .. }) => {
            tracing::info!(%payment_id, cause = cause.0, "the gateway could not be asked");
            // Not this payment's fault: it is not counted towards parking when the gateway as a whole is away.
            return back_off(io, policy, claim, false, Examined::Unreachable).await;
        }
        Err(LookupError::Odd { what }) => {
            tracing::warn!(%payment_id, what = what.label(), "the gateway's answer is of no use for this payment");
            return back_off(io, policy, claim, true, Examined::Unreachable).await;
        }
    };
    let examination = Examination { claim, findings, not_found_suspended };
    match settle::settle(io, policy, payment_id, Learned::Findings(&examination), cause).await {
        Ok(settlement) => Examined::Settled(settlement.settled),
        Err(error) => {
            let broken = !matches!(
                error,
                SettleError::Store(StoreError::Conflict { .. } | StoreError::Unavailable { .. })
            );
            if broken {
                tracing::error!(%payment_id, error = &error as &dyn std::error::Error, "a payment could not be examined");
            } else {
                tracing::info!(%payment_id, error = &error as &dyn std::error::Error, "a payment is examined again later");
            }
            back_off(io, policy, claim, broken, Examined::Failed).await
        }
    }
}

/// Ends the claim without a result: longer and longer pauses, then parked.
async fn back_off(io: &mut Io, policy: &Policy, claim: &Claim, counts: bool, examined: Examined) -> Examined {
    let payment_id = claim.record.payment.value.id();
    // What is not the payment's fault makes the pauses longer, but alone it never brings it near being parked.
    let most = if counts { u32::MAX } else { claim.failures.max(policy.park_after_failures / 2) };
    let failures = claim.failures.saturating_add(1).min(most);
    let park = counts && failures >= policy.park_after_failures;
    let base = policy.min_age.min(Duration::from_secs(1));
    let wait = base.saturating_mul(1 << claim.failures.min(16)).min(policy.backoff_max);
    // An extra look at an ended payment must not move the look that the watch list has set: it is woken again instead.
    let extra = claim.record.payment.value.status().is_terminal()
        && !claim.scheduled
        && !mutants::is(Mutant::ExtraLookMovesWatch);
    let next = NextCheck {
        due: if extra { NextDue::Keep } else { NextDue::In(wait) },
        transaction_seen: claim.transaction_seen,
        not_found_count: claim.not_found_count,
        not_found_now: false,
        failures,
        watch_step: claim.watch_step,
    };
    let stored = async {
        let tx = io.begin("back_off").await?;
        let work = async {
            if park {
                let discrepancy = Discrepancy {
                    kind: DiscrepancyKind::Poison,
                    key: claim.record.payment.value.key().cloned(),
                    amount: None,
                    evidence: format!("could not be examined {failures} times in a row"),
                };
                tx.record_discrepancy(&NewDiscrepancy { payment_id, discrepancy }).await?;
                tx.park(claim).await
            } else {
                if extra {
                    tx.wake(payment_id).await?;
                }
                tx.finish_claim(claim, &next, false).await.map(|_kept| ())
            }
        };
        let work: Result<(), StoreError> = work.await;
        tx.finish(work).await
    };
    match stored.await {
        Ok(()) if park => {
            tracing::error!(%payment_id, failures, "a payment is parked");
            Examined::Parked
        }
        Ok(()) => examined,
        Err(error) => {
            // The lease ends by itself; then it is examined again.
            tracing::warn!(%payment_id, error = &error as &dyn std::error::Error, "a claim could not be ended");
            examined
        }
    }
}
