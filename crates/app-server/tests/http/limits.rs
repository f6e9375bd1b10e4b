//! The last value that is taken and the first that is refused, for every limit of a request.

use crate::orders::callback_token;
use crate::support::{Request, Response, Server, card_order};

/// Status and reason; `-` where all is well.
fn told(response: &Response) -> (u16, String) {
    let reason = response.value()["meta"]["reason"].as_str().unwrap_or("-").to_owned();
    (response.status, reason)
}

#[track_caller]
fn assert_told(response: &Response, status: u16, reason: &str, what: &str) {
    assert_eq!(told(response), (status, reason.to_owned()), "{what}: {}", response.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_taken_up_to_their_limits() {
    let server = Server::start();
    let product = server.product(1, 1 << 40).await;
    let lines = |lines: Vec<(i64, i64)>| {
        let lines: Vec<String> = lines
            .iter()
            .map(|(id, quantity)| format!(r#"{{"productId":{id},"quantity":{quantity}}}"#))
            .collect();
        format!(r#"{{"items":[{}],"usePoint":0}}"#, lines.join(","))
    };
    let different = |count: i64| lines((1_000..1_000 + count).map(|id| (id, 1)).collect());
    let same = |count: usize, quantity: i64| lines(vec![(product, quantity); count]);
    for (body, status, reason, what) in [
        (different(1), 404, "PRODUCT_NOT_FOUND", "one product"),
        (different(100), 404, "PRODUCT_NOT_FOUND", "100 products"),
        (different(101), 400, "TOO_MANY_ITEMS", "101 products"),
        (same(150, 1), 400, "CARD_REQUIRED", "150 times one product"),
        (same(1, 1), 400, "CARD_REQUIRED", "one piece"),
        (same(1, 0), 400, "INVALID_QUANTITY", "no piece"),
        (same(1, 2_147_483_647), 400, "CARD_REQUIRED", "the most pieces"),
        (same(1, 2_147_483_648), 400, "INVALID_QUANTITY", "one more"),
        (
            lines(vec![(product, 2_147_483_646), (product, 1)]),
            400,
            "CARD_REQUIRED",
            "the most pieces, added up",
        ),
        (lines(vec![(product, 2_147_483_647), (product, 1)]), 400, "INVALID_QUANTITY", "one more, added up"),
        (lines(vec![((1 << 53) - 1, 1)]), 404, "PRODUCT_NOT_FOUND", "the greatest id"),
        (lines(vec![(1 << 53, 1)]), 400, "INVALID_FIELD", "a greater id"),
    ] {
        assert_told(&server.post("/api/v1/orders", body).send().await, status, reason, what);
    }
    for (length, status, reason) in [(1, 202, "-"), (255, 202, "-"), (256, 400, "INVALID_IDEMPOTENCY_KEY")] {
        let body = if length == 1 { card_order(product, 1) } else { card_order(product, 2) };
        server.gateway.inner.on_charge_answer(domain::ports::GatewayAnswer::Accepted {
            key: domain::GatewayKey::new(format!("key-{length}")).unwrap(),
            status: domain::settlement::TransactionStatus::Pending,
        });
        let order = server.post("/api/v1/orders", body).header("Idempotency-Key", &"k".repeat(length));
        assert_told(&order.send().await, status, reason, &format!("a key of {length}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_taken_up_to_their_limits() {
    let server = Server::start();
    let product = server.product(100, 10).await;
    assert_eq!(server.post("/api/v1/points/charge", r#"{"amount":99}"#).send().await.status, 200);
    let order =
        |points: i64| format!(r#"{{"items":[{{"productId":{product},"quantity":1}}],"usePoint":{points}}}"#);
    for (points, status, reason) in
        [(-1, 400, "USED_POINT_NEGATIVE"), (100, 400, "INSUFFICIENT_POINT"), (99, 400, "CARD_REQUIRED")]
    {
        assert_told(
            &server.post("/api/v1/orders", order(points)).send().await,
            status,
            reason,
            &points.to_string(),
        );
    }
    let charge = async |amount: &str| {
        server.post("/api/v1/points/charge", format!(r#"{{"amount":{amount}}}"#)).send().await
    };
    assert_told(&charge("0").await, 400, "CHARGE_NOT_POSITIVE", "nothing");
    assert_told(&charge("1").await, 200, "-", "one");
    assert_told(
        &server.post("/api/v1/orders", order(101)).send().await,
        400,
        "INSUFFICIENT_POINT",
        "one too many",
    );
    assert_told(&charge("1").await, 200, "-", "one");
    assert_told(
        &server.post("/api/v1/orders", order(101)).send().await,
        400,
        "PAID_AMOUNT_NEGATIVE",
        "more than the price",
    );
    assert_told(&server.post("/api/v1/orders", order(100)).send().await, 201, "-", "all of the price");
    let room = (1_i64 << 53) - 1 - 1;
    assert_told(&charge(&(room + 1).to_string()).await, 400, "AMOUNT_OVERFLOW", "one more than fits");
    assert_told(&charge(&room.to_string()).await, 200, "-", "what fits");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_headers_are_taken_up_to_their_limits() {
    let server = Server::with(&[("HOLDFAST__SERVER__MAX_HEADERS", "20")]);
    for (path, status, reason) in [
        ("/api/v1/products?limit=0", 400, "INVALID_PARAMETER"),
        ("/api/v1/products?limit=1", 200, "-"),
        ("/api/v1/products?limit=100", 200, "-"),
        ("/api/v1/products?limit=101", 400, "INVALID_PARAMETER"),
        ("/api/v1/products?cursor=9007199254740991", 200, "-"),
        ("/api/v1/products?cursor=9007199254740992", 400, "INVALID_PARAMETER"),
        ("/api/v1/orders/1?wait=30s", 404, "ORDER_NOT_FOUND"),
        ("/api/v1/orders/1?wait=31s", 400, "INVALID_PARAMETER"),
        ("/api/v1/orders/1?wait=30000ms", 404, "ORDER_NOT_FOUND"),
        ("/api/v1/orders/1?wait=30001ms", 400, "INVALID_PARAMETER"),
    ] {
        assert_told(&server.get(path).send().await, status, reason, path);
    }
    for (path, status, reason) in [
        ("/admin/payments?olderThan=8760h", 200, "-"),
        ("/admin/payments?olderThan=8761h", 400, "INVALID_PARAMETER"),
        ("/admin/payments?limit=100", 200, "-"),
        ("/admin/payments?limit=101", 400, "INVALID_PARAMETER"),
    ] {
        assert_told(&server.ops_get(path).send().await, status, reason, path);
    }
    // Host, Connection and X-USER-ID are three.
    for (more, status, reason) in [(17, 200, "-"), (18, 431, "HEADERS_TOO_LARGE")] {
        let many =
            (0..more).fold(server.get("/api/v1/products"), |get, at| get.header(&format!("X-{at}"), "x"));
        assert_told(&many.send().await, status, reason, &format!("{more} more headers"));
    }
    for (length, is_kept) in [(128, true), (129, false)] {
        let id = "r".repeat(length);
        let answer = server.get("/api/v1/products").header("X-Request-Id", &id).send().await;
        assert_eq!(answer.header("x-request-id") == Some(id.as_str()), is_kept, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_are_taken_up_to_their_limits() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    server.accepted_order(product, "20250816:TR:0000d1").await;
    let path = format!("/api/v1/payments/callback/{}", callback_token(&server));
    let callback = |key: usize, length: usize| {
        let frame = format!(r#"{{"transactionKey":"{}","x":""}}"#, "k".repeat(key)).len();
        let rest = "x".repeat(length.saturating_sub(frame));
        format!(r#"{{"transactionKey":"{}","x":"{rest}"}}"#, "k".repeat(key))
    };
    for (body, status, reason) in [
        (callback(1, 8192), 200, "-"),
        (callback(1, 8193), 413, "PAYLOAD_TOO_LARGE"),
        (callback(100, 0), 200, "-"),
        (callback(101, 0), 400, "INVALID_FIELD"),
        (callback(0, 0), 400, "INVALID_FIELD"),
    ] {
        assert_told(
            &server.post(&path, &body).send().await,
            status,
            reason,
            &format!("{} bytes", body.len()),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_write_is_taken_up_to_its_limits() {
    let server = Server::start();
    let name = |length: usize| "이".repeat(length);
    let product = |name: &str, price: &str, stock: &str| {
        ("/admin/products", format!(r#"{{"name":"{name}","price":{price},"stock":{stock}}}"#))
    };
    let coupon = |name: &str, kind: &str, value: &str| {
        ("/admin/coupons", format!(r#"{{"name":"{name}","discountType":"{kind}","discountValue":{value}}}"#))
    };
    let resolve = |word: usize, note: usize| {
        let body = format!(r#"{{"resolution":"{}","note":"{}"}}"#, name(word), name(note));
        ("/admin/discrepancies/1/resolve", body)
    };
    for ((path, body), status, reason) in [
        (product(&name(1), "0", "0"), 201, "-"),
        (product(&name(200), "9007199254740991", "9007199254740991"), 201, "-"),
        (product(&name(0), "1", "1"), 400, "INVALID_FIELD"),
        (product(&name(201), "1", "1"), 400, "INVALID_FIELD"),
        (product("a", "-1", "1"), 400, "INVALID_FIELD"),
        (product("a", "9007199254740992", "1"), 400, "AMOUNT_OVERFLOW"),
        (product("a", "1", "-1"), 400, "INVALID_STOCK"),
        (product("a", "1", "9007199254740992"), 400, "INVALID_STOCK"),
        (coupon(&name(200), "RATE", "1"), 201, "-"),
        (coupon(&name(201), "RATE", "1"), 400, "INVALID_FIELD"),
        (coupon("a", "RATE", "100"), 201, "-"),
        (coupon("a", "RATE", "101"), 400, "RATE_OUT_OF_RANGE"),
        (coupon("a", "RATE", "0"), 400, "RATE_OUT_OF_RANGE"),
        (coupon("a", "FIXED", "1"), 201, "-"),
        (coupon("a", "FIXED", "0"), 400, "DISCOUNT_NOT_POSITIVE"),
        (resolve(1, 0), 404, "DISCREPANCY_NOT_FOUND"),
        (resolve(100, 1000), 404, "DISCREPANCY_NOT_FOUND"),
        (resolve(0, 0), 400, "INVALID_FIELD"),
        (resolve(101, 0), 400, "INVALID_FIELD"),
        (resolve(1, 1001), 400, "INVALID_FIELD"),
    ] {
        assert_told(
            &server.ops_post(path, &body).send().await,
            status,
            reason,
            &format!("{path} {body:.80}"),
        );
    }
    for (length, status, reason) in
        [(0, 400, "INVALID_PARAMETER"), (1, 200, "-"), (100, 200, "-"), (101, 400, "INVALID_PARAMETER")]
    {
        let by = server
            .ops_post("/admin/users/1/points", r#"{"amount":1}"#)
            .header("X-Operator", &"k".repeat(length));
        assert_told(&by.send().await, status, reason, &format!("an operator of {length}"));
    }
    for (length, status) in [(0, 400), (1, 303), (100, 303), (101, 400)] {
        let sign_in = Request::new(server.ops, "POST", "/login").header("Sec-Fetch-Site", "same-origin");
        let sign_in = sign_in.header("Content-Type", "application/x-www-form-urlencoded");
        let told = sign_in.body(format!("name={}", "k".repeat(length))).send().await;
        assert_eq!(told.status, status, "a name of {length}: {}", told.body);
    }
}
