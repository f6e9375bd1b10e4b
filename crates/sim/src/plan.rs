//! What one run is: drawn from the seed alone.

use crate::crash_points::{self, CRASH_POINTS, PointIndex};
use crate::kinds::Kind;
use application::BatchLimits;
use std::collections::BTreeSet;
use std::time::Duration;
use test_support::TestEntropy;

/// How buyers come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Crowd {
    /// Now and then, over the whole time.
    None,
    /// All at once, each with an account of their own and for different products.
    Apart,
    /// All at once, on one account and for one product.
    Together,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything is drawn from it.
    pub seed: u64,
    /// The kinds of faults of this run: a random subset, so that combinations go deep.
    pub faults: BTreeSet<Kind>,
    /// The crash point that this run is about: processes die there sooner than elsewhere.
    pub aim: Option<PointIndex>,
    /// How often they strike, in per cent of their usual rate.
    pub intensity: u64,
    /// The most often that a kind strikes where it can, of 1000: below that, so that nothing is out of order for ever.
    pub most: u64,
    /// How many of 100 requests a healthy gateway answers with 500 (spec 02).
    pub ordinary_500: u64,
    /// Servers of the API.
    pub apps: usize,
    /// Reconcilers.
    pub reconcilers: usize,
    /// Buyers, each of whom places [`Plan::orders_each`] orders.
    pub clients: usize,
    /// Orders of a buyer.
    pub orders_each: usize,
    /// How they come together. In a crowd the database is slow, so that orders wait and are done in batches.
    pub crowd: Crowd,
    /// How large batches get, how many wait, and for how long.
    pub batch: BatchLimits,
    /// A payment that can't be examined is parked after so many times.
    pub park_after: u32,
    /// How long the buyers are at it.
    pub workload: Duration,
}

/// Faults that together lead to two transactions of one order, examined before both are decided, and to looks at payments
/// that have ended.
const DEEP: [Kind; 8] = [
    Kind::Create500,
    Kind::LookupError,
    Kind::LookupHang,
    Kind::ResultDelay,
    Kind::StuckPending,
    Kind::CallbackTwice,
    Kind::CallbackLate,
    Kind::ForgedWithoutToken,
];

impl Plan {
    /// The run of a seed.
    pub fn new(seed: u64) -> Self {
        let draw = TestEntropy::new(seed ^ 0x5EED_0001);
        // A tenth of the runs has no fault at all: there every order must end as the gateway decided.
        let share = match draw.below(10) {
            0 => 0,
            1..=4 => 10,
            5..=7 => 25,
            _ => 60,
        };
        let mut faults: BTreeSet<Kind> = Kind::ALL.iter().copied().filter(|_| draw.percent(share)).collect();
        if share > 0 && faults.is_empty() {
            let one = draw.below(Kind::ALL.len() as u64);
            faults.extend(Kind::ALL.get(usize::try_from(one).unwrap_or_default()));
        }
        // A third of the others is about one crash point, so that the rare ones are met as well.
        let aiming = TestEntropy::new(seed ^ 0xA1_0000);
        let mut aim = None;
        if !faults.is_empty() && aiming.below(3) == 0 {
            aim = crash_points::weighted(aiming.next_u64());
            faults.extend(
                aim.and_then(|aim| CRASH_POINTS.get(aim)).into_iter().flat_map(|point| point.needs()),
            );
        }
        // A tenth of them goes deep in one place: several transactions of one order, looks that fail, callbacks at any time.
        let deep = !faults.is_empty() && aiming.below(10) == 0;
        if deep {
            faults.extend(DEEP);
        }
        let pick = |from: u64, to: u64| usize::try_from(from + draw.below(to - from + 1)).unwrap_or(1);
        let crowd = match pick(1, 6) {
            1 => Crowd::Together,
            2 | 3 => Crowd::Apart,
            _ => Crowd::None,
        };
        let buyers = if crowd == Crowd::None { pick(2, 6) } else { pick(8, 24) };
        Self {
            seed,
            faults,
            aim,
            intensity: if deep { 400 } else { [50, 100, 100, 250].get(pick(0, 3)).copied().unwrap_or(100) },
            most: 900,
            ordinary_500: 40,
            apps: if crowd == Crowd::None { pick(1, 3) } else { pick(1, 2) },
            reconcilers: pick(1, 3),
            clients: buyers,
            orders_each: if crowd == Crowd::None { pick(2, 6) } else { pick(2, 4) },
            crowd,
            batch: BatchLimits {
                size: [2, 3, 8, 64].get(pick(0, 3)).copied().unwrap_or(64),
                lanes: pick(1, 2),
                queue: [3, 64, 4096].get(pick(0, 2)).copied().unwrap_or(4096),
                wait: Duration::from_millis([400, 2000, 2000].get(pick(0, 2)).copied().unwrap_or(2000)),
            },
            park_after: [20, 20, 3].get(pick(0, 2)).copied().unwrap_or(20),
            workload: Duration::from_secs(60 * u64::try_from(pick(5, 30)).unwrap_or(5)),
        }
    }

    /// The same run without some kinds: each kind draws from a stream of its own, so the others hardly change.
    pub fn without(mut self, kinds: &BTreeSet<Kind>) -> Self {
        self.faults.retain(|kind| !kinds.contains(kind));
        self
    }

    /// The same run with these kinds and no others.
    pub fn only(mut self, kinds: &BTreeSet<Kind>) -> Self {
        self.faults = kinds.clone();
        self
    }

    /// The same run about a crash point.
    pub fn about(mut self, point: PointIndex) -> Self {
        self.aim = Some(point);
        self.faults.extend(CRASH_POINTS.get(point).into_iter().flat_map(|point| point.needs()));
        self
    }

    /// The same run with as many buyers as come in such a crowd.
    pub fn crowded(mut self, crowd: Crowd) -> Self {
        if crowd != Crowd::None && self.crowd == Crowd::None {
            (self.clients, self.orders_each) = (4 * self.clients, 2 + self.orders_each % 2);
        }
        self.crowd = crowd;
        self
    }

    /// Buyers come together in a crowd.
    pub fn is_crowded(&self) -> bool {
        self.crowd != Crowd::None
    }

    /// Whether a kind belongs to it.
    pub fn has(&self, kind: Kind) -> bool {
        self.faults.contains(&kind)
    }
}
