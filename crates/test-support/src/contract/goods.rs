//! What operators set.

use super::World;
use super::world::{tick, user, waits_for, won};
use domain::{CouponId, Discount, IssuedCouponStatus, ProductId, Stock};

/// Stock is set to what was counted; an unknown product says so.
pub async fn stock_is_set(world: World) {
    let product = world.product(1000, 5).await;
    for pieces in [9, 0, 9] {
        let tx = world.begin().await;
        assert_eq!(tx.set_stock(product, Stock::new(pieces).unwrap()).await, Ok(true));
        tx.commit().await.unwrap();
        assert_eq!(world.stock(product).await, pieces);
    }
    let tx = world.begin().await;
    let unknown = ProductId::new(1 << 40).unwrap();
    assert_eq!(tx.set_stock(unknown, Stock::new(1).unwrap()).await, Ok(false));
    tx.commit().await.unwrap();
}
/// A buyer has a coupon once; other buyers have their own.
pub async fn a_coupon_is_issued_once(world: World) {
    let tx = world.begin().await;
    let coupon = tx.insert_coupon("c", Discount::rate(15).unwrap(), None).await.unwrap();
    let issued = tx.insert_issued_coupon(coupon.id, user(1)).await.unwrap().unwrap();
    assert_eq!((issued.coupon_id, issued.user_id), (coupon.id, user(1)));
    assert_eq!(issued.status, IssuedCouponStatus::Available);
    assert_eq!(tx.insert_issued_coupon(coupon.id, user(1)).await, Ok(None));
    assert!(tx.insert_issued_coupon(coupon.id, user(2)).await.unwrap().is_some());
    tx.commit().await.unwrap();
    let tx = world.begin().await;
    assert_eq!(tx.insert_issued_coupon(coupon.id, user(1)).await, Ok(None));
    tx.commit().await.unwrap();
}

/// Two at once: the second waits and gets none.
pub async fn one_coupon_at_once_is_issued_once(world: World) {
    let tx = world.begin().await;
    let coupon = tx.insert_coupon("c", Discount::fixed(won(1)).unwrap(), None).await.unwrap();
    tx.commit().await.unwrap();
    let (one, two) = (world.begin().await, world.begin().await);
    assert!(one.insert_issued_coupon(coupon.id, user(1)).await.unwrap().is_some());
    let (second, _) = waits_for(two.insert_issued_coupon(coupon.id, user(1)), one.commit()).await;
    assert_eq!(second, Ok(None));
    two.commit().await.unwrap();
}

/// A coupon is read back with its terms.
pub async fn coupons_are_found(world: World) {
    let tx = world.begin().await;
    let until = tx.now() + time::Duration::days(1);
    let fixed = tx.insert_coupon("정액", Discount::fixed(won(500)).unwrap(), Some(until)).await.unwrap();
    let rate = tx.insert_coupon("정률", Discount::rate(15).unwrap(), None).await.unwrap();
    tx.commit().await.unwrap();
    tick().await;
    let tx = world.begin().await;
    let found = tx.find_coupon(fixed.id).await.unwrap().unwrap();
    assert_eq!(found, fixed);
    assert_eq!((found.name.as_str(), found.valid_until), ("정액", Some(until)));
    assert_eq!(tx.find_coupon(rate.id).await, Ok(Some(rate)));
    assert_eq!(tx.find_coupon(CouponId::new(1 << 40).unwrap()).await, Ok(None));
    tx.rollback().await;
}
