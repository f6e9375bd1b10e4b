//! Who is at the console: a session in this process's memory, named by a cookie.
//!
//! With `ops.token` set, a session begins with that token and lets into the pages. Without one the port serves this machine
//! only; then a session is nothing but the operator's name for the audit. The cookie is HttpOnly and SameSite=Strict, and
//! is not the token: it ends after twelve hours, at sign-out, or when the program ends.

use super::Console;
use super::forms::{Form, redirect};
use super::page::{Context, Frame, Nav, answer, html};
use crate::http::failure::{Case, Failure};
use crate::state::OpsState;
use crate::texts::Texts;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{COOKIE, HeaderMap, SET_COOKIE};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use askama::Template;
use bootstrap::entropy::OsEntropy;
use domain::ports::Entropy as _;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

/// The cookie's name.
const SESSION: &str = "holdfast_console";
/// How long a session lasts.
const LENGTH: Duration = Duration::from_secs(12 * 3600);
/// So many at once; the one that ends first makes room.
const MAX_SESSIONS: usize = 1000;
/// The longest name of an operator, as in the operations API.
const MAX_NAME: usize = 100;

/// One operator's session.
#[derive(Debug, Clone)]
struct Session {
    operator: String,
    until: Instant,
}

/// All sessions, by the hash of their secrets: looking one up tells nothing about the others.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<[u8; 32], Session>>);

impl Sessions {
    fn all(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; its secret.
    fn begin(&self, operator: String) -> String {
        let secret: String = OsEntropy.token().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut all = self.all();
        let now = Instant::now();
        all.retain(|_, session| session.until > now);
        if all.len() >= MAX_SESSIONS
            && let Some(first) = all.iter().min_by_key(|(_, session)| session.until).map(|(key, _)| *key)
        {
            all.remove(&first);
        }
        all.insert(key(&secret), Session { operator, until: now + LENGTH });
        secret
    }

    /// Whose session a request belongs to.
    pub(super) fn operator(&self, headers: &HeaderMap) -> Option<String> {
        let secret = cookie(headers, SESSION)?;
        let session = self.all().get(&key(secret)).cloned()?;
        (session.until > Instant::now()).then_some(session.operator)
    }

    fn end(&self, headers: &HeaderMap) {
        if let Some(secret) = cookie(headers, SESSION) {
            self.all().remove(&key(secret));
        }
    }
}

fn key(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// A cookie's value.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs =
        headers.get_all(COOKIE).filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Pages of the console that show something of the system.
fn is_page(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "" | "payments" | "discrepancies" | "circuits" | "reconciler" | "logout")
}

/// Whether a request may see what it asks for without a bearer token: it belongs to a session, or asks for what everybody
/// may see (the sign-in page and the files that it needs).
pub(crate) fn lets_in(request: &ServiceRequest) -> bool {
    let path = request.path();
    let console = request.app_data::<web::Data<Console>>();
    path == "/login"
        || path.starts_with("/assets/")
        || (is_page(path)
            && console.is_some_and(|console| console.sessions.operator(request.headers()).is_some()))
}

/// Where somebody without a session is sent who wanted to see a page.
pub(crate) fn to_login(request: &ServiceRequest, failure: &Failure) -> Option<HttpResponse> {
    let wanted = failure.case() == Case::TokenRequired && is_page(request.path());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match (wanted, reads) {
        (false, _) => None,
        // Ids and names of ours: nothing that would have to be encoded.
        (true, true) if request.path() != "/logout" => {
            Some(redirect(&format!("/login?next={}", request.path())))
        }
        (true, _) => Some(redirect("/login")),
    }
}

/// Only a page of ours is gone to after signing in.
fn next_page(text: &str) -> &str {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-'));
    let inside = text.starts_with('/') && !text.starts_with("//");
    if plain && inside && is_page(text) && text != "/logout" { text } else { "/" }
}

#[derive(Template)]
#[template(path = "console/login.html")]
struct LoginPage {
    frame: Frame,
    t: Texts,
    needs_token: bool,
    wrong: bool,
    next: String,
    name: String,
}

fn login_page(context: &Context, wrong: bool, next: &str, name: &str) -> HttpResponse {
    let page = LoginPage {
        frame: context.frame(Nav::None, context.texts().say("sign-in")),
        t: context.texts(),
        needs_token: context.console.needs_token,
        wrong,
        next: next_page(next).to_owned(),
        name: name.to_owned(),
    };
    html(&page, if wrong { StatusCode::UNAUTHORIZED } else { StatusCode::OK })
}

/// Asks who it is.
pub(super) async fn show(context: Context) -> HttpResponse {
    let name = context.operator.clone().unwrap_or_default();
    login_page(&context, false, context.parameter("next"), &name)
}

/// Begins a session.
pub(super) async fn begin(context: Context, state: web::Data<OpsState>, form: Form) -> HttpResponse {
    let begun = async {
        let name = form.text("name");
        if !(1..=MAX_NAME).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            return Err(Failure::field("name"));
        }
        if let Some(expected) = &state.token {
            let sent = form.text("token");
            if !bool::from(sent.as_bytes().ct_eq(expected.expose_secret().as_bytes())) {
                tracing::warn!(peer = ?context.peer, "console: sign-in refused, wrong token");
                return Ok(login_page(&context, true, form.text("next"), name));
            }
        }
        tracing::info!(actor = name, peer = ?context.peer, "console: signed in");
        context.console.sessions.end(&context.headers);
        let secret = context.console.sessions.begin(name.to_owned());
        let mut response = redirect(next_page(form.text("next")));
        set_cookie(&mut response, SESSION, &secret, LENGTH);
        Ok(response)
    };
    answer(&context, begun).await
}

