//! What callbacks leave behind, and whom they wake.

use super::World;
use super::world::{
    HOUR, Placed, claimable, ids_of, key, named, nothing, tick, token_hash, unsettled, watched,
};
use domain::GatewayOrderRef;
use domain::ports::{CallbackNote, Claim, Due};
use domain::settlement::{Changes, Check};
use std::time::Duration;

async fn hints(world: &World, placed: Placed) -> Vec<String> {
    world.case(placed).await.hints.iter().map(|hint| hint.key.as_str().to_owned()).collect()
}

/// Looks again in an hour; what the claim bore was looked up.
async fn put_off(world: &World, placed: Placed, claim: &Claim) {
    let hints_done = claim.hints.clone();
    world
        .change(placed, |case, now| {
            let check = Check { lease: None, due_at: Some(now + HOUR), ..case.check };
            let still = |done: &domain::GatewayKey| {
                case.hints.iter().any(|hint| hint.key == *done && hint.lease_id == Some(claim.lease_id))
            };
            let hints_done = hints_done.into_iter().filter(still).collect();
            Changes { check: Some(check), hints_done, ..nothing(case) }
        })
        .await;
}

/// A batch of notes: whose each is, in their order; nobody's is nobody's, and stops no other.
pub async fn a_note_finds_its_payment(world: World) {
    let (one, two) = (world.place_young().await, world.place_young().await);
    let mut forged = token_hash(one.payment_id);
    forged[31] = 1;
    let unproven = |order_ref| CallbackNote::Unproven { order_ref };
    let reference = world.record(one).await.order_ref;
    let guessed = format!("{}-{}-0000000000000000", "other", one.order_id);
    let notes = [
        named(two, "a"),
        CallbackNote::Named { token_hash: forged, key: key("forged") },
        unproven(reference.clone()),
        unproven(GatewayOrderRef::from_gateway(guessed)),
        unproven(GatewayOrderRef::from_gateway(one.order_id.to_string())),
        unproven(GatewayOrderRef::from_gateway("없음")),
        named(two, "b"),
    ];
    let found = world.ports.store.note_callbacks(&notes).await.unwrap();
    let (one_id, two_id) = (Some(one.payment_id), Some(two.payment_id));
    assert_eq!(found, [two_id, None, one_id, None, None, None, two_id]);
    assert_eq!(hints(&world, two).await, ["a", "b"]);
    assert!(hints(&world, one).await.is_empty(), "what is not proven names no key");
    let woken = world.claim(&unsettled(1)).await;
    assert_eq!(ids_of(&woken), [one.payment_id, two.payment_id]);
    assert_eq!(world.ports.store.note_callbacks(&[]).await, Ok(vec![]));
}

/// A payment that is not due is due at once when a callback names it, and its claim bears what was named.
pub async fn a_callback_wakes_its_payment(world: World) {
    let (_young, named) = (world.place_young().await, world.place_young().await);
    assert!(world.claim(&unsettled(1)).await.is_empty());
    world.callback(named, "k").await;
    let claims = world.claim(&unsettled(2)).await;
    assert_eq!(ids_of(&claims), [named.payment_id]);
    assert_eq!((claims[0].scheduled, claims[0].hints.as_slice()), (false, [key("k")].as_slice()));
}

/// What is not proven wakes a payment that has not ended, and no other.
pub async fn an_unproven_note_wakes_only_what_has_not_ended(world: World) {
    let (open, ended) = (world.place_young().await, world.place_young().await);
    world.fail(ended).await;
    for placed in [open, ended] {
        let order_ref = world.record(placed).await.order_ref;
        let found = world.ports.store.note_callbacks(&[CallbackNote::Unproven { order_ref }]).await;
        assert_eq!(found, Ok(vec![Some(placed.payment_id)]));
    }
    assert!(world.case(open).await.check.woken_at.is_some());
    assert_eq!(world.case(ended).await.check, Check::default());
}

/// The key by which a payment was PAID says nothing new: nobody is woken, nothing is to be looked up. Another key does.
pub async fn the_paying_key_wakes_nobody(world: World) {
    let placed = world.place_young().await;
    world.pay(placed, "paying").await;
    world.callback(placed, "paying").await;
    assert_eq!((world.case(placed).await.check.woken_at, hints(&world, placed).await.len()), (None, 0));
    world.callback(placed, "other").await;
    assert!(world.case(placed).await.check.woken_at.is_some());
    assert_eq!(hints(&world, placed).await, ["other"]);
}

