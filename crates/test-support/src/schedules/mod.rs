//! Schedules: random interleavings of transactions over few rows, run on two stores and compared step by step - what
//! returns, what waits, what fails, and what is stored in the end. The one store is the fake, the other PostgreSQL.
//!
//! A schedule is a list of steps of two or three programs ([`Program`], made by [`generate`] from a seed). [`run`] makes
//! one step at a time: after each it waits until all have returned or wait for a lock, so that a run is repeatable, and so
//! that "waits" is something that can be compared. [`compare`] runs both; one that differs is made as short as it gets
//! ([`Difference`]) and printed as a program.

mod actor;
mod compare;
mod generate;
mod normal;
pub mod program;
mod run;
mod setup;
mod shorten;

pub use compare::{Compared, Difference, compare};
pub use generate::generate;
pub use program::Program;
pub use run::{Outcome, Transcript, run};

use crate::FakeDatabase;
use async_trait::async_trait;
use domain::ports::{Queries, Store, StoreError};
use std::sync::Arc;

/// What a run must know about the database beneath a store.
#[async_trait]
pub trait Bench: Send + Sync {
    /// How many steps wait for a lock now, and will until somebody else ends a transaction: not those that have just got
    /// theirs, nor those that wait in a circle which is about to be broken.
    async fn waiting(&self) -> usize;

    /// Two or more wait for one and the same transaction. When that ends, PostgreSQL lets them run for whatever they want
    /// next, so that what then comes of the schedule is left to chance. Asked of the fake only.
    async fn crowded(&self) -> bool {
        false
    }

    /// A while in which a step may return, before it is asked whether that waits.
    async fn pause(&self);

    /// Its clock moves on before the next step.
    async fn tick(&self);

    /// Payments of earlier runs are due no more.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn forget(&self) -> Result<(), StoreError>;
}

/// A store under comparison.
#[derive(Clone)]
pub struct Side {
    /// What it is called.
    pub name: &'static str,
    /// Writing. It must have connections enough for all programs of a schedule, and wait for locks as long as it takes.
    pub store: Arc<dyn Store>,
    /// Reading.
    pub queries: Arc<dyn Queries>,
    /// Its database.
    pub bench: Arc<dyn Bench>,
}

/// An empty fake.
pub fn fake() -> Side {
    let database = FakeDatabase::new();
    let options = crate::ConnectionOptions {
        lock_timeout: std::time::Duration::from_secs(3600),
        ..crate::ConnectionOptions::default()
    };
    let store = database.connect(Arc::new(crate::NoFaults), options);
    Side {
        name: "the fake",
        store: Arc::new(store.clone()),
        queries: Arc::new(store),
        bench: Arc::new(database),
    }
}

#[async_trait]
impl Bench for FakeDatabase {
    async fn waiting(&self) -> usize {
        FakeDatabase::waiting(self)
    }

    async fn crowded(&self) -> bool {
        FakeDatabase::crowded(self)
    }

    async fn pause(&self) {
        tokio::task::yield_now().await;
    }

    async fn tick(&self) {
        let before = self.now();
        while self.now() <= before {
            tokio::task::yield_now().await;
        }
    }

    async fn forget(&self) -> Result<(), StoreError> {
        self.forget_checks();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
