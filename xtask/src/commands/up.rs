//! `up`: the whole system on this machine, in one terminal.
//!
//! PostgreSQL (the cluster of `db`), the simulated gateway, one app-server and one reconciler, with sample data in an
//! empty database and one merged log. Ctrl-C stops them in the order in which they need each other. The data stays.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cluster::{self, Cluster, DATABASE, Kind};
use crate::commands::db;
use crate::http::Http;
use crate::private;
use crate::process::{self, Group};
use crate::running::{self, System};
use crate::workspace;

const READY_LIMIT: Duration = Duration::from_secs(60);
/// More than the programs' own grace period, so that they end by themselves.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// Users that get points and coupons in an empty database.
const SAMPLE_USERS: std::ops::RangeInclusive<i64> = 1..=5;
const SAMPLE_POINTS: i64 = 100_000;
const SAMPLE_PRODUCTS: &[(&str, i64, i64)] = &[
    ("머그컵", 12_900, 500),
    ("텀블러", 24_000, 300),
    ("에코백", 15_500, 400),
    ("무선 마우스", 31_900, 200),
    ("기계식 키보드", 129_000, 80),
    ("노트북 거치대", 45_000, 150),
    ("원두 1kg", 27_500, 250),
    ("드립백 세트", 18_900, 350),
    ("한정판 포스터", 9_900, 10),
    ("마지막 한 개", 5_000, 1),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Add this to the four ports (8080 public API, 8081 operations, 8082 simulator, 8083 reconciler)
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=50_000))]
    port_offset: u16,
}

struct Ports {
    api: u16,
    ops: u16,
    simulator: u16,
    reconciler: u16,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    let folder = running::folder(&root);
    std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let _lock = cluster::lock(&folder).context("`cargo xtask up` runs already")?;
    let ports = Ports {
        api: 8080 + args.port_offset,
        ops: 8081 + args.port_offset,
        simulator: 8082 + args.port_offset,
        reconciler: 8083 + args.port_offset,
    };
    check_ports(&ports, &root)?;
    say("building app-server, reconciler and pg-simulator");
    let binaries = private::build(&root, false)?;

    let database = Cluster::new(&root, db::CLUSTER, Kind::Durable)?;
    let ours = database.url(DATABASE).is_none();
    database.start()?;
    let mut programs = Programs::default();
    let result = serve(&root, &ports, &binaries, &database, &mut programs);
    let stopped = programs.stop();
    System::forget(&root);
    if ours {
        say("stopping PostgreSQL");
        database.stop()?;
    } else {
        say("PostgreSQL ran before, and goes on: `cargo xtask db stop` stops it");
    }
    result.and(stopped)
}

fn serve(
    root: &Path,
    ports: &Ports,
    binaries: &Path,
    database: &Cluster,
    programs: &mut Programs,
) -> Result<()> {
    let system = System {
        api: format!("http://localhost:{}", ports.api),
        ops: format!("http://127.0.0.1:{}", ports.ops),
        simulator: format!("http://127.0.0.1:{}", ports.simulator),
        reconciler: format!("http://127.0.0.1:{}", ports.reconciler),
        database: database.url(DATABASE).context("the cluster doesn't run")?,
        simulator_since: database
            .connect(DATABASE)?
            .query_one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')", &[])?
            .try_get(0)?,
        processes: Vec::new(),
    };
    let settings = settings(root, ports, &system)?;
    let program = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(binaries.join(name));
        command.args(arguments).current_dir(root).envs(settings.iter().map(|(key, value)| (key, value)));
        command
    };

    programs.run_to_end("migrate", &mut program("app-server", &["migrate"]))?;
    let http = Http::new();
    // It plays a foreign server: it has settings of its own, and is told nothing of ours.
    let mut simulator = Command::new(binaries.join("pg-simulator"));
    simulator.args(["--bind", &format!("127.0.0.1:{}", ports.simulator)]);
    simulator.args(["--set", &format!("callback_url_prefix={}", system.api)]);
    programs.start("simulator", &mut simulator)?;
    programs.wait_for("simulator", || {
        answers(&http, &format!("{}/admin/ledger?limit=1", system.simulator), 200)
    })?;
    programs.start("app-server", &mut program("app-server", &[]))?;
    programs.wait_for("app-server", || answers(&http, &format!("{}/health/ready", system.ops), 200))?;
    programs.start("reconciler", &mut program("reconciler", &["run"]))?;
    programs
        .wait_for("reconciler", || answers(&http, &format!("{}/health/ready", system.reconciler), 200))?;

    let mut system = system;
    system.processes = programs.list();
    system.save(root)?;
    seed(&http, &system)?;
    greet(&system);
    programs.watch(database)
}

