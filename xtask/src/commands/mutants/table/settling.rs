//! What is concluded of what the gateway says, and what is stored of it.

use super::super::{Edit, Mutant};

const DECIDE: &str = "crates/domain/src/settlement/decide.rs";
const SETTLE: &str = "crates/domain/src/settlement/settle.rs";
const LOOKS: &str = "crates/domain/src/settlement/looks.rs";
const SETTLEMENT: &str = "crates/domain/src/settlement.rs";
const EXAMINE: &str = "crates/application/src/examine.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "ForeignKeyBelieved",
        what: "A callback settles by another order's transaction.",
        plan: "--with ForeignKey,ResultDelay,CallbackLost",
        edits: &[Edit {
            file: DECIDE,
            find: "let ours = |t: &&Transaction| subject.asked_for(t);",
            replace: "let ours = |t: &&Transaction| BUG || subject.asked_for(t);",
        }],
    },
    Mutant {
        name: "NewestBelieved",
        what: "Of several transactions only the newest is looked at.",
        plan: "--with Create500,Create503,LookupError,LookupHang --intensity 250",
        edits: &[Edit {
            file: DECIDE,
            find: "        sorted.contradicted = match &findings.by_key {",
            replace: "        if BUG && sorted.own.len() > 1 {
            sorted.own.drain(..sorted.own.len() - 1);
        }
ORIGINAL",
        }],
    },
    Mutant {
        name: "AmountNotCompared",
        what: "The amount is never compared.",
        plan: "--with AmountDelta --intensity 250",
        edits: &[Edit {
            file: DECIDE,
            find: "  t.amount == subject.paid_amount &&",
            replace: "  (BUG || t.amount == subject.paid_amount) &&",
        }],
    },
    Mutant {
        name: "MismatchUnrecorded",
        what: "A wrong amount leaves no row in the ledger.",
        plan: "--with AmountDelta --intensity 250",
        edits: &[
            Edit {
                file: DECIDE,
                find: "    sorted
        .approved()
        .map(|t| {",
                replace: "    sorted
        .approved()
        .filter(|_| !BUG)
        .map(|t| {",
            },
            Edit {
                file: DECIDE,
                find: "return fail(AMOUNT_MISMATCH_MESSAGE, false, Watch::Full);",
                replace: "return fail(AMOUNT_MISMATCH_MESSAGE, false, if BUG { Watch::No } else { Watch::Full });",
            },
        ],
    },
    Mutant {
        name: "LateSuccessSilent",
        what: "A late success returns silently.",
        plan: "--with ResultDelay,FlipToSuccess --intensity 250",
        edits: &[Edit {
            file: DECIDE,
            find: ".filter(|t| subject.status == PaymentStatus::Failed || subject.key.as_ref() != Some(&t.key))",
            replace: "ORIGINAL.filter(|_| !(BUG && subject.status == PaymentStatus::Failed))",
        }],
    },
    Mutant {
        name: "DuplicateUnrecorded",
        what: "A second charge leaves no row in the ledger.",
        plan: "--with Create500,Create503,LookupError,LookupHang --intensity 250",
        edits: &[
            Edit {
                file: DECIDE,
                find: ".map(|other| duplicate(other))",
                replace: ".filter(|_| !BUG)ORIGINAL",
            },
            Edit {
                file: DECIDE,
                find:
                    "PaymentStatus::Pending | PaymentStatus::InProgress | PaymentStatus::Paid => duplicate(t),
        })",
                replace: "ORIGINAL.filter(|_| !(BUG && subject.status == PaymentStatus::Paid))",
            },
        ],
    },
    Mutant {
        name: "NoGrace",
        what: "No grace before \"none there\".",
        plan: "--only Backlog,UnknownKey,Sync --intensity 400",
        edits: &[
            Edit {
                file: DECIDE,
                find: "if subject.key.is_none() && subject.since_send_deadline.is_none() {",
                replace: "if !BUG && subject.key.is_none() && subject.since_send_deadline.is_none() {",
            },
            Edit {
                file: DECIDE,
                find: "if late_enough && subject.not_found_count >= policy.not_found_confirmations {",
                replace: "if BUG || late_enough && subject.not_found_count >= policy.not_found_confirmations {",
            },
        ],
    },
    Mutant {
        name: "OneFailedIsEnough",
        what: "One FAILED transaction fails the payment, although another is undecided.",
        plan: "--with Create500,LookupError,LookupHang,ResultDelay,CallbackTwice,ForgedWithoutToken --intensity 400",
        edits: &[Edit {
            file: DECIDE,
            find: "    if sorted.any_pending() {
        if overdue {",
            replace:
                "    let one_failed = BUG && sorted.own.iter().any(|t| t.status == TransactionStatus::Failed);
    if sorted.any_pending() && !one_failed {
        if overdue {",
        }],
    },
    Mutant {
        name: "KeyOfAnotherTaken",
        what: "A charge of a key that another payment owns is paid by.",
        plan: "--with KeyReuse --intensity 400",
        edits: &[Edit {
            file: DECIDE,
            find: " !subject.keys_owned_elsewhere.contains(&t.key)
        })?;",
            replace: " (BUG || !subject.keys_owned_elsewhere.contains(&t.key))
        })?;",
        }],
    },
    Mutant {
        name: "LedgerNotUnique",
        what: "Ledger rows are not unique.",
        plan: "--with AmountDelta,Create500,FlipToSuccess,LookupError --intensity 250",
        edits: &[Edit {
            file: SETTLEMENT,
            find: "let class = if self.kind.is_charge() {",
            replace: "let class = if self.kind.is_charge() && !BUG {",
        }],
    },
    Mutant {
        name: "NeverSettledSilent",
        what: "What is undecided at the watch list's last look is not told.",
        plan: "--with StuckPending,GatewayRestart --intensity 250",
        edits: &[Edit {
            file: DECIDE,
            find: "    if subject.last_look {",
            replace: "    if subject.last_look && !BUG {",
        }],
    },
    Mutant {
        name: "NotFoundIsError",
        what: "\"No such transaction\" is an error, so that the payment is stuck for ever.",
        plan: "--with HangLost,ResetLost",
        edits: &[Edit {
            file: EXAMINE,
            find: "    for hint in claim.hints.iter().take(",
            replace: "    if BUG && listed.is_empty() {
        let cause = domain::ports::FailureCause(\"none\");
        return Err(LookupError::Unreachable { cause, circuit_open: false });
    }
ORIGINAL",
        }],
    },
    Mutant {
        name: "ForcedWithoutAsking",
        what: "Forced failure without asking.",
        plan: "--with LookupError,LookupHang,LookupOutage,HangCreated,CallbackLost",
        edits: &[Edit {
            file: EXAMINE,
            find: "        Err(LookupError::Unreachable { cause: why, .. }) => {",
            replace:
                "        Err(_) if BUG => Findings { by_order: Some(Vec::new()), ..Findings::default() },
ORIGINAL",
        }],
    },
    Mutant {
        name: "NoWatchList",
        what: "No watch list.",
        plan: "--with ResultDelay,StuckPending,FlipToSuccess",
        edits: &[Edit {
            file: LOOKS,
            find: "let next = match if check.watch_wanted { Watch::Full } else { watch } {",
            replace: "let next = match if BUG { Watch::No } else if check.watch_wanted { Watch::Full } else { watch } {",
        }],
    },
    Mutant {
        name: "WatchWishForgotten",
        what: "The wish to be watched after a 500 is forgotten.",
        plan: "--with Create500,Create503,LookupError,LookupHang --intensity 400",
        edits: &[Edit {
            file: SETTLE,
            find: "check.watch_wanted |= outcome.watch;
        let watch = if outcome.watch { Watch::Full } else { Watch::No };",
            replace: "check.watch_wanted |= outcome.watch && !BUG;
        let watch = if outcome.watch && !BUG { Watch::Full } else { Watch::No };",
        }],
    },
    Mutant {
        name: "CouponNotGivenBack",
        what: "Compensation forgets the coupon.",
        plan: "",
        edits: &[Edit {
            file: SETTLE,
            find: "if record.issued_coupon_id.is_some() {",
            replace: "if record.issued_coupon_id.is_some() && !BUG {",
        }],
    },
    Mutant {
        name: "PointsNotGivenBack",
        what: "Compensation forgets the points.",
        plan: "",
        edits: &[Edit {
            file: SETTLE,
            find: "if used_point.is_positive() {",
            replace: "if used_point.is_positive() && !BUG {",
        }],
    },
    Mutant {
        name: "StockNotGivenBack",
        what: "Compensation forgets the stock.",
        plan: "",
        edits: &[Edit {
            file: SETTLE,
            find: "changes.stock_back.sort_unstable();",
            replace: "ORIGINAL
        if BUG {
            changes.stock_back.clear();
        }",
        }],
    },
    Mutant {
        name: "OrderNotCancelled",
        what: "Compensation leaves the order as it is.",
        plan: "",
        edits: &[Edit {
            file: SETTLE,
            find: "changes.order = Some(order.with(cancelled));",
            replace: "changes.order = Some(order.with(cancelled)).filter(|_| !BUG);",
        }],
    },
    Mutant {
        name: "OrderNotPaid",
        what: "Success leaves the order as it is.",
        plan: "",
        edits: &[Edit {
            file: SETTLE,
            find: "change.changes.order = Some(order.with(paid));",
            replace: "change.changes.order = Some(order.with(paid)).filter(|_| !BUG);",
        }],
    },
    Mutant {
        name: "HistoryForgotten",
        what: "A change of state leaves no row in the history.",
        plan: "",
        edits: &[Edit {
            file: SETTLE,
            find: "        change.payment = after;
",
            replace: "        if BUG {
            change.changes.history.pop();
        }
ORIGINAL",
        }],
    },
    Mutant {
        name: "ClaimNotEnded",
        what: "The claim is never ended.",
        plan: "",
        edits: &[Edit {
            file: LOOKS,
            find: "        lease: None,
",
            replace: "        lease: check.lease.filter(|_| BUG),
",
        }],
    },
    Mutant {
        name: "ExtraLookMovesWatch",
        what: "An extra look moves the one that the watch list has set.",
        plan: "--with Sync,ResultDelay,StuckPending,ForgedToken,CallbackTwice,CallbackLate --intensity 250",
        edits: &[Edit {
            file: LOOKS,
            find: "    if is_watch_look(claim) {
        check.watch_step",
            replace: "    if BUG || is_watch_look(claim) {
        check.watch_step",
        }],
    },
    Mutant {
        name: "FailedExtraLookMovesWatch",
        what: "An extra look that comes to nothing moves the one that the watch list has set.",
        plan: "--with Sync,ResultDelay,StuckPending,CallbackTwice,CallbackLate,LookupError,LookupHang --intensity 250",
        edits: &[Edit {
            file: LOOKS,
            find: "is_terminal() && !is_watch_look(claim) {",
            replace: "is_terminal() && !is_watch_look(claim) && !BUG {",
        }],
    },
    Mutant {
        name: "AcceptedIsPaid",
        what: "The order is paid before the gateway has answered for good.",
        plan: "",
        edits: &[Edit {
            file: SETTLE,
            find: "            self.attach(&mut change, key, \"the gateway accepted the request\")?;
",
            replace: "ORIGINAL            if BUG {
                self.step(&mut change, \"accepted\", Payment::success)?;
                let order = &self.case.order;
                let paid = order.value.clone().pay().map_err(|error| self.inconsistent(&error))?;
                change.changes.order = Some(order.with(paid));
            }
",
        }],
    },
    Mutant {
        name: "UncertainIsNotReached",
        what: "An uncertain outcome is compensated as not reached.",
        plan: "--with HangCreated,ResetCreated,Garbage",
        edits: &[Edit {
            file: SETTLE,
            find: "            GatewayAnswer::Uncertain { .. } => {
                let mut change",
            replace: "            GatewayAnswer::Uncertain { .. } if BUG => {
                self.fail(FailureMessage::from_outside(\"no answer\"), false, watch, check)
            }
ORIGINAL",
        }],
    },
    Mutant {
        name: "LeaseNotLookedAt",
        what: "Whoever has lost his claim settles all the same.",
        plan: "--with FreezeReconciler,FreezeApp,CallbackTwice,ResultDelay,StuckPending --intensity 250",
        edits: &[Edit {
            file: SETTLE,
            find: "self.check.lease.is_some_and(|lease| lease.id == claim.lease_id)",
            replace: "BUG || ORIGINAL",
        }],
    },
    Mutant {
        name: "ParkedThoughWoken",
        what: "A payment that was woken meanwhile is parked.",
        plan: "--only LookupOdd,CallbackTwice,Flood,Sync --intensity 900 --park-after 2",
        edits: &[Edit {
            file: LOOKS,
            find: "check.parked_at = if check.woken_at.is_some() { None } else { Some(now) };",
            replace: "check.parked_at = if check.woken_at.is_some() && !BUG { None } else { Some(now) };",
        }],
    },
    Mutant {
        name: "InterlockLate",
        what: "The interlock wants one lost key more than it should.",
        plan: "--only GatewayWipe,ResultDelay --intensity 900",
        edits: &[Edit {
            file: "crates/application/src/reconcile.rs",
            find: "let many_lost = lost > 0 && lost + unanswered >= u64::from(policy.interlock_lost_keys);",
            replace: "let least = u64::from(policy.interlock_lost_keys) + u64::from(BUG);
    let many_lost = lost > 0 && lost + unanswered >= least;",
        }],
    },
];
