//! The payment gateway's wire protocol: the JSON bodies, the header and the paths, and nothing else.
//!
//! One definition for both ends, so that the client (`adapters-pg`) and the gateway of the development machine
//! (`pg-simulator`) can never drift apart. The types say what is *on the wire*; rules about it (a valid card number, what
//! an error means, which transaction to believe) live with those who own them.
//!
//! Two things are asymmetric on purpose. Whoever *reads* a transaction ([`TransactionDetail`]) or a callback
//! ([`Callback`], [`UntokenedCallback`]) has no field for the card number: the gateway sends it in clear, and what is never read can never be logged or stored. Whoever
//! *sends* one ([`TransactionRecord`]) has it. And a reader is lenient where an answer may still be useful (unknown
//! status, unknown fields, absent texts), because other gateways speak this protocol with small differences.
//!
//! Deliberately absent: HTTP, validation, retries, domain types, any dependency but serde.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Names the merchant who asks. Every request must bear it; look-ups see only that merchant's transactions.
pub const MERCHANT_HEADER: &str = "X-USER-ID";

/// The path that payments are requested on (`POST`), and that an order's transactions are asked on
/// (`GET`, with the query parameter [`ORDER_ID_PARAMETER`]).
pub const PAYMENTS_PATH: &str = "/api/v1/payments";

/// The query parameter of the look-up by order.
pub const ORDER_ID_PARAMETER: &str = "orderId";

/// The path of one transaction: `/api/v1/payments/{transactionKey}`. The key is percent-encoded, because a key comes
/// from outside and must not be able to address another resource.
#[must_use]
pub fn transaction_path(transaction_key: &str) -> String {
    format!("{PAYMENTS_PATH}/{}", percent_encoded(transaction_key))
}

/// The path and query that ask for an order's transactions: `/api/v1/payments?orderId={orderId}`, percent-encoded.
#[must_use]
pub fn order_transactions_path(order_id: &str) -> String {
    format!("{PAYMENTS_PATH}?{ORDER_ID_PARAMETER}={}", percent_encoded(order_id))
}

/// RFC 3986: unreserved characters stay, and `:` too, which every transaction key contains and which is legal in a path
/// segment and in a query. Everything else becomes `%XX`.
fn percent_encoded(text: &str) -> String {
    const HEX: &[char] = &['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte));
            }
            _ => {
                encoded.push('%');
                encoded.extend(HEX.get(usize::from(byte >> 4)));
                encoded.extend(HEX.get(usize::from(byte & 0x0f)));
            }
        }
    }
    encoded
}

/// `1234-5678-9814-1451` as people may see it: `1234-****-****-1451`. Whatever does not have that shape is masked whole,
/// so that a mistyped number does not slip through.
#[must_use]
pub fn masked_card_no(card_no: &str) -> String {
    let groups: Vec<&str> = card_no.split('-').collect();
    let is_group = |group: &&str| group.len() == 4 && group.bytes().all(|byte| byte.is_ascii_digit());
    match groups.as_slice() {
        [first, second, third, fourth] if [first, second, third, fourth].into_iter().all(is_group) => {
            format!("{first}-****-****-{fourth}")
        }
        _ => "****".to_owned(),
    }
}

/// The card companies that the gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CardType {
    /// Samsung Card.
    Samsung,
    /// KB Kookmin Card.
    Kb,
    /// Hyundai Card.
    Hyundai,
}

impl CardType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Samsung => "SAMSUNG",
            Self::Kb => "KB",
            Self::Hyundai => "HYUNDAI",
        }
    }
}

/// Body of `POST /api/v1/payments`: charge this card.
///
/// Texts are borrowed where the sender already owns them, so that no further copy of the card number comes to lie in
/// memory. `Debug` shows the card number masked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequest<'a> {
    /// The merchant's own reference, at least 6 characters. The gateway does not deduplicate by it.
    pub order_id: Cow<'a, str>,
    /// Which company issued the card.
    pub card_type: CardType,
    /// `dddd-dddd-dddd-dddd`, in clear.
    pub card_no: Cow<'a, str>,
    /// Whole won, above 0.
    pub amount: i64,
    /// Where the gateway reports the result, once.
    pub callback_url: Cow<'a, str>,
}

impl fmt::Debug for PaymentRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentRequest")
            .field("order_id", &self.order_id)
            .field("card_type", &self.card_type)
            .field("card_no", &masked_card_no(&self.card_no))
            .field("amount", &self.amount)
            .field("callback_url", &"(not shown: it ends in a secret token)")
            .finish()
    }
}

/// What every answer is wrapped in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// How it went.
    pub meta: Meta,
    /// What was asked for; `null` in errors. A success with `null` says nothing about what happened: the reader must
    /// treat it as uncertain.
    pub data: Option<T>,
}

impl<T> Envelope<T> {
    /// A success that bears `data`.
    #[must_use]
    pub fn success(data: T) -> Self {
        Self { meta: Meta { result: Outcome::Success, error_code: None, message: None }, data: Some(data) }
    }

