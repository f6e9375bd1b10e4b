//! The ports: what the use-cases need from the world, without a word about who gives it.
//!
//! All traits are object-safe and take `&self`; with feature `mock` each has a mockall mock beside it.

mod entropy;
mod gateway;
mod queries;
mod records;
mod store;

pub use entropy::Entropy;
pub use gateway::{
    ChargeOutcome, ChargeRequest, FailureCause, GatewayAnswer, Lookup, LookupError, Oddity, PaymentGateway,
    TransactionSummary,
};
pub use queries::{
    AGE_BOUNDS, AdminPaymentFilter, DiscrepancyView, IssuedCouponView, OrderCursor, OrderView,
    PaymentEventView, PaymentStatistics, PaymentView, ProductView, Queries, RecentEvent, UpcomingCheck,
    Worklist,
};
pub use records::{
    CallbackNote, Cause, Claim, ClaimOptions, CouponHolding, DiscrepancyStatus, Due, IdempotencyKey,
    IdempotencyRecord, KeyedRequest, NewOrderIds, PaymentEvent, PaymentRecord, PointEntry, PointEntryKind,
    ProductForSale, StoredAnswer, StoredCard, Versioned,
};
pub use store::{CommitError, Store, StoreError, StoreTx};

#[cfg(feature = "mock")]
pub use self::{
    entropy::MockEntropy,
    gateway::MockPaymentGateway,
    queries::MockQueries,
    store::{MockStore, MockStoreTx},
};
