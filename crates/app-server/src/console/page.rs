//! What every page has: the request's context, the frame around its content, its headers, and the page that says what
//! went wrong.

use super::Console;
use super::format::clock;
use super::session::{cookie, set_cookie};
use super::wording::Notice;
use crate::http::border::{preferences, request_label};
use crate::http::failure::{Case, Failure};
use crate::http::read::digits;
use crate::state::OpsState;
use crate::texts::Texts;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, REFERRER_POLICY,
};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev, web};
use application::Application;
use askama::Template;
use bootstrap::settings::Locale;
use domain::ports::StoreError;
use domain::{InvalidId, Timestamp};
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::time::Duration;

/// Everything comes from this server, nothing runs or is styled that is not a file of it, nobody frames it.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The cookie that keeps the language that was chosen by `?lang=`.
const LANGUAGE: &str = "holdfast_lang";
/// It is kept for a year.
const LANGUAGE_KEPT: Duration = Duration::from_secs(365 * 86_400);

/// What a handler knows of its request.
pub(super) struct Context {
    pub(super) console: web::Data<Console>,
    pub(super) ops: web::Data<OpsState>,
    pub(super) headers: HeaderMap,
    pub(super) locale: Locale,
    /// The language was chosen by this request.
    chosen: bool,
    /// The operator's name, when there is a session.
    pub(super) operator: Option<String>,
    pub(super) peer: Option<IpAddr>,
    path: String,
    query: Vec<(String, String)>,
    /// The parts of the path, by name.
    request: HttpRequest,
}

impl FromRequest for Context {
    type Error = Failure;
    type Future = Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(Self::of(request).ok_or(Failure::new(Case::Internal)))
    }
}

impl Context {
    fn of(request: &HttpRequest) -> Option<Self> {
        let console = request.app_data::<web::Data<Console>>()?.clone();
        let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let query = query.map(web::Query::into_inner).unwrap_or_default();
        let asked = query.iter().find(|(key, _)| key == "lang").and_then(|(_, value)| language(value));
        let kept = cookie(request.headers(), LANGUAGE).and_then(language);
        Some(Self {
            operator: console.sessions.operator(request.headers()),
            console,
            ops: request.app_data::<web::Data<OpsState>>()?.clone(),
            headers: request.headers().clone(),
            locale: asked.or(kept).unwrap_or_else(|| preferences(request).locale),
            chosen: asked.is_some(),
            peer: request.peer_addr().map(|address| address.ip()),
            path: request.path().to_owned(),
            query,
            request: request.clone(),
        })
    }

    /// The words of the page's language.
    pub(super) const fn texts(&self) -> Texts {
        Texts::of(self.locale)
    }

    /// A parameter of the query; empty when it is not there.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The parameter `cursor`: where the page before ended.
    pub(super) fn cursor<T>(&self, new: impl Fn(i64) -> Result<T, InvalidId>) -> Result<Option<T>, Failure> {
        match self.parameter("cursor") {
            "" => Ok(None),
            text => {
                let id = digits(text).and_then(|id| new(id).ok());
                id.map(Some).ok_or_else(|| Failure::parameter("cursor"))
            }
        }
    }

    /// A part of the path.
    pub(super) fn part(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// The request, for the readers of the API.
    pub(super) const fn request(&self) -> &HttpRequest {
        &self.request
    }

    /// Who does it, for the audit.
    pub(super) fn actor(&self) -> String {
        self.operator.clone().unwrap_or_else(|| "operator".to_owned())
    }

    /// The frame of a page.
    pub(super) fn frame(&self, nav: Nav, title: impl Into<String>) -> Frame {
        let other = match self.locale {
            Locale::Ko => ("en", "English"),
            Locale::En => ("ko", "한국어"),
        };
        Frame {
            t: self.texts(),
            lang: self.locale.as_str(),
            other_lang: other.0,
            other_lang_name: other.1,
            other_lang_link: self.link_with("lang", other.0),
            nav,
            title: title.into(),
            version: super::assets::VERSION.as_str(),
            program: env!("CARGO_PKG_VERSION"),
            operator: self.operator.clone(),
            now: None,
            notice: Notice::parse(self.parameter("notice")),
        }
    }

    /// This page with one parameter of its query set, for a link.
    pub(super) fn link_with(&self, name: &str, value: &str) -> String {
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        let others = self.query.iter().filter(|(key, value)| {
            // What has just happened is said once.
            key != name && key != "notice" && plain(key) && plain(value) && !value.is_empty()
        });
        let mut link = format!("{}?", self.path);
        for (key, value) in others {
            link.push_str(&format!("{key}={value}&"));
        }
        if value.is_empty() {
            link.pop();
            return link;
        }
        link + name + "=" + value
    }
}

fn language(text: &str) -> Option<Locale> {
    match text {
        "ko" => Some(Locale::Ko),
        "en" => Some(Locale::En),
        _ => None,
    }
}

/// The database's moment.
pub(super) async fn moment(app: &Application) -> Result<Timestamp, StoreError> {
    Ok(app.queries().worklist(1).await?.now)
}

/// The pages that the navigation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nav {
    Overview,
    Payments,
    Discrepancies,
    Circuits,
    Reconciler,
    None,
}

