// error: E0308
//! A4: what was not committed is not charged.
use application::Io;
use application::place_order::ChargeAttempt;

/// Does not compile.
pub async fn run(io: &mut Io, attempt: ChargeAttempt) {
    let _outcome = io.gateway().charge(attempt).await;
}

fn main() {}
