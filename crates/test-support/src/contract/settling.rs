//! What settling loads and stores: payments, orders, what goes back, keys.

use super::World;
use super::world::{
    Ask, HOUR, Placed, failed, key, moved, needs, nothing, paid, status, tick, user, waits_for, with_goods,
    with_key, won,
};
use domain::ports::{PointEntry, PointEntryKind, StoreError, Versioned};
use domain::settlement::{Case, Changes, Check, Hint, SettlingNeeds, StockBack};
use domain::{
    Discount, FailureMessage, IssuedCouponId, IssuedCouponStatus, OrderStatus, Payment, PaymentId,
    PaymentStatus, ProductId, Quantity,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// A payment's case holds all that belongs to it.
pub async fn a_case_is_complete(world: World) {
    let (placed, product, coupon) = place_with_goods(&world).await;
    let bystander = world.place().await;
    world.start(bystander).await;
    world.change(bystander, |case, _| with_key(case, "owned")).await;
    world.callback(placed, "b").await;
    world.callback(placed, "a").await;
    let keys = vec![key("owned"), key("free")];
    let asked = [SettlingNeeds { keys, ..with_goods(placed) }, needs(bystander)];
    let (tx, settling) = world.open_settling(&asked).await;
    tx.rollback().await;
    assert_eq!(settling.cases.keys().copied().collect::<Vec<_>>(), [placed.payment_id, bystander.payment_id]);
    assert_eq!(settling.with_goods, BTreeSet::from([placed.payment_id]));
    let owners: Vec<_> = settling.shared.key_owners.into_iter().collect();
    assert_eq!(owners, [(key("owned"), bystander.payment_id)]);
    assert_eq!(settling.shared.points[&user(1)].balance(), won(70));
    let case = &settling.cases[&placed.payment_id];
    assert_eq!(case.record, world.record(placed).await);
    assert_eq!((case.order.version, case.order.value.id()), (0, placed.order_id));
    assert_eq!(case.order.value.items()[0].product_id, product);
    let holding = case.coupon.as_ref().unwrap();
    assert_eq!((holding.version, holding.value.issued.id), (1, coupon));
    assert_eq!(holding.value.issued.id, case.record.issued_coupon_id.unwrap());
    let hint = |name| Hint { key: key(name), lease_id: None };
    assert_eq!(case.hints, [hint("a"), hint("b")]);
    assert!(case.check.woken_at.is_some() && case.check.lease.is_none());
    assert_eq!(case.check.due_at, Some(case.record.created_at + HOUR));
    let (tx, without) = world.open_settling(&[needs(placed)]).await;
    tx.rollback().await;
    let case = without.cases[&placed.payment_id].clone();
    assert_eq!((case.coupon, case.hints.len()), (None, 2), "a coupon comes with the goods");
    let other = &settling.cases[&bystander.payment_id];
    assert_eq!((other.coupon.as_ref(), other.hints.len()), (None, 0));
}

/// What does not exist, and what has nothing on the card, is not in the result.
pub async fn what_can_not_be_settled_is_left_out(world: World) {
    world.charge_points(user(1), 1000).await;
    let ask = Ask { points: 1000, ..Ask::of(world.product(1000, 1).await) };
    let points_only = world.place_as(ask).await;
    let unknown = Placed { payment_id: PaymentId::new(1 << 40).unwrap(), ..points_only };
    let placed = world.place().await;
    let asked = [with_goods(unknown), with_goods(placed), with_goods(points_only)];
    let (tx, settling) = world.open_settling(&asked).await;
    tx.commit().await.unwrap();
    assert_eq!(settling.cases.keys().copied().collect::<Vec<_>>(), [placed.payment_id]);
    assert_eq!(settling.with_goods, BTreeSet::from([placed.payment_id]));
}

/// Who owns a key is read after the last lock, be it that of the goods.
pub async fn key_owners_are_read_after_all_locks(world: World) {
    let product = world.product(1000, 9).await;
    let placed = world.place_all(&[Ask::of(product), Ask::of(product)]).await;
    world.start(placed[1]).await;
    let (one, settling) = world.open_settling(&[with_goods(placed[1])]).await;
    one.store_changes(&[paid(&settling.cases[&placed[1].payment_id], "k")]).await.unwrap();
    let asked = [SettlingNeeds { keys: vec![key("k")], ..with_goods(placed[0]) }];
    let ((two, settling), _) = waits_for(world.open_settling(&asked), one.commit()).await;
    two.rollback().await;
    assert_eq!(settling.shared.key_owners.get(&key("k")), Some(&placed[1].payment_id));
}

/// Storing counts the version up and moves `updated_at`; an older version is a conflict.
pub async fn a_payment_is_stored_at_its_version(world: World) {
    let placed = world.place_as(Ask { send_within: HOUR, ..Ask::of(world.product(1000, 9).await) }).await;
    let before = world.case(placed).await;
    tick().await;
    let started = |case: &Case| moved(case, |payment| payment.start().unwrap());
    world.change(placed, |case, _| started(case)).await;
    let after = world.record(placed).await;
    assert_eq!((after.version, after.payment.status()), (1, PaymentStatus::InProgress));
    assert!(after.updated_at > before.record.updated_at);
    let kept = (after.created_at, after.send_deadline);
    assert_eq!(kept, (before.record.created_at, before.record.send_deadline));

    let stale = world.try_change(placed, |_, _| started(&before)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    assert_eq!(world.record(placed).await, after);
    // Nothing to store is nothing changed.
    world.change(placed, |case, _| nothing(case)).await;
    assert_eq!(world.record(placed).await, after);
}

/// Two that want to end a payment: the second waits for the first and finds it ended.
pub async fn a_payment_race_has_one_winner(world: World) {
    let placed = world.place().await;
    world.start(placed).await;
    let asked = [with_goods(placed)];
    let (one, first) = world.open_settling(&asked).await;
    one.store_changes(&[paid(&first.cases[&placed.payment_id], "k")]).await.unwrap();
    let ((two, second), _) = waits_for(world.open_settling(&asked), one.commit()).await;
    let case = &second.cases[&placed.payment_id];
    assert_eq!((case.record.version, case.record.payment.status()), (2, PaymentStatus::Paid));
    // Whoever does not look loses all the same.
    let late = failed(&first.cases[&placed.payment_id]);
    assert!(matches!(two.store_changes(&[late]).await, Err(StoreError::Conflict { .. })));
    two.rollback().await;
    assert_eq!(status(&world, placed).await, PaymentStatus::Paid);
}

/// PAID and FAILED never leave, whoever tries.
pub async fn ended_payments_never_change(world: World) {
    let (paid, failed) = (world.place().await, world.place().await);
    world.pay(paid, "k").await;
    world.fail(failed).await;
    for placed in [paid, failed] {
        let record = world.record(placed).await;
        let again = world
            .try_change(placed, |case, _| {
                moved(case, |payment| {
                    let fresh = Payment::create(
                        payment.id(),
                        payment.order_id(),
                        payment.user_id(),
                        *payment.amounts(),
                    );
                    fresh.start().unwrap()
                })
            })
            .await;
        assert!(again.is_err());
        assert_eq!(world.record(placed).await, record);
    }
}

/// An order's version counts; PAID and CANCELLED orders never leave.
pub async fn ended_orders_never_change(world: World) {
    for end in [OrderStatus::Paid, OrderStatus::Cancelled] {
        let placed = world.place().await;
        let fresh = world.case(placed).await.order;
        let ended = match end {
            OrderStatus::Paid => fresh.value.clone().pay().unwrap(),
            OrderStatus::Placed | OrderStatus::Cancelled => fresh.value.clone().cancel().unwrap(),
        };
        let store = async |version| {
            let order = Some(Versioned { version, value: ended.clone() });
            world.try_change(placed, |case, _| Changes { order, ..nothing(case) }).await
        };
        assert!(matches!(store(5).await, Err(StoreError::Conflict { .. })));
        assert_eq!(store(0).await, Ok(()));
        assert!(matches!(store(0).await, Err(StoreError::Conflict { .. })));
        assert!(store(1).await.is_err());
        let view = world.ports.queries.order(None, placed.order_id).await.unwrap().unwrap();
        assert_eq!(view.order.status(), end);
    }
}

/// A key that another payment owns is a conflict; one that its payment replaced by another is free again.
pub async fn a_key_has_one_owner(world: World) {
    let (owner, other) = (world.place().await, world.place().await);
    world.start(owner).await;
    world.start(other).await;
    world.change(owner, |case, _| with_key(case, "first")).await;
    let stolen = world.try_change(other, |case, _| with_key(case, "first")).await;
    assert!(matches!(stolen, Err(StoreError::Conflict { .. })));
    world.change(owner, |case, _| with_key(case, "second")).await;
    world.change(other, |case, _| with_key(case, "first")).await;
    assert_eq!(world.record(owner).await.payment.key(), Some(&key("second")));
    assert_eq!(world.record(other).await.payment.key(), Some(&key("first")));
}

/// Two payments take one key at once: the second waits and loses.
pub async fn two_take_one_key_at_once(world: World) {
    let (first, second) = (world.place().await, world.place().await);
    world.start(first).await;
    world.start(second).await;
    let (one, a) = world.open_settling(&[needs(first)]).await;
    let (two, b) = world.open_settling(&[needs(second)]).await;
    one.store_changes(&[with_key(&a.cases[&first.payment_id], "one")]).await.unwrap();
    let late = [with_key(&b.cases[&second.payment_id], "one")];
    let (lost, _) = waits_for(two.store_changes(&late), one.commit()).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    two.rollback().await;
}

/// PAID by card without a key: refused.
pub async fn a_card_payment_needs_its_key_to_be_paid(world: World) {
    let placed = world.place().await;
    world.start(placed).await;
    let read = world.record(placed).await;
    let keyless = world.try_change(placed, |case, _| moved(case, |payment| payment.success().unwrap())).await;
    assert!(keyless.is_err());
    assert_eq!(world.record(placed).await, read);
}

/// Our request is over: that is the send deadline, unless it passed before.
pub async fn the_end_of_sending_moves_the_deadline(world: World) {
    for (send_within, moves) in [(HOUR, true), (Duration::ZERO, false)] {
        let placed = world.place_as(Ask { send_within, ..Ask::of(world.product(1000, 9).await) }).await;
        let before = world.record(placed).await;
        world.start(placed).await;
        assert_eq!(world.record(placed).await.send_deadline, before.send_deadline);
        tick().await;
        let mut moment = before.created_at;
        world
            .change(placed, |case, now| {
                moment = now;
                Changes { sending_ended: true, ..with_key(case, &format!("k{moves}")) }
            })
            .await;
        let expected = if moves { moment } else { before.send_deadline };
        assert_eq!(world.record(placed).await.send_deadline, expected);
    }
}

/// An order of two pieces for 10 % off and 30 of 100 points.
async fn place_with_goods(world: &World) -> (Placed, ProductId, IssuedCouponId) {
    let product = world.product(1000, 5).await;
    world.charge_points(user(1), 100).await;
    let tx = world.begin().await;
    let coupon = tx.insert_coupon("c", Discount::rate(10).unwrap(), None).await.unwrap();
    let issued = tx.insert_issued_coupon(coupon.id, user(1)).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    let ask = Ask {
        lines: vec![(product, 2)],
        points: 30,
        coupon: Some(issued.id),
        check_in: HOUR,
        ..Ask::of(product)
    };
    (world.place_as(ask).await, product, issued.id)
}

/// All that the order took goes back with its end.
fn given_back(case: &Case, points: domain::PointAccount) -> Changes {
    let amount = case.record.payment.amounts().used_point();
    let items = case.order.value.items();
    let holding = case.coupon.as_ref().unwrap();
    Changes {
        stock_back: items
            .iter()
            .map(|item| StockBack { product_id: item.product_id, quantity: item.quantity })
            .collect(),
        points_back: Some(PointEntry {
            account: points.restore(amount).unwrap(),
            kind: PointEntryKind::Restore,
            amount,
            payment_id: Some(case.record.payment.id()),
        }),
        coupon_back: Some(holding.with(holding.value.issued.cancel_use().unwrap())),
        ..failed(case)
    }
}

/// Stock, points and coupon go back with the payment's end, each once: a second time is a conflict, whatever the state.
pub async fn what_was_taken_goes_back_once(world: World) {
    let (placed, product, coupon) = place_with_goods(&world).await;
    assert_eq!((world.stock(product).await, world.points(user(1)).await), (3, 70));
    let asked = [with_goods(placed)];
    let (tx, settling) = world.open_settling(&asked).await;
    let back = given_back(&settling.cases[&placed.payment_id], settling.shared.points[&user(1)]);
    tx.store_changes(std::slice::from_ref(&back)).await.unwrap();
    tx.commit().await.unwrap();
    let after = async || (world.stock(product).await, world.points(user(1)).await);
    assert_eq!(after().await, (5, 100));
    let mine = world.ports.queries.issued_coupons(user(1)).await.unwrap();
    assert_eq!((mine[0].issued.id, mine[0].issued.status), (coupon, IssuedCouponStatus::Available));
    assert_eq!(world.case(placed).await.coupon.unwrap().version, 2);

    let points = settling.shared.points[&user(1)].restore(won(30)).unwrap().restore(won(30)).unwrap();
    let stock = |_: &Case| Changes { stock_back: back.stock_back.clone(), ..bare(&back) };
    let entry = PointEntry { account: points, ..back.points_back.unwrap() };
    let again: [&(dyn Fn(&Case) -> Changes + Sync); 3] =
        [&stock, &|_| Changes { points_back: Some(entry), ..bare(&back) }, &|_| Changes {
            coupon_back: back.coupon_back,
            ..bare(&back)
        }];
    for changes in again {
        let refused = world.try_change(placed, |case, _| changes(case)).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }
    assert_eq!(after().await, (5, 100));
}

fn bare(changes: &Changes) -> Changes {
    Changes::none(changes.payment_id, changes.order_id)
}

/// A coupon that another payment uses meanwhile does not come back a second time for the first one.
pub async fn a_coupon_comes_back_once_for_each_payment(world: World) {
    let (first, product, coupon) = place_with_goods(&world).await;
    let back = |case: &Case| {
        let holding = case.coupon.as_ref().unwrap();
        Some(holding.with(holding.value.issued.cancel_use().unwrap()))
    };
    world.change(first, |case, _| Changes { coupon_back: back(case), ..failed(case) }).await;
    let second = world.place_as(Ask { coupon: Some(coupon), ..Ask::of(product) }).await;
    let again = world.try_change(first, |case, _| Changes { coupon_back: back(case), ..nothing(case) }).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })));
    world.change(second, |case, _| Changes { coupon_back: back(case), ..failed(case) }).await;
}

