//! What was seen of the real gateway: one small pool of threads, a slow start, and what its reader takes.

use super::*;

/// Answers at once, decides after exactly one second, by two threads.
fn two_threads() -> Engine {
    with(
        obedient_knobs(),
        json!({ "settlement": { "workers": 2 }, "request": { "latency": { "min": "0s", "max": "0s" } } }),
    )
}

/// The callback of the first waits behind all that came before the first was decided.
#[test]
fn callbacks_queue_behind_what_is_not_decided_yet() {
    let mut engine = two_threads();
    for order in ["order-1", "order-2", "order-3", "order-4", "order-5", "order-6"] {
        let _ = accepted(&mut engine, NOON, order);
    }
    for (second, decided) in [(1, 2), (2, 4)] {
        assert_eq!(engine.advance(NOON + seconds(second)), [], "{second}");
        assert_eq!(Totals::of(&engine.ledger(NOON + seconds(second))).success, decided);
    }
    let mut under_way = engine.advance(NOON + seconds(3));
    assert_eq!(Totals::of(&engine.ledger(NOON + seconds(3))).success, 6);
    let mut told = Vec::new();
    for second in 4..10 {
        assert!(under_way.len() <= 2, "{under_way:?}");
        // A thread whose merchant does not answer does nothing else.
        assert_eq!(engine.advance(NOON + seconds(second)), []);
        let ended = under_way.remove(0);
        told.push(ended.body.order_id.clone());
        engine.callback_ended(NOON + seconds(second), &ended, Some(200));
        under_way.extend(engine.advance(NOON + seconds(second)));
    }
    assert_eq!(told, ["order-1", "order-2", "order-3", "order-4", "order-5", "order-6"]);
    assert_eq!(under_way, []);
    assert_eq!(engine.next_due(), None);
}

#[test]
fn merchants_that_do_not_answer_stop_a_gateway_of_few_threads() {
    let mut engine = two_threads();
    let _ = accepted(&mut engine, NOON, "order-1");
    let _ = accepted(&mut engine, NOON, "order-2");
    let under_way = engine.advance(NOON + seconds(1));
    assert_eq!(under_way.len(), 2);
    let _ = accepted(&mut engine, NOON + seconds(2), "order-3");
    assert_eq!(engine.advance(NOON + seconds(3600)), []);
    assert_eq!(Totals::of(&engine.ledger(NOON + seconds(3600))).pending, 1);
    // More threads begin what waits.
    let mut knobs = engine.knobs().clone();
    knobs.settlement.workers = 3;
    engine.set_knobs(knobs).unwrap();
    assert_eq!(engine.advance(NOON + seconds(3600)), []);
    assert_eq!(engine.advance(NOON + seconds(3601)).len(), 1);
}

/// What a process had under way when it died frees no thread of the next one, and after a reset it is about nothing.
#[test]
fn callbacks_of_before_a_restart_are_not_the_new_process_s() {
    let mut engine = two_threads();
    for order in ["order-1", "order-2"] {
        let _ = accepted(&mut engine, NOON, order);
    }
    let from_before = engine.advance(NOON + seconds(1));
    assert_eq!(engine.restart(NOON + seconds(1)), 0);
    for order in ["order-3", "order-4", "order-5"] {
        let _ = accepted(&mut engine, NOON + seconds(2), order);
    }
    engine.callback_ended(NOON + seconds(2), &from_before[0], Some(200));
    let ledger = engine.ledger(NOON + seconds(3));
    assert_eq!(
        (ledger[0].callbacks_delivered, Totals::of(&ledger).success),
        (1, 4),
        "two threads, not three"
    );

    let knobs = engine.knobs().clone();
    engine.reset(knobs).unwrap();
    let _ = accepted(&mut engine, NOON + seconds(4), "order-1");
    engine.callback_ended(NOON + seconds(5), &from_before[0], Some(200));
    let ledger = engine.ledger(NOON + seconds(5));
    assert_eq!((ledger.len(), ledger[0].callbacks_sent, ledger[0].callbacks_delivered), (1, 1, 0));
}

