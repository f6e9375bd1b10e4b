//! Settling a batch of payments: what is loaded and locked for it, in one round trip.

use crate::error::{Failure, corrupt};
use crate::points::{self, AccountRow};
use crate::rows::{CheckRow, CouponRow, IssuedCouponRow, ItemRow, OrderRow, PaymentRow, holding};
use crate::schema::{callback_inbox, coupon, issued_coupon, order_item, orders, payment, payment_check};
use crate::statement::{command, statement, when};
use diesel::sql_types::Timestamptz;
use diesel::{
    ExpressionMethods, JoinOnDsl, NullableExpressionMethods, QueryDsl, QueryableByName, SelectableHelper,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{CouponHolding, PaymentRecord, Versioned};
use domain::settlement::{Case, Check, Hint, Settling, SettlingNeeds, Shared};
use domain::{GatewayKey, Order, OrderId, PaymentId, Timestamp};
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

    let (begun, now, payments, checks, orders, items, hints, stock, points, owners, coupons) = join!(
        command(connection, "BEGIN"),
        moment(connection),
        lock_payments(connection, &ids),
        lock_checks(connection, &ids),
        find_orders(connection, &ids),
        find_items(connection, &ids),
        find_hints(connection, &ids),
        when(back, lock_stock(connection, of.clone())),
        when(back, lock_points(connection, of.clone())),
        when(!keys.is_empty(), find_owners(connection, &keys)),
        when(back, find_coupons(connection, &of)),
    );
    begun?;
    let now = now?;
    let payments = payments?;
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
        parts.hints.entry(hint.0).or_default().push(hint);
    }
    let key_owners = owners?.into_iter().filter_map(owner).collect::<Result<_, _>>()?;
    stock?;
    let points = points::accounts(points?)?;
    for (payment_id, issued, coupon) in coupons? {
        parts.coupons.insert(payment_id, holding(issued, coupon)?);
    }
    let mut cases = BTreeMap::new();
    for row in payments {
        let record = PaymentRecord::try_from(row)?;
        if let Some(case) = parts.case(record)? {
            cases.insert(case.record.payment.id(), case);
        }
    }
    let with_goods = goods.into_iter().filter(|id| cases.contains_key(id)).collect();
    Ok(Settling { cases, shared: Shared { now, points, key_owners }, with_goods })
}

type HintRow = (i64, String, Option<i64>);

/// What belongs to payments, by payment or by order.
struct Parts {
    checks: BTreeMap<i64, CheckRow>,
    orders: BTreeMap<i64, OrderRow>,
    items: BTreeMap<i64, Vec<ItemRow>>,
    hints: BTreeMap<i64, Vec<HintRow>>,
    coupons: BTreeMap<i64, Versioned<CouponHolding>>,
}

