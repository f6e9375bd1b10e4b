//! One turn of the reconciler: claim what is due, ask about each, settle each in a transaction of its own
//! (spec 01 section 5).
//!
//! It takes no input: it decides only from what is stored and what the gateway says now. Any number of instances run
//! side by side; the claims keep them off each other's payments.

use crate::examine::{self, Examined};
use crate::{Io, Policy};
use domain::Timestamp;
use domain::ports::{Cause, Claim, ClaimOptions, Due, LookupError, StoreError};
use domain::settlement::{Findings, Settled};
use futures_util::StreamExt;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// Payments claimed.
    pub examined: u64,
    /// PAID now.
    pub paid: u64,
    /// FAILED now, forced ones included.
    pub failed: u64,
    /// Of these, undecided for too long.
    pub forced: u64,
    /// Wait for a later turn.
    pub waiting: u64,
    /// Had ended before (watch list and races).
    pub ended: u64,
    /// The gateway could not be asked about them.
    pub unreachable: u64,
    /// Could not be examined.
    pub errors: u64,
    /// Parked for good.
    pub parked: u64,
    /// "No such transaction" was not believed, as there were too many at once.
    pub suspended: bool,
}

impl Turn {
    /// True when every payment that was due could be examined.
    pub const fn is_complete(&self) -> bool {
        self.unreachable == 0 && self.errors == 0 && self.parked == 0 && !self.suspended
    }

    fn count(&mut self, examined: &Examined) {
        self.examined += 1;
        let outcome = match examined {
            Examined::Settled(Settled::Paid) => {
                self.paid += 1;
                "paid"
            }
            Examined::Settled(Settled::Failed { forced }) => {
                self.failed += 1;
                self.forced += u64::from(*forced);
                if *forced { "forced" } else { "failed" }
            }
            Examined::Settled(Settled::Waiting(_) | Settled::InProgress) => {
                self.waiting += 1;
                "waiting"
            }
            // What was backed off is told by why: see `examine::conclude`.
            Examined::Settled(
                Settled::AlreadyEnded | Settled::LeaseLost | Settled::BackedOff | Settled::Parked,
            )
            | Examined::NothingToAsk
            | Examined::NotClaimed => {
                self.ended += 1;
                "ended"
            }
            Examined::Unreachable => {
                self.unreachable += 1;
                "unreachable"
            }
            Examined::Failed => {
                self.errors += 1;
                "error"
            }
            Examined::Parked => {
                self.parked += 1;
                "parked"
            }
        };
        metrics::counter!("reconciler_payments_total", "outcome" => outcome).increment(1);
    }
}

/// Examines all that is due at its beginning: unsettled payments first, then the watch list. `make_io` gives each
/// examination its own [`Io`]. Ends early, between batches, when `stop` is cancelled or the policy's time for a turn is
/// over.
///
/// # Errors
/// [`StoreError`] when payments could not be claimed; what was done before stays.
pub async fn run_turn(
    make_io: &(dyn Fn() -> Io + Sync),
    policy: &Policy,
    stop: &CancellationToken,
) -> Result<Turn, StoreError> {
    let mut turn = Turn::default();
    let until = tokio::time::Instant::now() + policy.turn_timeout;
    let mut began: Option<Timestamp> = None;
    for due in [Due::Unsettled, Due::Watched] {
        while !stop.is_cancelled() && tokio::time::Instant::now() < until {
            let claims = claim(&mut make_io(), policy, due, began).await?;
            let Some(first) = claims.first() else { break };
            // Strictly before: what this turn itself makes due again is not, not even within the clock's resolution.
            began = began.or(Some(first.claimed_at - time::Duration::MICROSECOND));
            tracing::info!("PaymentStatusScheduler started. target_count={}", claims.len());
            examine_batch(make_io, policy, claims, &mut turn).await;
        }
    }
    Ok(turn)
}

async fn claim(
    io: &mut Io,
    policy: &Policy,
    due: Due,
    due_by: Option<Timestamp>,
) -> Result<Vec<Claim>, StoreError> {
    let lease_id = examine::new_lease(io);
    let options = ClaimOptions { due, limit: policy.batch_size, lease_id, lease: policy.lease, due_by };
    io.claim(&options).await
}

/// Asks about all first, then settles: only the whole batch shows whether too many are not found at once.
async fn examine_batch(
    make_io: &(dyn Fn() -> Io + Sync),
    policy: &Policy,
    claims: Vec<Claim>,
    turn: &mut Turn,
) {
    let concurrency = policy.concurrency.max(1);
    let findings: Vec<(Claim, Result<Findings, LookupError>)> = stream::iter(claims)
        .map(|claim| async move {
            let findings = examine::investigate(&mut make_io(), policy, &claim).await;
            (claim, findings)
        })
        .buffered(concurrency)
        .collect()
        .await;
    let suspended = interlock(&mut make_io(), policy, &findings).await;
    turn.suspended |= suspended;
    let mut examined = stream::iter(findings)
        .map(|(claim, findings)| async move {
            examine::conclude(&mut make_io(), claim, findings, suspended, Cause::Reconciler).await
        })
        .buffered(concurrency);
    while let Some(examined) = examined.next().await {
        turn.count(&examined);
    }
}

/// Many "no such transaction" at once mean a wiped gateway or a wrong merchant id rather than as many lost requests
/// (spec 01 section 5). Then the gateway is asked for the transaction that was last paid by: when it does not know that
/// one either, or can't be asked, no "no such transaction" of this batch is believed.
async fn interlock(
    io: &mut Io,
    policy: &Policy,
    findings: &[(Claim, Result<Findings, LookupError>)],
) -> bool {
    let (mut asked, mut none, mut lost, mut unanswered) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (_, findings) in findings {
        asked += 1;
        match findings {
            Ok(found) => {
                none += u64::from(found.none_there());
                lost += u64::from(found.key_lost());
            }
            Err(_) => unanswered += 1,
        }
    }
    // What was not answered to the end may be missing as well: it counts as if it were, when anything is.
    let many_lost = lost > 0 && lost + unanswered >= u64::from(policy.interlock_lost_keys);
    let missing = none + unanswered;
    let many_none = none > 0
        && missing >= u64::from(policy.interlock_lost_keys)
        && missing * 100 > asked * u64::from(policy.interlock_not_found_percent);
    let suspended = (many_lost || many_none) && !examine::knows_last_paid(io).await;
    if suspended {
        tracing::error!(
            asked,
            none,
            lost,
            "the gateway knows none of our transactions: wiped, or a wrong merchant id? Nothing is failed for it"
        );
    }
    metrics::gauge!("reconciler_interlock_active").set(if suspended { 1.0 } else { 0.0 });
    suspended
}
