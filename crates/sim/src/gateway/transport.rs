//! The wire between one program and the gateway: one attempt at a time, classified as the HTTP client does it.

use super::Transaction;
use crate::flow::{Stage, flow_id, is_proving, stage};
use crate::kinds::Kind;
use crate::network;
use crate::oracle::Asked;
use crate::process::Process;
use crate::world::{World, lock};
use adapters_pg::transport::{Limits, LookupAttempt, LookupFailure, PaymentAttempt, Transport, cause};
use async_trait::async_trait;
use domain::ports::{ChargeRequest, FailureCause, Lookup, Oddity, TransactionSummary};
use domain::settlement::TransactionStatus;
use domain::{FailureMessage, GatewayKey, GatewayOrderRef, MerchantId, Money, OrderId};
use std::sync::{Arc, Weak};
use std::time::Duration;
use test_support::{Site, TestEntropy};
use tokio::time::{Instant, sleep_until};

/// What a callback's address must begin with.
pub const CALLBACK_PREFIX: &str = "http://localhost:8080";

/// What the gateway answers to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Accepted,
    Refused(&'static str),
    Status(u16),
    Unreadable,
    Reset,
    Nothing,
}

/// What becomes of a request that reached the gateway.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// After so long there is a transaction; none: never.
    created_after: Option<Duration>,
    reply: Reply,
    latency: Duration,
    /// It is decided at once.
    direct: bool,
    /// So many others of the same order are listed before it, all of them refused.
    more: u64,
}

/// One program's connection to the gateway.
pub struct ModelTransport {
    world: Weak<World>,
    process: Arc<Process>,
}

