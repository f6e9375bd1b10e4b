//! From an HTTP answer to an outcome: a pure function, and the list of what is let in (spec 01 section 2).
//!
//! Three statuses are "surely not reached" (429, 500, 503), five are refusals (400 with its envelope, 401, 403, 404, 405),
//! a 2xx that bears a transaction key is a success. *Everything else is uncertain*: what this module does not know
//! never becomes a retry or a compensation. The status decides, never the envelope's `errorCode`.
//!
//! A look-up that brings nothing failed in one of two ways. Without the gateway's own envelope, or with one that says that
//! the gateway failed, it is *unreachable*: so it would be for any payment. With an envelope whose content can't be used (a
//! status nobody knows, an amount that is no number, a list that is too long) it is *odd*: this payment's trouble alone.
//!
//! No card number is decoded from an answer, and whatever in a text looks like one is struck out before the text goes on.
//!
//! Deliberately absent: sockets, time-outs, errors of the HTTP client (see `http`).

use crate::transport::{LookupAttempt, LookupFailure, PaymentAttempt, cause};
use domain::ports::{FailureCause, Lookup, Oddity, TransactionSummary};
use domain::settlement::{DECLINED_MESSAGE, Transaction, TransactionStatus};
use domain::{FailureMessage, GatewayKey, GatewayOrderRef, Money, Timestamp};
use pg_protocol::{Envelope, OrderTransactions, Outcome, TransactionAccepted, TransactionDetail};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The longest `Retry-After` that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The digits from which on a run of them may be a card number (ISO/IEC 7812: 8 to 19; fewer than 13 are in no use).
const CARD_DIGITS: usize = 13;

/// What arrived of an answer's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// More than is read.
    TooLarge,
    /// Not all of it, and why.
    Broken(FailureCause),
}

/// An HTTP answer whose head arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The media type says JSON.
    pub(crate) is_json: bool,
    /// See [`retry_after`].
    pub(crate) retry_after: Option<Duration>,
    /// The body.
    pub(crate) body: Body,
}

impl Answer {
    /// The envelope, if there is one that can be read whole.
    fn envelope<T: DeserializeOwned>(&self) -> Result<Envelope<T>, FailureCause> {
        let bytes = match &self.body {
            Body::Whole(bytes) => bytes,
            Body::TooLarge => return Err(cause::BODY_TOO_LARGE),
            Body::Broken(cause) => return Err(*cause),
        };
        if !self.is_json {
            return Err(cause::WRONG_CONTENT_TYPE);
        }
        serde_json::from_slice(bytes).map_err(|_not_the_protocol| cause::UNREADABLE_BODY)
    }

    /// What the 2xx to a payment request bears.
    fn data<T: DeserializeOwned>(&self) -> Result<T, FailureCause> {
        let envelope = self.envelope::<T>()?;
        match envelope.meta.result {
            Outcome::Success => envelope.data.ok_or(cause::NO_DATA),
            Outcome::Fail | Outcome::Unknown => Err(cause::CONTRADICTORY_BODY),
        }
    }

    /// What the 2xx to a look-up bears.
    fn looked_up<T: DeserializeOwned>(&self) -> Result<T, LookupFailure> {
        if self.is_json && self.body == Body::TooLarge {
            return Err(odd(Oddity::TooLarge));
        }
        let (result, data) = match self.envelope::<T>() {
            Ok(Envelope { meta, data }) => (meta.result, data.ok_or(Oddity::NoData)),
            Err(cause) => match self.envelope::<IgnoredAny>() {
                Ok(Envelope { meta, .. }) => (meta.result, Err(Oddity::Unreadable)),
                Err(_not_the_gateways_own) => return Err(self.unreachable(cause)),
            },
        };
        match result {
            Outcome::Success => data.map_err(odd),
            Outcome::Fail | Outcome::Unknown => Err(self.unreachable(cause::CONTRADICTORY_BODY)),
        }
    }

    fn unreachable(&self, cause: FailureCause) -> LookupFailure {
        LookupFailure::Unreachable { cause, retry_after: self.retry_after }
    }

    /// The message of an error envelope: `Err` unless there is such an envelope.
    fn refusal(&self) -> Result<Option<String>, FailureCause> {
        let envelope = self.envelope::<IgnoredAny>()?;
        match envelope.meta.result {
            Outcome::Fail => Ok(envelope.meta.message),
            Outcome::Success | Outcome::Unknown => Err(cause::CONTRADICTORY_BODY),
        }
    }
}

/// What came of a payment request that was answered.
pub(crate) fn payment(answer: &Answer) -> PaymentAttempt {
    let status = answer.status;
    match status {
        200..=299 => match accepted(answer) {
            Ok((key, status)) => PaymentAttempt::Accepted { key, status },
            Err(cause) => PaymentAttempt::Uncertain { cause },
        },
        400 => match answer.refusal() {
            Ok(message) => PaymentAttempt::Rejected { message: refusal_message(message.as_deref()) },
            Err(_no_envelope) => PaymentAttempt::Uncertain { cause: cause::HTTP_400 },
        },
        401 | 403 | 404 | 405 => PaymentAttempt::Misconfigured { status, readable: answer.refusal().is_ok() },
        429 | 500 | 503 => PaymentAttempt::NotReached {
            cause: cause::of_status(status),
            may_have_created: status != 429,
            retry_after: answer.retry_after,
        },
        _ => PaymentAttempt::Uncertain { cause: cause::of_status(status) },
    }
}

