//! Callbacks, claims and the watch list.
//!
//! A claim takes the wake-up with it: one that is there when the claim ends came meanwhile.

use super::locks::LockKey;
use super::settling::{record, unsettled};
use super::{CheckRow, InboxRow, Lease, NEVER, PaymentRow, Tables, Work, check};
use crate::clock::later;
use domain::ports::{Claim, ClaimKind, ClaimOptions, NextCheck, NextDue, StoreError};
use domain::{GatewayKey, PaymentId, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// The check row, locked; a new one when there is none.
async fn check_row(work: &mut Work, id: PaymentId) -> Result<CheckRow, StoreError> {
    let known = work.get(&id, |tables| &tables.payments).is_some();
    check(known, "payment_check_payment_id_fkey")?;
    work.lock(LockKey::Check(id)).await?;
    Ok(work.get(&id, |tables| &tables.checks).unwrap_or_default())
}

pub(super) async fn record_callback(
    work: &mut Work,
    payment_id: PaymentId,
    key: &GatewayKey,
) -> Result<(), StoreError> {
    let known = work.get(&payment_id, |tables| &tables.payments).is_some();
    check(known, "callback_inbox_payment_id_fkey")?;
    work.lock(LockKey::Inbox(payment_id, key.clone())).await?;
    let at = (payment_id, key.clone());
    let row = match work.get(&at, |tables| &tables.inbox) {
        Some(row) => InboxRow { times: row.times + 1, lease_id: None, looked_up_at: None, ..row },
        None => InboxRow { times: 1, received_at: work.now, lease_id: None, looked_up_at: None },
    };
    work.changes.inbox.insert(at, row);
    wake(work, payment_id).await
}

pub(super) async fn wake(work: &mut Work, payment_id: PaymentId) -> Result<(), StoreError> {
    let mut row = check_row(work, payment_id).await?;
    row.woken_at = row.woken_at.or(Some(work.now));
    row.parked_at = None;
    work.changes.checks.insert(payment_id, row);
    Ok(())
}

/// A payment that can be claimed.
struct Due {
    since: Timestamp,
    id: PaymentId,
    /// Its own time had come, woken or not.
    scheduled: bool,
}

/// The payment, when it is due and nobody is at it.
fn due(row: &PaymentRow, check: &CheckRow, options: &ClaimOptions, now: Timestamp) -> Option<Due> {
    let payment = &row.record.payment.value;
    let wanted = unsettled(payment.status()) == (options.kind == ClaimKind::Unsettled);
    if !wanted || check.parked_at.is_some() || check.lease.is_some_and(|lease| lease.until > now) {
        return None;
    }
    let by = options.due_by.map_or(now, |by| by.min(now));
    let own_time = match options.kind {
        ClaimKind::Unsettled => {
            let old_enough = later(row.record.updated_at, options.min_age);
            (old_enough <= by).then(|| check.due_at.unwrap_or(old_enough))
        }
        ClaimKind::Watched => check.due_at,
    };
    let own_time = own_time.filter(|at| *at <= by);
    let woken = check.woken_at.filter(|at| *at <= by);
    // A claim took the wake-up with it; one that was never ended gives it back.
    let abandoned = check.lease.map(|lease| lease.until).filter(|at| *at <= by);
    let since = own_time.into_iter().chain(woken).chain(abandoned).min()?;
    Some(Due { since, id: payment.id(), scheduled: own_time.is_some() })
}

/// All that is due, longest due first.
fn all_due(work: &Work, options: &ClaimOptions) -> Vec<Due> {
    let state = work.shared.state();
    let (own, all) = (&work.changes, &state.tables);
    let others = all.payments.iter().filter(|(id, _)| !own.payments.contains_key(id));
    let mut due: Vec<Due> = others
        .chain(&own.payments)
        .filter_map(|(id, row)| {
            let check = own.checks.get(id).or_else(|| all.checks.get(id)).copied().unwrap_or_default();
            due(row, &check, options, work.now)
        })
        .collect();
    due.sort_by_key(|due| (due.since, due.id));
    due
}

fn taken(work: &Work, id: PaymentId) -> bool {
    let state = work.shared.state();
    state.locks.taken(work.id, &LockKey::Payment(id)) || state.locks.taken(work.id, &LockKey::Check(id))
}

pub(super) async fn claim_due(work: &mut Work, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
    let mut claims = Vec::new();
    for Due { id, scheduled, .. } in all_due(work, options) {
        if claims.len() >= usize::try_from(options.limit).unwrap_or(usize::MAX) {
            break;
        }
        // Skips what others work on.
        if taken(work, id) {
            continue;
        }
        work.lock(LockKey::Payment(id)).await?;
        claims.extend(claim(work, id, options.lease, scheduled).await?);
    }
    Ok(claims)
}

pub(super) async fn claim_payment(
    work: &mut Work,
    id: PaymentId,
    lease: Duration,
    min_interval: Duration,
) -> Result<Option<Claim>, StoreError> {
    if work.get(&id, |tables| &tables.payments).is_none() {
        return Ok(None);
    }
    work.lock(LockKey::Payment(id)).await?;
    let row = check_row(work, id).await?;
    let leased = row.lease.is_some_and(|lease| lease.until > work.now);
    let too_soon = row.claimed_at.is_some_and(|at| later(at, min_interval) > work.now);
    if leased || too_soon {
        return Ok(None);
    }
    let scheduled = row.due_at.is_some_and(|at| at <= work.now);
    claim(work, id, lease, scheduled).await
}

async fn claim(
    work: &mut Work,
    id: PaymentId,
    lease: Duration,
    scheduled: bool,
) -> Result<Option<Claim>, StoreError> {
    let mut row = check_row(work, id).await?;
    let lease_id = work.shared.leases.next();
    row.lease = Some(Lease { id: lease_id, until: later(work.now, lease) });
    row.claimed_at = Some(work.now);
    row.woken_at = None;
    row.parked_at = None;
    work.changes.checks.insert(id, row);
    let mut hints = Vec::new();
    for key in open_hints(work, id) {
        let at = (id, key);
        if let Some(hint) = work.get(&at, |tables| &tables.inbox) {
            hints.push(at.1.clone());
            work.changes.inbox.insert(at, InboxRow { lease_id: Some(lease_id), ..hint });
        }
    }
    Ok(record(work, id).map(|record| Claim {
        lease_id,
        record,
        claimed_at: work.now,
        scheduled,
        hints,
        transaction_seen: row.transaction_seen,
        not_found_count: row.not_found_count,
        not_found_at: row.not_found_at,
        failures: row.failures,
        watch_step: row.watch_step,
    }))
}

/// Keys that callbacks named and nobody has looked up yet, ascending.
fn open_hints(work: &Work, id: PaymentId) -> BTreeSet<GatewayKey> {
    let open = |tables: &Tables| -> Vec<GatewayKey> {
        tables.hints(id).filter(|(_, hint)| hint.looked_up_at.is_none()).map(|(key, _)| key.clone()).collect()
    };
    let all = open(&work.shared.state().tables);
    let unchanged = all.into_iter().filter(|key| !work.changes.inbox.contains_key(&(id, key.clone())));
    unchanged.chain(open(&work.changes)).collect()
}

/// The check row of a claim whose lease is still its own, locked.
async fn own_lease(work: &mut Work, claim: &Claim) -> Result<Option<CheckRow>, StoreError> {
    let row = check_row(work, claim.record.payment.value.id()).await?;
    Ok(Some(row).filter(|row| row.lease.is_some_and(|lease| lease.id == claim.lease_id)))
}

pub(super) async fn finish_claim(
    work: &mut Work,
    claim: &Claim,
    next: &NextCheck,
    hints_done: bool,
) -> Result<bool, StoreError> {
    let id = claim.record.payment.value.id();
    let Some(mut row) = own_lease(work, claim).await? else { return Ok(false) };
    row.lease = None;
    match next.due {
        NextDue::In(wait) => row.due_at = Some(later(work.now, wait)),
        NextDue::Never => row.due_at = Some(NEVER),
        NextDue::Keep => {}
    }
    row.transaction_seen = next.transaction_seen;
    row.not_found_count = next.not_found_count;
    if next.not_found_now {
        row.not_found_at = Some(work.now);
    } else if next.not_found_count == 0 {
        row.not_found_at = None;
    }
    row.failures = next.failures;
    row.watch_step = next.watch_step;
    work.changes.checks.insert(id, row);
    if hints_done {
        for key in &claim.hints {
            work.lock(LockKey::Inbox(id, key.clone())).await?;
            let at = (id, key.clone());
            // Named again since the claim: it is looked up again.
            if let Some(mut hint) = work.get(&at, |tables| &tables.inbox)
                && hint.lease_id == Some(claim.lease_id)
            {
                hint.looked_up_at = Some(work.now);
                work.changes.inbox.insert(at, hint);
            }
        }
    }
    Ok(true)
}

pub(super) async fn park(work: &mut Work, claim: &Claim) -> Result<(), StoreError> {
    if let Some(mut row) = own_lease(work, claim).await? {
        row.lease = None;
        // A callback that came meanwhile wakes it at once.
        row.parked_at = if row.woken_at.is_some() { None } else { Some(work.now) };
        work.changes.checks.insert(claim.record.payment.value.id(), row);
    }
    Ok(())
}

pub(super) async fn want_watch(work: &mut Work, payment_id: PaymentId) -> Result<(), StoreError> {
    let mut row = check_row(work, payment_id).await?;
    row.watch_wanted = true;
    work.changes.checks.insert(payment_id, row);
    Ok(())
}

pub(super) async fn schedule_watch(
    work: &mut Work,
    payment_id: PaymentId,
    next: Option<(u32, Duration)>,
) -> Result<(), StoreError> {
    let mut row = check_row(work, payment_id).await?;
    match next {
        Some((step, due_in)) => {
            row.due_at = Some(later(work.now, due_in));
            row.watch_step = step;
        }
        None => row.due_at = None,
    }
    work.changes.checks.insert(payment_id, row);
    Ok(())
}