    /// A failure: `error_code` is an HTTP reason phrase on this gateway, `message` a Korean sentence for people.
    #[must_use]
    pub fn failure(error_code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            meta: Meta {
                result: Outcome::Fail,
                error_code: Some(error_code.into()),
                message: Some(message.into()),
            },
            data: None,
        }
    }
}

/// The head of an [`Envelope`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// `SUCCESS` or `FAIL`.
    pub result: Outcome,
    /// An HTTP reason phrase here, `BAD_REQUEST` and the like on other gateways: decide by the HTTP status, never by this.
    #[serde(default)]
    pub error_code: Option<String>,
    /// A sentence for people.
    #[serde(default)]
    pub message: Option<String>,
}

/// `meta.result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// It worked; `data` is there.
    Success,
    /// It did not.
    Fail,
    /// Something this protocol does not define: nothing can be concluded from it.
    #[serde(other)]
    Unknown,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransactionStatus {
    /// Taken, not decided: 1 to 5 seconds, or far longer under load.
    Pending,
    /// The card is charged.
    Success,
    /// The card is not charged; `reason` says why.
    Failed,
    /// A value this protocol does not define. It is decodable so that the reader keeps the transaction key that came
    /// with it; it is neither a success nor a failure, that is: uncertain.
    #[serde(other)]
    Unknown,
}

impl TransactionStatus {
    /// Whether the documented gateway would never change it again.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Success | Self::Failed => true,
            Self::Pending | Self::Unknown => false,
        }
    }
}

/// `data` of the answer to `POST`: the transaction exists under this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionAccepted {
    /// `20250816:TR:9577c5`: date, `TR`, six hexadecimal digits.
    pub transaction_key: String,
    /// `PENDING` on the documented gateway.
    pub status: TransactionStatus,
    /// `null` while pending.
    #[serde(default)]
    pub reason: Option<String>,
}

/// One transaction in the answer to a look-up by order. Bears no amount.
pub type TransactionSummary = TransactionAccepted;

/// `data` of the look-up by order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderTransactions {
    /// The order that was asked for.
    pub order_id: String,
    /// All its transactions: several when the request reached the gateway several times.
    pub transactions: Vec<TransactionSummary>,
}

/// `data` of the look-up by key, as the *client* reads it: what settles a payment, and neither card field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionDetail {
    /// The key, as asked.
    pub transaction_key: String,
    /// Whose transaction it is. Must be compared: keys collide.
    pub order_id: String,
    /// Whole won. Must be compared.
    pub amount: i64,
    /// Where it stands.
    pub status: TransactionStatus,
    /// Why, once decided.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The callback's body, as its *receiver* reads it: the key and nothing else. The rest of it is unsigned and proves
/// nothing, and gateways differ in it (amounts as text, texts as objects, a status of their own): whatever stands there,
/// and whether it stands there, must not lose the one callback that comes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Callback {
    /// The key it claims to be about. It may only make the receiver ask the gateway.
    pub transaction_key: String,
}

/// The body of a callback whose address names no payment, as its receiver reads it: the order and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UntokenedCallback {
    /// The order it claims to be about, as a text; a whole number on the wire is taken as its digits.
    #[serde(deserialize_with = "text_or_whole_number")]
    pub order_id: String,
}

fn text_or_whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct TextVisitor;

    impl Visitor<'_> for TextVisitor {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a whole number")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }

    deserializer.deserialize_any(TextVisitor)
}

/// A transaction as the *gateway* sends it, in the look-up by key and as the body of the callback: seven fields, the card
/// number in clear. Cannot be deserialized, and `Debug` masks the number.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionRecord<'a> {
    /// The key.
    pub transaction_key: &'a str,
    /// The merchant's order.
    pub order_id: &'a str,
    /// Which company issued the card.
    pub card_type: CardType,
    /// In clear: that is what this gateway does.
    pub card_no: &'a str,
    /// Whole won.
    pub amount: i64,
    /// Where it stands.
    pub status: TransactionStatus,
    /// Why, once decided.
    pub reason: Option<&'a str>,
}

impl fmt::Debug for TransactionRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionRecord")
            .field("transaction_key", &self.transaction_key)
            .field("order_id", &self.order_id)
            .field("card_type", &self.card_type)
            .field("card_no", &masked_card_no(self.card_no))
            .field("amount", &self.amount)
            .field("status", &self.status)
            .field("reason", &self.reason)
            .finish()
    }
}

/// The texts that the gateway gives as the reason of a decided transaction.
pub mod reasons {
    /// 70 %: charged.
    pub const APPROVED: &str = "정상 승인되었습니다.";
    /// 20 %: over the card's limit.
    pub const LIMIT_EXCEEDED: &str = "한도초과입니다. 다른 카드를 선택해주세요.";
    /// 10 %: not a valid card.
    pub const INVALID_CARD: &str = "잘못된 카드입니다. 다른 카드를 선택해주세요.";
}
