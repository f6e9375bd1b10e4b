//! Once a connection has done everything once, nothing is prepared on it any more: that would cost a round trip and a plan
//! each time, and a statement that is not prepared is overtaken by those that are sent behind it.

use crate::support::{Ask, Db, Placed, commit, token_hash, user, won};
use domain::ports::{
    AdminPaymentFilter, CallbackNote, Cause, ClaimOptions, Due, GatewayAnswer, IdempotencyKey, KeyedRequest,
    OrderCursor, Queries, Store, StoredAnswer,
};
use domain::settlement::{Blame, Changes, Discrepancy, DiscrepancyKind, Learned, TransactionStatus};
use domain::{Discount, DiscrepancyId, GatewayKey, GatewayOrderRef, OrderStatus, PaymentStatus, Stock};
use std::time::Duration;

const ROUNDS: i64 = 50;
const HOUR: Duration = Duration::from_secs(3600);

/// From then on each new product notes which statements its session has prepared.
const WATCH: &str = "CREATE TABLE seen (round BIGINT GENERATED ALWAYS AS IDENTITY, names TEXT);
    CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO seen (names) SELECT string_agg(name, ' ' ORDER BY name) FROM pg_prepared_statements;
        RETURN NULL;
    END $$;
    CREATE TRIGGER look AFTER INSERT ON product EXECUTE FUNCTION look();";

#[tokio::test]
async fn nothing_is_prepared_anew() {
    let db = Db::with(|options| options.pool_size = 1).await;
    db.charge_points(user(1), 1_000_000).await;
    let client = db.database.client().await;
    client.batch_execute(WATCH).await.unwrap();
    for round in 0..ROUNDS {
        orders(&db, round).await;
        set_up(&db, round).await;
        reads(&db).await;
        assert_eq!(db.connections().await.len(), 1);
        db.product(1).await;
    }
    // A round makes products of its own, too; the last one of each counts.
    let sql = "SELECT round, names FROM seen ORDER BY round";
    let seen: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(1)).collect();
    let each = seen.len() / usize::try_from(ROUNDS).unwrap();
    let ends: Vec<&String> = seen.iter().skip(each - 1).step_by(each).collect();
    assert_eq!(ends.len(), 50);
    assert!(ends[0].split(' ').count() > 50, "{}", ends[0]);
    assert!(ends[1..].iter().all(|names| *names == ends[0]), "{:#?}", &ends[..5]);
}

fn key(text: String) -> GatewayKey {
    GatewayKey::new(text).unwrap()
}

/// Batches of another size each time: placed, started, noted, claimed, answered, given back.
async fn orders(db: &Db, round: i64) {
    let product = db.product(1000).await;
    let coupon = db.issued_coupon(user(1)).await;
    let idempotency = IdempotencyKey { user_id: user(1), key: format!("key {round}") };
    let keyed = KeyedRequest { key: idempotency.clone(), fingerprint: [1; 32], retention: HOUR };
    let mut asks = vec![
        Ask { points: 10, coupon: Some(coupon), key: Some(keyed), ..Ask::of(product) },
        Ask { points: 1000, ..Ask::of(product) },
    ];
    asks.extend((0..round % 5).map(|_| Ask::of(product)));
    let placed = db.place_all(&asks).await.unwrap();
    let first = placed[0];
    let ids: Vec<_> = placed.iter().map(|placed| placed.payment_id).collect();
    db.store.start_payments(&ids).await.unwrap();
    let status = TransactionStatus::Pending;
    let accepted = GatewayAnswer::Accepted { key: key(format!("k{round}")), status };
    db.answer(&[first], accepted.clone()).await.unwrap();
    let notes = [
        CallbackNote::Named { token_hash: token_hash(first.payment_id), key: key(format!("k{round}")) },
        CallbackNote::Unproven { order_ref: GatewayOrderRef::from_gateway(first.order_id.to_string()) },
    ];
    db.store.note_callbacks(&notes).await.unwrap();
    let min_interval = Duration::ZERO;
    let one = Due::One { payment_id: first.payment_id, min_interval };
    for (due, lease_id) in
        [Due::Woken { min_interval }, Due::Unsettled, Due::Watched, one].into_iter().zip(1..)
    {
        let options = ClaimOptions { due, limit: 100, lease_id, lease: Duration::ZERO, due_by: None };
        for claim in db.store.claim(&options).await.unwrap() {
            not_examined(db, claim).await;
        }
    }
    everything_else(db, first, &idempotency, round).await;
    let on_card = [&placed[..1], &placed[2..]].concat();
    db.fail(&on_card).await.unwrap();
    db.store.announce_ended(&[first.order_id]).await.unwrap();
}

