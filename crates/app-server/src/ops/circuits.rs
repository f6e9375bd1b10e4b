//! The circuits, and what an operator does to them by hand.

use super::{Actor, OperatorParam};
use crate::http::envelope::{Envelope, ok};
use crate::http::failure::{Case, Failure};
use crate::http::read::Json;
use crate::state::OpsState;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The circuits of this process; the adapter of the payment gateway has them.
pub trait Circuits: Send + Sync {
    /// All of them, by name.
    fn list(&self) -> Vec<CircuitBody>;

    /// Sets one by hand. `None` when there is none of that name.
    fn set(&self, name: &str, state: CircuitCommand) -> Option<CircuitBody>;
}

/// What one circuit looks like now.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBody {
    /// `pg-payment` or `pg-query`.
    #[schema(example = "pg-payment")]
    pub name: String,
    /// CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, DISABLED or METRICS_ONLY.
    #[schema(example = "CLOSED")]
    pub state: String,
    /// In percent; -1 while too few calls were recorded.
    #[schema(example = 12.5)]
    pub failure_rate: f64,
    /// In percent; -1 while too few calls were recorded.
    #[schema(example = 0.0)]
    pub slow_call_rate: f64,
    /// Calls in the window.
    #[schema(example = 40)]
    pub buffered_calls: u32,
    /// Calls that were not let through since the window began.
    #[schema(example = 0)]
    pub not_permitted_calls: u64,
    /// Seconds until the next call is let through; `null` when it is not open.
    #[schema(required = true)]
    pub retry_after: Option<u64>,
}

/// What an operator can do to a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CircuitCommand {
    /// No call is let through until it is changed by hand.
    ForcedOpen,
    /// Closes it, with an empty window.
    Closed,
    /// Every call is let through, nothing is recorded.
    Disabled,
    /// Every call is let through and recorded, nothing opens it.
    MetricsOnly,
    /// As after the program's start.
    Reset,
}

impl CircuitCommand {
    /// As it stands in the request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ForcedOpen => "FORCED_OPEN",
            Self::Closed => "CLOSED",
            Self::Disabled => "DISABLED",
            Self::MetricsOnly => "METRICS_ONLY",
            Self::Reset => "RESET",
        }
    }
}

/// All circuits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CircuitList {
    circuits: Vec<CircuitBody>,
}

/// A circuit's state to be set.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SetCircuitBody {
    state: CircuitCommand,
}

/// Shows this process's circuits.
#[utoipa::path(
    get, path = "/admin/circuits", operation_id = "listCircuits", tag = "operations",
    responses((status = 200, description = "All of them", body = Envelope<CircuitList>)),
)]
pub(crate) async fn list_circuits(state: web::Data<OpsState>) -> Result<HttpResponse, Failure> {
    ok(CircuitList { circuits: state.circuits.list() })
}

/// Sets a circuit of this process by hand.
#[utoipa::path(
    post, path = "/admin/circuits/{name}", operation_id = "setCircuit", tag = "operations",
    params(("name" = String, Path, example = "pg-payment"), OperatorParam),
    request_body(content = SetCircuitBody, example = json!({ "state": "CLOSED" })),
    responses((status = 200, description = "The circuit after it", body = Envelope<CircuitBody>)),
)]
pub(crate) async fn set_circuit(
    state: web::Data<OpsState>,
    name: web::Path<String>,
    Actor(actor): Actor,
    Json(body): Json<SetCircuitBody>,
) -> Result<HttpResponse, Failure> {
    let command = body.state;
    let circuit = state.circuits.set(&name, command).ok_or(Failure::new(Case::CircuitNotFound))?;
    tracing::warn!(circuit = circuit.name, command = command.as_str(), actor, "circuit set by hand");
    ok(circuit)
}
