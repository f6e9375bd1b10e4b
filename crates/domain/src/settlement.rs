//! What becomes of a payment: the one decision for all who learn something about it (spec 01 sections 3 to 5).
//!
//! Pure: what the gateway said, how old the payment is and what was said before come in, a [`Decision`] goes out.
//! Deliberately absent: asking the gateway, locks, and the order in which things are written.

use crate::mutants::{self, Mutant};
use crate::{FailureMessage, GatewayKey, GatewayOrderRef, Money, PaymentStatus};
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
        let class = if self.kind.is_charge() && !mutants::is(Mutant::LedgerNotUnique) {
            "CHARGE"
        } else {
            self.kind.as_str()
        };
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

/// Decides by what the gateway said.
///
/// PAID needs one SUCCESS of our order with our amount and a key that is ours or free. FAILED needs the whole list, asked
/// for since the key we hold came, and that no request of ours can leave any more: the key came with the gateway's
/// answer, or the send deadline has passed. Else a second attempt could charge the card of an order that is CANCELLED.
pub fn decide(subject: &Subject, findings: &Findings, policy: &SettlementPolicy) -> Decision {
    let sorted = Sorted::of(subject, findings);
    if subject.status.is_terminal() {
        return ended(subject, &sorted);
    }
    if let Some((paying, further)) = sorted.paying(subject) {
        let discrepancies = further
            .iter()
            .filter(|_| !mutants::is(Mutant::DuplicateUnrecorded))
            .map(|other| duplicate(other))
            .chain(sorted.foreign_rows())
            .chain(sorted.lost_row(subject))
            .collect();
        // Further charges are still possible: a transaction is undecided or lost; or the gateway's answer to our request was
        // never stored, and with it how often we asked.
        let more = sorted.any_pending() || sorted.contradicted || subject.key.is_none();
        let watch = if more { Watch::Full } else { Watch::No };
        return Decision { verdict: Verdict::Pay { key: paying.key.clone() }, discrepancies, watch };
    }
    undecided(subject, findings, policy, &sorted)
}

/// The transactions in the order they are considered: the one we hold first, then as the gateway lists them.
struct Sorted<'a> {
    own: Vec<&'a Transaction>,
    foreign: Vec<&'a Transaction>,
    contradicted: bool,
}

impl<'a> Sorted<'a> {
    fn of(subject: &Subject, findings: &'a Findings) -> Self {
        let held = match &findings.by_key {
            Some(KeyAnswer::Found(transaction)) => Some(transaction),
            Some(KeyAnswer::NotFound(_)) | None => None,
        };
        let listed = findings.by_order.iter().flatten();
        let mut sorted = Sorted { own: Vec::new(), foreign: Vec::new(), contradicted: false };
        let mut seen = BTreeSet::new();
        let ours = |t: &&Transaction| t.order_ref == subject.order_ref;
        sorted
            .own
            .extend(held.into_iter().chain(listed.clone()).filter(ours).filter(|t| seen.insert(&t.key)));
        // The one we hold is no foreign one but a contradiction.
        let foreign = listed.filter(|t| !ours(t) && subject.key.as_ref() != Some(&t.key));
        sorted.foreign.extend(foreign.filter(|t| seen.insert(&t.key)));
        // A callback's transaction counts only when it is ours; another order's says nothing about this payment (F50).
        sorted.own.extend(findings.hinted.iter().filter(|t| {
            let ours = t.order_ref == subject.order_ref || mutants::is(Mutant::ForeignKeyBelieved);
            ours && seen.insert(&t.key)
        }));
        if mutants::is(Mutant::NewestBelieved) && sorted.own.len() > 1 {
            sorted.own.drain(..sorted.own.len() - 1);
        }
        sorted.contradicted = match &findings.by_key {
            Some(answer) if subject.key.as_ref() != Some(answer.key()) => false,
            Some(KeyAnswer::NotFound(_)) => true,
            Some(KeyAnswer::Found(transaction)) => transaction.order_ref != subject.order_ref,
            None => false,
        };
        sorted
    }

    /// The findings say something about the key we hold. They don't when it came while the gateway was asked: then they
    /// are older than the payment, and what they don't show may exist.
    fn covers_key(&self, subject: &Subject, findings: &Findings) -> bool {
        subject.key.as_ref().is_none_or(|key| {
            findings.by_key.as_ref().is_some_and(|answer| answer.key() == key)
                || self.own.iter().any(|t| t.key == *key)
        })
    }

    fn any_pending(&self) -> bool {
        self.own.iter().any(|t| t.status == TransactionStatus::Pending)
    }

