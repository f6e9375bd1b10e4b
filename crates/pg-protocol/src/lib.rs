//! pg-protocol
