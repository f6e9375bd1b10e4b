//! `POST /api/v1/orders`: the request's checks, the Idempotency-Key, and how each outcome is told.
//!
//! The flow runs in a task of its own. A client that goes away changes nothing in it; one that waits longer than the
//! response deadline is told that the payment's outcome is not known yet, or whether the order was stored.

use super::views::OrderBody;
use crate::auth::Buyer;
use crate::http::border::{preferences, request_label};
use crate::http::envelope::{Envelope, Meta, ResultKind, insert_retry_after, render_body};
use crate::http::failure::{Case, Failure};
use crate::http::read::{Json, Object, single_header};
use crate::state::ApiState;
use crate::texts::Texts;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use application::{Idempotency, PlaceOrder, PlaceOrderOutcome};
use bootstrap::settings::Locale;
use domain::placement::OrderLines;
use domain::ports::{OrderView, StoredAnswer};
use domain::{CardNumber, CardType, InvalidCardNumber, IssuedCouponId, Money, ProductId, Quantity, UserId};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// One product of an order to be placed.
#[derive(serde::Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderLineBody {
    /// The product.
    #[schema(minimum = 1, maximum = 9007199254740991_i64, example = 1)]
    product_id: i64,
    /// How many; a product that comes twice is added up.
    #[schema(minimum = 1, maximum = 2147483647, example = 2)]
    quantity: i64,
}

/// An order to be placed.
#[derive(serde::Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlaceOrderBody {
    /// 1 to 100 different products.
    #[schema(value_type = Vec<OrderLineBody>, min_items = 1)]
    items: Vec<Object<OrderLineBody>>,
    /// Points to spend, in won.
    #[schema(minimum = 0, maximum = 9007199254740991_i64, example = 0)]
    use_point: Option<i64>,
    /// A coupon of the buyer's.
    #[schema(minimum = 1, maximum = 9007199254740991_i64)]
    issued_coupon_id: Option<i64>,
    /// The card company; needed when something is left for the card.
    #[schema(example = "SAMSUNG", pattern = "^(SAMSUNG|KB|HYUNDAI)$")]
    card_type: Option<String>,
    /// The card number; needed when something is left for the card. It is never stored or logged.
    #[schema(value_type = Option<String>, example = "1234-5678-9814-1451", pattern = "^[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{4}$")]
    card_no: Option<CardNo>,
}

/// A card number as it came: parsed at once, so that no copy of the text stays behind.
struct CardNo(Result<CardNumber, InvalidCardNumber>);

impl<'de> Deserialize<'de> for CardNo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CardNoVisitor;

        impl Visitor<'_> for CardNoVisitor {
            type Value = CardNo;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a card number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CardNo, E> {
                Ok(CardNo(text.parse()))
            }
        }

        deserializer.deserialize_str(CardNoVisitor)
    }
}

impl PlaceOrderBody {
    /// Checks all that can be checked without the database.
    fn command(self, user_id: UserId) -> Result<PlaceOrder, Failure> {
        let mut lines = Vec::with_capacity(self.items.len());
        for (at, Object(line)) in self.items.into_iter().enumerate() {
            let product_id = ProductId::new(line.product_id)
                .map_err(|_| Failure::field(format!("items[{at}].productId")))?;
            let quantity = Quantity::new(line.quantity).map_err(|_| Failure::new(Case::InvalidQuantity))?;
            lines.push((product_id, quantity));
        }
        let lines = OrderLines::new(lines)?;
        let use_point = Money::new(self.use_point.unwrap_or(0))?;
        if use_point.is_negative() {
            return Err(Case::UsedPointNegative.into());
        }
        let issued_coupon_id = self
            .issued_coupon_id
            .map(|id| IssuedCouponId::new(id).map_err(|_| Failure::field("issuedCouponId")))
            .transpose()?;
        let card_type = self.card_type.map(|text| text.parse::<CardType>()).transpose()?;
        let card_no = self.card_no.map(|CardNo(number)| number).transpose()?;
        // Half a card counts as none: whether one is needed is decided where the amounts are.
        let card = card_type.zip(card_no);
        Ok(PlaceOrder { user_id, lines, use_point, issued_coupon_id, card, idempotency: None, placed: None })
    }
}

