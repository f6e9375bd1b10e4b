//! The JSON, byte for byte: what is sent, what is understood, and that the card number goes nowhere it should not.

use pg_protocol::{
    Callback, CardType, Envelope, Meta, OrderTransactions, Outcome, PaymentRequest, TransactionAccepted,
    TransactionDetail, TransactionRecord, TransactionStatus, UntokenedCallback, masked_card_no,
    order_transactions_path, reasons, transaction_path,
};

const CARD: &str = "1234-5678-9814-1451";

fn request() -> PaymentRequest<'static> {
    PaymentRequest {
        order_id: "1351039135".into(),
        card_type: CardType::Samsung,
        card_no: CARD.into(),
        amount: 5000,
        callback_url: "http://localhost:8080/api/v1/payments/callback/s3cret".into(),
    }
}

#[test]
fn the_request_is_sent_as_documented_and_reads_back() {
    let json = serde_json::to_string(&request()).unwrap();
    assert_eq!(
        json,
        r#"{"orderId":"1351039135","cardType":"SAMSUNG","cardNo":"1234-5678-9814-1451","amount":5000,"callbackUrl":"http://localhost:8080/api/v1/payments/callback/s3cret"}"#
    );
    assert_eq!(serde_json::from_str::<PaymentRequest<'_>>(&json).unwrap(), request());
}

#[test]
fn the_card_companies_have_their_names_on_the_wire() {
    for (card_type, name) in
        [(CardType::Samsung, "SAMSUNG"), (CardType::Kb, "KB"), (CardType::Hyundai, "HYUNDAI")]
    {
        assert_eq!(serde_json::to_string(&card_type).unwrap(), format!("\"{name}\""));
        assert_eq!(card_type.as_str(), name);
    }
    for unknown in ["\"VISA\"", "\"kb\"", "null", "1"] {
        assert!(serde_json::from_str::<CardType>(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn an_acceptance_is_what_the_documentation_shows() {
    let accepted = TransactionAccepted {
        transaction_key: "20250816:TR:9577c5".to_owned(),
        status: TransactionStatus::Pending,
        reason: None,
    };
    let json = serde_json::to_string(&Envelope::success(accepted.clone())).unwrap();
    assert_eq!(
        json,
        r#"{"meta":{"result":"SUCCESS","errorCode":null,"message":null},"data":{"transactionKey":"20250816:TR:9577c5","status":"PENDING","reason":null}}"#
    );
    assert_eq!(serde_json::from_str::<Envelope<TransactionAccepted>>(&json).unwrap().data, Some(accepted));
}

#[test]
fn a_failure_bears_the_reason_phrase_and_no_data() {
    let failure = Envelope::<()>::failure(
        "Internal Server Error",
        "현재 서버가 불안정합니다. 잠시 후 다시 시도해주세요.",
    );
    assert_eq!(
        serde_json::to_string(&failure).unwrap(),
        r#"{"meta":{"result":"FAIL","errorCode":"Internal Server Error","message":"현재 서버가 불안정합니다. 잠시 후 다시 시도해주세요."},"data":null}"#
    );
}

#[test]
fn a_success_without_data_is_readable_and_says_nothing() {
    for json in [
        r#"{"meta":{"result":"SUCCESS","errorCode":null,"message":null},"data":null}"#,
        r#"{"meta":{"result":"SUCCESS"}}"#,
    ] {
        let envelope: Envelope<TransactionAccepted> = serde_json::from_str(json).unwrap();
        assert_eq!(envelope.meta, Meta { result: Outcome::Success, error_code: None, message: None });
        assert_eq!(envelope.data, None);
    }
    let odd: Envelope<TransactionAccepted> =
        serde_json::from_str(r#"{"meta":{"result":"MAYBE"},"data":null}"#).unwrap();
    assert_eq!(odd.meta.result, Outcome::Unknown);
}

#[test]
fn answers_of_other_gateways_with_more_fields_are_understood() {
    let json = r#"{"meta":{"result":"FAIL","errorCode":"BAD_REQUEST","message":"no","traceId":"x"},"data":null,"version":2}"#;
    let envelope: Envelope<TransactionAccepted> = serde_json::from_str(json).unwrap();
    assert_eq!(envelope.meta.error_code.as_deref(), Some("BAD_REQUEST"));
}

#[test]
fn what_is_no_envelope_is_an_error() {
    for json in ["", "{}", "[]", "null", "\"ok\"", r#"{"data":{}}"#, r#"{"meta":null}"#, r#"{"meta":{}}"#] {
        assert!(serde_json::from_str::<Envelope<TransactionAccepted>>(json).is_err(), "{json}");
    }
    let without_key = r#"{"meta":{"result":"SUCCESS"},"data":{"status":"PENDING"}}"#;
    assert!(serde_json::from_str::<Envelope<TransactionAccepted>>(without_key).is_err());
}

#[test]
fn an_unknown_status_keeps_the_key_that_came_with_it() {
    let accepted: TransactionAccepted =
        serde_json::from_str(r#"{"transactionKey":"20250816:TR:9577c5","status":"ON_HOLD"}"#).unwrap();
    assert_eq!(accepted.status, TransactionStatus::Unknown);
    assert_eq!(accepted.transaction_key, "20250816:TR:9577c5");
    assert!(!accepted.status.is_final());
    assert!(!TransactionStatus::Pending.is_final());
    assert!(TransactionStatus::Success.is_final() && TransactionStatus::Failed.is_final());
}

#[test]
fn an_orders_transactions_read_back_without_amounts() {
    let json = r#"{"orderId":"1351039135","transactions":[{"transactionKey":"20250816:TR:9577c5","status":"FAILED","reason":"한도초과입니다. 다른 카드를 선택해주세요."},{"transactionKey":"20250816:TR:000001","status":"SUCCESS","reason":"정상 승인되었습니다."}]}"#;
    let order: OrderTransactions = serde_json::from_str(json).unwrap();
    assert_eq!(order.transactions.len(), 2);
    assert_eq!(order.transactions[0].reason.as_deref(), Some(reasons::LIMIT_EXCEEDED));
    assert_eq!(order.transactions[1].reason.as_deref(), Some(reasons::APPROVED));
    assert_eq!(serde_json::to_string(&order).unwrap(), json);
}

#[test]
fn a_transaction_is_sent_with_seven_fields_and_read_without_the_card() {
    let record = TransactionRecord {
        transaction_key: "20250816:TR:9577c5",
        order_id: "1351039135",
        card_type: CardType::Kb,
        card_no: CARD,
        amount: 5000,
        status: TransactionStatus::Failed,
        reason: Some(reasons::INVALID_CARD),
    };
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(
        json,
        r#"{"transactionKey":"20250816:TR:9577c5","orderId":"1351039135","cardType":"KB","cardNo":"1234-5678-9814-1451","amount":5000,"status":"FAILED","reason":"잘못된 카드입니다. 다른 카드를 선택해주세요."}"#
    );

    let detail: TransactionDetail = serde_json::from_str(&json).unwrap();
    assert_eq!((detail.order_id.as_str(), detail.amount), ("1351039135", 5000));
    assert_eq!(detail.status, TransactionStatus::Failed);
    assert_eq!(detail.reason.as_deref(), Some(reasons::INVALID_CARD));
    let callback: Callback = serde_json::from_str(&json).unwrap();
    assert_eq!(callback.transaction_key, "20250816:TR:9577c5");
    let untokened: UntokenedCallback = serde_json::from_str(&json).unwrap();
    assert_eq!(untokened.order_id, "1351039135");

    for shown in
        [format!("{record:?}"), format!("{detail:?}"), format!("{callback:?}"), format!("{untokened:?}")]
    {
        assert!(!shown.contains("5678"), "{shown}");
    }
}

#[test]
fn of_a_callback_one_text_is_read_whatever_the_rest_is() {
    for rest in ["null", "1.5", "\"15000\"", "[[]]", "{\"a\":1}", "1e999", "true"] {
        let body = format!(r#"{{"amount":{rest},"status":{rest},"reason":{rest},"cardNo":{rest},"#);
        let tokened = format!(r#"{body}"orderId":{rest},"transactionKey":"k"}}"#);
        assert_eq!(serde_json::from_str::<Callback>(&tokened).unwrap().transaction_key, "k", "{tokened}");
        for (id, expected) in
            [("\"007\"", "007"), ("7", "7"), ("-7", "-7"), ("18446744073709551615", "18446744073709551615")]
        {
            let untokened = format!(r#"{body}"transactionKey":{rest},"orderId":{id}}}"#);
            let read = serde_json::from_str::<UntokenedCallback>(&untokened).unwrap();
            assert_eq!(read.order_id, expected, "{untokened}");
        }
    }
    for wrong in ["null", "1.5", "1e3", "[]", "{}", "true"] {
        assert!(
            serde_json::from_str::<UntokenedCallback>(&format!(r#"{{"orderId":{wrong}}}"#)).is_err(),
            "{wrong}"
        );
        assert!(
            serde_json::from_str::<Callback>(&format!(r#"{{"transactionKey":{wrong}}}"#)).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn amounts_at_the_limits_survive_and_others_are_refused() {
    for amount in [i64::MAX, i64::MIN, 0] {
        let json = serde_json::to_string(&PaymentRequest { amount, ..request() }).unwrap();
        assert_eq!(serde_json::from_str::<PaymentRequest<'_>>(&json).unwrap().amount, amount);
    }
    for amount in ["9223372036854775808", "1.5", "\"5000\"", "null"] {
        let json = serde_json::to_string(&request()).unwrap().replace("5000", amount);
        assert!(serde_json::from_str::<PaymentRequest<'_>>(&json).is_err(), "{amount}");
    }
}

#[test]
fn debug_shows_neither_the_card_number_nor_the_callback_token() {
    let shown = format!("{:?}", request());
    assert!(shown.contains("1234-****-****-1451"), "{shown}");
    assert!(!shown.contains("5678") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn masking_shows_the_outer_groups_of_a_card_number_and_nothing_of_anything_else() {
    assert_eq!(masked_card_no(CARD), "1234-****-****-1451");
    for other in
        ["", "1234567898141451", "1234-5678-9814-145", "1234-5678-9814-1451-1", "abcd-5678-9814-1451", "é"]
    {
        assert_eq!(masked_card_no(other), "****", "{other}");
    }
}

#[test]
fn paths_keep_keys_readable_and_cannot_be_escaped_from() {
    assert_eq!(transaction_path("20250816:TR:9577c5"), "/api/v1/payments/20250816:TR:9577c5");
    assert_eq!(transaction_path("../admin?x=1#y"), "/api/v1/payments/..%2Fadmin%3Fx%3D1%23y");
    assert_eq!(order_transactions_path("1351039135"), "/api/v1/payments?orderId=1351039135");
    assert_eq!(order_transactions_path("a b&c=d한"), "/api/v1/payments?orderId=a%20b%26c%3Dd%ED%95%9C");
}
