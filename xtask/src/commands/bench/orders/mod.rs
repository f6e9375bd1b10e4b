//! `bench orders`: how fast orders are placed and settled, what that costs, and how near it comes to what PostgreSQL does
//! alone.
//!
//! It knows the service by HTTP, and its database by SQL: it measures any build, and two of them side by side. Everything runs
//! on one machine, so rates drift with it: service, baseline and yardsticks take turns in rounds, in reverse order in
//! every other one, and ratios are made of figures of the same round.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub(super) mod compare;
mod drive;
pub(super) mod generator;
mod measure;
mod proxy;
mod report;
mod stage;
mod table;
mod usage;
mod wire;
mod yardstick;

use measure::How;
use report::{BASELINE, Machine, Report, Row, STANDARD_CLIENTS, THIS, Yardstick};
use stage::{Parts, Side};
use wire::Scenario;
use yardstick::Yardsticks;

use crate::cluster::{Kind, Running};
use crate::commands::audit;
use crate::{private, process, workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What buyers do, with commas; all four unless told
    #[arg(long, value_delimiter = ',', value_enum)]
    scenarios: Vec<Scenario>,
    /// Numbers of clients, with commas; 1,8,32,128 unless told
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=2_000))]
    clients: Vec<u32>,
    /// Seconds of each measurement; 8 unless told
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: Option<u32>,
    /// How often everything is measured; 5 unless told
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: Option<u32>,
    /// About a minute: point, card and hot, 32 clients, 2 rounds of 2 seconds, unless told otherwise
    #[arg(long)]
    quick: bool,
    /// An open loop: so many requests a second, due whatever the answers do. For latencies; no yardsticks
    #[arg(long)]
    rate: Option<f64>,
    /// App-servers on one database
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    servers: u32,
    /// Another checkout, built there for release and measured in turn with this one
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    /// The folder of the pgbench scripts, if not ../shared/perf beside the checkout
    #[arg(long, value_name = "DIR", env = "HOLDFAST_PERF")]
    perf: Option<PathBuf>,
    /// Writes all figures to this file, for `bench compare`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The arguments with what stands for those that were not given.
struct Plan {
    scenarios: Vec<Scenario>,
    clients: Vec<u32>,
    window: u32,
    warm_up: Duration,
    rounds: u32,
    rate: Option<f64>,
    counted: Vec<Scenario>,
    counting: Duration,
}

impl Plan {
    fn new(args: &Args) -> Result<Self> {
        if args.rate.is_some_and(|rate| !(1.0..=100_000.0).contains(&rate)) {
            bail!("--rate: from 1 to 100000 requests a second");
        }
        let or =
            |given: &[u32], usual: &[u32]| if given.is_empty() { usual.to_vec() } else { given.to_vec() };
        let all = [Scenario::Point, Scenario::Card, Scenario::Hot, Scenario::Mixed];
        let usual = if args.quick { 3 } else { all.len() };
        let mut scenarios = args.scenarios.clone();
        if scenarios.is_empty() {
            scenarios = all.into_iter().take(usual).collect();
        }
        let mut clients = or(&args.clients, if args.quick { &[32] } else { &[1, 8, 32, 128] });
        for list in [scenarios.len(), clients.len()] {
            ensure!(list <= 16, "at most 16 scenarios, and 16 numbers of clients");
        }
        scenarios.sort_unstable();
        scenarios.dedup();
        clients.sort_unstable();
        clients.dedup();
        Ok(Self {
            counted: scenarios.iter().copied().filter(|s| !args.quick || *s != Scenario::Hot).collect(),
            scenarios,
            clients,
            window: args.seconds.unwrap_or(if args.quick { 2 } else { 8 }),
            warm_up: Duration::from_millis(if args.quick { 500 } else { 1_000 }),
            rounds: args.rounds.unwrap_or(if args.quick { 2 } else { 5 }),
            rate: args.rate,
            counting: Duration::from_secs(if args.quick { 1 } else { 3 }),
        })
    }
}

/// One measurement of a round.
#[derive(Clone, Copy)]
enum Turn {
    Service { row: usize },
    Yardstick { index: usize },
}

pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(Path::new("/proc/self/stat").exists(), "CPU is counted by Linux's /proc, which is not here");
    let plan = Plan::new(args)?;
    let root = workspace::root()?;
    let scripts = if plan.rate.is_some() { None } else { yardstick::find(&root, args.perf.as_deref())? };
    let baseline = args.baseline.as_deref().map(checkout).transpose()?;
    println!("building for release");
    let binaries = private::build(&root, true)?;
    let generator = drive::build(&root)?;
    let baseline = baseline.map(|folder| build_baseline(&folder, &binaries)).transpose()?;

    let folder = root.join("target/orders");
    std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let database = Running::fresh(&root, "orders", Kind::Durable)?;
    let cluster = database.cluster();
    let mut report = Report {
        machine: machine(&mut cluster.connect("postgres")?, &generator)?,
        rounds: plan.rounds,
        seconds: plan.window.into(),
        servers: args.servers,
        open_loop: plan.rate,
        ..Report::default()
    };
    let mut ports = Vec::new();
    let mut sides = Vec::new();
    for (name, build) in [(THIS, Some(&binaries)), (BASELINE, baseline.as_ref())] {
        let Some(build) = build else { continue };
        println!("filling the database of `{name}`; logs are in {}", folder.join(name).display());
        let parts =
            Parts { name, binaries: build, simulator: &binaries, servers: args.servers, folder: &folder };
        let mut side = Side::prepare(cluster, &parts, &mut ports)?;
        side.sell_before(&generator)?;
        report.updates.insert(name.to_owned(), usage::updates(&mut side.client)?);
        sides.push(side);
    }
    let yardsticks = scripts.map(|scripts| Yardsticks::prepare(cluster, scripts, &folder)).transpose()?;
    let mut bench = Bench { plan, generator, sides, yardsticks, report };
    bench.rounds()?;
    bench.count(cluster.port().context("the cluster went away")?)?;
    bench.close()?;
    finish(args, &bench.report)
}

/// Prints and writes what was found; an error when it is worth nothing.
fn finish(args: &Args, report: &Report) -> Result<()> {
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(report)?;
        std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    let Machine { cores, postgres, load_before, load_after, generator_rate, generator_cpu } = &report.machine;
    println!(
        "\n{cores} cores, all on one machine; PostgreSQL {postgres}, fsync and synchronous_commit on; \
         load average {load_before} before, {load_after} after"
    );
    match report.open_loop {
        Some(rate) => {
            println!("open loop of {rate} requests/s, our own generator: times begin when a request was due")
        }
        None => println!(
            "closed loop, our own generator: alone {generator_rate:.0} requests/s, {generator_cpu:.0} us of CPU each; \
             times of a closed loop hide waits (--rate shows them)"
        ),
    }
    println!("{} app-server(s), one simulated gateway without latency or faults", report.servers);
    report.print();
    for row in report.limited() {
        println!("\n{row}: the generator was busy for most of the time, and may have been the limit");
    }
    let trouble = report.trouble();
    if !trouble.is_empty() {
        println!();
        for what in &trouble {
            println!("  {what}");
        }
        bail!("this run is worth nothing: what is listed above must not be");
    }
    Ok(())
}

fn checkout(folder: &Path) -> Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| format!("there is no {}", folder.display()))?;
    ensure!(folder.join("Cargo.toml").is_file(), "{} is no checkout", folder.display());
    Ok(folder)
}

fn build_baseline(folder: &Path, ours: &Path) -> Result<PathBuf> {
    println!("building {} for release", folder.display());
    let binaries = private::build(folder, true)?;
    ensure!(
        binaries != ours,
        "both checkouts are built into {}: unset CARGO_TARGET_DIR, or name another checkout",
        ours.display()
    );
    Ok(binaries)
}

fn machine(client: &mut postgres::Client, generator: &Path) -> Result<Machine> {
    let mut show = |setting: &str| -> Result<String> {
        Ok(client.query_one(&format!("SHOW {setting}"), &[])?.try_get(0)?)
    };
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        ensure!(
            show(setting)? == "on",
            "{setting} is not on: the figures would be of a database that forgets"
        );
    }
    let (generator_rate, generator_cpu) = drive::trial(generator)?;
    Ok(Machine {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        postgres: show("server_version")?,
        load_before: load_average(),
        load_after: String::new(),
        generator_rate,
        generator_cpu: generator_cpu.as_secs_f64() * 1e6,
    })
}

/// Runnable tasks over the last minute, as Linux counts them: figures of a busy machine say little.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

struct Bench {
    plan: Plan,
    generator: PathBuf,
    sides: Vec<Side>,
    yardsticks: Option<Yardsticks>,
    report: Report,
}

impl Bench {
    /// Measures everything so often as is asked for.
    fn rounds(&mut self) -> Result<()> {
        let turns = self.turns();
        for side in &mut self.sides {
            side.start()?;
        }
        for round in 0..self.plan.rounds {
            println!("round {} of {}", round + 1, self.plan.rounds);
            let order: Box<dyn Iterator<Item = &Turn>> =
                if round % 2 == 0 { Box::new(turns.iter()) } else { Box::new(turns.iter().rev()) };
            for turn in order {
                if process::interrupted() {
                    bail!("interrupted");
                }
                self.take(*turn)?;
            }
        }
        self.report.machine.load_after = load_average();
        self.report.relate();
        self.sides.iter_mut().try_for_each(Side::stop)
    }

