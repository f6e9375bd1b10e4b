//! Every check is shown a database that breaks its invariant, and one that breaks none.
//!
//! The schema's own constraints and triggers would refuse most of it; they are taken away first, because the audit is
//! there for the day on which they are not enough.

use postgres::{Client, NoTls, Transaction};

use super::{books, find, gateway};
use crate::commands::db;
use crate::commands::test::DATABASE_VARIABLE;
use crate::workspace;

/// A paid card order (100001, with points and coupon), a failed one (100002, with points and coupon), one paid by
/// points (100003), one under way (100004); and what the gateway knows of them.
const SOUND: &str = "
    INSERT INTO product (id, name, price) VALUES (1, 'mug', 1000), (2, 'bag', 500);
    INSERT INTO stock (product_id, quantity) VALUES (1, 6), (2, 10);
    INSERT INTO coupon (id, name, discount_type, discount_value) VALUES (1, 'fixed', 'FIXED', 300), (2, 'rate', 'RATE', 15);
    INSERT INTO issued_coupon (id, coupon_id, user_id, status, used_at) VALUES
      (1, 1, 7, 'USED', now()), (2, 2, 7, 'AVAILABLE', NULL);
    INSERT INTO point_account (user_id, balance) VALUES (7, 3900), (8, 50);
    INSERT INTO orders (id, user_id, status, total_amount) VALUES
      (100001, 7, 'PAID', 2000), (100002, 7, 'CANCELLED', 1500), (100003, 7, 'PAID', 1000), (100004, 7, 'PLACED', 1000);
    INSERT INTO order_item (order_id, product_id, product_name, unit_price, quantity) VALUES
      (100001, 1, 'mug', 1000, 2), (100002, 1, 'mug', 1000, 1), (100002, 2, 'bag', 500, 1),
      (100003, 1, 'mug', 1000, 1), (100004, 1, 'mug', 1000, 1);
    INSERT INTO payment (id, order_id, user_id, status, total_amount, used_point, coupon_discount, paid_amount,
      issued_coupon_id, card_type, card_no, merchant_id, gateway_order_ref, external_payment_key, failure_message,
      send_deadline) VALUES
      (1, 100001, 7, 'PAID', 2000, 100, 300, 1600, 1, 'KB', '1234-****-****-1451', 'm', 'a-100001-1', 'K1', NULL, now() + interval '5 s'),
      (2, 100002, 7, 'FAILED', 1500, 200, 225, 1075, 2, 'KB', '1234-****-****-1451', 'm', 'a-100002-1', NULL, 'no', now() + interval '5 s'),
      (3, 100003, 7, 'PAID', 1000, 1000, 0, 0, NULL, NULL, NULL, 'm', 'a-100003-1', NULL, NULL, now() + interval '5 s'),
      (4, 100004, 7, 'IN_PROGRESS', 1000, 0, 0, 1000, NULL, 'KB', '1234-****-****-1451', 'm', 'a-100004-1', 'K4', NULL,
       now() + interval '5 s');
    INSERT INTO payment_event (payment_id, from_status, to_status, cause, external_payment_key) VALUES
      (1, NULL, 'PENDING', 'api', NULL), (1, 'PENDING', 'IN_PROGRESS', 'api', NULL),
      (1, 'IN_PROGRESS', 'IN_PROGRESS', 'api', 'K1'), (1, 'IN_PROGRESS', 'PAID', 'callback', 'K1'),
      (2, NULL, 'PENDING', 'api', NULL), (2, 'PENDING', 'FAILED', 'api', NULL),
      (3, NULL, 'PENDING', 'api', NULL), (3, 'PENDING', 'IN_PROGRESS', 'api', NULL), (3, 'IN_PROGRESS', 'PAID', 'api', NULL),
      (4, NULL, 'PENDING', 'api', NULL), (4, 'PENDING', 'IN_PROGRESS', 'api', 'K4');
    INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES
      (1, NULL, 'INITIAL', 5), (2, NULL, 'INITIAL', 10), (1, NULL, 'SET', 5),
      (1, 1, 'RESERVE', -2), (1, 2, 'RESERVE', -1), (2, 2, 'RESERVE', -1), (1, 3, 'RESERVE', -1), (1, 4, 'RESERVE', -1),
      (1, 2, 'RESTORE', 1), (2, 2, 'RESTORE', 1);
    INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) VALUES
      (8, NULL, 'CHARGE', 50, 50), (7, NULL, 'CHARGE', 5000, 5000), (7, 1, 'DEDUCT', -100, 4900),
      (7, 2, 'DEDUCT', -200, 4700), (7, 2, 'RESTORE', 200, 4900), (7, 3, 'DEDUCT', -1000, 3900);
    INSERT INTO coupon_ledger (issued_coupon_id, payment_id, kind) VALUES (1, 1, 'USE'), (2, 2, 'USE'), (2, 2, 'CANCEL_USE');
    INSERT INTO payment_check (payment_id, due_at) VALUES (4, now() + interval '1 min');
    INSERT INTO idempotency_key (user_id, key, fingerprint, order_id, expires_at) VALUES
      (7, '0f3c1234-1234-1234-1234-123412341234', sha256(''), 100001, now() + interval '1 day');
