//! The admin calls: settings, books, outage, and what a person does to a gateway. All in the same envelope.

use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes, Data, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Shared;
use super::gateway_api::{is_json, read_whole};
use super::reply::ADMIN;
use crate::engine::{LONGEST_SCRIPT, LookupFate, Refusal, RequestFate, Totals};
use crate::knobs::{KnobError, Knobs};

/// At most so many ledger rows in one answer.
const LARGEST_PAGE: usize = 100_000;

type Body = Result<Bytes, actix_web::Error>;

pub(super) fn routes(config: &mut ServiceConfig) {
    let resource = |path: &str| -> Resource { web::resource(path).default_service(web::to(wrong_method)) };
    config
        .service(
            resource("/admin/config")
                .route(web::get().to(show_config))
                .route(web::put().to(replace_config))
                .route(web::patch().to(change_config)),
        )
        .service(resource("/admin/ledger").route(web::get().to(ledger)))
        .service(resource("/admin/requests").route(web::get().to(requests)))
        .service(resource("/admin/outage").route(web::post().to(outage)))
        .service(resource("/admin/script").route(web::post().to(script)))
        .service(resource("/admin/reset").route(web::post().to(reset)))
        .service(resource("/admin/wipe").route(web::post().to(wipe)))
        .service(resource("/admin/restart").route(web::post().to(restart)))
        .service(resource("/admin/transactions/{transaction_key}/settle").route(web::post().to(settle)));
}

async fn show_config(shared: Data<Shared>) -> HttpResponse {
    let knobs = shared.engine().knobs().clone();
    ADMIN.success(knobs)
}

async fn change_config(request: HttpRequest, body: Body, shared: Data<Shared>) -> HttpResponse {
    match read::<Value>(&request, body) {
        Ok(change) => configured(shared.patch(&change)),
        Err(refused) => ADMIN.refusal(refused),
    }
}

/// What is not mentioned comes back to its default.
async fn replace_config(request: HttpRequest, body: Body, shared: Data<Shared>) -> HttpResponse {
    match read::<Value>(&request, body) {
        Ok(change) => configured(shared.patch_over(&Knobs::default(), &change)),
        Err(refused) => ADMIN.refusal(refused),
    }
}

