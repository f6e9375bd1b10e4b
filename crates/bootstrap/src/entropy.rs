//! Randomness from the operating system, for secrets, tokens and jitter.
//!
//! The generator is the thread's own cryptographic one (ChaCha, seeded and reseeded by the operating system), so that a
//! draw costs no system call. Seeds are deliberately absent: tests and simulation bring their own source.

use domain::ports::Entropy;
use rand::{Rng as _, RngExt as _};

/// The real source behind the port.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn token(&self) -> [u8; 32] {
        let mut token = [0; 32];
        generator().fill_bytes(&mut token);
        token
    }

    fn fraction(&self) -> f64 {
        generator().random()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one real source behind the Entropy port")]
fn generator() -> rand::rngs::ThreadRng {
    rand::rng()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_repeat_and_use_every_bit() {
        let tokens: Vec<[u8; 32]> = (0..200).map(|_| OsEntropy.token()).collect();
        let different: std::collections::BTreeSet<_> = tokens.iter().collect();
        assert_eq!(different.len(), tokens.len());
        // Each bit is set in some token and clear in some other; by chance this fails once in 2^190 runs.
        let (mut ever, mut always) = ([0_u8; 32], [0xff_u8; 32]);
        for token in &tokens {
            for (i, byte) in token.iter().enumerate() {
                ever[i] |= byte;
                always[i] &= byte;
            }
        }
        assert_eq!((ever, always), ([0xff; 32], [0; 32]));
    }

    #[test]
    fn fractions_lie_between_0_and_1_and_spread() {
        let fractions: Vec<f64> = (0..1_000).map(|_| OsEntropy.fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        assert!(
            fractions.iter().any(|fraction| *fraction < 0.25)
                && fractions.iter().any(|fraction| *fraction > 0.75)
        );
    }
}
