//! The border that every request and every answer crosses: failures get their language and form here and are logged here,
//! once; headers that all answers have are set here.

use super::access_log::{REQUEST_ID, RequestLabel};
use super::envelope::render_failure;
use super::failure::{Case, Failure};
use super::locale::Preferences;
use super::wire::Wire;
use crate::proxies::Proxies;
use crate::state::{Limiter, Prepared};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use bootstrap::settings::Locale;
use std::net::IpAddr;

/// Without the border (it is always there) a failure would be told like this.
impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        render_failure(self, Preferences { locale: Locale::Ko, problem_json: false }, "")
    }
}

/// What the headers of a request say about its answer.
pub(crate) fn preferences(request: &HttpRequest) -> Preferences {
    let default = Preferences { locale: Locale::Ko, problem_json: false };
    request.extensions().get::<Preferences>().copied().unwrap_or(default)
}

/// The request's id.
pub(crate) fn request_label(request: &HttpRequest) -> String {
    request.extensions().get::<RequestLabel>().map(|RequestLabel(label)| label.clone()).unwrap_or_default()
}

/// Lets a request in and its answer out.
pub(crate) async fn border(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let prepared = request.app_data::<web::Data<Prepared>>().map(|prepared| *prepared.get_ref());
    let default = prepared.map_or(Locale::Ko, |prepared| prepared.locale);
    let preferences = Preferences::of(&request, default);
    request.extensions_mut().insert(preferences);

    let limited = request
        .app_data::<web::Data<Limiter>>()
        .and_then(|limiter| limiter.check_address(client(&request)?).err());
    let too_large = prepared.and_then(|prepared| prepared.head.check(request.head()).err());
    let wire = Wire::take(&mut request);
    let response = match limited.or(too_large) {
        Some(failure) => request.into_response(HttpResponse::from_error(failure)),
        None => next.call(request).await?.map_into_boxed_body(),
    };

    let label = request_label(response.request());
    let mut response = rendered(response, preferences, &label);
    let is_docs = response.request().path().starts_with("/docs");
    finish(response.headers_mut(), preferences, &label, is_docs);
    Ok(wire.fit(response))
}

/// Who asks, as far as the proxies in front are believed.
fn client(request: &ServiceRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    Some(request.app_data::<web::Data<Proxies>>()?.client(peer, request.headers()))
}

/// A failed call's answer, in the form its client can read. What the framework refused by itself (there is hardly
/// anything left that it does) is brought into the envelope here.
fn rendered(response: ServiceResponse, preferences: Preferences, label: &str) -> ServiceResponse {
    let own = response.response().error().and_then(|error| error.as_error::<Failure>());
    let mut body = if let Some(failure) = own {
        failure.log();
        render_failure(failure, preferences, label)
    } else if let Some(error) = response.response().error() {
        let is_cors = error.as_error::<actix_cors::CorsError>().is_some();
        let case = if is_cors { Case::CrossSite } else { framework_case(response.status()) };
        let failure = Failure::new(case);
        failure.log();
        render_failure(&failure, preferences, label)
    } else {
        return response;
    };
    // What the layer for other origins has said about the answer still holds.
    for (name, value) in response.headers() {
        if *name == VARY || name.as_str().starts_with("access-control-") {
            body.headers_mut().append(name.clone(), value.clone());
        }
    }
    response.into_response(body)
}

fn framework_case(status: StatusCode) -> Case {
    match status {
        StatusCode::NOT_FOUND => Case::UnknownPath,
        StatusCode::METHOD_NOT_ALLOWED => Case::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Case::PayloadTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Case::UnsupportedMediaType,
        status if status.is_client_error() => Case::BodyUnreadable,
        _ => Case::Internal,
    }
}

/// Pages of other sites can do nothing with the API's answers, and nobody keeps them.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// The documentation's page runs its own embedded scripts and sets styles on elements; nothing comes from elsewhere.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

fn finish(headers: &mut HeaderMap, preferences: Preferences, label: &str, is_docs: bool) {
    let mut set = |name: HeaderName, value: HeaderValue| {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    };
    if let Ok(label) = HeaderValue::from_str(label) {
        set(HeaderName::from_static(REQUEST_ID), label);
    }
    let policy = if is_docs { DOCS_POLICY } else { API_POLICY };
    set(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    set(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    set(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    set(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    set(CONTENT_LANGUAGE, HeaderValue::from_static(preferences.locale.as_str()));
    headers.append(VARY, HeaderValue::from_static("accept-language, accept"));
}
