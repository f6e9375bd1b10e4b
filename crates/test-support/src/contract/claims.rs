//! Claims and leases: who is due, in which order, and who is left alone.

use super::World;
use super::world::{
    Ask, HOUR, Placed, claimable, ids_of, key, needs, nothing, paid, tick, unsettled, user, watched, with_key,
};
use domain::PaymentId;
use domain::ports::{ClaimOptions, Due};
use domain::settlement::{Changes, Check, Lease};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(1);

async fn ids(world: &World, options: &ClaimOptions) -> Vec<PaymentId> {
    ids_of(&world.claim(options).await)
}

fn woken(min_interval: Duration) -> Due {
    Due::Woken { min_interval }
}

fn one(placed: Placed, min_interval: Duration) -> Due {
    Due::One { payment_id: placed.payment_id, min_interval }
}

/// Payments that have not ended are due when their time has come; ended ones, and those put off, are not. A claim bears
/// the payment as it is, and is written down.
pub async fn what_has_not_ended_is_due_in_its_time(world: World) {
    let (pending, started) = (world.place().await, world.place().await);
    let (ended, _young) = (world.place().await, world.place_young().await);
    world.start(started).await;
    world.pay(ended, "k").await;
    tick().await;
    let claims = world.claim(&ClaimOptions { lease: 2 * HOUR, ..unsettled(77) }).await;
    assert_eq!(ids_of(&claims), [pending.payment_id, started.payment_id]);
    for (claim, placed) in claims.iter().zip([pending, started]) {
        assert_eq!(claim.record, world.record(placed).await);
        assert!(claim.claimed_at > claim.record.created_at);
        assert!(claim.hints.is_empty() && claim.scheduled);
        assert_eq!(claim.lease_id, 77);
        let case = world.case(placed).await;
        let lease = Lease { id: 77, until: claim.claimed_at + 2 * HOUR };
        assert_eq!((case.check.lease, case.check.claimed_at), (Some(lease), Some(claim.claimed_at)));
        assert_eq!(case.check.due_at, Some(case.record.created_at));
    }
}

/// A payment that somebody settles at this moment is passed over, not waited for.
pub async fn what_others_work_on_is_passed_over(world: World) {
    let (busy, free) = (world.place().await, world.place().await);
    let (tx, _) = world.open_settling(&[needs(busy)]).await;
    // The limit is for those that are claimed, not for those that are passed over.
    let limited = ClaimOptions { limit: 1, ..unsettled(1) };
    assert_eq!(ids(&world, &limited).await, [free.payment_id]);
    assert!(ids(&world, &claimable(one(busy, Duration::ZERO), 2)).await.is_empty());
    tx.rollback().await;
    assert_eq!(ids(&world, &limited).await, [busy.payment_id]);
}

/// Several claimers at once: each payment goes to one, and all are claimed.
pub async fn claimers_share_nothing(world: World) {
    for _ in 0..5 {
        world.place().await;
    }
    let (a, b, c) = (unsettled(1), unsettled(2), unsettled(3));
    let claims = tokio::join!(ids(&world, &a), ids(&world, &b), ids(&world, &c));
    let mut all = [claims.0, claims.1, claims.2].concat();
    all.extend(ids(&world, &unsettled(4)).await);
    let number = all.len();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), number), (5, 5));
}

/// Not more than the limit, and the rest to the next.
pub async fn a_claim_takes_its_limit(world: World) {
    for _ in 0..3 {
        world.place().await;
    }
    assert_eq!(ids(&world, &ClaimOptions { limit: 2, ..unsettled(1) }).await.len(), 2);
    assert_eq!(ids(&world, &ClaimOptions { limit: 2, ..unsettled(2) }).await.len(), 1);
    assert!(ids(&world, &ClaimOptions { limit: 0, ..unsettled(3) }).await.is_empty());
}

/// A turn passes its beginning: what became due later is left to the next one.
pub async fn a_turn_examines_nothing_twice(world: World) {
    let early = world.place().await;
    tick().await;
    let claim = world.claim(&unsettled(1)).await.remove(0);
    let turn = ClaimOptions { due_by: Some(claim.claimed_at), ..unsettled(2) };
    tick().await;
    world.finish(&claim, |check, now| Check { due_at: Some(now), ..check }).await;
    let late = world.place().await;
    let called = world.place_young().await;
    world.callback(called, "k").await;
    tick().await;
    assert!(ids(&world, &turn).await.is_empty());
    assert!(ids(&world, &ClaimOptions { due: woken(Duration::ZERO), ..turn }).await.is_empty());
    let mut next = ids(&world, &unsettled(3)).await;
    next.sort();
    assert_eq!(next, [early.payment_id, late.payment_id, called.payment_id]);
}

