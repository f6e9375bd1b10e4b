//! Transactions: atomic, isolated, poisoned by a failure, and locks.

use super::World;
use super::world::{Ask, decided, moved, named, needs, paid, tick, user, waits_for, with_goods, won};
use domain::Stock;
use domain::ports::{CommitError, StoreError, Versioned};
use domain::settlement::{Changes, Check, SettlingNeeds};
use std::collections::BTreeSet;
use std::time::Duration;

/// Dropped without commit: nothing stays, and the locks are free.
pub async fn a_dropped_transaction_leaves_nothing(world: World) {
    let product = world.product(1000, 5).await;
    let tx = world.begin().await;
    assert!(tx.set_stock(product, Stock::new(9).unwrap()).await.unwrap());
    drop(tx);
    assert_eq!(world.stock(product).await, 5);
}

/// Rolled back: nothing stays, of whatever kind.
pub async fn a_rolled_back_transaction_leaves_nothing(world: World) {
    let product = world.product(1000, 5).await;
    let ask = Ask::of(product);
    let (tx, mut placing) = world.open_placing(std::slice::from_ref(&ask)).await;
    let order = decided(&mut placing, 0, &ask);
    tx.store_orders(&[order]).await.unwrap();
    tx.rollback().await;
    assert_eq!(world.stock(product).await, 5);
    assert_eq!(world.ports.queries.order(None, placing.ids[0].order_id).await, Ok(None));
    assert_eq!(world.ports.queries.payment(None, placing.ids[0].payment_id).await, Ok(None));
}

