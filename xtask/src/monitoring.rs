//! Dashboard and alert rules hold together with what the programs measure: every metric and label they name stands in
//! `docs/metrics.md`, which is generated from the catalogue that scrapes are held against.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

use crate::commands::alerts;
use crate::workspace;

fn text(path: &str) -> String {
    let path = workspace::root().unwrap().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&text("deploy/grafana/holdfast.json")).unwrap()
}

/// Series and the labels they bear, from the generated list.
fn catalogue() -> BTreeMap<String, BTreeSet<String>> {
    let mut series = BTreeMap::new();
    let up = ["instance", "job"].map(str::to_owned);
    series.insert("up".to_owned(), BTreeSet::from(up.clone()));
    for line in text("docs/metrics.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (name, kind) = (cells[1].trim_matches('`'), cells[2]);
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let mut labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
        // Every scraped series has these too.
        labels.extend(up.clone());
        if kind == "histogram" {
            series.insert(format!("{name}_count"), labels.clone());
            series.insert(format!("{name}_sum"), labels.clone());
            labels.insert("le".to_owned());
            series.insert(format!("{name}_bucket"), labels);
        } else {
            series.insert(name.to_owned(), labels);
        }
    }
    assert!(series.len() > 40, "docs/metrics.md was not understood");
    series
}

/// The series that a query names, each with the labels it is selected by.
fn selected(query: &str) -> Vec<(String, Vec<String>)> {
    const WORDS: &[&str] =
        &["by", "without", "on", "ignoring", "or", "and", "unless", "bool", "group_left", "group_right"];
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$' || c == '[') {
        rest = &rest[start..];
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
            let (matchers, after) = matchers.split_once('}').unwrap();
            rest = after;
            let labels = matchers.split(',').map(str::trim).filter(|matcher| !matcher.is_empty());
            let name = |matcher: &str| matcher.split(['=', '!', '~']).next().unwrap().trim().to_owned();
            found.push((word.to_owned(), labels.map(name).collect()));
        } else if !next.starts_with('(') && !next.starts_with("by (") && !next.starts_with("without (") {
            found.push((word.to_owned(), Vec::new()));
        }
    }
    found
}

/// The labels that a query groups by.
fn grouped(query: &str) -> Vec<String> {
    let lists = query.split(" by (").skip(1).filter_map(|rest| rest.split_once(')'));
    lists.flat_map(|(list, _)| list.split(',').map(|label| label.trim().to_owned())).collect()
}

fn complaints(query: &str, catalogue: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let selected = selected(query);
    if selected.is_empty() {
        wrong.push(format!("no series in {query}"));
    }
    for (series, labels) in &selected {
        match catalogue.get(series) {
            None => wrong.push(format!("{series} is not measured: {query}")),
            Some(known) => {
                let unknown = labels.iter().filter(|label| !known.contains(*label));
                wrong.extend(unknown.map(|label| format!("{series} has no label {label}: {query}")));
            }
        }
    }
    for label in grouped(query) {
        if !selected
            .iter()
            .any(|(series, _)| catalogue.get(series).is_some_and(|known| known.contains(&label)))
        {
            wrong.push(format!("nothing here has the label {label}: {query}"));
        }
    }
    wrong
}

