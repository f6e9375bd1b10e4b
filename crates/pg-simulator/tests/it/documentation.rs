//! `docs/pg-simulator.md` lists every knob with its default, and none that is not there; what it tells to type is valid.

use std::collections::BTreeMap;

use clap::Parser as _;
use pg_simulator::knobs::{Knobs, patch};
use pg_simulator::settings::{Arguments, Settings};

#[test]
fn every_knob_is_documented_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pg-simulator.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, knobs) = text.split_once("\n## Knobs\n").unwrap();
    let (knobs, _) = knobs.split_once("\n## ").unwrap();
    let documented: BTreeMap<String, String> = knobs
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            (cells[0].to_owned(), cells[1].to_owned())
        })
        .collect();
    let tree = serde_json::to_value(Knobs::default()).unwrap();
    let real: BTreeMap<String, String> =
        patch::changes_in(&tree).unwrap().into_iter().map(|(key, value)| (key, value.to_string())).collect();
    assert_eq!(documented, real);
}

/// Every `--set` of the document is of a knob that is there, with a value that it takes.
#[test]
fn every_setting_that_is_shown_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pg-simulator.md");
    let text = std::fs::read_to_string(path).unwrap();
    let commands = text.lines().filter_map(|line| line.strip_prefix("cargo run -p pg-simulator -- "));
    let mut shown = 0;
    for command in commands.filter(|command| command.contains("--set")) {
        let (command, _comment) = command.split_once('#').unwrap_or((command, ""));
        let arguments = std::iter::once("pg-simulator").chain(command.split_whitespace());
        let arguments = Arguments::try_parse_from(arguments).unwrap();
        let settings = Settings::load(&arguments, [], 1).unwrap();
        assert_ne!(settings.knobs, Knobs { seed: settings.knobs.seed, ..Knobs::default() }, "{command}");
        shown += arguments.set.len();
    }
    assert!(shown >= 4, "{shown}");
}
