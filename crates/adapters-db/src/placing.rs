//! Placing a batch of orders: what is loaded and locked for it in one round trip, and the one burst that stores it.

use crate::coupons::{self, CouponMoves};
use crate::error::{Failure, corrupt};
use crate::keys::{self, KeyMoves};
use crate::moves::{Moves, moves};
use crate::points;
use crate::rows::At;
use crate::statement::{command, statement, when};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;
use domain::placement::{NewOrder, Placing, PlacingNeeds};
use domain::ports::{IdempotencyKey, NewOrderIds, ProductForSale, StoreError};
use domain::{
    FailureMessage, GatewayKey, IssuedCouponId, OrderId, Payment, PaymentId, PaymentState, ProductId, Stock,
    Timestamp, UserId,
};
use futures_util::join;
use std::collections::{BTreeMap, BTreeSet};

/// Everything leaves in the order in which it stands in `join!`: what is read stands behind the locks that protect it.
/// A buyer without an account can't spend points, so that none is made here.
pub(crate) async fn open(
    connection: &AsyncPgConnection,
    orders: &[PlacingNeeds],
) -> Result<Placing, Failure> {
    let products: BTreeSet<i64> =
        orders.iter().flat_map(|order| &order.product_ids).map(|id| id.get()).collect();
    let products: Vec<i64> = products.into_iter().collect();
    let spenders: BTreeSet<UserId> =
        orders.iter().filter(|order| order.points).map(|order| order.user_id).collect();
    let coupons: BTreeSet<i64> =
        orders.iter().filter_map(|order| order.issued_coupon_id).map(IssuedCouponId::get).collect();
    let coupons: Vec<i64> = coupons.into_iter().collect();
    let keys: BTreeSet<&IdempotencyKey> =
        orders.iter().filter_map(|order| order.key.as_ref()).map(|keyed| &keyed.key).collect();

    let (begun, ids, taken, stock, sold, accounts, holdings, known) = join!(
        command(connection, "BEGIN"),
        // One at least: the moment comes with them.
        next_ids(connection, orders.len().max(1)),
        when(!keys.is_empty(), keys::try_lock(connection, &keys)),
        when(!products.is_empty(), lock_stock(connection, products.clone())),
        when(!products.is_empty(), find_products(connection, products.clone())),
        when(!spenders.is_empty(), points::lock(connection, spenders.iter().map(|id| id.get()).collect())),
        when(!coupons.is_empty(), coupons::find(connection, coupons.clone())),
        when(!keys.is_empty(), keys::find(connection, &keys)),
    );
    begun?;
    let ids = ids?;
    let IdRow { moment, installation, .. } =
        ids.first().ok_or_else(|| corrupt("installation", "-", "there is none"))?;
    let taken = taken?;
    let stock = stock?;
    let sold = sold?;
    let mut points = points::accounts(accounts?)?;
    for user_id in spenders {
        points.entry(user_id).or_insert(points::empty(user_id)?);
    }
    Ok(Placing {
        now: *moment,
        installation: installation.clone(),
        ids: ids.iter().take(orders.len()).map(IdRow::ids).collect::<Result<_, _>>()?,
        products: for_sale(stock, sold)?,
        points,
        coupons: coupons::by_id(holdings?)?,
        keys: keys::states(keys, &taken, known?)?,
    })
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Timestamptz)]
    moment: Timestamp,
    #[diesel(sql_type = Text)]
    installation: String,
    #[diesel(sql_type = BigInt)]
    order_id: i64,
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
}

/// With each the moment and the installation.
async fn next_ids(connection: &AsyncPgConnection, number: usize) -> Result<Vec<IdRow>, Failure> {
    const SQL: &str = "SELECT now() AS moment, i.id AS installation, \
            nextval('orders_id_seq') AS order_id, nextval('payment_id_seq') AS payment_id \
        FROM installation i, generate_series(1, $1) AS n";
    let number = i64::try_from(number).map_err(Failure::other)?;
    Ok(statement(SQL).bind::<BigInt, _>(number).rows(connection).await?)
}

impl IdRow {
    fn ids(&self) -> Result<NewOrderIds, StoreError> {
        let (order, payment) = (self.order_id, self.payment_id);
        Ok(NewOrderIds {
            order_id: OrderId::new(order).map_err(|error| corrupt("orders_id_seq", order, error))?,
            payment_id: PaymentId::new(payment).map_err(|error| corrupt("payment_id_seq", payment, error))?,
        })
    }
}

#[derive(QueryableByName)]
struct StockRow {
    #[diesel(sql_type = BigInt)]
    product_id: i64,
    #[diesel(sql_type = BigInt)]
    quantity: i64,
}

