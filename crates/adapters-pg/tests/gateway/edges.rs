//! Limits, at the last moment that is inside and the first that is outside.

use crate::charge::plain;
use crate::model::*;
use adapters_pg::GatewayConfig;
use adapters_pg::retry_budget::RetryBudgetConfig;
use adapters_pg::transport::{LookupFailure, cause};
use domain::MerchantId;
use domain::ports::{GatewayAnswer, Lookup, LookupError, PaymentGateway};
use domain::settlement::TransactionStatus::Pending;
use std::time::Duration;
use tokio::time::Instant;

fn merchant() -> MerchantId {
    MerchantId::new("holdfast").unwrap()
}

/// A further attempt needs its wait (100 ms) and 700 ms of the 4.5 s.
#[tokio::test(start_paused = true)]
async fn a_further_request_is_made_as_long_as_it_can_be_of_use() {
    for (takes, requests) in [(3700, 2), (3701, 1)] {
        let model = Model::new(
            move |nth| if nth == 0 { (ms(takes), refused()) } else { (ms(10), accepted()) },
            |_| (ms(10), Ok(Lookup::NotFound)),
        );
        let mut config = plain();
        config.payment.read_timeout = Duration::from_secs(9);
        let outcome = charge(&guarded(&model, config)).await;
        assert_eq!(model.requests(), requests, "{takes}");
        assert_eq!(matches!(outcome.answer, GatewayAnswer::Accepted { .. }), requests == 2);
    }
}

/// The question between two requests gets a look-up's read time-out, whatever connecting costs.
#[tokio::test(start_paused = true)]
async fn the_question_before_giving_up_is_short() {
    for (takes, found_in_time) in [(499, true), (501, false)] {
        let mut config = plain();
        config.payment.retry.max_attempts = 1;
        let model = Model::new(|_| (ms(10), error_500()), move |_| (ms(takes), found(&[("a", Pending)])));
        let begun = Instant::now();
        let outcome = charge(&guarded(&model, config)).await;
        assert_eq!(matches!(outcome.answer, GatewayAnswer::Accepted { .. }), found_in_time, "{takes}");
        assert_eq!(begun.elapsed(), ms(10 + takes.min(500)));
    }
}

/// A 500 that comes at the deadline: there is no time left to ask, and it is not asked.
#[tokio::test(start_paused = true)]
async fn nothing_is_asked_at_the_deadline() {
    for (takes, calls) in [(4499, 2), (4500, 1)] {
        let model = Model::new(move |_| (ms(takes), error_500()), |_| (ms(0), found(&[("a", Pending)])));
        let mut config = plain();
        config.payment.read_timeout = Duration::from_secs(9);
        let outcome = charge(&guarded(&model, config)).await;
        assert_eq!(model.calls().len(), calls, "{takes}");
        assert_eq!(matches!(outcome.answer, GatewayAnswer::Accepted { .. }), calls == 2, "{outcome:?}");
    }
}

/// Two transactions, although only one request can have made one: the other is watched.
#[tokio::test(start_paused = true)]
async fn the_second_of_two_transactions_is_watched() {
    let model = Model::new(|_| (ms(10), error_500()), |_| (ms(10), found(&[("a", Pending), ("b", Pending)])));
    let outcome = charge(&guarded(&model, plain())).await;
    assert_eq!(model.requests(), 1);
    assert!(matches!(outcome.answer, GatewayAnswer::Accepted { .. }) && outcome.watch);
}

/// A transport knows better than the guard how an attempt ended, and has 250 ms more to say so.
#[tokio::test(start_paused = true)]
async fn the_transports_own_limits_come_first() {
    for (more, cause) in [(249, cause::READ_TIMEOUT), (251, cause::DEADLINE)] {
        let model =
            Model::new(move |_| (ms(2000 + more), timed_out()), move |_| (ms(1500 + more), unanswered()));
        let gateway = guarded(&model, GatewayConfig::default());
        assert_eq!(charge(&gateway).await.answer, GatewayAnswer::Uncertain { cause });
        let looked = gateway.find_by_key(&merchant(), &key("a")).await;
        assert_eq!(looked, Err(LookupError::Unreachable { cause, circuit_open: false }));
    }
}

