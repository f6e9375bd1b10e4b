//! Buyers' points: locked ascending by buyer, whoever locks them.

use crate::error::{Failure, corrupt};
use crate::moves::points_changed;
use crate::rows::At;
use crate::statement::statement;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::AsyncPgConnection;
use domain::ports::{PointEntry, PointEntryKind, StoreError};
use domain::{Money, PaymentId, PointAccount, UserId};
use std::collections::BTreeMap;

#[derive(QueryableByName)]
pub(crate) struct AccountRow {
    #[diesel(sql_type = BigInt)]
    pub(crate) user_id: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) balance: i64,
}

impl AccountRow {
    fn into_account(self) -> Result<PointAccount, StoreError> {
        let at = At::row("point_account", self.user_id);
        let user_id = UserId::new(self.user_id).map_err(|error| at.corrupt(error))?;
        PointAccount::new(user_id, at.money(self.balance)?).map_err(|error| at.corrupt(error))
    }
}

/// Those that exist.
pub(crate) async fn lock(
    connection: &AsyncPgConnection,
    users: Vec<i64>,
) -> Result<Vec<AccountRow>, Failure> {
    const SQL: &str = "SELECT user_id, balance FROM point_account WHERE user_id = ANY($1::bigint[]) \
        ORDER BY user_id FOR NO KEY UPDATE";
    Ok(statement(SQL).numbers(users).rows(connection).await?)
}

pub(crate) fn accounts(rows: Vec<AccountRow>) -> Result<BTreeMap<UserId, PointAccount>, StoreError> {
    rows.into_iter().map(|row| row.into_account().map(|account| (account.user_id(), account))).collect()
}

/// Of a buyer without an account.
pub(crate) fn empty(user_id: UserId) -> Result<PointAccount, StoreError> {
    PointAccount::new(user_id, Money::ZERO).map_err(|error| corrupt("point_account", user_id, error))
}

/// A buyer without an account gets one, so that two first charges wait for each other.
pub(crate) async fn lock_one(
    connection: &AsyncPgConnection,
    user_id: UserId,
) -> Result<PointAccount, Failure> {
    const MAKE: &str = "INSERT INTO point_account (user_id) VALUES ($1) ON CONFLICT DO NOTHING";
    statement(MAKE).bind::<BigInt, _>(user_id.get()).execute(connection).await?;
    // A later moment: it sees an account that the statement before waited for.
    let locked = lock(connection, vec![user_id.get()]).await?;
    let row = locked.into_iter().next().ok_or_else(|| corrupt("point_account", user_id, "gone"))?;
    Ok(row.into_account()?)
}

/// The balance must be what it was when the account was locked; a program that did not lock it loses.
pub(crate) async fn save(connection: &AsyncPgConnection, entry: &PointEntry) -> Result<(), Failure> {
    const SQL: &str = "WITH moved AS (\
            UPDATE point_account SET balance = $3, updated_at = now() \
            WHERE user_id = $1 AND balance = $3 - $2 RETURNING user_id) \
        INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) \
        SELECT user_id, $4, $5, $2, $3 FROM moved";
    let (kind, delta) = match entry.kind {
        PointEntryKind::Charge => ("CHARGE", entry.amount.won()),
        PointEntryKind::Deduct => ("DEDUCT", -entry.amount.won()),
        PointEntryKind::Restore => ("RESTORE", entry.amount.won()),
    };
    let saved = statement(SQL)
        .bind::<BigInt, _>(entry.account.user_id().get())
        .bind::<BigInt, _>(delta)
        .bind::<BigInt, _>(entry.account.balance().won())
        .bind::<Nullable<BigInt>, _>(entry.payment_id.map(PaymentId::get))
        .bind::<Text, _>(kind)
        .execute(connection)
        .await?;
    if saved == 1 { Ok(()) } else { Err(points_changed()) }
}
