//! Payments, newest first: filtered, page by page.

use super::format::{date_time, relative, won};
use super::forms::redirect;
use super::page::{Context, Frame, Nav, answer, html, moment};
use super::wording::status_text;
use crate::http::failure::Failure;
use crate::http::read::{digits, duration, page};
use crate::texts::Texts;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;
use domain::ports::{AdminPaymentFilter, PaymentRecord, StoreError};
use domain::{OrderId, PaymentId, PaymentStatus, Timestamp};
use std::time::Duration;

const PAGE: u32 = 25;
/// The longest age that is asked for.
const MAX_AGE: Duration = Duration::from_secs(365 * 86_400);
/// Not a status: PENDING and IN_PROGRESS together.
const UNSETTLED: &str = "UNSETTLED";

/// A payment in the list.
struct Row {
    id: i64,
    order_id: i64,
    user_id: i64,
    status: &'static str,
    class: &'static str,
    meaning: &'static str,
    amount: String,
    placed: String,
    ago: String,
    key: Option<String>,
}

/// A choice of a filter.
struct Choice {
    value: &'static str,
    words: String,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "console/payments.html")]
struct PaymentsPage {
    frame: Frame,
    t: Texts,
    statuses: Vec<Choice>,
    ages: Vec<Choice>,
    rows: Vec<Row>,
    filtered: bool,
    not_found: bool,
    find: String,
    next: Option<String>,
    first: Option<String>,
}

/// The class of a status' badge.
pub(super) const fn status_class(status: PaymentStatus) -> &'static str {
    match status {
        PaymentStatus::Pending => "idle",
        PaymentStatus::InProgress => "warn",
        PaymentStatus::Paid => "ok",
        PaymentStatus::Failed => "bad",
    }
}

fn row(context: &Context, record: &PaymentRecord, now: Timestamp) -> Row {
    let payment = &record.payment;
    Row {
        id: payment.id().get(),
        order_id: payment.order_id().get(),
        user_id: payment.user_id().get(),
        status: payment.status().as_str(),
        class: status_class(payment.status()),
        meaning: status_text(payment.status(), context.texts()),
        amount: won(payment.amounts().paid_amount(), context.texts()),
        placed: date_time(record.created_at),
        ago: relative(record.created_at, now, context.texts()),
        key: payment.key().map(|key| key.as_str().to_owned()),
    }
}

/// What the address asks for.
struct Wanted {
    statuses: Vec<Option<PaymentStatus>>,
    older_than: Option<Duration>,
    before: Option<PaymentId>,
}

impl Wanted {
    fn of(context: &Context) -> Result<Self, Failure> {
        let statuses = match context.parameter("status") {
            "" => vec![None],
            UNSETTLED => vec![Some(PaymentStatus::Pending), Some(PaymentStatus::InProgress)],
            text => vec![Some(PaymentStatus::parse(text).ok_or_else(|| Failure::parameter("status"))?)],
        };
        let older_than = match context.parameter("older") {
            "" => None,
            text => Some(duration(text, MAX_AGE).ok_or_else(|| Failure::parameter("older"))?),
        };
        let before = context.cursor(PaymentId::new)?;
        Ok(Self { statuses, older_than, before })
    }
}

/// Shows a page of payments, or goes to the one that is looked for by its number or its order's.
pub(super) async fn list(context: Context) -> HttpResponse {
    answer(&context, async {
        let find = context.parameter("find").trim().to_owned();
        let mut not_found = false;
        if !find.is_empty() {
            if let Some(id) = find_payment(&context, &find).await? {
                return Ok(redirect(&format!("/payments/{id}")));
            }
            not_found = true;
        }
        let wanted = Wanted::of(&context)?;
        let is_first = wanted.before.is_none();
        let (now, records) = read(&context, wanted).await?;
        let (records, cursor) = page(records, PAGE, |record| record.payment.id().get());
        let filtered = !context.parameter("status").is_empty() || !context.parameter("older").is_empty();
        let page = PaymentsPage {
            frame: context.frame(Nav::Payments, context.texts().say("payments")).at(now),
            t: context.texts(),
            statuses: statuses(&context),
            ages: ages(&context),
            rows: records.iter().map(|record| row(&context, record, now)).collect(),
            filtered: filtered || !is_first,
            not_found,
            find,
            next: cursor.map(|cursor| context.link_with("cursor", &cursor)),
            first: (!is_first).then(|| context.link_with("cursor", "")),
        };
        Ok(html(&page, if not_found { StatusCode::NOT_FOUND } else { StatusCode::OK }))
    })
    .await
}

async fn find_payment(context: &Context, text: &str) -> Result<Option<PaymentId>, Failure> {
    let Some(number) = digits(text) else { return Ok(None) };
    context
        .ops
        .runner
        .run(move |app| async move {
            // Order ids begin at 100001; a payment of such a number is found by its own page's address.
            if let Ok(id) = OrderId::new(number)
                && let Some(found) = app.queries().order(None, id).await?
            {
                return Ok(Some(found.payment.payment.id()));
            }
            let Ok(id) = PaymentId::new(number) else { return Ok(None) };
            Ok::<_, StoreError>(app.queries().payment(None, id).await?.map(|_| id))
        })
        .await
}

/// The database's moment, and one row more than a page has.
async fn read(context: &Context, wanted: Wanted) -> Result<(Timestamp, Vec<PaymentRecord>), Failure> {
    context
        .ops
        .runner
        .run(move |app| async move {
            let now = moment(&app).await?;
            let mut records = Vec::new();
            for status in wanted.statuses {
                let Wanted { older_than, before, .. } = wanted;
                let filter = AdminPaymentFilter { status, older_than, before, limit: PAGE + 1 };
                records.extend(app.queries().payments(&filter).await?);
            }
            records.sort_by_key(|record| std::cmp::Reverse(record.payment.id()));
            records.truncate(PAGE as usize + 1);
            Ok::<_, StoreError>((now, records))
        })
        .await
}

fn statuses(context: &Context) -> Vec<Choice> {
    let t = context.texts();
    let chosen = context.parameter("status");
    let mut choices = vec![
        Choice { value: "", words: t.say("any").to_owned(), chosen: chosen.is_empty() },
        Choice { value: UNSETTLED, words: t.say("unsettled").to_owned(), chosen: chosen == UNSETTLED },
    ];
    choices.extend(PaymentStatus::ALL.map(|status| Choice {
        value: status.as_str(),
        words: format!("{status} · {}", status_text(status, context.texts())),
        chosen: chosen == status.as_str(),
    }));
    choices
}

fn ages(context: &Context) -> Vec<Choice> {
    let t = context.texts();
    let all = [
        ("", t.say("any-age")),
        ("1m", t.say("older-1m")),
        ("5m", t.say("older-5m")),
        ("30m", t.say("older-30m")),
        ("24h", t.say("older-1d")),
    ];
    let chosen = context.parameter("older");
    let choice = |(value, words): (&'static str, &str)| Choice {
        value,
        words: words.to_owned(),
        chosen: chosen == value,
    };
    all.into_iter().map(choice).collect()
}