/// What remains of 4.5 s must hold the wait and the 400 ms after which a look-up is slow.
#[tokio::test(start_paused = true)]
async fn a_look_up_is_made_again_as_long_as_it_can_be_of_use() {
    let retry_after = Some(Duration::from_secs(4));
    for (takes, asked) in [(100, 2), (101, 1)] {
        let model = Model::new(
            |_| (ms(10), refused()),
            move |_| (ms(takes), Err(LookupFailure::Unreachable { cause: cause::HTTP_503, retry_after })),
        );
        let gateway = guarded(&model, GatewayConfig::default());
        assert!(gateway.find_by_key(&merchant(), &key("a")).await.is_err());
        assert_eq!(model.calls().len(), asked, "{takes}");
    }
}

/// A look-up's repetition costs a token, and each look-up pays one in.
#[tokio::test(start_paused = true)]
async fn look_ups_repeat_within_the_retry_budget() {
    for (per_call, asked) in [(1.0, 6), (0.0, 4)] {
        let retry_budget = RetryBudgetConfig { per_call, per_second: 0.0, capacity: 1.0 };
        let model = Model::new(|_| (ms(10), refused()), |_| (ms(10), unanswered()));
        let gateway = guarded(&model, GatewayConfig { retry_budget, ..plain() });
        for _ in 0..3 {
            assert!(gateway.find_by_key(&merchant(), &key("a")).await.is_err());
        }
        assert_eq!(model.calls().len(), asked, "{per_call} per call");
    }
}

/// Its circuit has moved on, while it waited or before: it asks no more, and waits no more.
#[tokio::test(start_paused = true)]
async fn a_look_up_whose_circuit_has_opened_meanwhile_asks_no_more() {
    for (opened_after, took) in [(50, 100), (1000, 2100)] {
        let retry_after = Some(Duration::from_secs(2));
        let model = Model::new(
            |_| (ms(10), refused()),
            move |_| (ms(100), Err(LookupFailure::Unreachable { cause: cause::HTTP_503, retry_after })),
        );
        let gateway = guarded(&model, GatewayConfig::default());
        let begun = Instant::now();
        let opened = async {
            tokio::time::sleep(ms(opened_after)).await;
            gateway.circuits().set("pg-query", "FORCED_OPEN").unwrap();
        };
        let looked = async { (gateway.find_by_key(&merchant(), &key("a")).await, begun.elapsed()) };
        let ((answer, elapsed), ()) = tokio::join!(looked, opened);
        let unreachable = LookupError::Unreachable { cause: cause::HTTP_503, circuit_open: false };
        assert_eq!((answer, elapsed), (Err(unreachable), ms(took)));
        assert_eq!(model.calls().len(), 1);
    }
}

/// The same for a request, whose wait is 100 ms here.
#[tokio::test(start_paused = true)]
async fn a_request_whose_circuit_has_opened_meanwhile_is_not_sent_again() {
    for (opened_after, took) in [(50, 100), (150, 200)] {
        let model = Model::new(|_| (ms(100), refused()), |_| (ms(10), Ok(Lookup::NotFound)));
        let gateway = guarded(&model, plain());
        let begun = Instant::now();
        let opened = async {
            tokio::time::sleep(ms(opened_after)).await;
            gateway.circuits().set("pg-payment", "FORCED_OPEN").unwrap();
        };
        let charged = async { (charge(&gateway).await.answer, begun.elapsed()) };
        let ((answer, elapsed), ()) = tokio::join!(charged, opened);
        assert!(matches!(answer, GatewayAnswer::NotReached { cause: cause::CONNECT_REFUSED, .. }));
        assert_eq!((elapsed, model.requests()), (ms(took), 1));
    }
}

/// The circuit hears the slowest attempt of a look-up, not the last.
#[tokio::test(start_paused = true)]
async fn one_slow_attempt_makes_a_look_up_slow() {
    let model = Model::new(
        |_| (ms(10), refused()),
        |nth| if nth == 0 { (ms(401), unanswered()) } else { (ms(10), found(&[("a", Pending)])) },
    );
    let gateway = guarded(&model, GatewayConfig::default());
    assert!(gateway.find_by_key(&merchant(), &key("a")).await.is_ok());
    assert_eq!(gateway.circuits().snapshots()[1].totals.slow, 1);
}
