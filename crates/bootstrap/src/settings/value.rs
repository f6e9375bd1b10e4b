//! How one setting is read, checked and shown.
//!
//! A [`Value`] knows its two spellings (environment text and TOML) and how it is written back; a [`Rule`] knows which
//! values are allowed and says so in words, for error messages and for `docs/configuration.md` alike. Conversions that
//! a reader might not expect are deliberately absent: a TOML number is not accepted where a time stands (`1` of what?),
//! and a quoted number is not a number.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

/// One setting's type.
pub(crate) trait Value: Sized {
    /// What is expected, in words that follow "expected".
    const NOUN: &'static str;
    /// True when the value must never be shown.
    const SECRET: bool = false;

    /// Reads the spelling of the environment; `None` when the text is not such a value.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads the spelling of the TOML file; `None` when it is of another type or is not such a value.
    fn from_toml(value: &toml::Value) -> Option<Self> {
        value.as_str().and_then(Self::from_text)
    }

    /// The value as it would be written in the environment.
    fn show(&self) -> String;
}

/// Which values of a type are allowed.
pub(crate) struct Rule<T> {
    /// In words that follow "expected" and head the table column "allowed".
    pub(crate) allowed: String,
    /// Stands in the documentation for a default that depends on the machine.
    pub(crate) default_text: Option<&'static str>,
    holds: Box<dyn Fn(&T) -> bool>,
}

impl<T> Rule<T> {
    pub(crate) fn new(allowed: impl Into<String>, holds: impl Fn(&T) -> bool + 'static) -> Self {
        Self { allowed: allowed.into(), default_text: None, holds: Box::new(holds) }
    }

    /// Documents a default that is worked out at start.
    pub(crate) fn default_is(mut self, text: &'static str) -> Self {
        self.default_text = Some(text);
        self
    }

    pub(crate) fn holds(&self, value: &T) -> bool {
        (self.holds)(value)
    }
}

/// Every value of the type.
pub(crate) fn any<T: Value>() -> Rule<T> {
    Rule::new(T::NOUN, |_| true)
}

/// From `min` to `max`, both included.
pub(crate) fn between<T: Value + PartialOrd + 'static>(min: T, max: T) -> Rule<T> {
    Rule::new(format!("{} from {} to {}", T::NOUN, min.show(), max.show()), move |value| {
        *value >= min && *value <= max
    })
}

/// `0s`, or from `min` to `max`, both included.
pub(crate) fn zero_or_between(min: Duration, max: Duration) -> Rule<Duration> {
    let allowed = format!("{} 0s or from {} to {}", Duration::NOUN, min.show(), max.show());
    Rule::new(allowed, move |value: &Duration| value.is_zero() || (*value >= min && *value <= max))
}

/// Not set, or as the rule says.
pub(crate) fn optional<T: 'static>(rule: Rule<T>) -> Rule<Option<T>> {
    let allowed = format!("{}, or not set", rule.allowed);
    Rule::new(allowed, move |value: &Option<T>| value.as_ref().is_none_or(|value| rule.holds(value)))
}

/// A list of so many values, each as the rule says.
pub(crate) fn each<T: 'static>(count: RangeInclusive<usize>, rule: Rule<T>) -> Rule<Vec<T>> {
    let allowed = format!("a list of {} to {} entries, each {}", count.start(), count.end(), rule.allowed);
    Rule::new(allowed, move |list: &Vec<T>| {
        count.contains(&list.len()) && list.iter().all(|value| rule.holds(value))
    })
}

