//! The database: what a use-case needs is loaded at once, locked, and what it decides is stored at once.

use super::records::{CallbackNote, Claim, ClaimOptions, IdempotencyKey, PointEntry, StoredAnswer};
use crate::placement::{NewOrder, Placing, PlacingNeeds};
use crate::settlement::{Changes, Settling, SettlingNeeds};
use crate::{
    Coupon, CouponId, Discount, DiscrepancyId, IssuedCoupon, Money, OrderId, PaymentId, PointAccount,
    ProductId, Stock, Timestamp, UserId,
};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another transaction was first: a version moved, a unique value is taken, a deadlock or a serialization failure
    /// was broken. Nothing of this transaction stays; it may be tried again.
    #[error("lost a race in the database ({what})")]
    Conflict {
        /// The constraint, version or SQLSTATE.
        what: String,
    },
    /// The database is out of reach or overloaded, or a lock did not come in time. Whether a call that commits by itself
    /// took effect is not known.
    #[error("the database is out of reach ({what})")]
    Unavailable {
        /// What was waited for.
        what: String,
    },
    /// A stored row breaks a rule of the domain.
    #[error("a stored row is not valid ({what})")]
    Corrupt {
        /// Which row, and what is wrong.
        what: String,
    },
    /// Anything else: a defect.
    #[error("the database refused a statement ({what})")]
    Other {
        /// What it said.
        what: String,
    },
}

/// Why a commit did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing was stored.
    #[error("the transaction was rolled back")]
    RolledBack(#[source] StoreError),
    /// The connection was lost while COMMIT was under way: read again before deciding (spec 01 section 2).
    #[error("whether the transaction was stored is not known")]
    OutcomeUnknown,
}

/// The database.
///
/// Rows are locked in one global order over a whole batch, by every method: payments ascending, their check rows
/// ascending, products ascending, points ascending. (Orders change only under their payment's lock; coupons are not locked
/// but versioned.) What an opening returns was read after the locks were got, never beside them: a subquery inside a
/// locking statement would still see the moment before the wait.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Store: Send + Sync {
    /// Opens a transaction for [`StoreTx`]'s single changes. `name` is its label in metrics and logs.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no connection comes in time.
    async fn begin(&self, name: &'static str) -> Result<Box<dyn StoreTx>, StoreError>;

    /// Opens a transaction and brings all that these orders need, stock and points locked. An Idempotency-Key that another
    /// transaction is taking is not waited for ([`KeyState::BeingTaken`](crate::placement::KeyState::BeingTaken)).
    ///
    /// # Errors
    /// [`StoreError`]; nothing is open then.
    async fn open_placing(&self, orders: &[PlacingNeeds]) -> Result<(Box<dyn StoreTx>, Placing), StoreError>;

    /// Opens a transaction and brings these payments, locked, with all that settling them needs. Those that don't exist are
    /// not in the result, nor are those with nothing on the card.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is open then.
    async fn open_settling(
        &self,
        payments: &[SettlingNeeds],
    ) -> Result<(Box<dyn StoreTx>, Settling), StoreError>;

    /// PENDING -> IN_PROGRESS with a row of history each, in a transaction of its own that is committed when this returns. Gives
    /// back those that were started by this call; the rest have been moved by somebody else.
    ///
    /// # Errors
    /// [`StoreError`]; whether any were started is not known then.
    async fn start_payments(&self, payments: &[PaymentId]) -> Result<BTreeSet<PaymentId>, StoreError>;

    /// Writes down what callbacks said and wakes their payments, in a transaction of its own that is committed when this
    /// returns. The payment of each note, in their order; `None`: nobody's token or order. The same hint twice makes one row
    /// (to be looked up again); the key by which a payment was PAID says nothing new and wakes nobody; a note without
    /// proof wakes only a payment that has not ended.
    ///
    /// # Errors
    /// [`StoreError`]; whether they were written down is not known then.
    async fn note_callbacks(&self, notes: &[CallbackNote]) -> Result<Vec<Option<PaymentId>>, StoreError>;

    /// Claims payments, in a transaction of its own that is committed when this returns; skips those that others work on.
    /// Longest due first. A claim takes the wake-up with it; one that was never ended makes its payment due again when
    /// the lease is over.
    ///
    /// # Errors
    /// [`StoreError`]; what may have been claimed is due again after the lease.
    async fn claim(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError>;

    /// Tells those who wait in other processes that these orders ended. It may be lost: they look by themselves, too.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn announce_ended(&self, orders: &[OrderId]) -> Result<(), StoreError>;
}

/// One open transaction. Dropped without [`StoreTx::commit`] it leaves nothing behind, and its locks are freed. Once a
/// method failed, the transaction is poisoned: commit refuses.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StoreTx: Send + Sync {
    /// The transaction's moment, by the database's clock.
    fn now(&self) -> Timestamp;

    /// Makes it durable.
    ///
    /// # Errors
    /// [`CommitError`].
    async fn commit(self: Box<Self>) -> Result<(), CommitError>;

    /// Takes it back and frees its locks at once.
    async fn rollback(self: Box<Self>);

    /// Stores orders that were decided upon [`Store::open_placing`] in this transaction, with all they take.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a coupon's version moved or a unique value is taken.
    async fn store_orders(&self, orders: &[NewOrder]) -> Result<(), StoreError>;

    /// Stores what became of payments that [`Store::open_settling`] loaded in this transaction; each payment at most once,
    /// a buyer's points in the order in which they move.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a version moved, when another payment owns a key, or when something would be given
    /// back a second time.
    async fn store_changes(&self, changes: &[Changes]) -> Result<(), StoreError>;

    /// Stores the answer that the key gives from now on; only the first one stays.
    async fn save_idempotent_answer(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError>;

    /// The buyer's points, locked; a buyer without an account has one with nothing in it.
    async fn lock_points(&self, user_id: UserId) -> Result<PointAccount, StoreError>;

    /// Stores an account that was locked here and writes the point ledger.
    async fn save_points(&self, entry: &PointEntry) -> Result<(), StoreError>;

    /// Adds a product.
    async fn insert_product(&self, name: &str, price: Money, stock: Stock) -> Result<ProductId, StoreError>;

    /// Sets a product's stock to what was counted; false when there is no such product. The difference goes to the
    /// stock ledger.
    async fn set_stock(&self, id: ProductId, stock: Stock) -> Result<bool, StoreError>;

    /// Adds a coupon.
    async fn insert_coupon(
        &self,
        name: &str,
        discount: Discount,
        valid_until: Option<Timestamp>,
    ) -> Result<Coupon, StoreError>;

    /// A coupon.
    async fn find_coupon(&self, id: CouponId) -> Result<Option<Coupon>, StoreError>;

    /// Issues a coupon to a buyer; `None` when the buyer has one already.
    async fn insert_issued_coupon(
        &self,
        coupon_id: CouponId,
        user_id: UserId,
    ) -> Result<Option<IssuedCoupon>, StoreError>;

    /// Closes a ledger row. False when it was closed before; then nothing changes. `None`: there is no such row.
    async fn resolve_discrepancy(
        &self,
        id: DiscrepancyId,
        resolution: &str,
        note: &str,
        actor: &str,
    ) -> Result<Option<bool>, StoreError>;
}
