//! What a task of a program is at: which order, and how far it has come. A crash is told apart by it.

use crate::draws::Life;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
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
    /// The worker that takes up what callbacks woke, or a buyer who has his payment looked at.
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

/// A task of a program. It may do the work of others, too: whoever leads a batch does that of all its members.
#[derive(Debug)]
pub struct Flow {
    /// The life of the program that it belongs to.
    pub life: Life,
    order: AtomicI64,
    stage: AtomicU8,
    proving: AtomicBool,
    leads: AtomicUsize,
    recording: AtomicBool,
    sick: AtomicBool,
}

impl Flow {
    /// A task about an order (0: not known yet).
    pub fn new(life: Life, order: i64, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            life,
            order: AtomicI64::new(order),
            stage: AtomicU8::new(stage as u8),
            proving: AtomicBool::new(false),
            leads: AtomicUsize::new(0),
            recording: AtomicBool::new(false),
            sick: AtomicBool::new(false),
        })
    }

    fn stage(&self) -> Stage {
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        Stage::ALL.get(stage).copied().unwrap_or(Stage::Reading)
    }

    /// From now on it is so far.
    pub fn come_to(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// From now on it is about this order.
    pub fn is_about(&self, order: i64) {
        self.order.store(order, Ordering::Relaxed);
    }

    /// It leads a batch of so many; 0: none any more.
    pub fn leads(&self, members: usize) {
        self.leads.store(members, Ordering::Relaxed);
        self.recording.store(false, Ordering::Relaxed);
    }

    /// The batch that it leads has rows for the discrepancy ledger.
    pub fn records(&self) {
        self.recording.store(true, Ordering::Relaxed);
    }

    /// What it asks for can't be stored, by a fault of its own.
    pub fn is_sick(&self) {
        self.sick.store(true, Ordering::Relaxed);
    }

    /// The task comes to a site: afterwards it may be further. What a batch's commit means for its members is told them by
    /// [`crate::store`].
    fn passes(&self, site: Site) {
        let stage = self.stage();
        let orders = stage.base() == Some(Stage::Ordering) || stage == Stage::Ordering;
        match (site.within, site.call) {
            ("settle", "tx.commit, stored") if stage == Stage::Turn => self.come_to(Stage::BetweenItems),
            ("settle", "tx.commit, stored") if orders => self.come_to(Stage::Answered),
            // An order examines only what is stored of its gateway's answer.
            ("claim", "store.begin") if orders => self.come_to(Stage::Answered),
            ("claim", "tx.commit, stored") if stage == Stage::BetweenItems => self.come_to(Stage::Turn),
            _ => {}
        }
        match (site.within, site.call) {
            ("settle" | "claim", "store.begin") => self.proving.store(false, Ordering::Relaxed),
            ("", "queries.last_paid_key") => self.proving.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
}

/// The running task.
pub fn current() -> Option<Arc<Flow>> {
    FLOW.try_with(Arc::clone).ok()
}

/// The order that the running task is about; 0 when none is known.
pub fn flow() -> i64 {
    FLOW.try_with(|flow| flow.order.load(Ordering::Relaxed)).unwrap_or_default()
}

/// Names the running flow; only equality means something.
pub fn flow_id() -> usize {
    FLOW.try_with(|flow| Arc::as_ptr(flow).addr()).unwrap_or_default()
}

/// How large the batch is that the running task leads; 0: it leads none.
pub fn leading() -> usize {
    FLOW.try_with(|flow| flow.leads.load(Ordering::Relaxed)).unwrap_or_default()
}

/// The batch that the running task leads has rows for the discrepancy ledger.
pub fn is_recording() -> bool {
    FLOW.try_with(|flow| flow.recording.load(Ordering::Relaxed)).unwrap_or_default()
}

/// See [`Flow::is_sick`].
pub fn is_sick() -> bool {
    FLOW.try_with(|flow| flow.sick.load(Ordering::Relaxed)).unwrap_or_default()
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
