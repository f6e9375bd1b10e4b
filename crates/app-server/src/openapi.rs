//! The OpenAPI 3.1 documents, made from the handlers' annotations and the table of failures, and the page that shows the
//! public one. All its assets are embedded.

use crate::api::{callbacks, goods, orders, payments, place_order};
use crate::http::envelope::{Envelope, Problem};
use crate::http::failure::{Case, Failure};
use crate::http::locale::PROBLEM_JSON;
use crate::http::routes::resource;
use crate::ops;
use actix_web::{HttpRequest, HttpResponse, web};
use bootstrap::settings::Locale;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Object, ObjectBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Type,
};
use utoipa::{OpenApi, ToSchema};

/// Where the documents are served, on either port.
const DOCUMENT_PATH: &str = "/api-docs/openapi.json";

/// What every failed call answers; a refused order is in `data` all the same.
#[derive(ToSchema)]
#[schema(as = Failure)]
#[expect(dead_code, reason = "describes Envelope::failure in the OpenAPI document")]
struct FailureEnvelope {
    meta: FailureMeta,
    #[schema(required = true)]
    data: Option<Object>,
}

/// The head of a failed call's answer.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes Meta in the OpenAPI document")]
struct FailureMeta {
    /// FAIL.
    #[schema(example = "FAIL")]
    result: String,
    /// One of a few codes, for programs.
    error_code: String,
    /// A sentence for people, in Korean or English.
    message: String,
    /// Which case of the code, for programs.
    reason: String,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Orders and card payments that come to the one right end although the payment gateway may be slow, \
            down, silent, or answer twice.\n\nEvery answer has the same envelope. `errorCode` is one of a few codes, `reason` says which \
            case of it; both are for programs, `message` is for people: Korean, or English with `Accept-Language: en`. With \
            `Accept: application/problem+json` errors come as RFC 9457 problems.\n\nAmounts are whole Korean won; all integers are below 2^53.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "http://localhost:8080", description = "A local system started by `cargo xtask up`")),
    paths(
        place_order::place_order,
        orders::get_order,
        orders::list_orders,
        orders::stream_order_events,
        payments::get_payment,
        payments::sync_payment,
        callbacks::receive_callback,
        callbacks::receive_untokened_callback,
        goods::list_products,
        goods::get_product,
        goods::get_points,
        goods::charge_points,
        goods::issue_coupon,
        goods::list_issued_coupons,
    ),
    components(schemas(FailureEnvelope, Problem)),
    tags(
        (name = "orders", description = "Placing and following orders"),
        (name = "payments", description = "The payment of an order"),
        (name = "products", description = "What can be ordered"),
        (name = "points", description = "A buyer's points; one point is one won"),
        (name = "coupons", description = "A buyer's coupons"),
        (name = "callbacks", description = "For the payment gateway"),
    ),
)]
struct PublicApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast operations",
        description = "Health, metrics and what operators do, on a port of its own. With `ops.token` set a bearer token is needed; \
            without one only the server's own machine is served.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "http://127.0.0.1:8081", description = "A local system started by `cargo xtask up`")),
    paths(
        ops::health::live,
        ops::health::ready,
        ops::health::metrics,
        ops::circuits::list_circuits,
        ops::circuits::set_circuit,
        ops::payments::list_payments,
        ops::payments::get_payment,
        ops::payments::sync_payment,
        ops::discrepancies::list_discrepancies,
        ops::discrepancies::resolve_discrepancy,
        ops::goods::create_product,
        ops::goods::set_stock,
        ops::goods::create_coupon,
        ops::goods::charge_points,
    ),
    components(schemas(FailureEnvelope, Problem)),
    tags((name = "operations", description = "For operators")),
)]
struct OperationsApi;

