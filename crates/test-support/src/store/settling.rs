//! Payments, orders and the discrepancy ledger.

use super::locks::LockKey;
use super::{DiscrepancyRow, Resolution, Work, check, conflict, other};
use domain::ports::{
    DiscrepancyStatus, NewDiscrepancy, PaymentEvent, PaymentEventView, PaymentRecord, StoreError, Versioned,
};
use domain::{
    DiscrepancyId, GatewayKey, Order, OrderId, OrderStatus, Payment, PaymentId, PaymentState, PaymentStatus,
};
use std::collections::BTreeSet;

pub(super) async fn lock_payment(
    work: &mut Work,
    id: PaymentId,
) -> Result<Option<PaymentRecord>, StoreError> {
    if work.get(&id, |tables| &tables.payments).is_none() {
        return Ok(None);
    }
    work.lock(LockKey::Payment(id)).await?;
    Ok(record(work, id))
}

/// A payment as this transaction sees it.
pub(super) fn record(work: &Work, id: PaymentId) -> Option<PaymentRecord> {
    let row = work.get(&id, |tables| &tables.payments)?;
    let watch_wanted = work.get(&id, |tables| &tables.checks).is_some_and(|check| check.watch_wanted);
    Some(PaymentRecord { watch_wanted, ..row.record })
}

pub(super) async fn save_payment(
    work: &mut Work,
    payment: &Versioned<Payment>,
    history: &[PaymentEvent],
) -> Result<(), StoreError> {
    let id = payment.value.id();
    work.lock(LockKey::Payment(id)).await?;
    let mut row = match work.get(&id, |tables| &tables.payments) {
        Some(row) if row.record.payment.version == payment.version => row,
        Some(_) | None => return Err(conflict("version of payment")),
    };
    check(!row.record.payment.value.status().is_terminal(), "payment is terminal for good")?;
    check_payment(work, &payment.value).await?;
    row.record.payment = Versioned { version: payment.version + 1, value: payment.value.clone() };
    row.record.updated_at = work.now;
    work.changes.payments.insert(id, row);
    add_history(work, id, history)
}

/// The CHECK constraints that the types leave open, and the unique index of keys.
pub(super) async fn check_payment(work: &mut Work, payment: &Payment) -> Result<(), StoreError> {
    let on_card = payment.amounts().paid_amount().is_positive();
    let paid_without_key = matches!(payment.state(), PaymentState::Paid { key: None });
    check(!(paid_without_key && on_card), "payment_key_when_paid_by_card")?;
    let Some(key) = payment.key() else { return Ok(()) };
    // Waits for a transaction that is taking the same key.
    work.lock(LockKey::GatewayKey(key.clone())).await?;
    if owner_of(work, key).is_some_and(|owner| owner != payment.id()) {
        return Err(conflict("idx_payment_external_payment_key"));
    }
    work.changes.payment_of_key.insert(key.clone(), payment.id());
    Ok(())
}

fn owner_of(work: &Work, key: &GatewayKey) -> Option<PaymentId> {
    let owner = work.get(key, |tables| &tables.payment_of_key)?;
    let row = work.get(&owner, |tables| &tables.payments)?;
    (row.record.payment.value.key() == Some(key)).then_some(owner)
}

pub(super) fn add_history(
    work: &mut Work,
    payment_id: PaymentId,
    history: &[PaymentEvent],
) -> Result<(), StoreError> {
    for event in history {
        let long = event.reason.as_ref().is_some_and(|reason| reason.chars().count() > 500);
        check(!long, "22001 value too long")?;
        let sequence = work.shared.rows.next();
        let view = PaymentEventView {
            sequence,
            from: event.from,
            to: event.to,
            cause: event.cause,
            reason: event.reason.clone(),
            key: event.key.clone(),
            at: work.now,
        };
        work.changes.payment_events.insert((payment_id, sequence), view);
    }
    Ok(())
}

