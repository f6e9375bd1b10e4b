//! A short simulation with every test run; `cargo xtask sim` is the long one.

use sim::kinds::Kind;
use sim::plan::Plan;
use sim::run::run;
use std::collections::BTreeSet;

#[test]
fn nothing_is_lost() {
    let mut struck = BTreeSet::new();
    for seed in 1..=40 {
        let report = run(Plan::new(seed), false).unwrap();
        let first = report.violations.first();
        assert!(
            first.is_none(),
            "`cargo xtask sim --seed {seed}` tells the story of this: {:?}",
            report.violations
        );
        struck.extend(report.counts.struck.keys().copied());
    }
    assert!(struck.len() > Kind::ALL.len() / 2, "the faults hardly strike: {struck:?}");
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
