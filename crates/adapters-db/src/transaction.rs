//! One open transaction: what holds its statements together. The statements themselves are in the modules of their
//! tables.

use crate::error::{Failure, is_refusal_of_commit, unavailable};
use crate::session::Session;
use crate::{checks, goods, idempotency, orders, payments};
use async_trait::async_trait;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use domain::ports::{
    Claim, ClaimOptions, CommitError, CouponHolding, IdempotencyClaim, IdempotencyKey, IdempotencyRecord,
    NewDiscrepancy, NewOrderIds, NewPayment, NextCheck, PaymentEvent, PaymentRecord, PointEntry,
    ProductForSale, StockEntry, StoreError, StoreTx, StoredAnswer, Versioned,
};
use domain::{
    Coupon, CouponId, Discount, DiscrepancyId, GatewayKey, IssuedCoupon, IssuedCouponId, Money, Order,
    OrderId, Payment, PaymentId, PointAccount, ProductId, Stock, Timestamp, UserId,
};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument;

/// The first thing that went wrong. From then on there is nothing to commit.
#[derive(Default)]
struct Poison(Mutex<Option<StoreError>>);

impl Poison {
    /// Keeps the first error and returns it.
    fn record(&self, error: StoreError) -> StoreError {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error).clone()
    }

    fn first(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A statement under way. Dropped before its answer came, it poisons: nobody knows whether it took effect.
struct UnderWay<'a> {
    poison: &'a Poison,
    what: &'static str,
    answered: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let what = format!("{}: abandoned before its answer", self.what);
            self.poison.record(StoreError::Other { what });
        }
    }
}

/// How a transaction ended, as the label `result`.
#[derive(Clone, Copy)]
enum Ended {
    Committed,
    RolledBack,
    Unknown,
    Dropped,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Unknown => "unknown",
            Self::Dropped => "dropped",
        }
    }
}

/// Its time from begin to its end goes to the histogram `database_transaction_seconds{name,result}`.
struct Timer {
    name: &'static str,
    begun: Instant,
    ended: Ended,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let elapsed = self.begun.elapsed();
        let result = self.ended.as_str();
        metrics::histogram!("database_transaction_seconds", "name" => self.name, "result" => result)
            .record(elapsed.as_secs_f64());
        tracing::trace!(transaction = self.name, result, ?elapsed, "transaction ended");
    }
}

/// An open transaction.
pub(crate) struct PgTx {
    session: Session,
    now: Timestamp,
    poison: Poison,
    timer: Timer,
    span: tracing::Span,
}

impl PgTx {
    pub(crate) fn new(session: Session, name: &'static str, now: Timestamp) -> Self {
        let timer = Timer { name, begun: Instant::now(), ended: Ended::Dropped };
        let span = tracing::debug_span!("transaction", name);
        Self { session, now, poison: Poison::default(), timer, span }
    }

    fn connection(&self) -> Result<&AsyncPgConnection, StoreError> {
        self.session.connection()
    }

    /// Runs the statements of one method. Its failure, or its being dropped, poisons the transaction.
    async fn run<T, F>(&self, what: &'static str, work: F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut under_way = UnderWay { poison: &self.poison, what, answered: false };
        let result = self.session.answer(work).instrument(self.span.clone()).await;
        under_way.answered = true;
        match result {
            Ok(value) => Ok(value),
            Err(Failure::Store(error)) => {
                self.poison.record(error.clone());
                Err(in_method(what, error))
            }
            Err(Failure::Aborted) => {
                // Of statements that travel together the one that really failed may be polled after this one. Let it
                // be first, so that the caller learns the reason.
                tokio::task::yield_now().await;
                let aborted = StoreError::Other { what: "an earlier statement failed".to_owned() };
                Err(in_method(what, self.poison.record(aborted)))
            }
        }
    }
}

