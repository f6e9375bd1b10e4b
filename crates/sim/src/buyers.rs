//! The buyers: they order, hang up, ask again, and remember what they were told.

use crate::books::Told;
use crate::flow::{Stage, flow, is_sick};
use crate::kinds::Kind;
use crate::network::some_app;
use crate::plan::Crowd;
use crate::process::{Process, Running};
use crate::world::{CANARY_CARD, World, lock};
use application::{Idempotency, PlaceOrder, PlaceOrderError, PlaceOrderOutcome};
use domain::placement::{OrderLines, PlacementError};
use domain::ports::{Cause, OrderView, StoredAnswer};
use domain::{CardType, Discount, IssuedCouponId, Money, OrderStatus, ProductId, Quantity, Stock, UserId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use test_support::{Site, TestEntropy};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// What is for sale, and who has what.
#[derive(Debug, Clone, Default)]
pub struct Shop {
    products: Vec<ProductId>,
    users: Vec<UserId>,
    coupons: Vec<(UserId, IssuedCouponId)>,
}

/// The place of the scarce product.
const SCARCE: usize = 1;

/// The server answers the buyer.
const ANSWER: Site = Site { within: "http", call: "order answer" };

/// Longest that a flow may take in a run where nothing disturbs it (spec 01 section 3: the order API promises 5 s).
const PROMISE: Duration = Duration::from_secs(5);

/// Longer than any program stands still, and any order takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Fills the shop, before any fault.
pub async fn open_shop(world: &Arc<World>) -> anyhow::Result<Shop> {
    use domain::ports::Store;
    let store = world.database.store();
    let tx = store.begin("open_shop").await?;
    let mut shop = Shop::default();
    // Buyers race for the one that is scarce.
    for (price, pieces) in [(1000, 10_000), (700, 5), (35_000, 200), (1, 10_000)] {
        let id = tx.insert_product("product", Money::new(price)?, Stock::new(pieces)?).await?;
        lock(&world.books).initial_stock.insert(id, pieces);
        shop.products.push(id);
    }
    let mut coupons = Vec::new();
    for discount in [Discount::rate(15)?, Discount::fixed(Money::new(5000)?)?] {
        coupons.push(tx.insert_coupon("coupon", discount, None).await?);
    }
    // Fewer users than buyers' browsers: some share an account and race for its points and coupons.
    let users = i64::try_from(world.plan.clients.div_ceil(2)).unwrap_or(1);
    for id in 1..=users {
        let user = UserId::new(id)?;
        let amount = Money::new(if world.plan.is_crowded() { 100_000 } else { 20_000 })?;
        let account = tx.lock_points(user).await?.charge(amount)?;
        let kind = domain::ports::PointEntryKind::Charge;
        tx.save_points(&domain::ports::PointEntry { account, kind, amount, payment_id: None }).await?;
        for coupon in &coupons {
            if let Some(issued) = tx.insert_issued_coupon(coupon.id, user).await? {
                shop.coupons.push((user, issued.id));
            }
        }
        shop.users.push(user);
    }
    tx.commit().await?;
    Ok(shop)
}

/// One buyer's browser.
pub async fn buyer(world: Arc<World>, shop: Shop, index: usize) {
    let draw = TestEntropy::new(world.plan.seed.rotate_left(9) ^ (index as u64 + 1).wrapping_mul(0xB0F1));
    let orders = u64::try_from(world.plan.orders_each).unwrap_or(1);
    let gap = u64::try_from(world.plan.workload.as_millis()).unwrap_or(1) / orders;
    for nth in 0..orders {
        // Often in one rush, so that orders meet.
        let wait = if draw.percent(if world.plan.is_crowded() { 90 } else { 30 }) {
            draw.below(if world.plan.is_crowded() { 100 } else { 400 })
        } else {
            draw.below(gap)
        };
        sleep(Duration::from_millis(wait)).await;
        let Some(command) = command(&world, &shop, &draw, index, nth) else { continue };
        order(&world, &draw, command.clone()).await;
        if command.idempotency.is_none() && world.strikes(Kind::RepeatWithoutKey, 0) {
            order(&world, &draw, command).await;
        }
    }
}

/// A plain order, after the faults: the shop must serve it. False when the circuit was open.
pub async fn order_after_the_faults(world: &Arc<World>, shop: &Shop, nth: u64) -> bool {
    let mut served = true;
    let draw = TestEntropy::new(world.plan.seed ^ 0xAF7E ^ (nth << 8));
    let (Some(user), Some(product)) = (shop.users.first(), shop.products.first()) else { return served };
    let Ok(quantity) = Quantity::new(1) else { return served };
    let Ok(lines) = OrderLines::new([(*product, quantity)]) else { return served };
    let command = plain(*user, lines, None);
    let Some((process, running)) = some_app(world) else {
        world.violation("I9", 0, "no server takes orders after the faults");
        return served;
    };
    let asked = Instant::now();
    match answered(world, send(world, &process, &running, command)).await.map(|answer| answer.outcome) {
        Some(Ok(outcome)) => {
            served = !matches!(&outcome, PlaceOrderOutcome::CircuitOpen { .. });
            note(world, user, &outcome, None);
        }
        Some(Err(error)) => world.violation("I9", 0, format!("an order after the faults: {error:?}")),
        None => world.violation("I9", 0, "an order after the faults died"),
    }
    promise(world, asked);
    sleep(Duration::from_millis(draw.below(3000))).await;
    served
}

fn command(world: &World, shop: &Shop, draw: &TestEntropy, index: usize, nth: u64) -> Option<PlaceOrder> {
    let together = world.plan.crowd == Crowd::Together;
    let at = if together { 0 } else { index };
    let user = *shop.users.get(at % shop.users.len().max(1))?;
    let mut lines = Vec::new();
    for _ in 0..=draw.below(3) {
        let variety = if together { 1 } else { shop.products.len() as u64 };
        let mut at = usize::try_from(draw.below(variety)).ok()?;
        // Few want what is scarce, or most orders of a crowd would be refused.
        if at == SCARCE && draw.percent(60) {
            at = 0;
        }
        let quantity = Quantity::new(i64::try_from(1 + draw.below(3)).ok()?).ok()?;
        lines.push((*shop.products.get(at)?, quantity));
    }
    let mut wanted: BTreeMap<ProductId, u32> = BTreeMap::new();
    for (product, quantity) in &lines {
        *wanted.entry(*product).or_default() += quantity.get();
    }
    let lines = OrderLines::new(lines).ok()?;
    if !lines.iter().map(|(product, quantity)| (product, quantity.get())).eq(wanted) {
        world.violation("F14", 0, "repeated lines of a product are not added up");
    }
    let mut command = plain(user, lines, None);
    if draw.percent(if together { 90 } else { 30 }) {
        command.use_point = Money::new(i64::try_from(draw.below(3000)).ok()?).ok()?;
    }
    if draw.percent(5) {
        // All by points, when they suffice.
        command.lines = OrderLines::new([(*shop.products.first()?, Quantity::new(1).ok()?)]).ok()?;
        command.use_point = Money::new(1000).ok()?;
    }
    if draw.percent(25) {
        let own: Vec<_> = shop.coupons.iter().filter(|(owner, _)| *owner == user).collect();
        let at = usize::try_from(draw.below(own.len() as u64)).ok()?;
        command.issued_coupon_id = own.get(at).map(|(_, issued)| *issued);
    }
    if draw.percent(60) {
        command.idempotency = Some(idempotency(format!("order {index} {nth}"), 1));
    }
    Some(command)
}

fn plain(user_id: UserId, lines: OrderLines, key: Option<Idempotency>) -> PlaceOrder {
    let card = CANARY_CARD.parse().ok().map(|number| (CardType::Kb, number));
    PlaceOrder {
        user_id,
        lines,
        use_point: Money::ZERO,
        issued_coupon_id: None,
        card,
        idempotency: key,
        placed: None,
    }
}

fn idempotency(key: String, content: u8) -> Idempotency {
    let render = Arc::new(|outcome: &PlaceOrderOutcome| StoredAnswer {
        status: 200,
        body: view(outcome).map_or_else(String::new, |view| {
            format!("{} {}", view.order.id(), view.payment.payment.status())
        }),
    });
    Idempotency { key, fingerprint: [content; 32], render }
}

fn view(outcome: &PlaceOrderOutcome) -> Option<&OrderView> {
    match outcome {
        PlaceOrderOutcome::Paid(view)
        | PlaceOrderOutcome::InProgress(view)
        | PlaceOrderOutcome::Confirming(view)
        | PlaceOrderOutcome::Refused { order: view, .. }
        | PlaceOrderOutcome::CircuitOpen { order: view, .. }
        | PlaceOrderOutcome::GatewayUnavailable { order: view, .. }
        | PlaceOrderOutcome::NotSent { order: view, .. } => Some(view),
        PlaceOrderOutcome::Replayed(_) => None,
    }
}

/// What a request came to: the answer, the order that was stored for it (0: none), and whether it could not be stored by
/// a fault of its own.
struct Answer {
    outcome: Result<PlaceOrderOutcome, PlaceOrderError>,
    order: i64,
    sick: bool,
}

/// The request in the server's own task, which no connection owns.
fn send(
    world: &Arc<World>,
    process: &Arc<Process>,
    running: &Running,
    mut command: PlaceOrder,
) -> JoinHandle<Answer> {
    let (application, server, world) = (running.application.clone(), Arc::clone(process), Arc::clone(world));
    let outside = Arc::clone(&world);
    command.placed = Some(Arc::new(move |view: &OrderView| stored(&outside, view)));
    process.spawn(0, Stage::Ordering, async move {
        let outcome = application.place_order(command).await;
        server.step(&world, ANSWER).await;
        Answer { outcome, order: flow(), sick: is_sick() }
    })
}

/// Whoever is told of an order is told of one that is stored.
fn stored(world: &World, view: &OrderView) {
    let id = view.order.id();
    if !world.database.read(|tables| tables.orders.contains_key(&id)) {
        world.violation("definite answer", id.get(), "told of an order that is not stored");
    }
}

/// Waits for the answer: some answer comes, whatever happens. `None`: the server died, or hangs.
async fn answered(world: &World, answer: JoinHandle<Answer>) -> Option<Answer> {
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer.ok(),
        Err(_) => {
            world.violation("A11", 0, format!("an order was not answered within {PATIENCE:?}"));
            None
        }
    }
}

