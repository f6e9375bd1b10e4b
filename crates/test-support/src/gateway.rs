//! A payment gateway for use-case tests: answers from a script first, then from the transactions it was given.

use async_trait::async_trait;
use domain::ports::{
    ChargeOutcome, ChargeRequest, FailureCause, GatewayAnswer, Lookup, LookupError, PaymentGateway,
    TransactionSummary,
};
use domain::settlement::Transaction;
use domain::{GatewayKey, GatewayOrderRef, MerchantId};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was asked of a [`FakeGateway`].
#[derive(Debug, Clone)]
pub enum GatewayCall {
    /// A card payment was requested.
    Charge(ChargeRequest),
    /// A transaction was looked up.
    FindByKey(GatewayKey),
    /// An order's transactions were looked up.
    FindByOrder(GatewayOrderRef),
}

type ByKey = Result<Lookup<Transaction>, LookupError>;
type ByOrder = Result<Lookup<Vec<TransactionSummary>>, LookupError>;

#[derive(Debug, Default)]
struct State {
    charges: VecDeque<ChargeOutcome>,
    by_key: VecDeque<ByKey>,
    by_order: VecDeque<ByOrder>,
    transactions: Vec<Transaction>,
    calls: Vec<GatewayCall>,
}

/// A scripted gateway.
///
/// A call takes the next answer of its own queue. With an empty queue, look-ups answer from the transactions that
/// [`FakeGateway::put`] gave it, and a charge is [`GatewayAnswer::Uncertain`] with the cause `unscripted`.
#[derive(Debug, Default)]
pub struct FakeGateway(Mutex<State>);

impl FakeGateway {
    /// A gateway without a script and without transactions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scripts the next charge.
    pub fn on_charge(&self, outcome: ChargeOutcome) -> &Self {
        self.state().charges.push_back(outcome);
        self
    }

    /// Scripts the next charge's answer, without a wish to be watched.
    pub fn on_charge_answer(&self, answer: GatewayAnswer) -> &Self {
        self.on_charge(ChargeOutcome { answer, watch: false })
    }

    /// Scripts the next look-up by key.
    pub fn on_find_by_key(&self, answer: ByKey) -> &Self {
        self.state().by_key.push_back(answer);
        self
    }

    /// Scripts the next look-up by order.
    pub fn on_find_by_order(&self, answer: ByOrder) -> &Self {
        self.state().by_order.push_back(answer);
        self
    }

    /// Gives it a transaction, in place of one with the same key.
    pub fn put(&self, transaction: Transaction) -> &Self {
        let mut state = self.state();
        match state.transactions.iter_mut().find(|there| there.key == transaction.key) {
            Some(there) => *there = transaction,
            None => state.transactions.push(transaction),
        }
        drop(state);
        self
    }

    /// Takes all its transactions away (a wiped gateway).
    pub fn wipe(&self) {
        self.state().transactions.clear();
    }

    /// All that was asked, in order.
    pub fn calls(&self) -> Vec<GatewayCall> {
        self.state().calls.clone()
    }

    /// How many card payments were requested.
    pub fn charges(&self) -> usize {
        self.state().calls.iter().filter(|call| matches!(call, GatewayCall::Charge(_))).count()
    }

    /// The answer of a gateway that can't be asked.
    pub const fn unreachable(cause: &'static str) -> LookupError {
        LookupError::Unreachable { cause: FailureCause(cause), circuit_open: false }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PaymentGateway for FakeGateway {
    async fn charge(&self, request: &ChargeRequest) -> ChargeOutcome {
        let mut state = self.state();
        state.calls.push(GatewayCall::Charge(request.clone()));
        state.charges.pop_front().unwrap_or(ChargeOutcome {
            answer: GatewayAnswer::Uncertain { cause: FailureCause("unscripted") },
            watch: false,
        })
    }

    async fn find_by_key(&self, _merchant: &MerchantId, key: &GatewayKey) -> ByKey {
        let mut state = self.state();
        state.calls.push(GatewayCall::FindByKey(key.clone()));
        let scripted = state.by_key.pop_front();
        scripted.unwrap_or_else(|| {
            let found = state.transactions.iter().find(|transaction| transaction.key == *key);
            Ok(found.map_or(Lookup::NotFound, |transaction| Lookup::Found(transaction.clone())))
        })
    }

    async fn find_by_order(&self, _merchant: &MerchantId, order_ref: &GatewayOrderRef) -> ByOrder {
        let mut state = self.state();
        state.calls.push(GatewayCall::FindByOrder(order_ref.clone()));
        let scripted = state.by_order.pop_front();
        scripted.unwrap_or_else(|| {
            let listed: Vec<_> = state
                .transactions
                .iter()
                .filter(|transaction| transaction.order_ref == *order_ref)
                .map(|transaction| TransactionSummary {
                    key: transaction.key.clone(),
                    status: transaction.status,
                    reason: transaction.reason.clone(),
                })
                .collect();
            Ok(if listed.is_empty() { Lookup::NotFound } else { Lookup::Found(listed) })
        })
    }
}
