//! The one function that ends a payment ([`settle`]), for all who learn something about it: the gateway's answer to our
//! request, callback, reconciler, watch list, sync by hand (spec 01 section 2, TX2 and TX3).
//!
//! What is decided stands in `domain::settlement`; here it is applied in one transaction: payment, order, stock,
//! coupon, points, history, ledger, watch list and the claim of who asked. The payment's lock comes first, so whoever
//! is second finds it ended and changes nothing.

mod ending;
mod looking;

use crate::{Io, Policy, Tx};
use domain::mutants::{self, Mutant};
use domain::ports::{
    Cause, ChargeOutcome, Claim, FailureCause, GatewayAnswer, NewDiscrepancy, PaymentRecord, StoreError,
};
use domain::settlement::{
    self, Decision, Discrepancy, DiscrepancyKind, Findings, SettlementPolicy, Verdict, Waiting, Watch,
};
use domain::{FailureMessage, GatewayKey, PaymentId, PaymentStatus};
pub(crate) use ending::order_view;
use ending::{Change, complete, fail, watch_again};
use looking::{is_watch_look, next_check, subject};

/// What was learned about a payment.
#[derive(Debug, Clone, Copy)]
pub enum Learned<'a> {
    /// The gateway's answer to our own request.
    Answer(&'a ChargeOutcome),
    /// What the gateway said when asked.
    Findings(&'a Examination<'a>),
}

/// Findings, with the claim under which they were gathered.
#[derive(Debug)]
pub struct Examination<'a> {
    /// The right to examine.
    pub claim: &'a Claim,
    /// What the gateway said.
    pub findings: Findings,
    /// "No such transaction" is not believed now.
    pub not_found_suspended: bool,
}

/// What became of the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is PAID now.
    Paid,
    /// It is FAILED now, all it had taken given back.
    Failed {
        /// It was undecided for too long.
        forced: bool,
    },
    /// It had ended before; nothing changed.
    AlreadyEnded,
    /// It waits.
    Waiting(Waiting),
    /// The gateway has it: waits for callback or reconciler.
    InProgress,
    /// The claim had passed to somebody else; nothing changed.
    LeaseLost,
}

/// Why settling did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The store.
    #[error("could not store what became of the payment")]
    Store(#[from] StoreError),
    /// There is no such payment, or its order is gone.
    #[error("payment {0} is not there")]
    NotFound(PaymentId),
    /// The stored state does not take what must be done: a defect.
    #[error("payment {payment_id} does not take its end ({what})")]
    Inconsistent {
        /// Which payment.
        payment_id: PaymentId,
        /// Why.
        what: String,
    },
}

/// What [`settle`] did, and the payment after it.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// What became of it.
    pub settled: Settled,
    /// The payment as it is stored now.
    pub record: PaymentRecord,
}

/// Ends a payment, or notes what was learned, in one transaction of its own. Late and second ones change nothing.
///
/// # Errors
/// [`SettleError`]; nothing is stored then, or that is not known and it can be called again.
pub async fn settle(
    io: &mut Io,
    policy: &Policy,
    payment_id: PaymentId,
    learned: Learned<'_>,
    cause: Cause,
) -> Result<Settlement, SettleError> {
    let tx = io.begin("settle").await?;
    let applied = apply(&tx, policy, payment_id, learned, cause).await;
    if matches!(&applied, Ok(Settlement { settled: Settled::LeaseLost, .. })) {
        tx.rollback().await;
        return applied;
    }
    let settlement = tx.finish(applied).await?;
    report(payment_id, &settlement, cause);
    Ok(settlement)
}

/// The same inside a transaction that the caller commits (and then calls [`report`]).
pub(crate) async fn apply(
    tx: &Tx<'_>,
    policy: &Policy,
    payment_id: PaymentId,
    learned: Learned<'_>,
    cause: Cause,
) -> Result<Settlement, SettleError> {
    let record = tx.lock_payment(payment_id).await?.ok_or(SettleError::NotFound(payment_id))?;
    match learned {
        Learned::Answer(outcome) => apply_answer(tx, policy, record, outcome, cause).await,
        Learned::Findings(examination) => apply_findings(tx, policy, record, examination, cause).await,
    }
}

