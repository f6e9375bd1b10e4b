//! The payment gateway's adapter: a [`domain::ports::PaymentGateway`] whose calls are guarded.
//!
//! ```text
//! GuardedGateway   circuit breaker ( retry ( attempt )), budget, bulkhead, deadline, probe      gateway/
//!   Transport      one attempt, classified                                                      transport.rs
//!     HttpTransport    reqwest: what was sent is known, not guessed                             http/
//!       classify       the list of what is "surely not reached", pure                           classify.rs
//! breaker, backoff, retry_budget: pure building blocks that know nothing of a gateway
//! ```
//!
//! `docs/gateway-outcomes.md` shows what every behaviour of a gateway comes to; a test with real sockets writes it.
//!
//! Deliberately absent: decisions about payments (`domain`, `application`), a database, reading of settings (`bootstrap`).

pub mod backoff;
pub mod breaker;
pub mod retry_budget;

#[cfg(feature = "http")]
mod classify;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "gateway")]
pub mod transport;

#[cfg(feature = "gateway")]
pub use gateway::{
    CallConfig, CircuitView, Circuits, GatewayConfig, GatewayConfigError, GuardedGateway, PAYMENT_CIRCUIT,
    QUERY_CIRCUIT, RetryConfig, SetCircuitError,
};
#[cfg(feature = "http")]
pub use http::{HttpConfig, HttpTransport, HttpTransportError};
