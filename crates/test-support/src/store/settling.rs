//! What settling payments needs, and what it stores.

use super::locks::LockKey;
use super::placing::{holding, save_answer};
use super::tx::{FakeTx, run};
use super::work::{View, Work};
use super::{DiscrepancyRow, InboxRow, PaymentRow, Resolution, StockMove, check, conflict, goods, other};
use domain::ports::{
    DiscrepancyStatus, PaymentEvent, PaymentEventView, PaymentRecord, StoreError, Versioned,
};
use domain::settlement::{Case, Changes, Check, Hint, Settling, SettlingNeeds, Shared};
use domain::{
    DiscrepancyId, GatewayKey, OrderStatus, Payment, PaymentId, PaymentState, PointAccount, UserId,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn open(tx: &FakeTx, needs: &[SettlingNeeds]) -> Result<Settling, StoreError> {
    let records = run!(tx, "tx.lock_payments", self::lock_payments(needs))?;
    let checks = run!(tx, "tx.lock_checks", self::lock_checks(records.keys().copied()))?;
    let with_goods: BTreeSet<PaymentId> =
        needs.iter().filter(|need| need.goods).map(|need| need.payment_id).collect();
    let with_goods: BTreeSet<_> = with_goods.into_iter().filter(|id| records.contains_key(id)).collect();
    // Nothing goes back from a payment that has ended.
    let goods = |record: &&PaymentRecord| {
        with_goods.contains(&record.payment.id()) && !record.payment.status().is_terminal()
    };
    let giving_back: Vec<&PaymentRecord> = records.values().filter(goods).collect();
    run!(tx, "tx.lock_products", self::lock_stock(&giving_back))?;
    let points = run!(tx, "tx.lock_points", self::lock_points(&giving_back))?;
    let cases = tx
        .load("tx.load_cases", |view| {
            let case = |(id, record): (&PaymentId, &PaymentRecord)| {
                let row = view.get(|tables| &tables.orders, &record.payment.order_id())?;
                let coupon = record.issued_coupon_id.filter(|_| with_goods.contains(id));
                let case = Case {
                    record: record.clone(),
                    order: Versioned { version: row.version, value: row.order.clone() },
                    coupon: coupon.and_then(|coupon| holding(&view, coupon)),
                    check: checks.get(id).copied().unwrap_or_default(),
                    hints: open_hints(&view, *id),
                };
                Some((*id, case))
            };
            Ok(records.iter().filter_map(case).collect())
        })
        .await?;
    let key_owners = tx
        .load("tx.load_key_owners", |view| {
            let keys = needs.iter().flat_map(|need| &need.keys);
            Ok(keys.filter_map(|key| Some((key.clone(), owner_of(&view, key)?))).collect())
        })
        .await?;
    Ok(Settling { cases, shared: Shared { now: tx.moment(), points, key_owners }, with_goods })
}

async fn lock_payments(
    work: &mut Work,
    needs: &[SettlingNeeds],
) -> Result<BTreeMap<PaymentId, PaymentRecord>, StoreError> {
    let on_card = |row: &PaymentRow| row.record.payment.amounts().paid_amount().is_positive();
    let ids = needs.iter().map(|need| need.payment_id);
    let rows = work.lock_rows(ids, LockKey::Payment, |tables| &tables.payments, on_card).await?;
    Ok(rows.into_iter().map(|(id, row)| (id, row.record)).collect())
}

pub(super) async fn lock_checks(
    work: &mut Work,
    ids: impl IntoIterator<Item = PaymentId>,
) -> Result<BTreeMap<PaymentId, Check>, StoreError> {
    work.lock_rows(ids, LockKey::Check, |tables| &tables.checks, |_| true).await
}

/// What an order bought never changes, so that it may be read beside the lock.
async fn lock_stock(work: &mut Work, records: &[&PaymentRecord]) -> Result<(), StoreError> {
    let products: BTreeSet<_> = work.view(|view| {
        let orders =
            records.iter().filter_map(|record| view.get(|tables| &tables.orders, &record.payment.order_id()));
        orders.flat_map(|row| row.order.items().iter().map(|item| item.product_id)).collect()
    });
    work.lock_rows(products, LockKey::Stock, |tables| &tables.stock, |_| true).await?;
    Ok(())
}

async fn lock_points(
    work: &mut Work,
    records: &[&PaymentRecord],
) -> Result<BTreeMap<UserId, PointAccount>, StoreError> {
    let used = records.iter().filter(|record| record.payment.amounts().used_point().is_positive());
    let buyers = used.map(|record| record.payment.user_id());
    let balances = work.lock_rows(buyers, LockKey::Points, |tables| &tables.points, |_| true).await?;
    balances.into_iter().map(|(id, balance)| Ok((id, goods::account(id, balance)?))).collect()
}

/// Keys that callbacks named and nobody has looked up yet, ascending.
pub(super) fn open_hints(view: &View<'_>, id: PaymentId) -> Vec<Hint> {
    let rows = view.rows(|tables| &tables.inbox);
    let open =
        rows.into_iter().filter(|((payment_id, _), row)| *payment_id == id && row.looked_up_at.is_none());
    open.map(|((_, key), row)| Hint { key: key.clone(), lease_id: row.lease_id }).collect()
}

fn owner_of(view: &View<'_>, key: &GatewayKey) -> Option<PaymentId> {
    let owner = view.get(|tables| &tables.payment_of_key, key)?;
    let row = view.get(|tables| &tables.payments, owner)?;
    (row.record.payment.key() == Some(key)).then_some(*owner)
}

pub(super) async fn store(tx: &FakeTx, changes: &[Changes]) -> Result<(), StoreError> {
    run!(tx, "tx.store_payments", self::save_payments(changes))?;
    tx.work("tx.store_orders", |work| changes.iter().try_for_each(|change| save_order(work, change))).await?;
    let pieces = |change: &Changes| {
        let back = change.stock_back.iter();
        back.map(|back| (change.payment_id, back.product_id, back.quantity)).collect::<Vec<_>>()
    };
    let back: Vec<_> = changes.iter().flat_map(pieces).collect();
    run!(tx, "tx.store_stock", goods::move_stock(StockMove::Restore, back))?;
    let points: Vec<_> = changes.iter().filter_map(|change| change.points_back).collect();
    run!(tx, "tx.store_points", goods::save_points(&points))?;
    let coupons: Vec<_> =
        changes.iter().filter_map(|change| Some((change.payment_id, change.coupon_back?))).collect();
    run!(tx, "tx.store_coupons", goods::save_coupons(coupons))?;
    tx.work("tx.store_discrepancies", |work| {
        changes.iter().try_for_each(|change| record_discrepancies(work, change))
    })
    .await?;
    run!(tx, "tx.store_checks", self::save_checks(changes))?;
    run!(tx, "tx.store_answers", self::save_answers(changes))
}

async fn save_payments(work: &mut Work, changes: &[Changes]) -> Result<(), StoreError> {
    for change in changes {
        if let Some(payment) = &change.payment {
            save_payment(work, payment, change.sending_ended).await?;
        }
        check(work.get(&change.payment_id, |t| &t.payments).is_some(), "payment_event_payment_id_fkey")?;
        add_history(work, change.payment_id, &change.history)?;
    }
    Ok(())
}

/// Stores a payment's new state at its version.
pub(super) async fn save_payment(
    work: &mut Work,
    payment: &Versioned<Payment>,
    sending_ended: bool,
) -> Result<(), StoreError> {
    let id = payment.value.id();
    let current = |row: &PaymentRow| row.record.version == payment.version;
    let mut locked = work.lock_rows([id], LockKey::Payment, |tables| &tables.payments, current).await?;
    let mut row = locked.remove(&id).ok_or_else(|| conflict("version of payment"))?;
    check(!row.record.payment.status().is_terminal(), "payment is terminal for good")?;
    // While the row changes, nobody can tell whether the key that it had becomes free.
    if let Some(key) = row.record.payment.key() {
        work.lock(LockKey::GatewayKey(key.clone())).await?;
    }
    take_gateway_key(work, &payment.value).await?;
    row.record.payment = payment.value.clone();
    row.record.version += 1;
    row.record.updated_at = work.now;
    if sending_ended {
        row.record.send_deadline = row.record.send_deadline.min(work.now);
    }
    work.changes.payments.insert(id, row);
    Ok(())
}

/// The CHECK constraints that the types leave open, and the unique index of keys.
pub(super) async fn take_gateway_key(work: &mut Work, payment: &Payment) -> Result<(), StoreError> {
    let on_card = payment.amounts().paid_amount().is_positive();
    let paid_without_key = matches!(payment.state(), PaymentState::Paid { key: None });
    check(!(paid_without_key && on_card), "payment_key_when_paid_by_card")?;
    let Some(key) = payment.key() else { return Ok(()) };
    // Waits for a transaction that is taking the same key.
    work.lock(LockKey::GatewayKey(key.clone())).await?;
    if work.view(|view| owner_of(&view, key)).is_some_and(|owner| owner != payment.id()) {
        return Err(conflict("idx_payment_external_payment_key"));
    }
    work.changes.payment_of_key.insert(key.clone(), payment.id());
    Ok(())
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

fn save_order(work: &mut Work, change: &Changes) -> Result<(), StoreError> {
    let Some(order) = &change.order else { return Ok(()) };
    let id = order.value.id();
    let row = work.get(&id, |tables| &tables.orders).filter(|row| row.version == order.version);
    let mut row = row.ok_or_else(|| conflict("version of orders"))?;
    check(row.order.status() == OrderStatus::Placed, "orders is terminal for good")?;
    row.version += 1;
    row.order = order.value.clone();
    work.changes.orders.insert(id, row);
    Ok(())
}

/// One fact makes one row.
fn record_discrepancies(work: &mut Work, change: &Changes) -> Result<(), StoreError> {
    let payment_id = change.payment_id;
    for discrepancy in &change.discrepancies {
        check(discrepancy.evidence.chars().count() <= 500, "22001 value too long")?;
        let fact = (payment_id, discrepancy.fact());
        if work.get(&fact, |tables| &tables.facts).is_some() {
            continue;
        }
        let id = DiscrepancyId::new(work.shared.discrepancies.next());
        let id = id.map_err(|error| other(&error.to_string()))?;
        let row = DiscrepancyRow {
            payment_id,
            discrepancy: discrepancy.clone(),
            status: DiscrepancyStatus::Open,
            found_at: work.now,
            resolved: None,
        };
        work.changes.discrepancies.insert(id, row);
        work.changes.facts.insert(fact, id);
    }
    Ok(())
}

async fn save_checks(work: &mut Work, changes: &[Changes]) -> Result<(), StoreError> {
    for change in changes {
        let id = change.payment_id;
        if let Some(check) = change.check {
            work.lock(LockKey::Check(id)).await?;
            work.changes.checks.insert(id, check);
        }
        for key in &change.hints_done {
            let at = (id, key.clone());
            if let Some(row) = work.get(&at, |tables| &tables.inbox) {
                let looked_up_at = Some(work.now);
                work.changes.inbox.insert(at, InboxRow { looked_up_at, ..row });
            }
        }
        if let Some(key) = &change.hint {
            name_key(work, id, key);
        }
    }
    Ok(())
}

/// A key is named: to be looked up, even if it was before.
pub(super) fn name_key(work: &mut Work, payment_id: PaymentId, key: &GatewayKey) {
    let at = (payment_id, key.clone());
    let row = match work.get(&at, |tables| &tables.inbox) {
        Some(row) => InboxRow { times: row.times + 1, lease_id: None, looked_up_at: None, ..row },
        None => InboxRow { times: 1, received_at: work.now, lease_id: None, looked_up_at: None },
    };
    work.changes.inbox.insert(at, row);
}

async fn save_answers(work: &mut Work, changes: &[Changes]) -> Result<(), StoreError> {
    for (key, answer) in changes.iter().filter_map(|change| change.answer.as_ref()) {
        save_answer(work, key, answer).await?;
    }
    Ok(())
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
    let open = |row: &DiscrepancyRow| row.status == DiscrepancyStatus::Open;
    let rows = work.lock_rows([id], LockKey::Discrepancy, |tables| &tables.discrepancies, open).await?;
    let Some(row) = rows.get(&id) else { return Ok(Some(false)) };
    let resolved = Some(Resolution {
        resolution: resolution.to_owned(),
        note: note.to_owned(),
        by: actor.to_owned(),
        at: work.now,
    });
    let row = DiscrepancyRow { status: DiscrepancyStatus::Resolved, resolved, ..row.clone() };
    work.changes.discrepancies.insert(id, row);
    Ok(Some(true))
}