impl Parts {
    /// None for a payment with nothing on the card.
    fn case(&mut self, record: PaymentRecord) -> Result<Option<Case>, Failure> {
        let id = record.payment.id().get();
        let Some(check) = self.checks.remove(&id) else { return Ok(None) };
        let mut hints = Vec::new();
        for (payment_id, key, lease_id) in self.hints.remove(&id).unwrap_or_default() {
            let key =
                GatewayKey::new(key).map_err(|e| corrupt("callback_inbox of payment", payment_id, e))?;
            hints.push(Hint { key, lease_id });
        }
        hints.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(Some(Case {
            order: self.order(record.payment.order_id())?,
            coupon: self.coupons.remove(&id),
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

/// `FOR NO KEY UPDATE`: others may still add rows that refer to the payment (a callback), but not change it.
async fn lock_payments(mut connection: &AsyncPgConnection, ids: &[i64]) -> Result<Vec<PaymentRow>, Failure> {
    Ok(payment::table
        .filter(payment::id.eq_any(ids))
        .order(payment::id)
        .select(PaymentRow::as_select())
        .for_no_key_update()
        .load(&mut connection)
        .await?)
}

async fn lock_checks(mut connection: &AsyncPgConnection, ids: &[i64]) -> Result<Vec<CheckRow>, Failure> {
    Ok(payment_check::table
        .filter(payment_check::payment_id.eq_any(ids))
        .order(payment_check::payment_id)
        .select(CheckRow::as_select())
        .for_no_key_update()
        .load(&mut connection)
        .await?)
}

async fn find_orders(mut connection: &AsyncPgConnection, ids: &[i64]) -> Result<Vec<OrderRow>, Failure> {
    Ok(payment::table
        .inner_join(orders::table)
        .filter(payment::id.eq_any(ids))
        .select(OrderRow::as_select())
        .load(&mut connection)
        .await?)
}

async fn find_items(mut connection: &AsyncPgConnection, ids: &[i64]) -> Result<Vec<ItemRow>, Failure> {
    Ok(order_item::table
        .inner_join(payment::table.on(payment::order_id.eq(order_item::order_id)))
        .filter(payment::id.eq_any(ids))
        .order((order_item::order_id, order_item::product_id))
        .select(ItemRow::as_select())
        .load(&mut connection)
        .await?)
}

async fn find_hints(mut connection: &AsyncPgConnection, ids: &[i64]) -> Result<Vec<HintRow>, Failure> {
    Ok(callback_inbox::table
        .filter(callback_inbox::payment_id.eq_any(ids))
        .filter(callback_inbox::looked_up_at.is_null())
        .select((callback_inbox::payment_id, callback_inbox::external_payment_key, callback_inbox::lease_id))
        .load(&mut connection)
        .await?)
}

type OwnerRow = (i64, Option<String>);

/// Not locked: who becomes an owner meanwhile is found by the unique index.
async fn find_owners(mut connection: &AsyncPgConnection, keys: &[&str]) -> Result<Vec<OwnerRow>, Failure> {
    Ok(payment::table
        .filter(payment::external_payment_key.eq_any(keys))
        .select((payment::id, payment::external_payment_key))
        .load(&mut connection)
        .await?)
}

fn owner((id, key): OwnerRow) -> Option<Result<(GatewayKey, PaymentId), Failure>> {
    let bad = |error: &dyn std::fmt::Display| Failure::from(corrupt("payment", id, error));
    let key = GatewayKey::new(key?).map_err(|error| bad(&error));
    let owner = PaymentId::new(id).map_err(|error| bad(&error));
    Some(key.and_then(|key| owner.map(|owner| (key, owner))))
}

/// Of orders that may give it back. Their items never change, and their payments are locked by now.
async fn lock_stock(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<usize, Failure> {
    const SQL: &str = "SELECT s.product_id FROM stock s WHERE s.product_id IN (\
            SELECT i.product_id FROM payment p JOIN order_item i ON i.order_id = p.order_id \
            WHERE p.id = ANY($1::bigint[]) AND p.status IN ('PENDING', 'IN_PROGRESS')) \
        ORDER BY s.product_id FOR UPDATE OF s";
    Ok(statement(SQL).numbers(ids).execute(connection).await?)
}

/// Of buyers who may get some back.
async fn lock_points(connection: &AsyncPgConnection, ids: Vec<i64>) -> Result<Vec<AccountRow>, Failure> {
    const SQL: &str = "SELECT a.user_id, a.balance FROM point_account a WHERE a.user_id IN (\
            SELECT p.user_id FROM payment p \
            WHERE p.id = ANY($1::bigint[]) AND p.status IN ('PENDING', 'IN_PROGRESS') AND p.used_point > 0) \
        ORDER BY a.user_id FOR NO KEY UPDATE OF a";
    Ok(statement(SQL).numbers(ids).rows(connection).await?)
}

type UsedRow = (i64, IssuedCouponRow, CouponRow);

async fn find_coupons(mut connection: &AsyncPgConnection, ids: &[i64]) -> Result<Vec<UsedRow>, Failure> {
    Ok(payment::table
        .inner_join(issued_coupon::table.on(payment::issued_coupon_id.eq(issued_coupon::id.nullable())))
        .inner_join(coupon::table.on(issued_coupon::coupon_id.eq(coupon::id)))
        .filter(payment::id.eq_any(ids))
        .select((payment::id, IssuedCouponRow::as_select(), CouponRow::as_select()))
        .load(&mut connection)
        .await?)
}

/// See [`crate::connecting`].
pub(crate) async fn prepare(connection: &AsyncPgConnection) -> Result<(), Failure> {
    moment(connection).await?;
    lock_payments(connection, &[]).await?;
    lock_checks(connection, &[]).await?;
    find_orders(connection, &[]).await?;
    find_items(connection, &[]).await?;
    find_hints(connection, &[]).await?;
    find_owners(connection, &[]).await?;
    lock_stock(connection, Vec::new()).await?;
    lock_points(connection, Vec::new()).await?;
    find_coupons(connection, &[]).await?;
    Ok(())
}
