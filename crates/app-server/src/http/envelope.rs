//! The envelope of every answer, and its RFC 9457 form for errors.

use super::failure::{Case, Failure, seconds_rounded_up};
use super::locale::{PROBLEM_JSON, Preferences};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use bootstrap::settings::Locale;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// `meta.result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ResultKind {
    /// What was asked for is in `data`.
    Success,
    /// It is not; `errorCode` and `reason` say why.
    Fail,
}

/// The head of every answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    /// SUCCESS or FAIL.
    pub result: ResultKind,
    /// One of a few codes, for programs; `null` in a plain success.
    #[schema(required = true)]
    pub error_code: Option<&'static str>,
    /// A sentence for people, in Korean or English.
    #[schema(required = true)]
    pub message: Option<String>,
    /// Which case of the code, for programs.
    #[schema(required = true)]
    pub reason: Option<&'static str>,
}

/// Every answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Envelope<T> {
    /// How it went.
    pub meta: Meta,
    /// What was asked for; `null` in most errors.
    #[schema(required = true)]
    pub data: Option<T>,
}

impl<T: Serialize> Envelope<T> {
    /// A plain success.
    pub(crate) const fn success(data: T) -> Self {
        let meta = Meta { result: ResultKind::Success, error_code: None, message: None, reason: None };
        Self { meta, data: Some(data) }
    }

    /// A failure that has something to show all the same: a refused order is still an order.
    pub(crate) fn failure(failure: &Failure, locale: Locale, data: Option<T>) -> Self {
        let case = failure.case();
        let meta = Meta {
            result: ResultKind::Fail,
            error_code: Some(case.code().as_str()),
            message: Some(failure.message(locale)),
            reason: Some(case.reason()),
        };
        Self { meta, data }
    }

    /// Its JSON.
    pub(crate) fn json(&self) -> Result<String, Failure> {
        serde_json::to_string(self).map_err(|error| Failure::internal(&error))
    }
}

/// 200 with `data`.
pub(crate) fn ok<T: Serialize>(data: T) -> Result<HttpResponse, Failure> {
    answer(StatusCode::OK, data)
}

/// Any other success.
pub(crate) fn answer<T: Serialize>(status: StatusCode, data: T) -> Result<HttpResponse, Failure> {
    Ok(json(status, Envelope::success(data).json()?))
}

/// A body that is JSON already.
pub(crate) fn json(status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(body)
}

/// The answer to a call that failed, in the language and form that its client can read.
pub(crate) fn render_failure(failure: &Failure, preferences: Preferences, request_id: &str) -> HttpResponse {
    let envelope = Envelope::<()>::failure(failure, preferences.locale, None);
    let body = envelope.json().unwrap_or_else(|_| internal_error_text().to_owned());
    let mut response = render_body(failure.status(), body, preferences, request_id);
    let headers = response.headers_mut();
    if let Some(seconds) = failure.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(methods) = failure.allowed_methods() {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if failure.status() == StatusCode::UNAUTHORIZED {
        let challenge = match failure.case() {
            Case::InvalidToken => "Bearer error=\"invalid_token\"",
            _ => "Bearer",
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// An envelope's JSON as a response; an error becomes a problem document for those who asked for one.
pub(crate) fn render_body(
    status: StatusCode,
    envelope: String,
    preferences: Preferences,
    request_id: &str,
) -> HttpResponse {
    let problem = (preferences.problem_json && (status.is_client_error() || status.is_server_error()))
        .then(|| problem(status, &envelope, request_id))
        .flatten();
    match problem {
        Some(body) => HttpResponse::build(status)
            .insert_header((CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)))
            .body(body),
        None => json(status, envelope),
    }
}

/// When an order may be tried again.
pub(crate) fn insert_retry_after(response: &mut HttpResponse, wait: Duration) {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds_rounded_up(wait)));
}

/// The members of RFC 9457, and beside them what the envelope has.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub(crate) struct Problem {
    /// `urn:holdfast:` and the reason.
    r#type: String,
    /// The error code.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A sentence for people.
    detail: String,
    /// The request, as its log lines name it.
    instance: String,
    /// As in the envelope.
    error_code: String,
    /// As in the envelope.
    reason: String,
    /// As in the envelope.
    #[schema(value_type = Option<Object>, required = true)]
    data: serde_json::Value,
}

fn problem(status: StatusCode, envelope: &str, request_id: &str) -> Option<String> {
    let mut envelope: serde_json::Value = serde_json::from_str(envelope).ok()?;
    let text = |name: &str| {
        envelope.pointer(&format!("/meta/{name}")).and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let (code, reason, detail) = (text("errorCode")?, text("reason")?, text("message")?);
    let problem = Problem {
        r#type: format!("urn:holdfast:{reason}"),
        title: code.clone(),
        status: status.as_u16(),
        detail,
        instance: format!("urn:request:{request_id}"),
        error_code: code,
        reason,
        data: envelope.get_mut("data").map(serde_json::Value::take).unwrap_or_default(),
    };
    serde_json::to_string(&problem).ok()
}

/// What is left to say when not even an error can be rendered.
const fn internal_error_text() -> &'static str {
    r#"{"meta":{"result":"FAIL","errorCode":"INTERNAL_ERROR","message":null,"reason":"INTERNAL_ERROR"},"data":null}"#
}
