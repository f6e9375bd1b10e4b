//! Many at once for the last of something: exactly one gets it, and nobody waits in a circle.

use crate::support::{Ask, Db, Placed, commit, eventually, token_hash, user, won};
use domain::placement::KeyState;
use domain::ports::{
    CallbackNote, ClaimOptions, Due, IdempotencyKey, KeyedRequest, Queries, Store, StoreError,
};
use domain::{GatewayKey, IssuedCouponStatus, Stock};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const BUYERS: i64 = 200;
const HOUR: Duration = Duration::from_secs(3600);

async fn crowded() -> Arc<Db> {
    Arc::new(Db::with(|options| options.pool_size = 16).await)
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

/// Places what it can get of these, in one batch.
async fn place(db: Arc<Db>, asks: Vec<Ask>) -> usize {
    db.place_all(&asks).await.unwrap().len()
}

/// F13, F17: also in batches, where the second of a batch is refused by what the first one took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_buyers_of_the_last_unit_have_one_winner() {
    let db = crowded().await;
    let product = db.product(1).await;
    let other = db.product(10_000).await;
    let won = winners(|number| {
        let db = Arc::clone(&db);
        let mut asks = vec![Ask::of(product); 1 + usize::try_from(number % 3).unwrap()];
        asks.push(Ask::of(other));
        async move { place(db, asks).await > 1 }
    })
    .await;
    assert_eq!((won, db.stock(product).await, db.stock(other).await), (1, 0, 10_000 - BUYERS));
}

/// Who forgets to look still can't take what is not there.
#[tokio::test]
async fn what_is_not_there_can_not_be_taken() {
    let db = crowded().await;
    let product = db.product(2).await;
    let asks = [Ask::of(product), Ask::of(product)];
    let needs = asks.clone().map(|ask| ask.needs());
    let (tx, mut placing) = db.store.open_placing(&needs).await.unwrap();
    let orders = [asks[0].decide(&mut placing, 0).unwrap(), asks[1].decide(&mut placing, 1).unwrap()];
    let less = "UPDATE stock SET quantity = 1";
    tx.rollback().await;
    db.database.client().await.batch_execute(less).await.unwrap();
    let tx = db.begin().await;
    let stored = tx.store_orders(&orders).await;
    assert!(matches!(stored, Err(StoreError::Conflict { .. })), "{stored:?}");
    tx.rollback().await;
    assert_eq!(db.stock(product).await, 1);
}

