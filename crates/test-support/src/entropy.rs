//! Randomness that a seed repeats.

use domain::ports::Entropy;
use std::sync::atomic::{AtomicU64, Ordering};

/// A generator (SplitMix64) that gives the same numbers for the same seed.
#[derive(Debug)]
pub struct TestEntropy(AtomicU64);

impl TestEntropy {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// 64 random bits.
    pub fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or_default()
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A generator of its own, so that one more draw here changes nothing there.
    pub fn child(&self) -> Self {
        Self::new(self.next_u64())
    }
}

impl Entropy for TestEntropy {
    fn token(&self) -> [u8; 32] {
        let mut token = [0; 32];
        for part in token.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        token
    }

    fn fraction(&self) -> f64 {
        // 53 bits: all that an f64 keeps.
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_everything() {
        let (one, two) = (TestEntropy::new(7), TestEntropy::new(7));
        assert_eq!(one.token(), two.token());
        assert_eq!(one.below(1000), two.below(1000));
        assert_ne!(TestEntropy::new(8).token(), TestEntropy::new(7).token());
        assert!((0..1000).all(|_| (0.0..1.0).contains(&one.fraction())));
        assert!((0..1000).all(|_| one.below(3) < 3));
    }
}
