//! `browser`: the operator's console in Debian's chromium, headless, against the running system.
//!
//! The test is `tests/browser/console.mjs`, driven by playwright-core, which npm puts under `target/browser`. It places
//! orders, bends the simulated gateway for a while and puts it back. Where chromium or node is missing it says so and
//! succeeds: an ordinary machine need not have them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::running::System;
use crate::steps;
use crate::workspace;

const TEST: &str = "console.mjs";
/// Debian's name, and the one of other distributions.
const BROWSERS: &[&str] = &["chromium", "chromium-browser"];

pub(crate) fn run() -> Result<()> {
    let root = workspace::root()?;
    let Some(browser) = BROWSERS.iter().find_map(|name| installed(name)) else {
        println!(
            "SKIPPED: chromium is not installed (Debian: apt-get install --no-install-recommends chromium)"
        );
        return Ok(());
    };
    if installed("npm").is_none() {
        println!(
            "SKIPPED: npm is not installed (Debian: apt-get install --no-install-recommends nodejs npm)"
        );
        return Ok(());
    }
    let system = System::load(&root)?;
    let folder = prepare(&root)?;
    let screenshots = folder.join("screenshots");
    steps::check(
        Command::new("node")
            .current_dir(&folder)
            .arg(TEST)
            .env("OPS", &system.ops)
            .env("API", &system.api)
            .env("SIMULATOR", &system.simulator)
            .env("CHROMIUM", browser)
            .env("SCREENSHOTS", &screenshots),
    )
    .context("the console in the browser")?;
    println!("screenshots: {}", screenshots.display());
    Ok(())
}

/// Copies the test beside its driver, so that nothing is written into the source tree.
fn prepare(root: &Path) -> Result<PathBuf> {
    let (source, folder) = (root.join("tests/browser"), root.join("target/browser"));
    std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    for file in ["package.json", "package-lock.json", TEST] {
        std::fs::copy(source.join(file), folder.join(file))
            .with_context(|| format!("could not copy {file}"))?;
    }
    steps::check(Command::new("npm").current_dir(&folder).args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--silent",
    ]))
    .context("npm ci (the browser's driver)")?;
    Ok(folder)
}

/// The path of a program that can be started.
fn installed(name: &str) -> Option<PathBuf> {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {name}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let path = String::from_utf8(found.stdout).ok()?.trim().to_owned();
    (found.status.success() && !path.is_empty()).then(|| PathBuf::from(path))
}