const fn site(call: &'static str) -> Site {
    Site { within: "gateway", call }
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The number of our order.
pub(crate) fn number(order_ref: &GatewayOrderRef) -> i64 {
    order_ref.named_order().map_or(0, OrderId::get)
}

impl ModelTransport {
    /// Of one life of a program.
    pub const fn new(world: Weak<World>, process: Arc<Process>) -> Self {
        Self { world, process }
    }

    async fn connect(&self, world: &World, order: i64, limits: Limits) -> Result<(), FailureCause> {
        let away = lock(&world.gateway).away_until.filter(|(until, _)| *until > Instant::now());
        if away.is_some() {
            lock(&world.books).fault(order, Kind::GatewayOutage);
        }
        if world.strikes(Kind::ConnectTimeout, order) || away.is_some_and(|(_, hangs)| hangs) {
            sleep_until((Instant::now() + limits.connect).min(limits.until)).await;
            return Err(cause::CONNECT_TIMEOUT);
        }
        if world.strikes(Kind::ConnectRefused, order) || away.is_some() {
            return Err(cause::CONNECT_REFUSED);
        }
        Ok(())
    }

    async fn charge(&self, world: &Arc<World>, request: &ChargeRequest, limits: Limits) -> PaymentAttempt {
        let order = number(&request.order_ref);
        self.process.step(world, site("request")).await;
        if let Err(cause) = self.connect(world, order, limits).await {
            return PaymentAttempt::NotReached { cause, may_have_created: false, retry_after: None };
        }
        // The last moment before the first byte.
        if Instant::now() >= limits.until {
            return PaymentAttempt::TooLate;
        }
        crate::oracle::on_post(world, &self.process, request);
        let fate = fate(world, order, request);
        if world.strikes(Kind::OtherShop, order) {
            other_shop(world, request);
        }
        let created = fate.created_after.and_then(|after| create(world, request, order, after, fate));
        if matches!(fate.reply, Reply::Status(500 | 503)) {
            lock(&world.books).unasked(order);
        }
        world.tell(order, "request", || format!("{} requests the charge: {fate:?}", self.process.name));
        lock(&world.books).order(order).final_word = true;
        self.process.step(world, site("request sent")).await;
        let outcome = answer(fate, created, limits).await;
        self.process.step(world, site("request answered")).await;
        lock(&world.books).order(order).final_word = !matches!(outcome, PaymentAttempt::NotReached { .. });
        world.tell(order, "answer", || format!("the request comes to {outcome:?}"));
        outcome
    }

    /// The faults that all look-ups share. `Err`: the answer; `Ok`: how old the state is that is shown.
    async fn ask(&self, world: &Arc<World>, order: i64, limits: Limits) -> Result<Shown, LookupFailure> {
        let failure = |cause| LookupFailure::Unreachable { cause, retry_after: None };
        self.process.step(world, site("look-up")).await;
        self.connect(world, order, limits).await.map_err(failure)?;
        crate::oracle::on_look_up(world, order);
        let out_of_order =
            lock(&world.gateway).look_ups_fail_until.is_some_and(|until| until > Instant::now());
        let end = (Instant::now() + limits.read).min(limits.until);
        if world.strikes(Kind::LookupHang, order) {
            sleep_until(end).await;
            return Err(failure(cause::READ_TIMEOUT));
        }
        sleep_until((Instant::now() + millis(5 + world.draw.below(60))).min(end)).await;
        if out_of_order {
            lock(&world.books).fault(order, Kind::LookupOutage);
        }
        if out_of_order || world.strikes(Kind::LookupError, order) {
            return Err(failure(cause::HTTP_500));
        }
        self.process.step(world, answered(world, order)).await;
        let blind = lock(&world.gateway).blind_until.is_some_and(|until| until > Instant::now());
        if blind {
            lock(&world.books).fault(order, Kind::WrongAccount);
        }
        if blind || world.strikes(Kind::LookupFalse404, order) {
            return Ok(Shown::None);
        }
        if world.strikes(Kind::LookupStale, order) {
            let lag = world.chance(Kind::LookupStale).below(240_000);
            return Ok(Shown::At(Instant::now().checked_sub(millis(lag)).unwrap_or_else(Instant::now)));
        }
        Ok(Shown::At(Instant::now()))
    }
}

/// The step at which a look-up's answer is there: about a payment that has ended it is the watch list's.
fn answered(world: &World, order: i64) -> Site {
    let ended = |id| {
        let ended = |row: &test_support::store::PaymentRow| row.record.payment.status().is_terminal();
        world.database.read(|tables| tables.payment_of(id).is_some_and(ended))
    };
    let watched = matches!(stage(), Stage::Turn | Stage::BetweenItems)
        && !is_proving()
        && OrderId::new(order).is_ok_and(ended);
    site(if watched { "watched look-up answered" } else { "look-up answered" })
}

/// What a look-up is shown.
enum Shown {
    /// Nothing, whatever is there.
    None,
    /// What was there at this moment.
    At(Instant),
}

#[async_trait]
impl Transport for ModelTransport {
    async fn request_payment(&self, request: &ChargeRequest, limits: Limits) -> PaymentAttempt {
        match self.world.upgrade() {
            Some(world) => self.charge(&world, request, limits).await,
            None => PaymentAttempt::Uncertain { cause: cause::CONNECTION_CLOSED },
        }
    }

    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
        limits: Limits,
    ) -> LookupAttempt<domain::settlement::Transaction> {
        let Some(world) = self.world.upgrade() else { return Ok(Lookup::NotFound) };
        let answer = self.by_key(&world, merchant, key, limits).await;
        let found = answer.as_ref().map(|found| Asked::Key(key, *found != Lookup::NotFound));
        crate::oracle::on_answer(&world, found.unwrap_or(Asked::Failed));
        answer
    }

    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
        limits: Limits,
    ) -> LookupAttempt<Vec<TransactionSummary>> {
        let Some(world) = self.world.upgrade() else { return Ok(Lookup::NotFound) };
        let answer = self.by_order(&world, merchant, order_ref, limits).await;
        if answer == Ok(Lookup::NotFound) {
            lock(&world.books).order(number(order_ref)).none_there.push(Instant::now());
        }
        let listed = answer.as_ref().map(|_| Asked::Order(number(order_ref)));
        crate::oracle::on_answer(&world, listed.unwrap_or(Asked::Failed));
        answer
    }
}

impl ModelTransport {
    async fn by_key(
        &self,
        world: &Arc<World>,
        merchant: &MerchantId,
        key: &GatewayKey,
        limits: Limits,
    ) -> LookupAttempt<domain::settlement::Transaction> {
        let order = {
            let gateway = lock(&world.gateway);
            gateway.by_key(key, Instant::now()).map_or(0, |transaction| transaction.order)
        };
        let Shown::At(at) = self.ask(world, order, limits).await? else { return Ok(Lookup::NotFound) };
        if world.strikes(Kind::LookupTorn, order) {
            return Ok(Lookup::NotFound);
        }
        if lock(&world.gateway).by_key(key, at).is_some_and(|found| found.is_odd_at(Instant::now())) {
            return Err(odd(world, &self.process, order));
        }
        let found = {
            let gateway = lock(&world.gateway);
            let found = gateway.by_key(key, at).filter(|found| found.merchant == *merchant);
            found.and_then(|found| Some((found.clone(), found.status_at(at)?)))
        };
        world.tell(order, "by key", || {
            let status = found.as_ref().map(|(_, status)| *status);
            format!("{} asks for {key}: {status:?}", self.process.name)
        });
        if found.as_ref().is_some_and(|(found, _)| found.key != *key) {
            return Err(LookupFailure::Odd { what: Oddity::WrongSubject });
        }
        Ok(found.map_or(Lookup::NotFound, |(found, status)| {
            Lookup::Found(domain::settlement::Transaction {
                reason: found.reason(status),
                key: found.key,
                order_ref: found.order_ref,
                amount: found.amount,
                status,
                made_before: None,
            })
        }))
    }

