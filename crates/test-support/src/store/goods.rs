//! Products and their stock, points, coupons: what operators set, and what orders take and give back.

use super::locks::LockKey;
use super::work::Work;
use super::{
    CouponMove, IssuedCouponRow, PointLedgerRow, ProductRow, StockCause, StockLedgerRow, StockMove, check,
    conflict, other,
};
use domain::ports::{PointEntry, PointEntryKind, StoreError, Versioned};
use domain::{
    Coupon, CouponId, Discount, IssuedCoupon, IssuedCouponId, IssuedCouponStatus, Money, PaymentId,
    PointAccount, ProductId, Quantity, Stock, Timestamp, UserId,
};

fn fits(text: &str, characters: usize) -> Result<(), StoreError> {
    check(text.chars().count() <= characters && !text.contains('\0'), "22001 value too long")
}

pub(super) async fn insert_product(
    work: &mut Work,
    name: &str,
    price: Money,
    stock: Stock,
) -> Result<ProductId, StoreError> {
    fits(name, 200)?;
    check(!price.is_negative(), "product_price_check")?;
    let id = ProductId::new(work.shared.products.next()).map_err(|error| other(&error.to_string()))?;
    work.lock(LockKey::Stock(id)).await?;
    work.changes.products.insert(id, ProductRow { name: name.to_owned(), price });
    work.changes.stock.insert(id, stock);
    let cause = StockCause::Initial;
    let row = StockLedgerRow { product_id: id, cause, delta: stock.quantity() };
    work.changes.stock_ledger.insert(work.shared.rows.next(), row);
    Ok(id)
}

pub(super) async fn set_stock(work: &mut Work, id: ProductId, stock: Stock) -> Result<bool, StoreError> {
    let locked = work.lock_rows([id], LockKey::Stock, |tables| &tables.stock, |_| true).await?;
    let Some(before) = locked.get(&id) else { return Ok(false) };
    let delta = stock.quantity() - before.quantity();
    work.changes.stock.insert(id, stock);
    let row = StockLedgerRow { product_id: id, cause: StockCause::Set, delta };
    work.changes.stock_ledger.insert(work.shared.rows.next(), row);
    Ok(true)
}

/// Moves stock for payments, and writes down each movement once.
pub(super) async fn move_stock(
    work: &mut Work,
    direction: StockMove,
    moves: Vec<(PaymentId, ProductId, Quantity)>,
) -> Result<(), StoreError> {
    for (payment_id, product_id, quantity) in moves {
        work.lock(LockKey::Stock(product_id)).await?;
        let stock = work.get(&product_id, |tables| &tables.stock);
        let stock = stock.ok_or_else(|| other("stock_ledger_product_id_fkey"))?;
        let once = (payment_id, product_id, direction);
        if work.get(&once, |tables| &tables.stock_moved).is_some() {
            return Err(conflict("idx_stock_ledger_once"));
        }
        let pieces = i64::from(quantity.get());
        let (after, delta) = match direction {
            StockMove::Reserve => (stock.decrease(pieces), -pieces),
            StockMove::Restore => (stock.increase(pieces), pieces),
        };
        work.changes.stock.insert(product_id, after.map_err(|_| conflict("stock_quantity_check"))?);
        work.changes.stock_moved.insert(once, ());
        let cause = StockCause::Payment(payment_id, direction);
        work.changes
            .stock_ledger
            .insert(work.shared.rows.next(), StockLedgerRow { product_id, cause, delta });
    }
    Ok(())
}

/// A row of its own even for who never had points, so that two first charges wait for each other.
pub(super) async fn lock_points(work: &mut Work, user_id: UserId) -> Result<PointAccount, StoreError> {
    work.lock(LockKey::Points(user_id)).await?;
    let balance = work.get(&user_id, |tables| &tables.points).unwrap_or(Money::ZERO);
    work.changes.points.insert(user_id, balance);
    account(user_id, balance)
}

pub(super) fn account(user_id: UserId, balance: Money) -> Result<PointAccount, StoreError> {
    PointAccount::new(user_id, balance).map_err(|error| StoreError::Corrupt { what: error.to_string() })
}

