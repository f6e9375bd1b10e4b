//! Reads: whose, in which order, and pages.

use super::World;
use super::ledger::{self, row};
use super::world::{Ask, HOUR, Placed, key, tick, user, won};
use domain::ports::{AdminPaymentFilter, Cause, DiscrepancyStatus, OrderCursor};
use domain::settlement::{Check, Discrepancy, DiscrepancyKind};
use domain::{Discount, OrderId, OrderStatus, PaymentStatus, Timestamp, UserId};
use std::collections::BTreeSet;
use std::time::Duration;

async fn place_for(world: &World, user: UserId) -> Placed {
    world.place_as(Ask { user, ..Ask::of(world.product(1000, 10).await) }).await
}

/// Another buyer's order and payment look unknown.
pub async fn buyers_see_their_own(world: World) {
    let placed = place_for(&world, user(1)).await;
    let queries = &world.ports.queries;
    for (who, visible) in [(Some(user(1)), true), (Some(user(2)), false), (None, true)] {
        assert_eq!(queries.order(who, placed.order_id).await.unwrap().is_some(), visible);
        assert_eq!(queries.payment(who, placed.payment_id).await.unwrap().is_some(), visible);
    }
    let unknown = domain::OrderId::new(1 << 40).unwrap();
    assert_eq!(queries.order(None, unknown).await, Ok(None));
}

/// Newest first, by status, page by page without gaps or repeats.
pub async fn orders_are_paged(world: World) {
    let mut mine = Vec::new();
    for _ in 0..3 {
        mine.push(place_for(&world, user(1)).await);
        place_for(&world, user(2)).await;
    }
    world.pay(mine[1], "k").await;
    let queries = &world.ports.queries;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = queries.orders(user(1), None, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(OrderCursor(last.order.id()));
        seen.extend(page.iter().map(|view| view.order.id()));
    }
    let newest_first: Vec<_> = mine.iter().rev().map(|placed| placed.order_id).collect();
    assert_eq!(seen, newest_first);
    let paid = queries.orders(user(1), Some(OrderStatus::Paid), None, 10).await.unwrap();
    assert_eq!(paid.len(), 1);
    assert_eq!(paid[0].order.id(), mine[1].order_id);
    assert_eq!(paid[0].payment.payment.id(), mine[1].payment_id);
}

/// By status and age, newest first, page by page.
pub async fn payments_are_filtered(world: World) {
    let (a, b, c) = (world.place().await, world.place().await, world.place().await);
    world.start(b).await;
    let ids = async |filter: AdminPaymentFilter| {
        let rows = world.ports.queries.payments(&filter).await.unwrap();
        rows.iter().map(|row| row.payment.id()).collect::<Vec<_>>()
    };
    let all = AdminPaymentFilter { limit: 10, ..AdminPaymentFilter::default() };
    assert_eq!(ids(all).await, [c.payment_id, b.payment_id, a.payment_id]);
    assert_eq!(ids(AdminPaymentFilter { limit: 1, ..all }).await, [c.payment_id]);
    let before = AdminPaymentFilter { before: Some(c.payment_id), ..all };
    assert_eq!(ids(before).await, [b.payment_id, a.payment_id]);
    let started = AdminPaymentFilter { status: Some(PaymentStatus::InProgress), ..all };
    assert_eq!(ids(started).await, [b.payment_id]);
    assert!(ids(AdminPaymentFilter { older_than: Some(HOUR), ..all }).await.is_empty());
    tick().await;
    let old = AdminPaymentFilter { older_than: Some(Duration::from_micros(1)), ..all };
    assert_eq!(ids(old).await.len(), 3);
}

/// The whole history, oldest first, each row with the moment of its transaction.
pub async fn history_is_complete(world: World) {
    let placed = world.place().await;
    world.pay(placed, "k").await;
    let view = world.view(placed).await;
    let steps: Vec<_> = view.history.iter().map(|row| (row.from, row.to)).collect();
    let (pending, started) = (PaymentStatus::Pending, PaymentStatus::InProgress);
    assert_eq!(steps, [(None, pending), (Some(pending), started), (Some(started), PaymentStatus::Paid)]);
    assert!(view.history.windows(2).all(|two| two[0].sequence < two[1].sequence && two[0].at <= two[1].at));
    assert_eq!(view.history[0].at, view.record.created_at);
    assert_eq!(view.history[2].key, Some(key("k")));
    assert_eq!(view.history[2].at, view.record.updated_at);
    assert_eq!((view.next_check_at, view.parked), (None, false));
}

