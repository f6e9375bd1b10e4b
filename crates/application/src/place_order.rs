//! Placing an order: TX1, the gateway call outside any transaction, and what came of it (spec 01 section 2). Each of its
//! three transactions is done in batches, together with those of other orders.
//!
//! The flow belongs to the server: callers run [`place_order`] in a task that no connection owns. Only what comes
//! before TX1's commit may be repeated; after it the card is asked for at most once, and what can't be stored is left to
//! the reconciler.

mod placing;
mod starting;

use crate::batch::BatchError;
use crate::examine::{self, Examined};
use crate::io::Start;
use crate::settle::{Fact, KeyedAnswer, Lesson, SettleError};
use crate::{CallbackTokens, Io, Policy};
use domain::placement::{OrderLines, PlacementError};
use domain::ports::{
    Cause, ChargeRequest, GatewayAnswer, IdempotencyKey, IdempotencyRecord, OrderView, StoreError,
    StoredAnswer,
};
use domain::settlement::{NotSent, Settled, TransactionStatus};
use domain::{
    CardNumber, CardType, FailureMessage, IssuedCouponId, Money, PaymentId, PaymentState, PaymentStatus,
    UserId,
};
pub(crate) use placing::{NewcomerOrder, PlaceOrders, PlacedInBatch};
pub(crate) use starting::StartPayments;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_retry::strategy::ExponentialBackoff;

/// What the buyer wants.
#[derive(Clone)]
pub struct PlaceOrder {
    /// The buyer.
    pub user_id: UserId,
    /// Products and quantities.
    pub lines: OrderLines,
    /// Points to spend; 0 for none.
    pub use_point: Money,
    /// A coupon to use.
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// A card, for what is left.
    pub card: Option<(CardType, CardNumber)>,
    /// The request's Idempotency-Key.
    pub idempotency: Option<Idempotency>,
    /// Told as soon as TX1 has stored the order, while its payment is still PENDING: for who can't wait for the end.
    pub placed: Option<PlacedNotice>,
}

/// Takes an order that was stored and is not charged yet.
pub type PlacedNotice = Arc<dyn Fn(&OrderView) + Send + Sync>;

/// How a request is answered once, and again to the letter.
#[derive(Clone)]
pub struct Idempotency {
    /// The header's text.
    pub key: String,
    /// A hash of what was asked for.
    pub fingerprint: [u8; 32],
    /// How an outcome is answered.
    pub render: RenderAnswer,
}

/// Turns an outcome into the answer that is stored with the order.
pub type RenderAnswer = Arc<dyn Fn(&PlaceOrderOutcome) -> StoredAnswer + Send + Sync>;

/// What became of the order. In all but `Replayed` it exists.
#[derive(Debug, Clone, PartialEq)]
pub enum PlaceOrderOutcome {
    /// PAID at once: nothing was left for the card (or its payment ended meanwhile).
    Paid(OrderView),
    /// The gateway has it.
    InProgress(OrderView),
    /// Nobody knows yet whether the gateway has it.
    Confirming(OrderView),
    /// The gateway refused; the order is CANCELLED.
    Refused {
        /// The order.
        order: OrderView,
        /// What the gateway said.
        message: FailureMessage,
    },
    /// The circuit is open; the order is CANCELLED.
    CircuitOpen {
        /// The order.
        order: OrderView,
        /// When to try again.
        retry_after: Duration,
    },
    /// Surely not reached; the order is CANCELLED.
    GatewayUnavailable {
        /// The order.
        order: OrderView,
        /// When to try again.
        retry_after: Duration,
    },
    /// The order was stored, but the database or the time ran out before the gateway could be asked: nothing was sent, and
    /// the order is CANCELLED.
    NotSent {
        /// The order.
        order: OrderView,
        /// When to try again.
        retry_after: Duration,
    },
    /// The same request was answered before.
    Replayed(StoredAnswer),
}

