//! Several orders, payments and callbacks in one transaction; the database's part in it is the fake's, as the port says.

use super::super::{Edit, Mutant};

const BATCH: &str = "crates/application/src/batch.rs";
const PLACING: &str = "crates/application/src/place_order/placing.rs";
const SETTLE: &str = "crates/application/src/settle.rs";
const TAKEN: &str = "crates/domain/src/placement/batch.rs";
const STORE_WORK: &str = "crates/test-support/src/store/work.rs";
const STORE_SETTLING: &str = "crates/test-support/src/store/settling.rs";
const STORE_EXAMINING: &str = "crates/test-support/src/store/examining.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "ToldBeforeCommit",
        what: "Buyers are told of their orders before these are committed.",
        plan: "--with CommitRefused --intensity 250",
        edits: &[Edit {
            file: PLACING,
            find: "            Err(CommitError::RolledBack(error)) => Err(error),",
            replace: "            Err(CommitError::RolledBack(_)) if BUG => Ok(outcomes),
ORIGINAL",
        }],
    },
    Mutant {
        name: "EndToldBeforeCommit",
        what: "Whoever waits is told that an order has ended before that is committed.",
        plan: "--with CommitRefused --intensity 250",
        edits: &[Edit {
            file: SETTLE,
            find: "            Err(CommitError::RolledBack(error)) => return Err(error),",
            replace: "            Err(CommitError::RolledBack(_)) if BUG => {}
ORIGINAL",
        }],
    },
    Mutant {
        name: "BalanceNotCarried",
        what: "The next order of a batch finds the buyer's points as the batch found them.",
        plan: "--crowd together --apps 1",
        edits: &[Edit {
            file: TAKEN,
            find: "        if let Some(account) = placement.points {",
            replace: "        if let Some(account) = placement.points.filter(|_| !BUG) {",
        }],
    },
    Mutant {
        name: "StockNotCarried",
        what: "The next order of a batch finds the stock as the batch found it.",
        plan: "--crowd apart --apps 1",
        edits: &[Edit {
            file: TAKEN,
            find: "                product.stock = stock;",
            replace: "                product.stock = if BUG { product.stock } else { stock };",
        }],
    },
    Mutant {
        name: "CouponNotCarried",
        what: "The next order of a batch finds a coupon available that the one before has used.",
        plan: "--crowd together --apps 1",
        edits: &[Edit {
            file: TAKEN,
            find: "            holding.value.issued = used.value;",
            replace: "            holding.value.issued = if BUG { holding.value.issued } else { used.value };",
        }],
    },
    Mutant {
        name: "PointsBackNotCarried",
        what: "The next payment of a batch gives points back to a balance that the one before has changed.",
        plan: "--with Http400,Http401,ConnectRefused --intensity 400 --crowd together --apps 1",
        edits: &[Edit {
            file: "crates/domain/src/settlement/settle.rs",
            find: "        if let Some(entry) = changes.points_back {",
            replace: "        if let Some(entry) = changes.points_back.filter(|_| !BUG) {",
        }],
    },
    Mutant {
        name: "LocksNotSorted",
        what: "A batch locks its rows in the order of its members.",
        plan: "--crowd apart --apps 3",
        edits: &[Edit {
            file: STORE_WORK,
            find: "        let there: BTreeMap<K, ()> = self.view(|view| {
            let seen = ids.into_iter().filter(|id| view.get(table, id).is_some_and(&qualifies));
            seen.map(|id| (id, ())).collect()
        });",
            replace: "        let there: Vec<(K, ())> = self.view(|view| {
            let seen = ids.into_iter().filter(|id| view.get(table, id).is_some_and(&qualifies));
            let seen: Vec<K> = seen.collect();
            if BUG { return seen.into_iter().map(|id| (id, ())).collect(); }
            let sorted: BTreeMap<K, ()> = seen.into_iter().map(|id| (id, ())).collect();
            sorted.into_iter().collect()
        });",
        }],
    },
    Mutant {
        name: "LockOrderReversed",
        what: "Compensation locks in another order than placing.",
        plan: "--with Http400,ConnectRefused --intensity 250 --crowd together",
        edits: &[Edit {
            file: STORE_SETTLING,
            find: "    run!(tx, \"tx.lock_products\", self::lock_stock(&giving_back))?;
    let points = run!(tx, \"tx.lock_points\", self::lock_points(&giving_back))?;
",
            replace: "    let mut early = None;
    if BUG {
        early = Some(run!(tx, \"tx.lock_points\", self::lock_points(&giving_back))?);
    }
    run!(tx, \"tx.lock_products\", self::lock_stock(&giving_back))?;
    let points = match early {
        Some(points) => points,
        None => run!(tx, \"tx.lock_points\", self::lock_points(&giving_back))?,
    };
",
        }],
    },
    Mutant {
        name: "RefusedTakesOthers",
        what: "A member that is refused takes the others of its batch with it.",
        plan: "--crowd apart --apps 1",
        edits: &[Edit {
            file: PLACING,
            find: "        if orders.is_empty() {
",
            replace: "        let refused = outcomes.iter().find_map(|outcome| match outcome {
            PlacedInBatch::Refused(error) => Some(error.clone()),
            _ => None,
        });
        if let Some(error) = refused.filter(|_| BUG) {
            tx.rollback().await;
            return Ok(outcomes.iter().map(|_| PlacedInBatch::Refused(error.clone())).collect());
        }
ORIGINAL",
        }],
    },
    Mutant {
        name: "FailedTakesOthers",
        what: "A batch that can't be stored is not done again member by member.",
        plan: "--only BadMember --intensity 250 --crowd apart --apps 1",
        edits: &[Edit {
            file: BATCH,
            find: "        if members.len() == 1 {
            return vec![Err(error.into())];
        }",
            replace: "        if BUG || members.len() == 1 {
            return members.iter().map(|_| Err(error.clone().into())).collect();
        }",
        }],
    },
    Mutant {
        name: "UnknownToldToFirst",
        what: "That a commit's outcome is unknown is told to the first member only.",
        plan: "--with CommitUnknownStored,CommitUnknownLost --intensity 250 --crowd apart --apps 1",
        edits: &[Edit {
            file: PLACING,
            find: "Ok(outcomes.into_iter().map(|outcome| outcome.unproven(&own)).collect())",
            replace: "let first = |(nth, outcome): (usize, PlacedInBatch)| {
                    if BUG && nth > 0 { outcome } else { outcome.unproven(&own) }
                };
                Ok(outcomes.into_iter().enumerate().map(first).collect())",
        }],
    },
    Mutant {
        name: "LostCommitIsRefusal",
        what: "A COMMIT whose connection was lost is taken for one that was refused.",
        plan: "--with CommitUnknownStored --intensity 250",
        edits: &[Edit {
            file: "crates/test-support/src/store/tx.rs",
            find: "                return Err(CommitError::OutcomeUnknown);",
            replace: "                if BUG {
                    return Err(CommitError::RolledBack(unavailable(\"tx.commit\")));
                }
ORIGINAL",
        }],
    },
    Mutant {
        name: "KeyTwiceInBatch",
        what: "Two requests with the same Idempotency-Key in one batch both make an order.",
        plan: "--with RepeatAtOnce --intensity 400 --crowd apart --apps 1",
        edits: &[Edit {
            file: PLACING,
            find: "            placing.keys.insert(request.key.clone(), KeyState::Known(taken));",
            replace: "            if !BUG {
                placing.keys.insert(request.key.clone(), KeyState::Known(taken));
            }",
        }],
    },
    Mutant {
        name: "FullQueueDrops",
        what: "A full queue drops whoever comes without an answer.",
        plan: "--crowd apart --apps 1",
        edits: &[Edit {
            file: BATCH,
            find: "            drop(state);
            return self.refused(BatchError::Full);",
            replace: "            drop(state);
            if BUG {
                let (reply, receiver) = oneshot::channel();
                std::mem::forget(reply);
                return Ok(Entered::Waits(0, receiver));
            }
            return self.refused(BatchError::Full);",
        }],
    },
    Mutant {
        name: "LateMemberSent",
        what: "A member that waited beyond its deadline is sent all the same.",
        plan: "--with DbSlow,FreezeApp --intensity 400 --crowd together --apps 1",
        edits: &[
            Edit {
                file: PLACING,
                find: "if on_card && member.deadline <= Instant::now() {",
                replace: "if !BUG && on_card && member.deadline <= Instant::now() {",
            },
            Edit {
                file: "crates/application/src/place_order.rs",
                find: "    fn deadline(&self) -> Instant {
        self.began + self.policy.deadline",
                replace: "    fn deadline(&self) -> Instant {
        (if BUG { Instant::now() } else { self.began }) + self.policy.deadline",
            },
        ],
    },
    Mutant {
        name: "AnswersSwapped",
        what: "Members of a batch get each other's answers.",
        plan: "--crowd apart --apps 1",
        edits: &[Edit {
            file: BATCH,
            find: "        for (reply, outcome) in replies.into_iter().zip(outcomes) {",
            replace: "        if BUG {
            replies.reverse();
        }
ORIGINAL",
        }],
    },
    Mutant {
        name: "LaneLost",
        what: "A lane whose leader dies is never free again.",
        plan: "--with LaneDies --intensity 250 --crowd apart",
        edits: &[
            Edit {
                file: BATCH,
                find: "        if let Some(batcher) = self.0.take() {",
                replace: "        if let Some(batcher) = self.0.take().filter(|_| !BUG) {",
            },
            Edit {
                file: BATCH,
                find: "        drop(lane);
",
                replace: "        if let Some(batcher) = lane.0.as_ref().filter(|_| BUG) {
            batcher.pass_on();
        }
ORIGINAL",
            },
        ],
    },
    Mutant {
        name: "LastComeFirstServed",
        what: "Whoever came last is served first.",
        plan: "--crowd apart --apps 1",
        edits: &[Edit {
            file: BATCH,
            find: "                && let Some(Waiting { member, since, reply, .. }) = state.queue.pop_front()",
            replace: "                && let Some(Waiting { member, since, reply, .. }) =
                    if BUG { state.queue.pop_back() } else { state.queue.pop_front() }",
        }],
    },
    Mutant {
        name: "StaleWatchWanted",
        what: "Whether a payment is to be watched is read before its lock was got.",
        plan: "--with Create500,Create503,LookupError,CommitUnknownStored,CommitUnknownLost,DbSlow,CallbackEarly,CallbackTwice --intensity 400",
        edits: &[Edit {
            file: STORE_SETTLING,
            find: "    let records = run!(tx, \"tx.lock_payments\", self::lock_payments(needs))?;
    let checks = run!(tx, \"tx.lock_checks\", self::lock_checks(records.keys().copied()))?;
",
            replace: "    let before = tx.load(\"tx.lock_payments\", |view| {
        let stale = |need: &SettlingNeeds| Some((need.payment_id, view.get(|t| &t.checks, &need.payment_id)?.watch_wanted));
        Ok(needs.iter().filter_map(stale).collect::<BTreeMap<_, _>>())
    });
    let before = if BUG { before.await? } else { BTreeMap::new() };
    let records = run!(tx, \"tx.lock_payments\", self::lock_payments(needs))?;
    let mut checks = run!(tx, \"tx.lock_checks\", self::lock_checks(records.keys().copied()))?;
    for (id, check) in &mut checks {
        check.watch_wanted = before.get(id).copied().unwrap_or(check.watch_wanted);
    }
",
        }],
    },
    Mutant {
        name: "ClaimedTwice",
        what: "A payment that somebody works on is claimed by another.",
        plan: "--with LookupHang,CallbackTwice,Flood --intensity 250",
        edits: &[Edit {
            file: STORE_EXAMINING,
            find: "check.lease.is_some_and(|lease| lease.until > now)",
            replace: "(!BUG && check.lease.is_some_and(|lease| lease.until > now))",
        }],
    },
];
