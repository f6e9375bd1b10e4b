//! Invariants of single rows and their neighbours, over what the database will be after a commit.

use domain::{OrderStatus, PaymentId, PaymentStatus};
use test_support::store::{CouponMove, OrderRow, PaymentRow, StockMove, Tables};

/// The database after a commit: what changes, over what is there.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) before: &'a Tables,
    pub(super) changes: &'a Tables,
}

impl<'a> View<'a> {
    pub(super) fn payment(&self, id: PaymentId) -> Option<&'a PaymentRow> {
        self.changes.payments.get(&id).or_else(|| self.before.payments.get(&id))
    }

    pub(super) fn order(&self, id: domain::OrderId) -> Option<&'a OrderRow> {
        self.changes.orders.get(&id).or_else(|| self.before.orders.get(&id))
    }

    pub(super) fn payment_of(&self, id: domain::OrderId) -> Option<&'a PaymentRow> {
        let payment =
            self.changes.payment_of_order.get(&id).or_else(|| self.before.payment_of_order.get(&id))?;
        self.payment(*payment)
    }
}

/// I1: the parts of the amount add up, and are the order's.
pub(super) fn amounts(row: &PaymentRow, order: &OrderRow) -> Result<(), String> {
    let amounts = row.record.payment.amounts();
    let parts = [amounts.used_point(), amounts.coupon_discount(), amounts.paid_amount()];
    if parts.iter().any(|part| part.is_negative()) {
        return Err(format!("an amount is negative: {amounts:?}"));
    }
    let sum: i64 = parts.iter().map(|part| part.won()).sum();
    let items: i64 =
        order.order.items().iter().map(|item| item.unit_price.won() * i64::from(item.quantity.get())).sum();
    if sum == amounts.total().won() && items == sum {
        Ok(())
    } else {
        Err(format!("amounts don't add up: {amounts:?}, items {items}"))
    }
}

/// I12: payment and order agree.
pub(super) fn states(payment: PaymentStatus, order: OrderStatus) -> Result<(), String> {
    let agree = match payment {
        PaymentStatus::Paid => order == OrderStatus::Paid,
        PaymentStatus::Failed => order == OrderStatus::Cancelled,
        PaymentStatus::Pending | PaymentStatus::InProgress => order == OrderStatus::Placed,
    };
    if agree { Ok(()) } else { Err(format!("the payment is {payment}, its order {}", order.as_str())) }
}

/// I4: a FAILED payment has given back everything once, any other one nothing; and everything was taken once.
pub(super) fn given_back(view: View<'_>, row: &PaymentRow, order: &OrderRow) -> Result<(), String> {
    let payment = &row.record.payment;
    let id = payment.id();
    let failed = payment.status() == PaymentStatus::Failed;
    for item in order.order.items() {
        let moved = |kind| {
            let key = (id, item.product_id, kind);
            view.changes.stock_moved.contains_key(&key) || view.before.stock_moved.contains_key(&key)
        };
        if !moved(StockMove::Reserve) {
            return Err(format!("product {} was not taken", item.product_id));
        }
        if moved(StockMove::Restore) != failed {
            return Err(format!("product {}: given back is {}", item.product_id, !failed));
        }
    }
    if payment.amounts().used_point().is_positive() {
        let moved = |kind| {
            let key = (id, kind);
            view.changes.points_moved.contains_key(&key) || view.before.points_moved.contains_key(&key)
        };
        if !moved(domain::ports::PointEntryKind::Deduct) {
            return Err("the points were not taken".into());
        }
        if moved(domain::ports::PointEntryKind::Restore) != failed {
            return Err(format!("points: given back is {}", !failed));
        }
    }
    if let Some(coupon) = row.record.issued_coupon_id {
        let moved = |step| {
            let key = (id, coupon, step);
            view.changes.coupon_ledger.contains_key(&key) || view.before.coupon_ledger.contains_key(&key)
        };
        if !moved(CouponMove::Use) {
            return Err("the coupon was not used".into());
        }
        if moved(CouponMove::CancelUse) != failed {
            return Err(format!("coupon: given back is {}", !failed));
        }
    }
    Ok(())
}

/// I15: the history, replayed, gives the row; each change of state has one row.
pub(super) fn history(view: View<'_>, row: &PaymentRow) -> Result<(), String> {
    let payment = &row.record.payment;
    let events = view.before.history(payment.id()).chain(view.changes.history(payment.id()));
    let (mut status, mut key) = (None, None);
    for event in events {
        if event.from != status {
            return Err(format!("a row begins at {:?}, the one before ended at {status:?}", event.from));
        }
        let legal = matches!(
            (event.from, event.to),
            (None, PaymentStatus::Pending)
                | (Some(PaymentStatus::Pending), PaymentStatus::InProgress | PaymentStatus::Failed)
                | (
                    Some(PaymentStatus::InProgress),
                    PaymentStatus::InProgress | PaymentStatus::Paid | PaymentStatus::Failed
                )
        );
        if !legal {
            return Err(format!("from {:?} to {}", event.from, event.to));
        }
        status = Some(event.to);
        key.clone_from(&event.key);
    }
    if status != Some(payment.status()) || key.as_ref() != payment.key() {
        return Err(format!("replayed {status:?} {key:?}, stored {} {:?}", payment.status(), payment.key()));
    }
    Ok(())
}
