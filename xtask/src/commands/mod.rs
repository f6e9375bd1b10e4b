//! One module per command. A command that is added gets its file here, its variant in `main.rs`, and, if `ci` is to
//! run it, its step in `test`.

pub(crate) mod alerts;
pub(crate) mod arch;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod browser;
pub(crate) mod chaos;
pub(crate) mod coverage;
pub(crate) mod db;
pub(crate) mod demo;
pub(crate) mod metrics;
pub(crate) mod mutants;
pub(crate) mod sim;
pub(crate) mod test;
pub(crate) mod tidy;
pub(crate) mod up;