/// A coupon that came back from one payment and is used by another one belongs to both, in one batch, too.
pub async fn two_payments_of_one_coupon_are_loaded_together(world: World) {
    let (first, product, coupon) = place_with_goods(&world).await;
    world
        .change(first, |case, _| {
            let holding = case.coupon.as_ref().unwrap();
            let back = holding.with(holding.value.issued.cancel_use().unwrap());
            Changes { coupon_back: Some(back), ..failed(case) }
        })
        .await;
    let second = world.place_as(Ask { coupon: Some(coupon), ..Ask::of(product) }).await;
    let (tx, settling) = world.open_settling(&[with_goods(first), with_goods(second)]).await;
    tx.rollback().await;
    for placed in [first, second] {
        let holding = settling.cases[&placed.payment_id].coupon.as_ref().unwrap();
        assert_eq!((holding.version, holding.value.issued.id), (3, coupon));
    }
}

/// Two payments of one buyer and one product end in one transaction: the second one's points follow the first one's.
pub async fn a_batch_gives_back_what_each_took(world: World) {
    let product = world.product(1000, 9).await;
    world.charge_points(user(1), 100).await;
    let ask = |pieces, points| Ask { lines: vec![(product, pieces)], points, ..Ask::of(product) };
    let placed = world.place_all(&[ask(2, 30), ask(3, 20), ask(1, 0)]).await;
    assert_eq!((world.stock(product).await, world.points(user(1)).await), (3, 50));
    let asked: Vec<_> = placed.iter().rev().map(|placed| with_goods(*placed)).collect();
    let (tx, settling) = world.open_settling(&asked).await;
    let mut account = settling.shared.points[&user(1)];
    let mut changes = Vec::new();
    for case in settling.cases.values() {
        let amount = case.record.payment.amounts().used_point();
        let payment_id = Some(case.record.payment.id());
        let points_back = amount.is_positive().then(|| {
            account = account.restore(amount).unwrap();
            PointEntry { account, kind: PointEntryKind::Restore, amount, payment_id }
        });
        let item = &case.order.value.items()[0];
        let stock_back = vec![StockBack { product_id: product, quantity: item.quantity }];
        changes.push(Changes { points_back, stock_back, ..failed(case) });
    }
    tx.store_changes(&changes).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((world.stock(product).await, world.points(user(1)).await), (9, 100));
    for placed in placed {
        assert_eq!(status(&world, placed).await, PaymentStatus::Failed);
    }
}

