//! Transactions of their own: starting payments, callbacks, claims.
//!
//! A claim takes the wake-up with it: one that is there when the claim ends came meanwhile.

use super::locks::LockKey;
use super::settling::{self, add_history, name_key, open_hints, save_payment};
use super::tx::{FakeTx, run};
use super::work::{View, Work};
use super::{InboxRow, PaymentRow, Tables};
use crate::clock::later;
use domain::ports::{CallbackNote, Cause, Claim, ClaimOptions, Due, PaymentEvent, StoreError, Versioned};
use domain::settlement::{Check, Lease};
use domain::{GatewayKey, PaymentId, PaymentStatus, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn start(tx: &FakeTx, ids: &[PaymentId]) -> Result<BTreeSet<PaymentId>, StoreError> {
    let pending = run!(tx, "tx.lock_payments", self::lock_pending(ids))?;
    run!(tx, "tx.store_payments", self::start_pending(&pending))?;
    Ok(pending.into_keys().collect())
}

async fn lock_pending(
    work: &mut Work,
    ids: &[PaymentId],
) -> Result<BTreeMap<PaymentId, PaymentRow>, StoreError> {
    let ids = ids.iter().copied();
    let mut locked = work.lock_rows(ids, LockKey::Payment, |tables| &tables.payments, |_| true).await?;
    locked.retain(|_, row| row.record.payment.status() == PaymentStatus::Pending);
    Ok(locked)
}

async fn start_pending(work: &mut Work, pending: &BTreeMap<PaymentId, PaymentRow>) -> Result<(), StoreError> {
    for (id, PaymentRow { record, .. }) in pending {
        let started = record.payment.clone().start();
        let started = started.map_err(|error| super::other(&error.to_string()))?;
        save_payment(work, &Versioned { version: record.version, value: started }, false).await?;
        let event = PaymentEvent {
            from: Some(PaymentStatus::Pending),
            to: PaymentStatus::InProgress,
            cause: Cause::Api,
            reason: Some("asking the gateway".to_owned()),
            key: None,
        };
        add_history(work, *id, &[event])?;
    }
    Ok(())
}

/// One statement, as far as it reads: it sees payments as they are before it waits for their check rows. Who ended
/// meanwhile is woken for nothing; a wake-up is never lost.
pub(super) async fn note(tx: &FakeTx, notes: &[CallbackNote]) -> Result<Vec<Option<PaymentId>>, StoreError> {
    let found: Vec<Option<Noted>> =
        tx.load("tx.find_payments", |view| Ok(notes.iter().map(|note| noted(&view, note)).collect())).await?;
    let news = found.iter().flatten().filter(|noted| noted.news).map(|noted| noted.payment_id);
    run!(tx, "tx.lock_checks", settling::lock_checks(news))?;
    tx.work("tx.store_hints", |work| {
        for (note, noted) in notes.iter().zip(&found) {
            if let Some(Noted { payment_id, news: true }) = noted {
                take_note(work, *payment_id, note);
            }
        }
        Ok(())
    })
    .await?;
    Ok(found.into_iter().map(|noted| Some(noted?.payment_id)).collect())
}

struct Noted {
    payment_id: PaymentId,
    /// It says something new.
    news: bool,
}

fn noted(view: &View<'_>, note: &CallbackNote) -> Option<Noted> {
    let payment = |id| view.get(|tables| &tables.payments, &id);
    match note {
        CallbackNote::Named { token_hash, key } => {
            let payment_id = *view.get(|tables| &tables.payment_of_token, token_hash)?;
            let payment = &payment(payment_id)?.record.payment;
            let paid_by_it = payment.status() == PaymentStatus::Paid && payment.key() == Some(key);
            Some(Noted { payment_id, news: !paid_by_it })
        }
        CallbackNote::Unproven { order_ref } => {
            let payment_id = *view.get(|tables| &tables.payment_of_order, &order_ref.named_order()?)?;
            let record = &payment(payment_id)?.record;
            let news = !record.payment.status().is_terminal();
            (record.order_ref == *order_ref).then_some(Noted { payment_id, news })
        }
    }
}

fn take_note(work: &mut Work, id: PaymentId, note: &CallbackNote) {
    let Some(mut check) = work.get(&id, |tables| &tables.checks) else { return };
    check.woken_at = check.woken_at.or(Some(work.now));
    check.parked_at = None;
    work.changes.checks.insert(id, check);
    if let CallbackNote::Named { key, .. } = note {
        name_key(work, id, key);
    }
}

pub(super) async fn claim(tx: &FakeTx, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
    let claimed = tx.work("tx.claim", |work| Ok(take_due(work, options))).await?;
    tx.work("tx.load_claims", |work| {
        claimed.into_iter().filter_map(|(id, scheduled)| load(work, id, scheduled, options)).map(Ok).collect()
    })
    .await
}

/// Claims what is due, longest due first, and passes over what others have locked.
fn take_due(work: &mut Work, options: &ClaimOptions) -> Vec<(PaymentId, bool)> {
    let now = work.now;
    let by = options.due_by.map_or(now, |by| by.min(now));
    let mut due: Vec<(Timestamp, PaymentId, Check)> = work.view(|view| {
        let rows = view.rows(|tables| &tables.payments);
        rows.into_iter()
            .filter_map(|(id, row)| {
                let check = *view.get(|tables| &tables.checks, id)?;
                Some((due_since(row, &check, options.due, now, by)?, *id, check))
            })
            .collect()
    });
    due.sort_by_key(|(since, id, _)| (*since, *id));
    let mut claimed = Vec::new();
    for (_, id, mut check) in due {
        if claimed.len() >= usize::try_from(options.limit).unwrap_or(usize::MAX) {
            break;
        }
        if !work.try_lock(&LockKey::Check(id)) {
            continue;
        }
        check.lease = Some(Lease { id: options.lease_id, until: later(now, options.lease) });
        check.claimed_at = Some(now);
        check.woken_at = None;
        check.parked_at = None;
        work.changes.checks.insert(id, check);
        claimed.push((id, check.due_at.is_some_and(|at| at <= by)));
    }
    claimed
}

/// Since when it has been due; none: it is not.
fn due_since(row: &PaymentRow, check: &Check, due: Due, now: Timestamp, by: Timestamp) -> Option<Timestamp> {
    let PaymentRow { record, .. } = row;
    let ended = record.payment.status().is_terminal();
    let sending = !ended && record.payment.key().is_none() && record.send_deadline > now;
    if sending || check.lease.is_some_and(|lease| lease.until > now) {
        return None;
    }
    let rested = |least| check.claimed_at.is_none_or(|at| later(at, least) <= now);
    let since = match due {
        Due::Unsettled => check.next_at().filter(|_| !ended),
        Due::Watched => check.next_at().filter(|_| ended),
        Due::Woken { min_interval } => {
            check.woken_at.and(check.next_at()).filter(|_| !ended && rested(min_interval))
        }
        Due::One { payment_id, min_interval } => {
            return (record.payment.id() == payment_id && rested(min_interval)).then_some(by);
        }
    };
    since.filter(|at| *at <= by)
}

fn load(work: &mut Work, id: PaymentId, scheduled: bool, options: &ClaimOptions) -> Option<Claim> {
    let record = work.get(&id, |tables| &tables.payments)?.record;
    let hints: Vec<GatewayKey> =
        work.view(|view| open_hints(&view, id)).into_iter().map(|hint| hint.key).collect();
    for key in &hints {
        let at = (id, key.clone());
        if let Some(row) = work.get(&at, |tables: &Tables| &tables.inbox) {
            work.changes.inbox.insert(at, InboxRow { lease_id: Some(options.lease_id), ..row });
        }
    }
    let claimed_at = work.now;
    Some(Claim { lease_id: options.lease_id, record, claimed_at, scheduled, hints })
}