/// One order, with all the impatience of a buyer.
async fn order(world: &Arc<World>, draw: &TestEntropy, command: PlaceOrder) {
    let user = command.user_id;
    let key = command.idempotency.as_ref().map(|idempotency| idempotency.key.clone());
    lock(&world.counts).orders += 1;
    let mut reused = false;
    for _attempt in 0..5 {
        let Some((process, running)) = some_app(world) else {
            sleep(Duration::from_secs(2)).await;
            continue;
        };
        let asked = Instant::now();
        let answer = send(world, &process, &running, command.clone());
        if key.is_some() && world.strikes(Kind::RepeatAtOnce, 0) {
            at_once(world, &command).await;
        }
        if key.is_some() && !reused && world.strikes(Kind::ReuseKey, 0) {
            reused = true;
            reuse(world, &command).await;
        }
        if world.strikes(Kind::Disconnect, 0) {
            sleep(Duration::from_millis(world.chance(Kind::Disconnect).below(3000))).await;
            drop(answer);
            if key.is_none() {
                return;
            }
        } else {
            match answered(world, answer).await {
                Some(Answer { outcome: Ok(outcome), order, .. }) => {
                    promise(world, asked);
                    note(world, &user, &outcome, key.as_deref());
                    look(world, draw, user, order).await;
                    if key.is_none() || !world.strikes(Kind::RepeatKey, order) {
                        return;
                    }
                }
                Some(Answer { outcome: Err(error), order, sick }) => {
                    refused(world, &command, &error, order, sick);
                    let again = matches!(
                        error,
                        PlaceOrderError::Unavailable(_)
                            | PlaceOrderError::OutcomeUnknown
                            | PlaceOrderError::IdempotencyInProgress
                            | PlaceOrderError::Conflict
                    );
                    if key.is_none() || !again {
                        return;
                    }
                }
                // The server died: nobody knows. Only with a key is asking again safe.
                None if key.is_none() => return,
                None => {}
            }
        }
        sleep(Duration::from_millis(200 + draw.below(9000))).await;
    }
}