    async fn by_order(
        &self,
        world: &Arc<World>,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
        limits: Limits,
    ) -> LookupAttempt<Vec<TransactionSummary>> {
        let order = number(order_ref);
        lock(&world.books).asked(order);
        let Shown::At(at) = self.ask(world, order, limits).await? else { return Ok(Lookup::NotFound) };
        let now = Instant::now();
        if lock(&world.gateway).by_order(order_ref, at).iter().any(|one| one.is_odd_at(now)) {
            return Err(odd(world, &self.process, order));
        }
        let listed: Vec<TransactionSummary> = {
            let gateway = lock(&world.gateway);
            let all = gateway.by_order(order_ref, at).into_iter().filter(|one| one.merchant == *merchant);
            let summary = |transaction: &Transaction| {
                let status = transaction.status_at(at)?;
                let reason = transaction.reason(status);
                Some(TransactionSummary { key: transaction.key.clone(), status, reason })
            };
            all.filter_map(summary).collect()
        };
        world.tell(order, "by order", || {
            let statuses: Vec<_> = listed.iter().map(|one| (one.key.as_str(), one.status)).collect();
            format!("{} asks for the order: {statuses:?}", self.process.name)
        });
        if !listed.is_empty() {
            lock(&world.books).shown(order, flow_id());
        }
        Ok(if listed.is_empty() { Lookup::NotFound } else { Lookup::Found(listed) })
    }
}

/// A status that nobody knows.
fn odd(world: &World, process: &Process, order: i64) -> LookupFailure {
    world.tell(order, "odd", || format!("{} is shown a status that nobody knows", process.name));
    lock(&world.books).fault(order, Kind::LookupOdd);
    crate::oracle::on_odd_answer(world, process);
    LookupFailure::Odd { what: Oddity::UnknownStatus }
}

/// Another shop's order of this number was charged.
fn other_shop(world: &World, request: &ChargeRequest) {
    let Some(order_id) = request.order_ref.named_order() else { return };
    let chance = world.chance(Kind::OtherShop);
    let Some(key) = unused_key(world, chance) else { return };
    let created = Instant::now();
    let other = Transaction {
        key,
        merchant: request.merchant.clone(),
        refusal: "",
        order_ref: GatewayOrderRef::new("other1", order_id, chance.next_u64().to_be_bytes()),
        order: 0,
        amount: request.amount,
        token: String::new(),
        created,
        states: vec![(created, TransactionStatus::Success)],
        gone: false,
        odd: None,
    };
    lock(&world.gateway).store(other);
}

/// What the gateway refuses, in the order in which it looks (spec 02). Card and merchant can't be malformed here: their
/// types allow only what is well-formed.
fn refusal(request: &ChargeRequest) -> Option<&'static str> {
    let order = request.order_ref.as_str();
    if order.trim().is_empty() || order.chars().count() < 6 {
        return Some("주문 ID는 6자리 이상 문자열이어야 합니다.");
    }
    if !request.amount.is_positive() {
        return Some("결제금액은 양의 정수여야 합니다.");
    }
    let ours = request.callback_url.starts_with(CALLBACK_PREFIX);
    (!ours).then_some("콜백 URL 은 http://localhost:8080 로 시작해야 합니다.")
}

