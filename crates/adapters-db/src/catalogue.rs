//! What operators set: products with their stock, and coupons.

use crate::error::{Failure, corrupt};
use crate::rows::{CouponRow, IssuedCouponRow};
use crate::schema::coupon;
use crate::statement::statement;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryDsl, QueryableByName, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::Versioned;
use domain::{Coupon, CouponId, Discount, IssuedCoupon, Money, ProductId, Stock, Timestamp, UserId};

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

pub(crate) async fn insert_product(
    connection: &AsyncPgConnection,
    name: &str,
    price: Money,
    pieces: Stock,
) -> Result<ProductId, Failure> {
    const SQL: &str = "WITH made AS (INSERT INTO product (name, price) VALUES ($1, $2) RETURNING id), \
        stocked AS (INSERT INTO stock (product_id, quantity) SELECT id, $3 FROM made), \
        entry AS (INSERT INTO stock_ledger (product_id, kind, delta) SELECT id, 'INITIAL', $3 FROM made) \
        SELECT id FROM made";
    let Id { id } = statement(SQL)
        .bind::<Text, _>(name)
        .bind::<BigInt, _>(price.won())
        .bind::<BigInt, _>(pieces.quantity())
        .row(connection)
        .await?;
    Ok(ProductId::new(id).map_err(|error| corrupt("product", id, error))?)
}

#[derive(QueryableByName)]
struct Quantity {
    #[diesel(sql_type = BigInt)]
    quantity: i64,
}

pub(crate) async fn set_stock(
    connection: &AsyncPgConnection,
    id: ProductId,
    pieces: Stock,
) -> Result<bool, Failure> {
    const LOCK: &str = "SELECT quantity FROM stock WHERE product_id = $1 FOR UPDATE";
    const SET: &str = "WITH changed AS (\
            UPDATE stock SET quantity = $2, updated_at = now() WHERE product_id = $1) \
        INSERT INTO stock_ledger (product_id, kind, delta) VALUES ($1, 'SET', $3)";
    let before: Vec<Quantity> = statement(LOCK).bind::<BigInt, _>(id.get()).rows(connection).await?;
    let Some(Quantity { quantity: before }) = before.into_iter().next() else { return Ok(false) };
    statement(SET)
        .bind::<BigInt, _>(id.get())
        .bind::<BigInt, _>(pieces.quantity())
        // Both are in 0..2^53.
        .bind::<BigInt, _>(pieces.quantity() - before)
        .execute(connection)
        .await?;
    Ok(true)
}

pub(crate) async fn insert_coupon(
    connection: &AsyncPgConnection,
    name: &str,
    discount: Discount,
    valid_until: Option<Timestamp>,
) -> Result<Coupon, Failure> {
    const SQL: &str = "INSERT INTO coupon (name, discount_type, discount_value, valid_until) \
        VALUES ($1, $2, $3, $4) RETURNING id, name, discount_type, discount_value, valid_until";
    let (kind, value) = match discount {
        Discount::Fixed(amount) => ("FIXED", amount.won()),
        Discount::Rate(percent) => ("RATE", i64::from(percent)),
    };
    let row: CouponRow = statement(SQL)
        .bind::<Text, _>(name)
        .bind::<Text, _>(kind)
        .bind::<BigInt, _>(value)
        .bind::<Nullable<Timestamptz>, _>(valid_until)
        .row(connection)
        .await?;
    Ok(row.try_into()?)
}

pub(crate) async fn find_coupon(
    mut connection: &AsyncPgConnection,
    id: CouponId,
) -> Result<Option<Coupon>, Failure> {
    let row: Option<CouponRow> = coupon::table
        .find(id.get())
        .select(CouponRow::as_select())
        .first(&mut connection)
        .await
        .optional()?;
    Ok(row.map(Coupon::try_from).transpose()?)
}

pub(crate) async fn insert_issued_coupon(
    connection: &AsyncPgConnection,
    coupon_id: CouponId,
    user_id: UserId,
) -> Result<Option<IssuedCoupon>, Failure> {
    const SQL: &str = "INSERT INTO issued_coupon (coupon_id, user_id) VALUES ($1, $2) \
        ON CONFLICT (user_id, coupon_id) DO NOTHING \
        RETURNING id, coupon_id, user_id, status, used_at, version";
    let rows: Vec<IssuedCouponRow> = statement(SQL)
        .bind::<BigInt, _>(coupon_id.get())
        .bind::<BigInt, _>(user_id.get())
        .rows(connection)
        .await?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let issued: Versioned<IssuedCoupon> = row.try_into()?;
    Ok(Some(issued.value))
}
