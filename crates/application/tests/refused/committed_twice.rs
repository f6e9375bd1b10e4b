// error: E0382
//! A transaction is finished once.
use application::Io;

/// Does not compile.
pub async fn run(io: &mut Io) {
    let Ok(tx) = io.begin("refused").await else { return };
    let _first = tx.commit().await;
    let _second = tx.commit().await;
}

fn main() {}
