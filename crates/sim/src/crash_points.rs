//! Where a process may die: the crash points C1 to C30 of spec 04, and which step of a program belongs to which.
//!
//! A program can die only where it meets the world, since between two such steps nothing happens that anybody could see:
//! a death anywhere between them is the death at the next one. Every step belongs to a point; one that doesn't is a
//! defect of this table, and fails the run's test.

use crate::flow::Stage;
use crate::kinds::Kind;
use std::cell::RefCell;
use std::collections::BTreeMap;
use test_support::Site;

/// One of spec 04's crash points.
#[derive(Debug, Clone, Copy)]
pub struct CrashPoint {
    /// `C1` to `C30`.
    pub id: &'static str,
    /// What the spec says.
    pub what: &'static str,
    /// What it is here.
    pub here: Here,
}

/// What a crash point of the spec is in this system.
#[derive(Debug, Clone, Copy)]
pub enum Here {
    /// These steps. `needs`: faults without which a run seldom comes to them.
    Sites {
        /// Which steps.
        sites: &'static [At],
        /// Faults that lead there.
        needs: &'static [Kind],
    },
    /// Any step of a program in this state, whatever other point it belongs to otherwise.
    State {
        /// Which state.
        state: State,
        /// Faults that lead there.
        needs: &'static [Kind],
    },
    /// There is no such moment; why, and what stands in for it.
    Absent(&'static str),
}

/// A state of a program that makes each of its steps a crash point of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It stood still for longer than the lease that it works under, and goes on.
    LeaseOver,
    /// It was told to stop and ends what is under way.
    Draining,
}

/// Steps: at which stage, in which transaction (empty: in none), which call. `*` is every call of the transaction but
/// its commit.
#[derive(Debug, Clone, Copy)]
pub struct At(pub Stage, pub &'static str, pub &'static str);

/// The place of a point in [`CRASH_POINTS`].
pub type PointIndex = usize;

/// How many points spec 04 has.
pub const COUNT: usize = 30;

const fn sites(id: &'static str, what: &'static str, sites: &'static [At]) -> CrashPoint {
    CrashPoint { id, what, here: Here::Sites { sites, needs: &[] } }
}

const COMMIT: &str = "tx.commit";
const STORED: &str = "tx.commit, stored";
const BEGIN: &str = "store.begin";
const RECORDED: &str = "tx.store_discrepancies, done";
const ANNOUNCED: &str = "store.announce_ended";

use Stage::{Answered, BetweenItems, Examining, FirstCommitSent, Ordering, Placed, Reading, Receiving, Turn};

