//! After each commit: I1, I3, I4, I5, I7, I8, I10, I12, I13, I15.

use super::rows::{self, View};
use crate::draws;
use crate::kinds::Kind;
use crate::world::{World, lock};
use domain::ports::Cause;
use domain::settlement::{Check, TransactionStatus};
use domain::{OrderStatus, PaymentId, PaymentStatus};
use std::sync::Weak;
use std::time::Duration;
use test_support::CommitObserver;
use test_support::store::{PaymentRow, Tables};
use tokio::time::Instant;

/// Checks every commit of a run.
pub struct Observer(pub Weak<World>);

impl CommitObserver for Observer {
    fn committing(&self, name: &'static str, before: &Tables, changes: &Tables) {
        if let Some(world) = self.0.upgrade() {
            let view = View { before, changes };
            for row in changes.payments.values() {
                payment(&world, name, view, row);
            }
            for (id, row) in &changes.orders {
                let status = view.payment_of(*id).map(|payment| payment.record.payment.status());
                let agree = status.map_or(Err("an order without a payment".into()), |status| {
                    rows::states(status, row.order.status())
                });
                report(&world, "I12", id.get(), agree);
                let earlier = before.orders.get(id).map(|row| row.order.status());
                if earlier.is_some_and(|earlier| earlier != OrderStatus::Placed) {
                    world.violation("I10", id.get(), "an order that had ended changed");
                }
            }
            goods(&world, before, changes);
            ledger(&world, before, changes);
            for (id, check) in &changes.checks {
                looks(&world, view, *id, check);
            }
        }
    }
}

fn report(world: &World, invariant: &'static str, order: i64, result: Result<(), String>) {
    if let Err(text) = result {
        world.violation(invariant, order, text);
    }
}

fn payment(world: &World, name: &'static str, view: View<'_>, row: &PaymentRow) {
    let payment = &row.record.payment;
    let order = payment.order_id().get();
    let earlier = view.before.payments.get(&payment.id()).map(|row| &row.record.payment);
    if earlier.is_none() {
        lock(&world.books).placed.insert(payment.id(), Instant::now());
        // From now on the task that asked for it is about this order, whoever stores it.
        let number = draws::of_reference(&row.record.order_ref);
        if let Some(flow) = number.and_then(|number| lock(&world.draws).get(number)?.flow.clone()) {
            flow.is_about(order);
        }
    }
    world.tell(order, payment.status().as_str(), || {
        let from = earlier.map_or("nothing", |earlier| earlier.status().as_str());
        format!("{name}: {from} -> {} key {:?}", payment.status(), payment.key())
    });
    let Some(order_row) = view.order(payment.order_id()) else {
        return world.violation("I12", order, "a payment without an order");
    };
    report(world, "I1", order, rows::amounts(row, order_row));
    report(world, "I12", order, rows::states(payment.status(), order_row.order.status()));
    report(world, "I4", order, rows::given_back(view, row, order_row));
    report(world, "I15", order, rows::history(view, row));
    if let Some(earlier) = earlier {
        if earlier.status().is_terminal() {
            world.violation("I10", order, "a payment that had ended changed");
        }
        if earlier.amounts() != payment.amounts() {
            world.violation("I1", order, "the amounts of a payment changed");
        }
    }
    if payment.status() == PaymentStatus::Failed && earlier.is_some() {
        undecided(world, view, row);
        none_there(world, view, row);
        interlock(world, row);
    }
    if payment.status().is_terminal() {
        lock(&world.books).ended.insert(payment.id(), Instant::now());
    }
    if payment.status() == PaymentStatus::Paid && payment.amounts().paid_amount().is_positive() {
        let amount = payment.amounts().paid_amount();
        match payment.key() {
            Some(key) if super::approved(world, order, key, amount) => {}
            Some(key) => {
                world.violation("I8", order, format!("PAID by {key}, which the gateway never approved so"));
            }
            None => world.violation("I8", order, "PAID without a transaction"),
        }
    }
}

/// So many keys that the gateway does not know, of those that it was asked about together, say nothing about the payments,
/// unless it knows another one (F62).
const INTERLOCK: usize = 3;

fn interlock(world: &World, row: &PaymentRow) {
    let payment = &row.record.payment;
    let (Some(flow), Some(key)) = (crate::flow::current(), payment.key()) else { return };
    let turn = lock(&world.books).turns.get(&flow.life).cloned().unwrap_or_default();
    let lost = turn.keys_lost();
    if !turn.lost.contains_key(key) || lost < INTERLOCK || turn.proved || turn.failed {
        return;
    }
    if turn.any_paid {
        let text = format!("FAILED, as the gateway does not know {key}, nor {} others", lost - 1);
        world.violation("F62", payment.order_id().get(), text);
    }
}

/// F37, F59: what the gateway does not have is not failed before it has said so twice, half a minute apart.
fn none_there(world: &World, view: View<'_>, row: &PaymentRow) {
    let payment = &row.record.payment;
    let order = payment.order_id().get();
    let examined = view.changes.history(payment.id()).last().is_some_and(|event| event.cause != Cause::Api);
    let young = lock(&world.books).age(payment.id()) < Duration::from_secs(290);
    let now = Instant::now();
    let any =
        |transaction: &crate::gateway::Transaction| transaction.order == order && transaction.created <= now;
    if !examined || !young || lock(&world.gateway).all().iter().any(any) {
        return;
    }
    let told = lock(&world.books).order(order).none_there.clone();
    let apart = told.first().zip(told.last()).map(|(first, last)| last.duration_since(*first));
    if apart.is_none_or(|apart| apart < Duration::from_secs(29)) {
        world.violation("F59", order, "FAILED as the gateway has none, which it said only once");
    }
}

