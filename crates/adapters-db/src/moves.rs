//! What orders take and give back - stock and points, with their ledgers - and the histories of payments: the part that
//! storing orders and storing what became of them have in common.

use crate::error::Failure;
use crate::rows::clip;
use crate::statement::Statement;
use domain::ports::{PaymentEvent, PointEntry, PointEntryKind};
use domain::{GatewayKey, PaymentId, ProductId, Quantity};
use std::collections::BTreeMap;

/// Characters of the column.
const REASON_MAX: usize = 500;

/// Common table expressions on the parameters $1 to $18 ([`Moves::bind`]). Stock and points must be locked. The ledgers'
/// unique indices refuse what would be taken or given back a second time. `moved_stock` and `moved_points` have one
/// row for each that changed.
macro_rules! moves {
    () => {
        concat!(
            "moved_stock AS (\
                UPDATE stock s SET updated_at = now(), quantity = s.quantity + ",
            $crate::statement::found!("$2::bigint[]" by "s.product_id" in "$1"),
            " WHERE s.product_id = ANY($1::bigint[]) AND s.quantity + ",
            $crate::statement::found!("$2::bigint[]" by "s.product_id" in "$1"),
            " >= 0 RETURNING 1), \
            stock_entries AS (\
                INSERT INTO stock_ledger (product_id, payment_id, kind, delta) \
                SELECT e.product_id, e.payment_id, CASE WHEN e.delta < 0 THEN 'RESERVE' ELSE 'RESTORE' END, e.delta \
                FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS e (product_id, payment_id, delta)), \
            moved_points AS (\
                UPDATE point_account a SET updated_at = now(), balance = ",
            $crate::statement::found!("$8::bigint[]" by "a.user_id" in "$6"),
            " WHERE a.user_id = ANY($6::bigint[]) AND a.balance = ",
            $crate::statement::found!("$7::bigint[]" by "a.user_id" in "$6"),
            " RETURNING 1), \
            point_entries AS (\
                INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) \
                SELECT e.user_id, e.payment_id, CASE WHEN e.delta < 0 THEN 'DEDUCT' ELSE 'RESTORE' END, e.delta, e.after \
                FROM unnest($9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]) \
                    WITH ORDINALITY AS e (user_id, payment_id, delta, after, step) \
                ORDER BY e.step), \
            events AS (\
                INSERT INTO payment_event (payment_id, from_status, to_status, cause, reason, external_payment_key) \
                SELECT e.payment_id, e.from_status, e.to_status, e.cause, e.reason, e.key \
                FROM unnest($13::bigint[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[]) \
                    WITH ORDINALITY AS e (payment_id, from_status, to_status, cause, reason, key, step) \
                ORDER BY e.step)"
        )
    };
}
pub(crate) use moves;

/// A buyer's account before the first and after the last movement.
struct Balance {
    before: i64,
    after: i64,
}

/// Movements of a batch, in the order in which they were decided.
#[derive(Default)]
pub(crate) struct Moves {
    /// What each product's stock changes by in all.
    stock: BTreeMap<i64, i64>,
    stock_entries: Vec<(i64, i64, i64)>,
    points: BTreeMap<i64, Balance>,
    point_entries: Vec<(i64, Option<i64>, i64, i64)>,
    events: Events,
}

#[derive(Default)]
struct Events {
    payments: Vec<i64>,
    from: Vec<Option<&'static str>>,
    to: Vec<&'static str>,
    causes: Vec<&'static str>,
    reasons: Vec<Option<String>>,
    keys: Vec<Option<String>>,
}

impl Moves {
    pub(crate) fn take_stock(&mut self, payment_id: PaymentId, product_id: ProductId, quantity: Quantity) {
        self.move_stock(payment_id, product_id, -i64::from(quantity.get()));
    }

    pub(crate) fn give_back_stock(
        &mut self,
        payment_id: PaymentId,
        product_id: ProductId,
        quantity: Quantity,
    ) {
        self.move_stock(payment_id, product_id, i64::from(quantity.get()));
    }

