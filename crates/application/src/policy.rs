//! The numbers of the use-cases. Names and defaults are those of spec 03; configuration fills them in.

use domain::MerchantId;
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
    /// A claim is nobody else's for so long.
    pub lease: Duration,
    /// The gateway is asked about one payment at most once in so long by callbacks.
    pub query_interval: Duration,
    /// The gateway is asked about one payment at most once in so long by syncs by hand.
    pub sync_interval: Duration,
    /// Callbacks make one process ask about so many payments at once; further ones wait.
    pub callback_concurrency: usize,
    /// A turn of the reconciler claims further batches for so long.
    pub turn_timeout: Duration,
    /// It takes so many at a time.
    pub batch_size: u32,
    /// It examines so many side by side.
    pub concurrency: usize,
    /// It leaves payments alone that changed less long ago.
    pub min_age: Duration,
    /// Undecided payments are forced FAILED from this age on, upon a fresh answer.
    pub force_fail_after: Duration,
    /// How often the gateway must say that it has no such transaction.
    pub not_found_confirmations: u32,
    /// That is believed so long after the send deadline; two answers count when half of it (at most 30 s) lies between.
    pub not_found_grace: Duration,
    /// The looks of the watch list, each counted from the payment's end.
    pub watch_after: Vec<Duration>,
    /// The longest pause after failures to examine a payment.
    pub backoff_max: Duration,
    /// So many failures in a row park a payment.
    pub park_after_failures: u32,
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
            lease: minutes(1),
            query_interval: Duration::from_secs(2),
            sync_interval: Duration::from_secs(2),
            callback_concurrency: 16,
            // A turn ends before the next one begins.
            turn_timeout: Duration::from_secs(50),
            batch_size: 100,
            concurrency: 16,
            min_age: minutes(1),
            force_fail_after: minutes(5),
            not_found_confirmations: 2,
            not_found_grace: minutes(1),
            watch_after: vec![minutes(1), minutes(5), minutes(30), minutes(120), minutes(24 * 60)],
            backoff_max: minutes(5),
            park_after_failures: 20,
            interlock_lost_keys: 3,
            interlock_not_found_percent: 20,
        }
    }

    /// Two "no such transaction" count as two when so long lies between them.
    pub fn not_found_spacing(&self) -> Duration {
        (self.not_found_grace / 2).min(Duration::from_secs(30))
    }

    /// The wait from the payment's end, or from the look before, to look `step` of the watch list.
    pub fn watch_wait(&self, step: u32) -> Option<Duration> {
        let at = usize::try_from(step).ok()?;
        let due = *self.watch_after.get(at)?;
        let before = at.checked_sub(1).and_then(|at| self.watch_after.get(at)).copied().unwrap_or_default();
        Some(due.saturating_sub(before))
    }

    /// The last look of the watch list and its wait from the payment's end.
    pub fn last_watch(&self) -> Option<(u32, Duration)> {
        let due = *self.watch_after.last()?;
        Some((u32::try_from(self.watch_after.len()).ok()?.checked_sub(1)?, due))
    }
}
