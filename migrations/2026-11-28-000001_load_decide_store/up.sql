-- Orders and payments in batches: what each payment is called at the gateway, and one queue of checks with one index.

-- Names this database among all that use the same gateway: a restored copy is the same installation, a new database another.
CREATE TABLE installation (
    id VARCHAR(16) PRIMARY KEY CHECK (id ~ '^[a-z0-9]+$'),
    made_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX idx_installation_one_row ON installation ((true));
-- Random digits and letters only: the fixed ones of a version 4 UUID come later in it.
INSERT INTO installation (id) VALUES (left(gen_random_uuid()::text, 8));
CREATE TRIGGER installation_kept BEFORE UPDATE OR DELETE ON installation FOR EACH ROW
    EXECUTE FUNCTION refuse_change();

-- What the gateway calls the order. Payments from before keep what they were requested by: the order's number, in at
-- least six digits. Set by a rewrite of the table, which the trigger that guards ended payments does not see.
ALTER TABLE payment ADD COLUMN gateway_order_ref VARCHAR(64);
ALTER TABLE payment ALTER COLUMN gateway_order_ref TYPE VARCHAR(64)
    USING lpad(order_id::text, greatest(6, length(order_id::text)), '0');
ALTER TABLE payment ALTER COLUMN gateway_order_ref SET NOT NULL;

-- Whoever looks for payments that have not ended finds them by their checks: without an index that names the status or
-- the moment of the last change, most changes of a payment stay on their page.
DROP INDEX idx_payment_status_updated_at;

-- One moment says when a payment is looked at next, and one index finds it. From now on every payment with something on
-- the card has a row, and a due_at of NULL means never.
DROP INDEX idx_payment_check_due_at, idx_payment_check_woken_at, idx_payment_check_leased_until;
INSERT INTO payment_check (payment_id) SELECT id FROM payment WHERE paid_amount > 0 ON CONFLICT DO NOTHING;
UPDATE payment_check c
    SET due_at = CASE WHEN p.status IN ('PENDING', 'IN_PROGRESS') THEN p.updated_at + interval '1 minute' END
    FROM payment p WHERE p.id = c.payment_id AND (c.due_at IS NULL OR c.due_at = 'infinity');
ALTER TABLE payment_check DROP COLUMN scheduled;
ALTER TABLE payment_check ADD COLUMN next_at TIMESTAMPTZ GENERATED ALWAYS AS (CASE
        WHEN parked_at IS NOT NULL THEN NULL
        WHEN leased_until IS NOT NULL THEN leased_until
        ELSE least(woken_at, due_at)
    END) STORED;
CREATE INDEX idx_payment_check_next_at ON payment_check (next_at) WHERE next_at IS NOT NULL;
-- The few that wait for a person.
CREATE INDEX idx_payment_check_parked_at ON payment_check (parked_at) WHERE parked_at IS NOT NULL;
-- Claims bring their number with them.
DROP SEQUENCE payment_check_lease_seq;

-- Room for what a row is changed by in its life: two changes of a payment out of three stay on their page, whatever the
-- batch's size. A check row's changes never do (each moves next_at), so that it needs no room.
ALTER TABLE payment SET (fillfactor = 50);
ALTER TABLE orders SET (fillfactor = 60);
ALTER TABLE payment_check SET (fillfactor = 100);