/// The same hint twice makes one, in one batch or in two; another key makes another. The first wake-up stays.
pub async fn a_hint_twice_is_one(world: World) {
    let placed = world.place_young().await;
    let notes = [named(placed, "b"), named(placed, "a"), named(placed, "b")];
    world.ports.store.note_callbacks(&notes).await.unwrap();
    let woken = world.case(placed).await.check.woken_at;
    tick().await;
    world.callback(placed, "b").await;
    assert_eq!(world.case(placed).await.check.woken_at, woken);
    assert_eq!(world.claim(&unsettled(1)).await[0].hints, [key("a"), key("b")]);
}

/// A callback that comes while the payment is examined makes it due at once, whatever the examiner decided.
pub async fn a_wake_up_during_a_claim_counts(world: World) {
    let placed = world.place_young().await;
    world.callback(placed, "first").await;
    let claim = world.claim(&unsettled(1)).await.remove(0);
    assert_eq!(world.case(placed).await.check.woken_at, None, "the claim took it with it");
    world.callback(placed, "second").await;
    assert!(world.claim(&unsettled(2)).await.is_empty(), "leased");
    put_off(&world, placed, &claim).await;
    let again = world.claim(&unsettled(3)).await;
    assert_eq!(ids_of(&again), [placed.payment_id]);
    assert_eq!(again[0].hints, [key("second")]);
    // Nothing came during this one.
    put_off(&world, placed, &again[0]).await;
    assert!(world.claim(&unsettled(4)).await.is_empty());
}

/// Hints come with each claim until they were looked up; each claim puts its name on them.
pub async fn hints_stay_until_they_are_looked_up(world: World) {
    let placed = world.place().await;
    world.callback(placed, "k").await;
    for (lease_id, hints) in [(1, 1), (2, 1), (3, 0)] {
        let claim = world.claim_eventually(&unsettled(lease_id)).await.remove(0);
        assert_eq!(claim.hints.len(), hints);
        let borne = world.case(placed).await.hints;
        assert!(borne.iter().all(|hint| hint.lease_id == Some(lease_id)));
        let hints_done = if lease_id == 2 { claim.hints.clone() } else { Vec::new() };
        world
            .change(placed, |case, now| {
                let check = Check { lease: None, due_at: Some(now), ..case.check };
                Changes { check: Some(check), hints_done, ..nothing(case) }
            })
            .await;
    }
}

/// A hint that comes again while it is looked up may have been looked up too early: no claim bears it any more.
pub async fn a_hint_during_its_look_up_is_named_again(world: World) {
    let placed = world.place_young().await;
    world.callback(placed, "k").await;
    let claim = world.claim(&unsettled(1)).await.remove(0);
    world.callback(placed, "k").await;
    assert_eq!(world.case(placed).await.hints[0].lease_id, None);
    put_off(&world, placed, &claim).await;
    assert_eq!(world.claim(&unsettled(2)).await.remove(0).hints, [key("k")]);
}

/// A parked payment is examined again when a callback names it.
pub async fn a_callback_unparks_a_payment(world: World) {
    let placed = world.place().await;
    let claim = world.claim(&unsettled(1)).await.remove(0);
    world.finish(&claim, |check, now| Check { parked_at: Some(now), ..check }).await;
    assert!(world.claim(&unsettled(2)).await.is_empty());
    world.callback(placed, "k").await;
    assert_eq!(ids_of(&world.claim(&unsettled(3)).await), [placed.payment_id]);
}

/// A callback for an ended payment puts it before the watch list's reader, and leaves the set time as it is: an early
/// look is not the scheduled one.
pub async fn a_callback_wakes_an_ended_payment(world: World) {
    let placed = world.place_young().await;
    world.fail(placed).await;
    world
        .change(placed, |case, now| {
            let check = Check { due_at: Some(now + HOUR), watch_step: 1, ..case.check };
            Changes { check: Some(check), ..nothing(case) }
        })
        .await;
    let set = world.case(placed).await.check.due_at;
    assert!(world.claim(&watched(1)).await.is_empty());
    world.callback(placed, "k").await;
    assert!(world.claim(&unsettled(2)).await.is_empty());
    let woken = Due::Woken { min_interval: Duration::ZERO };
    assert!(world.claim(&claimable(woken, 3)).await.is_empty(), "only those that have not ended");
    let claim = world.claim(&watched(4)).await.remove(0);
    assert_eq!((claim.scheduled, claim.hints.as_slice()), (false, [key("k")].as_slice()));
    world.finish(&claim, |check, _| check).await;
    assert_eq!(world.view(placed).await.next_check_at, set);
    assert!(world.claim(&watched(5)).await.is_empty());
}
