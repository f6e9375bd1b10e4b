//! Callbacks in masses, true and forged: what they cost is bounded, and nothing that one of them says is lost (F49 to F53).

use crate::gateway::{Made, Plan, Reply, TestGateway, made};
use crate::world::{Placed, World, secs, won};
use application::callbacks::ReceiveCallbackError;
use domain::settlement::TransactionStatus::Success;
use domain::{GatewayOrderRef, OrderStatus, PaymentStatus};
use std::time::Duration;

const PAID: (PaymentStatus, OrderStatus) = (PaymentStatus::Paid, OrderStatus::Paid);
const OPEN: (PaymentStatus, OrderStatus) = (PaymentStatus::InProgress, OrderStatus::Placed);

fn slow() -> Made {
    Made { decided_after: secs(100), ..made(Success) }
}

async fn accepted(world: &World, command: application::PlaceOrder) -> Placed {
    world.gateway.plan(Plan::new(Reply::Accepted, vec![slow()]));
    world.placed(command).await
}

/// F51, F53: without a token the gateway is asked, at most once in the interval.
#[tokio::test(start_paused = true)]
async fn a_flood_without_tokens_asks_as_the_throttle_allows() {
    let world = World::new().await;
    let placed = accepted(&world, world.command()).await;
    tokio::time::sleep(secs(5)).await;
    let (reference, interval) = (world.order_ref(placed), world.policy.query_interval);
    for _ in 0..10 {
        let flood = (0..500).map(|_| async {
            let taken = world.app.receive_unproven_callback(reference.clone()).await;
            assert_eq!(taken, Ok(placed.payment_id));
        });
        futures_util::future::join_all(flood).await;
        tokio::time::sleep(interval / 2).await;
    }
    // Ten floods over half an interval each: at their beginning, and after each interval.
    let asked = &world.gateway.lists_asked()[&reference];
    assert!((5..=6).contains(&asked.len()), "{asked:?}");
    assert!(asked.windows(2).all(|two| two[1] - two[0] >= interval), "{asked:?}");
    // Half a reference is none, and who guesses an order's number learns nothing by it.
    let number = placed.order_id.to_string();
    for unknown in ["other-100001-0123456789abcdef", "simul8-100001-0123456789abcdef", &number, "", "x"] {
        let refused = world.app.receive_unproven_callback(GatewayOrderRef::from_gateway(unknown)).await;
        assert_eq!(refused, Err(ReceiveCallbackError::Unknown), "{unknown}");
    }
    // F53: an ended payment is not asked about at all.
    tokio::time::sleep(secs(200)).await;
    world.sync(placed.payment_id).await;
    assert_eq!(world.status(placed), PAID);
    let before = world.gateway.queries();
    for _ in 0..10 {
        let taken = world.app.receive_unproven_callback(reference.clone()).await;
        assert_eq!(taken, Ok(placed.payment_id));
        tokio::time::sleep(secs(10)).await;
        world.turn().await;
    }
    assert_eq!(world.gateway.queries(), before);
}

/// F49, F50, F51, F53, all ways to forge in one place, each a hundred times at once: without a token, with a wrong one, with
/// another payment's, with the right one for a transaction over a wrong amount. Nothing is settled but by the gateway's own
/// record of the payment's own transaction, and each payment is asked about once per interval at most.
#[tokio::test(start_paused = true)]
async fn forgeries_by_the_hundred_change_nothing_and_ask_as_the_throttle_allows() {
    let world = World::new().await;
    let victim = accepted(&world, world.command()).await;
    let attacker = accepted(&world, world.plain()).await;
    tokio::time::sleep(secs(10)).await;
    // The attacker knows the victim's key, and has a charge of one won of his own. What a body says of amounts is not even
    // read: only a key is taken from it.
    let elsewhere = GatewayOrderRef::from_gateway("other-999999-0123456789abcdef");
    let at_once = Made { decided_after: Duration::ZERO, ..made(Success) };
    let (victims, one_won) = (TestGateway::key(1), world.gateway.put(&elsewhere, won(1), &at_once));
    let (own, others) = (world.token(victim), world.token(attacker));
    let (wrong, reference) = ("0".repeat(64), world.order_ref(victim));
    let (interval, goods) = (world.policy.query_interval, world.goods());
    for (what, token, named, known) in [
        ("a wrong token", Some(&wrong), &victims, false),
        ("another payment's token", Some(&others), &victims, true),
        ("no token", None, &victims, true),
        ("the right token, a wrong amount", Some(&own), &one_won, true),
    ] {
        let (before, began) = (world.gateway.queries(), tokio::time::Instant::now());
        let hundred = (0..100).map(|_| async {
            let received = match token {
                Some(token) => world.app.receive_callback(token, named).await,
                None => world.app.receive_unproven_callback(reference.clone()).await,
            };
            assert!(received.is_ok() || received == Err(ReceiveCallbackError::Unknown), "{received:?}");
            received.is_ok()
        });
        let taken = futures_util::future::join_all(hundred).await;
        tokio::time::sleep(secs(9)).await;
        assert!(taken.iter().all(|taken| *taken == known), "{what}");
        let asked = world.gateway.queries() - before;
        // Of the one payment that the token stands for: by key, by order, and the key that was named.
        let examinations = 1 + usize::try_from(began.elapsed().as_millis() / interval.as_millis()).unwrap();
        println!(
            "{what}: 100 callbacks, {asked} questions to the gateway in {examinations} examinations at most"
        );
        assert!(asked <= 3 * examinations, "{what}: {asked}");
        assert_eq!(asked > 0, known, "{what}");
        assert_eq!((world.status(victim), world.status(attacker)), (OPEN, OPEN), "{what}");
    }
    assert_eq!(world.goods(), goods, "nothing was given back");
    world.minutes(3).await;
    assert_eq!((world.status(victim), world.status(attacker)), (PAID, PAID));
    assert_eq!(world.record(victim).payment.key(), Some(&victims));
    world.a_day().await;
    assert!(world.ledger().is_empty());
}