const BUYER: &[Case] = &[
    Case::UserIdRequired,
    Case::InvalidUserId,
    Case::UserIdNotTrusted,
    Case::TokenRequired,
    Case::InvalidToken,
    Case::RateLimited,
];
const ANYONE: &[Case] = &[Case::RateLimited];
const OPERATOR: &[Case] = &[Case::TokenRequired, Case::InvalidToken, Case::LoopbackOnly];
const CHANGES: &[Case] = &[Case::CrossSite];
const PARAMETERS: &[Case] = &[Case::InvalidParameter];
const BODY: &[Case] = &[
    Case::MalformedJson,
    Case::MissingField,
    Case::InvalidField,
    Case::BodyUnreadable,
    Case::PayloadTooLarge,
    Case::UnsupportedMediaType,
];
const SERVER: &[Case] = &[Case::DatabaseUnavailable, Case::Internal];
const ORDER: &[Case] = &[
    Case::NoItems,
    Case::TooManyItems,
    Case::InvalidQuantity,
    Case::OutOfStock,
    Case::TotalNotPositive,
    Case::AmountOverflow,
    Case::CouponAlreadyUsed,
    Case::CouponNotOwned,
    Case::CouponExpired,
    Case::InsufficientPoint,
    Case::UsedPointNegative,
    Case::PaidAmountNegative,
    Case::AmountMismatch,
    Case::CardRequired,
    Case::InvalidCardNumber,
    Case::InvalidCardType,
    Case::InvalidIdempotencyKey,
    Case::ProductNotFound,
    Case::ConcurrentUpdate,
    Case::IdempotencyInProgress,
    Case::IdempotencyKeyReused,
    Case::PaymentRefused,
    Case::CircuitOpen,
    Case::GatewayNotReached,
    Case::Overloaded,
    Case::ShuttingDown,
    Case::OutcomeUnknown,
];
const CALLBACK: &[Case] = &[
    Case::MalformedJson,
    Case::MissingField,
    Case::InvalidField,
    Case::BodyUnreadable,
    Case::PayloadTooLarge,
];
const SYNC: &[Case] =
    &[Case::PaymentNotFound, Case::SyncTooSoon, Case::GatewayNotAsked, Case::ConcurrentUpdate];