/// Why there is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceOrderError {
    /// A rule is broken; nothing was taken.
    #[error("the order breaks a rule")]
    Placement(#[source] PlacementError),
    /// A request with the same Idempotency-Key is under way.
    #[error("a request with this Idempotency-Key is under way")]
    IdempotencyInProgress,
    /// The Idempotency-Key was used for another content.
    #[error("this Idempotency-Key was used for another request")]
    IdempotencyKeyReused,
    /// Lost a race, and again after the wait; nothing was taken.
    #[error("lost a race twice")]
    Conflict,
    /// The database is out of reach or overloaded, or no turn came in time; nothing was taken.
    #[error("the order could not be stored")]
    Unavailable(#[source] BatchError),
    /// The database went away while the order was being stored: it may exist, and was not sent to the gateway. The same
    /// request with the same Idempotency-Key tells.
    #[error("whether the order was stored is not known")]
    OutcomeUnknown,
    /// A defect.
    #[error("could not place the order")]
    Internal(#[source] StoreError),
}

/// A payment to be requested: what [`crate::Gateway::charge`] takes, and only when it was started.
#[derive(Debug)]
pub struct ChargeAttempt {
    payment_id: PaymentId,
    pub(crate) request: ChargeRequest,
}

impl ChargeAttempt {
    pub(crate) const fn payment_id(&self) -> PaymentId {
        self.payment_id
    }
}

impl From<BatchError> for PlaceOrderError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Store(StoreError::Conflict { .. }) => Self::Conflict,
            BatchError::Store(error @ (StoreError::Corrupt { .. } | StoreError::Other { .. })) => {
                Self::Internal(error)
            }
            BatchError::Full | BatchError::TooLate | BatchError::Store(StoreError::Unavailable { .. }) => {
                Self::Unavailable(error)
            }
            BatchError::Abandoned => Self::OutcomeUnknown,
        }
    }
}

impl From<StoreError> for PlaceOrderError {
    fn from(error: StoreError) -> Self {
        BatchError::Store(error).into()
    }
}

impl From<PlacementError> for PlaceOrderError {
    fn from(error: PlacementError) -> Self {
        Self::Placement(error)
    }
}

/// When to try again after what was no fault of the gateway's.
const SOON: Duration = Duration::from_secs(1);

/// An order under way.
struct Flow<'a> {
    io: &'a mut Io,
    policy: &'a Policy,
    command: Arc<PlaceOrder>,
    began: Instant,
}

/// Places an order and has its card charged. Ends within the policy's deadline and record patience, whatever the
/// gateway does.
///
/// # Errors
/// [`PlaceOrderError`]: there is no order then (but see [`PlaceOrderError::OutcomeUnknown`]).
pub async fn place_order(
    io: &mut Io,
    policy: &Policy,
    tokens: &CallbackTokens,
    command: PlaceOrder,
) -> Result<PlaceOrderOutcome, PlaceOrderError> {
    let mut flow = Flow { io, policy, command: Arc::new(command), began: Instant::now() };
    let (token, token_hash) = tokens.issue(flow.io.entropy());
    let placed = match flow.place(token_hash).await? {
        First::Placed(order) => *order,
        First::Done(outcome) => return Ok(*outcome),
    };
    if let Some(notice) = &flow.command.placed {
        notice(&placed);
    }
    let fact = match flow.start(&placed, &token).await {
        Start::Committed(attempt) if Instant::now() < flow.deadline() => {
            Fact::Answer(flow.io.gateway().charge(*attempt).await)
        }
        // The database, or a process that stood still, took all the time there was.
        Start::Committed(_) => Fact::NotSent(NotSent::DeadlinePassed),
        Start::Elsewhere => return Ok(flow.current(placed).await),
        Start::NotStored => Fact::NotSent(NotSent::DatabaseUnavailable),
    };
    flow.record(placed, fact).await
}

/// What TX1 came to.
enum First {
    Placed(Box<OrderView>),
    Done(Box<PlaceOrderOutcome>),
}

