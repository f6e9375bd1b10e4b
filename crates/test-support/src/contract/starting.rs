//! Starting payments: what is written before a request may leave.

use super::World;
use super::world::{failed, needs, status, waits_for};
use domain::PaymentStatus::{Failed, InProgress, Pending};
use domain::ports::Cause;
use domain::{PaymentId, PaymentStatus};
use std::collections::BTreeSet;

/// PENDING ones are started, each with a row of history; those that are not PENDING, or not there, are not.
pub async fn only_pending_payments_are_started(world: World) {
    let (one, two) = (world.place().await, world.place().await);
    let (ended, unknown) = (world.place().await, PaymentId::new(1 << 40).unwrap());
    world.fail(ended).await;
    let ids = [two.payment_id, unknown, ended.payment_id, one.payment_id, one.payment_id];
    let started = world.ports.store.start_payments(&ids).await.unwrap();
    assert_eq!(started, BTreeSet::from([one.payment_id, two.payment_id]));
    for placed in [one, two] {
        let view = world.view(placed).await;
        assert_eq!((view.record.version, view.record.payment.status()), (1, InProgress));
        let steps: Vec<_> = view.history.iter().map(|row| (row.from, row.to, row.cause)).collect();
        assert_eq!(steps, [(None, Pending, Cause::Api), (Some(Pending), InProgress, Cause::Api)]);
        assert_eq!(view.history[1].at, view.record.updated_at);
        // The next look stays where the order has put it.
        assert_eq!(view.next_check_at, Some(view.record.created_at));
    }
    assert_eq!(status(&world, ended).await, Failed);
    assert!(world.ports.store.start_payments(&[]).await.unwrap().is_empty());
}

/// A second time starts nothing.
pub async fn a_payment_is_started_once(world: World) {
    let placed = world.place().await;
    world.start(placed).await;
    let before = world.view(placed).await;
    assert_eq!(world.ports.store.start_payments(&[placed.payment_id]).await, Ok(BTreeSet::new()));
    assert_eq!(world.view(placed).await, before);
}

/// Two at once: each payment is started by one of them.
pub async fn two_starters_share_nothing(world: World) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.place().await.payment_id);
    }
    let reversed: Vec<_> = ids.iter().rev().copied().collect();
    let store = &world.ports.store;
    let (one, two) = tokio::join!(store.start_payments(&ids), store.start_payments(&reversed));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.is_disjoint(&two));
    assert_eq!(one.len() + two.len(), 3);
}

/// Whoever settles a payment is waited for; one that ended meanwhile is not started.
pub async fn a_payment_that_ends_is_not_started(world: World) {
    let (ends, stays) = (world.place().await, world.place().await);
    let (tx, settling) = world.open_settling(&[needs(ends), needs(stays)]).await;
    tx.store_changes(&[failed(&settling.cases[&ends.payment_id])]).await.unwrap();
    let ids = [ends.payment_id, stays.payment_id];
    let (started, _) = waits_for(world.ports.store.start_payments(&ids), tx.commit()).await;
    assert_eq!(started, Ok(BTreeSet::from([stays.payment_id])));
    let statuses: [PaymentStatus; 2] = [status(&world, ends).await, status(&world, stays).await];
    assert_eq!(statuses, [Failed, InProgress]);
}
