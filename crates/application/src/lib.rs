//! The use-cases, over the ports of `domain`: one file each.
//!
//! | file | use-case |
//! | --- | --- |
//! | [`place_order`] | TX1, the gateway call, and what came of it |
//! | [`settle`] | the one function that ends a payment, for all who learn something about it |
//! | [`examine`] | ask the gateway about one payment and settle: callback, reconciler and sync by hand |
//! | [`receive_callback`] | write down what a callback names |
//! | [`reconcile`] | a turn: claim what is due, examine each, keep the interlock |
//! | [`manage`] | points, coupons, goods and the ledger: what needs one transaction and no gateway |
//!
//! The unit of work is [`Io`]: at most one transaction at a time, and no gateway call while one is open, by type.
//! [`Application`] binds all of it together for the binaries.
//!
//! Deliberately absent: SQL, HTTP, JSON, configuration files. Waiting uses tokio's clock, which tests move.

mod application;
pub mod examine;
mod io;
pub mod manage;
pub mod place_order;
mod policy;
pub mod receive_callback;
pub mod reconcile;
pub mod settle;
mod token;

pub use application::{Adapters, Application, Synced};
pub use io::{Committed, CommittedError, Gateway, Io, Tx};
pub use place_order::{Idempotency, PlaceOrder, PlaceOrderError, PlaceOrderOutcome, PlacedNotice};
pub use policy::Policy;
pub use token::CallbackTokens;
