//! Settling a batch of payments: what is loaded and locked for it, in one round trip.

use crate::coupons;
use crate::error::{Failure, corrupt};
use crate::points::{self, AccountRow};
use crate::rows::{CheckRow, ItemRow, OrderRow, PaymentRow, payment_columns};
use crate::statement::{command, statement, when};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;
use domain::ports::{CouponHolding, PaymentRecord, StoreError, Versioned};
use domain::settlement::{Case, Check, Hint, Settling, SettlingNeeds, Shared};
use domain::{GatewayKey, IssuedCouponId, Order, OrderId, PaymentId, Timestamp};
use futures_util::join;
use std::collections::{BTreeMap, BTreeSet};

/// Everything leaves in the order in which it stands in `join!`: what is read stands behind the locks that protect it.
/// (A payment's lock covers its order and its hints, too: the check row is locked by whoever writes a hint.)
pub(crate) async fn open(
    connection: &AsyncPgConnection,
    needs: &[SettlingNeeds],
) -> Result<Settling, Failure> {
    let ids: BTreeSet<i64> = needs.iter().map(|need| need.payment_id.get()).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let goods: BTreeSet<PaymentId> =
        needs.iter().filter(|need| need.goods).map(|need| need.payment_id).collect();
    let of: Vec<i64> = goods.iter().map(|id| id.get()).collect();
    let keys: BTreeSet<&str> = needs.iter().flat_map(|need| &need.keys).map(GatewayKey::as_str).collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    let back = !goods.is_empty();

    let (begun, payments, checks, orders, items, hints, stock, points, owners, coupons) = join!(
        command(connection, "BEGIN"),
        lock_payments(connection, ids.clone()),
        lock_checks(connection, ids.clone()),
        find_orders(connection, ids.clone()),
        find_items(connection, ids.clone()),
        find_hints(connection, ids.clone()),
        when(back, lock_stock(connection, of.clone())),
        when(back, lock_points(connection, of.clone())),
        when(!keys.is_empty(), find_owners(connection, keys.clone())),
        when(back, coupons::find_used(connection, of.clone())),
    );
    begun?;
    let payments = payments?;
    let now = match payments.first() {
        Some(locked) => locked.moment,
        None => moment(connection).await?,
    };
    let mut parts = Parts {
        checks: checks?.into_iter().map(|row| (row.payment_id, row)).collect(),
        orders: orders?.into_iter().map(|row| (row.id, row)).collect(),
        items: BTreeMap::new(),
        hints: BTreeMap::new(),
        coupons: BTreeMap::new(),
    };
    for item in items? {
        parts.items.entry(item.order_id).or_default().push(item);
    }
    for hint in hints? {
        parts.hints.entry(hint.payment_id).or_default().push(hint);
    }
    let key_owners = owners?.into_iter().map(OwnerRow::into_owner).collect::<Result<_, _>>()?;
    stock?;
    let points = points::accounts(points?)?;
    parts.coupons = coupons::by_id(coupons?)?;
    let mut cases = BTreeMap::new();
    for row in payments {
        let record = PaymentRecord::try_from(row.payment)?;
        let asked = goods.contains(&record.payment.id());
        if let Some(case) = parts.case(record, asked)? {
            cases.insert(case.record.payment.id(), case);
        }
    }
    let with_goods = goods.into_iter().filter(|id| cases.contains_key(id)).collect();
    Ok(Settling { cases, shared: Shared { now, points, key_owners }, with_goods })
}

/// What belongs to payments, by payment or by order.
struct Parts {
    checks: BTreeMap<i64, CheckRow>,
    orders: BTreeMap<i64, OrderRow>,
    items: BTreeMap<i64, Vec<ItemRow>>,
    hints: BTreeMap<i64, Vec<HintRow>>,
    coupons: BTreeMap<IssuedCouponId, Versioned<CouponHolding>>,
}

impl Parts {
    /// None for a payment with nothing on the card. `goods`: they were asked for.
    fn case(&mut self, record: PaymentRecord, goods: bool) -> Result<Option<Case>, Failure> {
        let id = record.payment.id().get();
        let Some(check) = self.checks.remove(&id) else { return Ok(None) };
        let mut hints = Vec::new();
        for HintRow { payment_id, external_payment_key, lease_id } in
            self.hints.remove(&id).unwrap_or_default()
        {
            let key = GatewayKey::new(external_payment_key)
                .map_err(|error| corrupt("callback_inbox of payment", payment_id, error))?;
            hints.push(Hint { key, lease_id });
        }
        hints.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(Some(Case {
            order: self.order(record.payment.order_id())?,
            // A coupon that one payment gave back may be used by another one of the batch.
            coupon: record.issued_coupon_id.filter(|_| goods).and_then(|id| self.coupons.get(&id)).cloned(),
            check: Check::try_from(check)?,
            hints,
            record,
        }))
    }

    fn order(&mut self, id: OrderId) -> Result<Versioned<Order>, Failure> {
        let row = self.orders.remove(&id.get()).ok_or_else(|| corrupt("orders", id, "missing"))?;
        Ok(row.into_order(self.items.remove(&id.get()).unwrap_or_default())?)
    }
}

#[derive(QueryableByName)]
struct Moment {
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
}

