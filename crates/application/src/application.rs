//! The use-cases bound to their adapters, for the binaries.

use crate::callbacks::{self, ReceiveCallbackError};
use crate::examine::{self, Examined};
use crate::io::{Batches, Ports};
use crate::manage::{self, ManageError};
use crate::place_order::{self, PlaceOrder, PlaceOrderError, PlaceOrderOutcome};
use crate::reconcile::{self, Turn};
use crate::settle::EndedOrders;
use crate::{CallbackTokens, Io, Policy};
use domain::ports::{
    Cause, DiscrepancyView, Entropy, PaymentGateway, PaymentView, Queries, Store, StoreError,
};
use domain::{
    Coupon, CouponId, Discount, DiscrepancyId, GatewayKey, GatewayOrderRef, IssuedCoupon, Money, OrderId,
    PaymentId, PointAccount, ProductId, Stock, Timestamp, UserId,
};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The adapters that an [`Application`] runs on.
#[derive(Clone)]
pub struct Adapters {
    /// The database, for orders.
    pub store: Arc<dyn Store>,
    /// Reads of buyers and operators.
    pub queries: Arc<dyn Queries>,
    /// The database on connections of its own, so that orders and settlement never starve each other.
    pub settlement_store: Arc<dyn Store>,
    /// Reads of settlement, on those connections.
    pub settlement_queries: Arc<dyn Queries>,
    /// Reads of health checks and metrics, on a connection of their own: a server under load is not unready by it.
    pub health_queries: Arc<dyn Queries>,
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
    orders: Ports,
    settlement: Ports,
    health_queries: Arc<dyn Queries>,
    policy: Arc<Policy>,
    tokens: CallbackTokens,
    ended: EndedOrders,
}

impl Application {
    /// Over these adapters and numbers.
    pub fn new(adapters: Adapters, policy: Policy, tokens: CallbackTokens) -> Self {
        let Adapters {
            store,
            queries,
            settlement_store,
            settlement_queries,
            health_queries,
            gateway,
            entropy,
        } = adapters;
        let ended = EndedOrders::default();
        let batches =
            Batches::new(&store, &settlement_store, policy.batch, policy.rules.clone(), Arc::clone(&ended));
        let woken = Arc::new(Notify::new());
        let orders = Ports { store, queries, gateway, entropy, batches, woken };
        let settlement = Ports { store: settlement_store, queries: settlement_queries, ..orders.clone() };
        Self { orders, settlement, health_queries, policy: Arc::new(policy), tokens, ended }
    }

    /// From now on `tell` hears of each order that ends in this process, as soon as that is stored; the first one
    /// who asks does.
    pub fn on_ended(&self, tell: impl Fn(OrderId) + Send + Sync + 'static) {
        if self.ended.set(Box::new(tell)).is_err() {
            tracing::debug!("somebody hears of ended orders already");
        }
    }

    /// Reads, for views.
    pub fn queries(&self) -> &dyn Queries {
        &*self.orders.queries
    }

    /// Reads, for health checks and metrics.
    pub fn health_queries(&self) -> &dyn Queries {
        &*self.health_queries
    }

    /// The numbers it runs by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn io(&self) -> Io {
        Io::new(self.orders.clone())
    }

    fn settlement_io(&self) -> Io {
        Io::new(self.settlement.clone())
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
            Ok(PlaceOrderOutcome::NotSent { .. }) => "not_sent",
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

    /// See [`callbacks::receive_callback`].
    ///
    /// # Errors
    /// [`ReceiveCallbackError`].
    pub async fn receive_callback(
        &self,
        token: &str,
        key: &GatewayKey,
    ) -> Result<PaymentId, ReceiveCallbackError> {
        callbacks::receive_callback(&mut self.settlement_io(), &self.tokens, token, key).await
    }

    /// See [`callbacks::receive_unproven_callback`].
    ///
    /// # Errors
    /// [`ReceiveCallbackError`].
    pub async fn receive_unproven_callback(
        &self,
        order_ref: GatewayOrderRef,
    ) -> Result<PaymentId, ReceiveCallbackError> {
        callbacks::receive_unproven_callback(&mut self.settlement_io(), order_ref).await
    }

    /// Takes up what callbacks have woken, until `stop` is cancelled: to be run once in each process that receives
    /// callbacks, in a task of its own.
    pub async fn take_up_callbacks(&self, stop: &CancellationToken) {
        let woken = Arc::clone(&self.settlement.woken);
        callbacks::take_up_woken(&|| self.settlement_io(), &self.policy, &woken, stop).await;
    }

    /// Asks the gateway now and settles, at most once in the policy's interval. A payment that has ended is asked about,
    /// too: what it finds there goes to the ledger.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(None)` when there is no such payment.
    pub async fn sync_payment(
        &self,
        payment_id: PaymentId,
        cause: Cause,
    ) -> Result<Option<Synced>, StoreError> {
        let mut io = self.settlement_io();
        let Some(before) = io.queries().payment(None, payment_id).await? else {
            return Ok(None);
        };
        if !before.record.payment.amounts().paid_amount().is_positive() {
            return Ok(Some(Synced { examined: Examined::NothingToAsk, payment: before }));
        }
        let interval = self.policy.sync_interval;
        let examined = examine::examine_one(&mut io, &self.policy, payment_id, interval, None, cause).await?;
        Ok(io.queries().payment(None, payment_id).await?.map(|payment| Synced { examined, payment }))
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
