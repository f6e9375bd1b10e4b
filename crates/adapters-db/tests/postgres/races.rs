//! Many at once for the last of something: exactly one gets it, and nobody waits in a circle.

use crate::support::{Db, Placed, eventually, fail_payment, first_event, order, payment, user, won};
use domain::placement::{self, Offer, OrderLines, PlacementRequest};
use domain::ports::{
    ClaimKind, ClaimOptions, IdempotencyClaim, IdempotencyKey, NewOrderIds, NextCheck, NextDue, PointEntry,
    PointEntryKind, Queries, StockEntry, StockEntryKind, Store, StoreError,
};
use domain::{GatewayKey, IssuedCouponStatus, PaymentId, ProductId, Quantity};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const BUYERS: i64 = 200;
const HOUR: Duration = Duration::from_secs(3600);

fn entry(product_id: ProductId, payment: i64, kind: StockEntryKind) -> StockEntry {
    StockEntry {
        product_id,
        payment_id: PaymentId::new(payment).unwrap(),
        kind,
        quantity: Quantity::new(1).unwrap(),
    }
}

async fn crowded() -> Arc<Db> {
    Arc::new(Db::with(|options| options.pool_size = 24).await)
}

/// Runs `buyer` 200 times at once and counts those who got it.
async fn winners<F>(buyer: impl Fn(i64) -> F) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut buyers = JoinSet::new();
    for number in 1..=BUYERS {
        buyers.spawn(buyer(number));
    }
    buyers.join_all().await.into_iter().filter(|won| *won).count()
}

/// F13, F17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_buyers_of_the_last_unit_have_one_winner() {
    let db = crowded().await;
    let product = db.product(1).await;
    let won = winners(|number| {
        let db = Arc::clone(&db);
        async move {
            let tx = db.begin().await;
            let found = tx.lock_products(&[product]).await.unwrap();
            if found[0].stock.decrease(1).is_err() {
                tx.rollback().await;
                return false;
            }
            tx.move_stock(&[entry(product, number, StockEntryKind::Reserve)]).await.unwrap();
            tx.commit().await.unwrap();
            true
        }
    })
    .await;
    assert_eq!((won, db.stock(product).await), (1, 0));
}

