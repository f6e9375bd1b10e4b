// error: E0499
//! A3: the gateway is not asked while a transaction is open.
use application::Io;
use domain::{GatewayKey, MerchantId};

/// Does not compile.
pub async fn run(io: &mut Io, merchant: &MerchantId, key: &GatewayKey) {
    let Ok(tx) = io.begin("refused").await else { return };
    let _found = io.gateway().find_by_key(merchant, key).await;
    tx.rollback().await;
}

fn main() {}
