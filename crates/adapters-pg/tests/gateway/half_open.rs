//! What a circuit makes of the first answers after its wait.

use crate::charge::plain;
use crate::model::*;
use adapters_pg::GuardedGateway;
use adapters_pg::transport::{PaymentAttempt, cause};
use domain::ports::{GatewayAnswer, Lookup};
use std::sync::Arc;
use std::time::Duration;

use Call::{ByOrder, Request};

/// A circuit that its first calls have opened, at the moment when it lets the next ones through.
async fn half_open(then: impl Fn() -> PaymentAttempt + Send + 'static) -> Arc<GuardedGateway<Arc<Model>>> {
    let model = Model::new(
        move |nth| (ms(10), if nth < 20 { timed_out() } else { then() }),
        |_| (ms(10), Ok(Lookup::NotFound)),
    );
    let gateway = guarded(&model, plain());
    for _ in 0..20 {
        assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::Uncertain { .. }));
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(gateway.circuits().list()[0].state, "HALF_OPEN");
    gateway
}

/// Bad cards alone must not keep everybody else out: a refusal shows that the gateway is there.
#[tokio::test(start_paused = true)]
async fn readable_refusals_close_a_half_open_circuit() {
    let forbidden = || PaymentAttempt::Misconfigured { status: 403, readable: true };
    for then in [rejected as fn() -> PaymentAttempt, forbidden] {
        let gateway = half_open(then).await;
        for state in ["HALF_OPEN", "HALF_OPEN", "CLOSED", "CLOSED"] {
            assert!(matches!(charge(&gateway).await.answer, GatewayAnswer::Rejected { .. }));
            assert_eq!(gateway.circuits().list()[0].state, state);
        }
        let [payments, _] = gateway.circuits().snapshots();
        assert_eq!((payments.totals.successful, payments.totals.ignored), (3, 1), "ignored while CLOSED");
    }
}

/// A proxy's 403 before a gateway that is away, or a request that we were too late for, says nothing about the gateway.
#[tokio::test(start_paused = true)]
async fn what_is_not_the_gateways_word_leaves_a_half_open_circuit_as_it_is() {
    let proxy = || PaymentAttempt::Misconfigured { status: 403, readable: false };
    for then in [proxy as fn() -> PaymentAttempt, || PaymentAttempt::TooLate] {
        let gateway = half_open(then).await;
        for _ in 0..10 {
            let _outcome = charge(&gateway).await;
            assert_eq!(gateway.circuits().list()[0].state, "HALF_OPEN");
        }
        let [payments, _] = gateway.circuits().snapshots();
        assert_eq!(
            (payments.totals.successful, payments.totals.ignored, payments.probes_left),
            (0, 10, Some(3))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_too_late_to_be_sent_is_not_sent_again_and_no_fault_of_the_gateway() {
    let model = Model::scripted(vec![PaymentAttempt::TooLate]);
    let gateway = guarded(&model, plain());
    let outcome = charge(&gateway).await;
    assert!(matches!(outcome.answer, GatewayAnswer::NotReached { cause: cause::SEND_DEADLINE, .. }));
    assert!(!outcome.watch);
    assert_eq!(model.calls(), [Request]);
    assert_eq!(gateway.circuits().snapshots()[0].totals.failed, 0);

    let model = Model::scripted(vec![error_500(), PaymentAttempt::TooLate]);
    let outcome = charge(&guarded(&model, plain())).await;
    assert_eq!(model.calls(), [Request, ByOrder, Request, ByOrder]);
    assert!(matches!(outcome.answer, GatewayAnswer::NotReached { .. }) && outcome.watch);
}
