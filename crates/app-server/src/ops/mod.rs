//! The operations API: health, metrics, and what operators do. On a port of its own, for a network of its own.

pub(crate) mod access;
pub(crate) mod circuits;
pub(crate) mod discrepancies;
pub(crate) mod goods;
pub(crate) mod health;
pub(crate) mod payments;

pub use circuits::{CircuitBody, CircuitCommand, Circuits};

use crate::http::failure::Failure;
use crate::http::read::single_header;
use crate::http::routes::resource;
use actix_web::{FromRequest, HttpRequest, dev, web};
use std::future::{Ready, ready};

/// All paths of the operations API.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let (get, post, put) = (web::get, web::post, web::put);
    config
        .service(resource("/health/live", "GET, HEAD", [get().to(health::live)]))
        .service(resource("/health/ready", "GET, HEAD", [get().to(health::ready)]))
        .service(resource("/metrics", "GET, HEAD", [get().to(health::metrics)]))
        .service(resource("/admin/circuits", "GET, HEAD", [get().to(circuits::list_circuits)]))
        .service(resource("/admin/circuits/{name}", "POST", [post().to(circuits::set_circuit)]))
        .service(resource("/admin/payments", "GET, HEAD", [get().to(payments::list_payments)]))
        .service(resource("/admin/payments/{paymentId}", "GET, HEAD", [get().to(payments::get_payment)]))
        .service(resource("/admin/payments/{paymentId}/sync", "POST", [post().to(payments::sync_payment)]))
        .service(resource("/admin/discrepancies", "GET, HEAD", [get().to(discrepancies::list_discrepancies)]))
        .service(resource(
            "/admin/discrepancies/{discrepancyId}/resolve",
            "POST",
            [post().to(discrepancies::resolve_discrepancy)],
        ))
        .service(resource("/admin/products", "POST", [post().to(goods::create_product)]))
        .service(resource("/admin/products/{productId}/stock", "PUT", [put().to(goods::set_stock)]))
        .service(resource("/admin/coupons", "POST", [post().to(goods::create_coupon)]))
        .service(resource("/admin/users/{userId}/points", "POST", [post().to(goods::charge_points)]));
}

/// Who does it, in the OpenAPI document. [`Actor`] reads it.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what Actor reads")]
pub(crate) struct OperatorParam {
    /// Who does it, for the audit; `operator` when absent
    #[param(rename = "X-Operator", value_type = String, required = false, min_length = 1, max_length = 100, example = "kim")]
    operator: Option<String>,
}

/// Who does it, for the audit: the header `X-Operator`, as far as it can be printed.
pub(crate) struct Actor(pub(crate) String);

impl FromRequest for Actor {
    type Error = Failure;
    type Future = Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(match single_header(request.headers(), "x-operator") {
            Ok(None) => Ok(Self("operator".to_owned())),
            Ok(Some(name)) if (1..=100).contains(&name.len()) => Ok(Self(name.to_owned())),
            Ok(Some(_)) | Err(()) => Err(Failure::parameter("X-Operator")),
        })
    }
}