/// Logs and counts what was committed.
pub(crate) fn report(payment_id: PaymentId, settlement: &Settlement, cause: Cause) {
    let result = match &settlement.settled {
        Settled::Paid => "paid",
        Settled::Failed { forced: true } => {
            let since = settlement.record.updated_at - settlement.record.created_at;
            tracing::warn!(
                "Payment forced to fail due to timeout. paymentId={payment_id}, elapsed={}m",
                since.whole_minutes()
            );
            "forced"
        }
        Settled::Failed { forced: false } => "failed",
        Settled::AlreadyEnded | Settled::Waiting(_) | Settled::InProgress | Settled::LeaseLost => return,
    };
    metrics::counter!("payment_settled_total", "by" => cause.as_str(), "result" => result).increment(1);
}

async fn apply_answer(
    tx: &Tx<'_>,
    policy: &Policy,
    record: PaymentRecord,
    outcome: &ChargeOutcome,
    cause: Cause,
) -> Result<Settlement, SettleError> {
    let payment_id = record.payment.value.id();
    if outcome.watch && !mutants::is(Mutant::WatchWishForgotten) {
        tx.want_watch(payment_id).await?;
    }
    let watch = if outcome.watch { Watch::Full } else { Watch::No };
    let ended = record.payment.value.status().is_terminal();
    match &outcome.answer {
        GatewayAnswer::Accepted { key, .. } if ended => {
            let another = record.payment.value.key() != Some(key)
                || record.payment.value.status() == PaymentStatus::Failed;
            if another {
                // It ended without this transaction: the next examination puts what it charged into the ledger.
                tx.record_callback(payment_id, key).await?;
            }
            if another || outcome.watch {
                watch_again(tx, policy, payment_id, Watch::Full).await?;
            }
            Ok(Settlement { settled: Settled::AlreadyEnded, record })
        }
        _ if ended => {
            if outcome.watch {
                watch_again(tx, policy, payment_id, Watch::Full).await?;
            }
            Ok(Settlement { settled: Settled::AlreadyEnded, record })
        }
        GatewayAnswer::Accepted { key, .. } => accept(tx, policy, record, key, cause).await,
        // Somebody else learned meanwhile that the gateway has it: that is the outcome.
        _ if record.payment.value.key().is_some() => Ok(Settlement { settled: Settled::InProgress, record }),
        GatewayAnswer::Rejected { message } => {
            fail(tx, policy, record, message.clone(), watch, false, cause).await
        }
        GatewayAnswer::NotReached { cause: FailureCause(why), .. } => {
            let message = FailureMessage::from_outside(&format!("PG에 연결하지 못했습니다. ({why})"));
            fail(tx, policy, record, message, watch, false, cause).await
        }
        GatewayAnswer::CircuitOpen { .. } => {
            let message = FailureMessage::from_outside("PG 장애로 결제를 요청하지 않았습니다. (CircuitOpen)");
            fail(tx, policy, record, message, watch, false, cause).await
        }
        GatewayAnswer::Uncertain { .. } if mutants::is(Mutant::UncertainIsNotReached) => {
            fail(tx, policy, record, FailureMessage::from_outside("no answer"), watch, false, cause).await
        }
        GatewayAnswer::Uncertain { .. } => Ok(Settlement { settled: Settled::InProgress, record }),
    }
}

