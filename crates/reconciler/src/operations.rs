//! The operations port of `run`: health and metrics.

use actix_web::dev::ServerHandle;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use bootstrap::settings::Settings;
use bootstrap::telemetry::Metrics;
use bootstrap::wiring::System;

#[derive(Clone)]
struct State {
    system: System,
    metrics: Metrics,
}

/// Serves `/health/live`, `/health/ready` and `/metrics` until the handle is stopped.
///
/// # Errors
/// The port is taken.
pub(crate) fn serve(settings: &Settings, system: &System, metrics: Metrics) -> anyhow::Result<ServerHandle> {
    let state = State { system: system.clone(), metrics };
    let bind = settings.reconciler.bind;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(state.clone()))
            .service(web::resource("/health/live").route(web::get().to(live)))
            .service(web::resource("/health/ready").route(web::get().to(ready)))
            .service(web::resource("/metrics").route(web::get().to(scrape)))
            .default_service(web::to(|| async { envelope(404, Some("NOT_FOUND")) }))
    })
    .workers(1)
    .disable_signals()
    .bind(bind)
    .with_context(|| format!("can't listen on {bind} (reconciler.bind)"))?
    .run();
    let handle = server.handle();
    // The server's own tasks end with its handle, not with the work that shutdown waits for.
    tokio_util::task::TaskTracker::new().spawn(server);
    Ok(handle)
}

async fn live() -> HttpResponse {
    envelope(200, None)
}

async fn ready(state: web::Data<State>) -> HttpResponse {
    match state.system.application.queries().ready().await {
        Ok(()) => envelope(200, None),
        Err(_) => envelope(503, Some("SERVICE_UNAVAILABLE")),
    }
}

async fn scrape(state: web::Data<State>) -> HttpResponse {
    state.system.publish_metrics().await;
    HttpResponse::Ok().insert_header(ContentType::plaintext()).body(state.metrics.text())
}

fn envelope(status: u16, error: Option<&str>) -> HttpResponse {
    let result = if error.is_none() { "SUCCESS" } else { "FAIL" };
    let status = actix_web::http::StatusCode::from_u16(status)
        .unwrap_or(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).json(serde_json::json!({
        "meta": { "result": result, "errorCode": error, "message": null, "reason": null },
        "data": null,
    }))
}
