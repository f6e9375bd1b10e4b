//! Look-ups under guard, and the circuits in an operator's hand.

use crate::model::*;
use adapters_pg::breaker::State;
use adapters_pg::transport::{LookupFailure, cause};
use adapters_pg::{GatewayConfig, GuardedGateway, SetCircuitError};
use domain::MerchantId;
use domain::ports::{Lookup, LookupError, Oddity, PaymentGateway};
use domain::settlement::TransactionStatus::Pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

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
    assert_eq!((queries.totals.successful, queries.totals.ignored), (200, 0));
    assert_eq!(payments.totals.successful, 0);
}

/// One buyer syncs, again and again, a payment of which the gateway says something odd.
#[tokio::test(start_paused = true)]
async fn one_payments_odd_answers_are_nobody_elses_trouble() {
    for what in [Oddity::UnknownStatus, Oddity::Unreadable, Oddity::TooLarge] {
        let model = Model::new(unexpected_request, move |nth| {
            (ms(10), if nth % 4 == 3 { found(&[("a", Pending)]) } else { Err(LookupFailure::Odd { what }) })
        });
        let gateway = guarded(&model, GatewayConfig::default());
        for nth in 0..100 {
            let answer = gateway.find_by_key(&merchant(), &key("a")).await;
            match nth % 4 {
                3 => assert!(matches!(answer, Ok(Lookup::Found(_))), "{nth}: {answer:?}"),
                _ => assert_eq!(answer, Err(LookupError::Odd { what }), "{nth}"),
            }
        }
        assert_eq!(model.calls().len(), 100, "asked again at once it would say the same");
        let [_, queries] = gateway.circuits().snapshots();
        assert_eq!((queries.totals.failed, queries.state), (0, State::Closed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_waits_as_long_as_the_gateway_asks_if_the_deadline_allows() {
    let busy = |seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        Err(LookupFailure::Unreachable { cause: cause::HTTP_429, retry_after })
    };
    for (seconds, asked, took) in [(2, 2, ms(2020)), (3, 2, ms(3020)), (4, 2, ms(4020)), (5, 1, ms(10))] {
        let model = Model::new(unexpected_request, move |nth| {
            (ms(10), if nth == 0 { busy(seconds) } else { found(&[("a", Pending)]) })
        });
        let gateway = guarded(&model, GatewayConfig::default());
        let begun = Instant::now();
        let answer = gateway.find_by_key(&merchant(), &key("a")).await;
        assert_eq!((begun.elapsed(), model.calls().len()), (took, asked), "Retry-After: {seconds}");
        assert_eq!(answer.is_ok(), asked == 2, "Retry-After: {seconds}");
    }
}

/// Sixty payments about which the reconciler asks: in turns, 16 at once, with longer and longer pauses while it can't ask.
struct Reconciler {
    gateway: Arc<GuardedGateway<Arc<Model>>>,
    slots: Semaphore,
    /// When the gateway answered, and the state that the circuit was in then.
    answered: std::sync::Mutex<Vec<(Instant, &'static str)>>,
}

impl Reconciler {
    /// Asks about one payment until the gateway has said twice, 30 s apart, that it has none.
    async fn settles_one(self: Arc<Self>) {
        let begun = Instant::now();
        let (mut failures, mut answers) = (0, 0);
        while answers < 2 {
            let order = request_until(Instant::now()).order_ref;
            let slot = self.slots.acquire().await.unwrap();
            let answer = self.gateway.find_by_order(&merchant(), &order).await;
            drop(slot);
            let pause = if answer == Ok(Lookup::NotFound) {
                let state = self.gateway.circuits().list()[1].state;
                self.answered.lock().unwrap().push((Instant::now(), state));
                answers += 1;
                30
            } else {
                failures += 1;
                300.min(1 << failures)
            };
            // Turns begin every 5 s.
            let due = (Instant::now() - begun).as_secs() + pause;
            sleep_until(begun + Duration::from_secs(due.next_multiple_of(5))).await;
        }
    }
}

/// Look-ups hang for 65 s, and then every answer is a 404, as of a gateway that was wiped.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_back_closes_the_circuit_though_it_knows_nothing() {
    let back = Instant::now() + Duration::from_secs(65);
    let model = Model::new(unexpected_request, move |_| {
        let hangs = Instant::now() < back;
        if hangs { (Duration::from_secs(7200), unanswered()) } else { (ms(10), Ok(Lookup::NotFound)) }
    });
    let gateway = guarded(&model, GatewayConfig::default());
    let reconciler =
        Arc::new(Reconciler { gateway, slots: Semaphore::new(16), answered: std::sync::Mutex::default() });
    let mut payments = JoinSet::new();
    for _ in 0..60 {
        payments.spawn(Arc::clone(&reconciler).settles_one());
    }
    payments.join_all().await;
    let answered = reconciler.answered.lock().unwrap();
    let (third, state) = answered[2];
    let last = answered[119].0 - back;
    println!("third answer after {:?}: {state}; last after {last:?}", third - back);
    assert_eq!(state, "CLOSED", "after the first three answers; the last came after {last:?}");
    assert!(last < Duration::from_secs(3 * 60), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn wrong_configuration_is_neither_repeated_nor_the_gateways_fault() {
    let model =
        Model::new(unexpected_request, |_| (ms(10), Err(LookupFailure::Misconfigured { status: 401 })));
    let gateway = guarded(&model, GatewayConfig::default());
    for _ in 0..100 {
        let refused = LookupError::Unreachable { cause: cause::HTTP_401, circuit_open: false };
        assert_eq!(gateway.find_by_key(&merchant(), &key("a")).await, Err(refused));
    }
    assert_eq!(model.calls().len(), 100);
    let [_, queries] = gateway.circuits().snapshots();
    assert_eq!((queries.totals.successful, queries.totals.ignored), (100, 0));
}

/// A key that can't be on this wire says nothing about the gateway, which was not asked.
#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_asked_for_is_odd_and_the_circuit_hears_nothing() {
    let model = Model::new(unexpected_request, |_| (ms(0), Err(LookupFailure::NotAskable)));
    let gateway = guarded(&model, GatewayConfig::default());
    let answer = gateway.find_by_key(&merchant(), &key("..")).await;
    assert_eq!(answer, Err(LookupError::Odd { what: Oddity::BadKey }));
    let [_, queries] = gateway.circuits().snapshots();
    assert_eq!((queries.totals.successful, queries.totals.failed, queries.totals.ignored), (0, 0, 1));
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
