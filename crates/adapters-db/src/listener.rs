//! Which orders ended, told across processes by `LISTEN`/`NOTIFY`.
//!
//! A notice is a reason to look, never a fact: it can come twice, or not at all while the connection is being opened
//! anew. Whoever waits must look once after subscribing, again after [`OrderNotice::Reconnected`], and poll slowly
//! beneath.

use crate::error::{Failure, unavailable};
use crate::options::{DatabaseOptions, connect_error};
use crate::statement::statement;
use diesel::sql_types::Text;
use diesel_async::AsyncPgConnection;
use domain::OrderId;
use domain::ports::StoreError;
use futures_util::stream::{StreamExt, poll_fn};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_postgres::{AsyncMessage, NoTls};

/// The channel; the payload is the order's id in decimal.
pub const ORDER_CHANNEL: &str = "holdfast_order";

/// Notices kept for a subscriber that is slow; one that falls behind further is told so by the channel.
const BACKLOG: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tells all listeners that these orders ended. Never inside a transaction that does anything else: those of a whole
/// cluster that notify commit one after the other.
pub(crate) async fn announce(connection: &AsyncPgConnection, orders: &[OrderId]) -> Result<(), Failure> {
    const SQL: &str = "SELECT pg_notify($1, ended) FROM unnest($2::text[]) AS ended";
    if orders.is_empty() {
        return Ok(());
    }
    let ended: Vec<String> = orders.iter().map(OrderId::to_string).collect();
    statement(SQL).bind::<Text, _>(ORDER_CHANNEL).texts(ended).execute(connection).await?;
    Ok(())
}

/// What a subscriber is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderNotice {
    /// This order's payment ended.
    Ended(OrderId),
    /// The connection was opened (again): notices may have been missed until now.
    Reconnected,
}

/// Listens on a connection of its own, outside the pools, and tells any number of subscribers.
#[derive(Debug)]
pub struct PgListener {
    config: tokio_postgres::Config,
    notices: broadcast::Sender<OrderNotice>,
}

impl PgListener {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// [`StoreError::Other`] for an unreadable address.
    pub fn new(options: &DatabaseOptions) -> Result<Self, StoreError> {
        Ok(Self { config: options.config()?, notices: broadcast::Sender::new(BACKLOG) })
    }

    /// From now on. A receiver that lags must look again, as after [`OrderNotice::Reconnected`].
    pub fn subscribe(&self) -> broadcast::Receiver<OrderNotice> {
        self.notices.subscribe()
    }

    /// A handle that gives out receivers while [`PgListener::run`] owns the listener.
    pub fn notices(&self) -> broadcast::Sender<OrderNotice> {
        self.notices.clone()
    }

    /// Listens until this future is dropped; opens the connection again whenever it is lost, after a pause that grows
    /// from 100 ms to 5 s.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut listening = false;
            let error = self.listen(&mut listening).await;
            if listening {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(%error, ?pause, "lost the connection that listens for orders");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns why it ended.
    async fn listen(&self, listening: &mut bool) -> StoreError {
        let (client, mut connection) = match self.config.connect(NoTls).await {
            Ok(opened) => opened,
            Err(error) => return connect_error(&error),
        };
        let mut messages = poll_fn(move |context| connection.poll_message(context));
        let command = format!("LISTEN {ORDER_CHANNEL}");
        let mut listen = std::pin::pin!(client.batch_execute(&command));
        loop {
            tokio::select! {
                biased;
                // Only while it is polled does the connection make progress, the LISTEN included.
                message = messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(notification))) => self.tell(notification.payload()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return connect_error(&error),
                    None => return unavailable("closed by the server"),
                },
                done = &mut listen, if !*listening => match done {
                    Ok(()) => {
                        *listening = true;
                        self.send(OrderNotice::Reconnected);
                    }
                    Err(error) => return connect_error(&error),
                },
            }
        }
    }

    fn tell(&self, payload: &str) {
        match payload.parse().map(OrderId::new) {
            Ok(Ok(id)) => self.send(OrderNotice::Ended(id)),
            Ok(Err(_)) | Err(_) => tracing::warn!(payload, "a notice that names no order"),
        }
    }

    fn send(&self, notice: OrderNotice) {
        // An error says only that nobody waits at the moment.
        if self.notices.send(notice).is_err() {
            tracing::trace!(?notice, "nobody waits");
        }
    }
}
