//! Whatever is sent, nothing of it is our fault: never a 5xx, never an answer outside the envelope, never a panic.

use crate::support::Server;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// JSON of any shape.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<u128>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no NaN", |value| value.is_finite())
            .prop_map(|value| value.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("\"1234-5678-9814-1451\"".to_owned()),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "items",
            "productId",
            "quantity",
            "usePoint",
            "issuedCouponId",
            "cardType",
            "cardNo",
            "transactionKey",
            "orderId",
            "amount",
            "status",
            "reason",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        let pair = (key.clone(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(pair, 0..6).prop_map(|pairs| {
                let pairs: Vec<String> = pairs
                    .into_iter()
                    .map(|(key, value)| format!("{}:{value}", serde_json::to_string(&key).unwrap()))
                    .collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

/// Orders that are almost right.
fn order() -> impl Strategy<Value = String> {
    let number = || {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            (0_i64..5).prop_map(|n| n.to_string()),
            any_json()
        ]
    };
    let line = (number(), number())
        .prop_map(|(id, quantity)| format!(r#"{{"productId":{id},"quantity":{quantity}}}"#));
    (prop::collection::vec(line, 0..4), number(), number(), any_json(), any_json()).prop_map(
        |(lines, points, coupon, card_type, card_no)| {
            format!(
                r#"{{"items":[{}],"usePoint":{points},"issuedCouponId":{coupon},"cardType":{card_type},"cardNo":{card_no}}}"#,
                lines.join(",")
            )
        },
    )
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => order().prop_map(String::into_bytes),
        2 => any_json().prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

/// F22, F55.
#[test]
fn no_body_is_our_fault() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(async { Server::start() });
    let product = runtime.block_on(server.product(10, 1_000_000));
    assert_eq!(product, 1, "the generated orders name it");
    let paths = [
        "/api/v1/orders",
        "/api/v1/points/charge",
        "/api/v1/payments/callback",
        "/api/v1/payments/callback/0123456789abcdef",
    ];
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(body(), prop::sample::select(paths.to_vec())), |(body, path)| {
        let told = runtime.block_on(server.post(path, &body).send());
        let value = told.value();
        if told.status >= 500 || value["meta"]["result"].as_str().is_none() {
            return Err(TestCaseError::fail(format!("{} {}", told.status, told.body)));
        }
        let sent_card = body.windows(4).any(|part| part == b"5678");
        if sent_card && told.body.contains("5678") {
            return Err(TestCaseError::fail(format!("a card number is repeated: {}", told.body)));
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn no_path_query_or_header_is_our_fault() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(async { Server::start() });
    let path = prop_oneof![
        "/api/v1/(orders|payments|products|issued-coupons)/[-+%0-9a-f/]{0,24}",
        "/api/v1/orders\\?(status|cursor|limit|wait)=[!-~&&[^ ]]{0,24}",
        "/[!-~&&[^ #]]{0,40}",
        "/docs/[!-~&&[^ #]]{0,20}",
    ];
    let user = "[ -~]{0,24}";
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(path, user), |(path, user)| {
        let request =
            server.get(&path).without("X-USER-ID").header("X-USER-ID", &user).header("Last-Event-ID", &user);
        let told = runtime.block_on(request.send());
        if told.status >= 500 {
            return Err(TestCaseError::fail(format!("{} {}", told.status, told.body)));
        }
        // A request line that is no HTTP never gets as far as the envelope.
        let parsed = told.header("x-request-id").is_some();
        if parsed && told.status >= 400 && told.value()["meta"]["result"] != "FAIL" {
            return Err(TestCaseError::fail(told.body));
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
