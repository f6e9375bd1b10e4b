//! PENDING -> IN_PROGRESS of all that wait, in one commit, before the gateway is asked: after a crash PENDING means that
//! nothing was sent.

use crate::batch::Work;
use async_trait::async_trait;
use domain::PaymentId;
use domain::ports::{Store, StoreError};
use std::sync::Arc;

/// Starts payments.
pub(crate) struct StartPayments {
    pub(crate) store: Arc<dyn Store>,
}

#[async_trait]
impl Work for StartPayments {
    type Member = PaymentId;
    /// Started by this; `None`: could not be stored, or nobody knows.
    type Outcome = Option<bool>;

    const NAME: &'static str = "start";

    async fn run(&self, payments: &[PaymentId]) -> Result<Vec<Option<bool>>, StoreError> {
        match self.store.start_payments(payments).await {
            Ok(started) => Ok(payments.iter().map(|id| Some(started.contains(id))).collect()),
            // Not repeated one by one: one that was started after all would look like somebody else's then.
            Err(error) => {
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    payments = payments.len(),
                    "payments could not be started; nothing is sent"
                );
                Ok(payments.iter().map(|_| None).collect())
            }
        }
    }
}
