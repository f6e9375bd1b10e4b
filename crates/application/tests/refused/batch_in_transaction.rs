// error: E0499
//! A5: no batch is waited for while a transaction is open: it may wait for what that has locked.
use application::callbacks::receive_callback;
use application::{CallbackTokens, Io};
use domain::GatewayKey;

/// Does not compile.
pub async fn run(io: &mut Io, tokens: &CallbackTokens, key: &GatewayKey) {
    let Ok(tx) = io.begin("refused").await else { return };
    let _noted = receive_callback(io, tokens, "token", key).await;
    tx.rollback().await;
}

fn main() {}
