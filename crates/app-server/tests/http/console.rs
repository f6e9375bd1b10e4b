//! The operator's console over real sockets: each page empty, filled and without a database; each action; who is let in.

use crate::support::{Request, Response, Server, eventually};
use bootstrap::shutdown::Drained;
use domain::GatewayKey;
use domain::ports::GatewayAnswer;
use domain::settlement::{Discrepancy, DiscrepancyKind, Transaction, TransactionStatus};
use domain::{GatewayOrderRef, Money, OrderId};
use std::sync::atomic::Ordering;

const PAGES: [&str; 6] = ["/", "/payments", "/discrepancies", "/circuits", "/reconciler", "/login"];
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn page(server: &Server, path: &str) -> Request {
    server.ops_get(path).header("Accept", "text/html").header("Accept-Language", "en")
}

/// A form as this console's own page posts it.
fn form(server: &Server, path: &str, fields: &str) -> Request {
    Request::new(server.ops, "POST", path)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Sec-Fetch-Site", "same-origin")
        .body(fields)
}

#[track_caller]
fn assert_html(response: &Response, status: u16, parts: &[&str]) {
    assert_eq!(response.status, status, "{}", response.body);
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    for part in parts {
        assert!(response.body.contains(part), "{part:?} is not in\n{}", response.body);
    }
}

#[track_caller]
fn assert_redirect(response: &Response, to: &str) {
    assert_eq!((response.status, response.header("location")), (303, Some(to)), "{}", response.body);
}

/// An order under way whose gateway knows it as this transaction; its payment.
async fn order_under_way(server: &Server, product: i64, key: &str, status: TransactionStatus) -> i64 {
    let placed = server.accepted_order(product, key).await;
    assert_eq!(placed.status, 202, "{}", placed.body);
    let order = OrderId::new(placed.data("orderId").as_i64().unwrap()).unwrap();
    server.gateway.inner.put(Transaction {
        key: GatewayKey::new(key).unwrap(),
        order_ref: server.order_ref(order),
        amount: Money::new(15_000).unwrap(),
        status,
        reason: None,
        made_before: None,
    });
    placed.data("paymentId").as_i64().unwrap()
}

