//! Every rate, delay and outcome of the simulator, with the documented gateway's values as defaults.
//!
//! A *share* is the part of all cases in which something happens, 0 to 1. Shares of one group exclude each other, so
//! they add up to at most 1; what is left over is the good case. Durations are written `100ms`, `1s`, `5m`, `2h`.
//! `docs/pg-simulator.md` lists every knob.

pub mod patch;
pub mod span;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Fault;

/// No delay is longer than this: a mistyped unit should be noticed.
pub const LONGEST_SPAN: Duration = Duration::from_secs(24 * 60 * 60);

/// The greatest amount, in won, by which a wrong amount may differ from the right one.
pub const LARGEST_AMOUNT_DELTA: i64 = 1_000_000_000;

/// A setting that cannot be: which, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct KnobError {
    /// The dotted name, `request.error_500`.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl KnobError {
    /// An error about `key`.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

/// Everything that can be set while the simulator runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knobs {
    /// Where chance begins: the same seed and the same requests in the same order give the same transactions.
    pub seed: u64,
    /// What a `callbackUrl` must begin with.
    pub callback_url_prefix: String,
    /// Whether and how the front door is shut. What was accepted before is still worked off.
    pub outage: Outage,
    /// How long a hanging answer is held before the connection is closed, unless the client gives up first.
    #[serde(with = "span")]
    pub hang_for: Duration,
    /// `Retry-After` of 429 and 503, whole seconds; `0s` sends none.
    #[serde(with = "span")]
    pub retry_after: Duration,
    /// What is added to an amount that is to be wrong, in won. Not 0.
    pub amount_delta: i64,
    /// `POST /api/v1/payments`.
    pub request: RequestKnobs,
    /// Both look-ups.
    pub lookup: LookupKnobs,
    /// How transactions end.
    pub settlement: SettlementKnobs,
    /// How results are reported.
    pub callback: CallbackKnobs,
    /// Transaction keys.
    pub key: KeyKnobs,
    /// What a process does that has just started.
    pub start: StartKnobs,
    /// How JSON is written.
    pub wire: WireKnobs,
}

/// A span of time that is drawn evenly from between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The shortest.
    #[serde(with = "span")]
    pub min: Duration,
    /// The longest.
    #[serde(with = "span")]
    pub max: Duration,
}

impl Range {
    /// Between `min` and `max` milliseconds.
    #[must_use]
    pub const fn from_millis(min: u64, max: u64) -> Self {
        Self { min: Duration::from_millis(min), max: Duration::from_millis(max) }
    }

    /// The point at `share` (0 to 1) of the way, in whole milliseconds.
    #[must_use]
    pub fn at(self, share: f64) -> Duration {
        let width = self.max.saturating_sub(self.min);
        let millis = width.mul_f64(share.clamp(0.0, 1.0)).as_millis();
        self.min + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// A shut front door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// No outage.
    #[default]
    Off,
    /// Connections are accepted and closed without an answer.
    Close,
    /// Connections are reset (RST).
    Reset,
    /// Connections are accepted and never answered.
    Hang,
    /// Every answer is a 503.
    Unavailable,
}

/// The shares of requests that are answered badly. Exclude each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultShares {
    /// Accepted, never answered.
    pub hang: f64,
    /// Connection reset after the request was read.
    pub reset: f64,
    /// Connection closed without an answer.
    pub close: f64,
    /// Head and half of the body, then closed.
    pub cut_body: f64,
    /// 429 with `Retry-After`.
    pub error_429: f64,
    /// 500 `Internal Server Error`.
    pub error_500: f64,
    /// 502.
    pub error_502: f64,
    /// 503 with `Retry-After`.
    pub error_503: f64,
    /// 504.
    pub error_504: f64,
    /// 307 to the payments path: a client that follows it asks (and charges) again.
    pub redirect: f64,
    /// 200 with something that is not JSON.
    pub garbage: f64,
    /// 200 with an empty body.
    pub empty: f64,
    /// 200, a SUCCESS envelope, and `data` is null.
    pub data_null: f64,
}

