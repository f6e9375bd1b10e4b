//! The control: a transaction, its commit, then the gateway, a batch, a read, another transaction.
use application::callbacks::receive_callback;
use application::{CallbackTokens, Io};
use domain::{GatewayKey, MerchantId};

/// Compiles.
pub async fn run(io: &mut Io, tokens: &CallbackTokens, merchant: &MerchantId, key: &GatewayKey) {
    let Ok(tx) = io.begin("accepted").await else { return };
    let _moment = tx.now();
    if tx.commit().await.is_err() {
        return;
    }
    let _found = io.gateway().find_by_key(merchant, key).await;
    let _noted = receive_callback(io, tokens, "token", key).await;
    let _ready = io.queries().ready().await;
    let _again = io.begin("accepted again").await;
}

fn main() {}
