//! What the reconciler looks at next and what it did lately, as far as the database shows it.
//!
//! Its turns leave no record but the metrics of its own process, which this program does not call: the page says so, and
//! shows instead whether anything that is due is left lying.

use super::alarms::is_overdue;
use super::format::{date_time, relative, won};
use super::page::{Context, Frame, Nav, answer, html};
use super::payments::status_class;
use crate::texts::Texts;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;
use domain::ports::{Cause, RecentEvent, StoreError, UpcomingCheck, Worklist};

/// So many of the next looks are held against the clock ...
const LOOKED_AT: u32 = 200;
/// ... and so many shown.
const COMING: usize = 20;
/// So many of the last changes are shown.
const LATELY: u32 = 20;

struct ComingRow {
    payment_id: i64,
    status: &'static str,
    class: &'static str,
    watched: bool,
    amount: String,
    due: String,
    /// A word about it and its class.
    mark: Option<(&'static str, &'static str)>,
    failures: u32,
}

struct ChangeRow {
    payment_id: i64,
    status: &'static str,
    class: &'static str,
    reason: String,
    at: String,
    ago: String,
}

#[derive(Template)]
#[template(path = "console/reconciler.html")]
struct ReconcilerPage {
    frame: Frame,
    t: Texts,
    overdue: usize,
    overdue_text: String,
    schedule: String,
    bind: String,
    coming: Vec<ComingRow>,
    more: bool,
    lately: Vec<ChangeRow>,
}

/// Shows what is due and what was done.
pub(super) async fn show(context: Context) -> HttpResponse {
    answer(&context, async {
        let (worklist, recent) = context
            .ops
            .runner
            .run(|app| async move {
                let queries = app.queries();
                let worklist = queries.worklist(LOOKED_AT).await?;
                let recent = queries.recent_events(Cause::Reconciler, LATELY).await?;
                Ok::<_, StoreError>((worklist, recent))
            })
            .await?;
        let t = context.texts();
        let overdue = worklist.checks.iter().filter(|check| is_overdue(check, &worklist)).count();
        let page = ReconcilerPage {
            frame: context.frame(Nav::Reconciler, t.say("reconciler")).at(worklist.now),
            t,
            overdue,
            overdue_text: t.fill("overdue-looks", [("count", overdue.into())]),
            schedule: context.console.reconciler.schedule.clone(),
            bind: context.console.reconciler.bind.to_string(),
            coming: worklist
                .checks
                .iter()
                .take(COMING)
                .map(|check| coming(check, &worklist, &context))
                .collect(),
            more: worklist.checks.len() > COMING,
            lately: recent.iter().map(|recent| change(recent, &worklist, &context)).collect(),
        };
        Ok(html(&page, StatusCode::OK))
    })
    .await
}

fn coming(check: &UpcomingCheck, worklist: &Worklist, context: &Context) -> ComingRow {
    let t = context.texts();
    let mark = if check.parked {
        Some((t.say("parked"), "bad"))
    } else if check.leased_until.is_some() {
        Some((t.say("under-way"), "idle"))
    } else if is_overdue(check, worklist) {
        Some((t.say("overdue"), "bad"))
    } else {
        None
    };
    ComingRow {
        payment_id: check.payment_id.get(),
        status: check.status.as_str(),
        class: status_class(check.status),
        watched: check.status.is_terminal(),
        amount: won(check.paid_amount, context.texts()),
        due: check.due_at.map_or("–".to_owned(), |due| relative(due, worklist.now, context.texts())),
        mark,
        failures: check.failures,
    }
}

fn change(recent: &RecentEvent, worklist: &Worklist, context: &Context) -> ChangeRow {
    let event = &recent.event;
    ChangeRow {
        payment_id: recent.payment_id.get(),
        status: event.to.as_str(),
        class: status_class(event.to),
        reason: event.reason.clone().unwrap_or_default(),
        at: date_time(event.at),
        ago: relative(event.at, worklist.now, context.texts()),
    }
}
