//! Faults that were found by trying (docs/guarantees.md, G01 on), put back.

use super::super::{Edit, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "SpoiltSessionsKept",
        what: "Sessions that are of no use are kept, so that nothing works before the next start.",
        plan: "--with SessionsSpoilt",
        edits: &[Edit {
            // What the real pool does with a session is tested where it is; here is what would come of it.
            file: "crates/sim/src/process.rs",
            find: "if inner.spoilt.is_some_and(|until| until <= Instant::now()) {",
            replace: "if inner.spoilt.is_some_and(|until| until <= Instant::now()) && !BUG {",
        }],
    },
    Mutant {
        name: "ReferenceIsOrderId",
        what: "The gateway gets the order's number, which another shop's order has, too.",
        plan: "--with OtherShop,HangLost,ResetLost --intensity 250",
        edits: &[Edit {
            file: "crates/domain/src/ids.rs",
            find: "        Self(format!(\"{installation}-{order_id}-{:016x}\", u64::from_be_bytes(random)))",
            replace: "        if BUG {
            return Self(order_id.to_string());
        }
ORIGINAL",
        }],
    },
    Mutant {
        name: "OddIsDown",
        what: "An answer that is of no use for one payment counts as a gateway that is down.",
        plan: "--only LookupOdd,CallbackLost --intensity 250",
        edits: &[
            Edit {
                file: "crates/adapters-pg/src/gateway/lookup.rs",
                find: "            LookupFailure::Odd { what } => Self::Odd { what },",
                replace: "            LookupFailure::Odd { .. } if BUG => {
                Self::Unreachable { cause: cause::UNREADABLE_BODY, circuit_open: false }
            }
ORIGINAL",
            },
            Edit {
                file: "crates/adapters-pg/src/gateway/lookup.rs",
                find: "            Err(LookupFailure::NotAskable) => (Recorded::Ignored,",
                replace: "            Err(LookupFailure::NotAskable) if BUG => (Recorded::Failed, FailureCause(\"\")),
ORIGINAL",
            },
        ],
    },
    Mutant {
        name: "FirstTwentyOnly",
        what: "The first twenty transactions of an order are taken for all of them.",
        plan: "--with ManyTransactions --intensity 400",
        edits: &[Edit {
            file: "crates/application/src/examine.rs",
            find: "        for summary in summaries {",
            replace: "        for summary in summaries.into_iter().take(if BUG { 20 } else { usize::MAX }) {",
        }],
    },
    Mutant {
        name: "OddHintBlocks",
        what: "A key of another order that a callback named, with a status that nobody knows, keeps a payment from its end.",
        plan: "--only LookupOdd,ForeignKey,HangCreated,CallbackLost --intensity 250",
        edits: &[Edit {
            file: "crates/application/src/examine.rs",
            find: "                Err(LookupError::Odd { what }) => {
                    tracing::warn!(%order_ref",
            replace: "                Err(error) if BUG => return Err(error),
ORIGINAL",
        }],
    },
];
