//! Payments, as operators see them.

use super::{Actor, OperatorParam};
use crate::api::payments::sync;
use crate::api::views::{PaymentBody, PaymentDetailBody, PaymentStatus};
use crate::http::envelope::{Envelope, ok};
use crate::http::failure::{Case, Failure};
use crate::http::read::{Id, PageParams, Query, duration, page};
use crate::state::OpsState;
use actix_web::{HttpResponse, web};
use domain::PaymentId;
use domain::ports::{AdminPaymentFilter, PaymentRecord};
use serde::Serialize;
use std::time::Duration;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// The longest `olderThan`.
const MAX_AGE: Duration = Duration::from_secs(365 * 86_400);

/// A payment in a list for operators.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdminPaymentBody {
    /// The order it pays.
    #[schema(example = 100001)]
    order_id: i64,
    /// Who pays.
    #[schema(example = 1)]
    user_id: i64,
    /// The payment itself.
    #[serde(flatten)]
    payment: PaymentBody,
    /// Who we were at the payment gateway.
    merchant_id: String,
    /// No request left for the payment gateway after this moment.
    #[serde(with = "time::serde::rfc3339")]
    send_deadline: OffsetDateTime,
}

impl From<&PaymentRecord> for AdminPaymentBody {
    fn from(record: &PaymentRecord) -> Self {
        Self {
            order_id: record.payment.order_id().get(),
            user_id: record.payment.user_id().get(),
            payment: PaymentBody::from(record),
            merchant_id: record.merchant.as_str().to_owned(),
            send_deadline: record.send_deadline,
        }
    }
}

/// A page of payments.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdminPaymentPage {
    /// Newest first.
    payments: Vec<AdminPaymentBody>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// A payment with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdminPaymentDetailBody {
    /// Who pays.
    #[schema(example = 1)]
    user_id: i64,
    /// As its buyer sees it, with history.
    #[serde(flatten)]
    payment: PaymentDetailBody,
    /// Who we were at the payment gateway.
    merchant_id: String,
    /// No request left for the payment gateway after this moment.
    #[serde(with = "time::serde::rfc3339")]
    send_deadline: OffsetDateTime,
    /// It failed to be examined again and again, and waits for a person.
    parked: bool,
}

impl From<&domain::ports::PaymentView> for AdminPaymentDetailBody {
    fn from(view: &domain::ports::PaymentView) -> Self {
        Self {
            user_id: view.record.payment.user_id().get(),
            payment: PaymentDetailBody::from(view),
            merchant_id: view.record.merchant.as_str().to_owned(),
            send_deadline: view.record.send_deadline,
            parked: view.parked,
        }
    }
}

/// Lists payments, newest first.
#[utoipa::path(
    get, path = "/admin/payments", operation_id = "listPayments", tag = "operations",
    params(
        ("status" = Option<PaymentStatus>, Query, example = "IN_PROGRESS"),
        ("olderThan" = Option<String>, Query, pattern = "^[1-9][0-9]{0,3}(ms|s|m|h)$", example = "5m", description = "Placed longer ago than this"),
        PageParams,
    ),
    responses((status = 200, description = "A page of payments", body = Envelope<AdminPaymentPage>)),
)]
pub(crate) async fn list_payments(state: web::Data<OpsState>, query: Query) -> Result<HttpResponse, Failure> {
    let limit = query.limit()?;
    let filter = AdminPaymentFilter {
        status: query.parsed("status", domain::PaymentStatus::parse)?,
        older_than: query.parsed("olderThan", |text| duration(text, MAX_AGE))?,
        before: query.cursor(PaymentId::new)?,
        limit: limit + 1,
    };
    let rows = state.runner.run(move |app| async move { app.queries().payments(&filter).await }).await?;
    let (rows, next_cursor) = page(rows, limit, |record| record.payment.id().get());
    ok(AdminPaymentPage { payments: rows.iter().map(AdminPaymentBody::from).collect(), next_cursor })
}

/// Shows a payment with all that is known of it.
#[utoipa::path(
    get, path = "/admin/payments/{paymentId}", operation_id = "getAdminPayment", tag = "operations",
    params(("paymentId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1)),
    responses((status = 200, description = "The payment", body = Envelope<AdminPaymentDetailBody>)),
)]
pub(crate) async fn get_payment(
    state: web::Data<OpsState>,
    Id(id): Id<PaymentId>,
) -> Result<HttpResponse, Failure> {
    let view = state.runner.run(move |app| async move { app.queries().payment(None, id).await }).await?;
    ok(AdminPaymentDetailBody::from(&view.ok_or(Failure::new(Case::PaymentNotFound))?))
}

/// Asks the payment gateway about a payment now, and settles it.
#[utoipa::path(
    post, path = "/admin/payments/{paymentId}/sync", operation_id = "syncAdminPayment", tag = "operations",
    params(("paymentId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1), OperatorParam),
    responses((status = 200, description = "The payment after it", body = Envelope<AdminPaymentDetailBody>)),
)]
pub(crate) async fn sync_payment(
    state: web::Data<OpsState>,
    Id(id): Id<PaymentId>,
    Actor(actor): Actor,
) -> Result<HttpResponse, Failure> {
    tracing::info!(payment_id = %id, actor, "sync by hand");
    let view = state.runner.run(move |app| sync(app, id)).await?;
    ok(AdminPaymentDetailBody::from(&view))
}
