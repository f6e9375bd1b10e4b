//! A payment gateway that behaves as documented (spec 02), and in every way that real ones were seen to misbehave.
//!
//! It keeps the truth: every transaction with all its states. What it says may be something else.

mod model;
mod transport;

pub use model::{Gateway, Transaction};
pub(crate) use transport::number;
pub use transport::{CALLBACK_PREFIX, ModelTransport};