/// A shop in which the worker's steps take time, and so do the gateway's answers.
async fn busy(payments: usize, change: impl FnOnce(&mut application::Policy)) -> (World, Vec<Placed>) {
    let world = World::with(change).await;
    world.app.set_stock(world.product, domain::Stock::new(1000).unwrap()).await.unwrap();
    let mut orders = Vec::new();
    for _ in 0..payments {
        orders.push(accepted(&world, world.plain()).await);
    }
    tokio::time::sleep(secs(5)).await;
    (world, orders)
}

/// Five thousand callbacks at once, with tokens, without, and forged: so many examinations at once as the settings allow, each
/// payment asked about once in the interval at most, and nothing begun for a single callback.
#[tokio::test(start_paused = true)]
async fn five_thousand_callbacks_cost_what_the_settings_allow() {
    let (world, orders) = busy(40, |policy| policy.callback_concurrency = 8).await;
    world.gateway.set_query_takes(Duration::from_millis(40));
    let tokens: Vec<String> = orders.iter().map(|placed| world.token(*placed)).collect();
    let references: Vec<_> = orders.iter().map(|placed| world.order_ref(*placed)).collect();
    let (before, tasks) = (world.gateway.queries(), alive_tasks());
    let began = tokio::time::Instant::now();
    let receive = |number: usize| {
        let (world, at) = (&world, number % 40);
        let (token, reference) = (&tokens[at], &references[at]);
        async move {
            // Over four seconds.
            tokio::time::sleep(Duration::from_millis(4 * number as u64 / 5)).await;
            let taken = match number % 5 {
                0 | 1 => world.app.receive_callback(token, &TestGateway::key(at + 1)).await,
                2 | 3 => world.app.receive_unproven_callback(reference.clone()).await,
                _ => world.app.receive_callback("forged", &TestGateway::key(at + 1)).await,
            };
            assert_eq!(alive_tasks(), tasks, "a task for a callback");
            taken.is_ok()
        }
    };
    let taken = futures_util::future::join_all((0..5000).map(receive)).await;
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 4000);
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    tokio::time::sleep(secs(10)).await;
    assert_eq!(world.gateway.most_at_once(), 8);
    let interval = world.policy.query_interval;
    for (reference, asked) in world.gateway.lists_asked() {
        // Each look-up of a list comes after one by key, as long after its claim.
        assert!(asked.windows(2).all(|two| two[1] - two[0] >= interval), "{reference}: {asked:?}");
        assert!((2..=4).contains(&asked.len()), "{reference}: {asked:?}");
    }
    let asked = world.gateway.queries() - before;
    println!("5000 callbacks, 40 payments: {asked} questions, {} at once", world.gateway.most_at_once());
    // And when the charges are decided, the next callbacks settle them all, without a reconciler.
    for number in 1..=40 {
        world.gateway.decide(&TestGateway::key(number), Success);
    }
    let again = futures_util::future::join_all((0..40).map(|at| receive(at * 5))).await;
    assert!(again.iter().all(|taken| *taken));
    tokio::time::sleep(secs(5)).await;
    let states: Vec<_> = orders.iter().map(|placed| world.status(*placed)).collect();
    // Every fifth number is one of eight payments.
    assert_eq!(states.iter().filter(|state| **state == PAID).count(), 8);
    world.a_day().await;
    world.assert_quiet();
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// More callbacks than the worker can look into at once, one for each payment, once: each is taken up.
#[tokio::test(start_paused = true)]
async fn a_wake_up_while_the_worker_is_busy_is_not_lost() {
    for (at_once, apart) in [(1, 0), (3, 0), (3, 7), (64, 13)] {
        let (world, orders) = busy(20, |policy| policy.callback_concurrency = at_once).await;
        world.gateway.set_query_takes(Duration::from_millis(25));
        for number in 1..=20 {
            world.gateway.decide(&TestGateway::key(number), Success);
        }
        let began = tokio::time::Instant::now();
        for (at, placed) in orders.iter().enumerate() {
            let token = world.token(*placed);
            world.app.receive_callback(&token, &TestGateway::key(at + 1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(apart)).await;
        }
        while orders.iter().any(|placed| world.status(*placed) != PAID) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(began.elapsed() < secs(2), "{at_once} at once, {apart} ms apart");
        }
        assert!(world.gateway.most_at_once() <= at_once);
        world.a_day().await;
        world.assert_quiet();
    }
}