/// One statement, whose order is the lock order. What must be read fresh is not joined to it: beside a lock that is
/// waited for the moment before the wait is read.
async fn lock_stock(connection: &AsyncPgConnection, products: Vec<i64>) -> Result<Vec<StockRow>, Failure> {
    const SQL: &str = "SELECT product_id, quantity FROM stock WHERE product_id = ANY($1::bigint[]) \
        ORDER BY product_id FOR UPDATE";
    Ok(statement(SQL).numbers(products).rows(connection).await?)
}

#[derive(QueryableByName)]
struct SoldRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    price: i64,
}

async fn find_products(connection: &AsyncPgConnection, products: Vec<i64>) -> Result<Vec<SoldRow>, Failure> {
    const SQL: &str = "SELECT id, name, price FROM product WHERE id = ANY($1::bigint[])";
    Ok(statement(SQL).numbers(products).rows(connection).await?)
}

fn for_sale(
    stock: Vec<StockRow>,
    sold: Vec<SoldRow>,
) -> Result<BTreeMap<ProductId, ProductForSale>, StoreError> {
    let mut sold: BTreeMap<i64, SoldRow> = sold.into_iter().map(|row| (row.id, row)).collect();
    let mut products = BTreeMap::new();
    for StockRow { product_id, quantity } in stock {
        let at = At::row("product", product_id);
        let Some(row) = sold.remove(&product_id) else { return Err(at.corrupt("stock without a product")) };
        let id = ProductId::new(product_id).map_err(|error| at.corrupt(error))?;
        let product = ProductForSale {
            id,
            name: row.name,
            price: at.price(row.price)?,
            stock: Stock::new(quantity).map_err(|error| at.corrupt(error))?,
        };
        products.insert(id, product);
    }
    Ok(products)
}

/// Orders with their payments in $19 to $37, items in $38 to $42. All in one statement: with few orders that costs a
/// third less than one for each table, with many it makes no difference.
const STORE: &str = concat!(
    "WITH ",
    moves!(),
    ", placed AS MATERIALIZED (\
        SELECT * FROM unnest($19::bigint[], $20::bigint[], $21::bigint[], $22::text[], $23::bigint[], $24::text[], \
            $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], $29::text[], $30::text[], $31::text[], \
            $32::text[], $33::text[], $34::text[], $35::bytea[], $36::timestamptz[], $37::timestamptz[]) \
        AS p (order_id, payment_id, user_id, order_status, total_amount, status, used_point, coupon_discount, \
            paid_amount, issued_coupon_id, card_type, card_no, merchant_id, gateway_order_ref, external_payment_key, \
            failure_message, callback_token_hash, send_deadline, check_at)), \
    new_orders AS (\
        INSERT INTO orders (id, user_id, status, total_amount) \
        SELECT order_id, user_id, order_status, total_amount FROM placed), \
    new_items AS (\
        INSERT INTO order_item (order_id, product_id, product_name, unit_price, quantity) \
        SELECT * FROM unnest($38::bigint[], $39::bigint[], $40::text[], $41::bigint[], $42::integer[])), \
    new_payments AS (\
        INSERT INTO payment (id, order_id, user_id, status, total_amount, used_point, coupon_discount, paid_amount, \
            issued_coupon_id, card_type, card_no, merchant_id, gateway_order_ref, external_payment_key, \
            failure_message, callback_token_hash, send_deadline) \
        SELECT payment_id, order_id, user_id, status, total_amount, used_point, coupon_discount, paid_amount, \
            issued_coupon_id, card_type, card_no, merchant_id, gateway_order_ref, external_payment_key, \
            failure_message, callback_token_hash, send_deadline FROM placed), \
    new_checks AS (\
        INSERT INTO payment_check (payment_id, due_at) \
        SELECT payment_id, check_at FROM placed WHERE check_at IS NOT NULL) \
    SELECT (SELECT count(*) FROM moved_stock) AS stock, (SELECT count(*) FROM moved_points) AS points"
);

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = BigInt)]
    stock: i64,
    #[diesel(sql_type = BigInt)]
    points: i64,
}

/// The columns of [`STORE`].
#[derive(Default)]
struct NewRows<'a> {
    moves: Moves,
    orders: Vec<&'a NewOrder>,
    items: Items<'a>,
}

#[derive(Default)]
struct Items<'a> {
    orders: Vec<i64>,
    products: Vec<i64>,
    names: Vec<&'a str>,
    prices: Vec<i64>,
    quantities: Vec<i32>,
}

pub(crate) async fn store(connection: &AsyncPgConnection, orders: &[NewOrder]) -> Result<(), Failure> {
    let mut rows = NewRows::default();
    let mut coupons = CouponMoves::default();
    let mut keys = KeyMoves::default();
    for new in orders {
        rows.add(new)?;
        if let Some(coupon) = &new.coupon {
            coupons.add(coupon, new.record.payment.id())?;
        }
        if let Some((keyed, answer)) = &new.key {
            keys.add(keyed, new.order.id(), answer.as_ref())?;
        }
    }
    if orders.is_empty() {
        return Ok(());
    }
    let (stored, taken, used) = join!(
        rows.store(connection),
        when(!keys.is_empty(), keys.store(connection)),
        when(!coupons.is_empty(), coupons.store(connection)),
    );
    stored?;
    taken?;
    used
}