    /// The SUCCESS that pays, and every other SUCCESS.
    fn paying(&self, subject: &Subject) -> Option<(&'a Transaction, Vec<&'a Transaction>)> {
        let mut approved: Vec<_> = self.approved().collect();
        let at = approved.iter().position(|t| {
            (t.amount == subject.paid_amount || mutants::is(Mutant::AmountNotCompared))
                && (!subject.keys_owned_elsewhere.contains(&t.key) || mutants::is(Mutant::KeyOfAnotherTaken))
        })?;
        let paying = approved.remove(at);
        Some((paying, approved))
    }

    fn approved(&self) -> impl Iterator<Item = &'a Transaction> + '_ {
        self.own.iter().copied().filter(|t| t.status == TransactionStatus::Success)
    }

    fn foreign_rows(&self) -> impl Iterator<Item = Discrepancy> + '_ {
        self.foreign.iter().filter(|t| t.status == TransactionStatus::Success).map(|t| {
            charge(
                DiscrepancyKind::OrderMismatch,
                t,
                format!("listed for our order, but its details say order {}", t.order_ref),
            )
        })
    }

    fn lost_row(&self, subject: &Subject) -> Option<Discrepancy> {
        self.contradicted.then(|| Discrepancy {
            kind: DiscrepancyKind::PgLost,
            key: subject.key.clone(),
            amount: Some(subject.paid_amount),
            evidence: "the gateway does not know the key it gave us, or uses it for another order".to_owned(),
        })
    }
}

fn charge(kind: DiscrepancyKind, transaction: &Transaction, evidence: String) -> Discrepancy {
    Discrepancy {
        kind,
        key: Some(transaction.key.clone()),
        amount: Some(transaction.amount),
        evidence: FailureMessage::from_outside(&evidence).as_str().to_owned(),
    }
}

fn duplicate(transaction: &Transaction) -> Discrepancy {
    charge(
        DiscrepancyKind::DuplicateCharge,
        transaction,
        "a further approved transaction of a paid order".to_owned(),
    )
}

/// A payment that has ended: its state stays, but every charge that does not match it goes to the ledger.
fn ended(subject: &Subject, sorted: &Sorted<'_>) -> Decision {
    let silent = match subject.status {
        PaymentStatus::Paid => mutants::is(Mutant::DuplicateUnrecorded),
        PaymentStatus::Pending | PaymentStatus::InProgress | PaymentStatus::Failed => {
            mutants::is(Mutant::LateSuccessSilent)
        }
    };
    let mut discrepancies: Vec<_> = sorted
        .approved()
        .filter(|_| !silent)
        .filter(|t| subject.status == PaymentStatus::Failed || subject.key.as_ref() != Some(&t.key))
        .map(|t| match subject.status {
            PaymentStatus::Failed => charge(
                DiscrepancyKind::LateSuccess,
                t,
                "approved at the gateway although the payment is FAILED".to_owned(),
            ),
            PaymentStatus::Pending | PaymentStatus::InProgress | PaymentStatus::Paid => duplicate(t),
        })
        .chain(sorted.foreign_rows())
        .collect();
    if subject.status == PaymentStatus::Paid {
        let held = sorted.own.iter().find(|t| subject.key.as_ref() == Some(&t.key));
        if let Some(t) = held.filter(|t| t.status == TransactionStatus::Failed) {
            discrepancies.push(charge(
                DiscrepancyKind::Conflict,
                t,
                "the gateway now calls the transaction of a paid order FAILED".to_owned(),
            ));
        }
    }
    if subject.last_look && !mutants::is(Mutant::NeverSettledSilent) {
        let undecided = sorted.own.iter().filter(|t| t.status == TransactionStatus::Pending);
        discrepancies.extend(undecided.map(|t| {
            let evidence = "still undecided at the gateway at the last look of the watch list".to_owned();
            charge(DiscrepancyKind::NeverSettled, t, evidence)
        }));
    }
    // It may still be charged: not off the list before it is decided.
    let watch = if sorted.any_pending() && !subject.last_look { Watch::Full } else { Watch::No };
    Decision { verdict: Verdict::Ended, discrepancies, watch }
}

