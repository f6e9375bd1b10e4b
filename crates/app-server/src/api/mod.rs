//! The public API: extract, convert, run the use-case in a tracked task, map.

pub(crate) mod callbacks;
pub(crate) mod goods;
pub(crate) mod orders;
pub(crate) mod payments;
pub(crate) mod place_order;
pub(crate) mod views;

pub(crate) use goods::ChargeBody;

use crate::http::routes::resource;
use actix_web::web;

/// All paths of the public API but its documentation.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let get = web::get;
    let post = web::post;
    config
        .service(resource(
            "/api/v1/orders",
            "GET, HEAD, POST",
            [get().to(orders::list_orders), post().to(place_order::place_order)],
        ))
        .service(resource("/api/v1/orders/{orderId}", "GET, HEAD", [get().to(orders::get_order)]))
        .service(resource(
            "/api/v1/orders/{orderId}/events",
            "GET, HEAD",
            [get().to(orders::stream_order_events)],
        ))
        .service(resource(
            "/api/v1/payments/callback",
            "POST",
            [post().to(callbacks::receive_untokened_callback)],
        ))
        .service(resource(
            "/api/v1/payments/callback/{token}",
            "POST",
            [post().to(callbacks::receive_callback)],
        ))
        .service(resource("/api/v1/payments/{paymentId}", "GET, HEAD", [get().to(payments::get_payment)]))
        .service(resource("/api/v1/payments/{paymentId}/sync", "POST", [post().to(payments::sync_payment)]))
        .service(resource("/api/v1/points", "GET, HEAD", [get().to(goods::get_points)]))
        .service(resource("/api/v1/points/charge", "POST", [post().to(goods::charge_points)]))
        .service(resource("/api/v1/issued-coupons", "GET, HEAD", [get().to(goods::list_issued_coupons)]))
        .service(resource("/api/v1/issued-coupons/{couponId}", "POST", [post().to(goods::issue_coupon)]))
        .service(resource("/api/v1/products", "GET, HEAD", [get().to(goods::list_products)]))
        .service(resource("/api/v1/products/{productId}", "GET, HEAD", [get().to(goods::get_product)]));
}
