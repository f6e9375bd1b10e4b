//! Products and stock, points, coupons: what an order takes, and what operators set.

use crate::cached::cached;
use crate::error::{Failure, corrupt};
use crate::rows::{At, CouponRow, IssuedCouponRow, ProductRow, holding};
use crate::schema::{
    coupon, coupon_ledger, issued_coupon, point_account, point_ledger, product, stock, stock_ledger,
};
use diesel::dsl::now;
use diesel::sql_types::{Array, BigInt, Text};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{
    CouponHolding, PointEntry, PointEntryKind, ProductForSale, StockEntry, StockEntryKind, StoreError,
    Versioned,
};
use domain::{
    Coupon, CouponId, Discount, IssuedCoupon, IssuedCouponId, IssuedCouponStatus, Money, PaymentId,
    PointAccount, ProductId, Stock, Timestamp, UserId,
};
use futures_util::try_join;
use std::collections::BTreeMap;

/// One statement, whose order is the lock order.
pub(crate) async fn lock_products(
    mut connection: &AsyncPgConnection,
    ids: &[ProductId],
) -> Result<Vec<ProductForSale>, Failure> {
    const SQL: &str = "SELECT p.id, p.name, p.price, s.quantity \
        FROM stock s JOIN product p ON p.id = s.product_id \
        WHERE s.product_id = ANY($1) ORDER BY s.product_id FOR UPDATE OF s";
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    let rows: Vec<ProductRow> =
        cached(sql_query(SQL).bind::<Array<BigInt>, _>(ids)).load(&mut connection).await?;
    Ok(rows.into_iter().map(ProductForSale::try_from).collect::<Result<_, _>>()?)
}

/// Locks ascending by product, whoever calls; the ledger's unique index refuses a second restore.
pub(crate) async fn move_stock(
    connection: &AsyncPgConnection,
    entries: &[StockEntry],
) -> Result<(), Failure> {
    const MOVE: &str = "WITH moved AS (SELECT * FROM unnest($1, $2) AS m (product_id, delta)), \
        locked AS MATERIALIZED ( \
            SELECT product_id FROM stock WHERE product_id = ANY($1) ORDER BY product_id FOR UPDATE) \
        UPDATE stock SET quantity = stock.quantity + moved.delta, updated_at = now() \
        FROM moved JOIN locked USING (product_id) \
        WHERE stock.product_id = moved.product_id AND stock.quantity + moved.delta >= 0";
    const LEDGER: &str = "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) \
        SELECT * FROM unnest($1, $2, $3, $4)";
    if entries.is_empty() {
        return Ok(());
    }
    let mut moved: BTreeMap<i64, i64> = BTreeMap::new();
    let (mut products, mut payments, mut kinds, mut deltas) = (vec![], vec![], vec![], vec![]);
    for entry in entries {
        let (kind, delta) = match entry.kind {
            StockEntryKind::Reserve => ("RESERVE", -i64::from(entry.quantity.get())),
            StockEntryKind::Restore => ("RESTORE", i64::from(entry.quantity.get())),
        };
        // A quantity has 31 bits, so that no number of entries that fits memory overflows the sum.
        *moved.entry(entry.product_id.get()).or_default() += delta;
        products.push(entry.product_id.get());
        payments.push(entry.payment_id.get());
        kinds.push(kind);
        deltas.push(delta);
    }
    let number = moved.len();
    let (ids, sums): (Vec<i64>, Vec<i64>) = moved.into_iter().unzip();
    let mut moving = connection;
    let mut writing = connection;
    let (changed, _) = try_join!(
        cached(sql_query(MOVE).bind::<Array<BigInt>, _>(ids).bind::<Array<BigInt>, _>(sums))
            .execute(&mut moving),
        cached(
            sql_query(LEDGER)
                .bind::<Array<BigInt>, _>(products)
                .bind::<Array<BigInt>, _>(payments)
                .bind::<Array<Text>, _>(kinds)
                .bind::<Array<BigInt>, _>(deltas)
        )
        .execute(&mut writing),
    )?;
    if changed == number { Ok(()) } else { Err(Failure::conflict("stock would fall below zero")) }
}

