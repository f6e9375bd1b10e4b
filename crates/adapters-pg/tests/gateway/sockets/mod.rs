//! Real sockets on 127.0.0.1: what the wire does to an order.

mod rows;
pub(crate) mod server;
mod shop;
mod simulator;
mod table;
mod wire;
