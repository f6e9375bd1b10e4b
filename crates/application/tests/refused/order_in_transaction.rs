// error: E0499
//! A5: nor is an order placed, which waits for batches and for the gateway.
use application::place_order::place_order;
use application::{CallbackTokens, Io, PlaceOrder, Policy};

/// Does not compile.
pub async fn run(io: &mut Io, policy: &Policy, tokens: &CallbackTokens, command: PlaceOrder) {
    let Ok(tx) = io.begin("refused").await else { return };
    let _placed = place_order(io, policy, tokens, command).await;
    tx.rollback().await;
}

fn main() {}