async fn discrepancy(server: &Server, payment: i64) -> i64 {
    let discrepancy = Discrepancy {
        kind: DiscrepancyKind::LateSuccess,
        key: Some(GatewayKey::new("20260101:TR:late00").unwrap()),
        amount: Some(Money::new(15_000).unwrap()),
        evidence: "approved <b>late</b>".to_owned(),
    };
    server.record_discrepancy(payment, discrepancy).await
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_pages_say_that_nothing_is_there() {
    let server = Server::start();
    let table = [
        ("/", "All is well"),
        ("/", "No payment is waiting for its end."),
        ("/", "No open discrepancies."),
        ("/", "No calls in the last 30 minutes."),
        ("/payments", "There are no payments yet."),
        ("/payments?status=PAID", "No payment matches."),
        ("/discrepancies", "None is open"),
        ("/discrepancies?status=RESOLVED", "None was resolved yet."),
        ("/discrepancies?status=ALL", "None is recorded."),
        ("/circuits", "not known yet"),
        ("/reconciler", "Nothing is waiting to be looked at."),
        ("/reconciler", "It changed nothing"),
        ("/login", "so no token is needed"),
    ];
    for (path, text) in table {
        assert_html(&page(&server, path).send().await, 200, &[text]);
    }
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_keeps_everything_at_home() {
    let server = Server::start();
    for path in PAGES {
        let response = page(&server, path).send().await;
        let policy = response.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(policy.contains("frame-ancestors 'none'; base-uri 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(response.header("referrer-policy"), Some("same-origin"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        for forbidden in ["http://", "https://", " style=", "onclick", "<script>"] {
            assert!(!response.body.contains(forbidden), "{path}: {forbidden}");
        }
    }
    for (file, media_type) in
        [("console.css", "text/css"), ("console.js", "text/javascript"), ("icon.svg", "image/svg")]
    {
        let response = server.ops_get(&format!("/assets/{file}")).send().await;
        assert_eq!(response.status, 200);
        assert!(response.header("content-type").unwrap().starts_with(media_type));
        assert_eq!(response.header("cache-control"), Some("no-cache"));
    }
    let body = page(&server, "/").send().await.body;
    let named = body.split("/assets/console.css?").nth(1).unwrap().split('"').next().unwrap();
    let kept = server.ops_get(&format!("/assets/console.css?{named}")).send().await;
    assert!(kept.header("cache-control").unwrap().contains("immutable"));
    assert_eq!(server.ops_get("/assets/other.js").send().await.status, 404);
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_speak_both_languages() {
    let server = Server::start();
    let korean = server.ops_get("/").header("Accept-Language", "ko").send().await;
    assert_html(&korean, 200, &["<html lang=\"ko\">", "이상 없음", "href=\"/?lang=en\""]);
    let chosen = server.ops_get("/payments?status=PAID&lang=ko").header("Accept-Language", "en").send().await;
    assert_html(&chosen, 200, &["<html lang=\"ko\">", "/payments?status=PAID&#38;lang=en"]);
    assert_eq!(chosen.header("content-language"), Some("ko"));
    let cookie = chosen.header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with("holdfast_lang=ko;"), "{cookie}");
    let kept = page(&server, "/").header("Cookie", "a=b; holdfast_lang=ko").send().await;
    assert_html(&kept, 200, &["<html lang=\"ko\">"]);
    let nonsense = page(&server, "/?lang=%3Cscript%3E").header("Cookie", "holdfast_lang=xx").send().await;
    assert_html(&nonsense, 200, &["<html lang=\"en\">"]);
    assert!(!nonsense.body.contains("<script>"));
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_payment_is_followed_to_its_end() {
    let server = Server::start();
    let made = server
        .ops_post("/admin/products", r#"{"name":"<script>alert(1)</script>","price":15000,"stock":9}"#)
        .send()
        .await;
    let product = made.data("productId").as_i64().unwrap();
    let payment = order_under_way(&server, product, "20260101:TR:aaaaaa", TransactionStatus::Pending).await;
    let path = format!("/payments/{payment}");

    let list = page(&server, "/payments?status=UNSETTLED").send().await;
    assert_html(
        &list,
        200,
        &[&format!("href=\"{path}\""), "IN_PROGRESS", "15,000 won", "20260101:TR:aaaaaa"],
    );
    let overview = page(&server, "/").send().await;
    assert_html(&overview, 200, &["under 1 min", "Oldest"]);
    let reconciler = page(&server, "/reconciler").send().await;
    assert_html(&reconciler, 200, &[&format!("href=\"{path}\""), "Nothing is overdue."]);
    let shown = page(&server, &path).send().await;
    assert_html(
        &shown,
        200,
        &["the reconciler asks the gateway by its key", "Ask the gateway now", "1234-****-****-1451"],
    );
    assert!(!shown.body.contains("<script>alert"), "{}", shown.body);
    assert!(shown.body.contains("&#60;script&#62;alert(1)"), "{}", shown.body);
    assert!(!shown.body.contains("5678-9814"), "the card number is masked");

    let sync = format!("{path}/sync");
    let waiting = form(&server, &sync, "").send().await;
    assert_redirect(&waiting, &format!("{path}?notice=waiting"));
    let order = shown.body.split("<dd><code>").nth(2).unwrap().split('<').next().unwrap().to_owned();
    server.gateway.inner.put(Transaction {
        key: GatewayKey::new("20260101:TR:aaaaaa").unwrap(),
        order_ref: GatewayOrderRef::from_gateway(order),
        amount: Money::new(15_000).unwrap(),
        status: TransactionStatus::Success,
        reason: None,
        made_before: None,
    });
    // The gateway is asked about one payment once in a while only.
    let paid = eventually(async || {
        let answer = form(&server, &sync, "").send().await;
        let too_soon = answer.header("location") == Some(&format!("{path}?notice=too-soon"));
        (!too_soon).then_some(answer)
    })
    .await;
    assert_redirect(&paid, &format!("{path}?notice=paid"));
    let ended = page(&server, &format!("{path}?notice=paid")).send().await;
    assert_html(
        &ended,
        200,
        &["the payment is PAID", "It has ended. Nothing more happens.", "a sync by hand"],
    );
    assert!(!ended.body.contains("Ask the gateway now"));
    assert_redirect(&form(&server, &sync, "").send().await, &format!("{path}?notice=ended"));
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_changes_nothing() {
    let server = Server::start();
    let product = server.product(15_000, 9).await;
    let payment = order_under_way(&server, product, "k", TransactionStatus::Pending).await;
    server.gateway.inner.on_find_by_key(Err(test_support::FakeGateway::unreachable("ReadTimeout")));
    let sync = form(&server, &format!("/payments/{payment}/sync"), "").send().await;
    assert_redirect(&sync, &format!("/payments/{payment}?notice=not-asked"));
    let shown = page(&server, &format!("/payments/{payment}?notice=not-asked")).send().await;
    assert_html(&shown, 200, &["Nothing has changed", "IN_PROGRESS"]);
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discrepancy_is_resolved_once() {
    let server = Server::start();
    let product = server.product(15_000, 9).await;
    let payment = order_under_way(&server, product, "k", TransactionStatus::Pending).await;
    let id = discrepancy(&server, payment).await;
    let path = format!("/discrepancies/{id}");

    assert_html(
        &page(&server, "/").send().await,
        200,
        &["1 open discrepancy", "LATE_SUCCESS", "Settle them"],
    );
    assert_html(
        &page(&server, "/discrepancies").send().await,
        200,
        &[&format!("href=\"{path}\""), "15,000 won"],
    );
    assert_html(&page(&server, &format!("/payments/{payment}")).send().await, 200, &["LATE_SUCCESS"]);
    let shown = page(&server, &path).send().await;
    assert_html(
        &shown,
        200,
        &["approved &#60;b&#62;late&#60;/b&#62;", "Cancel the charge at the gateway", "Mark as resolved"],
    );

    let login = form(&server, "/login", "name=%EA%B9%80+%EC%9A%B4%EC%98%81").send().await;
    assert_redirect(&login, "/");
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let fields = "resolution=CANCELLED&note=case+%3C7%3E%0D%0Asecond+line";
    let resolve = format!("{path}/resolve");
    let resolved = form(&server, &resolve, fields).header("Cookie", &cookie).send().await;
    assert_redirect(&resolved, &format!("{path}?notice=resolved"));
    let after = page(&server, &path).send().await;
    assert_html(&after, 200, &["CANCELLED", "case &#60;7&#62;\nsecond line", "김 운영"]);
    assert!(!after.body.contains("Mark as resolved"));
    assert_redirect(&form(&server, &resolve, fields).send().await, &format!("{path}?notice=resolved-before"));
    assert_html(&page(&server, "/").send().await, 200, &["All is well"]);

    for bad in ["", "resolution=", "resolution=%00", &format!("resolution=A&note={}", "x".repeat(1001))] {
        assert_html(&form(&server, &resolve, bad).send().await, 400, &[]);
    }
    assert_html(&form(&server, "/discrepancies/99/resolve", fields).send().await, 404, &[]);
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_are_set_by_hand() {
    let server = Server::start();
    for state in ["FORCED_OPEN", "DISABLED", "CLOSED", "RESET"] {
        let set = form(&server, "/circuits/pg-payment", &format!("state={state}")).send().await;
        assert_redirect(&set, "/circuits?notice=circuit-set");
        let shown = page(&server, "/circuits?notice=circuit-set").send().await;
        assert_html(&shown, 200, &[&format!(">{state}</span>"), "The circuit&#39;s state is set."]);
    }
    form(&server, "/circuits/pg-payment", "state=FORCED_OPEN").send().await;
    let overview = page(&server, "/").send().await;
    assert_html(
        &overview,
        200,
        &["This needs you", "Circuit pg-payment is FORCED_OPEN", "Everyone who pays by card"],
    );
    for bad in ["", "state=OPEN", "state=%3Cscript%3E"] {
        assert_html(&form(&server, "/circuits/pg-payment", bad).send().await, 400, &[]);
    }
    assert_html(&form(&server, "/circuits/other", "state=CLOSED").send().await, 404, &[]);
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_the_overview_says_so_and_the_rest_is_an_error_page() {
    let server = Server::start();
    server.switch.off.store(true, Ordering::SeqCst);
    let overview = page(&server, "/").send().await;
    assert_html(
        &overview,
        200,
        &["The database is out of reach", "The database can&#39;t be read.", "pg-payment"],
    );
    assert_html(&page(&server, "/circuits").send().await, 200, &["pg-query"]);
    for path in ["/payments", "/payments/1", "/discrepancies", "/discrepancies/1", "/reconciler"] {
        let away = page(&server, path).send().await;
        assert_html(&away, 503, &["Check that PostgreSQL runs", "Back to the overview", "Request id"]);
        assert!(away.header("x-request-id").is_some_and(|id| away.body.contains(id)));
    }
    server.switch.off.store(false, Ordering::SeqCst);
    assert_html(&page(&server, "/payments").send().await, 200, &[]);
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_addresses_are_refused_in_words() {
    let server = Server::start();
    let bad = [
        ("/payments?status=X", 400),
        ("/payments?older=1y", 400),
        ("/payments?cursor=-1", 400),
        ("/payments/0", 400),
        ("/payments/%3Cscript%3E", 400),
        ("/payments/7", 404),
        ("/payments?find=7", 404),
        ("/payments?find=%3Cscript%3Ealert(1)", 404),
        ("/discrepancies?status=X", 400),
        ("/discrepancies?cursor=x", 400),
        ("/discrepancies/7", 404),
    ];
    for (path, status) in bad {
        let response = page(&server, path).send().await;
        assert_html(&response, status, &["<main"]);
        assert!(!response.body.contains("<script>"), "{path}");
    }
    let product = server.product(15_000, 9).await;
    let payment = order_under_way(&server, product, "k", TransactionStatus::Pending).await;
    let found = page(&server, &format!("/payments?find={payment}")).send().await;
    assert_redirect(&found, &format!("/payments/{payment}"));
    let found = page(&server, "/payments?find=100001").send().await;
    assert_redirect(&found, &format!("/payments/{payment}"));
    assert_eq!(server.ops_get("/circuits/pg-payment").send().await.status, 405);
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_are_paged() {
    let server = Server::start();
    let product = server.product(15_000, 99).await;
    for nth in 0..27 {
        let key = GatewayKey::new(format!("k{nth}")).unwrap();
        let answer = GatewayAnswer::Accepted { key, status: TransactionStatus::Pending };
        server.gateway.inner.on_charge_answer(answer);
        assert_eq!(
            server.post("/api/v1/orders", crate::support::card_order(product, 1)).send().await.status,
            202
        );
    }
    let rows = |response: &Response| response.body.matches("class=\"first\"").count();
    let first = page(&server, "/payments?status=UNSETTLED").send().await;
    assert_eq!(rows(&first), 25);
    let next = "/payments?status=UNSETTLED&cursor=3";
    assert_html(&first, 200, &[&next.replace('&', "&#38;")]);
    let second = page(&server, next).send().await;
    assert_eq!(rows(&second), 2);
    assert_html(&second, 200, &["First page"]);
    assert!(!second.body.contains("rel=\"next\""));
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_other_sites_change_nothing() {
    let server = Server::start();
    let post = |path: &str| {
        Request::new(server.ops, "POST", path)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("state=FORCED_OPEN&name=x&resolution=OTHER")
    };
    for path in ["/circuits/pg-payment", "/payments/1/sync", "/discrepancies/1/resolve", "/login", "/logout"]
    {
        for (name, value) in [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
        ] {
            assert_eq!(post(path).header(name, value).send().await.status, 403, "{path} {name}: {value}");
        }
        assert_eq!(post(path).send().await.status, 403, "{path} without a word on where it comes from");
    }
    let overview = page(&server, "/").send().await;
    assert_html(&overview, 200, &["All is well"]);
    let rebound = page(&server, "/").without("Host").header("Host", "rebound.example").send().await;
    assert_eq!(rebound.status, 403);
    let own = post("/circuits/pg-payment").header("Origin", &format!("http://{}", server.ops)).send().await;
    assert_redirect(&own, "/circuits?notice=circuit-set");
    assert_eq!(server.stop().await, Drained::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_pages_need_a_session() {
    let server = Server::with(&[("HOLDFAST__OPS__TOKEN", TOKEN)]);
    for path in ["/", "/payments", "/payments/7", "/discrepancies", "/circuits", "/reconciler"] {
        assert_redirect(&page(&server, path).send().await, &format!("/login?next={path}"));
    }
    let sync = form(&server, "/payments/7/sync", "").send().await;
    assert_redirect(&sync, "/login");
    assert_html(
        &page(&server, "/login?next=/payments/7").send().await,
        200,
        &["type=\"password\"", "/payments/7"],
    );
    assert_eq!(server.ops_get("/assets/console.css").send().await.status, 200);

    for wrong in crate::support::almost(TOKEN) {
        let refused = form(&server, "/login", &format!("name=kim&token={wrong}")).send().await;
        assert_html(&refused, 401, &["banner bad"]);
        assert_eq!(refused.header("set-cookie"), None);
    }
    assert_html(&form(&server, "/login", &format!("name=&token={TOKEN}")).send().await, 400, &[]);
    let login = form(&server, "/login", &format!("name=kim&token={TOKEN}&next=/circuits")).send().await;
    assert_redirect(&login, "/circuits");
    let cookie = login.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let mine = |request: Request| request.header("Cookie", &cookie);

    assert_html(&mine(page(&server, "/")).send().await, 200, &["kim"]);
    assert_eq!(mine(server.ops_get("/admin/circuits")).send().await.status, 401, "the API takes no cookie");
    assert_eq!(mine(server.ops_get("/metrics")).send().await.status, 401);
    let bearer = server.ops_get("/circuits").header("Authorization", &format!("Bearer {TOKEN}")).send().await;
    assert_html(&bearer, 200, &[]);
    let set = mine(form(&server, "/circuits/pg-query", "state=RESET")).send().await;
    assert_redirect(&set, "/circuits?notice=circuit-set");
    let foreign = mine(form(&server, "/circuits/pg-query", "state=RESET"))
        .without("Sec-Fetch-Site")
        .header("Sec-Fetch-Site", "cross-site")
        .send()
        .await;
    assert_eq!(foreign.status, 403);
    assert_redirect(&mine(form(&server, "/logout", "")).send().await, "/login");
    assert_redirect(&mine(page(&server, "/")).send().await, "/login?next=/");
    let elsewhere =
        form(&server, "/login", &format!("name=kim&token={TOKEN}&next=//evil.example")).send().await;
    assert_redirect(&elsewhere, "/");
    assert_eq!(server.stop().await, Drained::Complete);
}
