//! The reference of all keys in `docs/configuration.md`, generated so that it can't drift from the code.

use super::reader::KeyDescription;
use super::value::DURATION_NOUN;

const BEGIN: &str = "<!-- keys: begin (generated from crates/bootstrap/src/settings; do not edit) -->";
const END: &str = "<!-- keys: end -->";

/// The tables, one for each section of the outermost level.
pub(super) fn tables(keys: &[KeyDescription]) -> String {
    let mut text = String::new();
    let mut current = "";
    for described in keys {
        let section = described.key.split('.').next().unwrap_or_default();
        if section != current {
            current = section;
            text += &format!(
                "\n### {section}\n\n| key | default | allowed | meaning |\n| --- | --- | --- | --- |\n"
            );
        }
        let default = &described.default;
        let default = if described.is_worked_out { default.clone() } else { format!("`{default}`") };
        let allowed = described.allowed.replace(DURATION_NOUN, "a time");
        let cells = [&format!("`{}`", described.key), &default, &allowed, &described.meaning];
        text += &cells.map(|cell| format!("| {} ", cell.replace('|', "\\|"))).concat();
        text += "|\n";
    }
    text.push('\n');
    text
}

/// The document with its generated part replaced; `None` when its marks are missing.
pub(super) fn replace(document: &str, tables: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}{END}{after}"))
}
