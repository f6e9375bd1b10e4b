//! Load at a fixed rate, and what it took.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::process;

/// Calls under way at once; more would be a sign that nothing is answered any more.
const MAX_UNDER_WAY: usize = 2_000;

/// Calls `work` with 0, 1, 2 ... at `rate` a second as long as `more` says so, in an open loop: each when its time has
/// come, in a thread of its own, not when the one before has been answered, so that a slow system does not slow its
/// callers down. Ends early when we are told to end, or when too many are under way; returns when all have come back.
pub(crate) fn open_loop<T: Send>(
    rate: f64,
    more: impl Fn(u32) -> bool,
    work: impl Fn(u32) -> T + Sync,
) -> Result<Vec<T>> {
    let results: Mutex<Vec<T>> = Mutex::new(Vec::new());
    let started = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        for index in 0_u32.. {
            let due = started + Duration::from_secs_f64(f64::from(index) / rate);
            while Instant::now() < due && !process::interrupted() {
                std::thread::sleep(due.saturating_duration_since(Instant::now()).min(process::POLL));
            }
            let ended = results.lock().map_or(0, |results| results.len());
            let under_way = usize::try_from(index)?.saturating_sub(ended);
            if process::interrupted() || under_way >= MAX_UNDER_WAY || !more(index) {
                break;
            }
            let (results, work) = (&results, &work);
            scope.spawn(move || {
                let result = work(index);
                if let Ok(mut results) = results.lock() {
                    results.push(result);
                }
            });
        }
        Ok(())
    })?;
    results.into_inner().map_err(|_| anyhow!("a thread of the load panicked"))
}

/// The smallest time that at least this share of all did not exceed.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list that fits into memory"
    )]
    let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&times, 1.0), Duration::from_millis(100));
        assert_eq!(percentile(&times, 0.0), Duration::from_millis(1));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn every_call_is_made_once_whatever_the_others_do() {
        let mut made = open_loop(10_000.0, |index| index < 50, |index| index).unwrap();
        made.sort_unstable();
        assert_eq!(made, (0..50).collect::<Vec<u32>>());
    }
}
