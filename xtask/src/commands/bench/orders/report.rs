//! All figures of a run, and the ratios that are made of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::measure::{Life, Sample, Wire};
use super::usage::Updates;
use super::wire::Scenario;
use super::yardstick::{self, Mark};

/// What is measured with more clients than these is held against yardsticks with these, too.
pub(super) const STANDARD_CLIENTS: u32 = 32;
/// The build that is looked at, and the one that it is held against.
pub(super) const THIS: &str = "this";
pub(super) const BASELINE: &str = "baseline";
/// Of one core: a generator that uses more may be what is measured.
const BUSY: f64 = 0.8;

/// What a file of figures holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) rounds: u32,
    pub(super) seconds: f64,
    pub(super) servers: u32,
    /// Requests a second of the open loop; none: a closed one.
    pub(super) open_loop: Option<f64>,
    pub(super) rows: Vec<Row>,
    /// Measured by themselves, through a proxy that counts.
    pub(super) counted: Vec<Row>,
    pub(super) yardsticks: Vec<Yardstick>,
    pub(super) ratios: Vec<Ratio>,
    /// Over the whole run, by build and table.
    pub(super) updates: BTreeMap<String, BTreeMap<String, Updates>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) postgres: String,
    pub(super) load_before: String,
    pub(super) load_after: String,
    /// Requests a second that the generator makes when answers cost nothing, and microseconds of its CPU for one.
    pub(super) generator_rate: f64,
    pub(super) generator_cpu: f64,
}

/// A scenario with so many clients on one build.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) build: String,
    pub(super) scenario: Scenario,
    pub(super) clients: u32,
    pub(super) median: Sample,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Yardstick {
    pub(super) script: String,
    pub(super) clients: u32,
    pub(super) median: Mark,
    pub(super) marks: Vec<Mark>,
}

/// Of two figures of the same round.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ratio {
    pub(super) build: String,
    pub(super) what: String,
    pub(super) median: f64,
    pub(super) rounds: Vec<f64>,
}

/// The middle; 0 of nothing.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or_default();
    let lower = if values.len().is_multiple_of(2) { middle.checked_sub(1) } else { Some(middle) };
    let lower = lower.and_then(|index| values.get(index)).copied().unwrap_or(upper);
    f64::midpoint(lower, upper)
}

/// Each figure's median by itself; of trouble, all.
fn middle(samples: &[Sample]) -> Sample {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
    let lives: Vec<Life> = samples.iter().filter_map(|sample| sample.life).collect();
    let of_lives = |figure: fn(&Life) -> f64| median(lives.iter().map(figure));
    let longest = |figure: fn(&Life) -> f64| lives.iter().map(figure).fold(0.0, f64::max);
    let wires: Vec<Wire> = samples.iter().filter_map(|sample| sample.wire).collect();
    let of_wires = |figure: fn(&Wire) -> f64| median(wires.iter().map(figure));
    let names = samples.iter().flat_map(|sample| sample.batches.keys().cloned());
    let mean = |name: &String| median(samples.iter().filter_map(|sample| sample.batches.get(name).copied()));
    Sample {
        rate: of(|s| s.rate),
        p50: of(|s| s.p50),
        p95: of(|s| s.p95),
        p99: of(|s| s.p99),
        longest: of(|s| s.longest),
        server: of(|s| s.server),
        database: of(|s| s.database),
        simulator: of(|s| s.simulator),
        generator: of(|s| s.generator),
        commits: of(|s| s.commits),
        generator_busy: of(|s| s.generator_busy),
        others: of(|s| s.others),
        batches: names.map(|name| (name.clone(), mean(&name))).collect(),
        wire: (!wires.is_empty()).then(|| Wire {
            trips: of_wires(|w| w.trips),
            statements: of_wires(|w| w.statements),
            prepared: of_wires(|w| w.prepared),
        }),
        // What must not be long is the longest of all rounds.
        life: (!lives.is_empty()).then(|| Life {
            tail: longest(|l| l.tail),
            p50: of_lives(|l| l.p50),
            p99: of_lives(|l| l.p99),
            longest: longest(|l| l.longest),
            after_callback: longest(|l| l.after_callback),
        }),
        trouble: samples.iter().flat_map(|sample| sample.trouble.clone()).collect(),
    }
}

impl Row {
    pub(super) fn new(build: &str, scenario: Scenario, clients: u32) -> Self {
        Self { build: build.to_owned(), scenario, clients, median: Sample::default(), samples: Vec::new() }
    }

    pub(super) fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
        self.median = middle(&self.samples);
    }

    pub(super) fn is(&self, build: &str, scenario: Scenario, clients: u32) -> bool {
        self.build == build && self.scenario == scenario && self.clients == clients
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.scenario.name(), self.clients)
    }
}

impl Yardstick {
    pub(super) fn new(script: &str, clients: u32) -> Self {
        Self { script: script.to_owned(), clients, median: Mark::default(), marks: Vec::new() }
    }

    pub(super) fn add(&mut self, mark: Mark) {
        self.marks.push(mark);
        let of = |figure: fn(&Mark) -> f64| median(self.marks.iter().map(figure));
        self.median = Mark { rate: of(|m| m.rate), latency: of(|m| m.latency), database: of(|m| m.database) };
    }
}

impl Report {
    pub(super) fn row(&self, build: &str, scenario: Scenario, clients: u32) -> Option<&Row> {
        self.rows.iter().find(|row| row.is(build, scenario, clients))
    }