/// What becomes of a request: as documented, unless a fault strikes.
fn fate(world: &World, order: i64, request: &ChargeRequest) -> Fate {
    let mut latency = millis(100 + world.draw.below(401));
    if world.strikes(Kind::SlowAnswer, order) {
        latency = millis(600 + world.chance(Kind::SlowAnswer).below(800));
    }
    let stored = Some(latency);
    let fate = |created_after, reply| Fate { created_after, reply, latency, direct: false, more: 0 };
    let strikes = |kind| world.strikes(kind, order);
    let either = |kind: Kind| if world.chance(kind).percent(50) { stored } else { None };
    if let Some(message) = refusal(request) {
        return Fate { latency: Duration::ZERO, ..fate(None, Reply::Refused(message)) };
    }
    if strikes(Kind::Http400) {
        return fate(None, Reply::Refused("카드 정보가 올바르지 않습니다."));
    }
    if strikes(Kind::Http401) {
        return fate(None, Reply::Status(401));
    }
    if strikes(Kind::Http429) {
        return fate(None, Reply::Status(429));
    }
    if strikes(Kind::Http503) {
        return fate(None, Reply::Status(503));
    }
    if strikes(Kind::Create503) {
        return fate(stored, Reply::Status(503));
    }
    if strikes(Kind::Create500) {
        return fate(stored, Reply::Status(500));
    }
    if strikes(Kind::ManyTransactions) {
        let chance = world.chance(Kind::ManyTransactions);
        // Nobody learns the key from the answer: only the list shows which one charges.
        let reply = if chance.percent(70) { Reply::Nothing } else { Reply::Status(500) };
        return Fate { more: 20 + chance.below(25), ..fate(stored, reply) };
    }
    if strikes(Kind::HttpBadGateway) {
        let status = if world.chance(Kind::HttpBadGateway).percent(50) { 502 } else { 504 };
        return fate(either(Kind::HttpBadGateway), Reply::Status(status));
    }
    if strikes(Kind::Garbage) {
        return fate(either(Kind::Garbage), Reply::Unreadable);
    }
    if strikes(Kind::ResetLost) {
        return fate(None, Reply::Reset);
    }
    if strikes(Kind::ResetCreated) {
        return fate(stored, Reply::Reset);
    }
    if strikes(Kind::HangLost) {
        return fate(None, Reply::Nothing);
    }
    if strikes(Kind::HangCreated) {
        return fate(stored, Reply::Nothing);
    }
    if strikes(Kind::Backlog) {
        let later = millis(30_000 + world.chance(Kind::Backlog).below(90_000));
        return fate(Some(later), Reply::Nothing);
    }
    // So many of a healthy gateway's answers are 500s, with nothing created.
    if world.draw.percent(world.plan.ordinary_500) || strikes(Kind::Http500) {
        return fate(None, Reply::Status(500));
    }
    if strikes(Kind::DirectStatus) {
        return Fate { direct: true, ..fate(stored, Reply::Accepted) };
    }
    fate(stored, Reply::Accepted)
}

/// Waits for the answer within the limits and classifies it.
async fn answer(
    fate: Fate,
    created: Option<(GatewayKey, TransactionStatus)>,
    limits: Limits,
) -> PaymentAttempt {
    let began = Instant::now();
    let end = (began + limits.read).min(limits.until);
    let at = began + fate.latency;
    if fate.reply == Reply::Nothing || at > end {
        sleep_until(end).await;
        return PaymentAttempt::Uncertain { cause: cause::READ_TIMEOUT };
    }
    sleep_until(at).await;
    let uncertain = |cause| PaymentAttempt::Uncertain { cause };
    match fate.reply {
        Reply::Accepted => match created {
            Some((key, status)) => PaymentAttempt::Accepted { key, status },
            None => uncertain(cause::NO_DATA),
        },
        Reply::Nothing => uncertain(cause::READ_TIMEOUT),
        Reply::Unreadable => uncertain(cause::UNREADABLE_BODY),
        Reply::Reset => uncertain(cause::CONNECTION_RESET),
        Reply::Refused(message) => {
            PaymentAttempt::Rejected { message: FailureMessage::from_outside(message) }
        }
        Reply::Status(status @ (401 | 403 | 404 | 405)) => {
            PaymentAttempt::Misconfigured { status, readable: true }
        }
        Reply::Status(status @ (429 | 500 | 503)) => PaymentAttempt::NotReached {
            cause: cause::of_status(status),
            may_have_created: status != 429,
            retry_after: (status == 429).then_some(Duration::from_secs(1)),
        },
        Reply::Status(status) => uncertain(cause::of_status(status)),
    }
}

/// A faithful gateway gives each transaction a key of its own; that it gives one twice is a fault, [`Kind::KeyReuse`].
fn unused_key(world: &World, draw: &TestEntropy) -> Option<GatewayKey> {
    loop {
        let key = GatewayKey::new(format!("20260101:TR:{:06x}", draw.below(1 << 24))).ok()?;
        if !lock(&world.gateway).is_given(&key) {
            return Some(key);
        }
    }
}

