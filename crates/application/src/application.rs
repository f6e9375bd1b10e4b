//! The use-cases bound to their adapters, for the binaries.

use crate::examine::{self, Examined};
use crate::manage::{self, ManageError};
use crate::place_order::{self, PlaceOrder, PlaceOrderError, PlaceOrderOutcome};
use crate::receive_callback::{self, CallbackReceipt, ReceiveCallbackError};
use crate::reconcile::{self, Turn};
use crate::settle::Settled;
use crate::{CallbackTokens, Io, Policy};
use domain::ports::{
    Cause, DiscrepancyView, Entropy, PaymentGateway, PaymentView, Queries, Store, StoreError,
};
use domain::settlement::Waiting;
use domain::{
    Coupon, CouponId, Discount, DiscrepancyId, GatewayKey, IssuedCoupon, Money, OrderId, PaymentId,
    PointAccount, ProductId, Stock, Timestamp, UserId,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The adapters that an [`Application`] runs on.
#[derive(Clone)]
pub struct Adapters {
    /// The database, for orders.
    pub store: Arc<dyn Store>,
    /// The database on connections of its own, so that orders and settlement never starve each other.
    pub settlement_store: Arc<dyn Store>,
    /// Reads.
    pub queries: Arc<dyn Queries>,
    /// The payment gateway.
    pub gateway: Arc<dyn PaymentGateway>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// What came of a sync by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// What the examination did.
    pub examined: Examined,
    /// The payment after it.
    pub payment: PaymentView,
}

/// All use-cases. Cheap to clone; every call makes its own [`Io`].
#[derive(Clone)]
pub struct Application {
    adapters: Adapters,
    policy: Arc<Policy>,
    tokens: CallbackTokens,
    /// Payments that a callback's task is at, so that a flood of callbacks makes one task.
    examining: Arc<Mutex<BTreeSet<PaymentId>>>,
    callbacks: Arc<Semaphore>,
}

impl Application {
    /// Over these adapters and numbers.
    pub fn new(adapters: Adapters, policy: Policy, tokens: CallbackTokens) -> Self {
        let callbacks = Arc::new(Semaphore::new(policy.callback_concurrency));
        Self { adapters, policy: Arc::new(policy), tokens, examining: Arc::default(), callbacks }
    }

    /// Reads, for views.
    pub fn queries(&self) -> &dyn Queries {
        &*self.adapters.queries
    }

    /// The numbers it runs by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn io(&self) -> Io {
        self.io_on(&self.adapters.store)
    }

    fn settlement_io(&self) -> Io {
        self.io_on(&self.adapters.settlement_store)
    }

    fn io_on(&self, store: &Arc<dyn Store>) -> Io {
        let Adapters { queries, gateway, entropy, .. } = &self.adapters;
        Io::new(Arc::clone(store), Arc::clone(queries), Arc::clone(gateway), Arc::clone(entropy))
    }

    /// See [`place_order::place_order`]. Run it in a task that no connection owns.
    ///
    /// # Errors
    /// [`PlaceOrderError`].
    pub async fn place_order(&self, command: PlaceOrder) -> Result<PlaceOrderOutcome, PlaceOrderError> {
        let result = place_order::place_order(&mut self.io(), &self.policy, &self.tokens, command).await;
        let label = match &result {
            Ok(PlaceOrderOutcome::Paid(_)) => "paid",
            Ok(PlaceOrderOutcome::InProgress(_)) => "in_progress",
            Ok(PlaceOrderOutcome::Confirming(_)) => "confirming",
            Ok(PlaceOrderOutcome::Refused { .. }) => "refused",
            Ok(PlaceOrderOutcome::CircuitOpen { .. }) => "circuit_open",
            Ok(PlaceOrderOutcome::GatewayUnavailable { .. }) => "pg_unavailable",
            Ok(PlaceOrderOutcome::Replayed(_)) => "replayed",
            Err(PlaceOrderError::Placement(_)) => "invalid",
            Err(PlaceOrderError::IdempotencyInProgress | PlaceOrderError::IdempotencyKeyReused) => {
                "idempotency"
            }
            Err(PlaceOrderError::Conflict) => "conflict",
            Err(PlaceOrderError::Unavailable(_) | PlaceOrderError::OutcomeUnknown) => "unavailable",
            Err(PlaceOrderError::Internal(_)) => "error",
        };
        metrics::counter!("order_placed_total", "result" => label).increment(1);
        result
    }

    /// See [`receive_callback::receive_callback`]; then run [`Application::examine_callback`] in a task of its own.
    ///
    /// # Errors
    /// [`ReceiveCallbackError`].
    pub async fn receive_callback(
        &self,
        token: &str,
        key: &GatewayKey,
    ) -> Result<CallbackReceipt, ReceiveCallbackError> {
        receive_callback::receive_callback(&mut self.settlement_io(), &self.tokens, token, key).await
    }

    /// See [`receive_callback::receive_untokened_callback`].
    ///
    /// # Errors
    /// [`ReceiveCallbackError`].
    pub async fn receive_untokened_callback(
        &self,
        order_id: OrderId,
    ) -> Result<CallbackReceipt, ReceiveCallbackError> {
        receive_callback::receive_untokened_callback(&mut self.settlement_io(), order_id).await
    }

    /// Asks the gateway about a payment that a callback named, at most once in the policy's query interval. When it was
    /// asked just now, or our own request may still be on its way, waits and tries again, twice at most; after that the
    /// reconciler is next. Payments that have ended
    /// are left to it at once: callbacks can't make us ask about them again and again (F53).
    pub async fn examine_callback(&self, payment_id: PaymentId) {
        let examining = || self.examining.lock().unwrap_or_else(PoisonError::into_inner);
        if !examining().insert(payment_id) {
            return;
        }
        let _done = Done { examining: &self.examining, payment_id };
        let interval = self.policy.query_interval;
        let until_sent = self.policy.deadline.max(interval);
        for pause in [std::time::Duration::ZERO, interval, until_sent] {
            tokio::time::sleep(pause).await;
            // Never closed, so there is always a permit to come.
            let Ok(_permit) = self.callbacks.acquire().await else { return };
            match self.queries().payment(None, payment_id).await {
                Ok(Some(view)) if !view.record.payment.value.status().is_terminal() => {}
                Ok(_) | Err(_) => return,
            }
            let mut io = self.settlement_io();
            match examine::examine_one(&mut io, &self.policy, payment_id, Cause::Callback).await {
                Ok(Examined::NotClaimed | Examined::Settled(Settled::Waiting(Waiting::StillSending))) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%payment_id, error = &error as &dyn std::error::Error,
                        "a callback is left to the reconciler");
                    return;
                }
            }
        }
    }

    /// Asks the gateway now and settles, at most once in the policy's query interval.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(None)` when there is no such payment.
    pub async fn sync_payment(
        &self,
        payment_id: PaymentId,
        cause: Cause,
    ) -> Result<Option<Synced>, StoreError> {
        let Some(before) = self.queries().payment(None, payment_id).await? else {
            return Ok(None);
        };
        if before.record.payment.value.status().is_terminal() && cause != Cause::Reconciler {
            return Ok(Some(Synced { examined: Examined::NothingToAsk, payment: before }));
        }
        let mut io = self.settlement_io();
        let examined = examine::examine_one(&mut io, &self.policy, payment_id, cause).await?;
        Ok(self.queries().payment(None, payment_id).await?.map(|payment| Synced { examined, payment }))
    }

    /// See [`reconcile::run_turn`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reconcile(&self, stop: &CancellationToken) -> Result<Turn, StoreError> {
        let began = tokio::time::Instant::now();
        let turn = reconcile::run_turn(&|| self.settlement_io(), &self.policy, stop).await;
        metrics::histogram!("reconciler_turn_seconds").record(began.elapsed().as_secs_f64());
        turn
    }

    /// See [`manage::charge_points`].
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn charge_points(&self, user_id: UserId, amount: Money) -> Result<PointAccount, ManageError> {
        manage::charge_points(&mut self.io(), user_id, amount).await
    }

    /// See [`manage::issue_coupon`].
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn issue_coupon(
        &self,
        coupon_id: CouponId,
        user_id: UserId,
    ) -> Result<(IssuedCoupon, Coupon), ManageError> {
        manage::issue_coupon(&mut self.io(), coupon_id, user_id).await
    }

    /// See [`manage::create_product`].
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn create_product(
        &self,
        name: &str,
        price: Money,
        stock: Stock,
    ) -> Result<ProductId, ManageError> {
        manage::create_product(&mut self.io(), name, price, stock).await
    }

    /// See [`manage::set_stock`].
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn set_stock(&self, id: ProductId, stock: Stock) -> Result<(), ManageError> {
        manage::set_stock(&mut self.io(), id, stock).await
    }

    /// See [`manage::create_coupon`].
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn create_coupon(
        &self,
        name: &str,
        discount: Discount,
        valid_until: Option<Timestamp>,
    ) -> Result<Coupon, ManageError> {
        manage::create_coupon(&mut self.io(), name, discount, valid_until).await
    }

    /// See [`manage::resolve_discrepancy`].
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn resolve_discrepancy(
        &self,
        id: DiscrepancyId,
        resolution: &str,
        note: &str,
        actor: &str,
    ) -> Result<DiscrepancyView, ManageError> {
        manage::resolve_discrepancy(&mut self.io(), id, resolution, note, actor).await
    }
}

/// Takes a payment off the list of those that a callback's task is at, however that task ends.
struct Done<'a> {
    examining: &'a Mutex<BTreeSet<PaymentId>>,
    payment_id: PaymentId,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.examining.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.payment_id);
    }
}
