//! The gateway itself: what it answers, when its transactions are decided, whom it tells, and its books.
//!
//! Pure: no socket, no clock, no runtime, no ambient chance. Every call takes `now`, a duration since the Unix epoch that
//! never goes backwards; everything random comes from the seed. Things that happen later (creation, decision, callbacks)
//! stand in a schedule; [`Engine::next_due`] says when to come back, [`Engine::advance`] makes them happen at the time
//! they were due, however late it is called. The same seed and the same calls give the same trace.
//!
//! A payment request goes through: outage -> header and JSON -> the documented checks -> its fate (accepted, answered
//! badly, or both) -> creation -> decision -> callbacks.

mod answer;
mod books;
mod chance;
mod life;
mod transaction;
mod validation;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use pg_protocol::{OrderTransactions, PaymentRequest, TransactionAccepted, TransactionStatus};

pub use answer::{Answer, Fault, LookupFate, Plan, Refusal, RequestFate};
pub use books::{LedgerEntry, Operation, Post, RequestCount, RequestLog, Totals};
pub use transaction::{Delivery, Snapshot, TransactionId};

use crate::knobs::{KnobError, Knobs, Outage};
use chance::{Chance, Decision};
use transaction::{Gone, Transaction};

/// How long before the answer a callback is sent that is to come before the answer.
pub const EARLY_CALLBACK_LEAD: Duration = Duration::from_millis(300);

/// At most so many fates can be scripted ahead.
pub const LONGEST_SCRIPT: usize = 1_000;

/// Something that is going to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Create(TransactionId),
    Settle(TransactionId),
    Flip(TransactionId),
    Callback(TransactionId),
    ForgedCallback(TransactionId),
}

/// Something that a thread of the pool has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Decide(TransactionId),
    Report(TransactionId),
}

/// The gateway.
#[derive(Debug)]
pub struct Engine {
    knobs: Knobs,
    chance: Chance,
    transactions: Vec<Transaction>,
    by_key: BTreeMap<String, TransactionId>,
    by_order: BTreeMap<String, Vec<TransactionId>>,
    keys_given: BTreeSet<String>,
    /// Ordered by time, then by the order in which they were planned.
    schedule: BTreeMap<(Duration, u64), Event>,
    planned: u64,
    outbox: Vec<Delivery>,
    /// Jobs that no thread has begun.
    waiting: VecDeque<Job>,
    /// Threads with a job.
    at_work: u32,
    /// Counts starts: what was under way at a restart ends without freeing a thread of the new process.
    run: u32,
    /// The run with which the books begin.
    books_since: u32,
    /// Calls since the last start, up to those that are slow.
    calls: u32,
    request_script: VecDeque<RequestFate>,
    lookup_script: VecDeque<LookupFate>,
    log: RequestLog,
}

impl Engine {
    /// A gateway that has seen nothing yet.
    ///
    /// # Errors
    /// When a knob is out of range.
    pub fn new(knobs: Knobs) -> Result<Self, KnobError> {
        knobs.validate()?;
        Ok(Self {
            chance: Chance::seeded(knobs.seed),
            knobs,
            transactions: Vec::new(),
            by_key: BTreeMap::new(),
            by_order: BTreeMap::new(),
            keys_given: BTreeSet::new(),
            schedule: BTreeMap::new(),
            planned: 0,
            outbox: Vec::new(),
            waiting: VecDeque::new(),
            at_work: 0,
            run: 0,
            books_since: 0,
            calls: 0,
            request_script: VecDeque::new(),
            lookup_script: VecDeque::new(),
            log: RequestLog::default(),
        })
    }

    /// Empty books and these knobs, as if it had just been made. Callbacks that are still under way belong to nothing then.
    ///
    /// # Errors
    /// When a knob is out of range; then nothing has changed.
    pub fn reset(&mut self, knobs: Knobs) -> Result<(), KnobError> {
        let run = self.run.wrapping_add(1);
        *self = Self { run, books_since: run, ..Self::new(knobs)? };
        Ok(())
    }

    /// What is set.
    #[must_use]
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// Sets everything anew. What is already planned stays as it was drawn; a new seed begins its own sequence.
    ///
    /// # Errors
    /// When a knob is out of range; then nothing has changed.
    pub fn set_knobs(&mut self, knobs: Knobs) -> Result<(), KnobError> {
        knobs.validate()?;
        if knobs.seed != self.knobs.seed {
            self.chance = Chance::seeded(knobs.seed);
        }
        self.knobs = knobs;
        Ok(())
    }

