//! `arch`: the arrows between the crates, checked against what cargo really resolves.
//!
//! The table is the architecture: a crate may use the crates of the workspace that stand in its row and no others, and
//! must not use (or, where its row says so, not even reach through others) the packages that would bring it what is
//! none of its business. A crate without a row is an error, so that a new one is thought about. Dependencies of tests
//! are free, except that they never count as a way around: what is checked is what the programs are built from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Metadata};

/// One crate's row.
struct Row {
    name: &'static str,
    /// The crates of the workspace it may use.
    may_use: &'static [&'static str],
    /// Packages it must not name in its manifest.
    not_directly: &'static [&'static str],
    /// Packages that must not be reachable from it at all.
    not_at_all: &'static [&'static str],
}

const DATABASE_DRIVERS: &[&str] =
    &["diesel", "diesel-async", "diesel_migrations", "tokio-postgres", "deadpool"];
const HTTP_SERVERS: &[&str] = &["actix-web", "actix-http"];

const ROWS: &[Row] = &[
    Row {
        name: "domain",
        may_use: &[],
        not_directly: &["tracing"],
        // No runtime, no I/O, no wire format, no randomness: a decision depends on its arguments alone.
        not_at_all: &[
            "tokio",
            "diesel",
            "diesel-async",
            "tokio-postgres",
            "reqwest",
            "hyper",
            "actix-web",
            "serde_json",
            "rand",
            "getrandom",
        ],
    },
    Row {
        name: "application",
        may_use: &["domain"],
        not_directly: &["serde_json"],
        not_at_all: &[
            "diesel",
            "diesel-async",
            "tokio-postgres",
            "deadpool",
            "reqwest",
            "hyper",
            "actix-web",
        ],
    },
    Row {
        name: "adapters-db",
        may_use: &["domain"],
        not_directly: HTTP_SERVERS,
        not_at_all: &["reqwest", "hyper", "actix-web"],
    },
    Row {
        name: "adapters-pg",
        may_use: &["domain", "pg-protocol"],
        not_directly: DATABASE_DRIVERS,
        not_at_all: &["diesel", "diesel-async", "tokio-postgres", "actix-web"],
    },
    Row {
        name: "pg-protocol",
        may_use: &[],
        not_directly: &["serde_json"],
        not_at_all: &["tokio", "reqwest", "actix-web"],
    },
    Row {
        name: "bootstrap",
        may_use: &["domain", "application", "adapters-db", "adapters-pg"],
        not_directly: &["diesel", "diesel-async", "reqwest"],
        not_at_all: &["actix-web"],
    },
    Row {
        name: "app-server",
        may_use: &["domain", "application", "bootstrap", "pg-protocol"],
        not_directly: CLIENTS,
        not_at_all: &[],
    },
    Row {
        name: "reconciler",
        may_use: &["domain", "application", "bootstrap"],
        not_directly: CLIENTS,
        not_at_all: &[],
    },
    // It calls back over HTTP, so it has a client; but no database, and nothing of the system it plays the other side of.
    Row {
        name: "pg-simulator",
        may_use: &["pg-protocol"],
        not_directly: DATABASE_DRIVERS,
        not_at_all: &["diesel"],
    },
    Row {
        name: "test-support",
        may_use: &["domain", "application"],
        not_directly: HTTP_SERVERS,
        not_at_all: &["actix-web"],
    },
    Row {
        name: "sim",
        may_use: &["domain", "application", "adapters-pg", "pg-protocol", "pg-simulator", "test-support"],
        not_directly: DATABASE_DRIVERS,
        not_at_all: &["diesel"],
    },
    // It sees the programs from outside only: as processes, by HTTP and by SQL.
    Row {
        name: "chaos",
        may_use: &["test-support"],
        not_directly: HTTP_SERVERS,
        not_at_all: &["actix-web", "diesel", "diesel-async"],
    },
    Row { name: "xtask", may_use: &[], not_directly: &[], not_at_all: &[] },
];

/// What a thin binary has no business calling: it reaches database and gateway through the crates made for that.
const CLIENTS: &[&str] = &["diesel", "diesel-async", "tokio-postgres", "deadpool", "reqwest"];

/// Not anywhere in the graph: C libraries that this project does without, and what would bring them.
const NOWHERE: &[&str] = &["openssl-sys", "native-tls", "pq-sys", "aws-lc-sys"];

/// Who uses whom when the programs are built: by package name, over all versions, with all features on.
#[derive(Default)]
struct Graph {
    members: BTreeSet<String>,
    uses: BTreeMap<String, BTreeSet<String>>,
}

pub(crate) fn run() -> Result<()> {
    check_repository(&workspace::root()?)
}

/// Prints every violation; an error when there is one.
pub(crate) fn check_repository(root: &Path) -> Result<()> {
    let graph = Graph::from_metadata(&workspace::metadata(root, &["--all-features"])?)?;
    let violations = violations(&graph);
    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} dependencies go against the architecture", violations.len());
    }
    println!("{} crates keep to the arrows", graph.members.len());
    Ok(())
}

