//! pg-simulator
