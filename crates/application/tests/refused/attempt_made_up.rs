// error: E0451
//! A4: only placing an order makes a charge attempt.
use application::place_order::ChargeAttempt;
use domain::PaymentId;
use domain::ports::ChargeRequest;

/// Does not compile.
pub fn run(payment_id: PaymentId, request: ChargeRequest) -> ChargeAttempt {
    ChargeAttempt { payment_id, request }
}

fn main() {}
