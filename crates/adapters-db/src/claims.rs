//! Who examines a payment, and when: claims.
//!
//! A claim is a lease in a row, never a lock held over the gateway call. It takes the wake-up with it; so one that was
//! never ended makes the payment due again when its lease is over. Whether a row is due is looked at once more on its
//! newest version, when it is locked; whether its payment has ended may be a moment old, and costs at most a look that
//! finds nothing to do.

use crate::error::{Failure, corrupt};
use crate::rows::{PaymentRow, micros, payment_columns};
use crate::statement::{command, statement};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;
use domain::ports::{Claim, ClaimOptions, Due, PaymentRecord};
use domain::{GatewayKey, PaymentId, Timestamp};
use futures_util::join;
use std::collections::BTreeMap;
use std::time::Duration;

/// Claims what fulfils a condition, unless somebody works on it: then its check row, and only that, is locked. $1
/// lease, $2 its length in microseconds, $3 limit, $4 the moment that counts; none, or one that is still to come
/// because the clock was turned back: now.
macro_rules! claim {
    ($($condition:literal),*) => {
        concat!(
            "WITH candidate AS MATERIALIZED (\
                SELECT c.payment_id, c.next_at FROM payment_check c WHERE ",
            $($condition,)*
            " ORDER BY c.next_at, c.payment_id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) \
            UPDATE payment_check c SET lease_id = $1, leased_until = now() + $2 * interval '1 microsecond', \
                claimed_at = now(), woken_at = NULL, parked_at = NULL \
            WHERE c.payment_id = ANY(ARRAY(SELECT payment_id FROM candidate)) \
            RETURNING c.payment_id, c.claimed_at, coalesce(c.due_at <= least($4, now()), false) AS scheduled, \
                (SELECT d.next_at FROM candidate d WHERE d.payment_id = c.payment_id)"
        )
    };
}

/// Of those whose time has come, longest due first.
macro_rules! due {
    ($condition:literal) => {
        claim!("c.next_at <= least($4, now()) AND ", $condition)
    };
}

/// Not those that their own order may still be sending a request for.
const UNSETTLED: &str = due!(
    "(SELECT p.status IN ('PENDING', 'IN_PROGRESS') AND (p.external_payment_key IS NOT NULL OR p.send_deadline <= now()) \
        FROM payment p WHERE p.id = c.payment_id)"
);

const WATCHED: &str =
    due!("(SELECT p.status IN ('PAID', 'FAILED') FROM payment p WHERE p.id = c.payment_id)");

/// $5 the least time since the claim before, in microseconds.
const WOKEN: &str = due!(
    "c.woken_at IS NOT NULL AND (c.claimed_at IS NULL OR c.claimed_at + $5 * interval '1 microsecond' <= now()) \
    AND (SELECT p.status IN ('PENDING', 'IN_PROGRESS') \
            AND (p.external_payment_key IS NOT NULL OR p.send_deadline <= now()) \
        FROM payment p WHERE p.id = c.payment_id)"
);

/// $5 as above, $6 the payment.
const ONE: &str = claim!(
    "c.payment_id = $6 AND (c.leased_until IS NULL OR c.leased_until <= now()) \
    AND (c.claimed_at IS NULL OR c.claimed_at + $5 * interval '1 microsecond' <= now()) \
    AND (SELECT p.status IN ('PAID', 'FAILED') OR p.external_payment_key IS NOT NULL OR p.send_deadline <= now() \
        FROM payment p WHERE p.id = c.payment_id)"
);

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    next_at: Option<Timestamp>,
    #[diesel(sql_type = Timestamptz)]
    claimed_at: Timestamp,
    #[diesel(sql_type = Bool)]
    scheduled: bool,
}

#[derive(QueryableByName)]
struct HintRow {
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
    #[diesel(sql_type = Text)]
    external_payment_key: String,
}

