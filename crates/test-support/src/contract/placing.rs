//! What placing orders loads and stores.

use super::World;
use super::world::{Ask, HOUR, Placed, decided, tick, user, waits_for, won};
use domain::placement::{NewOrder, PlacingNeeds};
use domain::ports::{NewOrderIds, PointEntry, PointEntryKind, StoreError, Versioned};
use domain::{
    Discount, IssuedCoupon, IssuedCouponId, IssuedCouponStatus, OrderStatus, PaymentStatus, ProductId,
};
use std::collections::BTreeSet;

/// Everything that was written is read back as it was.
pub async fn an_order_is_there_as_it_was_placed(world: World) {
    let product = world.product(1000, 10).await;
    let ask = Ask { lines: vec![(product, 2)], send_within: HOUR, check_in: HOUR / 2, ..Ask::of(product) };
    let (tx, mut placing) = world.open_placing(std::slice::from_ref(&ask)).await;
    let order = decided(&mut placing, 0, &ask);
    tx.store_orders(std::slice::from_ref(&order)).await.unwrap();
    tx.commit().await.unwrap();
    let placed = Placed { order_id: order.order.id(), payment_id: order.record.payment.id() };
    let view = world.ports.queries.order(Some(user(1)), placed.order_id).await.unwrap().unwrap();
    assert_eq!((view.order, view.payment), (order.order, order.record.clone()));
    assert_eq!(view.placed_at, placing.now);
    let payment = world.view(placed).await;
    assert_eq!(payment.record, order.record);
    assert_eq!((payment.history.len(), payment.parked), (1, false));
    assert_eq!(payment.next_check_at, order.check_at);
    assert_eq!(world.stock(product).await, 8);
    assert_eq!(world.case(placed).await.check.due_at, order.check_at);
}

/// A batch brings each thing once, whoever needs it; what does not exist is left out.
pub async fn a_batch_is_loaded_at_once(world: World) {
    let (a, b) = (world.product(1, 1).await, world.product(2, 2).await);
    world.charge_points(user(1), 50).await;
    let (unknown, nobody) = (ProductId::new(1 << 40).unwrap(), user(9));
    let issued = coupon(&world).await;
    let need = |user_id, product_ids: &[ProductId], points, issued_coupon_id| PlacingNeeds {
        user_id,
        product_ids: product_ids.to_vec(),
        points,
        issued_coupon_id,
        key: None,
    };
    let needs = [
        need(user(1), &[b], true, Some(issued.id)),
        need(nobody, &[a, b, unknown], true, Some(IssuedCouponId::new(1 << 40).unwrap())),
        need(user(2), &[], false, None),
        need(user(1), &[a], true, Some(issued.id)),
    ];
    let (tx, placing) = world.ports.store.open_placing(&needs).await.unwrap();
    tx.rollback().await;
    assert_eq!(placing.ids.len(), 4);
    assert_eq!(placing.products.keys().copied().collect::<Vec<_>>(), [a, b]);
    let product = &placing.products[&b];
    assert_eq!((product.id, product.price, product.stock.quantity()), (b, won(2), 2));
    let balances: Vec<_> = placing.points.iter().map(|(id, account)| (*id, account.balance())).collect();
    assert_eq!(balances, [(user(1), won(50)), (nobody, won(0))]);
    assert!(placing.points.iter().all(|(id, account)| account.user_id() == *id));
    assert_eq!(placing.coupons.keys().copied().collect::<Vec<_>>(), [issued.id]);
    let holding = &placing.coupons[&issued.id];
    assert_eq!((holding.version, holding.value.issued, &*holding.value.coupon.name), (0, issued, "c"));
    assert!(placing.keys.is_empty());
    assert!((1..=16).contains(&placing.installation.len()));
    // One database has one name.
    let (tx, again) = world.open_placing(&[]).await;
    tx.rollback().await;
    assert_eq!(again.installation, placing.installation);
}

