//! Who examines a payment, and when: claims, wake-ups, hints of callbacks, the watch list.
//!
//! A claim is a lease in a row, never a lock held over the gateway call. Locks are taken in the order payment, check
//! row, hints, by everyone here. What decides a claim is looked at twice: to find candidates, and again, on the newest
//! version of the check row, by the guard of the upsert that makes the claim. A claim takes the wake-up with it; so one
//! that was never ended makes the payment due again when its lease is over.

use crate::cached::cached;
use crate::error::{Failure, corrupt};
use crate::rows::{PaymentRow, micros};
use crate::schema::payment;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Timestamptz};
use diesel::{ExpressionMethods, QueryDsl, QueryableByName, SelectableHelper, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{Claim, ClaimKind, ClaimOptions, NextCheck, NextDue, PaymentRecord, StoreError};
use domain::{GatewayKey, PaymentId, Timestamp};
use futures_util::try_join;
use std::collections::BTreeMap;
use std::time::Duration;

/// $1 moment that counts (none, or when the clock was turned back later than now: now), $2 least age, $3 lease, both in microseconds, $4 limit.
const CLAIM_UNSETTLED: &str = "\
WITH moment AS MATERIALIZED (SELECT least($1, now()) AS at),
candidate AS MATERIALIZED (
    SELECT p.id, p.updated_at + $2 * interval '1 microsecond' <= (SELECT at FROM moment) AS aged
    FROM payment p LEFT JOIN payment_check c ON c.payment_id = p.id
    WHERE p.status IN ('PENDING', 'IN_PROGRESS')
        AND c.parked_at IS NULL
        AND (c.leased_until IS NULL OR c.leased_until <= now())
        AND (c.woken_at <= (SELECT at FROM moment) OR c.leased_until <= (SELECT at FROM moment)
            OR (p.updated_at + $2 * interval '1 microsecond' <= (SELECT at FROM moment)
                AND (c.due_at IS NULL OR c.due_at <= (SELECT at FROM moment))))
    ORDER BY least(c.woken_at, c.leased_until, coalesce(c.due_at, p.updated_at + $2 * interval '1 microsecond')), p.id
    LIMIT $4
    FOR NO KEY UPDATE OF p SKIP LOCKED
)
INSERT INTO payment_check AS c (payment_id, lease_id, scheduled, leased_until, claimed_at)
SELECT id, nextval('payment_check_lease_seq'), aged, now() + $3 * interval '1 microsecond', now() FROM candidate
ON CONFLICT (payment_id) DO UPDATE SET
    lease_id = excluded.lease_id,
    leased_until = excluded.leased_until,
    claimed_at = excluded.claimed_at,
    scheduled = excluded.scheduled AND (c.due_at IS NULL OR c.due_at <= (SELECT at FROM moment)),
    woken_at = NULL
WHERE c.parked_at IS NULL
    AND (c.leased_until IS NULL OR c.leased_until <= now())
    AND (c.woken_at <= (SELECT at FROM moment) OR c.leased_until <= (SELECT at FROM moment)
        OR (excluded.scheduled AND (c.due_at IS NULL OR c.due_at <= (SELECT at FROM moment))))
RETURNING c.payment_id, c.lease_id, c.scheduled, c.claimed_at, c.transaction_seen, c.not_found_count,
    c.not_found_at, c.failures, c.watch_step";

/// $1 moment that counts (none, or when the clock was turned back later than now: now), $2 is not used, $3 lease in microseconds, $4 limit.
const CLAIM_WATCHED: &str = "\
WITH moment AS MATERIALIZED (SELECT least($1, now()) AS at, $2 AS unused),
candidate AS MATERIALIZED (
    SELECT p.id
    FROM payment_check c JOIN payment p ON p.id = c.payment_id
    WHERE p.status IN ('PAID', 'FAILED')
        AND c.parked_at IS NULL
        AND (c.leased_until IS NULL OR c.leased_until <= now())
        AND (c.woken_at <= (SELECT at FROM moment) OR c.leased_until <= (SELECT at FROM moment) OR c.due_at <= (SELECT at FROM moment))
    ORDER BY least(c.woken_at, c.leased_until, c.due_at), p.id
    LIMIT $4
    FOR NO KEY UPDATE OF p SKIP LOCKED
)
UPDATE payment_check c SET
    lease_id = nextval('payment_check_lease_seq'),
    leased_until = now() + $3 * interval '1 microsecond',
    claimed_at = now(),
    scheduled = coalesce(c.due_at <= (SELECT at FROM moment), false),
    woken_at = NULL
FROM candidate
WHERE c.payment_id = candidate.id
    AND c.parked_at IS NULL
    AND (c.leased_until IS NULL OR c.leased_until <= now())
    AND (c.woken_at <= (SELECT at FROM moment) OR c.leased_until <= (SELECT at FROM moment) OR c.due_at <= (SELECT at FROM moment))
RETURNING c.payment_id, c.lease_id, c.scheduled, c.claimed_at, c.transaction_seen, c.not_found_count,
    c.not_found_at, c.failures, c.watch_step";

/// $1 payment, $2 lease, $3 least interval, both in microseconds.
const CLAIM_ONE: &str = "\
INSERT INTO payment_check AS c (payment_id, lease_id, leased_until, claimed_at)
SELECT id, nextval('payment_check_lease_seq'), now() + $2 * interval '1 microsecond', now()
FROM payment WHERE id = $1
ON CONFLICT (payment_id) DO UPDATE SET
    lease_id = excluded.lease_id,
    leased_until = excluded.leased_until,
    claimed_at = excluded.claimed_at,
    scheduled = coalesce(c.due_at <= now(), false),
    woken_at = NULL,
    parked_at = NULL
WHERE (c.leased_until IS NULL OR c.leased_until <= now())
    AND (c.claimed_at IS NULL OR c.claimed_at + $3 * interval '1 microsecond' <= now())
RETURNING c.payment_id, c.lease_id, c.scheduled, c.claimed_at, c.transaction_seen, c.not_found_count,
    c.not_found_at, c.failures, c.watch_step";

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
    #[diesel(sql_type = BigInt)]
    lease_id: i64,
    #[diesel(sql_type = Bool)]
    scheduled: bool,
    #[diesel(sql_type = Timestamptz)]
    claimed_at: Timestamp,
    #[diesel(sql_type = Bool)]
    transaction_seen: bool,
    #[diesel(sql_type = Integer)]
    not_found_count: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    not_found_at: Option<Timestamp>,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Integer)]
    watch_step: i32,
}

