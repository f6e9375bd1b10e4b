//! The circuits of this process: their windows, their last hour, and what can be done to them by hand.

use super::CircuitLimits;
use super::chart::{self, Chart, Rect};
use super::format::length;
use super::forms::{Form, redirect};
use super::history::History;
use super::page::{Context, Frame, Nav, answer, html};
use super::wording::{Notice, circuit_text};
use crate::http::failure::{Case, Failure};
use crate::ops::{CircuitBody, CircuitCommand};
use crate::texts::Texts;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;

/// A circuit as the pages show it.
pub(super) struct CircuitPanel {
    pub(super) name: String,
    pub(super) state: String,
    /// The class of the state's badge.
    pub(super) class: &'static str,
    pub(super) meaning: &'static str,
    pub(super) failure_rate: Option<String>,
    pub(super) slow_rate: Option<String>,
    pub(super) failure_limit: String,
    pub(super) slow_limit: String,
    pub(super) not_permitted: u64,
    /// How long until the next call is let through.
    pub(super) retry_after: Option<String>,
    pub(super) window: Vec<Rect>,
    pub(super) window_text: String,
    pub(super) states: Chart,
    pub(super) rates: Chart,
    pub(super) commands: Vec<Command>,
}

/// Something that can be done to a circuit.
pub(super) struct Command {
    pub(super) state: &'static str,
    pub(super) words: &'static str,
    pub(super) help: &'static str,
    /// It stops something: it is drawn so.
    pub(super) dangerous: bool,
}

#[derive(Template)]
#[template(path = "console/circuits.html")]
struct CircuitsPage {
    frame: Frame,
    t: Texts,
    circuits: Vec<CircuitPanel>,
}

/// All circuits.
pub(super) fn panels(context: &Context, circuits: &[CircuitBody], history: &History) -> Vec<CircuitPanel> {
    circuits.iter().map(|circuit| panel(context, circuit, history)).collect()
}

fn panel(context: &Context, circuit: &CircuitBody, history: &History) -> CircuitPanel {
    let t = context.texts();
    let limits = context.console.limits.iter().find(|limits| limits.name == circuit.name);
    let class = match chart::state_class(&circuit.state) {
        "fill-ok" => "ok",
        "fill-bad" => "bad",
        "fill-warn" => "warn",
        _ => "idle",
    };
    let rate = |rate: f64| (rate >= 0.0).then(|| format!("{rate:.1}%"));
    let limit = |percent: Option<u8>| percent.map_or("–".to_owned(), |percent| format!("{percent}%"));
    let (window, window_text) = window(context, circuit, limits);
    let runs = history.states(&circuit.name);
    let rates = history.failure_rates(&circuit.name);
    let chart = |label: String, rects: Vec<Rect>, lines, empty| Chart {
        label,
        top: "100%".to_owned(),
        left: t.say("hour-ago").to_owned(),
        right: t.say("now").to_owned(),
        rects,
        lines,
        empty,
    };
    let mut seen: Vec<&str> = runs.iter().map(|run| run.state).collect();
    seen.dedup();
    let threshold = limits.map_or(100.0, |limits| f64::from(limits.failure_percent));
    CircuitPanel {
        name: circuit.name.clone(),
        state: circuit.state.clone(),
        class,
        meaning: circuit_text(&circuit.state, context.texts()),
        failure_rate: rate(circuit.failure_rate),
        slow_rate: rate(circuit.slow_call_rate),
        failure_limit: limit(limits.map(|limits| limits.failure_percent)),
        slow_limit: limit(limits.map(|limits| limits.slow_percent)),
        not_permitted: circuit.not_permitted_calls,
        retry_after: circuit
            .retry_after
            .map(|wait| length(std::time::Duration::from_secs(wait), context.texts())),
        window,
        window_text,
        states: chart(
            format!("{}: {}", t.say("last-hour"), seen.join(", ")),
            chart::states(&runs),
            Vec::new(),
            runs.is_empty(),
        ),
        rates: chart(
            t.say("failure-rate-hour").to_owned(),
            Vec::new(),
            vec![chart::level(threshold, 100.0, "line-limit"), chart::line(&rates, 100.0, "line-first")],
            rates.iter().all(|(_, rate)| rate.is_none()),
        ),
        commands: commands(context, circuit),
    }
}

