//! The database's own rules: what a defect in the program meets when nothing else stops it.

use crate::support::{Db, migrated};
use domain::ports::{Queries, Store, StoreError};
use domain::settlement::SettlingNeeds;
use std::collections::BTreeSet;
use test_support::TestClient;

/// One valid row of each kind. Order 1 is PLACED with payment 1 IN_PROGRESS, order 2 is PAID, order 3 CANCELLED.
const VALID: &str = "
    INSERT INTO product (id, name, price) VALUES (1, 'p', 1000);
    INSERT INTO stock (product_id, quantity) VALUES (1, 10);
    INSERT INTO coupon (id, name, discount_type, discount_value) VALUES (1, 'c', 'RATE', 10);
    INSERT INTO issued_coupon (id, coupon_id, user_id) VALUES (1, 1, 1);
    INSERT INTO point_account (user_id, balance) VALUES (1, 500);
    INSERT INTO orders (id, user_id, status, total_amount)
        VALUES (1, 1, 'PLACED', 1000), (2, 1, 'PAID', 1000), (3, 1, 'CANCELLED', 1000);
    INSERT INTO order_item (order_id, product_id, product_name, unit_price, quantity)
        VALUES (1, 1, 'p', 1000, 1), (2, 1, 'p', 1000, 1), (3, 1, 'p', 1000, 1);
    INSERT INTO payment (id, order_id, user_id, status, total_amount, used_point, coupon_discount, paid_amount,
            card_type, card_no, merchant_id, gateway_order_ref, external_payment_key, callback_token_hash, send_deadline)
        SELECT id, id, 1, (ARRAY['IN_PROGRESS', 'PAID', 'FAILED'])[id], 1000, 0, 0, 1000,
            'KB', '1234-****-****-1451', 'm', 'ref' || id, 'key' || id, decode(repeat(lpad(id::text, 2, '0'), 32), 'hex'), now()
        FROM generate_series(1, 3) AS id;
    INSERT INTO payment_event (payment_id, to_status, cause) VALUES (1, 'PENDING', 'api');
    INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (1, 1, 'RESERVE', -1), (1, 1, 'RESTORE', 1);
    INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after)
        VALUES (1, 1, 'DEDUCT', -1, 499), (1, 1, 'RESTORE', 1, 500);
    INSERT INTO coupon_ledger (issued_coupon_id, payment_id, kind) VALUES (1, 1, 'USE'), (1, 1, 'CANCEL_USE');
    INSERT INTO payment_check (payment_id) VALUES (1);
    INSERT INTO discrepancy (payment_id, kind, fact, evidence) VALUES (1, 'PG_LOST', 'PG_LOST:key1', 'seen');
    INSERT INTO idempotency_key (user_id, key, fingerprint, order_id, expires_at)
        VALUES (1, 'k', decode(repeat('00', 32), 'hex'), 1, now());";

