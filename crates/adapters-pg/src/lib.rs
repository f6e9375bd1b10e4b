//! adapters-pg

pub mod breaker;