impl Graph {
    fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let names: BTreeMap<&str, &str> =
            metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
        let name_of =
            |id: &str| names.get(id).map(|name| (*name).to_owned()).context("a package without a name");
        let mut graph = Self::default();
        for id in &metadata.workspace_members {
            graph.members.insert(name_of(id)?);
        }
        let resolve = metadata.resolve.as_ref().context("cargo metadata resolved nothing")?;
        for node in &resolve.nodes {
            let uses = graph.uses.entry(name_of(&node.id)?).or_default();
            for dependency in &node.deps {
                if dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()) {
                    uses.insert(name_of(&dependency.pkg)?);
                }
            }
        }
        Ok(graph)
    }

    fn direct(&self, name: &str) -> impl Iterator<Item = &str> {
        self.uses.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The shortest way from one package to another, both included.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([from]);
        while let Some(here) = queue.pop_front() {
            for next in self.direct(here) {
                if next == from || came_from.contains_key(next) {
                    continue;
                }
                came_from.insert(next, here);
                if next == to {
                    let mut way = vec![to.to_owned()];
                    let mut step = to;
                    while let Some(previous) = came_from.get(step) {
                        way.push((*previous).to_owned());
                        step = previous;
                    }
                    way.reverse();
                    return Some(way);
                }
                queue.push_back(next);
            }
        }
        None
    }
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for member in &graph.members {
        let Some(row) = ROWS.iter().find(|row| row.name == member) else {
            found.push(format!("{member}: has no row in the table of arrows (xtask/src/commands/arch.rs)"));
            continue;
        };
        for used in graph.direct(member) {
            if graph.members.contains(used) && !row.may_use.contains(&used) {
                found.push(format!(
                    "{member} -> {used}: there is no such arrow; allowed: {}",
                    list(row.may_use)
                ));
            }
            if row.not_directly.contains(&used) {
                found.push(format!("{member} -> {used}: {member} must not use it"));
            }
        }
        for forbidden in row.not_at_all {
            if let Some(way) = graph.way(member, forbidden) {
                found.push(format!("{}: {member} must not even reach it", way.join(" -> ")));
            }
        }
        for forbidden in NOWHERE {
            if let Some(way) = graph.way(member, forbidden) {
                found.push(format!("{}: this project does without it", way.join(" -> ")));
            }
        }
    }
    found
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(members: &[&str], arrows: &[(&str, &str)]) -> Graph {
        let mut graph =
            Graph { members: members.iter().map(|name| (*name).to_owned()).collect(), ..Graph::default() };
        for (from, to) in arrows {
            graph.uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    }

    #[test]
    fn arrows_of_the_table_are_allowed() {
        let arrows = [("app-server", "bootstrap"), ("bootstrap", "adapters-db"), ("adapters-db", "diesel")];
        assert_eq!(
            violations(&graph(&["app-server", "bootstrap", "adapters-db"], &arrows)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found() {
        let found = violations(&graph(&["domain", "application"], &[("domain", "application")]));
        assert_eq!(found, ["domain -> application: there is no such arrow; allowed: none"]);
        let found = violations(&graph(&["app-server", "test-support"], &[("app-server", "test-support")]));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_package_that_comes_in_through_another_is_found_with_its_way() {
        let found = violations(&graph(&["domain"], &[("domain", "innocent"), ("innocent", "tokio")]));
        assert_eq!(found, ["domain -> innocent -> tokio: domain must not even reach it"]);
    }

    #[test]
    fn a_package_that_a_thin_binary_names_itself_is_found() {
        let members = ["app-server", "bootstrap"];
        let through_others = [("app-server", "bootstrap"), ("bootstrap", "adapters"), ("adapters", "diesel")];
        assert_eq!(violations(&graph(&members, &through_others)), Vec::<String>::new());
        let found = violations(&graph(&members, &[("app-server", "diesel")]));
        assert_eq!(found, ["app-server -> diesel: app-server must not use it"]);
    }

    #[test]
    fn a_c_library_is_found_wherever_it_hides() {
        let found =
            violations(&graph(&["xtask"], &[("xtask", "a"), ("a", "b"), ("b", "a"), ("b", "openssl-sys")]));
        assert_eq!(found, ["xtask -> a -> b -> openssl-sys: this project does without it"]);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let found = violations(&graph(&["utils"], &[]));
        assert_eq!(found, ["utils: has no row in the table of arrows (xtask/src/commands/arch.rs)"]);
    }

    #[test]
    fn only_what_the_programs_are_built_from_counts() {
        let text = r#"{
          "packages": [{"id": "d 1", "name": "domain"}, {"id": "t 1", "name": "tokio"}, {"id": "s 1", "name": "serde"}],
          "workspace_members": ["d 1"], "target_directory": "t",
          "resolve": {"nodes": [
            {"id": "d 1", "deps": [
              {"pkg": "t 1", "dep_kinds": [{"kind": "dev"}, {"kind": "build"}]},
              {"pkg": "s 1", "dep_kinds": [{"kind": "dev"}, {"kind": null}]}]},
            {"id": "t 1", "deps": []}, {"id": "s 1", "deps": []}]}}"#;
        let graph = Graph::from_metadata(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(graph.direct("domain").collect::<Vec<_>>(), ["serde"]);
        assert_eq!(violations(&graph), Vec::<String>::new());
    }
}
