//! What dashboard, alert rules and documents say about metrics, read so that it can be held against each other and
//! against a live scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

use crate::scrape::{Scrape, Series};

const DASHBOARD: &str = "deploy/grafana/holdfast.json";
const RULES: &str = "deploy/prometheus/alerts.yml";
const DOCUMENT: &str = "docs/metrics.md";

/// What Prometheus itself adds to each series that it scrapes.
const ADDED: [&str; 2] = ["instance", "job"];

fn text(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("could not read {path}"))
}

pub(crate) fn dashboard(root: &Path) -> Result<Value> {
    serde_json::from_str(&text(root, DASHBOARD)?).with_context(|| format!("could not read {DASHBOARD}"))
}

/// Every query of a dashboard.
pub(crate) fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().map(Vec::as_slice).unwrap_or_default();
    panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default())
        .filter_map(|target| target["expr"].as_str())
        .map(str::to_owned)
        .collect()
}

/// Name and expression of every alert rule.
pub(crate) fn alert_expressions(root: &Path) -> Result<Vec<(String, String)>> {
    let text = text(root, RULES)?;
    let rules = Yaml::load_from_str(&text).map_err(|error| anyhow!("{RULES}: {error}"))?;
    let groups = rules.first().and_then(|rules| rules.as_mapping_get("groups")).and_then(Yaml::as_sequence);
    let mut expressions = Vec::new();
    for group in groups.context("alert rules without groups")? {
        let rules = group.as_mapping_get("rules").and_then(Yaml::as_sequence);
        for rule in rules.context("a group without rules")? {
            let field = |name: &str| {
                let value = rule.as_mapping_get(name).and_then(Yaml::as_str);
                value.map(str::to_owned).with_context(|| format!("an alert rule without {name}"))
            };
            expressions.push((field("alert")?, field("expr")?));
        }
    }
    Ok(expressions)
}

/// Series, histograms' by their three names, and the labels that they bear, from the generated document.
pub(crate) fn documented(root: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut series = BTreeMap::new();
    for line in text(root, DOCUMENT)?.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(name), Some(kind), Some(labels)) = (cells.next(), cells.next(), cells.next()) else {
            return Err(anyhow!("{DOCUMENT} was not understood: {line}"));
        };
        let name = name.trim_matches('`');
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let mut labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
        if kind == "histogram" {
            series.insert(format!("{name}_count"), labels.clone());
            series.insert(format!("{name}_sum"), labels.clone());
            labels.insert("le".to_owned());
            series.insert(format!("{name}_bucket"), labels);
        } else {
            series.insert(name.to_owned(), labels);
        }
    }
    ensure!(series.len() > 40, "{DOCUMENT} was not understood");
    Ok(series)
}

/// A series that a query names, and the labels by which it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) name: String,
    pub(crate) matchers: Vec<Matcher>,
}

/// `label="value"`, and with the operators `!=`, `=~`, `!~`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    operator: String,
    value: String,
}

impl Matcher {
    fn parse(text: &str) -> Self {
        let end = text.find(['=', '!', '~']).unwrap_or(text.len());
        let (label, rest) = text.split_at(end);
        let value_at = rest.find('"').unwrap_or(rest.len());
        let (operator, value) = rest.split_at(value_at);
        Self {
            label: label.trim().to_owned(),
            operator: operator.trim().to_owned(),
            value: value.trim().trim_matches('"').to_owned(),
        }
    }

    /// Each way in which it can match, as one exact comparison: alternatives are taken apart. Of what Prometheus or
    /// Grafana fill in nothing is said.
    fn ways(&self) -> Vec<(bool, String)> {
        if ADDED.contains(&self.label.as_str()) {
            return Vec::new();
        }
        let wanted = self.operator.starts_with('=');
        self.value.split('|').map(|value| (wanted, value.to_owned())).collect()
    }
}

/// The series that a query names.
pub(crate) fn selectors(query: &str) -> Vec<Selector> {
    const WORDS: &[&str] =
        &["by", "without", "on", "ignoring", "or", "and", "unless", "bool", "group_left", "group_right"];
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$' || c == '[') {
        rest = rest.get(start..).unwrap_or_default();
        if rest.starts_with('[') {
            rest = rest.split_once(']').map_or("", |(_, after)| after);
            continue;
        }
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_:$".contains(c))).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let next = after.trim_start();
        if WORDS.contains(&word) {
            if let Some(list) = next.strip_prefix('(') {
                rest = list.split_once(')').map_or("", |(_, after)| after);
            }
        } else if let Some(matchers) = next.strip_prefix('{') {
            let (matchers, after) = matchers.split_once('}').unwrap_or((matchers, ""));
            rest = after;
            let matchers = matchers.split(',').map(str::trim).filter(|matcher| !matcher.is_empty());
            found.push(Selector { name: word.to_owned(), matchers: matchers.map(Matcher::parse).collect() });
        } else if !next.starts_with('(') && !next.starts_with("by (") && !next.starts_with("without (") {
            found.push(Selector { name: word.to_owned(), matchers: Vec::new() });
        }
    }
    found
}

/// The labels that a query groups by.
pub(crate) fn grouped(query: &str) -> Vec<String> {
    let lists = query.split(" by (").skip(1).filter_map(|rest| rest.split_once(')'));
    lists.flat_map(|(list, _)| list.split(',').map(|label| label.trim().to_owned())).collect()
}

/// What a query asks for that the scrape does not have: a series, a label, or a value that it selects by.
pub(crate) fn missing(query: &str, scrape: &Scrape) -> Vec<String> {
    let mut missing = Vec::new();
    let selectors: Vec<Selector> =
        selectors(query).into_iter().filter(|selector| selector.name != "up").collect();
    for Selector { name, matchers } in &selectors {
        let series = scrape.named(name);
        if series.is_empty() {
            missing.push(format!("{name} is not there: {query}"));
            continue;
        }
        for matcher in matchers {
            for (wanted, value) in matcher.ways() {
                let hit = |series: &Series| match series.labels.get(&matcher.label) {
                    Some(actual) => (*actual == value) == wanted,
                    None => false,
                };
                if !series.iter().any(|series| hit(series)) {
                    let Matcher { label, operator, .. } = matcher;
                    missing.push(format!("{name} has no series with {label}{operator}\"{value}\": {query}"));
                }
            }
        }
    }
    for label in grouped(query).iter().filter(|label| !ADDED.contains(&label.as_str())) {
        let borne = |selector: &Selector| {
            scrape.named(&selector.name).iter().any(|series| series.labels.contains_key(label))
        };
        if !selectors.iter().any(borne) {
            missing.push(format!("nothing has the label {label}: {query}"));
        }
    }
    missing
}

#[cfg(test)]
mod tests;
