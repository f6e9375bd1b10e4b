//! What TX1 does, and what TX2 does with goods, points and coupons.

use super::locks::LockKey;
use super::settling::{add_history, check_payment};
use super::{
    CouponMove, IdempotencyRow, IssuedCouponRow, OrderRow, PaymentRow, PointLedgerRow, StockCause,
    StockLedgerRow, Tables, Work, check, conflict, other,
};
use crate::clock::later;
use domain::ports::{
    CouponHolding, IdempotencyClaim, IdempotencyKey, IdempotencyRecord, NewOrderIds, NewPayment,
    PaymentEvent, PaymentRecord, PointEntry, PointEntryKind, ProductForSale, StockEntry, StockEntryKind,
    StoreError, StoredAnswer, Versioned,
};
use domain::{
    IssuedCoupon, IssuedCouponId, IssuedCouponStatus, Money, Order, OrderId, PaymentId, PointAccount,
    ProductId, StockError, Timestamp, UserId,
};

pub(super) async fn next_order_ids(work: &mut Work) -> Result<NewOrderIds, StoreError> {
    let order_id = OrderId::new(work.shared.orders.next());
    let payment_id = PaymentId::new(work.shared.payments.next());
    match (order_id, payment_id) {
        (Ok(order_id), Ok(payment_id)) => Ok(NewOrderIds { order_id, payment_id }),
        (Err(error), _) | (_, Err(error)) => Err(other(&error.to_string())),
    }
}

pub(super) async fn lock_products(
    work: &mut Work,
    ids: &[ProductId],
) -> Result<Vec<ProductForSale>, StoreError> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut products = Vec::with_capacity(ids.len());
    for id in ids {
        // What does not exist can't be locked.
        if work.get(&id, |tables| &tables.stock).is_none() {
            continue;
        }
        work.lock(LockKey::Stock(id)).await?;
        let stock = work.get(&id, |tables| &tables.stock);
        let product = work.get(&id, |tables| &tables.products);
        if let (Some(stock), Some(product)) = (stock, product) {
            products.push(ProductForSale { id, name: product.name, price: product.price, stock });
        }
    }
    Ok(products)
}

pub(super) async fn move_stock(work: &mut Work, entries: &[StockEntry]) -> Result<(), StoreError> {
    for entry in entries {
        work.lock(LockKey::Stock(entry.product_id)).await?;
        let Some(stock) = work.get(&entry.product_id, |tables| &tables.stock) else {
            return Err(other("stock_ledger_product_id_fkey"));
        };
        let once = (entry.payment_id, entry.product_id, entry.kind);
        if work.get(&once, |tables| &tables.stock_moved).is_some() {
            return Err(conflict("idx_stock_ledger_once"));
        }
        let pieces = i64::from(entry.quantity.get());
        let (after, delta) = match entry.kind {
            StockEntryKind::Reserve => (stock.decrease(pieces), -pieces),
            StockEntryKind::Restore => (stock.increase(pieces), pieces),
        };
        let after = after.map_err(|error| match error {
            StockError::OutOfStock => conflict("stock_quantity_check"),
            StockError::OutOfRange | StockError::DecreaseNotPositive | StockError::IncreaseNotPositive => {
                other("stock_quantity_check")
            }
        })?;
        work.changes.stock.insert(entry.product_id, after);
        work.changes.stock_moved.insert(once, ());
        let cause = StockCause::Payment(entry.payment_id, entry.kind);
        let row = StockLedgerRow { product_id: entry.product_id, cause, delta };
        work.changes.stock_ledger.insert(work.shared.rows.next(), row);
    }
    Ok(())
}

pub(super) async fn lock_points(work: &mut Work, user_id: UserId) -> Result<PointAccount, StoreError> {
    work.lock(LockKey::Points(user_id)).await?;
    let balance = work.get(&user_id, |tables| &tables.points).unwrap_or(Money::ZERO);
    work.changes.points.insert(user_id, balance);
    PointAccount::new(user_id, balance).map_err(|error| StoreError::Corrupt { what: error.to_string() })
}

