//! The database: transactions that are named, and what can be done in one.

use super::records::{
    Claim, ClaimOptions, CouponHolding, IdempotencyClaim, IdempotencyKey, IdempotencyRecord, NewDiscrepancy,
    NewOrderIds, NewPayment, NextCheck, PaymentEvent, PaymentRecord, PointEntry, ProductForSale, StockEntry,
    StoredAnswer, Versioned,
};
use crate::{
    Coupon, CouponId, Discount, DiscrepancyId, GatewayKey, IssuedCoupon, IssuedCouponId, Money, Order,
    OrderId, Payment, PaymentId, PointAccount, ProductId, Stock, Timestamp, UserId,
};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::time::Duration;

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
    /// The database is out of reach or overloaded, or a lock did not come in time. Whether an autocommit statement
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
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Store: Send + Sync {
    /// Opens a transaction. `name` is its label in metrics and logs.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no connection comes in time.
    async fn begin(&self, name: &'static str) -> Result<Box<dyn StoreTx>, StoreError>;
}

/// One open transaction. Dropped without [`StoreTx::commit`] it leaves nothing behind, and its locks are freed.
///
/// Once a method failed, the transaction is poisoned: commit refuses. Methods take `&self`, so that independent ones
/// can travel together (`try_join!`); do not derive a lock order from that. Rows are locked in one global order,
/// placing and compensating alike: payment, order, products ascending, points. (Coupons are not locked but versioned.)
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

    // ---- placing

    /// Ids for a new order. They are not given out again, even when the transaction is rolled back.
    async fn next_order_ids(&self) -> Result<NewOrderIds, StoreError>;

    /// The products that exist, of `ids`, ascending; each one's stock is locked until the end.
    async fn lock_products(&self, ids: &[ProductId]) -> Result<Vec<ProductForSale>, StoreError>;

    /// Moves stock and writes the stock ledger. A reserve that would fall below zero, or a second restore for the same
    /// payment and product, is a [`StoreError::Conflict`].
    async fn move_stock(&self, entries: &[StockEntry]) -> Result<(), StoreError>;

    /// The buyer's points, locked; a buyer without an account has one with nothing in it.
    async fn lock_points(&self, user_id: UserId) -> Result<PointAccount, StoreError>;

    /// Stores an account that was locked here and writes the point ledger. A second restore for the same payment is a
    /// [`StoreError::Conflict`].
    async fn save_points(&self, entry: &PointEntry) -> Result<(), StoreError>;

    /// An issued coupon with its terms, not locked.
    async fn find_coupon_holding(
        &self,
        id: IssuedCouponId,
    ) -> Result<Option<Versioned<CouponHolding>>, StoreError>;

    /// Stores a coupon's new state, and which payment used it or gave it back, if its version is still the same; else
    /// [`StoreError::Conflict`].
    async fn save_issued_coupon(
        &self,
        coupon: &Versioned<IssuedCoupon>,
        payment_id: PaymentId,
    ) -> Result<(), StoreError>;

    /// Inserts an order with its items.
    async fn insert_order(&self, order: &Order) -> Result<(), StoreError>;

    /// Inserts a payment (version 0) and the first rows of its history.
    async fn insert_payment(&self, payment: &NewPayment, history: &[PaymentEvent]) -> Result<(), StoreError>;

    /// Takes an Idempotency-Key, or says what it stands for. Waits for a transaction that is taking the same key.
    async fn claim_idempotency(
        &self,
        claim: &IdempotencyClaim,
    ) -> Result<Option<IdempotencyRecord>, StoreError>;

    /// Stores the answer that the key gives from now on; only the first one stays.
    async fn save_idempotent_answer(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError>;

    // ---- settling

    /// A payment, locked.
    async fn lock_payment(&self, id: PaymentId) -> Result<Option<PaymentRecord>, StoreError>;

    /// Stores a payment's new state if its version is still the same, and adds to its history.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the version moved, or when another payment owns the key.
    async fn save_payment(
        &self,
        payment: &Versioned<Payment>,
        history: &[PaymentEvent],
    ) -> Result<(), StoreError>;

    /// Those of `keys` that payments other than `payment_id` own.
    async fn keys_owned_elsewhere(
        &self,
        payment_id: PaymentId,
        keys: &[GatewayKey],
    ) -> Result<BTreeSet<GatewayKey>, StoreError>;

    /// An order with its items, locked.
    async fn lock_order(&self, id: OrderId) -> Result<Option<Versioned<Order>>, StoreError>;

    /// Stores an order's new status if its version is still the same; else [`StoreError::Conflict`].
    async fn save_order(&self, order: &Versioned<Order>) -> Result<(), StoreError>;

    /// Writes a row of the ledger; `None` when the same fact is there already.
    async fn record_discrepancy(&self, row: &NewDiscrepancy) -> Result<Option<DiscrepancyId>, StoreError>;

    /// Closes a ledger row. False when it was closed before; then nothing changes.
    ///
    /// # Errors
    /// [`StoreError`]; an unknown id answers `Ok(None)`.
    async fn resolve_discrepancy(
        &self,
        id: DiscrepancyId,
        resolution: &str,
        note: &str,
        actor: &str,
    ) -> Result<Option<bool>, StoreError>;

    // ---- callbacks

    /// The payment whose callback token has this hash.
    async fn find_payment_by_token_hash(&self, hash: &[u8; 32]) -> Result<Option<PaymentId>, StoreError>;

    /// Writes down what a callback named and wakes the payment. The same hint twice makes one row (to be looked up
    /// again).
    async fn record_callback(&self, payment_id: PaymentId, key: &GatewayKey) -> Result<(), StoreError>;

    /// Makes a payment due at once, whatever its status, until its next claim ends; the time that is set for it stays
    /// ([`Claim::scheduled`]). One that was parked is examined again.
    async fn wake(&self, payment_id: PaymentId) -> Result<(), StoreError>;

    // ---- examining

    /// Claims payments that are due, longest due first, skipping those that others work on. One whose claim was never
    /// ended is due again when its lease is over.
    async fn claim_due(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError>;

    /// Claims one payment whatever its due time; `None` when it does not exist, someone else works on it, or the
    /// gateway was asked about it less than `min_interval` ago.
    async fn claim_payment(
        &self,
        id: PaymentId,
        lease: Duration,
        min_interval: Duration,
    ) -> Result<Option<Claim>, StoreError>;

    /// Ends a claim and says when to look again; the hints it bore count as looked up if `hints_done`. A payment that was
    /// woken since the claim stays due at once. False when the lease was lost (another claim was made since): then
    /// nothing changes.
    async fn finish_claim(
        &self,
        claim: &Claim,
        next: &NextCheck,
        hints_done: bool,
    ) -> Result<bool, StoreError>;

    /// Stops examining a payment that fails to be examined again and again, until a callback or a person wakes it.
    async fn park(&self, claim: &Claim) -> Result<(), StoreError>;

    /// Notes that the payment goes on the watch list whatever its end.
    async fn want_watch(&self, payment_id: PaymentId) -> Result<(), StoreError>;

    /// Puts an ended payment on the watch list: look at `step` next, after `due_in`. `None` takes it off.
    async fn schedule_watch(
        &self,
        payment_id: PaymentId,
        next: Option<(u32, Duration)>,
    ) -> Result<(), StoreError>;

    // ---- goods, coupons, points: what operators set

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
}
