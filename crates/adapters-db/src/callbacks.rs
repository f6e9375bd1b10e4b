//! What callbacks leave behind, and whom they wake: one statement that commits by itself.
//!
//! It finds payments as they are when it begins, and then may wait for their check rows, which settling and claiming
//! lock too; payments are not locked. What it found may be old by then, but it only ever passes over an ended payment,
//! and an end never changes: whoever ended meanwhile is looked at once more for nothing. A check row is changed as it is
//! after the wait, so that no claim's lease and no other wake-up is lost; and a hint is written only with its check row
//! locked, so that a claim either bears it or is followed by another one.

use crate::error::{Failure, corrupt};
use crate::statement::statement;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text};
use diesel_async::AsyncPgConnection;
use domain::PaymentId;
use domain::ports::CallbackNote;

/// Characters of the column; a longer reference is nobody's.
const REF_MAX: usize = 64;

#[derive(QueryableByName)]
struct Noted {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
}

/// Notes by their number: with a token's hash and a key, or with an order and its reference.
#[derive(Default)]
struct Notes<'a> {
    numbers: Vec<i64>,
    hashes: Vec<Option<&'a [u8]>>,
    keys: Vec<Option<&'a str>>,
    orders: Vec<Option<i64>>,
    refs: Vec<Option<&'a str>>,
}

impl<'a> Notes<'a> {
    fn new(notes: &'a [CallbackNote]) -> Self {
        let mut columns = Self::default();
        for (number, note) in (0..).zip(notes) {
            let (hash, key, order, reference) = match note {
                CallbackNote::Named { token_hash, key } => {
                    (Some(token_hash.as_slice()), Some(key.as_str()), None, None)
                }
                CallbackNote::Unproven { order_ref } => {
                    let Some(order) = order_ref.named_order() else { continue };
                    let text = order_ref.as_str();
                    if text.contains('\0') || text.len() > REF_MAX {
                        continue;
                    }
                    (None, None, Some(order.get()), Some(text))
                }
            };
            columns.numbers.push(number);
            columns.hashes.push(hash);
            columns.keys.push(key);
            columns.orders.push(order);
            columns.refs.push(reference);
        }
        columns
    }

    /// Locked: check rows ascending, then hints ascending.
    async fn write(self, connection: &AsyncPgConnection) -> Result<Vec<Noted>, Failure> {
        const SQL: &str = "WITH note AS MATERIALIZED (\
                SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::text[], $4::bigint[], $5::text[]) \
                    AS n (number, token_hash, key, order_id, order_ref)), \
            found AS MATERIALIZED (\
                SELECT n.number, n.key, p.id AS payment_id, \
                    p.status <> 'PAID' OR p.external_payment_key IS DISTINCT FROM n.key AS news \
                FROM note n CROSS JOIN LATERAL (\
                    SELECT id, status, external_payment_key FROM payment \
                    WHERE callback_token_hash = n.token_hash OFFSET 0) p \
                UNION ALL \
                SELECT n.number, NULL, p.id, p.status IN ('PENDING', 'IN_PROGRESS') \
                FROM note n CROSS JOIN LATERAL (\
                    SELECT id, status, gateway_order_ref FROM payment WHERE order_id = n.order_id OFFSET 0) p \
                WHERE p.gateway_order_ref = n.order_ref), \
            locked AS MATERIALIZED (\
                SELECT payment_id FROM payment_check \
                WHERE payment_id = ANY(ARRAY(SELECT f.payment_id FROM found f WHERE f.news)) \
                ORDER BY payment_id FOR NO KEY UPDATE), \
            woken AS (\
                UPDATE payment_check c SET woken_at = coalesce(c.woken_at, now()), parked_at = NULL \
                WHERE c.payment_id = ANY(ARRAY(SELECT payment_id FROM locked)) RETURNING c.payment_id), \
            hint AS (\
                INSERT INTO callback_inbox AS i (payment_id, external_payment_key, times) \
                SELECT f.payment_id, f.key, count(*) \
                FROM found f JOIN woken w ON w.payment_id = f.payment_id \
                WHERE f.news AND f.key IS NOT NULL \
                GROUP BY f.payment_id, f.key ORDER BY f.payment_id, f.key \
                ON CONFLICT (payment_id, external_payment_key) DO UPDATE SET times = i.times + excluded.times, \
                    last_received_at = now(), lease_id = NULL, looked_up_at = NULL) \
            SELECT number, payment_id FROM found";
        Ok(statement(SQL)
            .numbers(self.numbers)
            .bind::<Array<Nullable<Binary>>, _>(self.hashes)
            .texts_or_null(self.keys)
            .numbers_or_null(self.orders)
            .bind::<Array<Nullable<Text>>, _>(self.refs)
            .rows(connection)
            .await?)
    }
}

pub(crate) async fn note(
    connection: &AsyncPgConnection,
    notes: &[CallbackNote],
) -> Result<Vec<Option<PaymentId>>, Failure> {
    let mut payments = vec![None; notes.len()];
    for Noted { number, payment_id } in Notes::new(notes).write(connection).await? {
        let id = PaymentId::new(payment_id).map_err(|error| corrupt("payment", payment_id, error))?;
        if let Some(payment) = usize::try_from(number).ok().and_then(|number| payments.get_mut(number)) {
            *payment = Some(id);
        }
    }
    Ok(payments)
}

/// See [`crate::connecting`].
pub(crate) async fn prepare(connection: &AsyncPgConnection) -> Result<(), Failure> {
    note(connection, &[]).await.map(drop)
}
