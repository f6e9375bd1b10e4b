//! The admin calls, with good and bad input.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, eventually, gateway, payment};

#[tokio::test]
async fn the_configuration_is_shown_changed_in_part_and_replaced() {
    let gateway = gateway(json!({})).await;
    let shown = gateway.get("/admin/config").await.data().clone();
    assert_eq!(shown["request"]["error_500"], 0.0);
    assert_eq!(shown["callback_url_prefix"], "http://127.0.0.1");
    assert_eq!(shown["request"]["backlog_delay"], json!({ "min": "30s", "max": "2m" }));

    let change = json!({ "request": { "error_500": 1, "latency": { "max": "20ms" } }, "lookup": { "merchant_scoped": false } });
    let changed = gateway.admin(Method::PATCH, "/admin/config", &change).await;
    assert_eq!(changed.data()["request"]["error_500"], 1.0);
    assert_eq!(changed.data()["request"]["latency"], json!({ "min": "0s", "max": "20ms" }));
    assert_eq!(changed.data()["settlement"], shown["settlement"]);
    assert_eq!(gateway.pay(&payment("order-1")).await.status, 500);

    let replaced = gateway.admin(Method::PUT, "/admin/config", &json!({ "seed": 7 })).await;
    assert_eq!(replaced.data()["request"]["error_500"], 0.4);
    assert_eq!(replaced.data()["callback_url_prefix"], "http://localhost:8080");
    assert_eq!(replaced.data()["seed"], 7);
    assert_eq!(gateway.get("/admin/config").await.data(), replaced.data());

    // What it shows, it takes.
    let again = gateway.admin(Method::PUT, "/admin/config", &shown).await;
    assert_eq!(*again.data(), shown);
}

#[tokio::test]
async fn a_bad_configuration_is_refused_by_name_and_changes_nothing() {
    let gateway = gateway(json!({})).await;
    let before = gateway.get("/admin/config").await.data().clone();
    for (change, message) in [
        (json!({ "nonsense": 1 }), "nonsense: there is no such setting"),
        (json!({ "request": { "error_505": 1 } }), "request.error_505: there is no such setting"),
        (json!({ "seed": { "a": 1 } }), "seed.a: there is no such setting"),
        (json!({ "request": { "hang": 0.5, "reset": -1 } }), "request.reset: must be from 0 to 1, not -1"),
        (json!({ "request": { "hang": "often" } }), "request.hang: must be a number"),
        (json!({ "request": 1 }), "request: must be an object, because it is a group of settings"),
        (json!({ "request": null }), "request: must be an object, because it is a group of settings"),
        (json!({ "hang_for": "soon" }), "hang_for: \"soon\" is not a duration; write 700ms, 1s, 5m or 2h"),
        (json!({ "hang_for": 5 }), "hang_for: must be a text"),
        (json!({ "key": { "unique": 1 } }), "key.unique: must be true or false"),
        (
            json!({ "settlement": { "success": 0.9 } }),
            "settlement: success, limit_exceeded and invalid_card must add up to 1",
        ),
        (json!({ "outage": "maybe" }), "outage: unknown variant `maybe`"),
        (json!([]), "(body): must be a JSON object of settings"),
        (json!("x"), "(body): must be a JSON object of settings"),
    ] {
        for method in [Method::PATCH, Method::PUT] {
            let reply = gateway.admin(method, "/admin/config", &change).await;
            let (status, error_code, text) = reply.failure();
            assert_eq!((status, error_code), (400, "Bad Request"), "{change}");
            assert!(text.starts_with(message), "{change}: {text}");
        }
    }
    let headers = [("content-type", "application/json")];
    for body in ["", "{", "{\"seed\":1e400}"] {
        let reply = gateway.send(Method::PATCH, "/admin/config", &headers, Some(body.to_owned())).await;
        assert!(reply.failure().2.starts_with("(body): "), "{reply:?}");
    }
    assert_eq!(
        gateway.send(Method::PATCH, "/admin/config", &[], Some("{}".to_owned())).await.failure().0,
        415
    );
    assert_eq!(*gateway.get("/admin/config").await.data(), before);
}

