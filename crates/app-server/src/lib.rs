//! The HTTP side of Holdfast: the public API, the operations API, and their documents. The binary of the same name adds the
//! command line.
//!
//! A handler extracts, converts, runs a use-case in a tracked task, and maps what came of it. The connection owns
//! nothing: a client that goes away changes nothing in an order's flow. Every answer, those of the framework included, is
//! in the envelope of spec 03; [`failure`] is the one table of all that can go wrong.
//!
//! Deliberately absent: rules about orders and payments (crates `domain` and `application`), SQL, and calls to the payment
//! gateway.

mod api;
mod auth;
mod console;
mod events;
mod http;
mod limits;
pub mod openapi;
mod ops;
mod proxies;
mod repeats;
mod server;
mod state;
mod texts;

pub use auth::AuthError;
pub use events::OrderChanges;
pub use http::failure;
pub use ops::{CircuitBody, CircuitCommand, Circuits};
pub use server::{Parts, Running, StartError, start};