/// C1 to C30. A transaction that is done in batches belongs to the point of the task that leads it.
pub static CRASH_POINTS: [CrashPoint; COUNT] = [
    sites("C1", "before BEGIN", &[At(Ordering, "place_orders", BEGIN)]),
    sites("C2", "between the statements of TX1", &[At(Ordering, "place_orders", "*")]),
    sites(
        "C3",
        "TX1's COMMIT sent, or unknown",
        &[At(Ordering, "place_orders", COMMIT), At(FirstCommitSent, "", "queries.order")],
    ),
    sites(
        "C4",
        "after TX1",
        &[
            At(Ordering, "place_orders", STORED),
            At(Ordering, "start_payments", BEGIN),
            At(Ordering, "start_payments", "*"),
            At(Ordering, "start_payments", COMMIT),
            At(Placed, "", "queries.order"),
        ],
    ),
    sites(
        "C5",
        "before the bytes of attempt n",
        &[At(Ordering, "start_payments", STORED), At(Ordering, "gateway", "request")],
    ),
    sites("C6", "after the bytes, before the answer", &[At(Ordering, "gateway", "request sent")]),
    sites(
        "C7",
        "after the answer, before TX2",
        &[At(Ordering, "gateway", "request answered"), At(Ordering, "settle", BEGIN)],
    ),
    sites(
        "C8",
        "in back-off, in the probe",
        &[At(Ordering, "gateway", "look-up"), At(Ordering, "gateway", "look-up answered")],
    ),
    sites("C9", "inside TX2", &[At(Ordering, "settle", "*")]),
    sites("C10", "TX2's COMMIT unknown", &[At(Ordering, "settle", COMMIT)]),
    sites(
        "C11",
        "after TX2, before the reply",
        &[
            At(Ordering, "settle", STORED),
            At(Ordering, "claim", "*"),
            At(Ordering, "claim", COMMIT),
            At(Ordering, "claim", STORED),
            At(Answered, "gateway", "look-up"),
            At(Answered, "gateway", "look-up answered"),
            At(Answered, "", "queries.last_paid_key"),
            At(Answered, "", "queries.order"),
            At(Answered, "settle", "*"),
            At(Answered, "settle", COMMIT),
            At(Answered, "settle", STORED),
        ],
    ),
    sites(
        "C12",
        "while replying",
        &[
            At(Ordering, "http", "order answer"),
            // A request that is repeated with its key: the answer is what is left to do.
            At(Ordering, "", "queries.order"),
            At(Ordering, "save_answer", "*"),
            At(Ordering, "save_answer", COMMIT),
            At(Ordering, "save_answer", STORED),
            At(Reading, "", "queries.order"),
        ],
    ),
    sites(
        "C13",
        "callback received",
        &[At(Receiving, "note_callbacks", "*"), At(Receiving, "note_callbacks", COMMIT)],
    ),
    sites(
        "C14",
        "inbox inserted",
        &[
            At(Receiving, "note_callbacks", STORED),
            // A buyer who has his payment looked at.
            At(Examining, "", "queries.payment"),
            At(Examining, "claim", "*"),
            At(Examining, "claim", COMMIT),
            At(Examining, "claim", STORED),
            At(Examining, "gateway", "look-up"),
        ],
    ),
    sites(
        "C15",
        "callback: after the query",
        &[
            At(Examining, "gateway", "look-up answered"),
            At(Examining, "", "queries.last_paid_key"),
            At(Examining, "settle", BEGIN),
        ],
    ),
    sites("C16", "callback: inside settle", &[At(Examining, "settle", "*")]),
    sites(
        "C17",
        "callback: settle's COMMIT unknown",
        &[At(Examining, "settle", COMMIT), At(Examining, "settle", STORED)],
    ),
    // The 200 is answered as soon as the callback is written down; asking and settling come after it.
    sites("C18", "callback: before the 200", &[At(Receiving, "http", "callback answer")]),
    sites(
        "C19",
        "reconciler: at and after the claim",
        &[
            At(Turn, "claim", "*"),
            At(Turn, "claim", COMMIT),
            At(Turn, "claim", STORED),
            At(Turn, "gateway", "look-up"),
        ],
    ),
    sites(
        "C20",
        "reconciler: after the query",
        &[
            At(Turn, "gateway", "look-up answered"),
            At(Turn, "", "queries.last_paid_key"),
            At(Turn, "settle", BEGIN),
        ],
    ),
    sites("C21", "reconciler: inside settle", &[At(Turn, "settle", "*")]),
    sites(
        "C22",
        "reconciler: settle's COMMIT unknown",
        &[At(Turn, "settle", COMMIT), At(Turn, "settle", STORED)],
    ),
    // The lease is released in the transaction that settles, whatever it settles.
    sites("C23", "before the lease is released", &[At(Turn, "settle", "tx.store_checks")]),
    sites(
        "C24",
        "between items",
        &[
            At(BetweenItems, "settle", BEGIN),
            At(BetweenItems, "claim", "*"),
            At(BetweenItems, "claim", COMMIT),
        ],
    ),
    CrashPoint {
        id: "C25",
        what: "lease over while frozen",
        here: Here::State {
            state: State::LeaseOver,
            needs: &[Kind::CrashReconciler, Kind::FreezeReconciler, Kind::CrashApp, Kind::FreezeApp],
        },
    },
    sites("C26", "watch: after the query", &[At(Turn, "gateway", "watched look-up answered")]),
    CrashPoint {
        id: "C27",
        what: "after a row of the ledger was inserted",
        here: Here::Sites {
            sites: &[
                At(Ordering, "settle", RECORDED),
                At(Examining, "settle", RECORDED),
                At(Turn, "settle", RECORDED),
            ],
            needs: &[
                Kind::CrashReconciler,
                Kind::CrashApp,
                Kind::AmountDelta,
                Kind::Create500,
                Kind::FlipToSuccess,
            ],
        },
    },
    CrashPoint {
        id: "C28",
        what: "after the cancel call",
        here: Here::Absent(
            "the gateway has no cancel call; a refund is made by hand, and closing its row is one statement (C27 is the last \
             moment before a person is told)",
        ),
    },
    // In the place of an outbox: who waits for the end of an order is told after the commit, and looks by himself, too.
    sites(
        "C29",
        "ended, not announced",
        &[At(Ordering, "", ANNOUNCED), At(Examining, "", ANNOUNCED), At(Turn, "", ANNOUNCED)],
    ),
    CrashPoint {
        id: "C30",
        what: "during a graceful drain",
        here: Here::State { state: State::Draining, needs: &[Kind::CrashApp, Kind::Drain] },
    },
];

impl CrashPoint {
    /// False when there is no such moment in this system.
    pub const fn exists(&self) -> bool {
        !matches!(self.here, Here::Absent(_))
    }

    /// How many of the runs that are about one point are about this one, beside others: runs seldom come to a point that
    /// needs faults of its own.
    pub const fn weight(&self) -> u64 {
        match self.here {
            Here::Sites { needs: [], .. } => 1,
            Here::Sites { .. } | Here::State { .. } => 4,
            Here::Absent(_) => 0,
        }
    }

    /// The faults with which a run comes to it: the death itself, and what leads there.
    pub fn needs(&self) -> Vec<Kind> {
        match self.here {
            Here::Sites { sites, needs: [] } => {
                let turn = |at: &At| matches!(at.0, Stage::Turn | Stage::BetweenItems);
                vec![if sites.iter().all(turn) { Kind::CrashReconciler } else { Kind::CrashApp }]
            }
            Here::Sites { needs, .. } | Here::State { needs, .. } => needs.to_vec(),
            Here::Absent(_) => Vec::new(),
        }
    }
}