/// Who forgets to lock and to look still can't take what is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_unit_has_one_winner_even_without_a_lock() {
    let db = crowded().await;
    let product = db.product(1).await;
    let won = winners(|number| {
        let db = Arc::clone(&db);
        async move {
            let tx = db.begin().await;
            match tx.move_stock(&[entry(product, number, StockEntryKind::Reserve)]).await {
                Ok(()) => tx.commit().await.is_ok(),
                Err(StoreError::Conflict { .. }) => {
                    tx.rollback().await;
                    false
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    })
    .await;
    assert_eq!((won, db.stock(product).await), (1, 0));
}

/// F20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_points_are_spent_once() {
    let db = crowded().await;
    db.charge_points(user(1), 100).await;
    let won_by = winners(|number| {
        let db = Arc::clone(&db);
        async move {
            let tx = db.begin().await;
            let Ok(account) = tx.lock_points(user(1)).await.unwrap().deduct(won(100)) else {
                tx.rollback().await;
                return false;
            };
            let entry = PointEntry {
                account,
                kind: PointEntryKind::Deduct,
                amount: won(100),
                payment_id: Some(PaymentId::new(number).unwrap()),
            };
            tx.save_points(&entry).await.unwrap();
            tx.commit().await.unwrap();
            true
        }
    })
    .await;
    assert_eq!(won_by, 1);
    assert_eq!(db.store.point_balance(user(1)).await, Ok(won(0)));
}

/// A first charge of a buyer without an account, by many at once: none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_charges_at_once_all_count() {
    let db = crowded().await;
    let mut charges = JoinSet::new();
    for _ in 0..40 {
        let db = Arc::clone(&db);
        charges.spawn(async move { db.charge_points(user(9), 5).await });
    }
    charges.join_all().await;
    assert_eq!(db.store.point_balance(user(9)).await, Ok(won(200)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_coupon_is_used_once() {
    let db = crowded().await;
    let coupon = db.issued_coupon(user(1)).await;
    let won = winners(|number| {
        let db = Arc::clone(&db);
        async move {
            let tx = db.begin().await;
            let held = tx.find_coupon_holding(coupon).await.unwrap().unwrap();
            let Ok(used) = held.value.issued.redeem(user(1), &held.value.coupon, tx.now()) else {
                tx.rollback().await;
                return false;
            };
            let payment_id = PaymentId::new(number).unwrap();
            match tx.save_issued_coupon(&held.with(used), payment_id).await {
                Ok(()) => tx.commit().await.is_ok(),
                Err(StoreError::Conflict { .. }) => {
                    tx.rollback().await;
                    false
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    })
    .await;
    assert_eq!(won, 1);
    let held = db.store.issued_coupons(user(1)).await.unwrap().remove(0);
    assert!(matches!(held.issued.status, IssuedCouponStatus::Used { .. }));
}

/// Spec 04, F15 and F16: orders over the same products in opposite order, and compensations between them. Whatever
/// order the caller names them in, rows are locked ascending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_and_compensations_over_the_same_products_never_deadlock() {
    let db = crowded().await;
    let (a, b) = (db.product(100_000).await, db.product(100_000).await);
    let mut flows = JoinSet::new();
    for number in 0..40_i64 {
        let db = Arc::clone(&db);
        flows.spawn(async move {
            let products = if number % 2 == 0 { [a, b] } else { [b, a] };
            let entries = |id: PaymentId, kind| products.map(|product| entry(product, id.get(), kind));
            for _ in 0..3 {
                let tx = db.begin().await;
                tx.lock_products(&products).await.unwrap();
                let ids = tx.next_order_ids().await.unwrap();
                tx.move_stock(&entries(ids.payment_id, StockEntryKind::Reserve)).await.unwrap();
                tx.insert_order(&order(ids.order_id, a)).await.unwrap();
                tx.insert_payment(&payment(ids), &[first_event()]).await.unwrap();
                tx.commit().await.unwrap();

                let placed = Placed { order_id: ids.order_id, payment_id: ids.payment_id };
                let tx = db.begin().await;
                fail_payment(tx.as_ref(), placed).await;
                let order = tx.lock_order(placed.order_id).await.unwrap().unwrap();
                // Without locking them first: the method does so itself.
                tx.move_stock(&entries(ids.payment_id, StockEntryKind::Restore)).await.unwrap();
                let cancelled = order.value.clone().cancel().unwrap();
                tx.save_order(&order.with(cancelled)).await.unwrap();
                tx.commit().await.unwrap();
            }
        });
    }
    // A deadlock would have been an error of one of them.
    flows.join_all().await;
    assert_eq!((db.stock(a).await, db.stock(b).await), (100_000, 100_000));
}

/// Spec 04, F67: several reconcilers share the work, and callbacks wake payments meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimers_never_share_a_payment() {
    let db = crowded().await;
    let mut placed = Vec::new();
    for _ in 0..60 {
        placed.push(db.place().await);
    }
    let mut tasks = JoinSet::new();
    for worker in 0..6_usize {
        let db = Arc::clone(&db);
        let names = placed.clone();
        tasks.spawn(async move {
            let options = ClaimOptions {
                kind: ClaimKind::Unsettled,
                limit: 7,
                min_age: Duration::ZERO,
                lease: HOUR,
                due_by: None,
            };
            let mut mine = Vec::new();
            for named in names.iter().skip(worker).step_by(6) {
                let tx = db.begin().await;
                tx.record_callback(named.payment_id, &GatewayKey::new("k").unwrap()).await.unwrap();
                tx.commit().await.unwrap();
                let tx = db.begin().await;
                let claims = tx.claim_due(&options).await.unwrap();
                tx.commit().await.unwrap();
                mine.extend(claims);
            }
            mine
        });
    }
    let mut claims: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    // Those whom nobody got while others were locked.
    eventually("all are claimed", async || {
        let tx = db.begin().await;
        let options = ClaimOptions {
            kind: ClaimKind::Unsettled,
            limit: 100,
            min_age: Duration::ZERO,
            lease: HOUR,
            due_by: None,
        };
        claims.extend(tx.claim_due(&options).await.unwrap());
        tx.commit().await.unwrap();
        (claims.len() >= placed.len()).then_some(())
    })
    .await;
    let ids: BTreeSet<_> = claims.iter().map(|claim| claim.record.payment.value.id()).collect();
    let leases: BTreeSet<_> = claims.iter().map(|claim| claim.lease_id).collect();
    assert_eq!((claims.len(), ids.len(), leases.len()), (60, 60, 60));
    // A wake-up that came after the claim is not forgotten at its end.
    let next = NextCheck {
        due: NextDue::Never,
        transaction_seen: false,
        not_found_count: 0,
        not_found_now: false,
        failures: 0,
        watch_step: 0,
    };
    let claim = &claims[0];
    let tx = db.begin().await;
    tx.wake(claim.record.payment.value.id()).await.unwrap();
    assert!(tx.finish_claim(claim, &next, true).await.unwrap());
    tx.commit().await.unwrap();
    let tx = db.begin().await;
    let again =
        ClaimOptions { kind: ClaimKind::Unsettled, limit: 9, min_age: HOUR, lease: HOUR, due_by: None };
    let woken = tx.claim_due(&again).await.unwrap();
    assert_eq!(woken.len(), 1);
    assert_eq!(woken[0].record.payment.value.id(), claim.record.payment.value.id());
    tx.rollback().await;
}

/// Spec 04, F02.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_makes_one_order() {
    let db = crowded().await;
    let key = IdempotencyKey { user_id: user(1), key: "once".into() };
    let won = winners(|number| {
        let db = Arc::clone(&db);
        let key = key.clone();
        async move {
            let tx = db.store.begin("place").await.unwrap();
            let ids = tx.next_order_ids().await.unwrap();
            let claim = IdempotencyClaim {
                key,
                fingerprint: [1; 32],
                order_id: ids.order_id,
                retention: if number % 2 == 0 { HOUR } else { HOUR * 2 },
            };
            let taken = tx.claim_idempotency(&claim).await.unwrap().is_none();
            if taken {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await;
            }
            taken
        }
    })
    .await;
    assert_eq!(won, 1);
    assert!(db.store.idempotency(&key).await.unwrap().is_some());
}

/// Expired keys are swept, others stay; one that is being taken again is not waited for.
#[tokio::test]
async fn expired_keys_are_swept() {
    let db = Db::new().await;
    let claim = |name: &str, retention| IdempotencyClaim {
        key: IdempotencyKey { user_id: user(1), key: name.into() },
        fingerprint: [1; 32],
        order_id: domain::OrderId::new(1).unwrap(),
        retention,
    };
    for (name, retention) in [("old", Duration::ZERO), ("again", Duration::ZERO), ("alive", HOUR)] {
        let tx = db.begin().await;
        assert_eq!(tx.claim_idempotency(&claim(name, retention)).await, Ok(None));
        tx.commit().await.unwrap();
    }
    let taking = db.begin().await;
    assert_eq!(taking.claim_idempotency(&claim("again", HOUR)).await, Ok(None));
    assert_eq!(db.store.sweep_expired_keys().await, Ok(1));
    taking.commit().await.unwrap();
    assert_eq!(db.store.sweep_expired_keys().await, Ok(0));
    for (name, there) in [("old", false), ("again", true), ("alive", true)] {
        let found = db.store.idempotency(&claim(name, HOUR).key).await.unwrap();
        assert_eq!(found.is_some(), there, "{name}");
    }
}

/// F24: price and stock change between the buyer's look and TX1, and stock again while TX1 waits for its lock. What counts
/// is what TX1 reads: the price, the total made of it, and the stock that is left after the wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_costs_and_takes_what_its_own_transaction_reads() {
    let db = Arc::new(Db::new().await);
    let product = db.product(5).await;
    let seen = db.store.product(product).await.unwrap().unwrap();
    assert_eq!((seen.price, seen.stock.quantity()), (won(1000), 5));
    let client = db.database.client().await;
    client.execute("UPDATE product SET price = 1300 WHERE id = $1", &[&product.get()]).await.unwrap();

    // Another order is faster: it holds the row and takes a piece.
    let faster = db.begin().await;
    faster.lock_products(&[product]).await.unwrap();
    faster.move_stock(&[entry(product, 999_999, StockEntryKind::Reserve)]).await.unwrap();
    let waiting = Arc::clone(&db);
    let mut ours = JoinSet::new();
    ours.spawn(async move {
        let tx = waiting.begin().await;
        let ids = tx.next_order_ids().await.unwrap();
        let products = tx.lock_products(&[product]).await.unwrap();
        let lines = OrderLines::new([(product, Quantity::new(3).unwrap())]).unwrap();
        let request = PlacementRequest {
            user_id: user(1),
            lines,
            use_point: won(0),
            wants_coupon: false,
            has_card: true,
        };
        let NewOrderIds { order_id, payment_id } = ids;
        let offer = Offer { order_id, payment_id, products, points: None, coupon: None, now: tx.now() };
        let left = offer.products[0].stock.quantity();
        let placement = placement::decide(&request, offer).unwrap();
        let taken = StockEntry {
            quantity: Quantity::new(3).unwrap(),
            ..entry(product, payment_id.get(), StockEntryKind::Reserve)
        };
        tx.move_stock(&[taken]).await.unwrap();
        tx.commit().await.unwrap();
        (placement, left)
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE OF s%' \
        AND datname = current_database()";
    eventually("the order waits for the row", async || {
        (client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    faster.commit().await.unwrap();
    let (placement, left) = ours.join_next().await.unwrap().unwrap();
    assert_eq!(left, 4, "the stock that was left when the lock was free");
    assert_eq!(placement.order.items()[0].unit_price, won(1300), "not the price that the buyer saw");
    assert_eq!(placement.payment.amounts().total(), won(3900));
    assert_eq!(placement.payment.amounts().paid_amount(), won(3900));
    assert_eq!(db.stock(product).await, 1);
}
