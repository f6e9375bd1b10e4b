//! The one function that ends a payment ([`settle`]), for all who learn something about it: the gateway's answer to our
//! request, callback, reconciler, watch list, sync by hand (spec 01 section 2, TX2 and TX3).
//!
//! What is decided stands in `domain::settlement`; here it is applied in one transaction: payment, order, stock,
//! coupon, points, history, ledger, watch list and the claim of who asked. The payment's lock comes first, so whoever
//! is second finds it ended and changes nothing.

use crate::{Io, Policy, Tx};
use domain::mutants::{self, Mutant};
use domain::ports::{
    Cause, ChargeOutcome, Claim, FailureCause, GatewayAnswer, NewDiscrepancy, NextCheck, NextDue, OrderView,
    PaymentEvent, PaymentRecord, PointEntry, PointEntryKind, StockEntry, StockEntryKind, StoreError,
    Versioned,
};
use domain::settlement::{
    self, Decision, Discrepancy, DiscrepancyKind, Findings, SettlementPolicy, Subject, Verdict, Waiting,
    Watch,
};
use domain::{
    FailureMessage, GatewayKey, GatewayOrderRef, Order, OrderError, Payment, PaymentError, PaymentId,
    PaymentStatus, PointError, ProductId, Timestamp,
};
use std::collections::BTreeSet;
use std::time::Duration;

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

/// TX3, success: payment PAID, order PAID.
async fn complete(
    tx: &Tx<'_>,
    policy: &Policy,
    record: PaymentRecord,
    key: GatewayKey,
    watch: Watch,
    cause: Cause,
) -> Result<Settlement, SettleError> {
    let payment_id = record.payment.value.id();
    let order = lock_order(tx, &record).await?;
    let mut change = Change::of(record, cause);
    change.start_if_pending()?;
    if change.record.payment.value.key() != Some(&key) {
        change.attach(key, "this transaction was approved")?;
    }
    change.step("approved by the gateway", Payment::success)?;
    let record = change.save(tx).await?;
    let paid = order.value.clone().pay().map_err(|error| inconsistent(payment_id, &error))?;
    if !mutants::is(Mutant::OrderNotPaid) {
        tx.save_order(&order.with(paid)).await?;
    }
    watch_again(tx, policy, payment_id, watch).await?;
    Ok(Settlement { settled: Settled::Paid, record })
}

/// TX2: payment FAILED, points and coupon and stock given back, order CANCELLED; exactly once, as the payment's lock is
/// held and its state leaves PENDING and IN_PROGRESS for good.
async fn fail(
    tx: &Tx<'_>,
    policy: &Policy,
    record: PaymentRecord,
    message: FailureMessage,
    watch: Watch,
    forced: bool,
    cause: Cause,
) -> Result<Settlement, SettleError> {
    let payment_id = record.payment.value.id();
    let order = lock_order(tx, &record).await?;
    // Products before points, as in placing: else placing and compensating could wait for each other.
    let products: Vec<ProductId> = order.value.items().iter().map(|item| item.product_id).collect();
    if mutants::is(Mutant::LockOrderReversed) {
        tx.lock_points(record.payment.value.user_id()).await?;
    }
    tx.lock_products(&products).await?;

    let used_point = record.payment.value.amounts().used_point();
    let coupon_id = record.issued_coupon_id;
    let user_id = record.payment.value.user_id();
    let mut change = Change::of(record, cause);
    let reason = message.as_str().to_owned();
    change.step(&reason, |payment| payment.fail(Some(message)))?;
    let record = change.save(tx).await?;

    if used_point.is_positive() && !mutants::is(Mutant::PointsNotGivenBack) {
        let account = tx.lock_points(user_id).await?;
        let account =
            account.restore(used_point).map_err(|error: PointError| inconsistent(payment_id, &error))?;
        let kind = PointEntryKind::Restore;
        tx.save_points(&PointEntry { account, kind, amount: used_point, payment_id: Some(payment_id) })
            .await?;
    }
    if let Some(coupon_id) = coupon_id
        && !mutants::is(Mutant::CouponNotGivenBack)
    {
        let holding = tx
            .find_coupon_holding(coupon_id)
            .await?
            .ok_or_else(|| inconsistent(payment_id, &format!("coupon {coupon_id} is gone")))?;
        let available =
            holding.value.issued.cancel_use().map_err(|error| inconsistent(payment_id, &error))?;
        tx.save_issued_coupon(&holding.with(available), payment_id).await?;
    }
    let back: Vec<_> = order
        .value
        .items()
        .iter()
        .map(|item| StockEntry {
            product_id: item.product_id,
            payment_id,
            kind: StockEntryKind::Restore,
            quantity: item.quantity,
        })
        .collect();
    if !mutants::is(Mutant::StockNotGivenBack) {
        tx.move_stock(&back).await?;
    }
    let cancelled =
        order.value.clone().cancel().map_err(|error: OrderError| inconsistent(payment_id, &error))?;
    if !mutants::is(Mutant::OrderNotCancelled) {
        tx.save_order(&order.with(cancelled)).await?;
    }
    watch_again(tx, policy, payment_id, watch).await?;
    Ok(Settlement { settled: Settled::Failed { forced }, record })
}

