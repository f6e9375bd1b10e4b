//! The file with the public keys (JWKS, RFC 7517): which of them verify tokens, and what to do when it changes.

use super::AuthError;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A longer file is no key set: one key has some 500 bytes.
const MAX_SIZE: u64 = 1 << 20;

/// A key that verifies tokens.
pub(super) struct VerificationKey {
    /// The key's name in the set; the secret has none.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Where the keys are, and which are wanted.
pub(super) struct KeyFile {
    path: PathBuf,
    accepted: Vec<Algorithm>,
    /// What it held when the program started.
    text: String,
}

#[derive(Deserialize)]
struct KeySet {
    /// Each is read by itself, so that one that makes no sense does no harm to its neighbours.
    keys: Vec<Value>,
}

impl KeyFile {
    /// The file, and its keys that verify tokens; those that don't are passed over with a warning.
    ///
    /// # Errors
    /// The file can't be read, or is no key set.
    pub(super) fn open(
        path: PathBuf,
        accepted: Vec<Algorithm>,
    ) -> Result<(Self, Vec<VerificationKey>), AuthError> {
        let text = read(&path)?;
        let file = Self { path, accepted, text };
        let keys = file.keys(&file.text)?;
        Ok((file, keys))
    }

    fn keys(&self, text: &str) -> Result<Vec<VerificationKey>, AuthError> {
        let set: KeySet = serde_json::from_str(text)
            .map_err(|source| AuthError::NotAKeySet { path: self.path.clone(), source })?;
        let mut keys = Vec::new();
        for (at, value) in set.keys.into_iter().enumerate() {
            match verification_key(value) {
                Ok(key) => keys.push(key),
                Err(why) => tracing::warn!(key = at + 1, why, "a key of auth.jwt.jwks_file is not used"),
            }
        }
        keys.retain(|key| self.accepted.contains(&key.algorithm));
        Ok(keys)
    }

    /// Looks at the file now and then, and gives its keys to `replace` when it has changed. A set without a key is one, too:
    /// so keys are withdrawn. While the file can't be read or makes no sense, the keys before stay in force. Never ends.
    pub(super) async fn follow(&self, replace: impl Fn(Vec<VerificationKey>)) {
        let mut known = Ok(self.text.clone());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let found = self.look().await;
            let same = match (&known, &found) {
                (Ok(before), Ok(now)) => before == now,
                // Why it can't be read is told once.
                (Err(_), Err(_)) => true,
                _ => false,
            };
            if !same {
                self.take_over(&found, &replace);
                known = found;
            }
        }
    }

    async fn look(&self) -> Result<String, AuthError> {
        let path = self.path.clone();
        // A file may be on a disk that does not answer.
        match tokio::task::spawn_blocking(move || read(&path)).await {
            Ok(text) => text,
            Err(ended) => {
                Err(AuthError::Unreadable { path: self.path.clone(), source: std::io::Error::other(ended) })
            }
        }
    }

    fn take_over(&self, found: &Result<String, AuthError>, replace: impl Fn(Vec<VerificationKey>)) {
        let keys = match found {
            Ok(text) => self.keys(text),
            Err(error) => return warn(error),
        };
        match keys {
            Ok(keys) => {
                tracing::info!(usable = keys.len(), "the keys of auth.jwt.jwks_file are in force");
                replace(keys);
            }
            Err(error) => warn(&error),
        }
    }
}

fn read(path: &Path) -> Result<String, AuthError> {
    let unreadable = |source| AuthError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_SIZE) {
        Ok(text)
    } else {
        Err(unreadable(std::io::Error::other("it is longer than 1 MiB")))
    }
}

fn warn(error: &AuthError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, "the keys of auth.jwt.jwks_file stay as they were");
}

/// One key of the set, or why it verifies no tokens.
fn verification_key(value: Value) -> Result<VerificationKey, &'static str> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "it makes no sense")?;
    let common = &jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("its use is not sig");
    }
    if common.key_operations.as_ref().is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Err("its key_ops are without verify");
    }
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        // A shared secret belongs in auth.jwt.secret.
        _ => return Err("its kind is neither RSA nor EC on P-256"),
    };
    if common.key_algorithm.is_some_and(|algorithm| algorithm != name) {
        return Err("its alg is another one");
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its parameters make no sense")?;
    Ok(VerificationKey { id: jwk.common.key_id, algorithm, key })
}
