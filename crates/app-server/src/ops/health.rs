//! Health for those who start and stop servers, metrics for those who watch them.

use crate::http::envelope::{Envelope, ok};
use crate::http::failure::{Case, Failure};
use crate::state::OpsState;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// The format that Prometheus reads.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A health check or a scrape gets no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// It is well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthBody {
    #[schema(example = "UP")]
    status: &'static str,
}

/// Says that the process is alive.
#[utoipa::path(
    get, path = "/health/live", operation_id = "live", tag = "operations",
    responses((status = 200, description = "Alive", body = Envelope<HealthBody>)),
)]
pub(crate) async fn live() -> Result<HttpResponse, Failure> {
    ok(HealthBody { status: "UP" })
}

/// Says whether requests can be served: the database answers, is migrated, and the program is not stopping.
#[utoipa::path(
    get, path = "/health/ready", operation_id = "ready", tag = "operations",
    responses((status = 200, description = "Ready", body = Envelope<HealthBody>)),
)]
pub(crate) async fn ready(state: web::Data<OpsState>) -> Result<HttpResponse, Failure> {
    if state.runner.is_stopping() {
        return Err(Case::ShuttingDown.into());
    }
    let asked = state.runner.run(|app| async move { app.health_queries().ready().await });
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(())) => ok(HealthBody { status: "UP" }),
        // Migrations that are missing are no defect of this server: it will be ready once they are applied.
        Ok(Err(failure)) if failure.case() == Case::Internal => {
            failure.log();
            Err(Case::DatabaseUnavailable.into())
        }
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Case::DatabaseUnavailable.into()),
    }
}

/// Shows the metrics, those of the database freshly counted. When it can't be asked, the others are shown all the same.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "operations",
    responses((status = 200, description = "In the text format of Prometheus", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(state: web::Data<OpsState>) -> Result<HttpResponse, Failure> {
    let publish = (state.publish_metrics)();
    let published = state.runner.complete(async move {
        publish.await;
        Ok::<_, Failure>(())
    });
    if tokio::time::timeout(PATIENCE, published).await.is_err() {
        Failure::new(Case::DatabaseUnavailable).log();
    }
    Ok(HttpResponse::Ok().content_type(PROMETHEUS_TEXT).body((state.metrics)()))
}
