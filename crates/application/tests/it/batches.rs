//! Many at once: what is waiting is done in one transaction, and each gets what it would get alone.

use crate::faults::{Slow, slow, stalled, strike, strike_after};
use crate::gateway::{Plan, Reply, made};
use crate::world::{PRICE, Placed, STOCK, World, buyer, idempotency, name, order_of, secs, won};
use application::place_order::PlaceOrderOutcome;
use application::{Application, BatchError, PlaceOrder, PlaceOrderError, Policy};
use async_trait::async_trait;
use domain::placement::{OrderLines, PlacementError, Placing, PlacingNeeds};
use domain::ports::{CallbackNote, Claim, ClaimOptions, Store, StoreError, StoreTx};
use domain::settlement::TransactionStatus::{Failed, Success};
use domain::settlement::{DiscrepancyKind, Settling, SettlingNeeds};
use domain::{CouponError, OrderId, OrderStatus, PaymentId, PaymentStatus, PointError, Quantity, StockError};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use test_support::{FakeStore, Fault};
use tokio_util::sync::CancellationToken;

const PAID: (PaymentStatus, OrderStatus) = (PaymentStatus::Paid, OrderStatus::Paid);
const FAILED: (PaymentStatus, OrderStatus) = (PaymentStatus::Failed, OrderStatus::Cancelled);

type Placements = Vec<Result<PlaceOrderOutcome, PlaceOrderError>>;

/// The first one leads at once, and all others are in the batches behind it.
fn one_lane(policy: &mut Policy) {
    policy.batch.lanes = 1;
}

async fn all(program: &Application, commands: impl IntoIterator<Item = PlaceOrder>) -> Placements {
    join_all(commands.into_iter().map(|command| program.place_order(command))).await
}

fn names(placements: &Placements) -> Vec<String> {
    let told = |placement: &Result<_, PlaceOrderError>| match placement {
        Ok(PlaceOrderOutcome::Replayed(answer)) => format!("again: {}", answer.body),
        Ok(outcome) => name(outcome).to_owned(),
        Err(error) => format!("{error:?}"),
    };
    placements.iter().map(told).collect()
}

fn placed(placements: &Placements) -> Vec<Placed> {
    placements.iter().flatten().map(|outcome| Placed::of(order_of(outcome))).collect()
}

