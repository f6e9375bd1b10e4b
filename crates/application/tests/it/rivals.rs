//! Two shops at one gateway with the same merchant id: staging and production, a restored backup, a database that lost
//! commits. Their order numbers are the same; what the gateway calls their orders is not.

use crate::gateway::{Made, Plan, Reply, TestGateway, made};
use crate::oracle;
use crate::world::{Placed, World, secs};
use domain::settlement::TransactionStatus::Success;
use domain::{OrderStatus, PaymentStatus};
use std::time::Duration;

const PAID: (PaymentStatus, OrderStatus) = (PaymentStatus::Paid, OrderStatus::Paid);
const FAILED: (PaymentStatus, OrderStatus) = (PaymentStatus::Failed, OrderStatus::Cancelled);

/// Two shops, each with its first order: the same number, the same buyer, the same amount. The first one's was charged.
async fn twins(reply: Reply, made_for_second: Vec<Made>) -> (World, Placed, World, Placed) {
    let first_shop = World::new().await;
    let second_shop = first_shop.rival().await;
    let at_once = Made { decided_after: Duration::ZERO, ..made(Success) };
    first_shop.gateway.plan(Plan::new(Reply::Accepted, vec![at_once]));
    let first = first_shop.placed(first_shop.command()).await;
    tokio::time::sleep(secs(1)).await;
    second_shop.gateway.plan(Plan { watch: true, ..Plan::new(reply, made_for_second) });
    let second = second_shop.placed(second_shop.command()).await;
    assert_eq!((first.order_id, first.order_id.get()), (second.order_id, 100_001));
    let amount = |world: &World, placed| world.record(placed).payment.amounts().paid_amount();
    assert_eq!(amount(&first_shop, first), amount(&second_shop, second));
    assert_ne!(first_shop.order_ref(first), second_shop.order_ref(second));
    (first_shop, first, second_shop, second)
}

async fn a_day(one: &World, other: &World) {
    for _ in 0..40 {
        one.minutes(1).await;
        other.turn().await;
    }
    one.a_day().await;
    other.a_day().await;
}

/// The first one's charge never pays for the second one's goods: not after a time-out, not after a 500, not by a callback.
#[tokio::test(start_paused = true)]
async fn an_order_is_never_paid_by_another_shops_charge() {
    for reply in [Reply::Uncertain, Reply::NotReached] {
        for callback in [false, true] {
            let (first_shop, first, second_shop, second) = twins(reply, vec![]).await;
            if callback {
                // With the second one's good token, and the first one's transaction.
                second_shop.callback(second, &TestGateway::key(1)).await;
            }
            a_day(&first_shop, &second_shop).await;
            assert_eq!((first_shop.status(first), second_shop.status(second)), (PAID, FAILED), "{reply:?}");
            assert!(second_shop.nothing_taken() && first_shop.taken());
            assert!(first_shop.ledger().is_empty() && second_shop.ledger().is_empty());
            oracle::at_any_time(&second_shop.database);
            first_shop.assert_quiet();
        }
    }
}

/// And each is paid by its own.
#[tokio::test(start_paused = true)]
async fn each_shops_order_is_paid_by_its_own_charge() {
    for reply in [Reply::Uncertain, Reply::Accepted] {
        let (first_shop, first, second_shop, second) = twins(reply, vec![made(Success)]).await;
        a_day(&first_shop, &second_shop).await;
        assert_eq!((first_shop.status(first), second_shop.status(second)), (PAID, PAID));
        let key = |world: &World, placed| world.record(placed).payment.key().cloned();
        let (one, two) = (TestGateway::key(1), TestGateway::key(2));
        assert_eq!((key(&first_shop, first), key(&second_shop, second)), (Some(one), Some(two)));
        assert!(first_shop.ledger().is_empty() && second_shop.ledger().is_empty());
    }
}

/// A backup was restored: the order and its payment are there again under the old number, made anew; the old one's charge was
/// before.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_older_than_its_payment_never_pays() {
    let world = World::new().await;
    world.gateway.plan(Plan::new(Reply::Uncertain, vec![made(Success)]));
    let placed = world.placed(world.command()).await;
    let before = world.record(placed).created_at;
    world.gateway.alter(&TestGateway::key(1), |transaction| transaction.made_before = Some(before));
    world.minutes(10).await;
    assert_eq!(world.status(placed), FAILED);
    assert!(world.nothing_taken());
}