/// A conflict already names what was raced for; of all else it helps to know which method it was.
fn in_method(method: &'static str, error: StoreError) -> StoreError {
    let at = |what: String| format!("{method}: {what}");
    match error {
        StoreError::Conflict { what } => StoreError::Conflict { what },
        StoreError::Unavailable { what } => StoreError::Unavailable { what: at(what) },
        StoreError::Corrupt { what } => StoreError::Corrupt { what: at(what) },
        StoreError::Other { what } => StoreError::Other { what: at(what) },
    }
}

/// One line per method: which statements of which module it runs.
macro_rules! run {
    ($self:ident, $module:ident :: $method:ident ( $($argument:expr),* )) => {
        $self.run(stringify!($method), $module::$method($self.connection()?, $($argument),*)).await
    };
}

#[async_trait]
impl StoreTx for PgTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn commit(mut self: Box<Self>) -> Result<(), CommitError> {
        if let Some(first) = self.poison.first() {
            self.rollback().await;
            return Err(CommitError::RolledBack(first));
        }
        if self.session.is_closed() {
            self.timer.ended = Ended::RolledBack;
            let lost = unavailable("the connection was lost before the commit");
            return Err(CommitError::RolledBack(lost));
        }
        // If this future is dropped here, COMMIT may have been sent.
        self.timer.ended = Ended::Unknown;
        let mut connection = self.connection().map_err(CommitError::RolledBack)?;
        let refused = async {
            match connection.batch_execute("COMMIT").await {
                Ok(()) => Ok(None),
                Err(error) if is_refusal_of_commit(&error) => Ok(Some(Failure::from(error))),
                Err(error) => Err(error),
            }
        };
        match self.session.answer(refused).await {
            Ok(None) => {
                self.timer.ended = Ended::Committed;
                self.session.release();
                Ok(())
            }
            Ok(Some(refusal)) => {
                self.timer.ended = Ended::RolledBack;
                Err(CommitError::RolledBack(refusal.into_error()))
            }
            Err(_lost) => Err(CommitError::OutcomeUnknown),
        }
    }

    async fn rollback(mut self: Box<Self>) {
        self.timer.ended = Ended::RolledBack;
        let Ok(mut connection) = self.connection() else { return };
        if self.session.answer(connection.batch_execute("ROLLBACK")).await.is_ok() {
            self.session.release();
        }
        // Else the session closes its connection, which has the same effect.
    }

    async fn next_order_ids(&self) -> Result<NewOrderIds, StoreError> {
        run!(self, orders::next_order_ids())
    }

    async fn lock_products(&self, ids: &[ProductId]) -> Result<Vec<ProductForSale>, StoreError> {
        run!(self, goods::lock_products(ids))
    }

    async fn move_stock(&self, entries: &[StockEntry]) -> Result<(), StoreError> {
        run!(self, goods::move_stock(entries))
    }

    async fn lock_points(&self, user_id: UserId) -> Result<PointAccount, StoreError> {
        run!(self, goods::lock_points(user_id))
    }

    async fn save_points(&self, entry: &PointEntry) -> Result<(), StoreError> {
        run!(self, goods::save_points(entry))
    }

    async fn find_coupon_holding(
        &self,
        id: IssuedCouponId,
    ) -> Result<Option<Versioned<CouponHolding>>, StoreError> {
        run!(self, goods::find_coupon_holding(id))
    }

    async fn save_issued_coupon(
        &self,
        coupon: &Versioned<IssuedCoupon>,
        payment_id: PaymentId,
    ) -> Result<(), StoreError> {
        run!(self, goods::save_issued_coupon(coupon, payment_id))
    }

    async fn insert_order(&self, order: &Order) -> Result<(), StoreError> {
        run!(self, orders::insert_order(order))
    }

    async fn insert_payment(&self, payment: &NewPayment, history: &[PaymentEvent]) -> Result<(), StoreError> {
        run!(self, payments::insert_payment(payment, history, self.now))
    }

    async fn claim_idempotency(
        &self,
        claim: &IdempotencyClaim,
    ) -> Result<Option<IdempotencyRecord>, StoreError> {
        run!(self, idempotency::claim_idempotency(claim))
    }

    async fn save_idempotent_answer(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        run!(self, idempotency::save_idempotent_answer(key, answer))
    }

    async fn lock_payment(&self, id: PaymentId) -> Result<Option<PaymentRecord>, StoreError> {
        run!(self, payments::lock_payment(id))
    }

    async fn save_payment(
        &self,
        payment: &Versioned<Payment>,
        history: &[PaymentEvent],
    ) -> Result<(), StoreError> {
        run!(self, payments::save_payment(payment, history))
    }

    async fn keys_owned_elsewhere(
        &self,
        payment_id: PaymentId,
        keys: &[GatewayKey],
    ) -> Result<BTreeSet<GatewayKey>, StoreError> {
        run!(self, payments::keys_owned_elsewhere(payment_id, keys))
    }

    async fn lock_order(&self, id: OrderId) -> Result<Option<Versioned<Order>>, StoreError> {
        run!(self, orders::lock_order(id))
    }

    async fn save_order(&self, order: &Versioned<Order>) -> Result<(), StoreError> {
        run!(self, orders::save_order(order))
    }

    async fn record_discrepancy(&self, row: &NewDiscrepancy) -> Result<Option<DiscrepancyId>, StoreError> {
        run!(self, payments::record_discrepancy(row))
    }

    async fn resolve_discrepancy(
        &self,
        id: DiscrepancyId,
        resolution: &str,
        note: &str,
        actor: &str,
    ) -> Result<Option<bool>, StoreError> {
        run!(self, payments::resolve_discrepancy(id, resolution, note, actor))
    }

    async fn find_payment_by_token_hash(&self, hash: &[u8; 32]) -> Result<Option<PaymentId>, StoreError> {
        run!(self, payments::find_payment_by_token_hash(hash))
    }

    async fn record_callback(&self, payment_id: PaymentId, key: &GatewayKey) -> Result<(), StoreError> {
        run!(self, checks::record_callback(payment_id, key))
    }

    async fn wake(&self, payment_id: PaymentId) -> Result<(), StoreError> {
        run!(self, checks::wake(payment_id))
    }

    async fn claim_due(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
        run!(self, checks::claim_due(options))
    }

    async fn claim_payment(
        &self,
        id: PaymentId,
        lease: Duration,
        min_interval: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        run!(self, checks::claim_payment(id, lease, min_interval))
    }

    async fn finish_claim(
        &self,
        claim: &Claim,
        next: &NextCheck,
        hints_done: bool,
    ) -> Result<bool, StoreError> {
        run!(self, checks::finish_claim(claim, next, hints_done))
    }

    async fn park(&self, claim: &Claim) -> Result<(), StoreError> {
        run!(self, checks::park(claim))
    }

    async fn want_watch(&self, payment_id: PaymentId) -> Result<(), StoreError> {
        run!(self, checks::want_watch(payment_id))
    }

    async fn schedule_watch(
        &self,
        payment_id: PaymentId,
        next: Option<(u32, Duration)>,
    ) -> Result<(), StoreError> {
        run!(self, checks::schedule_watch(payment_id, next))
    }

    async fn insert_product(&self, name: &str, price: Money, stock: Stock) -> Result<ProductId, StoreError> {
        run!(self, goods::insert_product(name, price, stock))
    }

    async fn set_stock(&self, id: ProductId, stock: Stock) -> Result<bool, StoreError> {
        run!(self, goods::set_stock(id, stock))
    }

    async fn insert_coupon(
        &self,
        name: &str,
        discount: Discount,
        valid_until: Option<Timestamp>,
    ) -> Result<Coupon, StoreError> {
        run!(self, goods::insert_coupon(name, discount, valid_until))
    }

    async fn find_coupon(&self, id: CouponId) -> Result<Option<Coupon>, StoreError> {
        run!(self, goods::find_coupon(id))
    }

    async fn insert_issued_coupon(
        &self,
        coupon_id: CouponId,
        user_id: UserId,
    ) -> Result<Option<IssuedCoupon>, StoreError> {
        run!(self, goods::insert_issued_coupon(coupon_id, user_id))
    }
}
