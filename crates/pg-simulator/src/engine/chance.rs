//! Everything random about one request, drawn at once when it arrives.
//!
//! The number of draws never depends on a knob, so that turning one knob changes what it controls and nothing else: the
//! hundredth payment of a seed has the same key and outcome whatever was set before.

use std::time::Duration;

use pg_protocol::{TransactionStatus, reasons};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::answer::{LookupFate, RequestFate};
use crate::knobs::{FaultShares, Knobs};

/// Two generators, so that how often somebody polls does not change what becomes of payments.
#[derive(Debug)]
pub(super) struct Chance {
    payments: StdRng,
    lookups: StdRng,
}

/// What will become of one payment request.
#[derive(Clone, Debug)]
pub(super) struct Destiny {
    pub(super) fate: RequestFate,
    pub(super) latency: Duration,
    pub(super) backlog_delay: Duration,
    pub(super) key_bits: u32,
    /// Where in the list of older transactions the one is whose key is taken or told.
    pub(super) other: f64,
    pub(super) collides: bool,
    pub(super) tells_foreign_key: bool,
    pub(super) decided_at_once: bool,
    pub(super) wrong_amount: bool,
    pub(super) decision: Decision,
    pub(super) processing: Duration,
    pub(super) stuck: bool,
    pub(super) flips_after: Option<Duration>,
    pub(super) callback: CallbackDestiny,
}

/// What will become of the report about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallbackDestiny {
    pub(super) copies: u32,
    pub(super) delay: Duration,
    pub(super) before_answer: bool,
    pub(super) wrong_amount: bool,
    pub(super) forged: bool,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Approved,
    LimitExceeded,
    InvalidCard,
}

impl Decision {
    pub(super) fn status(self) -> TransactionStatus {
        match self {
            Self::Approved => TransactionStatus::Success,
            Self::LimitExceeded | Self::InvalidCard => TransactionStatus::Failed,
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Approved => reasons::APPROVED,
            Self::LimitExceeded => reasons::LIMIT_EXCEEDED,
            Self::InvalidCard => reasons::INVALID_CARD,
        }
    }
}

impl Chance {
    pub(super) fn seeded(seed: u64) -> Self {
        Self {
            payments: StdRng::seed_from_u64(seed),
            // Any other number would do; it must only differ from the seed itself.
            lookups: StdRng::seed_from_u64(seed ^ 0x6c6f_6f6b_7570_7321),
        }
    }

    pub(super) fn payment(&mut self, knobs: &Knobs) -> Destiny {
        let rng = &mut self.payments;
        let mut draw = || rng.random::<f64>();
        let (fate, created_anyway, latency, backlog) = (draw(), draw(), draw(), draw());
        let (key, other, collides, foreign) = (draw(), draw(), draw(), draw());
        let (at_once, amount, outcome, processing) = (draw(), draw(), draw(), draw());
        let (stuck, flip, flip_after) = (draw(), draw(), draw());
        let (dropped, duplicated, delayed, delay) = (draw(), draw(), draw(), draw());
        let (before_answer, told_amount, forged) = (draw(), draw(), draw());

        let callback = &knobs.callback;
        let copies = if duplicated < callback.duplicated { callback.copies } else { 1 };
        Destiny {
            fate: request_fate(knobs, fate, created_anyway),
            latency: knobs.request.latency.at(latency),
            backlog_delay: knobs.request.backlog_delay.at(backlog),
            key_bits: key_bits(key),
            other,
            collides: collides < knobs.key.collision,
            tells_foreign_key: foreign < knobs.key.foreign,
            decided_at_once: at_once < knobs.request.decided_at_once,
            wrong_amount: amount < knobs.request.wrong_amount,
            decision: decision(knobs, outcome),
            processing: knobs.settlement.processing.at(processing),
            stuck: stuck < knobs.settlement.stuck,
            flips_after: (flip < knobs.settlement.flip).then(|| knobs.settlement.flip_after.at(flip_after)),
            callback: CallbackDestiny {
                copies: if dropped < callback.dropped { 0 } else { copies },
                delay: if delayed < callback.delayed { callback.delay.at(delay) } else { Duration::ZERO },
                before_answer: before_answer < callback.before_answer,
                wrong_amount: told_amount < callback.wrong_amount,
                forged: forged < callback.forged,
            },
        }
    }

    pub(super) fn lookup(&mut self, knobs: &Knobs) -> (LookupFate, Duration) {
        let (fate, latency) = (self.lookups.random::<f64>(), self.lookups.random::<f64>());
        let lookup = &knobs.lookup;
        let others = [(LookupFate::NotFound, lookup.not_found), (LookupFate::Stale, lookup.stale)];
        let table = faults(&lookup.faults, LookupFate::Fail).chain(others);
        (pick(fate, table).unwrap_or(LookupFate::Serve), lookup.latency.at(latency))
    }

    /// Another 24 bits, when the first ones are taken.
    pub(super) fn key_bits(&mut self) -> u32 {
        key_bits(self.payments.random::<f64>())
    }
}

/// The six hexadecimal digits of a key.
fn key_bits(draw: f64) -> u32 {
    const KEYS: f64 = 16_777_216.0;
    // A float-to-integer cast saturates: it cannot leave the range of u32.
    ((draw * KEYS) as u32).min(0x00ff_ffff)
}

fn request_fate(knobs: &Knobs, draw: f64, created_anyway: f64) -> RequestFate {
    let request = &knobs.request;
    let others = [
        (RequestFate::CreateThen(super::Fault::Error500), request.create_then_error_500),
        (RequestFate::CreateThen(super::Fault::Close), request.create_then_close),
        (RequestFate::Backlog, request.backlog),
    ];
    let table = faults(&request.faults, RequestFate::Fail).chain(others);
    match pick(draw, table) {
        Some(RequestFate::Fail(fault)) if created_anyway < request.created_anyway => {
            RequestFate::CreateThen(fault)
        }
        Some(fate) => fate,
        None => RequestFate::Accept,
    }
}

fn decision(knobs: &Knobs, draw: f64) -> Decision {
    let table = [
        (Decision::Approved, knobs.settlement.success),
        (Decision::LimitExceeded, knobs.settlement.limit_exceeded),
    ];
    pick(draw, table).unwrap_or(Decision::InvalidCard)
}

fn faults<F>(shares: &FaultShares, fate: fn(super::Fault) -> F) -> impl Iterator<Item = (F, f64)> {
    shares.table().into_iter().map(move |(fault, share)| (fate(fault), share))
}

/// The entry into whose part of 0..1 the draw falls; none when it falls behind all of them.
fn pick<F>(draw: f64, table: impl IntoIterator<Item = (F, f64)>) -> Option<F> {
    let mut below = 0.0;
    for (fate, share) in table {
        below += share;
        if draw < below {
            return Some(fate);
        }
    }
    None
}