/// A callback that comes while its payment is being looked into: the question that is under way may have missed it.
#[tokio::test(start_paused = true)]
async fn a_callback_during_its_payments_examination_makes_another() {
    let (world, orders) = busy(1, |_| {}).await;
    let (placed, token) = (orders[0], world.token(orders[0]));
    world.gateway.set_query_takes(Duration::from_millis(100));
    world.app.receive_callback(&token, &TestGateway::key(1)).await.unwrap();
    // By key, still undecided; then the list, and in its middle the gateway decides and calls.
    tokio::time::sleep(Duration::from_millis(150)).await;
    world.gateway.decide(&TestGateway::key(1), Success);
    world.app.receive_callback(&token, &TestGateway::key(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.status(placed), OPEN);
    tokio::time::sleep(world.policy.query_interval).await;
    assert_eq!(world.status(placed), PAID);
}

/// The database is slow to give out what is woken: what was found out already is settled meanwhile.
#[tokio::test(start_paused = true)]
async fn a_claim_that_takes_long_keeps_nobody_else() {
    let (world, orders) = busy(2, |_| {}).await;
    world.gateway.set_query_takes(Duration::from_millis(50));
    for number in 1..=2 {
        world.gateway.decide(&TestGateway::key(number), Success);
    }
    struct ThirdClaimIsSlow(std::sync::atomic::AtomicUsize);
    #[async_trait::async_trait]
    impl test_support::Faults for ThirdClaimIsSlow {
        async fn before(&self, site: test_support::Site) -> test_support::Fault {
            let claims = site.within == "claim" && site.call == "store.begin";
            if claims && self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2 {
                tokio::time::sleep(secs(30)).await;
            }
            test_support::Fault::None
        }
    }
    // At its beginning, for the first callback, for the second one.
    let program = world.program(std::sync::Arc::new(ThirdClaimIsSlow(Default::default())));
    let stop = tokio_util::sync::CancellationToken::new();
    let callbacks = async {
        for (at, placed) in orders.iter().enumerate() {
            let token = world.token(*placed);
            program.receive_callback(&token, &TestGateway::key(at + 1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(secs(1)).await;
        let states = (world.status(orders[0]), world.status(orders[1]));
        stop.cancel();
        states
    };
    let (states, ()) = tokio::join!(callbacks, program.take_up_callbacks(&stop));
    assert_eq!(states, (PAID, OPEN));
    // Stopped in the middle of the claim: what it gave was looked into all the same.
    assert_eq!(world.status(orders[1]), PAID);
}

/// More keys than are looked up at once: the rest is next, and none is forgotten.
#[tokio::test(start_paused = true)]
async fn more_hints_than_are_looked_up_at_once_are_all_looked_up() {
    for pays in [0, 4, 9] {
        let world = World::with(|policy| policy.max_hints = 3).await;
        world.gateway.plan(Plan::new(Reply::Uncertain, vec![]));
        let placed = world.placed(world.command()).await;
        tokio::time::sleep(secs(10)).await;
        // Ten transactions of other orders; one of them says ours, though our order's list does not show it.
        let elsewhere = |at: usize| GatewayOrderRef::from_gateway(format!("other-{at}-0123456789abcdef"));
        let at_once = Made { decided_after: Duration::ZERO, ..made(Success) };
        let amount = world.record(placed).payment.amounts().paid_amount();
        let keys: Vec<_> = (0..10).map(|at| world.gateway.put(&elsewhere(at), amount, &at_once)).collect();
        world.gateway.set_unlisted(&keys[pays]);
        let reference = world.order_ref(placed);
        world.gateway.alter(&keys[pays], |transaction| transaction.order_ref = reference);
        let token = world.token(placed);
        for key in &keys {
            world.app.receive_callback(&token, key).await.unwrap();
        }
        // Without the reconciler: three in each interval, until it is paid.
        let began = tokio::time::Instant::now();
        while world.status(placed) != PAID {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(began.elapsed() < secs(8), "the {pays}th");
        }
        let asked = |world: &World| {
            world.database.read(|tables| {
                tables.hints(placed.payment_id).filter(|(_, hint)| hint.looked_up_at.is_some()).count()
            })
        };
        assert!((3 * (pays / 3)..=3 * (pays / 3 + 1)).contains(&asked(&world)), "{}", asked(&world));
        // It has ended: the rest is the watch list's.
        world.minutes(4).await;
        assert_eq!(asked(&world), 10);
        assert_eq!(world.status(placed), PAID);
    }
}
