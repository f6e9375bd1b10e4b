//! Settling, in batches: load the payments that wait, decide each by [`domain::settlement::settle`], store what changes.
//!
//! All who learn something about a payment come here: the gateway's answer to our own request, callback, reconciler, watch
//! list, sync by hand (spec 01 section 2, TX2 and TX3).

use crate::batch::{BatchError, Work};
use crate::io::as_store_error;
use async_trait::async_trait;
use domain::ports::{
    Cause, ChargeOutcome, Claim, CommitError, IdempotencyKey, OrderView, Store, StoreError, StoreTx,
    StoredAnswer,
};
use domain::settlement::{
    self, Blame, Changes, Findings, Learned, NotSent, Settled, SettlementRules, Settling, SettlingNeeds,
};
use domain::{OrderId, PaymentId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

/// What somebody learned about a payment.
#[derive(Debug)]
pub(crate) enum Fact {
    /// The gateway's answer to our own request.
    Answer(ChargeOutcome),
    /// Our own request was never sent.
    NotSent(NotSent),
    /// What the gateway said when asked.
    Findings { claim: Claim, findings: Findings, not_found_suspended: bool },
    /// It could not be examined.
    NotExamined { claim: Claim, blame: Blame },
}

/// A member of a settling batch.
pub(crate) struct Lesson {
    pub(crate) payment_id: PaymentId,
    pub(crate) fact: Arc<Fact>,
    pub(crate) cause: Cause,
    /// The answer that is stored for an Idempotency-Key in the same transaction.
    pub(crate) answer: Option<KeyedAnswer>,
}

/// How a request with an Idempotency-Key is answered, once it is known what became of its payment.
pub(crate) struct KeyedAnswer {
    pub(crate) key: IdempotencyKey,
    pub(crate) render: RenderSettled,
}

/// Turns what became of a payment into the answer that is stored.
pub(crate) type RenderSettled = Box<dyn Fn(&Settled, &OrderView) -> StoredAnswer + Send + Sync>;

impl Lesson {
    fn learned(&self) -> Learned<'_> {
        match &*self.fact {
            Fact::Answer(outcome) => Learned::Answer(outcome),
            Fact::NotSent(why) => Learned::NotSent(*why),
            Fact::Findings { claim, findings, not_found_suspended } => {
                Learned::Findings { claim, findings, not_found_suspended: *not_found_suspended }
            }
            Fact::NotExamined { claim, blame } => Learned::NotExamined { claim, blame: *blame },
        }
    }
}

/// What became of a payment, and how it is stored now.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) settled: Settled,
    pub(crate) order: OrderView,
    /// It was woken, by a callback for instance, and waits to be looked at.
    pub(crate) woken: bool,
}

/// Why settling did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The store, or no turn came; nothing is stored, or that is not known and it can be tried again.
    #[error("could not store what became of the payment")]
    Batch(#[from] BatchError),
    /// There is no such payment.
    #[error("payment {0} is not there")]
    NotFound(PaymentId),
    /// The stored state does not take what must be done: a defect.
    #[error(transparent)]
    Inconsistent(#[from] settlement::SettleError),
}

impl SettleError {
    /// Trying again may help; else it is this payment that is wrong.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Batch(BatchError::Store(error)) => {
                matches!(error, StoreError::Conflict { .. } | StoreError::Unavailable { .. })
            }
            Self::Batch(BatchError::Full | BatchError::TooLate | BatchError::Abandoned) => true,
            Self::NotFound(_) | Self::Inconsistent(_) => false,
        }
    }
}

/// What a member of a settling batch gets.
pub(crate) type SettledInBatch = Result<Outcome, SettleError>;

/// Told of orders that ended in this process, after it is stored.
pub(crate) type EndedOrders = Arc<OnceLock<Box<dyn Fn(OrderId) + Send + Sync>>>;

/// Settles payments.
pub(crate) struct SettlePayments {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) rules: SettlementRules,
    pub(crate) ended: EndedOrders,
}

#[async_trait]
impl Work for SettlePayments {
    type Member = Lesson;
    type Outcome = SettledInBatch;

    const NAME: &'static str = "settle";

    async fn run(&self, lessons: &[Lesson]) -> Result<Vec<SettledInBatch>, StoreError> {
        let (tx, decided) = self.decide(lessons).await?;
        let mut changes: Vec<Changes> =
            decided.changes.into_values().filter(|changes| !changes.is_nothing()).collect();
        // Points only go back here, so that a buyer's movements in the order in which they were decided rise.
        changes.sort_by_key(|changes| changes.points_back.map(|entry| entry.account.balance()));
        if changes.is_empty() {
            tx.rollback().await;
            return Ok(decided.outcomes);
        }
        if let Err(error) = tx.store_changes(&changes).await {
            tx.rollback().await;
            return Err(error);
        }
        match tx.commit().await {
            Ok(()) => {}
            Err(CommitError::RolledBack(error)) => return Err(error),
            // It may be stored: nobody is told that it is, and everybody may try again.
            Err(unknown @ CommitError::OutcomeUnknown) => {
                let error = as_store_error(unknown);
                let unknown = lessons.iter().map(|_| Err(BatchError::Store(error.clone()).into()));
                return Ok(unknown.collect());
            }
        }
        self.report(lessons, &decided.outcomes, &changes).await;
        Ok(decided.outcomes)
    }
}

