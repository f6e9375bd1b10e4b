//! `docs/pg-simulator.md` lists every knob with its default, and none that is not there.

use std::collections::BTreeMap;

use pg_simulator::knobs::{Knobs, patch};

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
