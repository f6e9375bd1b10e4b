//! What PostgreSQL and diesel say, in the words of the port.
//!
//! diesel-async keeps the SQLSTATE to itself except for a few kinds, so the rest is recognised by message. The messages
//! are those of `lc_messages=C`; one that is not recognised is [`StoreError::Other`], which no caller repeats.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};
use domain::ports::StoreError;
use std::fmt::Display;

/// Why a statement failed.
#[derive(Debug)]
pub(crate) enum Cause {
    /// For this reason.
    Store(StoreError),
    /// Because an earlier statement of the transaction failed (25P02): that one's reason counts.
    Aborted,
}

/// What a failure says about the session that it happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It goes on as if nothing had happened, once its transaction is rolled back.
    Fit,
    /// Something unexpected, or no answer: nobody knows what state it is in.
    Doubtful,
    /// The connection is gone.
    Lost,
    /// It serves nobody any more, and what made it so has struck all that were opened before: the database became
    /// read-only, a table was changed beneath a prepared statement, prepared statements are gone. The statement surely
    /// did nothing.
    Stale,
}

/// A statement that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) health: Health,
}

/// CHECK constraints that a race can break: two transactions that each saw enough.
const RACED_CHECKS: &[&str] = &["stock_quantity_check", "point_account_balance_check"];

/// Beginnings of messages, with their SQLSTATE, after which nothing of the transaction stays and it may be repeated.
const CONFLICTS: &[(&str, &str)] = &[("deadlock detected", "40P01"), ("could not serialize access", "40001")];

/// Beginnings of messages that say that a statement took too long, with their SQLSTATE.
const CANCELLED: &[(&str, &str)] = &[
    ("canceling statement due to lock timeout", "55P03"),
    ("could not obtain lock on", "55P03"),
    ("canceling statement due to statement timeout", "57014"),
    ("canceling statement due to user request", "57014"),
];

/// Beginnings of messages that say that the server can't now, with their SQLSTATE.
const UNAVAILABLE: &[(&str, &str)] = &[
    ("canceling statement due to conflict with recovery", "40001"),
    ("the database system is", "57P03"),
    ("sorry, too many clients already", "53300"),
    ("too many connections for", "53300"),
    ("remaining connection slots are reserved", "53300"),
    ("out of memory", "53200"),
    ("out of shared memory", "53200"),
    ("could not extend file", "53100"),
    ("could not write to file", "53100"),
];

/// Beginnings of messages after which a session serves nobody any more, with their SQLSTATE.
const STALE: &[(&str, &str)] =
    &[("cached plan must not change result type", "0A000"), ("prepared statement ", "26000")];

const ABORTED: &str = "current transaction is aborted";

/// The beginning of the message with which the server ends a session. It can say so just after a commit was written, too.
const TERMINATED: &str = "terminating connection";

impl Failure {
    fn of(error: StoreError, health: Health) -> Self {
        Self { cause: Cause::Store(error), health }
    }

    /// Another transaction was first.
    pub(crate) fn conflict(what: impl Display) -> Self {
        Self::of(StoreError::Conflict { what: what.to_string() }, Health::Fit)
    }

    /// A defect of ours, found before anything was sent.
    pub(crate) fn other(what: impl Display) -> Self {
        Self::of(StoreError::Other { what: what.to_string() }, Health::Fit)
    }

    /// The answer did not come in time.
    pub(crate) fn silence(what: impl Display) -> Self {
        Self::of(unavailable(what), Health::Doubtful)
    }

    /// In the port's words, where no earlier statement can be the reason.
    pub(crate) fn into_error(self) -> StoreError {
        match self.cause {
            Cause::Store(error) => error,
            Cause::Aborted => StoreError::Other { what: "an earlier statement failed".to_owned() },
        }
    }
}

/// The database can't be reached, or not in time.
pub(crate) fn unavailable(what: impl Display) -> StoreError {
    StoreError::Unavailable { what: what.to_string() }
}

/// Row `id` of `table` breaks a rule.
pub(crate) fn corrupt(table: &str, id: impl Display, what: impl Display) -> StoreError {
    StoreError::Corrupt { what: format!("{table} {id}: {what}") }
}

/// What we make of an answer leaves the session as it is.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::of(error, Health::Fit)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::DatabaseError(kind, information) => from_database(&kind, information.as_ref()),
            Error::DeserializationError(cause) => {
                Self::of(StoreError::Corrupt { what: cause.to_string() }, Health::Doubtful)
            }
            other => Self::of(StoreError::Other { what: other.to_string() }, Health::Doubtful),
        }
    }
}

