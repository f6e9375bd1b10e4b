//! What must hold: after each commit, at each request to the gateway, at each answer to a buyer, and at the end.
//!
//! It knows the truth of the gateway and of the database; nothing of how the application comes to its results. Each
//! check bears the number of its invariant in spec 04.

mod batches;
mod commits;
mod quiet;
mod rows;

pub use batches::{Queues, fits_placing, fits_settling, in_order_of_arrival};
pub use commits::Observer;
pub use quiet::at_the_end;

use crate::flow::{Stage, flow_id, is_proving, stage};
use crate::gateway::number;
use crate::kinds::Kind;
use crate::process::Process;
use crate::world::{World, lock};
use domain::ports::ChargeRequest;
use domain::{GatewayKey, PaymentStatus};
use std::sync::{Arc, Weak};
use test_support::store::PaymentRow;
use tokio::time::Instant;

/// The most requests of one order (4 attempts).
const MAX_POSTS: usize = 4;
/// The most look-ups by order about one payment in a minute: one examination in 2 s, each with one retry, from a few
/// programs, and the probes of its own request.
const MAX_LOOK_UPS_PER_MINUTE: u64 = 120;

/// A payment request leaves: I6, I17, I18.
pub fn on_post(world: &Arc<World>, process: &Process, request: &ChargeRequest) {
    let order = number(&request.order_ref);
    lock(&world.counts).posts += 1;
    let violation = |invariant, text: &str| world.violation(invariant, order, text);
    let flow = flow_id();
    let (earlier, unasked, shown, final_word) = {
        let mut books = lock(&world.books);
        let page = books.order(order);
        page.posts.push(flow);
        (page.posts.clone(), page.unasked, page.shown_to.contains(&flow), page.final_word)
    };
    if earlier.len() > MAX_POSTS {
        violation("I18", "more than 4 requests for one order");
    }
    if earlier.iter().any(|other| *other != flow) {
        violation("I6", "requested by two flows: the card is asked for once");
    }
    if unasked {
        violation("I6", "requested again after a 500 or 503 without asking for a transaction");
    }
    if final_word {
        violation("I6", "requested again after a refusal or an uncertain outcome");
    }
    if shown {
        violation("I6", "requested although the gateway had shown a transaction for it");
    }
    if stage() == Stage::FirstCommitSent {
        violation("I6", "requested although the answer to the order's own COMMIT was lost");
    }
    let payment = world.database.read(|tables| {
        let order_id = domain::OrderId::new(order).ok()?;
        tables.payment_of(order_id).map(|row| row.record.clone())
    });
    match payment {
        None => violation("I6", "requested before the order was stored"),
        Some(record) => {
            if world.database.now() > record.send_deadline {
                violation("I6", "requested after the send deadline");
            }
            let status = record.payment.status();
            if earlier.len() == 1 && status != PaymentStatus::InProgress {
                violation("I6", &format!("first requested while its payment is {status}"));
            }
            if record.payment.amounts().paid_amount() != request.amount {
                violation("I1", "requested with another amount");
            }
            if record.merchant != request.merchant || record.order_ref != request.order_ref {
                violation(
                    "I8",
                    "requested as another merchant, or under another name, than look-ups will use",
                );
            }
        }
    }
    if let Some(running) = process.accepting() {
        let state = running.circuits.snapshots().first().map(|snapshot| snapshot.state.as_str());
        if matches!(state, Some("OPEN" | "FORCED_OPEN")) {
            violation("I17", "requested while the circuit was open");
        }
    }
}

/// A look-up about an order leaves: I18.
pub fn on_look_up(world: &Arc<World>, order: i64) {
    let minute = world.elapsed().as_secs() / 60;
    let count = {
        let mut books = lock(&world.books);
        let count = books.order(order).look_ups.entry(minute).or_default();
        *count += 1;
        *count
    };
    let many = lock(&world.books).order(order).faults.contains(&Kind::ManyTransactions);
    if order != 0 && !many && count == MAX_LOOK_UPS_PER_MINUTE {
        world.violation("I18", order, "the gateway was asked about one order again and again");
    }
}

/// Kinds of faults that may rightly open the circuit of look-ups.
const GATEWAY_DOWN: [Kind; 8] = [
    Kind::FreezeApp,
    Kind::FreezeReconciler,
    Kind::LookupError,
    Kind::LookupHang,
    Kind::LookupOutage,
    Kind::GatewayOutage,
    Kind::ConnectRefused,
    Kind::ConnectTimeout,
];

/// What became of a look-up of a reconciler's turn.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// By key: found, or not.
    Key(&'a GatewayKey, bool),
    /// By order.
    Order(i64),
    /// No answer, or one of no use.
    Failed,
}

/// A look-up was answered: what a turn must conclude from it, all in all, is the interlock's (F62).
pub fn on_answer(world: &World, asked: Asked<'_>) {
    let in_turn = matches!(stage(), Stage::Turn | Stage::BetweenItems);
    let Some(flow) = crate::flow::current().filter(|_| in_turn) else { return };
    let owner = |key: &GatewayKey| {
        world.database.read(|tables| {
            let owner = tables.payments.get(tables.payment_of_key.get(key)?)?;
            let payment = &owner.record.payment;
            (payment.key() == Some(key)).then(|| payment.order_id().get())
        })
    };
    let lost = match asked {
        Asked::Key(key, false) if !is_proving() => owner(key).map(|order| (key.clone(), order)),
        Asked::Key(..) | Asked::Order(_) | Asked::Failed => None,
    };
    let paid = |row: &PaymentRow| {
        row.record.payment.status() == PaymentStatus::Paid && row.record.payment.key().is_some()
    };
    let any_paid = lost.is_some() && world.database.read(|tables| tables.payments.values().any(paid));
    let mut books = lock(&world.books);
    let turn = books.turns.entry(flow.life).or_default();
    if turn.lost.is_empty() {
        turn.any_paid = any_paid;
    }
    match asked {
        Asked::Failed => turn.failed = true,
        Asked::Order(order) => drop(turn.listed.insert(order)),
        Asked::Key(_, found) => turn.proved |= found && is_proving(),
    }
    turn.lost.extend(lost);
}

/// An answer of no use is one payment's trouble: it never counts as a gateway that is down.
pub fn on_odd_answer(world: &World, process: &Process) {
    let Some(running) = process.accepting() else { return };
    let down = GATEWAY_DOWN.iter().any(|kind| lock(&world.counts).struck.contains_key(kind));
    let open = running.circuits.snapshots().iter().any(|circuit| {
        *circuit.name == *adapters_pg::QUERY_CIRCUIT && matches!(circuit.state.as_str(), "OPEN" | "HALF_OPEN")
    });
    if open && !down {
        world.violation("I17", 0, "answers about single payments opened the circuit of look-ups");
    }
}

/// Who waits is told that an order has ended: when that is stored, not before.
pub fn on_ended(world: &Weak<World>, order: domain::OrderId) {
    let Some(world) = world.upgrade() else { return };
    let ended = world
        .database
        .read(|tables| tables.payment_of(order).is_some_and(|row| row.record.payment.status().is_terminal()));
    if !ended {
        world.violation("definite answer", order.get(), "told that it had ended before that was stored");
    }
}

/// The gateway approved a transaction of this order, with this key and amount, by now.
fn approved(world: &World, order: i64, key: &domain::GatewayKey, amount: domain::Money) -> bool {
    let gateway = lock(&world.gateway);
    let now = Instant::now();
    gateway.all().iter().any(|transaction| {
        transaction.key == *key
            && transaction.order == order
            && transaction.amount == amount
            && transaction.approved_by(now)
    })
}
