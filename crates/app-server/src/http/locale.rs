//! What the client can read: the language of messages, and RFC 9457 bodies for those who ask for them.

use actix_web::HttpMessage;
use actix_web::http::header::{Accept, AcceptLanguage, Header as _, Preference, Quality};
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
    pub(crate) fn of(request: &impl HttpMessage, default: Locale) -> Self {
        let accepts_problems = |Accept(accepted): Accept| {
            accepted.iter().any(|accepted| {
                accepted.quality > Quality::ZERO && accepted.item.essence_str() == PROBLEM_JSON
            })
        };
        Self {
            locale: AcceptLanguage::parse(request).ok().and_then(language).unwrap_or(default),
            problem_json: Accept::parse(request).is_ok_and(accepts_problems),
        }
    }
}

/// The language with the greatest weight of those that there are; the first of equals.
fn language(AcceptLanguage(accepted): AcceptLanguage) -> Option<Locale> {
    let known = accepted.iter().filter_map(|accepted| {
        let Preference::Specific(tag) = &accepted.item else { return None };
        let locale = [Locale::Ko, Locale::En]
            .into_iter()
            .find(|locale| tag.primary_language().eq_ignore_ascii_case(locale.as_str()))?;
        (accepted.quality > Quality::ZERO).then_some((locale, accepted.quality))
    });
    known.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(locale, _)| locale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE, HeaderName};
    use actix_web::test::TestRequest;

    fn preferences(name: HeaderName, value: &str, default: Locale) -> Preferences {
        let request = TestRequest::default().insert_header((name, value)).to_srv_request();
        Preferences::of(&request, default)
    }

    #[test]
    fn the_heaviest_known_language_wins() {
        let table = [
            ("", None),
            ("ko", Some(Locale::Ko)),
            ("en", Some(Locale::En)),
            ("en-US,en;q=0.9,ko;q=0.8", Some(Locale::En)),
            ("fr, ko;q=0.3, en;q=0.2", Some(Locale::Ko)),
            ("ko;q=0.5, en;q=0.5", Some(Locale::Ko)),
            ("ko;q=0.1, en", Some(Locale::En)),
            ("EN-gb", Some(Locale::En)),
            ("en;q=0", None),
            ("en;q=abc", None),
            ("en;q=7", None),
            ("fr", None),
            (",,;q=1,", None),
            ("*", None),
        ];
        for (header, expected) in table {
            for default in [Locale::Ko, Locale::En] {
                let found = preferences(ACCEPT_LANGUAGE, header, default).locale;
                assert_eq!(found, expected.unwrap_or(default), "{header:?}");
            }
        }
    }

    #[test]
    fn problems_only_for_those_who_ask() {
        for (header, expected) in [
            ("application/problem+json", true),
            ("application/json, application/problem+json;q=0.5", true),
            ("APPLICATION/Problem+JSON; charset=utf-8", true),
            ("application/problem+json;q=0", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(preferences(ACCEPT, header, Locale::Ko).problem_json, expected, "{header:?}");
        }
    }
}