/// Several orders of one buyer for one product: each takes from what the one before left, and all of it is stored.
pub async fn a_batch_stores_what_each_takes(world: World) {
    let (a, b) = (world.product(1000, 10).await, world.product(500, 10).await);
    world.charge_points(user(1), 2000).await;
    let asks = [
        Ask { lines: vec![(a, 3), (b, 1)], points: 700, ..Ask::of(a) },
        Ask { lines: vec![(a, 2)], points: 300, ..Ask::of(a) },
        Ask { user: user(2), lines: vec![(a, 1), (b, 2)], ..Ask::of(a) },
        // Nothing is left for the card.
        Ask { lines: vec![(b, 2)], points: 1000, ..Ask::of(b) },
    ];
    let placed = world.place_all(&asks).await;
    assert_eq!((world.stock(a).await, world.stock(b).await), (4, 5));
    assert_eq!(world.points(user(1)).await, 0);
    let amounts = async |at: usize| world.record(placed[at]).await.payment.amounts().paid_amount();
    assert_eq!((amounts(0).await, amounts(1).await, amounts(2).await), (won(2800), won(1700), won(2000)));
    let view = world.ports.queries.order(None, placed[3].order_id).await.unwrap().unwrap();
    assert_eq!(
        (view.order.status(), view.payment.payment.status()),
        (OrderStatus::Paid, PaymentStatus::Paid)
    );
    assert_eq!(view.payment.card, None);
    assert_eq!(world.view(placed[3]).await.next_check_at, None);
}

/// The store takes what it is told, or nothing: a batch of which one order can't be stored leaves nothing of the others.
pub async fn a_batch_is_stored_whole_or_not_at_all(world: World) {
    let product = world.product(1000, 10).await;
    let known = world.place_as(Ask::of(product)).await;
    let asks = [Ask::of(product), Ask::of(product)];
    let (tx, mut placing) = world.open_placing(&asks).await;
    let good = decided(&mut placing, 0, &asks[0]);
    placing.ids[1] = NewOrderIds { order_id: known.order_id, payment_id: known.payment_id };
    let bad = decided(&mut placing, 1, &asks[1]);
    assert!(matches!(tx.store_orders(&[good, bad]).await, Err(StoreError::Conflict { .. })));
    assert!(tx.commit().await.is_err());
    assert_eq!(world.ports.queries.order(None, placing.ids[0].order_id).await, Ok(None));
    assert_eq!(world.stock(product).await, 9);
}

/// More than there is: refused, and nothing is taken. (Who decides upon what was loaded never asks for it.)
pub async fn stock_never_falls_below_zero(world: World) {
    let product = world.product(1000, 3).await;
    let ask = Ask { lines: vec![(product, 3)], ..Ask::of(product) };
    let refused = place_changed(&world, &[ask.clone(), ask.clone()], |placing| {
        // As if the first one had left everything.
        if let Some(product) = placing.products.get_mut(&product) {
            product.stock = domain::Stock::new(3).unwrap();
        }
    })
    .await;
    assert!(refused.is_err());
    assert_eq!(world.stock(product).await, 3);
    world.place_as(ask).await;
    assert_eq!(world.stock(product).await, 0);
}

/// Places orders; `change` runs before each is decided. What came of storing them; nothing is committed.
async fn place_changed(
    world: &World,
    asks: &[Ask],
    change: impl Fn(&mut domain::placement::Placing),
) -> Result<(), StoreError> {
    let (tx, mut placing) = world.open_placing(asks).await;
    let mut orders = Vec::new();
    for (at, ask) in asks.iter().enumerate() {
        change(&mut placing);
        orders.push(decided(&mut placing, at, ask));
    }
    let stored = tx.store_orders(&orders).await;
    tx.rollback().await;
    stored
}

/// Points that don't follow from the balance that is there: refused.
pub async fn points_follow_from_the_balance(world: World) {
    world.charge_points(user(1), 100).await;
    let ask = Ask { points: 60, ..Ask::of(world.product(1000, 9).await) };
    let refused = place_changed(&world, &[ask.clone(), ask.clone()], |placing| {
        placing.points.insert(user(1), domain::PointAccount::new(user(1), won(100)).unwrap());
    })
    .await;
    assert!(refused.is_err());
    assert_eq!(world.points(user(1)).await, 100);
    world.place_as(ask).await;
    assert_eq!(world.points(user(1)).await, 40);
}

/// A buyer who never had points has none, and can get some.
pub async fn an_account_that_is_not_there_is_empty(world: World) {
    let buyer = user(5);
    assert_eq!(world.points(buyer).await, 0);
    let tx = world.begin().await;
    assert_eq!(tx.lock_points(buyer).await.unwrap().balance(), won(0));
    tx.rollback().await;
    world.charge_points(buyer, 7).await;
    assert_eq!(world.points(buyer).await, 7);
}

/// Two at once on one account: the second sees what the first left, even for a new account.
pub async fn points_are_locked(world: World) {
    let buyer = user(6);
    let (one, two) = (world.begin().await, world.begin().await);
    let account = one.lock_points(buyer).await.unwrap().charge(won(10)).unwrap();
    let charge = PointEntry { account, kind: PointEntryKind::Charge, amount: won(10), payment_id: None };
    one.save_points(&charge).await.unwrap();
    let (waited, _) = waits_for(two.lock_points(buyer), one.commit()).await;
    assert_eq!(waited.unwrap().balance(), won(10));
    two.rollback().await;
}

