//! The smallest set of faults with which a run still fails.

use crate::kinds::Kind;
use crate::plan::Plan;
use crate::run::{Report, run};
use std::collections::BTreeSet;

/// Leaves out one kind after the other, as long as the same invariant is still broken.
///
/// # Errors
/// As [`run`].
pub fn minimise(failed: &Report) -> anyhow::Result<Report> {
    let Some(first) = failed.violations.first() else { return Ok(failed.clone()) };
    let mut smallest = failed.clone();
    for kind in failed.plan.faults.iter().rev() {
        let without: BTreeSet<Kind> = BTreeSet::from([*kind]);
        let plan: Plan = smallest.plan.clone().without(&without);
        let report = run(plan, false)?;
        if report.violations.iter().any(|violation| violation.invariant == first.invariant) {
            smallest = report;
        }
    }
    Ok(smallest)
}
