//! The payment gateway's callback: unsigned, sent once, with the full card number in its body.
//!
//! The card number is not even read: the type that the body is read into has no field for it. Nothing of a body is
//! logged. What it says is a hint; the gateway's own record decides.

use crate::http::envelope::{Envelope, ok};
use crate::http::failure::{Case, Failure};
use crate::http::read::{BodyLimits, announced_length, parse, read_body};
use crate::state::ApiState;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::{GatewayKey, GatewayOrderRef, PaymentId};
use pg_protocol::{Callback, UntokenedCallback};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

/// The longest body of a callback (spec 03).
const MAX_SIZE: usize = 8 << 10;

/// Some gateways' libraries write it in front of UTF-8. JSON has no place for it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The callback was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallbackTaken {}

/// What is read of a callback. Everything else in it, the card number too, is skipped, whatever it is.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes pg_protocol::Callback in the OpenAPI document")]
pub(crate) struct CallbackBody {
    /// The transaction's key at the gateway.
    #[schema(example = "20250816:TR:9577c5", pattern = "^[!-~]{1,100}$")]
    transaction_key: String,
}

/// What is read of a callback without a token. Everything else in it, the card number too, is skipped, whatever it is.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes pg_protocol::UntokenedCallback in the OpenAPI document")]
pub(crate) struct UntokenedCallbackBody {
    /// The order as the gateway knows it; a whole number is taken, too.
    #[schema(example = "k3f9a2-100001-00c1d2e3f4a5b6c7")]
    order_id: String,
}

/// Takes the payment gateway's callback for the payment that the token names.
#[utoipa::path(
    post, path = "/api/v1/payments/callback/{token}", operation_id = "receiveCallback", tag = "callbacks",
    params(("token" = String, Path, example = "b3f1c0a94de7d2681f5a7c3e9b0d4f6825ac91e07d3b64f8a2c15e90d7b836af", description = "Made for each payment; unguessable")),
    request_body(content = CallbackBody, example = json!({
        "transactionKey": "20250816:TR:9577c5", "orderId": "k3f9a2-100001-00c1d2e3f4a5b6c7", "cardType": "SAMSUNG",
        "cardNo": "1234-5678-9814-1451", "amount": 30000, "status": "SUCCESS", "reason": "정상 승인되었습니다.",
    })),
    responses((status = 200, description = "Written down", body = Envelope<CallbackTaken>)),
)]
pub(crate) async fn receive_callback(
    state: web::Data<ApiState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let token = request.match_info().get("token").unwrap_or_default().to_owned();
    receive(&state, &request, payload, async |callback: Callback| {
        let key = GatewayKey::new(callback.transaction_key).map_err(|_| Failure::field("transactionKey"))?;
        state.runner.run(move |app| async move { app.receive_callback(&token, &key).await }).await
    })
    .await
}

/// Takes a callback without a token: nothing in it is believed, it only makes us ask the payment gateway about that order,
/// throttled.
#[utoipa::path(
    post, path = "/api/v1/payments/callback", operation_id = "receiveUntokenedCallback", tag = "callbacks",
    request_body(content = UntokenedCallbackBody, example = json!({
        "transactionKey": "20250816:TR:9577c5", "orderId": "k3f9a2-100001-00c1d2e3f4a5b6c7", "cardType": "SAMSUNG",
        "cardNo": "1234-5678-9814-1451", "amount": 30000, "status": "SUCCESS", "reason": "정상 승인되었습니다.",
    })),
    responses((status = 200, description = "The payment gateway will be asked", body = Envelope<CallbackTaken>)),
)]
pub(crate) async fn receive_untokened_callback(
    state: web::Data<ApiState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    receive(&state, &request, payload, async |callback: UntokenedCallback| {
        let order = GatewayOrderRef::from_gateway(callback.order_id);
        let noted =
            state.runner.run(move |app| async move { app.receive_unproven_callback(order).await }).await;
        noted.map_err(|failure| match failure.case() {
            Case::CallbackNotFound => Case::OrderNotFound.into(),
            _ => failure,
        })
    })
    .await
}

/// Reads a callback, has it written down, and counts what came of it; the worker for what was woken does the rest. The body may claim any content type:
/// gateways differ in that.
async fn receive<T: DeserializeOwned>(
    state: &ApiState,
    request: &HttpRequest,
    payload: web::Payload,
    take: impl AsyncFnOnce(T) -> Result<PaymentId, Failure>,
) -> Result<HttpResponse, Failure> {
    let limits = BodyLimits { max_size: MAX_SIZE, ..state.body_limits };
    let received = async {
        let body = read_body(payload.into_inner(), announced_length(request.headers()), limits).await?;
        take(parse(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&body))?).await
    }
    .await;
    let result = match &received {
        Ok(_) => "taken",
        Err(failure) if failure.status().is_server_error() => "unavailable",
        Err(failure) if matches!(failure.case(), Case::CallbackNotFound | Case::OrderNotFound) => "unknown",
        Err(_) => "unreadable",
    };
    metrics::counter!("callback_received_total", "result" => result).increment(1);
    received?;
    ok(CallbackTaken {})
}
