//! The witness of whether a request's bytes have left: a body that remembers when it was asked for, and refuses when that
//! is too late.
//!
//! The HTTP client asks for the body at the moment it writes the head into the connection's buffer, before it flushes that
//! buffer. So a body that was never asked for proves that nothing was sent, and one that refuses keeps the head back too.

use crate::transport::Limits;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::AsRef;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tokio::time::Instant;
use zeroize::Zeroizing;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has left.
    Shut,
    /// The request began to leave then.
    Open(Instant),
    /// Nothing has left and nothing ever will.
    Closed { deadline_passed: bool },
}

/// Shared by a request's body and by whoever waits for its answer.
#[derive(Debug)]
pub(super) struct SendGate {
    state: Mutex<State>,
    opened: Notify,
    deadline: Instant,
}

impl SendGate {
    /// Nothing leaves after `deadline`.
    pub(super) fn new(deadline: Instant) -> Self {
        Self { state: Mutex::new(State::Shut), opened: Notify::new(), deadline }
    }

    /// Returns when the request begins to leave.
    pub(super) async fn opened(&self) {
        // A permit is kept when nobody waits yet, and only one ever waits.
        self.opened.notified().await;
    }

    /// Gives up. `true`: nothing has left, and nothing will.
    pub(super) fn close(&self) -> bool {
        let mut state = self.lock();
        if *state == State::Shut {
            *state = State::Closed { deadline_passed: false };
        }
        matches!(*state, State::Closed { .. })
    }

    /// Nothing has left because it was too late for it.
    pub(super) fn deadline_passed(&self) -> bool {
        matches!(*self.lock(), State::Closed { deadline_passed: true })
    }

    /// When the answer must be here. Before the request has left there is nothing to wait for.
    pub(super) fn read_until(&self, limits: Limits) -> Instant {
        match *self.lock() {
            State::Open(since) => super::earlier(since, limits.read, limits.until),
            State::Shut | State::Closed { .. } => limits.until,
        }
    }

    /// Asks for leave to send.
    fn open(&self) -> Result<(), NotSent> {
        let now = Instant::now();
        let mut state = self.lock();
        if *state == State::Shut {
            *state =
                if now <= self.deadline { State::Open(now) } else { State::Closed { deadline_passed: true } };
        }
        match *state {
            State::Open(_) => {
                drop(state);
                self.opened.notify_one();
                Ok(())
            }
            State::Shut | State::Closed { .. } => Err(NotSent),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request was held back.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the request was held back: its time was over")]
pub(super) struct NotSent;

/// A body of one piece behind a [`SendGate`]; its memory is wiped once it is in the connection's buffer.
#[derive(Debug)]
pub(super) struct GatedBody {
    bytes: Option<Bytes>,
    length: u64,
    gate: Arc<SendGate>,
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl GatedBody {
    pub(super) fn new(body: Zeroizing<Vec<u8>>, gate: Arc<SendGate>) -> Self {
        let length = body.len() as u64;
        Self { bytes: Some(Bytes::from_owner(Wiped(body))), length, gate }
    }
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = NotSent;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NotSent>>> {
        let Some(bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(self.gate.open().map(|()| Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(if self.bytes.is_some() { self.length } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn body(gate: &Arc<SendGate>) -> Pin<Box<GatedBody>> {
        Box::pin(GatedBody::new(Zeroizing::new(b"secret".to_vec()), Arc::clone(gate)))
    }

    fn ask(body: &mut Pin<Box<GatedBody>>) -> Option<Result<Bytes, NotSent>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match body.as_mut().poll_frame(&mut cx) {
            Poll::Ready(frame) => frame.map(|frame| frame.map(|f| f.into_data().unwrap_or_default())),
            Poll::Pending => panic!("a body in memory never waits"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_in_time_has_left() {
        let gate = Arc::new(SendGate::new(Instant::now() + Duration::from_secs(1)));
        let mut body = body(&gate);
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(ask(&mut body).unwrap().unwrap(), "secret");
        assert!(body.is_end_stream() && ask(&mut body).is_none());
        gate.opened().await;
        assert!(!gate.close() && !gate.deadline_passed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_never_leaves() {
        let gate = Arc::new(SendGate::new(Instant::now() + Duration::from_secs(1)));
        let mut body = body(&gate);
        assert!(gate.close());
        assert!(ask(&mut body).unwrap().is_err());
        assert!(gate.close() && !gate.deadline_passed());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_leaves_after_the_deadline() {
        let gate = Arc::new(SendGate::new(Instant::now() + Duration::from_secs(1)));
        let mut body = body(&gate);
        tokio::time::advance(Duration::from_secs(1)).await;
        let in_time = Arc::new(SendGate::new(Instant::now()));
        assert!(ask(&mut self::body(&in_time)).unwrap().is_ok(), "at the deadline itself it may leave");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(ask(&mut body).unwrap().is_err());
        assert!(gate.close() && gate.deadline_passed());
    }

    /// The fact that all of this rests on: the HTTP client asks for the body before it flushes the head. An update of it that
    /// changes this must fail here.
    #[tokio::test]
    async fn a_body_that_refuses_keeps_the_head_back() {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(SendGate::new(Instant::now() + Duration::from_secs(60)));
        assert!(gate.close());
        let client = super::super::client(&Default::default(), Duration::from_secs(60), false).unwrap();
        let body = reqwest::Body::wrap(GatedBody::new(Zeroizing::new(b"secret".to_vec()), gate));
        let sending = client.post(format!("http://{address}/")).body(body).send();
        let (sent, arrived) = tokio::join!(sending, async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut arrived = Vec::new();
            stream.read_to_end(&mut arrived).await.map(|_| arrived)
        });
        assert!(sent.is_err());
        assert_eq!(arrived.unwrap_or_default(), b"");
    }
}
