//! Claims, leases, parking and the watch list.

use super::World;
use super::world::{AT_ONCE, HOUR, PUT_OFF, Placed, UNSETTLED, WATCHED_ONES, ids_of, next_check, tick, user};
use domain::PaymentId;
use domain::ports::{Claim, ClaimOptions, NextCheck, NextDue};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(1);

async fn ids(world: &World, options: &ClaimOptions) -> Vec<PaymentId> {
    ids_of(&world.claim(options).await)
}

/// Unsettled payments are due by their age, ended ones and young ones are not.
pub async fn age_makes_a_payment_due(world: World) {
    let pending = world.place().await;
    let started = world.place().await;
    let ended = world.place().await;
    world.start(started).await;
    world.pay(ended, "k").await;
    assert!(ids(&world, &ClaimOptions { min_age: HOUR, ..UNSETTLED }).await.is_empty());
    let claims = world.claim(&UNSETTLED).await;
    assert_eq!(ids_of(&claims), [pending.payment_id, started.payment_id]);
    let claim = &claims[0];
    assert_eq!(claim.record, world.record(pending).await);
    assert!(claim.claimed_at >= claim.record.created_at);
    assert!(claim.hints.is_empty() && !claim.transaction_seen && claim.scheduled);
    assert_eq!((claim.not_found_count, claim.not_found_at, claim.failures), (0, None, 0));
    assert_ne!(claims[0].lease_id, claims[1].lease_id);
}

/// Two claimers at once: each payment goes to one, and nobody waits.
pub async fn two_claimers_share_nothing(world: World) {
    for _ in 0..4 {
        world.place().await;
    }
    let (one, two) = (world.begin().await, world.begin().await);
    let first = one.claim_due(&ClaimOptions { limit: 2, ..UNSETTLED }).await.unwrap();
    let second = two.claim_due(&UNSETTLED).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 2));
    assert!(ids_of(&first).iter().all(|id| !ids_of(&second).contains(id)));
    two.commit().await.unwrap();
    one.commit().await.unwrap();
    assert!(ids(&world, &UNSETTLED).await.is_empty());
}

/// Not more than the limit, and the rest to the next.
pub async fn a_claim_takes_its_limit(world: World) {
    for _ in 0..3 {
        world.place().await;
    }
    assert_eq!(ids(&world, &ClaimOptions { limit: 2, ..UNSETTLED }).await.len(), 2);
    assert_eq!(ids(&world, &ClaimOptions { limit: 2, ..UNSETTLED }).await.len(), 1);
    assert!(ids(&world, &ClaimOptions { limit: 0, ..UNSETTLED }).await.is_empty());
}

/// A turn passes its beginning: what became due later is left to the next one.
pub async fn a_turn_examines_nothing_twice(world: World) {
    let early = world.place().await;
    tick().await;
    let claim = world.claim(&UNSETTLED).await.remove(0);
    let turn = ClaimOptions { due_by: Some(claim.claimed_at), ..UNSETTLED };
    tick().await;
    assert!(world.finish(&claim, &next_check(AT_ONCE)).await);
    let late = world.place().await;
    tick().await;
    assert!(ids(&world, &turn).await.is_empty());
    let mut next = ids(&world, &UNSETTLED).await;
    next.sort();
    assert_eq!(next, [early.payment_id, late.payment_id]);
}

/// F74: after the clock was turned back a turn's beginning is still to come; what is not due yet stays so all the same.
pub async fn a_moment_to_come_counts_as_now(world: World) {
    world.place().await;
    tick().await;
    let claim = world.claim(&UNSETTLED).await.remove(0);
    assert!(world.finish(&claim, &next_check(PUT_OFF)).await);
    world.place().await;
    let to_come = Some(claim.claimed_at + 2 * HOUR);
    let turn = ClaimOptions { due_by: to_come, min_age: HOUR, ..UNSETTLED };
    assert!(ids(&world, &turn).await.is_empty());
    assert!(ids(&world, &ClaimOptions { due_by: to_come, ..WATCHED_ONES }).await.is_empty());
    assert_eq!(ids(&world, &ClaimOptions { due_by: to_come, ..UNSETTLED }).await.len(), 1);
}

