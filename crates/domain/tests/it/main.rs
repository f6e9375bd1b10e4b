//! The rules, from outside: every state against every event, every message of the contract, and both decisions against
//! tables that were written from the specification and not from the code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says so by a panic"
)]

mod messages;
mod placement;
mod placing_batch;
mod settlement_rows;
mod settlement_table;
mod settling;
mod state_machines;
