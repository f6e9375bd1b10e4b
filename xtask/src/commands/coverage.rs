//! `coverage`: which files test each row of the failure catalogue, as the table in `docs/guarantees.md`.
//!
//! A test names the rows it stands for (`F36`); this only collects the names. It says where to look, not how good a test
//! is. Run it with `--write` after adding one; `tidy` fails when the table has drifted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace;

const PAGE: &str = "docs/guarantees.md";
/// The tests of the alert rules.
const ALERTS: &str = "deploy/prometheus/alerts_test.yml";
const BEGIN: &str = "<!-- coverage: begin -->";
const END: &str = "<!-- coverage: end -->";

/// The failure catalogue, F01 first.
const CATALOGUE: [&str; 80] = [
    "a request repeated with its Idempotency-Key",
    "the same key at the same time",
    "the same key with another content",
    "a request repeated without a key",
    "the client hangs up at any moment",
    "SIGTERM while orders are under way",
    "SIGKILL at any step",
    "the answer to TX1's COMMIT is lost",
    "serialization failure or deadlock in TX1",
    "the pool is exhausted",
    "a transaction's future is dropped",
    "a statement runs out of time outside a transaction",
    "many buyers, one unit left",
    "a product named twice in one order",
    "orders that name their products in opposite order",
    "compensation against placing: lock order",
    "a hot product",
    "one coupon, used twice at once",
    "a foreign, expired or too large coupon",
    "one balance, spent twice at once",
    "amounts beyond every limit",
    "quantities and amounts below one, too many items",
    "nothing left for the card",
    "price or stock change between reading and locking",
    "crash after TX1, before the request",
    "crash after the gateway accepted",
    "a process stands still beyond its send deadline",
    "500, nothing created",
    "500, transaction created",
    "a retry makes a second transaction",
    "429 with Retry-After",
    "502, 504, redirects, garbage, empty or cut answers",
    "400: the gateway refuses",
    "401, 403, 404, 405 on the request",
    "refused connection, connect time-out, DNS, TLS",
    "read time-out, then success",
    "read time-out, never arrived",
    "the request waits in the gateway's backlog",
    "circuit open",
    "half-open: a probe hangs",
    "storing the answer fails",
    "database down at compensation",
    "the gateway reuses a key",
    "the request is answered with an end",
    "callback before the answer",
    "callback a hundred times",
    "callback lost",
    "callbacks out of order",
    "wrong amount",
    "callback for another order",
    "forged callback",
    "old callback replayed",
    "flood of callbacks",
    "callback for a payment that was forced to fail",
    "malformed callback",
    "database down when a callback comes",
    "gateway can't be asked when a callback comes",
    "gateway can't be asked by the reconciler",
    "not there, then there",
    "key known, but not there",
    "key known, but another order's",
    "nothing is there any more: wrong account, wiped",
    "two successes in the list",
    "failed and undecided in the list",
    "undecided for more than five minutes",
    "undecided for ever",
    "two reconcilers at once",
    "a lease that ended while its owner worked on",
    "reconciler against callback",
    "crash in the middle of a batch",
    "a payment that always fails to be examined",
    "more due than one batch",
    "clocks that differ",
    "clocks that jump back",
    "stale answers of the gateway",
    "the gateway turns FAILED into SUCCESS",
    "a refund that fails",
    "no reconciler runs",
    "the database fails over",
    "an operator fails a payment that was charged",
];

/// Rows of the catalogue that can't happen here, and why.
const IMPOSSIBLE: [(&str, &str); 2] = [
    (
        "F77",
        "can't happen: the gateway has no refund or cancel call; a person refunds and closes the row of the ledger",
    ),
    ("F80", "can't happen: there is no such command; what an operator may do is ask the gateway now"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the table into docs/guarantees.md
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    if !args.write {
        return check_repository(&root);
    }
    let page = fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    fs::write(root.join(PAGE), with_table(&page, &table(&root)?)?).context(PAGE)
}

/// An error when the page's table is not what the tests say.
pub(crate) fn check_repository(root: &Path) -> Result<()> {
    let page = fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    if with_table(&page, &table(root)?)? != page {
        bail!("{PAGE} does not name the tests that are there: run `cargo xtask coverage --write`");
    }
    Ok(())
}

fn with_table(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("the page has no place for the table")?;
    let (_, after) = rest.split_once(END).context("the table's place has no end")?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn table(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(&root.join("crates"), root, &mut files)?;
    files.push((ALERTS.to_owned(), fs::read_to_string(root.join(ALERTS)).context(ALERTS)?));
    files.sort();
    let mut rows = String::from("| | fault | named in |\n| --- | --- | --- |\n");
    for (number, title) in (1..).zip(CATALOGUE) {
        let name = format!("F{number:02}");
        let places: BTreeSet<&str> =
            files.iter().filter(|(_, text)| names(text, &name)).map(|(path, _)| path.as_str()).collect();
        let impossible = IMPOSSIBLE.iter().find(|(row, _)| *row == name);
        let places = if let Some((_, why)) = impossible {
            (*why).to_owned()
        } else if places.is_empty() {
            "*no test names it*".to_owned()
        } else {
            places.into_iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(" ")
        };
        rows.push_str(&format!("| {name} | {title} | {places} |\n"));
    }
    Ok(rows)
}

/// True when `name` stands in the text as a word of its own, or as a part of a test's name (`f30_f63_the_first_pays`; an `f64`
/// that no name goes on after is a number's type).
fn names(text: &str, name: &str) -> bool {
    let small = format!("{}_", name.to_lowercase());
    [name, small.as_str()].into_iter().any(|name| {
        text.match_indices(name).any(|(at, _)| {
            let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let goes_on = !name.ends_with('_') && joined(text[at + name.len()..].chars().next());
            !joined(text[..at].chars().next_back()) && !goes_on
        })
    })
}

/// Test code below `folder`: paths from `crates/`, without it, and texts.
fn collect(folder: &Path, root: &Path, files: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, root, files)?;
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path)?;
            let shown = path.strip_prefix(root.join("crates")).unwrap_or(&path).display().to_string();
            let whole = ["/tests/", "sim/src", "test-support/src", "chaos/src"]
                .iter()
                .any(|part| shown.contains(part));
            let tests = if whole || shown.ends_with("tests.rs") {
                text
            } else {
                text.split_once("#[cfg(test)]").map(|(_, tests)| tests.to_owned()).unwrap_or_default()
            };
            files.push((shown, tests));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word() {
        assert!(names("(F08) lost", "F08"));
        assert!(!names("0xF08A", "F08"));
        assert!(!names("F080", "F08"));
        assert!(names("fn f07_f08_lost()", "F08"));
        assert!(!names("0.5_f64.as_secs_f64()", "F64"));
    }

    #[test]
    fn the_table_is_replaced_and_nothing_else() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(with_table(&page, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert!(with_table("no place", "new").is_err());
    }
}
