//! Bad input gets the documented error in the envelope, takes nothing, and panics nobody.

use crate::support::{Request, Server, assert_failure, card_order, on_the_wire};
use bootstrap::shutdown::Drained;

/// F21, F22.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_order_is_refused_with_its_reason() {
    let server = Server::start();
    let product = server.product(15_000, 3).await;
    let dear = server.product((1 << 53) - 1, 10).await;
    let free = server.product(0, 10).await;
    let line = |product: &str, quantity: &str| {
        format!(r#"{{"items":[{{"productId":{product},"quantity":{quantity}}}]}}"#)
    };
    let id = product.to_string();
    let with = |more: &str| format!(r#"{{"items":[{{"productId":{product},"quantity":1}}],{more}}}"#);
    let many =
        (1..=101).map(|id| format!(r#"{{"productId":{id},"quantity":1}}"#)).collect::<Vec<_>>().join(",");
    let table = [
        (r"{}".to_owned(), 400, "MISSING_FIELD"),
        (r#"{"items":null}"#.to_owned(), 400, "INVALID_FIELD"),
        (r#"{"items":[]}"#.to_owned(), 400, "NO_ITEMS"),
        (format!(r#"{{"items":[{many}]}}"#), 400, "TOO_MANY_ITEMS"),
        (line(&id, "0"), 400, "INVALID_QUANTITY"),
        (line(&id, "-1"), 400, "INVALID_QUANTITY"),
        (line(&id, "2147483648"), 400, "INVALID_QUANTITY"),
        (line(&id, "9223372036854775807"), 400, "INVALID_QUANTITY"),
        (line(&id, "9223372036854775808"), 400, "INVALID_FIELD"),
        (line(&id, "1.5"), 400, "INVALID_FIELD"),
        (line(&id, "\"1\""), 400, "INVALID_FIELD"),
        (line(&id, "true"), 400, "INVALID_FIELD"),
        (line(&id, "4"), 400, "OUT_OF_STOCK"),
        (line(&id, "2147483647"), 400, "OUT_OF_STOCK"),
        (
            format!(
                r#"{{"items":[{{"productId":{id},"quantity":2147483647}},{{"productId":{id},"quantity":1}}]}}"#
            ),
            400,
            "INVALID_QUANTITY",
        ),
        (line("0", "1"), 400, "INVALID_FIELD"),
        (line("-5", "1"), 400, "INVALID_FIELD"),
        (line("9007199254740992", "1"), 400, "INVALID_FIELD"),
        (line("999999", "1"), 404, "PRODUCT_NOT_FOUND"),
        (line(&dear.to_string(), "2"), 400, "AMOUNT_OVERFLOW"),
        (line(&free.to_string(), "1"), 400, "TOTAL_NOT_POSITIVE"),
        (with(r#""usePoint":-1"#), 400, "USED_POINT_NEGATIVE"),
        (with(r#""usePoint":9007199254740992"#), 400, "AMOUNT_OVERFLOW"),
        (with(r#""usePoint":15001"#), 400, "INSUFFICIENT_POINT"),
        (with(r#""usePoint":15000"#), 400, "INSUFFICIENT_POINT"),
        (with(r#""usePoint":0.5"#), 400, "INVALID_FIELD"),
        (with(r#""issuedCouponId":0"#), 400, "INVALID_FIELD"),
        (with(r#""issuedCouponId":12345"#), 400, "COUPON_NOT_OWNED"),
        (with(r#""usePoint":0"#), 400, "CARD_REQUIRED"),
        (with(r#""cardType":"SAMSUNG""#), 400, "CARD_REQUIRED"),
        (with(r#""cardNo":"1234-5678-9814-1451""#), 400, "CARD_REQUIRED"),
        (with(r#""cardType":"samsung","cardNo":"1234-5678-9814-1451""#), 400, "INVALID_CARD_TYPE"),
        (with(r#""cardType":"VISA","cardNo":"1234-5678-9814-1451""#), 400, "INVALID_CARD_TYPE"),
        (with(r#""cardType":"KB","cardNo":"1234567898141451""#), 400, "INVALID_CARD_NUMBER"),
        (with(r#""cardType":"KB","cardNo":"1234-5678-9814-145""#), 400, "INVALID_CARD_NUMBER"),
        (with(r#""cardType":"KB","cardNo":"１２３４-5678-9814-1451""#), 400, "INVALID_CARD_NUMBER"),
        (with(r#""cardType":"KB","cardNo":"""#), 400, "INVALID_CARD_NUMBER"),
        (with(r#""cardType":"KB","cardNo":1234567898141451"#), 400, "INVALID_FIELD"),
        (String::new(), 400, "MALFORMED_JSON"),
        ("{".to_owned(), 400, "MALFORMED_JSON"),
        ("\u{0}".to_owned(), 400, "MALFORMED_JSON"),
        ("[".repeat(50_000), 400, "INVALID_FIELD"),
        ("null".to_owned(), 400, "INVALID_FIELD"),
    ];
    for (body, status, reason) in table {
        let told = server.post("/api/v1/orders", &body).send().await;
        let code = if status == 404 { "NOT_FOUND" } else { "BAD_REQUEST" };
        assert_eq!(
            told.failure(),
            (status, code.to_owned(), reason.to_owned()),
            "{body:.200}: {}",
            told.body
        );
        assert!(!told.body.contains("9814"), "a card number is repeated: {}", told.body);
    }
    assert_eq!(server.get(&format!("/api/v1/products/{product}")).send().await.data("stock"), 3);
    assert_eq!(server.get("/api/v1/orders").send().await.data("orders").as_array().unwrap().len(), 0);
    assert_eq!(server.gateway.inner.calls().len(), 0, "the gateway is never asked");
    assert_eq!(server.post("/api/v1/points/charge", r#"{"amount":20000}"#).send().await.status, 200);
    let told = server.post("/api/v1/orders", with(r#""usePoint":15001"#)).send().await;
    assert_failure(&told, 400, "BAD_REQUEST", "PAID_AMOUNT_NEGATIVE");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_the_wrong_form_are_refused_in_the_envelope() {
    let server = Server::start();
    let at = |method: &str, path: &str| Request::new(server.addr, method, path).header("X-USER-ID", "1");
    let order = card_order(1, 1);
    for path in [
        "/",
        "/api/v1",
        "/api/v1/orders/",
        "/api/v2/orders",
        "/api/v1/orders/1/x",
        "/%2e%2e/etc",
        "/docs/none.js",
    ] {
        assert_failure(&at("GET", path).send().await, 404, "NOT_FOUND", "UNKNOWN_PATH");
    }
    for (method, path, allow) in [
        ("PUT", "/api/v1/orders", "GET, HEAD, POST"),
        ("DELETE", "/api/v1/orders/1", "GET, HEAD"),
        ("TRACE", "/api/v1/orders", "GET, HEAD, POST"),
        ("OPTIONS", "/api/v1/orders", "GET, HEAD, POST"),
        ("GET", "/api/v1/payments/callback", "POST"),
        ("GET", "/api/v1/payments/callback/x", "POST"),
        ("POST", "/docs/", "GET, HEAD"),
        ("FOO", "/api/v1/points", "GET, HEAD"),
    ] {
        let told = at(method, path).send().await;
        assert_failure(&told, 405, "METHOD_NOT_ALLOWED", "METHOD_NOT_ALLOWED");
        assert_eq!(told.header("allow"), Some(allow), "{method} {path}");
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let told =
            at("POST", "/api/v1/orders").header("Content-Type", content_type).body(&order).send().await;
        assert_failure(&told, 415, "UNSUPPORTED_MEDIA_TYPE", "UNSUPPORTED_MEDIA_TYPE");
    }
    let told = at("POST", "/api/v1/orders").body(&order).send().await;
    assert_failure(&told, 415, "UNSUPPORTED_MEDIA_TYPE", "UNSUPPORTED_MEDIA_TYPE");
    let told =
        at("POST", "/api/v1/orders").header("Content-Type", "application/json; charset=utf-8").body(&order);
    assert_failure(&told.send().await, 404, "NOT_FOUND", "PRODUCT_NOT_FOUND");

    let mebibyte = format!(r#"{{"items":[],"x":"{}"}}"#, "x".repeat(1 << 20));
    for path in ["/api/v1/orders", "/api/v1/points/charge", "/api/v1/payments/callback"] {
        let told = server.post(path, &mebibyte).send().await;
        assert_failure(&told, 413, "PAYLOAD_TOO_LARGE", "PAYLOAD_TOO_LARGE");
    }
    let told = server.post("/api/v1/orders", &mebibyte).without("X-USER-ID").send().await;
    assert_failure(&told, 400, "BAD_REQUEST", "USER_ID_REQUIRED");
    let told = server.post("/nowhere", &mebibyte).send().await;
    assert_failure(&told, 404, "NOT_FOUND", "UNKNOWN_PATH");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_paths_and_queries_are_checked() {
    let server = Server::start();
    let as_user = |id: &str| Request::new(server.addr, "GET", "/api/v1/points").header("X-USER-ID", id);
    let nobody = Request::new(server.addr, "GET", "/api/v1/points").send().await;
    assert_failure(&nobody, 400, "BAD_REQUEST", "USER_ID_REQUIRED");
    for bad in
        ["", "0", "-1", "+1", "1.0", "abc", "1 2", "1,2", "9007199254740992", "99999999999999999999", "１"]
    {
        assert_failure(&as_user(bad).send().await, 400, "BAD_REQUEST", "INVALID_USER_ID");
    }
    let twice = as_user("1").header("X-USER-ID", "2").send().await;
    assert_failure(&twice, 400, "BAD_REQUEST", "INVALID_USER_ID");
    assert_eq!(as_user("9007199254740991").send().await.status, 200);

    for path in [
        "/api/v1/orders/0",
        "/api/v1/orders/-1",
        "/api/v1/orders/abc",
        "/api/v1/orders/9007199254740992",
        "/api/v1/orders/1%00",
        "/api/v1/orders/99999999999999999999",
        "/api/v1/orders/1?wait=31s",
        "/api/v1/orders/1?wait=-1s",
        "/api/v1/orders/1?wait=10",
        "/api/v1/orders/1?wait=1s&wait=2s",
        "/api/v1/orders?limit=0",
        "/api/v1/orders?limit=101",
        "/api/v1/orders?limit=x",
        "/api/v1/orders?cursor=x",
        "/api/v1/orders?cursor=0",
        "/api/v1/orders?status=paid",
        "/api/v1/payments/x",
        "/api/v1/products/x",
        "/api/v1/products?limit=-1",
    ] {
        assert_failure(&server.get(path).send().await, 400, "BAD_REQUEST", "INVALID_PARAMETER");
    }
    let path = "/api/v1/orders/1/events";
    let told = server.get(path).header("Last-Event-ID", "x").send().await;
    assert_failure(&told, 400, "BAD_REQUEST", "INVALID_PARAMETER");
    for (path, reason) in [
        ("/api/v1/orders/1", "ORDER_NOT_FOUND"),
        ("/api/v1/orders/1?wait=30s", "ORDER_NOT_FOUND"),
        ("/api/v1/payments/1", "PAYMENT_NOT_FOUND"),
        ("/api/v1/products/1", "PRODUCT_NOT_FOUND"),
    ] {
        assert_failure(&server.get(path).send().await, 404, "NOT_FOUND", reason);
    }
    let told = server.post("/api/v1/issued-coupons/1", "").send().await;
    assert_failure(&told, 404, "NOT_FOUND", "COUPON_NOT_FOUND");
    for (body, reason) in [
        (r#"{"amount":0}"#, "CHARGE_NOT_POSITIVE"),
        (r#"{"amount":-1}"#, "CHARGE_NOT_POSITIVE"),
        (r#"{"amount":9007199254740992}"#, "AMOUNT_OVERFLOW"),
        (r#"{"amount":"1"}"#, "INVALID_FIELD"),
        (r"{}", "MISSING_FIELD"),
    ] {
        assert_failure(&server.post("/api/v1/points/charge", body).send().await, 400, "BAD_REQUEST", reason);
    }
    let most = server.post("/api/v1/points/charge", r#"{"amount":9007199254740991}"#);
    assert_eq!(most.send().await.status, 200);
    assert_failure(&most.send().await, 400, "BAD_REQUEST", "AMOUNT_OVERFLOW");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_money() {
    let server = Server::with(&[("HOLDFAST__POINTS__SELF_CHARGE", "false")]);
    let told = server.post("/api/v1/points/charge", r#"{"amount":1}"#).send().await;
    assert_failure(&told, 403, "FORBIDDEN", "SELF_CHARGE_DISABLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_speak_the_clients_language_and_carry_their_headers() {
    let server = Server::start();
    let told =
        server.get("/api/v1/orders/1").header("Accept-Language", "en-US,en;q=0.9,ko;q=0.8").send().await;
    assert_eq!(told.value()["meta"]["message"], "There is no such order.");
    assert_eq!(told.header("content-language"), Some("en"));
    let told = server.get("/api/v1/orders/1").header("X-Request-Id", "abc-123").send().await;
    assert_eq!(told.value()["meta"]["message"], "존재하지 않는 주문입니다.");
    assert_eq!(told.header("x-request-id"), Some("abc-123"));
    assert_eq!(told.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(told.header("cache-control"), Some("no-store"));
    assert!(told.header("content-security-policy").is_some());
    let told = server.get("/nowhere").header("Accept", "application/problem+json").send().await;
    assert_eq!(told.header("content-type"), Some("application/problem+json"));
    assert_eq!(told.value()["type"], "urn:holdfast:UNKNOWN_PATH");
    assert_eq!(told.value()["status"], 404);

    let limited = Server::with(&[
        ("HOLDFAST__RATE_LIMIT__USER_PER_SECOND", "1"),
        ("HOLDFAST__RATE_LIMIT__USER_BURST", "1"),
    ]);
    let mut refused = None;
    for _ in 0..100 {
        let told = limited.get("/api/v1/points").send().await;
        if told.status == 429 {
            refused = Some(told);
            break;
        }
    }
    let refused = refused.expect("more than one a second");
    assert_failure(&refused, 429, "TOO_MANY_REQUESTS", "RATE_LIMITED");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_call_only_where_they_are_allowed() {
    let preflight = |server: &Server, origin: &str, method: &str| {
        Request::new(server.addr, "OPTIONS", "/api/v1/orders")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", "content-type,x-user-id,idempotency-key")
    };
    let allowing = "access-control-allow-origin";
    let closed = Server::start();
    let told = preflight(&closed, "https://shop.example", "POST").send().await;
    assert_eq!((told.status, told.header(allowing)), (405, None), "off unless configured");
    let open = Server::changed(&[], |settings| {
        let origins = bootstrap::settings::load(
            None,
            bootstrap::settings::Environment::from_pairs([
                ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
                ("HOLDFAST__CORS__ALLOWED_ORIGINS", r#"["https://shop.example"]"#),
            ]),
        );
        settings.cors = origins.expect("good settings").settings.cors;
    });
    let told = preflight(&open, "https://shop.example", "POST").send().await;
    assert_eq!((told.status, told.header(allowing)), (200, Some("https://shop.example")));
    let told = open.get("/api/v1/orders/1").header("Origin", "https://shop.example").send().await;
    assert_failure(&told, 404, "NOT_FOUND", "ORDER_NOT_FOUND");
    assert_eq!(told.header(allowing), Some("https://shop.example"), "errors, too, can be read");
    let told = open.get("/api/v1/points").header("Origin", "https://evil.example").send().await;
    assert_eq!((told.status, told.header(allowing)), (200, None));
    let told = preflight(&open, "https://shop.example", "DELETE").send().await;
    assert_failure(&told, 403, "FORBIDDEN", "CROSS_SITE");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_refused_in_the_envelope() {
    let server =
        Server::with(&[("HOLDFAST__SERVER__MAX_HEAD_SIZE", "4096"), ("HOLDFAST__SERVER__MAX_HEADERS", "20")]);
    let product = server.product(15_000, 10).await;
    let order = server.post("/api/v1/orders", card_order(product, 1));
    let many = (0..20).fold(order.clone(), |request, at| request.header(&format!("X-{at}"), "x"));
    let long = |length: usize| "x".repeat(length);
    for too_large in [
        order.clone().header("X-Long", &long(4096)),
        order.clone().header(&long(4096), "x"),
        many,
        server.get(&format!("/api/v1/products?cursor={}", long(4096))),
        server.ops_get("/health/live").header("X-Long", &long(4096)),
        server.get("/nowhere").header("X-Long", &long(4096)),
    ] {
        let told = too_large.send().await;
        assert_failure(&told, 431, "REQUEST_HEADER_FIELDS_TOO_LARGE", "HEADERS_TOO_LARGE");
        assert!(!told.body.contains("xxx"), "{}", told.body);
    }
    assert_eq!(server.gateway.inner.calls().len(), 0);
    assert_eq!(server.get(&format!("/api/v1/products/{product}")).send().await.data("stock"), 10);
    // To the byte: the head of this request is as long as its text up to the empty line.
    let path = "/api/v1/products";
    let plain =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-Long: \r\n", server.addr).len();
    for (length, status) in [(4096 - plain, 200), (4096 - plain + 1, 431)] {
        let request = Request::new(server.addr, "GET", path).header("X-Long", &long(length));
        assert_eq!(request.send().await.status, status, "{length}");
    }
}

/// More than the framework's own limits (128 KiB, 96 headers) never reaches the program. Were a connection or a worker
/// lost by it, the later ones could not be served.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_framework_refuses_leaves_nothing_behind() {
    let server = Server::with(&[
        ("HOLDFAST__SERVER__MAX_CONNECTIONS", "4"),
        ("HOLDFAST__SERVER__MAX_HEAD_SIZE", "131072"),
        ("HOLDFAST__SERVER__MAX_HEADERS", "96"),
    ]);
    let first_line = "GET /api/v1/products HTTP/1.1\r\n";
    // As long as the framework reads, and without an end.
    let long = format!("{first_line}X-Long: {}", "x".repeat(131_072 - first_line.len() - "X-Long: ".len()));
    let many = (0..97).fold(first_line.to_owned(), |head, at| format!("{head}X-{at}: x\r\n")) + "\r\n";
    let broken = "\u{1}\u{2}\u{3}\r\n\r\n".to_owned();
    for (bytes, status) in [(long, 431), (many, 431), (broken, 400)] {
        for _ in 0..10 {
            let told = on_the_wire(server.addr, bytes.as_bytes()).await;
            assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
            assert!(told.ends_with("\r\n\r\n"), "no body, and nothing of what was sent: {told}");
        }
    }
    assert_eq!(server.get("/api/v1/products").send().await.status, 200);
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let server = Server::with(&[("HOLDFAST__SERVER__CLIENT_REQUEST_TIMEOUT", "2s")]);
    let told = on_the_wire(server.addr, b"GET /api/v1/products HTTP/1.1\r\nHost: x\r\nX-Slo").await;
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
}
