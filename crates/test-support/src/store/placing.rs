//! What placing orders needs, and what it stores.

use super::locks::LockKey;
use super::tx::{FakeTx, run};
use super::work::Work;
use super::{
    INSTALLATION, IdempotencyRow, OrderRow, PaymentRow, StockMove, check, conflict, goods, other, settling,
};
use crate::clock::later;
use domain::placement::{KeyState, NewOrder, Placing, PlacingNeeds};
use domain::ports::{
    CouponHolding, IdempotencyKey, IdempotencyRecord, KeyedRequest, NewOrderIds, PaymentRecord,
    ProductForSale, StoreError, StoredAnswer, Versioned,
};
use domain::settlement::Check;
use domain::{Money, OrderId, PaymentId, ProductId, Stock, Timestamp, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So long after its send deadline the first request of a key can't be under way any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);

pub(super) async fn open(tx: &FakeTx, orders: &[PlacingNeeds]) -> Result<Placing, StoreError> {
    let keys: BTreeSet<_> = orders.iter().filter_map(|order| Some(order.key.as_ref()?.key.clone())).collect();
    let taking = tx
        .work("tx.take_keys", |work| {
            let mine = |key: &&IdempotencyKey| work.try_lock(&LockKey::TakingKey((*key).clone()));
            Ok(keys.iter().filter(mine).cloned().collect::<BTreeSet<_>>())
        })
        .await?;
    let ids = tx.work("tx.next_order_ids", |work| orders.iter().map(|_| next_ids(work)).collect()).await?;
    let products = run!(tx, "tx.lock_products", self::lock_products(orders))?;
    let points = run!(tx, "tx.lock_points", self::lock_points(orders))?;
    let coupons = tx
        .load("tx.load_coupons", |view| {
            let named = orders.iter().filter_map(|order| order.issued_coupon_id);
            Ok(named.filter_map(|id| Some((id, holding(&view, id)?))).collect())
        })
        .await?;
    let now = tx.moment();
    let keys = tx
        .load("tx.load_keys", |view| {
            let state = |key: IdempotencyKey| {
                let row = view.get(|tables| &tables.idempotency, &key).filter(|row| row.expires_at > now);
                let state = match row {
                    Some(row) => {
                        let id = view.get(|tables| &tables.payment_of_order, &row.order_id);
                        let payment = id.and_then(|id| view.get(|tables| &tables.payments, id));
                        KeyState::Known(idempotency_record(row, payment, now))
                    }
                    None if taking.contains(&key) => KeyState::Free,
                    None => KeyState::BeingTaken,
                };
                (key, state)
            };
            Ok(keys.into_iter().map(state).collect())
        })
        .await?;
    Ok(Placing { now, installation: INSTALLATION.to_owned(), ids, products, points, coupons, keys })
}

fn next_ids(work: &mut Work) -> Result<NewOrderIds, StoreError> {
    let order_id = OrderId::new(work.shared.orders.next());
    let payment_id = PaymentId::new(work.shared.payments.next());
    match (order_id, payment_id) {
        (Ok(order_id), Ok(payment_id)) => Ok(NewOrderIds { order_id, payment_id }),
        (Err(error), _) | (_, Err(error)) => Err(other(&error.to_string())),
    }
}

async fn lock_products(
    work: &mut Work,
    orders: &[PlacingNeeds],
) -> Result<BTreeMap<ProductId, ProductForSale>, StoreError> {
    let ids = orders.iter().flat_map(|order| order.product_ids.iter().copied());
    let stock = work.lock_rows(ids, LockKey::Stock, |tables| &tables.stock, |_| true).await?;
    let product = |(id, stock): (ProductId, Stock)| {
        let row = work.get(&id, |tables| &tables.products)?;
        Some((id, ProductForSale { id, name: row.name, price: row.price, stock }))
    };
    Ok(stock.into_iter().filter_map(product).collect())
}

async fn lock_points(
    work: &mut Work,
    orders: &[PlacingNeeds],
) -> Result<BTreeMap<UserId, domain::PointAccount>, StoreError> {
    let buyers: BTreeSet<UserId> =
        orders.iter().filter(|order| order.points).map(|order| order.user_id).collect();
    let there =
        work.lock_rows(buyers.iter().copied(), LockKey::Points, |tables| &tables.points, |_| true).await?;
    buyers
        .into_iter()
        .map(|id| Ok((id, goods::account(id, there.get(&id).copied().unwrap_or(Money::ZERO))?)))
        .collect()
}

pub(super) fn holding(
    view: &super::work::View<'_>,
    id: domain::IssuedCouponId,
) -> Option<Versioned<CouponHolding>> {
    let row = view.get(|tables| &tables.issued_coupons, &id)?;
    let coupon = view.get(|tables| &tables.coupons, &row.issued.coupon_id)?.clone();
    Some(Versioned { version: row.version, value: CouponHolding { issued: row.issued, coupon } })
}

pub(super) fn idempotency_record(
    row: &IdempotencyRow,
    payment: Option<&PaymentRow>,
    now: Timestamp,
) -> IdempotencyRecord {
    let abandoned = payment.is_none_or(|PaymentRow { record, .. }| {
        record.payment.status().is_terminal() || later(record.send_deadline, ABANDONED_AFTER) < now
    });
    IdempotencyRecord {
        fingerprint: row.fingerprint,
        order_id: row.order_id,
        answer: row.answer.clone(),
        abandoned,
    }
}

pub(super) async fn store(tx: &FakeTx, orders: &[NewOrder]) -> Result<(), StoreError> {
    let id = |new: &NewOrder| new.record.payment.id();
    let items = |new: &NewOrder| {
        let payment_id = id(new);
        new.order.items().iter().map(|item| (payment_id, item.product_id, item.quantity)).collect::<Vec<_>>()
    };
    let taken: Vec<_> = orders.iter().flat_map(items).collect();
    run!(tx, "tx.store_stock", goods::move_stock(StockMove::Reserve, taken))?;
    let points: Vec<_> = orders.iter().filter_map(|new| new.points).collect();
    run!(tx, "tx.store_points", goods::save_points(&points))?;
    let coupons: Vec<_> = orders.iter().filter_map(|new| Some((id(new), new.coupon?))).collect();
    run!(tx, "tx.store_coupons", goods::save_coupons(coupons))?;
    tx.work("tx.store_orders", |work| orders.iter().try_for_each(|new| insert_order(work, new))).await?;
    run!(tx, "tx.store_payments", self::insert_payments(orders))?;
    run!(tx, "tx.store_keys", self::take_keys(orders))
}

fn insert_order(work: &mut Work, new: &NewOrder) -> Result<(), StoreError> {
    let order = &new.order;
    if work.get(&order.id(), |tables| &tables.orders).is_some() {
        return Err(conflict("orders_pkey"));
    }
    let products: BTreeSet<ProductId> = order.items().iter().map(|item| item.product_id).collect();
    if products.len() != order.items().len() {
        return Err(conflict("order_item_pkey"));
    }
    for id in &products {
        check(work.get(id, |tables| &tables.products).is_some(), "order_item_product_id_fkey")?;
    }
    let row = OrderRow { order: order.clone(), version: 0, placed_at: work.now };
    work.changes.orders.insert(order.id(), row);
    Ok(())
}

async fn insert_payments(work: &mut Work, orders: &[NewOrder]) -> Result<(), StoreError> {
    for new in orders {
        let payment = &new.record.payment;
        let (id, order_id) = (payment.id(), payment.order_id());
        work.lock(LockKey::Payment(id)).await?;
        if work.get(&id, |tables| &tables.payments).is_some() {
            return Err(conflict("payment_pkey"));
        }
        check(work.get(&order_id, |tables| &tables.orders).is_some(), "payment_order_id_fkey")?;
        if work.get(&order_id, |tables| &tables.payment_of_order).is_some() {
            return Err(conflict("payment_order_id_key"));
        }
        if let Some(coupon) = new.record.issued_coupon_id {
            let known = work.get(&coupon, |tables| &tables.issued_coupons).is_some();
            check(known, "payment_issued_coupon_id_fkey")?;
        }
        if let Some(hash) = new.callback_token_hash {
            if work.get(&hash, |tables| &tables.payment_of_token).is_some() {
                return Err(conflict("idx_payment_callback_token_hash"));
            }
            work.changes.payment_of_token.insert(hash, id);
        }
        let on_card = payment.amounts().paid_amount().is_positive();
        check(!on_card || new.record.card.is_some(), "payment_card_when_on_card")?;
        settling::take_gateway_key(work, payment).await?;
        let record =
            PaymentRecord { version: 0, created_at: work.now, updated_at: work.now, ..new.record.clone() };
        let row = PaymentRow { record, callback_token_hash: new.callback_token_hash };
        work.changes.payments.insert(id, row);
        work.changes.payment_of_order.insert(order_id, id);
        settling::add_history(work, id, &new.history)?;
        if new.check_at.is_some() {
            work.lock(LockKey::Check(id)).await?;
            work.changes.checks.insert(id, Check { due_at: new.check_at, ..Check::default() });
        }
    }
    Ok(())
}

/// An expired row gives way; one that is alive is a lost race, since whoever opened would have been told of it.
async fn take_keys(work: &mut Work, orders: &[NewOrder]) -> Result<(), StoreError> {
    for new in orders {
        let Some((KeyedRequest { key, fingerprint, retention }, answer)) = &new.key else { continue };
        check((1..=255).contains(&key.key.chars().count()), "22001 value too long")?;
        work.lock(LockKey::Idempotency(key.clone())).await?;
        let alive = |row: &IdempotencyRow| row.expires_at > work.now;
        if work.get(key, |tables| &tables.idempotency).is_some_and(|row| alive(&row)) {
            return Err(conflict("idempotency_key_pkey"));
        }
        let row = IdempotencyRow {
            fingerprint: *fingerprint,
            order_id: new.order.id(),
            answer: answer.clone(),
            expires_at: later(work.now, *retention),
        };
        work.changes.idempotency.insert(key.clone(), row);
    }
    Ok(())
}

pub(super) async fn save_answer(
    work: &mut Work,
    key: &IdempotencyKey,
    answer: &StoredAnswer,
) -> Result<(), StoreError> {
    let open = |row: &IdempotencyRow| row.answer.is_none();
    let keys = [key.clone()];
    let locked = work.lock_rows(keys, LockKey::Idempotency, |tables| &tables.idempotency, open).await?;
    for (key, row) in locked {
        work.changes.idempotency.insert(key, IdempotencyRow { answer: Some(answer.clone()), ..row });
    }
    Ok(())
}
