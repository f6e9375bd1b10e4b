//! A payment gateway in virtual time: it makes transactions that live, by plan. It looks at the database whenever it is
//! asked to charge, and refuses (by a panic) what must never happen: a request that was not committed to first.

use async_trait::async_trait;
use domain::ports::{
    ChargeOutcome, ChargeRequest, FailureCause, GatewayAnswer, Lookup, LookupError, Oddity, PaymentGateway,
    TransactionSummary,
};
use domain::settlement::{Transaction, TransactionStatus};
use domain::{FailureMessage, GatewayKey, GatewayOrderRef, MerchantId, Money, PaymentStatus};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use test_support::{FakeDatabase, Fault, Faults, Site};
use tokio::time::Instant;

pub(crate) const DECLINED: &str = "한도초과입니다. 다른 카드를 선택해주세요.";

/// A transaction that a request makes.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) end: TransactionStatus,
    /// Decided so long after it appeared.
    pub(crate) decided_after: Duration,
    /// Found by look-ups so long after the request.
    pub(crate) appears_after: Duration,
    /// Another amount than was asked for.
    pub(crate) amount: Option<i64>,
}

pub(crate) fn made(end: TransactionStatus) -> Made {
    let decided_after = Duration::from_secs(3);
    Made { end, decided_after, appears_after: Duration::ZERO, amount: None }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Accepted,
    /// With the transaction's end at once (F44).
    AcceptedDecided,
    Rejected,
    NotReached,
    CircuitOpen,
    Uncertain,
}

/// What a request does and how it is answered.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) made: Vec<Made>,
    pub(crate) reply: Reply,
    pub(crate) watch: bool,
    pub(crate) answered_after: Duration,
}

impl Plan {
    pub(crate) fn new(reply: Reply, made: Vec<Made>) -> Self {
        Self { made, reply, watch: false, answered_after: Duration::from_millis(300) }
    }
}

#[derive(Debug, Clone)]
struct Held {
    transaction: Transaction,
    end: TransactionStatus,
    appears_at: Instant,
    decided_at: Instant,
    hidden: bool,
    odd: Option<Oddity>,
    listing_only: bool,
    unlisted: bool,
}

#[derive(Debug, Default)]
struct State {
    plans: VecDeque<Plan>,
    held: Vec<Held>,
    charges: Vec<ChargeRequest>,
    queries: usize,
    /// Look-ups of lists, each with its moment.
    listed: Vec<(Instant, GatewayOrderRef)>,
    query_takes: Duration,
    under_way: usize,
    most_at_once: usize,
    down: bool,
}

pub(crate) struct TestGateway {
    state: Mutex<State>,
    /// Of the shops that use it.
    databases: Mutex<Vec<FakeDatabase>>,
    faults: Mutex<Arc<dyn Faults>>,
}

impl TestGateway {
    pub(crate) fn new(database: FakeDatabase, faults: Arc<dyn Faults>) -> Self {
        Self { state: Mutex::default(), databases: Mutex::new(vec![database]), faults: Mutex::new(faults) }
    }