/// F74: after the clock was turned back a turn's beginning is still to come; what is not due yet stays so all the same.
pub async fn a_moment_to_come_counts_as_now(world: World) {
    let (young, watched_one, due) =
        (world.place_young().await, world.place_young().await, world.place().await);
    world
        .fail_watched(
            watched_one,
            Check { due_at: world.case(watched_one).await.check.due_at, ..Check::default() },
        )
        .await;
    let due_by = Some(world.record(young).await.created_at + 5 * HOUR);
    assert_eq!(ids(&world, &ClaimOptions { due_by, ..unsettled(1) }).await, [due.payment_id]);
    assert!(ids(&world, &ClaimOptions { due_by, ..watched(2) }).await.is_empty());
}

/// Who has been due longest comes first, whatever made it due, so that nobody starves.
pub async fn longest_due_first(world: World) {
    let abandoned = world.place().await;
    assert_eq!(ids(&world, &ClaimOptions { lease: 4 * SHORT, ..unsettled(1) }).await.len(), 1);
    let called = world.place_young().await;
    world.callback(called, "k").await;
    tick().await;
    let scheduled = world.place().await;
    tick().await;
    let late = world.place_young().await;
    world.callback(late, "k").await;
    tick().await;
    // Due by: the wake-up, the end of the lease or the set time, whatever was first; then the last wake-up.
    let order = ids(&world, &unsettled(2)).await;
    let place = |placed: Placed| order.iter().position(|id| *id == placed.payment_id).unwrap();
    assert!(place(called) < place(scheduled) && place(scheduled) < place(late));
    assert!(place(abandoned) < place(late));
    assert_eq!(order.len(), 4);
}

/// One by one, each claim takes the one that has been due longest.
pub async fn the_limit_leaves_who_is_due_last(world: World) {
    let mut placed = Vec::new();
    for _ in 0..3 {
        placed.push(world.place().await);
        tick().await;
    }
    // The first one is put off: from now on it is the one due last.
    let claim = world.claim(&ClaimOptions { limit: 1, ..unsettled(1) }).await.remove(0);
    assert_eq!(claim.record.payment.id(), placed[0].payment_id);
    world.finish(&claim, |check, now| Check { due_at: Some(now), ..check }).await;
    tick().await;
    let expected = [placed[1], placed[2], placed[0]].map(|placed| placed.payment_id);
    for (lease_id, id) in (2..).zip(expected) {
        assert_eq!(ids(&world, &ClaimOptions { limit: 1, ..unsettled(lease_id) }).await, [id]);
    }
}

/// A lease keeps everybody else away, by every way of claiming.
pub async fn a_lease_keeps_others_away(world: World) {
    let placed = world.place().await;
    world.callback(placed, "k").await;
    let claim = world.claim(&unsettled(1)).await.remove(0);
    world.callback(placed, "again").await;
    for due in [Due::Unsettled, Due::Watched, woken(Duration::ZERO), one(placed, Duration::ZERO)] {
        assert!(ids(&world, &claimable(due, 2)).await.is_empty(), "{due:?}");
    }
    world.finish(&claim, |check, _| check).await;
    assert_eq!(ids(&world, &unsettled(3)).await, [placed.payment_id]);
}

/// A claim that nobody ends makes its payment due again when the lease is over, with what it took: a callback is never
/// forgotten. Of an ended payment, too.
pub async fn a_lease_expires(world: World) {
    let (open, ended) = (world.place_young().await, world.place_young().await);
    world.fail(ended).await;
    for (placed, claim) in [(open, unsettled(1)), (ended, watched(1))] {
        world.callback(placed, "k").await;
        let dies = world.claim(&ClaimOptions { lease: SHORT, ..claim }).await.remove(0);
        assert_eq!(dies.record.payment.id(), placed.payment_id);
        let again = world.claim_eventually(&ClaimOptions { lease_id: 2, ..claim }).await.remove(0);
        assert_eq!(again.record.payment.id(), placed.payment_id);
        assert_eq!((again.scheduled, again.hints.as_slice()), (false, [key("k")].as_slice()));
        assert_eq!(world.case(placed).await.check.lease.unwrap().id, 2, "the first one's is lost");
    }
}

/// A parked payment is left alone, and says so; a person can still have it examined.
pub async fn a_parked_payment_is_left_alone(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&unsettled(1)).await.remove(0);
    world.finish(&claim, |check, now| Check { parked_at: Some(now), ..check }).await;
    tick().await;
    for due in [Due::Unsettled, Due::Watched, woken(Duration::ZERO)] {
        assert!(ids(&world, &claimable(due, 2)).await.is_empty(), "{due:?}");
    }
    let view = world.view(placed).await;
    assert!(view.parked && view.next_check_at.is_none());
    assert_eq!(ids(&world, &claimable(one(placed, Duration::ZERO), 3)).await, [placed.payment_id]);
    assert!(!world.view(placed).await.parked);
}

/// No due time is never, until it is woken.
pub async fn never_is_never(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&unsettled(1)).await.remove(0);
    world.finish(&claim, |check, _| Check { due_at: None, ..check }).await;
    tick().await;
    assert!(ids(&world, &unsettled(2)).await.is_empty());
    assert_eq!(world.view(placed).await.next_check_at, None);
    world.callback(placed, "k").await;
    assert_eq!(ids(&world, &unsettled(3)).await, [placed.payment_id]);
}

