//! What becomes of a payment: the one decision for all who learn something about it (spec 01 sections 3 to 5).
//!
//! Pure: [`decide`] makes a [`Decision`] of what the gateway said, how old the payment is and what was said before;
//! [`settle`] makes of that, and of all else that may be learned about a payment, the [`Changes`] that are stored.
//! Deliberately absent: asking the gateway, locks, and the order in which things are written.

mod case;
mod decide;
mod looks;
mod settle;

pub use case::{
    Blame, Case, Changes, Check, Hint, Learned, Lease, NotSent, Settling, SettlingNeeds, Shared, StockBack,
};
pub use decide::decide;
pub use looks::SettlementRules;
pub use settle::{SettleError, Settled, Settlement, settle};

use crate::{FailureMessage, GatewayKey, GatewayOrderRef, Money, PaymentStatus, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// Where a transaction stands at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionStatus {
    /// Not decided yet.
    Pending,
    /// The card was charged.
    Success,
    /// The card was not charged.
    Failed,
}

impl TransactionStatus {
    /// All of them.
    pub const ALL: [TransactionStatus; 3] = [Self::Pending, Self::Success, Self::Failed];

    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
        }
    }
}

/// One transaction as the gateway's own record shows it, without the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its key.
    pub key: GatewayKey,
    /// The order it was requested for.
    pub order_ref: GatewayOrderRef,
    /// What it charges.
    pub amount: Money,
    /// Where it stands.
    pub status: TransactionStatus,
    /// What the gateway says about it.
    pub reason: Option<String>,
    /// It was made before this moment, as far as the gateway tells.
    pub made_before: Option<Timestamp>,
}

/// What the gateway said about the key that we hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyAnswer {
    /// It has it.
    Found(Transaction),
    /// It has none (404) by this key.
    NotFound(GatewayKey),
}

impl KeyAnswer {
    /// The key that was asked about.
    pub const fn key(&self) -> &GatewayKey {
        match self {
            Self::Found(transaction) => &transaction.key,
            Self::NotFound(key) => key,
        }
    }
}

/// All that the gateway was asked and answered about one payment, at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// The answer about the key we hold, when we hold one and asked.
    pub by_key: Option<KeyAnswer>,
    /// The details of every transaction listed for the order (empty: none there), when the list was asked for.
    pub by_order: Option<Vec<Transaction>>,
    /// Transactions that a callback named, asked for by their keys.
    pub hinted: Vec<Transaction>,
    /// The keys that a callback named and that were asked about, there or not.
    pub hints_asked: Vec<GatewayKey>,
}

impl Findings {
    /// The gateway said that it has no transaction of the order.
    pub fn none_there(&self) -> bool {
        self.by_order.as_ref().is_some_and(Vec::is_empty)
    }

    /// The gateway said that it does not know the key that we hold.
    pub const fn key_lost(&self) -> bool {
        matches!(self.by_key, Some(KeyAnswer::NotFound(_)))
    }

    /// All transactions, some perhaps twice.
    pub fn transactions(&self) -> impl Iterator<Item = &Transaction> + '_ {
        let held = match &self.by_key {
            Some(KeyAnswer::Found(transaction)) => Some(transaction),
            Some(KeyAnswer::NotFound(_)) | None => None,
        };
        held.into_iter().chain(self.by_order.iter().flatten()).chain(&self.hinted)
    }
}

/// The payment and its past, as far as the decision needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Where it stands.
    pub status: PaymentStatus,
    /// The key we hold.
    pub key: Option<GatewayKey>,
    /// What the gateway calls its order.
    pub order_ref: GatewayOrderRef,
    /// When it was placed: a transaction that is older is never ours.
    pub created_at: Timestamp,
    /// What should be on the card.
    pub paid_amount: Money,
    /// Since it was placed, by the database's clock.
    pub age: Duration,
    /// Since its send deadline; `None` while that has not passed.
    pub since_send_deadline: Option<Duration>,
    /// The gateway once showed a transaction for it.
    pub transaction_seen: bool,
    /// How often the gateway has said that it has none, this time included, apart enough to count.
    pub not_found_count: u32,
    /// Keys among the findings that other payments own.
    pub keys_owned_elsewhere: BTreeSet<GatewayKey>,
    /// This is the last look of the watch list.
    pub last_look: bool,
}

impl Subject {
    /// The transaction was requested for this payment's order.
    pub fn asked_for(&self, transaction: &Transaction) -> bool {
        let older = transaction.made_before.is_some_and(|latest| latest <= self.created_at);
        transaction.order_ref == self.order_ref && !older
    }
}

/// The numbers of the rules (spec 03, `reconciler.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettlementPolicy {
    /// An undecided payment is forced FAILED from this age on, upon a fresh answer.
    pub force_fail_after: Duration,
    /// How often the gateway must say that it has no such transaction.
    pub not_found_confirmations: u32,
    /// "No such transaction" is believed so long after the send deadline, not earlier.
    pub not_found_grace: Duration,
    /// "No such transaction" is not believed now: too many at once (spec 01 section 5, interlock).
    pub not_found_suspended: bool,
}

