//! The rules of an order and its payment, and the ports through which they meet the world.
//!
//! Everything here is pure and synchronous: values, state machines and two decisions ([`placement::decide`] and
//! [`settlement::settle`]). The [`ports`] are traits that adapters implement; with feature `mock` each has a mockall
//! mock, for the tests of crates that use this one.
//!
//! Deliberately absent: clocks, randomness, a runtime, databases, HTTP, JSON. Time is an argument.
//!
//! # A mock in another team's test
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), domain::ports::StoreError> {
//! use domain::ports::{MockStore, MockStoreTx, Store};
//! use mockall::Sequence;
//!
//! let mut order = Sequence::new();
//! let mut store = MockStore::new();
//! store.expect_begin().times(1).in_sequence(&mut order).return_once(|_name| {
//!     let mut tx = MockStoreTx::new();
//!     tx.expect_commit().times(1).returning(|| Ok(()));
//!     Ok(Box::new(tx))
//! });
//!
//! let tx = store.begin("example").await?;
//! assert_eq!(tx.commit().await, Ok(()));
//! # Ok(())
//! # }
//! ```

mod card;
mod coupon;
mod ids;
mod money;
mod order;
mod payment;
pub mod placement;
mod points;
pub mod ports;
pub mod settlement;
mod stock;

pub use card::{CardNumber, CardType, InvalidCardNumber, InvalidCardType};
pub use coupon::{Coupon, CouponError, Discount, IssuedCoupon, IssuedCouponStatus};
pub use ids::{
    CouponId, DiscrepancyId, GatewayKey, GatewayOrderRef, InvalidGatewayKey, InvalidId, InvalidMerchantId,
    IssuedCouponId, MerchantId, OrderId, PaymentId, ProductId, UserId,
};
pub use money::{AmountOverflow, InvalidQuantity, Money, Quantity};
pub use order::{Order, OrderError, OrderItem, OrderStatus};
pub use payment::{
    FailureMessage, Payment, PaymentAmounts, PaymentError, PaymentEventKind, PaymentMethod, PaymentState,
    PaymentStatus,
};
pub use points::{PointAccount, PointError};
pub use stock::{Stock, StockError};

/// A moment, always in UTC and truncated to microseconds (PostgreSQL keeps no more).
pub type Timestamp = time::OffsetDateTime;
