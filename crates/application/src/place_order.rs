//! Placing an order: TX1, the gateway call outside any transaction, and what came of it (spec 01 section 2).
//!
//! The flow belongs to the server: callers run [`place_order`] in a task that no connection owns. Only what comes
//! before TX1's commit may be repeated; after it the card is asked for at most once, and what can't be stored is left to
//! the reconciler.

mod first_transaction;

use crate::settle::{self, Learned, SettleError, Settled};
use crate::{CallbackTokens, Committed, CommittedError, Io, Policy, Tx};
use domain::mutants::{self, Mutant};
use domain::placement::{OrderLines, PlacementError};
use domain::ports::{
    Cause, ChargeOutcome, ChargeRequest, FailureCause, GatewayAnswer, IdempotencyKey, OrderView,
    PaymentEvent, PaymentRecord, StoreError, StoredAnswer,
};
use domain::settlement::TransactionStatus;
use domain::{
    CardNumber, CardType, FailureMessage, GatewayOrderRef, IssuedCouponId, Money, Order, PaymentStatus,
    UserId,
};
use first_transaction::{First, Placed, first_transaction};
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
    /// The database is out of reach or overloaded; nothing was taken.
    #[error("the database is out of reach")]
    Unavailable(#[source] StoreError),
    /// The database went away while the order was being stored: it may exist, and was not sent to the gateway. The same
    /// request with the same Idempotency-Key tells.
    #[error("whether the order was stored is not known")]
    OutcomeUnknown,
    /// A defect.
    #[error("could not place the order")]
    Internal(#[source] StoreError),
}

/// A payment to be requested: what [`crate::Gateway::charge`] takes, and only out of a commit.
#[derive(Debug)]
pub struct ChargeAttempt {
    pub(crate) request: ChargeRequest,
}

impl From<StoreError> for PlaceOrderError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::Conflict,
            StoreError::Unavailable { .. } => Self::Unavailable(error),
            StoreError::Corrupt { .. } | StoreError::Other { .. } => Self::Internal(error),
        }
    }
}

impl From<PlacementError> for PlaceOrderError {
    fn from(error: PlacementError) -> Self {
        Self::Placement(error)
    }
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
    let began = Instant::now();
    let placed = match first_transaction(io, policy, tokens, &command, began).await? {
        First::Placed(placed) => placed,
        First::Done(outcome) => return Ok(*outcome),
    };
    if let Some(notice) = &command.placed {
        notice(&placed_view(placed.order.clone(), placed.record.clone()));
    }
    let outcome = match start(io, policy, &command, &placed, began).await {
        Start::Committed(attempt) if Instant::now() < began + policy.deadline => {
            io.gateway().charge(*attempt).await
        }
        // The database, or a process that stood still, took all the time there was.
        Start::Committed(_) => not_sent("SendDeadlinePassed"),
        Start::Elsewhere => return current(io, &placed).await,
        Start::NotStored => not_sent("DatabaseUnavailable"),
    };
    record(io, policy, &command, &placed, outcome, began).await
}

fn not_sent(cause: &'static str) -> ChargeOutcome {
    let answer =
        GatewayAnswer::NotReached { cause: FailureCause(cause), retry_after: Duration::from_secs(1) };
    ChargeOutcome { answer, watch: false }
}

/// Counts a further try of a transaction.
pub(crate) fn tried_again(name: &'static str, reason: &'static str) {
    metrics::counter!("database_transaction_retries_total", "name" => name, "reason" => reason).increment(1);
}

fn placed_view(order: Order, payment: PaymentRecord) -> OrderView {
    OrderView { order, placed_at: payment.created_at, payment }
}

enum Start {
    /// Durable: the gateway may be asked.
    Committed(Box<Committed<ChargeAttempt>>),
    /// Somebody else moved the payment: not ours to send any more.
    Elsewhere,
    /// Could not be stored, or nobody knows: nothing was sent, and nothing will be.
    NotStored,
}

/// PENDING -> IN_PROGRESS, written before the gateway is asked: after a crash PENDING means that nothing was sent.
async fn start(io: &mut Io, policy: &Policy, command: &PlaceOrder, placed: &Placed, began: Instant) -> Start {
    let Some((card_type, card_number)) = command.card.clone() else {
        return Start::NotStored;
    };
    let Ok(started) = placed.record.payment.value.clone().start() else {
        return Start::Elsewhere;
    };
    let request = ChargeRequest {
        merchant: placed.record.merchant.clone(),
        order_ref: GatewayOrderRef::from(placed.order.id()),
        card_type,
        card_number,
        amount: amount(placed.record.payment.value.amounts().paid_amount()),
        callback_url: placed.callback_url.clone(),
        deadline: if mutants::is(Mutant::SendDeadlineIgnored) {
            (Instant::now() + Duration::from_secs(3600)).into_std()
        } else {
            (began + policy.deadline).into_std()
        },
    };
    let tx = match io.begin("start_payment").await {
        Ok(tx) => tx,
        Err(_) => return Start::NotStored,
    };
    let event = PaymentEvent {
        from: Some(PaymentStatus::Pending),
        to: PaymentStatus::InProgress,
        cause: Cause::Api,
        reason: Some("asking the gateway".to_owned()),
        key: None,
    };
    match tx.save_payment(&placed.record.payment.with(started), &[event]).await {
        Ok(()) => match tx.commit(ChargeAttempt { request }).await {
            Ok(attempt) => Start::Committed(Box::new(attempt)),
            Err(CommittedError::RolledBack(StoreError::Conflict { .. })) => Start::Elsewhere,
            Err(_) => Start::NotStored,
        },
        Err(error) => {
            tx.rollback().await;
            if matches!(error, StoreError::Conflict { .. }) { Start::Elsewhere } else { Start::NotStored }
        }
    }
}

