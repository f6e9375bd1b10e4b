//! Closing rows of the discrepancy ledger.

use crate::error::Failure;
use crate::schema::discrepancy;
use crate::statement::statement;
use diesel::sql_types::{BigInt, Text};
use diesel::{OptionalExtension, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::DiscrepancyId;

pub(crate) async fn resolve(
    mut connection: &AsyncPgConnection,
    id: DiscrepancyId,
    resolution: &str,
    note: &str,
    actor: &str,
) -> Result<Option<bool>, Failure> {
    const SQL: &str = "UPDATE discrepancy SET status = 'RESOLVED', resolution = $2, note = $3, resolved_by = $4, \
        resolved_at = now() WHERE id = $1 AND status = 'OPEN'";
    let changed = statement(SQL)
        .bind::<BigInt, _>(id.get())
        .bind::<Text, _>(resolution)
        .bind::<Text, _>(note)
        .bind::<Text, _>(actor)
        .execute(connection)
        .await?;
    if changed == 1 {
        return Ok(Some(true));
    }
    let known: Option<i64> =
        discrepancy::table.find(id.get()).select(discrepancy::id).first(&mut connection).await.optional()?;
    Ok(known.map(|_| false))
}