impl ClaimRow {
    fn into_claim(self, record: PaymentRecord, hints: Vec<GatewayKey>) -> Result<Claim, StoreError> {
        let count = |number: i32| {
            u32::try_from(number).map_err(|_| corrupt("payment_check", self.payment_id, "a count below zero"))
        };
        Ok(Claim {
            lease_id: self.lease_id,
            record,
            claimed_at: self.claimed_at,
            scheduled: self.scheduled,
            hints,
            transaction_seen: self.transaction_seen,
            not_found_count: count(self.not_found_count)?,
            not_found_at: self.not_found_at,
            failures: count(self.failures)?,
            watch_step: count(self.watch_step)?,
        })
    }
}

#[derive(QueryableByName)]
struct HintRow {
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
    #[diesel(sql_type = Text)]
    external_payment_key: String,
}

pub(crate) async fn claim_due(
    mut connection: &AsyncPgConnection,
    options: &ClaimOptions,
) -> Result<Vec<Claim>, Failure> {
    let sql = match options.kind {
        ClaimKind::Unsettled => CLAIM_UNSETTLED,
        ClaimKind::Watched => CLAIM_WATCHED,
    };
    let rows: Vec<ClaimRow> = cached(
        sql_query(sql)
            .bind::<Nullable<Timestamptz>, _>(options.due_by)
            .bind::<BigInt, _>(micros(options.min_age))
            .bind::<BigInt, _>(micros(options.lease))
            .bind::<BigInt, _>(i64::from(options.limit)),
    )
    .load(&mut connection)
    .await?;
    complete(connection, rows).await
}