    /// What a round consists of; makes the rows.
    fn turns(&mut self) -> Vec<Turn> {
        let mut turns = Vec::new();
        for scenario in &self.plan.scenarios {
            let scripts = if self.yardsticks.is_some() { yardstick::of(*scenario) } else { &[] };
            let held = self.yardstick_clients();
            for clients in held.iter().chain(&self.plan.clients).copied().collect::<BTreeSet<u32>>() {
                for script in scripts.iter().filter(|_| held.contains(&clients)) {
                    turns.push(Turn::Yardstick { index: self.report.yardsticks.len() });
                    self.report.yardsticks.push(Yardstick::new(script, clients));
                }
                for side in self.sides.iter().filter(|_| self.plan.clients.contains(&clients)) {
                    turns.push(Turn::Service { row: self.report.rows.len() });
                    self.report.rows.push(Row::new(side.name, *scenario, clients));
                }
            }
        }
        turns
    }

    /// The same numbers of clients as the service has, and the standard one where it has more.
    fn yardstick_clients(&self) -> BTreeSet<u32> {
        let more = self.plan.clients.iter().any(|clients| *clients > STANDARD_CLIENTS);
        let standard = more.then_some(STANDARD_CLIENTS);
        self.plan.clients.iter().copied().chain(standard).filter(|n| *n <= yardstick::MOST_CLIENTS).collect()
    }

    fn take(&mut self, turn: Turn) -> Result<()> {
        match turn {
            Turn::Yardstick { index } => {
                let yardsticks = self.yardsticks.as_mut().context("there is no yardstick")?;
                let row = self.report.yardsticks.get_mut(index).context("no such yardstick")?;
                let mark = yardsticks.measure(&row.script, row.clients, self.plan.window)?;
                println!("  {:<16} {:>4} clients {:>8.0}/s", row.script, row.clients, mark.rate);
                row.add(mark);
            }
            Turn::Service { row } => {
                let row = self.report.rows.get_mut(row).context("no such row")?;
                let side =
                    self.sides.iter_mut().find(|side| side.name == row.build).context("no such build")?;
                let how = How {
                    scenario: row.scenario,
                    clients: row.clients,
                    warm_up: self.plan.warm_up,
                    window: Duration::from_secs(self.plan.window.into()),
                    rate: self.plan.rate,
                };
                let sample = measure::measure(side, &self.generator, &how)?;
                let name = format!("{}, {}", row.scenario.name(), row.build);
                println!("  {name:<16} {:>4} clients {:>8.0}/s", row.clients, sample.rate);
                row.add(sample);
            }
        }
        Ok(())
    }

    /// What goes to the database and back, by servers of their own: one client alone, and so many that batches fill.
    fn count(&mut self, port: u16) -> Result<()> {
        let many = self.plan.clients.iter().copied().filter(|clients| *clients <= STANDARD_CLIENTS).max();
        let mut numbers = vec![1, many.unwrap_or(STANDARD_CLIENTS)];
        numbers.dedup();
        for side in &mut self.sides {
            println!("counting round trips of `{}`", side.name);
            side.start_counted(port)?;
            for scenario in &self.plan.counted {
                for clients in &numbers {
                    let how = How {
                        scenario: *scenario,
                        clients: *clients,
                        warm_up: Duration::from_millis(500),
                        window: self.plan.counting,
                        rate: None,
                    };
                    let mut row = Row::new(side.name, *scenario, *clients);
                    row.add(measure::measure(side, &self.generator, &how)?);
                    self.report.counted.push(row);
                }
            }
            side.stop()?;
        }
        Ok(())
    }

    /// Updates of the whole run, and the books: what was measured was also right.
    fn close(&mut self) -> Result<()> {
        for side in &mut self.sides {
            let before = self.report.updates.remove(side.name).unwrap_or_default();
            let mut updates = usage::updates(&mut side.client)?;
            for (table, after) in &mut updates {
                let before = before.get(table).copied().unwrap_or_default();
                after.all -= before.all;
                after.hot -= before.hot;
            }
            self.report.updates.insert(side.name.to_owned(), updates);
            let broken = audit::broken_books(&mut side.client)?;
            println!("books of `{}`: {} violations", side.name, broken.len());
            ensure!(broken.is_empty(), "the books of `{}` are broken: {}", side.name, broken.join("; "));
        }
        Ok(())
    }
}
