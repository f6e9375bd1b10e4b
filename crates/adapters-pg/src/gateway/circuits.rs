//! The circuits as an operator sees and sets them (`GET` and `POST /admin/circuits`).

use super::guard::now;
use crate::breaker::{CircuitBreaker, Command, Snapshot, UnknownCommand};
use serde::Serialize;

/// A handle on both circuits. Clones are handles on the same ones.
#[derive(Debug, Clone)]
pub struct Circuits {
    payments: CircuitBreaker,
    queries: CircuitBreaker,
}

/// A circuit as it stands in the operations API (spec 03).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitView {
    /// `pg-payment` or `pg-query`.
    pub name: String,
    /// `CLOSED`, `OPEN`, `HALF_OPEN`, `FORCED_OPEN`, `DISABLED` or `METRICS_ONLY`.
    pub state: &'static str,
    /// In percent; -1 while too few results are there.
    pub failure_rate: f64,
    /// In percent; -1 while too few results are there.
    pub slow_call_rate: f64,
    /// Results in the window.
    pub buffered_calls: u32,
    /// Rejected calls since the process started.
    pub not_permitted_calls: u64,
    /// Whole seconds, rounded up, until an open circuit lets the next call through; `null` in other states.
    pub retry_after: Option<u64>,
}

/// A circuit could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetCircuitError {
    /// There is no circuit of that name.
    #[error("unknown circuit; known are pg-payment and pg-query")]
    UnknownCircuit,
    /// There is no such state to set.
    #[error("set the circuit's state")]
    UnknownState(#[source] UnknownCommand),
}

impl Circuits {
    pub(super) fn new(payments: CircuitBreaker, queries: CircuitBreaker) -> Self {
        Self { payments, queries }
    }

    /// Both, as they are now.
    #[must_use]
    pub fn list(&self) -> Vec<CircuitView> {
        self.snapshots().iter().map(CircuitView::from).collect()
    }

    /// Both in all detail.
    #[must_use]
    pub fn snapshots(&self) -> [Snapshot; 2] {
        [self.payments.snapshot(now()), self.queries.snapshot(now())]
    }

    /// Does what an operator wants: `FORCED_OPEN`, `CLOSED`, `DISABLED`, `METRICS_ONLY` or `RESET`. Returns the circuit as it
    /// is then.
    ///
    /// # Errors
    /// [`SetCircuitError`]; nothing has changed then.
    pub fn set(&self, name: &str, state: &str) -> Result<CircuitView, SetCircuitError> {
        let circuit = [&self.payments, &self.queries]
            .into_iter()
            .find(|circuit| circuit.name() == name)
            .ok_or(SetCircuitError::UnknownCircuit)?;
        let command: Command = state.parse().map_err(SetCircuitError::UnknownState)?;
        circuit.apply(command, now());
        Ok(CircuitView::from(&circuit.snapshot(now())))
    }
}

impl From<&Snapshot> for CircuitView {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            name: snapshot.name.as_ref().to_owned(),
            state: snapshot.state.as_str(),
            failure_rate: snapshot.failure_percent(),
            slow_call_rate: snapshot.slow_call_percent(),
            buffered_calls: snapshot.buffered.calls,
            not_permitted_calls: snapshot.totals.not_permitted,
            retry_after: snapshot.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
        }
    }
}