";

const GATEWAY: &str = r#"[
    {"id": 1, "transactionKey": "K1", "orderId": "a-100001-1", "amount": 1600, "status": "SUCCESS", "requestedAt": "NOW"},
    {"id": 2, "transactionKey": "K2", "orderId": "a-100002-1", "amount": 1075, "status": "FAILED", "requestedAt": "NOW"},
    {"id": 4, "transactionKey": "K4", "orderId": "a-100004-1", "amount": 1000, "status": "SUCCESS", "requestedAt": "NOW"},
    {"id": 5, "transactionKey": "K5", "orderId": "someone-else", "amount": 9, "status": "FAILED", "requestedAt": "NOW"}
]"#;

/// What breaks an invariant, and the checks that must see it (by a part of their texts).
const BROKEN: &[(&str, &[&str])] = &[
    ("UPDATE orders SET total_amount = 2001 WHERE id = 100001", &["sum of its lines", "card = total"]),
    ("UPDATE payment SET paid_amount = 1601 WHERE id = 1", &["card = total"]),
    ("UPDATE payment SET used_point = -100, paid_amount = 1800 WHERE id = 1", &["card = total"]),
    ("UPDATE payment SET user_id = 8 WHERE id = 1", &["card = total", "own coupon"]),
    ("UPDATE payment SET coupon_discount = 226, paid_amount = 1074 WHERE id = 2", &["own coupon"]),
    ("UPDATE payment SET coupon_discount = 1, used_point = 999 WHERE id = 3", &["own coupon"]),
    ("UPDATE stock SET quantity = 7 WHERE product_id = 1", &["stock is the sum"]),
    ("DELETE FROM stock_ledger WHERE kind = 'INITIAL' AND product_id = 2", &["stock is the sum"]),
    ("DELETE FROM stock_ledger WHERE payment_id = 3", &["every order line was reserved"]),
    ("UPDATE stock_ledger SET delta = -3 WHERE payment_id = 1", &["every order line was reserved"]),
    (
        "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (2, 1, 'RESERVE', -1)",
        &["every order line was reserved"],
    ),
    ("DELETE FROM stock_ledger WHERE kind = 'RESTORE' AND product_id = 2", &["stock is given back once"]),
    (
        "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (1, 2, 'RESTORE', 1)",
        &["stock is given back once"],
    ),
    (
        "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (1, 1, 'RESTORE', 2)",
        &["stock is given back once"],
    ),
    (
        "INSERT INTO stock_ledger (product_id, payment_id, kind, delta) VALUES (2, 1, 'RESTORE', 2)",
        &["stock is given back once"],
    ),
    ("DELETE FROM point_ledger WHERE kind = 'RESTORE'", &["points are taken once", "points are the sum"]),
    ("DELETE FROM point_ledger WHERE payment_id = 3", &["points are taken once"]),
    (
        "INSERT INTO point_ledger (user_id, payment_id, kind, delta, balance_after) VALUES (7, 1, 'RESTORE', 100, 4000)",
        &["points are taken once"],
    ),
    ("UPDATE point_ledger SET user_id = 8 WHERE payment_id = 1", &["points are taken once"]),
    ("DELETE FROM coupon_ledger WHERE kind = 'CANCEL_USE'", &["a coupon is used once"]),
    ("DELETE FROM coupon_ledger WHERE payment_id = 1", &["a coupon is used once"]),
    ("UPDATE issued_coupon SET status = 'USED' WHERE id = 2", &["USED exactly when"]),
    ("UPDATE issued_coupon SET status = 'AVAILABLE' WHERE id = 1", &["USED exactly when"]),
    ("UPDATE payment SET issued_coupon_id = 1 WHERE id = 3", &["USED exactly when"]),
    ("UPDATE point_account SET balance = 3901 WHERE user_id = 7", &["points are the sum"]),
    (
        "UPDATE point_ledger SET balance_after = 4701 WHERE payment_id = 2 AND kind = 'DEDUCT'",
        &["leads to the balance"],
    ),
    ("DELETE FROM payment WHERE id = 3", &["an order has one payment"]),
    ("UPDATE payment SET external_payment_key = 'K1' WHERE id = 4", &["an order has one payment"]),
    ("UPDATE payment SET created_at = now() - interval '8 min' WHERE id = 4", &["more than 7 minutes"]),
    ("UPDATE payment_check SET due_at = now() - interval '3 min'", &["nothing that is due"]),
    (
        "INSERT INTO payment_event (payment_id, from_status, to_status, cause) VALUES (2, 'FAILED', 'PAID', 'operator')",
        &["never leave", "step by step", "one that exists"],
    ),
    ("UPDATE orders SET status = 'PLACED' WHERE id = 100001", &["order and payment agree"]),
    ("UPDATE orders SET status = 'PAID' WHERE id = 100002", &["order and payment agree"]),
    ("UPDATE idempotency_key SET user_id = 8", &["Idempotency-Key names"]),
    (
        "INSERT INTO idempotency_key SELECT user_id, 'other', fingerprint, order_id, NULL, NULL, now(), now()
      FROM idempotency_key",
        &["Idempotency-Key names"],
    ),
    (
        "UPDATE payment SET failure_message = 'card 1234-5678-9814-1451 refused' WHERE id = 2",
        &["no full card number"],
    ),
    ("DELETE FROM payment_event WHERE payment_id = 1 AND from_status = 'PENDING'", &["step by step"]),
    ("DELETE FROM payment_event WHERE payment_id = 4", &["step by step"]),
    ("UPDATE payment SET external_payment_key = 'K9' WHERE id = 4", &["step by step"]),
    ("UPDATE payment_event SET from_status = 'PENDING' WHERE to_status = 'PAID'", &["one that exists"]),
    // The gateway's side.
    ("UPDATE gateway SET status = 'SUCCESS' WHERE key = 'K2'", &["every charge is", "won charged"]),
    ("UPDATE gateway SET status = 'SUCCESS' WHERE key = 'K5'", &["every charge is", "won charged"]),
    ("UPDATE gateway SET amount = 1601 WHERE key = 'K1'", &["every charge is", "was charged", "won charged"]),
    ("UPDATE gateway SET status = 'FAILED' WHERE key = 'K1'", &["was charged", "won charged"]),
    (
        "INSERT INTO gateway SELECT 6, 'K6', order_ref, amount, status, requested_at FROM gateway WHERE key = 'K1'",
        &["every charge is", "won charged"],
    ),
    ("UPDATE gateway SET requested_at = now() - interval '1 h' WHERE key = 'K1'", &["before its order"]),
    ("UPDATE gateway SET requested_at = now() + interval '1 min' WHERE key = 'K1'", &["send deadline"]),
];

