//! The reads behind [`Queries`](domain::ports::Queries): no locks, no transaction.

use crate::error::{Failure, corrupt};
use crate::rows::{
    At, CouponRow, DiscrepancyRow, EventRow, IssuedCouponRow, ItemRow, OrderRow, PaymentRow, ProductRow,
    holding, looked_at, micros, payment_columns,
};
use crate::schema::{
    coupon, discrepancy, issued_coupon, order_item, orders, payment, payment_event, point_account, product,
    stock,
};
use crate::statement::statement;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{
    AdminPaymentFilter, DiscrepancyStatus, DiscrepancyView, IssuedCouponView, OrderCursor, OrderView,
    PaymentEventView, PaymentRecord, PaymentStatistics, PaymentView, ProductView,
};
use domain::settlement::DiscrepancyKind;
use domain::{
    DiscrepancyId, GatewayKey, MerchantId, Money, OrderId, OrderStatus, PaymentId, PaymentStatus, ProductId,
    Timestamp, UserId,
};
use futures_util::try_join;
use std::collections::BTreeMap;
use std::time::Duration;

/// The items of several orders, ascending by order and product.
async fn items_of(mut connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<ItemRow>, Failure> {
    let items = order_item::table
        .filter(order_item::order_id.eq_any(ids))
        .order((order_item::order_id, order_item::product_id))
        .select(ItemRow::as_select())
        .load(&mut connection)
        .await?;
    Ok(items)
}

/// Rows of orders with their payments, made views with the items.
async fn order_views(
    connection: &AsyncPgConnection,
    rows: Vec<(OrderRow, PaymentRow)>,
) -> Result<Vec<OrderView>, Failure> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut items: BTreeMap<i64, Vec<ItemRow>> = BTreeMap::new();
    for item in items_of(connection, rows.iter().map(|(order, _)| order.id).collect()).await? {
        items.entry(item.order_id).or_default().push(item);
    }
    let mut views = Vec::with_capacity(rows.len());
    for (order, payment) in rows {
        let placed_at = order.placed_at;
        let own = items.remove(&order.id).unwrap_or_default();
        views.push(OrderView {
            order: order.into_order(own)?.value,
            placed_at,
            payment: PaymentRecord::try_from(payment)?,
        });
    }
    Ok(views)
}

pub(crate) async fn order(
    mut connection: &AsyncPgConnection,
    user_id: Option<UserId>,
    id: OrderId,
) -> Result<Option<OrderView>, Failure> {
    let mut query = payment::table
        .inner_join(orders::table)
        .filter(orders::id.eq(id.get()))
        .select((OrderRow::as_select(), PaymentRow::as_select()))
        .into_boxed();
    if let Some(user_id) = user_id {
        query = query.filter(orders::user_id.eq(user_id.get()));
    }
    let rows = query.load(&mut connection).await?;
    Ok(order_views(connection, rows).await?.pop())
}

pub(crate) async fn orders(
    mut connection: &AsyncPgConnection,
    user_id: UserId,
    status: Option<OrderStatus>,
    after: Option<OrderCursor>,
    limit: u32,
) -> Result<Vec<OrderView>, Failure> {
    let mut query = payment::table
        .inner_join(orders::table)
        .filter(orders::user_id.eq(user_id.get()))
        .select((OrderRow::as_select(), PaymentRow::as_select()))
        .order(orders::id.desc())
        .limit(i64::from(limit))
        .into_boxed();
    if let Some(status) = status {
        query = query.filter(orders::status.eq(status.as_str()));
    }
    if let Some(OrderCursor(last)) = after {
        query = query.filter(orders::id.lt(last.get()));
    }
    let rows = query.load(&mut connection).await?;
    order_views(connection, rows).await
}

#[derive(QueryableByName)]
struct CheckRow {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    next_check_at: Option<Timestamp>,
    #[diesel(sql_type = Bool)]
    parked: bool,
}

