//! A payment with its history, and its sync by hand.

use super::views::PaymentDetailBody;
use crate::auth::Buyer;
use crate::http::envelope::{Envelope, ok};
use crate::http::failure::{Case, Failure};
use crate::http::read::Id;
use crate::state::ApiState;
use actix_web::{HttpResponse, web};
use application::Application;
use application::examine::Examined;
use domain::ports::{Cause, PaymentView};
use domain::{PaymentId, UserId};

/// Shows a payment with its history.
#[utoipa::path(
    get, path = "/api/v1/payments/{paymentId}", operation_id = "getPayment", tag = "payments",
    params(("paymentId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1)),
    responses((status = 200, description = "The payment", body = Envelope<PaymentDetailBody>)),
)]
pub(crate) async fn get_payment(
    state: web::Data<ApiState>,
    buyer: Buyer,
    Id(id): Id<PaymentId>,
) -> Result<HttpResponse, Failure> {
    ok(PaymentDetailBody::from(&find(&state, buyer.0, id).await?))
}

/// A payment of this buyer.
async fn find(state: &ApiState, user: UserId, id: PaymentId) -> Result<PaymentView, Failure> {
    let found =
        state.runner.run(move |app| async move { app.queries().payment(Some(user), id).await }).await?;
    found.ok_or(Case::PaymentNotFound.into())
}

/// Asks the payment gateway about a payment now, and settles it. A payment that has ended is shown as it is.
#[utoipa::path(
    post, path = "/api/v1/payments/{paymentId}/sync", operation_id = "syncPayment", tag = "payments",
    params(("paymentId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1)),
    responses((status = 200, description = "The payment after it", body = Envelope<PaymentDetailBody>)),
)]
pub(crate) async fn sync_payment(
    state: web::Data<ApiState>,
    buyer: Buyer,
    Id(id): Id<PaymentId>,
) -> Result<HttpResponse, Failure> {
    let order = find(&state, buyer.0, id).await?.record.payment.value.order_id();
    let payment = state.runner.run(move |app| sync(app, id)).await;
    state.changes.tell(order);
    ok(PaymentDetailBody::from(&payment?))
}

/// A sync by hand, of a buyer or an operator.
pub(crate) async fn sync(application: Application, id: PaymentId) -> Result<PaymentView, Failure> {
    let synced = application.sync_payment(id, Cause::Operator).await?;
    let synced = synced.ok_or(Failure::new(Case::PaymentNotFound))?;
    match synced.examined {
        Examined::Settled(_) | Examined::NothingToAsk | Examined::Parked => Ok(synced.payment),
        Examined::NotClaimed => {
            Err(Failure::new(Case::SyncTooSoon).retry_after(application.policy().sync_interval))
        }
        Examined::Unreachable => Err(Case::GatewayNotAsked.into()),
        Examined::Failed => Err(Case::DatabaseUnavailable.into()),
    }
}
