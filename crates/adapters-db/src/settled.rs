//! Storing what became of a batch of payments, in one burst.

use crate::coupons::CouponMoves;
use crate::error::Failure;
use crate::keys;
use crate::moves::{Moves, moves};
use crate::placing::failure_message;
use crate::rows::clip;
use crate::statement::{statement, when};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;
use domain::settlement::{Changes, Check, Discrepancy};
use domain::{GatewayKey, PaymentId, Timestamp};
use futures_util::join;

/// Characters of the column.
const EVIDENCE_MAX: usize = 500;

/// Payments in $19 to $24, orders in $25 to $27, check rows in $28 to $40. All rows are locked.
const STORE: &str = concat!(
    "WITH ",
    moves!(),
    ", payments AS (\
        UPDATE payment p SET status = c.status, external_payment_key = c.key, failure_message = c.message, \
            send_deadline = CASE WHEN c.sending_ended THEN least(p.send_deadline, now()) ELSE p.send_deadline END, \
            version = p.version + 1, updated_at = now() \
        FROM unnest($19::bigint[], $20::bigint[], $21::text[], $22::text[], $23::text[], $24::boolean[]) \
            AS c (id, version, status, key, message, sending_ended) \
        WHERE p.id = c.id AND p.version = c.version RETURNING 1), \
    ended AS (\
        UPDATE orders o SET status = c.status, version = o.version + 1, updated_at = now() \
        FROM unnest($25::bigint[], $26::bigint[], $27::text[]) AS c (id, version, status) \
        WHERE o.id = c.id AND o.version = c.version RETURNING 1), \
    checks AS (\
        UPDATE payment_check k SET due_at = c.due_at, woken_at = c.woken_at, lease_id = c.lease_id, \
            leased_until = c.leased_until, claimed_at = c.claimed_at, failures = c.failures, \
            parked_at = c.parked_at, transaction_seen = c.transaction_seen, not_found_count = c.not_found_count, \
            not_found_at = c.not_found_at, watch_wanted = c.watch_wanted, watch_step = c.watch_step \
        FROM unnest($28::bigint[], $29::timestamptz[], $30::timestamptz[], $31::bigint[], $32::timestamptz[], \
            $33::timestamptz[], $34::integer[], $35::timestamptz[], $36::boolean[], $37::integer[], \
            $38::timestamptz[], $39::boolean[], $40::integer[]) \
            AS c (payment_id, due_at, woken_at, lease_id, leased_until, claimed_at, failures, parked_at, \
                transaction_seen, not_found_count, not_found_at, watch_wanted, watch_step) \
        WHERE k.payment_id = c.payment_id RETURNING 1) \
    SELECT (SELECT count(*) FROM moved_stock) AS stock, (SELECT count(*) FROM moved_points) AS points, \
        (SELECT count(*) FROM payments) AS payments, (SELECT count(*) FROM ended) AS orders, \
        (SELECT count(*) FROM checks) AS checks"
);

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = BigInt)]
    stock: i64,
    #[diesel(sql_type = BigInt)]
    points: i64,
    #[diesel(sql_type = BigInt)]
    payments: i64,
    #[diesel(sql_type = BigInt)]
    orders: i64,
    #[diesel(sql_type = BigInt)]
    checks: i64,
}

/// All parameters of [`STORE`].
#[derive(Default)]
struct Changed<'a> {
    moves: Moves,
    payments: Payments<'a>,
    orders: Orders,
    checks: Checks,
}

#[derive(Default)]
struct Payments<'a> {
    ids: Vec<i64>,
    versions: Vec<i64>,
    statuses: Vec<&'static str>,
    keys: Vec<Option<&'a str>>,
    messages: Vec<Option<&'a str>>,
    sending_ended: Vec<bool>,
}

#[derive(Default)]
struct Orders {
    ids: Vec<i64>,
    versions: Vec<i64>,
    statuses: Vec<&'static str>,
}

#[derive(Default)]
struct Checks {
    payments: Vec<i64>,
    rows: Vec<Check>,
}

