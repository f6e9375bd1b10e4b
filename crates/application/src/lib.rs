//! The use-cases, over the ports of `domain`: one file each.
//!
//! | file | use-case |
//! | --- | --- |
//! | [`place_order`] | TX1, the gateway call, and what came of it |
//! | `settle` | what is learned about payments: load, decide, store |
//! | [`examine`] | ask the gateway about one payment and settle: callback, reconciler and sync by hand |
//! | [`callbacks`] | write down what a callback names; take up what was woken |
//! | [`reconcile`] | a turn: claim what is due, examine each, keep the interlock |
//! | [`manage`] | points, coupons, goods and the ledger: what needs one transaction and no gateway |
//! | `batch` | what waits is done together, in one transaction |
//!
//! The unit of work is [`Io`]: at most one transaction at a time, and no gateway call while one is open, by type.
//! [`Application`] binds all of it together for the binaries.
//!
//! Deliberately absent: SQL, HTTP, JSON, configuration files. Waiting uses tokio's clock, which tests move.

mod application;
mod batch;
pub mod callbacks;
pub mod examine;
mod io;
pub mod manage;
pub mod place_order;
mod policy;
pub mod reconcile;
mod settle;
#[cfg(test)]
mod shop;
mod token;

pub use application::{Adapters, Application, Synced};
pub use batch::{BatchError, BatchLimits};
pub use io::{Committed, Gateway, Io, Tx};
pub use place_order::{Idempotency, PlaceOrder, PlaceOrderError, PlaceOrderOutcome, PlacedNotice};
pub use policy::Policy;
pub use settle::SettleError;
pub use token::CallbackTokens;