impl FaultShares {
    /// Each share with its fault, in a fixed order.
    #[must_use]
    pub fn table(&self) -> [(Fault, f64); 13] {
        [
            (Fault::Hang, self.hang),
            (Fault::Reset, self.reset),
            (Fault::Close, self.close),
            (Fault::CutBody, self.cut_body),
            (Fault::Error429, self.error_429),
            (Fault::Error500, self.error_500),
            (Fault::Error502, self.error_502),
            (Fault::Error503, self.error_503),
            (Fault::Error504, self.error_504),
            (Fault::Redirect, self.redirect),
            (Fault::Garbage, self.garbage),
            (Fault::Empty, self.empty),
            (Fault::DataNull, self.data_null),
        ]
    }
}

/// Knobs of the payment request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestKnobs {
    /// How long a valid request waits before its answer.
    pub latency: Range,
    /// Shares answered badly; nothing is created (but see `created_anyway`).
    #[serde(flatten)]
    pub faults: FaultShares,
    /// Share that creates the transaction and answers 500.
    pub create_then_error_500: f64,
    /// Share that creates the transaction and closes the connection without an answer.
    pub create_then_close: f64,
    /// Share of those answered badly (all faults above) that create the transaction all the same.
    pub created_anyway: f64,
    /// Share that is never answered and worked off only `backlog_delay` later, as from a full accept queue.
    pub backlog: f64,
    /// How much later.
    pub backlog_delay: Range,
    /// Share that is decided at once, so that the answer bears SUCCESS or FAILED.
    pub decided_at_once: f64,
    /// Share whose transaction is booked with a wrong amount (`amount_delta`).
    pub wrong_amount: f64,
}

/// Knobs of the look-ups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupKnobs {
    /// How long a look-up waits before its answer.
    pub latency: Range,
    /// Shares answered badly.
    #[serde(flatten)]
    pub faults: FaultShares,
    /// Share answered 404 though the transaction exists.
    pub not_found: f64,
    /// Share answered with an old state: PENDING although it is decided.
    pub stale: f64,
    /// How long a new transaction stays unknown to look-ups.
    #[serde(with = "span")]
    pub visible_after: Duration,
    /// Whether look-ups see only the transactions of the merchant who asks.
    pub merchant_scoped: bool,
}

/// Knobs of how transactions end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettlementKnobs {
    /// How long a transaction stays PENDING (with workers: how long one occupies a worker).
    pub processing: Range,
    /// The threads of the pool that decides transactions and then reports them; what finds none free waits, in the order in
    /// which it came, so that callbacks queue behind undecided transactions. 0: as many as it takes. The real gateway: 8.
    pub workers: u32,
    /// Share that is charged. The three outcomes add up to 1.
    pub success: f64,
    /// Share that fails over the card's limit.
    pub limit_exceeded: f64,
    /// Share that fails because the card is not valid.
    pub invalid_card: f64,
    /// Share that stays PENDING for ever.
    pub stuck: f64,
    /// Share of the failed that become SUCCESS after `flip_after`, without a callback.
    pub flip: f64,
    /// How much later they flip.
    pub flip_after: Range,
}

/// Knobs of callbacks. Each is drawn on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallbackKnobs {
    /// Share that is never sent.
    pub dropped: f64,
    /// Share that is sent `copies` times at once.
    pub duplicated: f64,
    /// How often a duplicated one is sent in all.
    pub copies: u32,
    /// Share that is sent `delay` after the result.
    pub delayed: f64,
    /// How much later.
    pub delay: Range,
    /// Share where result and callback come before the answer to the request.
    pub before_answer: f64,
    /// Share that tells a wrong amount (`amount_delta`).
    pub wrong_amount: f64,
    /// Share of transactions about which somebody else sends one more callback, at once, that claims SUCCESS.
    pub forged: f64,
    /// How long a merchant may take to answer; zero: as long as it likes, as with the real gateway.
    #[serde(with = "span")]
    pub timeout: Duration,
}

