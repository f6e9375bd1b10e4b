//! The three calls of the protocol.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Bytes, Data, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use pg_protocol::{MERCHANT_HEADER, PAYMENTS_PATH};
use serde::Deserialize;

use super::reply::Form;
use super::{Shared, misbehaviour};
use crate::engine::{Answer, Plan, Refusal};

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource(PAYMENTS_PATH)
                .route(web::post().to(request_payment))
                .route(web::get().to(find_by_order))
                .default_service(web::to(wrong_method)),
        )
        .service(
            web::resource(format!("{PAYMENTS_PATH}/{{transaction_key}}"))
                .route(web::get().to(find_by_key))
                .default_service(web::to(wrong_method)),
        );
}

/// The parameter of the look-up by order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ByOrder {
    order_id: Option<String>,
}

async fn request_payment(
    request: HttpRequest,
    body: Result<Bytes, actix_web::Error>,
    shared: Data<Shared>,
) -> HttpResponse {
    if !is_json(&request) {
        return shared.form().refusal(Refusal::unhandled());
    }
    let body = match read_whole(body) {
        Ok(body) => body,
        Err(refused) => return shared.form().refusal(refused),
    };
    let merchant = merchant(&request);
    let plan = shared.with_engine(|engine, now| engine.request_json(now, merchant, &body));
    match &plan.answer {
        Answer::Data(accepted) => {
            tracing::info!(key = accepted.transaction_key, "payment request accepted");
        }
        Answer::Refused(refusal) => tracing::info!(message = refusal.message, "payment request refused"),
        Answer::Fault(fault) => tracing::info!(fault = fault.name(), "payment request answered badly"),
    }
    answer(plan, &request, &shared, |accepted, form| form.success(accepted)).await
}

async fn find_by_key(request: HttpRequest, key: Path<String>, shared: Data<Shared>) -> HttpResponse {
    let merchant = merchant(&request);
    let plan = shared.with_engine(|engine, now| engine.transaction(now, merchant, &key));
    answer(plan, &request, &shared, |snapshot, form| form.success(snapshot.record())).await
}

async fn find_by_order(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    let query = Query::<ByOrder>::from_query(request.query_string()).ok();
    let order_id = query.and_then(|query| query.into_inner().order_id);
    let merchant = merchant(&request);
    let plan = shared.with_engine(|engine, now| engine.order(now, merchant, order_id.as_deref()));
    answer(plan, &request, &shared, |listed, form| form.success(listed)).await
}

async fn answer<T>(
    plan: Plan<T>,
    request: &HttpRequest,
    shared: &Shared,
    render: impl FnOnce(T, Form) -> HttpResponse,
) -> HttpResponse {
    tokio::select! {
        () = shared.stop.cancelled() => return misbehaviour::closed(),
        () = tokio::time::sleep(plan.answer_after) => {}
    }
    match plan.answer {
        Answer::Data(data) => render(data, shared.form()),
        Answer::Refused(refusal) => shared.form().refusal(refusal),
        Answer::Fault(fault) => misbehaviour::act_out(fault, request, shared).await,
    }
}

fn merchant(request: &HttpRequest) -> Option<&str> {
    request.headers().get(MERCHANT_HEADER).and_then(|value| value.to_str().ok())
}

/// Whether the header says JSON.
pub(super) fn is_json(request: &HttpRequest) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.trim_start().to_ascii_lowercase().starts_with("application/json"))
}

/// The body, when it is not too large.
pub(super) fn read_whole(body: Result<Bytes, actix_web::Error>) -> Result<Bytes, Refusal> {
    body.map_err(|error| match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal {
            status: 413,
            error_code: "Payload Too Large",
            message: "요청 본문이 너무 큽니다.".to_owned(),
        },
        _ => Refusal::bad_request("요청 본문을 읽을 수 없습니다."),
    })
}

/// 404 in the envelope, for paths that do not exist.
pub(super) async fn unknown_path(shared: Data<Shared>) -> HttpResponse {
    shared.form().failure(StatusCode::NOT_FOUND, "존재하지 않는 요청입니다.")
}

/// The gateway did not think of other methods.
async fn wrong_method(shared: Data<Shared>) -> HttpResponse {
    shared.form().refusal(Refusal::unhandled())
}