/// READ COMMITTED: own writes are seen, others' only after their commit.
pub async fn nobody_sees_what_is_not_committed(world: World) {
    let tx = world.begin().await;
    let other = world.begin().await;
    let coupon = tx.insert_coupon("c", domain::Discount::fixed(won(1)).unwrap(), None).await.unwrap();
    assert_eq!(tx.find_coupon(coupon.id).await.unwrap(), Some(coupon.clone()));
    assert_eq!(other.find_coupon(coupon.id).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert_eq!(other.find_coupon(coupon.id).await.unwrap(), Some(coupon));
    other.rollback().await;
}

/// After a failed statement nothing more is done, and commit refuses.
pub async fn a_failed_statement_poisons_its_transaction(world: World) {
    let product = world.product(1000, 5).await;
    let placed = world.place().await;
    let (tx, settling) = world.open_settling(&[needs(placed)]).await;
    assert!(tx.set_stock(product, Stock::new(9).unwrap()).await.unwrap());
    let case = &settling.cases[&placed.payment_id];
    let started = case.record.payment.clone().start().unwrap();
    let stale = Some(Versioned { version: 77, value: started });
    let changes = Changes { payment: stale, ..super::world::nothing(case) };
    assert!(matches!(tx.store_changes(&[changes]).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(tx.commit().await, Err(CommitError::RolledBack(_))));
    assert_eq!(world.stock(product).await, 5);
}

/// `now` stands still within a transaction, moves on between, and has whole microseconds. What an opening returns bears
/// the same moment.
pub async fn a_transaction_has_one_moment(world: World) {
    let tx = world.begin().await;
    let moment = tx.now();
    tick().await;
    assert_eq!(tx.now(), moment);
    assert_eq!(moment.nanosecond() % 1000, 0);
    assert!(moment.offset().is_utc());
    tx.rollback().await;
    let (tx, placing) = world.open_placing(&[]).await;
    assert_eq!(tx.now(), placing.now);
    assert!(tx.now() > moment);
    tx.rollback().await;
    let (tx, settling) = world.open_settling(&[]).await;
    assert_eq!(tx.now(), settling.shared.now);
    tx.rollback().await;
}

/// Each kind of row that an opening locks is waited for until the other commits.
pub async fn locks_are_waited_for(world: World) {
    let product = world.product(1000, 5).await;
    let (buyer, owner) = (user(1), user(2));
    world.charge_points(buyer, 5000).await;
    let ask = Ask { points: 10, ..Ask::of(product) };
    let others = Ask { user: owner, ..Ask::of(product) };
    let placed = world.place_as(ask.clone()).await;

    let (one, _) = world.open_placing(std::slice::from_ref(&others)).await;
    let second = [others];
    let ((two, placing), _) = waits_for(world.open_placing(&second), one.commit()).await;
    assert_eq!(placing.products.len(), 1);
    two.rollback().await;

    let one = world.begin().await;
    one.lock_points(buyer).await.unwrap();
    let second = [Ask { lines: vec![(world.product(1, 1).await, 1)], ..ask }];
    let ((two, placing), _) = waits_for(world.open_placing(&second), one.commit()).await;
    assert_eq!(placing.points[&buyer].balance(), won(4990));
    two.rollback().await;

    let (one, _) = world.open_settling(&[needs(placed)]).await;
    let second = [needs(placed)];
    let ((two, settling), _) = waits_for(world.open_settling(&second), one.commit()).await;
    assert_eq!(settling.cases.len(), 1);
    two.rollback().await;
}

/// What an order took is locked for settling when goods are asked for, and left alone when not.
pub async fn goods_are_locked_on_demand(world: World) {
    let (product, buyer) = (world.product(1000, 5).await, user(1));
    world.charge_points(buyer, 100).await;
    let placed = world.place_as(Ask { points: 10, ..Ask::of(product) }).await;
    let free = [with_goods(placed)];

    let (one, _) = world.open_placing(&[Ask { user: user(2), ..Ask::of(product) }]).await;
    let (without, settling) = world.open_settling(&[needs(placed)]).await;
    assert!(settling.with_goods.is_empty() && settling.shared.points.is_empty());
    without.rollback().await;
    let ((two, settling), _) = waits_for(world.open_settling(&free), one.rollback()).await;
    assert_eq!(settling.with_goods, BTreeSet::from([placed.payment_id]));
    assert_eq!(settling.shared.points[&buyer].balance(), won(90));
    two.rollback().await;

    let one = world.begin().await;
    one.lock_points(buyer).await.unwrap();
    let ((two, _), ()) = waits_for(world.open_settling(&free), one.rollback()).await;
    two.rollback().await;
}

/// Who waits goes on when the other takes it back.
pub async fn a_rollback_frees_its_locks(world: World) {
    let product = world.product(1000, 5).await;
    let one = world.begin().await;
    one.set_stock(product, Stock::new(1).unwrap()).await.unwrap();
    let asks = [Ask::of(product)];
    let ((two, placing), ()) = waits_for(world.open_placing(&asks), one.rollback()).await;
    assert_eq!(placing.products[&product].stock.quantity(), 5);
    two.rollback().await;
}

/// Who waits goes on when the other's task dies.
pub async fn a_drop_frees_its_locks(world: World) {
    let product = world.product(1000, 5).await;
    let one = world.begin().await;
    one.set_stock(product, Stock::new(1).unwrap()).await.unwrap();
    drop(one);
    // The server may need a moment to notice: a lock time-out is allowed, for so long as it is promised.
    let start = tokio::time::Instant::now();
    loop {
        let needs = [Ask::of(product).needs()];
        if let Ok((two, _)) = world.ports.store.open_placing(&needs).await {
            two.rollback().await;
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the lock was never freed");
    }
    assert_eq!(world.stock(product).await, 5);
}

/// After the wait a row is read anew, so no update is lost.
pub async fn a_locked_row_is_read_after_the_wait(world: World) {
    let product = world.product(1000, 5).await;
    let one = world.begin().await;
    one.set_stock(product, Stock::new(2).unwrap()).await.unwrap();
    let asks = [Ask::of(product)];
    let ((two, placing), _) = waits_for(world.open_placing(&asks), one.commit()).await;
    assert_eq!(placing.products[&product].stock.quantity(), 2);
    two.rollback().await;
}

/// After the wait all that belongs to a payment is read anew, not only its own row: the check row, the order, the hints,
/// and who owns which key. A read beside the lock would show the moment before the wait, and a payment whose watching
/// was wanted meanwhile would be taken off the watch list.
pub async fn what_lies_beside_a_locked_row_is_read_after_the_wait(world: World) {
    let (first, second) = (world.place().await, world.place().await);
    world.start(first).await;
    let (one, settling) = world.open_settling(&[needs(first), needs(second)]).await;
    let case = &settling.cases[&first.payment_id];
    let check = Check { watch_wanted: true, failures: 3, ..case.check };
    let hint = Some(super::world::key("hinted"));
    let changes = Changes { check: Some(check), hint, ..paid(case, "paid") };
    one.store_changes(&[changes]).await.unwrap();
    let asked = [SettlingNeeds { keys: vec![super::world::key("paid")], ..with_goods(first) }];
    let ((two, settling), _) = waits_for(world.open_settling(&asked), one.commit()).await;
    two.rollback().await;
    let case = &settling.cases[&first.payment_id];
    assert_eq!((case.record.version, case.record.payment.status()), (2, domain::PaymentStatus::Paid));
    assert_eq!(case.check, check);
    assert_eq!((case.order.version, case.order.value.status()), (1, domain::OrderStatus::Paid));
    assert_eq!(case.hints.iter().map(|hint| hint.key.as_str()).collect::<Vec<_>>(), ["hinted"]);
    assert_eq!(settling.shared.key_owners[&super::world::key("paid")], first.payment_id);
}

/// A callback waits for whoever settles its payment; neither its wake-up nor what was settled is lost.
pub async fn a_callback_waits_for_who_settles_its_payment(world: World) {
    let placed = world.place_young().await;
    world.start(placed).await;
    let (one, settling) = world.open_settling(&[needs(placed)]).await;
    let case = &settling.cases[&placed.payment_id];
    let check = Check { watch_wanted: true, watch_step: 3, ..Check::default() };
    one.store_changes(&[Changes { check: Some(check), ..paid(case, "k") }]).await.unwrap();
    let notes = [named(placed, "other")];
    let (noted, _) = waits_for(world.ports.store.note_callbacks(&notes), one.commit()).await;
    assert_eq!(noted, Ok(vec![Some(placed.payment_id)]));
    let case = world.case(placed).await;
    assert_eq!(Check { woken_at: None, ..case.check }, check);
    assert!(case.check.woken_at.is_some());
    assert_eq!(case.hints.len(), 1);
}

/// Two that wait for each other: one gets a conflict (or its time-out), and nothing hangs.
pub async fn a_circle_of_waiting_is_broken(world: World) {
    let (a, b) = (user(1), user(2));
    let (one, two) = (world.begin().await, world.begin().await);
    one.lock_points(a).await.unwrap();
    two.lock_points(b).await.unwrap();
    let first = async {
        let result = one.lock_points(b).await;
        one.rollback().await;
        result
    };
    let second = async {
        let result = two.lock_points(a).await;
        two.rollback().await;
        result
    };
    let (first, second) = tokio::join!(first, second);
    let broken = |result: &Result<_, StoreError>| {
        matches!(result, Err(StoreError::Conflict { .. } | StoreError::Unavailable { .. }))
    };
    assert!(broken(&first) || broken(&second));
}

/// Rows are locked in one order, whatever order a batch names them in: batches that cross never form a circle.
pub async fn batches_that_cross_form_no_circle(world: World) {
    let (a, b) = (world.product(1000, 1000).await, world.product(1000, 1000).await);
    for buyer in [1, 2] {
        world.charge_points(user(buyer), 1000).await;
    }
    let ask = |buyer, product| Ask { user: user(buyer), points: 1, ..Ask::of(product) };
    let placed = world.place_all(&[ask(1, a), ask(2, b)]).await;
    for _ in 0..6 {
        let (up, down) = ([ask(1, a), ask(2, b)], [ask(2, b), ask(1, a)]);
        let upwards = [with_goods(placed[0]), with_goods(placed[1])];
        let downwards = [with_goods(placed[1]), with_goods(placed[0])];
        let settle = async |needs: &[SettlingNeeds]| {
            let (tx, settling) = world.open_settling(needs).await;
            let cases = settling.cases.values();
            let changes = cases.map(|case| moved(case, |payment| payment)).collect::<Vec<_>>();
            tx.store_changes(&changes).await.unwrap();
            tx.commit().await.unwrap();
        };
        let start = async |ids: [usize; 2]| {
            let ids = ids.map(|at| placed[at].payment_id);
            world.ports.store.start_payments(&ids).await.unwrap();
        };
        let note = async |order: [usize; 2]| {
            let notes = order.map(|at| named(placed[at], "k"));
            world.ports.store.note_callbacks(&notes).await.unwrap();
        };
        tokio::join!(
            world.place_all(&up),
            world.place_all(&down),
            settle(&upwards),
            settle(&downwards),
            start([0, 1]),
            start([1, 0]),
            note([0, 1]),
            note([1, 0]),
        );
    }
}

/// Ids are not given out again, even after a rollback; a batch gets one pair for each order, in its order.
pub async fn ids_are_never_given_twice(world: World) {
    let ask = Ask::of(world.product(1000, 5).await);
    let mut orders = BTreeSet::new();
    let mut payments = BTreeSet::new();
    for round in 0..6 {
        let (tx, placing) = world.open_placing(&vec![ask.clone(); round]).await;
        assert_eq!(placing.ids.len(), round);
        for ids in placing.ids {
            assert!(ids.order_id.get() > 100_000, "the gateway wants six characters");
            assert!(orders.insert(ids.order_id) && payments.insert(ids.payment_id));
        }
        if round % 2 == 0 { tx.commit().await.unwrap() } else { tx.rollback().await }
    }
}