/// What makes two requests the same: all that was asked for, in one canonical form, the card by its masked number only, so
/// that the stored hash can't be searched for the full one.
fn fingerprint(command: &PlaceOrder) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"place_order.1");
    for (product_id, quantity) in command.lines.iter() {
        hash.update(product_id.get().to_be_bytes());
        hash.update(quantity.get().to_be_bytes());
    }
    hash.update(b"|");
    hash.update(command.use_point.won().to_be_bytes());
    hash.update(command.issued_coupon_id.map_or(0, IssuedCouponId::get).to_be_bytes());
    if let Some((card_type, number)) = &command.card {
        hash.update(card_type.as_str());
        hash.update(number.masked());
    }
    hash.finalize().into()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    match single_header(headers, IDEMPOTENCY_KEY) {
        Ok(None) => Ok(None),
        Ok(Some(key)) if (1..=255).contains(&key.len()) => Ok(Some(key.to_owned())),
        Ok(Some(_)) | Err(()) => Err(Case::InvalidIdempotencyKey.into()),
    }
}

/// Places an order.
///
/// With an `Idempotency-Key` the first answer is given again for 24 hours, status and body, whatever became of the
/// connection. Without one, sending the request twice may place two orders. After `CIRCUIT_OPEN` or `PG_UNAVAILABLE` the
/// order is cancelled for good: try again with a new key.
#[utoipa::path(
    post, path = "/api/v1/orders", operation_id = "placeOrder", tag = "orders",
    params(
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
         example = "0193b2c4-7d1e-7c4f-9a52-3f60d1b8e7a4",
         description = "Names this order among the buyer's; send the same again when repeating the request"),
    ),
    request_body(content = PlaceOrderBody, example = json!({
        "items": [{ "productId": 1, "quantity": 2 }], "usePoint": 0, "cardType": "SAMSUNG", "cardNo": "1234-5678-9814-1451",
    })),
    responses(
        (status = 201, description = "PAID at once: nothing was left for the card", body = Envelope<OrderBody>,
         headers(("Location" = String, description = "The order"))),
        (status = 202, description = "Received. With the code PAYMENT_IN_PROGRESS it is not known yet whether the \
            payment gateway got it: the payment is being confirmed", body = Envelope<OrderBody>,
         headers(("Location" = String, description = "The order"))),
    ),
)]
pub(crate) async fn place_order(
    state: web::Data<ApiState>,
    request: HttpRequest,
    buyer: Buyer,
    body: Json<PlaceOrderBody>,
) -> Result<HttpResponse, Failure> {
    let preferences = preferences(&request);
    let mut command = body.0.command(buyer.0)?;
    command.idempotency = idempotency_key(request.headers())?.map(|key| Idempotency {
        key,
        fingerprint: fingerprint(&command),
        render: Arc::new(move |outcome| told(outcome, preferences.locale)),
    });
    let placed = Arc::new(OnceLock::new());
    let notice = Arc::clone(&placed);
    command.placed = Some(Arc::new(move |order: &OrderView| {
        notice.get_or_init(|| order.clone());
    }));
    let under_way = state.admit_order()?;
    if command.idempotency.is_none() && state.repeats.is_repeated(&command, Instant::now()) {
        metrics::counter!("possible_duplicate_orders_total").increment(1);
    }
    let (application, changes) = (state.runner.application.clone(), state.changes.clone());
    let flow = async move {
        let outcome = application.place_order(command).await;
        if let Some(order) = outcome.as_ref().ok().and_then(order) {
            changes.tell(order.order.id());
        }
        drop(under_way);
        outcome
    };
    let told = match tokio::time::timeout(state.response_deadline, state.runner.complete(flow)).await {
        Ok(outcome) => Told::of(&outcome?, preferences.locale),
        Err(_) => match placed.get() {
            Some(order) => Told::of(&PlaceOrderOutcome::Confirming(order.clone()), preferences.locale),
            // Not even stored yet, and it may never be.
            None => return Err(Failure::new(Case::OutcomeUnknown)),
        },
    };
    let status = StatusCode::from_u16(told.answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = render_body(status, told.answer.body, preferences, &request_label(&request));
    if let Some(location) = told.order_id.map(|id| format!("/api/v1/orders/{id}"))
        && let Ok(location) = HeaderValue::from_str(&location)
    {
        response.headers_mut().insert(LOCATION, location);
    }
    if told.replayed {
        metrics::counter!("idempotency_replayed_total").increment(1);
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        insert_retry_after(&mut response, told.retry_after.unwrap_or_default());
    }
    Ok(response)
}

/// An outcome as it is told.
struct Told {
    answer: StoredAnswer,
    order_id: Option<i64>,
    retry_after: Option<Duration>,
    replayed: bool,
}

impl Told {
    fn of(outcome: &PlaceOrderOutcome, locale: Locale) -> Self {
        let retry_after = match outcome {
            PlaceOrderOutcome::CircuitOpen { retry_after, .. }
            | PlaceOrderOutcome::GatewayUnavailable { retry_after, .. }
            | PlaceOrderOutcome::NotSent { retry_after, .. } => Some(*retry_after),
            PlaceOrderOutcome::Paid(_)
            | PlaceOrderOutcome::InProgress(_)
            | PlaceOrderOutcome::Confirming(_)
            | PlaceOrderOutcome::Refused { .. }
            | PlaceOrderOutcome::Replayed(_) => None,
        };
        let answer = told(outcome, locale);
        let order_id = match order(outcome) {
            Some(order) => Some(order.order.id().get()),
            None => order_id_in(&answer.body),
        };
        let replayed = matches!(outcome, PlaceOrderOutcome::Replayed(_));
        Self { answer, order_id, retry_after, replayed }
    }
}

fn order(outcome: &PlaceOrderOutcome) -> Option<&OrderView> {
    match outcome {
        PlaceOrderOutcome::Paid(order)
        | PlaceOrderOutcome::InProgress(order)
        | PlaceOrderOutcome::Confirming(order)
        | PlaceOrderOutcome::Refused { order, .. }
        | PlaceOrderOutcome::CircuitOpen { order, .. }
        | PlaceOrderOutcome::GatewayUnavailable { order, .. }
        | PlaceOrderOutcome::NotSent { order, .. } => Some(order),
        PlaceOrderOutcome::Replayed(_) => None,
    }
}

fn order_id_in(body: &str) -> Option<i64> {
    serde_json::from_str::<serde_json::Value>(body).ok()?.pointer("/data/orderId")?.as_i64()
}

/// Status and body of an outcome. The order is told in each of them: a cancelled order is still an order.
fn told(outcome: &PlaceOrderOutcome, locale: Locale) -> StoredAnswer {
    let (order, failure) = match outcome {
        PlaceOrderOutcome::Paid(order) => return success(StatusCode::CREATED, order, None),
        PlaceOrderOutcome::InProgress(order) => return success(StatusCode::ACCEPTED, order, None),
        PlaceOrderOutcome::Confirming(order) => {
            return success(StatusCode::ACCEPTED, order, Some(Texts::of(locale).say("PAYMENT_UNCERTAIN")));
        }
        PlaceOrderOutcome::Replayed(answer) => return answer.clone(),
        PlaceOrderOutcome::Refused { order, message } => {
            (order, Failure::about(Case::PaymentRefused, message.as_str()))
        }
        PlaceOrderOutcome::CircuitOpen { order, .. } => (order, Failure::new(Case::CircuitOpen)),
        PlaceOrderOutcome::GatewayUnavailable { order, .. } => (order, Failure::new(Case::GatewayNotReached)),
        PlaceOrderOutcome::NotSent { order, .. } => (order, Failure::new(Case::PaymentNotSent)),
    };
    let envelope = Envelope::failure(&failure, locale, Some(OrderBody::from(order)));
    stored(failure.status(), &envelope)
}

/// `uncertain`: the message of a success that is not certain yet (`PAYMENT_IN_PROGRESS`).
fn success(status: StatusCode, order: &OrderView, uncertain: Option<&str>) -> StoredAnswer {
    let meta = Meta {
        result: ResultKind::Success,
        error_code: uncertain.map(|_| "PAYMENT_IN_PROGRESS"),
        message: uncertain.map(str::to_owned),
        reason: uncertain.map(|_| "PAYMENT_UNCERTAIN"),
    };
    stored(status, &Envelope { meta, data: Some(OrderBody::from(order)) })
}

fn stored(status: StatusCode, envelope: &Envelope<OrderBody>) -> StoredAnswer {
    match envelope.json() {
        Ok(body) => StoredAnswer { status: status.as_u16(), body },
        // Integers and texts always become JSON; should they not, the order exists all the same.
        Err(failure) => {
            failure.log();
            StoredAnswer { status: status.as_u16(), body: r#"{"meta":{},"data":null}"#.to_owned() }
        }
    }
}
