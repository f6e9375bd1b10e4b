//! Reads: each a snapshot of what is committed.

use super::placing::idempotency_record;
use super::{FakeStore, OrderRow, PaymentRow, Tables};
use crate::faults::Site;
use async_trait::async_trait;
use domain::ports::{
    AGE_BOUNDS, AdminPaymentFilter, Cause, DiscrepancyStatus, DiscrepancyView, IdempotencyKey,
    IdempotencyRecord, IssuedCouponView, OrderCursor, OrderView, PaymentRecord, PaymentStatistics,
    PaymentView, ProductView, Queries, RecentEvent, StoreError, UpcomingCheck, Worklist,
};
use domain::settlement::{Check, DiscrepancyKind};
use domain::{
    DiscrepancyId, GatewayKey, MerchantId, Money, OrderId, OrderStatus, PaymentId, PaymentStatus, ProductId,
    Timestamp, UserId,
};
use std::time::Duration;

impl FakeStore {
    async fn query<T>(
        &self,
        call: &'static str,
        look: impl FnOnce(&Tables, Timestamp) -> T + Send,
    ) -> Result<T, StoreError>
    where
        T: Send,
    {
        let site = Site::outside(call);
        self.before(site).await?;
        let _permit = self.connection().await?;
        let value = look(&self.shared.state().tables, self.shared.clock.now());
        self.after(site).await?;
        Ok(value)
    }
}

fn order_view(tables: &Tables, row: &OrderRow) -> Option<OrderView> {
    let payment = tables.payment_of(row.order.id())?.record.clone();
    Some(OrderView { order: row.order.clone(), placed_at: row.placed_at, payment })
}

fn discrepancy_view(tables: &Tables, id: DiscrepancyId) -> Option<DiscrepancyView> {
    let row = tables.discrepancies.get(&id)?;
    let payment = tables.payments.get(&row.payment_id)?;
    let resolved = row.resolved.as_ref();
    Some(DiscrepancyView {
        id,
        kind: row.discrepancy.kind,
        status: row.status,
        payment_id: row.payment_id,
        order_id: payment.record.payment.order_id(),
        key: row.discrepancy.key.clone(),
        amount: row.discrepancy.amount,
        evidence: row.discrepancy.evidence.clone(),
        found_at: row.found_at,
        resolution: resolved.map(|resolved| resolved.resolution.clone()),
        note: resolved.map(|resolved| resolved.note.clone()),
        resolved_by: resolved.map(|resolved| resolved.by.clone()),
        resolved_at: resolved.map(|resolved| resolved.at),
    })
}

