//! The unit of work. [`Io`] is one run's capability to touch the world; the borrow checker keeps its two halves apart:
//! while a [`Tx`] is open nothing else of the `Io` can be reached, so the gateway is never called inside a transaction
//! (A3), no second transaction is opened, no batch waited for and no pool read made meanwhile (A5). What is to be charged
//! must have been started ([`Committed`], A4). The refused programs stand in `tests/refused/`.

use crate::batch::{BatchError, BatchLimits, Batcher};
use crate::callbacks::NoteCallbacks;
use crate::place_order::{ChargeAttempt, NewcomerOrder, PlaceOrders, PlacedInBatch, StartPayments};
use crate::settle::{EndedOrders, Lesson, SettlePayments, SettledInBatch};
use domain::ports::{
    CallbackNote, ChargeOutcome, Claim, ClaimOptions, CommitError, Entropy, Lookup, LookupError,
    PaymentGateway, Queries, Store, StoreError, StoreTx, TransactionSummary,
};
use domain::settlement::{SettlementRules, Transaction};
use domain::{GatewayKey, GatewayOrderRef, MerchantId, PaymentId};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::Notify;

/// The adapters of one kind of work.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queries: Arc<dyn Queries>,
    pub(crate) gateway: Arc<dyn PaymentGateway>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) batches: Batches,
    /// Signalled when a payment was woken that this process may take up.
    pub(crate) woken: Arc<Notify>,
}

/// The batches of one process.
#[derive(Clone)]
pub(crate) struct Batches {
    placing: Arc<Batcher<PlaceOrders>>,
    starting: Arc<Batcher<StartPayments>>,
    settling: Arc<Batcher<SettlePayments>>,
    noting: Arc<Batcher<NoteCallbacks>>,
}

impl Batches {
    /// Orders are placed and started on `orders`, all else is done on `settlement`. The limit of the queue is for what comes
    /// from outside. Who starts or settles is one of the orders or examinations under way, which have limits of their own;
    /// refused, the last ones of a turn would be refused again in the next.
    pub(crate) fn new(
        orders: &Arc<dyn Store>,
        settlement: &Arc<dyn Store>,
        limits: BatchLimits,
        rules: SettlementRules,
        ended: EndedOrders,
    ) -> Self {
        let inner = BatchLimits { queue: usize::MAX, ..limits };
        Self {
            placing: Batcher::new(PlaceOrders { store: Arc::clone(orders), min_age: rules.min_age }, limits),
            starting: Batcher::new(StartPayments { store: Arc::clone(orders) }, inner),
            settling: Batcher::new(SettlePayments { store: Arc::clone(settlement), rules, ended }, inner),
            noting: Batcher::new(NoteCallbacks { store: Arc::clone(settlement) }, limits),
        }
    }
}

/// One run's way to the database, the gateway and randomness. Not `Clone`: a use-case gets `&mut Io`.
pub struct Io {
    ports: Ports,
}

impl Io {
    pub(crate) const fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Opens a transaction; until it is committed, rolled back or dropped nothing else of this `Io` can be used.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no connection comes in time.
    pub async fn begin(&mut self, name: &'static str) -> Result<Tx<'_>, StoreError> {
        Ok(Tx { inner: Some(self.ports.store.begin(name).await?), io: PhantomData })
    }

    /// Places an order, together with what else waits.
    pub(crate) async fn place(&mut self, order: NewcomerOrder) -> Result<PlacedInBatch, BatchError> {
        self.ports.batches.placing.submit(order).await
    }

    /// Makes it durable that the gateway is about to be asked (A4). Only this makes something [`Committed`]: each attempt
    /// is proven by the commit that started its own payment.
    pub(crate) async fn start(&mut self, attempt: ChargeAttempt) -> Start {
        match self.ports.batches.starting.submit(attempt.payment_id()).await {
            Ok(Some(true)) => Start::Committed(Box::new(Committed { value: attempt })),
            Ok(Some(false)) => Start::Elsewhere,
            Ok(None) | Err(_) => Start::NotStored,
        }
    }

    /// Stores what was learned about a payment, together with what else waits.
    pub(crate) async fn settle(&mut self, lesson: Lesson) -> SettledInBatch {
        let outcome = self.ports.batches.settling.submit(lesson).await??;
        if outcome.woken {
            self.ports.woken.notify_one();
        }
        Ok(outcome)
    }

    /// Writes down what a callback says, and gives back whose it is.
    pub(crate) async fn note(&mut self, note: CallbackNote) -> Result<Option<PaymentId>, BatchError> {
        let noted = self.ports.batches.noting.submit(note).await?;
        if noted.is_some() {
            self.ports.woken.notify_one();
        }
        Ok(noted)
    }

    /// Takes the right to examine payments.
    pub(crate) async fn claim(&mut self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
        self.ports.store.claim(options).await
    }

    /// The gateway. Needs the `Io`, so no transaction is open.
    pub fn gateway(&mut self) -> Gateway<'_> {
        Gateway { gateway: &*self.ports.gateway }
    }

    /// Reads outside any transaction.
    pub fn queries(&mut self) -> &dyn Queries {
        &*self.ports.queries
    }

    /// Randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.ports.entropy
    }
}

/// What came of [`Io::start`].
pub(crate) enum Start {
    /// Durable: the gateway may be asked.
    Committed(Box<Committed<ChargeAttempt>>),
    /// Somebody else moved the payment: not ours to send any more.
    Elsewhere,
    /// Could not be stored, or nobody knows: nothing was sent, and nothing will be.
    NotStored,
}

/// An open transaction: derefs to [`StoreTx`]. Dropped, it leaves nothing behind.
#[must_use = "a transaction that is neither committed nor rolled back costs its connection"]
pub struct Tx<'io> {
    inner: Option<Box<dyn StoreTx>>,
    io: PhantomData<&'io mut Io>,
}

impl Tx<'_> {
    /// Makes the transaction durable.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn commit(mut self) -> Result<(), CommitError> {
        match self.inner.take() {
            Some(inner) => inner.commit().await,
            None => Err(CommitError::RolledBack(StoreError::Other { what: "finished twice".into() })),
        }
    }

    /// Commits what succeeded and rolls back what did not; for work whose unknown outcome is the store out of reach.
    ///
    /// # Errors
    /// The work's own, or the commit's.
    pub async fn finish<T, E: From<StoreError>>(self, work: Result<T, E>) -> Result<T, E> {
        match work {
            Ok(value) => match self.commit().await {
                Ok(()) => Ok(value),
                Err(error) => Err(as_store_error(error).into()),
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

/// Where it does not matter what might be stored: an unknown outcome is the store out of reach.
pub(crate) fn as_store_error(error: CommitError) -> StoreError {
    match error {
        CommitError::RolledBack(error) => error,
        CommitError::OutcomeUnknown => StoreError::Unavailable { what: "COMMIT's answer".into() },
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

/// Something that is durable: only [`Io::start`] makes it.
#[derive(Debug)]
#[must_use]
pub struct Committed<T> {
    value: T,
}

/// The gateway, while no transaction is open.
pub struct Gateway<'io> {
    gateway: &'io dyn PaymentGateway,
}

impl Gateway<'_> {
    /// Requests a payment that was started.
    pub async fn charge(&self, attempt: Committed<ChargeAttempt>) -> ChargeOutcome {
        self.gateway.charge(&attempt.value.request).await
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
