//! Placing an order, and asking for its card to be charged.

use super::super::{Edit, Mutant};

const PLACE_ORDER: &str = "crates/application/src/place_order.rs";
const PLACING: &str = "crates/application/src/place_order/placing.rs";
const IO: &str = "crates/application/src/io.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "LinesCollapse",
        what: "Repeated product lines collapse into one.",
        plan: "",
        edits: &[Edit {
            file: "crates/domain/src/placement.rs",
            find: "                Some(before) => quantity.checked_add(*before)?,",
            replace: "                Some(_) if BUG => quantity,
ORIGINAL",
        }],
    },
    Mutant {
        name: "UnknownCommitTrusted",
        what: "A COMMIT of unknown outcome is taken for a success.",
        plan: "--with CommitUnknownStored,CommitUnknownLost --intensity 250",
        edits: &[Edit {
            file: PLACING,
            find: "            Err(CommitError::OutcomeUnknown) => {
                let own",
            replace: "            Err(CommitError::OutcomeUnknown) if BUG => Ok(outcomes),
ORIGINAL",
        }],
    },
    Mutant {
        name: "StartNotProven",
        what: "The gateway is asked although it is not stored that it may be.",
        plan: "--with CommitRefused,CommitUnknownLost --intensity 250",
        edits: &[Edit {
            file: IO,
            find: "            Ok(None) | Err(_) => Start::NotStored,",
            replace:
                "            Ok(None) if BUG => Start::Committed(Box::new(Committed { value: attempt })),
ORIGINAL",
        }],
    },
    Mutant {
        name: "SendDeadlineIgnored",
        what: "The send deadline is ignored.",
        plan: "--with DbSlow,DbUnavailable,FreezeApp --intensity 400 --crowd together",
        edits: &[
            Edit {
                file: PLACE_ORDER,
                find: "            deadline: self.deadline().into_std(),",
                replace: "            deadline: if BUG {
                (Instant::now() + Duration::from_secs(3600)).into_std()
            } else {
                self.deadline().into_std()
            },",
            },
            Edit {
                file: PLACE_ORDER,
                find: "Start::Committed(attempt) if Instant::now() < flow.deadline() => {",
                replace: "Start::Committed(attempt) if BUG || Instant::now() < flow.deadline() => {",
            },
        ],
    },
    Mutant {
        name: "AmountTruncated",
        what: "Amounts are truncated.",
        plan: "",
        edits: &[Edit {
            file: PLACE_ORDER,
            find: "            amount: record.payment.amounts().paid_amount(),",
            replace: "            amount: {
                let paid = record.payment.amounts().paid_amount();
                if BUG { Money::new(paid.won() / 10 * 10).unwrap_or(paid) } else { paid }
            },",
        }],
    },
];