/// The watch list is read apart, in its own time.
pub async fn ended_payments_are_claimed_from_the_watch_list_only(world: World) {
    let (due, later, forgotten) = (world.place().await, world.place().await, world.place().await);
    let now = world.record(due).await.created_at;
    world.fail_watched(due, Check { due_at: Some(now), watch_step: 2, ..Check::default() }).await;
    world.pay_watched(later, "k", Check { due_at: Some(now + HOUR), ..Check::default() }).await;
    world.fail(forgotten).await;
    tick().await;
    assert!(ids(&world, &unsettled(1)).await.is_empty());
    assert!(ids(&world, &claimable(woken(Duration::ZERO), 2)).await.is_empty());
    let claims = world.claim(&watched(3)).await;
    assert_eq!(ids_of(&claims), [due.payment_id]);
    assert!(claims[0].scheduled);
    world.finish(&claims[0], |check, _| Check { due_at: None, ..check }).await;
    tick().await;
    assert!(ids(&world, &watched(4)).await.is_empty());
}

/// Those that were woken, and have not ended, for whoever works on what callbacks said: not those whose time has come, and
/// not those that were claimed a moment ago.
pub async fn the_woken_are_claimed_apart(world: World) {
    let (_due, called) = (world.place().await, world.place().await);
    let (late, ended) = (world.place_young().await, world.place_young().await);
    world.fail(ended).await;
    for placed in [called, late, ended] {
        world.callback(placed, "k").await;
        tick().await;
    }
    let claims = world.claim(&claimable(woken(HOUR), 1)).await;
    assert_eq!(ids_of(&claims), [called.payment_id, late.payment_id]);
    assert_eq!(claims.iter().map(|claim| claim.scheduled).collect::<Vec<_>>(), [true, false]);
    for claim in &claims {
        world.finish(claim, |check, _| check).await;
    }
    world.callback(called, "k").await;
    assert!(ids(&world, &claimable(woken(HOUR), 2)).await.is_empty(), "claimed less than an hour ago");
    tick().await;
    assert_eq!(ids(&world, &claimable(woken(SHORT), 3)).await, [called.payment_id]);
}

/// A payment that its own order may still be sending a request for is left alone by everybody, though it was woken: until
/// the send deadline has passed, or sending has ended before it.
pub async fn who_may_still_be_sending_is_left_alone(world: World) {
    let product = world.product(1000, 9).await;
    let placed = world.place_as(Ask { send_within: HOUR, ..Ask::of(product) }).await;
    let ended = world.place_as(Ask { send_within: HOUR, ..Ask::of(product) }).await;
    for placed in [placed, ended] {
        world.start(placed).await;
        world.callback(placed, "k").await;
    }
    tick().await;
    for due in [Due::Unsettled, woken(Duration::ZERO), one(placed, Duration::ZERO)] {
        assert!(ids(&world, &claimable(due, 1)).await.is_empty(), "{due:?}");
    }
    // One that has ended is not sent for any more, whatever its deadline.
    world.change(ended, |case, _| paid(case, "other")).await;
    assert_eq!(ids(&world, &claimable(one(ended, Duration::ZERO), 2)).await, [ended.payment_id]);
    world.change(placed, |case, _| Changes { sending_ended: true, ..with_key(case, "k") }).await;
    assert_eq!(ids(&world, &claimable(woken(Duration::ZERO), 3)).await, [placed.payment_id]);
}

/// By id a payment is claimed whatever its time or state, and no other.
pub async fn one_payment_is_claimed_by_id(world: World) {
    let bystander = world.place().await;
    let unknown = Placed { payment_id: PaymentId::new(1 << 40).unwrap(), ..bystander };
    assert!(ids(&world, &claimable(one(unknown, Duration::ZERO), 1)).await.is_empty());
    let product = world.product(1000, 9).await;
    let placed = world.place_as(Ask { user: user(2), check_in: HOUR, ..Ask::of(product) }).await;
    world.pay(placed, "k").await;
    let claim = world.claim(&claimable(one(placed, Duration::ZERO), 2)).await.remove(0);
    assert_eq!(claim.record, world.record(placed).await);
    assert!(!claim.scheduled);
    assert!(ids(&world, &claimable(one(placed, Duration::ZERO), 3)).await.is_empty());
    assert_eq!(world.case(bystander).await.check.lease, None);
}

/// Who asked a moment ago is not served again.
pub async fn asking_again_is_throttled(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&claimable(one(placed, HOUR), 1)).await.remove(0);
    assert!(claim.scheduled);
    world.finish(&claim, |check, _| check).await;
    assert!(ids(&world, &claimable(one(placed, HOUR), 2)).await.is_empty());
    tick().await;
    assert_eq!(ids(&world, &claimable(one(placed, SHORT), 3)).await, [placed.payment_id]);
    let nothing_else = world.case(placed).await;
    world.change(placed, |case, _| nothing(case)).await;
    assert_eq!(world.case(placed).await, nothing_else);
}
