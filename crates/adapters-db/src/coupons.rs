//! Coupons that orders use, and that come back when they fail: not locked but versioned.

use crate::error::Failure;
use crate::rows::{CouponRow, IssuedCouponRow};
use crate::schema::{coupon, issued_coupon};
use crate::statement::statement;
use diesel::sql_types::{Array, BigInt, Nullable, Timestamptz};
use diesel::{ExpressionMethods, QueryDsl, QueryableByName, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::Versioned;
use domain::{IssuedCoupon, IssuedCouponStatus, PaymentId, Timestamp};

/// Coupons of buyers with their terms. To be read after the locks of what they are used with.
pub(crate) async fn find(
    mut connection: &AsyncPgConnection,
    ids: &[i64],
) -> Result<Vec<(IssuedCouponRow, CouponRow)>, Failure> {
    Ok(issued_coupon::table
        .inner_join(coupon::table)
        .filter(issued_coupon::id.eq_any(ids))
        .select((IssuedCouponRow::as_select(), CouponRow::as_select()))
        .load(&mut connection)
        .await?)
}

/// The new states of coupons, and the payments that use them or give them back.
#[derive(Default)]
pub(crate) struct CouponMoves {
    ids: Vec<i64>,
    versions: Vec<i64>,
    used_at: Vec<Option<Timestamp>>,
    payments: Vec<i64>,
}

#[derive(QueryableByName)]
struct Changed {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl CouponMoves {
    pub(crate) fn add(&mut self, coupon: &Versioned<IssuedCoupon>, payment_id: PaymentId) {
        self.ids.push(coupon.value.id.get());
        self.versions.push(coupon.version);
        self.used_at.push(match coupon.value.status {
            IssuedCouponStatus::Available => None,
            IssuedCouponStatus::Used { used_at } => Some(used_at),
        });
        self.payments.push(payment_id.get());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Locked ascending, whoever else wants them: nothing is locked after them.
    ///
    /// # Errors
    /// A conflict when a version moved.
    pub(crate) async fn store(self, connection: &AsyncPgConnection) -> Result<(), Failure> {
        const SQL: &str = "WITH moved AS MATERIALIZED (\
                SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::bigint[]) \
                    AS m (id, version, used_at, payment_id)), \
            locked AS MATERIALIZED (\
                SELECT id FROM issued_coupon WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE), \
            changed AS (\
                UPDATE issued_coupon i SET \
                    status = CASE WHEN m.used_at IS NULL THEN 'AVAILABLE' ELSE 'USED' END, \
                    used_at = m.used_at, version = i.version + 1 \
                FROM moved m JOIN locked l ON l.id = m.id \
                WHERE i.id = m.id AND i.version = m.version RETURNING 1), \
            entries AS (\
                INSERT INTO coupon_ledger (issued_coupon_id, payment_id, kind) \
                SELECT id, payment_id, CASE WHEN used_at IS NULL THEN 'CANCEL_USE' ELSE 'USE' END FROM moved) \
            SELECT count(*) AS number FROM changed";
        let wanted = i64::try_from(self.ids.len()).map_err(Failure::other)?;
        let changed: Changed = statement(SQL)
            .numbers(self.ids)
            .numbers(self.versions)
            .bind::<Array<Nullable<Timestamptz>>, _>(self.used_at)
            .numbers(self.payments)
            .row(connection)
            .await?;
        if changed.number == wanted { Ok(()) } else { Err(Failure::conflict("version of issued_coupon")) }
    }
}