/// Ascending by id, page by page.
pub async fn products_are_paged(world: World) {
    let (a, b, c) = (world.product(1, 1).await, world.product(2, 2).await, world.product(3, 0).await);
    let ids = async |after, limit| {
        let page = world.ports.queries.products(after, limit).await.unwrap();
        page.iter().map(|product| product.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, 2).await, [a, b]);
    assert_eq!(ids(Some(b), 2).await, [c]);
    assert!(ids(Some(c), 2).await.is_empty());
    let product = world.ports.queries.product(b).await.unwrap().unwrap();
    assert_eq!((product.name.as_str(), product.price), ("product", won(2)));
    assert_eq!(product.stock.quantity(), 2);
    assert_eq!(world.ports.queries.product(domain::ProductId::new(1 << 40).unwrap()).await, Ok(None));
}

/// Newest first, by status, page by page.
pub async fn discrepancies_are_paged(world: World) {
    let placed = world.place().await;
    for name in ["a", "b", "c"] {
        ledger::record(&world, placed, vec![row(DiscrepancyKind::LateSuccess, name)]).await;
    }
    let mut ids = ledger::ids(&world, placed).await;
    ids.reverse();
    let tx = world.begin().await;
    tx.resolve_discrepancy(ids[1], "NOTHING", "", "me").await.unwrap();
    tx.commit().await.unwrap();
    let page = async |status, before, limit| {
        let rows = world.ports.queries.discrepancies(status, before, limit).await.unwrap();
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, None, 2).await, [ids[2], ids[1]]);
    assert_eq!(page(None, Some(ids[1]), 2).await, [ids[0]]);
    assert_eq!(page(Some(DiscrepancyStatus::Open), None, 9).await, [ids[2], ids[0]]);
    assert_eq!(page(Some(DiscrepancyStatus::Resolved), None, 9).await, [ids[1]]);
    let unknown = domain::DiscrepancyId::new(1 << 40).unwrap();
    assert_eq!(world.ports.queries.discrepancy(unknown).await, Ok(None));
}

/// Of this payment and no other, newest first.
pub async fn a_payments_discrepancies_are_found(world: World) {
    let (one, other) = (world.place().await, world.place().await);
    for (placed, name) in [(one, "a"), (other, "b"), (one, "c")] {
        ledger::record(&world, placed, vec![row(DiscrepancyKind::LateSuccess, name)]).await;
    }
    let found = world.ports.queries.discrepancies_of(one.payment_id).await.unwrap();
    let names: Vec<_> = found.iter().map(|row| row.key.clone().unwrap()).collect();
    assert_eq!(names, [key("c"), key("a")]);
    let unknown = domain::PaymentId::new(1 << 40).unwrap();
    assert!(world.ports.queries.discrepancies_of(unknown).await.unwrap().is_empty());
}

/// Parked ones, then what is due first; ended payments only while they are watched, or parked.
pub async fn the_worklist_shows_what_is_due(world: World) {
    let worklist = async || world.ports.queries.worklist(10).await.unwrap();
    let empty = worklist().await;
    assert_eq!((empty.unsettled_by_age, empty.checks.len()), ([0; 4], 0));
    let (young, woken, parked) = (world.place_young().await, world.place_young().await, world.place().await);
    let (watched, ended, parked_too) = (world.place().await, world.place().await, world.place().await);
    let now = world.record(young).await.created_at;
    world.start(young).await;
    world.fail_watched(watched, Check { due_at: Some(now + HOUR / 2), ..Check::default() }).await;
    world.fail(ended).await;
    world.callback(woken, "k").await;
    world.fail_watched(parked_too, Check { parked_at: Some(now), ..Check::default() }).await;
    let check = Check { parked_at: Some(now), failures: 8, due_at: Some(now), ..Check::default() };
    world
        .change(parked, |case, _| domain::settlement::Changes {
            check: Some(check),
            ..super::world::nothing(case)
        })
        .await;
    let list = worklist().await;
    let order: Vec<_> = list.checks.iter().map(|check| check.payment_id).collect();
    assert_eq!(order, [parked, parked_too, woken, watched, young].map(|placed| placed.payment_id));
    assert_eq!(list.unsettled_by_age, [3, 0, 0, 0]);
    let [first, _, third, fourth, last] = &list.checks[..] else { unreachable!("five of them") };
    assert_eq!((first.parked, first.due_at, first.failures), (true, None, 8));
    assert!(!third.parked && third.due_at.unwrap() <= list.now);
    assert_eq!((fourth.status, fourth.order_id), (PaymentStatus::Failed, watched.order_id));
    assert_eq!(last.due_at, Some(world.record(young).await.created_at + HOUR));
    assert_eq!((last.paid_amount, last.failures, last.leased_until), (won(1000), 0, None));
    let claim = super::world::claimable(
        domain::ports::Due::One { payment_id: young.payment_id, min_interval: Duration::ZERO },
        1,
    );
    let claimed_at = world.claim(&claim).await[0].claimed_at;
    let list = worklist().await;
    let last = list.checks.iter().find(|check| check.payment_id == young.payment_id).unwrap();
    assert_eq!((last.leased_until, last.due_at), (Some(claimed_at + HOUR), Some(claimed_at + HOUR)));
    assert_eq!(world.ports.queries.worklist(1).await.unwrap().checks.len(), 1);
}

