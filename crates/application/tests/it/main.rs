//! The use-cases over the fakes, in virtual time: what each outcome does to payment, order, stock, points, coupon,
//! ledger and watch list; the order of the steps; and every step failed, crashed at and run twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says so by a panic"
)]

mod batches;
mod callbacks;
mod commit_before_charge;
mod faults;
mod flood;
mod gateway;
mod oracle;
mod outcomes;
mod parking;
mod placing;
mod reconciling;
mod refused;
mod rivals;
mod steps;
mod watching;
mod world;
