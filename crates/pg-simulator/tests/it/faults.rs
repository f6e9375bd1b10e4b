//! Every fault as the client's socket sees it, and what the gateway's books say about it.

use std::io::ErrorKind;
use std::time::Duration;

use pg_simulator::engine::Fault;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{CARD, DEADLINE, Gateway, eventually, gateway, payment};

fn raw_request() -> String {
    let body = payment("order-1").to_string();
    let head =
        "POST /api/v1/payments HTTP/1.1\r\nhost: x\r\nx-user-id: holdfast\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// What comes back on a bare socket: the bytes, and how it ended.
async fn on_the_wire(gateway: &Gateway) -> (String, Result<(), ErrorKind>) {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(raw_request().as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("an end in time");
    (String::from_utf8_lossy(&bytes).into_owned(), ended.map(drop).map_err(|error| error.kind()))
}

#[tokio::test]
async fn sockets_are_closed_reset_and_cut() {
    let gateway = gateway(json!({})).await;
    for prefix in ["", "create_then_"] {
        gateway.next_request(&format!("{prefix}close"));
        assert_eq!(on_the_wire(&gateway).await, (String::new(), Ok(())));

        gateway.next_request(&format!("{prefix}reset"));
        assert_eq!(on_the_wire(&gateway).await, (String::new(), Err(ErrorKind::ConnectionReset)));

        gateway.next_request(&format!("{prefix}cut_body"));
        let (text, ended) = on_the_wire(&gateway).await;
        assert_eq!(ended, Ok(()));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert!(!body.is_empty() && body.len() < announced.parse::<usize>().unwrap(), "{text}");
    }
    eventually("three created", async || Some(()).filter(|()| gateway.running.ledger().len() == 3)).await;
}

#[tokio::test]
async fn a_hanging_request_is_closed_in_the_end() {
    let gateway = gateway(json!({ "hang_for": "300ms" })).await;
    gateway.next_request("hang");
    let asked = tokio::time::Instant::now();
    assert_eq!(on_the_wire(&gateway).await, (String::new(), Ok(())));
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(gateway.running.ledger(), []);
}

#[tokio::test]
async fn bad_answers_have_their_documented_form() {
    let gateway = gateway(json!({ "retry_after": "7s" })).await;
    for (fate, status, error_code) in [
        ("error_429", 429, "Too Many Requests"),
        ("error_500", 500, "Internal Server Error"),
        ("error_502", 502, "Bad Gateway"),
        ("error_503", 503, "Service Unavailable"),
        ("error_504", 504, "Gateway Timeout"),
    ] {
        gateway.next_request(fate);
        let reply = gateway.pay(&payment("order-1")).await;
        assert_eq!((reply.failure().0, reply.failure().1), (status, error_code));
        let retry_after = reply.headers.get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(retry_after, [429, 503].contains(&status).then_some("7"), "{fate}");
    }
    gateway.next_request("redirect");
    let redirect = gateway.pay(&payment("order-1")).await;
    assert_eq!((redirect.status, redirect.headers["location"].to_str().unwrap()), (307, "/api/v1/payments"));

    gateway.next_request("garbage");
    let garbage = gateway.pay(&payment("order-1")).await;
    assert_eq!((garbage.status, garbage.body.is_string()), (200, true));

    gateway.next_request("empty");
    assert_eq!(gateway.pay(&payment("order-1")).await.body, json!(""));

    gateway.next_request("data_null");
    assert_eq!(gateway.pay(&payment("order-1")).await.body["data"], json!(null));
    assert_eq!(gateway.running.ledger(), []);
}

/// The same faults for look-ups, by share instead of by script.
#[tokio::test]
async fn look_ups_fail_in_the_same_ways() {
    let gateway = gateway(json!({})).await;
    let key = gateway.accepted(&payment("order-1")).await;
    for fault in Fault::ALL {
        if fault == Fault::Hang {
            continue;
        }
        let name = fault.name();
        gateway.running.patch(&json!({ "lookup": { name: 1.0 } })).unwrap();
        for path in [format!("/api/v1/payments/{key}"), "/api/v1/payments?orderId=order-1".to_owned()] {
            let reply = gateway.try_send(Method::GET, &path, &[("X-USER-ID", "holdfast")], None).await;
            let answered = reply.map(|reply| reply.status).map_err(|error| !error.is_connect());
            let expected = match fault {
                Fault::Hang | Fault::Reset | Fault::Close | Fault::CutBody => Err(true),
                Fault::Error429 => Ok(429),
                Fault::Error500 => Ok(500),
                Fault::Error502 => Ok(502),
                Fault::Error503 => Ok(503),
                Fault::Error504 => Ok(504),
                Fault::Redirect => Ok(307),
                Fault::Garbage | Fault::Empty | Fault::DataNull => Ok(200),
            };
            assert_eq!(answered, expected, "{name} {path}");
        }
        gateway.running.patch(&json!({ "lookup": { name: 0.0 } })).unwrap();
    }
    gateway.next_lookup("not_found");
    assert_eq!(gateway.look_up("holdfast", &format!("/{key}")).await.failure().0, 404);
    eventually("SUCCESS", async || {
        let status = gateway.look_up("holdfast", &format!("/{key}")).await.data()["status"].clone();
        Some(()).filter(|()| status == "SUCCESS")
    })
    .await;
    gateway.next_lookup("stale");
    let stale = gateway.look_up("holdfast", &format!("/{key}")).await;
    assert_eq!((&stale.data()["status"], &stale.data()["reason"]), (&json!("PENDING"), &json!(null)));
}

/// A client that hangs up in the middle of the wait changes nothing in what the gateway does.
#[tokio::test]
async fn a_client_that_hangs_up_is_charged_all_the_same() {
    let slow = json!({ "request": { "latency": { "min": "300ms", "max": "300ms" } } });
    let gateway = gateway(slow).await;
    let body = payment("order-1");
    let impatient = tokio::time::timeout(Duration::from_millis(50), gateway.try_pay(&body)).await;
    assert!(impatient.is_err(), "nobody answers within 50 ms");
    // The request may not have been read yet when its sender left; then there is nothing to charge, and it is sent again.
    eventually("charged", async || {
        if gateway.running.log().posts().is_empty() {
            drop(tokio::time::timeout(Duration::from_millis(50), gateway.try_pay(&body)).await);
        }
        gateway.running.ledger().into_iter().find(|entry| entry.settled_at.is_some())
    })
    .await;
}

#[tokio::test]
async fn an_outage_in_every_mode_and_its_end() {
    let gateway = gateway(json!({ "hang_for": "200ms" })).await;
    for (mode, ended) in [("close", Ok(())), ("reset", Err(ErrorKind::ConnectionReset)), ("hang", Ok(()))] {
        let switched =
            gateway.admin(Method::POST, "/admin/outage", &json!({ "on": true, "mode": mode })).await;
        assert_eq!(*switched.data(), json!({ "outage": mode }));
        assert_eq!(on_the_wire(&gateway).await, (String::new(), ended), "{mode}");
    }
    gateway.admin(Method::POST, "/admin/outage", &json!({ "on": true, "mode": "unavailable" })).await;
    assert_eq!(gateway.pay(&payment("order-1")).await.failure().0, 503);
    assert_eq!(gateway.look_up("holdfast", "?orderId=order-1").await.failure().0, 503);
    gateway.admin(Method::POST, "/admin/outage", &json!({ "on": false })).await;
    gateway.accepted(&payment("order-1")).await;
    let posts = gateway.running.log().posts()["order-1"].clone();
    assert_eq!(posts.iter().filter(|post| post.outcome == "outage").count(), 4);
    assert_eq!(posts.len(), 5);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_hang() {
    let gateway = gateway(json!({ "request": { "hang": 1.0 }, "hang_for": "24h" })).await;
    let addr = gateway.addr();
    let mut hanging = TcpStream::connect(addr).await.unwrap();
    hanging.write_all(raw_request().as_bytes()).await.unwrap();
    eventually("the request arrived", async || {
        Some(()).filter(|()| !gateway.running.log().posts().is_empty())
    })
    .await;
    assert!(!format!("{:?}", gateway.running.log()).contains(CARD));
    tokio::time::timeout(DEADLINE, gateway.running.stop()).await.expect("a stop in time");
    let mut rest = Vec::new();
    hanging.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    let refused = TcpStream::connect(addr).await.map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
}
