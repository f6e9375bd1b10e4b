//! The gateway's callback: a hint that is written down durably before anything is asked (spec 01 section 4).
//!
//! Its body is never trusted: only the key it names is kept, to be asked about.

use crate::{CallbackTokens, Io};
use domain::mutants::{self, Mutant};
use domain::ports::StoreError;
use domain::{GatewayKey, OrderId, PaymentId, PaymentStatus};

/// The callback is written down; its payment can be examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallbackReceipt {
    /// Which payment.
    pub payment_id: PaymentId,
}

/// Why a callback was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveCallbackError {
    /// No payment has this token, or no order this id.
    #[error("no payment belongs to this callback")]
    Unknown,
    /// The store; the gateway would have to send it again, but never does: the reconciler heals it.
    #[error("could not write a callback down")]
    Store(#[from] StoreError),
}

/// A callback with a token: what it names is written down for the token's payment.
///
/// # Errors
/// [`ReceiveCallbackError`].
pub async fn receive_callback(
    io: &mut Io,
    tokens: &CallbackTokens,
    token: &str,
    key: &GatewayKey,
) -> Result<CallbackReceipt, ReceiveCallbackError> {
    let hash = tokens.hash(token);
    let tx = io.begin("receive_callback").await?;
    let work = async {
        let found = tx.find_payment_by_token_hash(&hash).await?;
        let anybody = PaymentId::new(1).ok().filter(|_| mutants::is(Mutant::TokenNotChecked));
        let payment_id = found.or(anybody).ok_or(ReceiveCallbackError::Unknown)?;
        // Locked, so that what is about to end is seen as ended.
        let record = tx.lock_payment(payment_id).await?.ok_or(ReceiveCallbackError::Unknown)?;
        let payment = &record.payment.value;
        // A repeated callback of the transaction that paid says nothing new.
        if payment.status() != PaymentStatus::Paid || payment.key() != Some(key) {
            tx.record_callback(payment_id, key).await?;
        }
        Ok(payment_id)
    };
    let work = work.await;
    tx.finish(work).await.map(|payment_id| CallbackReceipt { payment_id })
}

/// A callback without a token: nothing of it is kept, but the gateway is asked about the order's payment.
///
/// # Errors
/// [`ReceiveCallbackError`].
pub async fn receive_untokened_callback(
    io: &mut Io,
    order_id: OrderId,
) -> Result<CallbackReceipt, ReceiveCallbackError> {
    let payment_id = io.queries().payment_of_order(order_id).await?.ok_or(ReceiveCallbackError::Unknown)?;
    Ok(CallbackReceipt { payment_id })
}
