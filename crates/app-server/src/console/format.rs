//! Numbers, times and words as people read them, in both languages.

use crate::texts::{Texts, grouped};
use domain::{Money, Timestamp};
use std::time::Duration;

/// `12,900원`, `12,900 won`.
pub(super) fn won(amount: Money, t: Texts) -> String {
    let sign = if amount.won() < 0 { "-" } else { "" };
    let amount = format!("{sign}{}", grouped(amount.won().unsigned_abs()));
    t.fill("won", [("amount", amount.into())])
}

/// A length of time in the two largest units that say something: `1m 5s`, `3h 20m`, `12s`.
pub(super) fn length(duration: Duration, t: Texts) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let seconds = seconds % 60;
    match (days, hours, minutes) {
        (0, 0, 0) => t.fill("length-seconds", [("seconds", seconds.into())]),
        (0, 0, _) => t.fill("length-minutes", [("minutes", minutes.into()), ("seconds", seconds.into())]),
        (0, _, _) => t.fill("length-hours", [("hours", hours.into()), ("minutes", minutes.into())]),
        _ => t.fill("length-days", [("days", days.into()), ("hours", hours.into())]),
    }
}

/// Milliseconds below a second, else seconds with one decimal.
pub(super) fn latency(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

/// `2026-11-22 12:03:22`, in UTC as in the logs.
pub(super) fn date_time(at: Timestamp) -> String {
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// `12:03:22`, in UTC as in the logs.
pub(super) fn clock(at: Timestamp) -> String {
    date_time(at).split_off(11)
}

/// How far `at` lies before or after `now`: `3m 5s ago`, `in 40s`.
pub(super) fn relative(at: Timestamp, now: Timestamp, t: Texts) -> String {
    let distance = (at - now).unsigned_abs();
    if distance < Duration::from_secs(1) {
        return t.say("now").to_owned();
    }
    let length = [("length", length(distance, t).into())];
    if at > now { t.fill("in-a-while", length) } else { t.fill("a-while-ago", length) }
}

/// A share in whole percent; `–` of nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    (part * 100 + whole / 2).checked_div(whole).map_or("–".to_owned(), |percent| format!("{percent}%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootstrap::settings::Locale;
    use time::macros::datetime;

    #[test]
    fn amounts_and_shares_are_short() {
        assert_eq!(won(Money::new(12_900).unwrap(), Texts::of(Locale::Ko)), "12,900원");
        assert_eq!(won(Money::new(-1_000).unwrap(), Texts::of(Locale::En)), "-1,000 won");
        assert_eq!((percent(1, 3), percent(0, 0), percent(2, 2)), ("33%".into(), "–".into(), "100%".into()));
    }

    #[test]
    fn times_are_short_and_say_which_way() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (65, "1m 5s"), (3660, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(length(Duration::from_secs(seconds), Texts::of(Locale::En)), text);
        }
        let now = datetime!(2026-11-22 12:03:22.5 UTC);
        assert_eq!((date_time(now), clock(now)), ("2026-11-22 12:03:22".into(), "12:03:22".into()));
        let later = now + Duration::from_secs(40);
        assert_eq!(relative(later, now, Texts::of(Locale::En)), "in 40s");
        assert_eq!(relative(now, later, Texts::of(Locale::Ko)), "40초 전");
        assert_eq!(relative(now, now, Texts::of(Locale::En)), "now");
        assert_eq!((latency(0.1234), latency(1.25)), ("123 ms".into(), "1.2 s".into()));
    }
}
