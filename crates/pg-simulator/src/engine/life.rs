//! The life of a transaction: planned, created, worked off, decided, reported.
//!
//! Deciding and reporting are jobs of one pool of threads, in the order in which they came up: a callback waits behind all
//! transactions that were created before its own was decided, and one that its merchant does not answer holds its thread.

use std::time::Duration;

use pg_protocol::{PaymentRequest, TransactionAccepted, TransactionStatus};

use super::chance::{Decision, Destiny};
use super::transaction::{CallbackTally, Delivery, Gone, Transaction, TransactionId};
use super::{Engine, Event, Job, books, folded};

/// The gateway's dates are Korean.
const KOREA_OFFSET: Duration = Duration::from_secs(9 * 60 * 60);

/// What the two halves of the answer to an accepted request need.
pub(super) struct Planned {
    pub(super) key: String,
    pub(super) told: TransactionAccepted,
}

impl Engine {
    pub(super) fn plan_transaction(
        &mut self,
        now: Duration,
        merchant: &str,
        request: &PaymentRequest<'_>,
        destiny: Destiny,
        created_after: Duration,
    ) -> Planned {
        let key = self.new_key(now, &destiny);
        let told_key = self.told_key(&key, &destiny);
        let decided = destiny.decided_at_once;
        let told = TransactionAccepted {
            transaction_key: told_key,
            status: if decided { destiny.decision.status() } else { TransactionStatus::Pending },
            reason: decided.then(|| destiny.decision.reason().to_owned()),
        };
        let delta = if destiny.wrong_amount { self.knobs.amount_delta } else { 0 };
        let id = TransactionId(u64::try_from(self.transactions.len()).unwrap_or(u64::MAX).saturating_add(1));
        self.transactions.push(Transaction {
            id,
            key: key.clone(),
            merchant: merchant.to_owned(),
            order_id: request.order_id.to_string(),
            card_type: request.card_type,
            card_no: request.card_no.to_string(),
            requested_amount: request.amount,
            amount: request.amount.saturating_add(delta).max(0),
            callback_url: request.callback_url.to_string(),
            status: TransactionStatus::Pending,
            reason: None,
            requested_at: now,
            created_at: None,
            settled_at: None,
            flipped: false,
            gone: None,
            callbacks: CallbackTally::default(),
            destiny,
        });
        self.plan(now + created_after, Event::Create(id));
        Planned { key, told }
    }