/// IN_PROGRESS with its key, unless another payment owns that.
async fn accept(
    tx: &Tx<'_>,
    policy: &Policy,
    record: PaymentRecord,
    key: &GatewayKey,
    cause: Cause,
) -> Result<Settlement, SettleError> {
    let payment_id = record.payment.value.id();
    if record.payment.value.key() == Some(key) {
        // Stored before: by us, when the commit's answer was lost, or by who was faster.
        return Ok(Settlement { settled: Settled::InProgress, record });
    }
    if tx.keys_owned_elsewhere(payment_id, std::slice::from_ref(key)).await?.contains(key) {
        let discrepancy = Discrepancy {
            kind: DiscrepancyKind::KeyReused,
            key: Some(key.clone()),
            amount: Some(record.payment.value.amounts().paid_amount()),
            evidence: "the gateway gave this key to two of our payments".to_owned(),
        };
        tx.record_discrepancy(&NewDiscrepancy { payment_id, discrepancy }).await?;
        return Ok(Settlement { settled: Settled::InProgress, record });
    }
    let mut change = Change::of(record, cause);
    change.start_if_pending()?;
    change.attach(key.clone(), "the gateway accepted the request")?;
    let record = change.save(tx).await?;
    if mutants::is(Mutant::AcceptedIsPaid) {
        return complete(tx, policy, record, key.clone(), Watch::No, cause).await;
    }
    Ok(Settlement { settled: Settled::InProgress, record })
}

async fn apply_findings(
    tx: &Tx<'_>,
    policy: &Policy,
    record: PaymentRecord,
    examination: &Examination<'_>,
    cause: Cause,
) -> Result<Settlement, SettleError> {
    let Examination { claim, findings, .. } = examination;
    let payment_id = record.payment.value.id();
    let subject = subject(tx, policy, &record, examination).await?;
    let rules = SettlementPolicy {
        force_fail_after: policy.force_fail_after,
        not_found_confirmations: policy.not_found_confirmations,
        not_found_grace: policy.not_found_grace,
        not_found_suspended: examination.not_found_suspended,
    };
    let decision = settlement::decide(&subject, findings, &rules);
    let next = next_check(policy, &record, claim, &subject, findings, &decision);
    let settlement = apply_decision(tx, policy, record, &decision, cause).await?;
    if decision.verdict == Verdict::Ended && decision.watch == Watch::Full && !is_watch_look(claim) {
        watch_again(tx, policy, payment_id, Watch::Full).await?;
    }
    if mutants::is(Mutant::ClaimNotEnded) || tx.finish_claim(claim, &next, true).await? {
        Ok(settlement)
    } else {
        tracing::info!(%payment_id, "the claim passed to another examiner; nothing is changed");
        Ok(Settlement { settled: Settled::LeaseLost, record: settlement.record })
    }
}

async fn apply_decision(
    tx: &Tx<'_>,
    policy: &Policy,
    record: PaymentRecord,
    decision: &Decision,
    cause: Cause,
) -> Result<Settlement, SettleError> {
    let payment_id = record.payment.value.id();
    for discrepancy in &decision.discrepancies {
        let row = NewDiscrepancy { payment_id, discrepancy: discrepancy.clone() };
        if let Some(id) = tx.record_discrepancy(&row).await? {
            tracing::warn!(%payment_id, %id, kind = discrepancy.kind.as_str(), "discrepancy found");
        }
    }
    match &decision.verdict {
        Verdict::Pay { key } => {
            let watch = if record.watch_wanted { Watch::Full } else { decision.watch };
            complete(tx, policy, record, key.clone(), watch, cause).await
        }
        Verdict::Fail { message, forced } => {
            let watch = if record.watch_wanted { Watch::Full } else { decision.watch };
            fail(tx, policy, record, message.clone(), watch, *forced, cause).await
        }
        Verdict::Wait { why, adopt } => {
            let record = match adopt {
                Some(key) => {
                    let mut change = Change::of(record, cause);
                    change.start_if_pending()?;
                    change.attach(key.clone(), "the gateway lists this transaction for the order")?;
                    let record = change.save(tx).await?;
                    // The answer to our request was never stored, and with it how often we asked: there may be more.
                    tx.want_watch(payment_id).await?;
                    PaymentRecord { watch_wanted: true, ..record }
                }
                None => record,
            };
            Ok(Settlement { settled: Settled::Waiting(*why), record })
        }
        Verdict::Ended => Ok(Settlement { settled: Settled::AlreadyEnded, record }),
    }
}