    /// Another shop uses it, too.
    pub(crate) fn serve(&self, database: FakeDatabase) {
        self.databases.lock().unwrap().push(database);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set_faults(&self, faults: Arc<dyn Faults>) {
        *self.faults.lock().unwrap() = faults;
    }

    fn faults(&self) -> Arc<dyn Faults> {
        Arc::clone(&self.faults.lock().unwrap())
    }

    /// What the next request does; without a plan it makes a SUCCESS in 3 s and is accepted.
    pub(crate) fn plan(&self, plan: Plan) {
        self.state().plans.push_back(plan);
    }

    /// Nothing can be asked.
    pub(crate) fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    pub(crate) fn charges(&self) -> Vec<ChargeRequest> {
        self.state().charges.clone()
    }

    pub(crate) fn queries(&self) -> usize {
        self.state().queries
    }

    /// A look-up takes so long.
    pub(crate) fn set_query_takes(&self, takes: Duration) {
        self.state().query_takes = takes;
    }

    /// The most look-ups that were under way at once. One examination makes one after the other.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    /// When each order's list was asked for.
    pub(crate) fn lists_asked(&self) -> BTreeMap<GatewayOrderRef, Vec<Instant>> {
        let mut asked = BTreeMap::<_, Vec<_>>::new();
        for (at, order_ref) in &self.state().listed {
            asked.entry(order_ref.clone()).or_default().push(*at);
        }
        asked
    }

    pub(crate) fn key(number: usize) -> GatewayKey {
        GatewayKey::new(format!("20260101:TR:{number:06}")).unwrap()
    }

    /// Makes a transaction of an order behind everybody's back; gives its key.
    pub(crate) fn put(&self, order_ref: &GatewayOrderRef, amount: Money, made: &Made) -> GatewayKey {
        let mut state = self.state();
        let key = Self::key(state.held.len() + 1);
        let appears_at = Instant::now() + made.appears_after;
        let transaction = Transaction {
            key: key.clone(),
            order_ref: order_ref.clone(),
            amount: made.amount.map_or(amount, |won| Money::new(won).unwrap()),
            status: TransactionStatus::Pending,
            reason: None,
            made_before: None,
        };
        let decided_at = appears_at + made.decided_after;
        state.held.push(Held {
            transaction,
            end: made.end,
            appears_at,
            decided_at,
            hidden: false,
            odd: None,
            listing_only: false,
            unlisted: false,
        });
        key
    }

    /// Changes what it holds under a key.
    pub(crate) fn alter(&self, key: &GatewayKey, change: impl FnOnce(&mut Transaction)) {
        let mut state = self.state();
        let held = state.held.iter_mut().find(|held| held.transaction.key == *key).unwrap();
        change(&mut held.transaction);
    }

    /// Decides one otherwise, now.
    pub(crate) fn decide(&self, key: &GatewayKey, end: TransactionStatus) {
        let mut state = self.state();
        let held = state.held.iter_mut().find(|held| held.transaction.key == *key).unwrap();
        held.end = end;
        held.decided_at = held.decided_at.min(Instant::now());
    }

    /// Forgets one, or shows it again.
    pub(crate) fn hide(&self, key: &GatewayKey, hidden: bool) {
        let mut state = self.state();
        state.held.iter_mut().find(|held| held.transaction.key == *key).unwrap().hidden = hidden;
    }

    /// The list shows it, but nothing is there by its key.
    pub(crate) fn set_listing_only(&self, key: &GatewayKey, listing_only: bool) {
        let mut state = self.state();
        let held = state.held.iter_mut().find(|held| held.transaction.key == *key).unwrap();
        held.listing_only = listing_only;
    }

    /// No list shows it.
    pub(crate) fn set_unlisted(&self, key: &GatewayKey) {
        let mut state = self.state();
        state.held.iter_mut().find(|held| held.transaction.key == *key).unwrap().unlisted = true;
    }

    /// Looked up by its key, it is answered with something of no use.
    pub(crate) fn set_odd(&self, key: &GatewayKey, odd: Option<Oddity>) {
        let mut state = self.state();
        state.held.iter_mut().find(|held| held.transaction.key == *key).unwrap().odd = odd;
    }

    fn odd(&self, key: &GatewayKey) -> Option<Oddity> {
        self.state().held.iter().find(|held| held.transaction.key == *key)?.odd
    }

    fn is_unlisted(&self, key: &GatewayKey) -> bool {
        self.state().held.iter().any(|held| held.transaction.key == *key && held.unlisted)
    }

    fn is_listing_only(&self, key: &GatewayKey) -> bool {
        self.state().held.iter().any(|held| held.transaction.key == *key && held.listing_only)
    }

    /// The truth: all transactions there ever were, as they are now.
    pub(crate) fn truth(&self) -> Vec<Transaction> {
        let state = self.state();
        state.held.iter().filter(|held| held.appears_at <= Instant::now()).map(Held::now).collect()
    }

    fn visible(&self) -> Vec<Transaction> {
        let state = self.state();
        let now = Instant::now();
        state.held.iter().filter(|held| held.appears_at <= now && !held.hidden).map(Held::now).collect()
    }

    /// What holds at the moment a request leaves: its payment is IN_PROGRESS, durably, and nobody asked before.
    fn inspect(&self, request: &ChargeRequest) {
        let databases = self.databases.lock().unwrap().clone();
        let asks = databases.iter().find_map(|database| {
            database.read(|tables| {
                let mut rows = tables.payments.values();
                rows.find(|row| row.record.order_ref == request.order_ref).map(|row| row.record.clone())
            })
        });
        let record = asks.expect("a request for a payment that is not committed");
        assert_eq!(record.payment.amounts().paid_amount(), request.amount);
        let status = record.payment.status();
        // A callback or the reconciler may have ended it in the very moment; PENDING would be "surely not asked yet".
        assert_ne!(status, PaymentStatus::Pending, "a request left before IN_PROGRESS was committed");
        let before =
            self.state().charges.iter().filter(|charge| charge.order_ref == request.order_ref).count();
        assert_eq!(before, 0, "a second request for one payment");
    }

    async fn ask(&self, call: &'static str) -> Result<(), LookupError> {
        let fault = self.faults().before(Site::outside(call)).await;
        let (down, takes) = {
            let mut state = self.state();
            state.queries += 1;
            state.under_way += 1;
            state.most_at_once = state.most_at_once.max(state.under_way);
            (state.down, state.query_takes)
        };
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.state().under_way -= 1;
        if down || fault != Fault::None { Err(unreachable()) } else { Ok(()) }
    }

    async fn answered<T>(&self, call: &'static str, answer: T) -> Result<T, LookupError> {
        match self.faults().after(Site::outside(call)).await {
            Fault::None => Ok(answer),
            _ => Err(unreachable()),
        }
    }
}

impl Held {
    fn now(&self) -> Transaction {
        let decided = self.decided_at <= Instant::now();
        let status = if decided { self.end } else { TransactionStatus::Pending };
        let reason = (status == TransactionStatus::Failed).then(|| DECLINED.to_owned());
        Transaction { status, reason, ..self.transaction.clone() }
    }
}

fn unreachable() -> LookupError {
    LookupError::Unreachable { cause: FailureCause("ReadTimeout"), circuit_open: false }
}

const RETRY_AFTER: Duration = Duration::from_secs(5);

#[async_trait]
impl PaymentGateway for TestGateway {
    async fn charge(&self, request: &ChargeRequest) -> ChargeOutcome {
        let cause = FailureCause("ConnectRefused");
        let late = || Instant::now().into_std() > request.deadline;
        assert!(!late(), "asked to charge after the deadline");
        // Nothing leaves after it, not from here either, when the process stood still on its way.
        if self.faults().before(Site::outside("gateway.charge")).await != Fault::None || late() {
            let answer = GatewayAnswer::NotReached { cause, retry_after: RETRY_AFTER };
            return ChargeOutcome { answer, watch: false };
        }
        self.inspect(request);
        let plan = {
            let mut state = self.state();
            state.charges.push(request.clone());
            state.plans.pop_front()
        };
        let plan = plan.unwrap_or_else(|| Plan::new(Reply::Accepted, vec![made(TransactionStatus::Success)]));
        let put = |made: &Made| self.put(&request.order_ref, request.amount, made);
        let keys: Vec<_> = plan.made.iter().map(put).collect();
        tokio::time::sleep(plan.answered_after).await;
        if self.faults().after(Site::outside("gateway.charge")).await != Fault::None {
            let answer = GatewayAnswer::Uncertain { cause: FailureCause("ReadTimeout") };
            return ChargeOutcome { answer, watch: plan.watch };
        }
        let accepted = |status| GatewayAnswer::Accepted { key: keys.last().cloned().unwrap(), status };
        let answer = match plan.reply {
            Reply::Accepted => accepted(TransactionStatus::Pending),
            Reply::AcceptedDecided => accepted(plan.made.last().unwrap().end),
            Reply::Rejected => GatewayAnswer::Rejected {
                message: FailureMessage::new("카드 번호가 잘못되었습니다.").unwrap(),
            },
            Reply::NotReached => GatewayAnswer::NotReached { cause, retry_after: RETRY_AFTER },
            Reply::CircuitOpen => GatewayAnswer::CircuitOpen { retry_after: RETRY_AFTER },
            Reply::Uncertain => GatewayAnswer::Uncertain { cause: FailureCause("ReadTimeout") },
        };
        ChargeOutcome { answer, watch: plan.watch }
    }

    async fn find_by_key(
        &self,
        _merchant: &MerchantId,
        key: &GatewayKey,
    ) -> Result<Lookup<Transaction>, LookupError> {
        self.ask("gateway.find_by_key").await?;
        if let Some(what) = self.odd(key) {
            return Err(LookupError::Odd { what });
        }
        let found = self
            .visible()
            .into_iter()
            .find(|transaction| transaction.key == *key && !self.is_listing_only(key));
        self.answered("gateway.find_by_key", found.map_or(Lookup::NotFound, Lookup::Found)).await
    }

    async fn find_by_order(
        &self,
        _merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
    ) -> Result<Lookup<Vec<TransactionSummary>>, LookupError> {
        self.state().listed.push((Instant::now(), order_ref.clone()));
        self.ask("gateway.find_by_order").await?;
        let listed: Vec<_> = self
            .visible()
            .into_iter()
            .filter(|transaction| transaction.order_ref == *order_ref && !self.is_unlisted(&transaction.key))
            .map(|Transaction { key, status, reason, .. }| TransactionSummary { key, status, reason })
            .collect();
        let answer = if listed.is_empty() { Lookup::NotFound } else { Lookup::Found(listed) };
        self.answered("gateway.find_by_order", answer).await
    }
}