impl Flow<'_> {
    fn deadline(&self) -> Instant {
        self.began + self.policy.deadline
    }

    /// TX1, tried once more after a lost race.
    async fn place(&mut self, token_hash: [u8; 32]) -> Result<First, PlaceOrderError> {
        let placed = match self.place_once(token_hash).await {
            Err(BatchError::Store(StoreError::Conflict { .. })) => {
                let (least, most) = self.policy.conflict_wait;
                let wait = least + most.saturating_sub(least).mul_f64(self.io.entropy().fraction());
                tokio::time::sleep(wait).await;
                tried_again("place", "conflict");
                self.place_once(token_hash).await?
            }
            placed => placed?,
        };
        let done = |outcome| First::Done(Box::new(outcome));
        match placed {
            PlacedInBatch::Placed(order) if order.payment.payment.status() == PaymentStatus::Paid => {
                Ok(done(PlaceOrderOutcome::Paid(*order)))
            }
            PlacedInBatch::Placed(order) => Ok(First::Placed(order)),
            PlacedInBatch::KnownKey(known) => self.replay(known).await.map(done),
            PlacedInBatch::KeyBeingTaken => Err(PlaceOrderError::IdempotencyInProgress),
            PlacedInBatch::Refused(error) => Err(error.into()),
            PlacedInBatch::TooLate => Err(BatchError::TooLate.into()),
            // A9: never followed by a gateway call. If it was stored, the reconciler brings it to its end.
            PlacedInBatch::Unknown(order) => match self.io.queries().order(None, order.order.id()).await {
                Ok(Some(view)) => Ok(done(by_state(view))),
                Ok(None) | Err(_) => {
                    tracing::warn!(order_id = %order.order.id(), payment_id = %order.payment.payment.id(),
                        "the answer to an order's COMMIT was lost");
                    Err(PlaceOrderError::OutcomeUnknown)
                }
            },
        }
    }

    async fn place_once(&mut self, token_hash: [u8; 32]) -> Result<PlacedInBatch, BatchError> {
        let [a, b, c, d, e, f, g, h, ..] = self.io.entropy().token();
        let order = NewcomerOrder {
            command: Arc::clone(&self.command),
            merchant: self.policy.merchant.clone(),
            token_hash,
            random: [a, b, c, d, e, f, g, h],
            retention: self.policy.idempotency_retention,
            deadline: self.deadline(),
        };
        self.io.place(order).await
    }

    /// PENDING -> IN_PROGRESS, written before the gateway is asked: after a crash PENDING means that nothing was sent.
    async fn start(&mut self, placed: &OrderView, token: &str) -> Start {
        let Some((card_type, card_number)) = self.command.card.clone() else {
            return Start::NotStored;
        };
        let record = &placed.payment;
        let base = self.policy.callback_base_url.trim_end_matches('/');
        let request = ChargeRequest {
            merchant: record.merchant.clone(),
            order_ref: record.order_ref.clone(),
            card_type,
            card_number,
            amount: record.payment.amounts().paid_amount(),
            callback_url: format!("{base}/api/v1/payments/callback/{token}"),
            deadline: self.deadline().into_std(),
        };
        self.io.start(ChargeAttempt { payment_id: record.payment.id(), request }).await
    }

    /// Stores what came of the call; tried again until the patience ends, then left to the reconciler.
    async fn record(&mut self, placed: OrderView, fact: Fact) -> Result<PlaceOrderOutcome, PlaceOrderError> {
        let until = self.deadline() + self.policy.record_patience;
        let payment_id = placed.payment.payment.id();
        let fact = Arc::new(fact);
        // 20, 40, 80 ... ms: tokio-retry's sequence is base^n times the factor.
        let mut pauses = ExponentialBackoff::from_millis(2).factor(10).max_delay(Duration::from_millis(500));
        loop {
            let error = match self.record_once(payment_id, &fact).await {
                Ok(recorded) => {
                    if decided_already(&fact) && Instant::now() < until {
                        return Ok(self.ask_at_once(placed, recorded, until).await);
                    }
                    return Ok(recorded);
                }
                Err(error) => error,
            };
            let pause = pauses
                .next()
                .filter(|pause| Instant::now() + *pause < until)
                .filter(|_| !matches!(error, SettleError::Inconsistent(_)));
            let Some(pause) = pause else {
                tracing::error!(%payment_id, error = &error as &dyn std::error::Error,
                    "what came of the gateway call could not be stored; left to the reconciler");
                return Ok(PlaceOrderOutcome::Confirming(placed));
            };
            tokio::time::sleep(pause).await;
            let lost_race =
                matches!(error, SettleError::Batch(BatchError::Store(StoreError::Conflict { .. })));
            tried_again("settle", if lost_race { "conflict" } else { "unavailable" });
        }
    }

    async fn record_once(
        &mut self,
        payment_id: PaymentId,
        fact: &Arc<Fact>,
    ) -> Result<PlaceOrderOutcome, SettleError> {
        let answer = self.command.idempotency.as_ref().map(|idempotency| {
            let (render, fact) = (Arc::clone(&idempotency.render), Arc::clone(fact));
            KeyedAnswer {
                key: IdempotencyKey { user_id: self.command.user_id, key: idempotency.key.clone() },
                render: Box::new(move |settled, order| render(&answered(settled, order.clone(), &fact))),
            }
        });
        let lesson = Lesson { payment_id, fact: Arc::clone(fact), cause: Cause::Api, answer };
        let outcome = self.io.settle(lesson).await?;
        Ok(answered(&outcome.settled, outcome.order, fact))
    }

    /// It is decided already, says the answer (F44): the gateway's own record is asked at once.
    async fn ask_at_once(
        &mut self,
        placed: OrderView,
        recorded: PlaceOrderOutcome,
        until: Instant,
    ) -> PlaceOrderOutcome {
        let examined = examine::examine_one(
            self.io,
            self.policy,
            placed.payment.payment.id(),
            self.policy.query_interval,
            Some(until),
            Cause::Api,
        );
        if !matches!(examined.await, Ok(Examined::Settled(_))) {
            tracing::info!("left to the reconciler: the gateway could not be asked at once");
        }
        // With an Idempotency-Key the stored answer is the one that is given, now and again.
        if self.command.idempotency.is_some() { recorded } else { self.current(placed).await }
    }

    async fn current(&mut self, placed: OrderView) -> PlaceOrderOutcome {
        match self.io.queries().order(None, placed.order.id()).await {
            Ok(Some(view)) => by_state(view),
            Ok(None) | Err(_) => PlaceOrderOutcome::Confirming(placed),
        }
    }

    /// The key was taken before: the same answer again; or, when the first request died before it had one, what its order
    /// has come to since.
    async fn replay(&mut self, known: IdempotencyRecord) -> Result<PlaceOrderOutcome, PlaceOrderError> {
        let Some(idempotency) = self.command.idempotency.clone() else {
            return Err(PlaceOrderError::IdempotencyInProgress);
        };
        if known.fingerprint != idempotency.fingerprint {
            return Err(PlaceOrderError::IdempotencyKeyReused);
        }
        if let Some(answer) = known.answer {
            return Ok(PlaceOrderOutcome::Replayed(answer));
        }
        if !known.abandoned {
            return Err(PlaceOrderError::IdempotencyInProgress);
        }
        let user_id = self.command.user_id;
        let view = self.io.queries().order(Some(user_id), known.order_id).await?;
        let outcome = by_state(view.ok_or(PlaceOrderError::IdempotencyInProgress)?);
        let answer = (idempotency.render)(&outcome);
        if matches!(&outcome, PlaceOrderOutcome::Paid(_) | PlaceOrderOutcome::Refused { .. }) {
            // From now on this is the answer. If it can't be stored, the next request makes the same one.
            let key = IdempotencyKey { user_id, key: idempotency.key };
            let tx = self.io.begin("save_answer").await?;
            let saved = tx.save_idempotent_answer(&key, &answer).await;
            tx.finish(saved).await?;
        }
        Ok(PlaceOrderOutcome::Replayed(answer))
    }
}