    /// Says what becomes of the next valid payment requests, instead of chance; takes the place of what is left of an
    /// earlier script, and only the first [`LONGEST_SCRIPT`]. Draws are made all the same, so that what comes after the
    /// script is what would have come without it.
    pub fn script_requests(&mut self, fates: impl IntoIterator<Item = RequestFate>) {
        self.request_script = fates.into_iter().take(LONGEST_SCRIPT).collect();
    }

    /// The same for look-ups.
    pub fn script_lookups(&mut self, fates: impl IntoIterator<Item = LookupFate>) {
        self.lookup_script = fates.into_iter().take(LONGEST_SCRIPT).collect();
    }

    /// `POST /api/v1/payments`, with the body as it came.
    pub fn request_json(
        &mut self,
        now: Duration,
        merchant: Option<&str>,
        body: &[u8],
    ) -> Plan<TransactionAccepted> {
        self.run_until(now);
        if let Some(plan) = self.refuse_in_outage(Operation::Request) {
            if let Ok(request) = validation::parse(body) {
                self.record_post(now, merchant.unwrap_or_default(), &request, "outage", None);
            }
            return plan;
        }
        let readable = validation::merchant(merchant).and_then(|_| validation::parse(body));
        match readable {
            Ok(request) => self.request(now, merchant, &request),
            Err(refusal) => {
                let slowed = self.slowed();
                self.refused(Operation::Request, refusal, slowed)
            }
        }
    }

    /// `POST /api/v1/payments`, with a body that is already understood.
    pub fn request(
        &mut self,
        now: Duration,
        merchant: Option<&str>,
        request: &PaymentRequest<'_>,
    ) -> Plan<TransactionAccepted> {
        self.run_until(now);
        if let Some(plan) = self.refuse_in_outage(Operation::Request) {
            self.record_post(now, merchant.unwrap_or_default(), request, "outage", None);
            return plan;
        }
        let slowed = self.slowed();
        let checked = validation::merchant(merchant).and_then(|merchant| {
            validation::check(request, &self.knobs.callback_url_prefix).map(|()| merchant)
        });
        let merchant = match checked {
            Ok(merchant) => merchant,
            Err(refusal) => {
                self.record_post(now, merchant.unwrap_or_default(), request, "refused", None);
                return self.refused(Operation::Request, refusal, slowed);
            }
        };

        let mut destiny = self.chance.payment(&self.knobs);
        if let Some(scripted) = self.request_script.pop_front() {
            destiny.fate = scripted;
        }
        let (fate, arrived_after) = (destiny.fate, destiny.latency + slowed);
        let outcome = fate.name();
        self.log.count(Operation::Request, &outcome);
        match fate {
            RequestFate::Fail(fault) => {
                self.record_post(now, merchant, request, &outcome, None);
                Plan { answer_after: arrived_after, answer: Answer::Fault(fault) }
            }
            RequestFate::Accept => {
                let lead = if destiny.callback.before_answer { EARLY_CALLBACK_LEAD } else { Duration::ZERO };
                let accepted = self.plan_transaction(now, merchant, request, destiny, arrived_after);
                self.record_post(now, merchant, request, &outcome, Some(&accepted.key));
                Plan { answer_after: arrived_after + lead, answer: Answer::Data(accepted.told) }
            }
            RequestFate::CreateThen(fault) => {
                let accepted = self.plan_transaction(now, merchant, request, destiny, arrived_after);
                self.record_post(now, merchant, request, &outcome, Some(&accepted.key));
                Plan { answer_after: arrived_after, answer: Answer::Fault(fault) }
            }
            RequestFate::Backlog => {
                let created_after = arrived_after + destiny.backlog_delay;
                let accepted = self.plan_transaction(now, merchant, request, destiny, created_after);
                self.record_post(now, merchant, request, &outcome, Some(&accepted.key));
                Plan { answer_after: arrived_after, answer: Answer::Fault(Fault::Hang) }
            }
        }
    }

    /// `GET /api/v1/payments/{transactionKey}`; the key's case makes no difference.
    pub fn transaction(&mut self, now: Duration, merchant: Option<&str>, key: &str) -> Plan<Snapshot> {
        let operation = Operation::LookupByKey;
        self.look_up(now, merchant, operation, |engine, merchant, stale| {
            let id = engine.by_key.get(&folded(key)).copied();
            let transaction = id.and_then(|id| engine.get(id)).filter(|it| engine.may_see(it, merchant, now));
            match transaction {
                Some(transaction) => Ok(transaction.snapshot(stale)),
                None => Err(validation::no_such_transaction(key)),
            }
        })
    }

