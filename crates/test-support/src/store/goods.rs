//! Products, coupons, points: what operators set.

use super::locks::LockKey;
use super::{IssuedCouponRow, ProductRow, StockCause, StockLedgerRow, Work, check, other};
use domain::ports::StoreError;
use domain::{
    Coupon, CouponId, Discount, IssuedCoupon, IssuedCouponId, IssuedCouponStatus, Money, ProductId, Stock,
    Timestamp, UserId,
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
    if work.get(&id, |tables| &tables.stock).is_none() {
        return Ok(false);
    }
    work.lock(LockKey::Stock(id)).await?;
    let Some(before) = work.get(&id, |tables| &tables.stock) else { return Ok(false) };
    work.changes.stock.insert(id, stock);
    let delta = stock.quantity() - before.quantity();
    let row = StockLedgerRow { product_id: id, cause: StockCause::Set, delta };
    work.changes.stock_ledger.insert(work.shared.rows.next(), row);
    Ok(true)
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

pub(super) async fn find_coupon(work: &mut Work, id: CouponId) -> Result<Option<Coupon>, StoreError> {
    Ok(work.get(&id, |tables| &tables.coupons))
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