/// The same request a second time while the first is under way.
async fn at_once(world: &Arc<World>, command: &PlaceOrder) {
    if let Some((process, running)) = some_app(world) {
        sleep(Duration::from_millis(world.chance(Kind::RepeatAtOnce).below(20))).await;
        let second = send(world, &process, &running, command.clone());
        let (world, command) = (Arc::clone(world), command.clone());
        let tasks = world.tasks.clone();
        tasks.spawn(async move {
            let key = command.idempotency.as_ref().map(|idempotency| idempotency.key.as_str());
            match answered(&world, second).await {
                Some(Answer { outcome: Ok(outcome), .. }) => note(&world, &command.user_id, &outcome, key),
                Some(Answer { outcome: Err(error), order, sick }) => {
                    refused(&world, &command, &error, order, sick);
                }
                None => {}
            }
        });
    }
}

/// Another request under the same key: refused, whatever became of the first.
async fn reuse(world: &Arc<World>, command: &PlaceOrder) {
    if let (Some((process, running)), Some(first)) = (some_app(world), &command.idempotency) {
        sleep(Duration::from_millis(100)).await;
        let mut other = command.clone();
        other.idempotency = Some(idempotency(first.key.clone(), 2));
        let answer = answered(world, send(world, &process, &running, other)).await;
        if let Some(Answer { outcome: Ok(outcome), order, .. }) = answer {
            // The first one may never have come to its COMMIT: then the key is this one's.
            let taken = matches!(outcome, PlaceOrderOutcome::Replayed(_));
            if taken {
                world.violation("I13", order, "a reused key was answered as if it were the same request");
            }
            note(world, &command.user_id, &outcome, None);
        }
    }
}

