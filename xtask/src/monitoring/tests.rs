//! Dashboard and alert rules hold together with what the programs measure: every metric and label they name stands in
//! `docs/metrics.md`, which is generated from the catalogue that scrapes are held against (live: `cargo xtask metrics`).

use super::*;
use crate::workspace;

fn root() -> std::path::PathBuf {
    workspace::root().unwrap()
}

/// As [`documented`], with what Prometheus adds.
fn catalogue() -> BTreeMap<String, BTreeSet<String>> {
    let mut series = documented(&root()).unwrap();
    series.insert("up".to_owned(), BTreeSet::new());
    for labels in series.values_mut() {
        labels.extend(ADDED.map(str::to_owned));
    }
    series
}

fn queries() -> Vec<String> {
    let queries = expressions(&dashboard(&root()).unwrap());
    assert!(queries.len() > 30);
    queries
}

fn alerts() -> Vec<(String, String)> {
    let alerts = alert_expressions(&root()).unwrap();
    assert!(alerts.len() > 10);
    alerts
}

fn complaints(query: &str, catalogue: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let selectors = selectors(query);
    if selectors.is_empty() {
        wrong.push(format!("no series in {query}"));
    }
    for Selector { name, matchers } in &selectors {
        match catalogue.get(name) {
            None => wrong.push(format!("{name} is not measured: {query}")),
            Some(known) => {
                let unknown = matchers.iter().filter(|matcher| !known.contains(&matcher.label));
                wrong
                    .extend(unknown.map(|matcher| format!("{name} has no label {}: {query}", matcher.label)));
            }
        }
    }
    for label in grouped(query) {
        if !selectors
            .iter()
            .any(|selector| catalogue.get(&selector.name).is_some_and(|known| known.contains(&label)))
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
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
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

    for query in queries().into_iter().chain(alerts().into_iter().map(|(_, query)| query)) {
        for Selector { name, .. } in selectors(&query) {
            let histogram = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            let known = name == "up" || recorded.contains(&name);
            let known = known || histogram.is_some_and(|name| recorded.contains(name));
            assert!(known, "nothing records {name}: {query}");
        }
    }
}

#[test]
fn a_query_is_understood() {
    let catalogue = catalogue();
    let good = r#"sum by (le, operation) (rate(pg_request_latency_seconds_bucket{operation="charge",result=~"a|b"}[5m])) > 0.7 or vector(0)"#;
    let found =
        selectors(r#"max(up) + sum by (x) (rate(a_total{b="c", d!~"e"}[$__rate_interval])) or vector(0)"#);
    let matcher = |label: &str, operator: &str, value: &str| Matcher {
        label: label.to_owned(),
        operator: operator.to_owned(),
        value: value.to_owned(),
    };
    let [up, a] = &found[..] else { panic!("{found:?}") };
    assert_eq!((up.name.as_str(), up.matchers.len()), ("up", 0));
    assert_eq!(
        (a.name.as_str(), &a.matchers),
        ("a_total", &vec![matcher("b", "=", "c"), matcher("d", "!~", "e")])
    );
    assert_eq!(complaints(good, &catalogue), Vec::<String>::new());
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
fn what_a_scrape_lacks_is_named() {
    let scrape =
        Scrape::parse("a_total{kind=\"x\",error=\"\"} 1\na_total{kind=\"y\",error=\"\"} 1\nb 7\n").unwrap();
    for there in [
        "b",
        r#"sum by (kind, instance) (rate(a_total{kind=~"x|y", instance=~"$instance"}[5m])) / b"#,
        r#"a_total{kind!="x"}"#,
        "up == 0",
    ] {
        assert_eq!(missing(there, &scrape), Vec::<String>::new(), "{there}");
    }
    for lacking in [
        "c",
        r#"a_total{kind="z"}"#,
        r#"a_total{kind=~"x|z"}"#,
        r#"a_total{error!=""}"#,
        r#"b{kind="x"}"#,
        "sum by (name) (a_total)",
    ] {
        assert_eq!(missing(lacking, &scrape).len(), 1, "{lacking}");
    }
}

#[test]
fn every_metric_of_the_dashboard_is_measured() {
    let catalogue = catalogue();
    let wrong: Vec<String> = queries().iter().flat_map(|query| complaints(query, &catalogue)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_metric_of_the_alert_rules_is_measured() {
    let catalogue = catalogue();
    let wrong: Vec<String> = alerts().iter().flat_map(|(_, query)| complaints(query, &catalogue)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A rule that no test makes fire may never fire.
#[test]
fn every_alert_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let tests = text(&root(), "deploy/prometheus/alerts_test.yml").unwrap();
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
    for (alert, _) in alerts() {
        for fires in [true, false] {
            assert!(cases.contains(&(alert.clone(), fires)), "{alert}: no test in which fires = {fires}");
        }
    }
}

#[test]
fn every_panel_can_be_read_and_stands_on_its_own_place() {
    let dashboard = dashboard(&root()).unwrap();
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
