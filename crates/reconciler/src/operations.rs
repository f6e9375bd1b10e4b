//! The operations port of `run`: health for everyone, metrics for those who have `ops.token`, if there is one.

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, AUTHORIZATION, ContentType, HeaderValue, WWW_AUTHENTICATE};
use actix_web::{App, FromRequest, Handler, HttpRequest, HttpResponse, HttpServer, Resource, guard, web};
use anyhow::Context as _;
use bootstrap::settings::Settings;
use bootstrap::telemetry::Metrics;
use bootstrap::wiring::System;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

#[derive(Clone)]
struct State {
    system: System,
    metrics: Metrics,
    token: Option<SecretString>,
}

/// Serves `/health/live`, `/health/ready` and `/metrics` until the handle is stopped.
///
/// # Errors
/// The port is taken.
pub(crate) fn serve(settings: &Settings, system: &System, metrics: Metrics) -> anyhow::Result<ServerHandle> {
    let state = State { system: system.clone(), metrics, token: settings.ops.token.clone() };
    let bind = settings.reconciler.bind;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(state.clone()))
            .service(readable("/health/live", live))
            .service(readable("/health/ready", ready))
            .service(readable("/metrics", scrape))
            .default_service(web::to(async || refused(StatusCode::NOT_FOUND, "NOT_FOUND")))
    })
    .workers(1)
    .disable_signals()
    .bind(bind)
    .with_context(|| format!("can't listen on {bind} (reconciler.bind)"))?;
    let addr = server.addrs().first().copied().unwrap_or(bind);
    tracing::info!(%addr, "listening");
    let server = server.run();
    let handle = server.handle();
    // The server's own tasks end with its handle, not with the work that shutdown waits for.
    tokio_util::task::TaskTracker::new().spawn(server);
    Ok(handle)
}

/// A path that is read, by GET or HEAD; the framework leaves the body of the latter away.
fn readable<A>(path: &str, handler: impl Handler<A, Output = HttpResponse>) -> Resource
where
    A: FromRequest + 'static,
{
    let reads = guard::Any(guard::Get()).or(guard::Head());
    let refuse = async || {
        let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    };
    web::resource(path).route(web::route().guard(reads).to(handler)).default_service(web::to(refuse))
}

async fn live() -> HttpResponse {
    up()
}

async fn ready(state: web::Data<State>) -> HttpResponse {
    match state.system.application.queries().ready().await {
        Ok(()) => up(),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
    }
}

async fn scrape(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    if state.token.as_ref().is_some_and(|token| !bears(&request, token)) {
        let mut response = refused(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    state.system.publish_metrics().await;
    HttpResponse::Ok().insert_header(ContentType::plaintext()).body(state.metrics.text())
}

/// Whether `Authorization: Bearer` has this token, found out in a time that tells nothing of it.
fn bears(request: &HttpRequest, token: &SecretString) -> bool {
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    sent.and_then(|value| value.split_once(' ')).is_some_and(|(scheme, sent)| {
        scheme.eq_ignore_ascii_case("bearer")
            && bool::from(sent.trim().as_bytes().ct_eq(token.expose_secret().as_bytes()))
    })
}

fn up() -> HttpResponse {
    envelope(StatusCode::OK, "SUCCESS", None)
}

fn refused(status: StatusCode, code: &str) -> HttpResponse {
    envelope(status, "FAIL", Some(code))
}

fn envelope(status: StatusCode, result: &str, error: Option<&str>) -> HttpResponse {
    HttpResponse::build(status).json(serde_json::json!({
        "meta": { "result": result, "errorCode": error, "message": null, "reason": null },
        "data": null,
    }))
}
