//! [`Queries`] on [`PgStore`]: each read takes a connection for as long as it lasts.

use crate::store::PgStore;
use crate::{keys, readiness, reading, worklist};
use async_trait::async_trait;
use domain::ports::{
    AdminPaymentFilter, Cause, DiscrepancyStatus, DiscrepancyView, IdempotencyKey, IdempotencyRecord,
    IssuedCouponView, OrderCursor, OrderView, PaymentRecord, PaymentStatistics, PaymentView, ProductView,
    Queries, RecentEvent, StoreError, Worklist,
};
use domain::{
    DiscrepancyId, GatewayKey, MerchantId, Money, OrderId, OrderStatus, PaymentId, ProductId, Timestamp,
    UserId,
};
use futures_util::FutureExt;
use std::time::Duration;

/// Runs `module::function(connection, arguments)` on a connection of the pool.
macro_rules! read {
    ($self:ident, $module:ident :: $function:ident ( $($argument:ident),* )) => {
        $self
            .read(&($($argument,)*), |connection, &($($argument,)*)| {
                $module::$function(connection, $($argument),*).boxed()
            })
            .await
    };
}

#[async_trait]
impl Queries for PgStore {
    async fn ready(&self) -> Result<(), StoreError> {
        let versions = self.migrations();
        read!(self, readiness::ready(versions))
    }

    async fn order(&self, user_id: Option<UserId>, id: OrderId) -> Result<Option<OrderView>, StoreError> {
        read!(self, reading::order(user_id, id))
    }

    async fn orders(
        &self,
        user_id: UserId,
        status: Option<OrderStatus>,
        after: Option<OrderCursor>,
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        read!(self, reading::orders(user_id, status, after, limit))
    }

    async fn payment(
        &self,
        user_id: Option<UserId>,
        id: PaymentId,
    ) -> Result<Option<PaymentView>, StoreError> {
        read!(self, reading::payment(user_id, id))
    }

    async fn payments(&self, filter: &AdminPaymentFilter) -> Result<Vec<PaymentRecord>, StoreError> {
        read!(self, reading::payments(filter))
    }

    async fn idempotency(&self, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError> {
        read!(self, keys::record(key))
    }

    async fn products(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<ProductView>, StoreError> {
        read!(self, reading::products(after, limit))
    }

    async fn product(&self, id: ProductId) -> Result<Option<ProductView>, StoreError> {
        read!(self, reading::product(id))
    }

    async fn issued_coupons(&self, user_id: UserId) -> Result<Vec<IssuedCouponView>, StoreError> {
        read!(self, reading::issued_coupons(user_id))
    }

    async fn point_balance(&self, user_id: UserId) -> Result<Money, StoreError> {
        read!(self, reading::point_balance(user_id))
    }

    async fn discrepancies(
        &self,
        status: Option<DiscrepancyStatus>,
        before: Option<DiscrepancyId>,
        limit: u32,
    ) -> Result<Vec<DiscrepancyView>, StoreError> {
        read!(self, reading::discrepancies(status, before, limit))
    }

    async fn discrepancy(&self, id: DiscrepancyId) -> Result<Option<DiscrepancyView>, StoreError> {
        read!(self, reading::discrepancy(id))
    }

    async fn discrepancies_of(&self, id: PaymentId) -> Result<Vec<DiscrepancyView>, StoreError> {
        read!(self, reading::discrepancies_of(id))
    }

    async fn worklist(&self, limit: u32) -> Result<Worklist, StoreError> {
        read!(self, worklist::worklist(limit))
    }

    async fn recent_events(&self, cause: Cause, limit: u32) -> Result<Vec<RecentEvent>, StoreError> {
        read!(self, worklist::recent_events(cause, limit))
    }

    async fn statistics(&self) -> Result<PaymentStatistics, StoreError> {
        read!(self, reading::statistics())
    }

    async fn changed_orders(
        &self,
        within: Duration,
        limit: u32,
    ) -> Result<Vec<(OrderId, Timestamp)>, StoreError> {
        read!(self, reading::changed_orders(within, limit))
    }

    async fn last_paid_key(&self) -> Result<Option<(MerchantId, GatewayKey)>, StoreError> {
        read!(self, reading::last_paid_key())
    }
}
