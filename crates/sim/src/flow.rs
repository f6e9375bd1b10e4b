//! What a task of a program is at: which order, and how far it has come. A crash is told apart by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use test_support::Site;

tokio::task_local! {
    /// What this task is at.
    pub static FLOW: Arc<Flow>;
}

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// No task of a program: a buyer reads.
    Reading,
    /// An order, as far as no other stage says more.
    Ordering,
    /// An order whose first COMMIT was sent.
    FirstCommitSent,
    /// An order that is stored.
    Placed,
    /// An order whose answer of the gateway is stored.
    Answered,
    /// A callback that is written down.
    Receiving,
    /// The examination that a callback asked for.
    Examining,
    /// A turn of a reconciler.
    Turn,
    /// A turn of which at least one payment is done.
    BetweenItems,
}

impl Stage {
    const ALL: [Self; 9] = [
        Self::Reading,
        Self::Ordering,
        Self::FirstCommitSent,
        Self::Placed,
        Self::Answered,
        Self::Receiving,
        Self::Examining,
        Self::Turn,
        Self::BetweenItems,
    ];

    /// The stage whose sites are this one's too, where this one has none of its own.
    pub const fn base(self) -> Option<Self> {
        match self {
            Self::FirstCommitSent | Self::Placed | Self::Answered => Some(Self::Ordering),
            Self::BetweenItems => Some(Self::Turn),
            Self::Reading | Self::Ordering | Self::Receiving | Self::Examining | Self::Turn => None,
        }
    }
}

/// A task of a program.
#[derive(Debug)]
pub struct Flow {
    order: AtomicI64,
    stage: AtomicU8,
    proving: AtomicBool,
}

impl Flow {
    /// A task about an order (0: not known yet).
    pub fn new(order: i64, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            order: AtomicI64::new(order),
            stage: AtomicU8::new(stage as u8),
            proving: AtomicBool::new(false),
        })
    }

    fn stage(&self) -> Stage {
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        Stage::ALL.get(stage).copied().unwrap_or(Stage::Reading)
    }

    /// The task comes to a site: afterwards it may be further.
    fn passes(&self, site: Site) {
        let next = match (site.within, site.call) {
            ("place_order", "store.begin") => Stage::Ordering,
            ("place_order", "tx.commit") => Stage::FirstCommitSent,
            ("place_order", "tx.commit, stored") => Stage::Placed,
            ("record_answer", "tx.commit, stored") => Stage::Answered,
            ("settle" | "back_off", "tx.commit, stored") if self.stage() == Stage::Turn => {
                Stage::BetweenItems
            }
            ("claim_due", "tx.commit, stored") => Stage::Turn,
            ("settle" | "back_off" | "claim_due", "store.begin") => {
                return self.proving.store(false, Ordering::Relaxed);
            }
            ("", "queries.last_paid_key") => return self.proving.store(true, Ordering::Relaxed),
            _ => return,
        };
        self.stage.store(next as u8, Ordering::Relaxed);
    }
}

/// The order that the running task is about; 0 when none is known.
pub fn flow() -> i64 {
    FLOW.try_with(|flow| flow.order.load(Ordering::Relaxed)).unwrap_or_default()
}

/// Names the running flow; only equality means something.
pub fn flow_id() -> usize {
    FLOW.try_with(|flow| Arc::as_ptr(flow).addr()).unwrap_or_default()
}

/// From now on the running task is about this order.
pub fn set_flow(order: i64) {
    let _outside_a_flow = FLOW.try_with(|flow| flow.order.store(order, Ordering::Relaxed));
}

/// How far the running task is.
pub fn stage() -> Stage {
    FLOW.try_with(|flow| flow.stage()).unwrap_or(Stage::Reading)
}

/// How far the running task is when it comes to `site`.
pub fn stage_at(site: Site) -> Stage {
    let stage = FLOW.try_with(|flow| {
        let stage = flow.stage();
        flow.passes(site);
        stage
    });
    stage.unwrap_or(Stage::Reading)
}

/// The running task asks whether the gateway knows us at all, and not about a payment of its own.
pub fn is_proving() -> bool {
    FLOW.try_with(|flow| flow.proving.load(Ordering::Relaxed)).unwrap_or_default()
}