/// Who has been due longest comes first, so that nobody starves.
pub async fn longest_due_first(world: World) {
    let mut placed = Vec::new();
    for _ in 0..3 {
        placed.push(world.place().await);
        tick().await;
    }
    // The first one is put off: from now on it is the one due last.
    let claim = world.claim(&ClaimOptions { limit: 1, ..UNSETTLED }).await.remove(0);
    assert_eq!(claim.record.payment.value.id(), placed[0].payment_id);
    assert!(world.finish(&claim, &next_check(AT_ONCE)).await);
    tick().await;
    let expected = [placed[1], placed[2], placed[0]].map(|placed| placed.payment_id);
    for id in expected {
        assert_eq!(ids(&world, &ClaimOptions { limit: 1, ..UNSETTLED }).await, [id]);
    }
}

/// A lease keeps everybody else away, by either way of claiming.
pub async fn a_lease_keeps_others_away(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&UNSETTLED).await.remove(0);
    assert!(ids(&world, &UNSETTLED).await.is_empty());
    let tx = world.begin().await;
    assert_eq!(tx.claim_payment(placed.payment_id, HOUR, Duration::ZERO).await, Ok(None));
    tx.rollback().await;
    assert!(world.finish(&claim, &next_check(AT_ONCE)).await);
    assert_eq!(ids_of(&world.claim_eventually(&UNSETTLED).await), [placed.payment_id]);
}

/// After its end a lease keeps nobody away.
pub async fn a_lease_expires(world: World) {
    let placed = world.place().await;
    let first = world.claim(&ClaimOptions { lease: SHORT, ..UNSETTLED }).await.remove(0);
    let second = world.claim_eventually(&UNSETTLED).await.remove(0);
    assert_eq!(second.record.payment.value.id(), placed.payment_id);
    assert_ne!(first.lease_id, second.lease_id);
}

/// A claim that is rolled back never was.
pub async fn a_claim_that_was_rolled_back_is_none(world: World) {
    let placed = world.place().await;
    let tx = world.begin().await;
    assert_eq!(ids_of(&tx.claim_due(&UNSETTLED).await.unwrap()), [placed.payment_id]);
    tx.rollback().await;
    assert_eq!(ids(&world, &UNSETTLED).await, [placed.payment_id]);
}

/// Who lost the lease to another changes nothing: neither by finishing nor by parking.
pub async fn a_lost_lease_changes_nothing(world: World) {
    world.place().await;
    let zombie = world.claim(&ClaimOptions { lease: SHORT, ..UNSETTLED }).await.remove(0);
    let owner = world.claim_eventually(&UNSETTLED).await.remove(0);
    let lies = NextCheck { failures: 9, transaction_seen: true, ..next_check(PUT_OFF) };
    assert!(!world.finish(&zombie, &lies).await);
    let tx = world.begin().await;
    tx.park(&zombie).await.unwrap();
    tx.commit().await.unwrap();
    assert!(ids(&world, &UNSETTLED).await.is_empty(), "the owner still has it");
    assert!(world.finish(&owner, &next_check(AT_ONCE)).await);
    let again = world.claim_eventually(&UNSETTLED).await.remove(0);
    assert_eq!((again.failures, again.transaction_seen), (0, false));
    // Finished is finished: a second time is too late.
    assert!(!world.finish(&owner, &lies).await);
}

