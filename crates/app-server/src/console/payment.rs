//! One payment: where it stands, what happens next and when, what happened, and what to hold against the gateway's books.

use super::chart::{self, Rect};
use super::discrepancies::{Row as LedgerRow, row as ledger_row};
use super::format::{clock, date_time, length, relative, won};
use super::forms::{Form, redirect};
use super::history::Run;
use super::page::{Context, Frame, Nav, answer, html, moment};
use super::payments::status_class;
use super::wording::{Notice, cause_text, status_text};
use crate::http::failure::{Case, Failure};
use crate::http::read::Id;
use crate::texts::Texts;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use application::Policy;
use application::examine::Examined;
use askama::Template;
use domain::ports::{Cause, DiscrepancyView, OrderView, PaymentView, StoreError};
use domain::settlement::Settled;
use domain::{OrderStatus, PaymentId, PaymentState, PaymentStatus, Timestamp};
use std::time::Duration;

/// A step of the timeline.
struct Step {
    status: &'static str,
    class: &'static str,
    meaning: &'static str,
    /// Only the key changed.
    same: bool,
    cause: &'static str,
    reason: Option<String>,
    key: Option<String>,
    at: String,
    /// How long after the step before.
    after: Option<String>,
}

struct Item {
    name: String,
    quantity: u32,
    amount: String,
}

#[derive(Template)]
#[template(path = "console/payment.html")]
struct PaymentPage {
    frame: Frame,
    t: Texts,
    id: i64,
    order_id: i64,
    user_id: i64,
    status: &'static str,
    class: &'static str,
    meaning: &'static str,
    order_status: &'static str,
    amount: String,
    next: Vec<String>,
    can_sync: bool,
    failure: Option<String>,
    strip: Vec<Rect>,
    strip_label: String,
    strip_length: String,
    steps: Vec<Step>,
    key: Option<String>,
    gateway_order: String,
    merchant: String,
    send_deadline: String,
    placed: String,
    card: Option<String>,
    items: Vec<Item>,
    total: String,
    used_point: Option<String>,
    coupon_discount: Option<String>,
    ledger: Vec<LedgerRow>,
}

/// All that the page is made from.
struct Facts {
    view: PaymentView,
    order: Option<OrderView>,
    ledger: Vec<DiscrepancyView>,
    now: Timestamp,
}

async fn read(context: &Context, id: PaymentId) -> Result<Facts, Failure> {
    let found = context
        .ops
        .runner
        .run(move |app| async move {
            let queries = app.queries();
            let Some(view) = queries.payment(None, id).await? else { return Ok(None) };
            let order = queries.order(None, view.record.payment.order_id()).await?;
            let ledger = queries.discrepancies_of(id).await?;
            let now = moment(&app).await?;
            Ok::<_, StoreError>(Some(Facts { view, order, ledger, now }))
        })
        .await?;
    found.ok_or(Failure::new(Case::PaymentNotFound))
}

/// Shows one payment.
pub(super) async fn show(context: Context) -> HttpResponse {
    answer(&context, async {
        let id = Id::<PaymentId>::of(context.request())?;
        let facts = read(&context, id).await?;
        Ok(html(&page(&context, &facts), StatusCode::OK))
    })
    .await
}

fn page(context: &Context, facts: &Facts) -> PaymentPage {
    let Facts { view, order, ledger, now } = facts;
    let (record, now, t) = (&view.record, *now, context.texts());
    let payment = &record.payment;
    let amounts = payment.amounts();
    let money = |amount| won(amount, t);
    let unless_zero = |amount: domain::Money| (amount.won() != 0).then(|| money(amount));
    let title = format!("{} {}", context.texts().say("payment"), payment.id());
    let items = order.iter().flat_map(|view| view.order.items()).map(|item| Item {
        name: item.product_name.clone(),
        quantity: item.quantity.get(),
        amount: item.amount().map_or("–".to_owned(), money),
    });
    let (strip, strip_length) = strip(view, now, t);
    PaymentPage {
        frame: context.frame(Nav::Payments, title).at(now),
        t,
        id: payment.id().get(),
        order_id: payment.order_id().get(),
        user_id: payment.user_id().get(),
        status: payment.status().as_str(),
        class: status_class(payment.status()),
        meaning: status_text(payment.status(), t),
        order_status: order.as_ref().map_or("–", |view| OrderStatus::as_str(view.order.status())),
        amount: money(amounts.paid_amount()),
        next: what_next(view, now, context.ops.runner.application.policy(), t),
        can_sync: !payment.status().is_terminal(),
        failure: match payment.state() {
            PaymentState::Failed { message: Some(message), .. } => Some(message.as_str().to_owned()),
            _ => None,
        },
        strip,
        strip_label: view.history.iter().map(|event| event.to.as_str()).collect::<Vec<_>>().join(" → "),
        strip_length,
        steps: steps(view, t),
        key: payment.key().map(|key| key.as_str().to_owned()),
        gateway_order: view.record.order_ref.as_str().to_owned(),
        merchant: record.merchant.as_str().to_owned(),
        send_deadline: date_time(record.send_deadline),
        placed: format!("{} ({})", date_time(record.created_at), relative(record.created_at, now, t)),
        card: record.card.as_ref().map(|card| format!("{} {}", card.card_type.as_str(), card.masked)),
        items: items.collect(),
        total: money(amounts.total()),
        used_point: unless_zero(amounts.used_point()),
        coupon_discount: unless_zero(amounts.coupon_discount()),
        ledger: ledger.iter().map(|view| ledger_row(view, now, t)).collect(),
    }
}

