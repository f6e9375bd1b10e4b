//! `bench hang`: PG trouble never takes the shop down (spec 01).
//!
//! The same load is put on a system of its own three times: with a healthy gateway (the simulator's documented manners),
//! with one that accepts connections and never answers, and with one that is switched off under load and comes back.
//! What must hold is judged by itself; the figures are the machine's, so this is no part of `cargo xtask test`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::figures::{self, Verdict};
use super::load::{Load, Placed};
use crate::private::{self, Plan, Private};
use crate::process;
use crate::scrape::Scrape;
use crate::workspace;

/// `pg.payment.circuit.minimum_number_of_calls`, `.wait_duration_in_open_state`; `pg.retry_budget.*`.
const MINIMUM_CALLS: u64 = 20;
const OPEN_WAIT: Duration = Duration::from_secs(5);
const TOKENS_PER_CALL: f64 = 1.0;
const TOKENS_PER_SECOND: f64 = 10.0;
/// After the open wait come the probes: three calls, each with its retries and the gateway's own 40 % of errors.
const PROBING: Duration = Duration::from_secs(5);
/// Resident memory after the gateway hung, to that before.
const MEMORY: f64 = 1.3;
/// For how long the gateway is dead, at least.
const DEAD: Duration = Duration::from_secs(8);
/// Something that must happen has not happened.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how long the gateway is healthy, and then hangs, each
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3600))]
    seconds: u32,
    /// Card orders a second
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    if !(1.0..=500.0).contains(&args.rate) {
        bail!("--rate: from 1 to 500 orders a second");
    }
    let root = workspace::root()?;
    println!("building the programs for release");
    let binaries = private::build(&root, true)?;
    let plan = Plan { name: "hang", binaries: &binaries, second: false, reconciler: false, settings: &[] };
    let mut system = Private::start(&root, &plan)?;
    let load = Load::prepare(&system, args.rate)?;
    let busy_before = machine_load();
    let length = Duration::from_secs(args.seconds.into());

    say(&format!("{} card orders/s, reads, orders by points and health checks: warming up", args.rate));
    load.run((length / 4).min(Duration::from_secs(15)))?;
    say(&format!("the gateway is healthy for {} s", length.as_secs()));
    let healthy = load.run(length)?;
    let before = Look::at(&system)?;
    say(&format!("the gateway accepts and never answers for {} s", length.as_secs()));
    system.outage(Some("hang"))?;
    let (hanging, reached) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| while_first_open(&system, length));
        let hanging = load.run(length);
        let reached = watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        anyhow::Ok((hanging?, reached?))
    })?;
    let after = Look::at(&system)?;
    system.outage(None)?;
    say("the gateway answers again; then it is switched off under load");
    let dead = switched_off(&mut system, &load)?;
    if process::interrupted() {
        bail!("interrupted");
    }
    let last = Look::at(&system)?;
    system.stop()?;

    figures::compare(&healthy, &hanging);
    println!(
        "resident memory: {:.1} MiB before the gateway hung, {:.1} MiB after ({:.2} x), {:.1} MiB at the end",
        before.memory / MIB,
        after.memory / MIB,
        after.memory / before.memory,
        last.memory / MIB
    );
    println!(
        "circuit pg-payment: {} before, {} after; {:.0} calls refused while it hung",
        before.circuit.state,
        after.circuit.state,
        after.refused - before.refused
    );
    dead.print();
    println!("machine's load average: {busy_before} before, {} now", machine_load());
    println!();
    let mut verdict = Verdict::default();
    figures::judge(&healthy, &hanging, &mut verdict);
    let grown = after.memory / before.memory;
    verdict.hold(grown <= MEMORY, &format!("resident memory grew to {grown:.2} x (at most {MEMORY} x)"));
    let arrived = reached.map_or("unknown".to_owned(), |reached| reached.to_string());
    let what = format!("{arrived} requests reached the hanging gateway while the circuit was open first");
    verdict.hold(reached == Some(0), &what);
    dead.judge(&mut verdict);
    if !verdict.failed.is_empty() {
        bail!("{} of these do not hold", verdict.failed.len());
    }
    Ok(())
}

/// Runnable tasks over the last minute, as Linux counts them: figures of a busy machine say little.
fn machine_load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

const MIB: f64 = 1024.0 * 1024.0;

fn say(text: &str) {
    println!("{text}");
}

impl Private {
    fn outage(&self, mode: Option<&str>) -> Result<()> {
        let body = mode.map_or_else(|| json!({ "on": false }), |mode| json!({ "on": true, "mode": mode }));
        let answer = self.http.post(&format!("{}/admin/outage", self.simulator), None, &body)?;
        if answer.status != 200 {
            bail!("the simulator answered {}: {}", answer.status, answer.body);
        }
        Ok(())
    }

    /// Payment requests and look-ups that the gateway has read.
    fn arrived(&self) -> Result<u64> {
        let url = format!("{}/admin/requests?orderId=none", self.simulator);
        let answer = self.http.get(&url, None)?;
        let counts = answer.data("/counts").context("the simulator has no counts")?;
        Ok(total(counts))
    }

