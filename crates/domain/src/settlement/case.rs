//! A payment as settling finds it, locked, and what settling changes.

use super::{Discrepancy, Findings};
use crate::ports::{
    ChargeOutcome, Claim, CouponHolding, IdempotencyKey, PaymentEvent, PaymentRecord, PointEntry,
    StoredAnswer, Versioned,
};
use crate::{
    GatewayKey, IssuedCoupon, Order, OrderId, Payment, PaymentId, PointAccount, ProductId, Quantity,
    Timestamp, UserId,
};
use std::collections::BTreeMap;

/// The right of one examiner, until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Names the claims that were made together.
    pub id: i64,
    /// From then on the payment is anybody's.
    pub until: Timestamp,
}

/// When a payment is looked at next, and what the looks before have shown. Every payment with something on the card has
/// one from its placing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Check {
    /// The next look; none: never, unless it is woken. Before the payment's end that is the reconciler's queue, after it
    /// the watch list.
    pub due_at: Option<Timestamp>,
    /// Somebody wants a look at once, and no claim has been made since.
    pub woken_at: Option<Timestamp>,
    /// The claim under way. When nobody has ended it by its time, the payment is due again.
    pub lease: Option<Lease>,
    /// When it was last claimed.
    pub claimed_at: Option<Timestamp>,
    /// How often examining it failed, in a row.
    pub failures: u32,
    /// It failed to be examined again and again: not looked at until it is woken.
    pub parked_at: Option<Timestamp>,
    /// The gateway once showed a transaction for it.
    pub transaction_seen: bool,
    /// How often the gateway said that it has none.
    pub not_found_count: u32,
    /// When the last of these was counted.
    pub not_found_at: Option<Timestamp>,
    /// It goes on the watch list whatever its end.
    pub watch_wanted: bool,
    /// The next look of the watch list, from 0.
    pub watch_step: u32,
}

impl Check {
    /// From when on anybody may claim it; none: never as it stands.
    pub fn next_at(&self) -> Option<Timestamp> {
        match (self.parked_at, self.lease) {
            (Some(_), _) => None,
            (None, Some(lease)) => Some(lease.until),
            (None, None) => self.due_at.into_iter().chain(self.woken_at).min(),
        }
    }
}

/// A key that a callback named and nobody has looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The key.
    pub key: GatewayKey,
    /// The claim that bears it; none when it was named (again) since.
    pub lease_id: Option<i64>,
}

/// What must be there to settle a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlingNeeds {
    /// Which payment.
    pub payment_id: PaymentId,
    /// Keys whose owners must be known.
    pub keys: Vec<GatewayKey>,
    /// What the order took may have to be given back: lock its stock and points, too.
    pub goods: bool,
}

/// One payment with all that belongs to it, read after its lock was got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The payment.
    pub record: PaymentRecord,
    /// Its order.
    pub order: Versioned<Order>,
    /// The coupon it used; there only when goods were asked for.
    pub coupon: Option<Versioned<CouponHolding>>,
    /// When it is looked at next.
    pub check: Check,
    /// Keys that callbacks named and nobody has looked up yet, ascending.
    pub hints: Vec<Hint>,
}

/// What several payments share: what one of them changes, the next one sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The transaction's moment, by the database's clock.
    pub now: Timestamp,
    /// The points of buyers who may get some back, locked.
    pub points: BTreeMap<UserId, PointAccount>,
    /// Which payment owns a gateway key.
    pub key_owners: BTreeMap<GatewayKey, PaymentId>,
}

/// A batch of payments that are being settled: loaded, locked, and changed one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settling {
    /// The payments that exist.
    pub cases: BTreeMap<PaymentId, Case>,
    /// What they share.
    pub shared: Shared,
    /// Whose stock and points are locked.
    pub with_goods: std::collections::BTreeSet<PaymentId>,
}