/// F64: what the gateway has not decided is not failed before its time, by anyone who asked.
fn undecided(world: &World, view: View<'_>, row: &PaymentRow) {
    let payment = &row.record.payment;
    let order = payment.order_id().get();
    let asked = view.changes.history(payment.id()).last().is_some_and(|event| event.cause != Cause::Api);
    let young = lock(&world.books).age(payment.id()) < Duration::from_secs(290);
    let deceived = [
        Kind::LookupFalse404,
        Kind::LookupStale,
        Kind::LookupTorn,
        Kind::WrongAccount,
        Kind::KeyReuse,
        Kind::GatewayWipe,
    ];
    let faults = lock(&world.books).order(order).faults.clone();
    if !asked || !young || deceived.iter().any(|kind| faults.contains(kind)) {
        return;
    }
    // Whoever failed it asked a moment ago.
    let asked_at = Instant::now().checked_sub(Duration::from_secs(10)).unwrap_or_else(Instant::now);
    let open = lock(&world.gateway).all().iter().any(|transaction| {
        !transaction.gone
            && transaction.order == order
            && transaction.status_at(asked_at) == Some(TransactionStatus::Pending)
            && transaction.status_at(Instant::now()) == Some(TransactionStatus::Pending)
    });
    if open {
        world.violation("F64", order, "FAILED although a transaction is undecided, before its time");
    }
}

/// I8, I9: what is to be looked at again is, and by whoever has the right to.
fn looks(world: &World, view: View<'_>, id: PaymentId, check: &Check) {
    let Some(row) = view.payment(id) else { return };
    let order = row.record.payment.order_id().get();
    if check.parked_at.is_some() && check.woken_at.is_some() {
        world.violation("I9", order, "parked although it was woken meanwhile");
    }
    let Some(before) = view.before.checks.get(&id) else { return };
    if before.watch_wanted && !check.watch_wanted {
        world.violation("I8", order, "the wish to be watched was forgotten");
    }
    // Whoever ends a claim is whoever made it: the last one of whose claims is still there.
    if let (Some(lease), None) = (before.lease, check.lease) {
        let claimed = u64::from_be_bytes(lease.id.to_be_bytes());
        let claimer = lock(&world.draws).get(claimed).map(|draw| draw.life);
        let same = crate::flow::current().is_none_or(|flow| Some(flow.life) == claimer);
        if !same {
            world.violation("I9", order, "a claim was ended by somebody who had lost it");
        }
    }
    let clock_back = lock(&world.counts).struck.contains_key(&Kind::ClockBack);
    let now = world.database.now();
    if let (Some(lease), Some(next)) = (before.lease, check.lease)
        && lease.id != next.id
        && lease.until > now
        && !clock_back
    {
        world.violation("F67", order, "claimed although somebody else works on it");
    }
    let ended = |row: Option<&PaymentRow>| row.is_some_and(|row| row.record.payment.status().is_terminal());
    let all_along = ended(view.before.payments.get(&id)) && ended(Some(row));
    let restarted = check.watch_step == 0 && check.due_at.is_some_and(|at| at > now);
    let moved = check.due_at != before.due_at || check.watch_step != before.watch_step;
    let early = before.due_at.is_some_and(|at| at > now);
    if all_along && moved && early && !restarted && !clock_back {
        world.violation("I8", order, "an extra look moved the one that the watch list has set");
    }
}

/// I3 and I5: what is there is what the ledgers say.
fn goods(world: &World, before: &Tables, changes: &Tables) {
    let mut books = lock(&world.books);
    for row in changes.stock_ledger.values() {
        *books.stock.entry(row.product_id).or_default() += row.delta;
    }
    for row in changes.point_ledger.values() {
        *books.points.entry(row.user_id).or_default() += row.delta;
    }
    let mut wrong = Vec::new();
    for (id, stock) in &changes.stock {
        let ledger = books.stock.get(id).copied().unwrap_or_default();
        if ledger != stock.quantity() || stock.quantity() < 0 {
            let text = format!("product {id}: {} there, {ledger} in the ledger", stock.quantity());
            wrong.push(("I3", text));
        }
    }
    for (user, balance) in &changes.points {
        let ledger = books.points.get(user).copied().unwrap_or_default();
        if ledger != balance.won() || balance.is_negative() {
            wrong.push(("I5", format!("buyer {user}: {balance} points, {ledger} in the ledger")));
        }
    }
    drop(books);
    for (invariant, text) in wrong {
        world.violation(invariant, 0, text);
    }
    for (key, row) in &changes.idempotency {
        let earlier = before.idempotency.get(key);
        if earlier.is_some_and(|earlier| {
            earlier.order_id != row.order_id && earlier.expires_at > world.database.now()
        }) {
            world.violation("I13", row.order_id.get(), "an Idempotency-Key passed to another order");
        }
        if earlier.is_some_and(|earlier| earlier.answer.is_some() && earlier.answer != row.answer) {
            world.violation("I13", row.order_id.get(), "a stored answer changed");
        }
    }
}

fn ledger(world: &World, before: &Tables, changes: &Tables) {
    for (id, row) in &changes.discrepancies {
        let order =
            before.payments.get(&row.payment_id).map_or(0, |payment| payment.record.payment.order_id().get());
        let discrepancy = &row.discrepancy;
        world.tell(order, discrepancy.kind.as_str(), || {
            format!("ledger row {id}: {} {:?}", discrepancy.kind.as_str(), discrepancy.key)
        });
        if discrepancy.evidence.is_empty() {
            world.violation("I15", order, "a ledger row without evidence");
        }
    }
}
