//! Who may use the operations API: whoever has the token, or for the console's pages a session that began with it;
//! without a token only this machine.
//!
//! Pages of other sites that run in a browser on this machine are kept out, too: they can't name this server in `Host`
//! once their own name leads here, and they announce themselves by `Origin` or `Sec-Fetch-Site`.

use crate::auth::bearer;
use crate::console;
use crate::http::failure::{Case, Failure};
use crate::state::OpsState;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderMap, ORIGIN};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};
use secrecy::{ExposeSecret as _, SecretString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use subtle::ConstantTimeEq as _;

/// Lets in who may come in. Health is for everyone: it says nothing but "up".
pub(crate) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, Error> {
    if request.path().starts_with("/health/") {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let token = request.app_data::<web::Data<OpsState>>().map(|state| state.token.as_ref());
    let peer = request.peer_addr().map(|address| address.ip());
    let has_session = console::lets_in(&request);
    let allowed = match token {
        Some(token) => check(token, has_session, peer, request.headers(), request.method()),
        None => Err(Case::Internal.into()),
    };
    match allowed {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(failure) => {
            let response = console::to_login(&request, &failure);
            Ok(request.into_response(response.unwrap_or_else(|| HttpResponse::from_error(failure))))
        }
    }
}

fn check(
    token: Option<&SecretString>,
    has_session: bool,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    method: &Method,
) -> Result<(), Failure> {
    match token {
        Some(_) if has_session => {}
        Some(expected) => {
            let sent = bearer(headers)?;
            if !bool::from(sent.as_bytes().ct_eq(expected.expose_secret().as_bytes())) {
                return Err(Case::InvalidToken.into());
            }
        }
        None if !peer.is_some_and(|ip| ip.to_canonical().is_loopback()) => {
            return Err(Case::LoopbackOnly.into());
        }
        None if !names_loopback(headers) => return Err(Case::LoopbackOnly.into()),
        None => {}
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if !reads && is_cross_site(headers) { Err(Case::CrossSite.into()) } else { Ok(()) }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok()
}

/// The name that the client used leads to this machine wherever it is looked up.
fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = host(headers) else { return true };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || name.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// A browser says that another site's page makes this request.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    match text(ORIGIN.as_str()) {
        None => false,
        Some(origin) => origin.split_once("://").map(|(_, rest)| rest) != host(headers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn outcome(token: Option<&str>, peer: [u8; 4], pairs: &[(&'static str, &'static str)]) -> Option<Case> {
        let token = token.map(|token| SecretString::from(token.to_owned()));
        let post = check(token.as_ref(), false, Some(IpAddr::from(peer)), &headers(pairs), &Method::POST);
        post.err().map(|failure| failure.case())
    }

    #[test]
    fn without_a_token_only_this_machine() {
        let here = [127, 0, 0, 1];
        assert_eq!(outcome(None, here, &[("host", "localhost:8081")]), None);
        assert_eq!(outcome(None, here, &[("host", "[::1]:8081")]), None);
        assert_eq!(outcome(None, here, &[("host", "127.0.0.1")]), None);
        assert_eq!(outcome(None, here, &[]), None);
        assert_eq!(outcome(None, here, &[("host", "rebound.example:8081")]), Some(Case::LoopbackOnly));
        assert_eq!(outcome(None, here, &[("host", "localhost.example")]), Some(Case::LoopbackOnly));
        assert_eq!(outcome(None, [10, 0, 0, 1], &[]), Some(Case::LoopbackOnly));
    }

    #[test]
    fn with_a_token_only_who_has_it() {
        let token = Some("0123456789abcdef");
        for peer in [[127, 0, 0, 1], [10, 0, 0, 1]] {
            assert_eq!(outcome(token, peer, &[]), Some(Case::TokenRequired));
            assert_eq!(outcome(token, peer, &[("authorization", "Basic x")]), Some(Case::TokenRequired));
            for wrong in ["Bearer ", "Bearer 0123456789abcdeg", "Bearer 0123456789abcdef0"] {
                assert_eq!(
                    outcome(token, peer, &[("authorization", wrong)]),
                    Some(Case::InvalidToken),
                    "{wrong}"
                );
            }
            assert_eq!(outcome(token, peer, &[("authorization", "Bearer 0123456789abcdef")]), None);
            assert_eq!(outcome(token, peer, &[("authorization", "bearer 0123456789abcdef")]), None);
        }
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let here = [127, 0, 0, 1];
        let host = ("host", "localhost:8081");
        for origin in ["https://evil.example", "null", "http://localhost:3000"] {
            assert_eq!(outcome(None, here, &[host, ("origin", origin)]), Some(Case::CrossSite), "{origin}");
        }
        assert_eq!(outcome(None, here, &[host, ("origin", "http://localhost:8081")]), None);
        assert_eq!(outcome(None, here, &[host, ("sec-fetch-site", "cross-site")]), Some(Case::CrossSite));
        assert_eq!(outcome(None, here, &[host, ("sec-fetch-site", "same-origin")]), None);
    }
}
