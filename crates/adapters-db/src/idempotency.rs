//! Idempotency-Keys: whoever inserts the row first owns the key; others wait for that transaction and read it.

use crate::cached::cached;
use crate::error::{Failure, corrupt};
use crate::rows::micros;
use crate::schema::idempotency_key;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::OrderId;
use domain::ports::{IdempotencyClaim, IdempotencyKey, IdempotencyRecord, StoreError, StoredAnswer};

/// How often the row may vanish (swept as expired) between our insert and our look, before that is a lost race.
const TRIES: u32 = 3;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Binary)]
    fingerprint: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    order_id: i64,
    #[diesel(sql_type = Nullable<SmallInt>)]
    answer_status: Option<i16>,
    #[diesel(sql_type = Nullable<Text>)]
    answer_body: Option<String>,
    #[diesel(sql_type = Bool)]
    abandoned: bool,
}

impl TryFrom<Row> for IdempotencyRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let bad = |what: &str| corrupt("idempotency_key of order", row.order_id, what);
        let answer = match (row.answer_status, row.answer_body) {
            (Some(status), Some(body)) => {
                let status = u16::try_from(status).map_err(|_| bad("an answer with this status"))?;
                Some(StoredAnswer { status, body })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(bad("half an answer")),
        };
        Ok(Self {
            fingerprint: row.fingerprint.try_into().map_err(|_| bad("a fingerprint of another length"))?,
            order_id: OrderId::new(row.order_id).map_err(|_| bad("no order id"))?,
            answer,
            abandoned: row.abandoned,
        })
    }
}

/// What the key stands for. Its first request can't be under way any more when the payment has ended, 5 s after the
/// send deadline, or when there is no such payment.
pub(crate) async fn find(
    mut connection: &AsyncPgConnection,
    key: &IdempotencyKey,
) -> Result<Option<IdempotencyRecord>, Failure> {
    const SQL: &str = "SELECT k.fingerprint, k.order_id, k.answer_status, k.answer_body, \
            coalesce(p.status IN ('PAID', 'FAILED') OR p.send_deadline + interval '5 s' < now(), true) AS abandoned \
        FROM idempotency_key k LEFT JOIN payment p ON p.order_id = k.order_id \
        WHERE k.user_id = $1 AND k.key = $2 AND k.expires_at > now()";
    let row: Option<Row> =
        cached(sql_query(SQL).bind::<BigInt, _>(key.user_id.get()).bind::<Text, _>(key.key.as_str()))
            .get_result(&mut connection)
            .await
            .optional()?;
    Ok(row.map(IdempotencyRecord::try_from).transpose()?)
}

pub(crate) async fn claim_idempotency(
    mut connection: &AsyncPgConnection,
    claim: &IdempotencyClaim,
) -> Result<Option<IdempotencyRecord>, Failure> {
    // The insert waits for a transaction that is taking the same key. An expired row is replaced under its lock; a
    // row that is alive is left alone, so that those who only read it don't wait for each other.
    const INSERT: &str = "INSERT INTO idempotency_key (user_id, key, fingerprint, order_id, expires_at) \
        VALUES ($1, $2, $3, $4, now() + $5 * interval '1 microsecond') ON CONFLICT (user_id, key) DO NOTHING";
    const REPLACE: &str = "UPDATE idempotency_key SET fingerprint = $3, order_id = $4, answer_status = NULL, \
            answer_body = NULL, created_at = now(), expires_at = now() + $5 * interval '1 microsecond' \
        WHERE user_id = $1 AND key = $2 AND expires_at <= now()";
    for _ in 0..TRIES {
        for sql in [INSERT, REPLACE] {
            let taken = cached(
                sql_query(sql)
                    .bind::<BigInt, _>(claim.key.user_id.get())
                    .bind::<Text, _>(claim.key.key.as_str())
                    .bind::<Binary, _>(claim.fingerprint.as_slice())
                    .bind::<BigInt, _>(claim.order_id.get())
                    .bind::<BigInt, _>(micros(claim.retention)),
            )
            .execute(&mut connection)
            .await?;
            if taken == 1 {
                return Ok(None);
            }
            if let Some(record) = find(connection, &claim.key).await? {
                return Ok(Some(record));
            }
        }
    }
    Err(Failure::conflict("idempotency_key_pkey"))
}

pub(crate) async fn save_idempotent_answer(
    mut connection: &AsyncPgConnection,
    key: &IdempotencyKey,
    answer: &StoredAnswer,
) -> Result<(), Failure> {
    let status = i16::try_from(answer.status).map_err(Failure::other)?;
    diesel::update(
        idempotency_key::table
            .filter(idempotency_key::user_id.eq(key.user_id.get()))
            .filter(idempotency_key::key.eq(key.key.as_str()))
            .filter(idempotency_key::answer_status.is_null()),
    )
    .set((idempotency_key::answer_status.eq(status), idempotency_key::answer_body.eq(answer.body.as_str())))
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// Outside every order's transaction: a key that is being taken again is passed over.
pub(crate) async fn sweep(mut connection: &AsyncPgConnection, limit: i64) -> Result<usize, Failure> {
    const SQL: &str = "DELETE FROM idempotency_key WHERE (user_id, key) IN ( \
        SELECT user_id, key FROM idempotency_key WHERE expires_at <= now() \
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)";
    Ok(cached(sql_query(SQL).bind::<BigInt, _>(limit)).execute(&mut connection).await?)
}