fn accepted(answer: &Answer) -> Result<(GatewayKey, TransactionStatus), FailureCause> {
    let data = answer.data::<TransactionAccepted>()?;
    let key = GatewayKey::new(data.transaction_key).map_err(|_unusable| cause::BAD_KEY)?;
    // The key is what counts. A status that nobody knows makes whoever settles ask for the transaction like a pending one.
    let status = known_status(data.status).unwrap_or(TransactionStatus::Pending);
    Ok((key, status))
}

/// What came of a look-up by key that was answered.
pub(crate) fn by_key(answer: &Answer, asked: &GatewayKey) -> LookupAttempt<Transaction> {
    look_up(answer, |data: TransactionDetail| {
        if data.transaction_key != asked.as_str() {
            return Err(Oddity::WrongSubject);
        }
        Ok(Lookup::Found(Transaction {
            key: asked.clone(),
            order_ref: GatewayOrderRef::from_gateway(data.order_id),
            amount: Money::new(data.amount).map_err(|_out_of_range| Oddity::BadAmount)?,
            status: known_status(data.status).ok_or(Oddity::UnknownStatus)?,
            reason: data.reason.as_deref().map(without_card_numbers),
            made_before: made_before(asked),
        }))
    })
}

/// A key begins with the day on which it was made (spec 02), in a time zone that nobody tells: it was made before that
/// day had ended everywhere. A key of another form tells nothing.
fn made_before(key: &GatewayKey) -> Option<Timestamp> {
    const LATEST: time::UtcOffset = time::macros::offset!(-12);
    let day = key.as_str().split(':').next()?;
    let day = time::Date::parse(day, time::macros::format_description!("[year][month][day]")).ok()?;
    Some(day.next_day()?.midnight().assume_offset(LATEST).to_offset(time::UtcOffset::UTC))
}

/// What came of a look-up by order that was answered: the whole list, or nothing of it.
pub(crate) fn by_order(answer: &Answer, asked: &GatewayOrderRef) -> LookupAttempt<Vec<TransactionSummary>> {
    look_up(answer, |data: OrderTransactions| {
        if data.order_id != asked.as_str() {
            return Err(Oddity::WrongSubject);
        }
        let list = data.transactions.into_iter().map(summary).collect::<Result<Vec<_>, _>>()?;
        Ok(if list.is_empty() { Lookup::NotFound } else { Lookup::Found(list) })
    })
}

fn summary(line: TransactionAccepted) -> Result<TransactionSummary, Oddity> {
    Ok(TransactionSummary {
        key: GatewayKey::new(line.transaction_key).map_err(|_unusable| Oddity::BadKey)?,
        status: known_status(line.status).ok_or(Oddity::UnknownStatus)?,
        reason: line.reason.as_deref().map(without_card_numbers),
    })
}

const fn odd(what: Oddity) -> LookupFailure {
    LookupFailure::Odd { what }
}

/// A 404 counts as "no such transaction" only with the gateway's own envelope: that of a proxy says nothing.
fn look_up<W: DeserializeOwned, T>(
    answer: &Answer,
    read: impl FnOnce(W) -> Result<Lookup<T>, Oddity>,
) -> LookupAttempt<T> {
    match answer.status {
        200..=299 => read(answer.looked_up()?).map_err(odd),
        404 if answer.refusal().is_ok() => Ok(Lookup::NotFound),
        status @ (400 | 401 | 403 | 405) => Err(LookupFailure::Misconfigured { status }),
        status => Err(answer.unreachable(cause::of_status(status))),
    }
}

fn known_status(status: pg_protocol::TransactionStatus) -> Option<TransactionStatus> {
    match status {
        pg_protocol::TransactionStatus::Pending => Some(TransactionStatus::Pending),
        pg_protocol::TransactionStatus::Success => Some(TransactionStatus::Success),
        pg_protocol::TransactionStatus::Failed => Some(TransactionStatus::Failed),
        pg_protocol::TransactionStatus::Unknown => None,
    }
}

fn refusal_message(text: Option<&str>) -> FailureMessage {
    let text = text.map(without_card_numbers).filter(|text| !text.trim().is_empty());
    FailureMessage::from_outside(text.as_deref().unwrap_or(DECLINED_MESSAGE))
}

/// The text with every run of digits that is long enough for a card number struck out; hyphens and single spaces between
/// digits belong to the run. A gateway that repeats the number in its message must not bring it into our tables and logs.
pub(crate) fn without_card_numbers(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, run_on) = rest.split_at(start);
        shown.push_str(before);
        let end = end_of_run(run_on);
        let (run, after) = run_on.split_at(end);
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        shown.push_str(if digits >= CARD_DIGITS { "****" } else { run });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// The length of the run of digits, with its separators, that `text` begins with; its last byte is a digit.
fn end_of_run(text: &str) -> usize {
    let mut end = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => end = at + 1,
            // At most one separator between two digits.
            b'-' | b' ' | b'.' if at == end => {}
            _ => break,
        }
    }
    end
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110 section 10.2.3), at most an hour. A date is held against the
/// answer's own `Date`, so that neither clock needs to be right.
pub(crate) fn retry_after(value: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let value = value?.trim();
    let wait = if let Ok(seconds) = value.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let then = OffsetDateTime::parse(value, &Rfc2822).ok()?;
        let now = OffsetDateTime::parse(date?.trim(), &Rfc2822).ok()?;
        Duration::try_from(then - now).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Whether a `Content-Type` says JSON.
pub(crate) fn is_json(content_type: Option<&str>) -> bool {
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 17
            && essence.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("application/"))
            && essence.get(essence.len() - 5..).is_some_and(|end| end.eq_ignore_ascii_case("+json")))
}

#[cfg(test)]
mod tests;
