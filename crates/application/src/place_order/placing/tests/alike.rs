//! One transaction for all orders leaves what a transaction for each, one after the other, leaves: from seeds.

use super::*;
use std::fmt::Debug;
use test_support::TestEntropy;

fn pick<T: Clone>(entropy: &TestEntropy, from: &[T]) -> T {
    from[usize::try_from(entropy.below(from.len() as u64)).unwrap()].clone()
}

/// Few pieces, few points, few coupons, few keys; and many who want them.
async fn story(seed: u64) -> (Shop, Vec<NewcomerOrder>) {
    let entropy = TestEntropy::new(seed);
    let shop = Shop::new(5).await;
    let products = [shop.product, shop.product(700, 4).await, ProductId::new(999).unwrap()];
    let mut coupons = Vec::new();
    for buyer in [1, 1, 2] {
        shop.give_points(user(buyer), 1500).await;
        coupons.push(shop.give_coupon(user(buyer), None).await);
    }
    let mut members = Vec::new();
    for _ in 0..2 + entropy.below(12) {
        let buyer = user(1 + i64::from(entropy.percent(30)));
        let lines = (0..=entropy.below(2)).map(|_| {
            let pieces = Quantity::new(pick(&entropy, &[1, 1, 2, 3])).unwrap();
            (pick(&entropy, if entropy.percent(95) { &products[..2] } else { &products }), pieces)
        });
        let lines = OrderLines::new(lines.collect::<Vec<_>>()).unwrap();
        let use_point = won(pick(&entropy, &[0, 0, 100, 700, 1000, 1400]));
        let key = entropy.percent(40).then(|| pick(&entropy, &["k1", "k2", "k3"]));
        let idempotency = key.and_then(|key| keyed(key, pick(&entropy, &[1, 1, 1, 2])));
        let issued_coupon_id = entropy.percent(30).then(|| pick(&entropy, &coupons));
        let card = shop.order(buyer, 1).card.filter(|_| entropy.percent(85));
        let command =
            PlaceOrder { lines, use_point, issued_coupon_id, idempotency, card, ..shop.order(buyer, 1) };
        let member = shop.member(command);
        let late = entropy.percent(5);
        members.push(if late { NewcomerOrder { deadline: Instant::now(), ..member } } else { member });
    }
    (shop, members)
}

fn stored(shop: &Shop) -> Vec<String> {
    fn lines<T: Debug>(rows: impl Iterator<Item = T>) -> impl Iterator<Item = String> {
        rows.map(|row| format!("{row:?}"))
    }
    shop.database.read(|tables| {
        let history =
            tables.payment_events.iter().map(|((id, _), event)| (*id, event.to, event.reason.clone()));
        let mut stock: Vec<_> = tables.stock_ledger.values().collect();
        stock.sort_by_key(|row| row.product_id);
        lines(tables.orders.values())
            .chain(lines(tables.payments.values()))
            .chain(lines(history))
            .chain(lines(tables.checks.iter()))
            .chain(lines(tables.stock.iter()))
            .chain(lines(stock.into_iter()))
            .chain(lines(tables.points.iter()))
            .chain(lines(tables.point_ledger.values()))
            .chain(lines(tables.issued_coupons.iter()))
            .chain(lines(tables.coupon_ledger.keys()))
            .chain(lines(tables.idempotency.iter()))
            .collect()
    })
}

fn told_of(outcome: &PlacedInBatch) -> String {
    match outcome {
        PlacedInBatch::Placed(order) => format!("{order:?}"),
        PlacedInBatch::KnownKey(record) => format!("{record:?}"),
        other => told(other),
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_what_its_members_leave_one_after_the_other() {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..400 {
        let (together, members) = story(seed).await;
        let batch = together.place_with(members, Arc::new(test_support::NoFaults)).await;
        let left = stored(&together);

        let (apart, members) = story(seed).await;
        let mut one_by_one = Vec::new();
        for member in members {
            one_by_one
                .extend(apart.place_with(vec![member], Arc::new(test_support::NoFaults)).await.unwrap());
        }
        let right = stored(&apart);

        let batch = batch.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        for outcome in &batch {
            *seen.entry(told(outcome)).or_default() += 1;
        }
        let (batch, one_by_one): (Vec<_>, Vec<_>) =
            (batch.iter().map(told_of).collect(), one_by_one.iter().map(told_of).collect());
        assert_eq!(batch, one_by_one, "seed {seed}");
        for (left, right) in left.iter().zip(&right) {
            assert_eq!(left, right, "seed {seed}: {batch:#?}");
        }
        assert_eq!(left.len(), right.len(), "seed {seed}");
    }
    println!("{seen:?}");
    let kinds = [PLACED, "placed PAID", "known key", "too late", OUT_OF_STOCK, "refused CardRequired"];
    assert!(kinds.iter().all(|kind| seen.get(*kind).is_some_and(|times| *times >= 20)), "{seen:?}");
}
