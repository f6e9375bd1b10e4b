//! A short simulation with every test run; `cargo xtask sim` is the long one.

use sim::kinds::Kind;
use sim::plan::Plan;
use sim::run::run;
use std::collections::BTreeSet;

/// 200 seeds in four tests, which run side by side.
fn nothing_is_lost(seeds: std::ops::RangeInclusive<u64>) -> anyhow::Result<()> {
    let mut struck = BTreeSet::new();
    for seed in seeds {
        let report = run(Plan::new(seed), false)?;
        let first = report.violations.first();
        assert!(
            first.is_none(),
            "`cargo xtask sim --seed {seed}` tells the story of this: {:?}",
            report.violations
        );
        struck.extend(report.counts.struck.keys().copied());
    }
    assert!(struck.len() > Kind::ALL.len() / 2, "the faults hardly strike: {struck:?}");
    Ok(())
}

#[test]
fn nothing_is_lost_in_the_first_quarter() -> anyhow::Result<()> {
    nothing_is_lost(1..=50)
}

#[test]
fn nothing_is_lost_in_the_second_quarter() -> anyhow::Result<()> {
    nothing_is_lost(51..=100)
}

#[test]
fn nothing_is_lost_in_the_third_quarter() -> anyhow::Result<()> {
    nothing_is_lost(101..=150)
}

#[test]
fn nothing_is_lost_in_the_last_quarter() -> anyhow::Result<()> {
    nothing_is_lost(151..=200)
}

#[test]
fn a_seed_repeats_every_step() {
    for seed in 1..=10 {
        let (one, two) = (run(Plan::new(seed), true).unwrap(), run(Plan::new(seed), false).unwrap());
        assert_eq!(one.trace_hash, two.trace_hash, "seed {seed}");
        assert!(!one.lines.is_empty() && two.lines.is_empty());
    }
}

#[test]
fn every_kind_of_fault_can_strike_alone() {
    for kind in Kind::ALL {
        let mut strikes = 0;
        for seed in 1..=40 {
            let mut plan = Plan::new(seed).only(&BTreeSet::from([*kind]));
            plan.intensity = 250;
            let report = run(plan, false).unwrap();
            assert_eq!(report.violations, [], "seed {seed}, only {kind}");
            strikes += report.counts.struck.get(kind).copied().unwrap_or_default();
            if strikes > 0 {
                break;
            }
        }
        assert!(strikes > 0, "{kind} never strikes");
    }
}
