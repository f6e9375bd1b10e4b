//! Placing an order: TX1, the gateway call outside any transaction, and what came of it (spec 01 section 2).
//!
//! The flow belongs to the server: callers run [`place_order`] in a task that no connection owns. Only what comes
//! before TX1's commit may be repeated; after it the card is asked for at most once, and what can't be stored is left to
//! the reconciler.

use crate::settle::{self, Learned, SettleError, Settled};
use crate::{CallbackTokens, Committed, CommittedError, Io, Policy, Tx};
use domain::mutants::{self, Mutant};
use domain::placement::{self, Offer, OrderLines, Placement, PlacementError, PlacementRequest};
use domain::ports::{
    Cause, ChargeOutcome, ChargeRequest, FailureCause, GatewayAnswer, IdempotencyClaim, IdempotencyKey,
    IdempotencyRecord, NewOrderIds, NewPayment, OrderView, PaymentEvent, PaymentRecord, PointEntry,
    PointEntryKind, StockEntry, StockEntryKind, StoreError, StoredAnswer, StoredCard, Versioned,
};
use domain::settlement::TransactionStatus;
use domain::{
    CardNumber, CardType, FailureMessage, GatewayOrderRef, IssuedCouponId, Money, Order, PaymentStatus,
    UserId,
};
use futures_util::try_join;
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

/// An order that TX1 has stored, with its payment still PENDING.
struct Placed {
    order: Order,
    record: PaymentRecord,
    callback_url: String,
}