/// What stands around a page's content.
pub(super) struct Frame {
    pub(super) t: Texts,
    pub(super) lang: &'static str,
    pub(super) other_lang: &'static str,
    pub(super) other_lang_name: &'static str,
    pub(super) other_lang_link: String,
    pub(super) nav: Nav,
    pub(super) title: String,
    pub(super) version: &'static str,
    pub(super) program: &'static str,
    pub(super) operator: Option<String>,
    /// The page's moment, by the database's clock.
    pub(super) now: Option<String>,
    notice: Option<Notice>,
}

impl Frame {
    /// Adds the page's moment.
    pub(super) fn at(mut self, now: Timestamp) -> Self {
        self.now = Some(clock(now));
        self
    }

    /// Whether the navigation stands here.
    pub(super) fn is(&self, nav: &Nav) -> bool {
        self.nav == *nav
    }

    /// What has just happened, and whether it was good.
    pub(super) fn notice(&self) -> Option<(&'static str, bool)> {
        self.notice.map(|notice| (notice.text(self.t), notice.is_good()))
    }

    /// The pages to go to.
    pub(super) fn links(&self) -> [(Nav, &'static str, &'static str); 5] {
        [
            (Nav::Overview, "/", self.t.say("overview")),
            (Nav::Payments, "/payments", self.t.say("payments")),
            (Nav::Discrepancies, "/discrepancies", self.t.say("discrepancies")),
            (Nav::Circuits, "/circuits", self.t.say("circuits")),
            (Nav::Reconciler, "/reconciler", self.t.say("reconciler")),
        ]
    }
}

/// A page as a response, with its headers.
pub(super) fn html(page: &impl Template, status: StatusCode) -> HttpResponse {
    match page.render() {
        Ok(text) => HttpResponse::build(status)
            .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((CONTENT_SECURITY_POLICY, POLICY))
            // A form's `Origin` is what lets its post through: `no-referrer` would make it "null".
            .insert_header((REFERRER_POLICY, "same-origin"))
            .insert_header((HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(text),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a page could not be rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}

#[derive(Template)]
#[template(path = "console/error.html")]
struct ErrorPage {
    frame: Frame,
    t: Texts,
    status: u16,
    message: String,
    what_to_do: &'static str,
    request_id: String,
}

/// The page, or the one that says what went wrong; with the language that was chosen.
pub(super) async fn answer(
    context: &Context,
    page: impl Future<Output = Result<HttpResponse, Failure>>,
) -> HttpResponse {
    let mut response = match page.await {
        Ok(response) => response,
        Err(failure) => {
            failure.log();
            let t = context.texts();
            let what_to_do = match failure.case() {
                Case::DatabaseUnavailable => t.say("database-away-help"),
                Case::Internal => t.say("internal-help"),
                _ => "",
            };
            let page = ErrorPage {
                frame: context.frame(Nav::None, t.say("error")),
                t,
                status: failure.status().as_u16(),
                message: failure.message(context.locale),
                what_to_do,
                request_id: request_label(context.request()),
            };
            html(&page, failure.status())
        }
    };
    response.headers_mut().insert(CONTENT_LANGUAGE, HeaderValue::from_static(context.locale.as_str()));
    if context.chosen {
        set_cookie(&mut response, LANGUAGE, context.locale.as_str(), LANGUAGE_KEPT);
    }
    response
}