pub(crate) async fn store(connection: &AsyncPgConnection, changes: &[Changes]) -> Result<(), Failure> {
    let mut changed = Changed::default();
    let mut coupons = CouponMoves::default();
    let mut named: Vec<(PaymentId, &GatewayKey)> = Vec::new();
    let mut done: Vec<(PaymentId, &GatewayKey)> = Vec::new();
    let mut found: Vec<(PaymentId, &Discrepancy)> = Vec::new();
    let mut answers = Vec::new();
    for change in changes {
        changed.add(change)?;
        if let Some(coupon) = &change.coupon_back {
            coupons.add(coupon, change.payment_id);
        }
        named.extend(change.hint.iter().map(|key| (change.payment_id, key)));
        // Looked up and named again: it is looked up again.
        let again = |key: &&GatewayKey| change.hint.as_ref() == Some(*key);
        done.extend(change.hints_done.iter().filter(|key| !again(key)).map(|key| (change.payment_id, key)));
        found.extend(change.discrepancies.iter().map(|found| (change.payment_id, found)));
        answers.extend(change.answer.iter().map(|(key, answer)| (key, answer)));
    }
    let (stored, coupons, named, done, found, answered) = join!(
        when(!changed.is_empty(), changed.store(connection)),
        when(!coupons.is_empty(), coupons.store(connection)),
        when(!named.is_empty(), name_hints(connection, &named)),
        when(!done.is_empty(), end_hints(connection, &done)),
        when(!found.is_empty(), add_discrepancies(connection, &found)),
        when(!answers.is_empty(), keys::save_answers(connection, &answers)),
    );
    stored?;
    coupons?;
    named?;
    done?;
    found?;
    answered
}

impl<'a> Changed<'a> {
    fn add(&mut self, change: &'a Changes) -> Result<(), Failure> {
        let id = change.payment_id;
        if let Some(payment) = &change.payment {
            self.payments.ids.push(id.get());
            self.payments.versions.push(payment.version);
            self.payments.statuses.push(payment.value.status().as_str());
            self.payments.keys.push(payment.value.key().map(GatewayKey::as_str));
            self.payments.messages.push(failure_message(&payment.value));
            self.payments.sending_ended.push(change.sending_ended);
        }
        if let Some(order) = &change.order {
            self.orders.ids.push(change.order_id.get());
            self.orders.versions.push(order.version);
            self.orders.statuses.push(order.value.status().as_str());
        }
        if let Some(check) = change.check {
            self.checks.payments.push(id.get());
            self.checks.rows.push(check);
        }
        for back in &change.stock_back {
            self.moves.give_back_stock(id, back.product_id, back.quantity);
        }
        if let Some(entry) = &change.points_back {
            self.moves.move_points(entry)?;
        }
        self.moves.add_history(id, &change.history);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.moves.is_empty()
            && self.payments.ids.is_empty()
            && self.orders.ids.is_empty()
            && self.checks.payments.is_empty()
    }

    async fn store(self, connection: &AsyncPgConnection) -> Result<(), Failure> {
        let moved = self.moves.expected();
        let Self { moves, payments, orders, checks: Checks { payments: checked, rows: checks } } = self;
        let expected = [payments.ids.len(), orders.ids.len(), checked.len()];
        let times = |of: fn(&Check) -> Option<Timestamp>| checks.iter().map(of).collect::<Vec<_>>();
        let counts = |of: fn(&Check) -> u32| {
            checks.iter().map(|check| i32::try_from(of(check)).unwrap_or(i32::MAX)).collect::<Vec<_>>()
        };
        let flags = |of: fn(&Check) -> bool| checks.iter().map(of).collect::<Vec<_>>();
        let stored: Stored = moves
            .bind(statement(STORE))
            .numbers(payments.ids)
            .numbers(payments.versions)
            .texts(payments.statuses)
            .texts_or_null(payments.keys)
            .texts_or_null(payments.messages)
            .bind::<Array<Bool>, _>(payments.sending_ended)
            .numbers(orders.ids)
            .numbers(orders.versions)
            .texts(orders.statuses)
            .numbers(checked)
            .bind::<Array<Nullable<Timestamptz>>, _>(times(|check| check.due_at))
            .bind::<Array<Nullable<Timestamptz>>, _>(times(|check| check.woken_at))
            .numbers_or_null(checks.iter().map(|check| check.lease.map(|lease| lease.id)).collect())
            .bind::<Array<Nullable<Timestamptz>>, _>(times(|check| check.lease.map(|lease| lease.until)))
            .bind::<Array<Nullable<Timestamptz>>, _>(times(|check| check.claimed_at))
            .bind::<Array<Integer>, _>(counts(|check| check.failures))
            .bind::<Array<Nullable<Timestamptz>>, _>(times(|check| check.parked_at))
            .bind::<Array<Bool>, _>(flags(|check| check.transaction_seen))
            .bind::<Array<Integer>, _>(counts(|check| check.not_found_count))
            .bind::<Array<Nullable<Timestamptz>>, _>(times(|check| check.not_found_at))
            .bind::<Array<Bool>, _>(flags(|check| check.watch_wanted))
            .bind::<Array<Integer>, _>(counts(|check| check.watch_step))
            .row(connection)
            .await?;
        moved.check(stored.stock, stored.points)?;
        let found = [stored.payments, stored.orders, stored.checks];
        for ((expected, found), what) in
            expected.into_iter().zip(found).zip(["payment", "orders", "payment_check"])
        {
            if usize::try_from(found) != Ok(expected) {
                return Err(Failure::conflict(format_args!("version of {what}")));
            }
        }
        Ok(())
    }
}

