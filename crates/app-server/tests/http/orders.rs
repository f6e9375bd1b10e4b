//! The public API as a buyer uses it.

use crate::support::{Server, assert_failure, card_order, eventually, spawn};
use domain::ports::{FailureCause, GatewayAnswer};
use domain::settlement::{Transaction, TransactionStatus};
use domain::{FailureMessage, GatewayKey, Money, OrderId};
use std::time::Duration;

pub(crate) fn callback_token(server: &Server) -> String {
    let calls = server.gateway.inner.calls();
    let url = calls.iter().rev().find_map(|call| match call {
        test_support::GatewayCall::Charge(request) => Some(request.callback_url.clone()),
        _ => None,
    });
    let url = url.expect("a charge");
    url.strip_prefix("http://localhost:8080/api/v1/payments/callback/").expect("our address").to_owned()
}

pub(crate) fn settle(server: &Server, order: i64, key: &str, amount: i64, status: TransactionStatus) {
    server.gateway.inner.put(Transaction {
        key: GatewayKey::new(key).unwrap(),
        order_ref: server.order_ref(OrderId::new(order).unwrap()),
        amount: Money::new(amount).unwrap(),
        status,
        reason: None,
        made_before: None,
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_by_card_lives_its_whole_life() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let placed = server.accepted_order(product, "20250816:TR:000001").await;
    assert_eq!(placed.status, 202, "{}", placed.body);
    let order = placed.data("orderId").as_i64().unwrap();
    assert_eq!(placed.header("location"), Some(format!("/api/v1/orders/{order}").as_str()));
    assert_eq!(placed.data("status"), "PLACED");
    assert_eq!(placed.data("paymentStatus"), "IN_PROGRESS");
    assert_eq!(placed.data("payment")["cardNo"], "1234-****-****-1451");
    assert_eq!(placed.data("items")[0]["amount"], 15_000);
    assert!(!placed.body.contains("5678"), "the full card number is told to nobody");

    settle(&server, order, "20250816:TR:000001", 15_000, TransactionStatus::Success);
    let waiting = server.get(&format!("/api/v1/orders/{order}?wait=30s"));
    let waiting = spawn(async move { waiting.send().await });
    let body = format!(
        r#"{{"transactionKey":"20250816:TR:000001","orderId":"{order}","cardType":"SAMSUNG","cardNo":"1234-5678-9814-1451","amount":15000,"status":"SUCCESS","reason":"정상 승인되었습니다."}}"#
    );
    let token = callback_token(&server);
    let taken =
        server.post(&format!("/api/v1/payments/callback/{token}"), &body).without("X-USER-ID").send().await;
    assert_eq!((taken.status, taken.value()["meta"]["result"].as_str()), (200, Some("SUCCESS")));
    let ended = waiting.await.unwrap();
    assert_eq!((ended.status, ended.data("status")), (200, "PAID".into()), "{}", ended.body);

    let payment = ended.data("paymentId").as_i64().unwrap();
    let shown = server.get(&format!("/api/v1/payments/{payment}")).send().await;
    let history = shown.data("history");
    let statuses: Vec<&str> =
        history.as_array().unwrap().iter().map(|row| row["to"].as_str().unwrap()).collect();
    assert_eq!(statuses.first(), Some(&"PENDING"));
    assert_eq!(statuses.last(), Some(&"PAID"));

    let events = server.get(&format!("/api/v1/orders/{order}/events")).send().await;
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    assert_eq!(events.body.matches("event: payment").count(), statuses.len(), "{}", events.body);
    assert_eq!(events.body.matches("event: end").count(), 1);
}

/// The values of one field of a stream's events.
fn field(stream: &str, name: &str) -> Vec<String> {
    let prefix = format!("{name}: ");
    stream.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// An `EventSource` reconnects whenever the connection ends, with the id of the last event that it has seen.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_the_end_of_a_stream_is_sent_away_for_good() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let placed = server.accepted_order(product, "20250816:TR:0000e1").await;
    let (order, payment) = (placed.data("orderId").as_i64().unwrap(), placed.data("paymentId"));
    settle(&server, order, "20250816:TR:0000e1", 15_000, TransactionStatus::Success);
    let path = format!("/api/v1/orders/{order}/events");
    let after = async |seen: &str| server.get(&path).header("Last-Event-ID", seen).send().await;

    let sync = server.post(&format!("/api/v1/payments/{payment}/sync"), "");
    eventually(async || (sync.send().await.data("status") == "PAID").then_some(())).await;
    let all = server.get(&path).send().await;
    assert_eq!(
        (all.status, field(&all.body, "event").last().unwrap().as_str()),
        (200, "end"),
        "{}",
        all.body
    );
    let ids = field(&all.body, "id");
    assert_eq!(ids.len(), field(&all.body, "event").len(), "every event moves the client on: {}", all.body);

    let (end, payments) = ids.split_last().unwrap();
    for (at, seen) in payments.iter().enumerate() {
        let rest = after(seen).await;
        assert_eq!((rest.status, field(&rest.body, "id")), (200, ids[at + 1..].to_vec()), "after {seen}");
    }
    let gone = after(end).await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    assert_eq!(gone.header("content-type"), None);
    for first_time in ["", "0", "999999"] {
        let told = after(first_time).await;
        assert_eq!((told.status, field(&told.body, "id")), (200, ids.clone()), "after {first_time:?}");
    }
}

/// Numbers that count over all orders tell a buyer how many there are.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_payment_are_counted_for_each_order() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    assert_eq!(server.post("/api/v1/points/charge", r#"{"amount":50000}"#).send().await.status, 200);
    let body = format!(r#"{{"items":[{{"productId":{product},"quantity":1}}],"usePoint":15000}}"#);
    for _ in 0..3 {
        let placed = server.post("/api/v1/orders", &body).send().await;
        assert_eq!(placed.status, 201, "{}", placed.body);
        let order = placed.data("orderId");
        let payment = server.get(&format!("/api/v1/payments/{}", placed.data("paymentId"))).send().await;
        let history = payment.data("history");
        let history: Vec<_> =
            history.as_array().unwrap().iter().map(|row| row["sequence"].to_string()).collect();
        let counted: Vec<_> = (1..=history.len()).map(|number| number.to_string()).collect();
        assert_eq!(history, counted, "{}", payment.body);
        let stream = server.get(&format!("/api/v1/orders/{order}/events")).send().await;
        let ids = field(&stream.body, "id");
        assert_eq!(ids[..counted.len()], counted, "{}", stream.body);
        let data: serde_json::Value = serde_json::from_str(&field(&stream.body, "data")[0]).unwrap();
        assert_eq!(data["sequence"], 1, "{}", stream.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_follows_an_order_to_its_end() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let placed = server.accepted_order(product, "20250816:TR:000002").await;
    let order = placed.data("orderId").as_i64().unwrap();
    let payment = placed.data("paymentId").as_i64().unwrap();
    let stream = server.get(&format!("/api/v1/orders/{order}/events"));
    let stream = spawn(async move { stream.send().await });
    settle(&server, order, "20250816:TR:000002", 15_000, TransactionStatus::Failed);
    let synced = eventually(async || {
        let synced = server.post(&format!("/api/v1/payments/{payment}/sync"), "").send().await;
        (synced.status == 200).then_some(synced)
    })
    .await;
    assert_eq!(synced.data("status"), "FAILED", "{}", synced.body);
    let told = stream.await.unwrap();
    assert!(
        told.body.contains("event: end") && told.body.contains(r#""status":"CANCELLED""#),
        "{}",
        told.body
    );
    let stock = server.get(&format!("/api/v1/products/{product}")).send().await.data("stock");
    assert_eq!(stock, 10, "nothing of an order that failed stays taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_of_the_gateway_is_told_as_the_contract_says() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let wait = Duration::from_millis(4100);
    let refused = FailureMessage::new("한도초과입니다. 다른 카드를 선택해주세요.").unwrap();
    let cause = FailureCause("ConnectRefused");
    let table = [
        (GatewayAnswer::Rejected { message: refused }, 402, "PAYMENT_FAILED", "PAYMENT_REFUSED", None),
        (GatewayAnswer::CircuitOpen { retry_after: wait }, 503, "CIRCUIT_OPEN", "CIRCUIT_OPEN", Some("5")),
        (
            GatewayAnswer::NotReached { cause, retry_after: wait },
            503,
            "PG_UNAVAILABLE",
            "GATEWAY_NOT_REACHED",
            Some("5"),
        ),
    ];
    for (answer, status, code, reason, retry_after) in table {
        server.gateway.inner.on_charge_answer(answer);
        let told = server.post("/api/v1/orders", card_order(product, 1)).send().await;
        assert_failure(&told, status, code, reason);
        assert_eq!(told.data("status"), "CANCELLED", "{}", told.body);
        assert!(told.header("location").is_some());
        assert_eq!(told.header("retry-after"), retry_after);
    }
    server.gateway.inner.on_charge_answer(GatewayAnswer::Uncertain { cause });
    let told = server.post("/api/v1/orders", card_order(product, 1)).send().await;
    let meta = told.value()["meta"].clone();
    assert_eq!(
        (told.status, &meta["result"], &meta["errorCode"]),
        (202, &"SUCCESS".into(), &"PAYMENT_IN_PROGRESS".into())
    );
    assert_eq!(told.data("paymentStatus"), "IN_PROGRESS");
    let english = server.post("/api/v1/orders", card_order(product, 1)).header("Accept-Language", "en");
    server.gateway.inner.on_charge_answer(GatewayAnswer::CircuitOpen { retry_after: wait });
    let english = english.send().await;
    assert!(
        english.value()["meta"]["message"].as_str().unwrap().starts_with("The payment gateway is in trouble")
    );
    let problem =
        server.post("/api/v1/orders", card_order(product, 1)).header("Accept", "application/problem+json");
    server.gateway.inner.on_charge_answer(GatewayAnswer::CircuitOpen { retry_after: wait });
    let problem = problem.send().await;
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    let value = problem.value();
    assert_eq!((&value["status"], &value["errorCode"]), (&503.into(), &"CIRCUIT_OPEN".into()));
    assert_eq!(value["data"]["status"], "CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_and_coupons_pay_without_the_gateway() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let charged = server.post("/api/v1/points/charge", r#"{"amount":50000}"#).send().await;
    assert_eq!((charged.status, charged.data("balance")), (200, 50_000.into()), "{}", charged.body);
    let coupon =
        r#"{"name":"10%","discountType":"RATE","discountValue":10,"validUntil":"2099-01-01T00:00:00+09:00"}"#;
    let coupon = server.ops_post("/admin/coupons", coupon).send().await;
    assert_eq!(coupon.status, 201, "{}", coupon.body);
    assert_eq!(coupon.data("validUntil"), "2098-12-31T15:00:00Z");
    let issue = server.post(&format!("/api/v1/issued-coupons/{}", coupon.data("couponId")), "");
    let issued = issue.send().await;
    assert_eq!((issued.status, issued.data("status")), (201, "AVAILABLE".into()), "{}", issued.body);
    assert_failure(&issue.send().await, 409, "CONFLICT", "COUPON_ALREADY_ISSUED");
    let id = issued.data("issuedCouponId");
    let body = format!(
        r#"{{"items":[{{"productId":{product},"quantity":1}},{{"productId":{product},"quantity":1}}],"usePoint":27000,"issuedCouponId":{id}}}"#
    );
    let paid = server.post("/api/v1/orders", &body).send().await;
    assert_eq!((paid.status, paid.data("status")), (201, "PAID".into()), "{}", paid.body);
    assert_eq!(paid.data("items")[0]["quantity"], 2, "a repeated product is added up");
    assert_eq!(paid.data("payment")["couponDiscount"], 3_000);
    assert_eq!(paid.data("payment")["method"], "POINT");
    assert_eq!(server.gateway.inner.charges(), 0);
    assert_failure(
        &server.post("/api/v1/orders", &body).send().await,
        400,
        "BAD_REQUEST",
        "COUPON_ALREADY_USED",
    );
    let coupons = server.get("/api/v1/issued-coupons").send().await;
    assert_eq!(coupons.data("issuedCoupons")[0]["status"], "USED");
    assert_eq!(server.get("/api/v1/points").send().await.data("balance"), 23_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_is_anothers() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let placed = server.accepted_order(product, "20250816:TR:000003").await;
    let (order, payment) = (placed.data("orderId"), placed.data("paymentId"));
    for (method, path, reason) in [
        ("GET", format!("/api/v1/orders/{order}"), "ORDER_NOT_FOUND"),
        ("GET", format!("/api/v1/orders/{order}/events"), "ORDER_NOT_FOUND"),
        ("GET", format!("/api/v1/payments/{payment}"), "PAYMENT_NOT_FOUND"),
        ("POST", format!("/api/v1/payments/{payment}/sync"), "PAYMENT_NOT_FOUND"),
    ] {
        let stranger = crate::support::Request::new(server.addr, method, &path).header("X-USER-ID", "2");
        assert_failure(&stranger.send().await, 404, "NOT_FOUND", reason);
    }
    let theirs = server.get("/api/v1/orders").without("X-USER-ID").header("X-USER-ID", "2").send().await;
    assert_eq!(theirs.data("orders").as_array().unwrap().len(), 0);
    let foreign = format!(r#"{{"items":[{{"productId":{product},"quantity":1}}],"issuedCouponId":77}}"#);
    assert_failure(
        &server.post("/api/v1/orders", foreign).send().await,
        400,
        "BAD_REQUEST",
        "COUPON_NOT_OWNED",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other() {
    let server = Server::start();
    let mut products = Vec::new();
    for _ in 0..5 {
        products.push(server.product(1, 1).await);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/products?limit=2".to_owned();
    loop {
        let page = server.get(&path).send().await;
        assert_eq!(page.status, 200, "{}", page.body);
        let rows = page.data("products");
        seen.extend(rows.as_array().unwrap().iter().map(|row| row["productId"].as_i64().unwrap()));
        match page.data("nextCursor").as_str() {
            Some(cursor) => path = format!("/api/v1/products?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, products);
    let orders = server.get("/api/v1/orders?status=PAID&limit=100").send().await;
    assert_eq!((orders.status, orders.data("nextCursor")), (200, serde_json::Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_one_order() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let request = server.post("/api/v1/orders", card_order(product, 1)).header("Idempotency-Key", "k-1");
    let key = GatewayKey::new("20250816:TR:000004").unwrap();
    server
        .gateway
        .inner
        .on_charge_answer(GatewayAnswer::Accepted { key, status: TransactionStatus::Pending });
    let first = request.send().await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (202, None), "{}", first.body);
    let again = request.send().await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")), "{}", again.body);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("location"), first.header("location"));
    let other = server.post("/api/v1/orders", card_order(product, 2)).header("Idempotency-Key", "k-1");
    assert_failure(&other.send().await, 422, "IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(server.gateway.inner.charges(), 1);
    for bad in ["", "키", &"x".repeat(256)] {
        let bad = server.post("/api/v1/orders", card_order(product, 1)).header("Idempotency-Key", bad);
        assert_failure(&bad.send().await, 400, "BAD_REQUEST", "INVALID_IDEMPOTENCY_KEY");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_for_makes_another_request_of_it() {
    let server = Server::start();
    let (one, two) = (server.product(1_000, 10).await, server.product(2_000, 10).await);
    assert_eq!(server.post("/api/v1/points/charge", r#"{"amount":50000}"#).send().await.status, 200);
    let coupon =
        server.ops_post("/admin/coupons", r#"{"name":"1","discountType":"FIXED","discountValue":1}"#);
    let coupon = coupon.send().await.data("couponId");
    let coupon =
        server.post(&format!("/api/v1/issued-coupons/{coupon}"), "").send().await.data("issuedCouponId");
    let order = |body: String| server.post("/api/v1/orders", body).header("Idempotency-Key", "k-3");
    let first = format!(
        r#"{{"items":[{{"productId":{one},"quantity":1}},{{"productId":{two},"quantity":2}}],"usePoint":5000}}"#
    );
    assert_eq!(order(first.clone()).send().await.status, 201);
    let same = format!(
        r#"{{"usePoint":5000,"items":[{{"quantity":1,"productId":{two}}},{{"productId":{two},"quantity":1}},{{"productId":{one},"quantity":1}}],"x":1}}"#
    );
    assert_eq!(
        order(same).send().await.header("idempotency-replayed"),
        Some("true"),
        "the same in other words"
    );
    for other in [
        first.replace("\"quantity\":2", "\"quantity\":3"),
        first.replace(&format!("\"productId\":{two}"), &format!("\"productId\":{}", two + 1)),
        first.replace("5000", "4999"),
        first.replace("\"usePoint\"", &format!("\"issuedCouponId\":{coupon},\"usePoint\"")),
        first.replace("\"usePoint\"", "\"cardType\":\"KB\",\"cardNo\":\"1234-5678-9814-1451\",\"usePoint\""),
    ] {
        assert_failure(&order(other).send().await, 422, "IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_KEY_REUSED");
    }
}

/// What is stored of a request must not tell the card number to whoever gets hold of the table and tries: numbers that look
/// the same when they are masked are the same request.
#[tokio::test(flavor = "multi_thread")]
async fn the_stored_fingerprint_knows_the_masked_card_only() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let order = |card: &str, number: &str| {
        let body = format!(
            r#"{{"items":[{{"productId":{product},"quantity":1}}],"cardType":"{card}","cardNo":"{number}"}}"#
        );
        server.post("/api/v1/orders", body).header("Idempotency-Key", "k-2")
    };
    let key = GatewayKey::new("20250816:TR:000006").unwrap();
    let answer = GatewayAnswer::Accepted { key, status: TransactionStatus::Pending };
    server.gateway.inner.on_charge_answer(answer);
    let first = order("SAMSUNG", "1234-5678-9814-1451").send().await;
    assert_eq!(first.status, 202, "{}", first.body);
    for same in ["1234-0000-0000-1451", "1234-5678-9814-1451", "1234-9999-9999-1451"] {
        let again = order("SAMSUNG", same).send().await;
        assert_eq!(
            (again.status, again.header("idempotency-replayed")),
            (202, Some("true")),
            "{same}: {}",
            again.body
        );
    }
    for (card, other) in [
        ("SAMSUNG", "1234-5678-9814-1452"),
        ("SAMSUNG", "1235-5678-9814-1451"),
        ("KB", "1234-5678-9814-1451"),
    ] {
        let other = order(card, other).send().await;
        assert_failure(&other, 422, "IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_KEY_REUSED");
    }
    assert_eq!(server.gateway.inner.charges(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_callback_changes_nothing() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let order = server.accepted_order(product, "20250816:TR:000005").await.data("orderId").as_i64().unwrap();
    let body = |order: &str| {
        format!(
            r#"{{"transactionKey":"20250816:TR:000005","orderId":"{order}","amount":15000,"status":"SUCCESS","cardNo":"1234-5678-9814-1451"}}"#
        )
    };
    let forged =
        server.post(&format!("/api/v1/payments/callback/{}", "0".repeat(64)), body(&order.to_string()));
    assert_failure(&forged.send().await, 404, "NOT_FOUND", "CALLBACK_NOT_FOUND");
    for unknown in ["999999", "0", "-1", "x", "1234-5678-9814-1451"] {
        let unknown = server.post("/api/v1/payments/callback", body(unknown)).send().await;
        assert_failure(&unknown, 404, "NOT_FOUND", "ORDER_NOT_FOUND");
    }
    let token = callback_token(&server);
    for bad in ["", "{", "[]", r#"{"transactionKey":5}"#, r#"{"orderId":"1"}"#] {
        let bad = server.post(&format!("/api/v1/payments/callback/{token}"), bad).send().await;
        assert_eq!((bad.status, bad.failure().1.as_str()), (400, "BAD_REQUEST"), "{}", bad.body);
    }
    let long = format!(r#"{{"transactionKey":"{}"}}"#, "x".repeat(8 << 10));
    let long = server.post(&format!("/api/v1/payments/callback/{token}"), long).send().await;
    assert_failure(&long, 413, "PAYLOAD_TOO_LARGE", "PAYLOAD_TOO_LARGE");
    // Without a token the gateway is asked; it says PENDING, so nothing changes.
    settle(&server, order, "20250816:TR:000005", 15_000, TransactionStatus::Pending);
    let reference = server.order_ref(OrderId::new(order).unwrap());
    let untokened = server.post("/api/v1/payments/callback", body(reference.as_str())).send().await;
    assert_eq!(untokened.status, 200, "{}", untokened.body);
    eventually(async || {
        let asked = server.gateway.inner.calls().len() > 1;
        asked.then_some(())
    })
    .await;
    let shown = server.get(&format!("/api/v1/orders/{order}")).send().await;
    assert_eq!(shown.data("paymentStatus"), "IN_PROGRESS");
}