#[test]
fn the_first_calls_after_a_start_are_slow() {
    let mut engine = with(
        obedient_knobs(),
        json!({ "start": { "slow_calls": 3, "slow_by": "2s" }, "request": { "latency": { "min": "0s", "max": "0s" } } }),
    );
    let look_up = |engine: &mut Engine| engine.order(NOON, MERCHANT, Some("order-1")).answer_after.as_secs();
    for _ in 0..2 {
        let plan = engine.request(NOON, MERCHANT, &payment("order-1"));
        assert_eq!(plan.answer_after, seconds(2));
        assert_eq!(refusal(engine.order(NOON, None, None)).status, 400);
        assert_eq!(engine.request_json(NOON, MERCHANT, b"{").answer_after, seconds(2));
        assert_eq!([look_up(&mut engine), look_up(&mut engine)], [0, 0]);
        // What arrives slowly is created late.
        assert_eq!(
            engine
                .ledger(NOON + seconds(2))
                .iter()
                .filter(|it| it.created_at == Some(NOON + seconds(2)))
                .count(),
            1
        );
        engine.reset(engine.knobs().clone()).unwrap();
    }
    engine.restart(NOON);
    assert_eq!(
        [look_up(&mut engine), look_up(&mut engine), look_up(&mut engine), look_up(&mut engine)],
        [2, 2, 2, 0]
    );
}

#[test]
fn keys_are_found_whatever_their_case() {
    let mut engine = obedient();
    let key = accepted(&mut engine, NOON, "order-1").transaction_key;
    for asked in [key.to_uppercase(), key.to_lowercase(), key.clone()] {
        let found = data(engine.transaction(NOON + seconds(1), MERCHANT, &asked));
        assert_eq!(found.transaction_key, key, "{asked}");
        assert_eq!(engine.settle(NOON + seconds(1), &asked, true).unwrap().transaction_key, key);
    }
}

#[test]
fn what_is_missing_is_refused_and_what_is_empty_is_taken() {
    let mut engine = obedient();
    assert_eq!(refusal(engine.order(NOON, MERCHANT, None)), Refusal::unhandled());
    assert_eq!(refusal(engine.order(NOON, MERCHANT, Some(""))).status, 404);
    assert_eq!(refusal(engine.request(NOON, None, &payment("order-1"))).status, 400);
    let key = data(engine.request(NOON, Some(""), &payment("order-1"))).transaction_key;
    assert_eq!(data(engine.transaction(NOON + seconds(1), Some(""), &key)).transaction_key, key);
    assert_eq!(refusal(engine.transaction(NOON + seconds(1), MERCHANT, &key)).status, 404);
}

/// Its JSON reader takes numbers for texts and texts of digits for numbers.
#[test]
fn numbers_and_texts_stand_for_each_other() {
    let body = json!({
        "orderId": "100001", "cardType": "KB", "cardNo": "1234-5678-9814-1451", "amount": 5000,
        "callbackUrl": "http://localhost:8080/",
    });
    let with = |member: &str, value: serde_json::Value| {
        let mut body = body.clone();
        body[member] = value;
        body.to_string().into_bytes()
    };
    let mut engine = obedient();
    for body in
        [with("amount", json!("5000")), with("amount", json!(" 5000 ")), with("orderId", json!(100_001))]
    {
        let key = data(engine.request_json(NOON, MERCHANT, &body)).transaction_key;
        let found = data(engine.transaction(NOON + seconds(1), MERCHANT, &key));
        assert_eq!((found.order_id.as_str(), found.amount), ("100001", 5000));
    }
    for (member, value) in [
        ("amount", json!("five")),
        ("amount", json!("")),
        ("amount", json!("5000.5")),
        ("amount", json!(5000.5)),
        ("amount", json!(true)),
        ("orderId", json!(["100001"])),
        ("orderId", json!(null)),
        ("cardNo", json!(1_234_567_898_141_451_i64)),
        ("cardType", json!(1)),
    ] {
        assert_eq!(
            refusal(engine.request_json(NOON, MERCHANT, &with(member, value.clone()))).status,
            400,
            "{member} {value}"
        );
    }
}