/// What looks like a violation and is none.
const ALLOWED: &[&str] = &[
    "UPDATE gateway SET status = 'SUCCESS' WHERE key = 'K2';
     INSERT INTO discrepancy (payment_id, kind, fact, external_payment_key, amount, evidence)
     VALUES (2, 'LATE_SUCCESS', 'x', 'K2', 1075, '')",
    "INSERT INTO gateway SELECT 6, 'K6', order_ref, amount, status, requested_at FROM gateway WHERE key = 'K1';
     INSERT INTO discrepancy (payment_id, kind, fact, external_payment_key, amount, evidence)
     VALUES (1, 'DUPLICATE_CHARGE', 'x', 'K6', 1600, '')",
    // On the watch list, not looked at since the charge became visible.
    "UPDATE gateway SET status = 'SUCCESS', settled_at = now() WHERE key = 'K2';
     INSERT INTO payment_check (payment_id, due_at) VALUES (2, now() + interval '1 min')",
    // The simulator was started anew after this payment.
    "DELETE FROM gateway WHERE key = 'K1'; UPDATE audit_since SET since = now() + interval '1 min'",
    "UPDATE payment SET created_at = now() - interval '8 min' WHERE id = 4;
     UPDATE payment_check SET parked_at = now()",
];

/// A database of its own, dropped at the end, also when the test fails.
struct Scratch {
    server: Client,
    url: String,
    name: &'static str,
}

