//! The one function that ends a payment ([`settle`]), for all who learn something about it: the gateway's answer to our
//! request, callback, reconciler, watch list, sync by hand (spec 01 section 2, TX2 and TX3).
//!
//! It works on a locked case and says what is to be stored; whoever comes second finds the payment ended and changes
//! nothing.

use super::{
    Blame, Case, Changes, Check, Discrepancy, DiscrepancyKind, Findings, Hint, Learned, NotSent,
    SettlementRules, Settling, Shared, StockBack, TransactionStatus, Verdict, Waiting, Watch, decide, looks,
};
use crate::ports::{
    Cause, ChargeOutcome, Claim, FailureCause, GatewayAnswer, PaymentEvent, PaymentRecord, PointEntry,
    PointEntryKind, Versioned,
};
use crate::{FailureMessage, GatewayKey, Payment, PaymentError, PaymentId, PaymentState, PaymentStatus};

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
    /// It could not be examined; it will be again.
    BackedOff,
    /// It could not be examined so often that it is parked, with a ledger row.
    Parked,
}

/// What [`settle`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// What became of it.
    pub settled: Settled,
    /// What is to be stored.
    pub changes: Changes,
}

/// Why a payment was not settled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// What it took goes back, but that was not locked: load it with its goods and settle again.
    #[error("payment {0} gives back what was not locked")]
    GoodsNeeded(PaymentId),
    /// The stored state does not take what must be done: a defect.
    #[error("payment {payment_id} does not take its end ({what})")]
    Inconsistent {
        /// Which payment.
        payment_id: PaymentId,
        /// Why.
        what: String,
    },
}

impl Learned<'_> {
    /// It may well end the payment as FAILED, so that what it took is given back.
    pub fn may_fail(&self) -> bool {
        match self {
            Self::Answer(outcome) => match outcome.answer {
                GatewayAnswer::Accepted { .. } | GatewayAnswer::Uncertain { .. } => false,
                GatewayAnswer::Rejected { .. }
                | GatewayAnswer::NotReached { .. }
                | GatewayAnswer::CircuitOpen { .. } => true,
            },
            Self::NotSent(_) => true,
            Self::Findings { claim, findings, .. } => {
                let ended = claim.record.payment.status().is_terminal();
                !ended && findings.transactions().all(|t| t.status != TransactionStatus::Success)
            }
            Self::NotExamined { .. } => false,
        }
    }

    /// Keys whose owners it takes to settle by this.
    pub fn keys(&self) -> Vec<GatewayKey> {
        match self {
            Self::Answer(ChargeOutcome { answer: GatewayAnswer::Accepted { key, .. }, .. }) => {
                vec![key.clone()]
            }
            Self::Findings { findings, .. } => findings.transactions().map(|t| t.key.clone()).collect(),
            Self::Answer(_) | Self::NotSent(_) | Self::NotExamined { .. } => Vec::new(),
        }
    }
}

impl Settling {
    /// Settles one payment of the batch; the next one, and the same one again, sees what it changed.
    ///
    /// # Errors
    /// [`SettleError`]; nothing changes then.
    pub fn settle(
        &mut self,
        payment_id: PaymentId,
        learned: &Learned<'_>,
        cause: Cause,
        rules: &SettlementRules,
    ) -> Result<Option<Settlement>, SettleError> {
        let Some(case) = self.cases.get_mut(&payment_id) else { return Ok(None) };
        let settlement = settle(case, &self.shared, learned, cause, rules)?;
        let changes = &settlement.changes;
        let gives_back = !changes.stock_back.is_empty();
        if gives_back && !self.with_goods.contains(&payment_id) {
            return Err(SettleError::GoodsNeeded(payment_id));
        }
        case.apply(changes, self.shared.now);
        if let Some(key) = changes.payment.as_ref().and_then(|payment| payment.value.key()) {
            self.shared.key_owners.insert(key.clone(), payment_id);
        }
        if let Some(entry) = changes.points_back {
            self.shared.points.insert(entry.account.user_id(), entry.account);
        }
        Ok(Some(settlement))
    }
}

impl Case {
    /// As it stands after these changes.
    fn apply(&mut self, changes: &Changes, now: crate::Timestamp) {
        if let Some(payment) = &changes.payment {
            self.record.payment = payment.value.clone();
            self.record.updated_at = now;
        }
        if changes.sending_ended {
            self.record.send_deadline = self.record.send_deadline.min(now);
        }
        if let Some(order) = &changes.order {
            self.order.value = order.value.clone();
        }
        if let Some(check) = changes.check {
            self.check = check;
        }
        self.hints.retain(|hint| !changes.hints_done.contains(&hint.key));
        if let Some(named) = &changes.hint {
            // Named again: whoever looks it up now has not heard of that.
            self.hints.retain(|hint| hint.key != *named);
            self.hints.push(Hint { key: named.clone(), lease_id: None });
            self.hints.sort_by(|one, other| one.key.cmp(&other.key));
        }
    }
}

