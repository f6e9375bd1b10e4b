//! The gateway's callbacks: written down, their payments woken, answered (spec 01 section 4). What they say is a hint.
//!
//! One worker per process takes up what was woken, on the reconciler's own path: claim, ask, settle. Nothing is begun for
//! a single callback, so that a flood of them costs what the settings allow and no more.

use crate::batch::{BatchError, Work};
use crate::examine;
use crate::{CallbackTokens, Io, Policy};
use async_trait::async_trait;
use domain::ports::{CallbackNote, Cause, Claim, ClaimOptions, Due, Store, StoreError};
use domain::{GatewayKey, GatewayOrderRef, PaymentId};
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Why a callback was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveCallbackError {
    /// No payment has this token, or no order this reference.
    #[error("no payment belongs to this callback")]
    Unknown,
    /// It could not be written down; the gateway would have to send it again, but never does: the reconciler heals it.
    #[error("could not write a callback down")]
    Store(#[from] BatchError),
}

/// Writes callbacks down, those that wait at once.
pub(crate) struct NoteCallbacks {
    pub(crate) store: Arc<dyn Store>,
}

#[async_trait]
impl Work for NoteCallbacks {
    type Member = CallbackNote;
    type Outcome = Option<PaymentId>;

    const NAME: &'static str = "note";

    async fn run(&self, notes: &[CallbackNote]) -> Result<Vec<Option<PaymentId>>, StoreError> {
        self.store.note_callbacks(notes).await
    }
}

/// A callback with a token: the key it names is written down for the token's payment.
///
/// # Errors
/// [`ReceiveCallbackError`].
pub async fn receive_callback(
    io: &mut Io,
    tokens: &CallbackTokens,
    token: &str,
    key: &GatewayKey,
) -> Result<PaymentId, ReceiveCallbackError> {
    let note = CallbackNote::Named { token_hash: tokens.hash(token), key: key.clone() };
    io.note(note).await?.ok_or(ReceiveCallbackError::Unknown)
}

/// A callback without a token: nothing of it is kept, but the gateway is asked about the order's payment.
///
/// # Errors
/// [`ReceiveCallbackError`].
pub async fn receive_unproven_callback(
    io: &mut Io,
    order_ref: GatewayOrderRef,
) -> Result<PaymentId, ReceiveCallbackError> {
    io.note(CallbackNote::Unproven { order_ref }).await?.ok_or(ReceiveCallbackError::Unknown)
}

/// Takes up payments that were woken, until `stop` is cancelled: as soon as one is (`woken`), and once more when the
/// policy's interval between two questions has passed. At most so many at a time as the policy says.
pub(crate) async fn take_up_woken(
    make_io: &(dyn Fn() -> Io + Sync),
    policy: &Policy,
    woken: &Notify,
    stop: &CancellationToken,
) {
    let most = policy.callback_concurrency.max(1);
    let mut under_way = FuturesUnordered::new();
    let mut claiming = None;
    // What was in the inbox when the program began is woken too.
    let mut claim_now = true;
    let mut again_at: Option<Instant> = None;
    loop {
        let room = most.saturating_sub(under_way.len());
        if claim_now && room > 0 && claiming.is_none() && !stop.is_cancelled() {
            claim_now = false;
            claiming = Some(Box::pin(claim_woken(make_io(), policy, room)));
        }
        if stop.is_cancelled() && claiming.is_none() && under_way.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            () = stop.cancelled(), if !stop.is_cancelled() => {}
            Some(_examined) = under_way.next(), if !under_way.is_empty() => {}
            // Beside what is under way: an examination that is settling must not stand still for it.
            Some((claims, more)) = OptionFuture::from(claiming.as_mut()) => {
                claiming = None;
                claim_now |= more;
                for claim in claims {
                    under_way.push(async move {
                        examine::examine_claimed(&mut make_io(), policy, claim, None, Cause::Callback).await
                    });
                }
            }
            () = woken.notified(), if !stop.is_cancelled() => {
                claim_now = true;
                again_at = Some(Instant::now() + policy.query_interval);
            }
            () = sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() && !stop.is_cancelled() => {
                claim_now = true;
                again_at = None;
            }
        }
    }
}

/// What was woken, `limit` payments at most; and whether there may be more.
async fn claim_woken(mut io: Io, policy: &Policy, limit: usize) -> (Vec<Claim>, bool) {
    let options = ClaimOptions {
        due: Due::Woken { min_interval: policy.query_interval },
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        lease_id: examine::new_lease(&io),
        lease: policy.lease,
        due_by: None,
    };
    match io.claim(&options).await {
        Ok(claims) => {
            let more = claims.len() >= limit;
            (claims, more)
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "callbacks are left to the reconciler");
            (Vec::new(), false)
        }
    }
}
