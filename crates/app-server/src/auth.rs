//! Who is asking (spec 03): the header `X-USER-ID`, which a gateway in front sets, or a bearer token whose `sub` it is.

use crate::http::failure::{Case, Failure};
use crate::http::read::{digits, single_header};
use crate::proxies::Proxies;
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
        "auth.jwt.algorithms has {0}, but there is no key for it in auth.jwt.jwks_file or auth.jwt.secret"
    )]
    NoKey(&'static str),
    /// A key of the set can't be used.
    #[error("a key of auth.jwt.jwks_file can't be used")]
    BadKey(#[source] jsonwebtoken::errors::Error),
}

/// Tells who is asking.
pub(crate) enum Authenticator {
    /// The header is believed, if one of these brings it.
    Header(Arc<Proxies>),
    /// A token is checked.
    Jwt(Box<JwtVerifier>),
}

impl Authenticator {
    /// Reads the keys, if tokens are to be checked.
    pub(crate) fn new(settings: &AuthSettings, proxies: Arc<Proxies>) -> Result<Self, AuthError> {
        match settings.mode {
            AuthMode::Header => Ok(Self::Header(proxies)),
            AuthMode::Jwt => JwtVerifier::new(&settings.jwt).map(|verifier| Self::Jwt(Box::new(verifier))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};
    use std::time::Duration;

    const RSA: &[u8] = include_bytes!("../tests/keys/rs256-test-only.der");
    const EC: &[u8] = include_bytes!("../tests/keys/es256-test-only.der");
    const SECRET: &str = "a shared secret of the tests, long enough";
    /// 2100-01-01: the clock behind the check is the process's own.
    const LATER: i64 = 4_102_444_800;

    fn keys_file() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys/jwks.json")
    }

    fn settings(algorithms: &[JwtAlgorithm]) -> JwtSettings {
        JwtSettings {
            jwks_file: Some(keys_file()),
            secret: algorithms.contains(&JwtAlgorithm::Hs256).then(|| SECRET.to_owned().into()),
            issuer: None,
            audience: Some("shop".to_owned()),
            algorithms: algorithms.to_vec(),
            leeway: Duration::ZERO,
        }
    }

    fn verifier(algorithms: &[JwtAlgorithm]) -> JwtVerifier {
        JwtVerifier::new(&settings(algorithms)).unwrap()
    }

    fn claims() -> Value {
        json!({"sub": "42", "aud": "shop", "exp": LATER})
    }

    fn changed(change: Value) -> Value {
        let mut claims = claims();
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, claims, key).unwrap()
    }

    fn rs256(kid: Option<&str>, claims: &Value) -> String {
        signed(Algorithm::RS256, kid, &EncodingKey::from_rsa_der(RSA), claims)
    }

    fn buyer(id: i64) -> Option<UserId> {
        Some(UserId::new(id).unwrap())
    }

    #[test]
    fn tokens_of_each_accepted_algorithm_name_their_buyer() {
        let all = verifier(&[JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::Hs256]);
        assert_eq!(all.subject(&rs256(Some("rsa-1"), &claims())), buyer(42));
        assert_eq!(all.subject(&rs256(None, &claims())), buyer(42));
        let ec = signed(Algorithm::ES256, Some("ec-1"), &EncodingKey::from_ec_der(EC), &claims());
        assert_eq!(all.subject(&ec), buyer(42));
        let hs = signed(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET.as_bytes()), &claims());
        assert_eq!(all.subject(&hs), buyer(42));
        assert_eq!(verifier(&[JwtAlgorithm::Rs256]).subject(&ec), None, "an algorithm that is not accepted");
        assert_eq!(verifier(&[JwtAlgorithm::Rs256]).subject(&hs), None);
    }

    #[test]
    fn whatever_is_wrong_with_a_token_it_names_nobody() {
        let all = verifier(&[JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::Hs256]);
        let without = |name: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            claims
        };
        for claims in [
            changed(json!({"exp": 1})),
            changed(json!({"nbf": LATER})),
            changed(json!({"aud": "other"})),
            changed(json!({"aud": ["other"]})),
            changed(json!({"sub": ""})),
            changed(json!({"sub": "0"})),
            changed(json!({"sub": "-1"})),
            changed(json!({"sub": "x"})),
            changed(json!({"sub": 42})),
            without("exp"),
            without("aud"),
            without("sub"),
        ] {
            assert_eq!(all.subject(&rs256(None, &claims)), None, "{claims}");
        }
        assert_eq!(all.subject(&rs256(Some("unknown"), &claims())), None, "an unknown kid");

        let good = rs256(Some("rsa-1"), &claims());
        let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        // {"alg":"none","typ":"JWT"} and {"alg":"HS256","typ":"JWT"}
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        for token in [
            format!("{none}.{body}."),
            format!("{none}.{body}.{signature}"),
            format!("{head}.{body}."),
            format!("{head}.{body}"),
            format!("{head}.{body}.{}", signature.replace(['A', 'B'], "C")),
            String::new(),
            "..".to_owned(),
            "x".repeat(10_000),
        ] {
            assert_eq!(all.subject(&token), None, "{token:.80}");
        }
        // The public key is no secret: HS256 signed with it, in either form that an attacker has.
        let public = std::fs::read(keys_file()).unwrap();
        let jwks: Value = serde_json::from_slice(&public).unwrap();
        for secret in [public.as_slice(), jwks["keys"][0]["n"].as_str().unwrap().as_bytes()] {
            let key = EncodingKey::from_secret(secret);
            for kid in [None, Some("rsa-1")] {
                assert_eq!(all.subject(&signed(Algorithm::HS256, kid, &key, &claims())), None);
            }
        }
    }

    #[test]
    fn an_issuer_is_checked_when_one_is_set() {
        let settings =
            JwtSettings { issuer: Some("id.example".to_owned()), ..settings(&[JwtAlgorithm::Rs256]) };
        let verifier = JwtVerifier::new(&settings).unwrap();
        assert_eq!(verifier.subject(&rs256(None, &changed(json!({"iss": "id.example"})))), buyer(42));
        assert_eq!(verifier.subject(&rs256(None, &changed(json!({"iss": "evil.example"})))), None);
        assert_eq!(verifier.subject(&rs256(None, &claims())), None);
    }

    #[test]
    fn keys_that_cant_be_used_stop_the_start() {
        let missing = JwtSettings { jwks_file: None, ..settings(&[JwtAlgorithm::Rs256]) };
        assert!(matches!(JwtVerifier::new(&missing), Err(AuthError::NoKey("RS256"))));
        let unreadable =
            JwtSettings { jwks_file: Some("/nowhere".into()), ..settings(&[JwtAlgorithm::Rs256]) };
        assert!(matches!(JwtVerifier::new(&unreadable), Err(AuthError::Unreadable { .. })));
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let no_set = JwtSettings { jwks_file: Some(file), ..settings(&[JwtAlgorithm::Rs256]) };
        assert!(matches!(JwtVerifier::new(&no_set), Err(AuthError::NotAKeySet { .. })));
    }
}
