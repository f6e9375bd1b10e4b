// error: E0499
//! A5: no read on another connection while a transaction is open.
use application::Io;

/// Does not compile.
pub async fn run(io: &mut Io) {
    let Ok(tx) = io.begin("refused").await else { return };
    let _ready = io.queries().ready().await;
    tx.rollback().await;
}

fn main() {}