/// Knobs of a start: of the process, of [`crate::engine::Engine::restart`], of a reset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartKnobs {
    /// How many calls after a start are slow, requests and look-ups alike.
    pub slow_calls: u32,
    /// By how much.
    #[serde(with = "span")]
    pub slow_by: Duration,
}

/// Knobs of how JSON is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireKnobs {
    /// Whether members that are null are written, as documented; the real gateway leaves them out.
    pub null_members: bool,
}

/// Knobs of transaction keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyKnobs {
    /// Share of transactions that get the key of an older one and overwrite it.
    pub collision: f64,
    /// Share of answers that bear the key of another transaction than the one that was created.
    pub foreign: f64,
    /// Whether chance collisions (24 random bits per day) are prevented. The real gateway does not.
    pub unique: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            seed: 1,
            callback_url_prefix: "http://localhost:8080".to_owned(),
            outage: Outage::Off,
            hang_for: Duration::from_secs(60),
            retry_after: Duration::from_secs(1),
            amount_delta: 1000,
            request: RequestKnobs {
                latency: Range::from_millis(100, 500),
                faults: FaultShares { error_500: 0.4, ..FaultShares::default() },
                create_then_error_500: 0.0,
                create_then_close: 0.0,
                created_anyway: 0.0,
                backlog: 0.0,
                backlog_delay: Range::from_millis(30_000, 120_000),
                decided_at_once: 0.0,
                wrong_amount: 0.0,
            },
            lookup: LookupKnobs {
                latency: Range::from_millis(0, 0),
                faults: FaultShares::default(),
                not_found: 0.0,
                stale: 0.0,
                visible_after: Duration::ZERO,
                merchant_scoped: true,
            },
            settlement: SettlementKnobs {
                processing: Range::from_millis(1_000, 5_000),
                workers: 0,
                success: 0.7,
                limit_exceeded: 0.2,
                invalid_card: 0.1,
                stuck: 0.0,
                flip: 0.0,
                flip_after: Range::from_millis(60_000, 600_000),
            },
            callback: CallbackKnobs {
                dropped: 0.0,
                duplicated: 0.0,
                copies: 2,
                delayed: 0.0,
                delay: Range::from_millis(5_000, 60_000),
                before_answer: 0.0,
                wrong_amount: 0.0,
                forged: 0.0,
                timeout: Duration::ZERO,
            },
            key: KeyKnobs { collision: 0.0, foreign: 0.0, unique: false },
            start: StartKnobs { slow_calls: 0, slow_by: Duration::from_millis(1_500) },
            wire: WireKnobs { null_members: true },
        }
    }
}

impl Knobs {
    /// Holds every value against its range.
    ///
    /// # Errors
    /// The first knob that is out of range, or the group of shares that add up to more than 1.
    pub fn validate(&self) -> Result<(), KnobError> {
        for (key, share) in self.single_shares() {
            check_share(key, share)?;
        }
        self.check_groups()?;
        self.check_durations()?;
        if self.settlement.workers > 10_000 {
            return Err(KnobError::new("settlement.workers", "must be from 0 to 10000"));
        }
        if self.start.slow_calls > 10_000 {
            return Err(KnobError::new("start.slow_calls", "must be from 0 to 10000"));
        }
        if !(2..=1_000).contains(&self.callback.copies) {
            return Err(KnobError::new("callback.copies", "must be from 2 to 1000"));
        }
        if self.amount_delta == 0 || self.amount_delta.unsigned_abs() > LARGEST_AMOUNT_DELTA.unsigned_abs() {
            return Err(KnobError::new(
                "amount_delta",
                format!("must be from -{LARGEST_AMOUNT_DELTA} to {LARGEST_AMOUNT_DELTA}, and not 0"),
            ));
        }
        if !self.callback_url_prefix.starts_with("http://")
            && !self.callback_url_prefix.starts_with("https://")
        {
            return Err(KnobError::new("callback_url_prefix", "must begin with http:// or https://"));
        }
        Ok(())
    }

