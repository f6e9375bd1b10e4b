//! The engine against the protocol's rules, without a socket and without a clock.

use std::collections::BTreeSet;
use std::time::Duration;

use pg_protocol::{CardType, PaymentRequest, TransactionAccepted, TransactionStatus, reasons};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::knobs::patch;

mod real_gateway;

const MERCHANT: Option<&str> = Some("holdfast");
/// 2025-08-16T03:00:00Z, noon in Korea.
const NOON: Duration = Duration::from_secs(1_755_313_200);

fn engine(change: serde_json::Value) -> Engine {
    let knobs = patch::apply(&Knobs::default(), &patch::changes_in(&change).unwrap()).unwrap();
    Engine::new(knobs).unwrap()
}

/// Accepts everything, decides after exactly one second, approves.
fn obedient() -> Engine {
    engine(obedient_knobs())
}

fn obedient_knobs() -> serde_json::Value {
    json!({
        "request": { "error_500": 0.0 },
        "settlement": { "processing": { "min": "1s", "max": "1s" }, "success": 1.0, "limit_exceeded": 0.0, "invalid_card": 0.0 },
    })
}

fn with(mut base: serde_json::Value, change: serde_json::Value) -> Engine {
    let knobs = patch::apply(&Knobs::default(), &patch::changes_in(&base.take()).unwrap()).unwrap();
    Engine::new(patch::apply(&knobs, &patch::changes_in(&change).unwrap()).unwrap()).unwrap()
}

fn payment(order_id: &str) -> PaymentRequest<'_> {
    PaymentRequest {
        order_id: order_id.into(),
        card_type: CardType::Samsung,
        card_no: "1234-5678-9814-1451".into(),
        amount: 5000,
        callback_url: "http://localhost:8080/callback/token".into(),
    }
}

fn data<T: std::fmt::Debug>(plan: Plan<T>) -> T {
    match plan.answer {
        Answer::Data(data) => data,
        other => panic!("expected data, got {other:?}"),
    }
}

