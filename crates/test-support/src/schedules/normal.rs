//! Two runs have other ids and other times. Here they get names in the order in which they are first seen, so that what is
//! equal in one run is equal in the other, and what is an hour apart is an hour apart.

use std::collections::BTreeMap;
use time::{Date, Month};

/// Numbers from here on are names of claims.
pub(super) const LEASES: i64 = 1_000_000_000_000;

/// Microseconds.
const HOUR: i128 = 3_600_000_000;

/// Names what one run shows.
#[derive(Debug, Default)]
pub(super) struct Names {
    prefix: String,
    /// By kind and text: the number of its name.
    given: BTreeMap<(String, String), usize>,
    next: BTreeMap<String, usize>,
    moments: Vec<i128>,
}

impl Names {
    /// `prefix`: what stands before every gateway key of this run.
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, ..Self::default() }
    }

    /// `text` is what `{:?}` makes of the ports' types.
    pub(super) fn normal(&mut self, text: &str) -> String {
        let text = text.replace(&self.prefix, "");
        let mut normal = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let taken = if first.is_ascii_digit() {
                self.number(rest, &mut normal)
            } else if first.is_ascii_alphabetic() {
                self.word(rest, &mut normal)
            } else {
                normal.push(first);
                first.len_utf8()
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        normal
    }

    /// A moment, a lease, or a plain number. How much of `rest` it takes.
    fn number(&mut self, rest: &str, normal: &mut String) -> usize {
        if let Some((micros, length)) = moment(rest) {
            normal.push_str(&self.moment(micros));
            return length;
        }
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let digits = rest.get(..length).unwrap_or_default();
        if digits.parse::<i64>().is_ok_and(|number| number >= LEASES) {
            let number = self.name("lease", digits);
            normal.push_str(&format!("lease{number}"));
        } else {
            normal.push_str(digits);
        }
        length
    }

    /// A word, and what is in the brackets behind it when that is an id.
    fn word(&mut self, rest: &str, normal: &mut String) -> usize {
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let (word, behind) = rest.split_at(length);
        normal.push_str(word);
        let (open, close) = match word {
            "sequence" => (": ", ','),
            "installation" => (": \"", '"'),
            "GatewayOrderRef" => ("(\"", '"'),
            _ if word.len() > 2 && word.ends_with("Id") => ("(", ')'),
            _ => return length,
        };
        let Some(inner) = behind.strip_prefix(open).and_then(|behind| behind.split(close).next()) else {
            return length;
        };
        let number = self.name(word, inner);
        normal.push_str(open);
        normal.push_str(&format!("#{number}"));
        length + open.len() + inner.len()
    }

    fn name(&mut self, kind: &str, text: &str) -> usize {
        let next = self.next.entry(kind.to_owned()).or_default();
        *self.given.entry((kind.to_owned(), text.to_owned())).or_insert_with(|| {
            *next += 1;
            *next
        })
    }

    fn moment(&mut self, micros: i128) -> String {
        for (number, known) in self.moments.iter().enumerate() {
            let apart = micros - known;
            if apart % HOUR == 0 && apart.abs() <= 3 * HOUR {
                return match apart / HOUR {
                    0 => format!("t{number}"),
                    hours => format!("t{number}{hours:+}h"),
                };
            }
        }
        self.moments.push(micros);
        format!("t{}", self.moments.len() - 1)
    }
}

/// `2026-01-01 0:00:00.000001 +00:00:00`: its microseconds on one scale, and its length.
fn moment(text: &str) -> Option<(i128, usize)> {
    const ZONE: &str = " +00:00:00";
    let end = text.get(..text.len().min(48))?.find(ZONE)?;
    let (date, time) = text.get(..end)?.split_once(' ')?;
    let mut date = date.split('-');
    let (year, month, day) = (date.next()?.parse().ok()?, date.next()?.parse::<u8>().ok()?, date.next()?);
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day.parse().ok()?).ok()?;
    let (time, fraction) = time.split_once('.')?;
    let mut time = time.split(':').map(str::parse::<i128>);
    let (hours, minutes, seconds) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let micros: i128 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let seconds = ((i128::from(date.to_julian_day()) * 24 + hours) * 60 + minutes) * 60 + seconds;
    Some((seconds * 1_000_000 + micros, end + ZONE.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{GatewayKey, GatewayOrderRef, PaymentId};
    use time::macros::datetime;

    #[test]
    fn ids_and_times_are_named_as_they_come() {
        let mut names = Names::new("77.".to_owned());
        let id = |number| PaymentId::new(number).unwrap();
        let now = datetime!(2026-01-01 23:30 UTC);
        let shown = (id(8), id(5), id(8), GatewayKey::new("77.K1").unwrap(), 5, LEASES + 3);
        assert_eq!(
            names.normal(&format!("{shown:?}")),
            "(PaymentId(#1), PaymentId(#2), PaymentId(#1), GatewayKey(K1), 5, lease1)"
        );
        let times = [now, now + time::Duration::hours(1), now + time::Duration::MICROSECOND, now];
        assert_eq!(names.normal(&format!("{times:?}")), "[t0, t0+1h, t1, t0]");
        assert_eq!(names.normal(&format!("{:?}", now - time::Duration::hours(1))), "t0-1h");
        let order = GatewayOrderRef::from_gateway("x-1-2");
        assert_eq!(
            names.normal(&format!("{order:?} sequence: 12, 글")),
            "GatewayOrderRef(\"#1\") sequence: #1, 글"
        );
    }
}
