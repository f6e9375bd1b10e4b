//! Talking with the gateway, and listening to it.

use super::super::{Edit, Mutant};

const CHARGE: &str = "crates/adapters-pg/src/gateway/charge.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "TokenNotChecked",
        what: "The callback's token is not checked.",
        plan: "--with ForgedToken",
        edits: &[Edit {
            file: "crates/test-support/src/store/examining.rs",
            find: "*view.get(|tables| &tables.payment_of_token, token_hash)?;",
            replace: "view
                .get(|tables| &tables.payment_of_token, token_hash)
                .copied()
                .or_else(|| PaymentId::new(1).ok().filter(|_| BUG))?;",
        }],
    },
    Mutant {
        name: "ProbeSkipped",
        what: "The gateway is not asked before the request is sent again.",
        plan: "--with Create500,Create503",
        edits: &[Edit {
            file: CHARGE,
            find: "let needed = self.config.probe_before_retry && charge.open_ends > 0",
            replace: "let needed = !BUG && self.config.probe_before_retry && charge.open_ends > 0",
        }],
    },
    Mutant {
        name: "UncertainRetried",
        what: "An uncertain outcome is retried.",
        plan: "--with HangCreated,HangLost,ResetCreated,ResetLost,Garbage",
        edits: &[Edit {
            file: CHARGE,
            find: "            let heard = heard(&attempt);
",
            replace: "            let attempt = match attempt {
                PaymentAttempt::Uncertain { cause } if BUG => {
                    PaymentAttempt::NotReached { cause, may_have_created: false, retry_after: None }
                }
                other => other,
            };
ORIGINAL",
        }],
    },
    Mutant {
        name: "RefusalRetried",
        what: "A refusal is retried.",
        plan: "--with Http400",
        edits: &[Edit {
            file: CHARGE,
            find: "            let attempt = self.attempt(&charge, &mut entered).await;
",
            replace: "ORIGINAL            let attempt = match attempt {
                PaymentAttempt::Rejected { .. } if BUG => {
                    PaymentAttempt::NotReached { cause: cause::HTTP_400, may_have_created: false, retry_after: None }
                }
                other => other,
            };
",
        }],
    },
];