/// A batch that is decided and not stored yet.
#[derive(Default)]
struct Decided {
    outcomes: Vec<SettledInBatch>,
    /// By payment: a batch may hold one twice.
    changes: BTreeMap<PaymentId, Changes>,
}

impl SettlePayments {
    /// Loads and decides. Goods are locked where a payment may fail; when one fails unexpectedly, it is loaded with them.
    async fn decide(&self, lessons: &[Lesson]) -> Result<(Box<dyn StoreTx>, Decided), StoreError> {
        let mut with_goods = BTreeSet::new();
        loop {
            let (tx, mut settling) = self.store.open_settling(&needs(lessons, &with_goods)).await?;
            let mut decided = Decided::default();
            let mut unlocked = None;
            for lesson in lessons {
                let outcome = self.decide_one(&mut settling, lesson, &mut decided.changes);
                if let Err(SettleError::Inconsistent(settlement::SettleError::GoodsNeeded(id))) = outcome {
                    unlocked = Some(id);
                    break;
                }
                decided.outcomes.push(outcome);
            }
            match unlocked {
                // Each round adds a payment, so that there are at most as many rounds as lessons.
                Some(id) if with_goods.insert(id) => tx.rollback().await,
                Some(id) => {
                    tx.rollback().await;
                    return Err(StoreError::Other {
                        what: format!("the goods of payment {id} were not loaded"),
                    });
                }
                None => return Ok((tx, decided)),
            }
        }
    }

    fn decide_one(
        &self,
        settling: &mut Settling,
        lesson: &Lesson,
        all: &mut BTreeMap<PaymentId, Changes>,
    ) -> SettledInBatch {
        let id = lesson.payment_id;
        let settlement = settling
            .settle(id, &lesson.learned(), lesson.cause, &self.rules)?
            .ok_or(SettleError::NotFound(id))?;
        let case = settling.cases.get(&id).ok_or(SettleError::NotFound(id))?;
        let order = OrderView {
            order: case.order.value.clone(),
            placed_at: case.record.created_at,
            payment: case.record.clone(),
        };
        let mut changes = settlement.changes;
        changes.answer = lesson
            .answer
            .as_ref()
            .map(|keyed| (keyed.key.clone(), (keyed.render)(&settlement.settled, &order)));
        let woken = case.check.woken_at.is_some() && !case.record.payment.status().is_terminal();
        let merged = match all.remove(&id) {
            Some(before) => before.then(changes),
            None => changes,
        };
        all.insert(id, merged);
        Ok(Outcome { settled: settlement.settled, order, woken })
    }

    /// Logs, counts and tells what was committed.
    async fn report(&self, lessons: &[Lesson], outcomes: &[SettledInBatch], changes: &[Changes]) {
        for (lesson, outcome) in lessons.iter().zip(outcomes) {
            if let Ok(outcome) = outcome {
                count(lesson, outcome);
            }
        }
        let ended = |changes: &&Changes| changes.order.as_ref().is_some();
        let ended: Vec<OrderId> = changes.iter().filter(ended).map(|changes| changes.order_id).collect();
        if ended.is_empty() {
            return;
        }
        if let Some(tell) = self.ended.get() {
            ended.iter().for_each(|id| tell(*id));
        }
        if let Err(error) = self.store.announce_ended(&ended).await {
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "who waits elsewhere sees it by looking"
            );
        }
    }
}

/// What must be loaded for these lessons: each payment once.
fn needs(lessons: &[Lesson], with_goods: &BTreeSet<PaymentId>) -> Vec<SettlingNeeds> {
    let mut needs: BTreeMap<PaymentId, SettlingNeeds> = BTreeMap::new();
    for lesson in lessons {
        let payment_id = lesson.payment_id;
        let learned = lesson.learned();
        let need = needs.entry(payment_id).or_insert(SettlingNeeds {
            payment_id,
            keys: Vec::new(),
            goods: with_goods.contains(&payment_id),
        });
        need.keys.extend(learned.keys());
        need.goods |= learned.may_fail();
    }
    needs.into_values().collect()
}

fn count(lesson: &Lesson, outcome: &Outcome) {
    let payment_id = lesson.payment_id;
    let result = match &outcome.settled {
        Settled::Paid => "paid",
        Settled::Failed { forced: true } => {
            let record = &outcome.order.payment;
            tracing::warn!(
                "Payment forced to fail due to timeout. paymentId={payment_id}, elapsed={}m",
                (record.updated_at - record.created_at).whole_minutes()
            );
            "forced"
        }
        Settled::Failed { forced: false } => "failed",
        Settled::Parked => {
            tracing::error!(%payment_id, "a payment is parked");
            return;
        }
        Settled::LeaseLost => {
            tracing::info!(%payment_id, "the claim passed to another examiner; nothing is changed");
            return;
        }
        Settled::AlreadyEnded | Settled::Waiting(_) | Settled::InProgress | Settled::BackedOff => return,
    };
    metrics::counter!("payment_settled_total", "by" => lesson.cause.as_str(), "result" => result)
        .increment(1);
}

#[cfg(test)]
mod tests;