pub(crate) async fn claim_payment(
    mut connection: &AsyncPgConnection,
    id: PaymentId,
    lease: Duration,
    min_interval: Duration,
) -> Result<Option<Claim>, Failure> {
    let rows: Vec<ClaimRow> = cached(
        sql_query(CLAIM_ONE)
            .bind::<BigInt, _>(id.get())
            .bind::<BigInt, _>(micros(lease))
            .bind::<BigInt, _>(micros(min_interval)),
    )
    .load(&mut connection)
    .await?;
    Ok(complete(connection, rows).await?.pop())
}

/// The payments and hints of claims that were made, longest due first. The hints are read after the claim: a callback
/// that was written down before it is among them, one that comes later wakes the payment again.
async fn complete(connection: &AsyncPgConnection, rows: Vec<ClaimRow>) -> Result<Vec<Claim>, Failure> {
    const HINTS: &str = "UPDATE callback_inbox i SET lease_id = claimed.lease_id \
        FROM unnest($1, $2) AS claimed (payment_id, lease_id) \
        WHERE i.payment_id = claimed.payment_id AND i.looked_up_at IS NULL \
        RETURNING i.payment_id, i.external_payment_key";
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.payment_id).collect();
    let leases: Vec<i64> = rows.iter().map(|row| row.lease_id).collect();
    let mut loading = connection;
    let mut asking = connection;
    let (payments, hints): (Vec<PaymentRow>, Vec<HintRow>) = try_join!(
        payment::table
            .filter(payment::id.eq_any(ids.clone()))
            .select(PaymentRow::as_select())
            .load(&mut loading),
        cached(sql_query(HINTS).bind::<Array<BigInt>, _>(ids).bind::<Array<BigInt>, _>(leases))
            .load(&mut asking),
    )?;
    let mut records = BTreeMap::new();
    for row in payments {
        let record = PaymentRecord::try_from(row)?;
        records.insert(record.payment.value.id().get(), record);
    }
    let mut keys: BTreeMap<i64, Vec<GatewayKey>> = BTreeMap::new();
    for hint in hints {
        let key = GatewayKey::new(hint.external_payment_key)
            .map_err(|error| corrupt("callback_inbox of payment", hint.payment_id, error))?;
        keys.entry(hint.payment_id).or_default().push(key);
    }
    let mut claims = Vec::with_capacity(rows.len());
    for row in rows {
        let record = records
            .remove(&row.payment_id)
            .ok_or_else(|| corrupt("payment_check", row.payment_id, "no such payment"))?;
        let mut hints = keys.remove(&row.payment_id).unwrap_or_default();
        hints.sort();
        claims.push(row.into_claim(record, hints)?);
    }
    // Leases are numbered in the order of the candidates.
    claims.sort_by_key(|claim| claim.lease_id);
    Ok(claims)
}

