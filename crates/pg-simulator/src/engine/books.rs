//! What the gateway remembers about what it was asked and what it charged: the truth that tests hold our books against.

use std::collections::BTreeMap;
use std::time::Duration;

use pg_protocol::{CardType, TransactionStatus, masked_card_no};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::transaction::{Gone, Transaction};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST /api/v1/payments`.
    Request,
    /// Look-up by key.
    LookupByKey,
    /// Look-up by order.
    LookupByOrder,
}

/// One payment request that arrived, valid or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Post {
    /// When it arrived.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: Duration,
    /// Who sent it.
    pub merchant: String,
    /// How much, whole won.
    pub amount: i64,
    /// What became of it: `accept`, `refused`, `outage`, or a fault's name.
    pub outcome: String,
    /// The key of the transaction that it made, also when that was not told.
    pub transaction_key: Option<String>,
}

/// All that was asked, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestLog {
    pub(super) counts: BTreeMap<(Operation, String), u64>,
    pub(super) posts: BTreeMap<String, Vec<Post>>,
}

impl RequestLog {
    /// How often each operation came to each outcome.
    #[must_use]
    pub fn counts(&self) -> Vec<RequestCount> {
        let row = |((operation, outcome), count): (&(Operation, String), &u64)| RequestCount {
            operation: *operation,
            outcome: outcome.clone(),
            count: *count,
        };
        self.counts.iter().map(row).collect()
    }

    /// The payment requests for each order id, in the order in which they came.
    #[must_use]
    pub fn posts(&self) -> &BTreeMap<String, Vec<Post>> {
        &self.posts
    }

    /// How many requests there were for this operation.
    #[must_use]
    pub fn total(&self, operation: Operation) -> u64 {
        self.counts.iter().filter(|((of, _), _)| *of == operation).map(|(_, count)| count).sum()
    }

    pub(super) fn count(&mut self, operation: Operation, outcome: &str) {
        *self.counts.entry((operation, outcome.to_owned())).or_default() += 1;
    }
}

/// One row of the counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestCount {
    /// What was asked.
    pub operation: Operation,
    /// What became of it.
    pub outcome: String,
    /// How often.
    pub count: u64,
}

/// One transaction in the gateway's books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// Running number, from 1.
    pub id: u64,
    /// The key it has (another may have the same since).
    pub transaction_key: String,
    /// The merchant's order.
    pub order_id: String,
    /// The merchant.
    pub merchant: String,
    /// Which company issued the card.
    pub card_type: CardType,
    /// Masked.
    pub card_no: String,
    /// What was asked for, whole won.
    pub requested_amount: i64,
    /// What was booked, whole won.
    pub amount: i64,
    /// Where it stands.
    pub status: TransactionStatus,
    /// Why, once decided.
    pub reason: Option<&'static str>,
    /// When the request arrived.
    #[serde(serialize_with = "as_rfc3339")]
    pub requested_at: Duration,
    /// When it was created.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub created_at: Option<Duration>,
    /// When it was decided.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub settled_at: Option<Duration>,
    /// Whether it was FAILED before it became SUCCESS.
    pub flipped: bool,
    /// Whether look-ups find it no more because its key was given away.
    pub overwritten: bool,
    /// Whether look-ups find it no more because the gateway forgot everything.
    pub wiped: bool,
    /// Where the result is reported.
    pub callback_url: String,
    /// How often that was tried.
    pub callbacks_sent: u32,
    /// How often it was answered, with whatever status.
    pub callbacks_delivered: u32,
    /// The last answer's HTTP status.
    pub callback_status: Option<u16>,
}

impl LedgerEntry {
    pub(super) fn of(transaction: &Transaction) -> Self {
        Self {
            id: transaction.id.get(),
            transaction_key: transaction.key.clone(),
            order_id: transaction.order_id.clone(),
            merchant: transaction.merchant.clone(),
            card_type: transaction.card_type,
            card_no: masked_card_no(&transaction.card_no),
            requested_amount: transaction.requested_amount,
            amount: transaction.amount,
            status: transaction.status,
            reason: transaction.reason,
            requested_at: transaction.requested_at,
            created_at: transaction.created_at,
            settled_at: transaction.settled_at,
            flipped: transaction.flipped,
            overwritten: transaction.gone == Some(Gone::Overwritten),
            wiped: transaction.gone == Some(Gone::Wiped),
            callback_url: transaction.callback_url.clone(),
            callbacks_sent: transaction.callbacks.sent,
            callbacks_delivered: transaction.callbacks.delivered,
            callback_status: transaction.callbacks.last_status,
        }
    }
}

/// Sums over a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// All transactions.
    pub transactions: u64,
    /// Not decided.
    pub pending: u64,
    /// Charged.
    pub success: u64,
    /// Not charged.
    pub failed: u64,
    /// Sum of all that was charged, whole won.
    pub charged_amount: i128,
}

impl Totals {
    /// Adds up.
    #[must_use]
    pub fn of(entries: &[LedgerEntry]) -> Self {
        let mut totals = Self::default();
        for entry in entries {
            totals.transactions += 1;
            match entry.status {
                TransactionStatus::Success => {
                    totals.success += 1;
                    totals.charged_amount += i128::from(entry.amount);
                }
                TransactionStatus::Failed => totals.failed += 1,
                TransactionStatus::Pending | TransactionStatus::Unknown => totals.pending += 1,
            }
        }
        totals
    }
}

/// A time since the Unix epoch as calendar time, in whole microseconds, which is all that databases keep; none beyond the
/// year 9999.
pub(super) fn calendar(since_epoch: Duration) -> Option<OffsetDateTime> {
    let micros = i128::try_from(since_epoch.as_micros()).ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(micros.checked_mul(1_000)?).ok()
}

fn as_rfc3339<S: Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    as_optional_rfc3339(&Some(*at), serializer)
}

fn as_optional_rfc3339<S: Serializer>(at: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = at.and_then(calendar).and_then(|at| at.format(&Rfc3339).ok());
    serializer.serialize_some(&text)
}
