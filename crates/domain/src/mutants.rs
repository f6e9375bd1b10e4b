//! Known bugs of payment code (spec 04), each a switch that only a test build has: what tests and simulation must find.
//!
//! Without the feature `mutants` every switch is `false` at compile time and nothing of it is left in a program.

#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! mutants {
    ($( $(#[doc = $doc:literal])+ $name:ident; )+) => {
        /// A known bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant { $( $(#[doc = $doc])+ $name, )+ }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name),+];

            /// What the bug is.
            pub const fn description(self) -> &'static str {
                match self { $( Mutant::$name => concat!($($doc),+), )+ }
            }
        }
    };
}

mutants! {
    /// A callback settles by another order's transaction.
    ForeignKeyBelieved;
    /// Of several transactions only the newest is looked at.
    NewestBelieved;
    /// The amount is never compared.
    AmountNotCompared;
    /// A wrong amount leaves no row in the ledger.
    MismatchUnrecorded;
    /// A late success returns silently.
    LateSuccessSilent;
    /// A second charge leaves no row in the ledger.
    DuplicateUnrecorded;
    /// No grace before "none there".
    NoGrace;
    /// One FAILED transaction fails the payment, although another is undecided.
    OneFailedIsEnough;
    /// A charge of a key that another payment owns is paid by.
    KeyOfAnotherTaken;
    /// Ledger rows are not unique.
    LedgerNotUnique;
    /// What is undecided at the watch list's last look is not told.
    NeverSettledSilent;
    /// Repeated product lines collapse into one.
    LinesCollapse;
    /// "No such transaction" is an error, so that the payment is stuck for ever.
    NotFoundIsError;
    /// Forced failure without asking.
    ForcedWithoutAsking;
    /// No watch list.
    NoWatchList;
    /// The wish to be watched after a 500 is forgotten.
    WatchWishForgotten;
    /// Compensation forgets the coupon.
    CouponNotGivenBack;
    /// Compensation forgets the points.
    PointsNotGivenBack;
    /// Compensation forgets the stock.
    StockNotGivenBack;
    /// Compensation leaves the order as it is.
    OrderNotCancelled;
    /// Success leaves the order as it is.
    OrderNotPaid;
    /// A change of state leaves no row in the history.
    HistoryForgotten;
    /// The claim is never ended.
    ClaimNotEnded;
    /// An extra look moves the one that the watch list has set.
    ExtraLookMovesWatch;
    /// Compensation locks in another order than placing.
    LockOrderReversed;
    /// A COMMIT of unknown outcome is taken for a success.
    UnknownCommitTrusted;
    /// The send deadline is ignored.
    SendDeadlineIgnored;
    /// Amounts are truncated.
    AmountTruncated;
    /// The callback's token is not checked.
    TokenNotChecked;
    /// The order is paid before the gateway has answered for good.
    AcceptedIsPaid;
    /// The gateway is not asked before the request is sent again.
    ProbeSkipped;
    /// An uncertain outcome is retried.
    UncertainRetried;
    /// A refusal is retried.
    RefusalRetried;
    /// An uncertain outcome is compensated as not reached.
    UncertainIsNotReached;
}

#[cfg(feature = "mutants")]
static ACTIVE: AtomicU32 = AtomicU32::new(u32::MAX);

/// Switches one on, and all others off.
#[cfg(feature = "mutants")]
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.store(mutant.map_or(u32::MAX, |mutant| mutant as u32), Ordering::Relaxed);
}

/// Whether a bug is switched on.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutant as u32
}

/// Whether a bug is switched on: never.
#[cfg(not(feature = "mutants"))]
#[must_use]
#[inline(always)]
pub const fn is(_mutant: Mutant) -> bool {
    false
}
