//! The operations API.

use crate::support::{Server, assert_failure};

#[tokio::test(flavor = "multi_thread")]
async fn goods_are_made_and_checked() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let stock = crate::support::Request::new(server.ops, "PUT", &format!("/admin/products/{product}/stock"));
    let set = stock.clone().json(r#"{"quantity":7}"#).send().await;
    assert_eq!((set.status, set.data("stock")), (200, 7.into()), "{}", set.body);
    assert_failure(&stock.json(r#"{"quantity":-1}"#).send().await, 400, "BAD_REQUEST", "INVALID_STOCK");
    let unknown = crate::support::Request::new(server.ops, "PUT", "/admin/products/999/stock");
    let unknown = unknown.json(r#"{"quantity":7}"#).send().await;
    assert_failure(&unknown, 404, "NOT_FOUND", "PRODUCT_NOT_FOUND");
    let points = server.ops_post("/admin/users/1/points", r#"{"amount":500}"#).send().await;
    assert_eq!((points.status, points.data("balance")), (200, 500.into()));

    let long = "x".repeat(201);
    for (path, body, reason) in [
        ("/admin/products", r#"{"name":"","price":1,"stock":1}"#.to_owned(), "INVALID_FIELD"),
        ("/admin/products", format!(r#"{{"name":"{long}","price":1,"stock":1}}"#), "INVALID_FIELD"),
        ("/admin/products", r#"{"name":"a\u0000b","price":1,"stock":1}"#.to_owned(), "INVALID_FIELD"),
        ("/admin/products", r#"{"name":"a","price":-1,"stock":1}"#.to_owned(), "INVALID_FIELD"),
        (
            "/admin/products",
            r#"{"name":"a","price":9007199254740992,"stock":1}"#.to_owned(),
            "AMOUNT_OVERFLOW",
        ),
        ("/admin/products", r#"{"name":"a","price":1,"stock":9007199254740992}"#.to_owned(), "INVALID_STOCK"),
        ("/admin/products", r#"{"name":"a","price":1}"#.to_owned(), "MISSING_FIELD"),
        (
            "/admin/coupons",
            r#"{"name":"a","discountType":"RATE","discountValue":101}"#.to_owned(),
            "RATE_OUT_OF_RANGE",
        ),
        (
            "/admin/coupons",
            r#"{"name":"a","discountType":"RATE","discountValue":0}"#.to_owned(),
            "RATE_OUT_OF_RANGE",
        ),
        (
            "/admin/coupons",
            r#"{"name":"a","discountType":"FIXED","discountValue":0}"#.to_owned(),
            "DISCOUNT_NOT_POSITIVE",
        ),
        (
            "/admin/coupons",
            r#"{"name":"a","discountType":"HALF","discountValue":1}"#.to_owned(),
            "INVALID_FIELD",
        ),
        (
            "/admin/coupons",
            r#"{"name":"a","discountType":"FIXED","discountValue":1,"validUntil":"soon"}"#.to_owned(),
            "INVALID_FIELD",
        ),
        (
            "/admin/coupons",
            r#"{"name":"a","discountType":"FIXED","discountValue":1,"validUntil":"0000-01-01T00:00:00Z"}"#
                .to_owned(),
            "INVALID_FIELD",
        ),
        ("/admin/users/1/points", r#"{"amount":0}"#.to_owned(), "CHARGE_NOT_POSITIVE"),
        ("/admin/users/0/points", r#"{"amount":1}"#.to_owned(), "INVALID_PARAMETER"),
    ] {
        assert_failure(&server.ops_post(path, &body).send().await, 400, "BAD_REQUEST", reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_are_seen_and_set() {
    let server = Server::start();
    let set = server.ops_post("/admin/circuits/pg-payment", r#"{"state":"FORCED_OPEN"}"#).send().await;
    assert_eq!((set.status, set.data("state")), (200, "FORCED_OPEN".into()), "{}", set.body);
    let all = server.ops_get("/admin/circuits").send().await;
    let keys: Vec<String> = all.data("circuits")[0].as_object().unwrap().keys().cloned().collect();
    let expected =
        ["bufferedCalls", "failureRate", "name", "notPermittedCalls", "retryAfter", "slowCallRate", "state"];
    assert_eq!(keys, expected);
    assert_eq!(all.data("circuits")[0]["state"], "FORCED_OPEN");
    for (name, body, status, code, reason) in [
        ("pg-payment", r#"{"state":"OPEN"}"#, 400, "BAD_REQUEST", "INVALID_FIELD"),
        ("pg-payment", r#"{"state":7}"#, 400, "BAD_REQUEST", "INVALID_FIELD"),
        ("pg-payment", r"{}", 400, "BAD_REQUEST", "MISSING_FIELD"),
        ("none", r#"{"state":"CLOSED"}"#, 404, "NOT_FOUND", "CIRCUIT_NOT_FOUND"),
        ("%00", r#"{"state":"CLOSED"}"#, 404, "NOT_FOUND", "CIRCUIT_NOT_FOUND"),
    ] {
        let told = server.ops_post(&format!("/admin/circuits/{name}"), body).send().await;
        assert_failure(&told, status, code, reason);
    }
    assert_eq!(server.ops_get("/admin/circuits").send().await.data("circuits")[0]["state"], "FORCED_OPEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_are_listed_for_operators() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let placed = server.accepted_order(product, "20250816:TR:0000b1").await;
    let payment = placed.data("paymentId");
    let list = server.ops_get("/admin/payments?status=IN_PROGRESS").send().await;
    assert_eq!(list.data("payments")[0]["paymentId"], payment, "{}", list.body);
    assert_eq!(list.data("payments")[0]["userId"], 1);
    let old = server.ops_get("/admin/payments?olderThan=1h").send().await;
    assert_eq!(old.data("payments").as_array().unwrap().len(), 0);
    let one = server.ops_get(&format!("/admin/payments/{payment}")).send().await;
    assert_eq!((one.data("orderId"), one.data("parked")), (placed.data("orderId"), false.into()));
    assert!(one.data("history").as_array().unwrap().len() > 1);
    for path in
        ["/admin/payments?status=x", "/admin/payments?olderThan=1d", "/admin/discrepancies?status=open"]
    {
        assert_failure(&server.ops_get(path).send().await, 400, "BAD_REQUEST", "INVALID_PARAMETER");
    }
    assert_failure(&server.ops_get("/admin/payments/77").send().await, 404, "NOT_FOUND", "PAYMENT_NOT_FOUND");
    let ledger = server.ops_get("/admin/discrepancies").send().await;
    assert_eq!(ledger.value()["data"], serde_json::json!({"discrepancies": [], "nextCursor": null}));
    let resolve =
        server.ops_post("/admin/discrepancies/1/resolve", r#"{"resolution":"REFUNDED","note":"x"}"#);
    assert_failure(&resolve.send().await, 404, "NOT_FOUND", "DISCREPANCY_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_when_there_is_one() {
    let server = Server::with(&[("HOLDFAST__OPS__TOKEN", "a-token-of-the-tests")]);
    let paths = [
        "/metrics",
        "/admin/circuits",
        "/admin/payments",
        "/admin/discrepancies",
        "/api-docs/openapi.json",
        "/nowhere",
    ];
    for path in paths {
        let told = server.ops_get(path).send().await;
        assert_failure(&told, 401, "UNAUTHORIZED", "TOKEN_REQUIRED");
        assert_eq!(told.header("www-authenticate"), Some("Bearer"));
        let told = server.ops_get(path).header("Authorization", "Bearer a-token-of-the-testz").send().await;
        assert_failure(&told, 401, "UNAUTHORIZED", "INVALID_TOKEN");
    }
    for wrong in crate::support::almost("a-token-of-the-tests") {
        let told =
            server.ops_get("/metrics").header("Authorization", &format!("Bearer {wrong}")).send().await;
        assert_eq!((told.status, told.failure().1.as_str()), (401, "UNAUTHORIZED"), "{wrong}");
    }
    let told = server.ops_get("/metrics").header("Authorization", "Bearer a-token-of-the-tests").send().await;
    assert_eq!((told.status, told.body.as_str()), (200, "up 1\n"));
    assert_eq!(server.ops_get("/health/ready").send().await.status, 200, "health is for everyone");
    let rebound = Server::start();
    let told =
        rebound.ops_get("/admin/circuits").without("Host").header("Host", "rebound.example").send().await;
    assert_failure(&told, 403, "FORBIDDEN", "LOOPBACK_ONLY");
    let told = rebound
        .ops_post("/admin/circuits/pg-payment", r#"{"state":"FORCED_OPEN"}"#)
        .header("Origin", "https://evil.example");
    assert_failure(&told.send().await, 403, "FORBIDDEN", "CROSS_SITE");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operations_are_not_on_the_public_port() {
    let server = Server::start();
    for path in ["/metrics", "/health/live", "/admin/circuits", "/admin/payments"] {
        assert_failure(&server.get(path).send().await, 404, "NOT_FOUND", "UNKNOWN_PATH");
    }
    assert_failure(&server.ops_get("/api/v1/products").send().await, 404, "NOT_FOUND", "UNKNOWN_PATH");
}