/// Ends a payment, or notes what was learned. Late and second ones change nothing.
///
/// # Errors
/// [`SettleError`].
pub fn settle(
    case: &Case,
    shared: &Shared,
    learned: &Learned<'_>,
    cause: Cause,
    rules: &SettlementRules,
) -> Result<Settlement, SettleError> {
    let work = Work { case, shared, cause, rules };
    match *learned {
        Learned::Answer(outcome) => work.answer(outcome),
        Learned::NotSent(why) => work.not_sent(why),
        Learned::Findings { claim, findings, not_found_suspended } => {
            if !case.holds(claim) {
                return Ok(work.nothing(Settled::LeaseLost));
            }
            work.findings(claim, findings, not_found_suspended)
        }
        Learned::NotExamined { claim, blame } => {
            if !case.holds(claim) {
                return Ok(work.nothing(Settled::LeaseLost));
            }
            Ok(work.not_examined(claim, blame))
        }
    }
}

impl Case {
    fn holds(&self, claim: &Claim) -> bool {
        self.check.lease.is_some_and(|lease| lease.id == claim.lease_id)
    }
}

/// One payment being settled.
struct Work<'a> {
    case: &'a Case,
    shared: &'a Shared,
    cause: Cause,
    rules: &'a SettlementRules,
}

