use super::*;
use crate::transport::cause::{self, of_status};
use proptest::prelude::*;

const KEY: &str = "20250816:TR:9577c5";

fn answer(status: u16, body: &str) -> Answer {
    let body = Body::Whole(body.as_bytes().to_vec());
    Answer { status, is_json: true, retry_after: None, body }
}

fn success(data: &str) -> String {
    format!(r#"{{"meta":{{"result":"SUCCESS","errorCode":null,"message":null}},"data":{data}}}"#)
}

fn failure(message: &str) -> String {
    format!(r#"{{"meta":{{"result":"FAIL","errorCode":"Bad Request","message":"{message}"}},"data":null}}"#)
}

fn made(key: &str, status: &str) -> String {
    success(&format!(r#"{{"transactionKey":"{key}","status":"{status}","reason":null}}"#))
}

fn key() -> GatewayKey {
    GatewayKey::new(KEY).unwrap()
}

fn uncertain(cause: FailureCause) -> PaymentAttempt {
    PaymentAttempt::Uncertain { cause }
}

#[test]
fn a_key_makes_it_accepted_whatever_its_status() {
    for (wire, status) in [
        ("PENDING", TransactionStatus::Pending),
        ("SUCCESS", TransactionStatus::Success),
        ("FAILED", TransactionStatus::Failed),
        ("REVIEWING", TransactionStatus::Pending),
    ] {
        let expected = PaymentAttempt::Accepted { key: key(), status };
        assert_eq!(payment(&answer(200, &made(KEY, wire))), expected, "{wire}");
        assert_eq!(payment(&answer(201, &made(KEY, wire))), expected, "{wire}");
    }
}

#[test]
fn a_success_that_says_nothing_is_uncertain() {
    for (body, cause) in [
        ("", cause::UNREADABLE_BODY),
        ("<html>", cause::UNREADABLE_BODY),
        ("null", cause::UNREADABLE_BODY),
        ("{}", cause::UNREADABLE_BODY),
        (r#"{"data":{"transactionKey":"a","status":"PENDING"}}"#, cause::UNREADABLE_BODY),
        (&success("null"), cause::NO_DATA),
        (&success("{}"), cause::UNREADABLE_BODY),
        (&success("[]"), cause::UNREADABLE_BODY),
        (&made("", "PENDING"), cause::BAD_KEY),
        (&made("a b", "PENDING"), cause::BAD_KEY),
        (&made(&"k".repeat(101), "PENDING"), cause::BAD_KEY),
        (&failure("no"), cause::CONTRADICTORY_BODY),
        (&made(KEY, "PENDING").replace("SUCCESS", "MAYBE"), cause::CONTRADICTORY_BODY),
        (made(KEY, "PENDING").split_at(60).0, cause::UNREADABLE_BODY),
        (&"[".repeat(100_000), cause::UNREADABLE_BODY),
    ] {
        assert_eq!(payment(&answer(200, body)), uncertain(cause), "{body}");
    }
    let not_json = Answer { is_json: false, ..answer(200, &made(KEY, "PENDING")) };
    assert_eq!(payment(&not_json), uncertain(cause::WRONG_CONTENT_TYPE));
    for cause in [cause::READ_TIMEOUT, cause::CONNECTION_CLOSED] {
        assert_eq!(payment(&Answer { body: Body::Broken(cause), ..answer(200, "") }), uncertain(cause));
    }
    let too_large = Answer { body: Body::TooLarge, ..answer(200, "") };
    assert_eq!(payment(&too_large), uncertain(cause::BODY_TOO_LARGE));
}

#[test]
fn a_400_is_a_refusal_only_with_its_envelope() {
    let refused = |text: &str| PaymentAttempt::Rejected { message: FailureMessage::from_outside(text) };
    assert_eq!(payment(&answer(400, &failure("한도초과입니다."))), refused("한도초과입니다."));
    assert_eq!(payment(&answer(400, &failure(" "))), refused(DECLINED_MESSAGE));
    let without_message = r#"{"meta":{"result":"FAIL"},"data":{"any":["thing"]}}"#;
    assert_eq!(payment(&answer(400, without_message)), refused(DECLINED_MESSAGE));
    for body in ["", "Bad Request", "{}", &made(KEY, "PENDING"), r#"{"error":"bad"}"#] {
        assert_eq!(payment(&answer(400, body)), uncertain(cause::HTTP_400), "{body}");
    }
    let cut = Answer { body: Body::Broken(cause::CONNECTION_CLOSED), ..answer(400, "") };
    assert_eq!(payment(&cut), uncertain(cause::HTTP_400));
    let html = Answer { is_json: false, ..answer(400, &failure("no")) };
    assert_eq!(payment(&html), uncertain(cause::HTTP_400));
}

/// The allow-list, status by status: whoever widens it must change this test.
#[test]
fn every_status_but_the_listed_ones_is_uncertain() {
    for status in 100..=999 {
        let attempt = payment(&answer(status, "<html>"));
        match status {
            429 | 500 | 503 => {
                let may_have_created = status != 429;
                let cause = of_status(status);
                let expected = PaymentAttempt::NotReached { cause, may_have_created, retry_after: None };
                assert_eq!(attempt, expected);
            }
            401 | 403 | 404 | 405 => {
                assert_eq!(attempt, PaymentAttempt::Misconfigured { status, readable: false });
                let told = payment(&answer(status, &failure("no")));
                assert_eq!(told, PaymentAttempt::Misconfigured { status, readable: true });
            }
            _ => assert!(matches!(attempt, PaymentAttempt::Uncertain { .. }), "{status}: {attempt:?}"),
        }
    }
}

fn detail(key: &str, amount: i64, status: &str) -> String {
    success(&format!(
        r#"{{"transactionKey":"{key}","orderId":"000007","cardType":"KB","cardNo":"1234-5678-9814-1451","amount":{amount},"status":"{status}","reason":"정상 승인되었습니다."}}"#
    ))
}

#[test]
fn a_transaction_is_read_without_its_card() {
    let found = by_key(&answer(200, &detail(KEY, 5000, "SUCCESS")), &key()).unwrap();
    assert!(!format!("{found:?}").contains("1451"));
    let Lookup::Found(transaction) = found else { panic!("{found:?}") };
    assert_eq!(transaction.order_ref.as_str(), "000007");
    assert_eq!((transaction.amount.won(), transaction.status), (5000, TransactionStatus::Success));
    assert_eq!(transaction.reason.as_deref(), Some("정상 승인되었습니다."));
}

#[test]
fn a_look_up_believes_only_what_it_asked_for() {
    let failure_of = |status, body: &str| by_key(&answer(status, body), &key()).unwrap_err();
    for status in [400, 401, 403, 405] {
        assert_eq!(failure_of(status, &failure("no")), LookupFailure::Misconfigured { status });
    }
    for status in [302, 404, 408, 429, 500, 502, 503, 504] {
        assert_eq!(failure_of(status, "<html>"), unreachable(of_status(status)));
    }
}

fn unreachable(cause: FailureCause) -> LookupFailure {
    LookupFailure::Unreachable { cause, retry_after: None }
}

/// The gateway is there, and what it says of this payment can't be used: nobody else is concerned.
#[test]
fn a_readable_answer_with_odd_content_is_this_payments_trouble_alone() {
    let odd_by_key = |body: &str| by_key(&answer(200, body), &key()).unwrap_err();
    let well = detail(KEY, 5000, "SUCCESS");
    for (body, what) in [
        (well.replace("\"SUCCESS\",\"reason\"", "\"CANCELED\",\"reason\""), Oddity::UnknownStatus),
        (detail("other", 1, "SUCCESS"), Oddity::WrongSubject),
        (detail(&"k".repeat(101), 1, "SUCCESS"), Oddity::WrongSubject),
        (detail(KEY, i64::MAX, "SUCCESS"), Oddity::BadAmount),
        (well.replace("5000", "\"five thousand\""), Oddity::Unreadable),
        (well.replace("5000", "5000.5"), Oddity::Unreadable),
        (well.replace("5000", "null"), Oddity::Unreadable),
        (well.replace("\"amount\":5000,", ""), Oddity::Unreadable),
        (well.replace("\"000007\"", "7"), Oddity::Unreadable),
        (well.replace("\"SUCCESS\",\"reason\"", "null,\"reason\""), Oddity::Unreadable),
        (success("[]"), Oddity::Unreadable),
        (success("\"20250816\""), Oddity::Unreadable),
        (success("null"), Oddity::NoData),
        (well.split_once(",\"data\"").unwrap().0.to_owned() + "}", Oddity::NoData),
    ] {
        assert_eq!(odd_by_key(&body), odd(what), "{body}");
    }
    let too_large = Answer { body: Body::TooLarge, ..answer(200, "") };
    assert_eq!(by_key(&too_large, &key()).unwrap_err(), odd(Oddity::TooLarge));
}

/// What is not in the gateway's own envelope, or says that the gateway failed, would be so for any payment.
#[test]
fn what_is_not_the_gateways_own_answer_is_nobodys_trouble_but_the_gateways() {
    let well = detail(KEY, 5000, "SUCCESS");
    for (body, cause) in [
        ("", cause::UNREADABLE_BODY),
        ("}{", cause::UNREADABLE_BODY),
        (r#"{"error":"upstream"}"#, cause::UNREADABLE_BODY),
        (well.split_at(90).0, cause::UNREADABLE_BODY),
        (&failure("점검 중입니다."), cause::CONTRADICTORY_BODY),
        (&failure("점검 중입니다.").replace("null}", "{\"until\":1}}"), cause::CONTRADICTORY_BODY),
        (&well.replace("\"result\":\"SUCCESS\"", "\"result\":\"MAYBE\""), cause::CONTRADICTORY_BODY),
    ] {
        assert_eq!(by_key(&answer(200, body), &key()), Err(unreachable(cause)), "{body}");
    }
    for body in [Body::Whole(well.into_bytes()), Body::TooLarge] {
        let page = Answer { is_json: false, body, ..answer(200, "") };
        let Err(LookupFailure::Unreachable { .. }) = by_key(&page, &key()) else { panic!("{page:?}") };
    }
    let cut = Answer { body: Body::Broken(cause::READ_TIMEOUT), ..answer(200, "") };
    assert_eq!(by_key(&cut, &key()), Err(unreachable(cause::READ_TIMEOUT)));
    let busy = Answer { retry_after: Some(Duration::from_secs(7)), ..answer(429, "") };
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(
        by_key(&busy, &key()),
        Err(LookupFailure::Unreachable { cause: cause::HTTP_429, retry_after })
    );
}

#[test]
fn not_found_is_believed_only_from_the_gateway_itself() {
    let not_found = failure("없습니다");
    assert_eq!(by_key(&answer(404, &not_found), &key()), Ok(Lookup::NotFound));
    for body in ["", "<html>not found</html>", r#"{"error":"no route"}"#, &made(KEY, "PENDING")] {
        assert_eq!(by_key(&answer(404, body), &key()), Err(unreachable(cause::HTTP_404)), "{body}");
    }
}

#[test]
fn a_list_is_taken_whole_or_not_at_all() {
    let order = GatewayOrderRef::from_gateway("000007");
    let list = |lines: &str| {
        let body = success(&format!(r#"{{"orderId":"000007","transactions":[{lines}]}}"#));
        by_order(&answer(200, &body), &order)
    };
    let line = |key: &str, status: &str| {
        format!(r#"{{"transactionKey":"{key}","status":"{status}","reason":null}}"#)
    };
    assert_eq!(list(""), Ok(Lookup::NotFound));
    let two = list(&format!("{},{}", line("a", "FAILED"), line("b", "SUCCESS"))).unwrap();
    assert!(matches!(two, Lookup::Found(lines) if lines.len() == 2));
    assert_eq!(list(&line("a b", "FAILED")), Err(odd(Oddity::BadKey)));
    assert_eq!(list(&line(&"k".repeat(101), "FAILED")), Err(odd(Oddity::BadKey)));
    let mixed = format!("{},{}", line("a", "SUCCESS"), line("b", "NEW"));
    assert_eq!(list(&mixed), Err(odd(Oddity::UnknownStatus)));
    assert_eq!(list("{},"), Err(unreachable(cause::UNREADABLE_BODY)));
    assert_eq!(list("{}"), Err(odd(Oddity::Unreadable)));
    let other = success(r#"{"orderId":"000008","transactions":[]}"#);
    assert_eq!(by_order(&answer(200, &other), &order), Err(odd(Oddity::WrongSubject)));
}

#[test]
fn card_numbers_are_struck_out_of_texts() {
    for (text, shown) in [
        ("잘못된 카드 1234-5678-9814-1451 입니다", "잘못된 카드 **** 입니다"),
        ("1234567898141451", "****"),
        ("1234 5678 9814 1451.", "****."),
        ("1234.5678.9814.1451", "****"),
        ("card=1234-5678-9814-145,", "card=****,"),
        ("12-34-5678", "12-34-5678"),
        ("20250816:TR:9577c5", "20250816:TR:9577c5"),
        ("한도 1000000원, 사용 250000원", "한도 1000000원, 사용 250000원"),
        ("", ""),
    ] {
        assert_eq!(without_card_numbers(text), shown, "{text}");
    }
    let refused = payment(&answer(400, &failure("카드 1234-5678-9814-1451")));
    assert!(!format!("{refused:?}").contains("5678"), "{refused:?}");
}

#[test]
fn retry_after_comes_as_seconds_or_as_a_date() {
    let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
    for (value, wait) in [
        (Some("3"), Some(3)),
        (Some(" 0 "), Some(0)),
        (Some("Sun, 06 Nov 1994 08:49:42 GMT"), Some(5)),
        (Some("Sun, 06 Nov 1994 08:49:30 GMT"), Some(0)),
        (Some("99999999999"), Some(3600)),
        (Some("99999999999999999999999"), None),
        (Some("-1"), None),
        (Some("soon"), None),
        (None, None),
    ] {
        assert_eq!(retry_after(value, date), wait.map(Duration::from_secs), "{value:?}");
    }
    assert_eq!(retry_after(Some("Sun, 06 Nov 1994 08:49:42 GMT"), None), None);
}

#[test]
fn json_is_told_by_its_media_type() {
    for yes in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
        assert!(is_json(Some(yes)), "{yes}");
    }
    for no in ["", "text/html", "text/json", "application/jsonp", "application/+json", "json", "é+json"] {
        assert!(!is_json(Some(no)), "{no}");
    }
    assert!(!is_json(None));
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(status in 100_u16..1000, body: Vec<u8>, is_json: bool) {
        let answer = Answer { status, is_json, retry_after: None, body: Body::Whole(body) };
        let _attempt = payment(&answer);
        prop_assert!(by_key(&answer, &key()).is_err());
        prop_assert!(by_order(&answer, &GatewayOrderRef::from_gateway("000007")).is_err());
    }

    #[test]
    fn no_card_number_survives(before in "\\PC{0,10}", digits in "[0-9]{13,19}", after in "\\PC{0,10}") {
        let shown = without_card_numbers(&format!("{before}{digits}{after}"));
        prop_assert!(!shown.contains(&digits));
    }

    #[test]
    fn other_texts_stay_as_they_are(text in "[^0-9]{0,40}") {
        prop_assert_eq!(without_card_numbers(&text), text);
    }

    #[test]
    fn any_retry_after_is_read_without_panic(value in "\\PC{0,40}") {
        let wait = retry_after(Some(&value), Some(&value));
        prop_assert!(wait.is_none_or(|wait| wait <= LONGEST_RETRY_AFTER));
    }
}
