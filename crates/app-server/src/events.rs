//! Telling clients of changes: those who wait for an order's end, and event streams.
//!
//! Whoever changes an order in this process tells [`Changes`], which wakes those who watch that order. Changes made by other
//! servers and the reconciler are seen by looking into the database every poll interval.

use crate::api::orders::{find, is_final};
use crate::api::views::{OrderBody, PaymentEventBody};
use crate::http::failure::Failure;
use crate::state::ApiState;
use actix_web::web::Bytes;
use domain::{OrderId, PaymentId, UserId};
use futures_util::Stream;
use futures_util::stream::unfold;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// Who watches which order.
#[derive(Clone)]
pub(crate) struct Changes {
    watched: Arc<Mutex<HashMap<OrderId, watch::Sender<()>>>>,
    poll_interval: Duration,
}

impl Changes {
    /// Nobody watches yet.
    pub(crate) fn new(poll_interval: Duration) -> Self {
        Self { watched: Arc::default(), poll_interval }
    }

    /// Something changed about this order.
    pub(crate) fn tell(&self, order: OrderId) {
        if let Some(sender) = self.watched.lock().unwrap_or_else(PoisonError::into_inner).get(&order) {
            sender.send_replace(());
        }
    }

    /// Watches an order from now on.
    pub(crate) fn watch(&self, order: OrderId) -> Watch {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = watched.entry(order).or_insert_with(|| watch::channel(()).0);
        Watch { order, receiver: Some(sender.subscribe()), changes: self.clone() }
    }
}

/// One who watches an order.
pub(crate) struct Watch {
    order: OrderId,
    /// Always there but while it is dropped.
    receiver: Option<watch::Receiver<()>>,
    changes: Changes,
}

impl Watch {
    /// Returns when the order changed, or when it is time to look whether it did.
    pub(crate) async fn changed(&mut self) {
        let told = async {
            match &mut self.receiver {
                // The sender lives as long as its receivers.
                Some(receiver) => drop(receiver.changed().await),
                None => std::future::pending().await,
            }
        };
        drop(tokio::time::timeout(self.changes.poll_interval, told).await);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.changes.watched.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.receiver.take());
        if watched.get(&self.order).is_some_and(|sender| sender.receiver_count() == 0) {
            watched.remove(&self.order);
        }
    }
}

/// Where a stream stands.
struct Position {
    state: Arc<ApiState>,
    user: UserId,
    order: OrderId,
    payment: PaymentId,
    seen: i64,
    watch: Watch,
    last_sent: Instant,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// The events of an order after the one numbered `seen`, until it is final or the server stops.
pub(crate) fn stream(
    state: Arc<ApiState>,
    user: UserId,
    order: OrderId,
    payment: PaymentId,
    seen: i64,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let watch = state.changes.watch(order);
    let last_sent = Instant::now();
    let position =
        Position { state, user, order, payment, seen, watch, last_sent, ended: false, _permit: permit };
    unfold(Some((position, true)), |at| async move {
        let (mut position, first) = at?;
        let chunk = if first { position.look().await } else { position.next().await }?;
        Some((Ok(chunk), Some((position, false))))
    })
}

impl Position {
    /// The next bytes; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended || self.state.runner.is_stopping() {
                return None;
            }
            let (runner, heartbeat) = (&self.state.runner, self.last_sent + self.state.heartbeat);
            tokio::select! {
                () = self.watch.changed() => {}
                () = tokio::time::sleep_until(heartbeat) => {
                    self.last_sent = Instant::now();
                    return Some(Bytes::from_static(b": still here\n\n"));
                }
                () = runner.stopping() => return None,
            }
            match self.look().await {
                Some(chunk) if chunk.is_empty() => {}
                chunk => {
                    self.last_sent = Instant::now();
                    return chunk;
                }
            }
        }
    }

    /// What is new, perhaps nothing. When the database can't be asked the client keeps what it has, and comes back.
    async fn look(&mut self) -> Option<Bytes> {
        match self.news().await {
            Ok(text) => Some(Bytes::from(text)),
            Err(failure) => {
                failure.log();
                self.ended = true;
                Some(Bytes::from_static(b"retry: 1000\n\n"))
            }
        }
    }

    async fn news(&mut self) -> Result<String, Failure> {
        let (user, payment) = (self.user, self.payment);
        let view = self
            .state
            .run(move |app| async move { app.queries().payment(Some(user), payment).await })
            .await?;
        let mut text = String::new();
        for event in view.iter().flat_map(|view| &view.history).filter(|event| event.sequence > self.seen) {
            push(&mut text, "payment", Some(event.sequence), &PaymentEventBody::from(event))?;
        }
        if let Some(last) = view.as_ref().and_then(|view| view.history.last()) {
            self.seen = self.seen.max(last.sequence);
        }
        if view.is_none_or(|view| view.record.payment.value.status().is_terminal()) {
            let order = find(&self.state, user, self.order).await?;
            self.ended = is_final(&order);
            push(&mut text, "end", None, &OrderBody::from(&order))?;
        }
        Ok(text)
    }
}

/// One event. JSON has no line breaks, so one `data` line holds it.
fn push(text: &mut String, name: &str, id: Option<i64>, data: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(data).map_err(|error| Failure::internal(&error))?;
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str(&format!("event: {name}\ndata: {json}\n\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn watchers_are_woken_and_forgotten() {
        let changes = Changes::new(Duration::from_secs(3600));
        let order = OrderId::new(7).unwrap();
        let before = Instant::now();
        let mut watch = changes.watch(order);
        changes.tell(order);
        watch.changed().await;
        assert_eq!(before.elapsed(), Duration::ZERO, "a change before the wait began is not lost");
        watch.changed().await;
        assert_eq!(before.elapsed(), Duration::from_secs(3600), "without news it is time to look");
        let second = changes.watch(order);
        drop(watch);
        assert_eq!(changes.watched.lock().unwrap().len(), 1);
        drop(second);
        assert!(changes.watched.lock().unwrap().is_empty());
        changes.tell(order);
    }
}