pub(crate) async fn payment(
    connection: &AsyncPgConnection,
    user_id: Option<UserId>,
    id: PaymentId,
) -> Result<Option<PaymentView>, Failure> {
    const CHECK: &str = "SELECT next_at AS next_check_at, parked_at IS NOT NULL AS parked \
        FROM payment_check WHERE payment_id = $1";
    let mut query =
        payment::table.filter(payment::id.eq(id.get())).select(PaymentRow::as_select()).into_boxed();
    if let Some(user_id) = user_id {
        query = query.filter(payment::user_id.eq(user_id.get()));
    }
    let (mut first, mut second) = (connection, connection);
    let (rows, events, checks): (Vec<PaymentRow>, Vec<EventRow>, Vec<CheckRow>) = try_join!(
        query.load(&mut first),
        payment_event::table
            .filter(payment_event::payment_id.eq(id.get()))
            .order(payment_event::id)
            .select(EventRow::as_select())
            .load(&mut second),
        statement(CHECK).bind::<BigInt, _>(id.get()).rows(connection),
    )?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let check = checks.into_iter().next();
    Ok(Some(PaymentView {
        record: row.try_into()?,
        history: events.into_iter().map(PaymentEventView::try_from).collect::<Result<_, _>>()?,
        parked: check.as_ref().is_some_and(|check| check.parked),
        next_check_at: check.and_then(|check| check.next_check_at),
    }))
}

/// Those that have not ended are found by their checks, whatever the size of the table.
const OPEN_PAYMENTS: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM ",
    looked_at!(),
    " WHERE p.status = $1 AND p.id < $2 AND p.created_at < now() - $3 * interval '1 microsecond' \
    ORDER BY p.id DESC LIMIT $4"
);

const PAYMENTS: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM payment p WHERE ($1::text IS NULL OR p.status = $1) AND p.id < $2 \
        AND p.created_at < now() - $3 * interval '1 microsecond' \
    ORDER BY p.id DESC LIMIT $4"
);

pub(crate) async fn payments(
    connection: &AsyncPgConnection,
    filter: &AdminPaymentFilter,
) -> Result<Vec<PaymentRecord>, Failure> {
    let open = filter.status.is_some_and(|status| !status.is_terminal());
    let rows: Vec<PaymentRow> = statement(if open { OPEN_PAYMENTS } else { PAYMENTS })
        .bind::<Nullable<Text>, _>(filter.status.map(PaymentStatus::as_str))
        .bind::<BigInt, _>(filter.before.map_or(i64::MAX, PaymentId::get))
        // A payment that is placed at this moment is older than less than nothing.
        .bind::<BigInt, _>(filter.older_than.map_or(-micros(Duration::MAX), micros))
        .bind::<BigInt, _>(i64::from(filter.limit))
        .rows(connection)
        .await?;
    Ok(rows.into_iter().map(PaymentRecord::try_from).collect::<Result<_, _>>()?)
}

pub(crate) async fn products(
    mut connection: &AsyncPgConnection,
    after: Option<ProductId>,
    limit: u32,
) -> Result<Vec<ProductView>, Failure> {
    let rows: Vec<ProductRow> = stock::table
        .inner_join(product::table)
        .filter(product::id.gt(after.map_or(0, ProductId::get)))
        .order(product::id)
        .limit(i64::from(limit))
        .select((product::id, product::name, product::price, stock::quantity))
        .load(&mut connection)
        .await?;
    Ok(rows.into_iter().map(ProductView::try_from).collect::<Result<_, _>>()?)
}

pub(crate) async fn product(
    mut connection: &AsyncPgConnection,
    id: ProductId,
) -> Result<Option<ProductView>, Failure> {
    let row: Option<ProductRow> = stock::table
        .inner_join(product::table)
        .filter(product::id.eq(id.get()))
        .select((product::id, product::name, product::price, stock::quantity))
        .first(&mut connection)
        .await
        .optional()?;
    Ok(row.map(ProductView::try_from).transpose()?)
}

