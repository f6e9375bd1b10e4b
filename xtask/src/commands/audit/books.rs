//! Our own books: amounts, stock, points, coupons, states and histories agree with each other.

use super::Check;

/// By invariant.
pub(super) const CHECKS: &[Check] = &[
    Check {
        invariant: "I1",
        what: "an order's total is the sum of its lines",
        sql: "SELECT format('order %s: total %s, lines %s', o.id, o.total_amount, sum(i.unit_price * i.quantity))
              FROM orders o LEFT JOIN order_item i ON i.order_id = o.id
              GROUP BY o.id HAVING o.total_amount IS DISTINCT FROM sum(i.unit_price * i.quantity)",
    },
    Check {
        invariant: "I1",
        what: "points + coupon + card = total, none below 0",
        sql: "SELECT format('payment %s: %s + %s + %s, total %s', p.id, p.used_point, p.coupon_discount, p.paid_amount,
                     o.total_amount)
              FROM payment p JOIN orders o ON o.id = p.order_id
              WHERE p.used_point + p.coupon_discount + p.paid_amount <> p.total_amount
                 OR p.total_amount <> o.total_amount OR p.user_id <> o.user_id
                 OR least(p.used_point, p.coupon_discount, p.paid_amount) < 0",
    },
    Check {
        invariant: "I1",
        what: "a discount is what the buyer's own coupon gives",
        sql: "SELECT format('payment %s: discount %s by issued coupon %s', p.id, p.coupon_discount, p.issued_coupon_id)
              FROM payment p LEFT JOIN issued_coupon i ON i.id = p.issued_coupon_id LEFT JOIN coupon c ON c.id = i.coupon_id
              WHERE p.coupon_discount <> CASE
                      WHEN c.id IS NULL THEN 0
                      WHEN c.discount_type = 'FIXED' THEN least(c.discount_value, p.total_amount)
                      ELSE least((p.total_amount::numeric * c.discount_value + 50)::bigint / 100, p.total_amount) END
                 OR i.user_id <> p.user_id",
    },
    Check {
        invariant: "I3",
        what: "stock is the sum of its movements, beginning with the first",
        sql: "SELECT format('product %s: stock %s, movements %s', s.product_id, s.quantity, sum(l.delta))
              FROM stock s LEFT JOIN stock_ledger l ON l.product_id = s.product_id
              GROUP BY s.product_id
              HAVING s.quantity IS DISTINCT FROM sum(l.delta) OR count(*) FILTER (WHERE l.kind = 'INITIAL') <> 1",
    },
    Check {
        invariant: "I3",
        what: "every order line was reserved once, and nothing else was",
        sql: "SELECT format('payment %s, product %s: ordered %s, reserved %s', coalesce(line.payment_id, l.payment_id),
                     coalesce(line.product_id, l.product_id), line.quantity, -l.delta)
              FROM (SELECT p.id AS payment_id, i.product_id, i.quantity
                    FROM payment p JOIN order_item i ON i.order_id = p.order_id) line
              FULL JOIN (SELECT * FROM stock_ledger WHERE kind = 'RESERVE') l
                     ON l.payment_id = line.payment_id AND l.product_id = line.product_id
              WHERE line.quantity::bigint IS DISTINCT FROM -l.delta",
    },
    Check {
        invariant: "I4",
        what: "stock is given back once when a payment failed, and only then",
        sql: "SELECT format('payment %s (%s), product %s: %s given back, delta %s', p.id, p.status, r.product_id,
                     count(b.id), sum(b.delta))
              FROM stock_ledger r JOIN payment p ON p.id = r.payment_id
              LEFT JOIN stock_ledger b
                     ON b.payment_id = r.payment_id AND b.product_id = r.product_id AND b.kind = 'RESTORE'
              WHERE r.kind = 'RESERVE'
              GROUP BY p.id, r.id
              HAVING count(b.id) <> (p.status = 'FAILED')::int OR coalesce(sum(b.delta), 0) NOT IN (0, -r.delta)
              UNION ALL
              SELECT format('payment %s, product %s: given back without having been reserved', b.payment_id, b.product_id)
              FROM stock_ledger b
              WHERE b.kind = 'RESTORE' AND NOT EXISTS (
                SELECT FROM stock_ledger r
                WHERE r.kind = 'RESERVE' AND r.payment_id = b.payment_id AND r.product_id = b.product_id)",
    },
    Check {
        invariant: "I4",
        what: "points are taken once, and given back once when a payment failed",
        sql: "SELECT format('payment %s (%s): uses %s, taken %s, given back %s', p.id, p.status, p.used_point, l.taken, l.back)
              FROM payment p LEFT JOIN LATERAL (
                SELECT coalesce(-sum(delta) FILTER (WHERE kind = 'DEDUCT'), 0) AS taken,
                       coalesce(sum(delta) FILTER (WHERE kind = 'RESTORE'), 0) AS back,
                       count(*) FILTER (WHERE user_id <> p.user_id) AS foreign_rows
                FROM point_ledger WHERE payment_id = p.id) l ON true
              WHERE l.taken <> p.used_point OR l.foreign_rows > 0
                 OR l.back <> CASE WHEN p.status = 'FAILED' THEN p.used_point ELSE 0 END",
    },
    Check {
        invariant: "I4",
        what: "a coupon is used once, and given back once when a payment failed",
        sql: "SELECT format('payment %s (%s): coupon %s, used %s times, given back %s times', p.id, p.status,
                     p.issued_coupon_id, l.used, l.back)
              FROM payment p LEFT JOIN LATERAL (
                SELECT count(*) FILTER (WHERE kind = 'USE') AS used, count(*) FILTER (WHERE kind = 'CANCEL_USE') AS back,
                       count(*) FILTER (WHERE issued_coupon_id IS DISTINCT FROM p.issued_coupon_id) AS foreign_rows
                FROM coupon_ledger WHERE payment_id = p.id) l ON true
              WHERE l.used <> (p.issued_coupon_id IS NOT NULL)::int OR l.foreign_rows > 0
                 OR l.back <> (p.issued_coupon_id IS NOT NULL AND p.status = 'FAILED')::int",
    },
    Check {
        invariant: "I4",
        what: "a coupon is USED exactly when one payment holds it",
        sql: "SELECT format('issued coupon %s is %s and held by %s payments', i.id, i.status, count(p.id))
              FROM issued_coupon i LEFT JOIN payment p ON p.issued_coupon_id = i.id AND p.status <> 'FAILED'
              GROUP BY i.id HAVING count(p.id) <> (i.status = 'USED')::int",
    },
    Check {
        invariant: "I5",
        what: "points are the sum of their movements, never below 0",
        sql: "SELECT format('user %s: balance %s, movements %s', a.user_id, a.balance, coalesce(sum(l.delta), 0))
              FROM point_account a LEFT JOIN point_ledger l ON l.user_id = a.user_id
              GROUP BY a.user_id HAVING a.balance <> coalesce(sum(l.delta), 0) OR a.balance < 0",
    },
    Check {
        invariant: "I5",
        what: "each movement of points leads to the balance it names",
        sql: "SELECT format('movement %s of user %s: balance %s, movements until then %s', id, user_id, balance_after, running)
              FROM (SELECT id, user_id, balance_after, sum(delta) OVER (PARTITION BY user_id ORDER BY id) AS running
                    FROM point_ledger) l
              WHERE balance_after <> running",
    },
    Check {
        invariant: "I7",
        what: "an order has one payment, a gateway key one owner",
        sql: "SELECT format('order %s has %s payments', o.id, count(p.id))
              FROM orders o LEFT JOIN payment p ON p.order_id = o.id GROUP BY o.id HAVING count(p.id) <> 1
              UNION ALL
              SELECT format('key %s belongs to %s payments', external_payment_key, count(*))
              FROM payment WHERE external_payment_key IS NOT NULL GROUP BY external_payment_key HAVING count(*) > 1",
    },
    Check {
        invariant: "I9",
        what: "no payment is under way for more than 7 minutes, unless parked",
        sql: "SELECT format('payment %s is %s since %s', p.id, p.status, p.created_at)
              FROM payment p LEFT JOIN payment_check c ON c.payment_id = p.id
              WHERE p.status IN ('PENDING', 'IN_PROGRESS') AND p.created_at < now() - interval '7 minutes'
                AND c.parked_at IS NULL",
    },
    Check {
        invariant: "I9",
        what: "nothing that is due waits for more than 2 minutes",
        sql: "SELECT format('payment %s was due at %s', c.payment_id, c.due_at)
              FROM payment_check c
              WHERE c.due_at < now() - interval '2 minutes' AND c.parked_at IS NULL
                AND (c.leased_until IS NULL OR c.leased_until < now())",
    },
    Check {
        invariant: "I10",
        what: "PAID and FAILED never leave",
        sql: "SELECT format('payment %s: event %s leads from %s to %s', payment_id, id, from_status, to_status)
              FROM payment_event WHERE from_status IN ('PAID', 'FAILED') AND to_status <> from_status",
    },
    Check {
        invariant: "I12",
        what: "order and payment agree",
        sql: "SELECT format('order %s is %s, its payment %s is %s', o.id, o.status, p.id, p.status)
              FROM orders o JOIN payment p ON p.order_id = o.id
              WHERE o.status <> CASE p.status WHEN 'PAID' THEN 'PAID' WHEN 'FAILED' THEN 'CANCELLED' ELSE 'PLACED' END",
    },
    Check {
        invariant: "I13",
        what: "an Idempotency-Key names one order of the same buyer",
        sql: "SELECT format('key of user %s names order %s of user %s', k.user_id, k.order_id, o.user_id)
              FROM idempotency_key k LEFT JOIN orders o ON o.id = k.order_id WHERE o.user_id IS DISTINCT FROM k.user_id
              UNION ALL
              SELECT format('order %s is named by %s keys', order_id, count(*))
              FROM idempotency_key GROUP BY order_id HAVING count(*) > 1",
    },
    Check {
        invariant: "I14",
        what: "no full card number in any table",
        sql: r"SELECT format('table %s: a row with %s', t.name, 'dddd-dddd-dddd-dddd')
               FROM pg_class c JOIN LATERAL (SELECT c.relname AS name) t ON true
               WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
                 AND (xpath('/row/c/text()', query_to_xml(format(
                       'SELECT count(*) AS c FROM %s x WHERE x::text ~ %L', c.oid::regclass,
                       '(?<![0-9a-f-])\d{4}-\d{4}-\d{4}-\d{4}(?![0-9a-f-])'), false, true, '')))[1]::text::int > 0",
    },
    Check {
        invariant: "I15",
        what: "a payment's history leads, step by step, to what it is",
        sql: "SELECT format('payment %s is %s with key %s; its history: %s', p.id, p.status, p.external_payment_key, h.steps)
              FROM payment p LEFT JOIN LATERAL (
                SELECT string_agg(coalesce(e.from_status, '-') || '>' || e.to_status, ' ' ORDER BY e.id) AS steps,
                       bool_and(e.from_status IS NOT DISTINCT FROM e.before) AS connected,
                       (array_agg(e.to_status ORDER BY e.id DESC))[1] AS last_status,
                       (array_agg(e.external_payment_key ORDER BY e.id DESC))[1] AS last_key
                FROM (SELECT *, lag(to_status) OVER (ORDER BY id) AS before
                      FROM payment_event WHERE payment_id = p.id) e) h ON true
              WHERE h.connected IS NOT TRUE OR h.last_status <> p.status
                 OR h.last_key IS DISTINCT FROM p.external_payment_key",
    },
    Check {
        invariant: "I15",
        what: "every step of a history is one that exists",
        sql: "SELECT format('payment %s: event %s leads from %s to %s', payment_id, id, from_status, to_status)
              FROM payment_event
              WHERE (coalesce(from_status, '-'), to_status) NOT IN (
                ('-', 'PENDING'), ('PENDING', 'IN_PROGRESS'), ('PENDING', 'FAILED'),
                ('IN_PROGRESS', 'IN_PROGRESS'), ('IN_PROGRESS', 'PAID'), ('IN_PROGRESS', 'FAILED'))",
    },
];