fn columns(hints: &[(PaymentId, &GatewayKey)]) -> (Vec<i64>, Vec<String>) {
    hints.iter().map(|(id, key)| (id.get(), key.as_str().to_owned())).unzip()
}

/// As if callbacks had named them.
async fn name_hints(
    connection: &AsyncPgConnection,
    hints: &[(PaymentId, &GatewayKey)],
) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO callback_inbox AS i (payment_id, external_payment_key) \
        SELECT * FROM unnest($1::bigint[], $2::text[]) \
        ON CONFLICT (payment_id, external_payment_key) DO UPDATE SET \
            times = i.times + 1, last_received_at = now(), lease_id = NULL, looked_up_at = NULL";
    let (payments, keys) = columns(hints);
    statement(SQL).numbers(payments).texts(keys).execute(connection).await?;
    Ok(())
}

async fn end_hints(
    connection: &AsyncPgConnection,
    hints: &[(PaymentId, &GatewayKey)],
) -> Result<(), Failure> {
    const SQL: &str = "UPDATE callback_inbox i SET looked_up_at = now() \
        FROM unnest($1::bigint[], $2::text[]) AS d (payment_id, key) \
        WHERE i.payment_id = d.payment_id AND i.external_payment_key = d.key";
    let (payments, keys) = columns(hints);
    statement(SQL).numbers(payments).texts(keys).execute(connection).await?;
    Ok(())
}

#[derive(QueryableByName)]
struct FoundRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    payment_id: i64,
    #[diesel(sql_type = Text)]
    kind: String,
}

/// Facts that are there already are not written again.
async fn add_discrepancies(
    connection: &AsyncPgConnection,
    found: &[(PaymentId, &Discrepancy)],
) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO discrepancy (payment_id, kind, fact, external_payment_key, amount, evidence) \
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[]) \
        ON CONFLICT (payment_id, fact) DO NOTHING RETURNING id, payment_id, kind";
    let rows: Vec<FoundRow> = statement(SQL)
        .numbers(found.iter().map(|(id, _)| id.get()).collect())
        .texts(found.iter().map(|(_, found)| found.kind.as_str()).collect())
        .texts(found.iter().map(|(_, found)| found.fact()).collect())
        .texts_or_null(found.iter().map(|(_, found)| found.key.as_ref().map(GatewayKey::as_str)).collect())
        .numbers_or_null(found.iter().map(|(_, found)| found.amount.map(|amount| amount.won())).collect())
        .texts(found.iter().map(|(_, found)| clip(&found.evidence, EVIDENCE_MAX)).collect())
        .rows(connection)
        .await?;
    for FoundRow { id, payment_id, kind } in rows {
        tracing::warn!(payment_id, id, kind, "discrepancy found");
    }
    Ok(())
}

/// See [`crate::connecting`].
pub(crate) async fn prepare(connection: &AsyncPgConnection) -> Result<(), Failure> {
    Changed::default().store(connection).await?;
    name_hints(connection, &[]).await?;
    end_hints(connection, &[]).await?;
    add_discrepancies(connection, &[]).await?;
    keys::save_answers(connection, &[]).await
}
