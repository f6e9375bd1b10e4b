//! Reading a request: body, path, query and headers, each with an error that names what is wrong and repeats nothing of
//! what was sent (it may hold a card number).

use super::failure::{Case, Failure};
use crate::state::{ApiState, OpsState};
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest, dev, web};
use domain::InvalidId;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::time::Duration;

/// How much of a body that is too long is read and thrown away, so that a client which sends before it reads gets to see
/// the answer.
const DRAIN_LIMIT: usize = 8 << 20;

/// What a request's head may be.
///
/// The framework has limits of its own that can't be set: 128 KiB and 96 headers. What is over them it refuses by a bare
/// 431 before the program sees anything, and closes the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Bytes of its first line and its headers.
    pub(crate) max_size: usize,
    /// How many headers.
    pub(crate) max_headers: usize,
}

impl HeadLimits {
    /// Whether a request's head keeps them.
    pub(crate) fn check(&self, head: &dev::RequestHead) -> Result<(), Failure> {
        // `METHOD target HTTP/1.1` and `name: value`, each with its line end.
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let first_line = head.method.as_str().len() + target + "  HTTP/1.1\r\n".len();
        let headers =
            head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
        let fits =
            first_line + headers.sum::<usize>() <= self.max_size && head.headers().len() <= self.max_headers;
        if fits { Ok(()) } else { Err(Case::HeadersTooLarge.into()) }
    }
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// Its length in bytes.
    pub(crate) max_size: usize,
    /// How long its sending may take.
    pub(crate) timeout: Duration,
}

/// A JSON body, checked for its content type, its length, and its fields' types.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Failure;
    type Future = LocalBoxFuture<'static, Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let limits = limits(request);
        let content_type = expect_json(request.headers());
        let announced = announced_length(request.headers());
        let payload = payload.take();
        Box::pin(async move {
            let body = read_body(payload, announced, limits?).await?;
            content_type?;
            parse(&body).map(Json)
        })
    }
}

fn limits(request: &HttpRequest) -> Result<BodyLimits, Failure> {
    request
        .app_data::<web::Data<ApiState>>()
        .map(|state| state.body_limits)
        .or_else(|| request.app_data::<web::Data<OpsState>>().map(|state| state.body_limits))
        .ok_or(Failure::new(Case::Internal))
}

fn expect_json(headers: &HeaderMap) -> Result<(), Failure> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Case::UnsupportedMediaType.into())
    }
}

/// The length that the request's head announces.
pub(crate) fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body to its end.
pub(crate) async fn read_body(
    mut payload: dev::Payload,
    announced: Option<usize>,
    limits: BodyLimits,
) -> Result<Bytes, Failure> {
    let read = async {
        let mut body = BytesMut::with_capacity(announced.unwrap_or_default().min(limits.max_size));
        let mut received = 0_usize;
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| Failure::new(Case::BodyUnreadable).because(&error))?;
            received = received.saturating_add(chunk.len());
            if received <= limits.max_size {
                body.extend_from_slice(&chunk);
            } else if received > DRAIN_LIMIT {
                break;
            }
        }
        if received > limits.max_size { Err(Case::PayloadTooLarge.into()) } else { Ok(body.freeze()) }
    };
    match tokio::time::timeout(limits.timeout, read).await {
        Ok(body) => body,
        Err(_) => Err(Case::BodyUnreadable.into()),
    }
}

/// Turns JSON into a value. Unknown fields are skipped; everything else is strict: `"1"`, `1.0` and `1e3` are no integers.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Object(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // serde_json calls a number in an enum's place a syntax error, too.
        if !error.inner().is_data() && serde_json::from_slice::<serde_json::Value>(body).is_err() {
            return Failure::new(Case::MalformedJson);
        }
        let path = error.path().to_string();
        match missing_field(&error.inner().to_string()) {
            Some(field) if path == "." => Failure::about(Case::MissingField, field),
            Some(field) => Failure::about(Case::MissingField, format!("{path}.{field}")),
            None if path == "." => Failure::field("body"),
            None => Failure::field(path),
        }
    })?;
    deserializer.end().map_err(|_| Failure::new(Case::MalformedJson))?;
    Ok(value)
}