/// Which failures each operation can answer. A test sends what it can of them and looks them up here.
fn failures(operation: &str) -> Vec<Case> {
    let groups: &[&[Case]] = match operation {
        "placeOrder" => &[BUYER, BODY, ORDER, SERVER],
        "getOrder" => &[BUYER, PARAMETERS, &[Case::OrderNotFound], SERVER],
        "listOrders" => &[BUYER, PARAMETERS, SERVER],
        "streamOrderEvents" => &[BUYER, PARAMETERS, &[Case::OrderNotFound, Case::Overloaded], SERVER],
        "getPayment" => &[BUYER, PARAMETERS, &[Case::PaymentNotFound], SERVER],
        "syncPayment" => &[BUYER, PARAMETERS, SYNC, SERVER],
        "receiveCallback" => &[ANYONE, CALLBACK, &[Case::CallbackNotFound, Case::ConcurrentUpdate], SERVER],
        "receiveUntokenedCallback" => &[ANYONE, CALLBACK, &[Case::OrderNotFound], SERVER],
        "listProducts" => &[ANYONE, PARAMETERS, SERVER],
        "getProduct" => &[ANYONE, PARAMETERS, &[Case::ProductNotFound], SERVER],
        "getPoints" | "listIssuedCoupons" => &[BUYER, SERVER],
        "chargePoints" => &[
            BUYER,
            BODY,
            &[
                Case::ChargeNotPositive,
                Case::AmountOverflow,
                Case::SelfChargeDisabled,
                Case::ConcurrentUpdate,
            ],
            SERVER,
        ],
        "issueCoupon" => &[
            BUYER,
            PARAMETERS,
            &[Case::CouponNotFound, Case::CouponAlreadyIssued, Case::ConcurrentUpdate],
            SERVER,
        ],
        "live" => &[],
        "ready" => &[&[Case::DatabaseUnavailable, Case::ShuttingDown]],
        "metrics" => &[OPERATOR],
        "listCircuits" => &[OPERATOR, &[Case::Internal]],
        "setCircuit" => &[OPERATOR, CHANGES, PARAMETERS, BODY, &[Case::CircuitNotFound, Case::Internal]],
        "listPayments" | "listDiscrepancies" => &[OPERATOR, PARAMETERS, SERVER],
        "getAdminPayment" => &[OPERATOR, PARAMETERS, &[Case::PaymentNotFound], SERVER],
        "syncAdminPayment" => &[OPERATOR, CHANGES, PARAMETERS, SYNC, SERVER],
        "resolveDiscrepancy" => &[
            OPERATOR,
            CHANGES,
            PARAMETERS,
            BODY,
            &[Case::DiscrepancyNotFound, Case::AlreadyResolved, Case::ConcurrentUpdate],
            SERVER,
        ],
        "createProduct" => &[
            OPERATOR,
            CHANGES,
            PARAMETERS,
            BODY,
            &[Case::AmountOverflow, Case::InvalidStock, Case::ConcurrentUpdate],
            SERVER,
        ],
        "setStock" => &[
            OPERATOR,
            CHANGES,
            PARAMETERS,
            BODY,
            &[Case::InvalidStock, Case::ProductNotFound, Case::ConcurrentUpdate],
            SERVER,
        ],
        "createCoupon" => &[
            OPERATOR,
            CHANGES,
            PARAMETERS,
            BODY,
            &[Case::AmountOverflow, Case::DiscountNotPositive, Case::RateOutOfRange, Case::ConcurrentUpdate],
            SERVER,
        ],
        "chargeUserPoints" => &[
            OPERATOR,
            CHANGES,
            PARAMETERS,
            BODY,
            &[Case::AmountOverflow, Case::ChargeNotPositive, Case::ConcurrentUpdate],
            SERVER,
        ],
        _ => &[Case::ALL],
    };
    groups.concat()
}

fn bearer() -> SecurityScheme {
    SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer))
}

/// With `auth.mode = "header"` every buyer's call has it.
fn user_id() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(9_007_199_254_740_991_i64));
    ParameterBuilder::new()
        .name("X-USER-ID")
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some("The buyer, set by the gateway in front; not needed in the mode `jwt`"))
        .schema(Some(schema.build()))
        .example(Some(serde_json::json!(1)))
        .build()
}

/// The public API's document.
#[must_use]
pub fn public_document() -> utoipa::openapi::OpenApi {
    let mut document = PublicApi::openapi();
    let schemes = &mut document.components.get_or_insert_default().security_schemes;
    schemes.insert("bearer".to_owned(), RefOr::T(bearer()));
    let buyer =
        vec![SecurityRequirement::default(), SecurityRequirement::new("bearer", Vec::<String>::new())];
    complete(&mut document, |cases| cases.contains(&Case::UserIdRequired).then(|| buyer.clone()));
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            if operation.security.is_some() {
                operation.parameters.get_or_insert_default().push(RefOr::T(user_id()));
            }
        }
    }
    document
}

/// The operations API's document.
#[must_use]
pub fn operations_document() -> utoipa::openapi::OpenApi {
    let mut document = OperationsApi::openapi();
    let schemes = &mut document.components.get_or_insert_default().security_schemes;
    schemes.insert("bearer".to_owned(), RefOr::T(bearer()));
    let operator =
        vec![SecurityRequirement::default(), SecurityRequirement::new("bearer", Vec::<String>::new())];
    complete(&mut document, |cases| cases.contains(&Case::LoopbackOnly).then(|| operator.clone()));
    document
}

