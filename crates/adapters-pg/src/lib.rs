//! adapters-pg

pub mod backoff;
pub mod breaker;
pub mod retry_budget;
