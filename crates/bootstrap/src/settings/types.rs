//! Setting types of their own: what is checked once here need not be checked again by whoever uses it.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::value::Value;

/// A setting with a few spelled values.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $( $(#[$variant_attribute:meta])* $variant:ident = $text:literal ),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$variant_attribute])* $variant, )+
        }

        impl $name {
            /// The value as it stands in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Value for $name {
            const NOUN: &'static str = concat!("one of", $( " `", $text, "`", )+);

            fn from_text(text: &str) -> Option<Self> {
                match text {
                    $( $text => Some(Self::$variant), )+
                    _ => None,
                }
            }

            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

choice! {
    /// How the buyer is known (spec/03, "Who is asking").
    pub enum AuthMode {
        /// The header `X-USER-ID` is believed; a gateway in front sets it.
        Header = "header",
        /// A bearer token is checked and its `sub` is the buyer.
        Jwt = "jwt",
    }
}

choice! {
    /// A signature algorithm that a bearer token may use. `none` is deliberately absent.
    pub enum JwtAlgorithm {
        /// RSA with SHA-256, key from the JWKS file.
        Rs256 = "RS256",
        /// P-256 with SHA-256, key from the JWKS file.
        Es256 = "ES256",
        /// HMAC with SHA-256, key from `auth.jwt.secret`.
        Hs256 = "HS256",
    }
}

choice! {
    /// The language of messages when the client asks for none.
    pub enum Locale {
        /// Korean.
        Ko = "ko",
        /// English.
        En = "en",
    }
}

choice! {
    /// How log lines are written.
    pub enum LogFormat {
        /// For people.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// What a circuit's sliding window counts.
    pub enum WindowType {
        /// The last N calls.
        Count = "count",
        /// The calls of the last N seconds.
        Time = "time",
    }
}

/// The address below which another program's paths lie: `http` or `https`, with a host, without user name, password,
/// query and fragment, and without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// An address known to be good; a test reads every default back.
    pub(crate) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The address without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for BaseUrl {
    const NOUN: &'static str =
        "an address such as `http://localhost:8082`, without credentials, query and fragment";

    fn from_text(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        plain.then(|| Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// An origin as browsers send it: scheme, host and port, nothing after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The origin as a browser spells it, for instance `https://shop.example`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Origin {
    const NOUN: &'static str = "an origin such as `https://shop.example`";

    fn from_text(text: &str) -> Option<Self> {
        let url = BaseUrl::from_text(text).and_then(|base| Url::parse(base.as_str()).ok())?;
        (url.path() == "/").then(|| Self(url.origin().ascii_serialization()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// When the reconciler turns: a cron expression of five fields, or six with seconds first; times are UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronExpression(String);

impl CronExpression {
    /// An expression known to be good; a test reads every default back.
    pub(crate) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for CronExpression {
    const NOUN: &'static str = "a cron expression such as `0 * * * * *` (second, minute, hour, day, month, weekday) whose time comes";

    /// One whose time never comes, such as 30 February, is refused: whoever waits by it waits for ever.
    fn from_text(text: &str) -> Option<Self> {
        let cron = croner::Cron::from_str(text).ok()?;
        cron.find_next_occurrence(&chrono::Utc::now(), false).is_ok().then(|| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// The database's address. It may bear a password, so neither `Debug` nor an error message shows it;
/// [`DatabaseUrl::location`] is what may be shown.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    pub(crate) fn not_set() -> Self {
        Self(SecretString::from(""))
    }

    pub(crate) fn is_set(&self) -> bool {
        !self.expose().is_empty()
    }

    /// The address with its password, for the connection pool and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Host, port and database without user, password and parameters. An address that isn't plainly one host
    /// (several hosts, an `@` where none belongs) shows nothing of itself.
    #[must_use]
    pub fn location(&self) -> String {
        let hidden = || "(set, not shown)".to_owned();
        if !self.is_set() {
            return "none".to_owned();
        }
        let Ok(url) = Url::parse(self.expose()) else { return hidden() };
        match (url.host_str(), url.port()) {
            _ if url.path().contains('@') => hidden(),
            (Some(host), Some(port)) => format!("{host}:{port}{}", url.path()),
            (Some(host), None) => format!("{host}{}", url.path()),
            (None, _) => hidden(),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.location())
    }
}

impl Value for DatabaseUrl {
    const NOUN: &'static str = "an address such as `postgres://user:password@localhost:5432/holdfast`";
    const SECRET: bool = true;

    fn from_text(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"))?;
        let clean = !rest.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        clean.then(|| Self(SecretString::from(text)))
    }

    fn show(&self) -> String {
        self.location()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_addresses_lose_their_last_slash_and_carry_nothing_else() {
        let table = [
            ("http://localhost:8082", Some("http://localhost:8082")),
            ("http://localhost:8082/", Some("http://localhost:8082")),
            ("https://pg.example/gateway/", Some("https://pg.example/gateway")),
            ("ftp://localhost", None),
            ("localhost:8082", None),
            ("http://", None),
            ("http://user:pw@localhost", None),
            ("http://user@localhost", None),
            ("http://localhost?x=1", None),
            ("http://localhost#x", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(BaseUrl::from_text(text).as_ref().map(BaseUrl::as_str), expected, "{text:?}");
        }
    }

    #[test]
    fn origins_have_no_path() {
        assert_eq!(
            Origin::from_text("https://Shop.example:443").map(|o| o.show()).as_deref(),
            Some("https://shop.example")
        );
        for text in ["https://shop.example/a", "*", "null", "https://a b"] {
            assert_eq!(Origin::from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn cron_expressions_are_checked_when_read() {
        for text in
            ["0 * * * * *", "*/10 * * * * *", "* * * * *", "0 0 0 29 2 *", "0 0 0 31 * *", "0 0 0 1 1 MON"]
        {
            assert!(CronExpression::from_text(text).is_some(), "{text:?}");
        }
        let never = ["0 0 0 30 2 *", "0 0 0 31 4,6,9,11 *", "0 0 0 31 2 *", "0 0 0 1 1 * 2020"];
        for text in ["", "every minute", "61 * * * * *", "* * *"].into_iter().chain(never) {
            assert!(CronExpression::from_text(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_database_address_never_shows_its_password() {
        let table = [
            ("postgres://app:hunter2@db.example:5433/holdfast", "db.example:5433/holdfast"),
            (
                "postgresql://app:hunter2@db.example/holdfast?sslmode=require&password=hunter2",
                "db.example/holdfast",
            ),
            ("postgres://app:hunter2@a:1,b:2/holdfast", "(set, not shown)"),
            ("postgres://app:12/hunter2@db.example/holdfast", "(set, not shown)"),
            ("postgres://app:hun/ter2@db.example/holdfast", "(set, not shown)"),
            ("postgres:///holdfast?host=/run/postgresql&password=hunter2", "(set, not shown)"),
        ];
        for (text, location) in table {
            let url = DatabaseUrl::from_text(text).unwrap();
            assert_eq!(url.location(), location, "{text:?}");
            assert_eq!(url.expose(), text);
            assert!(!format!("{url:?} {}", url.show()).contains("ter2"), "{text:?}");
        }
        for text in ["", "mysql://a/b", "postgres://", "host=localhost", "postgres://a/b c", "postgres://a\n"]
        {
            assert!(DatabaseUrl::from_text(text).is_none(), "{text:?}");
        }
    }
}
