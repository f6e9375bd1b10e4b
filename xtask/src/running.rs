//! What `up` runs, written to `target/up/state.json` for the commands that talk to it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The addresses of one running system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct System {
    /// Public API, without a slash at the end.
    pub(crate) api: String,
    /// Operations port of the app-server.
    pub(crate) ops: String,
    /// The simulated gateway.
    pub(crate) simulator: String,
    /// Operations port of the reconciler.
    pub(crate) reconciler: String,
    pub(crate) database: String,
    /// When the simulator was started, by the database's clock (RFC 3339): its ledger begins there.
    pub(crate) simulator_since: String,
    /// Program and process id of all that was started.
    pub(crate) processes: Vec<(String, u32)>,
}

/// The folder of `up`: state, secret.
pub(crate) fn folder(root: &Path) -> PathBuf {
    root.join("target").join("up")
}

fn file(root: &Path) -> PathBuf {
    folder(root).join("state.json")
}

impl System {
    /// The system that was started last in this checkout, if `up` has not ended.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let path = file(root);
        if !path.exists() {
            bail!("nothing runs here ({} is missing): start `cargo xtask up` first", path.display());
        }
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("could not read {}", path.display()))
    }

    pub(crate) fn save(&self, root: &Path) -> Result<()> {
        let path = file(root);
        std::fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("could not write {}", path.display()))
    }

    pub(crate) fn forget(root: &Path) {
        std::fs::remove_file(file(root)).ok();
    }
}