/// What an answer says is remembered; I13, I16.
fn note(world: &World, user: &UserId, outcome: &PlaceOrderOutcome, key: Option<&str>) {
    if let PlaceOrderOutcome::Replayed(answer) = outcome {
        let Some(key) = key else { return };
        let first = lock(&world.books).answers.get(&(*user, key.to_owned())).cloned();
        let order = |body: &str| body.split(' ').next().map(str::to_owned);
        if first.is_some_and(|first| order(&first) != order(&answer.body)) {
            world.violation("I13", 0, format!("the key {key:?} gave two orders"));
        }
        return;
    }
    let Some(view) = view(outcome) else { return };
    stored(world, view);
    let order = view.order.id().get();
    world.tell(order, "told", || {
        let name = format!("{outcome:?}");
        format!("the buyer is told {}", name.split(['(', ' ']).next().unwrap_or_default())
    });
    if view.order.user_id() != *user {
        world.violation("I16", order, "a buyer was shown another's order");
    }
    let clean = world.plan.faults.is_empty();
    if clean && matches!(outcome, PlaceOrderOutcome::CircuitOpen { .. }) {
        world.violation("I17", order, "a healthy gateway was cut off");
    }
    let told = match outcome {
        PlaceOrderOutcome::Paid(_) => Some(Told::Paid),
        PlaceOrderOutcome::Refused { .. }
        | PlaceOrderOutcome::CircuitOpen { .. }
        | PlaceOrderOutcome::GatewayUnavailable { .. }
        | PlaceOrderOutcome::NotSent { .. } => Some(Told::Cancelled),
        PlaceOrderOutcome::InProgress(_)
        | PlaceOrderOutcome::Confirming(_)
        | PlaceOrderOutcome::Replayed(_) => None,
    };
    remember(world, order, told);
    if let Some(key) = key {
        let body = format!("{order} {}", view.payment.payment.status());
        let place = (*user, key.to_owned());
        let before = lock(&world.books).answers.insert(place, body);
        if before.is_some_and(|before| before.split(' ').next() != Some(&order.to_string())) {
            world.violation("I13", order, format!("the key {key:?} made two orders"));
        }
    }
}

fn remember(world: &World, order: i64, told: Option<Told>) {
    let Some(told) = told else { return };
    let before = lock(&world.books).order(order).told.replace(told);
    if before.is_some_and(|before| before != told) {
        world.violation("definite answer", order, format!("told {before:?} first, then {told:?}"));
    }
}

