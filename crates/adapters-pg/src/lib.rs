//! adapters-pg
