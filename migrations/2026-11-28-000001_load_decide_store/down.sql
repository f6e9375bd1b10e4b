-- The table is made anew: a column comes back to its old place.
ALTER TABLE payment_check RENAME TO payment_check_after;
ALTER TABLE payment_check_after RENAME CONSTRAINT payment_check_pkey TO payment_check_after_pkey;
ALTER TABLE payment_check_after RENAME CONSTRAINT payment_check_payment_id_fkey TO payment_check_after_payment_id_fkey;
CREATE TABLE payment_check (
    payment_id BIGINT PRIMARY KEY REFERENCES payment (id),
    due_at TIMESTAMPTZ,
    lease_id BIGINT,
    scheduled BOOLEAN NOT NULL DEFAULT FALSE,
    leased_until TIMESTAMPTZ,
    claimed_at TIMESTAMPTZ,
    woken_at TIMESTAMPTZ,
    failures INTEGER NOT NULL DEFAULT 0,
    parked_at TIMESTAMPTZ,
    transaction_seen BOOLEAN NOT NULL DEFAULT FALSE,
    not_found_count INTEGER NOT NULL DEFAULT 0,
    not_found_at TIMESTAMPTZ,
    watch_wanted BOOLEAN NOT NULL DEFAULT FALSE,
    watch_step INTEGER NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
INSERT INTO payment_check
    SELECT c.payment_id,
        CASE WHEN p.status IN ('PENDING', 'IN_PROGRESS') THEN coalesce(c.due_at, 'infinity') ELSE c.due_at END,
        c.lease_id, FALSE, c.leased_until, c.claimed_at, c.woken_at, c.failures, c.parked_at, c.transaction_seen,
        c.not_found_count, c.not_found_at, c.watch_wanted, c.watch_step
    FROM payment_check_after c JOIN payment p ON p.id = c.payment_id;
DROP TABLE payment_check_after;
CREATE INDEX idx_payment_check_due_at ON payment_check (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX idx_payment_check_woken_at ON payment_check (woken_at) WHERE woken_at IS NOT NULL;
CREATE INDEX idx_payment_check_leased_until ON payment_check (leased_until) WHERE leased_until IS NOT NULL;
CREATE SEQUENCE payment_check_lease_seq;
SELECT setval('payment_check_lease_seq', coalesce(max(lease_id), 0) + 1, false) FROM payment_check;

ALTER TABLE orders SET (fillfactor = 80);
ALTER TABLE payment SET (fillfactor = 70);
CREATE INDEX idx_payment_status_updated_at ON payment (status, updated_at);
ALTER TABLE payment DROP COLUMN gateway_order_ref;
DROP TABLE installation;
