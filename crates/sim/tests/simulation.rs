//! A short simulation with every test run; `cargo xtask sim` is the long one.

use sim::crash_points::{CRASH_POINTS, existing};
use sim::kinds::Kind;
use sim::plan::Plan;
use sim::run::run;
use sim::world::Counts;
use std::collections::BTreeSet;

/// Runs a plan in which nothing may be lost, and adds up what struck.
fn survive(plan: Plan, counts: &mut Counts) -> anyhow::Result<()> {
    let seed = plan.seed;
    let report = run(plan, false)?;
    assert!(
        report.violations.is_empty(),
        "`cargo xtask sim --seed {seed}` tells the story of this: {:?}",
        report.violations
    );
    assert_eq!(report.counts.unknown, BTreeSet::new(), "steps that no crash point has");
    counts.add(&report.counts);
    Ok(())
}

/// 200 seeds on four threads. Where no process died by chance, a few more runs are about just that crash point.
#[test]
fn nothing_is_lost_in_200_seeds_with_a_death_at_every_crash_point() -> anyhow::Result<()> {
    let mut total = Counts::default();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let quarter = |first: u64| {
            move || {
                let mut counts = Counts::default();
                (first..first + 50)
                    .try_for_each(|seed| survive(Plan::new(seed), &mut counts))
                    .map(|()| counts)
            }
        };
        let workers: Vec<_> =
            [1, 51, 101, 151].into_iter().map(|first| scope.spawn(quarter(first))).collect();
        for worker in workers {
            total.add(&worker.join().expect("no run panics")?);
        }
        Ok(())
    })?;
    assert!(total.struck.len() > Kind::ALL.len() / 2, "the faults hardly strike: {:?}", total.struck);
    for index in existing() {
        let id = CRASH_POINTS[index].id;
        let mut seed = 0;
        while total.points[index].deaths == 0 {
            seed += 1;
            assert!(seed <= 40, "no process ever dies at {id}: {:?}", total.points[index]);
            let mut plan = Plan::new(seed).about(index);
            plan.intensity = 250;
            survive(plan, &mut total)?;
        }
    }
    assert!(existing().all(|index| total.points[index].hits > 0 && total.points[index].deaths > 0));
    Ok(())
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