async fn coupon(world: &World) -> IssuedCoupon {
    let tx = world.begin().await;
    let coupon = tx.insert_coupon("c", Discount::rate(10).unwrap(), None).await.unwrap();
    let issued = tx.insert_issued_coupon(coupon.id, user(1)).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    issued
}

/// Storing counts a coupon's version up; an older version is a conflict.
pub async fn a_coupon_is_stored_at_its_version(world: World) {
    let issued = coupon(&world).await;
    let ask = Ask { coupon: Some(issued.id), ..Ask::of(world.product(1000, 9).await) };
    let placed = world.place_as(ask.clone()).await;
    let record = world.record(placed).await;
    assert_eq!(record.issued_coupon_id, Some(issued.id));
    assert_eq!(record.payment.amounts().coupon_discount(), won(100));
    let (tx, mut placing) = world.open_placing(std::slice::from_ref(&ask)).await;
    let holding = placing.coupons[&issued.id].clone();
    assert_eq!(holding.version, 1);
    assert!(matches!(holding.value.issued.status, IssuedCouponStatus::Used { .. }));
    // As if it had been read before.
    let free = domain::ports::CouponHolding { issued, ..holding.value };
    placing.coupons.insert(issued.id, Versioned { version: 0, value: free });
    let order = decided(&mut placing, 0, &ask);
    assert!(matches!(tx.store_orders(&[order]).await, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
}

/// Two batches with one coupon: nobody waits to read it; the second to store it waits and loses.
pub async fn a_coupon_race_has_one_winner(world: World) {
    let issued = coupon(&world).await;
    let mut opened = Vec::new();
    for _ in 0..2 {
        let ask = Ask { coupon: Some(issued.id), ..Ask::of(world.product(1000, 9).await) };
        let (tx, mut placing) = world.open_placing(std::slice::from_ref(&ask)).await;
        let order = decided(&mut placing, 0, &ask);
        opened.push((tx, order));
    }
    let ((two, late), (one, order)) = (opened.remove(1), opened.remove(0));
    one.store_orders(&[order]).await.unwrap();
    let late = [late];
    let (lost, _) = waits_for(two.store_orders(&late), one.commit()).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    two.rollback().await;
}

/// An order, a payment and a token are there once.
pub async fn ids_and_tokens_are_unique(world: World) {
    let placed = world.place().await;
    let product = world.product(1000, 9).await;
    let refused = async |change: &dyn Fn(&mut NewOrderIds), token: bool| {
        let ask = Ask::of(product);
        let (tx, mut placing) = world.open_placing(std::slice::from_ref(&ask)).await;
        change(&mut placing.ids[0]);
        let mut order = decided(&mut placing, 0, &ask);
        let taken = super::world::token_hash(placed.payment_id);
        order.callback_token_hash = Some(if token { taken } else { [9; 32] });
        let stored = tx.store_orders(&[order]).await;
        tx.rollback().await;
        matches!(stored, Err(StoreError::Conflict { .. }))
    };
    assert!(refused(&|ids| ids.payment_id = placed.payment_id, false).await);
    assert!(refused(&|ids| ids.order_id = placed.order_id, false).await);
    assert!(refused(&|_| (), true).await);
    assert!(!refused(&|_| (), false).await);
}

/// Something on the card and no card: refused, and nothing stays.
pub async fn a_payment_on_a_card_needs_the_card(world: World) {
    let product = world.product(1000, 1).await;
    let ask = Ask::of(product);
    let (tx, mut placing) = world.open_placing(std::slice::from_ref(&ask)).await;
    let mut order: NewOrder = decided(&mut placing, 0, &ask);
    order.record.card = None;
    assert!(tx.store_orders(&[order]).await.is_err());
    assert!(tx.commit().await.is_err());
    assert_eq!(world.ports.queries.order(None, placing.ids[0].order_id).await, Ok(None));
}

/// Every row of a batch bears the moment of its transaction, and histories count up over all payments.
pub async fn a_batch_has_one_moment(world: World) {
    let ask = Ask::of(world.product(1000, 9).await);
    let placed = world.place_all(&vec![ask; 3]).await;
    tick().await;
    let mut moments = BTreeSet::new();
    let mut sequences = Vec::new();
    for placed in placed {
        let view = world.view(placed).await;
        moments.extend([view.record.created_at, view.record.updated_at, view.history[0].at]);
        sequences.push(view.history[0].sequence);
    }
    assert_eq!(moments.len(), 1);
    assert!(sequences.is_sorted());
}
