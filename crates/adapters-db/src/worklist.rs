//! What is looked at next and what was done lately, for operators.

use crate::error::{Failure, corrupt};
use crate::rows::{At, EventRow, looked_at, micros};
use crate::schema::payment_event;
use crate::statement::statement;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel::{ExpressionMethods, QueryDsl, QueryableByName, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use domain::ports::{AGE_BOUNDS, Cause, PaymentEventView, RecentEvent, StoreError, UpcomingCheck, Worklist};
use domain::{OrderId, PaymentId, PaymentStatus, Timestamp};
use futures_util::try_join;

#[derive(QueryableByName)]
struct AgesRow {
    #[diesel(sql_type = Timestamptz)]
    moment: Timestamp,
    #[diesel(sql_type = BigInt)]
    first: i64,
    #[diesel(sql_type = BigInt)]
    second: i64,
    #[diesel(sql_type = BigInt)]
    third: i64,
    #[diesel(sql_type = BigInt)]
    older: i64,
}

#[derive(QueryableByName)]
struct UpcomingRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    order_id: i64,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    paid_amount: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: Timestamp,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    leased_until: Option<Timestamp>,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Bool)]
    parked: bool,
}

impl TryFrom<UpcomingRow> for UpcomingCheck {
    type Error = StoreError;

    fn try_from(row: UpcomingRow) -> Result<Self, StoreError> {
        let at = At::row("payment", row.id);
        let status = PaymentStatus::parse(&row.status);
        Ok(Self {
            payment_id: PaymentId::new(row.id).map_err(|error| at.corrupt(error))?,
            order_id: OrderId::new(row.order_id).map_err(|error| at.corrupt(error))?,
            status: status.ok_or_else(|| at.corrupt(format_args!("status {:?}", row.status)))?,
            paid_amount: at.money(row.paid_amount)?,
            created_at: row.created_at,
            due_at: row.due_at,
            leased_until: row.leased_until,
            failures: u32::try_from(row.failures).map_err(|error| at.corrupt(error))?,
            parked: row.parked,
        })
    }
}

const CHECKS: &str = concat!(
    "SELECT p.id, p.order_id, p.status, p.paid_amount, p.created_at, \
        c.next_at AS due_at, CASE WHEN c.leased_until > now() THEN c.leased_until END AS leased_until, \
        c.failures, c.parked_at IS NOT NULL AS parked \
    FROM ",
    looked_at!(),
    " ORDER BY parked DESC, due_at NULLS LAST, id LIMIT $1"
);

const AGES: &str = concat!(
    "SELECT now() AS moment, \
        count(*) FILTER (WHERE age < $1) AS first, \
        count(*) FILTER (WHERE age >= $1 AND age < $2) AS second, \
        count(*) FILTER (WHERE age >= $2 AND age < $3) AS third, \
        count(*) FILTER (WHERE age >= $3) AS older \
    FROM (SELECT (extract(epoch FROM now() - p.created_at) * 1000000)::bigint AS age \
        FROM ",
    looked_at!(),
    " WHERE p.status IN ('PENDING', 'IN_PROGRESS')) AS ages"
);

pub(crate) async fn worklist(connection: &AsyncPgConnection, limit: u32) -> Result<Worklist, Failure> {
    let [first, second, third] = AGE_BOUNDS.map(micros);
    let ages = statement(AGES).bind::<BigInt, _>(first).bind::<BigInt, _>(second).bind::<BigInt, _>(third);
    let checks = statement(CHECKS).bind::<BigInt, _>(i64::from(limit));
    let (ages, checks): (AgesRow, Vec<UpcomingRow>) =
        try_join!(ages.row(connection), checks.rows(connection))?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(Worklist {
        now: ages.moment,
        unsettled_by_age: [ages.first, ages.second, ages.third, ages.older].map(count),
        checks: checks.into_iter().map(UpcomingCheck::try_from).collect::<Result<_, _>>()?,
    })
}

/// How many rows of all histories are looked through: their cause has no index.
const LOOKED_THROUGH: i64 = 1000;

pub(crate) async fn recent_events(
    mut connection: &AsyncPgConnection,
    cause: Cause,
    limit: u32,
) -> Result<Vec<RecentEvent>, Failure> {
    let rows: Vec<(i64, EventRow)> = payment_event::table
        .order(payment_event::id.desc())
        .limit(LOOKED_THROUGH)
        .select((payment_event::payment_id, EventRow::as_select()))
        .load(&mut connection)
        .await?;
    let mut recent = Vec::new();
    for (payment_id, row) in rows {
        let event = PaymentEventView::try_from(row)?;
        if event.cause == cause && recent.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            let payment_id =
                PaymentId::new(payment_id).map_err(|error| corrupt("payment_event", payment_id, error))?;
            recent.push(RecentEvent { payment_id, event });
        }
    }
    Ok(recent)
}
