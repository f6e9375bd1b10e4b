//! `settlement::settle`: all of TX2 and TX3 without a store. Every thing that can be learned about a payment, in every
//! state, against tables written from spec 01 sections 2 to 5; and [`laws`], which hold whatever is learned.

mod answers;
mod batches;
mod findings;
mod looks;

use domain::ports::{Cause, Claim, CouponHolding, PaymentRecord, PointEntryKind, StoredCard, Versioned};
use domain::settlement::{
    Case, Changes, Check, Discrepancy, DiscrepancyKind, Findings, KeyAnswer, Learned, Lease, SettleError,
    Settled, Settlement, SettlementRules, Settling, Shared, StockBack, Transaction, TransactionStatus,
    settle,
};
use domain::{
    CardType, Coupon, CouponId, Discount, FailureMessage, GatewayKey, GatewayOrderRef, IssuedCoupon,
    IssuedCouponId, IssuedCouponStatus, MerchantId, Money, Order, OrderId, OrderItem, OrderStatus, Payment,
    PaymentAmounts, PaymentId, PaymentStatus, PointAccount, ProductId, Quantity, Timestamp, UserId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use time::macros::datetime;

const NOW: Timestamp = datetime!(2026-01-01 12:00 UTC);
const LEASE: i64 = 7;
/// The payment's own key, one it has never had, and one that another payment owns.
const HELD: &str = "HELD";
const NEW: &str = "NEW";
const OTHERS: &str = "OTHERS";
const ON_CARD: i64 = 4000;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(text: &str) -> GatewayKey {
    GatewayKey::new(text).unwrap()
}

fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

fn rules() -> SettlementRules {
    SettlementRules {
        min_age: secs(60),
        force_fail_after: secs(300),
        not_found_confirmations: 2,
        not_found_grace: secs(60),
        watch_after: [60, 300, 1800, 7200, 86_400].map(secs).to_vec(),
        backoff_max: secs(600),
        park_after_failures: 8,
    }
}

/// A payment as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    /// IN_PROGRESS, and whether with [`HELD`].
    Started(bool),
    Paid,
    /// FAILED, and whether with [`HELD`].
    Failed(bool),
}

impl State {
    const ALL: [Self; 6] = [
        Self::Pending,
        Self::Started(false),
        Self::Started(true),
        Self::Paid,
        Self::Failed(false),
        Self::Failed(true),
    ];

    const fn ended(self) -> bool {
        matches!(self, Self::Paid | Self::Failed(_))
    }

    const fn holds_key(self) -> bool {
        matches!(self, Self::Started(true) | Self::Paid | Self::Failed(true))
    }

    const fn status(self) -> PaymentStatus {
        match self {
            Self::Pending => PaymentStatus::Pending,
            Self::Started(_) => PaymentStatus::InProgress,
            Self::Paid => PaymentStatus::Paid,
            Self::Failed(_) => PaymentStatus::Failed,
        }
    }

    fn payment(self, id: i64) -> Payment {
        let amounts = PaymentAmounts::new(won(5000), won(500), won(500), won(ON_CARD)).unwrap();
        let payment =
            Payment::create(PaymentId::new(id).unwrap(), order_id(id), UserId::new(1).unwrap(), amounts);
        let started = |with_key| {
            let started = payment.clone().start().unwrap();
            if with_key { started.update_external_payment_key(key(HELD)).unwrap() } else { started }
        };
        match self {
            Self::Pending => payment,
            Self::Started(with_key) => started(with_key),
            Self::Paid => started(true).success().unwrap(),
            Self::Failed(with_key) => {
                started(with_key).fail(Some(FailureMessage::from_outside("before"))).unwrap()
            }
        }
    }
}

fn order_id(id: i64) -> OrderId {
    OrderId::new(100_000 + id).unwrap()
}

fn order_ref(id: i64) -> GatewayOrderRef {
    GatewayOrderRef::new("simul8", order_id(id), [7; 8])
}