fn limited(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn statistics(tables: &Tables, now: Timestamp) -> PaymentStatistics {
    let waiting: Vec<_> =
        tables.payments.values().filter(|row| !row.record.payment.status().is_terminal()).collect();
    let oldest = waiting.iter().map(|row| now - row.record.created_at).max();
    let open = |kind| {
        let rows = tables.discrepancies.values();
        rows.filter(|row| row.status == DiscrepancyStatus::Open && row.discrepancy.kind == kind).count()
    };
    let watched = tables.checks.iter().filter(|(id, check)| {
        let ended = |row: &PaymentRow| row.record.payment.status().is_terminal();
        check.due_at.is_some() && tables.payments.get(id).is_some_and(ended)
    });
    PaymentStatistics {
        unsettled: waiting.len() as u64,
        oldest_unsettled: oldest.map(|age| age.unsigned_abs()),
        open_discrepancies: DiscrepancyKind::ALL.map(|kind| (kind, open(kind) as u64)).to_vec(),
        watched: watched.count() as u64,
    }
}

fn worklist(tables: &Tables, now: Timestamp, limit: u32) -> Worklist {
    let mut unsettled_by_age = [0_u64; AGE_BOUNDS.len() + 1];
    let mut checks = Vec::new();
    for (id, row) in &tables.payments {
        let check = tables.checks.get(id).copied().unwrap_or_default();
        let payment = &row.record.payment;
        let due_at = check.next_at();
        if !payment.status().is_terminal() {
            let age = (now - row.record.created_at).unsigned_abs();
            let bucket = AGE_BOUNDS.iter().filter(|bound| age >= **bound).count();
            unsettled_by_age.iter_mut().skip(bucket).take(1).for_each(|number| *number += 1);
        } else if due_at.is_none() && check.parked_at.is_none() {
            continue;
        }
        checks.push(UpcomingCheck {
            payment_id: *id,
            order_id: payment.order_id(),
            status: payment.status(),
            paid_amount: payment.amounts().paid_amount(),
            created_at: row.record.created_at,
            due_at,
            leased_until: check.lease.map(|lease| lease.until).filter(|until| *until > now),
            failures: check.failures,
            parked: check.parked_at.is_some(),
        });
    }
    checks.sort_by_key(|check| (!check.parked, check.due_at.is_none(), check.due_at, check.payment_id));
    checks.truncate(limited(limit));
    Worklist { now, unsettled_by_age, checks }
}

#[async_trait]
impl Queries for FakeStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.query("queries.ready", |_, _| ()).await
    }

    async fn order(&self, user_id: Option<UserId>, id: OrderId) -> Result<Option<OrderView>, StoreError> {
        self.query("queries.order", |tables, _| {
            let row = tables.orders.get(&id)?;
            let visible = user_id.is_none_or(|user_id| row.order.user_id() == user_id);
            visible.then(|| order_view(tables, row)).flatten()
        })
        .await
    }

    async fn orders(
        &self,
        user_id: UserId,
        status: Option<OrderStatus>,
        after: Option<OrderCursor>,
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        self.query("queries.orders", |tables, _| {
            let rows = tables.orders.values().rev();
            rows.filter(|row| row.order.user_id() == user_id)
                .filter(|row| status.is_none_or(|status| row.order.status() == status))
                .filter(|row| after.is_none_or(|OrderCursor(after)| row.order.id() < after))
                .filter_map(|row| order_view(tables, row))
                .take(limited(limit))
                .collect()
        })
        .await
    }

    async fn payment(
        &self,
        user_id: Option<UserId>,
        id: PaymentId,
    ) -> Result<Option<PaymentView>, StoreError> {
        self.query("queries.payment", |tables, _| {
            let row = tables.payments.get(&id)?;
            if user_id.is_some_and(|user_id| row.record.payment.user_id() != user_id) {
                return None;
            }
            let check = tables.checks.get(&id);
            Some(PaymentView {
                record: row.record.clone(),
                history: tables.history(id).cloned().collect(),
                next_check_at: check.and_then(Check::next_at),
                parked: check.is_some_and(|check| check.parked_at.is_some()),
            })
        })
        .await
    }

    async fn payments(&self, filter: &AdminPaymentFilter) -> Result<Vec<PaymentRecord>, StoreError> {
        self.query("queries.payments", |tables, now| {
            let rows = tables.payments.iter().rev();
            rows.filter(|(id, _)| filter.before.is_none_or(|before| **id < before))
                .map(|(_, row)| row.record.clone())
                .filter(|row| filter.status.is_none_or(|status| row.payment.status() == status))
                .filter(|row| {
                    filter.older_than.is_none_or(|age| crate::clock::later(row.created_at, age) < now)
                })
                .take(limited(filter.limit))
                .collect()
        })
        .await
    }

    async fn idempotency(&self, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError> {
        self.query("queries.idempotency", |tables, now| {
            let row = tables.idempotency.get(key).filter(|row| row.expires_at > now)?;
            Some(idempotency_record(row, tables.payment_of(row.order_id), now))
        })
        .await
    }

    async fn products(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<ProductView>, StoreError> {
        self.query("queries.products", |tables, _| {
            let rows = tables.products.keys().filter(|id| after.is_none_or(|after| **id > after));
            rows.filter_map(|id| product(tables, *id)).take(limited(limit)).collect()
        })
        .await
    }

    async fn product(&self, id: ProductId) -> Result<Option<ProductView>, StoreError> {
        self.query("queries.product", |tables, _| product(tables, id)).await
    }

    async fn issued_coupons(&self, user_id: UserId) -> Result<Vec<IssuedCouponView>, StoreError> {
        self.query("queries.issued_coupons", |tables, _| {
            let rows = tables.issued_coupons.values().rev();
            rows.filter(|row| row.issued.user_id == user_id)
                .filter_map(|row| {
                    let coupon = tables.coupons.get(&row.issued.coupon_id)?.clone();
                    Some(IssuedCouponView { issued: row.issued, coupon })
                })
                .collect()
        })
        .await
    }

    async fn point_balance(&self, user_id: UserId) -> Result<Money, StoreError> {
        self.query("queries.point_balance", |tables, _| {
            tables.points.get(&user_id).copied().unwrap_or(Money::ZERO)
        })
        .await
    }

    async fn discrepancies(
        &self,
        status: Option<DiscrepancyStatus>,
        before: Option<DiscrepancyId>,
        limit: u32,
    ) -> Result<Vec<DiscrepancyView>, StoreError> {
        self.query("queries.discrepancies", |tables, _| {
            let rows = tables.discrepancies.iter().rev();
            rows.filter(|(id, _)| before.is_none_or(|before| **id < before))
                .filter(|(_, row)| status.is_none_or(|status| row.status == status))
                .filter_map(|(id, _)| discrepancy_view(tables, *id))
                .take(limited(limit))
                .collect()
        })
        .await
    }

    async fn discrepancy(&self, id: DiscrepancyId) -> Result<Option<DiscrepancyView>, StoreError> {
        self.query("queries.discrepancy", |tables, _| discrepancy_view(tables, id)).await
    }

    async fn discrepancies_of(&self, id: PaymentId) -> Result<Vec<DiscrepancyView>, StoreError> {
        self.query("queries.discrepancies_of", |tables, _| {
            let rows = tables.discrepancies.iter().rev().filter(|(_, row)| row.payment_id == id);
            rows.filter_map(|(id, _)| discrepancy_view(tables, *id)).take(100).collect()
        })
        .await
    }

    async fn worklist(&self, limit: u32) -> Result<Worklist, StoreError> {
        self.query("queries.worklist", |tables, now| worklist(tables, now, limit)).await
    }

    async fn recent_events(&self, cause: Cause, limit: u32) -> Result<Vec<RecentEvent>, StoreError> {
        self.query("queries.recent_events", |tables, _| {
            let mut events: Vec<_> = tables
                .payment_events
                .iter()
                .map(|((payment_id, _), event)| RecentEvent { payment_id: *payment_id, event: event.clone() })
                .collect();
            events.sort_by_key(|recent| std::cmp::Reverse(recent.event.sequence));
            events.truncate(1000);
            events.retain(|recent| recent.event.cause == cause);
            events.truncate(limited(limit));
            events
        })
        .await
    }

    async fn statistics(&self) -> Result<PaymentStatistics, StoreError> {
        self.query("queries.statistics", statistics).await
    }

    async fn changed_orders(
        &self,
        within: Duration,
        limit: u32,
    ) -> Result<Vec<(OrderId, Timestamp)>, StoreError> {
        self.query("queries.changed_orders", |tables, now| {
            let changed = tables.payments.values().filter(|row| row.record.updated_at > now - within);
            let changed = changed.map(|row| (row.record.payment.order_id(), row.record.updated_at));
            changed.take(limited(limit)).collect()
        })
        .await
    }

    async fn last_paid_key(&self) -> Result<Option<(MerchantId, GatewayKey)>, StoreError> {
        self.query("queries.last_paid_key", |tables, _| {
            let paid = tables.payments.iter().filter(|(_, row)| {
                let payment = &row.record.payment;
                payment.status() == PaymentStatus::Paid && payment.amounts().paid_amount().is_positive()
            });
            let (_, last) = paid.max_by_key(|(id, row)| (row.record.updated_at, **id))?;
            Some((last.record.merchant.clone(), last.record.payment.key()?.clone()))
        })
        .await
    }
}

fn product(tables: &Tables, id: ProductId) -> Option<ProductView> {
    let row = tables.products.get(&id)?;
    let stock = *tables.stock.get(&id)?;
    Some(ProductView { id, name: row.name.clone(), price: row.price, stock })
}
