//! What the programs share before their own work begins: settings, command line, logging and metrics, shutdown,
//! randomness.
//!
//! Deliberately absent: anything of HTTP servers (the programs' own), and any decision about payments.

pub mod cli;
pub mod entropy;
pub mod settings;
pub mod shutdown;
mod start;
pub mod telemetry;
pub mod wiring;

pub use start::{Started, start};