/// Payment `id`, placed `age` seconds ago with a send deadline of 4 s: 5000 won in two products, 500 of them by points and
/// 500 by a coupon.
fn case(id: i64, state: State, age: u64, check: Check) -> Case {
    let item = |product, price, pieces| OrderItem {
        product_id: ProductId::new(product).unwrap(),
        product_name: format!("product {product}"),
        unit_price: won(price),
        quantity: Quantity::new(pieces).unwrap(),
    };
    let user_id = UserId::new(1).unwrap();
    let order = Order::place(order_id(id), user_id, vec![item(9, 1000, 1), item(2, 2000, 2)]).unwrap();
    let order = match state {
        State::Pending | State::Started(_) => order,
        State::Paid => order.pay().unwrap(),
        State::Failed(_) => order.cancel().unwrap(),
    };
    let coupon_id = CouponId::new(3).unwrap();
    let free = matches!(state, State::Failed(_));
    let status = if free {
        IssuedCouponStatus::Available
    } else {
        IssuedCouponStatus::Used { used_at: NOW - secs(age) }
    };
    let issued = IssuedCoupon { id: IssuedCouponId::new(5).unwrap(), coupon_id, user_id, status };
    let discount = Discount::fixed(won(500)).unwrap();
    let coupon = Coupon { id: coupon_id, name: "c".into(), discount, valid_until: None };
    Case {
        record: PaymentRecord {
            payment: state.payment(id),
            version: 3,
            issued_coupon_id: Some(issued.id),
            card: Some(StoredCard { card_type: CardType::Kb, masked: "1234-****-****-1451".into() }),
            merchant: MerchantId::new("holdfast").unwrap(),
            order_ref: order_ref(id),
            created_at: NOW - secs(age),
            updated_at: NOW - secs(age),
            send_deadline: NOW - secs(age) + secs(4),
        },
        order: Versioned { version: 2, value: order },
        coupon: Some(Versioned { version: 4, value: CouponHolding { issued, coupon } }),
        check,
        hints: Vec::new(),
    }
}

fn shared() -> Shared {
    let user_id = UserId::new(1).unwrap();
    Shared {
        now: NOW,
        points: BTreeMap::from([(user_id, PointAccount::new(user_id, won(100)).unwrap())]),
        key_owners: BTreeMap::from([(key(OTHERS), PaymentId::new(99).unwrap())]),
    }
}

/// The check row of a claim that was made a second ago.
fn leased(check: Check) -> Check {
    let lease = Some(Lease { id: LEASE, until: NOW + secs(20) });
    Check { lease, claimed_at: Some(NOW - secs(1)), ..check }
}

fn claim(case: &Case, scheduled: bool) -> Claim {
    Claim {
        lease_id: LEASE,
        record: case.record.clone(),
        claimed_at: NOW - secs(1),
        scheduled,
        hints: case.hints.iter().map(|hint| hint.key.clone()).collect(),
    }
}

fn transaction(id: i64, text: &str, status: TransactionStatus) -> Transaction {
    Transaction {
        key: key(text),
        order_ref: order_ref(id),
        amount: won(ON_CARD),
        status,
        reason: Some("한도초과입니다.".into()),
        made_before: None,
    }
}

/// The gateway was asked by the key that the payment holds, and for its order's list.
fn findings(case: &Case, transactions: Vec<Transaction>) -> Findings {
    let by_key = case.record.payment.key().map(|held| {
        let found = transactions.iter().find(|transaction| transaction.key == *held);
        found.map_or_else(|| KeyAnswer::NotFound(held.clone()), |found| KeyAnswer::Found(found.clone()))
    });
    Findings { by_key, by_order: Some(transactions), ..Findings::default() }
}

fn learn(case: &Case, learned: &Learned<'_>) -> Settlement {
    let settlement = settle(case, &shared(), learned, Cause::Reconciler, &rules()).unwrap();
    laws(case, learned, &settlement);
    settlement
}

fn kinds(changes: &Changes) -> Vec<DiscrepancyKind> {
    changes.discrepancies.iter().map(|row| row.kind).collect()
}

/// The check row after these changes.
fn check_after(case: &Case, changes: &Changes) -> Check {
    changes.check.unwrap_or(case.check)
}

/// The payment after these changes.
fn payment_after<'a>(case: &'a Case, changes: &'a Changes) -> &'a Payment {
    changes.payment.as_ref().map_or(&case.record.payment, |payment| &payment.value)
}

