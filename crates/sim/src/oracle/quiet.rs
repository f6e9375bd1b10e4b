//! When everything has come to rest: I2, I3, I7, I8, I9, I14, and what each payment may have come to.

use super::rows::{self, View};
use crate::books::Told;
use crate::gateway::Transaction;
use crate::kinds::Kind;
use crate::world::{CANARY_CARD, World, lock};
use domain::settlement::{DiscrepancyKind, TransactionStatus};
use domain::{OrderStatus, Payment, PaymentId, PaymentStatus, ProductId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use test_support::store::{DiscrepancyRow, PaymentRow, Tables};
use tokio::time::Instant;

/// A result that comes later than this after the order may find its payment forced FAILED already.
const IN_TIME: Duration = Duration::from_secs(285);

/// What the gateway stores within this time after the order is found: "none there" is not believed before.
const GRACE: Duration = Duration::from_secs(60);

/// Faults that may leave a payment FAILED although the gateway approves its transaction in the end.
const EXCUSES: [Kind; 11] = [
    Kind::KeyReuse,
    Kind::AmountDelta,
    Kind::StuckPending,
    Kind::FlipToSuccess,
    Kind::FlipToFailed,
    Kind::LookupFalse404,
    Kind::LookupStale,
    Kind::LookupTorn,
    Kind::WrongAccount,
    Kind::GatewayRestart,
    Kind::GatewayWipe,
];

/// Everything that must hold at the end.
pub fn at_the_end(world: &World) {
    let tables = world.database.read(Tables::clone);
    let transactions = lock(&world.gateway).all().to_vec();
    let empty = Tables::default();
    let view = View { before: &tables, changes: &empty };
    goods(world, &tables);
    keys(world, &tables);
    if world.database.deadlocks() > 0 {
        world.violation("I11", 0, format!("{} deadlocks", world.database.deadlocks()));
    }
    no_secret(world, &tables);
    let mut owners: BTreeMap<&domain::GatewayKey, PaymentId> = BTreeMap::new();
    for row in tables.payments.values() {
        let payment = &row.record.payment;
        let order = payment.order_id().get();
        let rows: Vec<&DiscrepancyRow> = tables
            .discrepancies
            .values()
            .filter(|discrepancy| discrepancy.payment_id == payment.id())
            .collect();
        if let Some(order_row) = view.order(payment.order_id()) {
            for result in [rows::given_back(view, row, order_row), rows::history(view, row)] {
                if let Err(text) = result {
                    world.violation("I4", order, text);
                }
            }
        }
        if let Some(key) = payment.key()
            && owners.insert(key, payment.id()).is_some()
        {
            world.violation("I7", order, format!("{key} belongs to two payments"));
        }
        let mine: Vec<&Transaction> =
            transactions.iter().filter(|transaction| transaction.order == order).collect();
        progress(world, &tables, payment, &rows);
        charges(world, payment, &mine, &rows);
        outcome(world, row, &mine, &rows);
        told(world, payment);
    }
    count(world, &tables, &transactions);
}

/// I3: what is there, and what orders hold, is what was there first.
fn goods(world: &World, tables: &Tables) {
    let mut held: BTreeMap<ProductId, i64> = BTreeMap::new();
    for row in tables.orders.values().filter(|row| row.order.status() != OrderStatus::Cancelled) {
        for item in row.order.items() {
            *held.entry(item.product_id).or_default() += i64::from(item.quantity.get());
        }
    }
    let initial = lock(&world.books).initial_stock.clone();
    for (id, first) in initial {
        let there = tables.stock.get(&id).map_or(0, |stock| stock.quantity());
        let held = held.get(&id).copied().unwrap_or_default();
        if there + held != first {
            world.violation(
                "I3",
                0,
                format!("product {id}: {there} there, {held} ordered, {first} at first"),
            );
        }
    }
}

/// I13: an Idempotency-Key stands for an order that exists, and one that gave an answer.
fn keys(world: &World, tables: &Tables) {
    for (key, row) in &tables.idempotency {
        let order = row.order_id.get();
        match tables.orders.get(&row.order_id) {
            Some(stored) if stored.order.user_id() == key.user_id => {}
            Some(_) => world.violation("I13", order, "a key stands for another buyer's order"),
            None => world.violation("I13", order, "a key stands for an order that is not there"),
        }
    }
}

/// I14: the card's number is nowhere.
fn no_secret(world: &World, tables: &Tables) {
    // Writing out the whole database takes a while: in every 16th run.
    if world.plan.seed.is_multiple_of(16) {
        let text = format!("{tables:?}");
        let bare: String = CANARY_CARD.chars().filter(char::is_ascii_digit).collect();
        if text.contains(CANARY_CARD) || text.contains(&bare) {
            world.violation("I14", 0, "the card's number stands in a table");
        }
    }
}

/// I9: everything has ended, and nothing that is due was left.
fn progress(world: &World, tables: &Tables, payment: &Payment, rows: &[&DiscrepancyRow]) {
    let order = payment.order_id().get();
    // A gateway that forgot everything, and knows not even one PAID transaction of ours since: nothing is believed of it,
    // and a person is told (F62).
    let struck = |kind| lock(&world.counts).struck.contains_key(&kind);
    let interlocked = struck(Kind::GatewayWipe)
        && (!knows_any_paid(world, tables) || (struck(Kind::ClockBack) && !knows_last_paid(world, tables)));
    let parked = rows.iter().any(|row| row.discrepancy.kind == DiscrepancyKind::Poison);
    if !payment.status().is_terminal() && !parked && !interlocked {
        world.violation("I9", order, format!("still {} 25 hours after the faults", payment.status()));
    }
    let Some(check) = tables.checks.get(&payment.id()) else { return };
    let overdue = |at: Option<domain::Timestamp>| {
        at.is_some_and(|at| world.database.now() - at > time::Duration::minutes(10))
    };
    if check.parked_at.is_some() && !parked {
        world.violation("I9", order, "parked, and nobody is told");
    }
    if check.lease.is_some() && check.due_at.is_none() && check.woken_at.is_none() {
        world.violation("I9", order, "a claim was never ended");
    }
    if check.parked_at.is_none() && (overdue(check.due_at) || overdue(check.woken_at)) {
        let now = world.database.now();
        world.violation("I9", order, format!("due for more than ten minutes: at {now} {check:?}"));
    }
    let unread = tables.hints(payment.id()).any(|(_, hint)| hint.looked_up_at.is_none());
    if unread && check.parked_at.is_none() {
        world.violation("I9", order, "a callback was never looked up");
    }
}

fn knows_any_paid(world: &World, tables: &Tables) -> bool {
    let gateway = lock(&world.gateway);
    let paid = tables.payments.values().map(|row| &row.record.payment);
    paid.filter(|payment| payment.status() == PaymentStatus::Paid)
        .filter_map(|payment| payment.key())
        .any(|key| gateway.by_key(key, Instant::now()).is_some())
}

/// By a clock that was turned back, the payment that was paid last may be one from before the gateway forgot everything:
/// until the clock has caught up and another order is paid, nothing is believed (F62, F74).
fn knows_last_paid(world: &World, tables: &Tables) -> bool {
    let paid = tables.payments.values().filter(|row| {
        let payment = &row.record.payment;
        payment.status() == PaymentStatus::Paid && payment.key().is_some()
    });
    let last = paid.max_by_key(|row| (row.record.updated_at, row.record.payment.id()));
    let key = last.and_then(|row| row.record.payment.key());
    key.is_none_or(|key| lock(&world.gateway).by_key(key, Instant::now()).is_some())
}

fn is_charge_of(row: &DiscrepancyRow, transaction: &Transaction) -> bool {
    let discrepancy = &row.discrepancy;
    discrepancy.kind.is_charge() && discrepancy.key.as_ref() == Some(&transaction.key)
}

/// I2 and I8: every charge is matched by a paid order or a row of the ledger, and nobody got goods for nothing.
fn charges(world: &World, payment: &Payment, mine: &[&Transaction], rows: &[&DiscrepancyRow]) {
    let order = payment.order_id().get();
    let now = Instant::now();
    let mut keys = BTreeSet::new();
    // Answers of no use leave it to a person, who is told so; and so does what can't be stored.
    let of_no_use = [Kind::LookupOdd, Kind::LookupTorn, Kind::ManyTransactions];
    let parked = rows.iter().any(|row| row.discrepancy.kind == DiscrepancyKind::Poison);
    let faults = lock(&world.books).order(order).faults.clone();
    if parked && (!payment.status().is_terminal() || of_no_use.iter().any(|kind| faults.contains(kind))) {
        return;
    }
    for transaction in mine.iter().rev().filter(|transaction| !transaction.gone) {
        if !keys.insert(&transaction.key) {
            continue;
        }
        let pays = payment.status() == PaymentStatus::Paid
            && payment.key() == Some(&transaction.key)
            && payment.amounts().paid_amount() == transaction.amount;
        let in_ledger = rows.iter().any(|row| is_charge_of(row, transaction));
        match transaction.status_at(now) {
            Some(TransactionStatus::Success) if !pays && !in_ledger => {
                let text = format!(
                    "{} won were charged by {}, the payment is {}, and no row of the ledger says so",
                    transaction.amount,
                    transaction.key,
                    payment.status()
                );
                world.violation("I8", order, text);
            }
            Some(TransactionStatus::Pending) if payment.status() == PaymentStatus::Failed => {
                let told = rows.iter().any(|row| {
                    row.discrepancy.kind == DiscrepancyKind::NeverSettled
                        && row.discrepancy.key.as_ref() == Some(&transaction.key)
                });
                if !told {
                    let text =
                        format!("{} was never decided, and the watch list did not say so", transaction.key);
                    world.violation("I8", order, text);
                }
            }
            Some(_) | None => {}
        }
    }
    let mut seen = BTreeSet::new();
    for row in rows.iter().filter(|row| row.discrepancy.kind.is_charge()) {
        if !seen.insert(&row.discrepancy.key) {
            world.violation("I2", order, "the ledger has one charge twice");
        }
    }
    // A row for a charge that never was.
    for row in rows.iter().filter(|row| row.discrepancy.kind.is_charge()) {
        let discrepancy = &row.discrepancy;
        let approved = |transaction: &&&Transaction| {
            Some(&transaction.key) == discrepancy.key.as_ref() && transaction.approved_by(now)
        };
        // A key that was given twice is reported before it is decided.
        let reused = discrepancy.kind == DiscrepancyKind::KeyReused;
        if !reused && mine.iter().find(approved).is_none() {
            let text =
                format!("the ledger has a {} that the gateway never charged", discrepancy.kind.as_str());
            world.violation("I2", order, text);
        }
    }
}

/// The allowed outcomes, from the gateway's true history and the faults that befell the order.
fn outcome(world: &World, row: &PaymentRow, mine: &[&Transaction], rows: &[&DiscrepancyRow]) {
    let payment = &row.record.payment;
    let order = payment.order_id().get();
    if payment.status() != PaymentStatus::Failed || !payment.amounts().paid_amount().is_positive() {
        return;
    }
    let (faults, requests) = {
        let mut books = lock(&world.books);
        let page = books.order(order);
        (page.faults.clone(), page.posts.len())
    };
    let placed = Instant::now() - lock(&world.books).age(payment.id());
    let good = mine.iter().find(|transaction| {
        let in_time = transaction.approved_by(placed + IN_TIME);
        in_time && !transaction.gone && transaction.amount == payment.amounts().paid_amount()
    });
    let Some(good) = good else { return };
    let globally = [Kind::GatewayRestart, Kind::GatewayWipe, Kind::WrongAccount];
    let excused = EXCUSES.iter().any(|kind| faults.contains(kind))
        || (faults.contains(&Kind::Backlog) && good.created > placed + GRACE)
        || globally.iter().any(|kind| lock(&world.counts).struck.contains_key(kind))
        || excused_by_two(&faults, requests);
    if !excused {
        let text = format!(
            "FAILED although {} was approved in time; all that befell it was {faults:?}, the ledger has {}",
            good.key,
            rows.len()
        );
        world.violation("needless failure", order, text);
    }
}

/// A 500 or 503 after the transaction was created is no excuse by itself: the gateway is asked before it counts. Only
/// when it could not be asked may the order be compensated.
fn excused_by_two(faults: &BTreeSet<Kind>, requests: usize) -> bool {
    // The further charges of a request may hide behind a 500 as well.
    let hidden = [Kind::Create500, Kind::Create503, Kind::ManyTransactions];
    let created = hidden.iter().any(|kind| faults.contains(kind));
    let unable = [
        Kind::LookupError,
        Kind::LookupHang,
        Kind::LookupOutage,
        Kind::GatewayOutage,
        Kind::ConnectRefused,
        Kind::ConnectTimeout,
        Kind::SlowAnswer,
    ];
    created && (unable.iter().any(|kind| faults.contains(kind)) || requests > 2)
}

/// A definite answer is never contradicted later.
fn told(world: &World, payment: &Payment) {
    let order = payment.order_id().get();
    let told = lock(&world.books).order(order).told;
    let kept = match told {
        Some(Told::Paid) => payment.status() == PaymentStatus::Paid,
        Some(Told::Cancelled) => payment.status() == PaymentStatus::Failed,
        None => true,
    };
    if !kept {
        let text = format!("the buyer was told {told:?}, the payment is {}", payment.status());
        world.violation("definite answer", order, text);
    }
}

fn count(world: &World, tables: &Tables, transactions: &[Transaction]) {
    let mut counts = lock(&world.counts);
    counts.discrepancies += tables.discrepancies.len() as u64;
    for row in tables.payments.values() {
        match row.record.payment.status() {
            PaymentStatus::Paid => counts.paid += 1,
            PaymentStatus::Failed => counts.failed += 1,
            PaymentStatus::Pending | PaymentStatus::InProgress => {}
        }
    }
    if world.plan.faults.is_empty() {
        counts.clean_decided += transactions.len() as u64;
        let paid = tables.payments.values().filter(|row| {
            let payment = &row.record.payment;
            payment.status() == PaymentStatus::Paid && payment.key().is_some()
        });
        counts.clean_paid += paid.count() as u64;
    }
}
