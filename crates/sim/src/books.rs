//! What the oracle remembers of a run.

use crate::draws::Life;
use crate::kinds::Kind;
use domain::{GatewayKey, PaymentId, ProductId, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// A breach of an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant of spec 04, or which rule.
    pub invariant: &'static str,
    /// At which order; 0: at none in particular.
    pub order: i64,
    /// What was seen.
    pub text: String,
}

/// What a buyer was told for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The order is paid.
    Paid,
    /// The order is cancelled.
    Cancelled,
}

/// What is remembered of one order.
#[derive(Debug, Clone, Default)]
pub struct OrderBook {
    /// Faults that befell it.
    pub faults: BTreeSet<Kind>,
    /// The flows from which requests left for it, one entry per request.
    pub posts: Vec<usize>,
    /// A 500 or 503 was answered, and the gateway has not been asked since.
    pub unasked: bool,
    /// What the last request came to forbids another one: a refusal, or an uncertain outcome.
    pub final_word: bool,
    /// The flows to which the gateway showed a transaction of it.
    pub shown_to: BTreeSet<usize>,
    /// When the gateway said that it has no transaction of it.
    pub none_there: Vec<Instant>,
    /// What its buyer was told.
    pub told: Option<Told>,
    /// Look-ups by minute.
    pub look_ups: BTreeMap<u64, u64>,
}

/// What the gateway said to a program since it last claimed payments.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Keys of our payments that it did not know, with their orders.
    pub lost: BTreeMap<GatewayKey, i64>,
    /// Orders whose lists it was asked for.
    pub listed: BTreeSet<i64>,
    /// Some payment was paid by a key when the first one was found lost: before, there is nothing to ask the gateway for.
    pub any_paid: bool,
    /// It knew the transaction that was last paid by.
    pub proved: bool,
    /// Some look-up brought no answer, or one of no use.
    pub failed: bool,
}

impl Turn {
    /// How many of the payments that were examined had lost their key: after it the list is asked for.
    pub fn keys_lost(&self) -> usize {
        self.lost.values().filter(|order| self.listed.contains(order)).count()
    }
}

/// What the oracle remembers.
#[derive(Debug, Default)]
pub struct Books {
    /// Breaches so far.
    pub violations: Vec<Violation>,
    /// By order number.
    pub orders: BTreeMap<i64, OrderBook>,
    /// Sums of the stock ledger.
    pub stock: BTreeMap<ProductId, i64>,
    /// What the stock began with.
    pub initial_stock: BTreeMap<ProductId, i64>,
    /// Sums of the point ledger.
    pub points: BTreeMap<UserId, i64>,
    /// Answers given under an Idempotency-Key.
    pub answers: BTreeMap<(UserId, String), String>,
    /// When each payment was stored first, whatever the database's clock said.
    pub placed: BTreeMap<PaymentId, Instant>,
    /// By program, what it learned of the payments that it examines.
    pub turns: BTreeMap<Life, Turn>,
    /// When each payment ended.
    pub ended: BTreeMap<PaymentId, Instant>,
}

impl Books {
    /// One order's page.
    pub fn order(&mut self, order: i64) -> &mut OrderBook {
        self.orders.entry(order).or_default()
    }

    /// How old a payment really is.
    pub fn age(&self, payment: PaymentId) -> Duration {
        self.placed.get(&payment).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// A fault befell an order.
    pub fn fault(&mut self, order: i64, kind: Kind) {
        self.order(order).faults.insert(kind);
    }

    /// A 500 or 503 was answered.
    pub fn unasked(&mut self, order: i64) {
        self.order(order).unasked = true;
    }

    /// The gateway was asked about it.
    pub fn asked(&mut self, order: i64) {
        self.order(order).unasked = false;
    }

    /// The gateway showed a transaction.
    pub fn shown(&mut self, order: i64, flow: usize) {
        self.order(order).shown_to.insert(flow);
    }

    /// A breach; only the first few are kept.
    pub fn violation(&mut self, invariant: &'static str, order: i64, text: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation { invariant, order, text });
        }
    }
}
