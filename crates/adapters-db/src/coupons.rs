//! Coupons that orders use, and that come back when they fail: not locked but versioned.

use crate::error::Failure;
use crate::rows::HoldingRow;
use crate::statement::{found, statement};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Nullable, Timestamptz};
use diesel_async::AsyncPgConnection;
use domain::ports::{CouponHolding, StoreError, Versioned};
use domain::{IssuedCoupon, IssuedCouponId, IssuedCouponStatus, PaymentId, Timestamp};
use std::collections::BTreeMap;

/// The columns of a [`HoldingRow`], of issued coupons whose ids an expression gives.
macro_rules! holdings {
    ($ids:literal) => {
        concat!(
            "SELECT i.id, i.user_id, i.status, i.used_at, i.version, \
                c.id AS coupon_id, c.name, c.discount_type, c.discount_value, c.valid_until \
            FROM issued_coupon i CROSS JOIN LATERAL (\
                SELECT id, name, discount_type, discount_value, valid_until FROM coupon \
                WHERE id = i.coupon_id OFFSET 0) c \
            WHERE i.id = ANY(",
            $ids,
            ")"
        )
    };
}

/// Coupons of buyers with their terms. To be read after the locks of what they are used with.
pub(crate) async fn find(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<HoldingRow>, Failure> {
    Ok(statement(holdings!("$1::bigint[]")).numbers(ids).rows(connection).await?)
}

/// Those that payments used.
pub(crate) async fn find_used(
    connection: &AsyncPgConnection,
    payments: Vec<i64>,
) -> Result<Vec<HoldingRow>, Failure> {
    const SQL: &str = holdings!(
        "ARRAY(SELECT p.issued_coupon_id FROM payment p \
            WHERE p.id = ANY($1::bigint[]) AND p.issued_coupon_id IS NOT NULL)"
    );
    Ok(statement(SQL).numbers(payments).rows(connection).await?)
}

/// By issued coupon.
pub(crate) fn by_id(
    rows: Vec<HoldingRow>,
) -> Result<BTreeMap<IssuedCouponId, Versioned<CouponHolding>>, StoreError> {
    let held = |row| Versioned::<CouponHolding>::try_from(row);
    rows.into_iter().map(|row| held(row).map(|holding| (holding.value.issued.id, holding))).collect()
}

/// The new states of coupons, by their ids, and the payments that use them or give them back.
#[derive(Default)]
pub(crate) struct CouponMoves(BTreeMap<i64, Move>);

struct Move {
    version: i64,
    used_at: Option<Timestamp>,
    payment: i64,
}

#[derive(QueryableByName)]
struct Changed {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl CouponMoves {
    /// # Errors
    /// A conflict when it has been moved in this batch.
    pub(crate) fn add(
        &mut self,
        coupon: &Versioned<IssuedCoupon>,
        payment_id: PaymentId,
    ) -> Result<(), Failure> {
        let used_at = match coupon.value.status {
            IssuedCouponStatus::Available => None,
            IssuedCouponStatus::Used { used_at } => Some(used_at),
        };
        let one = Move { version: coupon.version, used_at, payment: payment_id.get() };
        match self.0.insert(coupon.value.id.get(), one) {
            None => Ok(()),
            Some(_) => Err(moved()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Locked ascending, whoever else wants them: nothing is locked after them.
    ///
    /// # Errors
    /// A conflict when a version moved.
    pub(crate) async fn store(self, connection: &AsyncPgConnection) -> Result<(), Failure> {
        const SQL: &str = concat!(
            "WITH locked AS MATERIALIZED (\
                SELECT id FROM issued_coupon WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE), \
            changed AS (\
                UPDATE issued_coupon i SET version = i.version + 1, used_at = ",
            found!("$3::timestamptz[]" by "i.id" in "$1"),
            ", status = CASE WHEN ",
            found!("$3::timestamptz[]" by "i.id" in "$1"),
            " IS NULL THEN 'AVAILABLE' ELSE 'USED' END \
                WHERE i.id = ANY(ARRAY(SELECT id FROM locked)) AND i.version = ",
            found!("$2::bigint[]" by "i.id" in "$1"),
            " RETURNING 1), \
            entries AS (\
                INSERT INTO coupon_ledger (issued_coupon_id, payment_id, kind) \
                SELECT id, payment_id, CASE WHEN used_at IS NULL THEN 'CANCEL_USE' ELSE 'USE' END \
                FROM unnest($1::bigint[], $3::timestamptz[], $4::bigint[]) AS m (id, used_at, payment_id)) \
            SELECT count(*) AS number FROM changed"
        );
        let wanted = self.0.len();
        let moves = self.0.values();
        let changed: Changed = statement(SQL)
            .numbers(self.0.keys().copied().collect())
            .numbers(moves.clone().map(|one| one.version).collect())
            .bind::<Array<Nullable<Timestamptz>>, _>(moves.clone().map(|one| one.used_at).collect::<Vec<_>>())
            .numbers(moves.map(|one| one.payment).collect())
            .row(connection)
            .await?;
        if usize::try_from(changed.number) == Ok(wanted) { Ok(()) } else { Err(moved()) }
    }
}

/// Another one was faster.
fn moved() -> Failure {
    Failure::conflict("version of issued_coupon")
}
