//! Who is asking (spec 03): the header `X-USER-ID`, which a gateway in front sets, or a bearer token whose `sub` it is.

mod jwks;
mod jwt;

use crate::http::failure::{Case, Failure};
use crate::http::read::{digits, single_header};
use crate::proxies::Proxies;
use crate::state::ApiState;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpRequest, dev, web};
use bootstrap::settings::{AuthMode, AuthSettings};
use domain::UserId;
use jwt::JwtVerifier;
use std::future::{Ready, ready};
use std::path::PathBuf;
use std::sync::Arc;

const USER_ID: &str = "x-user-id";

/// The buyer who asks. Extracting it counts the request against the buyer's rate limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buyer(pub(crate) UserId);

impl FromRequest for Buyer {
    type Error = Failure;
    type Future = Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let buyer =
            request.app_data::<web::Data<ApiState>>().ok_or(Failure::new(Case::Internal)).and_then(|state| {
                let user = state.authenticator.user(request)?;
                state.limiter.check_user(user)?;
                Ok(Self(user))
            });
        ready(buyer)
    }
}

/// Why the settings of `auth.jwt` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file can't be read.
    #[error("could not read auth.jwt.jwks_file {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no JWKS.
    #[error("auth.jwt.jwks_file {} is not a JSON Web Key Set", path.display())]
    NotAKeySet {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// No key for an algorithm that is to be accepted.
    #[error(
        "auth.jwt.algorithms has {0}, but there is no usable key for it in auth.jwt.jwks_file or auth.jwt.secret"
    )]
    NoKey(&'static str),
}

/// Tells who is asking.
pub(crate) enum Authenticator {
    /// The header is believed, if one of these brings it.
    Header(Arc<Proxies>),
    /// A token is checked.
    Jwt(Arc<JwtVerifier>),
}

impl Authenticator {
    /// Reads the keys, if tokens are to be checked.
    pub(crate) fn new(settings: &AuthSettings, proxies: Arc<Proxies>) -> Result<Self, AuthError> {
        match settings.mode {
            AuthMode::Header => Ok(Self::Header(proxies)),
            AuthMode::Jwt => JwtVerifier::new(&settings.jwt).map(|verifier| Self::Jwt(Arc::new(verifier))),
        }
    }

    /// Takes over changes of the key file for as long as it is polled; nothing when there is no such file.
    pub(crate) fn follow_keys(&self) -> impl Future<Output = ()> + Send + 'static {
        let verifier = match self {
            Self::Header(_) => None,
            Self::Jwt(verifier) => Some(Arc::clone(verifier)),
        };
        async move {
            if let Some(verifier) = verifier {
                verifier.follow_keys().await;
            }
        }
    }

    fn user(&self, request: &HttpRequest) -> Result<UserId, Failure> {
        let headers = request.headers();
        match self {
            Self::Header(proxies) => {
                if !proxies.may_name_buyers(request.peer_addr().map(|peer| peer.ip())) {
                    return Err(Case::UserIdNotTrusted.into());
                }
                let value =
                    single_header(headers, USER_ID).map_err(|()| Failure::new(Case::InvalidUserId))?;
                let text = value.ok_or(Failure::new(Case::UserIdRequired))?;
                user_id(text).ok_or(Failure::new(Case::InvalidUserId))
            }
            Self::Jwt(verifier) => {
                let token = bearer(headers)?;
                verifier.subject(token).ok_or(Failure::new(Case::InvalidToken))
            }
        }
    }
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    let value =
        single_header(headers, AUTHORIZATION.as_str()).map_err(|()| Failure::new(Case::InvalidToken))?;
    let (scheme, token) =
        value.and_then(|value| value.split_once(' ')).ok_or(Failure::new(Case::TokenRequired))?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Case::TokenRequired.into()) }
}

fn user_id(text: &str) -> Option<UserId> {
    digits(text).and_then(|id| UserId::new(id).ok())
}