/// All in one round trip, the COMMIT too: one that fails spoils the transaction, so that COMMIT takes it back. The
/// payments and the hints are read after the claim was made: a callback that was written down before it is among
/// them, one that comes later wakes the payment again.
pub(crate) async fn claim(
    connection: &AsyncPgConnection,
    options: &ClaimOptions,
) -> Result<Vec<Claim>, Failure> {
    let (begun, claimed, payments, hints, committed) = join!(
        command(connection, "BEGIN"),
        make(connection, options),
        find_payments(connection, options),
        mark_hints(connection, options),
        command(connection, "COMMIT"),
    );
    begun?;
    let mut claimed = claimed?;
    let payments = payments?;
    let hints = hints?;
    committed?;

    let mut records = BTreeMap::new();
    for row in payments {
        let record = PaymentRecord::try_from(row)?;
        records.insert(record.payment.id().get(), record);
    }
    let mut keys: BTreeMap<i64, Vec<GatewayKey>> = BTreeMap::new();
    for hint in hints {
        let key = GatewayKey::new(hint.external_payment_key)
            .map_err(|error| corrupt("callback_inbox of payment", hint.payment_id, error))?;
        keys.entry(hint.payment_id).or_default().push(key);
    }
    claimed.sort_by_key(|row| (row.next_at, row.payment_id));
    let mut claims = Vec::with_capacity(claimed.len());
    for ClaimRow { payment_id, claimed_at, scheduled, .. } in claimed {
        let record = records
            .remove(&payment_id)
            .ok_or_else(|| corrupt("payment_check", payment_id, "no such payment"))?;
        let mut hints = keys.remove(&payment_id).unwrap_or_default();
        hints.sort();
        claims.push(Claim { lease_id: options.lease_id, record, claimed_at, scheduled, hints });
    }
    Ok(claims)
}

async fn make(connection: &AsyncPgConnection, options: &ClaimOptions) -> Result<Vec<ClaimRow>, Failure> {
    let claim = |sql| {
        statement(sql)
            .bind::<BigInt, _>(options.lease_id)
            .bind::<BigInt, _>(micros(options.lease))
            .bind::<BigInt, _>(i64::from(options.limit))
            .bind::<Nullable<Timestamptz>, _>(options.due_by)
    };
    let claim = match options.due {
        Due::Unsettled => claim(UNSETTLED),
        Due::Watched => claim(WATCHED),
        Due::Woken { min_interval } => claim(WOKEN).bind::<BigInt, _>(micros(min_interval)),
        Due::One { payment_id, min_interval } => {
            claim(ONE).bind::<BigInt, _>(micros(min_interval)).bind::<BigInt, _>(payment_id.get())
        }
    };
    Ok(claim.rows(connection).await?)
}

/// The payments that were claimed just now: $1 lease, $2 its length in microseconds.
macro_rules! claimed {
    () => {
        "ANY(ARRAY(SELECT c.payment_id FROM payment_check c \
            WHERE c.next_at = now() + $2 * interval '1 microsecond' AND c.lease_id = $1))"
    };
}

async fn find_payments(
    connection: &AsyncPgConnection,
    options: &ClaimOptions,
) -> Result<Vec<PaymentRow>, Failure> {
    const SQL: &str = concat!("SELECT ", payment_columns!(), " FROM payment p WHERE p.id = ", claimed!());
    let found = statement(SQL).bind::<BigInt, _>(options.lease_id).bind::<BigInt, _>(micros(options.lease));
    Ok(found.rows(connection).await?)
}

async fn mark_hints(connection: &AsyncPgConnection, options: &ClaimOptions) -> Result<Vec<HintRow>, Failure> {
    const SQL: &str = concat!(
        "UPDATE callback_inbox i SET lease_id = $1 WHERE i.looked_up_at IS NULL AND i.payment_id = ",
        claimed!(),
        " RETURNING i.payment_id, i.external_payment_key"
    );
    let marked = statement(SQL).bind::<BigInt, _>(options.lease_id).bind::<BigInt, _>(micros(options.lease));
    Ok(marked.rows(connection).await?)
}

/// See [`crate::connecting`].
pub(crate) async fn prepare(connection: &AsyncPgConnection) -> Result<(), Failure> {
    let min_interval = Duration::ZERO;
    let payment_id = PaymentId::new(1).map_err(|error| corrupt("payment", 1, error))?;
    let none = |due| ClaimOptions { due, limit: 0, lease_id: 0, lease: Duration::ZERO, due_by: None };
    let one = Due::One { payment_id, min_interval };
    for due in [Due::Unsettled, Due::Watched, Due::Woken { min_interval }, one] {
        make(connection, &none(due)).await?;
    }
    find_payments(connection, &none(one)).await?;
    mark_hints(connection, &none(one)).await?;
    Ok(())
}
