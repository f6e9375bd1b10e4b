//! Faults at the border of a port: what a test or the simulation may do to each call.
//!
//! The hooks live in the fakes; production code knows nothing of them.

use async_trait::async_trait;
use std::fmt;

/// Where a fault may strike: a call of a port, and the transaction in which it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The name that the transaction was begun with; empty outside a transaction.
    pub within: &'static str,
    /// The port's name and the method's: `store.begin`, `tx.lock_products`, `tx.commit`, `queries.order`.
    pub call: &'static str,
}

impl Site {
    /// A call outside any transaction.
    pub const fn outside(call: &'static str) -> Self {
        Self { within: "", call }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.within.is_empty() {
            f.write_str(self.call)
        } else {
            write!(f, "{}/{}", self.within, self.call)
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It goes on.
    None,
    /// It answers that the database is out of reach. Before the call: nothing took effect. After it: it did.
    Unavailable,
    /// The database breaks a deadlock or a serialization failure by this transaction. Outside one it is
    /// [`Fault::Unavailable`].
    Conflict,
    /// `tx.commit` only: the connection is lost while COMMIT is under way.
    CommitUnknown {
        /// The database stored it all the same.
        stored: bool,
    },
}

/// Decides, before and after each call, what becomes of it.
///
/// A delay is an implementation that sleeps; a process that hangs or dies is one that never returns (its task is then
/// aborted by whoever simulates the crash).
#[async_trait]
pub trait Faults: Send + Sync {
    /// Before a call takes effect.
    async fn before(&self, site: Site) -> Fault;

    /// After it took effect, before the caller learns of it. [`Fault::CommitUnknown`] means [`Fault::Unavailable`]
    /// here.
    async fn after(&self, _site: Site) -> Fault {
        Fault::None
    }
}

/// Nothing ever goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

#[async_trait]
impl Faults for NoFaults {
    async fn before(&self, _site: Site) -> Fault {
        Fault::None
    }
}
