//! Reading a posted form, and the redirect that answers it.

use crate::http::failure::{Case, Failure};
use crate::http::read::{announced_length, read_body};
use crate::state::OpsState;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, LOCATION, ORIGIN};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev, web};
use futures_util::future::LocalBoxFuture;

/// The fields of a posted form.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// A field without the blanks around it; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
    }
}

impl FromRequest for Form {
    type Error = Failure;
    type Future = LocalBoxFuture<'static, Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let limits = request.app_data::<web::Data<OpsState>>().map(|state| state.body_limits);
        let named = names_its_origin(request.headers());
        let announced = announced_length(request.headers());
        let payload = payload.take();
        Box::pin(async move {
            let body = read_body(payload, announced, limits.ok_or(Failure::new(Case::Internal))?).await?;
            if !named {
                return Err(Case::CrossSite.into());
            }
            let text = std::str::from_utf8(&body).map_err(|_| Failure::field("form"))?;
            let fields = web::Query::<Vec<(String, String)>>::from_query(text);
            Ok(Self(fields.map_err(|_| Failure::field("form"))?.into_inner()))
        })
    }
}

/// Every browser says where a form comes from, and `ops::access` has judged it. What does not say it is no browser that
/// could be trusted with a cookie.
fn names_its_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")
}

/// Sends the browser to a page of the console by GET, so that loading again posts nothing again.
pub(super) fn redirect(path: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, path))
        .insert_header((CACHE_CONTROL, "no-store"))
        .finish()
}