    fn circuit(&self) -> Result<Circuit> {
        let answer = self.http.get(&format!("{}/admin/circuits", self.ops), None)?;
        let circuits = answer.data("/circuits").and_then(Value::as_array).context("there are no circuits")?;
        let circuit = circuits.iter().find(|circuit| circuit["name"] == "pg-payment");
        let circuit = circuit.context("there is no circuit pg-payment")?;
        Ok(Circuit {
            state: circuit["state"].as_str().unwrap_or_default().to_owned(),
            calls: circuit["bufferedCalls"].as_u64().unwrap_or_default(),
            retry_after: Duration::from_secs(circuit["retryAfter"].as_u64().unwrap_or_default()),
        })
    }

    fn reset_circuits(&self) -> Result<()> {
        for name in ["pg-payment", "pg-query"] {
            let url = format!("{}/admin/circuits/{name}", self.ops);
            let answer = self.http.post(&url, None, &json!({ "state": "RESET" }))?;
            if answer.status != 200 {
                bail!("{url} answered {}: {}", answer.status, answer.body);
            }
        }
        Ok(())
    }

    fn scrape(&self) -> Result<Scrape> {
        Scrape::fetch(&self.http, &self.ops)
    }
}

/// The sum of all numbers in it.
fn total(counts: &Value) -> u64 {
    match counts {
        Value::Number(number) => number.as_u64().unwrap_or_default(),
        Value::Object(object) => object.values().map(total).sum(),
        Value::Array(array) => array.iter().map(total).sum(),
        Value::Null | Value::Bool(_) | Value::String(_) => 0,
    }
}

struct Circuit {
    state: String,
    calls: u64,
    retry_after: Duration,
}

impl Circuit {
    fn is_open(&self) -> bool {
        self.state == "OPEN"
    }
}

/// The app-server at one moment.
struct Look {
    memory: f64,
    circuit: Circuit,
    refused: f64,
}

impl Look {
    fn at(system: &Private) -> Result<Self> {
        let scrape = system.scrape()?;
        Ok(Self {
            memory: scrape.sum("process_resident_memory_bytes", &[]),
            circuit: system.circuit()?,
            refused: scrape
                .sum("resilience4j_circuitbreaker_not_permitted_calls_total", &[("name", "pg-payment")]),
        })
    }
}