/// F20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_points_are_spent_once() {
    let db = crowded().await;
    db.charge_points(user(1), 100).await;
    let product = db.product(10_000).await;
    let won_by = winners(|_| {
        let asks = vec![Ask { points: 100, ..Ask::of(product) }; 2];
        let db = Arc::clone(&db);
        async move { place(db, asks).await == 1 }
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

/// Those who read it before it was used lose by its version; the others are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_coupon_is_used_once() {
    let db = crowded().await;
    let coupon = db.issued_coupon(user(1)).await;
    let mut products = Vec::new();
    for _ in 0..BUYERS {
        products.push(db.product(1).await);
    }
    let won = winners(|number| {
        let product = products[usize::try_from(number - 1).unwrap()];
        let ask = Ask { coupon: Some(coupon), ..Ask::of(product) };
        let db = Arc::clone(&db);
        async move {
            match db.place_all(&[ask]).await {
                Ok(placed) => !placed.is_empty(),
                Err(StoreError::Conflict { what }) => {
                    assert_eq!(what, "version of issued_coupon");
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

/// Spec 04, F15 and F16: batches over the same products, buyers and payments, each in another order, with compensations,
/// starts, callbacks, claims and charges between them. Whatever order the caller names them in, rows are locked ascending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_over_the_same_rows_never_deadlock() {
    let db = crowded().await;
    let products = [db.product(100_000).await, db.product(100_000).await, db.product(100_000).await];
    for number in 1..4 {
        db.charge_points(user(number), 1_000_000).await;
    }
    let ask = |number: i64| {
        let at = usize::try_from(number % 3).unwrap();
        let lines = vec![(products[at], 1), (products[(at + 1) % 3], 2)];
        Ask { user: user(1 + number % 3), lines, points: 300, ..Ask::of(products[at]) }
    };
    let first: Vec<_> = (0..6).map(ask).collect();
    let shared = Arc::new(db.place_all(&first).await.unwrap());
    let mut flows = JoinSet::new();
    for number in 0..16_i64 {
        let (db, shared) = (Arc::clone(&db), Arc::clone(&shared));
        let asks: Vec<_> = (0..3).map(|more| ask(number + more)).collect();
        flows.spawn(async move {
            let rotated = |of: &[Placed]| {
                let mut of = of.to_vec();
                let by = usize::try_from(number).unwrap() % of.len();
                of.rotate_left(by);
                of
            };
            for _ in 0..3 {
                let placed = db.place_all(&asks).await.unwrap();
                let ids: Vec<_> = rotated(&shared).iter().map(|placed| placed.payment_id).collect();
                db.store.start_payments(&ids).await.unwrap();
                let named = |placed: &Placed| CallbackNote::Named {
                    token_hash: token_hash(placed.payment_id),
                    key: GatewayKey::new(format!("k{}", placed.payment_id)).unwrap(),
                };
                let notes: Vec<_> = rotated(&shared).iter().chain(&placed).map(named).collect();
                db.store.note_callbacks(&notes).await.unwrap();
                let (due, lease) = (Due::Unsettled, Duration::ZERO);
                let claims = ClaimOptions { due, limit: 5, lease_id: number, lease, due_by: None };
                db.store.claim(&claims).await.unwrap();
                db.charge_points(user(1 + number % 3), 1).await;
                db.fail(&rotated(&placed)).await.unwrap();
            }
            // All at once for the same ones: each is given back once.
            db.fail(&rotated(&shared)).await.unwrap();
        });
    }
    // A deadlock would have been a conflict of one of them.
    flows.join_all().await;
    for product in products {
        assert_eq!(db.stock(product).await, 100_000);
    }
    let left = async |number| db.store.point_balance(user(number)).await.unwrap().won();
    assert_eq!(left(1).await + left(2).await + left(3).await, 3_000_000 + 16 * 3);
}

/// Spec 04, F67: several reconcilers share the work, and callbacks wake payments meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimers_never_share_a_payment() {
    let db = crowded().await;
    let product = db.product(1000).await;
    let placed = Arc::new(db.place_all(&vec![Ask::of(product); 60]).await.unwrap());
    let options =
        |lease_id| ClaimOptions { due: Due::Unsettled, limit: 7, lease_id, lease: HOUR, due_by: None };
    let mut tasks = JoinSet::new();
    for worker in 0..6_usize {
        let (db, placed) = (Arc::clone(&db), Arc::clone(&placed));
        tasks.spawn(async move {
            let mut mine = Vec::new();
            for (turn, named) in (0..).zip(placed.iter().skip(worker).step_by(6)) {
                let key = GatewayKey::new("k").unwrap();
                let token_hash = token_hash(named.payment_id);
                db.store.note_callbacks(&[CallbackNote::Named { token_hash, key }]).await.unwrap();
                let lease_id = i64::try_from(worker).unwrap() * 1000 + turn;
                let claims = db.store.claim(&options(lease_id)).await.unwrap();
                assert!(claims.iter().all(|claim| claim.lease_id == lease_id));
                mine.extend(claims);
            }
            mine
        });
    }
    let mut claims: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    // Those whom nobody got while others were locked.
    eventually("all are claimed", async || {
        claims.extend(db.store.claim(&options(9999)).await.unwrap());
        (claims.len() >= placed.len()).then_some(())
    })
    .await;
    let ids: BTreeSet<_> = claims.iter().map(|claim| claim.record.payment.id()).collect();
    assert_eq!((claims.len(), ids.len()), (60, 60));
}

fn keyed(text: &str, retention: Duration) -> KeyedRequest {
    KeyedRequest {
        key: IdempotencyKey { user_id: user(1), key: text.into() },
        fingerprint: [1; 32],
        retention,
    }
}

/// Spec 04, F02: whoever does not take the key learns at once that somebody does, or for what it was taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_makes_one_order() {
    let db = crowded().await;
    let product = db.product(10_000).await;
    let won = winners(|_| {
        let ask = Ask { key: Some(keyed("once", HOUR)), ..Ask::of(product) };
        let db = Arc::clone(&db);
        async move {
            let (tx, mut placing) = db.store.open_placing(&[ask.needs()]).await.unwrap();
            match placing.keys.values().next().unwrap() {
                KeyState::Free => {}
                KeyState::BeingTaken | KeyState::Known(_) => {
                    tx.rollback().await;
                    return false;
                }
            }
            let order = ask.decide(&mut placing, 0).unwrap();
            tx.store_orders(&[order]).await.unwrap();
            commit(tx).await.unwrap();
            true
        }
    })
    .await;
    assert_eq!((won, db.stock(product).await), (1, 9_999));
    assert!(db.store.idempotency(&keyed("once", HOUR).key).await.unwrap().is_some());
}

/// Expired keys are swept, others stay; one that is being taken again is not waited for.
#[tokio::test]
async fn expired_keys_are_swept() {
    let db = Db::new().await;
    let product = db.product(10).await;
    let ask = |name: &str, retention| Ask { key: Some(keyed(name, retention)), ..Ask::of(product) };
    for (name, retention) in [("old", Duration::ZERO), ("again", Duration::ZERO), ("alive", HOUR)] {
        db.place_all(&[ask(name, retention)]).await.unwrap();
    }
    let again = ask("again", HOUR);
    let (taking, mut placing) = db.store.open_placing(&[again.needs()]).await.unwrap();
    taking.store_orders(&[again.decide(&mut placing, 0).unwrap()]).await.unwrap();
    assert_eq!(db.store.sweep_expired_keys().await, Ok(1));
    commit(taking).await.unwrap();
    assert_eq!(db.store.sweep_expired_keys().await, Ok(0));
    for (name, there) in [("old", false), ("again", true), ("alive", true)] {
        let found = db.store.idempotency(&keyed(name, HOUR).key).await.unwrap();
        assert_eq!(found.is_some(), there, "{name}");
    }
}

/// Stock that is counted while it is ordered: what was counted is what is there.
#[tokio::test]
async fn stock_that_is_set_waits_for_orders() {
    let db = crowded().await;
    let product = db.product(5).await;
    let ask = Ask::of(product);
    let (placing_tx, mut placing) = db.store.open_placing(&[ask.needs()]).await.unwrap();
    let mut setting = JoinSet::new();
    let other = Arc::clone(&db);
    setting.spawn(async move {
        let tx = other.begin().await;
        assert!(tx.set_stock(product, Stock::new(7).unwrap()).await.unwrap());
        commit(tx).await.unwrap();
    });
    db.waiting("FROM stock").await;
    placing_tx.store_orders(&[ask.decide(&mut placing, 0).unwrap()]).await.unwrap();
    commit(placing_tx).await.unwrap();
    setting.join_all().await;
    assert_eq!(db.stock(product).await, 7);
    // The ledger says the same.
    let sum = "SELECT sum(delta)::bigint FROM stock_ledger WHERE product_id = $1";
    let sum: i64 = db.database.client().await.query_one(sum, &[&product.get()]).await.unwrap().get(0);
    assert_eq!(sum, 7);
}

/// One payment gave it back, another one uses it now: settling both at once sees it with each, and with goods only.
#[tokio::test]
async fn a_coupon_may_belong_to_two_payments_of_a_batch() {
    let db = Db::new().await;
    let ask = Ask { coupon: Some(db.issued_coupon(user(1)).await), ..Ask::of(db.product(9).await) };
    let first = db.place_all(std::slice::from_ref(&ask)).await.unwrap()[0];
    db.fail(&[first]).await.unwrap();
    let second = db.place_all(&[ask]).await.unwrap()[0];
    let (tx, settling) = db.store.open_settling(&[first.needs(), second.needs()]).await.unwrap();
    tx.rollback().await;
    for placed in [first, second] {
        let coupon = settling.cases[&placed.payment_id].coupon.as_ref().unwrap();
        assert_eq!(coupon.version, 3);
    }
    let without = domain::settlement::SettlingNeeds { goods: false, ..first.needs() };
    let (tx, settling) = db.store.open_settling(&[without, second.needs()]).await.unwrap();
    tx.rollback().await;
    assert_eq!(settling.cases[&first.payment_id].coupon, None);
    // Given back once more, and only once.
    db.fail(&[second, first]).await.unwrap();
    let held = db.store.issued_coupons(user(1)).await.unwrap().remove(0);
    assert!(matches!(held.issued.status, IssuedCouponStatus::Available));
}
