//! A connection in somebody's hands, which goes back into the pool only when it is known to be clean.

use crate::error::{Failure, Health};
use crate::pool::{NamedPool, Pooled};
use crate::statement::command;
use deadpool::managed::Object;
use diesel_async::AsyncPgConnection;
use domain::ports::StoreError;
use std::future::Future;
use std::time::Duration;

/// Dropped, it is closed: the server ends what is going on there and frees its locks. [`Session::release`] gives it
/// back to the pool.
pub(crate) struct Session {
    connection: Option<Pooled>,
    pool: NamedPool,
    answer_timeout: Duration,
}

impl Session {
    /// Takes a connection of the pool.
    ///
    /// # Errors
    /// Those of [`NamedPool::get`].
    pub(crate) async fn open(pool: &NamedPool, answer_timeout: Duration) -> Result<Self, StoreError> {
        Ok(Self { connection: Some(pool.get().await?), pool: pool.clone(), answer_timeout })
    }

    /// # Errors
    /// [`StoreError::Other`] after it was given back; that would be a defect.
    pub(crate) fn connection(&self) -> Result<&AsyncPgConnection, StoreError> {
        match &self.connection {
            Some(connection) => Ok(&connection.session),
            None => Err(StoreError::Other { what: "the connection was given back".to_owned() }),
        }
    }

    /// Statements that are sent together arrive in their order only when all of them are prepared.
    ///
    /// # Errors
    /// Why they are not: the database is read-only, or lacks migrations.
    pub(crate) fn prepared(&self) -> Result<&AsyncPgConnection, StoreError> {
        match &self.connection {
            Some(connection) => connection.prepared.clone().map(|()| &connection.session),
            None => self.connection(),
        }
    }

    /// The connection is known to be closed, so that what is sent now surely does not arrive.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.connection.as_mut().is_none_or(|connection| connection.is_closed())
    }

    /// Waits for an answer, but not for that of a server that has vanished.
    ///
    /// Statements leave in the order in which the futures of `work` are polled first. Nothing may come between: without
    /// tokio's budget no lock that is free makes one of them wait for the next poll, and the next one overtake it.
    pub(crate) async fn answer<T, E, F>(&self, work: F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, E>> + Send,
        Failure: From<E>,
    {
        match tokio::time::timeout(self.answer_timeout, tokio::task::unconstrained(work)).await {
            Ok(result) => {
                let result = result.map_err(Failure::from);
                if let Err(Failure { health: Health::Stale, cause, .. }) = &result {
                    tracing::warn!(
                        ?cause,
                        "the sessions with the database are out of date: opening new ones"
                    );
                    self.pool.renew();
                }
                result
            }
            Err(_) => Err(Failure::silence(format_args!("no answer within {:?}", self.answer_timeout))),
        }
    }

    /// Takes back what is open and gives the connection back; one that does not answer is closed.
    pub(crate) async fn roll_back(self) {
        let Ok(connection) = self.connection() else { return };
        if self.answer(command(connection, "ROLLBACK")).await.is_ok() {
            self.release();
        }
    }

    /// Gives the connection back; nothing may be under way or open on it.
    pub(crate) fn release(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Taken out of the pool: dropping it closes the socket.
            drop(Object::take(connection));
        }
    }
}
