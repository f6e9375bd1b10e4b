DROP TABLE idempotency_key, discrepancy, callback_inbox, payment_check, coupon_ledger, point_ledger, stock_ledger,
    payment_event, payment, order_item, orders, point_account, issued_coupon, coupon, stock, product;
DROP SEQUENCE payment_check_lease_seq;
DROP FUNCTION refuse_change();
DROP FUNCTION keep_terminal_state();
