//! The discrepancy ledger, as operators see it.

use super::{Actor, OperatorParam};
use crate::http::envelope::{Envelope, ok};
use crate::http::failure::{Case, Failure};
use crate::http::failure_from::managed;
use crate::http::read::{Id, Json, PageParams, Query, page, text};
use crate::state::OpsState;
use actix_web::{HttpResponse, web};
use domain::DiscrepancyId;
use domain::ports::{DiscrepancyStatus, DiscrepancyView};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// Where a ledger row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DiscrepancyState {
    /// Nobody has settled it yet.
    Open,
    /// A person has.
    Resolved,
}

/// A row of the discrepancy ledger: what a person must settle with the payment gateway.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscrepancyBody {
    /// Which.
    #[schema(example = 1)]
    discrepancy_id: i64,
    /// What kind, for instance LATE_SUCCESS.
    #[schema(example = "LATE_SUCCESS")]
    kind: &'static str,
    /// Where it stands.
    status: DiscrepancyState,
    /// The payment.
    payment_id: i64,
    /// Its order.
    order_id: i64,
    /// The transaction, when there is one.
    #[schema(required = true)]
    external_payment_key: Option<String>,
    /// What the payment gateway charged, in won.
    #[schema(required = true)]
    amount: Option<i64>,
    /// What was seen.
    evidence: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    found_at: OffsetDateTime,
    /// What a person did about it.
    #[schema(required = true)]
    resolution: Option<String>,
    /// In their words.
    #[schema(required = true)]
    note: Option<String>,
    /// Who.
    #[schema(required = true)]
    resolved_by: Option<String>,
    /// When.
    #[schema(required = true)]
    #[serde(with = "time::serde::rfc3339::option")]
    resolved_at: Option<OffsetDateTime>,
}

impl From<&DiscrepancyView> for DiscrepancyBody {
    fn from(view: &DiscrepancyView) -> Self {
        let status = match view.status {
            DiscrepancyStatus::Open => DiscrepancyState::Open,
            DiscrepancyStatus::Resolved => DiscrepancyState::Resolved,
        };
        Self {
            discrepancy_id: view.id.get(),
            kind: view.kind.as_str(),
            status,
            payment_id: view.payment_id.get(),
            order_id: view.order_id.get(),
            external_payment_key: view.key.as_ref().map(|key| key.as_str().to_owned()),
            amount: view.amount.map(domain::Money::won),
            evidence: view.evidence.clone(),
            found_at: view.found_at,
            resolution: view.resolution.clone(),
            note: view.note.clone(),
            resolved_by: view.resolved_by.clone(),
            resolved_at: view.resolved_at,
        }
    }
}

/// A page of the ledger.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscrepancyPage {
    /// Newest first.
    discrepancies: Vec<DiscrepancyBody>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Lists rows of the discrepancy ledger, newest first.
#[utoipa::path(
    get, path = "/admin/discrepancies", operation_id = "listDiscrepancies", tag = "operations",
    params(
        ("status" = Option<DiscrepancyState>, Query, example = "OPEN"),
        PageParams,
    ),
    responses((status = 200, description = "A page of the ledger", body = Envelope<DiscrepancyPage>)),
)]
pub(crate) async fn list_discrepancies(
    state: web::Data<OpsState>,
    query: Query,
) -> Result<HttpResponse, Failure> {
    let status = query.parsed("status", DiscrepancyStatus::parse)?;
    let before = query.cursor(DiscrepancyId::new)?;
    let limit = query.limit()?;
    let rows = state
        .runner
        .run(move |app| async move { app.queries().discrepancies(status, before, limit + 1).await })
        .await?;
    let (rows, next_cursor) = page(rows, limit, |row| row.id.get());
    ok(DiscrepancyPage { discrepancies: rows.iter().map(DiscrepancyBody::from).collect(), next_cursor })
}

/// What a person did about a row.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResolveBody {
    /// In a word.
    #[schema(min_length = 1, max_length = 100, example = "REFUNDED")]
    resolution: String,
    /// In detail. No card data belongs here.
    #[schema(max_length = 1000, example = "PG 콘솔에서 취소함")]
    note: Option<String>,
}

/// Closes a row of the discrepancy ledger. It is never deleted.
#[utoipa::path(
    post, path = "/admin/discrepancies/{discrepancyId}/resolve", operation_id = "resolveDiscrepancy", tag = "operations",
    params(
        ("discrepancyId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1),
        OperatorParam,
    ),
    request_body(content = ResolveBody, example = json!({ "resolution": "REFUNDED", "note": "PG 콘솔에서 취소함" })),
    responses((status = 200, description = "The row after it", body = Envelope<DiscrepancyBody>)),
)]
pub(crate) async fn resolve_discrepancy(
    state: web::Data<OpsState>,
    Id(id): Id<DiscrepancyId>,
    Actor(actor): Actor,
    Json(body): Json<ResolveBody>,
) -> Result<HttpResponse, Failure> {
    let resolution = text(body.resolution, "resolution", 1..=100)?;
    let note = text(body.note.unwrap_or_default(), "note", 0..=1000)?;
    let view = state
        .runner
        .run(move |app| async move {
            let resolved = app.resolve_discrepancy(id, &resolution, &note, &actor).await;
            resolved.map_err(|error| managed(error, Case::DiscrepancyNotFound, Case::AlreadyResolved))
        })
        .await?;
    ok(DiscrepancyBody::from(&view))
}
