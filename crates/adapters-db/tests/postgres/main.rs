//! The adapter on a real PostgreSQL. `cargo xtask test --package adapters-db` brings a cluster of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod commits;
mod contract;
mod listener;
mod migrations;
mod prepared;
mod races;
mod schedules;
mod schema;
mod sessions;
mod stale;
mod support;
mod transactions;
