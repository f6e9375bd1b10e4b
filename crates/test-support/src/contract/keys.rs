//! Idempotency-Keys: taken with an order, never waited for.

use super::World;
use super::world::{Ask, HOUR, Placed, decided, keyed, tick, user, waits_for};
use domain::placement::{KeyState, NewOrder, Placing};
use domain::ports::{IdempotencyKey, KeyedRequest, StoreError, StoreTx, StoredAnswer};
use std::time::Duration;

/// An order that bears a key, of a product of its own.
async fn ask(world: &World, key: &KeyedRequest) -> Ask {
    Ask { user: key.key.user_id, key: Some(key.clone()), ..Ask::of(world.product(1000, 9).await) }
}

async fn open(world: &World, key: &KeyedRequest) -> (Box<dyn StoreTx>, Placing, NewOrder) {
    let ask = ask(world, key).await;
    let (tx, mut placing) = world.open_placing(std::slice::from_ref(&ask)).await;
    let order = decided(&mut placing, 0, &ask);
    (tx, placing, order)
}

/// What a key is to a transaction that opens now.
async fn state(world: &World, key: &KeyedRequest) -> KeyState {
    let (tx, placing, _) = open(world, key).await;
    tx.rollback().await;
    assert_eq!(placing.keys.len(), 1);
    placing.keys[&key.key].clone()
}

fn known_order(state: &KeyState) -> domain::OrderId {
    let KeyState::Known(record) = state else { panic!("{state:?}") };
    record.order_id
}

/// Free, then known to all.
pub async fn a_key_is_taken_with_its_order(world: World) {
    let key = keyed(user(1), "once");
    assert_eq!(state(&world, &key).await, KeyState::Free);
    assert_eq!(world.ports.queries.idempotency(&key.key).await, Ok(None));
    let ask = ask(&world, &key).await;
    let placed = world.place_as(Ask { send_within: HOUR, ..ask }).await;
    let KeyState::Known(record) = state(&world, &key).await else { panic!("it is known") };
    assert_eq!((record.fingerprint, record.order_id), ([7; 32], placed.order_id));
    assert_eq!((record.answer.clone(), record.abandoned), (None, false));
    assert_eq!(world.ports.queries.idempotency(&key.key).await, Ok(Some(record)));
}

/// Whoever comes while another transaction is taking a key is told so at once, and may ask again after it.
pub async fn a_key_that_is_being_taken_is_not_waited_for(world: World) {
    let key = keyed(user(1), "once");
    let (one, placing, order) = open(&world, &key).await;
    assert_eq!(placing.keys[&key.key], KeyState::Free);
    assert_eq!(state(&world, &key).await, KeyState::BeingTaken);
    one.store_orders(&[order]).await.unwrap();
    assert_eq!(state(&world, &key).await, KeyState::BeingTaken);
    one.commit().await.unwrap();
    assert_eq!(known_order(&state(&world, &key).await), placing.ids[0].order_id);
}

/// A key that stands for an order is known to all who ask at once, too.
pub async fn a_known_key_is_known_to_several_at_once(world: World) {
    let key = keyed(user(1), "once");
    let placed = world.place_as(ask(&world, &key).await).await;
    let (one, first, _) = open(&world, &key).await;
    let (two, second, _) = open(&world, &key).await;
    assert_eq!(known_order(&first.keys[&key.key]), placed.order_id);
    assert_eq!(known_order(&second.keys[&key.key]), placed.order_id);
    one.rollback().await;
    two.rollback().await;
}

/// A transaction that waited for something else tells what the key is after the wait.
pub async fn a_key_is_read_after_the_wait(world: World) {
    let key = keyed(user(1), "once");
    let ask = ask(&world, &key).await;
    let (one, mut placing) = world.open_placing(std::slice::from_ref(&ask)).await;
    let order = decided(&mut placing, 0, &ask);
    one.store_orders(&[order]).await.unwrap();
    let asks = [ask];
    let ((two, late), _) = waits_for(world.open_placing(&asks), one.commit()).await;
    two.rollback().await;
    assert_eq!(known_order(&late.keys[&key.key]), placing.ids[0].order_id);
}

/// Taken back: free again.
pub async fn a_key_is_free_after_a_rollback(world: World) {
    let key = keyed(user(1), "once");
    let (one, _, order) = open(&world, &key).await;
    one.store_orders(&[order]).await.unwrap();
    one.rollback().await;
    assert_eq!(state(&world, &key).await, KeyState::Free);
}

