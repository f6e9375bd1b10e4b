//! Numbers, times and words as people read them, in both languages.

use bootstrap::settings::Locale;
use domain::{Money, Timestamp};
use std::time::Duration;

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12,900원`, `12,900 won`.
pub(super) fn won(amount: Money, locale: Locale) -> String {
    let sign = if amount.won() < 0 { "-" } else { "" };
    let number = grouped(amount.won().unsigned_abs());
    match locale {
        Locale::Ko => format!("{sign}{number}원"),
        Locale::En => format!("{sign}{number} won"),
    }
}

/// A length of time in the two largest units that say something: `1m 5s`, `3h 20m`, `850ms`.
pub(super) fn length(duration: Duration, locale: Locale) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let units = match locale {
        Locale::Ko => ["일", "시간", "분", "초"],
        Locale::En => ["d", "h", "m", "s"],
    };
    let [day, hour, minute, second] = units;
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}{second}", seconds),
        (0, 0, _) => format!("{minutes}{minute} {}{second}", seconds % 60),
        (0, _, _) => format!("{hours}{hour} {minutes}{minute}"),
        _ => format!("{days}{day} {hours}{hour}"),
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
pub(super) fn relative(at: Timestamp, now: Timestamp, locale: Locale) -> String {
    let distance = (at - now).unsigned_abs();
    let text = length(distance, locale);
    match (locale, at > now) {
        _ if distance < Duration::from_secs(1) => match locale {
            Locale::Ko => "지금".to_owned(),
            Locale::En => "now".to_owned(),
        },
        (Locale::Ko, true) => format!("{text} 뒤"),
        (Locale::Ko, false) => format!("{text} 전"),
        (Locale::En, true) => format!("in {text}"),
        (Locale::En, false) => format!("{text} ago"),
    }
}

/// A share in whole percent; `–` of nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    (part * 100 + whole / 2).checked_div(whole).map_or("–".to_owned(), |percent| format!("{percent}%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(won(Money::new(12_900).unwrap(), Locale::Ko), "12,900원");
        assert_eq!(won(Money::new(-1_000).unwrap(), Locale::En), "-1,000 won");
        assert_eq!((percent(1, 3), percent(0, 0), percent(2, 2)), ("33%".into(), "–".into(), "100%".into()));
    }

    #[test]
    fn times_are_short_and_say_which_way() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (65, "1m 5s"), (3660, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(length(Duration::from_secs(seconds), Locale::En), text);
        }
        let now = datetime!(2026-11-22 12:03:22.5 UTC);
        assert_eq!((date_time(now), clock(now)), ("2026-11-22 12:03:22".into(), "12:03:22".into()));
        let later = now + Duration::from_secs(40);
        assert_eq!(relative(later, now, Locale::En), "in 40s");
        assert_eq!(relative(now, later, Locale::Ko), "40초 전");
        assert_eq!(relative(now, now, Locale::En), "now");
        assert_eq!((latency(0.1234), latency(1.25)), ("123 ms".into(), "1.2 s".into()));
    }
}