pub(crate) async fn issued_coupons(
    mut connection: &AsyncPgConnection,
    user_id: UserId,
) -> Result<Vec<IssuedCouponView>, Failure> {
    let rows: Vec<(IssuedCouponRow, CouponRow)> = issued_coupon::table
        .inner_join(coupon::table)
        .filter(issued_coupon::user_id.eq(user_id.get()))
        .order(issued_coupon::id.desc())
        .select((IssuedCouponRow::as_select(), CouponRow::as_select()))
        .load(&mut connection)
        .await?;
    let mut views = Vec::with_capacity(rows.len());
    for (issued, coupon) in rows {
        let held = holding(issued, coupon)?.value;
        views.push(IssuedCouponView { issued: held.issued, coupon: held.coupon });
    }
    Ok(views)
}

pub(crate) async fn point_balance(
    mut connection: &AsyncPgConnection,
    user_id: UserId,
) -> Result<Money, Failure> {
    let balance: Option<i64> = point_account::table
        .find(user_id.get())
        .select(point_account::balance)
        .first(&mut connection)
        .await
        .optional()?;
    Ok(At::row("point_account", user_id.get()).money(balance.unwrap_or(0))?)
}

pub(crate) async fn discrepancies(
    mut connection: &AsyncPgConnection,
    status: Option<DiscrepancyStatus>,
    before: Option<DiscrepancyId>,
    limit: u32,
) -> Result<Vec<DiscrepancyView>, Failure> {
    let mut query = discrepancy::table
        .inner_join(payment::table)
        .select((DiscrepancyRow::as_select(), payment::order_id))
        .order(discrepancy::id.desc())
        .limit(i64::from(limit))
        .into_boxed();
    if let Some(status) = status {
        query = query.filter(discrepancy::status.eq(status.as_str()));
    }
    if let Some(before) = before {
        query = query.filter(discrepancy::id.lt(before.get()));
    }
    let rows: Vec<(DiscrepancyRow, i64)> = query.load(&mut connection).await?;
    Ok(rows.into_iter().map(|(row, order_id)| row.into_view(order_id)).collect::<Result<_, _>>()?)
}

pub(crate) async fn discrepancy(
    mut connection: &AsyncPgConnection,
    id: DiscrepancyId,
) -> Result<Option<DiscrepancyView>, Failure> {
    let row: Option<(DiscrepancyRow, i64)> = discrepancy::table
        .inner_join(payment::table)
        .filter(discrepancy::id.eq(id.get()))
        .select((DiscrepancyRow::as_select(), payment::order_id))
        .first(&mut connection)
        .await
        .optional()?;
    Ok(row.map(|(row, order_id)| row.into_view(order_id)).transpose()?)
}

pub(crate) async fn discrepancies_of(
    mut connection: &AsyncPgConnection,
    id: PaymentId,
) -> Result<Vec<DiscrepancyView>, Failure> {
    let rows: Vec<(DiscrepancyRow, i64)> = discrepancy::table
        .inner_join(payment::table)
        .filter(discrepancy::payment_id.eq(id.get()))
        .select((DiscrepancyRow::as_select(), payment::order_id))
        .order(discrepancy::id.desc())
        .limit(100)
        .load(&mut connection)
        .await?;
    Ok(rows.into_iter().map(|(row, order_id)| row.into_view(order_id)).collect::<Result<_, _>>()?)
}

#[derive(QueryableByName)]
struct UnsettledRow {
    #[diesel(sql_type = BigInt)]
    unsettled: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    oldest_micros: Option<i64>,
    #[diesel(sql_type = BigInt)]
    watched: i64,
}

