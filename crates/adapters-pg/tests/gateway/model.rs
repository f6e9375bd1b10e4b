//! A gateway made of closures, in virtual time, and what is needed to call it.

use adapters_pg::transport::{Limits, LookupAttempt, LookupFailure, PaymentAttempt, Transport, cause};
use adapters_pg::{GatewayConfig, GuardedGateway};
use async_trait::async_trait;
use domain::ports::{ChargeOutcome, ChargeRequest, Entropy, Lookup, PaymentGateway, TransactionSummary};
use domain::settlement::{Transaction, TransactionStatus};
use domain::{CardType, FailureMessage, GatewayKey, GatewayOrderRef, MerchantId, Money};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Numbers that a seed repeats (SplitMix64).
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Entropy for Seeded {
    fn token(&self) -> [u8; 32] {
        let mut token = [0; 32];
        for part in token.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes());
        }
        token
    }

    fn fraction(&self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What reached the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Request,
    ByKey,
    ByOrder,
}

type Requests = Box<dyn FnMut(usize) -> (Duration, PaymentAttempt) + Send>;
type LookUps = Box<dyn FnMut(usize) -> (Duration, LookupAttempt<Vec<TransactionSummary>>) + Send>;

/// A gateway whose answers are closures over the number of the request (from 0): how long it takes and what it says.
pub(crate) struct Model {
    requests: Mutex<Requests>,
    look_ups: Mutex<LookUps>,
    seen: Mutex<Vec<(Call, Instant, Limits)>>,
    requested: AtomicUsize,
    looked_up: AtomicUsize,
}

impl Model {
    pub(crate) fn new(
        requests: impl FnMut(usize) -> (Duration, PaymentAttempt) + Send + 'static,
        look_ups: impl FnMut(usize) -> (Duration, LookupAttempt<Vec<TransactionSummary>>) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            requests: Mutex::new(Box::new(requests)),
            look_ups: Mutex::new(Box::new(look_ups)),
            seen: Mutex::default(),
            requested: AtomicUsize::new(0),
            looked_up: AtomicUsize::new(0),
        })
    }

    /// Answers requests one after the other from a list, each after 10 ms; has no transactions.
    pub(crate) fn scripted(answers: Vec<PaymentAttempt>) -> Arc<Self> {
        Self::new(move |nth| (ms(10), answers[nth].clone()), |_| (ms(10), Ok(Lookup::NotFound)))
    }

    pub(crate) fn seen(&self) -> Vec<(Call, Instant, Limits)> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.seen().iter().map(|(call, ..)| *call).collect()
    }

    pub(crate) fn requests(&self) -> usize {
        self.requested.load(Ordering::Relaxed)
    }

    fn note(&self, call: Call, limits: Limits) -> usize {
        let mut seen = self.seen.lock().unwrap();
        let counter = if call == Call::Request { &self.requested } else { &self.looked_up };
        let nth = counter.fetch_add(1, Ordering::Relaxed);
        seen.push((call, Instant::now(), limits));
        nth
    }
}

#[async_trait]
impl Transport for Model {
    async fn request_payment(&self, _request: &ChargeRequest, limits: Limits) -> PaymentAttempt {
        let nth = self.note(Call::Request, limits);
        let (takes, answer) = (self.requests.lock().unwrap())(nth);
        sleep(takes).await;
        answer
    }

    async fn find_by_key(
        &self,
        _merchant: &MerchantId,
        key: &GatewayKey,
        limits: Limits,
    ) -> LookupAttempt<Transaction> {
        let nth = self.note(Call::ByKey, limits);
        let (takes, answer) = (self.look_ups.lock().unwrap())(nth);
        sleep(takes).await;
        answer.map(|lookup| match lookup {
            Lookup::NotFound => Lookup::NotFound,
            Lookup::Found(_) => Lookup::Found(Transaction {
                key: key.clone(),
                order_ref: GatewayOrderRef::from_gateway("000007"),
                amount: Money::new(5000).unwrap(),
                status: TransactionStatus::Success,
                reason: None,
                made_before: None,
            }),
        })
    }

    async fn find_by_order(
        &self,
        _merchant: &MerchantId,
        _order_ref: &GatewayOrderRef,
        limits: Limits,
    ) -> LookupAttempt<Vec<TransactionSummary>> {
        let nth = self.note(Call::ByOrder, limits);
        let (takes, answer) = (self.look_ups.lock().unwrap())(nth);
        sleep(takes).await;
        answer
    }
}

pub(crate) fn guarded(model: &Arc<Model>, config: GatewayConfig) -> Arc<GuardedGateway<Arc<Model>>> {
    Arc::new(GuardedGateway::new(Arc::clone(model), config, Arc::new(Seeded::new(7))).unwrap())
}

pub(crate) fn request_until(deadline: Instant) -> ChargeRequest {
    ChargeRequest {
        merchant: MerchantId::new("holdfast").unwrap(),
        order_ref: GatewayOrderRef::from_gateway("000007"),
        card_type: CardType::Kb,
        card_number: "1234-5678-9814-1451".parse().unwrap(),
        amount: Money::new(5000).unwrap(),
        callback_url: "http://localhost:8080/api/v1/payments/callback/t0ken".to_owned(),
        deadline: deadline.into_std(),
    }
}

/// One order's call, with the deadline that the application sets.
pub(crate) async fn charge<T: Transport>(gateway: &GuardedGateway<T>) -> ChargeOutcome {
    gateway.charge(&request_until(Instant::now() + ms(4500))).await
}

pub(crate) fn key(text: &str) -> GatewayKey {
    GatewayKey::new(text).unwrap()
}

pub(crate) fn accepted() -> PaymentAttempt {
    PaymentAttempt::Accepted { key: key("20250816:TR:000001"), status: TransactionStatus::Pending }
}

pub(crate) fn rejected() -> PaymentAttempt {
    PaymentAttempt::Rejected { message: FailureMessage::from_outside("잘못된 카드입니다.") }
}

pub(crate) fn refused() -> PaymentAttempt {
    PaymentAttempt::NotReached { cause: cause::CONNECT_REFUSED, may_have_created: false, retry_after: None }
}

pub(crate) fn error_500() -> PaymentAttempt {
    PaymentAttempt::NotReached { cause: cause::HTTP_500, may_have_created: true, retry_after: None }
}

pub(crate) fn timed_out() -> PaymentAttempt {
    PaymentAttempt::Uncertain { cause: cause::READ_TIMEOUT }
}

pub(crate) fn found(lines: &[(&str, TransactionStatus)]) -> LookupAttempt<Vec<TransactionSummary>> {
    let line = |(text, status): &(&str, TransactionStatus)| TransactionSummary {
        key: key(text),
        status: *status,
        reason: None,
    };
    Ok(Lookup::Found(lines.iter().map(line).collect()))
}

pub(crate) fn unanswered<T>() -> LookupAttempt<T> {
    Err(LookupFailure::Unreachable { cause: cause::READ_TIMEOUT, retry_after: None })
}
