//! One transaction for all lessons leaves what a transaction for each, one after the other, leaves: from seeds.

use super::*;
use crate::place_order::{PlaceOrder, PlacedInBatch};
use domain::ports::{OrderView, PointEntryKind};
use std::fmt::Debug;
use test_support::TestEntropy;

/// What a seed says, again and again.
struct Story {
    shop: Shop,
    lessons: Vec<Lesson>,
}

fn pick<T: Clone>(entropy: &TestEntropy, from: &[T]) -> T {
    from[usize::try_from(entropy.below(from.len() as u64)).unwrap()].clone()
}

fn statuses() -> [TransactionStatus; 3] {
    TransactionStatus::ALL
}

/// Four orders, of which some are settled already, some claimed, some woken; and what is learned about them next.
async fn story(seed: u64) -> Story {
    let entropy = TestEntropy::new(seed);
    let shop = Shop::new(100).await;
    shop.give_points(user(1), 10_000).await;
    shop.give_points(user(2), 10_000).await;
    let mut commands = Vec::new();
    for number in 0..4 {
        let buyer = user(1 + i64::from(entropy.percent(40)));
        let points = pick(&entropy, &[0, 100, 300]);
        let coupon = if entropy.percent(40) { Some(shop.give_coupon(buyer, None).await) } else { None };
        let key = entropy.percent(50).then(|| format!("k{number}"));
        let idempotency = key.and_then(|key| crate::shop::keyed(&key, 1));
        let order = shop.order(buyer, pick(&entropy, &[1, 2, 5]));
        commands.push(PlaceOrder { use_point: won(points), issued_coupon_id: coupon, idempotency, ..order });
    }
    let orders = if entropy.percent(80) {
        shop.sent(commands).await
    } else {
        let placed = shop.place(commands).await.unwrap().into_iter();
        placed
            .map(|placed| if let PlacedInBatch::Placed(order) = placed { *order } else { panic!() })
            .collect()
    };
    let mut lessons = Vec::new();
    for order in &orders {
        lessons.extend(of_one(&shop, &entropy, order).await);
    }
    // Between each other in any order; those of one payment, too.
    for at in (1..lessons.len()).rev() {
        lessons.swap(at, usize::try_from(entropy.below(at as u64 + 1)).unwrap());
    }
    Story { shop, lessons }
}

/// What is learned about one order: at most one answer to our own request, an examiner's findings, a zombie's.
async fn of_one(shop: &Shop, entropy: &TestEntropy, order: &OrderView) -> Vec<Lesson> {
    let mut lessons = Vec::new();
    if entropy.percent(40) {
        let before = answer(entropy);
        shop.settle([lesson(order, before, Cause::Api)]).await.unwrap().remove(0).unwrap();
    } else if entropy.percent(70) {
        let mut answered = lesson(order, answer(entropy), Cause::Api);
        answered.answer = keyed_answer(order);
        lessons.push(answered);
    }
    if entropy.percent(50) {
        shop.callback(order, &key(pick(entropy, &["a", "b", "c"]))).await;
    }
    let sending = shop.database.read(|tables| {
        tables.payments[&order.payment.payment.id()].record.send_deadline > shop.database.now()
    });
    if sending {
        return lessons;
    }
    if entropy.percent(70) {
        let claim = shop.claim(order, 1).await;
        if entropy.percent(20) {
            shop.callback(order, &key(pick(entropy, &["a", "b", "c"]))).await;
        }
        if entropy.percent(20) {
            let zombie = Claim { lease_id: 2, ..claim.clone() };
            lessons.push(lesson(order, examined(entropy, order, zombie), Cause::Reconciler));
        }
        lessons.push(lesson(order, examined(entropy, order, claim), Cause::Callback));
    }
    lessons
}

fn keyed_answer(order: &OrderView) -> Option<KeyedAnswer> {
    let key = format!("k{}", order.payment.payment.id().get() - 1);
    let render: RenderSettled = Box::new(|settled, order| StoredAnswer {
        status: 201,
        body: format!("{settled:?} {}", order.payment.payment.status()),
    });
    Some(KeyedAnswer { key: IdempotencyKey { user_id: order.order.user_id(), key }, render })
}

fn answer(entropy: &TestEntropy) -> Fact {
    let (cause, retry_after) = (FailureCause("ReadTimeout"), Duration::from_secs(1));
    if entropy.percent(10) {
        return Fact::NotSent(NotSent::DeadlinePassed);
    }
    let answer = match entropy.below(5) {
        0 | 1 => GatewayAnswer::Accepted {
            key: key(pick(entropy, &["a", "b", "c"])),
            status: TransactionStatus::Pending,
        },
        2 => GatewayAnswer::Rejected { message: FailureMessage::new("no").unwrap() },
        3 => GatewayAnswer::NotReached { cause, retry_after },
        _ => GatewayAnswer::Uncertain { cause },
    };
    Fact::Answer(ChargeOutcome { answer, watch: entropy.percent(30) })
}