#[derive(QueryableByName)]
struct OpenRow {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

pub(crate) async fn statistics(connection: &AsyncPgConnection) -> Result<PaymentStatistics, Failure> {
    const PAYMENTS: &str = concat!(
        "SELECT count(*) FILTER (WHERE p.status IN ('PENDING', 'IN_PROGRESS')) AS unsettled, \
            (extract(epoch FROM now() - min(p.created_at) \
                FILTER (WHERE p.status IN ('PENDING', 'IN_PROGRESS'))) * 1000000)::bigint AS oldest_micros, \
            count(*) FILTER (WHERE p.status IN ('PAID', 'FAILED') AND c.due_at IS NOT NULL) AS watched \
        FROM ",
        looked_at!()
    );
    const OPEN: &str = "SELECT kind, count(*) AS number FROM discrepancy WHERE status = 'OPEN' GROUP BY kind";
    let (payments, open): (UnsettledRow, Vec<OpenRow>) =
        try_join!(statement(PAYMENTS).row(connection), statement(OPEN).rows(connection))?;
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    let of_kind = |kind: DiscrepancyKind| {
        open.iter().find(|row| row.kind == kind.as_str()).map_or(0, |row| number(row.number))
    };
    Ok(PaymentStatistics {
        unsettled: number(payments.unsettled),
        oldest_unsettled: payments.oldest_micros.map(|micros| Duration::from_micros(number(micros))),
        open_discrepancies: DiscrepancyKind::ALL.into_iter().map(|kind| (kind, of_kind(kind))).collect(),
        watched: number(payments.watched),
    })
}

pub(crate) async fn changed_orders(
    connection: &AsyncPgConnection,
    within: Duration,
    limit: u32,
) -> Result<Vec<(OrderId, Timestamp)>, Failure> {
    #[derive(QueryableByName)]
    struct Changed {
        #[diesel(sql_type = BigInt)]
        order_id: i64,
        #[diesel(sql_type = Timestamptz)]
        updated_at: Timestamp,
    }
    // Each change has a row in some history, the latest ones have the highest numbers.
    const CHANGED: &str = "SELECT p.order_id, max(e.created_at) AS updated_at \
        FROM (SELECT payment_id, created_at FROM payment_event ORDER BY id DESC LIMIT $2 * 3) e \
            CROSS JOIN LATERAL (SELECT order_id FROM payment WHERE id = e.payment_id OFFSET 0) p \
        WHERE e.created_at > now() - $1 * interval '1 microsecond' GROUP BY p.order_id LIMIT $2";
    let rows: Vec<Changed> = statement(CHANGED)
        .bind::<BigInt, _>(micros(within))
        .bind::<BigInt, _>(i64::from(limit))
        .rows(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let id = OrderId::new(row.order_id)
                .map_err(|error| corrupt("payment of order", row.order_id, error))?;
            Ok((id, row.updated_at))
        })
        .collect()
}

pub(crate) async fn last_paid_key(
    connection: &AsyncPgConnection,
) -> Result<Option<(MerchantId, GatewayKey)>, Failure> {
    #[derive(QueryableByName)]
    struct Paid {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        merchant_id: String,
        #[diesel(sql_type = Text)]
        external_payment_key: String,
    }
    // Of the latest ones with something on the card: those have a check row.
    const SQL: &str = "SELECT id, merchant_id, external_payment_key FROM (\
            SELECT p.id, p.merchant_id, p.external_payment_key, p.updated_at \
            FROM payment_check c CROSS JOIN LATERAL (\
                SELECT id, status, merchant_id, external_payment_key, updated_at FROM payment \
                WHERE id = c.payment_id OFFSET 0) p \
            WHERE p.status = 'PAID' AND p.external_payment_key IS NOT NULL \
            ORDER BY c.payment_id DESC LIMIT 100) AS latest \
        ORDER BY updated_at DESC, id DESC LIMIT 1";
    let paid: Vec<Paid> = statement(SQL).rows(connection).await?;
    let Some(Paid { id, merchant_id, external_payment_key }) = paid.into_iter().next() else {
        return Ok(None);
    };
    let merchant = MerchantId::new(merchant_id).map_err(|error| corrupt("payment", id, error))?;
    let key = GatewayKey::new(external_payment_key).map_err(|error| corrupt("payment", id, error))?;
    Ok(Some((merchant, key)))
}
