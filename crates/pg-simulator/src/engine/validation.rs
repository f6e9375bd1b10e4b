//! What the gateway refuses, in the order in which it looks: header, JSON, order id, card number, amount, callback URL.

use pg_protocol::PaymentRequest;
use serde_json::Value;

use super::answer::Refusal;

/// Merchants without this many characters in their order id are refused.
const SHORTEST_ORDER_ID: usize = 6;

/// Who asks. The header must be there; that it says nobody is not noticed.
pub(super) fn merchant(header: Option<&str>) -> Result<&str, Refusal> {
    header.ok_or_else(|| Refusal::bad_request("유저 ID 헤더는 필수입니다."))
}

/// Reads the body. Nothing of it is repeated in the message but the card type: it bears a card number.
pub(super) fn parse(body: &[u8]) -> Result<PaymentRequest<'_>, Refusal> {
    serde_json::from_slice(body).or_else(|_| coerced(body).ok_or_else(|| unreadable(body)))
}

/// The body with numbers where texts are wanted, and the other way round, as its JSON reader takes them: the amount may be a
/// text of digits, the texts may be numbers.
fn coerced(body: &[u8]) -> Option<PaymentRequest<'static>> {
    let Value::Object(mut members) = serde_json::from_slice(body).ok()? else { return None };
    if let Some(amount) = members.get_mut("amount")
        && let Some(text) = amount.as_str()
    {
        *amount = Value::from(text.trim().parse::<i64>().ok()?);
    }
    for field in ["orderId", "cardNo", "callbackUrl"] {
        if let Some(member @ Value::Number(_)) = members.get_mut(field) {
            *member = Value::String(member.to_string());
        }
    }
    serde_json::from_value(Value::Object(members)).ok()
}

fn unreadable(body: &[u8]) -> Refusal {
    const FIELDS: [&str; 5] = ["orderId", "cardType", "cardNo", "amount", "callbackUrl"];
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(body) else {
        return Refusal::bad_request(
            "요청 본문을 처리하는 데 문제가 발생했습니다. JSON 메세지 규격을 확인해주세요.",
        );
    };
    for field in FIELDS {
        match members.get(field) {
            None | Some(Value::Null) => {
                return Refusal::bad_request(format!("필수 필드 '{field}'이(가) 누락되었습니다."));
            }
            Some(_) => {}
        }
    }
    if let Some(Value::String(card_type)) = members.get("cardType")
        && !["SAMSUNG", "KB", "HYUNDAI"].contains(&card_type.as_str())
    {
        let shown: String =
            card_type.chars().filter(|character| character.is_alphabetic()).take(20).collect();
        return Refusal::bad_request(format!(
            "필드 'cardType'의 값 '{shown}'이(가) 올바르지 않습니다. 사용 가능한 값 : [SAMSUNG, KB, HYUNDAI]"
        ));
    }
    let wrong = FIELDS.into_iter().find(|field| match members.get(*field) {
        Some(Value::String(_)) => *field == "amount",
        Some(Value::Number(number)) => *field != "amount" || number.as_i64().is_none(),
        _ => true,
    });
    Refusal::bad_request(match wrong {
        Some(field) => format!("필드 '{field}'의 값이 예상 타입과 일치하지 않습니다."),
        None => "요청 본문을 처리하는 데 문제가 발생했습니다. JSON 메세지 규격을 확인해주세요.".to_owned(),
    })
}

/// Holds a readable request against the rules.
pub(super) fn check(request: &PaymentRequest<'_>, callback_url_prefix: &str) -> Result<(), Refusal> {
    if request.order_id.trim().is_empty() || request.order_id.chars().count() < SHORTEST_ORDER_ID {
        return Err(Refusal::bad_request("주문 ID는 6자리 이상 문자열이어야 합니다."));
    }
    if !is_card_no(&request.card_no) {
        return Err(Refusal::bad_request("카드 번호는 xxxx-xxxx-xxxx-xxxx 형식이어야 합니다."));
    }
    if request.amount <= 0 {
        return Err(Refusal::bad_request("결제금액은 양의 정수여야 합니다."));
    }
    if !request.callback_url.starts_with(callback_url_prefix) {
        return Err(Refusal::bad_request(format!("콜백 URL 은 {callback_url_prefix} 로 시작해야 합니다.")));
    }
    Ok(())
}

/// `dddd-dddd-dddd-dddd`, ASCII digits.
fn is_card_no(text: &str) -> bool {
    let mut groups = 0;
    for group in text.split('-') {
        groups += 1;
        if group.len() != 4 || !group.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
    }
    groups == 4
}

/// 404 of a look-up by key.
pub(super) fn no_such_transaction(key: &str) -> Refusal {
    Refusal::not_found(format!("(transactionKey: {key}) 결제건이 존재하지 않습니다."))
}

/// 404 of a look-up by order.
pub(super) fn no_such_order(order_id: &str) -> Refusal {
    Refusal::not_found(format!("(orderId: {order_id}) 에 해당하는 결제건이 존재하지 않습니다."))
}
