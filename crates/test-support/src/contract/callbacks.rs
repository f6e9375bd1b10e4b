//! What callbacks leave behind, and whom they wake.

use super::World;
use super::world::{AT_ONCE, HOUR, PUT_OFF, UNSETTLED, WATCHED_ONES, ids_of, key, next_check};
use domain::ports::{ClaimOptions, NextDue};

const SHORT: std::time::Duration = std::time::Duration::from_millis(1);
const OLD: ClaimOptions = ClaimOptions { min_age: HOUR, ..UNSETTLED };

/// Only the payment's own hash finds it.
pub async fn a_token_finds_its_payment(world: World) {
    let placed = world.place().await;
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&placed.payment_id.get().to_le_bytes());
    let tx = world.begin().await;
    assert_eq!(tx.find_payment_by_token_hash(&hash).await, Ok(Some(placed.payment_id)));
    hash[31] = 1;
    assert_eq!(tx.find_payment_by_token_hash(&hash).await, Ok(None));
    tx.rollback().await;
}

/// A payment too young to be due is due at once when a callback names it.
pub async fn a_callback_wakes_its_payment(world: World) {
    let (young, named) = (world.place().await, world.place().await);
    assert!(world.claim(&OLD).await.is_empty());
    world.callback(named, "k").await;
    let claims = world.claim(&OLD).await;
    assert_eq!(ids_of(&claims), [named.payment_id]);
    assert_eq!(claims[0].hints, [key("k")]);
    let tx = world.begin().await;
    tx.wake(young.payment_id).await.unwrap();
    tx.commit().await.unwrap();
    let claims = world.claim(&OLD).await;
    assert_eq!(ids_of(&claims), [young.payment_id]);
    assert!(claims[0].hints.is_empty());
}

/// The same hint twice makes one; another key makes another.
pub async fn a_hint_twice_is_one(world: World) {
    let placed = world.place().await;
    for name in ["b", "a", "b"] {
        world.callback(placed, name).await;
    }
    let mut hints = world.claim(&OLD).await[0].hints.clone();
    hints.sort();
    assert_eq!(hints, [key("a"), key("b")]);
}

/// A callback that comes while the payment is examined makes it due at once, whatever the examiner decided.
pub async fn a_wake_up_during_a_claim_counts(world: World) {
    let placed = world.place().await;
    world.callback(placed, "first").await;
    let claim = world.claim(&OLD).await.remove(0);
    world.callback(placed, "second").await;
    assert!(world.claim(&OLD).await.is_empty(), "leased");
    assert!(world.finish(&claim, &next_check(PUT_OFF)).await);
    let again = world.claim(&OLD).await;
    assert_eq!(ids_of(&again), [placed.payment_id]);
    assert_eq!(again[0].hints, [key("second")]);
    // Nothing came during this one.
    assert!(world.finish(&again[0], &next_check(PUT_OFF)).await);
    assert!(world.claim(&UNSETTLED).await.is_empty());
}

/// Hints come back with each claim until one ends with them looked up.
pub async fn hints_stay_until_they_are_looked_up(world: World) {
    let placed = world.place().await;
    world.callback(placed, "k").await;
    let soon = next_check(AT_ONCE);
    for (done, hints) in [(false, 1), (true, 1), (false, 0)] {
        let claim = world.claim_eventually(&UNSETTLED).await.remove(0);
        assert_eq!(claim.hints.len(), hints);
        let tx = world.begin().await;
        assert_eq!(tx.finish_claim(&claim, &soon, done).await, Ok(true));
        tx.commit().await.unwrap();
    }
}

/// A parked payment is examined again when a callback names it.
pub async fn a_callback_unparks_a_payment(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&UNSETTLED).await.remove(0);
    let tx = world.begin().await;
    tx.park(&claim).await.unwrap();
    tx.commit().await.unwrap();
    assert!(world.claim(&UNSETTLED).await.is_empty());
    world.callback(placed, "k").await;
    assert_eq!(ids_of(&world.claim(&UNSETTLED).await), [placed.payment_id]);
}