impl Scratch {
    fn new(name: &'static str) -> Self {
        let url = std::env::var(DATABASE_VARIABLE).unwrap_or_else(|_| {
            panic!("{DATABASE_VARIABLE} is not set: run this by `cargo xtask test -p xtask`")
        });
        let mut server = Client::connect(&url, NoTls).unwrap();
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).unwrap();
        server.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        let (start, _) = url.rsplit_once('/').unwrap();
        let url = format!("{start}/{name}");
        Self { server, url, name }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.server.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).ok();
    }
}

fn violated(snapshot: &mut Transaction<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for check in books::CHECKS.iter().chain(gateway::CHECKS) {
        let found = find(snapshot, check).unwrap();
        if !found.is_empty() {
            names.push(format!("{}: {}", check.what, found.join("; ")));
        }
    }
    names
}

#[test]
fn every_check_sees_what_breaks_it_and_nothing_else_is_reported() {
    let scratch = Scratch::new("xtask_audit_test");
    let mut client = Client::connect(&scratch.url, NoTls).unwrap();
    for migration in db::read_migrations(&workspace::root().unwrap().join("migrations")).unwrap() {
        client.batch_execute(&migration.up).unwrap();
    }
    client.batch_execute(SOUND).unwrap();
    client
        .batch_execute(
            "DO $$ DECLARE r record; BEGIN
               FOR r IN SELECT conrelid::regclass AS owner, conname FROM pg_constraint
                        WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace
               LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.owner, r.conname); END LOOP;
               FOR r IN SELECT tgrelid::regclass AS owner FROM pg_trigger WHERE NOT tgisinternal
               LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', r.owner); END LOOP;
             END $$;
             DROP INDEX idx_stock_ledger_once; DROP INDEX idx_point_ledger_once; DROP INDEX idx_coupon_ledger_once;
             DROP INDEX idx_payment_external_payment_key",
        )
        .unwrap();
    let mut transaction = client.transaction().unwrap();
    let now: String = transaction.query_one("SELECT now()::text", &[]).unwrap().get(0);
    let ledger = serde_json::from_str::<serde_json::Value>(&GATEWAY.replace("NOW", &now)).unwrap();
    gateway::load(&mut transaction, ledger.as_array().unwrap(), None).unwrap();
    assert_eq!(violated(&mut transaction), Vec::<String>::new(), "the sound database");

    let mut seen = Vec::new();
    for (sql, expected) in BROKEN {
        let mut broken = transaction.transaction().unwrap();
        broken.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let found = violated(&mut broken);
        for part in *expected {
            assert!(
                found.iter().any(|name| name.contains(part)),
                "{sql}\n  not seen by `{part}`, but by {found:#?}"
            );
            seen.push(*part);
        }
        broken.rollback().unwrap();
    }
    for check in books::CHECKS.iter().chain(gateway::CHECKS) {
        assert!(seen.iter().any(|part| check.what.contains(part)), "no case breaks `{}`", check.what);
    }
    for sql in ALLOWED {
        let mut allowed = transaction.transaction().unwrap();
        allowed.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(violated(&mut allowed), Vec::<String>::new(), "{sql}");
        allowed.rollback().unwrap();
    }
}