    fn single_shares(&self) -> [(&'static str, f64); 15] {
        let (request, callback, settlement) = (&self.request, &self.callback, &self.settlement);
        [
            ("request.created_anyway", request.created_anyway),
            ("request.decided_at_once", request.decided_at_once),
            ("request.wrong_amount", request.wrong_amount),
            ("settlement.success", settlement.success),
            ("settlement.limit_exceeded", settlement.limit_exceeded),
            ("settlement.invalid_card", settlement.invalid_card),
            ("settlement.stuck", settlement.stuck),
            ("settlement.flip", settlement.flip),
            ("callback.dropped", callback.dropped),
            ("callback.duplicated", callback.duplicated),
            ("callback.delayed", callback.delayed),
            ("callback.before_answer", callback.before_answer),
            ("callback.wrong_amount", callback.wrong_amount),
            ("callback.forged", callback.forged),
            ("key.collision", self.key.collision),
        ]
    }

    fn check_groups(&self) -> Result<(), KnobError> {
        check_share("key.foreign", self.key.foreign)?;
        let request = [
            ("create_then_error_500", self.request.create_then_error_500),
            ("create_then_close", self.request.create_then_close),
            ("backlog", self.request.backlog),
        ];
        check_group("request", &self.request.faults, &request)?;
        let lookup = [("not_found", self.lookup.not_found), ("stale", self.lookup.stale)];
        check_group("lookup", &self.lookup.faults, &lookup)?;
        let outcomes =
            self.settlement.success + self.settlement.limit_exceeded + self.settlement.invalid_card;
        if (outcomes - 1.0).abs() > 1e-9 {
            return Err(KnobError::new(
                "settlement",
                format!(
                    "success, limit_exceeded and invalid_card must add up to 1, not {outcomes}; set them together"
                ),
            ));
        }
        Ok(())
    }

    fn check_durations(&self) -> Result<(), KnobError> {
        let ranges = [
            ("request.latency", self.request.latency),
            ("request.backlog_delay", self.request.backlog_delay),
            ("lookup.latency", self.lookup.latency),
            ("settlement.processing", self.settlement.processing),
            ("settlement.flip_after", self.settlement.flip_after),
            ("callback.delay", self.callback.delay),
        ];
        for (key, range) in ranges {
            check_span(&format!("{key}.max"), range.max)?;
            if range.min > range.max {
                return Err(KnobError::new(format!("{key}.min"), "must not be above max"));
            }
        }
        check_span("hang_for", self.hang_for)?;
        check_span("lookup.visible_after", self.lookup.visible_after)?;
        check_span("callback.timeout", self.callback.timeout)?;
        check_span("start.slow_by", self.start.slow_by)?;
        if self.retry_after > Duration::from_secs(3_600) || self.retry_after.subsec_millis() != 0 {
            return Err(KnobError::new("retry_after", "must be whole seconds, at most 1h"));
        }
        Ok(())
    }
}

fn check_share(key: &str, share: f64) -> Result<(), KnobError> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(KnobError::new(key, format!("must be from 0 to 1, not {share}")))
}

fn check_span(key: &str, span: Duration) -> Result<(), KnobError> {
    if span <= LONGEST_SPAN {
        return Ok(());
    }
    Err(KnobError::new(key, "must be at most 24h"))
}

fn check_group(group: &str, faults: &FaultShares, others: &[(&str, f64)]) -> Result<(), KnobError> {
    let faults = faults.table().map(|(fault, share)| (fault.name(), share));
    let mut sum = 0.0;
    for &(name, share) in faults.iter().chain(others) {
        check_share(&format!("{group}.{name}"), share)?;
        sum += share;
    }
    if sum > 1.0 + 1e-9 {
        return Err(KnobError::new(
            group,
            format!("its shares exclude each other and must add up to at most 1, not {sum}"),
        ));
    }
    Ok(())
}
