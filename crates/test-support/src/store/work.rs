//! An open transaction's side of the database: what it sees, what it locks, what it changed.

use super::locks::{Acquired, LockKey, TxId};
use super::{Shared, Tables, conflict, unavailable};
use domain::Timestamp;
use domain::ports::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A table of all of them.
pub(super) type Table<K, V> = fn(&Tables) -> &BTreeMap<K, V>;

/// What a statement sees that does not wait: what is committed when it starts, and its transaction's own changes.
pub(super) struct View<'a> {
    own: &'a Tables,
    all: &'a Tables,
}

impl<'a> View<'a> {
    pub(super) fn get<K: Ord + 'static, V: 'static>(&self, table: Table<K, V>, key: &K) -> Option<&'a V> {
        table(self.own).get(key).or_else(|| table(self.all).get(key))
    }

    /// The same rows as a whole table, own changes in place.
    pub(super) fn rows<K: Ord + 'static, V: 'static>(&self, table: Table<K, V>) -> BTreeMap<&'a K, &'a V> {
        table(self.all).iter().chain(table(self.own)).collect()
    }
}

pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    pub(super) id: TxId,
    pub(super) now: Timestamp,
    pub(super) lock_timeout: Duration,
    pub(super) changes: Tables,
}

impl Work {
    /// Looks at one moment's rows.
    pub(super) fn view<R>(&self, look: impl FnOnce(View<'_>) -> R) -> R {
        let state = self.shared.state();
        look(View { own: &self.changes, all: &state.tables })
    }

    /// A row as this transaction sees it now.
    pub(super) fn get<K: Ord + 'static, V: Clone + 'static>(&self, key: &K, table: Table<K, V>) -> Option<V> {
        self.view(|view| view.get(table, key).cloned())
    }

    /// Locks, waiting in order of arrival.
    pub(super) async fn lock(&mut self, key: LockKey) -> Result<(), StoreError> {
        let acquired = self.shared.state().locks.acquire(self.id, key);
        let granted = match acquired {
            Acquired::Yes => return Ok(()),
            Acquired::Deadlock => {
                self.shared.deadlocks.fetch_add(1, Ordering::Relaxed);
                return Err(conflict("40P01 deadlock detected"));
            }
            Acquired::Wait(granted) => granted,
        };
        let waiting = Waiting { shared: Arc::clone(&self.shared), tx: self.id };
        let outcome = tokio::time::timeout(self.lock_timeout, granted).await;
        drop(waiting);
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(unavailable("a lock")),
        }
    }

    /// Locks unless another transaction has it.
    pub(super) fn try_lock(&mut self, key: &LockKey) -> bool {
        self.shared.state().locks.try_acquire(self.id, key)
    }

    /// `SELECT ... ORDER BY id FOR UPDATE`. Which rows there are is seen when the statement starts. Each is locked,
    /// ascending; after a wait its newest version counts, when that still qualifies. Nothing else may be read by a
    /// statement that locks: PostgreSQL would show the moment before the wait.
    pub(super) async fn lock_rows<K: Ord + Clone + 'static, V: Clone + 'static>(
        &mut self,
        ids: impl IntoIterator<Item = K>,
        key: impl Fn(K) -> LockKey,
        table: Table<K, V>,
        qualifies: impl Fn(&V) -> bool,
    ) -> Result<BTreeMap<K, V>, StoreError> {
        let there: BTreeMap<K, ()> = self.view(|view| {
            let seen = ids.into_iter().filter(|id| view.get(table, id).is_some_and(&qualifies));
            seen.map(|id| (id, ())).collect()
        });
        let mut locked = BTreeMap::new();
        for (id, ()) in there {
            self.lock(key(id.clone())).await?;
            if let Some(row) = self.get(&id, table).filter(&qualifies) {
                locked.insert(id, row);
            }
        }
        Ok(locked)
    }

    /// Nothing of it stays, and its locks are free.
    pub(super) fn abort(&mut self) {
        self.changes = Tables::default();
        self.shared.state().locks.release(self.id);
    }
}

/// Ends the waiting when the waiter is dropped, too.
struct Waiting {
    shared: Arc<Shared>,
    tx: TxId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.state().locks.abandon(self.tx);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.shared.state().locks.release(self.id);
    }
}