pub(crate) async fn lock_points(
    mut connection: &AsyncPgConnection,
    user_id: UserId,
) -> Result<PointAccount, Failure> {
    let account =
        || point_account::table.find(user_id.get()).select(point_account::balance).for_no_key_update();
    let mut balance: Option<i64> = account().first(&mut connection).await.optional()?;
    if balance.is_none() {
        // A row of its own, so that two first charges wait for each other.
        diesel::insert_into(point_account::table)
            .values(point_account::user_id.eq(user_id.get()))
            .on_conflict_do_nothing()
            .execute(&mut connection)
            .await?;
        balance = account().first(&mut connection).await.optional()?;
    }
    let won = balance.ok_or_else(|| corrupt("point_account", user_id, "gone"))?;
    let at = At::row("point_account", user_id.get());
    Ok(PointAccount::new(user_id, at.money(won)?).map_err(|error| at.corrupt(error))?)
}

/// The balance must be what it was when the account was locked; a program that did not lock it loses.
pub(crate) async fn save_points(connection: &AsyncPgConnection, entry: &PointEntry) -> Result<(), Failure> {
    let after = entry.account.balance().won();
    let (kind, delta) = match entry.kind {
        PointEntryKind::Charge => ("CHARGE", entry.amount.won()),
        PointEntryKind::Deduct => ("DEDUCT", -entry.amount.won()),
        PointEntryKind::Restore => ("RESTORE", entry.amount.won()),
    };
    let user_id = entry.account.user_id().get();
    let mut saving = connection;
    let mut writing = connection;
    let (changed, _) = try_join!(
        diesel::update(
            point_account::table
                .filter(point_account::user_id.eq(user_id))
                // Both are within ±2^53.
                .filter(point_account::balance.eq(after - delta))
        )
        .set((point_account::balance.eq(after), point_account::updated_at.eq(now)))
        .execute(&mut saving),
        diesel::insert_into(point_ledger::table)
            .values((
                point_ledger::user_id.eq(user_id),
                point_ledger::payment_id.eq(entry.payment_id.map(PaymentId::get)),
                point_ledger::kind.eq(kind),
                point_ledger::delta.eq(delta),
                point_ledger::balance_after.eq(after),
            ))
            .execute(&mut writing),
    )?;
    if changed == 1 { Ok(()) } else { Err(Failure::conflict("the point account changed")) }
}

pub(crate) async fn find_coupon_holding(
    mut connection: &AsyncPgConnection,
    id: IssuedCouponId,
) -> Result<Option<Versioned<CouponHolding>>, Failure> {
    let found: Option<(IssuedCouponRow, CouponRow)> = issued_coupon::table
        .inner_join(coupon::table)
        .filter(issued_coupon::id.eq(id.get()))
        .select((IssuedCouponRow::as_select(), CouponRow::as_select()))
        .first(&mut connection)
        .await
        .optional()?;
    Ok(found.map(|(issued, coupon)| holding(issued, coupon)).transpose()?)
}

pub(crate) async fn save_issued_coupon(
    connection: &AsyncPgConnection,
    coupon: &Versioned<IssuedCoupon>,
    payment_id: PaymentId,
) -> Result<(), Failure> {
    let (status, used_at, kind) = match coupon.value.status {
        IssuedCouponStatus::Available => ("AVAILABLE", None, "CANCEL_USE"),
        IssuedCouponStatus::Used { used_at } => ("USED", Some(used_at), "USE"),
    };
    let mut saving = connection;
    let mut writing = connection;
    let (changed, _) = try_join!(
        diesel::update(
            issued_coupon::table
                .filter(issued_coupon::id.eq(coupon.value.id.get()))
                .filter(issued_coupon::version.eq(coupon.version))
        )
        .set((
            issued_coupon::status.eq(status),
            issued_coupon::used_at.eq(used_at),
            issued_coupon::version.eq(issued_coupon::version + 1),
        ))
        .execute(&mut saving),
        diesel::insert_into(coupon_ledger::table)
            .values((
                coupon_ledger::issued_coupon_id.eq(coupon.value.id.get()),
                coupon_ledger::payment_id.eq(payment_id.get()),
                coupon_ledger::kind.eq(kind),
            ))
            .execute(&mut writing),
    )?;
    if changed == 1 { Ok(()) } else { Err(Failure::conflict("version of issued_coupon")) }
}