    /// Makes the ratios from what was measured: of each round, so that the machine's drift is in both figures.
    pub(super) fn relate(&mut self) {
        let mut ratios = Vec::new();
        for row in &self.rows {
            let mut add = |what: String, others: Vec<f64>, own: fn(&Sample) -> f64| {
                let rounds: Vec<f64> = row
                    .samples
                    .iter()
                    .zip(others)
                    .filter(|(_, other)| *other > 0.0)
                    .map(|(sample, other)| own(sample) / other)
                    .collect();
                if !rounds.is_empty() {
                    let median = median(rounds.iter().copied());
                    ratios.push(Ratio { build: row.build.clone(), what, median, rounds });
                }
            };
            for script in yardstick::of(row.scenario) {
                for clients in [Some(row.clients), Some(STANDARD_CLIENTS).filter(|n| *n < row.clients)] {
                    let of_script = |y: &&Yardstick| y.script == *script && Some(y.clients) == clients;
                    if let Some(other) = self.yardsticks.iter().find(of_script) {
                        let rates = other.marks.iter().map(|mark| mark.rate).collect();
                        add(format!("{}: rate / {script} {}", row.name(), other.clients), rates, |s| s.rate);
                    }
                }
            }
            if row.scenario == Scenario::Hot
                && let Some(spread) = self.row(&row.build, Scenario::Point, row.clients)
            {
                let rates = spread.samples.iter().map(|sample| sample.rate).collect();
                add(format!("{}: rate / {}", row.name(), spread.name()), rates, |s| s.rate);
            }
            if row.build == THIS
                && let Some(before) = self.row(BASELINE, row.scenario, row.clients)
            {
                let of = |figure: fn(&Sample) -> f64| before.samples.iter().map(figure).collect();
                add(format!("{}: rate / baseline's", row.name()), of(|s| s.rate), |s| s.rate);
                add(format!("{}: p50 / baseline's", row.name()), of(|s| s.p50), |s| s.p50);
            }
        }
        self.ratios = ratios;
    }

    /// What makes the run worth nothing, or less.
    pub(super) fn trouble(&self) -> Vec<String> {
        let rows = self.rows.iter().chain(&self.counted);
        let of_row = |row: &Row| {
            let name = format!("{} ({})", row.name(), row.build);
            row.median.trouble.iter().map(|what| format!("{name}: {what}")).collect::<Vec<_>>()
        };
        rows.flat_map(of_row).collect()
    }

    /// Rows in which the generator may have been the limit.
    pub(super) fn limited(&self) -> Vec<String> {
        self.rows
            .iter()
            .filter(|row| row.median.generator_busy > BUSY)
            .map(|row| format!("{} ({})", row.name(), row.build))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(build: &str, scenario: Scenario, clients: u32, rates: &[f64]) -> Row {
        let mut row = Row::new(build, scenario, clients);
        for rate in rates {
            row.add(Sample { rate: *rate, p50: 1_000.0 / rate, ..Sample::default() });
        }
        row
    }

    fn marks(script: &str, clients: u32, rates: &[f64]) -> Yardstick {
        let mut yardstick = Yardstick::new(script, clients);
        for rate in rates {
            yardstick.add(Mark { rate: *rate, ..Mark::default() });
        }
        yardstick
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
        assert_eq!(row(THIS, Scenario::Point, 1, &[5.0, 1.0, 3.0]).median.rate, 3.0);
    }

    #[test]
    fn ratios_are_of_figures_of_one_round() {
        let mut report = Report {
            rows: vec![
                row(THIS, Scenario::Point, 128, &[100.0, 300.0, 200.0]),
                row(THIS, Scenario::Hot, 128, &[50.0, 300.0, 400.0]),
                row(BASELINE, Scenario::Point, 128, &[200.0, 100.0, 100.0]),
            ],
            yardsticks: vec![
                marks("tx1_naive", 32, &[100.0, 100.0, 50.0]),
                marks("tx1_naive", 128, &[50.0, 100.0, 400.0]),
                marks("life_naive", 32, &[1.0, 1.0, 1.0]),
            ],
            ..Report::default()
        };
        report.relate();
        let found: Vec<(&str, &str, f64)> =
            report.ratios.iter().map(|r| (r.build.as_str(), r.what.as_str(), r.median)).collect();
        let expected = [
            (THIS, "point 128: rate / tx1_naive 128", 2.0),
            (THIS, "point 128: rate / tx1_naive 32", 3.0),
            (THIS, "point 128: rate / baseline's", 2.0),
            (THIS, "point 128: p50 / baseline's", 0.5),
            (THIS, "hot 128: rate / point 128", 1.0),
            (BASELINE, "point 128: rate / tx1_naive 128", 1.0),
            (BASELINE, "point 128: rate / tx1_naive 32", 2.0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn trouble_of_any_round_is_told() {
        let mut row = row(THIS, Scenario::Card, 8, &[1.0, 1.0]);
        row.add(Sample { trouble: vec!["3 x order by card: 503".to_owned()], ..Sample::default() });
        let report = Report { rows: vec![row], ..Report::default() };
        assert_eq!(report.trouble(), ["card 8 (this): 3 x order by card: 503"]);
    }

    #[test]
    fn a_file_of_figures_is_read_back() {
        let mut report = Report { rows: vec![row(THIS, Scenario::Hot, 8, &[2.0])], ..Report::default() };
        report.relate();
        let text = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read.row(THIS, Scenario::Hot, 8).unwrap().median.rate, 2.0);
    }
}
