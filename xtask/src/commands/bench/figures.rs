//! The table of two phases side by side, and what it must show.

use std::time::Duration;

use super::load::{PROBES, Phase};
use crate::load::percentile;

/// How many times slower something may be than with a healthy gateway.
const SLOWER: u32 = 2;
/// Times below this are noise, not slowness, whatever they are a multiple of.
const FLOOR: Duration = Duration::from_millis(5);
/// What the order API promises.
pub(super) const LONGEST_ORDER: Duration = Duration::from_secs(5);

/// What must hold, and whether it does.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) failed: Vec<String>,
}

impl Verdict {
    /// Prints a line, and keeps it when it does not hold.
    pub(super) fn hold(&mut self, holds: bool, what: &str) {
        println!("  {}  {what}", if holds { "ok    " } else { "FAILED" });
        if !holds {
            self.failed.push(what.to_owned());
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn ratio(now: Duration, before: Duration) -> f64 {
    now.as_secs_f64() / before.as_secs_f64().max(1e-9)
}

fn is_slower(now: Duration, before: Duration) -> bool {
    now > (before * SLOWER).max(FLOOR)
}

/// Prints the times of both phases and their ratios.
pub(super) fn compare(healthy: &Phase, hanging: &Phase) {
    println!(
        "\n{:<28} {:>7} {:>10} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "ms", "n", "p50", "p99", "p50 hangs", "p99 hangs", "p50 ratio", "p99 ratio"
    );
    let rows = PROBES.iter().zip(healthy.probes.iter().zip(&hanging.probes));
    for (probe, (before, now)) in rows {
        row(probe.name, before, now);
    }
    row("POST /api/v1/orders, card", &healthy.order_times(), &hanging.order_times());
    for (name, phase) in [("healthy", healthy), ("hanging", hanging)] {
        let longest = percentile(&phase.order_times(), 1.0);
        println!(
            "card orders, {name}: {}; longest {:.0} ms: {}",
            phase.orders.len(),
            millis(longest),
            phase.answers()
        );
        for (failure, count) in &phase.failures {
            println!("  {count} x {failure}");
        }
    }
}

fn row(name: &str, before: &[Duration], now: &[Duration]) {
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(before, share));
    let [p50_now, p99_now] = [0.5, 0.99].map(|share| percentile(now, share));
    println!(
        "{name:<28} {:>7} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>9.2} {:>9.2}",
        now.len(),
        millis(p50),
        millis(p99),
        millis(p50_now),
        millis(p99_now),
        ratio(p50_now, p50),
        ratio(p99_now, p99)
    );
}

/// The shop is as fast as before, and no order took longer than is promised.
pub(super) fn judge(healthy: &Phase, hanging: &Phase, verdict: &mut Verdict) {
    for (probe, (before, now)) in PROBES.iter().zip(healthy.probes.iter().zip(&hanging.probes)) {
        let [before, now] = [before, now].map(|times| percentile(times, 0.99));
        let what = format!(
            "p99 of {}: {:.2} ms, with a healthy gateway {:.2} ms (at most {SLOWER} x, or {} ms)",
            probe.name,
            millis(now),
            millis(before),
            FLOOR.as_millis()
        );
        verdict.hold(!now.is_zero() && !is_slower(now, before), &what);
    }
    let failures: u32 = healthy.failures.values().chain(hanging.failures.values()).sum();
    verdict.hold(failures == 0, &format!("{failures} of these requests failed"));
    let longest = percentile(&hanging.order_times(), 1.0).max(percentile(&healthy.order_times(), 1.0));
    verdict.hold(
        longest <= LONGEST_ORDER,
        &format!("the longest card order took {:.2} s (at most 5)", longest.as_secs_f64()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_slow_is_allowed_and_noise_is_not_judged() {
        let ms = Duration::from_millis;
        assert!(!is_slower(ms(20), ms(10)));
        assert!(is_slower(ms(21), ms(10)));
        assert!(!is_slower(ms(5), ms(1)));
        assert!(is_slower(ms(6), ms(1)));
    }

    #[test]
    fn a_probe_that_was_never_answered_is_no_success() {
        let phase = |times: Vec<Duration>| Phase { probes: vec![times; PROBES.len()], ..Phase::default() };
        let mut verdict = Verdict::default();
        judge(&phase(vec![FLOOR]), &phase(vec![]), &mut verdict);
        assert_eq!(verdict.failed.len(), PROBES.len());
        let mut verdict = Verdict::default();
        judge(&phase(vec![FLOOR]), &phase(vec![FLOOR]), &mut verdict);
        assert_eq!(verdict.failed, Vec::<String>::new());
    }
}
