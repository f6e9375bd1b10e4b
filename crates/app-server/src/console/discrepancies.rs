//! The discrepancy ledger: what a person must settle with the gateway, what it means, and what to do.

use super::format::{date_time, relative, won};
use super::forms::{Form, redirect};
use super::page::{Context, Frame, Nav, answer, html};
use super::text::{Notice, Texts, kind_text};
use crate::http::failure::{Case, Failure};
use crate::http::failure_from::managed;
use crate::http::read::{digits, page, path_id};
use crate::ops::payments::text;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use application::manage::ManageError;
use askama::Template;
use bootstrap::settings::Locale;
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

pub(super) fn row(view: &DiscrepancyView, now: Timestamp, locale: Locale) -> Row {
    let (means, to_do) = kind_text(view.kind, locale);
    Row {
        id: view.id.get(),
        kind: view.kind.as_str(),
        open: view.status == DiscrepancyStatus::Open,
        means,
        to_do,
        payment_id: view.payment_id.get(),
        order_id: view.order_id.get(),
        key: view.key.as_ref().map(|key| key.as_str().to_owned()),
        amount: view.amount.map(|amount| won(amount, locale)),
        evidence: view.evidence.clone(),
        found: date_time(view.found_at),
        ago: relative(view.found_at, now, locale),
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
    t: &'static Texts,
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
    t: &'static Texts,
    row: Row,
    /// What can have been done: value and words.
    resolutions: [(&'static str, &'static str); 5],
}

/// Shows a page of the ledger.
pub(super) async fn list(context: Context) -> HttpResponse {
    answer(&context, async {
        let t = context.texts();
        let (status, none) = match context.parameter("status") {
            "" | "OPEN" => (Some(DiscrepancyStatus::Open), t.none_open),
            "RESOLVED" => (Some(DiscrepancyStatus::Resolved), t.none_resolved),
            "ALL" => (None, t.none_at_all),
            _ => return Err(Failure::parameter("status")),
        };
        let before = match context.parameter("cursor") {
            "" => None,
            text => {
                let id = digits(text).and_then(|id| DiscrepancyId::new(id).ok());
                Some(id.ok_or_else(|| Failure::parameter("cursor"))?)
            }
        };
        let (now, views) = context
            .ops
            .run(move |app| async move {
                let now = app.queries().worklist(app.policy().min_age, 1).await?.now;
                Ok::<_, StoreError>((now, app.queries().discrepancies(status, before, PAGE + 1).await?))
            })
            .await?;
        let (views, cursor) = page(views, PAGE, |view| view.id.get());
        let page = DiscrepanciesPage {
            frame: context.frame(Nav::Discrepancies, t.discrepancies).at(now),
            t,
            tabs: [
                (t.open, "/discrepancies", status == Some(DiscrepancyStatus::Open)),
                (t.resolved, "/discrepancies?status=RESOLVED", status == Some(DiscrepancyStatus::Resolved)),
                (t.any, "/discrepancies?status=ALL", status.is_none()),
            ],
            rows: views.iter().map(|view| row(view, now, context.locale)).collect(),
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
        let id = path_id(context.request(), "discrepancyId", DiscrepancyId::new)?;
        let (now, view) = context
            .ops
            .run(move |app| async move {
                let now = app.queries().worklist(app.policy().min_age, 1).await?.now;
                Ok::<_, StoreError>((now, app.queries().discrepancy(id).await?))
            })
            .await?;
        let view = view.ok_or(Failure::new(Case::DiscrepancyNotFound))?;
        let title = format!("{} {id}", view.kind.as_str());
        let page = DiscrepancyPage {
            frame: context.frame(Nav::Discrepancies, title).at(now),
            t,
            row: row(&view, now, context.locale),
            resolutions: [
                ("REFUNDED", t.done_refunded),
                ("CANCELLED", t.done_cancelled),
                ("NOT_CHARGED", t.done_no_charge),
                ("ACCEPTED", t.done_accepted),
                ("OTHER", t.done_other),
            ],
        };
        Ok(html(&page, StatusCode::OK))
    })
    .await
}

/// Marks a row as resolved.
pub(super) async fn resolve(context: Context, form: Form) -> HttpResponse {
    answer(&context, async {
        let id = path_id(context.request(), "discrepancyId", DiscrepancyId::new)?;
        let actor = context.actor();
        let resolution = text(form.text("resolution").to_owned(), "resolution", 1..=100)?;
        // A browser sends line breaks as CR LF.
        let note = text(form.text("note").replace("\r\n", "\n"), "note", 0..=1000)?;
        let resolved = context
            .ops
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
