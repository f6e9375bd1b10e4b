//! When to turn: a cron expression in UTC, with seconds first if it has six fields.

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::errors::CronError;
use std::str::FromStr;
use std::time::Duration;

/// Waits when a cron expression has no next time, or the clock is unreadable: never zero, so that nothing spins.
const FALLBACK: Duration = Duration::from_secs(60);

/// A cron expression. Turns that are missed while one is still under way are not made up for.
#[derive(Debug, Clone)]
pub(crate) struct Schedule(Cron);

impl FromStr for Schedule {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Schedule {
    /// Returns when the next turn is due.
    pub(crate) async fn next_turn(&self) {
        tokio::time::sleep(self.wait(wall_clock())).await;
    }

    fn wait(&self, now: DateTime<Utc>) -> Duration {
        self.0
            .find_next_occurrence(&now, false)
            .ok()
            .and_then(|next| (next - now).to_std().ok())
            .unwrap_or(FALLBACK)
    }
}

fn wall_clock() -> DateTime<Utc> {
    // A schedule is about the wall clock; ages of payments never are.
    Utc::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn turns_at_every_full_minute_by_default() {
        let schedule: Schedule = "0 * * * * *".parse().unwrap();
        assert_eq!(schedule.wait(at("2026-01-01T00:00:12.500Z")), Duration::from_millis(47_500));
        assert_eq!(schedule.wait(at("2026-01-01T00:01:00Z")), Duration::from_secs(60));
    }

    #[test]
    fn understands_seconds_and_five_fields() {
        let every_five: Schedule = "*/5 * * * * *".parse().unwrap();
        assert_eq!(every_five.wait(at("2026-01-01T00:00:02Z")), Duration::from_secs(3));
        let hourly: Schedule = "30 * * * *".parse().unwrap();
        assert_eq!(hourly.wait(at("2026-01-01T00:00:00Z")), Duration::from_secs(30 * 60));
        assert!("every minute".parse::<Schedule>().is_err());
    }

    #[test]
    fn a_date_that_never_comes_does_not_spin() {
        let never: Schedule = "0 0 0 30 2 *".parse().unwrap();
        assert!(never.wait(at("2026-01-01T00:00:00Z")) >= FALLBACK);
    }
}
