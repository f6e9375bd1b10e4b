//! A connection in somebody's hands, which goes back into the pool only when it is known to be clean.

use crate::error::{Failure, unavailable};
use crate::pool::Pooled;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use domain::ports::StoreError;
use std::future::Future;
use std::time::Duration;

/// Dropped, it is closed: the server ends what is going on there and frees its locks. [`Session::release`] gives it
/// back to the pool.
pub(crate) struct Session {
    connection: Option<Pooled>,
    answer_timeout: Duration,
}

impl Session {
    pub(crate) fn new(connection: Pooled, answer_timeout: Duration) -> Self {
        Self { connection: Some(connection), answer_timeout }
    }

    /// # Errors
    /// [`StoreError::Other`] after it was given back; that would be a defect.
    pub(crate) fn connection(&self) -> Result<&AsyncPgConnection, StoreError> {
        match &self.connection {
            Some(connection) => Ok(connection),
            None => Err(StoreError::Other { what: "the connection was given back".to_owned() }),
        }
    }

    /// The connection is known to be closed, so that what is sent now surely does not arrive.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.connection.as_mut().is_none_or(|connection| connection.is_broken())
    }

    /// Waits for an answer, but not for that of a server that has vanished.
    pub(crate) async fn answer<T, E, F>(&self, work: F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, E>> + Send,
        Failure: From<E>,
    {
        match tokio::time::timeout(self.answer_timeout, work).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(unavailable(format_args!("no answer within {:?}", self.answer_timeout)).into()),
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
            drop(Pooled::take(connection));
        }
    }
}
