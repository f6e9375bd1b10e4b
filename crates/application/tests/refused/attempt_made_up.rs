// error: E0451
//! A4: only placing an order makes a charge attempt.
use application::place_order::ChargeAttempt;
use domain::ports::ChargeRequest;

/// Does not compile.
pub fn run(request: ChargeRequest) -> ChargeAttempt {
    ChargeAttempt { request }
}

fn main() {}
