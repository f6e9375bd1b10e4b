//! Who asks, behind proxies and without.

use crate::support::{Request, Server, assert_failure};

/// One listed proxy, and this machine is none.
const ONE: (&str, &str) = ("HOLDFAST__SERVER__TRUSTED_PROXIES", "127.0.0.2");

#[tokio::test(flavor = "multi_thread")]
async fn the_buyer_is_whom_a_listed_proxy_names() {
    let server = Server::with(&[ONE]);
    let points = server.get("/api/v1/points");
    assert_eq!(points.clone().from([127, 0, 0, 2]).send().await.status, 200);
    for stranger in [
        points.clone(),
        points.clone().from([127, 0, 0, 3]),
        points.clone().header("X-Forwarded-For", "127.0.0.2").header("Forwarded", "for=127.0.0.2"),
        points.clone().without("X-USER-ID"),
    ] {
        let told = stranger.send().await;
        assert_failure(&told, 401, "UNAUTHORIZED", "USER_ID_NOT_TRUSTED");
        assert!(told.header("www-authenticate").is_some());
    }
    // Whoever the buyer is not asked for needs no proxy.
    assert_eq!(server.get("/api/v1/products").send().await.status, 200);
    let nameless = points.without("X-USER-ID").from([127, 0, 0, 2]).send().await;
    assert_failure(&nameless, 400, "BAD_REQUEST", "USER_ID_REQUIRED");

    let by_default = Server::start();
    assert_eq!(by_default.get("/api/v1/points").send().await.status, 200, "this machine is believed");
}

/// Sends it until it is refused; one more than the burst suffices, unless the machine is slow.
async fn exhaust(request: &Request) -> bool {
    for _ in 0..1000 {
        match request.send().await.status {
            429 => return true,
            status => assert_eq!(status, 200),
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_an_address_is_the_clients_and_not_the_balancers() {
    let server = Server::with(&[
        ONE,
        ("HOLDFAST__RATE_LIMIT__ADDRESS_PER_SECOND", "1"),
        ("HOLDFAST__RATE_LIMIT__ADDRESS_BURST", "2"),
    ]);
    let products = server.get("/api/v1/products");
    let through = |said: &str| products.clone().from([127, 0, 0, 2]).header("X-Forwarded-For", said);
    assert!(exhaust(&through("198.51.100.1")).await);
    assert_eq!(through("198.51.100.2").send().await.status, 200, "another client of the same balancer");
    assert!(
        exhaust(&through("6.6.6.6, 198.51.100.1")).await,
        "what a client writes in front changes nothing"
    );
    assert_eq!(
        products.clone().from([127, 0, 0, 2]).header("Forwarded", "for=198.51.100.3").send().await.status,
        200
    );
    // Nobody else is believed: these are all one address, whatever they say.
    let mut refused = 0;
    for client in 0..50 {
        let said = format!("198.51.100.{client}");
        let told = products.clone().from([127, 0, 0, 3]).header("X-Forwarded-For", &said).send().await;
        refused += u32::from(told.status == 429);
    }
    assert!(refused > 0);
}
