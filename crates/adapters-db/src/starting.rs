//! PENDING -> IN_PROGRESS, committed by itself: what must be stored before the gateway is asked.

use crate::error::{Failure, corrupt};
use crate::statement::statement;
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::AsyncPgConnection;
use domain::PaymentId;
use std::collections::BTreeSet;

#[derive(QueryableByName)]
struct Started {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Those that are still as they were placed. After a wait for a lock the update looks at the newest row, so that one
/// that has moved meanwhile is left alone.
pub(crate) async fn start(
    connection: &AsyncPgConnection,
    payments: &[PaymentId],
) -> Result<BTreeSet<PaymentId>, Failure> {
    const SQL: &str = "WITH locked AS MATERIALIZED (\
            SELECT id FROM payment WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE), \
        started AS (\
            UPDATE payment p SET status = 'IN_PROGRESS', version = 1, updated_at = now() \
            WHERE p.id = ANY(ARRAY(SELECT id FROM locked)) AND p.status = 'PENDING' AND p.version = 0 \
            RETURNING p.id), \
        events AS (\
            INSERT INTO payment_event (payment_id, from_status, to_status, cause, reason) \
            SELECT id, 'PENDING', 'IN_PROGRESS', 'api', 'asking the gateway' FROM started) \
        SELECT id FROM started";
    let ids: Vec<i64> = payments.iter().map(|id| id.get()).collect();
    let started: Vec<Started> = statement(SQL).numbers(ids).rows(connection).await?;
    let mut ids = BTreeSet::new();
    for Started { id } in started {
        ids.insert(PaymentId::new(id).map_err(|error| corrupt("payment", id, error))?);
    }
    Ok(ids)
}

/// See [`crate::connecting`].
pub(crate) async fn prepare(connection: &AsyncPgConnection) -> Result<(), Failure> {
    start(connection, &[]).await.map(drop)
}
