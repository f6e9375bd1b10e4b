//! The simulated gateway, over its real port: client and simulator mean the same by the protocol, and whatever it does to
//! a request, no transaction of it is left that the outcome does not tell of.

use super::shop::Shop;
use super::table::order;
use crate::model::{Seeded, key, ms, request_until};
use adapters_pg::{GatewayConfig, GuardedGateway, HttpConfig, HttpTransport};
use domain::MerchantId;
use domain::ports::{GatewayAnswer, Lookup, PaymentGateway};
use domain::settlement::TransactionStatus;
use pg_simulator::engine::{Fault, RequestFate};
use pg_simulator::server::{self, Config, RunningSimulator};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const PATIENT: Duration = Duration::from_secs(20);

/// Quick, and faithful but for what is scripted. Nothing is decided by itself.
async fn simulator() -> RunningSimulator {
    let simulator =
        server::start(Config { bind: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).await.unwrap();
    let quick = json!({
        "request": { "error_500": 0.0, "latency": { "min": "0s", "max": "1ms" } },
        "settlement": { "processing": { "min": "1h", "max": "1h" } },
    });
    simulator.patch(&quick).unwrap();
    simulator
}

fn gateway(simulator: &RunningSimulator, read: Duration) -> GuardedGateway<HttpTransport> {
    let http = HttpConfig {
        base_url: simulator.base_url(),
        payment_connect_timeout: PATIENT,
        query_connect_timeout: PATIENT,
        ..HttpConfig::default()
    };
    let mut config = GatewayConfig { deadline: 2 * PATIENT, ..GatewayConfig::default() };
    config.payment.connect_timeout = PATIENT;
    config.payment.read_timeout = read;
    config.query.read_timeout = PATIENT;
    GuardedGateway::new(HttpTransport::new(&http).unwrap(), config, Arc::new(Seeded::new(3))).unwrap()
}

#[tokio::test]
async fn client_and_simulator_mean_the_same_by_the_protocol() {
    let simulator = simulator().await;
    let gateway = gateway(&simulator, PATIENT);
    let request = request_until(Instant::now() + PATIENT);
    let GatewayAnswer::Accepted { key: made, status } = gateway.charge(&request).await.answer else {
        panic!("not accepted");
    };
    assert_eq!(status, TransactionStatus::Pending);
    let entry = &simulator.ledger()[0];
    assert_eq!((entry.transaction_key.as_str(), entry.order_id.as_str()), (made.as_str(), "000007"));
    assert_eq!((entry.amount, entry.merchant.as_str()), (5000, "holdfast"));

    simulator.settle(made.as_str(), true).unwrap();
    let Ok(Lookup::Found(transaction)) = gateway.find_by_key(&request.merchant, &made).await else {
        panic!("not found by key");
    };
    assert_eq!(transaction.order_ref, request.order_ref);
    assert_eq!((transaction.amount, transaction.status), (request.amount, TransactionStatus::Success));
    assert_eq!(transaction.reason.as_deref(), Some("정상 승인되었습니다."));
    let Ok(Lookup::Found(list)) = gateway.find_by_order(&request.merchant, &request.order_ref).await else {
        panic!("not found by order");
    };
    assert_eq!((list.len(), &list[0].key, list[0].status), (1, &made, TransactionStatus::Success));

    let stranger = MerchantId::new("stranger").unwrap();
    assert_eq!(gateway.find_by_key(&stranger, &made).await, Ok(Lookup::NotFound));
    assert_eq!(gateway.find_by_order(&stranger, &request.order_ref).await, Ok(Lookup::NotFound));
    assert_eq!(
        gateway.find_by_key(&request.merchant, &key("20250816:TR:ffffff")).await,
        Ok(Lookup::NotFound)
    );

    let mut refused = request;
    refused.callback_url = "http://elsewhere.example/".to_owned();
    let answer = gateway.charge(&refused).await.answer;
    assert!(
        matches!(answer, GatewayAnswer::Rejected { ref message } if !message.as_str().is_empty()),
        "{answer:?}"
    );
    simulator.stop().await;
}

/// The first request meets this, all later ones are accepted.
fn fates() -> Vec<(RequestFate, &'static str, usize)> {
    let created = |fault| RequestFate::CreateThen(fault);
    let failed = |fault| RequestFate::Fail(fault);
    let mut fates = vec![
        (RequestFate::Accept, order::IN_PROGRESS, 1),
        // Not reached: nothing is there, so it is sent again.
        (failed(Fault::Error429), order::IN_PROGRESS, 1),
        (failed(Fault::Error500), order::IN_PROGRESS_WATCHED, 1),
        (failed(Fault::Error503), order::IN_PROGRESS_WATCHED, 1),
        // A 500 that created: the question finds it, and it is not sent again.
        (created(Fault::Error500), order::IN_PROGRESS, 1),
        (created(Fault::Error503), order::IN_PROGRESS, 1),
    ];
    for fault in Fault::ALL {
        if !matches!(fault, Fault::Error429 | Fault::Error500 | Fault::Error503) {
            fates.push((failed(fault), order::UNCERTAIN, 0));
            fates.push((created(fault), order::UNCERTAIN, 1));
        }
    }
    fates
}

#[tokio::test]
async fn whatever_becomes_of_a_request_it_charges_once_at_most() {
    for (fate, expected, transactions) in fates() {
        let simulator = simulator().await;
        simulator.script_requests([fate]);
        let hangs = fate.name().ends_with("hang");
        let gateway = gateway(&simulator, if hangs { ms(300) } else { PATIENT });
        let shop = Shop::open(Arc::new(gateway), PATIENT).await;
        let sold = shop.sell().await;
        assert_eq!(sold.order, expected, "{}: {sold:?}", fate.name());
        // What hangs may be booked a moment later than it is given up.
        let patience = Instant::now() + PATIENT;
        while simulator.ledger().len() < transactions && Instant::now() < patience {
            tokio::time::sleep(ms(5)).await;
        }
        let ledger = simulator.ledger();
        assert_eq!(ledger.len(), transactions, "{}: {ledger:?}", fate.name());
        if let Some(key) = sold.key {
            assert_eq!(ledger[0].transaction_key, key.as_str(), "{}", fate.name());
        }
        simulator.stop().await;
    }
}
