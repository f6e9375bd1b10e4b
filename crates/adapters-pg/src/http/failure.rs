//! From the HTTP client's errors to outcomes. Only what comes before a connection is "surely not reached"; the labels that
//! tell the rest apart are for people, no decision hangs on them.

use super::gate::SendGate;
use crate::transport::{PaymentAttempt, cause};
use domain::ports::FailureCause;
use std::error::Error;
use std::io;

/// A payment request that failed before the answer's head was there.
pub(super) fn payment(error: &reqwest::Error, gate: &SendGate) -> PaymentAttempt {
    let cause = cause(error);
    if gate.deadline_passed() {
        return PaymentAttempt::TooLate;
    }
    // `close` makes sure that nothing leaves any more. That alone would not do: a connection that was reset before
    // anything was written is not on the list of spec 01 section 2, and stays uncertain.
    if gate.close() && error.is_connect() { not_reached(cause) } else { PaymentAttempt::Uncertain { cause } }
}

/// A payment request whose time was up before the answer's head was there.
pub(super) fn timed_out(gate: &SendGate) -> PaymentAttempt {
    if !gate.close() {
        PaymentAttempt::Uncertain { cause: cause::READ_TIMEOUT }
    } else if gate.deadline_passed() {
        PaymentAttempt::TooLate
    } else {
        not_reached(cause::CONNECT_TIMEOUT)
    }
}

fn not_reached(cause: FailureCause) -> PaymentAttempt {
    PaymentAttempt::NotReached { cause, may_have_created: false, retry_after: None }
}

/// The label of an error.
pub(super) fn cause(error: &reqwest::Error) -> FailureCause {
    if error.is_connect() {
        return connect_cause(error);
    }
    if error.is_timeout() {
        return cause::READ_TIMEOUT;
    }
    for source in sources(error) {
        if let Some(error) = source.downcast_ref::<hyper::Error>() {
            if error.is_parse() {
                return cause::MALFORMED_HTTP;
            }
            if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
                return cause::CONNECTION_CLOSED;
            }
        }
        if let Some(error) = source.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::NotConnected => cause::CONNECTION_RESET,
                io::ErrorKind::UnexpectedEof => cause::CONNECTION_CLOSED,
                io::ErrorKind::TimedOut => cause::READ_TIMEOUT,
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => cause::MALFORMED_HTTP,
                _ => cause::HTTP_CLIENT,
            };
        }
    }
    cause::HTTP_CLIENT
}

fn connect_cause(error: &reqwest::Error) -> FailureCause {
    if error.is_timeout() {
        return cause::CONNECT_TIMEOUT;
    }
    let mut tcp = false;
    for source in sources(error) {
        // These two messages are all that the client tells of where a connection failed.
        match source.to_string().as_str() {
            "dns error" => return cause::DNS_FAILURE,
            "tcp connect error" => tcp = true,
            _ => {}
        }
        if source.is::<rustls::Error>() {
            return cause::TLS_FAILURE;
        }
        if let Some(error) = source.downcast_ref::<io::Error>() {
            if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                return cause::TLS_FAILURE;
            }
            match error.kind() {
                io::ErrorKind::ConnectionRefused => return cause::CONNECT_REFUSED,
                io::ErrorKind::TimedOut => return cause::CONNECT_TIMEOUT,
                // Connected, and then cut: all that happens there before the request is the handshake.
                _ if !tcp => return cause::TLS_FAILURE,
                _ => {}
            }
        }
    }
    cause::CONNECT_FAILED
}

/// The error and what lies beneath it.
fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |error| Error::source(*error))
}