/// An error must mean what it says: no order, unless it says that nobody knows; and it must be this order's own.
fn refused(world: &World, command: &PlaceOrder, error: &PlaceOrderError, order: i64, sick: bool) {
    world.tell(order, "refused", || format!("the buyer is told {error:?}"));
    if order != 0 && !matches!(error, PlaceOrderError::OutcomeUnknown) {
        world.violation("definite answer", order, format!("{error:?}, but the order was stored"));
    }
    let own = match error {
        PlaceOrderError::Internal(_) => sick,
        PlaceOrderError::Placement(error) => is_own(command, error),
        PlaceOrderError::Conflict => {
            command.issued_coupon_id.is_some() || world.plan.is_crowded() || is_disturbed(world)
        }
        PlaceOrderError::Unavailable(_) => world.plan.is_crowded() || is_disturbed(world),
        PlaceOrderError::OutcomeUnknown => is_disturbed(world),
        PlaceOrderError::IdempotencyInProgress | PlaceOrderError::IdempotencyKeyReused => {
            command.idempotency.is_some()
        }
    };
    if !own {
        world.violation(
            "needless refusal",
            order,
            format!("told {error:?}, which is no fault of this order"),
        );
    }
}

/// A rule that this order can break: only two products are scarce, and who wants no points or coupon can't lack them.
fn is_own(command: &PlaceOrder, error: &PlacementError) -> bool {
    let scarce = |id: ProductId| (2..=3).contains(&id.get());
    match error {
        PlacementError::Stock(_) => command.lines.product_ids().into_iter().any(scarce),
        PlacementError::Coupon(_) => command.issued_coupon_id.is_some(),
        // More points than are there, or than the order costs.
        PlacementError::Point(_) | PlacementError::Payment(_) | PlacementError::Overflow(_) => {
            command.use_point.is_positive()
        }
        PlacementError::TooManyItems
        | PlacementError::Quantity(_)
        | PlacementError::UnknownProduct { .. }
        | PlacementError::Order(_)
        | PlacementError::CardRequired => false,
    }
}

/// Something befell programs or database, so that an order may be refused that is all right.
fn is_disturbed(world: &World) -> bool {
    let groups = ["database", "process"];
    lock(&world.counts).struck.keys().any(|kind| groups.contains(&kind.group()) || *kind == Kind::LaneDies)
}

/// The API's promise, in runs that disturb neither programs nor database.
fn promise(world: &World, asked: Instant) {
    let disturbed = world.plan.is_crowded()
        || world.plan.faults.iter().any(|kind| matches!(kind.group(), "database" | "process" | "batch"));
    let took = asked.elapsed();
    if !disturbed && took > PROMISE {
        world.violation("A11", flow(), format!("an order took {took:?}"));
    }
}

/// The buyer looks at the order now and then; a stranger never sees it. I16, and definite answers.
async fn look(world: &Arc<World>, draw: &TestEntropy, user: UserId, order: i64) {
    let (Ok(order_id), Ok(stranger)) = (domain::OrderId::new(order), UserId::new(9_999)) else { return };
    if draw.percent(50) {
        return;
    }
    let later = draw.below(400_000);
    let (world, tasks) = (Arc::clone(world), world.tasks.clone());
    tasks.spawn(async move {
        sleep(Duration::from_millis(later)).await;
        let Some((_, running)) = some_app(&world) else { return };
        let queries = running.application.queries();
        if let Ok(Some(_)) = queries.order(Some(stranger), order_id).await {
            world.violation("I16", order, "a stranger saw the order");
        }
        if let Ok(Some(view)) = queries.order(Some(user), order_id).await {
            if world.strikes(Kind::Sync, order) {
                sync(&world, &view).await;
            }
            let told = match view.order.status() {
                OrderStatus::Paid => Some(Told::Paid),
                OrderStatus::Cancelled => Some(Told::Cancelled),
                OrderStatus::Placed => None,
            };
            remember(&world, order, told);
        }
    });
}

/// Has the payment looked at: it must not matter when, nor how often.
async fn sync(world: &Arc<World>, view: &OrderView) {
    let Some((process, running)) = some_app(world) else { return };
    let (order, payment_id) = (view.order.id().get(), view.payment.payment.id());
    let synced = process.spawn(order, Stage::Examining, async move {
        running.application.sync_payment(payment_id, Cause::Operator).await
    });
    if let Ok(Ok(None)) = synced.await {
        world.violation("definite answer", order, "a payment that was there is not there any more");
    }
}
