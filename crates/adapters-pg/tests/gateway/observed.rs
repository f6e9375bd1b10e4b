//! What an operator sees of a call: metrics under the contract's names, log lines word for word, and no card number.

use crate::model::*;
use adapters_pg::transport::{LookupFailure, PaymentAttempt, cause};
use adapters_pg::{GatewayConfig, GuardedGateway};
use domain::MerchantId;
use domain::ports::{Lookup, Oddity, PaymentGateway};
use domain::settlement::TransactionStatus::Pending;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was logged, at every level.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logging() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

/// Series and values of a scrape: `name{a="1"}` to 1.
fn series(scrape: &str) -> BTreeMap<String, f64> {
    let lines = scrape.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// A gateway that dies: seven orders succeed, one of them by a probe after a 500 and one by a retry, two are refused; then it
/// only times out.
fn dying() -> Arc<Model> {
    Model::new(
        |nth| match nth {
            2 => (ms(120), error_500()),
            5 => (ms(800), accepted()),
            6 => (ms(10), rejected()),
            7 => (ms(10), PaymentAttempt::Misconfigured { status: 401, readable: true }),
            8 => (ms(10), refused()),
            0..=9 => (ms(150), accepted()),
            _ => (ms(1000), timed_out()),
        },
        |nth| (ms(10), if nth == 0 { Ok(Lookup::NotFound) } else { found(&[("a", Pending)]) }),
    )
}

async fn drive(gateway: &GuardedGateway<Arc<Model>>) {
    let merchant = MerchantId::new("holdfast").unwrap();
    assert!(gateway.find_by_key(&merchant, &key("a")).await.is_ok());
    while gateway.circuits().list()[0].state == "CLOSED" {
        let _outcome = charge(gateway).await;
    }
    for _ in 0..3 {
        let _rejected = charge(gateway).await;
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_have_the_contracts_names_labels_and_values() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    let gateway = guarded(&dying(), GatewayConfig::default());
    drive(&gateway).await;
    gateway.publish_metrics();
    drop(guard);
    let seen = series(&handle.render());
    println!("{seen:#?}");
    // 7 successes; 13 time-outs make 20 results of which 65 % failed, and 14 were slow.
    for (name, value) in [
        (r#"pg_request_total{operation="charge",result="accepted",error=""}"#, 6.0),
        (r#"pg_request_total{operation="charge",result="rejected",error=""}"#, 1.0),
        (r#"pg_request_total{operation="charge",result="misconfigured",error="Http401"}"#, 1.0),
        (r#"pg_request_total{operation="charge",result="not_reached",error="Http500"}"#, 1.0),
        (r#"pg_request_total{operation="charge",result="not_reached",error="ConnectRefused"}"#, 1.0),
        (r#"pg_request_total{operation="charge",result="uncertain",error="ReadTimeout"}"#, 13.0),
        (r#"pg_request_total{operation="probe",result="found",error=""}"#, 1.0),
        (r#"pg_request_total{operation="find_by_key",result="not_found",error=""}"#, 1.0),
        (r#"pg_request_latency_seconds_count{operation="charge",result="uncertain"}"#, 13.0),
        (r#"pg_request_latency_seconds_sum{operation="charge",result="uncertain"}"#, 13.0),
        (r#"pg_misconfigured_total{operation="charge",status="401"}"#, 1.0),
        (r#"pg_probe_total{result="found"}"#, 1.0),
        (r#"pg_probe_total{result="none"}"#, 0.0),
        (r#"pg_retry_attempts_total{operation="charge",result="accepted"}"#, 1.0),
        (r#"pg_retry_budget_exhausted_total{operation="charge"}"#, 0.0),
        (r#"pg_bulkhead_rejected_total{operation="charge"}"#, 0.0),
        ("pg_calls_in_flight", 0.0),
        (r#"resilience4j_circuitbreaker_state{name="pg-payment",state="open"}"#, 1.0),
        (r#"resilience4j_circuitbreaker_state{name="pg-payment",state="closed"}"#, 0.0),
        (r#"resilience4j_circuitbreaker_state{name="pg-payment",state="half_open"}"#, 0.0),
        (r#"resilience4j_circuitbreaker_state{name="pg-payment",state="forced_open"}"#, 0.0),
        (r#"resilience4j_circuitbreaker_state{name="pg-payment",state="disabled"}"#, 0.0),
        (r#"resilience4j_circuitbreaker_state{name="pg-payment",state="metrics_only"}"#, 0.0),
        (r#"resilience4j_circuitbreaker_state{name="pg-query",state="closed"}"#, 1.0),
        (r#"resilience4j_circuitbreaker_failure_rate{name="pg-payment"}"#, 65.0),
        (r#"resilience4j_circuitbreaker_failure_rate{name="pg-query"}"#, -1.0),
        (r#"resilience4j_circuitbreaker_slow_call_rate{name="pg-payment"}"#, 70.0),
        (r#"resilience4j_circuitbreaker_calls_seconds_count{name="pg-payment",kind="successful"}"#, 7.0),
        (r#"resilience4j_circuitbreaker_calls_seconds_count{name="pg-payment",kind="failed"}"#, 13.0),
        (r#"resilience4j_circuitbreaker_calls_seconds_count{name="pg-payment",kind="ignored"}"#, 2.0),
        (r#"resilience4j_circuitbreaker_calls_seconds_count{name="pg-query",kind="successful"}"#, 1.0),
        (
            r#"resilience4j_circuitbreaker_not_permitted_calls_total{name="pg-payment",kind="not_permitted"}"#,
            3.0,
        ),
        (r#"resilience4j_circuitbreaker_buffered_calls{name="pg-payment",kind="successful"}"#, 7.0),
        (r#"resilience4j_circuitbreaker_buffered_calls{name="pg-payment",kind="failed"}"#, 13.0),
        (r#"resilience4j_retry_calls_total{name="pg-payment",kind="successful_without_retry"}"#, 8.0),
        (r#"resilience4j_retry_calls_total{name="pg-payment",kind="successful_with_retry"}"#, 1.0),
        (r#"resilience4j_retry_calls_total{name="pg-payment",kind="failed_without_retry"}"#, 13.0),
        (r#"resilience4j_retry_calls_total{name="pg-payment",kind="failed_with_retry"}"#, 0.0),
        (r#"circuitbreaker_transitions_total{name="pg-payment",from="closed",to="open"}"#, 1.0),
        (r#"circuitbreaker_transitions_total{name="pg-payment",from="half_open",to="closed"}"#, 0.0),
        (r#"circuitbreaker_slow_calls_total{name="pg-payment"}"#, 14.0),
        (r#"circuitbreaker_stale_results_total{name="pg-payment"}"#, 0.0),
        (r#"circuitbreaker_abandoned_calls_total{name="pg-payment"}"#, 0.0),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name}");
    }
    let probe_in = seen[r#"circuitbreaker_next_probe_seconds{name="pg-payment"}"#];
    assert!((5.0..=6.0).contains(&probe_in), "{probe_in}");
    assert!((100.0..=200.0).contains(&seen["pg_retry_budget_tokens"]));
}

#[tokio::test(start_paused = true)]
async fn an_odd_answer_is_counted_with_what_is_odd_about_it() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    let odd = || Err(LookupFailure::Odd { what: Oddity::UnknownStatus });
    let gateway =
        guarded(&Model::new(|_| (ms(1), refused()), move |_| (ms(1), odd())), GatewayConfig::default());
    let merchant = MerchantId::new("holdfast").unwrap();
    assert!(gateway.find_by_key(&merchant, &key("a")).await.is_err());
    gateway.publish_metrics();
    drop(guard);
    let seen = series(&handle.render());
    for (name, value) in [
        (r#"pg_request_total{operation="find_by_key",result="odd",error="UnknownTransactionStatus"}"#, 1.0),
        (r#"pg_request_latency_seconds_count{operation="find_by_key",result="odd"}"#, 1.0),
        (r#"pg_request_latency_seconds_count{operation="find_by_order",result="odd"}"#, 0.0),
        (r#"resilience4j_circuitbreaker_calls_seconds_count{name="pg-query",kind="successful"}"#, 1.0),
        (r#"resilience4j_retry_calls_total{name="pg-query",kind="successful_without_retry"}"#, 1.0),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn log_lines_are_the_contracts_word_for_word() {
    let (log, guard) = logging();
    let gateway = guarded(&dying(), GatewayConfig::default());
    drive(&gateway).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(gateway.circuits().list()[0].state, "HALF_OPEN");
    drop(guard);
    let text = log.text();
    for line in [
        "WARN adapters_pg::gateway::telemetry: PG request retry. attempt=2, reason=ConnectRefused",
        "CircuitBreaker state changed: CLOSED -> OPEN",
        "CircuitBreaker opened. reason=65.0%, lastException=ReadTimeout",
        "CircuitBreaker state changed: OPEN -> HALF_OPEN",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let level = |line: &str| {
        let line = text.lines().find(|text| text.contains(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(level("state changed: CLOSED -> OPEN"), "INFO");
    assert_eq!(level("CircuitBreaker opened."), "WARN");
    assert_eq!(level("configured wrongly"), "ERROR");
}

/// Every kind of answer and failure that comes with a card number in it, everything that is shown of it.
#[tokio::test]
async fn no_card_number_is_logged_or_shown() {
    use crate::sockets::server::{Manners, Server, Step, answer, json};
    use adapters_pg::{HttpConfig, HttpTransport};
    let (log, guard) = logging();
    let mut shown = String::new();
    let refusal = r#"{"meta":{"result":"FAIL","errorCode":"Bad Request","message":"카드 1234-5678-9814-1451"},"data":null}"#;
    let found = r#"{"meta":{"result":"SUCCESS","errorCode":null,"message":null},"data":{"transactionKey":"a","orderId":"000007","cardType":"KB","cardNo":"1234-5678-9814-1451","amount":1,"status":"FAILED","reason":"1234567898141451"}}"#;
    for steps in [
        vec![Step::Send(json("400 Bad Request", refusal))],
        vec![Step::Send(json("500 Internal Server Error", refusal))],
        vec![Step::Send(json("200 OK", refusal))],
        vec![Step::Send(json("200 OK", found))],
        vec![Step::Send(answer("302 Found", "Location: http://127.0.0.1/?card=1234-5678-9814-1451\r\n", ""))],
        vec![Step::Send("1234-5678-9814-1451\r\n\r\n".to_owned()), Step::Close],
        vec![Step::Reset],
    ] {
        let manners =
            Manners { look_up: vec![Step::Send(json("200 OK", found))], ..Manners::answering(steps) };
        let server = Server::start(manners).await;
        let http = HttpConfig { base_url: server.base_url(), ..HttpConfig::default() };
        let transport = HttpTransport::new(&http).unwrap();
        let gateway =
            GuardedGateway::new(transport, GatewayConfig::default(), Arc::new(Seeded::new(1))).unwrap();
        let request = request_until(tokio::time::Instant::now() + Duration::from_secs(4));
        shown += &format!("{request:?} {:?} {gateway:?}", gateway.charge(&request).await);
        shown += &format!("{:?}", gateway.find_by_key(&request.merchant, &key("a")).await);
    }
    drop(guard);
    let all = shown + &log.text();
    assert!(all.contains("PG request retry"), "the log was kept");
    // Not four digits alone: a port could have them.
    for part in ["5678-9814", "56789814", "9814-1451", "98141451", "1234-5678", "12345678"] {
        assert!(!all.contains(part), "{part} in {all}");
    }
    assert_eq!(cause::ALL.len(), cause::ALL.iter().collect::<std::collections::BTreeSet<_>>().len());
}
