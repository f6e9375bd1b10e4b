//! The operator's console: pages that say within a minute what is wrong, whom it touches, and what to press.
//!
//! The server draws everything, charts included (SVG), so that each page works without JavaScript; with it, the parts
//! marked `data-live` follow every two seconds. No file comes from another host, and the policy lets none. What changes
//! something is a form that is posted from this console's own pages (`ops::access` refuses all others), is logged with
//! the operator's name, and answers with a redirect, so that going back or loading again repeats nothing.
//!
//! What happened lately (orders a minute, latencies, states of the circuits) is kept in memory for an hour by one task that
//! reads the same numbers as `/metrics`; it is this process's, and gone when it ends.
//!
//! Deliberately absent: a JSON interface of its own (that is `/admin`), users and roles (there is one token), and anything
//! that moves money: refunds are made with the gateway, and noted here.

mod alarms;
mod assets;
mod chart;
mod circuits;
mod discrepancies;
mod format;
mod forms;
mod history;
mod latency;
mod overview;
mod page;
mod payment;
mod payments;
mod reconciler;
mod scrape;
mod session;
mod wording;

use crate::http::routes::resource;
use crate::state::OpsState;
use actix_web::web;
use bootstrap::settings::{CircuitSettings, Settings};
use history::{Recorder, Shared};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use session::{Sessions, lets_in, to_login};
#[cfg(test)]
pub(crate) use wording::spoken_keys;

/// What the pages share beside [`OpsState`].
pub(crate) struct Console {
    pub(crate) sessions: Sessions,
    history: Shared,
    limits: [CircuitLimits; 2],
    reconciler: ReconcilerFacts,
    needs_token: bool,
}

/// When a circuit opens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CircuitLimits {
    name: &'static str,
    window: u32,
    counts_calls: bool,
    minimum: u32,
    failure_percent: u8,
    slow_percent: u8,
    slow: Duration,
    open: Duration,
    probes: u32,
}

/// Where the reconciler is, as far as the settings say.
#[derive(Debug, Clone)]
struct ReconcilerFacts {
    schedule: String,
    bind: SocketAddr,
}

impl CircuitLimits {
    fn new(name: &'static str, settings: &CircuitSettings) -> Self {
        Self {
            name,
            window: settings.sliding_window_size,
            counts_calls: settings.sliding_window_type.as_str() == "count",
            minimum: settings.minimum_number_of_calls,
            failure_percent: settings.failure_rate_threshold,
            slow_percent: settings.slow_call_rate_threshold,
            slow: settings.slow_call_duration,
            open: settings.wait_duration_in_open_state,
            probes: settings.permitted_calls_in_half_open,
        }
    }
}

/// Begins to record what the pages show.
pub(crate) fn start(ops: &Arc<OpsState>, settings: &Settings) -> Console {
    let history = Shared::default();
    let recorder = Recorder::new(Arc::clone(ops), history.clone());
    ops.runner.detach(recorder.run());
    Console {
        sessions: Sessions::default(),
        history,
        limits: [
            CircuitLimits::new("pg-payment", &settings.pg.payment.circuit),
            CircuitLimits::new("pg-query", &settings.pg.query.circuit),
        ],
        reconciler: ReconcilerFacts {
            schedule: settings.reconciler.schedule.as_str().to_owned(),
            bind: settings.reconciler.bind,
        },
        needs_token: settings.ops.token.is_some(),
    }
}

/// All pages of the console.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let (get, post) = (web::get, web::post);
    config
        .service(resource("/", "GET, HEAD", [get().to(overview::show)]))
        .service(resource("/payments", "GET, HEAD", [get().to(payments::list)]))
        .service(resource("/payments/{paymentId}", "GET, HEAD", [get().to(payment::show)]))
        .service(resource("/payments/{paymentId}/sync", "POST", [post().to(payment::sync)]))
        .service(resource("/discrepancies", "GET, HEAD", [get().to(discrepancies::list)]))
        .service(resource("/discrepancies/{discrepancyId}", "GET, HEAD", [get().to(discrepancies::show)]))
        .service(resource(
            "/discrepancies/{discrepancyId}/resolve",
            "POST",
            [post().to(discrepancies::resolve)],
        ))
        .service(resource("/circuits", "GET, HEAD", [get().to(circuits::show)]))
        .service(resource("/circuits/{name}", "POST", [post().to(circuits::set)]))
        .service(resource("/reconciler", "GET, HEAD", [get().to(reconciler::show)]))
        .service(resource("/login", "GET, HEAD, POST", [get().to(session::show), post().to(session::begin)]))
        .service(resource("/logout", "POST", [post().to(session::end)]))
        .service(resource("/assets/{file}", "GET, HEAD", [get().to(assets::file)]));
}
