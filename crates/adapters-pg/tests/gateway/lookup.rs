//! Look-ups under guard, and the circuits in an operator's hand.

use crate::model::*;
use adapters_pg::transport::{LookupFailure, cause};
use adapters_pg::{GatewayConfig, SetCircuitError};
use domain::MerchantId;
use domain::ports::{Lookup, LookupError, PaymentGateway};
use domain::settlement::TransactionStatus::Pending;
use tokio::time::Instant;

fn merchant() -> MerchantId {
    MerchantId::new("holdfast").unwrap()
}

fn unexpected_request(_nth: usize) -> (std::time::Duration, adapters_pg::transport::PaymentAttempt) {
    panic!("a look-up requests no payment")
}

#[tokio::test(start_paused = true)]
async fn a_look_up_is_asked_twice_at_most() {
    let model = Model::new(unexpected_request, |nth| {
        (ms(10), if nth == 0 { unanswered() } else { found(&[("a", Pending)]) })
    });
    let gateway = guarded(&model, GatewayConfig::default());
    let transaction = gateway.find_by_key(&merchant(), &key("a")).await;
    assert!(matches!(transaction, Ok(Lookup::Found(_))));
    assert_eq!(model.calls(), [Call::ByKey; 2]);

    let model = Model::new(unexpected_request, |_| (ms(10), unanswered()));
    let gateway = guarded(&model, GatewayConfig::default());
    let list = gateway.find_by_order(&merchant(), &request_until(Instant::now()).order_ref).await;
    assert_eq!(list, Err(LookupError::Unreachable { cause: cause::READ_TIMEOUT, circuit_open: false }));
    assert_eq!(model.calls(), [Call::ByOrder; 2]);
}

#[tokio::test(start_paused = true)]
async fn no_such_transaction_is_an_answer_that_opens_nothing() {
    let model = Model::new(unexpected_request, |_| (ms(10), Ok(Lookup::NotFound)));
    let gateway = guarded(&model, GatewayConfig::default());
    for _ in 0..200 {
        assert_eq!(gateway.find_by_key(&merchant(), &key("a")).await, Ok(Lookup::NotFound));
    }
    assert_eq!(model.calls().len(), 200);
    let [payments, queries] = gateway.circuits().snapshots();
    assert_eq!((queries.buffered.calls, queries.totals.ignored), (0, 200));
    assert_eq!(payments.totals.ignored, 0);
}

#[tokio::test(start_paused = true)]
async fn wrong_configuration_is_neither_repeated_nor_the_gateways_fault() {
    let model = Model::new(unexpected_request, |_| {
        let failure = LookupFailure { cause: cause::HTTP_401, misconfigured: Some(401), retry_after: None };
        (ms(10), Err(failure))
    });
    let gateway = guarded(&model, GatewayConfig::default());
    for _ in 0..100 {
        let refused = LookupError::Unreachable { cause: cause::HTTP_401, circuit_open: false };
        assert_eq!(gateway.find_by_key(&merchant(), &key("a")).await, Err(refused));
    }
    assert_eq!(model.calls().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn look_ups_have_a_circuit_of_their_own() {
    let model = Model::new(|_| (ms(10), accepted()), |_| (ms(10), unanswered()));
    let gateway = guarded(&model, GatewayConfig::default());
    for nth in 1..=20 {
        let answer = gateway.find_by_key(&merchant(), &key("a")).await;
        let refused = matches!(answer, Err(LookupError::Unreachable { circuit_open: true, .. }));
        assert_eq!((answer.is_err(), refused), (true, nth > 10), "{nth}");
    }
    assert_eq!(model.calls().len(), 20, "ten calls of two attempts, then the circuit is open");
    let views = gateway.circuits().list();
    assert_eq!((views[0].state, views[1].state), ("CLOSED", "OPEN"));
    assert!((5..=6).contains(&views[1].retry_after.unwrap()));
    assert!(
        charge(&gateway).await.answer != domain::ports::GatewayAnswer::CircuitOpen { retry_after: ms(0) }
    );
    assert_eq!(model.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_gateway_is_left_within_the_deadline() {
    let hours = std::time::Duration::from_secs(7200);
    let model = Model::new(unexpected_request, move |_| (hours, unanswered()));
    let gateway = guarded(&model, GatewayConfig::default());
    let begun = Instant::now();
    assert!(gateway.find_by_key(&merchant(), &key("a")).await.is_err());
    assert!(begun.elapsed() <= ms(4500));
}

#[tokio::test(start_paused = true)]
async fn an_operator_sets_circuits_and_nonsense_changes_nothing() {
    let gateway = guarded(&Model::scripted(vec![]), GatewayConfig::default());
    let circuits = gateway.circuits();
    for (state, seen) in
        [("FORCED_OPEN", "FORCED_OPEN"), ("CLOSED", "CLOSED"), ("DISABLED", "DISABLED"), ("RESET", "CLOSED")]
    {
        assert_eq!(circuits.set("pg-query", state).unwrap().state, seen);
        assert_eq!(circuits.list()[1].state, seen);
        assert_eq!(circuits.list()[0].state, "CLOSED");
    }
    for name in ["", "pg", "PG-QUERY", "pg-query ", "../pg-query", "\u{0}"] {
        assert_eq!(circuits.set(name, "FORCED_OPEN"), Err(SetCircuitError::UnknownCircuit));
    }
    for state in ["", "open", "OPEN", "HALF_OPEN", "closed", "💣"] {
        assert!(matches!(circuits.set("pg-query", state), Err(SetCircuitError::UnknownState(_))));
    }
    assert!(circuits.list().iter().all(|circuit| circuit.state == "CLOSED"));
}
