//! What a run prints at its end.

use std::collections::BTreeMap;

use super::measure::Wire;
use super::report::{BASELINE, Report, Row, Yardstick, median};

/// Of the machine: figures of one that is busy with something else say little.
const DISTURBED: f64 = 0.1;
/// The columns of the table, and how wide they are; what was batched follows.
const COLUMNS: [(&str, usize); 15] = [
    ("build", 8),
    ("scenario", 8),
    ("clients", 7),
    ("rate/s", 8),
    ("p50", 8),
    ("p95", 8),
    ("p99", 8),
    ("server", 8),
    ("database", 8),
    ("simulator", 9),
    ("generator", 9),
    ("commits", 8),
    ("trips", 6),
    ("stmts", 6),
    ("parsed", 6),
];

impl Report {
    pub(super) fn print(&self) {
        let shares = || self.rows.iter().flat_map(|row| row.samples.iter().map(|sample| sample.others));
        let (usual, most) = (median(shares()), shares().fold(0.0, f64::max));
        println!(
            "others took {:.0} % of the machine meanwhile (median), at most {:.0} %{}",
            usual * 100.0,
            most * 100.0,
            if usual > DISTURBED { ": it was busy, and the figures say little" } else { "" }
        );
        self.print_table();
        self.print_counted();
        self.print_lives();
        self.print_yardsticks();
        self.print_ratios();
        self.print_updates();
    }

    fn print_table(&self) {
        println!("\n{:<34}{:^26} {:^36} {:^29}  mean", "", "ms", "CPU us per order", "per order");
        print_cells(&COLUMNS.map(|(name, _)| name.to_owned()), "batch");
        for row in &self.rows {
            let m = &row.median;
            let counted = self.counted.iter().find(|other| other.is(&row.build, row.scenario, row.clients));
            let wire = counted.and_then(|row| row.median.wire);
            let of_wire = |figure: fn(&Wire) -> f64, decimals: usize| {
                wire.map_or_else(|| "-".to_owned(), |wire| format!("{:.decimals$}", figure(&wire)))
            };
            let cells = [
                row.build.clone(),
                row.scenario.name().to_owned(),
                row.clients.to_string(),
                format!("{:.0}", m.rate),
                format!("{:.2}", m.p50),
                format!("{:.2}", m.p95),
                format!("{:.2}", m.p99),
                format!("{:.0}", m.server),
                format!("{:.0}", m.database),
                format!("{:.0}", m.simulator),
                format!("{:.0}", m.generator),
                format!("{:.2}", m.commits),
                of_wire(|wire| wire.trips, 1),
                of_wire(|wire| wire.statements, 1),
                of_wire(|wire| wire.prepared, 2),
            ];
            print_cells(&cells, &batches(&m.batches));
        }
    }

    /// What was counted for numbers of clients that have no row in the table.
    fn print_counted(&self) {
        let alone = |row: &&Row| self.row(&row.build, row.scenario, row.clients).is_none();
        for row in self.counted.iter().filter(alone) {
            let wire = row.median.wire.unwrap_or_default();
            println!(
                "{:<8} {:<8} {:>7}  only counted: {:.2} commits, {:.1} round trips, {:.1} statements, {:.2} parsed anew; \
                 batches {}",
                row.build,
                row.scenario.name(),
                row.clients,
                row.median.commits,
                wire.trips,
                wire.statements,
                wire.prepared,
                batches(&row.median.batches)
            );
        }
    }

    fn print_lives(&self) {
        let living = self.rows.iter().filter_map(|row| Some((row, row.median.life?)));
        for (index, (row, life)) in living.enumerate() {
            if index == 0 {
                println!(
                    "\nlife of card payments, ms; no reconciler runs; of each round's longest, the longest"
                );
            }
            println!(
                "{:<8} {:<12} p50 {:.0}, p99 {:.0}, longest {:.0}; longest after the callback {:.0}; \
                 all had ended {:.0} after the last answer",
                row.build,
                row.name(),
                life.p50,
                life.p99,
                life.longest,
                life.after_callback,
                life.tail
            );
        }
    }

    fn print_yardsticks(&self) {
        if !self.yardsticks.is_empty() {
            println!(
                "\n{:<16} {:>7} {:>9} {:>11} {:>11}",
                "pgbench", "clients", "rate/s", "average ms", "database us"
            );
        }
        for Yardstick { script, clients, median, .. } in &self.yardsticks {
            println!(
                "{script:<16} {clients:>7} {:>9.0} {:>11.2} {:>11.0}",
                median.rate, median.latency, median.database
            );
        }
    }

    fn print_ratios(&self) {
        if !self.ratios.is_empty() {
            println!("\nratios, median of {} rounds (each round)", self.rounds);
        }
        let two = self.rows.iter().any(|row| row.build == BASELINE);
        for ratio in &self.ratios {
            let build = if two { format!("{:<8} ", ratio.build) } else { String::new() };
            let rounds: Vec<String> = ratio.rounds.iter().map(|round| format!("{round:.2}")).collect();
            println!("{build}{:<44} {:>6.2}  ({})", ratio.what, ratio.median, rounds.join(" "));
        }
    }

    fn print_updates(&self) {
        for (build, tables) in &self.updates {
            println!("\nHOT updates of the whole run ({build})");
            for (table, updates) in tables.iter().filter(|(_, updates)| updates.all > 0) {
                #[expect(clippy::cast_precision_loss, reason = "updates of one run are far fewer than 2^52")]
                let share = updates.hot as f64 * 100.0 / updates.all as f64;
                println!("  {table:<18} {share:>5.1} % of {}", updates.all);
            }
        }
    }
}

/// Words to the left, numbers to the right.
fn print_cells(cells: &[String; COLUMNS.len()], last: &str) {
    let mut line = String::new();
    for (index, (cell, (_, width))) in cells.iter().zip(COLUMNS).enumerate() {
        let cell = if index < 2 { format!("{cell:<width$} ") } else { format!("{cell:>width$} ") };
        line.push_str(&cell);
    }
    println!("{line} {last}");
}

fn batches(batches: &BTreeMap<String, f64>) -> String {
    if batches.is_empty() {
        return "-".to_owned();
    }
    batches.iter().map(|(name, mean)| format!("{name} {mean:.1}")).collect::<Vec<_>>().join(", ")
}
