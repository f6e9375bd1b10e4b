//! `bench compare`: two files of figures, side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::measure::Sample;
use super::report::{Report, Row, THIS};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Figures of `bench orders --json`: what it is held against
    before: PathBuf,
    /// Figures of another run
    after: PathBuf,
}

type Figure = (&'static str, fn(&Sample) -> f64);

/// What is compared, in the order of the columns.
const FIGURES: &[Figure] = &[
    ("rate", |sample| sample.rate),
    ("p50", |sample| sample.p50),
    ("p99", |sample| sample.p99),
    ("server", |sample| sample.server),
    ("database", |sample| sample.database),
    ("commits", |sample| sample.commits),
];

/// What is compared of those that were counted.
const COUNTED: &[Figure] = &[
    ("trips", |sample| sample.wire.unwrap_or_default().trips),
    ("stmts", |sample| sample.wire.unwrap_or_default().statements),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let [before, after] = [&args.before, &args.after].map(|path| read(path));
    let (before, after) = (before?, after?);
    println!("{}, divided by {}; builds `{THIS}`, medians\n", args.after.display(), args.before.display());
    let rows = compare(&before.rows, &after.rows, FIGURES);
    ensure!(!rows.is_empty(), "the two have no scenario with the same number of clients");
    print(FIGURES, &rows);
    let counted = compare(&before.counted, &after.counted, COUNTED);
    if !counted.is_empty() {
        println!("\ncounted apart");
        print(COUNTED, &counted);
    }
    println!("\nratios to yardsticks of the same run");
    for ratio in before.ratios.iter().filter(|ratio| ratio.build == THIS) {
        let same = |other: &&super::report::Ratio| other.build == THIS && other.what == ratio.what;
        if let Some(other) = after.ratios.iter().find(same) {
            println!("{:<44} {:>6.2} -> {:.2}", ratio.what, ratio.median, other.median);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} holds no figures of `bench orders --json`", path.display()))
}

/// A row's name, and its figures after divided by before; none where there was nothing before.
type Compared = (String, Vec<Option<f64>>);

fn compare(before: &[Row], after: &[Row], figures: &[Figure]) -> Vec<Compared> {
    let mut compared = Vec::new();
    for old in before.iter().filter(|row| row.build == THIS) {
        let same = after.iter().find(|row| row.build == THIS && row.name() == old.name());
        let Some(new) = same else { continue };
        let ratios = figures.iter().map(|(_, figure)| {
            let old = figure(&old.median);
            (old > 0.0).then(|| figure(&new.median) / old)
        });
        compared.push((old.name(), ratios.collect()));
    }
    compared
}

fn print(figures: &[Figure], rows: &[Compared]) {
    print!("{:<12}", "");
    for (name, _) in figures {
        print!(" {name:>9}");
    }
    println!();
    for (name, ratios) in rows {
        print!("{name:<12}");
        for ratio in ratios {
            print!(" {:>9}", ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::BASELINE;
    use super::super::wire::Scenario;
    use super::*;

    fn row(build: &str, scenario: Scenario, rate: f64, p50: f64) -> Row {
        let mut row = Row::new(build, scenario, 8);
        row.add(Sample { rate, p50, ..Sample::default() });
        row
    }

    #[test]
    fn rows_of_this_build_are_compared_where_both_runs_have_them() {
        let before = [
            row(BASELINE, Scenario::Point, 1.0, 1.0),
            row(THIS, Scenario::Point, 100.0, 0.0),
            row(THIS, Scenario::Card, 1.0, 1.0),
        ];
        let after = [row(THIS, Scenario::Point, 250.0, 3.0), row(THIS, Scenario::Hot, 1.0, 1.0)];
        let compared = compare(&before, &after, &FIGURES[..2]);
        assert_eq!(compared, [("point 8".to_owned(), vec![Some(2.5), None])]);
    }

    #[test]
    fn a_file_without_figures_is_refused_by_name() {
        let error = read(Path::new("Cargo.toml")).unwrap_err();
        assert_eq!(error.to_string(), "Cargo.toml holds no figures of `bench orders --json`");
        let error = read(Path::new("no such file")).unwrap_err();
        assert_eq!(error.to_string(), "could not read no such file");
    }
}
