//! The tables of `migrations/`, as diesel's query builder sees them. Columns that no statement names are left out.

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! {
    product (id) {
        id -> BigInt,
        name -> Text,
        price -> BigInt,
    }
}

table! {
    stock (product_id) {
        product_id -> BigInt,
        quantity -> BigInt,
        updated_at -> Timestamptz,
    }
}

table! {
    coupon (id) {
        id -> BigInt,
        name -> Text,
        discount_type -> Text,
        discount_value -> BigInt,
        valid_until -> Nullable<Timestamptz>,
    }
}

table! {
    issued_coupon (id) {
        id -> BigInt,
        coupon_id -> BigInt,
        user_id -> BigInt,
        status -> Text,
        used_at -> Nullable<Timestamptz>,
        version -> BigInt,
    }
}

table! {
    point_account (user_id) {
        user_id -> BigInt,
        balance -> BigInt,
        updated_at -> Timestamptz,
    }
}

table! {
    orders (id) {
        id -> BigInt,
        user_id -> BigInt,
        status -> Text,
        total_amount -> BigInt,
        version -> BigInt,
        placed_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    order_item (order_id, product_id) {
        order_id -> BigInt,
        product_id -> BigInt,
        product_name -> Text,
        unit_price -> BigInt,
        quantity -> Integer,
    }
}

table! {
    payment (id) {
        id -> BigInt,
        order_id -> BigInt,
        user_id -> BigInt,
        status -> Text,
        total_amount -> BigInt,
        used_point -> BigInt,
        coupon_discount -> BigInt,
        paid_amount -> BigInt,
        issued_coupon_id -> Nullable<BigInt>,
        card_type -> Nullable<Text>,
        card_no -> Nullable<Text>,
        merchant_id -> Text,
        gateway_order_ref -> Text,
        external_payment_key -> Nullable<Text>,
        failure_message -> Nullable<Text>,
        send_deadline -> Timestamptz,
        version -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    payment_event (id) {
        id -> BigInt,
        payment_id -> BigInt,
        from_status -> Nullable<Text>,
        to_status -> Text,
        cause -> Text,
        reason -> Nullable<Text>,
        external_payment_key -> Nullable<Text>,
        created_at -> Timestamptz,
    }
}

table! {
    payment_check (payment_id) {
        payment_id -> BigInt,
        due_at -> Nullable<Timestamptz>,
        lease_id -> Nullable<BigInt>,
        leased_until -> Nullable<Timestamptz>,
        claimed_at -> Nullable<Timestamptz>,
        woken_at -> Nullable<Timestamptz>,
        failures -> Integer,
        parked_at -> Nullable<Timestamptz>,
        transaction_seen -> Bool,
        not_found_count -> Integer,
        not_found_at -> Nullable<Timestamptz>,
        watch_wanted -> Bool,
        watch_step -> Integer,
    }
}

table! {
    discrepancy (id) {
        id -> BigInt,
        payment_id -> BigInt,
        kind -> Text,
        fact -> Text,
        status -> Text,
        external_payment_key -> Nullable<Text>,
        amount -> Nullable<BigInt>,
        evidence -> Text,
        found_at -> Timestamptz,
        resolution -> Nullable<Text>,
        note -> Nullable<Text>,
        resolved_by -> Nullable<Text>,
        resolved_at -> Nullable<Timestamptz>,
    }
}

table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

joinable!(stock -> product (product_id));
joinable!(issued_coupon -> coupon (coupon_id));
joinable!(payment -> orders (order_id));
joinable!(discrepancy -> payment (payment_id));
allow_tables_to_appear_in_same_query!(product, stock);
allow_tables_to_appear_in_same_query!(
    orders,
    order_item,
    payment,
    payment_check,
    discrepancy,
    coupon,
    issued_coupon
);
