//! Durations as people write them: `700ms`, `1s`, `5m`, `2h`. Whole milliseconds, one unit.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `700ms`, `1s`, `5m` or `2h`.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn parse(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration; write 700ms, 1s, 5m or 2h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(refused)?;
    let number: u64 = number.parse().map_err(|_| refused())?;
    let (_, millis) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(refused)
}

/// Writes a duration in the largest unit that is exact.
#[must_use]
pub fn format(span: Duration) -> String {
    let millis = span.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let fitting = UNITS.into_iter().find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)));
    let (name, unit) = fitting.unwrap_or(("ms", 1));
    format!("{}{name}", millis / u128::from(unit))
}

/// For `#[serde(with = "span")]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*span))
}

/// For `#[serde(with = "span")]`.
///
/// # Errors
/// When the text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["0s", "1ms", "700ms", "1s", "1500ms", "5m", "90s", "2h", "24h"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(format(Duration::from_secs(60)), "1m");
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "1S",
            "1d",
            "5分",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains("700ms"), "{text}: {message}");
        }
    }
}
