//! What gateways send as a callback: of its body one text is read, whatever else is in it.

use crate::orders::callback_token;
use crate::support::{Server, assert_failure};
use domain::OrderId;

/// Bodies of a callback whose `transactionKey` is good, and that other gateways have sent.
fn odd_bodies(key: &str, order: i64) -> Vec<Vec<u8>> {
    let fields = |rest: &str| format!(r#"{{"transactionKey":"{key}"{rest}}}"#).into_bytes();
    let full = |order: &str, amount: &str, status: &str, reason: &str| {
        fields(&format!(
            r#","orderId":{order},"cardType":"SAMSUNG","cardNo":"1234-5678-9814-1451","amount":{amount},"status":{status},"reason":{reason}"#
        ))
    };
    let text = format!("\"{order}\"");
    let mut bodies = vec![
        full(&text, "\"15000\"", "\"SUCCESS\"", "null"),
        full(&text, "15000.0", "\"SUCCESS\"", "null"),
        full(&text, "1.5e4", "\"SUCCESS\"", "null"),
        full(&text, "1e999", "\"SUCCESS\"", "null"),
        full(&text, "null", "\"SUCCESS\"", "null"),
        full(&text, "15000", "null", "null"),
        full(&text, "15000", "7", "null"),
        full(&text, "15000", "\"SUCCESS\"", r#"{"code":"0000","text":["ok"]}"#),
        full(&order.to_string(), "15000", "\"SUCCESS\"", "\"ok\""),
        full("null", "15000", "\"SUCCESS\"", "\"ok\""),
        full("[]", "15000", "\"SUCCESS\"", "\"ok\""),
        fields(r#","orderId":"x","extra":{"deep":[[[{}]]]}"#),
        fields(""),
        format!("\r\n {{ \"transactionKey\" : \"{key}\" }}\n").into_bytes(),
    ];
    let marked: Vec<u8> = [b"\xef\xbb\xbf".as_slice(), &bodies[0]].concat();
    // A reason in EUC-KR: "승인" is not UTF-8 there.
    let mut foreign = format!(r#"{{"transactionKey":"{key}","reason":""#).into_bytes();
    foreign.extend(b"\xbd\xc2\xc0\xce\"}");
    bodies.extend([marked, foreign]);
    bodies
}

/// F55.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_callback_only_the_key_is_read() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let key = "20250816:TR:0000c1";
    let order = server.accepted_order(product, key).await.data("orderId").as_i64().unwrap();
    let path = format!("/api/v1/payments/callback/{}", callback_token(&server));
    for body in odd_bodies(key, order) {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let told = server.post(&path, &body).without("Content-Type").send().await;
        assert_eq!(told.status, 200, "{shown}: {}", told.body);
    }
    for (body, reason) in [
        ("", "MALFORMED_JSON"),
        ("\u{feff}", "MALFORMED_JSON"),
        (r#"{"transactionKey":"k"} x"#, "MALFORMED_JSON"),
        (r#"{"orderId":"1","amount":1}"#, "MISSING_FIELD"),
        (r#"{"transactionKey":null}"#, "INVALID_FIELD"),
        (r#"{"transactionKey":""}"#, "INVALID_FIELD"),
        (r#"{"transactionKey":"a b"}"#, "INVALID_FIELD"),
        (r#"{"transactionKey":5}"#, "INVALID_FIELD"),
        (r#"["k"]"#, "INVALID_FIELD"),
    ] {
        let told = server.post(&path, body).send().await;
        assert_failure(&told, 400, "BAD_REQUEST", reason);
    }
}

/// F55.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_callback_without_a_token_only_the_order_is_read() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let placed = server.accepted_order(product, "20250816:TR:0000c2").await;
    let order = placed.data("orderId").as_i64().unwrap();
    let order = server.order_ref(OrderId::new(order).unwrap());
    let path = "/api/v1/payments/callback";
    for body in [
        format!(r#"{{"orderId":"{order}"}}"#),
        format!(r#"{{"orderId":"{order}","transactionKey":null,"amount":"x","status":{{}},"reason":[1]}}"#),
        format!(r#"{{"orderId":"{order}","transactionKey":5}}"#),
        format!("\u{feff}{{\"orderId\":\"{order}\"}}"),
    ] {
        let told = server.post(path, &body).send().await;
        assert_eq!(told.status, 200, "{body}: {}", told.body);
    }
    // Our own order id is not what the gateway was given, and a number is nobody's reference any more.
    for unknown in ["100001", "\"100001\"", "999999", "0", "-1", "\"x\"", "\"\"", "18446744073709551615"] {
        let told = server.post(path, format!(r#"{{"orderId":{unknown}}}"#)).send().await;
        assert_failure(&told, 404, "NOT_FOUND", "ORDER_NOT_FOUND");
    }
    for (body, reason) in [
        (r#"{"transactionKey":"k"}"#, "MISSING_FIELD"),
        (r#"{"orderId":null}"#, "INVALID_FIELD"),
        (r#"{"orderId":1.5}"#, "INVALID_FIELD"),
        (r#"{"orderId":{}}"#, "INVALID_FIELD"),
        (r#"{"orderId":true}"#, "INVALID_FIELD"),
    ] {
        let told = server.post(path, body).send().await;
        assert_failure(&told, 400, "BAD_REQUEST", reason);
    }
}