/// The names that the programs' sources record under.
fn recorded() -> BTreeSet<String> {
    fn visit(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                for opening in ["counter!(", "gauge!(", "histogram!("] {
                    for rest in source.split(opening).skip(1) {
                        let name = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                        names.extend(name.map(|(name, _)| name.to_owned()));
                    }
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(workspace::root().unwrap().join("crates")).unwrap() {
        let sources = entry.unwrap().path().join("src");
        if sources.is_dir() {
            visit(&sources, &mut names);
        }
    }
    names
}

#[test]
fn every_metric_that_is_recorded_is_documented_and_what_is_shown_is_recorded() {
    let recorded = recorded();
    assert!(recorded.len() > 30, "{recorded:?}");
    let catalogue = catalogue();
    let undocumented: Vec<&String> = recorded
        .iter()
        .filter(|name| !catalogue.contains_key(*name) && !catalogue.contains_key(&format!("{name}_bucket")))
        .collect();
    assert!(undocumented.is_empty(), "not in docs/metrics.md: {undocumented:?}");

    let queries = alerts::expressions(&dashboard()).into_iter();
    for query in queries.chain(alert_expressions().into_iter().map(|(_, query)| query)) {
        for (series, _) in selected(&query) {
            let histogram = ["_bucket", "_count", "_sum"].iter().find_map(|end| series.strip_suffix(end));
            let known = series == "up" || recorded.contains(&series);
            let known = known || histogram.is_some_and(|name| recorded.contains(name));
            assert!(known, "nothing records {series}: {query}");
        }
    }
}

fn alert_expressions() -> Vec<(String, String)> {
    let rules = text("deploy/prometheus/alerts.yml");
    let rules = Yaml::load_from_str(&rules).unwrap();
    let groups = rules[0]["groups"].as_sequence().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_sequence().unwrap());
    let field = |rule: &Yaml<'_>, name: &str| rule[name].as_str().unwrap().to_owned();
    rules.map(|rule| (field(rule, "alert"), field(rule, "expr"))).collect()
}

#[test]
fn a_query_is_understood() {
    let catalogue = catalogue();
    let good = r#"sum by (le, operation) (rate(pg_request_latency_seconds_bucket{operation="charge",result=~"a,b"}[5m])) > 0.7 or vector(0)"#;
    let series = selected(r#"max(up) + sum by (x) (rate(a_total{b="c"}[$__rate_interval])) or vector(0)"#);
    assert_eq!(series, [("up".to_owned(), vec![]), ("a_total".to_owned(), vec!["b".to_owned()])]);
    assert_eq!(complaints(&good.replace("a,b", "ab"), &catalogue), Vec::<String>::new());
    for bad in [
        "rate(pg_requests_total[5m])",
        r#"pg_request_total{outcome="accepted"}"#,
        "pg_request_latency_seconds",
        "sum by (circuit) (resilience4j_circuitbreaker_failure_rate)",
        "vector(0)",
    ] {
        assert_ne!(complaints(bad, &catalogue), Vec::<String>::new(), "{bad}");
    }
}

#[test]
fn every_metric_of_the_dashboard_is_measured() {
    let catalogue = catalogue();
    let queries = alerts::expressions(&dashboard());
    assert!(queries.len() > 30);
    let wrong: Vec<String> = queries.iter().flat_map(|query| complaints(query, &catalogue)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_metric_of_the_alert_rules_is_measured() {
    let catalogue = catalogue();
    let alerts = alert_expressions();
    assert!(alerts.len() > 10);
    let wrong: Vec<String> = alerts.iter().flat_map(|(_, query)| complaints(query, &catalogue)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A rule that no test makes fire may never fire.
#[test]
fn every_alert_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let tests = text("deploy/prometheus/alerts_test.yml");
    let tests = Yaml::load_from_str(&tests).unwrap();
    let cases: Vec<(String, bool)> = tests[0]["tests"]
        .as_sequence()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_sequence().unwrap())
        .map(|case| {
            let fires = !case["exp_alerts"].as_sequence().unwrap().is_empty();
            (case["alertname"].as_str().unwrap().to_owned(), fires)
        })
        .collect();
    for (alert, _) in alert_expressions() {
        for fires in [true, false] {
            assert!(cases.contains(&(alert.clone(), fires)), "{alert}: no test in which fires = {fires}");
        }
    }
}

#[test]
fn every_panel_can_be_read_and_stands_on_its_own_place() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} is too wide");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies on another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title} does not say what it shows");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title} asks for nothing");
    }
}