/// Ends the session.
pub(super) async fn end(context: Context, _form: Form) -> HttpResponse {
    if let Some(actor) = &context.operator {
        tracing::info!(actor, "console: signed out");
    }
    context.console.sessions.end(&context.headers);
    let mut response = redirect("/login");
    set_cookie(&mut response, SESSION, "", Duration::ZERO);
    response
}

/// A cookie that no script and no other site gets to see. `Secure` is absent: the operations port speaks plain HTTP.
pub(super) fn set_cookie(response: &mut HttpResponse, name: &str, value: &str, length: Duration) {
    let text = format!("{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict", length.as_secs());
    if let Ok(value) = text.parse() {
        response.headers_mut().append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
        headers
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lasts_until_its_end() {
        let sessions = Sessions::default();
        let secret = sessions.begin("김".to_owned());
        let mine = headers(&format!("a=b; {SESSION}={secret}"));
        assert_eq!(sessions.operator(&mine).as_deref(), Some("김"));
        for other in [format!("{SESSION}={secret}0"), format!("{SESSION}="), "x".to_owned()] {
            assert_eq!(sessions.operator(&headers(&other)), None, "{other}");
        }
        for length in 0..secret.len() {
            let beginning = format!("{SESSION}={}", &secret[..length]);
            assert_eq!(sessions.operator(&headers(&beginning)), None, "{beginning}");
        }
        tokio::time::advance(LENGTH).await;
        assert_eq!(sessions.operator(&mine), None);
        let second = headers(&format!("{SESSION}={}", sessions.begin("이".to_owned())));
        assert_eq!(sessions.all().len(), 1, "the one that ended is forgotten");
        sessions.end(&second);
        assert_eq!(sessions.operator(&second), None);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_bounded() {
        let sessions = Sessions::default();
        let first = headers(&format!("{SESSION}={}", sessions.begin("first".to_owned())));
        for _ in 0..MAX_SESSIONS {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.begin("another".to_owned());
        }
        // In two statements: the guard of `all` would still be held while `operator` waits for it.
        assert_eq!(sessions.all().len(), MAX_SESSIONS);
        assert_eq!(sessions.operator(&first), None);
    }

    #[test]
    fn one_is_sent_to_pages_of_ours_only() {
        for good in ["/", "/payments", "/payments/12", "/discrepancies"] {
            assert_eq!(next_page(good), good);
        }
        for bad in
            ["", "//evil.example", "https://evil.example", "/payments/%0d%0a", "/admin/x", "/logout", "/\\x"]
        {
            assert_eq!(next_page(bad), "/", "{bad}");
        }
    }
}
