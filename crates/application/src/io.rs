//! The unit of work. [`Io`] is one run's capability to touch the world; the borrow checker keeps its two halves apart:
//! while a [`Tx`] is open nothing else of the `Io` can be reached, so the gateway is never called inside a transaction
//! (A3), no second transaction is opened and no pool read is made meanwhile (A5). What is to be charged must come out
//! of a commit ([`Committed`], A4). The refused programs stand in `tests/refused/`.

use crate::place_order::ChargeAttempt;
use domain::ports::{
    ChargeOutcome, CommitError, Entropy, Lookup, LookupError, PaymentGateway, Queries, Store, StoreError,
    StoreTx, TransactionSummary,
};
use domain::settlement::Transaction;
use domain::{GatewayKey, GatewayOrderRef, MerchantId};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// One run's way to the database, the gateway and randomness. Not `Clone`: a use-case gets `&mut Io`.
pub struct Io {
    store: Arc<dyn Store>,
    queries: Arc<dyn Queries>,
    gateway: Arc<dyn PaymentGateway>,
    entropy: Arc<dyn Entropy>,
}

impl Io {
    /// Over these adapters.
    pub fn new(
        store: Arc<dyn Store>,
        queries: Arc<dyn Queries>,
        gateway: Arc<dyn PaymentGateway>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { store, queries, gateway, entropy }
    }

    /// Opens a transaction; until it is committed, rolled back or dropped nothing else of this `Io` can be used.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no connection comes in time.
    pub async fn begin(&mut self, name: &'static str) -> Result<Tx<'_>, StoreError> {
        Ok(Tx { inner: Some(self.store.begin(name).await?), io: PhantomData })
    }

    /// The gateway. Needs the `Io`, so no transaction is open.
    pub fn gateway(&mut self) -> Gateway<'_> {
        Gateway { gateway: &*self.gateway }
    }

    /// Reads outside any transaction.
    pub fn queries(&mut self) -> &dyn Queries {
        &*self.queries
    }

    /// Randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }
}

/// An open transaction: derefs to [`StoreTx`]. Dropped, it leaves nothing behind.
#[must_use = "a transaction that is neither committed nor rolled back costs its connection"]
pub struct Tx<'io> {
    inner: Option<Box<dyn StoreTx>>,
    io: PhantomData<&'io mut Io>,
}

impl Tx<'_> {
    /// Makes the transaction durable; only this makes a [`Committed`].
    ///
    /// # Errors
    /// [`CommittedError`], which gives the value back when the outcome is not known.
    pub async fn commit<T>(mut self, value: T) -> Result<Committed<T>, CommittedError<T>> {
        let Some(inner) = self.inner.take() else {
            return Err(CommittedError::RolledBack(StoreError::Other { what: "finished twice".into() }));
        };
        match inner.commit().await {
            Ok(()) => Ok(Committed { value }),
            Err(CommitError::RolledBack(error)) => Err(CommittedError::RolledBack(error)),
            Err(CommitError::OutcomeUnknown) => Err(CommittedError::OutcomeUnknown(value)),
        }
    }

    /// Commits what succeeded and rolls back what did not; for work whose unknown outcome is the store out of reach.
    ///
    /// # Errors
    /// The work's own, or the commit's.
    pub async fn finish<T, E: From<StoreError>>(self, work: Result<T, E>) -> Result<T, E> {
        match work {
            Ok(value) => match self.commit(value).await {
                Ok(committed) => Ok(committed.into_inner()),
                Err(error) => Err(error.into_store_error().into()),
            },
            Err(error) => {
                self.rollback().await;
                Err(error)
            }
        }
    }

    /// Takes it back and frees its locks at once.
    pub async fn rollback(mut self) {
        if let Some(inner) = self.inner.take() {
            inner.rollback().await;
        }
    }
}

impl Deref for Tx<'_> {
    type Target = dyn StoreTx;

    #[expect(clippy::expect_used, reason = "`inner` is taken only by the two methods that consume the Tx")]
    fn deref(&self) -> &Self::Target {
        self.inner.as_deref().expect("an open transaction")
    }
}

/// The transaction's borrow must last until it is gone: without this a program that calls the gateway while an unused
/// open transaction is in scope would compile.
impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.inner.is_some() {
            tracing::debug!("an open transaction was dropped; its connection is closed");
        }
    }
}

/// Something that is durable: it can only be made by a successful commit.
#[derive(Debug)]
#[must_use]
pub struct Committed<T> {
    value: T,
}

impl<T> Committed<T> {
    /// The value; it stops being a proof.
    pub fn into_inner(self) -> T {
        self.value
    }
}

/// Why a commit made no [`Committed`].
#[derive(Debug, thiserror::Error)]
pub enum CommittedError<T> {
    /// Nothing was stored.
    #[error("the transaction was rolled back")]
    RolledBack(#[source] StoreError),
    /// Nobody knows (A9: no gateway call may follow). The value is what might be stored.
    #[error("whether the transaction was stored is not known")]
    OutcomeUnknown(T),
}

impl<T> CommittedError<T> {
    /// Where it does not matter what might be stored: an unknown outcome is the store out of reach.
    pub fn into_store_error(self) -> StoreError {
        match self {
            Self::RolledBack(error) => error,
            Self::OutcomeUnknown(_) => StoreError::Unavailable { what: "COMMIT's answer".into() },
        }
    }
}

/// The gateway, while no transaction is open.
pub struct Gateway<'io> {
    gateway: &'io dyn PaymentGateway,
}

impl Gateway<'_> {
    /// Requests a payment that was committed to.
    pub async fn charge(&self, attempt: Committed<ChargeAttempt>) -> ChargeOutcome {
        self.gateway.charge(&attempt.into_inner().request).await
    }

    /// A transaction by its key.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
    ) -> Result<Lookup<Transaction>, LookupError> {
        self.gateway.find_by_key(merchant, key).await
    }

    /// All transactions of an order.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
    ) -> Result<Lookup<Vec<TransactionSummary>>, LookupError> {
        self.gateway.find_by_order(merchant, order_ref).await
    }
}
