//! The alert rules and the dashboard's queries, checked by Prometheus' own tool where it is installed.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{monitoring, steps};

const RULE_TESTS: &str = "deploy/prometheus/alerts_test.yml";
/// Names the file with the rules, which is checked with it.
const CONFIG: &str = "deploy/prometheus/prometheus.yml";

/// Syntax of configuration, rules and queries, and the rules' own tests. Without `promtool` it says so and succeeds:
/// an ordinary machine need not have Prometheus.
pub(crate) fn check_repository(root: &Path) -> Result<()> {
    let installed =
        Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        println!(
            "SKIPPED: promtool is not installed (Debian: apt-get install --no-install-recommends prometheus)"
        );
        return Ok(());
    }
    let dashboard = monitoring::dashboard(root)?;
    let queries = root.join("target/dashboard-queries.yml");
    std::fs::create_dir_all(root.join("target")).context("make target/")?;
    std::fs::write(&queries, as_rules(&monitoring::expressions(&dashboard))?)
        .context("write the dashboard's queries")?;
    let queries = queries.display().to_string();
    for arguments in
        [["check", "config", CONFIG], ["test", "rules", RULE_TESTS], ["check", "rules", &queries]]
    {
        steps::check(Command::new("promtool").current_dir(root).args(arguments))
            .with_context(|| format!("promtool {}", arguments.join(" ")))?;
    }
    Ok(())
}

/// The queries as recording rules, so that promtool parses them. Grafana's variables get a value first.
fn as_rules(expressions: &[String]) -> Result<String> {
    ensure!(!expressions.is_empty(), "the dashboard has no queries");
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (at, expression) in expressions.iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
        // JSON strings are YAML strings.
        let expression = serde_json::to_string(&expression)?;
        writeln!(rules, "      - record: dashboard:query{at}\n        expr: {expression}")?;
    }
    Ok(rules)
}
