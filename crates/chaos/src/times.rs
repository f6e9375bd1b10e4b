//! The reconciler's times, shortened in proportion, so that minutes show what takes half an hour in earnest.

use std::time::Duration;

/// One set of shortened times. Their relations are those of the defaults: a turn is shorter than a lease, the grace is
/// longer than the age, a forced failure comes after both, and the watch goes on for longer than the gateway is late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    schedule: &'static str,
    turn_timeout: &'static str,
    lease: &'static str,
    /// More than the default: with shorter times come more looks a second.
    concurrency: &'static str,
    min_age: &'static str,
    not_found_grace: &'static str,
    force_fail_after: &'static str,
    backoff_max: &'static str,
    watch_after: &'static str,
    /// The most by which the gateway is late with anything.
    pub(crate) backlog: &'static str,
    /// A process that stands still for so long has missed the send deadline and its lease.
    pub(crate) long_freeze: Duration,
    /// Within so long after the last fault every payment must have ended: 7 minutes, of which 5 are the time after which
    /// failure is forced, in proportion.
    pub(crate) settled_within: Duration,
}

/// One fifth of the defaults, for runs of minutes.
pub(crate) const FIFTH: Times = Times {
    schedule: "*/5 * * * * *",
    turn_timeout: "5s",
    lease: "10s",
    concurrency: "64",
    min_age: "10s",
    not_found_grace: "20s",
    force_fail_after: "60s",
    backoff_max: "15s",
    watch_after: "[\"10s\",\"30s\",\"60s\",\"2m\"]",
    backlog: "30s",
    long_freeze: Duration::from_secs(12),
    settled_within: Duration::from_secs(84),
};

/// For a run within a minute.
pub(crate) const QUICK: Times = Times {
    schedule: "*/2 * * * * *",
    turn_timeout: "3s",
    lease: "6s",
    concurrency: "64",
    min_age: "3s",
    not_found_grace: "6s",
    force_fail_after: "16s",
    backoff_max: "4s",
    watch_after: "[\"3s\",\"8s\",\"16s\"]",
    backlog: "6s",
    long_freeze: Duration::from_secs(7),
    settled_within: Duration::from_secs(22),
};

/// For the drill: the reconciler looks at everything each time it is called.
pub(crate) const DRILL: Times =
    Times { min_age: "0s", not_found_grace: "2s", watch_after: "[\"1s\",\"3s\"]", ..QUICK };

impl Times {
    /// As the programs' settings.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        [
            ("SCHEDULE", self.schedule),
            ("TURN_TIMEOUT", self.turn_timeout),
            ("LEASE", self.lease),
            ("CONCURRENCY", self.concurrency),
            ("MIN_AGE", self.min_age),
            ("NOT_FOUND_GRACE", self.not_found_grace),
            ("FORCE_FAIL_AFTER", self.force_fail_after),
            ("BACKOFF_MAX", self.backoff_max),
            ("WATCH_AFTER", self.watch_after),
        ]
        .map(|(name, value)| (format!("HOLDFAST__RECONCILER__{name}"), value.to_owned()))
        .to_vec()
    }
}
