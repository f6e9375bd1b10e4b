//! One transaction, as the gateway keeps it.

use std::fmt;
use std::time::Duration;

use pg_protocol::{CardType, TransactionRecord, TransactionStatus, masked_card_no};

use super::chance::Destiny;

/// The number a transaction has in the simulator's own books, from 1. Keys are not unique; this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub(super) u64);

impl TransactionId {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Why look-ups no longer find a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Overwritten,
    Wiped,
}

/// How far the callback came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallbackTally {
    pub(super) sent: u32,
    pub(super) delivered: u32,
    pub(super) last_status: Option<u16>,
}

pub(super) struct Transaction {
    pub(super) id: TransactionId,
    pub(super) key: String,
    pub(super) merchant: String,
    pub(super) order_id: String,
    pub(super) card_type: CardType,
    pub(super) card_no: String,
    pub(super) requested_amount: i64,
    pub(super) amount: i64,
    pub(super) callback_url: String,
    pub(super) status: TransactionStatus,
    pub(super) reason: Option<&'static str>,
    pub(super) requested_at: Duration,
    pub(super) created_at: Option<Duration>,
    pub(super) settled_at: Option<Duration>,
    pub(super) flipped: bool,
    pub(super) gone: Option<Gone>,
    pub(super) callbacks: CallbackTally,
    pub(super) destiny: Destiny,
}

impl Transaction {
    /// Whether a look-up at `now` may find it, given how long new ones stay unknown.
    pub(super) fn is_visible(&self, now: Duration, visible_after: Duration) -> bool {
        self.gone.is_none() && self.created_at.is_some_and(|created| created + visible_after <= now)
    }

    /// The transaction as it is told to the outside; `stale`: as it was before the decision.
    pub(super) fn snapshot(&self, stale: bool) -> Snapshot {
        Snapshot {
            transaction_key: self.key.clone(),
            order_id: self.order_id.clone(),
            card_type: self.card_type,
            card_no: self.card_no.clone(),
            amount: self.amount,
            status: if stale { TransactionStatus::Pending } else { self.status },
            reason: if stale { None } else { self.reason },
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("id", &self.id)
            .field("key", &self.key)
            .field("order_id", &self.order_id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// What the gateway tells about a transaction: the seven fields. Bears the card number; `Debug` masks it.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The key.
    pub transaction_key: String,
    /// The merchant's order.
    pub order_id: String,
    /// Which company issued the card.
    pub card_type: CardType,
    pub(super) card_no: String,
    /// Whole won.
    pub amount: i64,
    /// Where it stands.
    pub status: TransactionStatus,
    /// Why, once decided.
    pub reason: Option<&'static str>,
}

impl Snapshot {
    /// As it goes onto the wire, card number included.
    #[must_use]
    pub fn record(&self) -> TransactionRecord<'_> {
        TransactionRecord {
            transaction_key: &self.transaction_key,
            order_id: &self.order_id,
            card_type: self.card_type,
            card_no: &self.card_no,
            amount: self.amount,
            status: self.status,
            reason: self.reason,
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("transaction_key", &self.transaction_key)
            .field("order_id", &self.order_id)
            .field("card_no", &masked_card_no(&self.card_no))
            .field("amount", &self.amount)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A callback to send now. The URL ends in a secret: not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Whose.
    pub transaction: TransactionId,
    /// Where to.
    pub url: String,
    /// The body.
    pub body: Snapshot,
    /// Whether somebody else than the gateway sends it.
    pub forged: bool,
    /// The start of the process that sends it.
    pub(super) run: u32,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("transaction", &self.transaction)
            .field("body", &self.body)
            .field("forged", &self.forged)
            .finish_non_exhaustive()
    }
}
