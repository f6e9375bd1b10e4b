//! Asking the gateway about one payment and settling it: what callback, reconciler, watch list and sync by hand share.
//!
//! A claim gives the right to ask, so that a payment is never examined twice at once; it holds no lock and no
//! transaction while the gateway is asked.

use crate::settle::{Fact, Lesson, SettleError};
use crate::{Io, Policy};
use domain::PaymentId;
use domain::ports::{Cause, Claim, ClaimOptions, Due, FailureCause, Lookup, LookupError, Oddity, StoreError};
use domain::settlement::{Blame, Findings, KeyAnswer, Settled, Transaction, TransactionStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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

/// A number that no other claims have.
pub(crate) fn new_lease(io: &Io) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = io.entropy().token();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Claims one payment, ended or not, unless it was claimed less than `min_interval` ago, and examines it now. The gateway is
/// not asked for longer than `until`; what was learned is stored whatever the time, since that may be done together with
/// what others have learned.
///
/// # Errors
/// [`StoreError`] when it could not even be claimed.
pub async fn examine_one(
    io: &mut Io,
    policy: &Policy,
    payment_id: PaymentId,
    min_interval: Duration,
    until: Option<Instant>,
    cause: Cause,
) -> Result<Examined, StoreError> {
    let options = ClaimOptions {
        due: Due::One { payment_id, min_interval },
        limit: 1,
        lease_id: new_lease(io),
        lease: policy.lease,
        due_by: None,
    };
    match io.claim(&options).await?.pop() {
        Some(claim) => Ok(examine_claimed(io, policy, claim, until, cause).await),
        None => Ok(Examined::NotClaimed),
    }
}

/// Examines a payment by itself, without asking the gateway for longer than `until`.
pub(crate) async fn examine_claimed(
    io: &mut Io,
    policy: &Policy,
    claim: Claim,
    until: Option<Instant>,
    cause: Cause,
) -> Examined {
    let asked = investigate(io, policy, &claim);
    let findings = match until {
        None => asked.await,
        Some(until) => tokio::time::timeout_at(until, asked).await.unwrap_or({
            Err(LookupError::Unreachable { cause: FailureCause("NoTimeLeft"), circuit_open: false })
        }),
    };
    // One payment alone never shows that many are not found: the gateway must prove that it knows us.
    let doubtful = findings.as_ref().is_ok_and(|found| found.none_there() || found.key_lost());
    let suspended = doubtful && !knows_last_paid(io).await;
    conclude(io, claim, findings, suspended, cause).await
}

/// Whether the gateway knows the transaction that was last paid by. When it does not, or can't be asked, it is wiped or
/// we are somebody else to it, and "no such transaction" means nothing.
pub(crate) async fn knows_last_paid(io: &mut Io) -> bool {
    match io.queries().last_paid_key().await {
        Ok(Some((merchant, key))) => matches!(
            io.gateway().find_by_key(&merchant, &key).await,
            // What it says of it may be odd: it has it.
            Ok(Lookup::Found(_)) | Err(LookupError::Odd { .. })
        ),
        // Nothing was ever paid: there is nothing to hold it against.
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Asks the gateway what the decision needs, without any transaction.
///
/// # Errors
/// [`LookupError`]: nothing may be concluded.
pub async fn investigate(io: &mut Io, policy: &Policy, claim: &Claim) -> Result<Findings, LookupError> {
    let record = &claim.record;
    let (payment, merchant, order_ref) = (&record.payment, &record.merchant, &record.order_ref);
    let gateway = io.gateway();
    let mut findings = Findings::default();
    if let Some(key) = payment.key() {
        let answer = match gateway.find_by_key(merchant, key).await? {
            Lookup::Found(transaction) => KeyAnswer::Found(transaction),
            Lookup::NotFound => KeyAnswer::NotFound(key.clone()),
        };
        let pays = matches!(&answer, KeyAnswer::Found(t) if t.status == TransactionStatus::Success
            && t.order_ref == *order_ref
            && t.amount == payment.amounts().paid_amount());
        findings.by_key = Some(answer);
        // PAID needs only this one. To fail it, or to look for further charges, the whole list is needed.
        let only_this = claim.hints.iter().all(|hint| hint == key) && !payment.status().is_terminal();
        if pays && only_this {
            findings.hints_asked.clone_from(&claim.hints);
            return Ok(findings);
        }
    }
    let mut listed: Vec<Transaction> = Vec::new();
    if let Lookup::Found(summaries) = gateway.find_by_order(merchant, order_ref).await? {
        // A part of them would pass for all.
        if summaries.len() > policy.max_transactions {
            return Err(LookupError::Odd { what: Oddity::TooManyTransactions });
        }
        for summary in summaries {
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
    for hint in claim.hints.iter().take(policy.max_hints.max(1)) {
        let known = payment.key() == Some(hint) || listed.iter().any(|transaction| transaction.key == *hint);
        if !known {
            match gateway.find_by_key(merchant, hint).await {
                Ok(Lookup::Found(transaction)) => findings.hinted.push(transaction),
                Ok(Lookup::NotFound) => {}
                // It is not on our order's list: what is odd about it is no fault of this payment.
                Err(LookupError::Odd { what }) => {
                    tracing::warn!(%order_ref, key = %hint, what = what.label(), "a callback named a transaction of no use");
                }
                Err(error) => return Err(error),
            }
        }
        findings.hints_asked.push(hint.clone());
    }
    findings.by_order = Some(listed);
    Ok(findings)
}

/// Settles by the findings, or notes that there were none; ends the claim.
pub(crate) async fn conclude(
    io: &mut Io,
    claim: Claim,
    findings: Result<Findings, LookupError>,
    not_found_suspended: bool,
    cause: Cause,
) -> Examined {
    let payment_id = claim.record.payment.id();
    let findings = match findings {
        Ok(findings) => findings,
        Err(LookupError::Unreachable { cause: why, .. }) => {
            tracing::info!(%payment_id, cause = why.0, "the gateway could not be asked");
            return back_off(io, claim, Blame::Elsewhere, Examined::Unreachable, cause).await;
        }
        Err(LookupError::Odd { what }) => {
            tracing::warn!(%payment_id, what = what.label(), "the gateway's answer is of no use for this payment");
            let label = what.label();
            let blame = if what.is_beyond_us() { Blame::Beyond(label) } else { Blame::Payment(label) };
            return back_off(io, claim, blame, Examined::Unreachable, cause).await;
        }
    };
    let fact = Fact::Findings { claim: claim.clone(), findings, not_found_suspended };
    match settle(io, payment_id, fact, cause).await {
        Ok(settled) => Examined::Settled(settled),
        Err(error) => {
            let passing = error.is_passing();
            if passing {
                tracing::info!(%payment_id, error = &error as &dyn std::error::Error, "a payment is examined again later");
            } else {
                tracing::error!(%payment_id, error = &error as &dyn std::error::Error, "a payment could not be examined");
            }
            let blame =
                if passing { Blame::Elsewhere } else { Blame::Payment("what is stored does not fit") };
            back_off(io, claim, blame, Examined::Failed, cause).await
        }
    }
}

async fn settle(
    io: &mut Io,
    payment_id: PaymentId,
    fact: Fact,
    cause: Cause,
) -> Result<Settled, SettleError> {
    let lesson = Lesson { payment_id, fact: Arc::new(fact), cause, answer: None };
    Ok(io.settle(lesson).await?.settled)
}

/// Ends the claim without a result: longer and longer pauses, then parked.
async fn back_off(io: &mut Io, claim: Claim, blame: Blame, examined: Examined, cause: Cause) -> Examined {
    let payment_id = claim.record.payment.id();
    match settle(io, payment_id, Fact::NotExamined { claim, blame }, cause).await {
        Ok(Settled::Parked) => Examined::Parked,
        Ok(_) => examined,
        Err(error) => {
            // The lease ends by itself; then it is examined again.
            tracing::warn!(%payment_id, error = &error as &dyn std::error::Error, "a claim could not be ended");
            examined
        }
    }
}