/// Each CHECK with a change that only it refuses.
const CHECKS: &[(&str, &str)] = &[
    ("product_price_check", "UPDATE product SET price = -1"),
    ("product_price_check", "UPDATE product SET price = 9007199254740992"),
    ("stock_quantity_check", "UPDATE stock SET quantity = -1"),
    ("stock_quantity_check", "UPDATE stock SET quantity = 9007199254740992"),
    ("coupon_discount_type_check", "UPDATE coupon SET discount_type = 'GIFT'"),
    ("coupon_discount_value_check", "UPDATE coupon SET discount_value = 0"),
    ("coupon_rate_at_most_100", "UPDATE coupon SET discount_value = 101"),
    ("issued_coupon_status_check", "UPDATE issued_coupon SET status = 'LOST'"),
    ("issued_coupon_used_at", "UPDATE issued_coupon SET status = 'USED'"),
    ("issued_coupon_used_at", "UPDATE issued_coupon SET used_at = now()"),
    ("point_account_balance_check", "UPDATE point_account SET balance = -1"),
    ("point_account_balance_check", "UPDATE point_account SET balance = 9007199254740992"),
    ("orders_user_id_check", "UPDATE orders SET user_id = 0 WHERE id = 1"),
    ("orders_status_check", "UPDATE orders SET status = 'LOST' WHERE id = 1"),
    ("orders_total_amount_check", "UPDATE orders SET total_amount = 0 WHERE id = 1"),
    ("order_item_unit_price_check", "UPDATE order_item SET unit_price = -1 WHERE order_id = 1"),
    ("order_item_quantity_check", "UPDATE order_item SET quantity = 0 WHERE order_id = 1"),
    (
        "order_item_amount",
        "UPDATE order_item SET unit_price = 9007199254740991, quantity = 2 WHERE order_id = 1",
    ),
    ("payment_status_check", "UPDATE payment SET status = 'LOST' WHERE id = 1"),
    ("payment_total_amount_check", "UPDATE payment SET total_amount = 0, paid_amount = 0 WHERE id = 1"),
    ("payment_used_point_check", "UPDATE payment SET used_point = -1, paid_amount = 1001 WHERE id = 1"),
    (
        "payment_coupon_discount_check",
        "UPDATE payment SET coupon_discount = -1, paid_amount = 1001 WHERE id = 1",
    ),
    ("payment_paid_amount_check", "UPDATE payment SET paid_amount = -1, used_point = 1001 WHERE id = 1"),
    ("payment_amounts_add_up", "UPDATE payment SET paid_amount = 999 WHERE id = 1"),
    ("payment_card_type_check", "UPDATE payment SET card_type = 'VISA' WHERE id = 1"),
    ("payment_card_no_check", "UPDATE payment SET card_no = '1234-5678-9814-1451' WHERE id = 1"),
    ("payment_callback_token_hash_check", "UPDATE payment SET callback_token_hash = '\\x00' WHERE id = 1"),
    ("payment_card_when_on_card", "UPDATE payment SET card_no = NULL WHERE id = 1"),
    (
        "payment_key_when_paid_by_card",
        "UPDATE payment SET status = 'PAID', external_payment_key = NULL WHERE id = 1",
    ),
    ("payment_pending_has_no_key", "UPDATE payment SET status = 'PENDING' WHERE id = 1"),
    ("payment_failure_message_when_failed", "UPDATE payment SET failure_message = 'no' WHERE id = 1"),
    (
        "payment_event_cause_check",
        "INSERT INTO payment_event (payment_id, to_status, cause) VALUES (1, 'PAID', 'magic')",
    ),
    ("stock_ledger_kind_check", "INSERT INTO stock_ledger (product_id, kind, delta) VALUES (1, 'LOST', 1)"),
    ("stock_ledger_payment", "INSERT INTO stock_ledger (product_id, kind, delta) VALUES (1, 'RESTORE', 1)"),
    (
        "stock_ledger_payment",
        "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (1, 2, 'SET', 1)",
    ),
    (
        "stock_ledger_sign",
        "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (1, 2, 'RESERVE', 1)",
    ),
    (
        "stock_ledger_sign",
        "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (1, 2, 'RESTORE', -1)",
    ),
    (
        "point_ledger_kind_check",
        "INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) VALUES (1, 2, 'LOST', 1, 1)",
    ),
    (
        "point_ledger_balance_after_check",
        "INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) VALUES (1, 2, 'DEDUCT', -1, -1)",
    ),
    (
        "point_ledger_payment",
        "INSERT INTO point_ledger (user_id, kind, delta, balance_after) VALUES (1, 'RESTORE', 1, 1)",
    ),
    (
        "point_ledger_sign",
        "INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) VALUES (1, 2, 'DEDUCT', 1, 1)",
    ),
    (
        "point_ledger_sign",
        "INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) VALUES (1, 2, 'RESTORE', 0, 1)",
    ),
    (
        "coupon_ledger_kind_check",
        "INSERT INTO coupon_ledger (issued_coupon_id, payment_id, kind) VALUES (1, 2, 'LOST')",
    ),
    ("discrepancy_status_check", "UPDATE discrepancy SET status = 'LOST'"),
    ("discrepancy_resolved", "UPDATE discrepancy SET status = 'RESOLVED'"),
    // Its row may not be changed: a second one is refused for its id before it is refused for being the second.
    ("installation_id_check", "INSERT INTO installation (id) VALUES ('Not one')"),
    ("idempotency_key_fingerprint_check", "UPDATE idempotency_key SET fingerprint = '\\x00'"),
];

/// What makes a second restore, a second owner or a second row impossible.
const UNIQUE: &[(&str, &str)] = &[
    (
        "idx_stock_ledger_once",
        "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (1, 1, 'RESTORE', 1)",
    ),
    (
        "idx_point_ledger_once",
        "INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) VALUES (1, 1, 'RESTORE', 1, 1)",
    ),
    (
        "idx_coupon_ledger_once",
        "INSERT INTO coupon_ledger (issued_coupon_id, payment_id, kind) VALUES (1, 1, 'CANCEL_USE')",
    ),
    ("idx_payment_external_payment_key", "UPDATE payment SET external_payment_key = 'key2' WHERE id = 1"),
    (
        "idx_payment_callback_token_hash",
        "UPDATE payment SET callback_token_hash = (SELECT callback_token_hash FROM payment WHERE id = 2) WHERE id = 1",
    ),
    ("payment_order_id_key", "UPDATE payment SET order_id = 2 WHERE id = 1"),
    ("issued_coupon_once_per_user", "INSERT INTO issued_coupon (id, coupon_id, user_id) VALUES (2, 1, 1)"),
    (
        "discrepancy_one_fact_one_row",
        "INSERT INTO discrepancy (payment_id, kind, fact, evidence) VALUES (1, 'PG_LOST', 'PG_LOST:key1', 'again')",
    ),
    ("idx_installation_one_row", "INSERT INTO installation (id) VALUES ('another')"),
    ("idempotency_key_pkey", "INSERT INTO idempotency_key SELECT * FROM idempotency_key"),
];

