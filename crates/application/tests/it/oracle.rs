//! What must hold, read from the tables alone: spec 04, invariants I1 to I16 as far as one database and one gateway show
//! them. Knows nothing of the use-cases.

use crate::gateway::TestGateway;
use domain::ports::PointEntryKind;
use domain::settlement::TransactionStatus;
use domain::{IssuedCouponStatus, Money, OrderStatus, PaymentId, PaymentState, PaymentStatus};
use std::collections::BTreeMap;
use test_support::FakeDatabase;
use test_support::store::{CouponMove, StockCause, StockMove, Tables};

/// After every commit.
pub(crate) fn at_any_time(database: &FakeDatabase) {
    database.read(|tables| {
        stock(tables);
        points(tables);
        coupons(tables);
        for id in tables.payments.keys() {
            payment(tables, *id);
            history(tables, *id);
        }
    });
}

/// I3, I4: what is there is what came in less what orders that stand have taken; the ledger says the same.
fn stock(tables: &Tables) {
    for (id, stock) in &tables.stock {
        let rows = || tables.stock_ledger.values().filter(|row| row.product_id == *id);
        let counted: i64 = rows().map(|row| row.delta).sum();
        assert_eq!(stock.quantity(), counted, "stock of {id} against its ledger");
        let came_in: i64 =
            rows().filter(|row| !matches!(row.cause, StockCause::Payment(..))).map(|row| row.delta).sum();
        let standing = tables.orders.values().filter(|row| row.order.status() != OrderStatus::Cancelled);
        let taken: i64 = standing
            .flat_map(|row| row.order.items())
            .filter(|item| item.product_id == *id)
            .map(|item| i64::from(item.quantity.get()))
            .sum();
        assert_eq!(stock.quantity(), came_in - taken, "stock of {id} against the orders that stand");
        assert!(stock.quantity() >= 0);
    }
}

/// I4, I5.
fn points(tables: &Tables) {
    for (user, balance) in &tables.points {
        let counted: i64 =
            tables.point_ledger.values().filter(|row| row.user_id == *user).map(|row| row.delta).sum();
        assert_eq!(balance.won(), counted, "points of {user} against the ledger");
        assert!(!balance.is_negative());
    }
    for (id, row) in &tables.payments {
        let used = row.record.payment.amounts().used_point().won();
        let sum = |kind| -> i64 {
            let rows = tables.point_ledger.values();
            rows.filter(|row| row.payment_id == Some(*id) && row.kind == kind).map(|row| row.delta).sum()
        };
        let failed = row.record.payment.status() == PaymentStatus::Failed;
        assert_eq!(sum(PointEntryKind::Deduct), -used, "points that payment {id} took");
        assert_eq!(sum(PointEntryKind::Restore), if failed { used } else { 0 }, "points that {id} gave back");
    }
}

/// I4: a coupon is used by at most one order that stands, and free when none does.
fn coupons(tables: &Tables) {
    let mut users: BTreeMap<_, Vec<PaymentId>> = BTreeMap::new();
    for (id, row) in &tables.payments {
        let Some(coupon) = row.record.issued_coupon_id else { continue };
        let failed = row.record.payment.status() == PaymentStatus::Failed;
        let moved = |way| tables.coupon_ledger.contains_key(&(*id, coupon, way));
        assert!(moved(CouponMove::Use), "payment {id} used its coupon");
        assert_eq!(moved(CouponMove::CancelUse), failed, "payment {id} gave its coupon back");
        if !failed {
            users.entry(coupon).or_default().push(*id);
        }
    }
    for (id, row) in &tables.issued_coupons {
        let by = users.get(id).map_or(0, Vec::len);
        let used = matches!(row.issued.status, IssuedCouponStatus::Used { .. });
        assert_eq!(by, usize::from(used), "users of coupon {id}");
    }
}

