//! What the client can read: the language of messages, and RFC 9457 bodies for those who ask for them.

use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE, HeaderMap};
use bootstrap::settings::Locale;

/// The media type of RFC 9457.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// What one request's headers say about its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preferences {
    /// The language of messages.
    pub(crate) locale: Locale,
    /// Errors as `application/problem+json`.
    pub(crate) problem_json: bool,
}

impl Preferences {
    /// Reads `Accept-Language` and `Accept`; what can't be read counts as absent.
    pub(crate) fn of(headers: &HeaderMap, default: Locale) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            locale: language(text(ACCEPT_LANGUAGE)).unwrap_or(default),
            problem_json: weighted(text(ACCEPT))
                .any(|(media, weight)| weight > 0.0 && media.eq_ignore_ascii_case(PROBLEM_JSON)),
        }
    }
}

/// The language with the greatest weight of those that there are; the first of equals.
fn language(header: &str) -> Option<Locale> {
    let mut best: Option<(Locale, f32)> = None;
    for (range, weight) in weighted(header) {
        let primary = range.split('-').next().unwrap_or_default();
        let locale = match primary.to_ascii_lowercase().as_str() {
            "ko" => Locale::Ko,
            "en" => Locale::En,
            _ => continue,
        };
        if weight > 0.0 && best.is_none_or(|(_, best)| weight > best) {
            best = Some((locale, weight));
        }
    }
    best.map(|(locale, _)| locale)
}

/// The members of a list such as `ko-KR, en;q=0.5`, with their weights from 0 to 1.
fn weighted(header: &str) -> impl Iterator<Item = (&str, f32)> {
    header.split(',').filter_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((name, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn the_heaviest_known_language_wins() {
        let table = [
            ("", None),
            ("ko", Some(Locale::Ko)),
            ("en", Some(Locale::En)),
            ("en-US,en;q=0.9,ko;q=0.8", Some(Locale::En)),
            ("fr, ko;q=0.3, en;q=0.2", Some(Locale::Ko)),
            ("EN-gb", Some(Locale::En)),
            ("en;q=0", None),
            ("en;q=abc", None),
            ("fr", None),
            (",,;q=1,", None),
            ("*", None),
        ];
        for (header, expected) in table {
            assert_eq!(language(header), expected, "{header:?}");
        }
    }

    #[test]
    fn problems_only_for_those_who_ask() {
        for (header, expected) in [
            ("application/problem+json", true),
            ("application/json, application/problem+json;q=0.5", true),
            ("application/problem+json;q=0", false),
            ("*/*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(header));
            assert_eq!(Preferences::of(&headers, Locale::Ko).problem_json, expected, "{header:?}");
        }
    }
}