/// Stored without asking, a key that stands for an order is a conflict: a lost race.
pub async fn a_key_is_taken_once(world: World) {
    let key = keyed(user(1), "once");
    let placed = world.place_as(ask(&world, &key).await).await;
    let (tx, _, order) = open(&world, &key).await;
    assert!(matches!(tx.store_orders(&[order]).await, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
    let record = world.ports.queries.idempotency(&key.key).await.unwrap().unwrap();
    assert_eq!(record.order_id, placed.order_id);
}

/// Twice in one batch, a key is free for both; only one of them may be stored.
pub async fn a_key_twice_in_a_batch_is_taken_once(world: World) {
    let key = keyed(user(1), "once");
    let asks = [ask(&world, &key).await, ask(&world, &key).await];
    let (tx, mut placing) = world.open_placing(&asks).await;
    assert_eq!(placing.keys.clone().into_iter().collect::<Vec<_>>(), [(key.key.clone(), KeyState::Free)]);
    let orders = [decided(&mut placing, 0, &asks[0]), decided(&mut placing, 1, &asks[1])];
    assert!(matches!(tx.store_orders(&orders).await, Err(StoreError::Conflict { .. })));
    tx.rollback().await;
    assert_eq!(state(&world, &key).await, KeyState::Free);
}

/// After its retention a key is free again, and taken anew.
pub async fn a_key_expires(world: World) {
    let key = KeyedRequest { retention: Duration::from_millis(1), ..keyed(user(1), "once") };
    let first = world.place_as(ask(&world, &key).await).await;
    let answer = StoredAnswer { status: 201, body: "first".into() };
    save(&world, &key.key, &answer).await;
    tick().await;
    assert_eq!(world.ports.queries.idempotency(&key.key).await, Ok(None));
    let key = keyed(user(1), "once");
    let (one, placing, order) = open(&world, &key).await;
    assert_eq!(placing.keys[&key.key], KeyState::Free);
    assert_eq!(state(&world, &key).await, KeyState::BeingTaken);
    one.store_orders(&[order]).await.unwrap();
    one.commit().await.unwrap();
    let record = world.ports.queries.idempotency(&key.key).await.unwrap().unwrap();
    assert_eq!((record.order_id, record.answer), (placing.ids[0].order_id, None));
    assert_ne!(record.order_id, first.order_id);
}

/// Another buyer's key of the same text is another key.
pub async fn a_key_belongs_to_its_buyer(world: World) {
    let (mine, other) = (keyed(user(1), "once"), keyed(user(2), "once"));
    let (one, _, order) = open(&world, &mine).await;
    assert_eq!(state(&world, &other).await, KeyState::Free);
    one.store_orders(&[order]).await.unwrap();
    one.commit().await.unwrap();
    assert_eq!(state(&world, &other).await, KeyState::Free);
}

async fn save(world: &World, key: &IdempotencyKey, answer: &StoredAnswer) {
    let tx = world.begin().await;
    tx.save_idempotent_answer(key, answer).await.unwrap();
    tx.commit().await.unwrap();
}

/// The first answer stays, to the letter, however it came: with the order, with what became of its payment, or after.
/// Answers for unknown keys go nowhere.
pub async fn the_first_answer_stays(world: World) {
    let answer = |body: &str| StoredAnswer { status: 201, body: body.into() };
    let stored = async |key: &KeyedRequest| {
        world.ports.queries.idempotency(&key.key).await.unwrap().unwrap().answer.unwrap()
    };
    let later = async |key: &KeyedRequest, placed: Placed, body: &str| {
        let answer = Some((key.key.clone(), answer(body)));
        world
            .change(placed, |case, _| domain::settlement::Changes { answer, ..super::world::nothing(case) })
            .await;
    };
    let at_once = keyed(user(1), "at once");
    let (tx, placing, mut order) = open(&world, &at_once).await;
    order.key = Some((at_once.clone(), Some(answer("{\"주문\": 1}"))));
    tx.store_orders(&[order]).await.unwrap();
    tx.commit().await.unwrap();
    let ids = placing.ids[0];
    later(&at_once, Placed { order_id: ids.order_id, payment_id: ids.payment_id }, "second").await;
    save(&world, &at_once.key, &answer("third")).await;
    assert_eq!(stored(&at_once).await, answer("{\"주문\": 1}"));

    let settled = keyed(user(1), "settled");
    let placed = world.place_as(ask(&world, &settled).await).await;
    later(&settled, placed, "settled").await;
    later(&settled, placed, "again").await;
    save(&world, &settled.key, &answer("after")).await;
    assert_eq!(stored(&settled).await, answer("settled"));

    let after = keyed(user(1), "after");
    let placed = world.place_as(ask(&world, &after).await).await;
    save(&world, &after.key, &answer("after")).await;
    later(&after, placed, "late").await;
    assert_eq!(stored(&after).await, answer("after"));

    let unknown = keyed(user(9), "never");
    save(&world, &unknown.key, &answer("")).await;
    assert_eq!(world.ports.queries.idempotency(&unknown.key).await, Ok(None));
}

/// Two at once: the second waits, and the first one's stays.
pub async fn two_answer_at_once(world: World) {
    let key = keyed(user(1), "once");
    world.place_as(ask(&world, &key).await).await;
    let answer = |body: &str| StoredAnswer { status: 201, body: body.into() };
    let (one, two) = (world.begin().await, world.begin().await);
    let (first, second) = (answer("first"), answer("second"));
    one.save_idempotent_answer(&key.key, &first).await.unwrap();
    let late = two.save_idempotent_answer(&key.key, &second);
    let (late, _) = waits_for(late, one.commit()).await;
    assert_eq!(late, Ok(()));
    two.commit().await.unwrap();
    let record = world.ports.queries.idempotency(&key.key).await.unwrap().unwrap();
    assert_eq!(record.answer, Some(first));
}

/// Without an answer, and past its order's send deadline, the first request can't be under way any more; nor when its
/// payment has ended.
pub async fn a_key_without_an_answer_is_abandoned_after_the_deadline(world: World) {
    for (send_within, ended, abandoned) in
        [(HOUR, false, false), (Duration::ZERO, false, true), (HOUR, true, true)]
    {
        let key = keyed(user(1), &format!("{send_within:?} {ended}"));
        let ask = Ask { send_within, ..ask(&world, &key).await };
        let placed = world.place_as(ask).await;
        if ended {
            world.fail(placed).await;
        }
        let start = tokio::time::Instant::now();
        loop {
            tick().await;
            let record = world.ports.queries.idempotency(&key.key).await.unwrap().unwrap();
            // It may be called abandoned some time after the deadline, never before it.
            if record.abandoned == abandoned {
                break;
            }
            assert!(abandoned, "not past its deadline");
            assert!(start.elapsed() < Duration::from_secs(180), "never abandoned");
        }
    }
}