/// The gateway stores a transaction; its whole future is drawn at once.
fn create(
    world: &Arc<World>,
    request: &ChargeRequest,
    order: i64,
    after: Duration,
    fate: Fate,
) -> Option<(GatewayKey, TransactionStatus)> {
    let now = Instant::now();
    let created = now + after;
    let nth = u64::try_from(lock(&world.gateway).all().len()).unwrap_or_default();
    let draw = TestEntropy::new(world.plan.seed.rotate_left(23) ^ (nth << 40) ^ order.unsigned_abs());
    let token = request.callback_url.rsplit('/').next().unwrap_or_default().to_owned();
    let mut key = unused_key(world, &draw);
    if world.strikes(Kind::KeyReuse, order) {
        let nth = world.chance(Kind::KeyReuse).next_u64();
        key = lock(&world.gateway).some_key(nth).or(key);
    }
    let key = key?;
    let mut amount = request.amount;
    if world.strikes(Kind::AmountDelta, order) {
        let delta = i64::try_from(1 + world.chance(Kind::AmountDelta).below(1000)).unwrap_or(1);
        amount = Money::new(amount.won() + delta).unwrap_or(amount);
    }
    for _ in 0..fate.more {
        let one = refused_at_once(request, order, unused_key(world, &draw)?, created);
        lock(&world.gateway).store(one);
    }
    let states = states(world, order, &draw, created, fate);
    let decided = states.get(1).map(|(at, _)| *at);
    let told = states.iter().rev().find(|(at, _)| *at <= created).map(|(_, status)| *status)?;
    world.tell(order, "created", || {
        let future: Vec<_> = states.iter().map(|(at, status)| (*at - now, status)).collect();
        format!("the gateway stores {key} over {amount} won: {future:?}")
    });
    let refusal = if draw.below(3) < 2 {
        "한도초과입니다. 다른 카드를 선택해주세요."
    } else {
        "잘못된 카드입니다. 다른 카드를 선택해주세요."
    };
    let transaction = Transaction {
        key: key.clone(),
        merchant: request.merchant.clone(),
        refusal,
        order_ref: request.order_ref.clone(),
        order,
        amount,
        token: token.clone(),
        created,
        odd: oddity(world, order, decided.unwrap_or(created)),
        states,
        gone: false,
    };
    lock(&world.gateway).store(transaction);
    network::schedule_callbacks(world, order, &token, &key, created, decided);
    Some((key, told))
}

/// One of many of the same order.
fn refused_at_once(request: &ChargeRequest, order: i64, key: GatewayKey, created: Instant) -> Transaction {
    Transaction {
        key,
        merchant: request.merchant.clone(),
        refusal: "한도초과입니다. 다른 카드를 선택해주세요.",
        order_ref: request.order_ref.clone(),
        order,
        amount: request.amount,
        token: String::new(),
        created,
        states: vec![(created, TransactionStatus::Failed)],
        gone: false,
        odd: None,
    }
}

/// When its look-ups show a status that nobody knows: before it is decided, or some time after it.
fn oddity(world: &World, order: i64, decided: Instant) -> Option<(Instant, Instant)> {
    const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);
    if !world.strikes(Kind::LookupOdd, order) {
        return None;
    }
    let chance = world.chance(Kind::LookupOdd);
    let from = if chance.percent(50) { Instant::now() } else { decided + millis(chance.below(300_000)) };
    let span = if chance.percent(50) { FOR_EVER } else { millis(1000 + chance.below(600_000)) };
    Some((from, from + span))
}

fn states(
    world: &World,
    order: i64,
    draw: &TestEntropy,
    created: Instant,
    fate: Fate,
) -> Vec<(Instant, TransactionStatus)> {
    let outcome = if draw.percent(70) { TransactionStatus::Success } else { TransactionStatus::Failed };
    let mut states = vec![(created, TransactionStatus::Pending)];
    if fate.direct {
        states.push((created, outcome));
        return states;
    }
    if world.strikes(Kind::StuckPending, order) {
        return states;
    }
    let mut decided = created + millis(1000 + draw.below(4001));
    if world.strikes(Kind::ResultDelay, order) {
        decided = created + millis(world.chance(Kind::ResultDelay).below(25 * 60_000));
    }
    states.push((decided, outcome));
    let flip = match outcome {
        TransactionStatus::Failed => Kind::FlipToSuccess,
        TransactionStatus::Success | TransactionStatus::Pending => Kind::FlipToFailed,
    };
    if world.strikes(flip, order) {
        let later = decided + Duration::from_secs(1 + world.chance(flip).below(3 * 3600));
        let other = match outcome {
            TransactionStatus::Failed => TransactionStatus::Success,
            TransactionStatus::Success | TransactionStatus::Pending => TransactionStatus::Failed,
        };
        states.push((later, other));
    }
    states
}