fn wait_for(what: &str, mut seen: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !seen()? {
        if process::interrupted() {
            bail!("interrupted");
        }
        if began.elapsed() > PATIENCE {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Nothing that began before the circuit opened is under way any more.
fn nothing_under_way(system: &Private) -> Result<bool> {
    Ok(system.scrape()?.sum("pg_calls_in_flight", &[]) == 0.0)
}

/// How many requests reach the gateway from when the circuit has opened, and what began before has ended, until it tries
/// the gateway again. None: it was not open for so long.
fn while_first_open(system: &Private, limit: Duration) -> Result<Option<u64>> {
    let began = Instant::now();
    let in_time = || began.elapsed() < limit && !process::interrupted();
    while in_time() && !system.circuit()?.is_open() {
        std::thread::sleep(Duration::from_millis(20));
    }
    while in_time() && !nothing_under_way(system)? {
        std::thread::sleep(Duration::from_millis(20));
    }
    let first = system.arrived()?;
    let mut reached = None;
    while in_time() {
        // Counted before the look at the state: what is counted had arrived while it was open.
        let arrived = system.arrived()?;
        if !system.circuit()?.is_open() {
            break;
        }
        reached = Some(arrived - first);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(reached)
}

/// What a gateway that dies under load and comes back showed.
struct Dead {
    opened_after: Duration,
    /// Results in the window when the circuit opened.
    calls: u64,
    /// Requests that were sent while it was open, and those that reached the gateway which had come back.
    sent: f64,
    reached: u64,
    retries: f64,
    budget: f64,
    /// What was left of the open wait when the gateway came back.
    wait_left: Duration,
    accepted_after: Option<Duration>,
    closed_after: Duration,
    longest: Duration,
    orders: usize,
}

/// Switches the gateway off under load and on again while the circuit is open.
fn switched_off(system: &mut Private, load: &Load) -> Result<Dead> {
    let stop = AtomicBool::new(false);
    let (seen, orders) = std::thread::scope(|scope| {
        let orders = scope.spawn(|| load.orders(|| !stop.load(Ordering::SeqCst)));
        let seen = off_and_on(system);
        stop.store(true, Ordering::SeqCst);
        let orders = orders.join().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))?;
        anyhow::Ok((seen?, orders?))
    })?;
    let (back, mut dead) = seen;
    let accepted = orders.iter().filter(|order| order.ended > back && order.is_accepted());
    dead.accepted_after = accepted.map(|order| order.ended - back).min();
    dead.longest = orders.iter().map(|order: &Placed| order.took).max().unwrap_or_default();
    dead.orders = orders.len();
    Ok(dead)
}

/// When the gateway came back, and what was seen until the circuit had closed.
fn off_and_on(system: &mut Private) -> Result<(Instant, Dead)> {
    wait_for("the circuit closes after the gateway hung", || Ok(system.circuit()?.state == "CLOSED"))?;
    std::thread::sleep(Duration::from_secs(2));
    // So that it opens from an empty window, as after a start.
    system.reset_circuits()?;
    let before = system.scrape()?;
    let off = Instant::now();
    system.kill_gateway();
    wait_for("the circuit opens", || Ok(system.circuit()?.is_open()))?;
    let opened_after = off.elapsed();
    let calls = system.circuit()?.calls;
    wait_for("calls under way end", || nothing_under_way(system))?;
    let mut sent = 0.0;
    let first = requests(&system.scrape()?);
    wait_for("the circuit tries the gateway again", || {
        let now = requests(&system.scrape()?);
        let open = system.circuit()?.is_open();
        if open {
            sent = now - first;
        }
        Ok(!open)
    })?;
    // Dead for a while, and then back in the middle of a wait.
    wait_for("a wait that is long enough to come back in", || {
        let circuit = system.circuit()?;
        Ok(off.elapsed() >= DEAD && circuit.is_open() && circuit.retry_after >= Duration::from_secs(3))
    })?;
    wait_for("calls under way end", || nothing_under_way(system))?;
    let after = system.scrape()?;
    let spent = off.elapsed();
    system.start_gateway()?;
    let back = Instant::now();
    let wait_left = system.circuit()?.retry_after;
    let mut reached = 0;
    wait_for("the circuit tries the gateway that is back", || {
        let arrived = system.arrived()?;
        let open = system.circuit()?.is_open();
        if open {
            reached = arrived;
        }
        Ok(!open)
    })?;
    wait_for("the circuit closes", || Ok(system.circuit()?.state == "CLOSED"))?;
    let closed_after = back.elapsed();
    // Orders that are under way now are answered by a healthy gateway.
    std::thread::sleep(Duration::from_secs(3));
    let difference = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let calls_made = difference("resilience4j_retry_calls_total", &[]);
    let budget = before.sum("pg_retry_budget_tokens", &[])
        + calls_made * TOKENS_PER_CALL
        + spent.as_secs_f64() * TOKENS_PER_SECOND;
    let dead = Dead {
        opened_after,
        calls,
        sent,
        reached,
        retries: difference("pg_retry_attempts_total", &[]),
        budget,
        wait_left,
        accepted_after: None,
        closed_after,
        longest: Duration::ZERO,
        orders: 0,
    };
    Ok((back, dead))
}

/// HTTP attempts of payment requests.
fn requests(scrape: &Scrape) -> f64 {
    scrape.sum("pg_request_total", &[("operation", "charge")])
}

impl Dead {
    fn print(&self) {
        let Self { opened_after, calls, orders, longest, .. } = self;
        println!(
            "gateway switched off under load ({orders} orders in all, the longest {:.2} s): the circuit opened {:.2} s \
             later, with {calls} results in its window",
            longest.as_secs_f64(),
            opened_after.as_secs_f64()
        );
        println!(
            "while it was open: {:.0} requests sent to the dead gateway, {} reached the one that was back",
            self.sent, self.reached
        );
        println!("retries while it was dead: {:.0} of a budget of {:.0}", self.retries, self.budget);
        let accepted =
            self.accepted_after.map_or("never".to_owned(), |after| format!("{:.2} s", after.as_secs_f64()));
        println!(
            "gateway back, with {} s left of the wait: first order accepted after {accepted} ({:.2} open waits of {} s), \
             circuit closed after {:.2} s",
            self.wait_left.as_secs(),
            self.accepted_after.unwrap_or_default().as_secs_f64() / OPEN_WAIT.as_secs_f64(),
            OPEN_WAIT.as_secs(),
            self.closed_after.as_secs_f64()
        );
    }

    fn judge(&self, verdict: &mut Verdict) {
        verdict.hold(
            self.calls <= MINIMUM_CALLS,
            &format!(
                "a dead gateway: the circuit opened upon {} results (at most {MINIMUM_CALLS})",
                self.calls
            ),
        );
        verdict.hold(
            self.sent == 0.0 && self.reached == 0,
            &format!("{:.0} requests sent and {} arrived while it was open", self.sent, self.reached),
        );
        verdict.hold(
            self.retries <= self.budget,
            &format!("{:.0} retries of a budget of {:.0}", self.retries, self.budget),
        );
        let limit = self.wait_left + Duration::from_secs(1) + PROBING;
        let back = self.accepted_after.is_some_and(|after| after <= limit) && self.closed_after <= limit;
        verdict.hold(
            back,
            &format!(
                "normal {:.1} s after its return (at most {} s)",
                self.closed_after.as_secs_f64(),
                limit.as_secs()
            ),
        );
        verdict.hold(
            self.longest <= figures::LONGEST_ORDER,
            &format!("the longest card order meanwhile took {:.2} s (at most 5)", self.longest.as_secs_f64()),
        );
    }
}
