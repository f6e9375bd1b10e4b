//! The numbers of the use-cases. Names and defaults are those of spec 03; configuration fills them in.

use crate::batch::BatchLimits;
use domain::MerchantId;
use domain::settlement::SettlementRules;
use std::time::Duration;

/// All numbers that the use-cases need.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Who we are at the gateway.
    pub merchant: MerchantId,
    /// What callback addresses begin with; the token follows.
    pub callback_base_url: String,
    /// The whole gateway step of one order, from the moment it is begun.
    pub deadline: Duration,
    /// After the deadline, so long is tried to store what came of it before the reconciler must.
    pub record_patience: Duration,
    /// A lost optimistic race is tried once more after a random wait in this range.
    pub conflict_wait: (Duration, Duration),
    /// How long an Idempotency-Key is kept.
    pub idempotency_retention: Duration,
    /// How large batches get.
    pub batch: BatchLimits,
    /// A claim is nobody else's for so long.
    pub lease: Duration,
    /// The gateway is asked about one payment at most once in so long by callbacks.
    pub query_interval: Duration,
    /// The same for syncs by hand.
    pub sync_interval: Duration,
    /// Callbacks make one process ask about so many payments at once; further ones wait.
    pub callback_concurrency: usize,
    /// The most transactions of one order that are looked into; an order with more is not decided but put before a person.
    pub max_transactions: usize,
    /// The most keys named by callbacks that are looked up in one examination; the rest is next.
    pub max_hints: usize,
    /// A turn of the reconciler claims further batches for so long.
    pub turn_timeout: Duration,
    /// It takes so many at a time.
    pub batch_size: u32,
    /// It examines so many side by side.
    pub concurrency: usize,
    /// When payments are looked at, and what is concluded.
    pub rules: SettlementRules,
    /// So many contradicted keys in one batch, or ...
    pub interlock_lost_keys: u32,
    /// ... more than so many per cent not found (of at least this number of keys' worth) raise the interlock.
    pub interlock_not_found_percent: u32,
}

impl Policy {
    /// The defaults of `docs/configuration.md` for this merchant and callback address; a test of `bootstrap` holds them to it.
    pub fn new(merchant: MerchantId, callback_base_url: impl Into<String>) -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            merchant,
            callback_base_url: callback_base_url.into(),
            deadline: Duration::from_millis(4500),
            record_patience: Duration::from_millis(400),
            conflict_wait: (Duration::from_millis(100), Duration::from_millis(500)),
            idempotency_retention: minutes(24 * 60),
            batch: BatchLimits::default(),
            lease: minutes(1),
            query_interval: Duration::from_secs(2),
            sync_interval: Duration::from_secs(2),
            callback_concurrency: 64,
            max_transactions: 200,
            max_hints: 20,
            // A turn ends before the next one begins.
            turn_timeout: Duration::from_secs(50),
            batch_size: 100,
            concurrency: 16,
            rules: SettlementRules {
                min_age: minutes(1),
                force_fail_after: minutes(5),
                not_found_confirmations: 2,
                not_found_grace: minutes(1),
                watch_after: vec![minutes(1), minutes(5), minutes(30), minutes(120), minutes(24 * 60)],
                backoff_max: minutes(5),
                park_after_failures: 20,
            },
            interlock_lost_keys: 3,
            interlock_not_found_percent: 20,
        }
    }
}
