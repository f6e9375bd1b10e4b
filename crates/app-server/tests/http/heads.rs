//! What is asked by HEAD, and by clients that speak HTTP/1.0.

use crate::support::{Request, Server, on_the_wire};

/// Without what differs from one answer to the next.
fn lasting(request: &crate::support::Response) -> std::collections::BTreeMap<&str, &str> {
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    headers.filter(|(name, _)| !matches!(*name, "date" | "x-request-id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_a_body_on_every_path() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    let placed = server.accepted_order(product, "20250816:TR:0000f1").await;
    let (order, payment) = (placed.data("orderId"), placed.data("paymentId"));
    let public = [
        "/api/v1/orders".to_owned(),
        "/api/v1/orders?limit=0".to_owned(),
        format!("/api/v1/orders/{order}"),
        "/api/v1/orders/999".to_owned(),
        format!("/api/v1/payments/{payment}"),
        "/api/v1/points".to_owned(),
        "/api/v1/issued-coupons".to_owned(),
        "/api/v1/products".to_owned(),
        format!("/api/v1/products/{product}"),
        "/api/v1/payments/callback".to_owned(),
        "/api-docs/openapi.json".to_owned(),
        "/docs".to_owned(),
        "/docs/".to_owned(),
        "/nowhere".to_owned(),
    ];
    let operations = [
        "/",
        "/payments",
        "/discrepancies",
        "/circuits",
        "/reconciler",
        "/login",
        "/logout",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/admin/circuits",
        "/admin/payments",
        "/admin/discrepancies",
        "/admin/products",
        "/assets/console.css",
        "/api-docs/openapi.json",
        "/nowhere",
    ];
    let public = public.iter().map(|path| (server.addr, path.as_str()));
    for (addr, path) in public.chain(operations.map(|path| (server.ops, path))) {
        let ask = async |method| Request::new(addr, method, path).header("X-USER-ID", "1").send().await;
        let (get, head) = (ask("GET").await, ask("HEAD").await);
        assert_eq!((head.status, lasting(&head)), (get.status, lasting(&get)), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
        assert_eq!(head.body, "", "{path}");
    }
    let strange = Request::new(server.addr, "HEAD", "/api/v1/payments/callback").send().await;
    assert_eq!((strange.status, strange.header("allow")), (405, Some("POST")));
    let refused = Request::new(server.addr, "PUT", "/api/v1/points").send().await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

/// A stream has no length and, while its order is open, no end: HEAD waits for neither, and takes no stream's place.
#[tokio::test(flavor = "multi_thread")]
async fn head_of_a_stream_is_answered_at_once() {
    let server = Server::with(&[("HOLDFAST__EVENTS__MAX_STREAMS", "1")]);
    let product = server.product(15_000, 10).await;
    let order = server.accepted_order(product, "20250816:TR:0000f2").await.data("orderId");
    let path = format!("/api/v1/orders/{order}/events");
    for _ in 0..3 {
        let head = Request::new(server.addr, "HEAD", &path).header("X-USER-ID", "1").send().await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(head.body, "");
    }
}

/// An HTTP/1.0 client knows no chunks: the body ends where the connection does.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_gets_a_stream_that_ends_with_its_connection() {
    let server = Server::start();
    let product = server.product(15_000, 10).await;
    assert_eq!(server.post("/api/v1/points/charge", r#"{"amount":15000}"#).send().await.status, 200);
    let body = format!(r#"{{"items":[{{"productId":{product},"quantity":1}}],"usePoint":15000}}"#);
    let order = server.post("/api/v1/orders", &body).send().await.data("orderId");
    for connection in ["", "Connection: keep-alive\r\n"] {
        let ask = |method: &str| {
            format!("{method} /api/v1/orders/{order}/events HTTP/1.0\r\nX-USER-ID: 1\r\n{connection}\r\n")
        };
        let told = on_the_wire(server.addr, ask("GET").as_bytes()).await;
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 "), "{told}");
        let head = head.to_lowercase();
        assert!(!head.contains("transfer-encoding") && !head.contains("keep-alive"), "{told}");
        assert!(body.starts_with("id: 1\nevent: payment\n") && body.ends_with("}\n\n"), "{told}");
        let told = on_the_wire(server.addr, ask("HEAD").as_bytes()).await;
        assert!(told.starts_with("HTTP/1.0 200 ") && told.ends_with("\r\n\r\n"), "{told}");
    }
    let told = on_the_wire(server.addr, b"GET /api/v1/products HTTP/1.0\r\n\r\n").await;
    assert!(told.to_lowercase().contains("\r\ncontent-length: "), "{told}");
}