/// One spelling of every setting that differs from its default, for all three programs.
fn settings(root: &Path, ports: &Ports, system: &System) -> Result<Vec<(String, String)>> {
    let mut settings = vec![
        ("DATABASE_URL", system.database.clone()),
        ("HOLDFAST__SERVER__BIND", format!("0.0.0.0:{}", ports.api)),
        ("HOLDFAST__OPS__BIND", format!("127.0.0.1:{}", ports.ops)),
        ("HOLDFAST__RECONCILER__BIND", format!("127.0.0.1:{}", ports.reconciler)),
        ("HOLDFAST__PG__BASE_URL", format!("http://localhost:{}", ports.simulator)),
        ("HOLDFAST__PG__CALLBACK_BASE_URL", system.api.clone()),
        ("HOLDFAST__PG__CALLBACK_SECRET", callback_secret(root)?),
        ("HOLDFAST__POINTS__SELF_CHARGE", "true".to_owned()),
        ("HOLDFAST__LOG__FORMAT", "human".to_owned()),
    ];
    if std::env::var_os("RUST_LOG").is_none() {
        // The server library tells of each of its threads.
        settings.push(("RUST_LOG", "info,actix_server=warn".to_owned()));
    }
    Ok(settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Tokens in callback addresses are made with it: it must be the same after a restart.
fn callback_secret(root: &Path) -> Result<String> {
    let path = running::folder(root).join("callback-secret");
    if let Ok(secret) = std::fs::read_to_string(&path)
        && secret.len() >= 64
    {
        return Ok(secret);
    }
    let mut bytes = [0_u8; 32];
    let mut source = std::fs::File::open("/dev/urandom").context("could not open /dev/urandom")?;
    source.read_exact(&mut bytes).context("could not read /dev/urandom")?;
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("could not write {}", path.display()))?;
    file.write_all(secret.as_bytes()).with_context(|| format!("could not write {}", path.display()))?;
    Ok(secret)
}

fn check_ports(ports: &Ports, root: &Path) -> Result<()> {
    let wanted = [
        ("the public API", "0.0.0.0", ports.api, "HOLDFAST__SERVER__BIND"),
        ("the operations port", "127.0.0.1", ports.ops, "HOLDFAST__OPS__BIND"),
        ("the simulated gateway", "127.0.0.1", ports.simulator, "--bind of pg-simulator"),
        ("the reconciler", "127.0.0.1", ports.reconciler, "HOLDFAST__RECONCILER__BIND"),
    ];
    for (what, address, port, setting) in wanted {
        if std::net::TcpListener::bind((address, port)).is_err() {
            let left_over = System::load(root).map(|system| system.processes).unwrap_or_default();
            let hint = if left_over.is_empty() {
                String::new()
            } else {
                let list: Vec<String> = left_over.iter().map(|(name, pid)| format!("{name} {pid}")).collect();
                format!(" (an `up` that was killed may have left these processes: {})", list.join(", "))
            };
            bail!(
                "port {port} of {what} is taken{hint}: stop what uses it, or move all four ports by \
                 `cargo xtask up --port-offset 100` (the setting is {setting})"
            );
        }
    }
    Ok(())
}

fn answers(http: &Http, url: &str, status: u16) -> bool {
    http.get(url, None).is_ok_and(|answer| answer.status == status)
}

fn say(text: &str) {
    println!("xtask      | {text}");
}

/// The programs that run, in the order in which they were started.
#[derive(Default)]
struct Programs {
    running: Vec<(String, Group)>,
}

impl Programs {
    fn start(&mut self, name: &str, command: &mut Command) -> Result<()> {
        say(&format!("starting {name}"));
        let mut group = Group::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let colour = 36 - u8::try_from(self.running.len() % 6)?;
        let child = group.child();
        if let Some(pipe) = child.stdout.take() {
            merge(name, colour, pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            merge(name, colour, pipe);
        }
        self.running.push((name.to_owned(), group));
        Ok(())
    }

    /// A program that does its work and ends.
    fn run_to_end(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.start(name, command)?;
        let Some((_, mut group)) = self.running.pop() else { bail!("{name} was not started") };
        let ended = process::wait_until(READY_LIMIT, || !matches!(group.try_wait(), Ok(None)));
        match group.try_wait()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{name} failed: {status}"),
            None if ended || process::interrupted() => bail!("interrupted"),
            None => bail!("{name} did not end within {} s", READY_LIMIT.as_secs()),
        }
    }

    fn wait_for(&mut self, name: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
        let mut dead = Ok(());
        let in_time = process::wait_until(READY_LIMIT, || {
            dead = self.all_alive();
            dead.is_err() || ready()
        });
        dead?;
        if process::interrupted() {
            bail!("interrupted while {name} was starting");
        }
        if !in_time {
            bail!("{name} was not ready within {} s: its log above says why", READY_LIMIT.as_secs());
        }
        Ok(())
    }

    fn all_alive(&mut self) -> Result<()> {
        for (name, group) in &mut self.running {
            if let Some(status) = group.try_wait()? {
                bail!("{name} ended by itself ({status}): its log above says why");
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Vec<(String, u32)> {
        self.running.iter_mut().map(|(name, group)| (name.clone(), group.child().id())).collect()
    }

    /// Returns when we are told to end, or with an error when a program or the database ended by itself.
    fn watch(&mut self, database: &Cluster) -> Result<()> {
        let mut looked = Instant::now();
        while !process::interrupted() {
            self.all_alive()?;
            if looked.elapsed() > Duration::from_secs(5) {
                looked = Instant::now();
                if database.url(DATABASE).is_none() {
                    bail!("PostgreSQL ended by itself: {} says why", database.log_file().display());
                }
            }
            std::thread::sleep(process::POLL);
        }
        println!();
        Ok(())
    }

    /// The last one first: nobody loses what he still needs to finish his work.
    fn stop(&mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some((name, mut group)) = self.running.pop() {
            if matches!(group.try_wait(), Ok(None)) {
                say(&format!("stopping {name}"));
                let status = group.stop(STOP_GRACE)?;
                if !status.success() {
                    result = Err(anyhow::anyhow!("{name} did not stop cleanly: {status}"));
                }
            }
        }
        result
    }
}

/// Prints each line of a pipe behind the program's name, until the program closes it.
fn merge(name: &str, colour: u8, pipe: impl Read + Send + 'static) {
    let prefix = if std::io::stdout().is_terminal() {
        format!("\u{1b}[{colour}m{name:<10}\u{1b}[0m |")
    } else {
        format!("{name:<10} |")
    };
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            // One call per line, so that lines of several programs never mix.
            println!("{prefix} {}", shorten(String::from_utf8_lossy(&line).trim_end()));
            line.clear();
        }
    });
}

/// A line that begins with a time of day keeps `hh:mm:ss.mmm` of it: several programs share the width of one terminal.
fn shorten(line: &str) -> String {
    let parts = line.split_once('T').and_then(|(date, rest)| Some((date, rest.split_once("Z ")?)));
    match parts {
        Some((date, (time, rest)))
            if date.len() == 10 && date.chars().all(|c| c.is_ascii_digit() || c == '-') =>
        {
            format!("{} {}", time.get(..12).unwrap_or(time), rest.trim_start())
        }
        _ => line.to_owned(),
    }
}

/// Sample data through the calls that an operator has; nothing when there are products already.
fn seed(http: &Http, system: &System) -> Result<()> {
    let products = http.get(&format!("{}/api/v1/products?limit=1", system.api), Some(1))?;
    match products.data("/products").and_then(Value::as_array) {
        Some(list) if !list.is_empty() => {
            say("the database has data: no sample data added");
            return Ok(());
        }
        Some(_) => {}
        None => bail!("GET /api/v1/products answered {}: {}", products.status, products.body),
    }
    let admin = |path: &str, body: &Value| {
        let answer = http.post(&format!("{}/admin/{path}", system.ops), None, body)?;
        if answer.status >= 300 {
            bail!("POST /admin/{path} answered {}: {}", answer.status, answer.body);
        }
        Ok(answer)
    };
    for (name, price, stock) in SAMPLE_PRODUCTS {
        admin("products", &json!({ "name": name, "price": price, "stock": stock }))?;
    }
    let coupons = [("첫 구매 3,000원 할인", "FIXED", 3_000), ("10% 할인", "RATE", 10)];
    for (name, kind, value) in coupons {
        let coupon =
            admin("coupons", &json!({ "name": name, "discountType": kind, "discountValue": value }))?;
        let coupon = coupon.number("/couponId")?;
        for user in SAMPLE_USERS {
            let url = format!("{}/api/v1/issued-coupons/{coupon}", system.api);
            let answer = http.post(&url, Some(user), &json!({}))?;
            if answer.status >= 300 {
                bail!("POST /api/v1/issued-coupons/{coupon} answered {}: {}", answer.status, answer.body);
            }
        }
    }
    for user in SAMPLE_USERS {
        admin(&format!("users/{user}/points"), &json!({ "amount": SAMPLE_POINTS }))?;
    }
    say(&format!(
        "added {} products, {} coupons, and {SAMPLE_POINTS} points for each of the users {} to {}",
        SAMPLE_PRODUCTS.len(),
        coupons.len(),
        SAMPLE_USERS.start(),
        SAMPLE_USERS.end()
    ));
    Ok(())
}

fn greet(system: &System) {
    let System { api, ops, simulator, reconciler, database, .. } = system;
    println!(
        "
  Holdfast runs.
    public API   {api}        (documentation: {api}/docs)
    operations   {ops}        (console: {ops}/)
    simulator    {simulator}
    reconciler   {reconciler}
    database     {database}

  Try in another terminal:
    curl -s -X POST {api}/api/v1/orders -H 'X-USER-ID: 1' -H 'Content-Type: application/json' \\
      -d '{{\"items\":[{{\"productId\":1,\"quantity\":2}}],\"cardType\":\"SAMSUNG\",\"cardNo\":\"1234-5678-9814-1451\"}}'
    curl -s '{api}/api/v1/orders?limit=1' -H 'X-USER-ID: 1'
    curl -s {api}/api/v1/points -H 'X-USER-ID: 1'
    curl -s {api}/api-docs/openapi.json
  X-USER-ID is believed from this machine only; HOLDFAST__SERVER__TRUSTED_PROXIES lists others (docs/configuration.md).
  Then `cargo xtask demo` and `cargo xtask audit`. Ctrl-C stops everything; the data stays.
"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_at_the_start_is_shortened() {
        assert_eq!(
            shorten("2026-11-22T12:47:25.911203Z  INFO reconciler: runs"),
            "12:47:25.911 INFO reconciler: runs"
        );
        assert_eq!(shorten("2026-11-22T12:47:25Z WARN x"), "12:47:25 WARN x");
        for line in ["", "Table of Zoos", "at 2026-11-22T12:47:25Z it began", "thread 'main' panicked"] {
            assert_eq!(shorten(line), line);
        }
    }
}
