//! Programs that the unit of work refuses: each stands in `tests/refused/` and must not compile, for the reason that its
//! first line names (`// error: E0499`).
//!
//! They are examples of this package behind a feature that nothing else turns on, built by one call of cargo, and it is
//! the error codes of the compiler's JSON messages that are compared. Not trybuild: that compares whole texts, which
//! change with the compiler. Not `compile_fail` doc tests: on a stable compiler these pass with any error at all, a typing
//! mistake included. `accepted.rs` is the control: the same program done right compiles.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const CONTROL: &str = "accepted";

/// File name -> the codes that it must be refused with.
fn programs() -> BTreeMap<String, BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let codes =
                text.lines().next().and_then(|line| line.strip_prefix("// error: ")).unwrap_or_default();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, codes.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

/// File name -> the codes of the compiler's errors, and the names of what compiled.
fn compile() -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
    // Where this test itself was built, so that nothing is built anew but the programs.
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "application", "--examples", "--features", "refused-programs"])
        .args(["--keep-going", "--offline", "--quiet", "--message-format", "json", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let (mut errors, mut compiled) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let name = || message["target"]["name"].as_str().unwrap().to_owned();
        let is_example = message["target"]["kind"][0] == "example";
        match message["reason"].as_str() {
            Some("compiler-message") if message["message"]["level"] == "error" => {
                assert!(is_example, "{}", message["message"]["rendered"]);
                let codes = errors.entry(name()).or_default();
                codes.extend(message["message"]["code"]["code"].as_str().map(str::to_owned));
            }
            Some("compiler-artifact") if is_example => {
                compiled.insert(name());
            }
            _ => {}
        }
    }
    assert!(!compiled.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (errors, compiled)
}

#[test]
fn each_program_is_refused_for_its_reason() {
    let programs = programs();
    assert!(programs.len() >= 9, "{programs:?}");
    let (errors, compiled) = compile();
    for (name, codes) in &programs {
        if name == CONTROL {
            assert_eq!(errors.get(name), None);
            assert!(compiled.contains(name));
        } else {
            assert!(!codes.is_empty(), "{name} does not say why it is refused");
            assert!(!compiled.contains(name), "{name} compiles");
            assert_eq!(errors.get(name), Some(codes), "{name}");
        }
    }
}
