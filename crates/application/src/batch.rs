//! Batches: what is waiting is done together, in one transaction (load, decide, store).
//!
//! There are no threads and no timers. Whoever comes while a lane is free leads a batch of one at once; who comes while all
//! lanes are taken waits in the queue, and the first of these leads the next batch: itself and all that wait behind it. So
//! at low load nothing is slower than alone, and under load the size of the batches follows the load.
//!
//! One bad member never takes others with it: a batch that can't be stored is run again member by member. Nobody waits
//! without a limit, and who is refused is told before anything is taken. A leader that dies (its task was aborted) leaves
//! its members without an answer; they learn [`BatchError::Abandoned`], and the lane passes on.

use async_trait::async_trait;
use domain::ports::StoreError;
use std::collections::VecDeque;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How large batches get, and how long is waited for one (`batch.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Members of one batch at most, at least 1.
    pub size: usize,
    /// Batches of one kind under way at once, at least 1.
    pub lanes: usize,
    /// Members that wait at most; who comes on top is refused at once.
    pub queue: usize,
    /// How long one waits at most until its batch begins.
    pub wait: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { size: 64, lanes: 2, queue: 4096, wait: Duration::from_secs(2) }
    }
}

/// Why a member has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Too many wait; nothing was begun.
    #[error("too many wait for their turn")]
    Full,
    /// It waited too long; nothing was begun.
    #[error("no turn came in time")]
    TooLate,
    /// Whoever led the batch is gone: it may be stored or not.
    #[error("the batch was abandoned")]
    Abandoned,
    /// It could not be stored, alone; nothing of it is, unless the store says that it doesn't know.
    #[error("the batch could not be stored")]
    Store(#[from] StoreError),
}

/// What is done in batches.
#[async_trait]
pub(crate) trait Work: Send + Sync + 'static {
    /// What is to be done for one.
    type Member: Send + Sync;
    /// What came of it.
    type Outcome: Send;

    /// The label of metrics.
    const NAME: &'static str;

    /// Loads, decides and stores: an outcome for each member, in their order.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of the whole batch is stored, or that is not known and it may be repeated.
    async fn run(&self, members: &[Self::Member]) -> Result<Vec<Self::Outcome>, StoreError>;
}

/// Does `W` in batches.
pub(crate) struct Batcher<W: Work> {
    work: W,
    limits: BatchLimits,
    state: Mutex<State<W>>,
}

struct State<W: Work> {
    queue: VecDeque<Waiting<W>>,
    /// While one is free the queue is empty.
    free_lanes: usize,
    tickets: u64,
}

struct Waiting<W: Work> {
    ticket: u64,
    member: W::Member,
    since: Instant,
    reply: oneshot::Sender<Reply<W>>,
}

enum Reply<W: Work> {
    Done(Result<W::Outcome, BatchError>),
    /// The waiter's turn to lead; its own member comes back to it.
    Lead(Lane<W>, W::Member),
}

enum Entered<W: Work> {
    Leads(Lane<W>, W::Member),
    Waits(u64, oneshot::Receiver<Reply<W>>),
}

/// A place in the queue: whoever goes away gives it up, and nothing of the member stays behind.
struct Place<'a, W: Work> {
    batcher: &'a Batcher<W>,
    ticket: Option<u64>,
}

impl<W: Work> Drop for Place<'_, W> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.batcher.leave(ticket);
        }
    }
}

/// The right to run one batch. However it ends, it passes on.
struct Lane<W: Work>(Option<Arc<Batcher<W>>>);

impl<W: Work> Drop for Lane<W> {
    fn drop(&mut self) {
        if let Some(batcher) = self.0.take() {
            batcher.pass_on();
        }
    }
}

impl<W: Work> Batcher<W> {
    pub(crate) fn new(work: W, limits: BatchLimits) -> Arc<Self> {
        let limits = BatchLimits { size: limits.size.max(1), lanes: limits.lanes.max(1), ..limits };
        let state = State { queue: VecDeque::new(), free_lanes: limits.lanes, tickets: 0 };
        Arc::new(Self { work, limits, state: Mutex::new(state) })
    }

    /// Never held over an await.
    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `member` done, together with what else waits.
    ///
    /// # Errors
    /// [`BatchError`].
    pub(crate) async fn submit(self: &Arc<Self>, member: W::Member) -> Result<W::Outcome, BatchError> {
        let (ticket, mut reply) = match self.enter(member)? {
            Entered::Leads(lane, member) => return self.lead(lane, member).await,
            Entered::Waits(ticket, reply) => (ticket, reply),
        };
        let mut place = Place { batcher: self, ticket: Some(ticket) };
        let reply = match tokio::time::timeout(self.limits.wait, &mut reply).await {
            Ok(reply) => reply,
            Err(_) if self.leave(ticket) => return self.refused(BatchError::TooLate),
            // Its batch has begun, or it is about to lead one.
            Err(_) => reply.await,
        };
        place.ticket = None;
        match reply {
            Ok(Reply::Done(outcome)) => outcome,
            Ok(Reply::Lead(lane, member)) => self.lead(lane, member).await,
            Err(_) => Err(BatchError::Abandoned),
        }
    }

    fn enter(self: &Arc<Self>, member: W::Member) -> Result<Entered<W>, BatchError> {
        let mut state = self.state();
        if state.free_lanes > 0 {
            state.free_lanes -= 1;
            return Ok(Entered::Leads(Lane(Some(Arc::clone(self))), member));
        }
        if state.queue.len() >= self.limits.queue {
            drop(state);
            return self.refused(BatchError::Full);
        }
        state.tickets += 1;
        let ticket = state.tickets;
        let (reply, receiver) = oneshot::channel();
        state.queue.push_back(Waiting { ticket, member, since: Instant::now(), reply });
        Ok(Entered::Waits(ticket, receiver))
    }

    /// Takes a member out of the queue; false when it is not there any more.
    fn leave(&self, ticket: u64) -> bool {
        let mut state = self.state();
        let at = state.queue.iter().position(|waiting| waiting.ticket == ticket);
        at.and_then(|at| state.queue.remove(at)).is_some()
    }

    fn refused<T>(&self, error: BatchError) -> Result<T, BatchError> {
        let reason = if error == BatchError::Full { "full" } else { "late" };
        metrics::counter!("batch_refused_total", "batch" => W::NAME, "reason" => reason).increment(1);
        Err(error)
    }

    /// Gives a lane to the one that waits longest; whoever has gone away is passed over.
    fn pass_on(self: &Arc<Self>) {
        let mut state = self.state();
        while let Some(Waiting { member, reply, .. }) = state.queue.pop_front() {
            match reply.send(Reply::Lead(Lane(Some(Arc::clone(self))), member)) {
                Ok(()) => return,
                // It must not pass on by itself: we are doing that.
                Err(Reply::Lead(mut lane, _member)) => drop(lane.0.take()),
                Err(Reply::Done(_)) => {}
            }
        }
        state.free_lanes += 1;
    }

    /// Runs one batch: `own` and what waits behind it.
    async fn lead(&self, lane: Lane<W>, own: W::Member) -> Result<W::Outcome, BatchError> {
        let mut members = vec![own];
        let mut replies = Vec::new();
        {
            let mut state = self.state();
            while members.len() < self.limits.size
                && let Some(Waiting { member, since, reply, .. }) = state.queue.pop_front()
            {
                if since.elapsed() > self.limits.wait {
                    // Sent or not: who has gone away needs no answer.
                    drop(reply.send(Reply::Done(self.refused(BatchError::TooLate))));
                } else if !reply.is_closed() {
                    members.push(member);
                    replies.push(reply);
                }
            }
        }
        let mut outcomes = self.run(&members).await.into_iter();
        let own = outcomes.next().unwrap_or(Err(BatchError::Abandoned));
        // The next batch begins before this one's members are told.
        drop(lane);
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            drop(reply.send(Reply::Done(outcome)));
        }
        own
    }

    /// All together; when that can't be stored, one by one, so that each gets what is its own.
    async fn run(&self, members: &[W::Member]) -> Vec<Result<W::Outcome, BatchError>> {
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        metrics::histogram!("batch_size", "batch" => W::NAME).record(members.len() as f64);
        let error = match self.work.run(members).await {
            Ok(outcomes) => return outcomes.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        if members.len() == 1 {
            return vec![Err(error.into())];
        }
        metrics::counter!("batch_split_total", "batch" => W::NAME).increment(1);
        tracing::info!(
            batch = W::NAME,
            members = members.len(),
            error = &error as &dyn std::error::Error,
            "a batch could not be stored; its members are done one by one"
        );
        let until = Instant::now() + self.limits.wait;
        let mut outcomes = Vec::with_capacity(members.len());
        for member in members {
            // A database that is away would let the last ones wait for all before them. What the whole batch failed for is
            // perhaps another member's fault.
            if Instant::now() >= until {
                outcomes.push(self.refused(BatchError::TooLate));
                continue;
            }
            let alone = self.work.run(slice::from_ref(member)).await;
            outcomes.push(match alone.map(|mut outcomes| outcomes.pop()) {
                Ok(Some(outcome)) => Ok(outcome),
                Ok(None) => Err(BatchError::Abandoned),
                Err(error) => Err(error.into()),
            });
        }
        outcomes
    }
}

#[cfg(test)]
mod tests;
