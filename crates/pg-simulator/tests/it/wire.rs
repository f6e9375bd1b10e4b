//! Byte for byte what the real gateway's server writes: no reason phrase, chunks, and the end of the connection after a 500.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{DEADLINE, Gateway, Merchant, but, eventually, gateway, payment};

fn head(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: x\r\nx-user-id: holdfast\r\ncontent-type: application/json\r\n")
}

fn request(order_id: &str) -> String {
    let body = payment(order_id).to_string();
    format!("{}content-length: {}\r\n\r\n{body}", head("POST /api/v1/payments"), body.len())
}

fn look_up(order_id: &str) -> String {
    format!("{}\r\n", head(&format!("GET /api/v1/payments?orderId={order_id}")))
}

/// Says these on one connection, and then that nothing more comes: head and body of the answers, until it is closed.
async fn answers(gateway: &Gateway, said: &[String]) -> Vec<(String, Value)> {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let mut answers = Vec::new();
    for (nth, text) in said.iter().enumerate() {
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = async {
            while !bytes.ends_with(b"\r\n0\r\n\r\n") {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(DEADLINE, read).await.expect("an answer in time");
        if bytes.is_empty() {
            break;
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        let (length, rest) = rest.split_once("\r\n").unwrap();
        let (chunk, rest) = rest.split_at(usize::from_str_radix(length, 16).unwrap());
        assert_eq!(rest, "\r\n0\r\n\r\n", "{nth}: one chunk");
        answers.push((head.to_ascii_lowercase(), serde_json::from_str(chunk).unwrap()));
    }
    answers
}

#[tokio::test]
async fn answers_come_in_chunks_without_a_reason_and_a_500_ends_the_connection() {
    let gateway = gateway(json!({})).await;
    let said =
        [request("order-1"), request("short"), look_up("order-9"), request("order-2"), request("order-3")];
    gateway.running.script_requests(
        ["accept", "error_500"].map(|name| pg_simulator::engine::RequestFate::named(name).unwrap()),
    );
    let answers = answers(&gateway, &said).await;
    let statuses: Vec<&str> = answers.iter().map(|(head, _)| head.lines().next().unwrap()).collect();
    assert_eq!(statuses, ["http/1.1 200 ", "http/1.1 400 ", "http/1.1 404 ", "http/1.1 500 "]);
    for (nth, (head, body)) in answers.iter().enumerate() {
        assert!(head.contains("\r\ntransfer-encoding: chunked"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        assert_eq!(head.contains("\r\nconnection: close"), nth == 3, "{head}");
        assert_eq!(body["meta"]["result"], if nth == 0 { "SUCCESS" } else { "FAIL" });
    }
    assert_eq!(gateway.running.ledger().len(), 1, "order-3 was never read");
}

/// The documented envelope bears its nulls; the real gateway leaves them out.
#[tokio::test]
async fn members_that_are_null_can_be_left_out() {
    let gateway = gateway(json!({ "wire": { "null_members": false }, "settlement": { "stuck": 1.0 } })).await;
    let key = gateway.accepted(&payment("order-1")).await;
    let pending = json!({ "transactionKey": key, "status": "PENDING" });
    let listed = gateway.look_up("holdfast", "?orderId=order-1").await;
    let data = json!({ "orderId": "order-1", "transactions": [pending] });
    assert_eq!(listed.body, json!({ "meta": { "result": "SUCCESS" }, "data": data }));
    let found = gateway.look_up("holdfast", &format!("/{key}")).await;
    assert_eq!(found.data().as_object().unwrap().len(), 6, "{found:?}");
    let unknown = gateway.look_up("holdfast", "?orderId=order-9").await;
    let message = "(orderId: order-9) 에 해당하는 결제건이 존재하지 않습니다.";
    let meta = json!({ "result": "FAIL", "errorCode": "Not Found", "message": message });
    assert_eq!(unknown.body, json!({ "meta": meta }));
    gateway.next_request("data_null");
    assert_eq!(gateway.pay(&payment("order-2")).await.body, json!({ "meta": { "result": "SUCCESS" } }));
    // The simulator's own calls are as they are.
    let ledger = gateway.admin(Method::GET, "/admin/ledger", &json!({})).await;
    assert_eq!(ledger.body["meta"], json!({ "result": "SUCCESS", "errorCode": null, "message": null }));
    assert_eq!(ledger.data()["transactions"][0]["reason"], Value::Null);
}

/// One thread: while a merchant does not answer its callback, nothing else is decided, however long that takes.
#[tokio::test]
async fn a_merchant_that_does_not_answer_is_waited_for_and_holds_a_thread() {
    let gateway = gateway(json!({ "settlement": { "workers": 1 } })).await;
    let mut merchant = Merchant::silent().await;
    gateway.accepted(&but(payment("order-1"), "callbackUrl", json!(merchant.url))).await;
    assert_eq!(merchant.told().await.body["orderId"], "order-1");
    let second = gateway.accepted(&but(payment("order-2"), "callbackUrl", json!(merchant.url))).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    tokio::time::resume();
    let found = gateway.look_up("holdfast", &format!("/{second}")).await;
    assert_eq!(found.data()["status"], "PENDING", "an hour later");
    assert_eq!(gateway.running.ledger()[0].callbacks_delivered, 0);
    merchant.answer();
    assert_eq!(merchant.told().await.body["orderId"], "order-2");
    eventually("delivered", async || (gateway.running.ledger()[0].callbacks_delivered == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn a_time_out_for_callbacks_frees_the_thread() {
    let knobs = json!({ "settlement": { "workers": 1 }, "callback": { "timeout": "50ms" } });
    let gateway = gateway(knobs).await;
    let mut merchant = Merchant::silent().await;
    for order in ["order-1", "order-2"] {
        gateway.accepted(&but(payment(order), "callbackUrl", json!(merchant.url))).await;
    }
    for order in ["order-1", "order-2"] {
        assert_eq!(merchant.told().await.body["orderId"], order);
    }
    assert_eq!(gateway.running.ledger()[0].callbacks_delivered, 0);
}
