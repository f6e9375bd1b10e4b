//! Telling clients of changes: those who wait for an order's end, and event streams.
//!
//! Whoever changes an order in this process tells [`OrderChanges`], which wakes those who watch that order. What other
//! servers and the reconciler change is told by the database's notifications, and beneath them by one query every poll
//! interval, however many watch: a lost notification costs half a second.

use crate::api::orders::{find_in_turn, is_final};
use crate::api::views::{OrderBody, PaymentEventBody};
use crate::http::failure::Failure;
use crate::state::ApiState;
use actix_web::web::Bytes;
use application::Application;
use domain::{OrderId, PaymentId, Timestamp, UserId};
use futures_util::Stream;
use futures_util::stream::unfold;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// Changes this old are looked for: longer than any transaction takes, since a change bears the moment of its
/// transaction's begin.
const LOOK_BACK: Duration = Duration::from_secs(10);
/// More changes than this in that time are seen by the next look.
const MOST_CHANGES: u32 = 10_000;

/// The id of the last event of a stream. Who bears it has been told all there will ever be.
pub(crate) const END: &str = "end";
/// How long a stream waits after the database could not be asked.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Who watches which order.
#[derive(Clone, Default)]
pub struct OrderChanges {
    watched: Arc<Mutex<HashMap<OrderId, Watched>>>,
}

struct Watched {
    sender: watch::Sender<()>,
    /// The last change that the poll told.
    polled: Option<Timestamp>,
}

impl OrderChanges {
    /// Nobody watches yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<OrderId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed about this order.
    pub fn tell(&self, order: OrderId) {
        if let Some(watched) = self.watched().get(&order) {
            watched.sender.send_replace(());
        }
    }

    /// Anything may have changed.
    pub fn tell_all(&self) {
        for watched in self.watched().values() {
            watched.sender.send_replace(());
        }
    }

    /// Watches an order from now on.
    pub(crate) fn watch(&self, order: OrderId) -> Watch {
        let mut watched = self.watched();
        let entry =
            watched.entry(order).or_insert_with(|| Watched { sender: watch::channel(()).0, polled: None });
        Watch { order, receiver: Some(entry.sender.subscribe()), changes: self.clone() }
    }

    /// Looks for changes in the database every `interval`, while anybody watches. Never ends.
    pub(crate) async fn poll(self, application: Application, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            if self.watched().is_empty() {
                continue;
            }
            // When the database can't be asked, the next look is soon.
            if let Ok(changed) = application.queries().changed_orders(LOOK_BACK, MOST_CHANGES).await {
                self.polled(&changed);
            }
        }
    }

    fn polled(&self, changed: &[(OrderId, Timestamp)]) {
        let mut watched = self.watched();
        for (order, moment) in changed {
            if let Some(watched) = watched.get_mut(order)
                && watched.polled.is_none_or(|polled| polled < *moment)
            {
                watched.polled = Some(*moment);
                watched.sender.send_replace(());
            }
        }
    }
}

/// One who watches an order.
pub(crate) struct Watch {
    order: OrderId,
    /// Always there but while it is dropped.
    receiver: Option<watch::Receiver<()>>,
    changes: OrderChanges,
}

