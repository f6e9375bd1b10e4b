//! Who is asking (spec 03): the header `X-USER-ID`, which a gateway in front sets, or a bearer token whose `sub` it is.

use crate::http::failure::{Case, Failure};
use crate::http::read::{digits, single_header};
use crate::state::ApiState;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpRequest, dev, web};
use bootstrap::settings::{AuthMode, AuthSettings, JwtAlgorithm, JwtSettings};
use domain::UserId;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use std::future::{Ready, ready};
use std::path::PathBuf;

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
                let user = state.authenticator.user(request.headers())?;
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
        "auth.jwt.algorithms has {0}, but there is no key for it in auth.jwt.jwks_file or auth.jwt.secret"
    )]
    NoKey(&'static str),
    /// A key of the set can't be used.
    #[error("a key of auth.jwt.jwks_file can't be used")]
    BadKey(#[source] jsonwebtoken::errors::Error),
}

/// Tells who is asking.
pub(crate) enum Authenticator {
    /// The header is believed.
    Header,
    /// A token is checked.
    Jwt(Box<JwtVerifier>),
}

impl Authenticator {
    /// Reads the keys, if tokens are to be checked.
    pub(crate) fn new(settings: &AuthSettings) -> Result<Self, AuthError> {
        match settings.mode {
            AuthMode::Header => Ok(Self::Header),
            AuthMode::Jwt => JwtVerifier::new(&settings.jwt).map(|verifier| Self::Jwt(Box::new(verifier))),
        }
    }

    fn user(&self, headers: &HeaderMap) -> Result<UserId, Failure> {
        match self {
            Self::Header => {
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

/// Checks tokens: signature, algorithm, expiry, audience and, when set, the issuer.
///
/// Each algorithm has its own keys, so a public key can never be taken for the secret of HS256, and `none` does not exist.
pub(crate) struct JwtVerifier {
    keys: Vec<VerificationKey>,
    validation: Validation,
}

struct VerificationKey {
    /// The key's name in the set; the secret has none.
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl JwtVerifier {
    fn new(settings: &JwtSettings) -> Result<Self, AuthError> {
        let mut keys = Vec::new();
        if let Some(path) = &settings.jwks_file {
            keys = key_set(path)?;
        }
        if let Some(secret) = &settings.secret {
            let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
            keys.push(VerificationKey { id: None, algorithm: Algorithm::HS256, key });
        }
        let accepted: Vec<Algorithm> = settings.algorithms.iter().copied().map(algorithm).collect();
        keys.retain(|key| accepted.contains(&key.algorithm));
        for wanted in &settings.algorithms {
            if !keys.iter().any(|key| key.algorithm == algorithm(*wanted)) {
                return Err(AuthError::NoKey(wanted.as_str()));
            }
        }
        let leeway = settings.leeway.as_secs();
        let mut validation =
            Validation { algorithms: accepted, leeway, validate_nbf: true, ..Validation::default() };
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        if let Some(audience) = &settings.audience {
            validation.set_audience(&[audience]);
        }
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.set_required_spec_claims(&["exp", "aud", "sub", "iss"]);
        }
        Ok(Self { keys, validation })
    }

    /// The buyer that a token speaks for, if all of it is right. Why not is nobody's business.
    fn subject(&self, token: &str) -> Option<UserId> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        self.keys
            .iter()
            .filter(|key| key.algorithm == header.alg)
            .filter(|key| header.kid.is_none() || key.id.is_none() || key.id == header.kid)
            .find_map(|key| jsonwebtoken::decode::<Claims>(token, &key.key, &validation).ok())
            .and_then(|token| user_id(&token.claims.sub))
    }
}

fn key_set(path: &PathBuf) -> Result<Vec<VerificationKey>, AuthError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| AuthError::Unreadable { path: path.clone(), source })?;
    let set: JwkSet =
        serde_json::from_str(&text).map_err(|source| AuthError::NotAKeySet { path: path.clone(), source })?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(_) => Algorithm::ES256,
            // A shared secret belongs in auth.jwt.secret; other kinds are not accepted.
            _ => continue,
        };
        let key = DecodingKey::from_jwk(jwk).map_err(AuthError::BadKey)?;
        keys.push(VerificationKey { id: jwk.common.key_id.clone(), algorithm, key });
    }
    Ok(keys)
}

const fn algorithm(setting: JwtAlgorithm) -> Algorithm {
    match setting {
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::Hs256 => Algorithm::HS256,
    }
}