/// What is requested: what is on the card.
fn amount(paid: Money) -> Money {
    let truncated = Money::new(paid.won() / 10 * 10).unwrap_or(paid);
    if mutants::is(Mutant::AmountTruncated) { truncated } else { paid }
}

/// Stores what came of the call; tried again until the patience ends, then left to the reconciler.
async fn record(
    io: &mut Io,
    policy: &Policy,
    command: &PlaceOrder,
    placed: &Placed,
    outcome: ChargeOutcome,
    began: Instant,
) -> Result<PlaceOrderOutcome, PlaceOrderError> {
    let until = began + policy.deadline + policy.record_patience;
    // 20, 40, 80 ... ms: tokio-retry's sequence is base^n times the factor.
    let mut pauses = ExponentialBackoff::from_millis(2).factor(10).max_delay(Duration::from_millis(500));
    loop {
        match record_once(io, policy, command, placed, &outcome).await {
            Ok(recorded) => {
                if let GatewayAnswer::Accepted { status, .. } = &outcome.answer
                    && *status != TransactionStatus::Pending
                    && Instant::now() < until
                {
                    // It is decided already, says the answer (F44): the gateway's own record is asked at once.
                    let examined =
                        crate::examine::examine_one(io, policy, placed.record.payment.value.id(), Cause::Api);
                    if !matches!(tokio::time::timeout_at(until, examined).await, Ok(Ok(_))) {
                        tracing::info!("left to the reconciler: the gateway could not be asked at once");
                    }
                    // With an Idempotency-Key the stored answer is the one that is given, now and again.
                    if command.idempotency.is_none() {
                        return current(io, placed).await;
                    }
                }
                return Ok(recorded);
            }
            Err(error) => {
                let payment_id = placed.record.payment.value.id();
                let pause = pauses
                    .next()
                    .filter(|pause| Instant::now() + *pause < until)
                    .filter(|_| !matches!(error, SettleError::Inconsistent { .. }));
                let Some(pause) = pause else {
                    tracing::error!(%payment_id, error = &error as &dyn std::error::Error,
                        "what came of the gateway call could not be stored; left to the reconciler");
                    return Ok(PlaceOrderOutcome::Confirming(placed_view(
                        placed.order.clone(),
                        placed.record.clone(),
                    )));
                };
                tokio::time::sleep(pause).await;
                let lost_race = matches!(error, SettleError::Store(StoreError::Conflict { .. }));
                tried_again("record_answer", if lost_race { "conflict" } else { "unavailable" });
            }
        }
    }
}

async fn record_once(
    io: &mut Io,
    policy: &Policy,
    command: &PlaceOrder,
    placed: &Placed,
    outcome: &ChargeOutcome,
) -> Result<PlaceOrderOutcome, SettleError> {
    let payment_id = placed.record.payment.value.id();
    let tx = io.begin("record_answer").await?;
    let applied: Result<_, SettleError> = async {
        let settlement = settle::apply(&tx, policy, payment_id, Learned::Answer(outcome), Cause::Api).await?;
        let view = settle::order_view(&placed.order, &settlement.record)
            .map_err(|error| SettleError::Inconsistent { payment_id, what: error.to_string() })?;
        let answer = answered(&settlement, view, outcome);
        if let Some(idempotency) = &command.idempotency {
            save_answer(&tx, command, idempotency, &answer).await?;
        }
        Ok((settlement, answer))
    }
    .await;
    let (settlement, answer) = tx.finish(applied).await?;
    settle::report(payment_id, &settlement, Cause::Api);
    Ok(answer)
}

fn answered(settlement: &settle::Settlement, order: OrderView, outcome: &ChargeOutcome) -> PlaceOrderOutcome {
    match (&settlement.settled, &outcome.answer) {
        (Settled::AlreadyEnded, _) => by_state(order),
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
    use domain::PaymentState;
    match order.payment.payment.value.state() {
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

async fn current(io: &mut Io, placed: &Placed) -> Result<PlaceOrderOutcome, PlaceOrderError> {
    match io.queries().order(None, placed.order.id()).await {
        Ok(Some(view)) => Ok(by_state(view)),
        Ok(None) | Err(_) => {
            Ok(PlaceOrderOutcome::Confirming(placed_view(placed.order.clone(), placed.record.clone())))
        }
    }
}

async fn save_answer(
    tx: &Tx<'_>,
    command: &PlaceOrder,
    idempotency: &Idempotency,
    outcome: &PlaceOrderOutcome,
) -> Result<(), StoreError> {
    let key = IdempotencyKey { user_id: command.user_id, key: idempotency.key.clone() };
    tx.save_idempotent_answer(&key, &(idempotency.render)(outcome)).await
}
