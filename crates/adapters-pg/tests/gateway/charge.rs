//! One call: attempts, waits, probes, deadline, and what is told to the circuit.

use crate::model::*;
use adapters_pg::transport::{LookupFailure, PaymentAttempt, cause};
use adapters_pg::{GatewayConfig, RetryConfig};
use domain::ports::{FailureCause, GatewayAnswer, Lookup, Oddity};
use domain::settlement::TransactionStatus::{Failed, Pending, Success};
use proptest::prelude::*;
use std::time::Duration;
use tokio::time::Instant;

use Call::{ByOrder, Request};

/// Nothing random in the waits: 100, 200, 400 ms.
pub(crate) fn plain() -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.payment.retry = RetryConfig { jitter: 0.0, ..config.payment.retry };
    config
}

fn is_accepted(answer: &GatewayAnswer, with: &str) -> bool {
    matches!(answer, GatewayAnswer::Accepted { key: got, .. } if *got == key(with))
}

#[tokio::test(start_paused = true)]
async fn what_was_not_reached_is_sent_again_up_to_four_times() {
    let model = Model::scripted(vec![refused(), refused(), refused(), accepted()]);
    let begun = Instant::now();
    let outcome = charge(&guarded(&model, plain())).await;
    assert!(is_accepted(&outcome.answer, "20250816:TR:000001") && !outcome.watch);
    assert_eq!(model.calls(), [Request; 4]);
    assert_eq!(begun.elapsed(), ms(4 * 10 + 100 + 200 + 400));

    let model = Model::scripted(vec![refused(); 4]);
    let outcome = charge(&guarded(&model, plain())).await;
    let retry_after = Duration::from_secs(5);
    assert_eq!(outcome.answer, GatewayAnswer::NotReached { cause: cause::CONNECT_REFUSED, retry_after });
    assert!(!outcome.watch, "no byte of it reached the gateway");
    assert_eq!(model.calls(), [Request; 4]);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_ever_sent_again() {
    let misconfigured = PaymentAttempt::Misconfigured { status: 401, readable: true };
    for last in [accepted(), rejected(), timed_out(), misconfigured] {
        let model = Model::scripted(vec![last.clone()]);
        let outcome = charge(&guarded(&model, plain())).await;
        assert_eq!(model.calls(), [Request], "{last:?}");
        assert!(!outcome.watch);
        let model = Model::scripted(vec![refused(), last.clone()]);
        let outcome = charge(&guarded(&model, plain())).await;
        assert_eq!(model.calls(), [Request, Request], "{last:?}");
        assert!(!outcome.watch);
    }
}

#[tokio::test(start_paused = true)]
async fn a_500_is_followed_by_a_question_before_it_is_sent_again() {
    let model = Model::scripted(vec![error_500(), accepted()]);
    let outcome = charge(&guarded(&model, plain())).await;
    assert_eq!(model.calls(), [Request, ByOrder, Request]);
    assert!(is_accepted(&outcome.answer, "20250816:TR:000001"));
    assert!(outcome.watch, "the first one may have made a transaction too");
}

#[tokio::test(start_paused = true)]
async fn what_the_question_finds_is_the_outcome_and_nothing_is_sent_again() {
    let model = Model::new(|_| (ms(10), error_500()), |_| (ms(10), found(&[("a", Pending)])));
    let outcome = charge(&guarded(&model, plain())).await;
    assert_eq!(model.calls(), [Request, ByOrder]);
    assert!(is_accepted(&outcome.answer, "a") && !outcome.watch);

    // Two transactions: one is adopted, the other is watched.
    let lines = [("a", Failed), ("b", Pending), ("c", Success)];
    let model = Model::new(|_| (ms(10), error_500()), move |_| (ms(10), found(&lines)));
    let outcome = charge(&guarded(&model, plain())).await;
    assert!(is_accepted(&outcome.answer, "c") && outcome.watch);

    // Found only after the second attempt: the other of the two may still turn up.
    let look = |nth| (ms(10), if nth == 0 { Ok(Lookup::NotFound) } else { found(&[("a", Pending)]) });
    let model = Model::new(|_| (ms(10), error_500()), look);
    let outcome = charge(&guarded(&model, plain())).await;
    assert_eq!(model.calls(), [Request, ByOrder, Request, ByOrder]);
    assert!(is_accepted(&outcome.answer, "a") && outcome.watch);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_to_the_question_the_payment_is_watched() {
    for answer in [Ok(Lookup::NotFound), unanswered()] {
        let model = Model::new(|_| (ms(10), error_500()), move |_| (ms(10), answer.clone()));
        let outcome = charge(&guarded(&model, plain())).await;
        assert_eq!(model.calls(), [Request, ByOrder, Request, ByOrder, Request, ByOrder, Request, ByOrder]);
        assert!(matches!(outcome.answer, GatewayAnswer::NotReached { cause: cause::HTTP_500, .. }));
        assert!(outcome.watch);
    }
}

/// The gateway has something of this order, and nobody can read what: nothing may be sent again, and nothing given back.
#[tokio::test(start_paused = true)]
async fn what_the_question_finds_and_cannot_read_is_neither_sent_again_nor_compensated() {
    for what in [Oddity::UnknownStatus, Oddity::BadKey, Oddity::TooLarge] {
        for last in [error_500(), rejected()] {
            let answers = [error_500(), last];
            let model = Model::new(
                move |nth| (ms(10), answers[nth].clone()),
                move |nth| {
                    (ms(10), if nth == 0 { Ok(Lookup::NotFound) } else { Err(LookupFailure::Odd { what }) })
                },
            );
            let outcome = charge(&guarded(&model, plain())).await;
            assert_eq!(model.calls(), [Request, ByOrder, Request, ByOrder], "{what:?}");
            assert_eq!(outcome.answer, GatewayAnswer::Uncertain { cause: FailureCause(what.label()) });
            assert!(outcome.watch);
        }
    }
    // These say nothing of a transaction: the question was not answered.
    for what in [Oddity::WrongSubject, Oddity::NoData, Oddity::Unreadable] {
        let model =
            Model::new(|_| (ms(10), error_500()), move |_| (ms(10), Err(LookupFailure::Odd { what })));
        let outcome = charge(&guarded(&model, plain())).await;
        assert_eq!(model.requests(), 4, "{what:?}");
        assert!(matches!(outcome.answer, GatewayAnswer::NotReached { .. }) && outcome.watch);
    }
}

#[tokio::test(start_paused = true)]
async fn before_every_compensation_the_gateway_is_asked_once_more() {
    for last in [refused(), rejected(), PaymentAttempt::Misconfigured { status: 403, readable: false }] {
        let answers = [error_500(), last.clone(), refused(), refused()];
        let model = Model::new(
            move |nth| (ms(10), answers[nth].clone()),
            |nth| (ms(10), if nth == 0 { Ok(Lookup::NotFound) } else { found(&[("late", Success)]) }),
        );
        let outcome = charge(&guarded(&model, plain())).await;
        assert_eq!(model.calls(), [Request, ByOrder, Request, ByOrder], "{last:?}");
        assert!(is_accepted(&outcome.answer, "late"), "{last:?}");
    }
    // Uncertain is not compensated: whoever settles asks.
    let model = Model::scripted(vec![error_500(), timed_out()]);
    let outcome = charge(&guarded(&model, plain())).await;
    assert_eq!(model.calls(), [Request, ByOrder, Request]);
    assert!(outcome.watch);
}

#[tokio::test(start_paused = true)]
async fn the_question_can_be_switched_off() {
    let config = GatewayConfig { probe_before_retry: false, ..plain() };
    let model = Model::new(|_| (ms(10), error_500()), |_| (ms(10), found(&[("a", Pending)])));
    let outcome = charge(&guarded(&model, config)).await;
    assert_eq!(model.calls(), [Request; 4]);
    assert!(matches!(outcome.answer, GatewayAnswer::NotReached { .. }) && outcome.watch);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_inside_the_deadline() {
    let busy = |seconds| PaymentAttempt::NotReached {
        cause: cause::HTTP_429,
        may_have_created: false,
        retry_after: Some(Duration::from_secs(seconds)),
    };
    let model = Model::scripted(vec![busy(2), accepted()]);
    let begun = Instant::now();
    let outcome = charge(&guarded(&model, plain())).await;
    assert!(matches!(outcome.answer, GatewayAnswer::Accepted { .. }) && !outcome.watch);
    assert_eq!(begun.elapsed(), Duration::from_secs(2) + ms(20));
    assert_eq!(model.calls(), [Request; 2], "a 429 made nothing, so nothing is asked");

    let model = Model::scripted(vec![busy(30)]);
    let begun = Instant::now();
    let outcome = charge(&guarded(&model, plain())).await;
    let retry_after = Duration::from_secs(30);
    assert_eq!(outcome.answer, GatewayAnswer::NotReached { cause: cause::HTTP_429, retry_after });
    assert_eq!(begun.elapsed(), ms(10), "it does not wait for what can't happen in time");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_deadline() {
    let model = Model::scripted(vec![accepted()]);
    let gateway = guarded(&model, plain());
    let request = request_until(Instant::now());
    let outcome = domain::ports::PaymentGateway::charge(gateway.as_ref(), &request).await;
    assert!(matches!(outcome.answer, GatewayAnswer::NotReached { cause: cause::SEND_DEADLINE, .. }));
    assert_eq!(model.calls(), []);
    assert_eq!(gateway.circuits().list()[0].buffered_calls, 0, "we were late, not the gateway");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_gets_what_is_left_and_a_hopeless_one_is_not_begun() {
    // 1.3 s each: after two of them and their waits 1.6 s are left, after three nothing useful.
    let model = Model::new(|_| (ms(1300), refused()), |_| (ms(10), Ok(Lookup::NotFound)));
    let begun = Instant::now();
    let outcome = charge(&guarded(&model, plain())).await;
    assert!(matches!(outcome.answer, GatewayAnswer::NotReached { .. }));
    assert_eq!(model.requests(), 3);
    assert!(begun.elapsed() <= ms(4500), "{:?}", begun.elapsed());
    for (_, _, limits) in model.seen() {
        assert_eq!(limits.until, begun + ms(4500));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_keeps_no_limits_is_cut_off() {
    let hours = Duration::from_secs(7200);
    let model = Model::new(move |_| (hours, accepted()), move |_| (hours, unanswered()));
    let begun = Instant::now();
    let outcome = charge(&guarded(&model, plain())).await;
    assert!(matches!(outcome.answer, GatewayAnswer::Uncertain { cause: cause::DEADLINE }));
    assert!(begun.elapsed() <= ms(4500));
    // And in the question too.
    let model = Model::new(move |_| (ms(4300), error_500()), move |_| (hours, unanswered()));
    let begun = Instant::now();
    let config = GatewayConfig::default();
    let mut config = GatewayConfig { payment: adapters_pg::CallConfig { ..config.payment }, ..config };
    config.payment.read_timeout = Duration::from_secs(9);
    let outcome = charge(&guarded(&model, config)).await;
    assert!(matches!(outcome.answer, GatewayAnswer::NotReached { .. }) && outcome.watch);
    assert_eq!(begun.elapsed(), ms(4500));
}

#[tokio::test(start_paused = true)]
async fn the_circuit_hears_one_result_of_each_order_and_its_slowest_attempt() {
    // Three fast 500s with their waits take 790 ms: not slow. The order succeeds in the end.
    let model = Model::scripted(vec![error_500(), error_500(), error_500(), accepted()]);
    let gateway = guarded(&model, plain());
    let begun = Instant::now();
    let outcome = charge(&gateway).await;
    assert!(matches!(outcome.answer, GatewayAnswer::Accepted { .. }));
    assert!(begun.elapsed() > ms(700));
    let [payments, queries] = gateway.circuits().snapshots();
    assert_eq!((payments.buffered.calls, payments.buffered.successful), (1, 1));
    assert_eq!(payments.totals.slow, 0);
    assert_eq!(queries.buffered.calls, 0, "the questions in between are nobody's look-ups");

    // One slow attempt makes it slow, whatever came after.
    let model = Model::new(
        |nth| if nth == 0 { (ms(701), refused()) } else { (ms(10), accepted()) },
        |_| (ms(10), Ok(Lookup::NotFound)),
    );
    let gateway = guarded(&model, plain());
    assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::Accepted { .. }));
    assert_eq!(gateway.circuits().snapshots()[0].totals.slow, 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_no_fault_of_the_gateway() {
    let model = Model::new(
        |nth| {
            (
                ms(10),
                if nth % 2 == 0 {
                    rejected()
                } else {
                    PaymentAttempt::Misconfigured { status: 401, readable: true }
                },
            )
        },
        |_| (ms(10), Ok(Lookup::NotFound)),
    );
    let gateway = guarded(&model, plain());
    for _ in 0..200 {
        assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::Rejected { .. }));
    }
    let [payments, _] = gateway.circuits().snapshots();
    assert_eq!((payments.buffered.calls, payments.totals.ignored), (0, 200));
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_sends_nothing_and_says_when_to_come_back() {
    let model = Model::scripted(vec![]);
    let gateway = guarded(&model, plain());
    gateway.circuits().set("pg-payment", "FORCED_OPEN").unwrap();
    let outcome = charge(&gateway).await;
    assert_eq!(outcome.answer, GatewayAnswer::CircuitOpen { retry_after: Duration::from_secs(5) });
    assert!(!outcome.watch);
    assert_eq!(model.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn retries_stop_when_the_circuit_has_moved_on() {
    let model = Model::new(|_| (ms(10), refused()), |_| (ms(10), Ok(Lookup::NotFound)));
    let gateway = guarded(&model, plain());
    let circuits = gateway.circuits();
    let (outcome, ()) = tokio::join!(charge(&gateway), async {
        tokio::time::sleep(ms(50)).await; // within the first wait
        circuits.set("pg-payment", "FORCED_OPEN").unwrap();
    });
    assert!(matches!(outcome.answer, GatewayAnswer::NotReached { .. }));
    assert_eq!(model.calls(), [Request]);
    let [payments, _] = circuits.snapshots();
    assert_eq!((payments.totals.stale, payments.buffered.calls), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_empty_retry_budget_lets_the_last_error_stand() {
    let mut config = plain();
    config.retry_budget =
        adapters_pg::retry_budget::RetryBudgetConfig { per_call: 0.0, per_second: 0.0, capacity: 2.0 };
    let model = Model::new(|_| (ms(10), refused()), |_| (ms(10), Ok(Lookup::NotFound)));
    let gateway = guarded(&model, config);
    for requests in [3, 4, 5] {
        assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::NotReached { .. }));
        assert_eq!(model.requests(), requests);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_on_top_of_the_allowed_number_fails_at_once() {
    let model = Model::new(|_| (ms(900), accepted()), |_| (ms(10), Ok(Lookup::NotFound)));
    let gateway = guarded(&model, GatewayConfig { max_concurrent_calls: 3, ..plain() });
    let mut calls = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for _ in 0..5 {
        let gateway = std::sync::Arc::clone(&gateway);
        calls.spawn(async move { (charge(&gateway).await.answer, begun.elapsed()) });
    }
    let mut full = 0;
    while let Some(done) = calls.join_next().await {
        match done.unwrap() {
            (GatewayAnswer::Accepted { .. }, _) => {}
            (GatewayAnswer::NotReached { cause: cause::BULKHEAD_FULL, .. }, took) => {
                assert_eq!(took, Duration::ZERO);
                full += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((full, model.requests()), (2, 3));
    let [payments, _] = gateway.circuits().snapshots();
    assert_eq!((payments.buffered.calls, payments.buffered.failed), (3, 0), "not the gateway's fault");
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_gives_everything_back() {
    let model = Model::new(|_| (ms(900), accepted()), |_| (ms(10), Ok(Lookup::NotFound)));
    let gateway = guarded(&model, GatewayConfig { max_concurrent_calls: 1, ..plain() });
    for _ in 0..10 {
        let gone = tokio::time::timeout(ms(100), charge(&gateway)).await;
        assert!(gone.is_err());
    }
    let [payments, _] = gateway.circuits().snapshots();
    assert_eq!((payments.totals.abandoned, payments.buffered.calls), (10, 0));
    assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::Accepted { .. }));
}

/// F40: probes whose callers go away give their permits back, and no more than three are ever out.
#[tokio::test(start_paused = true)]
async fn abandoned_probes_leave_the_circuit_able_to_recover() {
    let failing = plain().payment.circuit.minimum_calls as usize;
    let model = Model::new(
        move |nth| if nth < failing { (ms(10), timed_out()) } else { (ms(500), accepted()) },
        |_| (ms(10), Ok(Lookup::NotFound)),
    );
    let gateway = guarded(&model, plain());
    for _ in 0..failing {
        assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::Uncertain { .. }));
    }
    assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::CircuitOpen { .. }));
    tokio::time::sleep(Duration::from_secs(7)).await;
    for round in 1..=3 {
        let probes =
            async { tokio::join!(charge(&gateway), charge(&gateway), charge(&gateway), charge(&gateway)) };
        assert!(tokio::time::timeout(ms(100), probes).await.is_err(), "the callers of round {round} go away");
        assert_eq!(model.requests(), failing + 3 * round);
    }
    let recovered = tokio::join!(charge(&gateway), charge(&gateway), charge(&gateway));
    assert!(matches!(recovered.2.answer, GatewayAnswer::Accepted { .. }));
    assert_eq!(gateway.circuits().list()[0].state, "CLOSED");
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_never_polled_takes_nothing() {
    let model = Model::scripted(vec![accepted()]);
    let gateway = guarded(&model, GatewayConfig { max_concurrent_calls: 1, ..plain() });
    let unpolled: Vec<_> = (0..5).map(|_| charge(&gateway)).collect();
    assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::Accepted { .. }));
    drop(unpolled);
    assert_eq!(gateway.circuits().snapshots()[0].totals.abandoned, 0);
}

fn any_attempt() -> impl Strategy<Value = PaymentAttempt> {
    let busy = |seconds| PaymentAttempt::NotReached {
        cause: cause::HTTP_503,
        may_have_created: true,
        retry_after: Some(Duration::from_secs(seconds)),
    };
    prop_oneof![
        1 => Just(accepted()),
        1 => Just(rejected()),
        1 => Just(timed_out()),
        3 => Just(refused()),
        3 => Just(error_500()),
        1 => (0_u64..6).prop_map(busy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the gateway does and however long it takes: the step ends by its deadline, nothing is sent after it, no more
    /// than four requests, none after a transaction was found, none after anything but "not reached".
    #[test]
    fn the_step_keeps_its_bounds(
        answers in proptest::collection::vec((0_u64..3000, any_attempt()), 4),
        looks in proptest::collection::vec((0_u64..900, 0_u8..4), 5),
        allowance in 1_u64..6000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let script = answers.clone();
            let model = Model::new(
                move |nth| (ms(script[nth].0), script[nth].1.clone()),
                move |nth| {
                    let (takes, what) = looks[nth];
                    let answer = match what {
                        0 => Ok(Lookup::NotFound),
                        1 => unanswered(),
                        2 => Err(LookupFailure::Odd { what: Oddity::UnknownStatus }),
                        _ => found(&[("probe", Pending)]),
                    };
                    (ms(takes), answer)
                },
            );
            let gateway = guarded(&model, GatewayConfig::default());
            let begun = Instant::now();
            let request = request_until(begun + ms(allowance));
            let outcome = domain::ports::PaymentGateway::charge(gateway.as_ref(), &request).await;
            let deadline = begun + ms(allowance.min(4500));
            prop_assert!(Instant::now() <= deadline);
            let requests = model.requests();
            prop_assert!((1..=4).contains(&requests));
            for (_, at, limits) in model.seen() {
                prop_assert!(at < deadline && limits.until <= deadline);
            }
            for (_, before_the_last) in answers.iter().take(requests - 1) {
                prop_assert!(matches!(before_the_last, PaymentAttempt::NotReached { .. }), "{answers:?}");
            }
            let last_500 = answers.iter().take(requests).any(|(_, answer)| {
                matches!(answer, PaymentAttempt::NotReached { may_have_created: true, .. })
            });
            let by_probe = is_accepted(&outcome.answer, "probe");
            let in_time = matches!(outcome.answer, GatewayAnswer::Uncertain { cause: cause::DEADLINE });
            prop_assert!(by_probe || in_time || outcome.watch == last_500, "{outcome:?} {answers:?}");
            Ok(())
        })?;
    }
}