/// Text without spaces or control characters, so that it can stand in an HTTP header.
pub(crate) fn visible_text(max: usize) -> Rule<String> {
    Rule::new(format!("text of 1 to {max} visible ASCII characters"), move |text: &String| {
        (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// A secret long enough not to be guessed.
pub(crate) fn secret_of(min: usize) -> Rule<SecretString> {
    Rule::new(format!("a secret of {min} to 1024 visible ASCII characters"), move |secret: &SecretString| {
        let secret = secret.expose_secret();
        (min..=1024).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// The reference shortens it: its introduction says how times are written.
pub(crate) const DURATION_NOUN: &str = "a time such as `700ms`, `1s`, `5m` or `2h`,";

impl Value for Duration {
    const NOUN: &'static str = DURATION_NOUN;

    fn from_text(text: &str) -> Option<Self> {
        parse_duration(text)
    }

    fn show(&self) -> String {
        show_duration(*self)
    }
}

/// Reads `700ms`, `1s`, `5m`, `2h`, `1d`: one whole number and one unit, nothing between. Compound and fractional
/// times are refused, so that `1m` can mean one minute only and every time has one spelling per unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let number: u64 = number.parse().ok()?;
    let factor = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(factor).map(Duration::from_secs)
}

/// Writes a time in the largest unit that holds it whole; parts of a millisecond are dropped (none can be read).
fn show_duration(time: Duration) -> String {
    let millis = time.as_millis();
    let whole = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        .into_iter()
        .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor));
    match whole {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

macro_rules! whole_number {
    ($($type:ty),+) => { $(
        impl Value for $type {
            const NOUN: &'static str = "a whole number";

            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn from_toml(value: &toml::Value) -> Option<Self> {
                value.as_integer().and_then(|number| Self::try_from(number).ok())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+ };
}
whole_number!(u8, u32, usize);

impl Value for f64 {
    const NOUN: &'static str = "a number";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::Integer(number) => Self::from_text(&number.to_string()),
            other => other.as_float().filter(|number| number.is_finite()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    const NOUN: &'static str = "`true` or `false`";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        value.as_bool()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const NOUN: &'static str = "text";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const NOUN: &'static str = "a file's path";

    fn from_text(text: &str) -> Option<Self> {
        Some(Self::from(text)).filter(|_| !text.is_empty())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for SocketAddr {
    const NOUN: &'static str = "an IP address and port such as `127.0.0.1:8080` or `[::1]:8080`";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A network whose address has bits beyond its prefix (`10.1.2.3/8`) is refused: it is one of two things, and meant as the
/// other.
impl Value for IpNet {
    const NOUN: &'static str = "an address or a network such as `10.0.0.7`, `10.0.0.0/8` or `fd00::/8`";

    fn from_text(text: &str) -> Option<Self> {
        let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(Self::from))?;
        Some(network).filter(|network| network.trunc() == *network)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for SecretString {
    const NOUN: &'static str = "a secret";
    const SECRET: bool = true;

    fn from_text(text: &str) -> Option<Self> {
        Some(Self::from(text))
    }

    fn show(&self) -> String {
        "(set, not shown)".to_owned()
    }
}

impl<T: Value> Value for Option<T> {
    const NOUN: &'static str = T::NOUN;
    const SECRET: bool = T::SECRET;

    fn from_text(text: &str) -> Option<Self> {
        T::from_text(text).map(Some)
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        T::from_toml(value).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Value::show)
    }
}

/// In TOML a list; in the environment a list such as `["1m","5m"]`, or its entries between commas, `1m,5m`.
impl<T: Value> Value for Vec<T> {
    const NOUN: &'static str = "a list";
    const SECRET: bool = T::SECRET;

    fn from_text(text: &str) -> Option<Self> {
        if text.trim_start().starts_with('[') {
            let table: toml::Table = toml::from_str(&format!("list = {text}")).ok()?;
            return table.get("list").filter(|_| table.len() == 1).and_then(Self::from_toml);
        }
        text.split(',').map(|entry| T::from_text(entry.trim())).collect()
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        value.as_array()?.iter().map(T::from_toml).collect()
    }

    fn show(&self) -> String {
        let entries: Vec<String> = self.iter().map(|entry| format!("\"{}\"", entry.show())).collect();
        format!("[{}]", entries.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy as _, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    #[test]
    fn times_are_read_as_one_number_and_one_unit() {
        let table = [
            ("0s", Some(Duration::ZERO)),
            ("0ms", Some(Duration::ZERO)),
            ("700ms", Some(Duration::from_millis(700))),
            ("1s", Some(Duration::from_secs(1))),
            ("5m", Some(Duration::from_secs(300))),
            ("2h", Some(Duration::from_secs(7_200))),
            ("1d", Some(Duration::from_secs(86_400))),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("1 s", None),
            (" 1s", None),
            ("1s ", None),
            ("1S", None),
            ("1M", None),
            ("1us", None),
            ("1m30s", None),
            ("١s", None),
            ("18446744073709551616ms", None),
            ("18446744073709551615h", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_shown_time_reads_back_the_same(millis in prop_oneof![proptest::num::u64::ANY, 0..100_000_u64, (0..1_000_u64).prop_map(|m| m * 60_000)]) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(time)), Some(time));
        }

        #[test]
        fn no_text_makes_the_time_parser_panic(text in "\\PC*") {
            if let Some(time) = parse_duration(&text) {
                // The unit may change (60s is shown as 1m), the time may not.
                prop_assert_eq!(parse_duration(&show_duration(time)), Some(time));
            }
        }

        #[test]
        fn a_shown_list_of_times_reads_back_the_same(millis in proptest::collection::vec(0..10_000_000_u64, 0..6)) {
            let list: Vec<Duration> = millis.into_iter().map(Duration::from_millis).collect();
            prop_assert_eq!(Vec::from_text(&list.show()), Some(list));
        }
    }

    #[test]
    fn networks_say_what_they_mean() {
        for (text, shown) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.7", Some("10.0.0.7/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::1", Some("::1/128")),
            ("fd00::/8", Some("fd00::/8")),
            ("10.1.2.3/8", None),
            ("fd00::1/8", None),
            ("10.0.0.0/33", None),
            ("10.0.0", None),
            ("10.0.0.7:80", None),
            ("localhost", None),
            ("", None),
        ] {
            assert_eq!(IpNet::from_text(text).map(|network| network.show()).as_deref(), shown, "{text:?}");
        }
    }

    #[test]
    fn lists_are_read_from_json_and_from_commas() {
        let expected = Some(vec![Duration::from_secs(60), Duration::from_secs(300)]);
        for text in [r#"["1m","5m"]"#, r#" [ "1m" , "5m" ] "#, "1m,5m", "1m, 5m"] {
            assert_eq!(Vec::<Duration>::from_text(text), expected, "{text:?}");
        }
        assert_eq!(Vec::<Duration>::from_text("[]"), Some(vec![]));
        for text in [r#"["1m""#, "[1, 2]", "1m,", ",", "[\"1m\"]\nother = 1", "[\"1m\"] trailing"] {
            assert_eq!(Vec::<Duration>::from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_toml_value_of_another_type_is_refused() {
        let text = toml::Value::String("4".to_owned());
        let number = toml::Value::Integer(4);
        assert_eq!(u32::from_toml(&text), None);
        assert_eq!(u32::from_toml(&number), Some(4));
        assert_eq!(u32::from_toml(&toml::Value::Integer(-1)), None);
        assert_eq!(u32::from_toml(&toml::Value::Integer(i64::MAX)), None);
        assert_eq!(Duration::from_toml(&number), None);
        assert_eq!(bool::from_toml(&text), None);
        assert_eq!(f64::from_toml(&number), Some(4.0));
        assert_eq!(f64::from_toml(&toml::Value::Float(f64::NAN)), None);
        assert_eq!(f64::from_text("inf"), None);
    }
}
