//! What each setting of the server does: a test of `bootstrap` demands that every key is in one.

use crate::flow::read_until;
use crate::killed::Program;
use crate::orders::settle;
use crate::support::{DEADLINE, Request, Server, assert_failure, card_order, eventually, spawn};
use bootstrap::shutdown::Drained;
use domain::PaymentId;
use domain::ports::Cause;
use domain::settlement::TransactionStatus;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn the_language_of_those_who_ask_for_none() {
    for (locale, message) in [("ko", "존재하지 않는 주문입니다."), ("en", "There is no such order.")]
    {
        let server = Server::with(&[("HOLDFAST__LOCALE__DEFAULT", locale)]);
        let told = server.get("/api/v1/orders/1").send().await;
        assert_eq!(told.value()["meta"]["message"], message);
        assert_eq!(told.header("content-language"), Some(locale));
        let other = if locale == "ko" { "en" } else { "ko" };
        let asked = server.get("/api/v1/orders/1").header("Accept-Language", other).send().await;
        assert_eq!(asked.header("content-language"), Some(other));
        let page = server.ops_get("/login").send().await;
        assert!(page.body.contains(&format!("<html lang=\"{locale}\"")), "{}", page.body);
        // What the framework itself refuses, too.
        let unknown = server.ops_get("/nowhere").send().await;
        assert_eq!(unknown.header("content-language"), Some(locale));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_be_so_long_and_no_byte_longer() {
    let server = Server::with(&[("HOLDFAST__SERVER__MAX_BODY_SIZE", "1024")]);
    let body = |length: usize| {
        let rest = length - r#"{"items":[],"x":""}"#.len();
        format!(r#"{{"items":[],"x":"{}"}}"#, "x".repeat(rest))
    };
    for (length, status, reason) in [(1024, 400, "NO_ITEMS"), (1025, 413, "PAYLOAD_TOO_LARGE")] {
        let told = server.post("/api/v1/orders", body(length)).send().await;
        assert_eq!((told.status, told.failure().2.as_str()), (status, reason), "{length}");
        let chunked = format!("{length:x}\r\n{}\r\n0\r\n\r\n", body(length));
        let told = Request::new(server.addr, "POST", "/api/v1/orders").header("X-USER-ID", "1");
        let told = told.chunked(&chunked).send().await;
        assert_eq!((told.status, told.failure().2.as_str()), (status, reason), "{length} in chunks");
        let told = server.ops_post("/admin/products", body(length)).send().await;
        assert_eq!(told.status, if length == 1024 { 400 } else { 413 }, "the operations port: {}", told.body);
    }
}

/// Reads until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    read.expect("an end in time").expect("an orderly end");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_after_its_time() {
    let ask = b"GET /api/v1/products HTTP/1.1\r\nHost: x\r\n\r\n";
    let short = Server::with(&[("HOLDFAST__SERVER__KEEP_ALIVE", "2s")]);
    let mut stream = TcpStream::connect(short.addr).await.unwrap();
    stream.write_all(ask).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 "), "one answer, and then the end");
    let none = Server::with(&[("HOLDFAST__SERVER__KEEP_ALIVE", "0s")]);
    let mut stream = TcpStream::connect(none.addr).await.unwrap();
    stream.write_all(ask).await.unwrap();
    let told = rest(&mut stream).await.to_lowercase();
    assert!(told.contains("\r\nconnection: close\r\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_under_way_gets_the_grace_and_no_more() {
    let server = Server::with(&[("HOLDFAST__SERVER__SHUTDOWN_GRACE", "0s")]);
    let product = server.product(15_000, 10).await;
    server.gateway.close();
    let order = server.post("/api/v1/orders", card_order(product, 1));
    let hanging = spawn(async move { order.begin().await });
    tokio::time::timeout(DEADLINE, server.gateway.begun.acquire())
        .await
        .expect("a charge begins")
        .unwrap()
        .forget();
    assert!(matches!(server.stop().await, Drained::Abandoned { .. }));
    drop(hanging);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_connections_are_served_at_once() {
    let server =
        Server::with(&[("HOLDFAST__SERVER__WORKERS", "1"), ("HOLDFAST__SERVER__MAX_CONNECTIONS", "2")]);
    // Each is served once, and stays.
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(b"GET /api/v1/products HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut first))
            .await
            .expect("an answer in time")
            .unwrap();
        open.push(stream);
    }
    let third = server.get("/api/v1/products");
    let mut third = spawn(async move { third.send().await });
    // Were it served at once, that would be seen within this, unless the machine is slow.
    let early = tokio::time::timeout(Duration::from_millis(300), &mut third).await;
    assert!(early.is_err(), "a third connection is served beside two: {early:?}");
    drop(open.pop());
    assert_eq!(third.await.unwrap().status, 200, "one went, one comes");
}

/// By the names of the threads: the operations port has one worker more.
#[tokio::test(flavor = "multi_thread")]
async fn so_many_threads_serve_requests() {
    for (count, threads) in [("3", 4), ("5", 6)] {
        let settings = [
            ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
            ("HOLDFAST__SERVER__BIND", "127.0.0.1:0"),
            ("HOLDFAST__OPS__BIND", "127.0.0.1:0"),
            ("HOLDFAST__LOG__FORMAT", "json"),
            ("HOLDFAST__SERVER__WORKERS", count),
        ];
        let program = Program::start(&settings.map(|(name, value)| (name, value.to_owned())).to_vec()).await;
        let tasks = format!("/proc/{}/task", program.child.id().unwrap());
        let workers = || {
            let tasks = std::fs::read_dir(&tasks).unwrap();
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.filter(|name| name.starts_with("actix-server wo")).count()
        };
        // They get their names as they start.
        eventually(async || (workers() == threads).then_some(())).await;
    }
}

/// An order whose events are followed, and what has been told of it.
struct Followed {
    payment: PaymentId,
    stream: TcpStream,
    told: String,
}

impl Followed {
    async fn place(server: &Server, key: &str) -> Self {
        let product = server.product(15_000, 10).await;
        let placed = server.accepted_order(product, key).await;
        let (order, payment) =
            (placed.data("orderId").as_i64().unwrap(), placed.data("paymentId").as_i64().unwrap());
        settle(server, order, key, 15_000, TransactionStatus::Success);
        let mut stream = server.get(&format!("/api/v1/orders/{order}/events")).begin().await;
        let mut told = String::new();
        read_until(&mut stream, &mut told, "event: payment").await;
        Self { payment: PaymentId::new(payment).unwrap(), stream, told }
    }

    /// What has come and was not read yet.
    fn rest(&mut self) -> &str {
        let mut chunk = [0; 65_536];
        while let Ok(length @ 1..) = self.stream.try_read(&mut chunk) {
            self.told.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
        &self.told
    }
}

/// One server that looks often and one that hardly ever does: who has seen it tells them apart.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_settles_is_seen_by_looking() {
    let rarely = Server::with(&[("HOLDFAST__EVENTS__POLL_INTERVAL", "60s")]);
    let often = Server::with(&[("HOLDFAST__EVENTS__POLL_INTERVAL", "50ms")]);
    let mut late = Followed::place(&rarely, "20250816:TR:0000s0").await;
    rarely.application.sync_payment(late.payment, Cause::Reconciler).await.unwrap().unwrap();
    for at in 0..5 {
        let mut order = Followed::place(&often, &format!("20250816:TR:0000e{at}")).await;
        often.application.sync_payment(order.payment, Cause::Reconciler).await.unwrap().unwrap();
        read_until(&mut order.stream, &mut order.told, "event: end").await;
    }
    assert!(!late.rest().contains("event: end"), "{}", late.told);
    rarely.changes.tell_all();
    read_until(&mut late.stream, &mut late.told, "event: end").await;
}

/// One server that says often that it is still there, and one that hardly ever does.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_is_kept_open_by_comments() {
    let rarely = Server::with(&[("HOLDFAST__EVENTS__HEARTBEAT_INTERVAL", "5m")]);
    let often = Server::with(&[("HOLDFAST__EVENTS__HEARTBEAT_INTERVAL", "1s")]);
    let mut silent = Followed::place(&rarely, "20250816:TR:0000f0").await;
    let mut order = Followed::place(&often, "20250816:TR:0000f1").await;
    for _ in 0..2 {
        order.told.clear();
        read_until(&mut order.stream, &mut order.told, ": still here").await;
    }
    assert!(!silent.rest().contains("still here"), "{}", silent.told);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_streams_are_open_at_once() {
    let server = Server::with(&[("HOLDFAST__EVENTS__MAX_STREAMS", "2")]);
    let product = server.product(15_000, 10).await;
    let order = server.accepted_order(product, "20250816:TR:0000s3").await.data("orderId");
    let events = server.get(&format!("/api/v1/orders/{order}/events"));
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = events.begin().await;
        let mut first = [0; 12];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut first))
            .await
            .expect("an answer in time")
            .unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        open.push(stream);
    }
    let third = events.send().await;
    assert_failure(&third, 503, "SERVICE_UNAVAILABLE", "OVERLOADED");
    open.pop().unwrap().set_zero_linger().unwrap();
    eventually(async || {
        let mut stream = events.begin().await;
        let mut first = [0; 12];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut first))
            .await
            .expect("an answer in time")
            .unwrap();
        (&first == b"HTTP/1.1 200").then_some(())
    })
    .await;
}

