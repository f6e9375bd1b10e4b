//! TX1: stock, coupon, points, payment PENDING, order PLACED; or the answer that a known Idempotency-Key has already.
//!
//! All of it may be repeated: nothing outside the database happens before its commit.

use super::{PlaceOrder, PlaceOrderError, PlaceOrderOutcome, by_state, placed_view, save_answer};
use crate::{CallbackTokens, Committed, CommittedError, Io, Policy, Tx};
use domain::mutants::{self, Mutant};
use domain::placement::{self, Offer, Placement, PlacementRequest};
use domain::ports::{
    Cause, CouponHolding, IdempotencyClaim, IdempotencyKey, IdempotencyRecord, NewOrderIds, NewPayment,
    PaymentEvent, PaymentRecord, PointEntry, PointEntryKind, StockEntry, StockEntryKind, StoreError,
    StoredCard, Versioned,
};
use domain::{Order, PaymentStatus};
use futures_util::try_join;
use std::time::Duration;
use tokio::time::Instant;

/// An order that TX1 has stored, with its payment still PENDING.
pub(super) struct Placed {
    pub(super) order: Order,
    pub(super) record: PaymentRecord,
    pub(super) callback_url: String,
}

/// What TX1 came to.
pub(super) enum First {
    Placed(Box<Placed>),
    Done(Box<PlaceOrderOutcome>),
}

/// TX1, tried once more after a lost race.
pub(super) async fn first_transaction(
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
            super::tried_again("place_order", "conflict");
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
) -> Result<Option<Versioned<CouponHolding>>, StoreError> {
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
