//! Our books against the gateway's ledger: every charge is a paid order or a row of the discrepancy ledger, and no order
//! is paid without a charge.

use anyhow::{Context, Result};
use postgres::Transaction;
use serde_json::Value;

use super::Check;
use crate::http::Http;

/// The simulator's ledger, page by page.
pub(super) fn fetch(http: &Http, simulator: &str) -> Result<Vec<Value>> {
    const PAGE: usize = 5_000;
    let mut ledger = Vec::new();
    let mut after = 0;
    loop {
        let url = format!("{simulator}/admin/ledger?limit={PAGE}&after={after}");
        let answer = http.get(&url, None)?;
        let page = answer.data("/transactions").and_then(Value::as_array).filter(|_| answer.status == 200);
        let page = page.with_context(|| format!("{url} answered {} without transactions", answer.status))?;
        ledger.extend_from_slice(page);
        match page.last().and_then(|entry| entry.get("id")).and_then(Value::as_u64) {
            Some(last) if page.len() == PAGE => after = last,
            _ => break,
        }
    }
    println!("     {} transactions in the gateway's ledger", ledger.len());
    Ok(ledger)
}

/// Puts a ledger into the temporary table `gateway`, as far as it existed at the snapshot.
pub(super) fn load(snapshot: &mut Transaction<'_>, entries: &[Value], since: Option<&str>) -> Result<()> {
    snapshot.batch_execute(
        "CREATE TEMP TABLE gateway ON COMMIT DROP AS
           SELECT 0::bigint AS id, ''::text AS key, ''::text AS order_ref, 0::bigint AS amount, ''::text AS status,
                  now() AS requested_at, now() AS settled_at WITH NO DATA;
         CREATE TEMP TABLE audit_since (since timestamptz) ON COMMIT DROP",
    )?;
    snapshot.execute(
        "INSERT INTO gateway
         SELECT x.id, x.\"transactionKey\", x.\"orderId\",
                x.amount, x.status, x.\"requestedAt\", x.\"settledAt\"
         FROM jsonb_to_recordset($1::text::jsonb) AS x(id bigint, \"transactionKey\" text, \"orderId\" text, amount bigint,
              status text, \"requestedAt\" timestamptz, \"settledAt\" timestamptz)
         WHERE x.\"requestedAt\" <= now()",
        &[&serde_json::to_string(entries)?],
    )?;
    snapshot.execute(
        "INSERT INTO audit_since VALUES ($1::text::timestamptz)",
        &[&since.unwrap_or("-infinity")],
    )?;
    Ok(())
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        invariant: "I8",
        what: "every charge is a paid order or a row of the discrepancy ledger",
        // Two ways not to be either yet: the payment is under way, or it is on the watch list and the last look at it
        // was before the charge became visible.
        sql: "SELECT format('%s: %s won charged for order %s, whose payment %s is %s', g.key, g.amount, g.order_ref,
                     coalesce(p.id::text, '(none)'), coalesce(p.status, 'not there'))
              FROM gateway g LEFT JOIN payment p ON p.gateway_order_ref = g.order_ref
              LEFT JOIN payment_check c ON c.payment_id = p.id
              WHERE g.status = 'SUCCESS'
                AND (p.status = 'PAID' AND p.external_payment_key = g.key AND p.paid_amount = g.amount) IS NOT TRUE
                AND (p.status IN ('PENDING', 'IN_PROGRESS')) IS NOT TRUE
                AND NOT EXISTS (SELECT FROM discrepancy d
                                WHERE d.payment_id = p.id AND d.external_payment_key = g.key)
                AND (c.due_at IS NOT NULL AND g.settled_at > p.updated_at + interval '2 minutes' + coalesce(
                      (ARRAY['1 min', '5 min', '30 min', '2 h', '24 h']::interval[])[c.watch_step],
                      '-100 years')) IS NOT TRUE",
    },
    Check {
        invariant: "I8",
        what: "every payment by card that is PAID was charged, by key, order and amount",
        sql: "SELECT format('payment %s of order %s: %s won by key %s, not charged', p.id, p.order_id, p.paid_amount,
                     p.external_payment_key)
              FROM payment p, audit_since s
              WHERE p.status = 'PAID' AND p.paid_amount > 0 AND p.created_at >= s.since
                AND NOT EXISTS (SELECT FROM gateway g
                                WHERE g.key = p.external_payment_key AND g.order_ref = p.gateway_order_ref
                                  AND g.amount = p.paid_amount AND g.status = 'SUCCESS')",
    },
    Check {
        invariant: "I2",
        what: "won charged = won of paid orders + of ledger rows + under way",
        sql: "SELECT format('charged %s, paid orders %s, ledger rows %s, under way or watched %s',
                     charged, paid, in_ledger, waiting)
              FROM (
                SELECT coalesce(sum(amount), 0) AS charged,
                       coalesce(sum(amount) FILTER (WHERE place = 'ledger'), 0) AS in_ledger,
                       coalesce(sum(amount) FILTER (WHERE place = 'waiting'), 0) AS waiting
                FROM (SELECT g.amount, CASE
                        WHEN p.status = 'PAID' AND p.external_payment_key = g.key THEN 'paid'
                        WHEN EXISTS (SELECT FROM discrepancy d
                                     WHERE d.payment_id = p.id AND d.external_payment_key = g.key) THEN 'ledger'
                        WHEN p.status IN ('PENDING', 'IN_PROGRESS') OR c.due_at IS NOT NULL THEN 'waiting'
                        ELSE 'nowhere' END AS place
                      FROM gateway g LEFT JOIN payment p ON p.gateway_order_ref = g.order_ref
                      LEFT JOIN payment_check c ON c.payment_id = p.id
                      WHERE g.status = 'SUCCESS') charge) gateway_side,
                (SELECT coalesce(sum(paid_amount), 0) AS paid
                 FROM payment p, audit_since s WHERE status = 'PAID' AND p.created_at >= s.since) our_side
              WHERE charged <> paid + in_ledger + waiting",
    },
    Check {
        invariant: "I8",
        what: "nothing was charged before its order was there",
        sql: "SELECT format('%s for order %s: requested %s, payment made %s', g.key, g.order_ref, g.requested_at, p.created_at)
              FROM gateway g JOIN payment p ON p.gateway_order_ref = g.order_ref
              WHERE g.requested_at < p.created_at - interval '1 second'",
    },
    Check {
        invariant: "I6",
        what: "nothing was asked for after its send deadline",
        // Both times come from this machine; a second is left for the way and the clocks.
        sql: "SELECT format('%s for order %s: requested %s, send deadline %s', g.key, g.order_ref, g.requested_at,
                     p.send_deadline)
              FROM gateway g JOIN payment p ON p.gateway_order_ref = g.order_ref
              WHERE g.requested_at > p.send_deadline + interval '1 second'",
    },
];
