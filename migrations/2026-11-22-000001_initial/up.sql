-- The whole schema of Holdfast. Rules that money depends on stand here as constraints too: a defect in the program then
-- fails loudly instead of storing a wrong amount.

CREATE SEQUENCE product_id_seq;
CREATE TABLE product (
    id BIGINT PRIMARY KEY DEFAULT nextval('product_id_seq'),
    name VARCHAR(200) NOT NULL,
    price BIGINT NOT NULL CHECK (price >= 0 AND price < 9007199254740992),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
ALTER SEQUENCE product_id_seq OWNED BY product.id;

-- Apart from the product, so that the hot row is small and its updates stay on its page.
CREATE TABLE stock (
    product_id BIGINT PRIMARY KEY REFERENCES product (id),
    quantity BIGINT NOT NULL CHECK (quantity >= 0 AND quantity < 9007199254740992),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE SEQUENCE coupon_id_seq;
CREATE TABLE coupon (
    id BIGINT PRIMARY KEY DEFAULT nextval('coupon_id_seq'),
    name VARCHAR(200) NOT NULL,
    discount_type VARCHAR(10) NOT NULL CHECK (discount_type IN ('FIXED', 'RATE')),
    discount_value BIGINT NOT NULL CHECK (discount_value > 0 AND discount_value < 9007199254740992),
    valid_until TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT coupon_rate_at_most_100 CHECK (discount_type <> 'RATE' OR discount_value <= 100)
);
ALTER SEQUENCE coupon_id_seq OWNED BY coupon.id;

CREATE SEQUENCE issued_coupon_id_seq;
CREATE TABLE issued_coupon (
    id BIGINT PRIMARY KEY DEFAULT nextval('issued_coupon_id_seq'),
    coupon_id BIGINT NOT NULL REFERENCES coupon (id),
    user_id BIGINT NOT NULL,
    status VARCHAR(10) NOT NULL DEFAULT 'AVAILABLE' CHECK (status IN ('AVAILABLE', 'USED')),
    used_at TIMESTAMPTZ,
    version BIGINT NOT NULL DEFAULT 0,
    issued_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT issued_coupon_once_per_user UNIQUE (user_id, coupon_id),
    CONSTRAINT issued_coupon_used_at CHECK ((status = 'USED') = (used_at IS NOT NULL))
) WITH (fillfactor = 80);
ALTER SEQUENCE issued_coupon_id_seq OWNED BY issued_coupon.id;

CREATE TABLE point_account (
    user_id BIGINT PRIMARY KEY,
    balance BIGINT NOT NULL DEFAULT 0 CHECK (balance >= 0 AND balance < 9007199254740992),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- From 100001 on: the gateway wants an order id of at least six characters, and gets this number.
CREATE SEQUENCE orders_id_seq START WITH 100001;
CREATE TABLE orders (
    id BIGINT PRIMARY KEY DEFAULT nextval('orders_id_seq'),
    user_id BIGINT NOT NULL CHECK (user_id > 0),
    status VARCHAR(10) NOT NULL CHECK (status IN ('PLACED', 'PAID', 'CANCELLED')),
    total_amount BIGINT NOT NULL CHECK (total_amount > 0 AND total_amount < 9007199254740992),
    version BIGINT NOT NULL DEFAULT 0,
    placed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
ALTER SEQUENCE orders_id_seq OWNED BY orders.id;
CREATE INDEX idx_orders_user_id ON orders (user_id, id DESC);

CREATE TABLE order_item (
    order_id BIGINT NOT NULL REFERENCES orders (id),
    product_id BIGINT NOT NULL REFERENCES product (id),
    product_name VARCHAR(200) NOT NULL,
    unit_price BIGINT NOT NULL CHECK (unit_price >= 0),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id),
    CONSTRAINT order_item_amount CHECK (unit_price * quantity < 9007199254740992)
);

CREATE SEQUENCE payment_id_seq;
CREATE TABLE payment (
    id BIGINT PRIMARY KEY DEFAULT nextval('payment_id_seq'),
    -- Checked at commit: order and payment are inserted in one round trip, in either order.
    order_id BIGINT NOT NULL UNIQUE REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED,
    user_id BIGINT NOT NULL,
    status VARCHAR(15) NOT NULL CHECK (status IN ('PENDING', 'IN_PROGRESS', 'PAID', 'FAILED')),
    total_amount BIGINT NOT NULL CHECK (total_amount > 0),
    used_point BIGINT NOT NULL CHECK (used_point >= 0),
    coupon_discount BIGINT NOT NULL CHECK (coupon_discount >= 0),
    paid_amount BIGINT NOT NULL CHECK (paid_amount >= 0),
    issued_coupon_id BIGINT REFERENCES issued_coupon (id),
    card_type VARCHAR(10) CHECK (card_type IN ('SAMSUNG', 'KB', 'HYUNDAI')),
    -- Masked already: 1234-****-****-1451. The full number is nowhere in this database.
    card_no VARCHAR(19) CHECK (card_no LIKE '____-****-****-____'),
    merchant_id VARCHAR(100) NOT NULL,
    external_payment_key VARCHAR(100),
    failure_message VARCHAR(500),
    callback_token_hash BYTEA CHECK (octet_length(callback_token_hash) = 32),
    send_deadline TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT payment_amounts_add_up CHECK (used_point + paid_amount + coupon_discount = total_amount),
    CONSTRAINT payment_card_when_on_card CHECK (paid_amount = 0 OR (card_type IS NOT NULL AND card_no IS NOT NULL)),
    CONSTRAINT payment_key_when_paid_by_card
        CHECK (status <> 'PAID' OR paid_amount = 0 OR external_payment_key IS NOT NULL),
    CONSTRAINT payment_pending_has_no_key CHECK (status <> 'PENDING' OR external_payment_key IS NULL),
    CONSTRAINT payment_failure_message_when_failed CHECK (failure_message IS NULL OR status = 'FAILED')
) WITH (fillfactor = 70);
ALTER SEQUENCE payment_id_seq OWNED BY payment.id;
CREATE INDEX idx_payment_status_updated_at ON payment (status, updated_at);
CREATE UNIQUE INDEX idx_payment_external_payment_key ON payment (external_payment_key)
    WHERE external_payment_key IS NOT NULL;
CREATE UNIQUE INDEX idx_payment_callback_token_hash ON payment (callback_token_hash)
    WHERE callback_token_hash IS NOT NULL;

-- The history of each payment. Rows are only added.
CREATE TABLE payment_event (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id BIGINT NOT NULL REFERENCES payment (id),
    from_status VARCHAR(15),
    to_status VARCHAR(15) NOT NULL,
    cause VARCHAR(10) NOT NULL CHECK (cause IN ('api', 'callback', 'reconciler', 'operator')),
    reason VARCHAR(500),
    external_payment_key VARCHAR(100),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX idx_payment_event_payment_id ON payment_event (payment_id, id);

-- Every movement of stock. The unique index makes a second restore for the same payment impossible.
CREATE TABLE stock_ledger (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id BIGINT NOT NULL REFERENCES product (id),
    payment_id BIGINT,
    kind VARCHAR(10) NOT NULL CHECK (kind IN ('INITIAL', 'SET', 'RESERVE', 'RESTORE')),
    -- What the stock changed by: below zero when pieces went out.
    delta BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT stock_ledger_payment CHECK ((kind IN ('RESERVE', 'RESTORE')) = (payment_id IS NOT NULL)),
    CONSTRAINT stock_ledger_sign CHECK ((kind <> 'RESERVE' OR delta < 0) AND (kind <> 'RESTORE' OR delta > 0))
);
CREATE UNIQUE INDEX idx_stock_ledger_once ON stock_ledger (payment_id, product_id, kind) WHERE payment_id IS NOT NULL;
CREATE INDEX idx_stock_ledger_product_id ON stock_ledger (product_id);

CREATE TABLE point_ledger (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES point_account (user_id),
    payment_id BIGINT,
    kind VARCHAR(10) NOT NULL CHECK (kind IN ('CHARGE', 'DEDUCT', 'RESTORE')),
    delta BIGINT NOT NULL,
    balance_after BIGINT NOT NULL CHECK (balance_after >= 0),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT point_ledger_payment CHECK ((kind <> 'CHARGE') = (payment_id IS NOT NULL)),
    CONSTRAINT point_ledger_sign CHECK ((kind = 'DEDUCT') = (delta < 0) AND delta <> 0)
);
CREATE UNIQUE INDEX idx_point_ledger_once ON point_ledger (payment_id, kind) WHERE payment_id IS NOT NULL;
CREATE INDEX idx_point_ledger_user_id ON point_ledger (user_id);

CREATE TABLE coupon_ledger (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issued_coupon_id BIGINT NOT NULL REFERENCES issued_coupon (id),
    payment_id BIGINT NOT NULL,
    kind VARCHAR(10) NOT NULL CHECK (kind IN ('USE', 'CANCEL_USE')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX idx_coupon_ledger_once ON coupon_ledger (payment_id, issued_coupon_id, kind);

-- When a payment is looked at next, and by whom: the reconciler's queue before its end, the watch list after it.
CREATE SEQUENCE payment_check_lease_seq;
CREATE TABLE payment_check (
    payment_id BIGINT PRIMARY KEY REFERENCES payment (id),
    -- The next look. None (or no row): an unsettled payment is due by its age alone, an ended one is not watched.
    -- 'infinity': never, unless it is woken.
    due_at TIMESTAMPTZ,
    -- The claim under way, whether its time had come when it was made, and until when nobody else makes one. If nobody
    -- has ended it by then, the payment is due again.
    lease_id BIGINT,
    scheduled BOOLEAN NOT NULL DEFAULT FALSE,
    leased_until TIMESTAMPTZ,
    claimed_at TIMESTAMPTZ,
    -- Somebody wants a look at once, and no claim has been made since.
    woken_at TIMESTAMPTZ,
    failures INTEGER NOT NULL DEFAULT 0,
    parked_at TIMESTAMPTZ,
    transaction_seen BOOLEAN NOT NULL DEFAULT FALSE,
    not_found_count INTEGER NOT NULL DEFAULT 0,
    not_found_at TIMESTAMPTZ,
    watch_wanted BOOLEAN NOT NULL DEFAULT FALSE,
    watch_step INTEGER NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX idx_payment_check_due_at ON payment_check (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX idx_payment_check_woken_at ON payment_check (woken_at) WHERE woken_at IS NOT NULL;
CREATE INDEX idx_payment_check_leased_until ON payment_check (leased_until) WHERE leased_until IS NOT NULL;

-- What callbacks named, written down before anything is asked. Never a card number.
CREATE TABLE callback_inbox (
    payment_id BIGINT NOT NULL REFERENCES payment (id),
    external_payment_key VARCHAR(100) NOT NULL,
    times BIGINT NOT NULL DEFAULT 1,
    received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- The claim that bears it; none again when the callback comes again.
    lease_id BIGINT,
    looked_up_at TIMESTAMPTZ,
    PRIMARY KEY (payment_id, external_payment_key)
);

-- What a person must settle with the gateway. Rows are never deleted; one fact makes one row.
CREATE TABLE discrepancy (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id BIGINT NOT NULL REFERENCES payment (id),
    kind VARCHAR(20) NOT NULL,
    fact VARCHAR(130) NOT NULL,
    status VARCHAR(10) NOT NULL DEFAULT 'OPEN' CHECK (status IN ('OPEN', 'RESOLVED')),
    external_payment_key VARCHAR(100),
    amount BIGINT,
    evidence VARCHAR(500) NOT NULL,
    found_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    resolution VARCHAR(100),
    note VARCHAR(1000),
    resolved_by VARCHAR(100),
    resolved_at TIMESTAMPTZ,
    CONSTRAINT discrepancy_one_fact_one_row UNIQUE (payment_id, fact),
    CONSTRAINT discrepancy_resolved CHECK ((status = 'RESOLVED') = (resolved_at IS NOT NULL AND resolution IS NOT NULL))
);
CREATE INDEX idx_discrepancy_status ON discrepancy (status, id);

CREATE TABLE idempotency_key (
    user_id BIGINT NOT NULL,
    key VARCHAR(255) NOT NULL,
    fingerprint BYTEA NOT NULL CHECK (octet_length(fingerprint) = 32),
    order_id BIGINT NOT NULL,
    answer_status SMALLINT,
    answer_body TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idx_idempotency_key_expires_at ON idempotency_key (expires_at);

-- States that never leave, and histories that are only added to (spec 04, I10 and I15).
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is not allowed', TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION keep_terminal_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% % is % for good', TG_TABLE_NAME, OLD.id, OLD.status
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER payment_terminal BEFORE UPDATE ON payment FOR EACH ROW
    WHEN (OLD.status IN ('PAID', 'FAILED')) EXECUTE FUNCTION keep_terminal_state();
CREATE TRIGGER orders_terminal BEFORE UPDATE ON orders FOR EACH ROW
    WHEN (OLD.status IN ('PAID', 'CANCELLED')) EXECUTE FUNCTION keep_terminal_state();
CREATE TRIGGER payment_event_append_only BEFORE UPDATE OR DELETE ON payment_event FOR EACH ROW
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER stock_ledger_append_only BEFORE UPDATE OR DELETE ON stock_ledger FOR EACH ROW
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER point_ledger_append_only BEFORE UPDATE OR DELETE ON point_ledger FOR EACH ROW
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER coupon_ledger_append_only BEFORE UPDATE OR DELETE ON coupon_ledger FOR EACH ROW
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER discrepancy_never_deleted BEFORE DELETE ON discrepancy FOR EACH ROW
    EXECUTE FUNCTION refuse_change();
