//! What a case needs of a gateway, whichever it is.

use adapters_pg::transport::{Limits, LookupAttempt, PaymentAttempt, Transport};
use domain::ports::{ChargeRequest, Lookup, TransactionSummary};
use domain::settlement::Transaction;
use domain::{CardType, GatewayKey, GatewayOrderRef, MerchantId, Money};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How a gateway behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// As documented, 500s included.
    Documented,
    /// As documented, without 500s.
    Obedient,
    /// Nothing is ever decided.
    Undecided,
    /// Every request meets this.
    Request(RequestFault),
    /// Every look-up meets this.
    LookUp(LookUpFault),
    /// Every answer bears the end already.
    DecidedAtOnce,
    /// Every transaction is booked with another amount.
    WrongAmount,
    /// Every transaction gets a key that an older one has.
    KeyReused,
    /// No callback is sent.
    CallbackLost,
    /// Every callback is sent more than once.
    CallbackRepeated,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestFault {
    Http500,
    Create500,
    Http503,
    Create503,
    Http429,
    BadGateway,
    Garbage,
    ResetLost,
    ResetCreated,
    HangLost,
    HangCreated,
}

/// What becomes of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookUpFault {
    Error,
    Hang,
    False404,
}

/// A gateway with its way in.
pub(crate) trait Driver: Sized {
    /// One that behaves so.
    async fn start(manners: Manners) -> Self;
    /// The way in.
    fn transport(&self) -> &dyn Transport;
    /// What a callback's address must begin with.
    fn callback_base(&self) -> String;
    /// Callbacks sent so far: which transaction, to which token.
    fn told(&self) -> Vec<(GatewayKey, String)>;
    /// It forgets everything.
    fn wipe(&self);
    /// Longer than anything takes that must happen.
    fn patience(&self) -> Duration;
}

pub(crate) fn merchant() -> MerchantId {
    MerchantId::new("holdfast").unwrap()
}

pub(crate) fn order(text: &str) -> GatewayOrderRef {
    GatewayOrderRef::from_gateway(text)
}

pub(crate) fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

/// 5000 won for an order, whose callbacks bear the order as their token.
pub(crate) fn request(driver: &impl Driver, order_ref: &str) -> ChargeRequest {
    ChargeRequest {
        merchant: merchant(),
        order_ref: order(order_ref),
        card_type: CardType::Kb,
        card_number: "1234-5678-9814-1451".parse().unwrap(),
        amount: won(5000),
        callback_url: format!("{}/api/v1/payments/callback/{order_ref}", driver.callback_base()),
        deadline: (Instant::now() + driver.patience()).into_std(),
    }
}

/// Limits that nothing runs into, but for what never answers.
pub(crate) fn limits(driver: &impl Driver, read: Option<Duration>) -> Limits {
    let patience = driver.patience();
    Limits { connect: patience, read: read.unwrap_or(patience), until: Instant::now() + patience }
}

pub(crate) async fn charge(driver: &impl Driver, request: &ChargeRequest) -> PaymentAttempt {
    driver.transport().request_payment(request, limits(driver, None)).await
}

/// A request that is accepted.
pub(crate) async fn accepted(driver: &impl Driver, order_ref: &str) -> GatewayKey {
    match charge(driver, &request(driver, order_ref)).await {
        PaymentAttempt::Accepted { key, .. } => key,
        other => panic!("{order_ref} is not accepted: {other:?}"),
    }
}

pub(crate) async fn by_key(driver: &impl Driver, key: &GatewayKey) -> LookupAttempt<Transaction> {
    driver.transport().find_by_key(&merchant(), key, limits(driver, None)).await
}

pub(crate) async fn by_order(
    driver: &impl Driver,
    order_ref: &str,
) -> LookupAttempt<Vec<TransactionSummary>> {
    driver.transport().find_by_order(&merchant(), &order(order_ref), limits(driver, None)).await
}

/// What is there by key.
pub(crate) async fn found(driver: &impl Driver, key: &GatewayKey) -> Transaction {
    match by_key(driver, key).await {
        Ok(Lookup::Found(transaction)) => transaction,
        other => panic!("{key} is not found: {other:?}"),
    }
}

/// What is there by order.
pub(crate) async fn listed(driver: &impl Driver, order_ref: &str) -> Vec<TransactionSummary> {
    match by_order(driver, order_ref).await {
        Ok(Lookup::Found(list)) => list,
        Ok(Lookup::NotFound) => Vec::new(),
        Err(failure) => panic!("{order_ref} can't be asked for: {failure:?}"),
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(
    driver: &impl Driver,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + driver.patience();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
