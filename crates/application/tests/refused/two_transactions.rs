// error: E0499
//! A5: one transaction at a time.
use application::Io;

/// Does not compile.
pub async fn run(io: &mut Io) {
    let Ok(first) = io.begin("refused").await else { return };
    let Ok(second) = io.begin("refused too").await else { return };
    second.rollback().await;
    first.rollback().await;
}

fn main() {}
