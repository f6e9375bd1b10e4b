//! Callback tokens: unguessable, bound to one payment, stored only as a keyed hash (spec 01 section 4).

use domain::ports::Entropy;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Makes and hashes callback tokens with the servers' common secret (`pg.callback_secret`).
#[derive(Clone)]
pub struct CallbackTokens {
    mac: Hmac<Sha256>,
}

impl CallbackTokens {
    /// With this secret, of any length above 0; all servers of one shop need the same.
    ///
    /// # Errors
    /// An empty secret.
    pub fn new(secret: &[u8]) -> Result<Self, EmptySecret> {
        if secret.is_empty() {
            return Err(EmptySecret);
        }
        Hmac::new_from_slice(secret).map(|mac| Self { mac }).map_err(|_| EmptySecret)
    }

    /// A new token of 256 random bits in hexadecimal digits, and its hash.
    pub fn issue(&self, entropy: &dyn Entropy) -> (String, [u8; 32]) {
        let token: String = entropy.token().iter().map(|byte| format!("{byte:02x}")).collect();
        let hash = self.hash(&token);
        (token, hash)
    }

    /// The hash under which a token is stored. It is keyed: who reads the database can't make a token, and the time a
    /// look-up takes tells nothing about one.
    pub fn hash(&self, token: &str) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(token.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for CallbackTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackTokens(secret)")
    }
}

/// The secret was empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the callback secret is empty")]
pub struct EmptySecret;

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;
    impl Entropy for Counting {
        fn token(&self) -> [u8; 32] {
            [0xa5; 32]
        }
        fn fraction(&self) -> f64 {
            0.5
        }
    }

    #[test]
    fn a_token_is_long_and_its_hash_needs_the_secret() {
        let ours = CallbackTokens::new(b"secret").unwrap();
        let (token, hash) = ours.issue(&Counting);
        assert_eq!(token, "a5".repeat(32));
        assert_eq!(ours.hash(&token), hash);
        assert_ne!(CallbackTokens::new(b"other").unwrap().hash(&token), hash);
        assert_ne!(ours.hash(&token[1..]), hash);
        assert!(CallbackTokens::new(b"").is_err());
    }
}