/// Counts a further try of a transaction.
pub(crate) fn tried_again(name: &'static str, reason: &'static str) {
    metrics::counter!("database_transaction_retries_total", "name" => name, "reason" => reason).increment(1);
}

fn decided_already(fact: &Fact) -> bool {
    match fact {
        Fact::Answer(outcome) => {
            matches!(&outcome.answer, GatewayAnswer::Accepted { status, .. } if *status != TransactionStatus::Pending)
        }
        Fact::NotSent(_) | Fact::Findings { .. } | Fact::NotExamined { .. } => false,
    }
}

/// What the buyer is told after `fact` was stored.
fn answered(settled: &Settled, order: OrderView, fact: &Fact) -> PlaceOrderOutcome {
    let answer = match (settled, fact) {
        // Somebody else has ended it.
        (Settled::AlreadyEnded, _) => return by_state(order),
        (_, Fact::Answer(outcome)) => &outcome.answer,
        (Settled::Failed { .. }, Fact::NotSent(_)) => {
            return PlaceOrderOutcome::NotSent { order, retry_after: SOON };
        }
        (_, Fact::NotSent(_) | Fact::Findings { .. } | Fact::NotExamined { .. }) => return by_state(order),
    };
    match (settled, answer) {
        (_, GatewayAnswer::Accepted { .. }) => PlaceOrderOutcome::InProgress(order),
        (_, GatewayAnswer::Uncertain { .. }) => PlaceOrderOutcome::Confirming(order),
        // Not failed by this answer: the gateway has it, as somebody else has learned.
        (Settled::InProgress, _) => by_state(order),
        (_, GatewayAnswer::Rejected { message }) => {
            PlaceOrderOutcome::Refused { order, message: message.clone() }
        }
        (_, GatewayAnswer::NotReached { retry_after, .. }) => {
            PlaceOrderOutcome::GatewayUnavailable { order, retry_after: *retry_after }
        }
        (_, GatewayAnswer::CircuitOpen { retry_after }) => {
            PlaceOrderOutcome::CircuitOpen { order, retry_after: *retry_after }
        }
    }
}

/// What an order's state says when its own flow no longer knows: somebody else ended it, or a request is repeated.
fn by_state(order: OrderView) -> PlaceOrderOutcome {
    match order.payment.payment.state() {
        PaymentState::Paid { .. } => PlaceOrderOutcome::Paid(order),
        PaymentState::Failed { message, .. } => {
            let message = message.clone().unwrap_or_else(|| FailureMessage::from_outside(""));
            PlaceOrderOutcome::Refused { order, message }
        }
        PaymentState::InProgress { key: Some(_) } => PlaceOrderOutcome::InProgress(order),
        PaymentState::InProgress { key: None } | PaymentState::Pending => {
            PlaceOrderOutcome::Confirming(order)
        }
    }
}