fn largest(world: &World, name: &'static str) -> usize {
    world.commits(name).into_iter().max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn fifty_at_once_for_ten_pieces() {
    for lanes in [1, 2] {
        let world = World::with(|policy| policy.batch.lanes = lanes).await;
        let told = all(&world.program(slow()), (0..50).map(|_| world.plain())).await;
        let sold = told.iter().filter(|told| told.is_ok()).count();
        assert_eq!(i64::try_from(sold).unwrap(), STOCK);
        let out = PlaceOrderError::Placement(PlacementError::Stock(StockError::OutOfStock));
        assert!(told.iter().filter_map(|told| told.as_ref().err()).all(|error| *error == out), "{told:?}");
        if lanes == 1 {
            // Who came first leads alone, and everybody else came before its end.
            assert_eq!(world.commits("place_orders"), [1, 9]);
        }
        for name in ["place_orders", "start_payments", "settle"] {
            assert!(largest(&world, name) > 1, "{name}: {:?}", world.commits(name));
        }
        assert_eq!((world.gateway.charges().len(), world.goods().0), (10, 0));
        world.a_day().await;
        world.assert_quiet();
    }
}

/// Taken and given back in batches: half of them the gateway refuses.
#[tokio::test(start_paused = true)]
async fn one_buyers_points_in_many_orders_at_once() {
    let world = World::with(one_lane).await;
    for at in 0..6 {
        world.gateway.plan(if at % 2 == 0 {
            Plan::new(Reply::Rejected, vec![])
        } else {
            Plan::new(Reply::Accepted, vec![made(Success)])
        });
    }
    let spends = |points| PlaceOrder { use_point: won(points), ..world.plain() };
    // 5,000 there are: the fourth and the last two can't have theirs.
    let told = all(&world.program(slow()), [1000, 1500, 2000, 900, 300, 200, 1].map(spends)).await;
    let short = format!("{:?}", PlaceOrderError::Placement(PointError::InsufficientPoint.into()));
    let (refused, accepted) = ("refused".to_owned(), "in progress".to_owned());
    assert_eq!(
        names(&told),
        [&refused, &accepted, &refused, &short, &accepted, &refused, &short].map(Clone::clone)
    );
    assert!(largest(&world, "place_orders") > 1 && largest(&world, "settle") > 1);
    assert_eq!(world.goods().1, 5000 - 1500 - 300);
    world.a_day().await;
    world.assert_quiet();
}

#[tokio::test(start_paused = true)]
async fn one_coupon_twice_in_a_batch() {
    let world = World::with(one_lane).await;
    let told = all(&world.program(slow()), [world.plain(), world.command(), world.command()]).await;
    let used = format!("{:?}", PlaceOrderError::Placement(CouponError::AlreadyUsed.into()));
    assert_eq!(names(&told), ["in progress", "in progress", &used]);
    assert_eq!(world.commits("place_orders"), [1, 1]);
    world.a_day().await;
    world.assert_quiet();
}

/// F01 to F03 within one batch: what a second request is told is what it would be told a moment later.
#[tokio::test(start_paused = true)]
async fn one_key_twice_in_a_batch() {
    let world = World::with(one_lane).await;
    world.app.charge_points(buyer(), won(100_000)).await.unwrap();
    let card = |key, content| PlaceOrder { idempotency: idempotency(key, content), ..world.plain() };
    let points = |key| PlaceOrder { use_point: won(PRICE), card: None, ..card(key, 1) };
    let batch = || [card("c", 1), card("c", 1), points("p"), points("p"), card("p", 2), card("c", 2)];
    let told = all(&world.program(slow()), [world.plain()].into_iter().chain(batch())).await;
    let progress = format!("{:?}", PlaceOrderError::IdempotencyInProgress);
    let reused = format!("{:?}", PlaceOrderError::IdempotencyKeyReused);
    let again = format!("again: paid {}", order_of(told[3].as_ref().unwrap()).order.id());
    assert_eq!(
        names(&told),
        ["in progress", "in progress", &progress, "paid", &again, &reused, &reused].map(str::to_owned)
    );
    assert_eq!(world.commits("place_orders"), [1, 2]);
    assert_eq!((world.gateway.charges().len(), world.database.read(|tables| tables.orders.len())), (2, 3));
    // And later once more.
    let first = format!("again: in progress {}", order_of(told[1].as_ref().unwrap()).order.id());
    let later = all(&world.app, batch()).await;
    assert_eq!(names(&later), [first.clone(), first, again.clone(), again, reused.clone(), reused]);
    world.a_day().await;
    world.assert_quiet();
}

/// Bad input of every kind that a batch can meet, each beside good ones. (One with too many products, or a quantity beyond
/// all numbers, never becomes an order's lines.)
#[tokio::test(start_paused = true)]
async fn one_bad_order_among_good_ones() {
    let world = World::with(one_lane).await;
    let lines = |product, pieces| OrderLines::new([(product, Quantity::new(pieces).unwrap())]).unwrap();
    let free = world.app.create_product("f", won(0), domain::Stock::new(5).unwrap()).await.unwrap();
    let dear = domain::Money::MAX;
    let dear = world.app.create_product("d", dear, domain::Stock::new(5).unwrap()).await.unwrap();
    let nobody = domain::ProductId::new(99).unwrap();
    let stranger = domain::UserId::new(2).unwrap();
    let cases = [
        (PlaceOrder { lines: lines(nobody, 1), ..world.plain() }, "UnknownProduct"),
        (PlaceOrder { lines: lines(world.product, STOCK + 1), ..world.plain() }, "OutOfStock"),
        (PlaceOrder { user_id: stranger, use_point: won(0), ..world.command() }, "NotOwned"),
        (PlaceOrder { use_point: won(5001), ..world.plain() }, "InsufficientPoint"),
        (PlaceOrder { lines: lines(free, 1), ..world.plain() }, "TotalNotPositive"),
        (PlaceOrder { lines: lines(dear, 2), ..world.plain() }, "Overflow"),
        (PlaceOrder { use_point: won(-1), ..world.plain() }, "UsedPointNegative"),
        (PlaceOrder { card: None, ..world.plain() }, "CardRequired"),
    ];
    let bad = cases.len();
    let good = || (world.plain(), "");
    let mixed = cases.into_iter().flat_map(|case| [good(), case]).collect::<Vec<_>>();
    let (commands, rules): (Vec<_>, Vec<_>) = mixed.into_iter().unzip();
    let told = all(&world.program(slow()), commands).await;
    for (told, rule) in told.iter().zip(rules) {
        match told {
            Ok(outcome) => assert_eq!((name(outcome), rule), ("in progress", "")),
            Err(PlaceOrderError::Placement(error)) => {
                assert!(!rule.is_empty() && format!("{error:?}").contains(rule), "{error:?} {rule}");
            }
            Err(error) => panic!("{error:?} {rule}"),
        }
    }
    assert_eq!(world.commits("place_orders"), [1, bad - 1]);
    assert_eq!(world.goods(), (STOCK - i64::try_from(bad).unwrap(), 5000, true));
    world.a_day().await;
    world.assert_quiet();
}

/// A9 for all of a batch: nobody knows, so that nothing is sent for any of them, and nothing is tried again.
#[tokio::test(start_paused = true)]
async fn a_lost_commit_sends_nothing_for_any_of_its_batch() {
    for stored in [false, true] {
        let world = World::with(one_lane).await;
        let lost = strike_after(1, "place_orders", "tx.commit", 1, Fault::CommitUnknown { stored });
        let too_many = OrderLines::new([(world.product, Quantity::new(STOCK).unwrap())]).unwrap();
        let bad = PlaceOrder { lines: too_many, ..world.plain() };
        let batch = [world.plain(), world.plain(), world.command(), bad, world.plain()];
        let told = all(&world.program(Arc::new(Slow(lost.clone()))), batch).await;
        let unknown = format!("{:?}", PlaceOrderError::OutcomeUnknown);
        let unknown = if stored { "confirming" } else { &unknown };
        let out = format!("{:?}", PlaceOrderError::Placement(StockError::OutOfStock.into()));
        assert_eq!(names(&told), ["in progress", unknown, unknown, &out, unknown], "{stored}");
        assert_eq!((lost.met(), world.gateway.charges().len()), (2, 1));
        let lost_ones = if stored { placed(&told).split_off(1) } else { vec![] };
        assert_eq!(world.database.read(|tables| tables.orders.len()), 1 + lost_ones.len());
        world.minutes(4).await;
        assert!(lost_ones.iter().all(|placed| world.status(*placed) == FAILED));
        assert_eq!((world.gateway.charges().len(), world.goods()), (1, (STOCK - 1, 5000, true)));
        world.a_day().await;
        world.assert_quiet();
    }
}

/// What can't be stored together is stored one by one: only what fails by itself fails.
#[tokio::test(start_paused = true)]
async fn a_batch_that_breaks_off_is_done_one_by_one() {
    for call in ["tx.lock_products", "tx.load_keys", "tx.store_coupons", "tx.store_payments", "tx.commit"] {
        for fault in [Fault::Unavailable, Fault::Conflict] {
            let world = World::with(one_lane).await;
            let broken = strike_after(1, "place_orders", call, 1, fault);
            let batch = [world.plain(), world.plain(), world.command(), world.plain()];
            let told = all(&world.program(Arc::new(Slow(broken.clone()))), batch).await;
            assert_eq!(names(&told), ["in progress"; 4], "{call} {fault:?}");
            assert_eq!((broken.met(), world.commits("place_orders")), (5, vec![1; 4]), "{call} {fault:?}");
            world.a_day().await;
            world.assert_quiet();
        }
    }
}

/// The start of a batch is not stored, or nobody knows: nothing is sent for any, and all is given back.
#[tokio::test(start_paused = true)]
async fn a_batch_that_could_not_be_started_is_not_sent() {
    for fault in
        [Fault::Unavailable, Fault::CommitUnknown { stored: false }, Fault::CommitUnknown { stored: true }]
    {
        let world = World::with(one_lane).await;
        // One alone, one that leads the next, and those behind it.
        let broken = strike_after(2, "start_payments", "tx.commit", 1, fault);
        let batch = [world.plain(), world.plain(), world.command(), world.plain()];
        let told = all(&world.program(Arc::new(Slow(broken.clone()))), batch).await;
        assert_eq!(names(&told), ["in progress", "in progress", "not sent", "not sent"], "{fault:?}");
        assert_eq!((broken.met(), world.gateway.charges().len()), (3, 2));
        assert_eq!(world.goods(), (STOCK - 2, 5000, true));
        world.a_day().await;
        world.assert_quiet();
    }
}

/// What came of the calls, and its commit is lost: everybody tries again while there is time.
#[tokio::test(start_paused = true)]
async fn a_lost_commit_of_what_came_of_the_calls_is_tried_again_by_all() {
    for stored in [false, true] {
        let world = World::with(one_lane).await;
        for reply in [Reply::Accepted, Reply::Accepted, Reply::NotReached, Reply::Uncertain, Reply::Rejected]
        {
            let made = if reply == Reply::Accepted { vec![made(Success)] } else { vec![] };
            world.gateway.plan(Plan::new(reply, made));
        }
        let lost = strike_after(1, "settle", "tx.commit", 1, Fault::CommitUnknown { stored });
        // The first one's takes so long that all others wait behind it.
        let faults = stalled("settle", "store.begin", Duration::from_millis(200), Arc::new(Slow(lost)));
        let told = all(&world.program(faults), (0..5).map(|_| world.plain())).await;
        // Whose end was stored by the first try is told what is stored.
        let unreached = if stored { "refused" } else { "unavailable" };
        assert_eq!(names(&told), ["in progress", "in progress", unreached, "confirming", "refused"]);
        if stored {
            assert_eq!(world.commits("settle")[..2], [1, 4]);
        }
        assert_eq!(world.goods().0, STOCK - 3);
        world.a_day().await;
        world.assert_quiet();
    }
}

/// No request could leave in time any more when the batch begins: refused before anything is taken.
#[tokio::test(start_paused = true)]
async fn who_waits_beyond_its_deadline_takes_nothing() {
    struct StandsStill;
    #[async_trait]
    impl test_support::Faults for StandsStill {
        async fn before(&self, site: test_support::Site) -> Fault {
            if site.within == "place_orders" && site.call == "store.begin" {
                tokio::time::sleep(secs(5)).await;
            }
            Fault::None
        }
    }
    let world = World::with(|policy| {
        one_lane(policy);
        policy.batch.wait = secs(60);
    })
    .await;
    world.app.charge_points(buyer(), won(100_000)).await.unwrap();
    let by_points = PlaceOrder { use_point: won(PRICE), card: None, ..world.plain() };
    let batch = [world.plain(), world.command(), by_points];
    let told = all(&world.program(Arc::new(StandsStill)), batch).await;
    let late = format!("{:?}", PlaceOrderError::Unavailable(BatchError::TooLate));
    assert_eq!(names(&told), [&late, &late, "paid"]);
    assert!(world.gateway.charges().is_empty());
    assert_eq!(world.goods(), (STOCK - 1, 95_000, true));
    world.assert_quiet();
}

/// More than can wait, or for longer than they may: told so, and nothing is taken.
#[tokio::test(start_paused = true)]
async fn who_can_not_wait_takes_nothing() {
    let world = World::with(|policy| {
        one_lane(policy);
        policy.batch.queue = 3;
    })
    .await;
    let told = all(&world.program(slow()), (0..6).map(|_| world.plain())).await;
    let full = format!("{:?}", PlaceOrderError::Unavailable(BatchError::Full));
    let accepted = "in progress";
    assert_eq!(names(&told), [accepted, accepted, accepted, accepted, &full, &full]);
    assert_eq!(world.goods().0, STOCK - 4);

    let world = World::with(|policy| {
        one_lane(policy);
        policy.batch.wait = Duration::from_millis(5);
    })
    .await;
    let told = all(&world.program(slow()), (0..3).map(|_| world.plain())).await;
    let late = format!("{:?}", PlaceOrderError::Unavailable(BatchError::TooLate));
    assert_eq!(names(&told), [accepted, &late, &late]);
    assert_eq!(world.goods().0, STOCK - 1);
    world.a_day().await;
    world.assert_quiet();
}

/// The buyers' answers don't wait for those of others: each order of a batch has its own call to the gateway.
#[tokio::test(start_paused = true)]
async fn one_slow_call_keeps_nobody_waiting() {
    let world = World::with(one_lane).await;
    world.gateway.plan(Plan { answered_after: secs(4), ..Plan::new(Reply::Accepted, vec![made(Success)]) });
    let program = world.program(slow());
    let began = tokio::time::Instant::now();
    let timed = |command| async {
        program.place_order(command).await.unwrap();
        began.elapsed()
    };
    let took = join_all((0..4).map(|_| timed(world.plain()))).await;
    assert!(took[0] > secs(4) && took[1..].iter().all(|took| *took < secs(1)), "{took:?}");
}

/// A database in which one payment's row can't be read when it is to be ended.
struct Corrupt {
    store: FakeStore,
    payment_id: PaymentId,
}

#[async_trait]
impl Store for Corrupt {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn StoreTx>, StoreError> {
        self.store.begin(name).await
    }

    async fn open_placing(&self, orders: &[PlacingNeeds]) -> Result<(Box<dyn StoreTx>, Placing), StoreError> {
        self.store.open_placing(orders).await
    }

    async fn open_settling(
        &self,
        payments: &[SettlingNeeds],
    ) -> Result<(Box<dyn StoreTx>, Settling), StoreError> {
        let ends = |need: &SettlingNeeds| need.payment_id == self.payment_id && !need.keys.is_empty();
        if payments.iter().any(ends) {
            return Err(StoreError::Corrupt { what: "payment".into() });
        }
        self.store.open_settling(payments).await
    }

    async fn start_payments(&self, payments: &[PaymentId]) -> Result<BTreeSet<PaymentId>, StoreError> {
        self.store.start_payments(payments).await
    }

    async fn note_callbacks(&self, notes: &[CallbackNote]) -> Result<Vec<Option<PaymentId>>, StoreError> {
        self.store.note_callbacks(notes).await
    }

    async fn claim(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
        self.store.claim(options).await
    }

    async fn announce_ended(&self, orders: &[OrderId]) -> Result<(), StoreError> {
        self.store.announce_ended(orders).await
    }
}

/// F71: one that can never be settled is parked with a row, and those that are in its batches are settled at once.
#[tokio::test(start_paused = true)]
async fn a_corrupt_payment_takes_none_of_its_batch_with_it() {
    let world = World::with(|policy| {
        one_lane(policy);
        policy.rules.park_after_failures = 4;
    })
    .await;
    let mut orders = Vec::new();
    for end in [Success, Success, Failed, Success] {
        world.gateway.plan(Plan::new(Reply::Accepted, vec![made(end)]));
        orders.push(world.placed(world.plain()).await);
    }
    let (corrupt, before) = (orders[1], world.commits("settle").len());
    let program = world.program_over(|store| Corrupt { store, payment_id: corrupt.payment_id });
    tokio::time::sleep(secs(61)).await;
    let turn = program.reconcile(&CancellationToken::new()).await.unwrap();
    assert_eq!((turn.examined, turn.paid, turn.failed, turn.errors), (4, 2, 1, 1));
    let states = [0, 2, 3].map(|at| world.status(orders[at]));
    assert_eq!(states, [PAID, FAILED, PAID]);
    // The first alone; the three behind it one by one, as they could not be stored together; and that one failed.
    assert_eq!(world.commits("settle")[before..], [1, 1, 1, 1]);
    for _ in 0..20 {
        tokio::time::sleep(secs(60)).await;
        program.reconcile(&CancellationToken::new()).await.unwrap();
    }
    assert_eq!(world.status(corrupt).0, PaymentStatus::InProgress);
    assert_eq!(world.ledger(), [(DiscrepancyKind::Poison, world.record(corrupt).payment.key().cloned())]);
    // The row is mended, and a person asks for it to be looked at.
    world.sync(corrupt.payment_id).await;
    assert_eq!(world.status(corrupt), PAID);
    world.a_day().await;
    world.assert_quiet();
}

/// A turn settles what it examined in batches; one whose store breaks off in the middle is done one by one.
#[tokio::test(start_paused = true)]
async fn a_turn_settles_in_batches() {
    for broken in [false, true] {
        let world = World::with(one_lane).await;
        let mut orders = Vec::new();
        for end in [Success, Failed, Success, Failed, Success] {
            world.gateway.plan(Plan::new(Reply::Uncertain, vec![made(end)]));
            orders.push(world.placed(world.plain()).await);
        }
        tokio::time::sleep(secs(61)).await;
        let before = world.commits("settle").len();
        let fault = strike_after(1, "settle", "tx.store_stock", usize::from(broken), Fault::Conflict);
        let program = world.program(Arc::new(Slow(fault)));
        let turn = program.reconcile(&CancellationToken::new()).await.unwrap();
        assert_eq!((turn.paid, turn.failed, turn.errors), (3, 2, 0));
        assert_eq!(world.commits("settle")[before..], if broken { vec![1; 5] } else { vec![1, 4] });
        world.a_day().await;
        world.assert_quiet();
    }
}

/// Callbacks that come together are written down together; one without a payment is told so, and the others are taken.
#[tokio::test(start_paused = true)]
async fn callbacks_are_written_down_in_batches() {
    let world = World::with(one_lane).await;
    let mut orders = Vec::new();
    for _ in 0..4 {
        orders.push(world.placed(world.plain()).await);
    }
    tokio::time::sleep(secs(5)).await;
    let program = world.program(slow());
    let forged = "0".repeat(64);
    let tokens: Vec<String> = orders.iter().map(|placed| world.token(*placed)).collect();
    let keys: Vec<_> =
        orders.iter().map(|placed| world.record(*placed).payment.key().cloned().unwrap()).collect();
    let all =
        [(&tokens[0], 0), (&tokens[1], 1), (&forged, 1), (&tokens[2], 2), (&tokens[2], 2), (&tokens[3], 3)];
    let stop = CancellationToken::new();
    let received = async {
        let told = join_all(all.map(|(token, at)| program.receive_callback(token, &keys[at]))).await;
        tokio::time::sleep(secs(1)).await;
        stop.cancel();
        told
    };
    let (told, ()) = tokio::join!(received, program.take_up_callbacks(&stop));
    let unknown = Err(application::callbacks::ReceiveCallbackError::Unknown);
    let ids: Vec<_> = orders.iter().map(|placed| Ok(placed.payment_id)).collect();
    let expected = [&ids[0], &ids[1], &unknown, &ids[2], &ids[2], &ids[3]];
    assert!(told.iter().eq(expected), "{told:?}");
    // One alone; three payments behind it, of which one twice.
    assert_eq!(world.commits("note_callbacks"), [1, 3]);
    assert!(orders.iter().all(|placed| world.status(*placed) == PAID));
    world.a_day().await;
    world.assert_quiet();
}

/// A database that is away for a while refuses a whole batch of callbacks, each with an error.
#[tokio::test(start_paused = true)]
async fn callbacks_that_can_not_be_written_down_are_all_told() {
    let world = World::with(one_lane).await;
    let placed = world.placed(world.plain()).await;
    let (token, key) = (world.token(placed), world.record(placed).payment.key().cloned().unwrap());
    let program =
        world.program(Arc::new(Slow(strike("note_callbacks", "tx.commit", 1000, Fault::Unavailable))));
    let told = join_all((0..5).map(|_| program.receive_callback(&token, &key))).await;
    let store = |told: &Result<_, _>| {
        matches!(told, Err(application::callbacks::ReceiveCallbackError::Store(BatchError::Store(_))))
    };
    assert!(told.iter().all(store), "{told:?}");
    assert_eq!(world.database.read(|tables| tables.inbox.len()), 0);
    world.a_day().await;
    world.assert_quiet();
}