/// What was learned about a payment.
#[derive(Debug, Clone, Copy)]
pub enum Learned<'a> {
    /// The gateway's answer to our own request.
    Answer(&'a ChargeOutcome),
    /// Our own request was never sent.
    NotSent(NotSent),
    /// What the gateway said when asked.
    Findings {
        /// The right to examine.
        claim: &'a Claim,
        /// What it said.
        findings: &'a Findings,
        /// "No such transaction" is not believed now.
        not_found_suspended: bool,
    },
    /// It could not be examined.
    NotExamined {
        /// The right to examine.
        claim: &'a Claim,
        /// Whose fault.
        blame: Blame,
    },
}

/// Why a request was not sent although the order is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// That it may be sent could not be stored.
    DatabaseUnavailable,
    /// All the time there was has gone by.
    DeadlinePassed,
}

/// Whose fault it is that a payment could not be examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The gateway's or the database's as a whole: it never brings the payment near being parked.
    Elsewhere,
    /// This payment's: the gateway's answer about it can't be used, or what is stored does not take its end.
    Payment(&'static str),
    /// This payment's, and asking again does not help: a person is told at once.
    Beyond(&'static str),
}

/// Stock that goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StockBack {
    /// Which product.
    pub product_id: ProductId,
    /// How many pieces.
    pub quantity: Quantity,
}

/// All that is stored of what became of one payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Which payment.
    pub payment_id: PaymentId,
    /// Its order.
    pub order_id: OrderId,
    /// The payment's new state and the version it must still have.
    pub payment: Option<Versioned<Payment>>,
    /// No request will leave any more, although the send deadline has not passed: that is now. Never without a `payment`.
    pub sending_ended: bool,
    /// New rows of its history, oldest first.
    pub history: Vec<PaymentEvent>,
    /// The order's new state and the version it must still have.
    pub order: Option<Versioned<Order>>,
    /// Pieces that go back, ascending by product.
    pub stock_back: Vec<StockBack>,
    /// Points that go back, with the account after it.
    pub points_back: Option<PointEntry>,
    /// The coupon that can be used again, and the version it must still have.
    pub coupon_back: Option<Versioned<IssuedCoupon>>,
    /// Rows for the discrepancy ledger; those that are there already are not written again.
    pub discrepancies: Vec<Discrepancy>,
    /// When it is looked at next; none: as it stands.
    pub check: Option<Check>,
    /// A key to be looked up, as if a callback had named it.
    pub hint: Option<GatewayKey>,
    /// Hints that were looked up.
    pub hints_done: Vec<GatewayKey>,
    /// The answer that an Idempotency-Key gives from now on, if it has none yet.
    pub answer: Option<(IdempotencyKey, StoredAnswer)>,
}

impl Changes {
    /// Nothing.
    pub const fn none(payment_id: PaymentId, order_id: OrderId) -> Self {
        Self {
            payment_id,
            order_id,
            payment: None,
            sending_ended: false,
            history: Vec::new(),
            order: None,
            stock_back: Vec::new(),
            points_back: None,
            coupon_back: None,
            discrepancies: Vec::new(),
            check: None,
            hint: None,
            hints_done: Vec::new(),
            answer: None,
        }
    }

    /// There is nothing to store.
    pub fn is_nothing(&self) -> bool {
        *self == Self::none(self.payment_id, self.order_id)
    }

    /// These changes and then those of the same payment, as one: a batch may hold a payment twice.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        // The version that must be there is the one that was read.
        fn newer<T>(first: Option<Versioned<T>>, next: Option<Versioned<T>>) -> Option<Versioned<T>> {
            match (first, next) {
                (Some(first), Some(next)) => Some(Versioned { version: first.version, value: next.value }),
                (first, next) => next.or(first),
            }
        }
        self.payment = newer(self.payment, next.payment);
        self.sending_ended |= next.sending_ended;
        self.history.extend(next.history);
        self.order = newer(self.order, next.order);
        self.stock_back.extend(next.stock_back);
        self.points_back = self.points_back.or(next.points_back);
        self.coupon_back = newer(self.coupon_back, next.coupon_back);
        self.discrepancies.extend(next.discrepancies);
        self.check = next.check.or(self.check);
        // Named again after it was looked up.
        self.hints_done.retain(|done| Some(done) != next.hint.as_ref());
        self.hint = next.hint.or(self.hint);
        self.hints_done.extend(next.hints_done);
        self.answer = self.answer.or(next.answer);
        self
    }
}