fn from_database(kind: &DatabaseErrorKind, information: &dyn DatabaseErrorInformation) -> Failure {
    let message = information.message();
    let named = || information.constraint_name().unwrap_or(message).to_owned();
    let known = |list: &'static [(&str, &str)]| list.iter().find(|(text, _)| message.starts_with(text));
    match kind {
        DatabaseErrorKind::UniqueViolation => Failure::conflict(named()),
        DatabaseErrorKind::SerializationFailure => Failure::conflict("40001"),
        DatabaseErrorKind::CheckViolation if RACED_CHECKS.contains(&named().as_str()) => {
            Failure::conflict(named())
        }
        DatabaseErrorKind::CheckViolation
        | DatabaseErrorKind::ForeignKeyViolation
        | DatabaseErrorKind::NotNullViolation => Failure::other(message),
        DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection => {
            Failure::of(unavailable(message), Health::Lost)
        }
        // A standby that was promoted away from us.
        DatabaseErrorKind::ReadOnlyTransaction => Failure::of(unavailable(message), Health::Stale),
        _ if message.starts_with(ABORTED) => Failure { cause: Cause::Aborted, health: Health::Fit },
        _ => {
            if let Some((_, state)) = known(CONFLICTS) {
                Failure::conflict(format!("{state} {message}"))
            } else if let Some((_, state)) = known(STALE) {
                Failure::of(unavailable(format!("{state} {message}")), Health::Stale)
            } else if let Some((_, state)) = known(CANCELLED) {
                Failure::of(unavailable(format!("{state} {message}")), Health::Fit)
            } else if let Some((_, state)) = known(UNAVAILABLE) {
                Failure::of(unavailable(format!("{state} {message}")), Health::Doubtful)
            } else if message.starts_with(TERMINATED) {
                Failure::of(unavailable(format!("57P01 {message}")), Health::Lost)
            } else {
                Failure::of(StoreError::Other { what: message.to_owned() }, Health::Doubtful)
            }
        }
    }
}

/// Whether the server refused a COMMIT and said so. Everything else leaves open what became of it: a lost connection,
/// and "terminating connection", which it can also say just after the commit record was written.
pub(crate) fn is_refusal_of_commit(error: &Error) -> bool {
    match error {
        Error::DatabaseError(
            DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection,
            _,
        ) => false,
        Error::DatabaseError(_, information) => !information.message().starts_with(TERMINATED),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Said(&'static str, Option<&'static str>);

    impl DatabaseErrorInformation for Said {
        fn message(&self) -> &str {
            self.0
        }
        fn details(&self) -> Option<&str> {
            None
        }
        fn hint(&self) -> Option<&str> {
            None
        }
        fn table_name(&self) -> Option<&str> {
            None
        }
        fn column_name(&self) -> Option<&str> {
            None
        }
        fn constraint_name(&self) -> Option<&str> {
            self.1
        }
        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    fn store_error(kind: DatabaseErrorKind, said: Said) -> StoreError {
        match from_database(&kind, &said).cause {
            Cause::Store(error) => error,
            Cause::Aborted => panic!("aborted"),
        }
    }

    #[test]
    fn races_are_conflicts() {
        use DatabaseErrorKind::{CheckViolation, SerializationFailure, UniqueViolation, Unknown};
        for (kind, message, constraint) in [
            (UniqueViolation, "duplicate key", Some("idx_stock_ledger_once")),
            (SerializationFailure, "could not serialize access due to concurrent update", None),
            (Unknown, "deadlock detected", None),
            (CheckViolation, "new row ... violates", Some("stock_quantity_check")),
        ] {
            let error = store_error(kind, Said(message, constraint));
            assert!(matches!(error, StoreError::Conflict { .. }), "{message}: {error:?}");
        }
    }

    #[test]
    fn a_server_that_cannot_now_is_unavailable() {
        for message in [
            "canceling statement due to lock timeout",
            "canceling statement due to statement timeout",
            "terminating connection due to administrator command",
            "terminating connection due to idle-in-transaction timeout",
            "the database system is shutting down",
            "the database system is starting up",
            "sorry, too many clients already",
        ] {
            let error = store_error(DatabaseErrorKind::Unknown, Said(message, None));
            assert!(matches!(error, StoreError::Unavailable { .. }), "{message}: {error:?}");
        }
        let error = store_error(DatabaseErrorKind::UnableToSendCommand, Said("connection closed", None));
        assert!(matches!(error, StoreError::Unavailable { .. }));
    }

    #[test]
    fn broken_rules_are_defects_and_not_repeated() {
        use DatabaseErrorKind::{CheckViolation, ForeignKeyViolation, NotNullViolation, Unknown};
        for (kind, constraint) in [
            (CheckViolation, Some("payment_amounts_add_up")),
            (ForeignKeyViolation, Some("payment_order_id_fkey")),
            (NotNullViolation, None),
            (Unknown, None),
        ] {
            let error = store_error(kind, Said("refused", constraint));
            assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_statement_after_a_failed_one_is_not_the_reason() {
        let said =
            Said("current transaction is aborted, commands ignored until end of transaction block", None);
        assert!(matches!(from_database(&DatabaseErrorKind::Unknown, &said).cause, Cause::Aborted));
    }

    #[test]
    fn only_a_plain_refusal_proves_that_a_commit_failed() {
        let error = |kind, message| Error::DatabaseError(kind, Box::new(Said(message, None)));
        assert!(is_refusal_of_commit(&error(DatabaseErrorKind::ForeignKeyViolation, "violates")));
        for (kind, message) in [
            (DatabaseErrorKind::UnableToSendCommand, "connection closed"),
            (DatabaseErrorKind::Unknown, "terminating connection due to administrator command"),
        ] {
            assert!(!is_refusal_of_commit(&error(kind, message)), "{message}");
        }
    }
}