/// Kinds of rows of the discrepancy ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiscrepancyKind {
    /// A further SUCCESS for a payment that is PAID by another.
    DuplicateCharge,
    /// A SUCCESS with another amount than ours.
    AmountMismatch,
    /// A transaction listed for our order that says another order's.
    OrderMismatch,
    /// The gateway does not know the key it gave us, or uses it for another order.
    PgLost,
    /// A SUCCESS for a payment that is FAILED.
    LateSuccess,
    /// The gateway gave us a key that another payment owns.
    KeyReused,
    /// A PAID payment's transaction that the gateway now calls otherwise.
    Conflict,
    /// A transaction that is undecided even after the last look of the watch list.
    NeverSettled,
    /// A payment that could not be examined again and again.
    Poison,
}

impl DiscrepancyKind {
    /// All of them.
    pub const ALL: [DiscrepancyKind; 9] = [
        Self::DuplicateCharge,
        Self::AmountMismatch,
        Self::OrderMismatch,
        Self::PgLost,
        Self::LateSuccess,
        Self::KeyReused,
        Self::Conflict,
        Self::NeverSettled,
        Self::Poison,
    ];

    /// As it stands in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DuplicateCharge => "DUPLICATE_CHARGE",
            Self::AmountMismatch => "AMOUNT_MISMATCH",
            Self::OrderMismatch => "ORDER_MISMATCH",
            Self::PgLost => "PG_LOST",
            Self::LateSuccess => "LATE_SUCCESS",
            Self::KeyReused => "KEY_REUSED",
            Self::Conflict => "CONFLICT",
            Self::NeverSettled => "NEVER_SETTLED",
            Self::Poison => "POISON",
        }
    }

    /// The inverse of [`DiscrepancyKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// True when the row says that a card was charged for something that is not PAID by it. One charge makes one row,
    /// whatever it is first seen as.
    pub const fn is_charge(self) -> bool {
        match self {
            Self::DuplicateCharge
            | Self::AmountMismatch
            | Self::OrderMismatch
            | Self::LateSuccess
            | Self::KeyReused => true,
            Self::PgLost | Self::Conflict | Self::NeverSettled | Self::Poison => false,
        }
    }
}

/// Something that a person must settle with the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    /// What.
    pub kind: DiscrepancyKind,
    /// The transaction, when there is one.
    pub key: Option<GatewayKey>,
    /// What the gateway charged, or would have.
    pub amount: Option<Money>,
    /// What was seen, in words, without card data.
    pub evidence: String,
}

impl Discrepancy {
    /// What makes it one fact: rows of one payment with the same text are the same row.
    pub fn fact(&self) -> String {
        let class = if self.kind.is_charge() { "CHARGE" } else { self.kind.as_str() };
        format!("{class}:{}", self.key.as_ref().map_or("", GatewayKey::as_str))
    }
}

/// Whether the payment is looked at again after its end (spec 01 section 5, watch list).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// Nothing can have reached the gateway.
    No,
    /// The gateway called every transaction FAILED: one last look at the end of the watch time (F76).
    Once,
    /// Every look: there may be a charge that nobody has seen yet.
    Full,
}

/// Why a payment must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Waiting {
    /// A transaction is undecided at the gateway.
    TransactionPending,
    /// The gateway has none, but has not said so often or late enough.
    NotFoundYet,
    /// The gateway contradicts itself about the key we hold.
    KeyContradicted,
    /// The only transaction that fits has a key that another payment owns.
    KeyOwnedElsewhere,
    /// Too many are not found at once.
    NotFoundSuspended,
    /// There may be transactions that the findings don't show: the list was not asked for, or not since the key that we
    /// hold came.
    ListUnknown,
    /// Our own request may still be on its way: no key is held, and the send deadline has not passed.
    StillSending,
}

/// What is done with the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// PAID by this transaction.
    Pay {
        /// Its key.
        key: GatewayKey,
    },
    /// FAILED and compensated (TX2).
    Fail {
        /// Why.
        message: FailureMessage,
        /// It was undecided for too long.
        forced: bool,
    },
    /// Nothing yet.
    Wait {
        /// Why.
        why: Waiting,
        /// A key to store, when we hold none.
        adopt: Option<GatewayKey>,
    },
    /// It ended before: nothing changes.
    Ended,
}

/// What settling does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// With the payment.
    pub verdict: Verdict,
    /// With the ledger.
    pub discrepancies: Vec<Discrepancy>,
    /// With the watch list. For a payment that had ended: [`Watch::Full`] when a transaction is still undecided.
    pub watch: Watch,
}

/// What a payment forced FAILED says (spec 01 section 5).
pub const FORCED_MESSAGE: &str = "결제 시간 초과";
/// What a payment says that never reached the gateway.
pub const NOT_FOUND_MESSAGE: &str = "PG에 결제 내역이 없습니다.";
/// What a payment says that was charged with another amount.
pub const AMOUNT_MISMATCH_MESSAGE: &str = "PG 승인 금액이 결제 금액과 일치하지 않습니다.";
/// What a payment says whose order's transactions are all another order's.
pub const ORDER_MISMATCH_MESSAGE: &str = "PG 거래가 다른 주문의 것입니다.";
/// What a payment says that the gateway declined without a reason.
pub const DECLINED_MESSAGE: &str = "카드 결제가 거절되었습니다.";
