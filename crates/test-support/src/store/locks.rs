//! Row locks: exclusive, held until the transaction's end, waited for in order of arrival.

use domain::ports::IdempotencyKey;
use domain::{CouponId, DiscrepancyId, GatewayKey, IssuedCouponId, PaymentId, ProductId, UserId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::sync::oneshot;

/// A transaction.
pub(crate) type TxId = u64;

/// What can be locked: a row, a value of a unique index that is being taken, or the right to take an Idempotency-Key
/// (which is tried, never waited for). Orders, hints and facts need none of their own: they change only under the lock
/// of their payment or its check row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LockKey {
    Payment(PaymentId),
    Check(PaymentId),
    Stock(ProductId),
    Points(UserId),
    IssuedCoupon(IssuedCouponId),
    GatewayKey(GatewayKey),
    Idempotency(IdempotencyKey),
    TakingKey(IdempotencyKey),
    CouponOfUser(UserId, CouponId),
    Discrepancy(DiscrepancyId),
}

#[derive(Debug)]
struct Held {
    owner: TxId,
    queue: VecDeque<(TxId, oneshot::Sender<()>)>,
}

/// What came of asking for a lock.
pub(crate) enum Acquired {
    Yes,
    Wait(oneshot::Receiver<()>),
    /// Waiting would never end: this transaction's own locks are waited for.
    Deadlock,
}

#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: BTreeMap<LockKey, Held>,
    of: BTreeMap<TxId, BTreeSet<LockKey>>,
    waiting: BTreeMap<TxId, LockKey>,
}

impl Locks {
    pub(crate) fn acquire(&mut self, tx: TxId, key: LockKey) -> Acquired {
        let Some(held) = self.held.get(&key) else {
            self.held.insert(key.clone(), Held { owner: tx, queue: VecDeque::new() });
            self.of.entry(tx).or_default().insert(key);
            return Acquired::Yes;
        };
        if held.owner == tx {
            return Acquired::Yes;
        }
        if self.would_deadlock(tx, held.owner) {
            return Acquired::Deadlock;
        }
        let (granted, wait) = oneshot::channel();
        if let Some(held) = self.held.get_mut(&key) {
            held.queue.push_back((tx, granted));
        }
        self.waiting.insert(tx, key);
        Acquired::Wait(wait)
    }

    /// Locks what nobody else holds; never waits.
    pub(crate) fn try_acquire(&mut self, tx: TxId, key: &LockKey) -> bool {
        self.held.get(key).is_none_or(|held| held.owner == tx)
            && matches!(self.acquire(tx, key.clone()), Acquired::Yes)
    }

    /// How many transactions wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Two or more wait for one and the same transaction.
    pub(crate) fn crowded(&self) -> bool {
        let mut owners = BTreeSet::new();
        let owner = |key| self.held.get(key).map(|held: &Held| held.owner);
        !self.waiting.values().filter_map(owner).all(|owner| owners.insert(owner))
    }

    fn would_deadlock(&self, tx: TxId, owner: TxId) -> bool {
        let mut owner = owner;
        // Each transaction waits for at most one lock, so this is a walk along a chain; no chain is longer than the
        // number of transactions that wait.
        for _ in 0..=self.waiting.len() {
            if owner == tx {
                return true;
            }
            match self.waiting.get(&owner).and_then(|key| self.held.get(key)) {
                Some(held) => owner = held.owner,
                None => return false,
            }
        }
        true
    }

    /// Gives up waiting.
    pub(crate) fn abandon(&mut self, tx: TxId) {
        if let Some(held) = self.waiting.remove(&tx).and_then(|key| self.held.get_mut(&key)) {
            held.queue.retain(|(waiter, _)| *waiter != tx);
        }
    }

    /// Frees everything and hands it to those who wait longest.
    pub(crate) fn release(&mut self, tx: TxId) {
        self.abandon(tx);
        for key in self.of.remove(&tx).unwrap_or_default() {
            let Some(mut held) = self.held.remove(&key) else { continue };
            while let Some((next, granted)) = held.queue.pop_front() {
                self.waiting.remove(&next);
                if granted.send(()).is_ok() {
                    held.owner = next;
                    self.of.entry(next).or_default().insert(key.clone());
                    self.held.insert(key, held);
                    break;
                }
            }
        }
    }
}
