//! The container files, read by parsers: no Docker engine is needed to see that they hang together.

use std::path::Path;

use saphyr::{LoadableYamlNode, Yaml};

use crate::workspace;

fn text(path: &str) -> String {
    let path = workspace::root().unwrap().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A value of a mapping, or of what is merged into it by `<<`.
fn field<'a>(mapping: &'a Yaml<'a>, key: &str) -> Option<&'a Yaml<'a>> {
    mapping.as_mapping_get(key).or_else(|| field(mapping.as_mapping_get("<<")?, key))
}

fn keys<'a>(mapping: &'a Yaml<'a>) -> Vec<&'a str> {
    let own = mapping.as_mapping().unwrap().keys().filter_map(|key| key.as_str()).filter(|key| *key != "<<");
    own.chain(mapping.as_mapping_get("<<").map(keys).unwrap_or_default()).collect()
}

/// `name:tag`, with a tag that names a release.
fn is_pinned(image: &str) -> bool {
    image
        .split_once(':')
        .is_some_and(|(_, tag)| tag.starts_with(|c: char| c.is_ascii_digit()) || tag.starts_with("bookworm"))
}

/// The stages of a Dockerfile: name, what it starts from, its instructions.
fn stages(dockerfile: &str) -> Vec<(String, String, Vec<String>)> {
    let joined = dockerfile.replace("\\\n", " ");
    let mut stages: Vec<(String, String, Vec<String>)> = Vec::new();
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["FROM", base, "AS", name] => stages.push(((*name).to_owned(), (*base).to_owned(), Vec::new())),
            ["FROM", ..] => panic!("a stage without a name: {line}"),
            _ => stages.last_mut().expect("an instruction before the first FROM").2.push(line.to_owned()),
        }
    }
    stages
}

#[test]
fn every_image_is_pinned_and_runs_without_root() {
    let dockerfile = text("deploy/Dockerfile");
    let stages = stages(&dockerfile);
    let find = |name: &str| stages.iter().find(|(stage, ..)| stage == name);
    for (name, base, instructions) in &stages {
        assert!(find(base).is_some() || is_pinned(base), "{name} starts from {base}");
        for from in instructions
            .iter()
            .flat_map(|line| line.split_whitespace())
            .filter_map(|word| word.strip_prefix("--from="))
        {
            assert!(find(from).is_some(), "{name} copies from {from}, which is no stage");
        }
    }
    for program in ["app-server", "reconciler", "pg-simulator"] {
        let mut stage = find(program);
        let mut user = None;
        while let Some((_, base, instructions)) = stage {
            user = user.or_else(|| {
                instructions.iter().rev().find_map(|line| line.strip_prefix("USER ").map(str::to_owned))
            });
            stage = find(base);
        }
        let user = user.unwrap_or_else(|| panic!("{program} runs as root"));
        assert!(!user.starts_with("root") && !user.starts_with('0'), "{program} runs as {user}");
        let (.., instructions) = find(program).unwrap();
        let has = |start: &str| instructions.iter().any(|line| line.starts_with(start));
        assert!(
            has("ENTRYPOINT [") && has("EXPOSE ") && has("COPY --from=build"),
            "{program}: {instructions:?}"
        );
        assert!(dockerfile.contains(&format!("-p {program}")), "{program} is not built");
    }
}

