//! Payments, their history, and the discrepancy ledger.

use crate::cached::cached;
use crate::error::{Failure, corrupt};
use crate::listener::ORDER_CHANNEL;
use crate::rows::{PaymentRow, clip};
use crate::schema::{discrepancy, payment};
use diesel::dsl::now;
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use diesel::{ExpressionMethods, Insertable, OptionalExtension, QueryDsl, SelectableHelper, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{DiscrepancyStatus, NewDiscrepancy, NewPayment, PaymentEvent, PaymentRecord, Versioned};
use domain::{
    DiscrepancyId, FailureMessage, GatewayKey, IssuedCouponId, Payment, PaymentId, PaymentState, Timestamp,
};
use futures_util::try_join;
use std::collections::BTreeSet;

/// Characters of the columns.
const REASON_MAX: usize = 500;
const EVIDENCE_MAX: usize = 500;

#[derive(Insertable)]
#[diesel(table_name = payment)]
struct NewPaymentRow<'a> {
    id: i64,
    order_id: i64,
    user_id: i64,
    status: &'static str,
    total_amount: i64,
    used_point: i64,
    coupon_discount: i64,
    paid_amount: i64,
    issued_coupon_id: Option<i64>,
    card_type: Option<&'static str>,
    card_no: Option<&'a str>,
    merchant_id: &'a str,
    external_payment_key: Option<&'a str>,
    failure_message: Option<&'a str>,
    callback_token_hash: Option<&'a [u8]>,
    send_deadline: Timestamp,
}

pub(crate) async fn insert_payment(
    connection: &AsyncPgConnection,
    new: &NewPayment,
    history: &[PaymentEvent],
    moment: Timestamp,
) -> Result<(), Failure> {
    let payment = &new.payment;
    let amounts = payment.amounts();
    let send_deadline = time::Duration::try_from(new.send_within)
        .ok()
        .and_then(|within| moment.checked_add(within))
        .ok_or_else(|| Failure::other("send_within is too long"))?;
    let row = NewPaymentRow {
        id: payment.id().get(),
        order_id: payment.order_id().get(),
        user_id: payment.user_id().get(),
        status: payment.status().as_str(),
        total_amount: amounts.total().won(),
        used_point: amounts.used_point().won(),
        coupon_discount: amounts.coupon_discount().won(),
        paid_amount: amounts.paid_amount().won(),
        issued_coupon_id: new.issued_coupon_id.map(IssuedCouponId::get),
        card_type: new.card.as_ref().map(|card| card.card_type.as_str()),
        card_no: new.card.as_ref().map(|card| card.masked.as_str()),
        merchant_id: new.merchant.as_str(),
        external_payment_key: payment.key().map(GatewayKey::as_str),
        failure_message: failure_message(payment),
        callback_token_hash: new.callback_token_hash.as_ref().map(<[u8; 32]>::as_slice),
        send_deadline,
    };
    let mut inserting = connection;
    let insert = diesel::insert_into(payment::table).values(row).execute(&mut inserting);
    try_join!(async { Ok(insert.await?) }, add_history(connection, payment.id(), history))?;
    Ok(())
}

fn failure_message(payment: &Payment) -> Option<&str> {
    match payment.state() {
        PaymentState::Failed { message, .. } => message.as_ref().map(FailureMessage::as_str),
        PaymentState::Pending | PaymentState::InProgress { .. } | PaymentState::Paid { .. } => None,
    }
}

async fn add_history(
    mut connection: &AsyncPgConnection,
    id: PaymentId,
    history: &[PaymentEvent],
) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO payment_event \
            (payment_id, from_status, to_status, cause, reason, external_payment_key) \
        SELECT $1, e.from_status, e.to_status, e.cause, e.reason, e.key \
        FROM unnest($2, $3, $4, $5, $6) WITH ORDINALITY AS e (from_status, to_status, cause, reason, key, at) \
        ORDER BY e.at";
    if history.is_empty() {
        return Ok(());
    }
    let from: Vec<Option<&str>> = history.iter().map(|event| event.from.map(|s| s.as_str())).collect();
    let to: Vec<&str> = history.iter().map(|event| event.to.as_str()).collect();
    let causes: Vec<&str> = history.iter().map(|event| event.cause.as_str()).collect();
    let reasons: Vec<Option<String>> =
        history.iter().map(|event| event.reason.as_deref().map(|text| clip(text, REASON_MAX))).collect();
    let keys: Vec<Option<&str>> =
        history.iter().map(|event| event.key.as_ref().map(GatewayKey::as_str)).collect();
    cached(
        sql_query(SQL)
            .bind::<BigInt, _>(id.get())
            .bind::<Array<Nullable<Text>>, _>(from)
            .bind::<Array<Text>, _>(to)
            .bind::<Array<Text>, _>(causes)
            .bind::<Array<Nullable<Text>>, _>(reasons)
            .bind::<Array<Nullable<Text>>, _>(keys),
    )
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// `FOR NO KEY UPDATE`: others may still add rows that refer to the payment (a callback), but not change it.
pub(crate) async fn lock_payment(
    mut connection: &AsyncPgConnection,
    id: PaymentId,
) -> Result<Option<PaymentRecord>, Failure> {
    let row: Option<PaymentRow> = payment::table
        .find(id.get())
        .select(PaymentRow::as_select())
        .for_no_key_update()
        .first(&mut connection)
        .await
        .optional()?;
    Ok(row.map(PaymentRecord::try_from).transpose()?)
}

