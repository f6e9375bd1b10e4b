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