/// The transaction's.
pub(crate) async fn moment(connection: &AsyncPgConnection) -> Result<Timestamp, Failure> {
    let moment: Moment = statement("SELECT now() AS at").row(connection).await?;
    Ok(moment.at)
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Timestamptz)]
    moment: Timestamp,
    #[diesel(embed)]
    payment: PaymentRow,
}

/// `FOR NO KEY UPDATE`: others may still add rows that refer to the payment (a callback), but not change it.
async fn lock_payments(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<Locked>, Failure> {
    const SQL: &str = concat!(
        "SELECT now() AS moment, ",
        payment_columns!(),
        " FROM payment p WHERE p.id = ANY($1::bigint[]) ORDER BY p.id FOR NO KEY UPDATE"
    );
    Ok(statement(SQL).numbers(ids).rows(connection).await?)
}

async fn lock_checks(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<CheckRow>, Failure> {
    const SQL: &str = "SELECT payment_id, due_at, lease_id, leased_until, claimed_at, woken_at, failures, parked_at, \
            transaction_seen, not_found_count, not_found_at, watch_wanted, watch_step \
        FROM payment_check WHERE payment_id = ANY($1::bigint[]) ORDER BY payment_id FOR NO KEY UPDATE";
    Ok(statement(SQL).numbers(ids).rows(connection).await?)
}

async fn find_orders(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<OrderRow>, Failure> {
    const SQL: &str = "SELECT id, user_id, status, total_amount, version, placed_at FROM orders \
        WHERE id = ANY(ARRAY(SELECT p.order_id FROM payment p WHERE p.id = ANY($1::bigint[])))";
    Ok(statement(SQL).numbers(ids).rows(connection).await?)
}

async fn find_items(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<ItemRow>, Failure> {
    const SQL: &str = "SELECT order_id, product_id, product_name, unit_price, quantity FROM order_item \
        WHERE order_id = ANY(ARRAY(SELECT p.order_id FROM payment p WHERE p.id = ANY($1::bigint[]))) \
        ORDER BY order_id, product_id";
    Ok(statement(SQL).numbers(ids).rows(connection).await?)
}

#[derive(QueryableByName)]
struct HintRow {
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
    #[diesel(sql_type = Text)]
    external_payment_key: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    lease_id: Option<i64>,
}

async fn find_hints(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<HintRow>, Failure> {
    const SQL: &str = "SELECT payment_id, external_payment_key, lease_id FROM callback_inbox \
        WHERE payment_id = ANY($1::bigint[]) AND looked_up_at IS NULL";
    Ok(statement(SQL).numbers(ids).rows(connection).await?)
}

#[derive(QueryableByName)]
struct OwnerRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    external_payment_key: String,
}

/// Not locked: who becomes an owner meanwhile is found by the unique index.
async fn find_owners(connection: &AsyncPgConnection, keys: Vec<&str>) -> Result<Vec<OwnerRow>, Failure> {
    const SQL: &str = "SELECT id, external_payment_key FROM payment \
        WHERE external_payment_key IS NOT NULL AND external_payment_key = ANY($1::text[])";
    Ok(statement(SQL).texts(keys).rows(connection).await?)
}

impl OwnerRow {
    fn into_owner(self) -> Result<(GatewayKey, PaymentId), StoreError> {
        let key = GatewayKey::new(self.external_payment_key);
        let key = key.map_err(|error| corrupt("payment", self.id, error))?;
        let owner = PaymentId::new(self.id).map_err(|error| corrupt("payment", self.id, error))?;
        Ok((key, owner))
    }
}

/// Of orders that may give it back. Their items never change, and their payments are locked by now.
async fn lock_stock(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<usize, Failure> {
    const SQL: &str = "SELECT product_id FROM stock WHERE product_id = ANY(ARRAY(\
            SELECT i.product_id FROM order_item i WHERE i.order_id = ANY(ARRAY(\
                SELECT p.order_id FROM payment p \
                WHERE p.id = ANY($1::bigint[]) AND p.status IN ('PENDING', 'IN_PROGRESS'))))) \
        ORDER BY product_id FOR UPDATE";
    Ok(statement(SQL).numbers(ids).execute(connection).await?)
}

/// Of buyers who may get some back.
async fn lock_points(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<AccountRow>, Failure> {
    const SQL: &str = "SELECT user_id, balance FROM point_account WHERE user_id = ANY(ARRAY(\
            SELECT p.user_id FROM payment p \
            WHERE p.id = ANY($1::bigint[]) AND p.status IN ('PENDING', 'IN_PROGRESS') AND p.used_point > 0)) \
        ORDER BY user_id FOR NO KEY UPDATE";
    Ok(statement(SQL).numbers(ids).rows(connection).await?)
}

/// See [`crate::connecting`].
pub(crate) async fn prepare(connection: &AsyncPgConnection) -> Result<(), Failure> {
    moment(connection).await?;
    lock_payments(connection, Vec::new()).await?;
    lock_checks(connection, Vec::new()).await?;
    find_orders(connection, Vec::new()).await?;
    find_items(connection, Vec::new()).await?;
    find_hints(connection, Vec::new()).await?;
    find_owners(connection, Vec::new()).await?;
    lock_stock(connection, Vec::new()).await?;
    lock_points(connection, Vec::new()).await?;
    coupons::find_used(connection, Vec::new()).await?;
    Ok(())
}