    /// `20250816:TR:9577c5`: Korean date, `TR`, six hexadecimal digits.
    fn new_key(&mut self, now: Duration, destiny: &Destiny) -> String {
        if destiny.collides
            && let Some(older) = self.pick_older(destiny.other)
        {
            return older;
        }
        let date = match books::calendar(now + KOREA_OFFSET) {
            Some(at) => format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day()),
            None => "99991231".to_owned(),
        };
        let mut key = format!("{date}:TR:{:06x}", destiny.key_bits);
        if self.knobs.key.unique {
            // Bounded by the 2^24 keys of a day; in practice one more draw is enough.
            for _ in 0..1_000 {
                if !self.keys_given.contains(&key) {
                    break;
                }
                key = format!("{date}:TR:{:06x}", self.chance.key_bits());
            }
        }
        self.keys_given.insert(key.clone());
        key
    }

    fn told_key(&self, own: &str, destiny: &Destiny) -> String {
        let foreign = if destiny.tells_foreign_key { self.pick_older(destiny.other) } else { None };
        foreign.unwrap_or_else(|| own.to_owned())
    }

    /// The key of one of the transactions that exist, chosen by a number from 0 to 1.
    fn pick_older(&self, chosen: f64) -> Option<String> {
        // A float-to-integer cast saturates; the index stays inside.
        let last = self.transactions.len().checked_sub(1)?;
        let index = ((self.transactions.len() as f64) * chosen) as usize;
        self.transactions.get(index.min(last)).map(|older| older.key.clone())
    }

    fn plan(&mut self, due: Duration, event: Event) {
        self.planned += 1;
        self.schedule.insert((due, self.planned), event);
    }

    pub(super) fn run_until(&mut self, now: Duration) {
        while let Some(entry) = self.schedule.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((due, _), event) = entry.remove_entry();
            match event {
                Event::Create(id) => self.create(id, due),
                Event::Settle(id) => {
                    self.settle_on_schedule(id, due);
                    self.job_done(due);
                }
                Event::Flip(id) => self.flip(id, due),
                Event::Callback(id) => self.job(Job::Report(id), due),
                Event::ForgedCallback(id) => self.report(id, true),
            }
        }
        // Only after the number of threads was raised is there still something to begin.
        self.begin_jobs(now);
    }

    fn create(&mut self, id: TransactionId, at: Duration) {
        let Some(transaction) = self.get_mut(id) else { return };
        transaction.created_at = Some(at);
        let (key, order_id) = (transaction.key.clone(), transaction.order_id.clone());
        let destiny = transaction.destiny.clone();
        if let Some(older) = self.by_key.insert(folded(&key), id)
            && let Some(older) = self.get_mut(older)
        {
            older.gone = Some(Gone::Overwritten);
        }
        self.by_order.entry(order_id).or_default().push(id);
        if destiny.callback.forged {
            self.plan(at, Event::ForgedCallback(id));
        }
        if destiny.decided_at_once || destiny.callback.before_answer {
            self.settle_now(id, at);
            return;
        }
        self.job(Job::Decide(id), at);
    }

    fn job(&mut self, job: Job, at: Duration) {
        self.waiting.push_back(job);
        self.begin_jobs(at);
    }

    pub(super) fn job_done(&mut self, at: Duration) {
        self.at_work = self.at_work.saturating_sub(1);
        self.begin_jobs(at);
    }

    /// Begins what waits, as far as threads are free.
    fn begin_jobs(&mut self, at: Duration) {
        let threads = match self.knobs.settlement.workers {
            0 => u32::MAX,
            threads => threads,
        };
        while self.at_work < threads {
            let Some(job) = self.waiting.pop_front() else { return };
            self.at_work += 1;
            match job {
                Job::Decide(id) => {
                    let processing = self.get(id).map_or(Duration::ZERO, |it| it.destiny.processing);
                    self.plan(at + processing, Event::Settle(id));
                }
                Job::Report(id) => self.report(id, false),
            }
        }
    }

    fn settle_on_schedule(&mut self, id: TransactionId, at: Duration) {
        let open = |it: &Transaction| it.gone.is_none() && it.settled_at.is_none() && !it.destiny.stuck;
        if self.get(id).is_some_and(open) {
            self.settle_now(id, at);
        }
    }

    pub(super) fn settle_now(&mut self, id: TransactionId, at: Duration) {
        let Some(transaction) = self.get_mut(id) else { return };
        let decision = transaction.destiny.decision;
        transaction.status = decision.status();
        transaction.reason = Some(decision.reason());
        transaction.settled_at = Some(at);
        let callback = transaction.destiny.callback;
        let flips_after = transaction.destiny.flips_after.filter(|_| decision != Decision::Approved);
        if let Some(later) = flips_after {
            self.plan(at + later, Event::Flip(id));
        }
        for _ in 0..callback.copies {
            self.plan(at + callback.delay, Event::Callback(id));
        }
    }

    fn flip(&mut self, id: TransactionId, at: Duration) {
        let failed = |it: &&mut Transaction| it.gone.is_none() && it.status == TransactionStatus::Failed;
        if let Some(transaction) = self.get_mut(id).filter(failed) {
            transaction.status = TransactionStatus::Success;
            transaction.reason = Some(Decision::Approved.reason());
            transaction.settled_at = Some(at);
            transaction.flipped = true;
        }
    }

    fn report(&mut self, id: TransactionId, forged: bool) {
        let delta = self.knobs.amount_delta;
        let run = self.run;
        let Some(transaction) = self.get_mut(id) else { return };
        let claimed = if forged { Decision::Approved } else { transaction.destiny.decision };
        let mut body = transaction.snapshot(false);
        body.status = claimed.status();
        body.reason = Some(claimed.reason());
        if transaction.destiny.callback.wrong_amount && !forged {
            body.amount = body.amount.saturating_add(delta).max(0);
        }
        if !forged {
            transaction.callbacks.sent += 1;
        }
        let url = transaction.callback_url.clone();
        self.outbox.push(Delivery { transaction: id, url, body, forged, run });
    }
}