/// The next claim knows what the one before learned.
pub async fn what_was_learned_is_kept(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&UNSETTLED).await.remove(0);
    let learned = NextCheck {
        due: AT_ONCE,
        transaction_seen: true,
        not_found_count: 1,
        not_found_now: true,
        failures: 2,
        watch_step: 3,
    };
    assert!(world.finish(&claim, &learned).await);
    let next = world.claim_eventually(&UNSETTLED).await.remove(0);
    let known = (next.transaction_seen, next.not_found_count, next.failures, next.watch_step);
    assert_eq!(known, (true, 1, 2, 3));
    let counted = next.not_found_at.unwrap();
    assert!(counted >= claim.claimed_at && counted <= next.claimed_at);
    // Not counted again: the moment stays.
    tick().await;
    assert!(world.finish(&next, &NextCheck { not_found_now: false, ..learned }).await);
    let last = world.claim_eventually(&UNSETTLED).await.remove(0);
    assert_eq!(last.not_found_at, Some(counted));
    assert_eq!(last.record.payment.value.id(), placed.payment_id);
}

/// What was put off is not due before its time, however old it is; when the time comes, it is.
pub async fn a_due_time_is_kept(world: World) {
    let (far, near) = (world.place().await, world.place().await);
    for claim in world.claim(&UNSETTLED).await {
        let is_far = claim.record.payment.value.id() == far.payment_id;
        let due_in = if is_far { HOUR } else { Duration::from_millis(20) };
        assert!(world.finish(&claim, &next_check(NextDue::In(due_in))).await);
    }
    assert_eq!(ids_of(&world.claim_eventually(&UNSETTLED).await), [near.payment_id]);
    let view = world.ports.queries.payment(None, far.payment_id).await.unwrap().unwrap();
    let due = view.next_check_at.unwrap();
    assert!(due > view.record.created_at + time::Duration::minutes(59));
}

/// A parked payment is left alone, and says so; a person can still have it examined.
pub async fn a_parked_payment_is_left_alone(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&UNSETTLED).await.remove(0);
    let tx = world.begin().await;
    tx.park(&claim).await.unwrap();
    tx.commit().await.unwrap();
    tick().await;
    assert!(ids(&world, &UNSETTLED).await.is_empty());
    let parked = async || world.ports.queries.payment(None, placed.payment_id).await.unwrap().unwrap().parked;
    assert!(parked().await);
    let tx = world.begin().await;
    tx.wake(placed.payment_id).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!parked().await);
    assert_eq!(ids(&world, &UNSETTLED).await, [placed.payment_id]);
}

/// Parking after a finished claim does nothing.
pub async fn parking_needs_the_lease(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&UNSETTLED).await.remove(0);
    assert!(world.finish(&claim, &next_check(AT_ONCE)).await);
    let tx = world.begin().await;
    tx.park(&claim).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(ids_of(&world.claim_eventually(&UNSETTLED).await), [placed.payment_id]);
}

async fn watch(world: &World, placed: Placed, next: Option<(u32, Duration)>) {
    let tx = world.begin().await;
    tx.schedule_watch(placed.payment_id, next).await.unwrap();
    tx.commit().await.unwrap();
}

/// "Never" holds for an unsettled payment too, until it is woken.
pub async fn never_is_never(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&UNSETTLED).await.remove(0);
    assert!(world.finish(&claim, &next_check(NextDue::Never)).await);
    tick().await;
    assert!(ids(&world, &UNSETTLED).await.is_empty());
    let view = world.ports.queries.payment(None, placed.payment_id).await.unwrap().unwrap();
    assert_eq!(view.next_check_at, None);
    let tx = world.begin().await;
    tx.wake(placed.payment_id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(ids(&world, &UNSETTLED).await, [placed.payment_id]);
}