fn refusal<T: std::fmt::Debug>(plan: Plan<T>) -> Refusal {
    match plan.answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn accepted(engine: &mut Engine, now: Duration, order_id: &str) -> TransactionAccepted {
    data(engine.request(now, MERCHANT, &payment(order_id)))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_payment_is_accepted_created_decided_and_reported_once() {
    let mut engine = obedient();
    let plan = engine.request(NOON, MERCHANT, &payment("order-1"));
    assert!((Duration::from_millis(100)..=Duration::from_millis(500)).contains(&plan.answer_after));
    let arrived = NOON + plan.answer_after;
    let accepted = data(plan);
    assert_eq!(accepted.status, TransactionStatus::Pending);
    assert_eq!(accepted.reason, None);
    let (date, digits) = accepted.transaction_key.split_once(":TR:").unwrap();
    assert_eq!(date, "20250816");
    assert!(digits.len() == 6 && digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{digits}");

    let key = accepted.transaction_key.as_str();
    assert_eq!(refusal(engine.transaction(arrived - Duration::from_millis(1), MERCHANT, key)).status, 404);
    assert_eq!(data(engine.transaction(arrived, MERCHANT, key)).status, TransactionStatus::Pending);
    assert_eq!(engine.next_due(), Some(arrived + seconds(1)));
    assert_eq!(engine.advance(arrived + Duration::from_millis(999)), []);

    let deliveries = engine.advance(arrived + seconds(1));
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].url, "http://localhost:8080/callback/token");
    assert_eq!(deliveries[0].body.status, TransactionStatus::Success);
    assert_eq!(deliveries[0].body.reason, Some(reasons::APPROVED));
    assert_eq!(deliveries[0].body, data(engine.transaction(arrived + seconds(1), MERCHANT, key)));
    assert_eq!(engine.next_due(), None);
    assert_eq!(engine.advance(arrived + seconds(3600)), []);
}

#[test]
fn the_date_of_a_key_is_korean() {
    let mut engine = obedient();
    // 23:59:59 and 00:00:00 in Korea.
    for (at, date) in [(NOON + seconds(43_199), "20250816"), (NOON + seconds(43_200), "20250817")] {
        let key = accepted(&mut engine, at, "order-1").transaction_key;
        assert!(key.starts_with(date), "{key}");
    }
}

#[test]
fn it_never_deduplicates() {
    let mut engine = obedient();
    let first = accepted(&mut engine, NOON, "order-1");
    let second = accepted(&mut engine, NOON, "order-1");
    assert_ne!(first.transaction_key, second.transaction_key);
    let order = data(engine.order(NOON + seconds(10), MERCHANT, Some("order-1")));
    assert_eq!(order.transactions.len(), 2);
    assert!(order.transactions.iter().all(|it| it.status == TransactionStatus::Success));
    let totals = Totals::of(&engine.ledger(NOON + seconds(10)));
    assert_eq!((totals.transactions, totals.success, totals.charged_amount), (2, 2, 10_000));
}

#[test]
fn look_ups_see_only_the_merchant_who_asks() {
    let mut engine = obedient();
    let key = accepted(&mut engine, NOON, "order-1").transaction_key;
    let later = NOON + seconds(1);
    assert_eq!(refusal(engine.transaction(later, Some("other"), &key)).status, 404);
    assert_eq!(refusal(engine.order(later, Some("other"), Some("order-1"))).status, 404);
    assert_eq!(refusal(engine.order(later, None, Some("order-1"))).message, "유저 ID 헤더는 필수입니다.");
    let mut open = with(obedient_knobs(), json!({ "lookup": { "merchant_scoped": false } }));
    let key = accepted(&mut open, NOON, "order-1").transaction_key;
    assert_eq!(data(open.transaction(later, Some("other"), &key)).order_id, "order-1");
}

/// 20 000 payments of one seed: the documented shares, each within four standard deviations.
#[test]
fn the_defaults_are_the_documented_gateway() {
    const PAYMENTS: u32 = 20_000;
    let mut engine = engine(json!({ "seed": 20_250_816, "key": { "unique": true } }));
    let mut errors = 0;
    for index in 0..PAYMENTS {
        let plan =
            engine.request(NOON + Duration::from_millis(u64::from(index)), MERCHANT, &payment("order-1"));
        assert!((100..=500).contains(&plan.answer_after.as_millis()));
        match plan.answer {
            Answer::Fault(Fault::Error500) => errors += 1,
            Answer::Data(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let deliveries = engine.advance(NOON + seconds(3600));
    let ledger = engine.ledger(NOON + seconds(3600));
    let created = u32::try_from(ledger.len()).unwrap();
    assert_eq!(created + errors, PAYMENTS);
    assert_eq!(deliveries.len(), ledger.len());
    let within = |count: u32, of: u32, share: f64| {
        let (count, of) = (f64::from(count), f64::from(of));
        let deviation = (of * share * (1.0 - share)).sqrt();
        assert!((count - of * share).abs() < 4.0 * deviation, "{count} of {of} is not {share}");
    };
    within(errors, PAYMENTS, 0.4);
    let with_reason =
        |reason| u32::try_from(ledger.iter().filter(|entry| entry.reason == Some(reason)).count()).unwrap();
    within(with_reason(reasons::APPROVED), created, 0.7);
    within(with_reason(reasons::LIMIT_EXCEEDED), created, 0.2);
    within(with_reason(reasons::INVALID_CARD), created, 0.1);
    for entry in &ledger {
        let took = entry.settled_at.unwrap() - entry.created_at.unwrap();
        assert!((1_000..=5_000).contains(&took.as_millis()), "{took:?}");
    }
}

#[test]
fn a_500_creates_nothing_unless_told_to() {
    let mut engine = with(obedient_knobs(), json!({ "request": { "error_500": 1.0 } }));
    let plan = engine.request(NOON, MERCHANT, &payment("order-1"));
    assert_eq!(plan.answer, Answer::Fault(Fault::Error500));
    assert_eq!(engine.next_due(), None);
    for fate in ["create_then_error_500", "create_then_close", "create_then_garbage"] {
        engine.script_requests(RequestFate::named(fate));
        let plan = engine.request(NOON, MERCHANT, &payment("order-2"));
        assert!(matches!(plan.answer, Answer::Fault(_)), "{fate}");
    }
    assert_eq!(data(engine.order(NOON + seconds(1), MERCHANT, Some("order-2"))).transactions.len(), 3);
}

#[test]
fn shares_can_create_behind_a_bad_answer() {
    for change in [
        json!({ "create_then_error_500": 1.0 }),
        json!({ "create_then_close": 1.0 }),
        json!({ "error_502": 1.0, "created_anyway": 1.0 }),
        json!({ "hang": 1.0, "created_anyway": 1.0 }),
    ] {
        let mut engine = with(obedient_knobs(), json!({ "request": change }));
        let plan = engine.request(NOON, MERCHANT, &payment("order-1"));
        assert!(matches!(plan.answer, Answer::Fault(_)), "{change}");
        assert_eq!(engine.ledger(NOON + seconds(5)).len(), 1, "{change}");
    }
}

#[test]
fn a_backlogged_request_is_worked_off_long_after_its_sender_has_gone() {
    let delay = json!({ "min": "60s", "max": "60s" });
    let mut engine = with(obedient_knobs(), json!({ "request": { "backlog": 1.0, "backlog_delay": delay } }));
    let plan = engine.request(NOON, MERCHANT, &payment("order-1"));
    assert_eq!(plan.answer, Answer::Fault(Fault::Hang));
    assert_eq!(refusal(engine.order(NOON + seconds(59), MERCHANT, Some("order-1"))).status, 404);
    assert_eq!(engine.advance(NOON + seconds(65)).len(), 1);
    assert_eq!(engine.ledger(NOON + seconds(65))[0].status, TransactionStatus::Success);
}

#[test]
fn a_callback_can_come_before_the_answer_and_an_answer_can_bear_the_result() {
    let mut early = with(obedient_knobs(), json!({ "callback": { "before_answer": 1.0 } }));
    let plan = early.request(NOON, MERCHANT, &payment("order-1"));
    let before = NOON + plan.answer_after - EARLY_CALLBACK_LEAD;
    assert_eq!(early.advance(before).len(), 1);
    assert_eq!(data(plan).status, TransactionStatus::Pending);

    let mut at_once = with(obedient_knobs(), json!({ "request": { "decided_at_once": 1.0 } }));
    let told = accepted(&mut at_once, NOON, "order-1");
    assert_eq!(told.status, TransactionStatus::Success);
    assert_eq!(told.reason.as_deref(), Some(reasons::APPROVED));
}

#[test]
fn callbacks_are_dropped_doubled_delayed_wrong_and_forged() {
    let sent = |change: serde_json::Value| {
        let mut engine = with(obedient_knobs(), json!({ "callback": change }));
        let _ = accepted(&mut engine, NOON, "order-1");
        let soon = engine.advance(NOON + seconds(2));
        let late = engine.advance(NOON + seconds(600));
        (soon, late, engine.ledger(NOON + seconds(600)).remove(0))
    };
    let (soon, late, entry) = sent(json!({ "dropped": 1.0 }));
    assert_eq!((soon.len(), late.len(), entry.callbacks_sent), (0, 0, 0));
    assert_eq!(entry.status, TransactionStatus::Success);

    let (soon, late, entry) = sent(json!({ "duplicated": 1.0, "copies": 100 }));
    assert_eq!((soon.len(), late.len(), entry.callbacks_sent), (100, 0, 100));

    let (soon, late, _) = sent(json!({ "delayed": 1.0 }));
    assert_eq!((soon.len(), late.len()), (0, 1));

    let (soon, _, entry) = sent(json!({ "wrong_amount": 1.0 }));
    assert_eq!((soon[0].body.amount, entry.amount), (6000, 5000));

    let (soon, _, entry) = sent(json!({ "forged": 1.0 }));
    assert_eq!(soon.iter().filter(|delivery| delivery.forged).count(), 1);
    assert_eq!((soon.len(), entry.callbacks_sent), (2, 1));
}

#[test]
fn a_forged_callback_claims_success_while_the_gateway_says_otherwise() {
    let refusing =
        json!({ "settlement": { "success": 0.0, "limit_exceeded": 1.0 }, "callback": { "forged": 1.0 } });
    let mut engine = with(obedient_knobs(), refusing);
    let accepted = accepted(&mut engine, NOON, "order-1");
    let forged = engine.advance(NOON + Duration::from_millis(600)).remove(0);
    assert_eq!(forged.body.status, TransactionStatus::Success);
    assert_eq!(forged.body.transaction_key, accepted.transaction_key);
    let truth = data(engine.transaction(NOON + seconds(5), MERCHANT, &accepted.transaction_key));
    assert_eq!((truth.status, truth.reason), (TransactionStatus::Failed, Some(reasons::LIMIT_EXCEEDED)));
}

#[test]
fn a_transaction_can_be_stuck_flip_or_be_booked_with_a_wrong_amount() {
    let mut stuck = with(obedient_knobs(), json!({ "settlement": { "stuck": 1.0 } }));
    let _ = accepted(&mut stuck, NOON, "order-1");
    assert_eq!(stuck.advance(NOON + seconds(86_400)), []);
    assert_eq!(stuck.ledger(NOON + seconds(86_400))[0].status, TransactionStatus::Pending);

    let flip = json!({ "success": 0.0, "invalid_card": 1.0, "flip": 1.0, "flip_after": { "min": "10s", "max": "10s" } });
    let mut flipping = with(obedient_knobs(), json!({ "settlement": flip }));
    let _ = accepted(&mut flipping, NOON, "order-1");
    let deliveries = flipping.advance(NOON + seconds(3600));
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].body.status, TransactionStatus::Failed);
    let entry = flipping.ledger(NOON + seconds(3600)).remove(0);
    assert_eq!((entry.status, entry.flipped), (TransactionStatus::Success, true));

    let mut wrong = with(obedient_knobs(), json!({ "request": { "wrong_amount": 1.0 }, "amount_delta": -1 }));
    let _ = accepted(&mut wrong, NOON, "order-1");
    let entry = wrong.ledger(NOON + seconds(1)).remove(0);
    assert_eq!((entry.requested_amount, entry.amount), (5000, 4999));
}

#[test]
fn a_colliding_key_overwrites_the_older_transaction() {
    let mut engine = obedient();
    let older = accepted(&mut engine, NOON, "order-1");
    let mut knobs = engine.knobs().clone();
    knobs.key.collision = 1.0;
    engine.set_knobs(knobs).unwrap();
    let newer = accepted(&mut engine, NOON + seconds(10), "order-2");
    assert_eq!(older.transaction_key, newer.transaction_key);
    let now = NOON + seconds(20);
    assert_eq!(data(engine.transaction(now, MERCHANT, &older.transaction_key)).order_id, "order-2");
    assert_eq!(refusal(engine.order(now, MERCHANT, Some("order-1"))).status, 404);
    let ledger = engine.ledger(now);
    assert_eq!((ledger[0].overwritten, ledger[1].overwritten), (true, false));
    assert_eq!(Totals::of(&ledger).success, 2);
}

#[test]
fn an_answer_can_bear_another_transactions_key() {
    let mut engine = obedient();
    let first = accepted(&mut engine, NOON, "order-1");
    let mut knobs = engine.knobs().clone();
    knobs.key.foreign = 1.0;
    engine.set_knobs(knobs).unwrap();
    let second = accepted(&mut engine, NOON, "order-2");
    assert_eq!(second.transaction_key, first.transaction_key);
    let own = data(engine.order(NOON + seconds(5), MERCHANT, Some("order-2"))).transactions.remove(0);
    assert_ne!(own.transaction_key, first.transaction_key);
}

#[test]
fn look_ups_can_lie() {
    let mut engine = obedient();
    let key = accepted(&mut engine, NOON, "order-1").transaction_key;
    let now = NOON + seconds(5);
    engine.script_lookups(
        ["not_found", "stale", "error_503", "not_found", "stale"].into_iter().flat_map(LookupFate::named),
    );
    assert_eq!(refusal(engine.transaction(now, MERCHANT, &key)).status, 404);
    let stale = data(engine.transaction(now, MERCHANT, &key));
    assert_eq!((stale.status, stale.reason), (TransactionStatus::Pending, None));
    assert_eq!(engine.transaction(now, MERCHANT, &key).answer, Answer::Fault(Fault::Error503));
    assert_eq!(refusal(engine.order(now, MERCHANT, Some("order-1"))).status, 404);
    assert_eq!(
        data(engine.order(now, MERCHANT, Some("order-1"))).transactions[0].status,
        TransactionStatus::Pending
    );
    assert_eq!(data(engine.transaction(now, MERCHANT, &key)).status, TransactionStatus::Success);
    let outcomes: Vec<String> = engine.log().counts().into_iter().map(|row| row.outcome).collect();
    for outcome in ["accept", "false_not_found", "stale", "error_503", "found"] {
        assert!(outcomes.iter().any(|it| it == outcome), "{outcome} of {outcomes:?}");
    }
}

#[test]
fn look_ups_can_be_late_to_see_a_transaction() {
    let mut engine = with(
        obedient_knobs(),
        json!({ "lookup": { "visible_after": "10s", "latency": { "min": "50ms", "max": "50ms" } } }),
    );
    let key = accepted(&mut engine, NOON, "order-1").transaction_key;
    let plan = engine.transaction(NOON + seconds(9), MERCHANT, &key);
    assert_eq!(plan.answer_after, Duration::from_millis(50));
    assert_eq!(refusal(plan).status, 404);
    assert_eq!(data(engine.transaction(NOON + seconds(11), MERCHANT, &key)).order_id, "order-1");
}

#[test]
fn an_outage_shuts_the_door_and_work_goes_on_behind_it() {
    for (mode, fault) in [
        ("close", Fault::Close),
        ("reset", Fault::Reset),
        ("hang", Fault::Hang),
        ("unavailable", Fault::Error503),
    ] {
        let mut engine = obedient();
        let key = accepted(&mut engine, NOON, "order-1").transaction_key;
        let changes = patch::changes_in(&json!({ "outage": mode })).unwrap();
        engine.set_knobs(patch::apply(engine.knobs(), &changes).unwrap()).unwrap();
        let now = NOON + seconds(5);
        assert_eq!(engine.request(now, MERCHANT, &payment("order-2")).answer, Answer::Fault(fault));
        assert_eq!(engine.transaction(now, MERCHANT, &key).answer, Answer::Fault(fault));
        assert_eq!(engine.order(now, MERCHANT, Some("order-1")).answer, Answer::Fault(fault));
        assert_eq!(engine.advance(now).len(), 1);
        assert_eq!(engine.log().posts()["order-2"][0].outcome, "outage");
        assert_eq!(engine.ledger(now).len(), 1);
    }
}

#[test]
fn a_restart_leaves_transactions_pending_and_a_wipe_forgets_them() {
    let mut engine = obedient();
    let key = accepted(&mut engine, NOON, "order-1").transaction_key;
    assert_eq!(engine.restart(NOON + Duration::from_millis(600)), 1);
    assert_eq!(engine.advance(NOON + seconds(3600)), []);
    assert_eq!(
        data(engine.transaction(NOON + seconds(3600), MERCHANT, &key)).status,
        TransactionStatus::Pending
    );

    assert_eq!(engine.wipe(NOON + seconds(3600)), 1);
    assert_eq!(refusal(engine.transaction(NOON + seconds(3601), MERCHANT, &key)).status, 404);
    assert_eq!(refusal(engine.order(NOON + seconds(3601), MERCHANT, Some("order-1"))).status, 404);
    assert!(engine.ledger(NOON + seconds(3601))[0].wiped);
    assert_eq!(engine.wipe(NOON + seconds(3602)), 0);
}

#[test]
fn a_person_can_decide_a_transaction_and_change_his_mind() {
    let mut engine = with(obedient_knobs(), json!({ "settlement": { "stuck": 1.0 } }));
    let key = accepted(&mut engine, NOON, "order-1").transaction_key;
    let now = NOON + seconds(5);
    assert_eq!(engine.settle(now, &key, false).unwrap().status, TransactionStatus::Failed);
    assert_eq!(engine.settle(now, &key, true).unwrap().status, TransactionStatus::Success);
    assert_eq!(engine.advance(now).len(), 2);
    assert_eq!(engine.settle(now, "20250816:TR:000000", true).unwrap_err().status, 404);

    let mut scheduled = obedient();
    let key = accepted(&mut scheduled, NOON, "order-1").transaction_key;
    let soon = NOON + Duration::from_millis(600);
    assert_eq!(scheduled.settle(soon, &key, false).unwrap().status, TransactionStatus::Failed);
    assert_eq!(scheduled.advance(NOON + seconds(10)).len(), 1, "the planned decision comes on top");
    assert_eq!(scheduled.ledger(NOON + seconds(10))[0].status, TransactionStatus::Failed);
}

#[test]
fn knobs_out_of_range_are_refused_by_name_and_change_nothing() {
    let mut engine = obedient();
    let before = engine.knobs().clone();
    for (change, key) in [
        (json!({ "request": { "hang": -0.1 } }), "request.hang"),
        (json!({ "request": { "hang": 0.6, "reset": 0.6 } }), "request"),
        (json!({ "request": { "created_anyway": 1.1 } }), "request.created_anyway"),
        (json!({ "request": { "latency": { "min": "2s" } } }), "request.latency.min"),
        (json!({ "lookup": { "stale": 0.5, "garbage": 0.6 } }), "lookup"),
        (json!({ "lookup": { "visible_after": "25h" } }), "lookup.visible_after"),
        (json!({ "settlement": { "success": 0.5 } }), "settlement"),
        (json!({ "settlement": { "workers": 10_001 } }), "settlement.workers"),
        (json!({ "start": { "slow_calls": 10_001 } }), "start.slow_calls"),
        (json!({ "start": { "slow_by": "25h" } }), "start.slow_by"),
        (json!({ "callback": { "timeout": "25h" } }), "callback.timeout"),
        (json!({ "settlement": { "processing": { "max": "25h" } } }), "settlement.processing.max"),
        (json!({ "callback": { "copies": 1 } }), "callback.copies"),
        (json!({ "callback": { "dropped": 2 } }), "callback.dropped"),
        (json!({ "key": { "foreign": 2 } }), "key.foreign"),
        (json!({ "amount_delta": 0 }), "amount_delta"),
        (json!({ "amount_delta": i64::MIN }), "amount_delta"),
        (json!({ "retry_after": "1500ms" }), "retry_after"),
        (json!({ "callback_url_prefix": "shop" }), "callback_url_prefix"),
    ] {
        let knobs = patch::apply(&before, &patch::changes_in(&change).unwrap()).unwrap();
        assert_eq!(engine.set_knobs(knobs.clone()).unwrap_err().key, key, "{change}");
        assert!(Engine::new(knobs).is_err(), "{change}");
        assert_eq!(engine.knobs(), &before);
    }
}

#[test]
fn fates_have_names_that_lead_back_to_them() {
    for fault in Fault::ALL {
        for fate in [RequestFate::Fail(fault), RequestFate::CreateThen(fault)] {
            assert_eq!(RequestFate::named(&fate.name()), Some(fate));
        }
        assert_eq!(LookupFate::named(fault.name()), Some(LookupFate::Fail(fault)));
    }
    for fate in [RequestFate::Accept, RequestFate::Backlog] {
        assert_eq!(RequestFate::named(&fate.name()), Some(fate));
    }
    for fate in [LookupFate::Serve, LookupFate::NotFound, LookupFate::Stale] {
        assert_eq!(LookupFate::named(fate.name()), Some(fate));
    }
    for nonsense in ["", "create_then_", "create_then_accept", "ACCEPT", "error_501"] {
        assert_eq!(RequestFate::named(nonsense), None);
        assert_eq!(LookupFate::named(nonsense), None);
    }
}

#[test]
fn the_shares_and_the_names_of_faults_are_the_same_list() {
    let shares = crate::knobs::FaultShares::default();
    assert_eq!(shares.table().map(|(fault, _)| fault), Fault::ALL);
    let tree = serde_json::to_value(shares).unwrap();
    let keys: BTreeSet<String> = tree.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, Fault::ALL.iter().map(|fault| fault.name().to_owned()).collect());
}

#[test]
fn neither_debug_nor_the_ledger_shows_a_card_number_or_a_callback_secret() {
    let mut engine = obedient();
    let key = accepted(&mut engine, NOON, "order-1").transaction_key;
    let ledger = serde_json::to_string(&engine.ledger(NOON + seconds(1))).unwrap();
    let snapshot = format!("{:?}", data(engine.transaction(NOON + seconds(1), MERCHANT, &key)));
    let deliveries = format!("{:?}", engine.advance(NOON + seconds(5)));
    for text in [&ledger, &snapshot, &deliveries, &format!("{engine:?}")] {
        assert!(!text.contains("5678"), "{text}");
    }
    for text in [snapshot, deliveries, format!("{engine:?}")] {
        assert!(!text.contains("/token"), "{text}");
    }
    assert!(ledger.contains("1234-****-****-1451"), "{ledger}");
    assert!(ledger.contains("\"requestedAt\":\"2025-08-16T03:00:00Z\""), "{ledger}");
}

/// One thing that can be done to an engine.
#[derive(Clone, Debug)]
enum Step {
    Request(u8),
    FindOrder(u8),
    FindKey(u8),
    Advance(u16),
    Restart,
    Wipe,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<u8>().prop_map(Step::Request),
        3 => any::<u8>().prop_map(Step::FindOrder),
        3 => any::<u8>().prop_map(Step::FindKey),
        5 => any::<u16>().prop_map(Step::Advance),
        1 => Just(Step::Restart),
        1 => Just(Step::Wipe),
    ]
}

