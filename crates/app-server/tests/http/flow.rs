//! The flow of an order belongs to the server: clients that go away, overload, a database that is out of reach, a stop.

use crate::support::{DEADLINE, Request, Server, assert_failure, card_order, eventually, spawn};
use bootstrap::shutdown::Drained;
use domain::ports::GatewayAnswer;
use domain::settlement::{Transaction, TransactionStatus};
use domain::{GatewayKey, Money, OrderId};
use std::sync::atomic::Ordering;

fn accept(server: &Server, key: &str) {
    let key = GatewayKey::new(key).unwrap();
    server
        .gateway
        .inner
        .on_charge_answer(GatewayAnswer::Accepted { key, status: TransactionStatus::Pending });
}

/// Waits until a charge has begun; the permit is used up, so that the next call waits for the next charge.
async fn charge_begun(server: &Server) {
    let begun = tokio::time::timeout(DEADLINE, server.gateway.begun.acquire()).await;
    begun.expect("a charge begins").unwrap().forget();
}

async fn only_order_has_a_key(server: &Server) {
    eventually(async || {
        let page = server.get("/api/v1/orders").send().await;
        let orders = page.data("orders");
        let orders = orders.as_array().unwrap();
        assert_eq!(orders.len(), 1, "{}", page.body);
        (!orders[0]["payment"]["externalPaymentKey"].is_null()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_the_connection_changes_nothing() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    accept(&server, "20250816:TR:00000a");
    server.gateway.close();
    let stream = server.post("/api/v1/orders", card_order(product, 1)).begin().await;
    charge_begun(&server).await;
    // With linger 0 closing sends a reset, upon which actix drops the handler.
    stream.set_zero_linger().unwrap();
    drop(stream);
    // The reset has been seen once another connection of the same server was served.
    assert_eq!(server.get("/api/v1/points").send().await.status, 200);
    server.gateway.open();
    only_order_has_a_key(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_early_changes_nothing() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    accept(&server, "20250816:TR:00000b");
    server.gateway.close();
    drop(server.post("/api/v1/orders", card_order(product, 1)).begin().await);
    charge_begun(&server).await;
    server.gateway.open();
    only_order_has_a_key(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_orders_at_once_are_refused_before_anything_is_taken() {
    let server = Server::with(&[("HOLDFAST__ORDERS__MAX_IN_FLIGHT", "1")]);
    let product = server.product(15_000, 10).await;
    accept(&server, "20250816:TR:00000c");
    server.gateway.close();
    let first = server.post("/api/v1/orders", card_order(product, 1));
    let first = spawn(async move { first.send().await });
    charge_begun(&server).await;
    let told = server.post("/api/v1/orders", card_order(product, 1)).send().await;
    assert_failure(&told, 503, "SERVICE_UNAVAILABLE", "OVERLOADED");
    assert_eq!(told.header("retry-after"), Some("1"));
    assert_eq!(server.get(&format!("/api/v1/products/{product}")).send().await.data("stock"), 9);
    server.gateway.open();
    assert_eq!(first.await.unwrap().status, 202);
    accept(&server, "20250816:TR:00000d");
    assert_eq!(server.post("/api/v1/orders", card_order(product, 1)).send().await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_told_that_it_is_not_known_yet() {
    let server = Server::changed(&[], |settings| {
        settings.orders.response_deadline = std::time::Duration::from_millis(100);
    });
    let product = server.product(15_000, 10).await;
    accept(&server, "20250816:TR:00000e");
    server.gateway.close();
    let told = server.post("/api/v1/orders", card_order(product, 1)).send().await;
    let value = told.value();
    assert_eq!(
        (told.status, &value["meta"]["errorCode"]),
        (202, &"PAYMENT_IN_PROGRESS".into()),
        "{}",
        told.body
    );
    let order = value["data"]["orderId"].as_i64().unwrap();
    assert_eq!(value["data"]["paymentStatus"], "PENDING", "{}", told.body);
    assert_eq!(told.header("location"), Some(&*format!("/api/v1/orders/{order}")));
    server.gateway.open();
    only_order_has_a_key(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_for_an_order_that_is_not_stored_is_not_told_that_it_is() {
    let server = Server::changed(&[], |settings| {
        settings.orders.response_deadline = std::time::Duration::from_millis(100);
    });
    let product = server.product(15_000, 10).await;
    accept(&server, "20250816:TR:00000f");
    server.switch.silent.store(true, Ordering::SeqCst);
    let told = server.post("/api/v1/orders", card_order(product, 1)).send().await;
    assert_failure(&told, 503, "SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN");
    server.switch.silent.store(false, Ordering::SeqCst);
    charge_begun(&server).await;
    only_order_has_a_key(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_out_of_reach_is_503_and_comes_back() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    server.switch.off.store(true, Ordering::SeqCst);
    for request in [
        server.get("/api/v1/products"),
        server.get("/api/v1/orders/1"),
        server.post("/api/v1/orders", card_order(product, 1)),
        server.post("/api/v1/points/charge", r#"{"amount":1}"#),
        server.post(
            "/api/v1/payments/callback/x",
            r#"{"transactionKey":"k","orderId":"1","amount":1,"status":"SUCCESS"}"#,
        ),
        server.ops_get("/health/ready"),
    ] {
        let told = request.send().await;
        assert_failure(&told, 503, "SERVICE_UNAVAILABLE", "DATABASE_UNAVAILABLE");
        assert_eq!(told.header("retry-after"), Some("1"));
    }
    assert_eq!(server.ops_get("/health/live").send().await.status, 200);
    assert_eq!(server.ops_get("/metrics").send().await.status, 200, "without the database's numbers");
    server.switch.off.store(false, Ordering::SeqCst);
    assert_eq!(server.ops_get("/health/ready").send().await.status, 200);
    assert_eq!(server.gateway.inner.charges(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_an_outage_of_the_database() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let placed = server.accepted_order(product, "20250816:TR:0000aa").await;
    let (order, payment) = (placed.data("orderId").as_i64().unwrap(), placed.data("paymentId"));
    let mut stream = server.get(&format!("/api/v1/orders/{order}/events")).begin().await;
    let mut told = String::new();
    read_until(&mut stream, &mut told, "event: payment").await;
    server.switch.off.store(true, Ordering::SeqCst);
    let asked = server.switch.asked.load(Ordering::SeqCst);
    server.changes.tell(OrderId::new(order).unwrap());
    eventually(async || (server.switch.asked.load(Ordering::SeqCst) > asked).then_some(())).await;
    server.switch.off.store(false, Ordering::SeqCst);
    server.gateway.inner.put(Transaction {
        key: GatewayKey::new("20250816:TR:0000aa").unwrap(),
        order_ref: server.order_ref(OrderId::new(order).unwrap()),
        amount: Money::new(15_000).unwrap(),
        status: TransactionStatus::Success,
        reason: None,
        made_before: None,
    });
    let sync = server.post(&format!("/api/v1/payments/{payment}/sync"), "");
    eventually(async || (sync.send().await.status == 200).then_some(())).await;
    read_until(&mut stream, &mut told, "event: end").await;
    assert_eq!(told.matches("\"to\":\"PAID\"").count(), 1, "{told}");
}

pub(crate) async fn read_until(stream: &mut tokio::net::TcpStream, told: &mut String, what: &str) {
    use tokio::io::AsyncReadExt as _;
    let mut chunk = [0; 4096];
    while !told.contains(what) {
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut chunk)).await;
        let length = read.expect("something comes").expect("a connection that stays");
        assert!(length > 0, "the stream ended: {told}");
        told.push_str(&String::from_utf8_lossy(&chunk[..length]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_work_under_way_end() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    accept(&server, "20250816:TR:00000f");
    server.gateway.close();
    let under_way = server.post("/api/v1/orders", card_order(product, 1));
    let under_way = spawn(async move { under_way.send().await });
    charge_begun(&server).await;
    let (gateway, addr) = (server.gateway.clone(), server.addr);
    let waiting = server.get("/api/v1/orders/100001?wait=30s");
    let asked = server.switch.asked.load(Ordering::SeqCst);
    let waiting = spawn(async move { waiting.send().await });
    eventually(async || (server.switch.asked.load(Ordering::SeqCst) > asked).then_some(())).await;
    let stop = spawn(server.stop());
    eventually(async || tokio::net::TcpStream::connect(addr).await.is_err().then_some(())).await;
    gateway.open();
    assert_eq!(stop.await.unwrap(), Drained::Complete);
    assert_eq!(under_way.await.unwrap().status, 202);
    // Whoever waits is told what is there now instead of being cut off.
    assert_eq!(waiting.await.unwrap().status, 200);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_cant_have_one_port() {
    let server = Server::start();
    let taken = server.addr.to_string();
    let second = std::panic::AssertUnwindSafe(async { Server::with(&[("HOLDFAST__SERVER__BIND", &taken)]) });
    let failed = futures_util::FutureExt::catch_unwind(second).await.map(drop).unwrap_err();
    let text = failed.downcast_ref::<String>().expect("a message");
    assert!(text.contains("server.bind") && text.contains(&taken), "{text}");
    assert_eq!(Request::new(server.ops, "GET", "/health/live").send().await.status, 200);
}