pub(crate) async fn insert_product(
    connection: &AsyncPgConnection,
    name: &str,
    price: Money,
    pieces: Stock,
) -> Result<ProductId, Failure> {
    let mut first = connection;
    let id: i64 = diesel::insert_into(product::table)
        .values((product::name.eq(name), product::price.eq(price.won())))
        .returning(product::id)
        .get_result(&mut first)
        .await?;
    let mut stocking = connection;
    let mut writing = connection;
    try_join!(
        diesel::insert_into(stock::table)
            .values((stock::product_id.eq(id), stock::quantity.eq(pieces.quantity())))
            .execute(&mut stocking),
        diesel::insert_into(stock_ledger::table)
            .values((
                stock_ledger::product_id.eq(id),
                stock_ledger::kind.eq("INITIAL"),
                stock_ledger::delta.eq(pieces.quantity()),
            ))
            .execute(&mut writing),
    )?;
    Ok(ProductId::new(id).map_err(|error| corrupt("product", id, error))?)
}

pub(crate) async fn set_stock(
    mut connection: &AsyncPgConnection,
    id: ProductId,
    pieces: Stock,
) -> Result<bool, Failure> {
    let before: Option<i64> = stock::table
        .find(id.get())
        .select(stock::quantity)
        .for_update()
        .first(&mut connection)
        .await
        .optional()?;
    let Some(before) = before else { return Ok(false) };
    // Both are in 0..2^53.
    let delta = pieces.quantity() - before;
    let mut saving = connection;
    let mut writing = connection;
    try_join!(
        diesel::update(stock::table.find(id.get()))
            .set((stock::quantity.eq(pieces.quantity()), stock::updated_at.eq(now)))
            .execute(&mut saving),
        diesel::insert_into(stock_ledger::table)
            .values((
                stock_ledger::product_id.eq(id.get()),
                stock_ledger::kind.eq("SET"),
                stock_ledger::delta.eq(delta),
            ))
            .execute(&mut writing),
    )?;
    Ok(true)
}

pub(crate) async fn insert_coupon(
    mut connection: &AsyncPgConnection,
    name: &str,
    discount: Discount,
    valid_until: Option<Timestamp>,
) -> Result<Coupon, Failure> {
    let (kind, value) = match discount {
        Discount::Fixed(amount) => ("FIXED", amount.won()),
        Discount::Rate(percent) => ("RATE", i64::from(percent)),
    };
    let row: CouponRow = diesel::insert_into(coupon::table)
        .values((
            coupon::name.eq(name),
            coupon::discount_type.eq(kind),
            coupon::discount_value.eq(value),
            coupon::valid_until.eq(valid_until),
        ))
        .returning(CouponRow::as_returning())
        .get_result(&mut connection)
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
    mut connection: &AsyncPgConnection,
    coupon_id: CouponId,
    user_id: UserId,
) -> Result<Option<IssuedCoupon>, Failure> {
    let row: Option<IssuedCouponRow> = diesel::insert_into(issued_coupon::table)
        .values((issued_coupon::coupon_id.eq(coupon_id.get()), issued_coupon::user_id.eq(user_id.get())))
        .on_conflict((issued_coupon::user_id, issued_coupon::coupon_id))
        .do_nothing()
        .returning(IssuedCouponRow::as_returning())
        .get_result(&mut connection)
        .await
        .optional()?;
    let issued: Option<Versioned<IssuedCoupon>> =
        row.map(TryInto::try_into).transpose().map_err(|error: StoreError| error)?;
    Ok(issued.map(|issued| issued.value))
}
