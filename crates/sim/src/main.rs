//! `sim`: runs seeds, repeats one to the letter, and when something breaks prints the seed, the smallest set of faults
//! with which it still breaks, and the story of the order it happened to.
//!
//! ```text
//! cargo run -p sim --profile sim -- --seeds 20000             seeds 1 to 20000
//! cargo run -p sim --profile sim -- --seed 4711 --trace       one run, every step
//! cargo run -p sim --profile sim -- --seed 4711 --only CrashApp,CallbackLost
//! ```

use anyhow::{Context, bail};
use clap::Parser;
use sim::crash_points::{CRASH_POINTS, Here, existing};
use sim::kinds::Kind;
use sim::minimise::minimise;
use sim::plan::{Crowd, Plan};
use sim::run::{Report, run};
use sim::world::{Batch, Counts, Line};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Simulates the shop under every fault and checks that nothing is lost.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this one
    #[arg(long)]
    seed: Option<u64>,
    /// Print every step of it
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Print the steps about one order of it only
    #[arg(long, requires = "seed")]
    order: Option<i64>,
    /// Only these kinds of faults, whatever the seed says
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<Kind>>,
    /// Without these kinds of faults
    #[arg(long, value_delimiter = ',')]
    without: Vec<Kind>,
    /// With these kinds of faults, beside the seed's own
    #[arg(long, value_delimiter = ',')]
    with: Vec<Kind>,
    /// How often faults strike, in per cent of their usual rate, whatever the seed says
    #[arg(long)]
    intensity: Option<u64>,
    /// How buyers come together, whatever the seed says
    #[arg(long)]
    crowd: Option<Crowd>,
    /// So many servers of the API, whatever the seed says
    #[arg(long)]
    apps: Option<usize>,
    /// So many reconcilers, whatever the seed says
    #[arg(long)]
    reconcilers: Option<usize>,
    /// A payment that can't be examined is parked after so many times, whatever the seed says
    #[arg(long)]
    park_after: Option<u32>,
    /// Threads [default: one per core]
    #[arg(long)]
    jobs: Option<usize>,
    /// Run the first so many seeds twice and compare their traces [default: 100 from 1000 seeds on]
    #[arg(long)]
    twice: Option<u64>,
    /// Fail unless processes died at every crash point, and every kind of fault struck, so often [default: 100 from 20000
    /// seeds on]
    #[arg(long)]
    require_coverage: Option<u64>,
    /// Go on after failures, until so many seeds have failed, and name them
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// Only name the seeds that failed: no story, no smallest set of faults
    #[arg(long)]
    brief: bool,
}

impl Arguments {
    fn twice(&self) -> u64 {
        self.twice.unwrap_or(if self.seeds < 1000 { 0 } else { 100 }).min(self.seeds)
    }

    fn required_coverage(&self) -> u64 {
        let all_faults = self.only.is_none() && self.without.is_empty() && self.intensity.is_none();
        self.require_coverage.unwrap_or(if all_faults && self.seeds >= 20_000 { 100 } else { 0 })
    }

    fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::new(seed).without(&self.without.iter().copied().collect());
        if let Some(only) = &self.only {
            plan = plan.only(&only.iter().copied().collect());
        }
        plan.faults.extend(&self.with);
        plan.intensity = self.intensity.unwrap_or(plan.intensity);
        plan.apps = self.apps.unwrap_or(plan.apps);
        plan.park_after = self.park_after.unwrap_or(plan.park_after);
        plan.reconcilers = self.reconcilers.unwrap_or(plan.reconcilers);
        match self.crowd {
            Some(crowd) => plan.crowded(crowd),
            None => plan,
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(&arguments, seed),
        None => many(&arguments),
    }
}

fn one(arguments: &Arguments, seed: u64) -> anyhow::Result<ExitCode> {
    let report = run(arguments.plan(seed), true)?;
    if arguments.trace || arguments.order.is_some() {
        print_lines(&report.lines, |line| {
            arguments.order.is_none_or(|order| line.order == order || (line.order == 0 && !line.step))
        })?;
    }
    println!("seed {seed}: trace {:016x}", report.trace_hash);
    println!("faults: {}", names(&report.plan.faults));
    if report.violations.is_empty() {
        println!("0 violations");
        return Ok(ExitCode::SUCCESS);
    }
    explain(&report)
}