impl<'a> NewRows<'a> {
    fn add(&mut self, new: &'a NewOrder) -> Result<(), Failure> {
        let payment_id = new.record.payment.id();
        for item in new.order.items() {
            self.moves.take_stock(payment_id, item.product_id, item.quantity);
            self.items.orders.push(new.order.id().get());
            self.items.products.push(item.product_id.get());
            self.items.names.push(&item.product_name);
            self.items.prices.push(item.unit_price.won());
            self.items.quantities.push(i32::try_from(item.quantity.get()).map_err(Failure::other)?);
        }
        if let Some(entry) = &new.points {
            self.moves.move_points(entry)?;
        }
        self.moves.add_history(payment_id, &new.history);
        self.orders.push(new);
        Ok(())
    }

    async fn store(self, connection: &AsyncPgConnection) -> Result<(), Failure> {
        let expected = self.moves.expected();
        let orders = &self.orders;
        let numbers = |of: fn(&NewOrder) -> i64| orders.iter().map(|new| of(new)).collect::<Vec<_>>();
        let amounts =
            |of: fn(&Payment) -> i64| orders.iter().map(|new| of(&new.record.payment)).collect::<Vec<_>>();
        let texts = |of: fn(&NewOrder) -> Option<&str>| orders.iter().map(|new| of(new)).collect::<Vec<_>>();
        let hashes: Vec<Option<&[u8]>> =
            orders.iter().map(|new| new.callback_token_hash.as_ref().map(<[u8; 32]>::as_slice)).collect();
        let deadlines: Vec<Timestamp> = orders.iter().map(|new| new.record.send_deadline).collect();
        let checks: Vec<Option<Timestamp>> = orders.iter().map(|new| new.check_at).collect();
        let stored: Stored = self
            .moves
            .bind(statement(STORE))
            .numbers(numbers(|new| new.order.id().get()))
            .numbers(amounts(|payment| payment.id().get()))
            .numbers(numbers(|new| new.order.user_id().get()))
            .texts(orders.iter().map(|new| new.order.status().as_str()).collect())
            .numbers(numbers(|new| new.order.total().won()))
            .texts(orders.iter().map(|new| new.record.payment.status().as_str()).collect())
            .numbers(amounts(|payment| payment.amounts().used_point().won()))
            .numbers(amounts(|payment| payment.amounts().coupon_discount().won()))
            .numbers(amounts(|payment| payment.amounts().paid_amount().won()))
            .numbers_or_null(
                orders.iter().map(|new| new.record.issued_coupon_id.map(IssuedCouponId::get)).collect(),
            )
            .texts_or_null(texts(|new| new.record.card.as_ref().map(|card| card.card_type.as_str())))
            .texts_or_null(texts(|new| new.record.card.as_ref().map(|card| card.masked.as_str())))
            .texts(orders.iter().map(|new| new.record.merchant.as_str()).collect())
            .texts(orders.iter().map(|new| new.record.order_ref.as_str()).collect())
            .texts_or_null(texts(|new| new.record.payment.key().map(GatewayKey::as_str)))
            .texts_or_null(texts(|new| failure_message(&new.record.payment)))
            .bind::<Array<Nullable<Binary>>, _>(hashes)
            .bind::<Array<Timestamptz>, _>(deadlines)
            .bind::<Array<Nullable<Timestamptz>>, _>(checks)
            .numbers(self.items.orders)
            .numbers(self.items.products)
            .texts(self.items.names)
            .numbers(self.items.prices)
            .bind::<Array<Integer>, _>(self.items.quantities)
            .row(connection)
            .await?;
        expected.check(stored.stock, stored.points)
    }
}

pub(crate) fn failure_message(payment: &Payment) -> Option<&str> {
    match payment.state() {
        PaymentState::Failed { message, .. } => message.as_ref().map(FailureMessage::as_str),
        PaymentState::Pending | PaymentState::InProgress { .. } | PaymentState::Paid { .. } => None,
    }
}

/// See [`crate::connecting`].
pub(crate) async fn prepare(connection: &AsyncPgConnection) -> Result<(), Failure> {
    let keys = BTreeSet::new();
    keys::try_lock(connection, &keys).await?;
    lock_stock(connection, Vec::new()).await?;
    find_products(connection, Vec::new()).await?;
    points::lock(connection, Vec::new()).await?;
    coupons::find(connection, Vec::new()).await?;
    keys::find(connection, &keys).await?;
    NewRows::default().store(connection).await?;
    KeyMoves::default().store(connection).await?;
    CouponMoves::default().store(connection).await?;
    next_ids(connection, 0).await?;
    Ok(())
}
