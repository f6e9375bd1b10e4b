//! Orders with their items.

use crate::cached::cached;
use crate::error::{Failure, corrupt};
use crate::rows::{ItemRow, OrderRow};
use crate::schema::{order_item, orders};
use diesel::dsl::now;
use diesel::sql_types::{Array, BigInt, Integer, Text};
use diesel::{ExpressionMethods, QueryDsl, QueryableByName, SelectableHelper, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{NewOrderIds, Versioned};
use domain::{Order, OrderId, PaymentId};
use futures_util::try_join;

#[derive(QueryableByName)]
struct Ids {
    #[diesel(sql_type = BigInt)]
    order_id: i64,
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
}

pub(crate) async fn next_order_ids(mut connection: &AsyncPgConnection) -> Result<NewOrderIds, Failure> {
    const SQL: &str = "SELECT nextval('orders_id_seq') AS order_id, nextval('payment_id_seq') AS payment_id";
    let ids: Ids = cached(sql_query(SQL)).get_result(&mut connection).await?;
    Ok(NewOrderIds {
        order_id: OrderId::new(ids.order_id).map_err(|e| corrupt("orders_id_seq", ids.order_id, e))?,
        payment_id: PaymentId::new(ids.payment_id)
            .map_err(|e| corrupt("payment_id_seq", ids.payment_id, e))?,
    })
}

pub(crate) async fn insert_order(connection: &AsyncPgConnection, order: &Order) -> Result<(), Failure> {
    const ITEMS: &str = "INSERT INTO order_item (order_id, product_id, product_name, unit_price, quantity) \
        SELECT $1, * FROM unnest($2, $3, $4, $5)";
    let (mut products, mut names, mut prices, mut quantities) = (vec![], vec![], vec![], vec![]);
    for item in order.items() {
        products.push(item.product_id.get());
        names.push(item.product_name.as_str());
        prices.push(item.unit_price.won());
        quantities.push(i32::try_from(item.quantity.get()).map_err(Failure::other)?);
    }
    let mut ordering = connection;
    let mut listing = connection;
    try_join!(
        diesel::insert_into(orders::table)
            .values((
                orders::id.eq(order.id().get()),
                orders::user_id.eq(order.user_id().get()),
                orders::status.eq(order.status().as_str()),
                orders::total_amount.eq(order.total().won()),
            ))
            .execute(&mut ordering),
        cached(
            sql_query(ITEMS)
                .bind::<BigInt, _>(order.id().get())
                .bind::<Array<BigInt>, _>(products)
                .bind::<Array<Text>, _>(names)
                .bind::<Array<BigInt>, _>(prices)
                .bind::<Array<Integer>, _>(quantities)
        )
        .execute(&mut listing),
    )?;
    Ok(())
}

pub(crate) async fn lock_order(
    connection: &AsyncPgConnection,
    id: OrderId,
) -> Result<Option<Versioned<Order>>, Failure> {
    let mut locking = connection;
    let mut listing = connection;
    // The items never change, so that they may be read beside the lock.
    let (order, items) = try_join!(
        orders::table
            .find(id.get())
            .select(OrderRow::as_select())
            .for_no_key_update()
            .load::<OrderRow>(&mut locking),
        order_item::table
            .filter(order_item::order_id.eq(id.get()))
            .order(order_item::product_id)
            .select(ItemRow::as_select())
            .load::<ItemRow>(&mut listing),
    )?;
    Ok(order.into_iter().next().map(|order| order.into_order(items)).transpose()?)
}

pub(crate) async fn save_order(
    mut connection: &AsyncPgConnection,
    order: &Versioned<Order>,
) -> Result<(), Failure> {
    let changed = diesel::update(
        orders::table.filter(orders::id.eq(order.value.id().get())).filter(orders::version.eq(order.version)),
    )
    .set((
        orders::status.eq(order.value.status().as_str()),
        orders::version.eq(orders::version + 1),
        orders::updated_at.eq(now),
    ))
    .execute(&mut connection)
    .await?;
    if changed == 1 { Ok(()) } else { Err(Failure::conflict("version of orders")) }
}

/// The items of several orders, ascending by order and product.
pub(crate) async fn items_of(
    mut connection: &AsyncPgConnection,
    ids: Vec<i64>,
) -> Result<Vec<ItemRow>, Failure> {
    let items = order_item::table
        .filter(order_item::order_id.eq_any(ids))
        .order((order_item::order_id, order_item::product_id))
        .select(ItemRow::as_select())
        .load(&mut connection)
        .await?;
    Ok(items)
}
