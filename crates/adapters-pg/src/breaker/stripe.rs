//! What makes a guarded call cheap: counters that no two threads share.
//!
//! Once a count-based window knows its rates, a success that was not slow can't change the state, and it doesn't matter
//! in which order such successes came, only how many there were before the next *other* event. So they need no lock and
//! no ring: each thread counts them in its own *stripe*. Whoever needs the window exactly (a failure, a slow call, a
//! snapshot, a command) takes the lock, closes all stripes, hands their counts to the machine, does its work, and opens
//! them again. The result is the same as if every success had taken the lock.
//!
//! A stripe is one word, `generation << 16 | successes not handed in yet`; 0 means closed. A success is counted by
//! compare-and-swap on that word and only if the generation in it is the ticket's own, so a result that comes late can't
//! slip into a newer window. The same word is the gate: a stripe that is open says that the breaker is CLOSED.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::{
    machine::{Machine, Permit, Settlement},
    report::Transition,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering},
};

/// Power of two. More stripes keep more threads apart, and make a failure dearer: it visits them all.
pub(super) const STRIPES: usize = if cfg!(feature = "loom") { 2 } else { 8 };

const COUNT_BITS: u32 = 16;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

pub(super) type Observer = dyn Fn(&Transition) + Send + Sync;

/// The breaker proper. Tickets don't keep it alive: what is settled after its end has no effect.
pub(super) struct Core {
    machine: Mutex<Machine>,
    stripes: [Arc<Stripe>; STRIPES],
    observer: Option<Box<Observer>>,
}

/// Aligned to two cache lines, because processors fetch them in pairs. The reference count, which tickets move, stands
/// in the pair before.
#[repr(align(128))]
pub(super) struct Stripe {
    word: AtomicU64,
    slow_call_duration: Duration,
    core: Weak<Core>,
}

impl Core {
    pub(super) fn new(
        machine: Machine,
        slow_call_duration: Duration,
        observer: Option<Box<Observer>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|core| Self {
            machine: Mutex::new(machine),
            stripes: std::array::from_fn(|_| {
                Arc::new(Stripe { word: AtomicU64::new(0), slow_call_duration, core: Weak::clone(core) })
            }),
            observer,
        })
    }

    /// The stripe of a thread.
    pub(super) fn stripe(&self, thread: usize) -> &Arc<Stripe> {
        #[expect(
            clippy::indexing_slicing,
            reason = "the mask keeps it in range; a fallback would cost a branch per call"
        )]
        &self.stripes[thread & (STRIPES - 1)]
    }

    /// Runs `work`, which must not need the successes that stand in the stripes, nor change whether they may stand there.
    pub(super) fn with_machine<R>(&self, work: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.lock();
        let result = work(&mut machine);
        self.unlock_and_tell(machine);
        result
    }

    /// Runs `work` on the machine with every success counted so far handed in.
    pub(super) fn with_exact_machine<R>(&self, work: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.lock();
        if machine.bulk_generation().is_some() {
            let counted = self.stripes.iter().map(|stripe| stripe.close()).sum();
            machine.record_successes(counted);
        }
        let result = work(&mut machine);
        if let Some(generation) = machine.bulk_generation() {
            for stripe in &self.stripes {
                stripe.open(generation);
            }
        }
        self.unlock_and_tell(machine);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        // Nothing panics while it is held; should it ever, a breaker that goes on is better than one that takes the shop down.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlock_and_tell(&self, mut machine: MutexGuard<'_, Machine>) {
        let news = machine.take_news();
        drop(machine);
        if let Some(observer) = &self.observer {
            news.iter().for_each(observer);
        }
    }
}

impl Stripe {
    /// Leave for a call, without a lock, if the breaker is closed and knows its rates.
    pub(super) fn pass(&self) -> Option<Permit> {
        let generation = self.word.load(Ordering::Acquire) >> COUNT_BITS;
        (generation != 0).then_some(Permit { generation, probe: false })
    }

    pub(super) fn success(&self, generation: u64, now: Instant, slowest: Duration) {
        if slowest > self.slow_call_duration || !self.count(generation) {
            self.settle(generation, Settlement::Success { slowest }, Some(now));
        }
    }

    /// Everything but a success that could be counted here.
    pub(super) fn settle(&self, generation: u64, settlement: Settlement, now: Option<Instant>) {
        let Some(core) = self.core.upgrade() else { return };
        let work = |machine: &mut Machine| machine.settle(generation, settlement, now);
        match settlement {
            Settlement::Ignored | Settlement::Abandoned => core.with_machine(work),
            Settlement::Success { .. } | Settlement::Failure { .. } => core.with_exact_machine(work),
        }
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.core
            .upgrade()
            .is_some_and(|core| core.with_machine(|machine| machine.generation() == generation))
    }

    /// Counts a success of `generation`, if the stripe is open for it and not full.
    fn count(&self, generation: u64) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word >> COUNT_BITS == generation && word & COUNT_MASK != COUNT_MASK {
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(changed) => word = changed,
            }
        }
        false
    }

    /// Closes the stripe and tells how many successes stood in it. Only with the machine locked.
    fn close(&self) -> u64 {
        self.word.swap(0, Ordering::AcqRel) & COUNT_MASK
    }

    /// Opens the stripe, which is closed, for a generation. Only with the machine locked.
    fn open(&self, generation: u64) {
        // 48 bits of generation: at one change of state per millisecond they last 8,900 years.
        self.word.store(generation << COUNT_BITS, Ordering::Release);
    }
}
