//! Storing what became of a batch of payments, in one burst.

use crate::coupons::CouponMoves;
use crate::error::Failure;
use crate::keys;
use crate::moves::{Moves, moves};
use crate::placing::failure_message;
use crate::rows::clip;
use crate::statement::{Statement, found, statement, when};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;
use domain::ports::Versioned;
use domain::settlement::{Changes, Check, Discrepancy};
use domain::{GatewayKey, Order, Payment, PaymentId, Timestamp};
use futures_util::join;
use std::collections::BTreeMap;

/// Characters of the column.
const EVIDENCE_MAX: usize = 500;

/// Payments in $19 to $24, orders in $25 to $27, check rows in $28 to $40, each by ascending ids. All rows are locked.
const STORE: &str = concat!(
    "WITH ",
    moves!(),
    ", payments AS (\
        UPDATE payment p SET version = p.version + 1, updated_at = now(), status = ",
    found!("$21::text[]" by "p.id" in "$19"),
    ", external_payment_key = ",
    found!("$22::text[]" by "p.id" in "$19"),
    ", failure_message = ",
    found!("$23::text[]" by "p.id" in "$19"),
    ", send_deadline = CASE WHEN ",
    found!("$24::boolean[]" by "p.id" in "$19"),
    " THEN least(p.send_deadline, now()) ELSE p.send_deadline END \
        WHERE p.id = ANY($19::bigint[]) AND p.version = ",
    found!("$20::bigint[]" by "p.id" in "$19"),
    " RETURNING 1), \
    ended AS (\
        UPDATE orders o SET version = o.version + 1, updated_at = now(), status = ",
    found!("$27::text[]" by "o.id" in "$25"),
    " WHERE o.id = ANY($25::bigint[]) AND o.version = ",
    found!("$26::bigint[]" by "o.id" in "$25"),
    " RETURNING 1), \
    checks AS (\
        UPDATE payment_check k SET due_at = ",
    found!("$29::timestamptz[]" by "k.payment_id" in "$28"),
    ", woken_at = ",
    found!("$30::timestamptz[]" by "k.payment_id" in "$28"),
    ", lease_id = ",
    found!("$31::bigint[]" by "k.payment_id" in "$28"),
    ", leased_until = ",
    found!("$32::timestamptz[]" by "k.payment_id" in "$28"),
    ", claimed_at = ",
    found!("$33::timestamptz[]" by "k.payment_id" in "$28"),
    ", failures = ",
    found!("$34::integer[]" by "k.payment_id" in "$28"),
    ", parked_at = ",
    found!("$35::timestamptz[]" by "k.payment_id" in "$28"),
    ", transaction_seen = ",
    found!("$36::boolean[]" by "k.payment_id" in "$28"),
    ", not_found_count = ",
    found!("$37::integer[]" by "k.payment_id" in "$28"),
    ", not_found_at = ",
    found!("$38::timestamptz[]" by "k.payment_id" in "$28"),
    ", watch_wanted = ",
    found!("$39::boolean[]" by "k.payment_id" in "$28"),
    ", watch_step = ",
    found!("$40::integer[]" by "k.payment_id" in "$28"),
    " WHERE k.payment_id = ANY($28::bigint[]) RETURNING 1) \
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
    payments: BTreeMap<i64, (&'a Versioned<Payment>, bool)>,
    orders: BTreeMap<i64, &'a Versioned<Order>>,
    checks: BTreeMap<i64, Check>,
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
            coupons.add(coupon, change.payment_id)?;
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
        let payment = change.payment.as_ref();
        let twice = [
            payment.is_some_and(|new| self.payments.insert(id.get(), (new, change.sending_ended)).is_some()),
            change.order.as_ref().is_some_and(|new| self.orders.insert(change.order_id.get(), new).is_some()),
            change.check.is_some_and(|new| self.checks.insert(id.get(), new).is_some()),
        ];
        if twice.contains(&true) {
            return Err(Failure::other(format_args!("payment {id} stands twice in a batch")));
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
        self.moves.is_empty() && self.payments.is_empty() && self.orders.is_empty() && self.checks.is_empty()
    }

    async fn store(self, connection: &AsyncPgConnection) -> Result<(), Failure> {
        let moved = self.moves.expected();
        let Self { moves, payments, orders, checks } = self;
        let expected = [payments.len(), orders.len(), checks.len()];
        let statement = bind_payments(moves.bind(statement(STORE)), &payments)
            .numbers(orders.keys().copied().collect())
            .numbers(orders.values().map(|order| order.version).collect())
            .texts(orders.values().map(|order| order.value.status().as_str()).collect());
        let stored: Stored = bind_checks(statement, &checks).row(connection).await?;
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

/// The parameters $19 to $24.
fn bind_payments<'a>(
    statement: Statement<'a>,
    payments: &BTreeMap<i64, (&'a Versioned<Payment>, bool)>,
) -> Statement<'a> {
    let rows = || payments.values().map(|(payment, _)| *payment);
    statement
        .numbers(payments.keys().copied().collect())
        .numbers(rows().map(|payment| payment.version).collect())
        .texts(rows().map(|payment| payment.value.status().as_str()).collect())
        .texts_or_null(rows().map(|payment| payment.value.key().map(GatewayKey::as_str)).collect())
        .texts_or_null(rows().map(|payment| failure_message(&payment.value)).collect())
        .bind::<Array<Bool>, _>(payments.values().map(|(_, ended)| *ended).collect::<Vec<_>>())
}

/// The parameters $28 to $40.
fn bind_checks<'a>(statement: Statement<'a>, checks: &BTreeMap<i64, Check>) -> Statement<'a> {
    type Times = Array<Nullable<Timestamptz>>;
    type Counts = Array<Integer>;
    type Flags = Array<Bool>;
    let times = |of: fn(&Check) -> Option<Timestamp>| checks.values().map(of).collect::<Vec<_>>();
    let flags = |of: fn(&Check) -> bool| checks.values().map(of).collect::<Vec<_>>();
    let counts = |of: fn(&Check) -> u32| {
        checks.values().map(|check| i32::try_from(of(check)).unwrap_or(i32::MAX)).collect::<Vec<_>>()
    };
    statement
        .numbers(checks.keys().copied().collect())
        .bind::<Times, _>(times(|check| check.due_at))
        .bind::<Times, _>(times(|check| check.woken_at))
        .numbers_or_null(checks.values().map(|check| check.lease.map(|lease| lease.id)).collect())
        .bind::<Times, _>(times(|check| check.lease.map(|lease| lease.until)))
        .bind::<Times, _>(times(|check| check.claimed_at))
        .bind::<Counts, _>(counts(|check| check.failures))
        .bind::<Times, _>(times(|check| check.parked_at))
        .bind::<Flags, _>(flags(|check| check.transaction_seen))
        .bind::<Counts, _>(counts(|check| check.not_found_count))
        .bind::<Times, _>(times(|check| check.not_found_at))
        .bind::<Flags, _>(flags(|check| check.watch_wanted))
        .bind::<Counts, _>(counts(|check| check.watch_step))
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
        WHERE i.payment_id = ANY($1::bigint[]) AND i.payment_id || ' ' || i.external_payment_key = ANY($2::text[])";
    let (payments, keys) = hints.iter().map(|(id, key)| (id.get(), format!("{id} {key}"))).unzip();
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