/// Of all payments, newest first.
pub async fn recent_events_are_found_by_cause(world: World) {
    let (one, other) = (world.place().await, world.place().await);
    world.pay(one, "k").await;
    world.fail(other).await;
    let recent = world.ports.queries.recent_events(Cause::Reconciler, 10).await.unwrap();
    let seen: Vec<_> = recent.iter().map(|row| (row.payment_id, row.event.to)).collect();
    assert_eq!(seen, [(other.payment_id, PaymentStatus::Failed), (one.payment_id, PaymentStatus::Paid)]);
    assert_eq!(world.ports.queries.recent_events(Cause::Api, 1).await.unwrap().len(), 1);
    assert!(world.ports.queries.recent_events(Cause::Operator, 10).await.unwrap().is_empty());
}

/// A buyer's own coupons, newest first, with their terms.
pub async fn coupons_are_listed(world: World) {
    let tx = world.begin().await;
    let mut issued = Vec::new();
    for name in ["a", "b"] {
        let coupon = tx.insert_coupon(name, Discount::rate(10).unwrap(), None).await.unwrap();
        issued.push(tx.insert_issued_coupon(coupon.id, user(1)).await.unwrap().unwrap());
        tx.insert_issued_coupon(coupon.id, user(2)).await.unwrap();
    }
    tx.commit().await.unwrap();
    let views = world.ports.queries.issued_coupons(user(1)).await.unwrap();
    assert_eq!(views.iter().map(|view| view.issued).collect::<Vec<_>>(), [issued[1], issued[0]]);
    assert_eq!(views[0].coupon.name, "b");
    assert!(world.ports.queries.issued_coupons(user(3)).await.unwrap().is_empty());
}

/// Gauges: what waits, for how long (F78: also when no reconciler runs), what is open, what is watched.
pub async fn statistics_count(world: World) {
    let empty = world.ports.queries.statistics().await.unwrap();
    assert_eq!((empty.unsettled, empty.oldest_unsettled, empty.watched), (0, None, 0));
    assert_eq!(empty.open_discrepancies.len(), DiscrepancyKind::ALL.len());
    let (waiting, started, ended) = (world.place().await, world.place().await, world.place().await);
    world.start(started).await;
    let later = world.record(ended).await.created_at + HOUR;
    world.fail_watched(ended, Check { due_at: Some(later), ..Check::default() }).await;
    let lost =
        Discrepancy { kind: DiscrepancyKind::PgLost, key: None, amount: None, evidence: String::new() };
    ledger::record(&world, waiting, vec![lost]).await;
    tick().await;
    let counted = world.ports.queries.statistics().await.unwrap();
    assert_eq!((counted.unsettled, counted.watched), (2, 1));
    assert!(counted.oldest_unsettled.unwrap() > Duration::ZERO);
    for (kind, open) in counted.open_discrepancies {
        assert_eq!(open, u64::from(kind == DiscrepancyKind::PgLost), "{kind:?}");
    }
}

/// Orders whose payments changed a moment ago, and no others.
pub async fn changed_orders_are_found(world: World) {
    let (paid, placed) = (world.place().await, world.place().await);
    let all = Duration::from_secs(3600);
    let before = world.ports.queries.changed_orders(all, 10).await.unwrap();
    assert_eq!(
        before.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(),
        BTreeSet::from([paid.order_id, placed.order_id])
    );
    tick().await;
    world.pay(paid, "key").await;
    let after = world.ports.queries.changed_orders(all, 10).await.unwrap();
    let moment = |rows: &[(OrderId, Timestamp)], order| rows.iter().find(|(id, _)| *id == order).unwrap().1;
    assert!(moment(&after, paid.order_id) > moment(&before, paid.order_id));
    assert_eq!(moment(&after, placed.order_id), moment(&before, placed.order_id));
    assert_eq!(world.ports.queries.changed_orders(all, 1).await.unwrap().len(), 1);
    tick().await;
    assert_eq!(world.ports.queries.changed_orders(Duration::ZERO, 10).await, Ok(vec![]));
}

/// The payment last PAID by card.
pub async fn the_last_paid_key_is_found(world: World) {
    assert_eq!(world.ports.queries.last_paid_key().await, Ok(None));
    let (late, early, failed) = (world.place().await, world.place().await, world.place().await);
    world.pay(early, "early").await;
    tick().await;
    world.pay(late, "late").await;
    tick().await;
    world.fail(failed).await;
    let (merchant, last) = world.ports.queries.last_paid_key().await.unwrap().unwrap();
    assert_eq!((merchant.as_str(), last), ("holdfast", key("late")));
}

/// An empty, migrated database is ready.
pub async fn a_ready_database_says_so(world: World) {
    assert_eq!(world.ports.queries.ready().await, Ok(()));
}
