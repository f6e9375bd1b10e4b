//! TX1, in batches: load what the orders need, decide each by [`domain::placement::decide`] upon what the ones before it
//! leave, store all that may be placed.
//!
//! All of it may be repeated: nothing outside the database happens before its commit.

use super::{Idempotency, PlaceOrder, PlaceOrderOutcome};
use crate::batch::Work;
use async_trait::async_trait;
use domain::placement::{
    self, KeyState, NewOrder, Placement, PlacementError, PlacementRequest, Placing, PlacingNeeds,
};
use domain::ports::{
    Cause, CommitError, IdempotencyKey, IdempotencyRecord, KeyedRequest, NewOrderIds, OrderView,
    PaymentEvent, PaymentRecord, PointEntry, PointEntryKind, Store, StoreError, StoredAnswer, StoredCard,
};
use domain::{GatewayOrderRef, MerchantId, OrderId, PaymentStatus, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A member of a placing batch: what the buyer wants, and what was drawn for it.
pub(crate) struct NewcomerOrder {
    pub(crate) command: Arc<PlaceOrder>,
    pub(crate) merchant: MerchantId,
    pub(crate) token_hash: [u8; 32],
    pub(crate) random: [u8; 8],
    pub(crate) retention: Duration,
    /// No request may leave for the gateway after it.
    pub(crate) deadline: Instant,
}

/// What a member of a placing batch gets.
pub(crate) enum PlacedInBatch {
    /// It is stored; its payment is PENDING, or PAID when nothing was left for the card.
    Placed(Box<OrderView>),
    /// Its Idempotency-Key was taken before.
    KnownKey(IdempotencyRecord),
    /// Another transaction is taking its Idempotency-Key.
    KeyBeingTaken,
    /// A rule is broken; nothing was taken.
    Refused(PlacementError),
    /// Its time was over before its turn came; nothing was taken.
    TooLate,
    /// The commit's answer was lost: it may be stored.
    Unknown(Box<OrderView>),
}

/// Places orders.
pub(crate) struct PlaceOrders {
    pub(crate) store: Arc<dyn Store>,
    /// A payment is first looked at after so long.
    pub(crate) min_age: Duration,
}

#[async_trait]
impl Work for PlaceOrders {
    type Member = NewcomerOrder;
    type Outcome = PlacedInBatch;

    const NAME: &'static str = "place";

    async fn run(&self, members: &[NewcomerOrder]) -> Result<Vec<PlacedInBatch>, StoreError> {
        // Measured before the transaction's moment: the stored send deadline is never earlier than the one that is kept.
        let began = Instant::now();
        let needs: Vec<PlacingNeeds> = members.iter().map(NewcomerOrder::needs).collect();
        let (tx, mut placing) = self.store.open_placing(&needs).await?;
        let mut outcomes = Vec::with_capacity(members.len());
        let mut orders = Vec::with_capacity(members.len());
        let ids = placing.ids.clone();
        for (member, ids) in members.iter().zip(ids) {
            outcomes.push(match self.decide(&mut placing, member, ids, began) {
                Ok(order) => {
                    let view = order_view(&order);
                    orders.push(order);
                    PlacedInBatch::Placed(Box::new(view))
                }
                Err(outcome) => outcome,
            });
        }
        if orders.is_empty() {
            tx.rollback().await;
            return Ok(outcomes);
        }
        if let Err(error) = tx.store_orders(&orders).await {
            tx.rollback().await;
            return Err(error);
        }
        match tx.commit().await {
            Ok(()) => Ok(outcomes),
            Err(CommitError::RolledBack(error)) => Err(error),
            // Each member's own order may be stored. Who was refused was refused.
            Err(CommitError::OutcomeUnknown) => {
                let own: BTreeSet<OrderId> = placing.ids.iter().map(|ids| ids.order_id).collect();
                Ok(outcomes.into_iter().map(|outcome| outcome.unproven(&own)).collect())
            }
        }
    }
}

impl PlacedInBatch {
    /// When it is not known whether the batch of these orders is stored.
    fn unproven(self, batch: &BTreeSet<OrderId>) -> Self {
        match self {
            Self::Placed(order) => Self::Unknown(order),
            Self::KnownKey(known) if batch.contains(&known.order_id) => Self::KeyBeingTaken,
            Self::KnownKey(_) | Self::KeyBeingTaken | Self::Refused(_) | Self::TooLate | Self::Unknown(_) => {
                self
            }
        }
    }
}

impl NewcomerOrder {
    fn needs(&self) -> PlacingNeeds {
        let command = &self.command;
        PlacingNeeds {
            user_id: command.user_id,
            product_ids: command.lines.product_ids(),
            points: command.use_point.is_positive(),
            issued_coupon_id: command.issued_coupon_id,
            key: command.idempotency.as_ref().map(|idempotency| self.keyed(idempotency)),
        }
    }

    fn keyed(&self, idempotency: &Idempotency) -> KeyedRequest {
        KeyedRequest {
            key: IdempotencyKey { user_id: self.command.user_id, key: idempotency.key.clone() },
            fingerprint: idempotency.fingerprint,
            retention: self.retention,
        }
    }
}

impl PlaceOrders {
    /// One order upon what is left; what it takes is taken. `began`: before the transaction's moment.
    fn decide(
        &self,
        placing: &mut Placing,
        member: &NewcomerOrder,
        ids: NewOrderIds,
        began: Instant,
    ) -> Result<NewOrder, PlacedInBatch> {
        let command = &member.command;
        let key = command.idempotency.as_ref().map(|idempotency| member.keyed(idempotency));
        match key.as_ref().and_then(|key| placing.keys.get(&key.key)) {
            Some(KeyState::Known(known)) => return Err(PlacedInBatch::KnownKey(known.clone())),
            Some(KeyState::BeingTaken) => return Err(PlacedInBatch::KeyBeingTaken),
            Some(KeyState::Free) | None => {}
        }
        let request = PlacementRequest {
            user_id: command.user_id,
            lines: command.lines.clone(),
            use_point: command.use_point,
            wants_coupon: command.issued_coupon_id.is_some(),
            has_card: command.card.is_some(),
        };
        let offer = placing.offer(ids, &request, command.issued_coupon_id);
        let placement = placement::decide(&request, offer).map_err(PlacedInBatch::Refused)?;
        let on_card = placement.payment.amounts().paid_amount().is_positive();
        // A request could not be sent in time any more: then nothing is taken for it.
        if on_card && member.deadline <= Instant::now() {
            return Err(PlacedInBatch::TooLate);
        }
        placing.take(&placement).map_err(|error| PlacedInBatch::Refused(error.into()))?;
        let mut order = self.new_order(placing, member, placement, began);
        if let Some(request) = key {
            let answer = answer_now(&order, command);
            let taken = IdempotencyRecord {
                fingerprint: request.fingerprint,
                order_id: ids.order_id,
                answer: answer.clone(),
                // As it is read once it is stored.
                abandoned: order.record.payment.status().is_terminal(),
            };
            placing.keys.insert(request.key.clone(), KeyState::Known(taken));
            order.key = Some((request, answer));
        }
        Ok(order)
    }

    fn new_order(
        &self,
        placing: &Placing,
        member: &NewcomerOrder,
        placement: Placement,
        began: Instant,
    ) -> NewOrder {
        let command = &member.command;
        let now = placing.now;
        let on_card = placement.payment.amounts().paid_amount().is_positive();
        let card = command.card.as_ref().filter(|_| on_card);
        let points = placement.points.map(|account| PointEntry {
            account,
            kind: PointEntryKind::Deduct,
            amount: command.use_point,
            payment_id: Some(placement.payment.id()),
        });
        NewOrder {
            history: first_events(placement.payment.status()),
            record: PaymentRecord {
                version: 0,
                issued_coupon_id: command.issued_coupon_id,
                card: card
                    .map(|(card_type, number)| StoredCard { card_type: *card_type, masked: number.masked() }),
                merchant: member.merchant.clone(),
                order_ref: GatewayOrderRef::new(&placing.installation, placement.order.id(), member.random),
                created_at: now,
                updated_at: now,
                send_deadline: later(now, member.deadline.saturating_duration_since(began)),
                payment: placement.payment,
            },
            order: placement.order,
            callback_token_hash: on_card.then_some(member.token_hash),
            check_at: on_card.then(|| later(now, self.min_age)),
            points,
            coupon: placement.coupon,
            key: None,
        }
    }
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    now + time::Duration::try_from(wait).unwrap_or(time::Duration::DAY)
}

/// An order as it is stored.
fn order_view(order: &NewOrder) -> OrderView {
    OrderView {
        order: order.order.clone(),
        placed_at: order.record.created_at,
        payment: order.record.clone(),
    }
}

/// What an order gives its key at once: the answer of one that is PAID.
fn answer_now(order: &NewOrder, command: &PlaceOrder) -> Option<StoredAnswer> {
    let idempotency = command.idempotency.as_ref()?;
    let paid = order.record.payment.status() == PaymentStatus::Paid;
    paid.then(|| (idempotency.render)(&PlaceOrderOutcome::Paid(order_view(order))))
}

fn first_events(status: PaymentStatus) -> Vec<PaymentEvent> {
    let event = |from, to, reason: &str| PaymentEvent {
        from,
        to,
        cause: Cause::Api,
        reason: Some(reason.to_owned()),
        key: None,
    };
    let mut history = vec![event(None, PaymentStatus::Pending, "order placed")];
    if status == PaymentStatus::Paid {
        let nothing = "nothing is left for the card";
        history.push(event(Some(PaymentStatus::Pending), PaymentStatus::InProgress, nothing));
        history.push(event(Some(PaymentStatus::InProgress), PaymentStatus::Paid, nothing));
    }
    history
}

#[cfg(test)]
mod tests;