/// All points at which a process can die here.
pub fn existing() -> impl Iterator<Item = PointIndex> {
    CRASH_POINTS.iter().enumerate().filter(|(_, point)| point.exists()).map(|(index, _)| index)
}

/// The `nth` of all points, each as often as its weight says; `nth` wraps around.
pub fn weighted(nth: u64) -> Option<PointIndex> {
    let sum: u64 = CRASH_POINTS.iter().map(CrashPoint::weight).sum();
    let mut left = nth.checked_rem(sum)?;
    CRASH_POINTS.iter().position(|point| {
        let here = left < point.weight();
        left = left.saturating_sub(point.weight());
        here
    })
}

/// The point of a state.
pub fn of_state(wanted: State) -> Option<PointIndex> {
    CRASH_POINTS.iter().position(|point| matches!(point.here, Here::State { state, .. } if state == wanted))
}

thread_local! {
    /// What [`of_site`] found before, by the addresses of the names: steps are many and the rules are read one by one.
    static FOUND: RefCell<BTreeMap<(Stage, usize, usize), Option<PointIndex>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The point that a step belongs to; none: the table lacks it.
pub fn of_site(stage: Stage, site: Site) -> Option<PointIndex> {
    let key = (stage, site.within.as_ptr().addr(), site.call.as_ptr().addr());
    FOUND.with_borrow_mut(|found| *found.entry(key).or_insert_with(|| look_up(stage, site)))
}

fn look_up(stage: Stage, site: Site) -> Option<PointIndex> {
    let mut at = Some(stage);
    while let Some(stage) = at {
        let found = find(stage, site, site.call).or_else(|| {
            let commit = matches!(site.call, COMMIT | STORED);
            if site.within.is_empty() || commit { None } else { find(stage, site, "*") }
        });
        if found.is_some() {
            return found;
        }
        at = stage.base();
    }
    None
}

fn find(stage: Stage, site: Site, call: &str) -> Option<PointIndex> {
    CRASH_POINTS.iter().position(|point| match point.here {
        Here::Sites { sites, .. } => {
            sites.iter().any(|at| at.0 == stage && at.1 == site.within && at.2 == call)
        }
        Here::State { .. } | Here::Absent(_) => false,
    })
}

/// What a death after a call, before the program learns of it, is called where that is another moment than before it.
/// `recorded`: there were rows for the discrepancy ledger.
pub const fn after(call: &'static str, recorded: bool) -> &'static str {
    match call.as_bytes() {
        b"tx.commit" => STORED,
        b"tx.store_discrepancies" if recorded => RECORDED,
        _ => call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(stage: Stage, within: &'static str, call: &'static str) -> Option<&'static str> {
        of_site(stage, Site { within, call }).map(|index| CRASH_POINTS[index].id)
    }

    #[test]
    fn the_table_is_in_order_and_says_what_is_absent() {
        for (number, point) in (1..).zip(&CRASH_POINTS) {
            assert_eq!(point.id, format!("C{number}"));
        }
        let absent: Vec<&str> =
            CRASH_POINTS.iter().filter(|point| !point.exists()).map(|point| point.id).collect();
        assert_eq!(absent, ["C28"]);
        assert_eq!(existing().count(), 29);
    }

    #[test]
    fn every_point_that_exists_has_its_share_of_runs() {
        let sum = CRASH_POINTS.iter().map(CrashPoint::weight).sum();
        for (index, point) in CRASH_POINTS.iter().enumerate() {
            let share = (0..sum).filter(|nth| weighted(*nth) == Some(index)).count() as u64;
            assert_eq!(share, point.weight(), "{}", point.id);
            assert_eq!(share > 0, point.exists());
        }
    }

    #[test]
    fn the_nearest_rule_wins() {
        assert_eq!(named(Ordering, "place_orders", BEGIN), Some("C1"));
        assert_eq!(named(Ordering, "place_orders", "tx.lock_products"), Some("C2"));
        assert_eq!(named(FirstCommitSent, "place_orders", STORED), Some("C4"));
        assert_eq!(named(FirstCommitSent, "", "queries.order"), Some("C3"));
        assert_eq!(named(Answered, "gateway", "look-up"), Some("C11"));
        assert_eq!(named(Placed, "gateway", "look-up"), Some("C8"));
        assert_eq!(named(Turn, "settle", "tx.store_checks"), Some("C23"));
        assert_eq!(named(BetweenItems, "settle", BEGIN), Some("C24"));
        assert_eq!(named(BetweenItems, "settle", "tx.store_payments"), Some("C21"));
        assert_eq!(named(BetweenItems, "", ANNOUNCED), Some("C29"));
        assert_eq!(named(Turn, "settle", RECORDED), Some("C27"));
        assert_eq!(named(Placed, "a new transaction", "tx.commit"), None);
    }
}
