//! The discrepancy ledger: what a person must settle with the gateway, what it means, and what to do.

use super::format::{date_time, relative, won};
use super::forms::{Form, redirect};
use super::page::{Context, Frame, Nav, answer, html, moment};
use super::wording::{Notice, kind_text};
use crate::http::failure::{Case, Failure};
use crate::http::failure_from::managed;
use crate::http::read::{Id, page, text};
use crate::texts::Texts;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use application::manage::ManageError;
use askama::Template;
use domain::ports::{DiscrepancyStatus, DiscrepancyView, StoreError};
use domain::{DiscrepancyId, Timestamp};

const PAGE: u32 = 25;

/// A row as the pages show it.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) kind: &'static str,
    pub(super) open: bool,
    pub(super) means: &'static str,
    pub(super) to_do: &'static str,
    pub(super) payment_id: i64,
    pub(super) order_id: i64,
    pub(super) key: Option<String>,
    pub(super) amount: Option<String>,
    pub(super) evidence: String,
    pub(super) found: String,
    pub(super) ago: String,
    pub(super) resolution: Option<String>,
    pub(super) note: Option<String>,
    pub(super) resolved_by: Option<String>,
    pub(super) resolved_at: Option<String>,
}

pub(super) fn row(view: &DiscrepancyView, now: Timestamp, t: Texts) -> Row {
    let (means, to_do) = kind_text(view.kind, t);
    Row {
        id: view.id.get(),
        kind: view.kind.as_str(),
        open: view.status == DiscrepancyStatus::Open,
        means,
        to_do,
        payment_id: view.payment_id.get(),
        order_id: view.order_id.get(),
        key: view.key.as_ref().map(|key| key.as_str().to_owned()),
        amount: view.amount.map(|amount| won(amount, t)),
        evidence: view.evidence.clone(),
        found: date_time(view.found_at),
        ago: relative(view.found_at, now, t),
        resolution: view.resolution.clone(),
        note: view.note.clone().filter(|note| !note.is_empty()),
        resolved_by: view.resolved_by.clone(),
        resolved_at: view.resolved_at.map(date_time),
    }
}

#[derive(Template)]
#[template(path = "console/discrepancies.html")]
struct DiscrepanciesPage {
    frame: Frame,
    t: Texts,
    /// Name, link, and whether it is shown.
    tabs: [(&'static str, &'static str, bool); 3],
    rows: Vec<Row>,
    none: &'static str,
    next: Option<String>,
    first: Option<String>,
}

#[derive(Template)]
#[template(path = "console/discrepancy.html")]
struct DiscrepancyPage {
    frame: Frame,
    t: Texts,
    row: Row,
    /// What can have been done: value and words.
    resolutions: [(&'static str, &'static str); 5],
}

/// Shows a page of the ledger.
pub(super) async fn list(context: Context) -> HttpResponse {
    answer(&context, async {
        let t = context.texts();
        let (status, none) = match context.parameter("status") {
            "" | "OPEN" => (Some(DiscrepancyStatus::Open), t.say("none-open")),
            "RESOLVED" => (Some(DiscrepancyStatus::Resolved), t.say("none-resolved")),
            "ALL" => (None, t.say("none-at-all")),
            _ => return Err(Failure::parameter("status")),
        };
        let before = context.cursor(DiscrepancyId::new)?;
        let (now, views) = context
            .ops
            .runner
            .run(move |app| async move {
                let now = moment(&app).await?;
                Ok::<_, StoreError>((now, app.queries().discrepancies(status, before, PAGE + 1).await?))
            })
            .await?;
        let (views, cursor) = page(views, PAGE, |view| view.id.get());
        let page = DiscrepanciesPage {
            frame: context.frame(Nav::Discrepancies, t.say("discrepancies")).at(now),
            t,
            tabs: [
                (t.say("open"), "/discrepancies", status == Some(DiscrepancyStatus::Open)),
                (
                    t.say("resolved"),
                    "/discrepancies?status=RESOLVED",
                    status == Some(DiscrepancyStatus::Resolved),
                ),
                (t.say("any"), "/discrepancies?status=ALL", status.is_none()),
            ],
            rows: views.iter().map(|view| row(view, now, t)).collect(),
            none,
            next: cursor.map(|cursor| context.link_with("cursor", &cursor)),
            first: before.map(|_| context.link_with("cursor", "")),
        };
        Ok(html(&page, StatusCode::OK))
    })
    .await
}

/// Shows one row, with what to do about it.
pub(super) async fn show(context: Context) -> HttpResponse {
    answer(&context, async {
        let t = context.texts();
        let id = Id::<DiscrepancyId>::of(context.request())?;
        let (now, view) = context
            .ops
            .runner
            .run(move |app| async move {
                let now = moment(&app).await?;
                Ok::<_, StoreError>((now, app.queries().discrepancy(id).await?))
            })
            .await?;
        let view = view.ok_or(Failure::new(Case::DiscrepancyNotFound))?;
        let title = format!("{} {id}", view.kind.as_str());
        let page = DiscrepancyPage {
            frame: context.frame(Nav::Discrepancies, title).at(now),
            t,
            row: row(&view, now, t),
            resolutions: [
                ("REFUNDED", t.say("done-refunded")),
                ("CANCELLED", t.say("done-cancelled")),
                ("NOT_CHARGED", t.say("done-no-charge")),
                ("ACCEPTED", t.say("done-accepted")),
                ("OTHER", t.say("done-other")),
            ],
        };
        Ok(html(&page, StatusCode::OK))
    })
    .await
}

/// Marks a row as resolved.
pub(super) async fn resolve(context: Context, form: Form) -> HttpResponse {
    answer(&context, async {
        let id = Id::<DiscrepancyId>::of(context.request())?;
        let actor = context.actor();
        let resolution = text(form.text("resolution").to_owned(), "resolution", 1..=100)?;
        // A browser sends line breaks as CR LF.
        let note = text(form.text("note").replace("\r\n", "\n"), "note", 0..=1000)?;
        let resolved = context
            .ops
            .runner
            .run(move |app| async move {
                match app.resolve_discrepancy(id, &resolution, &note, &actor).await {
                    Ok(_) => Ok(Notice::Resolved),
                    Err(ManageError::AlreadyExists) => Ok(Notice::ResolvedBefore),
                    Err(error) => Err(managed(error, Case::DiscrepancyNotFound, Case::AlreadyResolved)),
                }
            })
            .await?;
        Ok(redirect(&format!("/discrepancies/{id}?notice={}", resolved.as_str())))
    })
    .await
}