/// I1, I4, I7, I12.
fn payment(tables: &Tables, id: PaymentId) {
    let row = &tables.payments[&id];
    let payment = &row.record.payment;
    let order = &tables.orders[&payment.order_id()].order;
    let expected = match payment.status() {
        PaymentStatus::Pending | PaymentStatus::InProgress => OrderStatus::Placed,
        PaymentStatus::Paid => OrderStatus::Paid,
        PaymentStatus::Failed => OrderStatus::Cancelled,
    };
    assert_eq!(order.status(), expected, "order of payment {id}");
    assert_eq!(payment.amounts().total(), order.total());
    let restored = |item: &domain::OrderItem| {
        let back = StockCause::Payment(id, StockMove::Restore);
        let rows = tables.stock_ledger.values();
        rows.filter(|row| row.cause == back && row.product_id == item.product_id).count()
    };
    let failed = payment.status() == PaymentStatus::Failed;
    for item in order.items() {
        assert_eq!(restored(item), usize::from(failed), "stock that payment {id} gave back");
    }
    if let Some(key) = payment.key() {
        let owners = tables.payments.values().filter(|row| row.record.payment.key() == Some(key));
        assert_eq!(owners.count(), 1, "owners of {key}");
    }
}

/// I15: the history, played from its first row, gives the payment that is stored; each step is one of the machine's.
fn history(tables: &Tables, id: PaymentId) {
    let stored = &tables.payments[&id].record;
    let mut rows = tables.history(id);
    let first = rows.next().expect("a first row");
    assert_eq!((first.from, first.to, first.key.clone()), (None, PaymentStatus::Pending, None));
    let (mut status, mut key) = (first.to, None);
    let mut steps = 0;
    for row in rows {
        assert_eq!(row.from, Some(status), "history of payment {id}");
        let allowed = matches!(
            (status, row.to),
            (PaymentStatus::Pending, PaymentStatus::InProgress | PaymentStatus::Failed)
                | (
                    PaymentStatus::InProgress,
                    PaymentStatus::InProgress | PaymentStatus::Paid | PaymentStatus::Failed
                )
        );
        assert!(allowed, "payment {id}: {status} -> {}", row.to);
        let only_key = status == row.to;
        assert!(!only_key || row.key != key, "payment {id}: a row that changed nothing");
        (status, key) = (row.to, row.key.clone());
        steps += 1;
    }
    assert_eq!((status, key.as_ref()), (stored.payment.status(), stored.payment.key()), "history of {id}");
    // That our own request is over is a change, too, and no step of its own when nobody knows what came of it.
    assert!(steps + 1 >= stored.version, "payment {id} has fewer rows than changes");
}

/// I2, I8, I9: everything has ended, nothing is left to be looked at, and every charge is accounted for.
pub(crate) fn at_rest(database: &FakeDatabase, gateway: &TestGateway) {
    let truth = gateway.truth();
    database.read(|tables| {
        for (id, row) in &tables.payments {
            assert!(row.record.payment.status().is_terminal(), "payment {id} has not ended");
            let check = tables.checks.get(id).copied().unwrap_or_default();
            let pending = (check.lease, check.woken_at, check.due_at);
            assert_eq!(pending, (None, None, None), "payment {id} is quiet");
            let open: Vec<_> = tables.hints(*id).filter(|(_, hint)| hint.looked_up_at.is_none()).collect();
            assert!(open.is_empty(), "payment {id} has hints that nobody looked up: {open:?}");
        }
        for charged in truth.iter().filter(|t| t.status == TransactionStatus::Success) {
            let pays = tables.payments.values().filter(|row| {
                let payment = &row.record.payment;
                matches!(payment.state(), PaymentState::Paid { key: Some(key) } if *key == charged.key)
                    && row.record.order_ref == charged.order_ref
                    && payment.amounts().paid_amount() == charged.amount
            });
            let rows = tables.discrepancies.values().filter(|row| {
                let row = &row.discrepancy;
                row.kind.is_charge() && row.key.as_ref() == Some(&charged.key)
            });
            let (pays, rows) = (pays.count(), rows.count());
            assert_eq!(pays + rows, 1, "charge {charged:?}: {pays} paid orders, {rows} ledger rows");
        }
        for (id, row) in &tables.payments {
            let payment = &row.record.payment;
            if payment.status() == PaymentStatus::Paid && payment.amounts().paid_amount() > Money::ZERO {
                let charged = truth.iter().any(|t| Some(&t.key) == payment.key());
                assert!(charged, "payment {id} is PAID without a transaction");
            }
        }
    });
}