/// When the payment ends, those who wait for its order are told at commit ([`PgListener`](crate::PgListener)). Only
/// then: notifying transactions of a whole cluster commit one after the other, and nobody waits for another change.
pub(crate) async fn save_payment(
    connection: &AsyncPgConnection,
    payment: &Versioned<Payment>,
    history: &[PaymentEvent],
) -> Result<(), Failure> {
    let value = &payment.value;
    let mut saving = connection;
    let save = diesel::update(
        payment::table.filter(payment::id.eq(value.id().get())).filter(payment::version.eq(payment.version)),
    )
    .set((
        payment::status.eq(value.status().as_str()),
        payment::external_payment_key.eq(value.key().map(GatewayKey::as_str)),
        payment::failure_message.eq(failure_message(value)),
        payment::version.eq(payment::version + 1),
        payment::updated_at.eq(now),
    ))
    .execute(&mut saving);
    let (changed, (), ()) = try_join!(
        async { Ok::<_, Failure>(save.await?) },
        add_history(connection, value.id(), history),
        notify_end(connection, value),
    )?;
    if changed == 1 { Ok(()) } else { Err(Failure::conflict("version of payment")) }
}

async fn notify_end(mut connection: &AsyncPgConnection, payment: &Payment) -> Result<(), Failure> {
    if payment.status().is_terminal() {
        cached(
            sql_query("SELECT pg_notify($1, $2)")
                .bind::<Text, _>(ORDER_CHANNEL)
                .bind::<Text, _>(payment.order_id().to_string()),
        )
        .execute(&mut connection)
        .await?;
    }
    Ok(())
}

pub(crate) async fn keys_owned_elsewhere(
    mut connection: &AsyncPgConnection,
    payment_id: PaymentId,
    keys: &[GatewayKey],
) -> Result<BTreeSet<GatewayKey>, Failure> {
    let keys: Vec<&str> = keys.iter().map(GatewayKey::as_str).collect();
    let found: Vec<(i64, Option<String>)> = payment::table
        .filter(payment::external_payment_key.eq_any(keys))
        .filter(payment::id.ne(payment_id.get()))
        .select((payment::id, payment::external_payment_key))
        .load(&mut connection)
        .await?;
    let keys = found.into_iter().filter_map(|(id, key)| key.map(|key| (id, key)));
    Ok(keys
        .map(|(id, key)| GatewayKey::new(key).map_err(|error| corrupt("payment", id, error)))
        .collect::<Result<_, _>>()?)
}

pub(crate) async fn find_payment_by_token_hash(
    mut connection: &AsyncPgConnection,
    hash: &[u8; 32],
) -> Result<Option<PaymentId>, Failure> {
    let id: Option<i64> = payment::table
        .filter(payment::callback_token_hash.eq(hash.as_slice()))
        .select(payment::id)
        .first(&mut connection)
        .await
        .optional()?;
    Ok(id.map(|id| PaymentId::new(id).map_err(|error| corrupt("payment", id, error))).transpose()?)
}

pub(crate) async fn record_discrepancy(
    mut connection: &AsyncPgConnection,
    row: &NewDiscrepancy,
) -> Result<Option<DiscrepancyId>, Failure> {
    let found = &row.discrepancy;
    let id: Option<i64> = diesel::insert_into(discrepancy::table)
        .values((
            discrepancy::payment_id.eq(row.payment_id.get()),
            discrepancy::kind.eq(found.kind.as_str()),
            discrepancy::fact.eq(found.fact()),
            discrepancy::external_payment_key.eq(found.key.as_ref().map(GatewayKey::as_str)),
            discrepancy::amount.eq(found.amount.map(|amount| amount.won())),
            discrepancy::evidence.eq(clip(&found.evidence, EVIDENCE_MAX)),
        ))
        .on_conflict((discrepancy::payment_id, discrepancy::fact))
        .do_nothing()
        .returning(discrepancy::id)
        .get_result(&mut connection)
        .await
        .optional()?;
    Ok(id.map(|id| DiscrepancyId::new(id).map_err(|error| corrupt("discrepancy", id, error))).transpose()?)
}

pub(crate) async fn resolve_discrepancy(
    mut connection: &AsyncPgConnection,
    id: DiscrepancyId,
    resolution: &str,
    note: &str,
    actor: &str,
) -> Result<Option<bool>, Failure> {
    let changed = diesel::update(
        discrepancy::table
            .filter(discrepancy::id.eq(id.get()))
            .filter(discrepancy::status.eq(DiscrepancyStatus::Open.as_str())),
    )
    .set((
        discrepancy::status.eq(DiscrepancyStatus::Resolved.as_str()),
        discrepancy::resolution.eq(resolution),
        discrepancy::note.eq(note),
        discrepancy::resolved_by.eq(actor),
        discrepancy::resolved_at.eq(now),
    ))
    .execute(&mut connection)
    .await?;
    if changed == 1 {
        return Ok(Some(true));
    }
    let known: Option<i64> =
        discrepancy::table.find(id.get()).select(discrepancy::id).first(&mut connection).await.optional()?;
    Ok(known.map(|_| false))
}