/// Misbehaves in every way at once.
fn wild(seed: u64) -> Engine {
    let share = 0.05;
    engine(json!({
        "seed": seed,
        "request": { "error_500": 0.1, "hang": share, "reset": share, "garbage": share, "create_then_error_500": share,
            "create_then_close": share, "created_anyway": 0.5, "backlog": share, "decided_at_once": share, "wrong_amount": share },
        "lookup": { "stale": share, "not_found": share, "error_503": share },
        "settlement": { "stuck": share, "flip": 0.2, "workers": 3 },
        "callback": { "dropped": share, "duplicated": share, "delayed": share, "before_answer": share,
            "wrong_amount": share, "forged": share },
        "key": { "collision": share, "foreign": share },
    }))
}

/// Runs the steps and writes down everything that came of them.
fn trace(engine: &mut Engine, steps: &[Step]) -> Vec<String> {
    let mut now = NOON;
    let mut keys: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for step in steps {
        let line = match step {
            Step::Request(order) => {
                let plan = engine.request(now, MERCHANT, &payment(&format!("order-{order}")));
                if let Answer::Data(accepted) = &plan.answer {
                    keys.push(accepted.transaction_key.clone());
                }
                format!("{plan:?}")
            }
            Step::FindOrder(order) => {
                format!("{:?}", engine.order(now, MERCHANT, Some(&format!("order-{order}"))))
            }
            Step::FindKey(index) => match keys.get(usize::from(*index)) {
                Some(key) => format!("{:?}", engine.transaction(now, MERCHANT, key)),
                None => String::new(),
            },
            Step::Advance(millis) => {
                now += Duration::from_millis(u64::from(*millis));
                let under_way = engine.advance(now);
                for (delivery, status) in under_way.iter().zip([None, Some(200)].into_iter().cycle()) {
                    engine.callback_ended(now, delivery, status);
                }
                format!("{under_way:?}")
            }
            Step::Restart => engine.restart(now).to_string(),
            Step::Wipe => engine.wipe(now).to_string(),
        };
        lines.push(line);
    }
    lines.push(format!("{:?}", engine.ledger(now)));
    lines.push(format!("{:?}", engine.log()));
    lines
}