fn configured(result: Result<Knobs, KnobError>) -> HttpResponse {
    match result {
        Ok(knobs) => {
            tracing::info!("configuration changed");
            ADMIN.success(knobs)
        }
        Err(error) => bad_request(error.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selection {
    order_id: Option<String>,
    merchant: Option<String>,
    /// Only entries with a greater id.
    after: Option<u64>,
    limit: Option<usize>,
}

async fn ledger(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    let selection = match Query::<Selection>::from_query(request.query_string()) {
        Ok(selection) => selection.into_inner(),
        Err(error) => return bad_request(error.to_string()),
    };
    let limit = selection.limit.unwrap_or(LARGEST_PAGE);
    if limit == 0 || limit > LARGEST_PAGE {
        return bad_request(format!("limit: must be from 1 to {LARGEST_PAGE}"));
    }
    let mut entries = shared.with_engine(|engine, now| engine.ledger(now));
    entries.retain(|entry| {
        selection.order_id.as_ref().is_none_or(|order_id| *order_id == entry.order_id)
            && selection.merchant.as_ref().is_none_or(|merchant| *merchant == entry.merchant)
            && selection.after.is_none_or(|after| entry.id > after)
    });
    let totals = Totals::of(&entries);
    entries.truncate(limit);
    ADMIN.success(json!({ "transactions": entries, "totals": totals }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfOrder {
    order_id: Option<String>,
}

async fn requests(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    let of_order = match Query::<OfOrder>::from_query(request.query_string()) {
        Ok(query) => query.into_inner().order_id,
        Err(error) => return bad_request(error.to_string()),
    };
    let log = shared.engine().log().clone();
    let orders: Vec<Value> = log
        .posts()
        .iter()
        .filter(|(order_id, _)| of_order.as_ref().is_none_or(|wanted| wanted == *order_id))
        .map(|(order_id, posts)| json!({ "orderId": order_id, "count": posts.len(), "posts": posts }))
        .collect();
    ADMIN.success(json!({ "counts": log.counts(), "orders": orders }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutageSwitch {
    on: bool,
    mode: Option<String>,
}

async fn outage(request: HttpRequest, body: Body, shared: Data<Shared>) -> HttpResponse {
    let switch: OutageSwitch = match read(&request, body) {
        Ok(switch) => switch,
        Err(refused) => return ADMIN.refusal(refused),
    };
    let mode = match (switch.on, switch.mode) {
        (false, _) => "off".to_owned(),
        (true, None) => "close".to_owned(),
        (true, Some(mode)) if mode == "off" => {
            return bad_request("mode: an outage that is on cannot be off");
        }
        (true, Some(mode)) => mode,
    };
    match shared.patch(&json!({ "outage": mode })) {
        Ok(knobs) => {
            tracing::warn!(outage = mode, "outage switched");
            ADMIN.success(json!({ "outage": knobs.outage }))
        }
        Err(error) => bad_request(format!("mode: {}", error.problem)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    /// Takes the place of what is left of an earlier one; left out, the earlier one goes on.
    requests: Option<Vec<String>>,
    /// The same for look-ups.
    lookups: Option<Vec<String>>,
}

async fn script(request: HttpRequest, body: Body, shared: Data<Shared>) -> HttpResponse {
    let script: Script = match read(&request, body) {
        Ok(script) => script,
        Err(refused) => return ADMIN.refusal(refused),
    };
    let requests = script.requests.map(|names| named("requests", &names, RequestFate::named)).transpose();
    let lookups = script.lookups.map(|names| named("lookups", &names, LookupFate::named)).transpose();
    match (requests, lookups) {
        (Ok(requests), Ok(lookups)) => {
            let length = |count: Option<usize>| count.unwrap_or_default();
            let taken = json!({
                "requests": length(requests.as_ref().map(Vec::len)), "lookups": length(lookups.as_ref().map(Vec::len)),
            });
            let mut engine = shared.engine();
            if let Some(requests) = requests {
                engine.script_requests(requests);
            }
            if let Some(lookups) = lookups {
                engine.script_lookups(lookups);
            }
            ADMIN.success(taken)
        }
        (Err(problem), _) | (_, Err(problem)) => bad_request(problem),
    }
}

fn named<F>(key: &str, names: &[String], find: fn(&str) -> Option<F>) -> Result<Vec<F>, String> {
    if names.len() > LONGEST_SCRIPT {
        return Err(format!("{key}: at most {LONGEST_SCRIPT}"));
    }
    names.iter().map(|name| find(name).ok_or_else(|| format!("{key}: there is no fate {name:?}"))).collect()
}

async fn reset(shared: Data<Shared>) -> HttpResponse {
    match shared.reset() {
        Ok(()) => {
            tracing::warn!("reset to the state at start");
            ADMIN.success(json!({}))
        }
        Err(error) => bad_request(error.to_string()),
    }
}

async fn wipe(shared: Data<Shared>) -> HttpResponse {
    let wiped = shared.with_engine(crate::engine::Engine::wipe);
    tracing::warn!(wiped, "all transactions forgotten");
    ADMIN.success(json!({ "wiped": wiped }))
}

async fn restart(shared: Data<Shared>) -> HttpResponse {
    let stuck = shared.with_engine(crate::engine::Engine::restart);
    tracing::warn!(stuck, "restarted: what was undecided stays so");
    ADMIN.success(json!({ "stuck": stuck }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    status: Decided,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Decided {
    Success,
    Failed,
}

async fn settle(request: HttpRequest, key: Path<String>, body: Body, shared: Data<Shared>) -> HttpResponse {
    let verdict: Verdict = match read(&request, body) {
        Ok(verdict) => verdict,
        Err(refused) => return ADMIN.refusal(refused),
    };
    let succeed = matches!(verdict.status, Decided::Success);
    match shared.with_engine(|engine, now| engine.settle(now, &key, succeed)) {
        Ok(entry) => ADMIN.success(entry),
        Err(refusal) => ADMIN.refusal(refusal),
    }
}

fn read<T: DeserializeOwned>(request: &HttpRequest, body: Body) -> Result<T, Refusal> {
    if !is_json(request) {
        return Err(Refusal {
            status: 415,
            error_code: "Unsupported Media Type",
            message: "Content-Type은 application/json 이어야 합니다.".to_owned(),
        });
    }
    let body = read_whole(body)?;
    serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(format!("(body): {error}")))
}

/// 405 in the envelope.
async fn wrong_method(method: Method) -> HttpResponse {
    let message = format!("{method} 메서드는 지원하지 않습니다.");
    ADMIN.failure(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn bad_request(message: impl Into<String>) -> HttpResponse {
    ADMIN.failure(StatusCode::BAD_REQUEST, message)
}
