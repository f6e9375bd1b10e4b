//! Answers in the envelope.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use pg_protocol::Envelope;
use serde::Serialize;

use crate::engine::Refusal;

/// 200 with data.
pub(super) fn success<T: Serialize>(data: T) -> HttpResponse {
    HttpResponse::Ok().json(Envelope::success(data))
}

/// A FAIL envelope.
pub(super) fn refusal(refusal: Refusal) -> HttpResponse {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).json(Envelope::<()>::failure(refusal.error_code, refusal.message))
}

/// A FAIL envelope whose errorCode is the status's reason phrase.
pub(super) fn failure(status: StatusCode, message: impl Into<String>) -> HttpResponse {
    let error_code = status.canonical_reason().unwrap_or("Internal Server Error");
    HttpResponse::build(status).json(Envelope::<()>::failure(error_code, message))
}