async fn not_examined(db: &Db, claim: domain::ports::Claim) {
    let payment_id = claim.record.payment.id();
    let of = Placed { order_id: claim.record.payment.order_id(), payment_id };
    let (tx, mut settling) = db.store.open_settling(&[of.needs()]).await.unwrap();
    let learned = Learned::NotExamined { claim: &claim, blame: Blame::Elsewhere };
    let settled = settling.settle(payment_id, &learned, Cause::Reconciler, &crate::support::rules());
    tx.store_changes(&[settled.unwrap().unwrap().changes]).await.unwrap();
    commit(tx).await.unwrap();
}

/// Hints, ledger rows and answers, and a key's owner asked for.
async fn everything_else(db: &Db, placed: Placed, idempotency: &IdempotencyKey, round: i64) {
    let needs = domain::settlement::SettlingNeeds { keys: vec![key(format!("k{round}"))], ..placed.needs() };
    let (tx, settling) = db.store.open_settling(&[needs]).await.unwrap();
    assert_eq!(settling.shared.key_owners.len(), 1);
    let answer = StoredAnswer { status: 201, body: "{}".into() };
    let found =
        Discrepancy { kind: DiscrepancyKind::PgLost, key: None, amount: None, evidence: "seen".into() };
    let changes = Changes {
        hint: Some(key("named".into())),
        hints_done: vec![key(format!("k{round}"))],
        discrepancies: vec![found],
        answer: Some((idempotency.clone(), answer.clone())),
        ..Changes::none(placed.payment_id, placed.order_id)
    };
    tx.store_changes(&[changes]).await.unwrap();
    tx.save_idempotent_answer(idempotency, &answer).await.unwrap();
    commit(tx).await.unwrap();
}

/// What operators do.
async fn set_up(db: &Db, round: i64) {
    let product = db.product(5).await;
    db.charge_points(user(2 + round), 100).await;
    let tx = db.begin().await;
    assert!(tx.set_stock(product, Stock::new(7).unwrap()).await.unwrap());
    let coupon = tx.insert_coupon("coupon", Discount::Fixed(won(100)), None).await.unwrap();
    tx.find_coupon(coupon.id).await.unwrap().unwrap();
    tx.insert_issued_coupon(coupon.id, user(1)).await.unwrap().unwrap();
    let row = DiscrepancyId::new(round + 1).unwrap();
    assert_eq!(tx.resolve_discrepancy(row, "REFUNDED", "note", "me").await, Ok(Some(true)));
    commit(tx).await.unwrap();
    db.store.sweep_expired_keys().await.unwrap();
}

async fn reads(db: &Db) {
    let store = &db.store;
    store.ready().await.unwrap();
    let orders = store.orders(user(1), None, None, 10).await.unwrap();
    let last = &orders[0];
    let id = last.order.id();
    for user_id in [None, Some(user(1))] {
        store.order(user_id, id).await.unwrap().unwrap();
        store.payment(user_id, last.payment.payment.id()).await.unwrap().unwrap();
    }
    for status in [None, Some(OrderStatus::Paid)] {
        store.orders(user(1), status, Some(OrderCursor(id)), 10).await.unwrap();
    }
    for status in [None, Some(PaymentStatus::Pending), Some(PaymentStatus::Paid)] {
        for older_than in [None, Some(HOUR)] {
            for before in [None, Some(last.payment.payment.id())] {
                let filter = AdminPaymentFilter { status, older_than, before, limit: 10 };
                store.payments(&filter).await.unwrap();
            }
        }
    }
    let key = IdempotencyKey { user_id: user(1), key: "key 0".into() };
    store.idempotency(&key).await.unwrap().unwrap();
    let product = store.products(None, 10).await.unwrap()[0].id;
    store.products(Some(product), 10).await.unwrap();
    store.product(product).await.unwrap().unwrap();
    store.issued_coupons(user(1)).await.unwrap();
    store.point_balance(user(1)).await.unwrap();
    for status in [None, Some(domain::ports::DiscrepancyStatus::Open)] {
        for before in [None, Some(DiscrepancyId::new(9).unwrap())] {
            store.discrepancies(status, before, 10).await.unwrap();
        }
    }
    store.discrepancy(DiscrepancyId::new(1).unwrap()).await.unwrap().unwrap();
    store.discrepancies_of(last.payment.payment.id()).await.unwrap();
    store.worklist(10).await.unwrap();
    store.recent_events(Cause::Api, 10).await.unwrap();
    store.statistics().await.unwrap();
    store.changed_orders(HOUR, 10).await.unwrap();
    store.last_paid_key().await.unwrap();
}