const SECRET: &str = "a-shared-secret-of-the-tests-long-enough";

/// A token of buyer 1 with these claims over the good ones; `null` takes one away.
fn token(changes: Value) -> String {
    let mut claims = json!({"sub": "1", "aud": "shop", "iss": "id.example", "exp": 4_102_444_800_i64});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_held_against_the_settings() {
    let jwks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/jwks.json");
    let base = [
        ("HOLDFAST__AUTH__MODE", "jwt"),
        ("HOLDFAST__AUTH__JWT__AUDIENCE", "shop"),
        ("HOLDFAST__AUTH__JWT__ALGORITHMS", "HS256"),
        ("HOLDFAST__AUTH__JWT__SECRET", SECRET),
    ];
    let server = |more: &[(&'static str, &'static str)]| {
        let mut all = base.to_vec();
        all.extend(more);
        Server::with(&all)
    };
    let asked = async |server: &Server, token: &str| {
        let points = server.get("/api/v1/points").without("X-USER-ID");
        points.header("Authorization", &format!("Bearer {token}")).send().await.status
    };
    let now = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let just_over = token(json!({"exp": now - 100}));

    let plain = server(&[]);
    let header = plain.get("/api/v1/points").send().await;
    assert_failure(&header, 401, "UNAUTHORIZED", "TOKEN_REQUIRED");
    assert_eq!(asked(&plain, &token(json!({}))).await, 200);
    assert_eq!(asked(&plain, &token(json!({"iss": null}))).await, 200, "no issuer is demanded");
    assert_eq!(asked(&plain, &token(json!({"aud": "other"}))).await, 401);
    assert_eq!(asked(&plain, &just_over).await, 401, "30 s are forgiven");

    let lenient = server(&[("HOLDFAST__AUTH__JWT__LEEWAY", "5m")]);
    assert_eq!(asked(&lenient, &just_over).await, 200);
    assert_eq!(asked(&lenient, &token(json!({"exp": now - 400}))).await, 401);
    let other_audience = server(&[("HOLDFAST__AUTH__JWT__AUDIENCE", "other")]);
    assert_eq!(asked(&other_audience, &token(json!({}))).await, 401);
    assert_eq!(asked(&other_audience, &token(json!({"aud": "other"}))).await, 200);
    let issuer = server(&[("HOLDFAST__AUTH__JWT__ISSUER", "id.example")]);
    assert_eq!(asked(&issuer, &token(json!({}))).await, 200);
    assert_eq!(asked(&issuer, &token(json!({"iss": "other"}))).await, 401);
    let other_secret = server(&[("HOLDFAST__AUTH__JWT__SECRET", "another-secret-of-the-tests-long-enough")]);
    assert_eq!(asked(&other_secret, &token(json!({}))).await, 401);
    let by_file =
        server(&[("HOLDFAST__AUTH__JWT__ALGORITHMS", "ES256"), ("HOLDFAST__AUTH__JWT__JWKS_FILE", jwks)]);
    assert_eq!(asked(&by_file, &token(json!({}))).await, 401, "HS256 is not accepted");
    let key = EncodingKey::from_ec_der(include_bytes!("../keys/es256-test-only.der"));
    let claims = json!({"sub": "1", "aud": "shop", "exp": 4_102_444_800_i64});
    let signed = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap();
    assert_eq!(asked(&by_file, &signed).await, 200);
}
