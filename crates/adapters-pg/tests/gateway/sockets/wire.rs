//! What is on the wire, and what connections do between two requests.

use super::server::{LISTED, MADE, Manners, REFUSED, Server, Step, answer, json, not_found};
use crate::model::{Seeded, key, ms, request_until};
use adapters_pg::transport::{Limits, LookupFailure, PaymentAttempt, Transport, cause};
use adapters_pg::{GatewayConfig, GuardedGateway, HttpConfig, HttpTransport, HttpTransportError};
use domain::ports::{ChargeRequest, GatewayAnswer, Lookup, LookupError, Oddity, PaymentGateway};
use domain::settlement::TransactionStatus;
use domain::{GatewayOrderRef, MerchantId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const PATIENT: Duration = Duration::from_secs(20);

fn transport(server: &Server) -> HttpTransport {
    let patient = HttpConfig {
        payment_connect_timeout: PATIENT,
        query_connect_timeout: PATIENT,
        ..HttpConfig::default()
    };
    HttpTransport::new(&HttpConfig { base_url: server.base_url(), ..patient }).unwrap()
}

fn limits() -> Limits {
    Limits { connect: PATIENT, read: PATIENT, until: Instant::now() + PATIENT }
}

fn request() -> ChargeRequest {
    request_until(Instant::now() + PATIENT)
}

fn send(text: String) -> Vec<Step> {
    vec![Step::Send(text)]
}

#[tokio::test]
async fn a_request_is_what_the_protocol_defines() {
    let server = Server::start(Manners::answering(send(json("200 OK", MADE)))).await;
    let attempt = transport(&server).request_payment(&request(), limits()).await;
    let expected =
        PaymentAttempt::Accepted { key: key("20250816:TR:9577c5"), status: TransactionStatus::Pending };
    assert_eq!(attempt, expected);
    let received = server.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].line, "POST /api/v1/payments HTTP/1.1");
    for header in ["x-user-id: holdfast", "content-type: application/json", "content-length: "] {
        assert!(received[0].headers.contains(header), "{header} in {}", received[0].headers);
    }
    let body: serde_json::Value = serde_json::from_str(&received[0].body).unwrap();
    let expected = serde_json::json!({
        "orderId": "000007", "cardType": "KB", "cardNo": "1234-5678-9814-1451", "amount": 5000,
        "callbackUrl": "http://localhost:8080/api/v1/payments/callback/t0ken",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_merchant_of_the_payment_asks_and_keys_are_encoded() {
    let manners = Manners { look_up: send(not_found()), ..Manners::answering(vec![]) };
    let server = Server::start(manners).await;
    let transport = transport(&server);
    let merchant = MerchantId::new("another-shop").unwrap();
    for (text, path) in [
        ("20250816:TR:9577c5", "/api/v1/payments/20250816:TR:9577c5"),
        ("../../admin?x=1#y", "/api/v1/payments/..%2F..%2Fadmin%3Fx%3D1%23y"),
    ] {
        let answer = transport.find_by_key(&merchant, &key(text), limits()).await;
        assert_eq!(answer, Ok(Lookup::NotFound));
        assert_eq!(server.received().last().unwrap().line, format!("GET {path} HTTP/1.1"));
    }
    for text in [".", ".."] {
        let answer = transport.find_by_key(&merchant, &key(text), limits()).await;
        assert_eq!(answer, Err(LookupFailure::NotAskable));
    }
    let order = GatewayOrderRef::from_gateway("7&orderId=8 ");
    assert_eq!(transport.find_by_order(&merchant, &order, limits()).await, Ok(Lookup::NotFound));
    let received = server.received();
    assert_eq!(received.len(), 3);
    assert_eq!(received[2].line, "GET /api/v1/payments?orderId=7%26orderId%3D8%20 HTTP/1.1");
    assert!(received.iter().all(|request| request.headers.contains("x-user-id: another-shop")));
}

#[tokio::test]
async fn a_base_address_may_have_a_path_and_nothing_else() {
    let server = Server::start(Manners::answering(send(json("200 OK", MADE)))).await;
    let config = HttpConfig { base_url: format!("{}/pg/", server.base_url()), ..HttpConfig::default() };
    let transport = HttpTransport::new(&config).unwrap();
    let _answer = transport.request_payment(&request(), limits()).await;
    assert_eq!(server.received()[0].line, "POST /pg/api/v1/payments HTTP/1.1");
    for base_url in ["", "localhost:8082", "ftp://x", "http://", "http://u:p@x", "http://x/?y", "http://x/#y"]
    {
        let refused =
            HttpTransport::new(&HttpConfig { base_url: base_url.to_owned(), ..HttpConfig::default() });
        assert!(matches!(refused, Err(HttpTransportError::BaseUrl)), "{base_url}");
    }
}

/// A look-up's answers, and what they come to.
#[tokio::test]
async fn look_ups_conclude_only_from_the_gateways_own_answers() {
    let garbage = || json("200 OK", "}{");
    let found = "found".to_owned();
    let unreachable = |cause: &str| format!("unreachable ({cause})");
    let odd = |what: &str| format!("odd ({what})");
    let misconfigured = |status: u16| format!("misconfigured ({status})");
    for (what, steps, expected) in [
        ("200 with the list", send(json("200 OK", LISTED)), found),
        ("404 of the gateway", send(not_found()), "not found".to_owned()),
        ("an empty list", send(json("200 OK", &empty_list())), "not found".to_owned()),
        (
            "404 of a proxy",
            send(answer("404 Not Found", "Content-Type: text/html\r\n", "<html>")),
            unreachable("Http404"),
        ),
        (
            "404, cut",
            vec![Step::Send("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n{".to_owned()), Step::Close],
            unreachable("Http404"),
        ),
        (
            "another order's list",
            send(json("200 OK", &LISTED.replace("000007", "000008"))),
            odd("WrongSubject"),
        ),
        (
            "a status nobody knows",
            send(json("200 OK", &LISTED.replace("PENDING", "NEW"))),
            odd("UnknownTransactionStatus"),
        ),
        ("garbage", send(garbage()), unreachable("UnreadableBody")),
        ("`data:null`", send(json("200 OK", r#"{"meta":{"result":"SUCCESS"},"data":null}"#)), odd("NoData")),
        (
            "wrong content type",
            send(answer("200 OK", "Content-Type: text/html\r\n", LISTED)),
            unreachable("WrongContentType"),
        ),
        (
            "302",
            send(answer("302 Found", "Location: /api/v1/payments?orderId=000007\r\n", "")),
            unreachable("Redirect"),
        ),
        ("400", send(json("400 Bad Request", REFUSED)), misconfigured(400)),
        ("401", send(json("401 Unauthorized", REFUSED)), misconfigured(401)),
        ("403", send(json("403 Forbidden", REFUSED)), misconfigured(403)),
        ("405", send(json("405 Method Not Allowed", REFUSED)), misconfigured(405)),
        ("429", send(json("429 Too Many Requests", REFUSED)), unreachable("Http429")),
        ("500", send(json("500 Internal Server Error", REFUSED)), unreachable("Http500")),
        ("503", send(json("503 Service Unavailable", REFUSED)), unreachable("Http503")),
        ("closed", vec![Step::Close], unreachable("ConnectionClosed")),
        ("reset", vec![Step::Reset], unreachable("ConnectionReset")),
    ] {
        let server = Server::start(Manners { look_up: steps, ..Manners::answering(vec![]) }).await;
        let merchant = MerchantId::new("holdfast").unwrap();
        let order = GatewayOrderRef::from_gateway("000007");
        let label = match transport(&server).find_by_order(&merchant, &order, limits()).await {
            Ok(Lookup::Found(_)) => "found".to_owned(),
            Ok(Lookup::NotFound) => "not found".to_owned(),
            Err(LookupFailure::Misconfigured { status }) => misconfigured(status),
            Err(LookupFailure::Odd { what }) => odd(what.label()),
            Err(LookupFailure::Unreachable { cause, .. }) => unreachable(cause.0),
            Err(LookupFailure::NotAskable) => "not askable".to_owned(),
        };
        assert_eq!(label, expected, "{what}");
        assert_eq!(server.counts(), (0, 1), "{what}");
    }
}

/// A list of so many transactions of one order, as the gateway sends it.
fn list_of(transactions: usize) -> String {
    let line =
        |nth| format!(r#"{{"transactionKey":"20250816:TR:{nth:06x}","status":"FAILED","reason":null}}"#);
    let lines: Vec<String> = (0..transactions).map(line).collect();
    LISTED.replace(
        r#"{"transactionKey":"20250816:TR:9577c5","status":"PENDING","reason":null}"#,
        &lines.join(","),
    )
}

/// The one that charged may be the last of many: a part of the list must never pass for all of it.
#[tokio::test]
async fn a_list_comes_whole_or_is_odd() {
    let merchant = MerchantId::new("holdfast").unwrap();
    let order = GatewayOrderRef::from_gateway("000007");
    let limit = HttpConfig::default().max_answer_size;
    let most = (limit - list_of(0).len() + 1) / (list_of(2).len() - list_of(1).len());
    assert!(list_of(most).len() <= limit && list_of(most + 1).len() > limit && most > 500, "{most}");
    let chunked = |body: String| {
        let (half, rest) = body.split_at(body.len() / 2);
        let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{}{}0\r\n\r\n", chunk(half), chunk(rest))
    };
    for transactions in [1, 20, 21, 25, most, most + 1, 2 * most] {
        for text in [json("200 OK", &list_of(transactions)), chunked(list_of(transactions))] {
            let server = Server::start(Manners { look_up: send(text), ..Manners::answering(vec![]) }).await;
            let gateway = patient_gateway(&server);
            let answer = gateway.find_by_order(&merchant, &order).await;
            if transactions > most {
                assert_eq!(answer, Err(LookupError::Odd { what: Oddity::TooLarge }), "{transactions}");
            } else {
                let Ok(Lookup::Found(list)) = answer else { panic!("{transactions}: {answer:?}") };
                let keys = list.iter().map(|one| one.key.as_str().to_owned());
                assert!(keys.eq((0..transactions).map(|nth| format!("20250816:TR:{nth:06x}"))));
            }
            let [_, queries] = gateway.circuits().snapshots();
            assert_eq!((queries.totals.successful, queries.totals.failed), (1, 0), "{transactions}");
        }
    }
}

/// To the byte, whether the answer says how long it is or not.
#[tokio::test]
async fn the_longest_answer_is_as_long_as_the_setting_says() {
    let merchant = MerchantId::new("holdfast").unwrap();
    let limit = HttpConfig::default().max_answer_size;
    for (length, whole) in [(limit, true), (limit + 1, false)] {
        let body = LISTED.to_owned() + &" ".repeat(length - LISTED.len());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = format!("{head}{length:x}\r\n{body}\r\n0\r\n\r\n");
        for text in [json("200 OK", &body), chunked] {
            let server = Server::start(Manners { look_up: send(text), ..Manners::answering(vec![]) }).await;
            let order = GatewayOrderRef::from_gateway("000007");
            let answer = transport(&server).find_by_order(&merchant, &order, limits()).await;
            assert_eq!(answer.is_ok(), whole, "{length}: {answer:?}");
        }
    }
}

/// `Retry-After` of a look-up's 429 or 503 arrives where it is honoured.
#[tokio::test]
async fn a_look_up_hears_when_to_ask_again() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let busy = answer(status, "Content-Type: application/json\r\nRetry-After: 7\r\n", REFUSED);
        let server = Server::start(Manners { look_up: send(busy), ..Manners::answering(vec![]) }).await;
        let merchant = MerchantId::new("holdfast").unwrap();
        let heard = transport(&server).find_by_key(&merchant, &key("a"), limits()).await;
        let Err(LookupFailure::Unreachable { retry_after, .. }) = heard else { panic!("{heard:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(7)), "{status}");
    }
}

fn empty_list() -> String {
    r#"{"meta":{"result":"SUCCESS","errorCode":null,"message":null},"data":{"orderId":"000007","transactions":[]}}"#
        .to_owned()
}

#[tokio::test]
async fn a_silent_look_up_ends_in_time() {
    let server = Server::start(Manners { look_up: vec![Step::Hang], ..Manners::answering(vec![]) }).await;
    let limits = Limits { read: ms(200), ..limits() };
    let merchant = MerchantId::new("holdfast").unwrap();
    let answer = transport(&server).find_by_key(&merchant, &key("a"), limits).await;
    assert_eq!(answer, Err(LookupFailure::Unreachable { cause: cause::READ_TIMEOUT, retry_after: None }));
}

fn patient_gateway(server: &Server) -> GuardedGateway<HttpTransport> {
    let mut config = GatewayConfig { deadline: PATIENT, ..GatewayConfig::default() };
    config.payment.connect_timeout = PATIENT;
    config.payment.read_timeout = PATIENT;
    config.query.read_timeout = PATIENT;
    GuardedGateway::new(transport(server), config, Arc::new(Seeded::new(1))).unwrap()
}

/// A connection that is kept and then reset under the next request: nobody can know whether that was read.
#[tokio::test]
async fn a_kept_connection_that_is_reset_is_uncertain_and_not_sent_again() {
    let first = send(json("200 OK", MADE));
    let manners = Manners { answers: vec![first, vec![Step::Reset]], ..Manners::answering(vec![]) };
    let server = Server::start(manners).await;
    let gateway = patient_gateway(&server);
    let outcome = gateway.charge(&request()).await;
    assert!(matches!(outcome.answer, GatewayAnswer::Accepted { .. }));
    let outcome = gateway.charge(&request()).await;
    assert_eq!(outcome.answer, GatewayAnswer::Uncertain { cause: cause::CONNECTION_RESET });
    assert_eq!(server.counts(), (2, 0));
}

/// A connection that the gateway closed while it was idle is not used: the next request gets one of its own.
#[tokio::test]
async fn a_connection_closed_while_idle_costs_nothing() {
    let once = vec![Step::Send(json("200 OK", MADE)), Step::Close];
    let server = Server::start(Manners::answering(once)).await;
    let gateway = patient_gateway(&server);
    for requests in 1..=5 {
        let outcome = gateway.charge(&request()).await;
        assert!(matches!(outcome.answer, GatewayAnswer::Accepted { .. }), "{requests}: {outcome:?}");
        assert_eq!(server.counts(), (requests, 0));
        // The FIN is on its way; on loopback the pool has seen it long before this is over.
        tokio::time::sleep(ms(50)).await;
    }
}

/// The process was stopped between the decision to send and the sending: nothing leaves.
#[tokio::test]
async fn no_byte_leaves_after_the_send_deadline() {
    let server = Server::start(Manners::answering(send(json("200 OK", MADE)))).await;
    let transport = transport(&server);
    let late = Limits { until: Instant::now(), ..limits() };
    tokio::time::sleep(ms(5)).await;
    let attempt = transport.request_payment(&request(), late).await;
    assert!(matches!(attempt, PaymentAttempt::NotReached { may_have_created: false, .. }), "{attempt:?}");
    // A request that is sent arrives: so the late one would have arrived by then.
    let _in_time = transport.request_payment(&request(), limits()).await;
    assert_eq!(server.counts(), (1, 0));
}