    /// `GET /api/v1/payments?orderId={orderId}`. Without the parameter the gateway fails: 500.
    pub fn order(
        &mut self,
        now: Duration,
        merchant: Option<&str>,
        order_id: Option<&str>,
    ) -> Plan<OrderTransactions> {
        let operation = Operation::LookupByOrder;
        self.look_up(now, merchant, operation, |engine, merchant, stale| {
            let order_id = order_id.ok_or_else(Refusal::unhandled)?;
            let ids = engine.by_order.get(order_id).map(Vec::as_slice).unwrap_or_default();
            let transactions: Vec<TransactionAccepted> = ids
                .iter()
                .filter_map(|id| engine.get(*id))
                .filter(|transaction| engine.may_see(transaction, merchant, now))
                .map(|transaction| summary(&transaction.snapshot(stale)))
                .collect();
            if transactions.is_empty() {
                return Err(validation::no_such_order(order_id));
            }
            Ok(OrderTransactions { order_id: order_id.to_owned(), transactions })
        })
    }

    /// When something happens next; in the past or zero when it is due already.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        if !self.outbox.is_empty() {
            return Some(Duration::ZERO);
        }
        self.schedule.first_key_value().map(|((due, _), _)| *due)
    }

    /// Makes everything happen that is due, and hands over the callbacks to send.
    pub fn advance(&mut self, now: Duration) -> Vec<Delivery> {
        self.run_until(now);
        std::mem::take(&mut self.outbox)
    }

    /// Tells that a callback has ended: by the HTTP status of its answer, or without an answer. To be said of every one that
    /// [`Engine::advance`] handed over: until then it holds a thread of the pool.
    pub fn callback_ended(&mut self, now: Duration, delivery: &Delivery, status: Option<u16>) {
        self.run_until(now);
        if delivery.forged || delivery.run < self.books_since {
            return;
        }
        if let Some(transaction) = self.get_mut(delivery.transaction)
            && let Some(status) = status
        {
            transaction.callbacks.delivered += 1;
            transaction.callbacks.last_status = Some(status);
        }
        if delivery.run == self.run {
            self.job_done(now);
        }
    }

    /// Decides a transaction by hand, also against an earlier decision, and reports it by callback as usual.
    ///
    /// # Errors
    /// 404 when no look-up would find the key.
    pub fn settle(&mut self, now: Duration, key: &str, succeed: bool) -> Result<LedgerEntry, Refusal> {
        self.run_until(now);
        let id = self.by_key.get(&folded(key)).copied();
        let id = id.ok_or_else(|| validation::no_such_transaction(key))?;
        if let Some(transaction) = self.get_mut(id) {
            transaction.destiny.decision = if succeed { Decision::Approved } else { Decision::LimitExceeded };
            transaction.settled_at = None;
        }
        self.settle_now(id, now);
        self.get(id).map(LedgerEntry::of).ok_or_else(|| validation::no_such_transaction(key))
    }

    /// The gateway's process dies and comes back: what was not decided stays PENDING for ever, what was still to be
    /// created or reported never is. Answers how many transactions that leaves PENDING.
    pub fn restart(&mut self, now: Duration) -> usize {
        self.run_until(now);
        self.schedule.clear();
        self.outbox.clear();
        self.waiting.clear();
        self.at_work = 0;
        self.run = self.run.wrapping_add(1);
        self.calls = 0;
        let is_stuck = |it: &&Transaction| {
            it.gone.is_none() && it.created_at.is_some() && it.status == TransactionStatus::Pending
        };
        self.transactions.iter().filter(is_stuck).count()
    }

    /// The gateway forgets every transaction: look-ups answer 404, results are neither reached nor reported. The ledger
    /// keeps them. Answers how many were forgotten.
    pub fn wipe(&mut self, now: Duration) -> usize {
        self.restart(now);
        self.by_key.clear();
        self.by_order.clear();
        let mut wiped = 0;
        for transaction in &mut self.transactions {
            if transaction.gone.is_none() && transaction.created_at.is_some() {
                transaction.gone = Some(Gone::Wiped);
                wiped += 1;
            }
        }
        wiped
    }

    /// Every transaction that was ever created, oldest first.
    #[must_use]
    pub fn ledger(&mut self, now: Duration) -> Vec<LedgerEntry> {
        self.run_until(now);
        self.transactions.iter().filter(|it| it.created_at.is_some()).map(LedgerEntry::of).collect()
    }

    /// Everything that was asked.
    #[must_use]
    pub fn log(&self) -> &RequestLog {
        &self.log
    }

    fn refuse_in_outage<T>(&mut self, operation: Operation) -> Option<Plan<T>> {
        let fault = match self.knobs.outage {
            Outage::Off => return None,
            Outage::Close => Fault::Close,
            Outage::Reset => Fault::Reset,
            Outage::Hang => Fault::Hang,
            Outage::Unavailable => Fault::Error503,
        };
        self.log.count(operation, "outage");
        Some(Plan::at_once(Answer::Fault(fault)))
    }

    fn refused<T>(&mut self, operation: Operation, refusal: Refusal, answer_after: Duration) -> Plan<T> {
        self.log.count(operation, "refused");
        Plan { answer_after, answer: Answer::Refused(refusal) }
    }

    /// A call has arrived: how much slower it is than others, because the process has just started.
    fn slowed(&mut self) -> Duration {
        let start = &self.knobs.start;
        if self.calls >= start.slow_calls {
            return Duration::ZERO;
        }
        self.calls += 1;
        start.slow_by
    }

    fn record_post(
        &mut self,
        at: Duration,
        merchant: &str,
        request: &PaymentRequest<'_>,
        outcome: &str,
        key: Option<&str>,
    ) {
        let post = Post {
            at,
            merchant: merchant.to_owned(),
            amount: request.amount,
            outcome: outcome.to_owned(),
            transaction_key: key.map(str::to_owned),
        };
        self.log.posts.entry(request.order_id.to_string()).or_default().push(post);
    }

    fn look_up<T>(
        &mut self,
        now: Duration,
        merchant: Option<&str>,
        operation: Operation,
        find: impl FnOnce(&Self, &str, bool) -> Result<T, Refusal>,
    ) -> Plan<T> {
        self.run_until(now);
        if let Some(plan) = self.refuse_in_outage(operation) {
            return plan;
        }
        let slowed = self.slowed();
        let merchant = match validation::merchant(merchant) {
            Ok(merchant) => merchant,
            Err(refusal) => return self.refused(operation, refusal, slowed),
        };
        let (drawn, latency) = self.chance.lookup(&self.knobs);
        let fate = self.lookup_script.pop_front().unwrap_or(drawn);
        let answer = match fate {
            LookupFate::Fail(fault) => Err(Answer::Fault(fault)),
            LookupFate::NotFound => Err(Answer::Refused(Refusal::not_found("결제건이 존재하지 않습니다."))),
            LookupFate::Serve => find(self, merchant, false).map_err(Answer::Refused),
            LookupFate::Stale => find(self, merchant, true).map_err(Answer::Refused),
        };
        let outcome = match (&fate, &answer) {
            (LookupFate::Serve, Ok(_)) => "found",
            (LookupFate::Serve | LookupFate::Stale, Err(Answer::Refused(Refusal { status: 404, .. }))) => {
                "not_found"
            }
            (LookupFate::Serve | LookupFate::Stale, Err(_)) => "refused",
            (LookupFate::NotFound, _) => "false_not_found",
            (LookupFate::Stale | LookupFate::Fail(_), _) => fate.name(),
        };
        self.log.count(operation, outcome);
        Plan { answer_after: latency + slowed, answer: answer.map_or_else(|other| other, Answer::Data) }
    }

    fn may_see(&self, transaction: &Transaction, merchant: &str, now: Duration) -> bool {
        let lookup = &self.knobs.lookup;
        transaction.is_visible(now, lookup.visible_after)
            && (!lookup.merchant_scoped || transaction.merchant == merchant)
    }

    fn get(&self, id: TransactionId) -> Option<&Transaction> {
        self.transactions.get(index_of(id))
    }

    fn get_mut(&mut self, id: TransactionId) -> Option<&mut Transaction> {
        self.transactions.get_mut(index_of(id))
    }
}

fn index_of(id: TransactionId) -> usize {
    usize::try_from(id.get().saturating_sub(1)).unwrap_or(usize::MAX)
}

/// Keys are the same whatever the case of their letters: so the gateway's database compares them.
fn folded(key: &str) -> String {
    key.to_lowercase()
}

fn summary(snapshot: &Snapshot) -> TransactionAccepted {
    TransactionAccepted {
        transaction_key: snapshot.transaction_key.clone(),
        status: snapshot.status,
        reason: snapshot.reason.map(str::to_owned),
    }
}