impl<'a> Work<'a> {
    fn record(&self) -> &'a PaymentRecord {
        &self.case.record
    }

    fn change(&self) -> Change<'a> {
        let record = self.record();
        Change {
            before: record,
            payment: record.payment.clone(),
            cause: self.cause,
            changes: Changes::none(record.payment.id(), record.payment.order_id()),
        }
    }

    fn nothing(&self, settled: Settled) -> Settlement {
        Settlement { settled, changes: self.change().changes }
    }

    /// As far as is stored.
    fn may_still_send(&self) -> bool {
        self.record().send_deadline > self.shared.now
    }

    fn inconsistent(&self, what: &dyn std::fmt::Display) -> SettleError {
        SettleError::Inconsistent { payment_id: self.record().payment.id(), what: what.to_string() }
    }

    /// The gateway's answer to our own request. When it is wanted, the payment is watched whatever its end.
    fn answer(&self, outcome: &ChargeOutcome) -> Result<Settlement, SettleError> {
        let payment = &self.record().payment;
        let mut check = self.case.check;
        check.watch_wanted |= outcome.watch;
        let watch = if outcome.watch { Watch::Full } else { Watch::No };
        if payment.status().is_terminal() {
            let mut change = self.change();
            let mut more = outcome.watch;
            if let GatewayAnswer::Accepted { key, .. } = &outcome.answer
                && (payment.key() != Some(key) || payment.status() == PaymentStatus::Failed)
            {
                // It ended without this transaction: the next examination puts what it charged into the ledger.
                change.changes.hint = Some(key.clone());
                check.woken_at = check.woken_at.or(Some(self.shared.now));
                check.parked_at = None;
                more = true;
            }
            if more {
                looks::watch(&mut check, Watch::Full, self.shared.now, self.rules);
            }
            return Ok(change.done(Settled::AlreadyEnded, self.changed(check)));
        }
        match &outcome.answer {
            GatewayAnswer::Accepted { key, .. } => self.accept(key, check),
            // Somebody else learned meanwhile that the gateway has it: that is the outcome.
            _ if payment.key().is_some() => Ok(self.change().done(Settled::InProgress, self.changed(check))),
            GatewayAnswer::Rejected { message } => self.fail(message.clone(), false, watch, check),
            GatewayAnswer::NotReached { cause: FailureCause(why), .. } => {
                let message = FailureMessage::from_outside(&format!("PG에 연결하지 못했습니다. ({why})"));
                self.fail(message, false, watch, check)
            }
            GatewayAnswer::CircuitOpen { .. } => {
                let message =
                    FailureMessage::from_outside("PG 장애로 결제를 요청하지 않았습니다. (CircuitOpen)");
                self.fail(message, false, watch, check)
            }
            GatewayAnswer::Uncertain { .. } => {
                let mut change = self.change();
                // The flow has ended: nothing leaves any more, and a callback may be looked into at once.
                change.changes.sending_ended = self.may_still_send();
                looks::left_alone(&mut check, self.shared.now, self.rules);
                Ok(change.done(Settled::InProgress, self.changed(check)))
            }
        }
    }

    /// The order was stored, but nothing was sent, and nothing will be.
    fn not_sent(&self, why: NotSent) -> Result<Settlement, SettleError> {
        let payment = &self.record().payment;
        if payment.status().is_terminal() {
            return Ok(self.nothing(Settled::AlreadyEnded));
        }
        if payment.key().is_some() {
            return Ok(self.nothing(Settled::InProgress));
        }
        let message = FailureMessage::from_outside(match why {
            NotSent::DatabaseUnavailable => "데이터베이스 장애로 결제를 요청하지 못했습니다.",
            NotSent::DeadlinePassed => "제한 시간 안에 결제를 요청하지 못했습니다.",
        });
        self.fail(message, false, Watch::No, self.case.check)
    }

    /// IN_PROGRESS with its key, unless another payment owns that.
    fn accept(&self, key: &GatewayKey, mut check: Check) -> Result<Settlement, SettleError> {
        let payment = &self.record().payment;
        let mut change = self.change();
        change.changes.sending_ended = self.may_still_send();
        looks::left_alone(&mut check, self.shared.now, self.rules);
        // Stored before: by us, when the commit's answer was lost, or by who was faster.
        let known = payment.key() == Some(key);
        if !known && self.shared.key_owners.get(key).is_some_and(|owner| *owner != payment.id()) {
            change.changes.discrepancies.push(Discrepancy {
                kind: DiscrepancyKind::KeyReused,
                key: Some(key.clone()),
                amount: Some(payment.amounts().paid_amount()),
                evidence: "the gateway gave this key to two of our payments".to_owned(),
            });
        } else if !known {
            self.start_if_pending(&mut change)?;
            self.attach(&mut change, key, "the gateway accepted the request")?;
        }
        Ok(change.done(Settled::InProgress, self.changed(check)))
    }

    fn findings(
        &self,
        claim: &Claim,
        findings: &Findings,
        not_found_suspended: bool,
    ) -> Result<Settlement, SettleError> {
        let now = self.shared.now;
        let subject =
            looks::subject(self.case, self.shared, claim, findings, self.rules, not_found_suspended);
        let decision = decide(&subject, findings, &self.rules.policy(not_found_suspended));
        let mut check = looks::looked(&self.case.check, claim, findings, &subject, now);
        let mut settlement = match &decision.verdict {
            Verdict::Pay { key } => self.complete(key, decision.watch, check)?,
            Verdict::Fail { message, forced } => {
                self.fail(message.clone(), *forced, decision.watch, check)?
            }
            Verdict::Wait { why, adopt } => {
                looks::wait(&mut check, self.case, *why, claim, now, self.rules);
                let mut change = self.change();
                if let Some(key) = adopt {
                    self.start_if_pending(&mut change)?;
                    self.attach(&mut change, key, "the gateway lists this transaction for the order")?;
                    // The answer to our request was never stored, and with it how often we asked: there may be more.
                    check.watch_wanted = true;
                }
                change.done(Settled::Waiting(*why), Some(check))
            }
            Verdict::Ended => {
                looks::watch_next(&mut check, claim, &decision, now, self.rules);
                self.change().done(Settled::AlreadyEnded, Some(check))
            }
        };
        settlement.changes.discrepancies.extend(decision.discrepancies);
        settlement.changes.hints_done = self
            .case
            .hints
            .iter()
            // Named again since the claim: it is looked up again.
            .filter(|hint| hint.lease_id == Some(claim.lease_id) && findings.hints_asked.contains(&hint.key))
            .map(|hint| hint.key.clone())
            .collect();
        Ok(settlement)
    }

    fn not_examined(&self, claim: &Claim, blame: Blame) -> Settlement {
        let (check, parked) = looks::failed(self.case, claim, blame, self.shared.now, self.rules);
        let mut change = self.change();
        let told = match blame {
            Blame::Elsewhere => None,
            Blame::Payment(what) => parked.then_some(what),
            Blame::Beyond(what) => Some(what),
        };
        if let Some(what) = told {
            change.changes.discrepancies.push(Discrepancy {
                kind: DiscrepancyKind::Poison,
                key: self.record().payment.key().cloned(),
                amount: None,
                evidence: format!("could not be examined {} times in a row: {what}", check.failures),
            });
        }
        change.done(if parked { Settled::Parked } else { Settled::BackedOff }, Some(check))
    }

    /// TX3, success: payment PAID, order PAID.
    fn complete(&self, key: &GatewayKey, watch: Watch, mut check: Check) -> Result<Settlement, SettleError> {
        let mut change = self.change();
        self.start_if_pending(&mut change)?;
        if self.record().payment.key() != Some(key) {
            self.attach(&mut change, key, "this transaction was approved")?;
        }
        self.step(&mut change, "approved by the gateway", Payment::success)?;
        let order = &self.case.order;
        let paid = order.value.clone().pay().map_err(|error| self.inconsistent(&error))?;
        looks::watch(&mut check, watch, self.shared.now, self.rules);
        change.changes.order = Some(order.with(paid));
        Ok(change.done(Settled::Paid, Some(check)))
    }

    /// TX2: payment FAILED; points, coupon and stock given back; order CANCELLED. Exactly once: its state leaves PENDING
    /// and IN_PROGRESS for good.
    fn fail(
        &self,
        message: FailureMessage,
        forced: bool,
        watch: Watch,
        mut check: Check,
    ) -> Result<Settlement, SettleError> {
        let record = self.record();
        let payment_id = record.payment.id();
        let mut change = self.change();
        let reason = message.as_str().to_owned();
        self.step(&mut change, &reason, |payment| payment.fail(Some(message)))?;
        let order = &self.case.order;
        let cancelled = order.value.clone().cancel().map_err(|error| self.inconsistent(&error))?;
        looks::watch(&mut check, watch, self.shared.now, self.rules);
        let changes = &mut change.changes;
        changes.order = Some(order.with(cancelled));
        changes.stock_back = order
            .value
            .items()
            .iter()
            .map(|item| StockBack { product_id: item.product_id, quantity: item.quantity })
            .collect();
        changes.stock_back.sort_unstable();
        let used_point = record.payment.amounts().used_point();
        if used_point.is_positive() {
            let user_id = record.payment.user_id();
            let account = self.shared.points.get(&user_id).ok_or(SettleError::GoodsNeeded(payment_id))?;
            let account = account.restore(used_point).map_err(|error| self.inconsistent(&error))?;
            let kind = PointEntryKind::Restore;
            let payment_id = Some(payment_id);
            changes.points_back = Some(PointEntry { account, kind, amount: used_point, payment_id });
        }
        if record.issued_coupon_id.is_some() {
            let holding = self.case.coupon.as_ref().ok_or(SettleError::GoodsNeeded(payment_id))?;
            let available = holding.value.issued.cancel_use().map_err(|error| self.inconsistent(&error))?;
            changes.coupon_back = Some(holding.with(available));
        }
        Ok(change.done(Settled::Failed { forced }, Some(check)))
    }

    /// A check row as it is stored; none when nothing changed.
    fn changed(&self, check: Check) -> Option<Check> {
        (check != self.case.check).then_some(check)
    }

    fn step(
        &self,
        change: &mut Change<'_>,
        reason: &str,
        transition: impl FnOnce(Payment) -> Result<Payment, PaymentError>,
    ) -> Result<(), SettleError> {
        let from = change.payment.status();
        let after = transition(change.payment.clone()).map_err(|error| self.inconsistent(&error))?;
        change.changes.history.push(PaymentEvent {
            from: Some(from),
            to: after.status(),
            cause: change.cause,
            reason: Some(FailureMessage::from_outside(reason).as_str().to_owned()),
            key: after.key().cloned(),
        });
        change.payment = after;
        Ok(())
    }

    /// A callback or the reconciler can be faster than the order itself: then PENDING starts here (F45).
    fn start_if_pending(&self, change: &mut Change) -> Result<(), SettleError> {
        if matches!(change.payment.state(), PaymentState::Pending) {
            self.step(change, "the gateway knows the order", Payment::start)?;
        }
        Ok(())
    }

    fn attach(&self, change: &mut Change<'_>, key: &GatewayKey, reason: &str) -> Result<(), SettleError> {
        self.step(change, reason, |payment| payment.update_external_payment_key(key.clone()))
    }
}

/// A payment on its way from one stored state to the next, with a history row for each step.
struct Change<'a> {
    before: &'a PaymentRecord,
    payment: Payment,
    cause: Cause,
    changes: Changes,
}

impl Change<'_> {
    fn done(self, settled: Settled, check: Option<Check>) -> Settlement {
        let moved = self.payment != self.before.payment || self.changes.sending_ended;
        let payment = moved.then_some(Versioned { version: self.before.version, value: self.payment });
        Settlement { settled, changes: Changes { payment, check, ..self.changes } }
    }
}