/// The promises, whatever was learned.
fn laws(case: &Case, learned: &Learned<'_>, settlement: &Settlement) {
    let (changes, before) = (&settlement.changes, &case.record.payment);
    let after = payment_after(case, changes);
    assert_eq!((changes.payment_id, changes.order_id), (before.id(), before.order_id()));
    // An end stays.
    let ended = !before.status().is_terminal() && after.status().is_terminal();
    if before.status().is_terminal() {
        assert!(changes.payment.is_none() && changes.history.is_empty());
        assert!(
            matches!(settlement.settled, Settled::AlreadyEnded)
                || matches!(settlement.settled, Settled::LeaseLost | Settled::BackedOff | Settled::Parked)
        );
    }
    // Each step of the payment has one row of history, and they lead from one state to the other.
    let mut status = before.status();
    for event in &changes.history {
        assert_eq!(event.from, Some(status));
        status = event.to;
        assert!(event.reason.as_ref().is_some_and(|reason| !reason.is_empty()));
    }
    assert_eq!(status, after.status());
    assert_eq!(changes.history.is_empty(), before == after);
    assert_eq!(changes.history.last().map_or(before.key(), |event| event.key.as_ref()), after.key());
    // Stored by the versions that were read.
    assert!(changes.payment.as_ref().is_none_or(|payment| payment.version == case.record.version));
    assert!(changes.order.as_ref().is_none_or(|order| order.version == case.order.version));
    assert!(!changes.sending_ended || changes.payment.is_some());
    // I12: order and payment agree. I4: an end that fails gives everything back, nothing else does.
    let order = changes.order.as_ref().map(|order| order.value.status());
    let failed = ended && after.status() == PaymentStatus::Failed;
    assert_eq!(
        order,
        match (ended, failed) {
            (false, _) => None,
            (true, true) => Some(OrderStatus::Cancelled),
            (true, false) => Some(OrderStatus::Paid),
        }
    );
    gives_back(case, changes, failed);
    // A key is never taken from another payment, and PAID never without one.
    let taken = after.key().filter(|held| before.key() != Some(*held));
    assert!(taken.is_none_or(|held| *held != key(OTHERS)));
    assert!(after.status() != PaymentStatus::Paid || after.key().is_some());
    // A claim ends with what was learned under it.
    match learned {
        Learned::Answer(_) | Learned::NotSent(_) => {
            assert_eq!(check_after(case, changes).lease, case.check.lease);
        }
        Learned::Findings { .. } | Learned::NotExamined { .. } => {
            if settlement.settled == Settled::LeaseLost {
                assert!(changes.is_nothing());
            } else {
                assert_eq!(changes.check.unwrap().lease, None);
            }
        }
    }
    let facts: BTreeSet<_> = changes.discrepancies.iter().map(Discrepancy::fact).collect();
    assert_eq!(facts.len(), changes.discrepancies.len(), "one fact makes one row");
    once(case, learned, settlement);
}

fn gives_back(case: &Case, changes: &Changes, failed: bool) {
    let pieces = |product, quantity| StockBack {
        product_id: ProductId::new(product).unwrap(),
        quantity: Quantity::new(quantity).unwrap(),
    };
    let stock = if failed { vec![pieces(2, 2), pieces(9, 1)] } else { Vec::new() };
    assert_eq!(changes.stock_back, stock, "ascending by product");
    let points = changes.points_back;
    assert_eq!(points.is_some(), failed);
    if let Some(entry) = points {
        assert_eq!((entry.kind, entry.amount), (PointEntryKind::Restore, won(500)));
        assert_eq!((entry.account.balance(), entry.payment_id), (won(600), Some(case.record.payment.id())));
    }
    let coupon = changes.coupon_back.map(|coupon| (coupon.version, coupon.value.status));
    assert_eq!(coupon, failed.then_some((4, IssuedCouponStatus::Available)));
}

/// Learned a second time, in the same transaction or a later one, it ends nothing again and gives nothing back again.
fn once(case: &Case, learned: &Learned<'_>, first: &Settlement) {
    let id = case.record.payment.id();
    let mut batch = Settling {
        cases: BTreeMap::from([(id, case.clone())]),
        shared: shared(),
        with_goods: BTreeSet::from([id]),
    };
    let mut learn = || batch.settle(id, learned, Cause::Reconciler, &rules()).unwrap().unwrap();
    assert_eq!(learn(), *first);
    let again = learn();
    let changes = &again.changes;
    assert!(changes.stock_back.is_empty() && changes.points_back.is_none() && changes.coupon_back.is_none());
    assert!(changes.order.is_none() && changes.history.is_empty());
    // Goods that are not locked are asked for, and nothing changes.
    let mut unlocked = Settling {
        cases: BTreeMap::from([(id, case.clone())]),
        shared: shared(),
        with_goods: BTreeSet::new(),
    };
    let before = unlocked.clone();
    let refused = unlocked.settle(id, learned, Cause::Reconciler, &rules());
    if first.changes.stock_back.is_empty() {
        assert_eq!(refused.unwrap().as_ref(), Some(first));
    } else {
        assert_eq!(refused, Err(SettleError::GoodsNeeded(id)));
        assert_eq!(unlocked, before);
    }
}