/// No transaction pays: fail, or wait, and for what.
fn undecided(
    subject: &Subject,
    findings: &Findings,
    policy: &SettlementPolicy,
    sorted: &Sorted<'_>,
) -> Decision {
    let discrepancies = contradictions(subject, sorted);
    let wait = |why, adopt| Decision {
        verdict: Verdict::Wait { why, adopt },
        discrepancies: discrepancies.clone(),
        watch: Watch::No,
    };
    let fail = |text: &str, forced, watch| Decision {
        verdict: Verdict::Fail { message: FailureMessage::from_outside(text), forced },
        discrepancies: discrepancies.clone(),
        watch,
    };
    if findings.by_order.is_none() || !sorted.covers_key(subject, findings) {
        return wait(Waiting::ListUnknown, None);
    }
    if subject.key.is_none() && subject.since_send_deadline.is_none() && !mutants::is(Mutant::NoGrace) {
        return wait(Waiting::StillSending, None);
    }
    let overdue = subject.age >= policy.force_fail_after && subject.since_send_deadline.is_some();
    let suspended = policy.not_found_suspended;

    let one_failed = mutants::is(Mutant::OneFailedIsEnough)
        && sorted.own.iter().any(|t| t.status == TransactionStatus::Failed);
    if sorted.any_pending() && !one_failed {
        if overdue {
            return fail(FORCED_MESSAGE, true, Watch::Full);
        }
        return wait(Waiting::TransactionPending, adoptable(subject, sorted));
    }
    if sorted.approved().any(|t| subject.keys_owned_elsewhere.contains(&t.key)) {
        if overdue {
            return fail(FORCED_MESSAGE, true, Watch::Full);
        }
        return wait(Waiting::KeyOwnedElsewhere, None);
    }
    if sorted.contradicted {
        return match (suspended, overdue) {
            (true, _) => wait(Waiting::NotFoundSuspended, None),
            (false, true) => fail(FORCED_MESSAGE, true, Watch::Full),
            (false, false) => wait(Waiting::KeyContradicted, None),
        };
    }
    if sorted.approved().next().is_some() {
        let watch = if mutants::is(Mutant::MismatchUnrecorded) { Watch::No } else { Watch::Full };
        return fail(AMOUNT_MISMATCH_MESSAGE, false, watch);
    }
    if let Some(declined) = sorted.own.first() {
        let reason = declined.reason.as_deref().filter(|text| !text.trim().is_empty());
        // Not all is declined while one that is listed for our order and says another's may be a charge, or while the answer
        // to our request was never stored: it may have been sent again, and that not be listed yet.
        let declined_all =
            subject.key.is_some() && sorted.foreign.iter().all(|t| t.status == TransactionStatus::Failed);
        let watch = if declined_all { Watch::Once } else { Watch::Full };
        return fail(reason.unwrap_or(DECLINED_MESSAGE), false, watch);
    }
    if sorted.foreign.iter().any(|t| t.status == TransactionStatus::Success) {
        return fail(ORDER_MISMATCH_MESSAGE, false, Watch::Full);
    }
    let seen = subject.transaction_seen || !sorted.foreign.is_empty();
    none_there(subject, policy, seen, overdue, wait, fail)
}

/// The gateway has no transaction of this order. `seen`: it once showed one, or lists some that say another order's.
fn none_there(
    subject: &Subject,
    policy: &SettlementPolicy,
    seen: bool,
    overdue: bool,
    wait: impl Fn(Waiting, Option<GatewayKey>) -> Decision,
    fail: impl Fn(&str, bool, Watch) -> Decision,
) -> Decision {
    if policy.not_found_suspended {
        return wait(Waiting::NotFoundSuspended, None);
    }
    if seen {
        return if overdue {
            fail(FORCED_MESSAGE, true, Watch::Full)
        } else {
            wait(Waiting::KeyContradicted, None)
        };
    }
    let late_enough = subject.since_send_deadline.is_some_and(|since| since >= policy.not_found_grace);
    if mutants::is(Mutant::NoGrace)
        || late_enough && subject.not_found_count >= policy.not_found_confirmations
    {
        fail(NOT_FOUND_MESSAGE, false, Watch::Full)
    } else {
        wait(Waiting::NotFoundYet, None)
    }
}

/// What is wrong already, whatever becomes of the payment.
fn contradictions(subject: &Subject, sorted: &Sorted<'_>) -> Vec<Discrepancy> {
    sorted
        .approved()
        .filter(|_| !mutants::is(Mutant::MismatchUnrecorded))
        .map(|t| {
            if subject.keys_owned_elsewhere.contains(&t.key) {
                let evidence = "the gateway gave this key to two of our payments".to_owned();
                charge(DiscrepancyKind::KeyReused, t, evidence)
            } else {
                let evidence =
                    format!("approved with {} won instead of {} won", t.amount, subject.paid_amount);
                charge(DiscrepancyKind::AmountMismatch, t, evidence)
            }
        })
        .chain(sorted.foreign_rows())
        .chain(sorted.lost_row(subject))
        .collect()
}

fn adoptable(subject: &Subject, sorted: &Sorted<'_>) -> Option<GatewayKey> {
    if subject.key.is_some() {
        return None;
    }
    sorted
        .own
        .iter()
        .find(|t| t.amount == subject.paid_amount && !subject.keys_owned_elsewhere.contains(&t.key))
        .map(|t| t.key.clone())
}
