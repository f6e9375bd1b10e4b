//! Randomness, injected so that a seed repeats a run.

/// A source of random numbers, good enough for tokens.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Entropy: Send + Sync {
    /// 256 random bits: a callback token, a lease.
    fn token(&self) -> [u8; 32];

    /// An even number in `0.0..1.0`: jitter.
    fn fraction(&self) -> f64;
}
