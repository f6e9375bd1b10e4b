//! One open transaction: what holds its statements together. The statements themselves are in the modules of their
//! tables.

use crate::error::{Cause, Failure, Health, is_refusal_of_commit, unavailable};
use crate::session::Session;
use crate::{catalogue, keys, ledger, placing, points, settled};
use async_trait::async_trait;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use domain::placement::NewOrder;
use domain::ports::{CommitError, IdempotencyKey, PointEntry, StoreError, StoreTx, StoredAnswer};
use domain::settlement::Changes;
use domain::{
    Coupon, CouponId, Discount, DiscrepancyId, IssuedCoupon, Money, PointAccount, ProductId, Stock,
    Timestamp, UserId,
};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;
use tracing::Instrument;

/// The first thing that went wrong. From then on there is nothing to commit.
#[derive(Default)]
struct Poison(Mutex<Option<(StoreError, Health)>>);

impl Poison {
    /// Keeps the first error and returns it.
    fn record(&self, error: StoreError, health: Health) -> StoreError {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert((error, health)).0.clone()
    }

    fn first(&self) -> Option<(StoreError, Health)> {
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
            self.poison.record(StoreError::Other { what }, Health::Doubtful);
        }
    }
}

/// How a transaction ended, as the label `result`.
#[derive(Clone, Copy)]
pub(crate) enum Ended {
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
pub(crate) struct Timer {
    name: &'static str,
    begun: Instant,
    ended: Ended,
}

impl Timer {
    /// From now on.
    pub(crate) fn start(name: &'static str) -> Self {
        Self { name, begun: Instant::now(), ended: Ended::Dropped }
    }

    pub(crate) fn ended(&mut self, ended: Ended) {
        self.ended = ended;
    }
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
    pub(crate) fn new(session: Session, timer: Timer, now: Timestamp) -> Self {
        let span = tracing::debug_span!("transaction", name = timer.name);
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
            Err(Failure { cause: Cause::Store(error), health }) => {
                self.poison.record(error.clone(), health);
                Err(in_method(what, error))
            }
            Err(Failure { cause: Cause::Aborted, health }) => {
                // Of statements that travel together the one that really failed may be polled after this one. Let it
                // be first, so that the caller learns the reason.
                tokio::task::yield_now().await;
                let aborted = StoreError::Other { what: "an earlier statement failed".to_owned() };
                Err(in_method(what, self.poison.record(aborted, health)))
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

/// One line per method: its name, and which statements of which module it runs.
macro_rules! run {
    ($self:ident, $method:ident : $module:ident :: $function:ident ( $($argument:expr),* )) => {
        $self.run(stringify!($method), $module::$function($self.connection()?, $($argument),*)).await
    };
}

#[async_trait]
impl StoreTx for PgTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn commit(mut self: Box<Self>) -> Result<(), CommitError> {
        if let Some((first, _)) = self.poison.first() {
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
        // What is not known to be clean is closed, which has the same effect.
        if self.poison.first().is_some_and(|(_, health)| health != Health::Fit) {
            return;
        }
        self.session.roll_back().await;
    }

    async fn store_orders(&self, orders: &[NewOrder]) -> Result<(), StoreError> {
        run!(self, store_orders: placing::store(orders))
    }

    async fn store_changes(&self, changes: &[Changes]) -> Result<(), StoreError> {
        run!(self, store_changes: settled::store(changes))
    }

    async fn save_idempotent_answer(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        run!(self, save_idempotent_answer: keys::save_answers(&[(key, answer)]))
    }

    async fn lock_points(&self, user_id: UserId) -> Result<PointAccount, StoreError> {
        run!(self, lock_points: points::lock_one(user_id))
    }

    async fn save_points(&self, entry: &PointEntry) -> Result<(), StoreError> {
        run!(self, save_points: points::save(entry))
    }

    async fn insert_product(&self, name: &str, price: Money, stock: Stock) -> Result<ProductId, StoreError> {
        run!(self, insert_product: catalogue::insert_product(name, price, stock))
    }

    async fn set_stock(&self, id: ProductId, stock: Stock) -> Result<bool, StoreError> {
        run!(self, set_stock: catalogue::set_stock(id, stock))
    }

    async fn insert_coupon(
        &self,
        name: &str,
        discount: Discount,
        valid_until: Option<Timestamp>,
    ) -> Result<Coupon, StoreError> {
        run!(self, insert_coupon: catalogue::insert_coupon(name, discount, valid_until))
    }

    async fn find_coupon(&self, id: CouponId) -> Result<Option<Coupon>, StoreError> {
        run!(self, find_coupon: catalogue::find_coupon(id))
    }

    async fn insert_issued_coupon(
        &self,
        coupon_id: CouponId,
        user_id: UserId,
    ) -> Result<Option<IssuedCoupon>, StoreError> {
        run!(self, insert_issued_coupon: catalogue::insert_issued_coupon(coupon_id, user_id))
    }

    async fn resolve_discrepancy(
        &self,
        id: DiscrepancyId,
        resolution: &str,
        note: &str,
        actor: &str,
    ) -> Result<Option<bool>, StoreError> {
        run!(self, resolve_discrepancy: ledger::resolve(id, resolution, note, actor))
    }
}
