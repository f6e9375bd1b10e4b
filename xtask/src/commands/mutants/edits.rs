//! Putting bugs beside what is right, in copies of the sources.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::{Edit, Mutant};

/// Names the bug that is switched on.
pub(super) const VARIABLE: &str = "HOLDFAST_MUTANT";

/// The crate that all edited ones depend on: there the switch stands.
const HOME: &str = "crates/domain/";
const ROOT: &str = "crates/domain/src/lib.rs";
const SWITCH: &str = "crates/domain/src/mutants.rs";

const SWITCH_TEXT: &str = r#"//! Which known bug is switched on.

/// Whether it is this one.
pub fn is(name: &str) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ACTIVE.get_or_init(|| std::env::var("HOLDFAST_MUTANT").ok()).as_deref() == Some(name)
}
"#;

/// The edited files, by path. `read` gives a file's text.
///
/// # Errors
/// Texts that are not there, or not once, or that another edit changes too: all of them.
pub(super) fn apply(
    mutants: &[&Mutant],
    read: impl Fn(&str) -> Result<String>,
) -> Result<BTreeMap<String, String>> {
    let mut by_file: BTreeMap<&str, Vec<(&Mutant, &Edit)>> = BTreeMap::new();
    for mutant in mutants {
        for edit in mutant.edits {
            by_file.entry(edit.file).or_default().push((mutant, edit));
        }
    }
    by_file.entry(ROOT).or_default();
    let mut edited = BTreeMap::from([(SWITCH.to_owned(), SWITCH_TEXT.to_owned())]);
    let mut wrong = Vec::new();
    for (file, edits) in by_file {
        match edit_file(file, &read(file)?, &edits) {
            Ok(mut text) => {
                if file == ROOT {
                    text.push_str("\npub mod mutants;\n");
                }
                edited.insert(file.to_owned(), text);
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if !wrong.is_empty() {
        bail!(wrong.join("\n"));
    }
    Ok(edited)
}

fn edit_file(file: &str, text: &str, edits: &[(&Mutant, &Edit)]) -> Result<String> {
    let mut places = Vec::new();
    let mut wrong = Vec::new();
    for (mutant, edit) in edits {
        let found: Vec<usize> = text.match_indices(edit.find).map(|(at, _)| at).collect();
        match found.as_slice() {
            [at] => places.push((*at, mutant.name, *edit)),
            [] => wrong.push(format!("{}: {file} has no {:?}", mutant.name, edit.find)),
            _ => wrong.push(format!("{}: {file} has {:?} {} times", mutant.name, edit.find, found.len())),
        }
        if !edit.replace.contains("BUG") {
            wrong.push(format!("{}: what replaces {:?} is no switch", mutant.name, edit.find));
        }
    }
    if !wrong.is_empty() {
        bail!(wrong.join("\n"));
    }
    places.sort_by_key(|(at, ..)| *at);
    let module = if file.starts_with(HOME) { "crate" } else { "domain" };
    let mut result = String::with_capacity(text.len() * 2);
    let mut end = 0;
    for (at, name, edit) in places {
        let Some(between) = text.get(end..at) else {
            bail!("{name}: {:?} is changed by another one, too", edit.find);
        };
        result.push_str(between);
        let switch = format!("({module}::mutants::is({name:?}))");
        result.push_str(&edit.replace.replace("BUG", &switch).replace("ORIGINAL", edit.find));
        end = at + edit.find.len();
    }
    result.push_str(text.get(end..).unwrap_or_default());
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mutant(edits: &'static [Edit]) -> Mutant {
        Mutant { name: "Bug", what: "A bug.", plan: "", edits }
    }

    const fn edit(find: &'static str, replace: &'static str) -> Edit {
        Edit { file: "crates/application/src/a.rs", find, replace }
    }

    fn result(edits: &'static [Edit]) -> Result<String> {
        let mutant = mutant(edits);
        let mut all = apply(&[&mutant], |_| Ok("if a { b } else { a() }\n".to_owned()))?;
        Ok(all.remove("crates/application/src/a.rs").unwrap())
    }

    #[test]
    fn a_bug_stands_beside_what_is_right() {
        const EDITS: &[Edit] = &[edit("a()", "c()?BUG:ORIGINAL"), edit("if a", "if BUG || a")];
        let switch = "(domain::mutants::is(\"Bug\"))";
        let wanted = format!("if {switch} || a {{ b }} else {{ c()?{switch}:a() }}\n");
        assert_eq!(result(EDITS).unwrap(), wanted);
    }

    #[test]
    fn the_copy_has_the_switch() {
        let mutant = mutant(&[]);
        let all = apply(&[&mutant], |_| Ok("mod a;\n".to_owned())).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), [ROOT, SWITCH]);
        assert!(all[ROOT].starts_with("mod a;") && all[ROOT].contains("pub mod mutants;"));
        assert!(SWITCH_TEXT.contains(VARIABLE));
    }

    #[test]
    fn a_text_that_is_not_there_once_is_an_error_that_names_the_bug() {
        const MISSING: &[Edit] = &[edit("nothing", "BUG")];
        const TWICE: &[Edit] = &[edit("a", "BUG")];
        const OVERLAP: &[Edit] = &[edit("if a", "BUG"), edit("a {", "BUG")];
        const NO_SWITCH: &[Edit] = &[edit("if a", "if b")];
        for (edits, said) in [
            (MISSING, "Bug: crates/application/src/a.rs has no \"nothing\""),
            (TWICE, "Bug: crates/application/src/a.rs has \"a\" 2 times"),
            (OVERLAP, "Bug: \"a {\" is changed by another one, too"),
            (NO_SWITCH, "Bug: what replaces \"if a\" is no switch"),
        ] {
            assert_eq!(result(edits).unwrap_err().to_string(), said);
        }
    }
}