/// The window drawn, and in words.
fn window(context: &Context, circuit: &CircuitBody, limits: Option<&CircuitLimits>) -> (Vec<Rect>, String) {
    let t = context.texts();
    let recorded = circuit.buffered_calls;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a u32, from 0 on"
    )]
    let failed = (circuit.failure_rate.max(0.0) / 100.0 * f64::from(recorded)).round() as u32;
    let counts_calls = limits.is_none_or(|limits| limits.counts_calls);
    let size = match limits {
        Some(limits) if limits.counts_calls => limits.window,
        // A window of time has no size in calls: it is full with what it holds.
        Some(_) | None => recorded.max(1),
    };
    let titles = [
        format!("{}: {failed}", t.say("failed")),
        format!("{}: {}", t.say("good"), recorded.saturating_sub(failed)),
        format!("{}: {}", t.say("free"), size.saturating_sub(recorded)),
    ];
    let mut rects = chart::window(failed, recorded, size, titles);
    if let Some(limits) = limits.filter(|limits| recorded >= limits.minimum) {
        let title = format!("{} {}%", t.say("opens-at"), limits.failure_percent);
        rects.push(chart::limit(limits.failure_percent, recorded, size, title));
    }
    let of = limits.map_or(size, |limits| limits.window);
    let minimum = limits.map_or(0, |limits| limits.minimum);
    let size = ("size", of.into());
    let recorded = ("recorded", recorded.into());
    let text = match (counts_calls, circuit.failure_rate < 0.0) {
        (true, true) => t.fill("window-too-few", [size, recorded, ("minimum", minimum.into())]),
        (true, false) => t.fill("window-calls", [size, recorded, ("failed", failed.into())]),
        (false, _) => t.fill("window-seconds", [size, recorded, ("failed", failed.into())]),
    };
    (rects, text)
}

fn commands(context: &Context, circuit: &CircuitBody) -> Vec<Command> {
    let t = context.texts();
    let force_help =
        if circuit.name == "pg-payment" { t.say("force-open-help") } else { t.say("force-open-query-help") };
    let all = [
        (CircuitCommand::Closed, t.say("close"), t.say("close-help"), false),
        (CircuitCommand::ForcedOpen, t.say("force-open"), force_help, true),
        (CircuitCommand::Disabled, t.say("disable"), t.say("disable-help"), true),
        (CircuitCommand::Reset, t.say("reset"), t.say("reset-help"), false),
    ];
    all.into_iter()
        .map(|(command, words, help, dangerous)| (command.as_str(), words, help, dangerous))
        // What it is already is nothing to do.
        .filter(|(state, ..)| *state != circuit.state)
        .map(|(state, words, help, dangerous)| Command { state, words, help, dangerous })
        .collect()
}

/// Shows all circuits.
pub(super) async fn show(context: Context) -> HttpResponse {
    answer(&context, async {
        let circuits = context.ops.circuits.list();
        let history = context.console.history.read();
        let page = CircuitsPage {
            frame: context.frame(Nav::Circuits, context.texts().say("circuits")),
            t: context.texts(),
            circuits: panels(&context, &circuits, &history),
        };
        Ok(html(&page, StatusCode::OK))
    })
    .await
}

/// Sets a circuit by hand.
pub(super) async fn set(context: Context, form: Form) -> HttpResponse {
    answer(&context, async {
        let command = [
            CircuitCommand::ForcedOpen,
            CircuitCommand::Closed,
            CircuitCommand::Disabled,
            CircuitCommand::Reset,
        ]
        .into_iter()
        .find(|command| command.as_str() == form.text("state"))
        .ok_or_else(|| Failure::field("state"))?;
        let circuit = context.ops.circuits.set(context.part("name"), command);
        let circuit = circuit.ok_or(Failure::new(Case::CircuitNotFound))?;
        let (actor, command) = (context.actor(), command.as_str());
        tracing::warn!(circuit = circuit.name, command, actor, "console: circuit set by hand");
        Ok(redirect(&format!("/circuits?notice={}", Notice::CircuitSet.as_str())))
    })
    .await
}