pub(super) async fn save_points(work: &mut Work, entry: &PointEntry) -> Result<(), StoreError> {
    let user_id = entry.account.user_id();
    work.lock(LockKey::Points(user_id)).await?;
    check(work.get(&user_id, |tables| &tables.points).is_some(), "point_ledger_user_id_fkey")?;
    check(entry.amount.is_positive(), "point_ledger_sign")?;
    let of_payment = entry.kind != PointEntryKind::Charge;
    check(of_payment == entry.payment_id.is_some(), "point_ledger_payment")?;
    if let Some(payment_id) = entry.payment_id {
        let once = (payment_id, entry.kind);
        if work.get(&once, |tables| &tables.points_moved).is_some() {
            return Err(conflict("idx_point_ledger_once"));
        }
        work.changes.points_moved.insert(once, ());
    }
    let delta = match entry.kind {
        PointEntryKind::Deduct => -entry.amount.won(),
        PointEntryKind::Charge | PointEntryKind::Restore => entry.amount.won(),
    };
    work.changes.points.insert(user_id, entry.account.balance());
    let row = PointLedgerRow { user_id, kind: entry.kind, payment_id: entry.payment_id, delta };
    work.changes.point_ledger.insert(work.shared.rows.next(), row);
    Ok(())
}

pub(super) async fn find_coupon_holding(
    work: &mut Work,
    id: IssuedCouponId,
) -> Result<Option<Versioned<CouponHolding>>, StoreError> {
    let Some(row) = work.get(&id, |tables| &tables.issued_coupons) else { return Ok(None) };
    let coupon = work.get(&row.issued.coupon_id, |tables| &tables.coupons);
    Ok(coupon.map(|coupon| Versioned {
        version: row.version,
        value: CouponHolding { issued: row.issued, coupon },
    }))
}

pub(super) async fn save_issued_coupon(
    work: &mut Work,
    coupon: &Versioned<IssuedCoupon>,
    payment_id: PaymentId,
) -> Result<(), StoreError> {
    let id = coupon.value.id;
    work.lock(LockKey::IssuedCoupon(id)).await?;
    match work.get(&id, |tables| &tables.issued_coupons) {
        Some(row) if row.version == coupon.version => {}
        Some(_) | None => return Err(conflict("version of issued_coupon")),
    }
    let step = match coupon.value.status {
        IssuedCouponStatus::Used { .. } => CouponMove::Use,
        IssuedCouponStatus::Available => CouponMove::CancelUse,
    };
    let once = (payment_id, id, step);
    if work.get(&once, |tables| &tables.coupon_ledger).is_some() {
        return Err(conflict("idx_coupon_ledger_once"));
    }
    work.changes.coupon_ledger.insert(once, work.now);
    let row = IssuedCouponRow { issued: coupon.value, version: coupon.version + 1 };
    work.changes.issued_coupons.insert(id, row);
    Ok(())
}

pub(super) async fn insert_order(work: &mut Work, order: &Order) -> Result<(), StoreError> {
    work.lock(LockKey::Order(order.id())).await?;
    if work.get(&order.id(), |tables| &tables.orders).is_some() {
        return Err(conflict("orders_pkey"));
    }
    let mut products: Vec<ProductId> = order.items().iter().map(|item| item.product_id).collect();
    for id in &products {
        check(work.get(id, |tables| &tables.products).is_some(), "order_item_product_id_fkey")?;
    }
    products.sort_unstable();
    products.dedup();
    if products.len() != order.items().len() {
        return Err(conflict("order_item_pkey"));
    }
    let row = OrderRow { order: order.clone(), version: 0, placed_at: work.now };
    work.changes.orders.insert(order.id(), row);
    Ok(())
}

