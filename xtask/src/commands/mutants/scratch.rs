//! The copy of the sources that the bugs are put into, and its simulation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Mutant, edits};
use crate::{steps, workspace};

/// What a build of the simulation needs: manifests of all crates, and the sources of some.
const NEEDED: [&str; 6] =
    ["crates/", "xtask/", "migrations/", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

/// Copies the sources with all bugs under `scratch`, builds the simulation there, and gives back its program.
pub(super) fn build(root: &Path, scratch: &Path, mutants: &[&Mutant]) -> Result<PathBuf> {
    let copy = scratch.join("workspace");
    let files = sources(root)?;
    let read =
        |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("could not read {file}"));
    let edited = edits::apply(mutants, read)?;
    let mut kept = BTreeSet::new();
    for file in files.iter().filter(|file| !edited.contains_key(*file)) {
        let content = fs::read(root.join(file)).with_context(|| format!("could not read {file}"))?;
        write(&copy.join(file), &content)?;
        kept.insert(copy.join(file));
    }
    for (file, text) in &edited {
        write(&copy.join(file), text.as_bytes())?;
        kept.insert(copy.join(file));
    }
    remove_others(&copy, &kept)?;
    let target = scratch.join("target");
    let mut cargo = workspace::cargo();
    cargo.current_dir(&copy).args(["build", "--quiet", "--profile", "sim", "-p", "sim"]);
    cargo.arg("--target-dir").arg(&target);
    // The bugs are not written to please.
    cargo.env("RUSTFLAGS", "--cap-lints=allow");
    steps::check(&mut cargo).context("the copy with all bugs could not be built")?;
    Ok(target.join("sim/sim"))
}

/// The files that git knows or would add, and that are still there.
fn sources(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("could not start git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listed = String::from_utf8(output.stdout).context("a path that is no text")?;
    let needed =
        |path: &&str| NEEDED.iter().any(|start| path.starts_with(start)) && root.join(path).is_file();
    Ok(listed.split('\0').filter(|path| !path.is_empty()).filter(needed).map(str::to_owned).collect())
}

/// Only what is new is written, so that only that is built anew.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let folder = path.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    fs::write(path, content).with_context(|| format!("could not write {}", path.display()))
}

/// What an earlier copy had and the sources have no longer.
fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    Ok(())
}