/// The states side by side, each as wide as it lasted; and how long all of them lasted.
fn strip(view: &PaymentView, now: Timestamp, t: Texts) -> (Vec<Rect>, String) {
    let Some(first) = view.history.first() else { return (Vec::new(), String::new()) };
    let ended = view.history.iter().find(|event| event.to.is_terminal()).map(|event| event.at);
    let length_in_all = (ended.unwrap_or(now) - first.at).unsigned_abs();
    // The end is a moment; it gets a twentieth, so that it can be seen.
    let whole = length_in_all.as_secs_f64().max(0.001) * if ended.is_some() { 1.0 / 0.95 } else { 1.0 };
    let share = |at: Timestamp| ((at - first.at).unsigned_abs().as_secs_f64() / whole).min(1.0);
    let begins: Vec<_> = view.history.iter().filter(|event| event.from != Some(event.to)).collect();
    let rects = begins.iter().enumerate().flat_map(|(index, event)| {
        let until = begins.get(index + 1).map_or(1.0, |next| share(next.at));
        let run = Run { state: event.to.as_str(), from: share(event.at), to: until };
        let class = match event.to {
            PaymentStatus::Pending => "fill-idle",
            PaymentStatus::InProgress => "fill-warn",
            PaymentStatus::Paid => "fill-ok",
            PaymentStatus::Failed => "fill-bad",
        };
        chart::states(&[run]).into_iter().map(move |rect| {
            let (y, height) = ("0.0".to_owned(), "100.0".to_owned());
            Rect { class, y, height, ..rect }
        })
    });
    (rects.collect(), precise(length_in_all, t))
}

/// With milliseconds while it is short: most payments end within seconds.
fn precise(duration: Duration, t: Texts) -> String {
    if duration < Duration::from_secs(60) {
        return t.fill("length-seconds", [("seconds", format!("{:.2}", duration.as_secs_f64()).into())]);
    }
    length(duration, t)
}

fn steps(view: &PaymentView, t: Texts) -> Vec<Step> {
    let mut previous: Option<Timestamp> = None;
    let mut steps = Vec::with_capacity(view.history.len());
    for event in &view.history {
        let after = previous.map(|before| precise((event.at - before).unsigned_abs(), t));
        previous = Some(event.at);
        steps.push(Step {
            status: event.to.as_str(),
            class: status_class(event.to),
            meaning: status_text(event.to, t),
            same: event.from == Some(event.to),
            cause: cause_text(event.cause, t),
            reason: event.reason.clone(),
            key: event.key.as_ref().map(|key| key.as_str().to_owned()),
            at: date_time(event.at),
            after,
        });
    }
    steps
}

/// What happens next and when, in sentences.
fn what_next(view: &PaymentView, now: Timestamp, policy: &Policy, t: Texts) -> Vec<String> {
    if view.parked {
        return vec![t.say("next-parked").to_owned()];
    }
    let when = |at: Timestamp| [("when", format!("{} ({})", clock(at), relative(at, now, t)).into())];
    let payment = &view.record.payment;
    match (payment.status(), view.next_check_at) {
        (PaymentStatus::Pending | PaymentStatus::InProgress, next_check_at) => {
            let due = when(next_check_at.unwrap_or(view.record.updated_at));
            let forced = when(view.record.created_at + policy.rules.force_fail_after);
            let mut next = match payment.key() {
                Some(_) => vec![t.fill("next-by-key", due)],
                None => vec![t.say("next-unknown").to_owned(), t.fill("next-by-order", due)],
            };
            next.push(t.fill("next-forced", forced));
            next
        }
        (PaymentStatus::Paid | PaymentStatus::Failed, Some(at)) => vec![t.fill("next-watched", when(at))],
        (PaymentStatus::Paid | PaymentStatus::Failed, None) => vec![t.say("next-nothing").to_owned()],
    }
}

/// Asks the gateway about one payment now, and settles it.
pub(super) async fn sync(context: Context, _form: Form) -> HttpResponse {
    answer(&context, async {
        let id = Id::<PaymentId>::of(context.request())?;
        tracing::info!(payment_id = %id, actor = context.actor(), "console: sync by hand");
        let synced = context
            .ops
            .runner
            .run(move |app| async move { app.sync_payment(id, Cause::Operator).await })
            .await?;
        let notice = match synced.ok_or(Failure::new(Case::PaymentNotFound))?.examined {
            Examined::Settled(Settled::Paid) => Notice::Paid,
            Examined::Settled(Settled::Failed { .. }) => Notice::Failed,
            Examined::Settled(Settled::Waiting(_) | Settled::InProgress) => Notice::StillWaiting,
            Examined::Settled(Settled::AlreadyEnded) | Examined::NothingToAsk => Notice::NothingToAsk,
            // What was backed off is told by why, not by this.
            Examined::Settled(Settled::LeaseLost | Settled::BackedOff | Settled::Parked)
            | Examined::NotClaimed => Notice::TooSoon,
            Examined::Unreachable => Notice::NotAsked,
            Examined::Failed => Notice::NotExamined,
            Examined::Parked => Notice::Parked,
        };
        Ok(redirect(&format!("/payments/{id}?notice={}", notice.as_str())))
    })
    .await
}