/// What TX1 came to.
enum First {
    Placed(Box<Placed>),
    Done(Box<PlaceOrderOutcome>),
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

/// TX1, tried once more after a lost race.
async fn first_transaction(
    io: &mut Io,
    policy: &Policy,
    tokens: &CallbackTokens,
    command: &PlaceOrder,
    began: Instant,
) -> Result<First, PlaceOrderError> {
    match first_transaction_once(io, policy, tokens, command, began).await {
        Err(PlaceOrderError::Conflict) => {
            let (least, most) = policy.conflict_wait;
            let wait = least + most.saturating_sub(least).mul_f64(io.entropy().fraction());
            tokio::time::sleep(wait).await;
            first_transaction_once(io, policy, tokens, command, began).await
        }
        result => result,
    }
}

async fn first_transaction_once(
    io: &mut Io,
    policy: &Policy,
    tokens: &CallbackTokens,
    command: &PlaceOrder,
    began: Instant,
) -> Result<First, PlaceOrderError> {
    let (token, token_hash) = tokens.issue(io.entropy());
    // Measured before the transaction's moment: the stored send deadline is never earlier than the one that is kept.
    let send_within = policy.deadline.saturating_sub(began.elapsed());
    let tx = io.begin("place_order").await?;
    let work = place(&tx, policy, command, token_hash, send_within).await;
    let (order, record) = match work {
        Ok(Work::Placed(placed)) => *placed,
        Ok(Work::KnownKey(known)) => {
            tx.rollback().await;
            return replay(io, command, known).await.map(done);
        }
        Err(error) => {
            tx.rollback().await;
            return Err(error);
        }
    };
    let ended = record.payment.value.status().is_terminal();
    match tx.commit((order, record)).await.map(Committed::into_inner) {
        Ok((order, record)) if ended => Ok(done(PlaceOrderOutcome::Paid(placed_view(order, record)))),
        Ok((order, record)) => {
            let callback_url = format!(
                "{}/api/v1/payments/callback/{token}",
                policy.callback_base_url.trim_end_matches('/')
            );
            Ok(First::Placed(Box::new(Placed { order, record, callback_url })))
        }
        Err(CommittedError::RolledBack(error)) => Err(error.into()),
        // A9: never followed by a gateway call. If it was stored, the reconciler brings it to its end.
        Err(CommittedError::OutcomeUnknown((order, record))) if mutants::is(Mutant::UnknownCommitTrusted) => {
            let callback_url = format!("{}/api/v1/payments/callback/{token}", policy.callback_base_url);
            Ok(First::Placed(Box::new(Placed { order, record, callback_url })))
        }
        Err(CommittedError::OutcomeUnknown((order, record))) => {
            match io.queries().order(None, order.id()).await {
                Ok(Some(view)) if ended => Ok(done(PlaceOrderOutcome::Paid(view))),
                Ok(Some(view)) => Ok(done(PlaceOrderOutcome::Confirming(view))),
                Ok(None) | Err(_) => {
                    tracing::warn!(order_id = %order.id(), payment_id = %record.payment.value.id(),
                        "the answer to an order's COMMIT was lost");
                    Err(PlaceOrderError::OutcomeUnknown)
                }
            }
        }
    }
}

fn done(outcome: PlaceOrderOutcome) -> First {
    First::Done(Box::new(outcome))
}

enum Work {
    Placed(Box<(Order, PaymentRecord)>),
    KnownKey(IdempotencyRecord),
}

/// All of TX1 but its commit: stock, coupon, points, payment, order.
async fn place(
    tx: &Tx<'_>,
    policy: &Policy,
    command: &PlaceOrder,
    token_hash: [u8; 32],
    send_within: Duration,
) -> Result<Work, PlaceOrderError> {
    let product_ids = command.lines.product_ids();
    let (ids, products, coupon);
    if let Some(idempotency) = &command.idempotency {
        ids = tx.next_order_ids().await?;
        let claim = IdempotencyClaim {
            key: IdempotencyKey { user_id: command.user_id, key: idempotency.key.clone() },
            fingerprint: idempotency.fingerprint,
            order_id: ids.order_id,
            retention: policy.idempotency_retention,
        };
        if let Some(known) = tx.claim_idempotency(&claim).await? {
            return Ok(Work::KnownKey(known));
        }
        (products, coupon) = try_join!(tx.lock_products(&product_ids), find_coupon(tx, command))?;
    } else {
        (ids, products, coupon) =
            try_join!(tx.next_order_ids(), tx.lock_products(&product_ids), find_coupon(tx, command))?;
    }
    // After the products, never beside them: the order in which pipelined statements lock is not known.
    let points =
        if command.use_point.is_positive() { Some(tx.lock_points(command.user_id).await?) } else { None };

    let request = PlacementRequest {
        user_id: command.user_id,
        lines: command.lines.clone(),
        use_point: command.use_point,
        wants_coupon: command.issued_coupon_id.is_some(),
        has_card: command.card.is_some(),
    };
    let NewOrderIds { order_id, payment_id } = ids;
    let offer = Offer { order_id, payment_id, products, points, coupon, now: tx.now() };
    let placement = placement::decide(&request, offer)?;
    let new = new_payment(policy, command, &placement, token_hash, send_within);
    write(tx, command, &placement, &new).await?;
    let record = stored(&new, tx);
    let order = placement.order;
    if let (Some(idempotency), true) = (&command.idempotency, record.payment.value.status().is_terminal()) {
        let outcome = PlaceOrderOutcome::Paid(placed_view(order.clone(), record.clone()));
        save_answer(tx, command, idempotency, &outcome).await?;
    }
    Ok(Work::Placed(Box::new((order, record))))
}

async fn find_coupon(
    tx: &Tx<'_>,
    command: &PlaceOrder,
) -> Result<Option<Versioned<domain::ports::CouponHolding>>, StoreError> {
    match command.issued_coupon_id {
        Some(id) => tx.find_coupon_holding(id).await,
        None => Ok(None),
    }
}

fn new_payment(
    policy: &Policy,
    command: &PlaceOrder,
    placement: &Placement,
    token_hash: [u8; 32],
    send_within: Duration,
) -> NewPayment {
    let on_card = placement.payment.amounts().paid_amount().is_positive();
    let card = command.card.as_ref().filter(|_| on_card);
    NewPayment {
        payment: placement.payment.clone(),
        issued_coupon_id: command.issued_coupon_id,
        card: card.map(|(card_type, number)| StoredCard { card_type: *card_type, masked: number.masked() }),
        merchant: policy.merchant.clone(),
        callback_token_hash: on_card.then_some(token_hash),
        send_within,
    }
}

/// The row that `new` becomes.
fn stored(new: &NewPayment, tx: &Tx<'_>) -> PaymentRecord {
    let now = tx.now();
    PaymentRecord {
        payment: Versioned { version: 0, value: new.payment.clone() },
        issued_coupon_id: new.issued_coupon_id,
        card: new.card.clone(),
        merchant: new.merchant.clone(),
        created_at: now,
        updated_at: now,
        send_deadline: now + new.send_within,
        watch_wanted: false,
    }
}

async fn write(
    tx: &Tx<'_>,
    command: &PlaceOrder,
    placement: &Placement,
    new: &NewPayment,
) -> Result<(), StoreError> {
    let payment_id = placement.payment.id();
    let taken: Vec<_> = command
        .lines
        .iter()
        .map(|(product_id, quantity)| StockEntry {
            product_id,
            payment_id,
            kind: StockEntryKind::Reserve,
            quantity,
        })
        .collect();
    let coupon = async {
        match &placement.coupon {
            Some(coupon) => tx.save_issued_coupon(coupon, payment_id).await,
            None => Ok(()),
        }
    };
    let points = async {
        match placement.points {
            Some(account) => {
                let kind = PointEntryKind::Deduct;
                let payment_id = Some(payment_id);
                tx.save_points(&PointEntry { account, kind, amount: command.use_point, payment_id }).await
            }
            None => Ok(()),
        }
    };
    try_join!(tx.move_stock(&taken), coupon, points, tx.insert_order(&placement.order))?;

    let event = |from, to, reason: &str| PaymentEvent {
        from,
        to,
        cause: Cause::Api,
        reason: Some(reason.to_owned()),
        key: None,
    };
    let mut history = vec![event(None, PaymentStatus::Pending, "order placed")];
    if placement.payment.status() == PaymentStatus::Paid {
        let nothing = "nothing is left for the card";
        history.push(event(Some(PaymentStatus::Pending), PaymentStatus::InProgress, nothing));
        history.push(event(Some(PaymentStatus::InProgress), PaymentStatus::Paid, nothing));
    }
    tx.insert_payment(new, &history).await
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

/// The key was taken before: the same answer again; or, when the first request died before it had one, what its order
/// has come to since.
async fn replay(
    io: &mut Io,
    command: &PlaceOrder,
    known: IdempotencyRecord,
) -> Result<PlaceOrderOutcome, PlaceOrderError> {
    let Some(idempotency) = &command.idempotency else {
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
    let view = io.queries().order(Some(command.user_id), known.order_id).await?;
    let outcome = by_state(view.ok_or(PlaceOrderError::IdempotencyInProgress)?);
    let ended = match &outcome {
        PlaceOrderOutcome::Paid(_) | PlaceOrderOutcome::Refused { .. } => true,
        PlaceOrderOutcome::InProgress(_)
        | PlaceOrderOutcome::Confirming(_)
        | PlaceOrderOutcome::CircuitOpen { .. }
        | PlaceOrderOutcome::GatewayUnavailable { .. }
        | PlaceOrderOutcome::Replayed(_) => false,
    };
    let answer = (idempotency.render)(&outcome);
    if ended {
        // From now on this is the answer. If it can't be stored, the next request makes the same one.
        let tx = io.begin("save_answer").await?;
        let saved = save_answer(&tx, command, idempotency, &outcome).await;
        tx.finish(saved).await?;
    }
    Ok(PlaceOrderOutcome::Replayed(answer))
}
