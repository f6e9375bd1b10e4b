//! What a merchant is told, how often, and what the gateway makes of the answer: nothing.

use serde_json::json;

use crate::support::{CARD, Merchant, but, eventually, gateway, payment};

#[tokio::test]
async fn a_merchant_is_told_once_with_seven_fields_and_no_envelope() {
    let gateway = gateway(json!({})).await;
    let mut merchant = Merchant::answering(200).await;
    let key = gateway.accepted(&but(payment("order-1"), "callbackUrl", json!(merchant.url))).await;
    let told = merchant.told().await;
    let expected = json!({
        "transactionKey": key, "orderId": "order-1", "cardType": "SAMSUNG", "cardNo": CARD, "amount": 5000,
        "status": "SUCCESS", "reason": "정상 승인되었습니다.",
    });
    assert_eq!(told.body, expected);
    assert!(told.head.starts_with("post /callback/t0ken http/1.1\r\n"), "{}", told.head);
    assert!(told.head.contains("\r\ncontent-type: application/json"), "{}", told.head);
    let entry = eventually("delivered", async || {
        gateway.running.ledger().into_iter().find(|entry| entry.callbacks_delivered == 1)
    })
    .await;
    assert_eq!((entry.callbacks_sent, entry.callback_status), (1, Some(200)));
}

/// What the merchant answers changes nothing, a redirect is not followed, and nothing is ever sent again.
#[tokio::test]
async fn the_answer_to_a_callback_is_ignored() {
    for status in [302, 307, 404, 500, 503] {
        let gateway = gateway(json!({})).await;
        let mut merchant = Merchant::answering(status).await;
        gateway.accepted(&but(payment("order-1"), "callbackUrl", json!(merchant.url))).await;
        merchant.told().await;
        eventually("answered", async || {
            gateway.running.ledger().into_iter().find(|entry| entry.callback_status == Some(status))
        })
        .await;
        // A second payment's callback comes after a repetition of the first would have come.
        gateway.accepted(&but(payment("order-2"), "callbackUrl", json!(merchant.url))).await;
        assert_eq!(merchant.told().await.body["orderId"], "order-2", "{status}");
        assert!(merchant.told_already().is_none(), "{status}");
    }
}

#[tokio::test]
async fn a_callback_that_reaches_nobody_is_written_down_as_undelivered() {
    let gateway = gateway(json!({})).await;
    gateway.accepted(&payment("order-1")).await;
    let entry = eventually("sent", async || {
        gateway.running.ledger().into_iter().find(|entry| entry.callbacks_sent == 1)
    })
    .await;
    assert_eq!((entry.callbacks_delivered, entry.callback_status), (0, None));
}

#[tokio::test]
async fn callbacks_misbehave_as_told() {
    let ours = |merchant: &Merchant, order: &str| but(payment(order), "callbackUrl", json!(merchant.url));
    let duplicated = json!({ "callback": { "duplicated": 1.0, "copies": 20 } });
    let gateway_of_copies = gateway(duplicated).await;
    let mut merchant = Merchant::answering(200).await;
    gateway_of_copies.accepted(&ours(&merchant, "order-1")).await;
    for _ in 0..20 {
        assert_eq!(merchant.told().await.body["orderId"], "order-1");
    }

    let wrong = gateway(json!({ "callback": { "wrong_amount": 1.0 }, "amount_delta": -4999 })).await;
    wrong.accepted(&ours(&merchant, "order-2")).await;
    assert_eq!(merchant.told().await.body["amount"], 1);

    let refusing = json!({
        "callback": { "forged": 1.0 }, "settlement": { "success": 0.0, "invalid_card": 1.0 },
    });
    let forging = gateway(refusing).await;
    forging.accepted(&ours(&merchant, "order-3")).await;
    let mut statuses =
        vec![merchant.told().await.body["status"].clone(), merchant.told().await.body["status"].clone()];
    statuses.sort_by_key(ToString::to_string);
    assert_eq!(statuses, [json!("FAILED"), json!("SUCCESS")]);

    let dropping = gateway(json!({ "callback": { "dropped": 1.0 } })).await;
    dropping.accepted(&ours(&merchant, "order-4")).await;
    eventually("settled", async || dropping.running.ledger().into_iter().find(|it| it.settled_at.is_some()))
        .await;
    assert_eq!(dropping.running.ledger()[0].callbacks_sent, 0);
    assert!(merchant.told_already().is_none());
}

/// It is sent 300 ms ahead. On a machine so slow that the answer overtakes it, another payment shows it.
#[tokio::test]
async fn a_callback_can_come_before_the_answer() {
    let gateway = gateway(json!({ "callback": { "before_answer": 1.0 } })).await;
    let mut merchant = Merchant::answering(200).await;
    let body = but(payment("order-1"), "callbackUrl", json!(merchant.url));
    eventually("a callback before its answer", async || {
        let (told, answered) =
            tokio::join!(async { (merchant.told().await, tokio::time::Instant::now()) }, async {
                (gateway.pay(&body).await, tokio::time::Instant::now())
            },);
        assert_eq!(answered.0.data()["status"], "PENDING");
        assert_eq!(told.0.body["transactionKey"], answered.0.data()["transactionKey"]);
        Some(()).filter(|()| told.1 < answered.1)
    })
    .await;
}
