//! What all calls share: reading requests, the envelope, failures, and the border that every request crosses.

pub(crate) mod access_log;
pub(crate) mod border;
pub(crate) mod envelope;
pub mod failure;
pub(crate) mod failure_from;
pub(crate) mod locale;
pub(crate) mod read;
pub(crate) mod routes;
mod wire;