struct Progress {
    next: AtomicU64,
    failed: AtomicUsize,
    total: Mutex<Total>,
}

#[derive(Default)]
struct Total {
    runs: u64,
    counts: Counts,
    failures: Vec<Report>,
}

fn many(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let progress = Progress {
        next: AtomicU64::new(arguments.from),
        failed: AtomicUsize::new(0),
        total: Mutex::default(),
    };
    let began = Instant::now();
    let result: anyhow::Result<()> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..jobs.max(1)).map(|_| scope.spawn(|| work(arguments, &progress, began))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a run panicked"))?)
    });
    result?;
    let total = progress.total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let took = began.elapsed();
    println!(
        "{} runs in {:.1} s, {:.0} seeds/s; {} orders, {} requests to the gateway, {} paid, {} failed, {} ledger rows",
        total.runs,
        took.as_secs_f64(),
        total.runs as f64 / took.as_secs_f64().max(0.001),
        total.counts.orders,
        total.counts.posts,
        total.counts.paid,
        total.counts.failed,
        total.counts.discrepancies,
    );
    table(&total.counts);
    if arguments.twice() > 0 && total.failures.is_empty() {
        println!("the first {} seeds were run twice: the same trace each time", arguments.twice());
    }
    let mut failures = total.failures;
    failures.sort_by_key(|report| report.plan.seed);
    if let Some(first) = failures.first() {
        for report in failures.iter().filter(|_| arguments.failures > 1 || arguments.brief) {
            let first = report.violations.first();
            let text = first.map_or(String::new(), |first| format!("{}: {}", first.invariant, first.text));
            println!("seed {}: {text}", report.plan.seed);
        }
        if arguments.brief {
            return Ok(ExitCode::FAILURE);
        }
        return explain(&run(first.plan.clone(), true)?);
    }
    println!("0 violations");
    if total.counts.unknown.is_empty() && is_covered(&total.counts, arguments.required_coverage()) {
        return Ok(ExitCode::SUCCESS);
    }
    for (stage, site) in &total.counts.unknown {
        println!("a step that no crash point has: {site} ({stage:?})");
    }
    Ok(ExitCode::FAILURE)
}

/// Whether every crash point and every kind of fault was met often enough; says so in one line.
fn is_covered(counts: &Counts, required: u64) -> bool {
    if required == 0 {
        return true;
    }
    let points =
        existing().filter_map(|index| Some((CRASH_POINTS.get(index)?.id, counts.points.get(index)?.deaths)));
    let kinds =
        Kind::ALL.iter().map(|kind| (kind.name(), counts.struck.get(kind).copied().unwrap_or_default()));
    let several = counts.batches.iter().zip(Batch::ALL).map(|(tally, batch)| (batch.name(), tally.several));
    let failed: u64 = counts.batches.iter().map(|tally| tally.failed).sum();
    let in_batches = [
        ("batches of several that failed", failed),
        ("deaths in a batch of several", counts.deaths_in_batches),
    ];
    let rare: Vec<String> = points
        .chain(kinds)
        .chain(several)
        .chain(in_batches)
        .filter(|(_, count)| *count < required)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if rare.is_empty() {
        println!(
            "coverage: at each of {} crash points a process died at least {required} times, each of {} kinds of faults \
             struck at least {required} times, each kind of batch had several members as often",
            existing().count(),
            Kind::ALL.len()
        );
    } else {
        println!("coverage: fewer than {required} times: {}", rare.join(", "));
    }
    rare.is_empty()
}

