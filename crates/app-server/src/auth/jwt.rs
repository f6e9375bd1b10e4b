//! Bearer tokens: signature, algorithm, times, audience and, when set, the issuer.

use super::jwks::{KeyFile, VerificationKey};
use super::{AuthError, user_id};
use bootstrap::settings::{JwtAlgorithm, JwtSettings};
use domain::UserId;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use std::sync::{Arc, PoisonError, RwLock};

/// Checks tokens.
///
/// Each algorithm has its own keys, so a public key can never be taken for the secret of HS256, and `none` does not exist.
pub(crate) struct JwtVerifier {
    secret: Option<VerificationKey>,
    /// Of the file: replaced as a whole when that changes.
    keys: RwLock<Arc<[VerificationKey]>>,
    file: Option<KeyFile>,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl JwtVerifier {
    /// # Errors
    /// The key file can't be read, is no key set, or there is no key for an accepted algorithm.
    pub(super) fn new(settings: &JwtSettings) -> Result<Self, AuthError> {
        let accepted: Vec<Algorithm> = settings.algorithms.iter().copied().map(algorithm).collect();
        let secret =
            settings.secret.as_ref().filter(|_| accepted.contains(&Algorithm::HS256)).map(|secret| {
                let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
                VerificationKey { id: None, algorithm: Algorithm::HS256, key }
            });
        let file =
            settings.jwks_file.clone().map(|path| KeyFile::open(path, accepted.clone())).transpose()?;
        let (file, keys) = file.map_or_else(Default::default, |(file, keys)| (Some(file), keys));
        for wanted in &settings.algorithms {
            if !keys.iter().chain(&secret).any(|key| key.algorithm == algorithm(*wanted)) {
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
        Ok(Self { secret, keys: RwLock::new(keys.into()), file, validation })
    }

    /// Takes over changes of the key file. Never ends, unless there is no file.
    pub(super) async fn follow_keys(&self) {
        if let Some(file) = &self.file {
            file.follow(|keys| *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into())
                .await;
        }
    }

    /// The buyer that a token speaks for, if all of it is right. Why not is nobody's business.
    pub(super) fn subject(&self, token: &str) -> Option<UserId> {
        let header = jsonwebtoken::decode_header(token).ok().filter(is_understood)?;
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        keys.iter()
            .chain(&self.secret)
            .filter(|key| key.algorithm == header.alg)
            .filter(|key| header.kid.is_none() || key.id.is_none() || key.id == header.kid)
            .find_map(|key| jsonwebtoken::decode::<Claims>(token, &key.key, &validation).ok())
            .and_then(|token| user_id(&token.claims.sub))
    }
}

/// A token that lists extensions which must be understood (RFC 7515, `crit`) is for others: there are none here.
const fn is_understood(header: &Header) -> bool {
    header.crit.is_none()
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
    use bootstrap::entropy::OsEntropy;
    use domain::ports::Entropy as _;
    use jsonwebtoken::EncodingKey;
    use serde_json::{Value, json};
    use std::path::PathBuf;
    use std::time::Duration;

    const RSA: &[u8] = include_bytes!("../../tests/keys/rs256-test-only.der");
    const EC: &[u8] = include_bytes!("../../tests/keys/es256-test-only.der");
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

    /// A key file of its own, removed when dropped.
    struct File(PathBuf);

    impl File {
        fn with(keys: &[Value]) -> Self {
            let name: String = OsEntropy.token().iter().map(|byte| format!("{byte:02x}")).collect();
            let file = Self(std::env::temp_dir().join(format!("holdfast-jwks-{name}.json")));
            file.set(&json!({ "keys": keys }).to_string());
            file
        }

        fn set(&self, text: &str) {
            std::fs::write(&self.0, text).unwrap();
        }

        fn settings(&self) -> JwtSettings {
            JwtSettings { jwks_file: Some(self.0.clone()), ..settings(&[JwtAlgorithm::Rs256]) }
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    /// The RSA key of the tests with other members; `null` takes one away.
    fn rsa_key(changes: Value) -> Value {
        let keys: Value = serde_json::from_slice(&std::fs::read(keys_file()).unwrap()).unwrap();
        let mut key = keys["keys"][0].clone();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(key.as_object_mut().unwrap().remove(name)),
                value => key[name] = value.clone(),
            }
        }
        key
    }

    #[test]
    fn keys_for_other_purposes_verify_nothing() {
        for (changes, verifies) in [
            (json!({}), true),
            (json!({"use": null, "alg": null}), true),
            (json!({"use": null, "key_ops": ["sign", "verify"]}), true),
            (json!({"use": "enc"}), false),
            (json!({"use": "enc", "alg": "RSA-OAEP-256"}), false),
            (json!({"use": "tls"}), false),
            (json!({"use": null, "key_ops": ["encrypt", "wrapKey"]}), false),
            (json!({"use": null, "key_ops": []}), false),
            (json!({"alg": "RS512"}), false),
            (json!({"alg": "RSA-OAEP"}), false),
        ] {
            let file = File::with(&[rsa_key(changes.clone())]);
            match JwtVerifier::new(&file.settings()) {
                Ok(verifier) => {
                    assert_eq!(verifier.subject(&rs256(None, &claims())).is_some(), verifies, "{changes}");
                }
                Err(error) => {
                    assert!(!verifies && matches!(error, AuthError::NoKey("RS256")), "{changes}: {error}")
                }
            }
        }
    }

    #[test]
    fn a_bad_key_does_no_harm_to_its_neighbours() {
        let bad = [
            json!(null),
            json!("key"),
            json!({}),
            json!({"kty": "RSA"}),
            json!({"kty": "new", "kid": "rsa-1"}),
            rsa_key(json!({"kid": 5})),
            rsa_key(json!({"n": "not base64!"})),
            rsa_key(json!({"n": ""})),
            rsa_key(json!({"alg": "unheard-of"})),
            json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "crv": "P-256", "x": "!", "y": "AA"}),
            json!({"kty": "oct", "k": "c2VjcmV0", "kid": "rsa-1"}),
        ];
        for bad in &bad {
            for keys in [[bad.clone(), rsa_key(json!({}))], [rsa_key(json!({})), bad.clone()]] {
                let file = File::with(&keys);
                let verifier =
                    JwtVerifier::new(&file.settings()).unwrap_or_else(|error| panic!("{bad}: {error}"));
                assert_eq!(verifier.subject(&rs256(Some("rsa-1"), &claims())), buyer(42), "{bad}");
                assert_eq!(verifier.subject(&rs256(None, &claims())), buyer(42), "{bad}");
            }
        }
    }

    #[test]
    fn a_token_that_must_be_understood_differently_is_refused() {
        let all = verifier(&[JwtAlgorithm::Rs256]);
        for crit in [vec![], vec!["b64"], vec!["exp"], vec!["http://example.com/UNDEFINED"]] {
            let crit = Some(crit.into_iter().map(str::to_owned).collect());
            let header = Header { crit, ..Header::new(Algorithm::RS256) };
            let token = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_rsa_der(RSA)).unwrap();
            assert_eq!(all.subject(&token), None, "{header:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_file_that_changes_is_taken_over() {
        let file = File::with(&[rsa_key(json!({"kid": "old"}))]);
        let verifier = Arc::new(JwtVerifier::new(&file.settings()).unwrap());
        let following = Arc::clone(&verifier);
        let tasks = tokio_util::task::TaskTracker::new();
        let task = tasks.spawn(async move { following.follow_keys().await });
        let (old, new) = (rs256(Some("old"), &claims()), rs256(Some("new"), &claims()));
        // Two looks and a bit: by virtual time.
        let after_a_look = || tokio::time::sleep(Duration::from_secs(11));
        let known = || (verifier.subject(&old).is_some(), verifier.subject(&new).is_some());
        after_a_look().await;
        assert_eq!(known(), (true, false));
        let keys = |kids: &[&str]| {
            json!({ "keys": kids.iter().map(|kid| rsa_key(json!({"kid": kid}))).collect::<Vec<_>>() })
                .to_string()
        };
        for (text, expected) in [
            (keys(&["old", "new"]), (true, true)),
            (keys(&["new"]), (false, true)),
            // Half of it, as somebody who writes slowly leaves it for a moment; too much of it.
            (keys(&["old"])[..100].to_owned(), (false, true)),
            (" ".repeat(2 << 20), (false, true)),
            (keys(&["old"]), (true, false)),
            (keys(&[]), (false, false)),
            (keys(&["new"]), (false, true)),
        ] {
            file.set(&text);
            after_a_look().await;
            assert_eq!(known(), expected, "{text:.80}");
        }
        std::fs::remove_file(&file.0).unwrap();
        after_a_look().await;
        assert_eq!(known(), (false, true), "a file that is gone changes nothing");
        file.set(&keys(&["old"]));
        after_a_look().await;
        assert_eq!(known(), (true, false));
        task.abort();
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