/// Each entry must start from where the one before left the account: whoever did not lock it loses.
pub(super) async fn save_points(work: &mut Work, entries: &[PointEntry]) -> Result<(), StoreError> {
    for entry in entries {
        let user_id = entry.account.user_id();
        work.lock(LockKey::Points(user_id)).await?;
        let before = work.get(&user_id, |tables| &tables.points);
        let before = before.ok_or_else(|| other("point_ledger_user_id_fkey"))?;
        check(entry.amount.is_positive(), "point_ledger_sign")?;
        let of_payment = entry.kind != PointEntryKind::Charge;
        check(of_payment == entry.payment_id.is_some(), "point_ledger_payment")?;
        let delta = match entry.kind {
            PointEntryKind::Deduct => -entry.amount.won(),
            PointEntryKind::Charge | PointEntryKind::Restore => entry.amount.won(),
        };
        if before.won() + delta != entry.account.balance().won() {
            return Err(conflict("balance of point_account"));
        }
        if let Some(payment_id) = entry.payment_id {
            let once = (payment_id, entry.kind);
            if work.get(&once, |tables| &tables.points_moved).is_some() {
                return Err(conflict("idx_point_ledger_once"));
            }
            work.changes.points_moved.insert(once, ());
        }
        work.changes.points.insert(user_id, entry.account.balance());
        let row = PointLedgerRow { user_id, kind: entry.kind, payment_id: entry.payment_id, delta };
        work.changes.point_ledger.insert(work.shared.rows.next(), row);
    }
    Ok(())
}

/// Stores coupons by their versions, ascending, and writes down each use and each return once.
pub(super) async fn save_coupons(
    work: &mut Work,
    mut coupons: Vec<(PaymentId, Versioned<IssuedCoupon>)>,
) -> Result<(), StoreError> {
    coupons.sort_by_key(|(_, coupon)| coupon.value.id);
    for (payment_id, coupon) in coupons {
        let id = coupon.value.id;
        let locked =
            work.lock_rows([id], LockKey::IssuedCoupon, |tables| &tables.issued_coupons, |_| true).await?;
        // While the row changes, nobody can tell whether the buyer still has the coupon.
        work.lock(LockKey::CouponOfUser(coupon.value.user_id, coupon.value.coupon_id)).await?;
        if locked.get(&id).is_none_or(|row| row.version != coupon.version) {
            return Err(conflict("version of issued_coupon"));
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
    }
    Ok(())
}

pub(super) async fn insert_coupon(
    work: &mut Work,
    name: &str,
    discount: Discount,
    valid_until: Option<Timestamp>,
) -> Result<Coupon, StoreError> {
    fits(name, 200)?;
    let id = CouponId::new(work.shared.coupons.next()).map_err(|error| other(&error.to_string()))?;
    let coupon = Coupon { id, name: name.to_owned(), discount, valid_until };
    work.changes.coupons.insert(id, coupon.clone());
    Ok(coupon)
}

pub(super) async fn insert_issued_coupon(
    work: &mut Work,
    coupon_id: CouponId,
    user_id: UserId,
) -> Result<Option<IssuedCoupon>, StoreError> {
    let known = work.get(&coupon_id, |tables| &tables.coupons).is_some();
    check(known, "issued_coupon_coupon_id_fkey")?;
    // Waits for a transaction that is issuing the same one.
    work.lock(LockKey::CouponOfUser(user_id, coupon_id)).await?;
    if work.get(&(user_id, coupon_id), |tables| &tables.coupon_of_user).is_some() {
        return Ok(None);
    }
    let id =
        IssuedCouponId::new(work.shared.issued_coupons.next()).map_err(|error| other(&error.to_string()))?;
    let issued = IssuedCoupon { id, coupon_id, user_id, status: IssuedCouponStatus::Available };
    work.changes.issued_coupons.insert(id, IssuedCouponRow { issued, version: 0 });
    work.changes.coupon_of_user.insert((user_id, coupon_id), id);
    Ok(Some(issued))
}