fn work(arguments: &Arguments, progress: &Progress, began: Instant) -> anyhow::Result<()> {
    loop {
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        let over = seed >= arguments.from.saturating_add(arguments.seeds);
        if over || progress.failed.load(Ordering::Relaxed) >= arguments.failures {
            return Ok(());
        }
        let report = run(arguments.plan(seed), false)?;
        if seed < arguments.from.saturating_add(arguments.twice()) {
            let again = run(arguments.plan(seed), false)?;
            if again.trace_hash != report.trace_hash {
                bail!("seed {seed} does not repeat: {:016x}, {:016x}", report.trace_hash, again.trace_hash);
            }
        }
        let mut total = progress.total.lock().unwrap_or_else(PoisonError::into_inner);
        total.runs += 1;
        total.counts.add(&report.counts);
        if !report.violations.is_empty() {
            progress.failed.fetch_add(1, Ordering::Relaxed);
            total.failures.push(report);
        }
        if total.runs.is_multiple_of(500) {
            let rate = total.runs as f64 / began.elapsed().as_secs_f64().max(0.001);
            let left = Duration::from_secs_f64((arguments.seeds - total.runs) as f64 / rate);
            eprintln!(
                "{} of {} seeds, {rate:.0} seeds/s, {} failed, {:.0} s left",
                total.runs,
                arguments.seeds,
                total.failures.len(),
                left.as_secs_f64()
            );
        }
    }
}

fn table(counts: &Counts) {
    println!("\nfaults that struck");
    for kind in Kind::ALL {
        let count = counts.struck.get(kind).copied().unwrap_or_default();
        println!("  {:<10} {:<20} {:>9}  {}", kind.group(), kind.name(), count, kind.rows());
    }
    println!("\ncrash points{:>44} {:>8}", "passed", "died");
    for (point, tally) in CRASH_POINTS.iter().zip(counts.points) {
        match point.here {
            Here::Absent(why) => {
                println!("  {:<4} {:<38} {:>10} {:>8}  {why}", point.id, point.what, "-", "-")
            }
            Here::Sites { .. } | Here::State { .. } => {
                println!("  {:<4} {:<38} {:>10} {:>8}", point.id, point.what, tally.hits, tally.deaths);
            }
        }
    }
    batches(counts);
    println!("\nsites at which a process died: {}", counts.crashes.len());
    for (site, count) in &counts.crashes {
        println!("  {:<45} {count:>7}", site.to_string());
    }
    if counts.clean_decided > 0 {
        let share = 100.0 * counts.clean_paid as f64 / counts.clean_decided as f64;
        println!(
            "\nruns without faults: {} of {} card charges PAID, {share:.1} % (the gateway approves 70 %)",
            counts.clean_paid, counts.clean_decided
        );
    }
}

fn batches(counts: &Counts) {
    println!("\nbatches        batches of several   mean  largest  done one by one");
    for (tally, batch) in counts.batches.iter().zip(Batch::ALL) {
        let mean = tally.members as f64 / tally.batches.max(1) as f64;
        println!(
            "  {:<10} {:>9} {:>10} {mean:>6.2} {:>8} {:>16}",
            batch.name(),
            tally.batches,
            tally.several,
            tally.largest,
            tally.failed
        );
    }
    println!("  deaths in the middle of a batch of several: {}", counts.deaths_in_batches);
}

fn names(kinds: &BTreeSet<Kind>) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",")
}

/// What broke, with the fewest faults, and the story of the order it happened to.
fn explain(report: &Report) -> anyhow::Result<ExitCode> {
    let smallest = minimise(report)?;
    let told = run(smallest.plan.clone(), true)?;
    let first = told.violations.first().context("the smallest run no longer fails")?;
    print_lines(&told.lines, |line| {
        (line.order == first.order && first.order != 0) || (line.order == 0 && !line.step)
    })?;
    println!("\nseed {} breaks:", report.plan.seed);
    for violation in &report.violations {
        println!("  {} (order {}): {}", violation.invariant, violation.order, violation.text);
    }
    println!(
        "the smallest set of faults that still breaks {}: {}",
        first.invariant,
        names(&told.plan.faults)
    );
    println!("  {} (order {}): {}", first.invariant, first.order, first.text);
    println!(
        "again: cargo xtask sim --seed {} --only {} --order {}",
        report.plan.seed,
        names(&told.plan.faults),
        first.order
    );
    Ok(ExitCode::FAILURE)
}

fn print_lines(lines: &[Line], wanted: impl Fn(&Line) -> bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines.iter().filter(|line| wanted(line)) {
        let seconds = line.at.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let rest = line.at.as_secs_f64() % 60.0;
        writeln!(out, "{hours:02}:{minutes:02}:{rest:06.3} {:>6} {}", line.order, line.text)?;
    }
    Ok(())
}