async fn lock_order(tx: &Tx<'_>, record: &PaymentRecord) -> Result<Versioned<Order>, SettleError> {
    let order_id = record.payment.value.order_id();
    let payment_id = record.payment.value.id();
    tx.lock_order(order_id)
        .await?
        .ok_or_else(|| inconsistent(payment_id, &format!("order {order_id} is gone")))
}

async fn watch_again(
    tx: &Tx<'_>,
    policy: &Policy,
    payment_id: PaymentId,
    watch: Watch,
) -> Result<(), StoreError> {
    let next = match watch {
        _ if mutants::is(Mutant::NoWatchList) => None,
        Watch::No => None,
        Watch::Once => policy.last_watch(),
        Watch::Full => policy.watch_wait(0).map(|wait| (0, wait)),
    };
    tx.schedule_watch(payment_id, next).await
}

fn inconsistent(payment_id: PaymentId, what: &dyn std::fmt::Display) -> SettleError {
    SettleError::Inconsistent { payment_id, what: what.to_string() }
}

/// A payment on its way from one stored state to the next, with a history row for each step.
struct Change {
    record: PaymentRecord,
    cause: Cause,
    history: Vec<PaymentEvent>,
}

impl Change {
    fn of(record: PaymentRecord, cause: Cause) -> Self {
        Self { record, cause, history: Vec::new() }
    }

    fn step(
        &mut self,
        reason: &str,
        transition: impl FnOnce(Payment) -> Result<Payment, PaymentError>,
    ) -> Result<(), SettleError> {
        let before = &self.record.payment.value;
        let (from, payment_id) = (before.status(), before.id());
        let after = transition(before.clone()).map_err(|error| inconsistent(payment_id, &error))?;
        self.history.push(PaymentEvent {
            from: Some(from),
            to: after.status(),
            cause: self.cause,
            reason: Some(FailureMessage::from_outside(reason).as_str().to_owned()),
            key: after.key().cloned(),
        });
        self.record.payment.value = after;
        Ok(())
    }

    /// A callback or the reconciler can be faster than the order itself: then PENDING starts here (F45).
    fn start_if_pending(&mut self) -> Result<(), SettleError> {
        if self.record.payment.value.status() == PaymentStatus::Pending {
            self.step("the gateway knows the order", Payment::start)?;
        }
        Ok(())
    }

    fn attach(&mut self, key: GatewayKey, reason: &str) -> Result<(), SettleError> {
        self.step(reason, |payment| payment.update_external_payment_key(key))
    }

    /// Stores the new state and its history; gives back the record as it is stored now.
    async fn save(mut self, tx: &Tx<'_>) -> Result<PaymentRecord, StoreError> {
        if mutants::is(Mutant::HistoryForgotten) {
            self.history.clear();
        }
        tx.save_payment(&self.record.payment, &self.history).await?;
        self.record.payment.version += 1;
        self.record.updated_at = tx.now();
        Ok(self.record)
    }
}

/// The record of a payment as the caller's order shows it after a change.
pub(crate) fn order_view(order: &Order, record: &PaymentRecord) -> Result<OrderView, OrderError> {
    let order = match record.payment.value.status() {
        PaymentStatus::Paid => order.clone().pay()?,
        PaymentStatus::Failed => order.clone().cancel()?,
        PaymentStatus::Pending | PaymentStatus::InProgress => order.clone(),
    };
    Ok(OrderView { order, placed_at: record.created_at, payment: record.clone() })
}

async fn subject(
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
fn is_watch_look(claim: &Claim) -> bool {
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

fn next_check(
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
