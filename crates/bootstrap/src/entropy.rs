//! Randomness from the operating system, for secrets, tokens and jitter.
//!
//! The generator is the thread's own cryptographic one (ChaCha, seeded and reseeded by the operating system), so that a
//! draw costs no system call. Seeds are deliberately absent: simulation brings its own source.

use rand::Rng as _;

/// Fills a buffer with bytes that nobody can guess.
#[expect(clippy::disallowed_methods, reason = "this is the one real source behind the Entropy port")]
pub(crate) fn fill(buffer: &mut [u8]) {
    rand::rng().fill_bytes(buffer);
}