/// One change that can't be stored takes its whole batch with it.
pub async fn a_batch_of_changes_is_stored_whole_or_not_at_all(world: World) {
    let (good, bad) = (world.place().await, world.place().await);
    let (tx, settling) = world.open_settling(&[with_goods(good), with_goods(bad)]).await;
    let mut stale = failed(&settling.cases[&bad.payment_id]);
    stale.stock_back =
        vec![StockBack { product_id: ProductId::new(1 << 40).unwrap(), quantity: Quantity::new(1).unwrap() }];
    let changes = [failed(&settling.cases[&good.payment_id]), stale];
    assert!(tx.store_changes(&changes).await.is_err());
    tx.rollback().await;
    assert_eq!(status(&world, good).await, PaymentStatus::Pending);
}

/// The check row is stored as it is told, column by column.
pub async fn a_check_is_stored_as_told(world: World) {
    let placed = world.place().await;
    let mut told = Check::default();
    world
        .change(placed, |case, now| {
            told = Check {
                due_at: Some(now + HOUR),
                woken_at: Some(now),
                lease: Some(domain::settlement::Lease { id: 7, until: now + HOUR / 2 }),
                claimed_at: Some(now - HOUR),
                failures: 3,
                parked_at: Some(now),
                transaction_seen: true,
                not_found_count: 2,
                not_found_at: Some(now - HOUR),
                watch_wanted: true,
                watch_step: 4,
            };
            Changes { check: Some(told), ..nothing(case) }
        })
        .await;
    assert_eq!(world.case(placed).await.check, told);
    // As it stands, when nothing is told.
    world.change(placed, |case, _| moved(case, |payment| payment.start().unwrap())).await;
    assert_eq!(world.case(placed).await.check, told);
    world.change(placed, |case, _| Changes { check: Some(Check::default()), ..nothing(case) }).await;
    assert_eq!(world.case(placed).await.check, Check::default());
}