/// A JSON object and nothing else: serde's structs would take an array of their fields' values, too.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// The name in serde's "missing field `x`": one of ours, never of the client's.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

/// An id in the path, as an argument of a handler: `Id(order): Id<OrderId>`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id<T>(pub(crate) T);

/// What can stand in a path.
pub(crate) trait PathId: Sized {
    /// Its name in the route.
    const NAME: &'static str;

    /// From its number.
    fn from_number(number: i64) -> Result<Self, InvalidId>;
}

macro_rules! path_ids {
    ($($id:ident = $name:literal),+) => {
        $(
            impl PathId for domain::$id {
                const NAME: &'static str = $name;

                fn from_number(number: i64) -> Result<Self, InvalidId> {
                    Self::new(number)
                }
            }
        )+
    };
}

path_ids! {
    OrderId = "orderId",
    PaymentId = "paymentId",
    ProductId = "productId",
    CouponId = "couponId",
    DiscrepancyId = "discrepancyId",
    UserId = "userId"
}

impl<T: PathId> Id<T> {
    /// Of a request's path.
    pub(crate) fn of(request: &HttpRequest) -> Result<T, Failure> {
        let text = request.match_info().get(T::NAME).unwrap_or_default();
        digits(text).and_then(|id| T::from_number(id).ok()).ok_or_else(|| Failure::parameter(T::NAME))
    }
}

impl<T: PathId> FromRequest for Id<T> {
    type Error = Failure;
    type Future = Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(Self::of(request).map(Self))
    }
}

/// A whole number written with digits only: no sign, no blanks, at most 19 of them.
pub(crate) fn digits(text: &str) -> Option<i64> {
    let plain = (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The parameters of a query. One that is unknown is skipped; one that comes twice is refused.
pub(crate) struct Query(Vec<(String, String)>);

impl FromRequest for Query {
    type Error = Failure;
    type Future = Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        ready(query.map(|query| Self(query.into_inner())).map_err(|_| Failure::parameter("query")))
    }
}

impl Query {
    /// A parameter as text.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, Failure> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Failure::parameter(name)),
        }
    }

    /// A parameter that is turned into something; `None` from `parse` makes it invalid.
    pub(crate) fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => parse(text).map(Some).ok_or_else(|| Failure::parameter(name)),
        }
    }

    /// `limit`: 1 to 100, 20 when absent (spec 03).
    pub(crate) fn limit(&self) -> Result<u32, Failure> {
        let limit = self.parsed("limit", |text| {
            digits(text).and_then(|limit| u32::try_from(limit).ok()).filter(|limit| (1..=100).contains(limit))
        })?;
        Ok(limit.unwrap_or(20))
    }

    /// `cursor`: where the page before ended.
    pub(crate) fn cursor<T>(&self, new: impl Fn(i64) -> Result<T, InvalidId>) -> Result<Option<T>, Failure> {
        self.parsed("cursor", |text| digits(text).and_then(|id| new(id).ok()))
    }
}

/// The parameters of a page in the OpenAPI documents. [`Query::cursor`] and [`Query::limit`] read them.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what Query reads")]
pub(crate) struct PageParams {
    /// `nextCursor` of the page before
    #[param(value_type = String, required = false, pattern = "^[1-9][0-9]{0,14}$", example = "100001")]
    cursor: Option<String>,
    /// 20 when absent
    #[param(value_type = u32, required = false, minimum = 1, maximum = 100, example = 20)]
    limit: Option<u32>,
}

/// A page: what is shown, and the cursor of the next one when there is more. The caller asks for one row more than
/// `limit` to know.
pub(crate) fn page<T>(mut rows: Vec<T>, limit: u32, id: impl Fn(&T) -> i64) -> (Vec<T>, Option<String>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= limit {
        return (rows, None);
    }
    rows.truncate(limit);
    let next = rows.last().map(|row| id(row).to_string());
    (rows, next)
}