    fn move_stock(&mut self, payment_id: PaymentId, product_id: ProductId, delta: i64) {
        // A quantity has 31 bits, so that no number of movements that fits memory overflows the sum.
        *self.stock.entry(product_id.get()).or_default() += delta;
        self.stock_entries.push((product_id.get(), payment_id.get(), delta));
    }

    /// # Errors
    /// A conflict when it does not follow from the movement before.
    pub(crate) fn move_points(&mut self, entry: &PointEntry) -> Result<(), Failure> {
        let after = entry.account.balance().won();
        let delta = match entry.kind {
            PointEntryKind::Charge | PointEntryKind::Restore => entry.amount.won(),
            PointEntryKind::Deduct => -entry.amount.won(),
        };
        let user_id = entry.account.user_id().get();
        // Both are within ±2^53.
        let before = after - delta;
        let balance = self.points.entry(user_id).or_insert(Balance { before, after: before });
        if balance.after != before {
            return Err(points_changed());
        }
        balance.after = after;
        self.point_entries.push((user_id, entry.payment_id.map(PaymentId::get), delta, after));
        Ok(())
    }

    pub(crate) fn add_history(&mut self, payment_id: PaymentId, history: &[PaymentEvent]) {
        for event in history {
            self.events.payments.push(payment_id.get());
            self.events.from.push(event.from.map(|status| status.as_str()));
            self.events.to.push(event.to.as_str());
            self.events.causes.push(event.cause.as_str());
            self.events.reasons.push(event.reason.as_deref().map(|text| clip(text, REASON_MAX)));
            self.events.keys.push(event.key.as_ref().map(|key| GatewayKey::as_str(key).to_owned()));
        }
    }

    /// The parameters $1 to $18.
    pub(crate) fn bind<'a>(self, statement: Statement<'a>) -> Statement<'a> {
        let (products, deltas) = self.stock.into_iter().unzip();
        let users: Vec<i64> = self.points.keys().copied().collect();
        let (before, after) = self.points.into_values().map(|points| (points.before, points.after)).unzip();
        let entries = self.stock_entries;
        let moved = self.point_entries;
        let events = self.events;
        statement
            .numbers(products)
            .numbers(deltas)
            .numbers(entries.iter().map(|entry| entry.0).collect())
            .numbers(entries.iter().map(|entry| entry.1).collect())
            .numbers(entries.iter().map(|entry| entry.2).collect())
            .numbers(users)
            .numbers(before)
            .numbers(after)
            .numbers(moved.iter().map(|entry| entry.0).collect())
            .numbers_or_null(moved.iter().map(|entry| entry.1).collect())
            .numbers(moved.iter().map(|entry| entry.2).collect())
            .numbers(moved.iter().map(|entry| entry.3).collect())
            .numbers(events.payments)
            .texts_or_null(events.from)
            .texts(events.to)
            .texts(events.causes)
            .texts_or_null(events.reasons)
            .texts_or_null(events.keys)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stock.is_empty() && self.point_entries.is_empty() && self.events.payments.is_empty()
    }

    /// How many rows of stock and of points change.
    pub(crate) fn expected(&self) -> Moved {
        Moved { stock: self.stock.len(), points: self.points.len() }
    }
}

/// Rows of stock and of points that changed, or were to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    stock: usize,
    points: usize,
}

impl Moved {
    /// As the database counted them.
    ///
    /// # Errors
    /// [`Failure`] of a conflict when there are fewer of one kind.
    pub(crate) fn check(self, stock: i64, points: i64) -> Result<(), Failure> {
        if usize::try_from(stock) != Ok(self.stock) {
            return Err(Failure::conflict("stock would fall below zero"));
        }
        if usize::try_from(points) != Ok(self.points) {
            return Err(points_changed());
        }
        Ok(())
    }
}

/// The balance is not what it was when the account was locked.
pub(crate) fn points_changed() -> Failure {
    Failure::conflict("the point account changed")
}