pub(super) async fn insert_payment(
    work: &mut Work,
    new: &NewPayment,
    history: &[PaymentEvent],
) -> Result<(), StoreError> {
    let id = new.payment.id();
    let order_id = new.payment.order_id();
    work.lock(LockKey::Payment(id)).await?;
    if work.get(&id, |tables| &tables.payments).is_some() {
        return Err(conflict("payment_pkey"));
    }
    check(work.get(&order_id, |tables| &tables.orders).is_some(), "payment_order_id_fkey")?;
    if work.get(&order_id, |tables| &tables.payment_of_order).is_some() {
        return Err(conflict("payment_order_id_key"));
    }
    if let Some(coupon) = new.issued_coupon_id {
        let known = work.get(&coupon, |tables| &tables.issued_coupons).is_some();
        check(known, "payment_issued_coupon_id_fkey")?;
    }
    if let Some(hash) = new.callback_token_hash {
        if work.get(&hash, |tables| &tables.payment_of_token).is_some() {
            return Err(conflict("idx_payment_callback_token_hash"));
        }
        work.changes.payment_of_token.insert(hash, id);
    }
    let on_card = new.payment.amounts().paid_amount().is_positive();
    check(!on_card || new.card.is_some(), "payment_card_when_on_card")?;
    check_payment(work, &new.payment).await?;
    let record = PaymentRecord {
        payment: Versioned { version: 0, value: new.payment.clone() },
        issued_coupon_id: new.issued_coupon_id,
        card: new.card.clone(),
        merchant: new.merchant.clone(),
        created_at: work.now,
        updated_at: work.now,
        send_deadline: later(work.now, new.send_within),
        watch_wanted: false,
    };
    let row = PaymentRow { record, callback_token_hash: new.callback_token_hash };
    work.changes.payments.insert(id, row);
    work.changes.payment_of_order.insert(order_id, id);
    add_history(work, id, history)
}

pub(super) async fn claim_idempotency(
    work: &mut Work,
    claim: &IdempotencyClaim,
) -> Result<Option<IdempotencyRecord>, StoreError> {
    let length = claim.key.key.chars().count();
    check((1..=255).contains(&length), "22001 value too long")?;
    // Waits for a transaction that is taking the same key.
    work.lock(LockKey::Idempotency(claim.key.clone())).await?;
    if let Some(row) = work.get(&claim.key, |tables| &tables.idempotency)
        && row.expires_at > work.now
    {
        let own = work.changes.payment_of(row.order_id).cloned();
        let state = work.shared.state();
        let payment = own.as_ref().or_else(|| state.tables.payment_of(row.order_id));
        return Ok(Some(idempotency_record(&row, payment, work.now)));
    }
    let row = IdempotencyRow {
        fingerprint: claim.fingerprint,
        order_id: claim.order_id,
        answer: None,
        expires_at: later(work.now, claim.retention),
    };
    work.changes.idempotency.insert(claim.key.clone(), row);
    Ok(None)
}

pub(super) fn idempotency_record(
    row: &IdempotencyRow,
    payment: Option<&PaymentRow>,
    now: Timestamp,
) -> IdempotencyRecord {
    IdempotencyRecord {
        fingerprint: row.fingerprint,
        order_id: row.order_id,
        answer: row.answer.clone(),
        abandoned: row.answer.is_none() && payment.is_some_and(|row| row.record.send_deadline <= now),
    }
}

pub(super) async fn save_idempotent_answer(
    work: &mut Work,
    key: &IdempotencyKey,
    answer: &StoredAnswer,
) -> Result<(), StoreError> {
    work.lock(LockKey::Idempotency(key.clone())).await?;
    if let Some(mut row) = work.get(key, |tables: &Tables| &tables.idempotency)
        && row.answer.is_none()
    {
        row.answer = Some(answer.clone());
        work.changes.idempotency.insert(key.clone(), row);
    }
    Ok(())
}