#[test]
fn the_compose_file_names_what_exists() {
    let compose = text("deploy/compose.yaml");
    let documents = Yaml::load_from_str(&compose).unwrap();
    let services = documents[0].as_mapping_get("services").unwrap();
    let stages = stages(&text("deploy/Dockerfile"));
    let volumes = keys(documents[0].as_mapping_get("volumes").unwrap());
    assert_eq!(keys(services).len(), 5);
    for name in keys(services) {
        let service = field(services, name).unwrap();
        match (field(service, "image"), field(service, "build")) {
            (Some(image), None) => assert!(is_pinned(image.as_str().unwrap()), "{name}"),
            (None, Some(build)) => {
                let target = field(build, "target").unwrap().as_str().unwrap();
                assert!(stages.iter().any(|(stage, ..)| stage == target), "{name}: no stage {target}");
                let context = Path::new("deploy").join(field(build, "context").unwrap().as_str().unwrap());
                let dockerfile = context.join(field(build, "dockerfile").unwrap().as_str().unwrap());
                text(dockerfile.to_str().unwrap());
            }
            other => panic!("{name}: either an image or a build, not {other:?}"),
        }
        if let Some(needed) = field(service, "depends_on") {
            for other in keys(needed) {
                let other_service = field(services, other).unwrap_or_else(|| panic!("{name} needs {other}"));
                let condition = field(field(needed, other).unwrap(), "condition").unwrap().as_str().unwrap();
                let is_checked = field(other_service, "healthcheck").is_some();
                assert!(is_checked || condition == "service_completed_successfully", "{name} -> {other}");
            }
        }
        let runs_on = field(service, "restart").unwrap().as_str() != Some("no");
        assert!(!runs_on || field(service, "healthcheck").is_some(), "{name} has no health check");
        if let Some(health) = field(service, "healthcheck") {
            // An unquoted `a: b` in a list is a mapping, and no command.
            let words = field(health, "test").unwrap().as_sequence().unwrap();
            assert!(words.len() > 1 && words.iter().all(|word| word.as_str().is_some()), "{name}: {words:?}");
        }
        for volume in field(service, "volumes").and_then(Yaml::as_sequence).into_iter().flatten() {
            let (volume, _) = volume.as_str().unwrap().split_once(':').unwrap();
            assert!(volumes.contains(&volume), "{name}: no volume {volume}");
        }
    }
}

#[test]
fn the_compose_file_sets_only_documented_settings() {
    let compose = text("deploy/compose.yaml");
    let documents = Yaml::load_from_str(&compose).unwrap();
    let services = documents[0].as_mapping_get("services").unwrap();
    let (settings, simulator) = (text("docs/configuration.md"), text("docs/pg-simulator.md"));
    let mut checked = 0;
    for name in keys(services) {
        let Some(environment) = field(field(services, name).unwrap(), "environment") else { continue };
        for variable in keys(environment).into_iter().filter(|variable| variable.contains("__")) {
            let (document, prefix) = if name == "pg-simulator" {
                (&simulator, "PG_SIMULATOR__")
            } else {
                (&settings, "HOLDFAST__")
            };
            let key = variable.strip_prefix(prefix).unwrap_or_else(|| panic!("{name}: {variable}"));
            let key = key.to_ascii_lowercase().replace("__", ".");
            assert!(document.contains(&format!("`{key}`")), "{name}: {variable} ({key}) is not documented");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

/// Docker passes what comes to a published port on from an address of the network: without it nobody could order.
#[test]
fn the_compose_file_believes_its_own_network() {
    let compose = text("deploy/compose.yaml");
    let documents = Yaml::load_from_str(&compose).unwrap();
    let of = |value, name| field(value, name).unwrap_or_else(|| panic!("no {name}"));
    let service = of(documents[0].as_mapping_get("services").unwrap(), "app-server");
    let trusted = of(of(service, "environment"), "HOLDFAST__SERVER__TRUSTED_PROXIES").as_str().unwrap();
    let network = of(of(documents[0].as_mapping_get("networks").unwrap(), "default"), "ipam");
    let network = &of(network, "config").as_sequence().unwrap()[0];
    let subnet = of(network, "subnet").as_str().unwrap();
    assert!(trusted.split(',').any(|trusted| trusted == subnet), "{trusted} has no {subnet}");
    // Published on this machine's own address only: whoever reaches it may say who he is.
    for port in of(service, "ports").as_sequence().unwrap() {
        assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{port:?}");
    }
}