/// The watch list is read apart, in its own time, with its step.
pub async fn ended_payments_are_claimed_from_the_watch_list_only(world: World) {
    let (watched, later, forgotten) = (world.place().await, world.place().await, world.place().await);
    for placed in [watched, later, forgotten] {
        world.fail(placed).await;
    }
    watch(&world, watched, Some((2, Duration::ZERO))).await;
    watch(&world, later, Some((0, HOUR))).await;
    tick().await;
    assert!(ids(&world, &UNSETTLED).await.is_empty());
    // Its age does not matter.
    let claims = world.claim(&ClaimOptions { min_age: HOUR, ..WATCHED_ONES }).await;
    assert_eq!(ids_of(&claims), [watched.payment_id]);
    assert_eq!((claims[0].watch_step, claims[0].scheduled), (2, true));
    assert!(world.finish(&claims[0], &NextCheck { watch_step: 3, ..next_check(NextDue::Never) }).await);
    tick().await;
    assert!(ids(&world, &WATCHED_ONES).await.is_empty());
}

/// Taken off the list, a payment is not looked at any more.
pub async fn a_watch_is_taken_off(world: World) {
    let placed = world.place().await;
    world.pay(placed, "k").await;
    watch(&world, placed, Some((0, Duration::ZERO))).await;
    watch(&world, placed, None).await;
    tick().await;
    assert!(ids(&world, &WATCHED_ONES).await.is_empty());
    let view = world.ports.queries.payment(None, placed.payment_id).await.unwrap().unwrap();
    assert_eq!(view.next_check_at, None);
}

/// The wish is there for all who read the payment, and makes it neither due nor anything else.
pub async fn a_wish_to_be_watched_is_kept(world: World) {
    let placed = world.place().await;
    let tx = world.begin().await;
    tx.want_watch(placed.payment_id).await.unwrap();
    assert!(tx.lock_payment(placed.payment_id).await.unwrap().unwrap().watch_wanted);
    tx.commit().await.unwrap();
    assert!(world.record(placed).await.watch_wanted);
    assert!(ids(&world, &ClaimOptions { min_age: HOUR, ..UNSETTLED }).await.is_empty());
    let claim = world.claim(&UNSETTLED).await.remove(0);
    assert!(claim.record.watch_wanted);
    assert!(world.finish(&claim, &next_check(AT_ONCE)).await);
    assert!(world.record(placed).await.watch_wanted);
}

async fn claim_one(world: &World, id: PaymentId, min_interval: Duration) -> Option<Claim> {
    let tx = world.begin().await;
    let claim = tx.claim_payment(id, HOUR, min_interval).await.unwrap();
    tx.commit().await.unwrap();
    claim
}

/// By id a payment is claimed whatever its age or state; two at once share nothing.
pub async fn one_payment_is_claimed_by_id(world: World) {
    let unknown = PaymentId::new(1 << 40).unwrap();
    assert_eq!(claim_one(&world, unknown, Duration::ZERO).await, None);
    let placed = world.place_with(user(2), HOUR).await;
    world.pay(placed, "k").await;
    let claim = claim_one(&world, placed.payment_id, Duration::ZERO).await.unwrap();
    assert_eq!(claim.record, world.record(placed).await);
    assert_eq!(claim_one(&world, placed.payment_id, Duration::ZERO).await, None);

    let young = world.place().await;
    let (one, two) = (world.begin().await, world.begin().await);
    let first = one.claim_payment(young.payment_id, HOUR, Duration::ZERO).await.unwrap();
    assert!(first.is_some());
    // Whether the second waits or not is left open; it gets nothing.
    let second = async { two.claim_payment(young.payment_id, HOUR, Duration::ZERO).await };
    let (_, second) = tokio::join!(one.commit(), second);
    assert_eq!(second, Ok(None));
    two.rollback().await;
}

/// Who asked a moment ago is not served again.
pub async fn asking_again_is_throttled(world: World) {
    let placed = world.place().await;
    let claim = claim_one(&world, placed.payment_id, HOUR).await.unwrap();
    assert!(world.finish(&claim, &next_check(AT_ONCE)).await);
    assert_eq!(claim_one(&world, placed.payment_id, HOUR).await, None);
    tick().await;
    assert!(claim_one(&world, placed.payment_id, SHORT).await.is_some());
}
