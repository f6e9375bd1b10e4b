//! Products, stock, coupons and points: what operators make.

use super::{Actor, OperatorParam};
use crate::api::views::{CouponBody, PointsBody, ProductBody};
use crate::http::envelope::{Envelope, answer, ok};
use crate::http::failure::{Case, Failure};
use crate::http::failure_from::managed;
use crate::http::read::{Id, Json, text};
use crate::state::OpsState;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use application::manage::ManageError;
use domain::ports::ProductView;
use domain::{Discount, Money, ProductId, Stock, UserId};
use serde::Deserialize;
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;

/// A product to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateProductBody {
    /// What buyers see.
    #[schema(min_length = 1, max_length = 200, example = "텀블러")]
    name: String,
    /// The price of one piece, in won.
    #[schema(minimum = 0, maximum = 9007199254740991_i64, example = 15000)]
    price: i64,
    /// Pieces on hand.
    #[schema(minimum = 0, maximum = 9007199254740991_i64, example = 100)]
    stock: i64,
}

fn found(error: ManageError, not_found: Case) -> Failure {
    managed(error, not_found, Case::ConcurrentUpdate)
}

/// Makes a product.
#[utoipa::path(
    post, path = "/admin/products", operation_id = "createProduct", tag = "operations",
    params(OperatorParam),
    request_body(content = CreateProductBody, example = json!({ "name": "텀블러", "price": 15000, "stock": 100 })),
    responses((status = 201, description = "The product", body = Envelope<ProductBody>)),
)]
pub(crate) async fn create_product(
    state: web::Data<OpsState>,
    Actor(actor): Actor,
    Json(body): Json<CreateProductBody>,
) -> Result<HttpResponse, Failure> {
    let name = text(body.name, "name", 1..=200)?;
    let price = Money::new(body.price)?;
    if price.is_negative() {
        return Err(Failure::field("price"));
    }
    let stock = Stock::new(body.stock)?;
    let view = state
        .runner
        .run(move |app| async move {
            let id = app.create_product(&name, price, stock).await;
            id.map(|id| ProductView { id, name, price, stock })
                .map_err(|error| found(error, Case::ProductNotFound))
        })
        .await?;
    tracing::info!(product_id = %view.id, actor, "product made");
    answer(StatusCode::CREATED, ProductBody::from(&view))
}

/// What was counted.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SetStockBody {
    /// Pieces on hand.
    #[schema(minimum = 0, maximum = 9007199254740991_i64, example = 100)]
    quantity: i64,
}

/// Sets a product's stock to what was counted.
#[utoipa::path(
    put, path = "/admin/products/{productId}/stock", operation_id = "setStock", tag = "operations",
    params(("productId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1), OperatorParam),
    request_body(content = SetStockBody, example = json!({ "quantity": 80 })),
    responses((status = 200, description = "The product after it", body = Envelope<ProductBody>)),
)]
pub(crate) async fn set_stock(
    state: web::Data<OpsState>,
    Id(id): Id<ProductId>,
    Actor(actor): Actor,
    Json(body): Json<SetStockBody>,
) -> Result<HttpResponse, Failure> {
    let stock = Stock::new(body.quantity)?;
    let view = state
        .runner
        .run(move |app| async move {
            app.set_stock(id, stock).await.map_err(|error| found(error, Case::ProductNotFound))?;
            app.queries().product(id).await?.ok_or(Failure::new(Case::ProductNotFound))
        })
        .await?;
    tracing::info!(product_id = %id, quantity = stock.quantity(), actor, "stock set");
    ok(ProductBody::from(&view))
}

/// How a coupon takes something off.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DiscountTypeBody {
    /// So many won.
    Fixed,
    /// So many per cent.
    Rate,
}

/// A coupon to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateCouponBody {
    /// What buyers see.
    #[schema(min_length = 1, max_length = 200, example = "신규 가입 10% 할인")]
    name: String,
    /// How it takes something off.
    discount_type: DiscountTypeBody,
    /// Won, or per cent from 1 to 100.
    #[schema(minimum = 1, maximum = 9007199254740991_i64, example = 10)]
    discount_value: i64,
    /// It can be used before this moment; for ever when absent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    valid_until: Option<OffsetDateTime>,
}

/// Makes a coupon that can be issued to buyers.
#[utoipa::path(
    post, path = "/admin/coupons", operation_id = "createCoupon", tag = "operations",
    params(OperatorParam),
    request_body(content = CreateCouponBody, example = json!({
        "name": "신규 가입 10% 할인", "discountType": "RATE", "discountValue": 10, "validUntil": "2099-12-31T15:00:00Z",
    })),
    responses((status = 201, description = "The coupon", body = Envelope<CouponBody>)),
)]
pub(crate) async fn create_coupon(
    state: web::Data<OpsState>,
    Actor(actor): Actor,
    Json(body): Json<CreateCouponBody>,
) -> Result<HttpResponse, Failure> {
    let name = text(body.name, "name", 1..=200)?;
    let discount = match body.discount_type {
        DiscountTypeBody::Fixed => Discount::fixed(Money::new(body.discount_value)?)?,
        DiscountTypeBody::Rate => Discount::rate(body.discount_value)?,
    };
    let valid_until = body.valid_until.map(utc).transpose()?;
    let coupon = state
        .runner
        .run(move |app| async move {
            let coupon = app.create_coupon(&name, discount, valid_until).await;
            coupon.map_err(|error| found(error, Case::CouponNotFound))
        })
        .await?;
    tracing::info!(coupon_id = %coupon.id, actor, "coupon made");
    answer(StatusCode::CREATED, CouponBody::from(&coupon))
}

/// The moment in UTC, in whole microseconds, as the database keeps it.
fn utc(moment: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
    let in_utc = moment.checked_to_offset(UtcOffset::UTC).filter(|moment| moment.year() >= 1);
    let micros = in_utc.and_then(|moment| moment.replace_microsecond(moment.microsecond()).ok());
    micros.ok_or_else(|| Failure::field("validUntil"))
}

/// Charges a buyer's points.
#[utoipa::path(
    post, path = "/admin/users/{userId}/points", operation_id = "chargeUserPoints", tag = "operations",
    params(("userId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 1), OperatorParam),
    request_body(content = crate::api::ChargeBody, example = json!({ "amount": 10000 })),
    responses((status = 200, description = "The balance after it", body = Envelope<PointsBody>)),
)]
pub(crate) async fn charge_points(
    state: web::Data<OpsState>,
    Id(user): Id<UserId>,
    Actor(actor): Actor,
    Json(body): Json<crate::api::ChargeBody>,
) -> Result<HttpResponse, Failure> {
    let amount = Money::new(body.amount)?;
    let account = state
        .runner
        .run(move |app| async move {
            let charged = app.charge_points(user, amount).await;
            charged.map_err(|error| found(error, Case::Internal))
        })
        .await?;
    tracing::info!(user_id = %user, amount = amount.won(), actor, "points charged");
    ok(PointsBody { balance: account.balance().won() })
}