pub(super) async fn keys_owned_elsewhere(
    work: &mut Work,
    payment_id: PaymentId,
    keys: &[GatewayKey],
) -> Result<BTreeSet<GatewayKey>, StoreError> {
    Ok(keys
        .iter()
        .filter(|key| owner_of(work, key).is_some_and(|owner| owner != payment_id))
        .cloned()
        .collect())
}

pub(super) async fn lock_order(work: &mut Work, id: OrderId) -> Result<Option<Versioned<Order>>, StoreError> {
    if work.get(&id, |tables| &tables.orders).is_none() {
        return Ok(None);
    }
    work.lock(LockKey::Order(id)).await?;
    let row = work.get(&id, |tables| &tables.orders);
    Ok(row.map(|row| Versioned { version: row.version, value: row.order }))
}

pub(super) async fn save_order(work: &mut Work, order: &Versioned<Order>) -> Result<(), StoreError> {
    let id = order.value.id();
    work.lock(LockKey::Order(id)).await?;
    let mut row = match work.get(&id, |tables| &tables.orders) {
        Some(row) if row.version == order.version => row,
        Some(_) | None => return Err(conflict("version of orders")),
    };
    check(row.order.status() == OrderStatus::Placed, "orders is terminal for good")?;
    row.version += 1;
    row.order = order.value.clone();
    work.changes.orders.insert(id, row);
    Ok(())
}

pub(super) async fn record_discrepancy(
    work: &mut Work,
    row: &NewDiscrepancy,
) -> Result<Option<DiscrepancyId>, StoreError> {
    let known = work.get(&row.payment_id, |tables| &tables.payments).is_some();
    check(known, "discrepancy_payment_id_fkey")?;
    check(row.discrepancy.evidence.chars().count() <= 500, "22001 value too long")?;
    let fact = (row.payment_id, row.discrepancy.fact());
    work.lock(LockKey::Fact(fact.0, fact.1.clone())).await?;
    if work.get(&fact, |tables| &tables.facts).is_some() {
        return Ok(None);
    }
    let id =
        DiscrepancyId::new(work.shared.discrepancies.next()).map_err(|error| other(&error.to_string()))?;
    let stored = DiscrepancyRow {
        row: row.clone(),
        status: DiscrepancyStatus::Open,
        found_at: work.now,
        resolved: None,
    };
    work.changes.discrepancies.insert(id, stored);
    work.changes.facts.insert(fact, id);
    Ok(Some(id))
}

pub(super) async fn resolve_discrepancy(
    work: &mut Work,
    id: DiscrepancyId,
    resolution: &str,
    note: &str,
    actor: &str,
) -> Result<Option<bool>, StoreError> {
    let short = |text: &str, characters| text.chars().count() <= characters;
    let fits = short(resolution, 100) && short(note, 1000) && short(actor, 100);
    check(fits, "22001 value too long")?;
    if work.get(&id, |tables| &tables.discrepancies).is_none() {
        return Ok(None);
    }
    work.lock(LockKey::Discrepancy(id)).await?;
    let Some(mut row) = work.get(&id, |tables| &tables.discrepancies) else { return Ok(None) };
    if row.status == DiscrepancyStatus::Resolved {
        return Ok(Some(false));
    }
    row.status = DiscrepancyStatus::Resolved;
    row.resolved = Some(Resolution {
        resolution: resolution.to_owned(),
        note: note.to_owned(),
        by: actor.to_owned(),
        at: work.now,
    });
    work.changes.discrepancies.insert(id, row);
    Ok(Some(true))
}

pub(super) async fn find_payment_by_token_hash(
    work: &mut Work,
    hash: &[u8; 32],
) -> Result<Option<PaymentId>, StoreError> {
    Ok(work.get(hash, |tables| &tables.payment_of_token))
}

/// The payment has not ended.
pub(super) const fn unsettled(status: PaymentStatus) -> bool {
    !status.is_terminal()
}