impl Watch {
    /// Returns when the order changed since this was last called, or since it is watched.
    pub(crate) async fn changed(&mut self) {
        match &mut self.receiver {
            // The sender lives as long as its receivers.
            Some(receiver) => drop(receiver.changed().await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.changes.watched();
        drop(self.receiver.take());
        if watched.get(&self.order).is_some_and(|watched| watched.sender.receiver_count() == 0) {
            watched.remove(&self.order);
        }
    }
}

/// Counts a stream as open as long as it lives.
struct OpenStream {
    _permit: OwnedSemaphorePermit,
}

impl OpenStream {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("event_streams_open").increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        metrics::gauge!("event_streams_open").decrement(1.0);
    }
}

/// Where a stream stands.
struct Position {
    state: Arc<ApiState>,
    user: UserId,
    order: OrderId,
    payment: PaymentId,
    /// So many changes have been told.
    seen: usize,
    watch: Watch,
    last_sent: Instant,
    ended: bool,
    /// The database could not be asked: to be tried again then.
    again_at: Option<Instant>,
    _open: OpenStream,
}

/// The events of an order after the first `seen`, until it is final or the server stops.
pub(crate) fn stream(
    state: Arc<ApiState>,
    user: UserId,
    order: OrderId,
    payment: PaymentId,
    seen: usize,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let watch = state.changes.watch(order);
    let last_sent = Instant::now();
    let position = Position {
        state,
        user,
        order,
        payment,
        seen,
        watch,
        last_sent,
        ended: false,
        again_at: None,
        _open: OpenStream::new(permit),
    };
    unfold(Some((position, true)), |at| async move {
        let (mut position, first) = at?;
        let chunk = if first { position.look().await } else { position.next().await? };
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
            let again_at = self.again_at;
            let again = async {
                match again_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.watch.changed() => {}
                () = again => {}
                () = tokio::time::sleep_until(heartbeat) => {
                    self.last_sent = Instant::now();
                    return Some(Bytes::from_static(b": still here\n\n"));
                }
                () = runner.stopping() => return None,
            }
            let chunk = self.look().await;
            if !chunk.is_empty() {
                self.last_sent = Instant::now();
                return Some(chunk);
            }
        }
    }

    /// What is new, perhaps nothing. When the database can't be asked, the stream stays open and it is tried again.
    async fn look(&mut self) -> Bytes {
        match self.news().await {
            Ok(text) => {
                self.again_at = None;
                Bytes::from(text)
            }
            Err(failure) => {
                failure.log();
                self.again_at = Some(Instant::now() + TRY_AGAIN);
                Bytes::new()
            }
        }
    }

    async fn news(&mut self) -> Result<String, Failure> {
        let (user, payment) = (self.user, self.payment);
        let view = self
            .state
            .read_in_turn(move |app| async move { app.queries().payment(Some(user), payment).await })
            .await?;
        let history = view.as_ref().map_or(&[][..], |view| &view.history);
        // A number that this order has never given (of another order, or from before numbers were counted by order) is none.
        let seen = if self.seen > history.len() { 0 } else { self.seen };
        let mut text = String::new();
        for (event, number) in PaymentEventBody::all(history).zip(1_usize..).skip(seen) {
            push(&mut text, "payment", &number.to_string(), &event)?;
        }
        if view.as_ref().is_none_or(|view| view.record.payment.status().is_terminal()) {
            let order = find_in_turn(&self.state, user, self.order).await?;
            self.ended = is_final(&order);
            push(&mut text, "end", END, &OrderBody::from(&order))?;
        }
        // Only now: what could not be told to its end is told again.
        self.seen = history.len();
        Ok(text)
    }
}

/// One event. JSON has no line breaks, so one `data` line holds it.
fn push(text: &mut String, name: &str, id: &str, data: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(data).map_err(|error| Failure::internal(&error))?;
    text.push_str(&format!("id: {id}\nevent: {name}\ndata: {json}\n\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_woken(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(1), watch.changed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_are_woken_and_forgotten() {
        let changes = OrderChanges::new();
        let (order, other) = (OrderId::new(7).unwrap(), OrderId::new(8).unwrap());
        let mut watch = changes.watch(order);
        changes.tell(order);
        assert!(is_woken(&mut watch).await, "a change before the wait began is not lost");
        changes.tell(other);
        assert!(!is_woken(&mut watch).await);
        changes.tell_all();
        assert!(is_woken(&mut watch).await);
        let second = changes.watch(order);
        drop(watch);
        assert_eq!(changes.watched().len(), 1);
        drop(second);
        assert!(changes.watched().is_empty());
        changes.tell(order);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_tells_each_change_once() {
        let changes = OrderChanges::new();
        let order = OrderId::new(7).unwrap();
        let mut watch = changes.watch(order);
        let moment = time::macros::datetime!(2026-01-01 00:00 UTC);
        changes.polled(&[(order, moment)]);
        assert!(is_woken(&mut watch).await);
        changes.polled(&[(order, moment)]);
        assert!(!is_woken(&mut watch).await);
        changes.polled(&[(order, moment + Duration::from_micros(1))]);
        assert!(is_woken(&mut watch).await);
    }
}
