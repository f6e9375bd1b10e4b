//! The control: a transaction, its commit, then the gateway.
use application::Io;
use domain::{GatewayKey, MerchantId};

/// Compiles.
pub async fn run(io: &mut Io, merchant: &MerchantId, key: &GatewayKey) {
    let Ok(tx) = io.begin("accepted").await else { return };
    let now = tx.now();
    let Ok(committed) = tx.commit(now).await else { return };
    let _found = io.gateway().find_by_key(merchant, key).await;
    let _ready = io.queries().ready().await;
    let _again = io.begin("accepted again").await;
    drop(committed);
}

fn main() {}
