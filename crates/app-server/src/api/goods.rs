//! Products, points and coupons, as buyers see them.

use super::views::{IssuedCouponBody, IssuedCouponList, PointsBody, ProductBody, ProductPage};
use crate::auth::Buyer;
use crate::http::envelope::{Envelope, answer, ok};
use crate::http::failure::{Case, Failure};
use crate::http::failure_from::managed;
use crate::http::read::{Id, Json, PageParams, Query, page};
use crate::state::ApiState;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use domain::ports::IssuedCouponView;
use domain::{CouponId, Money, ProductId};
use serde::Deserialize;
use utoipa::ToSchema;

/// Lists products with their stock.
#[utoipa::path(
    get, path = "/api/v1/products", operation_id = "listProducts", tag = "products",
    params(PageParams),
    responses((status = 200, description = "A page of products", body = Envelope<ProductPage>)),
)]
pub(crate) async fn list_products(state: web::Data<ApiState>, query: Query) -> Result<HttpResponse, Failure> {
    let (after, limit) = (query.cursor(ProductId::new)?, query.limit()?);
    let rows =
        state.runner.run(move |app| async move { app.queries().products(after, limit + 1).await }).await?;
    let (rows, next_cursor) = page(rows, limit, |product| product.id.get());
    ok(ProductPage { products: rows.iter().map(ProductBody::from).collect(), next_cursor })
}

/// Shows a product with its stock.
#[utoipa::path(
    get, path = "/api/v1/products/{productId}", operation_id = "getProduct", tag = "products",
    params(("productId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1)),
    responses((status = 200, description = "The product", body = Envelope<ProductBody>)),
)]
pub(crate) async fn get_product(
    state: web::Data<ApiState>,
    Id(id): Id<ProductId>,
) -> Result<HttpResponse, Failure> {
    let product = state.runner.run(move |app| async move { app.queries().product(id).await }).await?;
    ok(ProductBody::from(&product.ok_or(Failure::new(Case::ProductNotFound))?))
}

/// Shows the buyer's points.
#[utoipa::path(
    get, path = "/api/v1/points", operation_id = "getPoints", tag = "points",
    responses((status = 200, description = "The balance", body = Envelope<PointsBody>)),
)]
pub(crate) async fn get_points(state: web::Data<ApiState>, buyer: Buyer) -> Result<HttpResponse, Failure> {
    let balance =
        state.runner.run(move |app| async move { app.queries().point_balance(buyer.0).await }).await?;
    ok(PointsBody { balance: balance.won() })
}

/// An amount of points.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChargeBody {
    /// In won.
    #[schema(minimum = 1, maximum = 9007199254740991_i64, example = 10000)]
    pub(crate) amount: i64,
}

/// Charges the buyer's own points; only where the setting `points.self_charge` allows it: points are money.
#[utoipa::path(
    post, path = "/api/v1/points/charge", operation_id = "chargePoints", tag = "points",
    request_body(content = ChargeBody, example = json!({ "amount": 50000 })),
    responses((status = 200, description = "The balance after it", body = Envelope<PointsBody>)),
)]
pub(crate) async fn charge_points(
    state: web::Data<ApiState>,
    buyer: Buyer,
    body: Json<ChargeBody>,
) -> Result<HttpResponse, Failure> {
    if !state.self_charge {
        return Err(Case::SelfChargeDisabled.into());
    }
    let amount = Money::new(body.0.amount)?;
    let account = state
        .runner
        .run(move |app| async move {
            let charged = app.charge_points(buyer.0, amount).await;
            charged.map_err(|error| managed(error, Case::Internal, Case::Internal))
        })
        .await?;
    ok(PointsBody { balance: account.balance().won() })
}

/// Issues a coupon to the buyer, once.
#[utoipa::path(
    post, path = "/api/v1/issued-coupons/{couponId}", operation_id = "issueCoupon", tag = "coupons",
    params(("couponId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1)),
    responses((status = 201, description = "The buyer's coupon", body = Envelope<IssuedCouponBody>)),
)]
pub(crate) async fn issue_coupon(
    state: web::Data<ApiState>,
    buyer: Buyer,
    Id(id): Id<CouponId>,
) -> Result<HttpResponse, Failure> {
    let (issued, coupon) = state
        .runner
        .run(move |app| async move {
            let issued = app.issue_coupon(id, buyer.0).await;
            issued.map_err(|error| managed(error, Case::CouponNotFound, Case::CouponAlreadyIssued))
        })
        .await?;
    answer(StatusCode::CREATED, IssuedCouponBody::from(&IssuedCouponView { issued, coupon }))
}

/// Lists the buyer's coupons.
#[utoipa::path(
    get, path = "/api/v1/issued-coupons", operation_id = "listIssuedCoupons", tag = "coupons",
    responses((status = 200, description = "All of them, newest first", body = Envelope<IssuedCouponList>)),
)]
pub(crate) async fn list_issued_coupons(
    state: web::Data<ApiState>,
    buyer: Buyer,
) -> Result<HttpResponse, Failure> {
    let rows =
        state.runner.run(move |app| async move { app.queries().issued_coupons(buyer.0).await }).await?;
    ok(IssuedCouponList { issued_coupons: rows.iter().map(IssuedCouponBody::from).collect() })
}
