//! One log line for each request, and the request's id.
//!
//! A line has the method, the route's pattern, the status, the time it took and who asked. Deliberately absent: the path as
//! it was sent (a callback's ends in a secret), the query, headers and bodies.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, HttpMessage as _, HttpRequest};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{Level, Span};
use tracing_actix_web::{RequestId, RootSpanBuilder};

/// The header that a request's id comes and goes by.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// The longest id that is taken over from outside.
const MAX_REQUEST_ID: usize = 128;

/// The request's id: the client's own when it sent a usable one.
#[derive(Debug, Clone)]
pub(crate) struct RequestLabel(pub(crate) String);

/// When the request's head had been read.
#[derive(Debug, Clone, Copy)]
struct Started(Instant);

/// Opens a span for each request and writes its line at the end.
#[derive(Debug)]
pub(crate) struct AccessLog;

impl RootSpanBuilder for AccessLog {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let id = label(request);
        let span = tracing::info_span!(
            "http",
            request_id = %id,
            method = %request.method(),
            route = request.match_pattern().as_deref().unwrap_or("(none)"),
        );
        request.extensions_mut().insert(RequestLabel(id));
        request.extensions_mut().insert(Started(Instant::now()));
        span
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let (status, started) = match outcome {
            Ok(response) => (response.status(), response.request().extensions().get::<Started>().copied()),
            Err(error) => (error.as_response_error().status_code(), None),
        };
        let elapsed = started.map(|Started(at)| at.elapsed());
        if let (Ok(response), Some(elapsed)) = (outcome, elapsed) {
            measure(response.request(), status, elapsed);
        }
        let elapsed_ms = elapsed.map(|elapsed| elapsed.as_millis());
        let is_probe = matches!(outcome, Ok(response) if is_probe(response.request().path()));
        span.in_scope(|| {
            if is_probe {
                tracing::event!(Level::DEBUG, status = status.as_u16(), elapsed_ms, "request");
            } else {
                tracing::event!(Level::INFO, status = status.as_u16(), elapsed_ms, "request");
            }
        });
    }
}

/// Labels that a client can choose would let it fill the memory, so there are only those that we know.
fn measure(request: &HttpRequest, status: StatusCode, elapsed: Duration) {
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "other",
    };
    let route = request.match_pattern().unwrap_or_else(|| "(none)".to_owned());
    let status = status.as_u16().to_string();
    metrics::histogram!("http_request_seconds", "method" => method, "route" => route, "status" => status)
        .record(elapsed.as_secs_f64());
}

/// Health checks and scrapes come every few seconds, and say nothing.
fn is_probe(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics"
}

fn label(request: &ServiceRequest) -> String {
    let sent = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match sent.filter(|id| is_usable(id)) {
        Some(id) => id.to_owned(),
        None => request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default(),
    }
}

/// Letters, digits and a few signs: nothing that could break a log line. A card number with its hyphens would fit, so
/// four groups of four digits do not pass.
fn is_usable(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.bytes().all(plain)
        && id.bytes().filter(u8::is_ascii_digit).count() != 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_outside_can_break_no_line_and_carry_no_card() {
        for good in ["a", "0191e2f0-7b2c-7def-8123-456789abcdef", "req_1.2:3"] {
            assert!(is_usable(good), "{good}");
        }
        for bad in ["", "a b", "a\"b", "키", "1234-5678-9814-1451", "1234567898141451", &"x".repeat(129)] {
            assert!(!is_usable(bad), "{bad}");
        }
    }
}