fn examined(entropy: &TestEntropy, order: &OrderView, claim: Claim) -> Fact {
    if entropy.percent(15) {
        let blame = pick(entropy, &[Blame::Elsewhere, Blame::Payment("odd"), Blame::Beyond("too many")]);
        return Fact::NotExamined { claim, blame };
    }
    let mut transactions = Vec::new();
    for named in ["a", "b", "c"] {
        if entropy.percent(40) {
            let mut found = transaction(order, named, pick(entropy, &statuses()));
            if entropy.percent(20) {
                found.amount = won(1);
            }
            transactions.push(found);
        }
    }
    let by_key = claim.record.payment.key().cloned().map(|held| {
        match transactions.iter().find(|transaction| transaction.key == held) {
            Some(transaction) => KeyAnswer::Found(transaction.clone()),
            None => KeyAnswer::NotFound(held),
        }
    });
    let hints_asked = if entropy.percent(80) { claim.hints.clone() } else { Vec::new() };
    let findings = Findings { by_key, by_order: Some(transactions), hinted: Vec::new(), hints_asked };
    Fact::Findings { claim, findings, not_found_suspended: false }
}

/// All that is stored, but for versions and running numbers, which count transactions.
fn stored(shop: &Shop) -> Vec<String> {
    fn lines<T: Debug>(rows: impl Iterator<Item = T>) -> impl Iterator<Item = String> {
        rows.map(|row| format!("{row:?}"))
    }
    shop.database.read(|tables| {
        let payments = tables.payments.values().map(|row| {
            let mut record = row.record.clone();
            record.version = 0;
            record
        });
        let history = tables.payment_events.iter().map(|((id, _), event)| {
            let mut event = event.clone();
            event.sequence = 0;
            (*id, event)
        });
        let mut facts: Vec<_> =
            tables.discrepancies.values().map(|row| (row.payment_id, row.discrepancy.clone())).collect();
        facts.sort_by_key(|(id, discrepancy)| (*id, discrepancy.fact()));
        let restored = tables.point_ledger.values().filter(|row| row.kind == PointEntryKind::Restore);
        let mut restored: Vec<_> = restored.map(|row| (row.user_id, row.payment_id, row.delta)).collect();
        // Each buyer's in its order; between buyers there is none.
        restored.sort_by_key(|(buyer, ..)| *buyer);
        lines(payments)
            .chain(lines(history))
            .chain(lines(tables.orders.values()))
            .chain(lines(tables.checks.iter()))
            .chain(lines(tables.inbox.iter()))
            .chain(lines(facts.into_iter()))
            .chain(lines(tables.stock.iter()))
            .chain(lines(tables.points.iter()))
            .chain(lines(restored.into_iter()))
            .chain(lines(tables.coupon_ledger.keys()))
            .chain(lines(tables.idempotency.iter()))
            .collect()
    })
}

fn told(outcomes: &[SettledInBatch]) -> Vec<String> {
    let told = |outcome: &SettledInBatch| match outcome {
        Ok(outcome) => {
            let payment = &outcome.order.payment.payment;
            let order = outcome.order.order.status();
            format!("{:?}: {payment:?}, {order:?}, woken: {}", outcome.settled, outcome.woken)
        }
        Err(error) => format!("{error:?}"),
    };
    outcomes.iter().map(told).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_what_its_members_leave_one_after_the_other() {
    let (mut together_at_most, mut compared) = (0, 0);
    for seed in 0..400 {
        let together = story(seed).await;
        let batch = together.shop.settle(together.lessons).await;
        let left = stored(&together.shop);

        let apart = story(seed).await;
        let show = |lesson: &Lesson| format!("{} {:?}", lesson.payment_id, lesson.fact);
        let lessons: Vec<String> = apart.lessons.iter().map(show).collect();
        let mut one_by_one = Vec::new();
        for lesson in apart.lessons {
            one_by_one.extend(apart.shop.settle([lesson]).await.unwrap());
        }
        let right = stored(&apart.shop);
        // A key that a payment gives up is its own until the batch is stored: for another of the batch that is a row.
        let keys = apart.shop.database.read(|tables| {
            let keys =
                tables.payment_events.iter().filter_map(|((id, _), event)| Some((*id, event.key.clone()?)));
            keys.collect::<BTreeSet<_>>()
        });
        let owners: BTreeSet<PaymentId> = keys.iter().map(|(id, _)| *id).collect();
        if owners.len() < keys.len() {
            continue;
        }

        let batch = batch.unwrap_or_else(|error| panic!("seed {seed}: {error:?}\n{lessons:#?}"));
        assert_eq!(told(&batch), told(&one_by_one), "seed {seed}: {lessons:#?}");
        for (left, right) in left.iter().zip(&right) {
            assert_eq!(left, right, "seed {seed}: {lessons:#?}");
        }
        assert_eq!(left.len(), right.len(), "seed {seed}: {lessons:#?}");
        compared += 1;
        together_at_most = together_at_most.max(batch.len());
    }
    assert!(compared >= 300 && together_at_most >= 8, "{compared} {together_at_most}");
}