/// A key to be looked up is a hint like a callback's; one that was looked up is none any more, until it is named again.
pub async fn hints_come_and_go(world: World) {
    let placed = world.place().await;
    let hints = async || {
        let case = world.case(placed).await;
        case.hints.iter().map(|hint| (hint.key.as_str().to_owned(), hint.lease_id)).collect::<Vec<_>>()
    };
    let hint = async |name: &str| {
        let hint = Some(key(name));
        world.change(placed, |case, _| Changes { hint, ..nothing(case) }).await;
    };
    hint("b").await;
    hint("a").await;
    hint("b").await;
    assert_eq!(hints().await, [("a".to_owned(), None), ("b".to_owned(), None)]);
    world
        .change(placed, |case, _| Changes { hints_done: vec![key("a"), key("unknown")], ..nothing(case) })
        .await;
    assert_eq!(hints().await, [("b".to_owned(), None)]);
    world.change(placed, |case, _| Changes { hints_done: vec![key("b")], ..nothing(case) }).await;
    assert!(hints().await.is_empty());
    hint("a").await;
    assert_eq!(hints().await, [("a".to_owned(), None)]);
    // Looked up and named again: to be looked up.
    world
        .change(placed, |case, _| Changes {
            hint: Some(key("a")),
            hints_done: vec![key("a")],
            ..nothing(case)
        })
        .await;
    assert_eq!(hints().await, [("a".to_owned(), None)]);
    // The store wakes nobody by itself.
    assert_eq!(world.case(placed).await.check.woken_at, None);
}

/// A failed payment keeps its message.
pub async fn a_failure_keeps_its_message(world: World) {
    let placed = world.place().await;
    let text = "가".repeat(FailureMessage::MAX_CHARS);
    let message = FailureMessage::new(text.clone()).unwrap();
    world.change(placed, |case, _| moved(case, |payment| payment.fail(Some(message)).unwrap())).await;
    let stored = world.record(placed).await.payment;
    assert!(matches!(
        stored.state(),
        domain::PaymentState::Failed { message: Some(message), .. } if message.as_str() == text
    ));
}