pub(crate) async fn finish_claim(
    mut connection: &AsyncPgConnection,
    claim: &Claim,
    next: &NextCheck,
    hints_done: bool,
) -> Result<bool, Failure> {
    // A wake-up since the claim stays in woken_at.
    const FINISH: &str = "UPDATE payment_check SET \
            lease_id = NULL, \
            leased_until = NULL, \
            due_at = CASE $3 WHEN 0 THEN due_at WHEN 2 THEN now() + $4 * interval '1 microsecond' \
                WHEN 1 THEN CASE WHEN (SELECT status FROM payment WHERE id = $1) IN ('PENDING', 'IN_PROGRESS') \
                    THEN timestamptz 'infinity' END END, \
            transaction_seen = $5, \
            not_found_count = $6, \
            not_found_at = CASE WHEN $7 THEN now() WHEN $6 = 0 THEN NULL ELSE not_found_at END, \
            failures = $8, \
            watch_step = $9 \
        WHERE payment_id = $1 AND lease_id = $2";
    const HINTS: &str =
        "UPDATE callback_inbox SET looked_up_at = now() WHERE payment_id = $1 AND lease_id = $2";
    let id = claim.record.payment.value.id().get();
    let (mode, due_in): (i16, i64) = match next.due {
        NextDue::Keep => (0, 0),
        NextDue::Never => (1, 0),
        NextDue::In(due_in) => (2, micros(due_in)),
    };
    let changed = cached(
        sql_query(FINISH)
            .bind::<BigInt, _>(id)
            .bind::<BigInt, _>(claim.lease_id)
            .bind::<SmallInt, _>(mode)
            .bind::<BigInt, _>(due_in)
            .bind::<Bool, _>(next.transaction_seen)
            .bind::<Integer, _>(count(next.not_found_count))
            .bind::<Bool, _>(next.not_found_now)
            .bind::<Integer, _>(count(next.failures))
            .bind::<Integer, _>(count(next.watch_step)),
    )
    .execute(&mut connection)
    .await?;
    if changed == 1 && hints_done && !claim.hints.is_empty() {
        cached(sql_query(HINTS).bind::<BigInt, _>(id).bind::<BigInt, _>(claim.lease_id))
            .execute(&mut connection)
            .await?;
    }
    Ok(changed == 1)
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A callback or a person that came meanwhile has woken it: then it is not parked.
pub(crate) async fn park(mut connection: &AsyncPgConnection, claim: &Claim) -> Result<(), Failure> {
    const SQL: &str = "UPDATE payment_check SET lease_id = NULL, leased_until = NULL, \
            parked_at = CASE WHEN woken_at IS NULL THEN now() END \
        WHERE payment_id = $1 AND lease_id = $2";
    cached(
        sql_query(SQL)
            .bind::<BigInt, _>(claim.record.payment.value.id().get())
            .bind::<BigInt, _>(claim.lease_id),
    )
    .execute(&mut connection)
    .await?;
    Ok(())
}

pub(crate) async fn wake(mut connection: &AsyncPgConnection, id: PaymentId) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO payment_check AS c (payment_id, woken_at) VALUES ($1, now()) \
        ON CONFLICT (payment_id) DO UPDATE SET woken_at = coalesce(c.woken_at, now()), parked_at = NULL";
    cached(sql_query(SQL).bind::<BigInt, _>(id.get())).execute(&mut connection).await?;
    Ok(())
}

pub(crate) async fn record_callback(
    mut connection: &AsyncPgConnection,
    id: PaymentId,
    key: &GatewayKey,
) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO callback_inbox AS i (payment_id, external_payment_key) VALUES ($1, $2) \
        ON CONFLICT (payment_id, external_payment_key) DO UPDATE SET \
            times = i.times + 1, last_received_at = now(), lease_id = NULL, looked_up_at = NULL";
    // In this order, which is the lock order; see `complete`.
    wake(connection, id).await?;
    cached(sql_query(SQL).bind::<BigInt, _>(id.get()).bind::<Text, _>(key.as_str()))
        .execute(&mut connection)
        .await?;
    Ok(())
}

pub(crate) async fn want_watch(mut connection: &AsyncPgConnection, id: PaymentId) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO payment_check (payment_id, watch_wanted) VALUES ($1, true) \
        ON CONFLICT (payment_id) DO UPDATE SET watch_wanted = true";
    cached(sql_query(SQL).bind::<BigInt, _>(id.get())).execute(&mut connection).await?;
    Ok(())
}

pub(crate) async fn schedule_watch(
    mut connection: &AsyncPgConnection,
    id: PaymentId,
    next: Option<(u32, Duration)>,
) -> Result<(), Failure> {
    const ON: &str = "INSERT INTO payment_check (payment_id, watch_step, due_at) \
        VALUES ($1, $2, now() + $3 * interval '1 microsecond') \
        ON CONFLICT (payment_id) DO UPDATE SET watch_step = excluded.watch_step, due_at = excluded.due_at";
    const OFF: &str = "UPDATE payment_check SET due_at = NULL WHERE payment_id = $1";
    match next {
        Some((step, due_in)) => {
            let statement = sql_query(ON)
                .bind::<BigInt, _>(id.get())
                .bind::<Integer, _>(count(step))
                .bind::<BigInt, _>(micros(due_in));
            cached(statement).execute(&mut connection).await?;
        }
        None => {
            cached(sql_query(OFF).bind::<BigInt, _>(id.get())).execute(&mut connection).await?;
        }
    }
    Ok(())
}