/// A callback for an ended payment puts it before the watch list's reader.
pub async fn a_callback_wakes_an_ended_payment(world: World) {
    let placed = world.place().await;
    world.fail(placed).await;
    assert!(world.claim(&WATCHED_ONES).await.is_empty());
    world.callback(placed, "k").await;
    assert!(world.claim(&UNSETTLED).await.is_empty());
    let claim = world.claim(&WATCHED_ONES).await.remove(0);
    assert_eq!((claim.watch_step, claim.hints.as_slice()), (0, [key("k")].as_slice()));
    assert!(!claim.scheduled);
    assert!(world.finish(&claim, &next_check(NextDue::Never)).await);
    assert!(world.claim(&WATCHED_ONES).await.is_empty());
}

/// Waking leaves the set time as it is: an early look is not the scheduled one.
pub async fn a_wake_up_keeps_the_set_time(world: World) {
    let placed = world.place().await;
    world.fail(placed).await;
    let tx = world.begin().await;
    tx.schedule_watch(placed.payment_id, Some((1, HOUR))).await.unwrap();
    tx.commit().await.unwrap();
    let due =
        async || world.ports.queries.payment(None, placed.payment_id).await.unwrap().unwrap().next_check_at;
    let set = due().await;
    world.callback(placed, "k").await;
    let claim = world.claim(&WATCHED_ONES).await.remove(0);
    assert!(!claim.scheduled);
    let keep = domain::ports::NextCheck { watch_step: claim.watch_step, ..next_check(NextDue::Keep) };
    assert!(world.finish(&claim, &keep).await);
    assert_eq!(due().await, set);
    assert!(world.claim(&WATCHED_ONES).await.is_empty());
}

/// Whoever took the wake-up and died gives it back when the lease is over: a callback is never forgotten.
pub async fn a_wake_up_outlives_its_examiner(world: World) {
    let placed = world.place().await;
    world.fail(placed).await;
    world.callback(placed, "k").await;
    let dies = world.claim(&ClaimOptions { lease: SHORT, ..WATCHED_ONES }).await.remove(0);
    let again = world.claim_eventually(&WATCHED_ONES).await.remove(0);
    assert_ne!(dies.lease_id, again.lease_id);
    assert_eq!((again.scheduled, again.hints.as_slice()), (false, [key("k")].as_slice()));
    assert!(world.finish(&again, &next_check(NextDue::Keep)).await);
    assert!(world.claim(&WATCHED_ONES).await.is_empty());
}

/// A hint that comes again while it is looked up may have been looked up too early: it is looked up again.
pub async fn a_hint_during_its_look_up_is_looked_up_again(world: World) {
    let placed = world.place().await;
    world.callback(placed, "k").await;
    let claim = world.claim(&OLD).await.remove(0);
    world.callback(placed, "k").await;
    assert!(world.finish(&claim, &next_check(PUT_OFF)).await);
    assert_eq!(world.claim(&OLD).await.remove(0).hints, [key("k")]);
}

/// An examiner that got no answer wakes the payment and keeps its time: it is due again, and not on its schedule.
pub async fn a_claim_can_end_with_a_wake_up(world: World) {
    let placed = world.place().await;
    world.fail(placed).await;
    world.callback(placed, "k").await;
    let claim = world.claim(&WATCHED_ONES).await.remove(0);
    let tx = world.begin().await;
    tx.wake(placed.payment_id).await.unwrap();
    assert_eq!(tx.finish_claim(&claim, &next_check(NextDue::Keep), false).await, Ok(true));
    tx.commit().await.unwrap();
    let again = world.claim(&WATCHED_ONES).await.remove(0);
    assert_eq!((again.scheduled, again.hints.as_slice()), (false, [key("k")].as_slice()));
}