/// A time such as `10s` or `500ms`, at most `max`.
pub(crate) fn duration(text: &str, max: Duration) -> Option<Duration> {
    let (number, unit): (&str, fn(u64) -> Option<Duration>) = if let Some(number) = text.strip_suffix("ms") {
        (number, |number| Some(Duration::from_millis(number)))
    } else if let Some(number) = text.strip_suffix('s') {
        (number, |number| Some(Duration::from_secs(number)))
    } else if let Some(number) = text.strip_suffix('m') {
        (number, |number| number.checked_mul(60).map(Duration::from_secs))
    } else {
        let number = text.strip_suffix('h')?;
        (number, |number| number.checked_mul(3600).map(Duration::from_secs))
    };
    let number = u64::try_from(digits(number)?).ok()?;
    unit(number).filter(|duration| *duration <= max)
}

/// A text of so many characters, without control characters but line breaks.
pub(crate) fn text(
    text: String,
    field: &'static str,
    length: std::ops::RangeInclusive<usize>,
) -> Result<String, Failure> {
    let text = text.trim().to_owned();
    let clean = text.chars().all(|c| !c.is_control() || c == '\n');
    if clean && length.contains(&text.chars().count()) { Ok(text) } else { Err(Failure::field(field)) }
}

/// The one value of a header; `Err` when it comes twice or is not printable ASCII.
pub(crate) fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Outer {
        items: Vec<Object<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        quantity: i64,
    }

    #[test]
    fn errors_name_the_field_and_repeat_nothing() {
        let table = [
            (
                r#"{"items":[{"quantity":1},{"quantity":"1234-5678-9814-1451"}]}"#,
                "INVALID_FIELD",
                "items[1].quantity",
            ),
            (r#"{"items":[{"quantity":1.5}]}"#, "INVALID_FIELD", "items[0].quantity"),
            (r#"{"items":[{"quantity":1e3}]}"#, "INVALID_FIELD", "items[0].quantity"),
            (r#"{"items":[{"quantity":99999999999999999999}]}"#, "INVALID_FIELD", "items[0].quantity"),
            (r#"{"items":[{"quantity":null}]}"#, "INVALID_FIELD", "items[0].quantity"),
            (r#"{"items":[{}]}"#, "MISSING_FIELD", "items[0].quantity"),
            (r#"{"items":7}"#, "INVALID_FIELD", "items"),
            (r#"{}"#, "MISSING_FIELD", "items"),
            ("[]", "INVALID_FIELD", "body"),
            ("[[]]", "INVALID_FIELD", "body"),
            (r#"{"items":[[1]]}"#, "INVALID_FIELD", "items[0]"),
            (r#"{"items":[],"items":[]}"#, "INVALID_FIELD", "body"),
            ("7", "INVALID_FIELD", "body"),
            ("", "MALFORMED_JSON", ""),
            ("{", "MALFORMED_JSON", ""),
            (r#"{"items":[]} x"#, "MALFORMED_JSON", ""),
            ("\u{feff}{}", "MALFORMED_JSON", ""),
        ];
        for (body, reason, field) in table {
            let failure = parse::<Outer>(body.as_bytes()).unwrap_err();
            let message = failure.message(bootstrap::settings::Locale::En);
            assert_eq!(failure.case().reason(), reason, "{body}: {message}");
            assert!(message.ends_with(field), "{body}: {message}");
            assert!(!message.contains("1451"), "{message}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(
            parse::<Outer>(format!("{{\"items\":[],\"x\":{deep}").as_bytes()).unwrap_err().case(),
            Case::MalformedJson
        );
        assert_eq!(parse::<Outer>(b"{\"items\":\"\xff\"}").unwrap_err().case(), Case::MalformedJson);
        let outer: Outer = parse(br#"{"items":[{"quantity":5,"other":{}}],"more":1}"#).unwrap();
        assert_eq!(outer.items[0].0.quantity, 5);
    }

    #[test]
    fn durations_are_written_as_in_the_settings() {
        let max = Duration::from_secs(30);
        assert_eq!(duration("10s", max), Some(Duration::from_secs(10)));
        assert_eq!(duration("500ms", max), Some(Duration::from_millis(500)));
        assert_eq!(duration("30s", max), Some(max));
        for bad in ["", "s", "31s", "-1s", "1.5s", "10", "1h", "+1s", "99999999999999999999s"] {
            assert_eq!(duration(bad, max), None, "{bad:?}");
        }
    }
}