/// Histories are only added to; what has ended stays.
const FOR_GOOD: &[&str] = &[
    "UPDATE payment_event SET reason = 'other'",
    "DELETE FROM payment_event",
    "UPDATE stock_ledger SET delta = delta",
    "DELETE FROM stock_ledger",
    "UPDATE point_ledger SET delta = delta",
    "DELETE FROM point_ledger",
    "UPDATE coupon_ledger SET kind = kind",
    "DELETE FROM coupon_ledger",
    "DELETE FROM discrepancy",
    "UPDATE installation SET id = 'another'",
    "DELETE FROM installation",
    "UPDATE payment SET status = 'FAILED' WHERE id = 2",
    "UPDATE payment SET external_payment_key = 'other' WHERE id = 2",
    "UPDATE payment SET status = 'PAID' WHERE id = 3",
    "UPDATE orders SET status = 'CANCELLED' WHERE id = 2",
    "UPDATE orders SET status = 'PLACED' WHERE id = 3",
];

async fn refusal(client: &TestClient, sql: &str) -> tokio_postgres::error::DbError {
    match client.batch_execute(sql).await {
        Ok(()) => panic!("accepted: {sql}"),
        Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}")).clone(),
    }
}

#[tokio::test]
async fn every_check_constraint_refuses() {
    let database = migrated().await;
    let client = database.client().await;
    client.batch_execute(VALID).await.unwrap();
    for (constraint, sql) in CHECKS {
        assert_eq!(refusal(&client, sql).await.constraint(), Some(*constraint), "{sql}");
    }
    // None is left out.
    let sql = "SELECT conname::text FROM pg_constraint WHERE contype = 'c' AND connamespace = current_schema()::regnamespace";
    let rows = client.query(sql, &[]).await.unwrap();
    let existing: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let tried: BTreeSet<String> = CHECKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(existing, tried);
}

#[tokio::test]
async fn nothing_happens_twice_that_must_happen_once() {
    let database = migrated().await;
    let client = database.client().await;
    client.batch_execute(VALID).await.unwrap();
    for (constraint, sql) in UNIQUE {
        assert_eq!(refusal(&client, sql).await.constraint(), Some(*constraint), "{sql}");
    }
}

#[tokio::test]
async fn histories_and_ends_never_change() {
    let database = migrated().await;
    let client = database.client().await;
    client.batch_execute(VALID).await.unwrap();
    for sql in FOR_GOOD {
        let code = refusal(&client, sql).await.code().code().to_owned();
        assert_eq!(code, "23000", "{sql}");
    }
}

/// A row that a person or a defect broke is reported as such, by whoever reads it, and nothing panics.
#[tokio::test]
async fn a_row_that_breaks_a_rule_is_corrupt() {
    let db = Db::new().await;
    let client = db.database.client().await;
    client.batch_execute(VALID).await.unwrap();
    let order = domain::OrderId::new(1).unwrap();
    let payment = domain::PaymentId::new(1).unwrap();
    let needs = SettlingNeeds { payment_id: payment, keys: Vec::new(), goods: true };
    assert!(db.store.order(None, order).await.unwrap().is_some());
    let corrupt = |error: Option<StoreError>, sql: &str| {
        assert!(matches!(error, Some(StoreError::Corrupt { .. })), "{sql}: {error:?}");
    };
    for (constraint, sql) in [
        ("payment_status_check", "UPDATE payment SET status = 'LOST' WHERE id = 1"),
        ("payment_amounts_add_up", "UPDATE payment SET paid_amount = 999 WHERE id = 1"),
        ("payment_failure_message_when_failed", "UPDATE payment SET failure_message = 'no' WHERE id = 1"),
        ("payment_card_type_check", "UPDATE payment SET card_type = 'VISA' WHERE id = 1"),
        ("payment_used_point_check", "UPDATE payment SET used_point = -1, paid_amount = 1001 WHERE id = 1"),
    ] {
        let undo = "UPDATE payment SET status = 'IN_PROGRESS', paid_amount = 1000, used_point = 0, card_type = 'KB', \
            failure_message = NULL WHERE id = 1";
        client.batch_execute(&format!("ALTER TABLE payment DROP CONSTRAINT {constraint}")).await.unwrap();
        client.batch_execute(sql).await.unwrap();
        corrupt(db.store.payment(None, payment).await.err(), sql);
        corrupt(db.store.open_settling(std::slice::from_ref(&needs)).await.err(), sql);
        client.batch_execute(undo).await.unwrap();
    }
    let broken_key = "UPDATE payment SET external_payment_key = 'a b' WHERE id = 1";
    client.batch_execute(broken_key).await.unwrap();
    corrupt(db.store.payment(None, payment).await.err(), broken_key);
    let wrong_total = "UPDATE orders SET total_amount = 999 WHERE id = 1; UPDATE payment SET external_payment_key = NULL WHERE id = 1";
    client.batch_execute(wrong_total).await.unwrap();
    corrupt(db.store.order(None, order).await.err(), wrong_total);
    // A time that PostgreSQL knows and we don't.
    let for_ever = "UPDATE coupon SET valid_until = 'infinity'";
    client.batch_execute(for_ever).await.unwrap();
    corrupt(db.store.issued_coupons(domain::UserId::new(1).unwrap()).await.err(), for_ever);
}
