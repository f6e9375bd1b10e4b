//! Quantiles of the gateway's latencies, from the buckets of its histogram.

use std::collections::BTreeMap;

/// Counts by upper bound in microseconds; `u64::MAX` stands for no bound. Cumulative, as in the text of `/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Buckets(BTreeMap<u64, u64>);

impl Buckets {
    /// Adds a bucket's cumulative count; buckets of several series with one bound add up.
    pub(super) fn add(&mut self, bound: &str, count: u64) {
        let micros = match bound.parse::<f64>() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
            Ok(seconds) if seconds.is_finite() => (seconds * 1e6).round() as u64,
            _ => u64::MAX,
        };
        *self.0.entry(micros).or_default() += count;
    }

    /// What came since an earlier reading.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let delta = |(bound, count): (&u64, &u64)| {
            (*bound, count.saturating_sub(earlier.0.get(bound).copied().unwrap_or(0)))
        };
        Self(self.0.iter().map(delta).collect())
    }

    /// How many there are.
    pub(super) fn total(&self) -> u64 {
        self.0.values().copied().max().unwrap_or(0)
    }

    /// The value that `percent` of them do not exceed, in seconds: within its bucket by a straight line, as Prometheus'
    /// `histogram_quantile` does; the last bound when it is beyond that. `None` without any.
    pub(super) fn quantile(&self, percent: u32) -> Option<f64> {
        let rank = self.total() as f64 * f64::from(percent) / 100.0;
        let (mut below, mut lower) = (0_u64, 0_u64);
        for (bound, count) in &self.0 {
            if *count > 0 && *count as f64 >= rank {
                if *bound == u64::MAX {
                    return Some(lower as f64 / 1e6);
                }
                let share = (rank - below as f64) / (count - below).max(1) as f64;
                let width = (bound - lower) as f64;
                return Some((lower as f64 + width * share.clamp(0.0, 1.0)) / 1e6);
            }
            (below, lower) = (*count, *bound);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(&str, u64)]) -> Buckets {
        let mut buckets = Buckets::default();
        pairs.iter().for_each(|(bound, count)| buckets.add(bound, *count));
        buckets
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let some = buckets(&[("0.1", 0), ("0.2", 50), ("0.4", 90), ("1", 100), ("+Inf", 100)]);
        let close = |percent, expected: f64| {
            let found = some.quantile(percent).unwrap();
            assert!((found - expected).abs() < 1e-9, "p{percent}: {found} instead of {expected}");
        };
        close(25, 0.15);
        close(50, 0.2);
        close(90, 0.4);
        close(95, 0.7);
        assert_eq!(buckets(&[("0.1", 0), ("+Inf", 3)]).quantile(50), Some(0.1));
        assert_eq!(buckets(&[("0.1", 0), ("+Inf", 0)]).quantile(50), None);
        assert_eq!(Buckets::default().quantile(50), None);
    }

    #[test]
    fn series_add_up_and_readings_subtract() {
        let mut both = buckets(&[("0.1", 1), ("+Inf", 2)]);
        both.add("0.1", 3);
        both.add("+Inf", 3);
        assert_eq!(both, buckets(&[("0.1", 4), ("+Inf", 5)]));
        let later = buckets(&[("0.1", 6), ("+Inf", 9)]);
        assert_eq!(
            (later.since(&both), later.since(&both).total()),
            (buckets(&[("0.1", 2), ("+Inf", 4)]), 4)
        );
    }
}
