//! The ends of a payment, and its steps on the way there: what is written, in the one order of locks.

use super::{SettleError, Settled, Settlement};
use crate::{Policy, Tx};
use domain::mutants::{self, Mutant};
use domain::ports::{
    Cause, OrderView, PaymentEvent, PaymentRecord, PointEntry, PointEntryKind, StockEntry, StockEntryKind,
    StoreError, Versioned,
};
use domain::settlement::Watch;
use domain::{
    FailureMessage, GatewayKey, Order, OrderError, Payment, PaymentError, PaymentId, PaymentStatus,
    PointError, ProductId,
};

/// TX3, success: payment PAID, order PAID.
pub(super) async fn complete(
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
pub(super) async fn fail(
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

pub(super) async fn watch_again(
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
pub(super) struct Change {
    record: PaymentRecord,
    cause: Cause,
    history: Vec<PaymentEvent>,
}

impl Change {
    pub(super) fn of(record: PaymentRecord, cause: Cause) -> Self {
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
    pub(super) fn start_if_pending(&mut self) -> Result<(), SettleError> {
        if self.record.payment.value.status() == PaymentStatus::Pending {
            self.step("the gateway knows the order", Payment::start)?;
        }
        Ok(())
    }

    pub(super) fn attach(&mut self, key: GatewayKey, reason: &str) -> Result<(), SettleError> {
        self.step(reason, |payment| payment.update_external_payment_key(key))
    }

    /// Stores the new state and its history; gives back the record as it is stored now.
    pub(super) async fn save(mut self, tx: &Tx<'_>) -> Result<PaymentRecord, StoreError> {
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