/// A document as it is checked in and served.
#[must_use]
pub fn text(document: &utoipa::openapi::OpenApi) -> String {
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn complete(
    document: &mut utoipa::openapi::OpenApi,
    security: impl Fn(&[Case]) -> Option<Vec<SecurityRequirement>>,
) {
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post, &mut item.put].into_iter().flatten() {
            let mut cases = failures(operation.operation_id.as_deref().unwrap_or_default());
            cases.push(Case::HeadersTooLarge);
            operation.security = security(&cases);
            add_failures(operation, &cases);
            name_request(operation);
        }
    }
}

/// One response for each status, with an example for each case.
fn add_failures(operation: &mut Operation, cases: &[Case]) {
    let mut by_status: BTreeMap<u16, Vec<Case>> = BTreeMap::new();
    for case in cases {
        by_status.entry(case.code().status().as_u16()).or_default().push(*case);
    }
    for (status, cases) in by_status {
        operation.responses.responses.insert(status.to_string(), RefOr::T(failure_response(status, &cases)));
    }
}

fn failure_response(status: u16, cases: &[Case]) -> Response {
    let mut codes: Vec<&str> = cases.iter().map(|case| case.code().as_str()).collect();
    codes.dedup();
    let examples = cases.iter().filter_map(|case| {
        let failure = Failure::new(*case);
        let envelope = Envelope::<()>::failure(&failure, Locale::Ko, None);
        let value = serde_json::to_value(envelope).ok()?;
        let summary = failure.message(Locale::En);
        Some((case.reason(), ExampleBuilder::new().summary(summary).value(Some(value)).build()))
    });
    let envelope =
        ContentBuilder::new().schema(Some(Ref::from_schema_name("Failure"))).examples_from_iter(examples);
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
    let mut response = ResponseBuilder::new()
        .description(codes.join(", "))
        .content("application/json", envelope.build())
        .content(PROBLEM_JSON, problem.build());
    if matches!(status, 429 | 503) {
        let header = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::Integer)))
            .description(Some("Seconds after which to try again"));
        response = response.header("Retry-After", header.build());
    }
    response.build()
}

/// Every request and answer can be found in the logs by its id.
fn name_request(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let header = HeaderBuilder::new()
                .schema(Some(Object::with_type(Type::String)))
                .description(Some("Names the request in the logs; the client's own when it sent one"));
            response.headers.insert("X-Request-Id".to_owned(), RefOr::T(header.build()));
        }
    }
}

/// The document, made once for each thread that serves it.
#[derive(Clone)]
struct Document(Arc<str>);

async fn document(document: web::Data<Document>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document.0.to_string())
}

/// The documentation's page and what it loads.
async fn page(
    request: HttpRequest,
    config: web::Data<utoipa_swagger_ui::Config<'static>>,
) -> Result<HttpResponse, Failure> {
    let name = request.match_info().get("file").unwrap_or_default();
    match utoipa_swagger_ui::serve(name, config.into_inner()) {
        Ok(Some(file)) => Ok(HttpResponse::Ok().content_type(file.content_type).body(file.bytes.to_vec())),
        Ok(None) => Err(Case::UnknownPath.into()),
        Err(error) => Err(Failure::internal(&*error)),
    }
}

async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header(("Location", "/docs/")).finish()
}

/// The public document and its page.
pub(crate) fn public_routes(config: &mut web::ServiceConfig) {
    config
        .app_data(web::Data::new(Document(text(&public_document()).into())))
        .app_data(web::Data::new(utoipa_swagger_ui::Config::from(DOCUMENT_PATH)))
        .service(resource(DOCUMENT_PATH, "GET, HEAD", [web::get().to(document)]))
        .service(resource("/docs", "GET, HEAD", [web::get().to(to_page)]))
        .service(resource("/docs/{file:.*}", "GET, HEAD", [web::get().to(page)]));
}

/// The operations document.
pub(crate) fn operations_routes(config: &mut web::ServiceConfig) {
    config.app_data(web::Data::new(Document(text(&operations_document()).into()))).service(resource(
        DOCUMENT_PATH,
        "GET, HEAD",
        [web::get().to(document)],
    ));
}
