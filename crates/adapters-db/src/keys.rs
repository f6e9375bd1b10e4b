//! Idempotency-Keys. Whoever is taking one holds an advisory lock on it until the end of its transaction, and nobody
//! waits for that.

use crate::error::{Failure, corrupt};
use crate::rows::micros;
use crate::statement::statement;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text};
use diesel_async::AsyncPgConnection;
use domain::placement::KeyState;
use domain::ports::{IdempotencyKey, IdempotencyRecord, KeyedRequest, StoreError, StoredAnswer};
use domain::{OrderId, UserId};
use std::collections::{BTreeMap, BTreeSet};

fn columns<'a>(keys: impl IntoIterator<Item = &'a IdempotencyKey>) -> (Vec<i64>, Vec<&'a str>) {
    keys.into_iter().map(|key| (key.user_id.get(), key.key.as_str())).unzip()
}

#[derive(QueryableByName)]
pub(crate) struct LockRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Two keys with one hash would be taken for one, as if the other were just being used. (The installation tells the
/// schemas of a database apart, which share these locks.)
pub(crate) async fn try_lock(
    connection: &AsyncPgConnection,
    keys: &BTreeSet<&IdempotencyKey>,
) -> Result<Vec<LockRow>, Failure> {
    const SQL: &str = "SELECT k.user_id, k.key, \
            pg_try_advisory_xact_lock(hashtextextended(i.id || k.key, k.user_id)) AS locked \
        FROM installation i, unnest($1::bigint[], $2::text[]) AS k (user_id, key)";
    let (users, texts) = columns(keys.iter().copied());
    Ok(statement(SQL).numbers(users).texts(texts).rows(connection).await?)
}

#[derive(QueryableByName)]
pub(crate) struct KeyRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    key: String,
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

impl KeyRow {
    fn into_record(self) -> Result<(IdempotencyKey, IdempotencyRecord), StoreError> {
        let bad = |what: &str| corrupt("idempotency_key of order", self.order_id, what);
        let answer = match (self.answer_status, self.answer_body) {
            (Some(status), Some(body)) => {
                let status = u16::try_from(status).map_err(|_| bad("an answer with this status"))?;
                Some(StoredAnswer { status, body })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(bad("half an answer")),
        };
        let record = IdempotencyRecord {
            fingerprint: self.fingerprint.try_into().map_err(|_| bad("a fingerprint of another length"))?,
            order_id: OrderId::new(self.order_id).map_err(|_| bad("no order id"))?,
            answer,
            abandoned: self.abandoned,
        };
        let user_id = UserId::new(self.user_id).map_err(|_| bad("no user id"))?;
        Ok((IdempotencyKey { user_id, key: self.key }, record))
    }
}

/// Keys that stand for something. The first request can't be under way any more when its payment has ended, 5 s after
/// the send deadline, or when there is no such payment.
pub(crate) async fn find(
    connection: &AsyncPgConnection,
    keys: &BTreeSet<&IdempotencyKey>,
) -> Result<Vec<KeyRow>, Failure> {
    const SQL: &str = "SELECT k.user_id, k.key, k.fingerprint, k.order_id, k.answer_status, k.answer_body, \
            coalesce(\
                (SELECT p.status IN ('PAID', 'FAILED') OR p.send_deadline + interval '5 s' < now() \
                    FROM payment p WHERE p.order_id = k.order_id), \
                true) AS abandoned \
        FROM unnest($1::bigint[], $2::text[]) AS w (user_id, key) CROSS JOIN LATERAL (\
            SELECT user_id, key, fingerprint, order_id, answer_status, answer_body FROM idempotency_key \
            WHERE user_id = w.user_id AND key = w.key AND expires_at > now() OFFSET 0) k";
    let (users, texts) = columns(keys.iter().copied());
    Ok(statement(SQL).numbers(users).texts(texts).rows(connection).await?)
}

/// What one key stands for.
pub(crate) async fn record(
    connection: &AsyncPgConnection,
    key: &IdempotencyKey,
) -> Result<Option<IdempotencyRecord>, Failure> {
    let found = find(connection, &BTreeSet::from([key])).await?;
    Ok(found.into_iter().next().map(KeyRow::into_record).transpose()?.map(|(_, record)| record))
}

/// What each key stands for, given those that could be locked and, read after that, those that are known.
pub(crate) fn states(
    keys: BTreeSet<&IdempotencyKey>,
    locks: &[LockRow],
    known: Vec<KeyRow>,
) -> Result<BTreeMap<IdempotencyKey, KeyState>, StoreError> {
    let mut states: BTreeMap<IdempotencyKey, KeyState> =
        keys.into_iter().map(|key| (key.clone(), KeyState::BeingTaken)).collect();
    for (key, state) in &mut states {
        let ours = |row: &&LockRow| row.locked && row.user_id == key.user_id.get() && row.key == key.key;
        if locks.iter().any(|row| ours(&row)) {
            *state = KeyState::Free;
        }
    }
    for row in known {
        let (key, record) = row.into_record()?;
        states.insert(key, KeyState::Known(record));
    }
    Ok(states)
}

/// Keys that are taken, with the answers that are there already.
#[derive(Default)]
pub(crate) struct KeyMoves {
    users: Vec<i64>,
    keys: Vec<String>,
    fingerprints: Vec<Vec<u8>>,
    orders: Vec<i64>,
    retentions: Vec<i64>,
    statuses: Vec<Option<i16>>,
    bodies: Vec<Option<String>>,
}

impl KeyMoves {
    pub(crate) fn add(
        &mut self,
        keyed: &KeyedRequest,
        order_id: OrderId,
        answer: Option<&StoredAnswer>,
    ) -> Result<(), Failure> {
        let status = answer.map(|answer| i16::try_from(answer.status)).transpose();
        self.users.push(keyed.key.user_id.get());
        self.keys.push(keyed.key.key.clone());
        self.fingerprints.push(keyed.fingerprint.to_vec());
        self.orders.push(order_id.get());
        self.retentions.push(micros(keyed.retention));
        self.statuses.push(status.map_err(Failure::other)?);
        self.bodies.push(answer.map(|answer| answer.body.clone()));
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// A row that has expired is replaced; one that is alive was put there by somebody who does not know our lock.
    ///
    /// # Errors
    /// A conflict when a key is taken.
    pub(crate) async fn store(self, connection: &AsyncPgConnection) -> Result<(), Failure> {
        const SQL: &str = "INSERT INTO idempotency_key AS k \
                (user_id, key, fingerprint, order_id, expires_at, answer_status, answer_body) \
            SELECT t.user_id, t.key, t.fingerprint, t.order_id, now() + t.retention * interval '1 microsecond', \
                t.answer_status, t.answer_body \
            FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::smallint[], \
                $7::text[]) AS t (user_id, key, fingerprint, order_id, retention, answer_status, answer_body) \
            ORDER BY t.user_id, t.key \
            ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, \
                order_id = excluded.order_id, answer_status = excluded.answer_status, \
                answer_body = excluded.answer_body, created_at = now(), expires_at = excluded.expires_at \
            WHERE k.expires_at <= now()";
        let wanted = self.users.len();
        let different: BTreeSet<_> = self.users.iter().zip(&self.keys).collect();
        if different.len() < wanted {
            return Err(taken());
        }
        let stored = statement(SQL)
            .numbers(self.users)
            .texts(self.keys)
            .bind::<Array<Binary>, _>(self.fingerprints)
            .numbers(self.orders)
            .numbers(self.retentions)
            .bind::<Array<Nullable<SmallInt>>, _>(self.statuses)
            .texts_or_null(self.bodies)
            .execute(connection)
            .await?;
        if stored == wanted { Ok(()) } else { Err(taken()) }
    }
}

/// Somebody else has it.
fn taken() -> Failure {
    Failure::conflict("idempotency_key_pkey")
}

/// Answers that keys give from now on; the first one stays.
pub(crate) async fn save_answers(
    connection: &AsyncPgConnection,
    answers: &[(&IdempotencyKey, &StoredAnswer)],
) -> Result<(), Failure> {
    // Found one by one and then by their places, whatever the statistics say. One that has moved there meanwhile has
    // just been given its first answer, or is another request's by now.
    const SQL: &str = "UPDATE idempotency_key k SET answer_status = a.status, answer_body = a.body \
        FROM (SELECT i.place, g.status, g.body \
            FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::text[]) AS g (user_id, key, status, body) \
                CROSS JOIN LATERAL (\
                    SELECT ctid AS place FROM idempotency_key WHERE user_id = g.user_id AND key = g.key OFFSET 0) i) a \
        WHERE k.ctid = a.place AND k.answer_status IS NULL";
    let (users, texts) = columns(answers.iter().map(|(key, _)| *key));
    let statuses: Result<Vec<i16>, _> = answers.iter().map(|(_, answer)| answer.status.try_into()).collect();
    let bodies: Vec<&str> = answers.iter().map(|(_, answer)| answer.body.as_str()).collect();
    statement(SQL)
        .numbers(users)
        .texts(texts)
        .bind::<Array<SmallInt>, _>(statuses.map_err(Failure::other)?)
        .texts(bodies)
        .execute(connection)
        .await?;
    Ok(())
}

/// Outside every order's transaction: a key that is being taken again is passed over.
pub(crate) async fn sweep(connection: &AsyncPgConnection, limit: i64) -> Result<usize, Failure> {
    const SQL: &str = "DELETE FROM idempotency_key WHERE (user_id, key) IN ( \
        SELECT user_id, key FROM idempotency_key WHERE expires_at <= now() \
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)";
    Ok(statement(SQL).bind::<BigInt, _>(limit).execute(connection).await?)
}
