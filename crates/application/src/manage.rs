//! What needs one transaction and no gateway: points, coupons, goods and the ledger.

use crate::{Io, Tx};
use domain::ports::{DiscrepancyView, PointEntry, PointEntryKind, StoreError};
use domain::{
    Coupon, CouponId, Discount, DiscrepancyId, IssuedCoupon, Money, PointAccount, PointError, ProductId,
    Stock, Timestamp, UserId,
};
use std::pin::Pin;

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// The points' own rules.
    #[error(transparent)]
    Point(#[from] PointError),
    /// There is no such thing.
    #[error("there is no such thing")]
    NotFound,
    /// It is there already: the buyer has this coupon, or the row was resolved before.
    #[error("it is there already")]
    AlreadyExists,
    /// The store.
    #[error("could not store a change")]
    Store(#[from] StoreError),
}

type Work<'w, T> = Pin<Box<dyn Future<Output = Result<T, ManageError>> + Send + 'w>>;

/// One transaction around `work`; a lost race is tried again, twice at most.
async fn in_transaction<T>(
    io: &mut Io,
    name: &'static str,
    work: impl for<'w> Fn(&'w Tx<'_>) -> Work<'w, T>,
) -> Result<T, ManageError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let tx = io.begin(name).await?;
        let done = work(&tx).await;
        let done = tx.finish(done).await;
        if tries >= 3 || !matches!(done, Err(ManageError::Store(StoreError::Conflict { .. }))) {
            return done;
        }
        crate::place_order::tried_again(name, "conflict");
    }
}

/// Adds points to a buyer's account.
///
/// # Errors
/// [`ManageError::Point`], [`ManageError::Store`].
pub async fn charge_points(io: &mut Io, user_id: UserId, amount: Money) -> Result<PointAccount, ManageError> {
    in_transaction(io, "charge_points", |tx| {
        Box::pin(async move {
            let account = tx.lock_points(user_id).await?.charge(amount)?;
            let kind = PointEntryKind::Charge;
            tx.save_points(&PointEntry { account, kind, amount, payment_id: None }).await?;
            Ok(account)
        })
    })
    .await
}

/// Issues a coupon to a buyer, once.
///
/// # Errors
/// [`ManageError::NotFound`], [`ManageError::AlreadyExists`], [`ManageError::Store`].
pub async fn issue_coupon(
    io: &mut Io,
    coupon_id: CouponId,
    user_id: UserId,
) -> Result<(IssuedCoupon, Coupon), ManageError> {
    in_transaction(io, "issue_coupon", |tx| {
        Box::pin(async move {
            let coupon = tx.find_coupon(coupon_id).await?.ok_or(ManageError::NotFound)?;
            let issued = tx.insert_issued_coupon(coupon_id, user_id).await?;
            Ok((issued.ok_or(ManageError::AlreadyExists)?, coupon))
        })
    })
    .await
}

/// Adds a product.
///
/// # Errors
/// [`ManageError::Store`].
pub async fn create_product(
    io: &mut Io,
    name: &str,
    price: Money,
    stock: Stock,
) -> Result<ProductId, ManageError> {
    let name = name.to_owned();
    in_transaction(io, "create_product", move |tx| {
        let name = name.clone();
        Box::pin(async move { Ok(tx.insert_product(&name, price, stock).await?) })
    })
    .await
}

/// Sets a product's stock to what was counted.
///
/// # Errors
/// [`ManageError::NotFound`], [`ManageError::Store`].
pub async fn set_stock(io: &mut Io, id: ProductId, stock: Stock) -> Result<(), ManageError> {
    in_transaction(io, "set_stock", |tx| {
        Box::pin(
            async move { if tx.set_stock(id, stock).await? { Ok(()) } else { Err(ManageError::NotFound) } },
        )
    })
    .await
}

/// Adds a coupon.
///
/// # Errors
/// [`ManageError::Store`].
pub async fn create_coupon(
    io: &mut Io,
    name: &str,
    discount: Discount,
    valid_until: Option<Timestamp>,
) -> Result<Coupon, ManageError> {
    let name = name.to_owned();
    in_transaction(io, "create_coupon", move |tx| {
        let name = name.clone();
        Box::pin(async move { Ok(tx.insert_coupon(&name, discount, valid_until).await?) })
    })
    .await
}

/// Closes a row of the discrepancy ledger.
///
/// # Errors
/// [`ManageError::NotFound`]; [`ManageError::AlreadyExists`] when it was closed before; [`ManageError::Store`].
pub async fn resolve_discrepancy(
    io: &mut Io,
    id: DiscrepancyId,
    resolution: &str,
    note: &str,
    actor: &str,
) -> Result<DiscrepancyView, ManageError> {
    let texts = [resolution.to_owned(), note.to_owned(), actor.to_owned()];
    in_transaction(io, "resolve_discrepancy", move |tx| {
        let [resolution, note, actor] = texts.clone();
        Box::pin(async move {
            match tx.resolve_discrepancy(id, &resolution, &note, &actor).await? {
                Some(true) => Ok(()),
                Some(false) => Err(ManageError::AlreadyExists),
                None => Err(ManageError::NotFound),
            }
        })
    })
    .await?;
    tracing::info!(discrepancy_id = %id, actor, resolution, "discrepancy resolved");
    io.queries().discrepancy(id).await?.ok_or(ManageError::NotFound)
}