#[tokio::test]
async fn the_ledger_says_everything_but_the_card_number() {
    let gateway = gateway(json!({})).await;
    let key = gateway.accepted(&payment("order-1")).await;
    gateway.accepted(&payment("order-2")).await;
    let entry = eventually("settled and sent", async || {
        let ledger = gateway.get("/admin/ledger?orderId=order-1").await.data().clone();
        Some(ledger["transactions"][0].clone()).filter(|entry| entry["callbacksSent"] == 1)
    })
    .await;
    let time = |name: &str| {
        let text = entry[name].as_str().unwrap_or_default().to_owned();
        assert!(text.ends_with('Z') && text.contains('T'), "{name}: {entry}");
        text
    };
    let expected = json!({
        "id": 1, "transactionKey": key, "orderId": "order-1", "merchant": "holdfast", "cardType": "SAMSUNG",
        "cardNo": "1234-****-****-1451", "requestedAmount": 5000, "amount": 5000, "status": "SUCCESS",
        "reason": "정상 승인되었습니다.", "requestedAt": time("requestedAt"), "createdAt": time("createdAt"),
        "settledAt": time("settledAt"), "flipped": false, "overwritten": false, "wiped": false,
        "callbackUrl": "http://127.0.0.1:9/callback/token", "callbacksSent": 1, "callbacksDelivered": 0,
        "callbackStatus": null,
    });
    assert_eq!(entry, expected);

    let whole = eventually("both settled", async || {
        Some(gateway.get("/admin/ledger").await).filter(|reply| reply.data()["totals"]["success"] == 2)
    })
    .await;
    let totals =
        json!({ "transactions": 2, "pending": 0, "success": 2, "failed": 0, "chargedAmount": 10_000 });
    assert_eq!(whole.data()["totals"], totals);
    let ids = async |query: &str| -> Vec<Value> {
        let reply = gateway.get(&format!("/admin/ledger?{query}")).await;
        reply.data()["transactions"].as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect()
    };
    assert_eq!(ids("after=1").await, [json!(2)]);
    assert_eq!(ids("limit=1").await, [json!(1)]);
    assert_eq!(ids("merchant=other").await, [] as [Value; 0]);
    for query in ["limit=0", "limit=100001", "limit=x", "after=-1", "order=1"] {
        assert_eq!(gateway.get(&format!("/admin/ledger?{query}")).await.failure().0, 400, "{query}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_operation_and_outcome_and_by_order() {
    let gateway = gateway(json!({})).await;
    gateway.next_request("error_500");
    gateway.pay(&payment("order-1")).await;
    let key = gateway.accepted(&payment("order-1")).await;
    gateway.pay(&payment("short")).await;
    gateway.pay_raw("{").await;
    gateway.look_up("holdfast", &format!("/{key}")).await;
    gateway.look_up("holdfast", "?orderId=order-9").await;
    let requests = gateway.get("/admin/requests").await;
    let row = |operation: &str, outcome: &str, count: u64| json!({ "operation": operation, "outcome": outcome, "count": count });
    let expected = json!([
        row("request", "accept", 1),
        row("request", "error_500", 1),
        row("request", "refused", 2),
        row("lookup_by_key", "found", 1),
        row("lookup_by_order", "not_found", 1),
    ]);
    assert_eq!(requests.data()["counts"], expected);
    let orders: Vec<(&str, u64)> = requests.data()["orders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| (order["orderId"].as_str().unwrap(), order["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(orders, [("order-1", 2), ("short", 1)]);

    let one = gateway.get("/admin/requests?orderId=order-1").await;
    let posts = one.data()["orders"][0]["posts"].clone();
    assert_eq!((&posts[0]["outcome"], &posts[0]["transactionKey"]), (&json!("error_500"), &json!(null)));
    assert_eq!((&posts[1]["outcome"], &posts[1]["transactionKey"]), (&json!("accept"), &json!(key)));
    assert_eq!(gateway.get("/admin/requests?order=1").await.failure().0, 400);
}

#[tokio::test]
async fn a_script_decides_what_comes_next() {
    let gateway = gateway(json!({})).await;
    let script =
        json!({ "requests": ["error_500", "create_then_error_500", "accept"], "lookups": ["error_503"] });
    let taken = gateway.admin(Method::POST, "/admin/script", &script).await;
    assert_eq!(*taken.data(), json!({ "requests": 3, "lookups": 1 }));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(gateway.pay(&payment("order-1")).await.status);
    }
    assert_eq!(statuses, [500, 500, 200, 200]);
    assert_eq!(gateway.look_up("holdfast", "?orderId=order-1").await.status, 503);
    let order = gateway.look_up("holdfast", "?orderId=order-1").await;
    assert_eq!(order.data()["transactions"].as_array().unwrap().len(), 3);
    for (script, message) in [
        (json!({ "requests": ["explode"] }), "requests: there is no fate \"explode\""),
        (json!({ "lookups": ["accept"] }), "lookups: there is no fate \"accept\""),
        (json!({ "requests": vec!["accept"; 1_001] }), "requests: at most 1000"),
        (json!({ "request": [] }), "(body): unknown field `request`"),
        (json!({ "requests": "accept" }), "(body): invalid type"),
    ] {
        let reply = gateway.admin(Method::POST, "/admin/script", &script).await;
        let (status, _, text) = reply.failure();
        assert_eq!(status, 400);
        assert!(text.starts_with(message), "{text}");
    }
}

async fn stuck() -> (Gateway, String) {
    let gateway = gateway(json!({ "settlement": { "stuck": 1.0 } })).await;
    let key = gateway.accepted(&payment("order-1")).await;
    (gateway, key)
}

#[tokio::test]
async fn a_transaction_is_settled_by_hand() {
    let (gateway, key) = stuck().await;
    let path = format!("/admin/transactions/{key}/settle");
    for (status, reason) in
        [("FAILED", "한도초과입니다. 다른 카드를 선택해주세요."), ("SUCCESS", "정상 승인되었습니다.")]
    {
        let settled = gateway.admin(Method::POST, &path, &json!({ "status": status })).await;
        assert_eq!((&settled.data()["status"], &settled.data()["reason"]), (&json!(status), &json!(reason)));
        assert_eq!(gateway.look_up("holdfast", &format!("/{key}")).await.data()["status"], status);
    }
    for body in [
        json!({}),
        json!({ "status": "PENDING" }),
        json!({ "status": "success" }),
        json!({ "state": "FAILED" }),
    ] {
        assert_eq!(gateway.admin(Method::POST, &path, &body).await.failure().0, 400, "{body}");
    }
    let unknown = "/admin/transactions/20250816:TR:000000/settle";
    assert_eq!(gateway.admin(Method::POST, unknown, &json!({ "status": "FAILED" })).await.failure().0, 404);
}

#[tokio::test]
async fn it_forgets_restarts_and_begins_anew() {
    let (gateway, key) = stuck().await;
    let post = async |path: &str| gateway.send(Method::POST, path, &[], None).await;
    assert_eq!(*post("/admin/restart").await.data(), json!({ "stuck": 1 }));
    assert_eq!(gateway.look_up("holdfast", &format!("/{key}")).await.data()["status"], "PENDING");

    assert_eq!(*post("/admin/wipe").await.data(), json!({ "wiped": 1 }));
    assert_eq!(gateway.look_up("holdfast", &format!("/{key}")).await.status, 404);
    assert_eq!(gateway.get("/admin/ledger").await.data()["transactions"][0]["wiped"], true);

    gateway.admin(Method::PATCH, "/admin/config", &json!({ "hang_for": "5s", "outage": "hang" })).await;
    assert_eq!(*post("/admin/reset").await.data(), json!({}));
    assert_eq!(gateway.get("/admin/ledger").await.data()["totals"]["transactions"], 0);
    assert_eq!(gateway.get("/admin/requests").await.data()["counts"], json!([]));
    let config = gateway.get("/admin/config").await;
    assert_eq!((&config.data()["hang_for"], &config.data()["outage"]), (&json!("1m"), &json!("off")));
    // The seed begins anew as well.
    assert_eq!(gateway.accepted(&payment("order-1")).await, key);
}

#[tokio::test]
async fn an_outage_switch_says_what_it_wants() {
    let gateway = gateway(json!({})).await;
    for body in [
        json!({}),
        json!({ "on": "yes" }),
        json!({ "on": true, "mode": "off" }),
        json!({ "on": true, "mode": "flood" }),
        json!({ "on": true, "modus": "close" }),
    ] {
        assert_eq!(gateway.admin(Method::POST, "/admin/outage", &body).await.failure().0, 400, "{body}");
    }
    assert_eq!(gateway.get("/admin/config").await.data()["outage"], "off");
    let on = gateway.admin(Method::POST, "/admin/outage", &json!({ "on": true })).await;
    assert_eq!(*on.data(), json!({ "outage": "close" }));
    let off = gateway.admin(Method::POST, "/admin/outage", &json!({ "on": false, "mode": "hang" })).await;
    assert_eq!(*off.data(), json!({ "outage": "off" }));
}

/// Every way of changing a knob while it runs, at the outside: each of these is one behaviour a client can see.
#[tokio::test]
async fn knobs_of_keys_and_amounts_reach_the_wire() {
    let gateway = gateway(json!({ "settlement": { "stuck": 1.0 } })).await;
    let first = gateway.accepted(&payment("order-1")).await;
    gateway.running.patch(&json!({ "key": { "foreign": 1.0 } })).unwrap();
    assert_eq!(gateway.accepted(&payment("order-2")).await, first);
    gateway.running.patch(&json!({ "key": { "foreign": 0.0, "collision": 1.0 } })).unwrap();
    gateway.accepted(&payment("order-3")).await;
    let overwritten = gateway.running.ledger().iter().filter(|entry| entry.overwritten).count();
    assert_eq!(overwritten, 1);

    gateway
        .running
        .patch(&json!({ "key": { "collision": 0.0 }, "request": { "wrong_amount": 1.0 } }))
        .unwrap();
    let key = gateway.accepted(&payment("order-4")).await;
    assert_eq!(gateway.look_up("holdfast", &format!("/{key}")).await.data()["amount"], 6000);

    gateway.running.patch(&json!({ "request": { "decided_at_once": 1.0 } })).unwrap();
    assert_eq!(gateway.pay(&payment("order-5")).await.data()["status"], "SUCCESS");

    gateway.running.patch(&json!({ "lookup": { "visible_after": "1h" } })).unwrap();
    assert_eq!(gateway.look_up("holdfast", "?orderId=order-5").await.status, 404);
    gateway.running.patch(&json!({ "lookup": { "visible_after": "0s", "merchant_scoped": false } })).unwrap();
    assert_eq!(gateway.look_up("other", "?orderId=order-5").await.status, 200);
}