proptest! {
    #[test]
    fn the_same_seed_and_the_same_calls_give_the_same_trace(
        seed in 0..u64::MAX,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        prop_assert_eq!(trace(&mut wild(seed), &steps), trace(&mut wild(seed), &steps));
    }

    #[test]
    fn the_books_hold_under_everything_at_once(seed in 0..u64::MAX, steps in proptest::collection::vec(step(), 0..120)) {
        let mut engine = wild(seed);
        trace(&mut engine, &steps);
        let ledger = engine.ledger(NOON + seconds(86_400 * 2));
        let posts: usize = engine.log().posts().values().map(Vec::len).sum();
        let asked = engine.log().total(Operation::Request);
        prop_assert_eq!(u64::try_from(posts).unwrap(), asked);
        prop_assert!(ledger.len() <= posts, "no charge without a request");
        let visible = ledger.iter().filter(|entry| !entry.overwritten && !entry.wiped);
        let mut keys = BTreeSet::new();
        for entry in visible {
            prop_assert!(keys.insert(entry.transaction_key.clone()), "two visible transactions with one key");
        }
        for entry in &ledger {
            prop_assert_eq!(entry.status == TransactionStatus::Pending, entry.settled_at.is_none());
            prop_assert!(entry.amount >= 0);
        }
    }

    #[test]
    fn how_often_somebody_asks_does_not_change_what_becomes_of_payments(seed in 0..u64::MAX, polls in 0..20_u8) {
        let run = |polls: u8| {
            let mut engine = engine(json!({ "seed": seed }));
            for order in 0..20 {
                let now = NOON + seconds(order);
                drop(engine.request(now, MERCHANT, &payment("order-1")));
                for _ in 0..polls {
                    drop(engine.order(now, MERCHANT, Some("order-1")));
                }
            }
            engine.ledger(NOON + seconds(100))
        };
        prop_assert_eq!(run(0), run(polls));
    }

    #[test]
    fn no_body_makes_it_panic_or_repeat_the_card_number(body in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC*") {
        let mut engine = obedient();
        drop(engine.request_json(NOON, MERCHANT, &body));
        let json = json!({ "orderId": text, "cardType": text, "cardNo": "4321-5678-9814-1451", "amount": 1, "callbackUrl": text });
        let plan = engine.request_json(NOON, MERCHANT, json.to_string().as_bytes());
        let refusal = refusal(plan);
        prop_assert!(!refusal.message.contains("4321"));
    }
}
