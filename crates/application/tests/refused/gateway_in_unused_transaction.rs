// error: E0499
//! A3: nor while one is open that is not used any more.
use application::Io;
use domain::{GatewayKey, MerchantId};

/// Does not compile.
pub async fn run(io: &mut Io, merchant: &MerchantId, key: &GatewayKey) {
    let Ok(_tx) = io.begin("refused").await else { return };
    let _found = io.gateway().find_by_key(merchant, key).await;
}

fn main() {}
