//! What is measured: builds of the service, each with a database, servers and a simulated gateway of its own, in one
//! durable PostgreSQL cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::drive;
use super::generator::Task;
use super::proxy::Proxy;
use super::usage::{self, Reading};
use super::wire::{Goods, PRICE, Scenario};
use crate::cluster::{self, Cluster};
use crate::http::Http;
use crate::process;
use crate::program::{self, Program};

const PRODUCTS: i64 = 1_000;
const BUYERS: i64 = 10_000;
/// Enough for any run: pieces of a product, won of a buyer.
const PLENTY: i64 = 1_000_000_000_000;
/// What has been sold before anything is measured: plans that are made while tables are empty read whole tables, and stay.
const SOLD_BY_POINTS: u64 = 2_000;
const SOLD_BY_CARD: u64 = 1_000;
const SELLERS: u32 = 8;
/// For so long it may take.
const SELLING: Duration = Duration::from_secs(120);
/// For so long all orders may take to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(10);

/// The gateway decides at once, charges every card, reports at once, and makes no mistake.
const KNOBS: &[&str] = &[
    "request.latency.min=0s",
    "request.latency.max=0s",
    "request.error_500=0",
    "settlement.processing.min=0s",
    "settlement.processing.max=0s",
    "settlement.success=1",
    "settlement.limit_exceeded=0",
    "settlement.invalid_card=0",
    "key.unique=true",
];

/// One build.
pub(super) struct Side {
    /// `this`, or `baseline`.
    pub(super) name: &'static str,
    pub(super) goods: Goods,
    pub(super) addresses: Vec<SocketAddr>,
    operations: Vec<String>,
    servers: Vec<Program>,
    simulator: Program,
    /// Of the servers' database.
    pub(super) client: postgres::Client,
    postmaster: u32,
    http: Http,
    proxy: Option<Proxy>,
    /// Each run of the generator makes other requests.
    seed: u64,
}

/// What a side is made of.
pub(super) struct Parts<'a> {
    pub(super) name: &'static str,
    /// The build's programs.
    pub(super) binaries: &'a Path,
    /// The simulated gateway, the same for all sides.
    pub(super) simulator: &'a Path,
    pub(super) servers: u32,
    pub(super) folder: &'a Path,
}

impl Side {
    /// Makes and fills the database and starts the simulated gateway; no server runs yet.
    pub(super) fn prepare(cluster: &Cluster, parts: &Parts<'_>, ports: &mut Vec<u16>) -> Result<Self> {
        let folder = parts.folder.join(parts.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        cluster.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {}", parts.name))?;
        let url = cluster.url(parts.name).context("the cluster went away")?;
        let mut address =
            || -> Result<SocketAddr> { Ok(SocketAddr::from(([127, 0, 0, 1], program::free_port(ports)?))) };
        let gateway = address()?;
        let places = (0..parts.servers).map(|_| Ok((address()?, address()?))).collect::<Result<Vec<_>>>()?;
        let (first, _) = places.first().context("no server")?;
        let settings: Vec<(String, String)> = [
            ("DATABASE_URL", url),
            ("HOLDFAST__PG__BASE_URL", format!("http://{gateway}")),
            ("HOLDFAST__PG__CALLBACK_BASE_URL", format!("http://{first}")),
            ("HOLDFAST__PG__CALLBACK_SECRET", "private-".repeat(8)),
            ("RUST_LOG", "info,actix_server=warn".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        program::migrate(parts.binaries, &settings, &folder)?;
        let mut client = cluster.connect(parts.name)?;
        let goods = fill(&mut client)?;

        let mut command = Command::new(parts.simulator.join("pg-simulator"));
        command.args(["--bind", &gateway.to_string(), "--seed", "1"]);
        command.args(["--set", &format!("callback_url_prefix=http://{first}")]);
        command.args(KNOBS.iter().flat_map(|knob| ["--set", knob]));
        let ready = format!("http://{gateway}/admin/requests?orderId=none");
        let mut simulator = Program::new("pg-simulator", command, ready, &folder)?;
        let http = Http::new();
        simulator.start(&http)?;
        let mut servers = Vec::new();
        for (index, (api, ops)) in places.iter().enumerate() {
            let mut command = Command::new(parts.binaries.join("app-server"));
            command.envs(settings.iter().map(|(key, value)| (key, value)));
            command.env("HOLDFAST__SERVER__BIND", api.to_string());
            command.env("HOLDFAST__OPS__BIND", ops.to_string());
            let name = format!("app-server-{}", index + 1);
            servers.push(Program::new(&name, command, format!("http://{ops}/health/ready"), &folder)?);
        }
        Ok(Self {
            name: parts.name,
            goods,
            addresses: places.iter().map(|(api, _)| *api).collect(),
            operations: places.iter().map(|(_, ops)| format!("http://{ops}")).collect(),
            servers,
            simulator,
            client,
            postmaster: cluster.postmaster().context("the cluster went away")?,
            http,
            proxy: None,
            seed: 0,
        })
    }

    /// Sells what has been sold before, by servers that are stopped after it, and lets PostgreSQL look at the tables.
    pub(super) fn sell_before(&mut self, generator: &Path) -> Result<()> {
        self.start()?;
        for (scenario, orders) in [(Scenario::Point, SOLD_BY_POINTS), (Scenario::Card, SOLD_BY_CARD)] {
            let task =
                Task { requests: Some(orders), ..self.task(scenario, SELLERS, Duration::ZERO, SELLING) };
            let (_, _, seen) = drive::run(generator, &task, || Ok(()))?;
            ensure!(
                seen.bad.is_empty() && seen.good == orders,
                "of {orders} orders of the kind `{}` before the measurement {} were placed: {:?}",
                scenario.name(),
                seen.good,
                seen.bad
            );
            let open = self.wait_for_ends(0)?;
            ensure!(open == 0, "{open} orders had not ended after {} s", PATIENCE.as_secs());
        }
        self.stop()?;
        self.client.batch_execute("VACUUM ANALYZE").context("ANALYZE")
    }

    /// Starts the servers, whose connections are new.
    pub(super) fn start(&mut self) -> Result<()> {
        for server in &mut self.servers {
            server.start(&self.http)?;
        }
        Ok(())
    }

    /// The same, with a proxy that counts between them and the database, which listens on `port`.
    pub(super) fn start_counted(&mut self, port: u16) -> Result<()> {
        let proxy = Proxy::start(port)?;
        for server in &mut self.servers {
            server.env("DATABASE_URL", &cluster::url(proxy.port(), self.name));
        }
        self.proxy = Some(proxy);
        self.start()
    }

    /// Whether what goes to the database is counted.
    pub(super) fn is_counted(&self) -> bool {
        self.proxy.is_some()
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Program::stop)
    }

    /// What clients are to do; without an end of their own.
    pub(super) fn task(
        &mut self,
        scenario: Scenario,
        clients: u32,
        warm_up: Duration,
        window: Duration,
    ) -> Task {
        self.seed += 1;
        Task {
            addresses: self.addresses.clone(),
            scenario,
            goods: self.goods.clone(),
            clients,
            warm_up,
            window,
            requests: None,
            rate: None,
            seed: self.seed,
        }
    }

    pub(super) fn read(&mut self) -> Result<Reading> {
        let mut server = Duration::ZERO;
        for program in &mut self.servers {
            server += usage::of_process(program.pid().context("a server does not run")?)?;
        }
        Ok(Reading {
            at: Instant::now(),
            server,
            database: usage::of_family(self.postmaster)?,
            simulator: usage::of_process(self.simulator.pid().context("the simulator does not run")?)?,
            machine: usage::of_machine()?,
            wire: self.proxy.as_ref().map(Proxy::counts),
            transactions: usage::transactions(&mut self.client)?,
            batches: usage::batches(&self.http, &self.operations)?,
        })
    }

    /// Payments that have not ended.
    pub(super) fn open(&mut self) -> Result<i64> {
        let sql = "SELECT count(*) FROM payment WHERE status IN ('PENDING', 'IN_PROGRESS')";
        Ok(self.client.query_one(sql, &[])?.try_get(0)?)
    }

    /// Waits until no more payments than `before` are open; returns how many more are when patience ends.
    pub(super) fn wait_for_ends(&mut self, before: i64) -> Result<i64> {
        let began = Instant::now();
        loop {
            let open = self.open()?.saturating_sub(before).max(0);
            if open == 0 || began.elapsed() > PATIENCE {
                return Ok(open);
            }
            if process::interrupted() {
                bail!("interrupted");
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Products and buyers with plenty, and the ledgers that say where it comes from.
fn fill(client: &mut postgres::Client) -> Result<Goods> {
    client
        .batch_execute(&format!(
            "WITH made AS (
                INSERT INTO product (name, price) SELECT 'product ' || i, {PRICE} FROM generate_series(1, {PRODUCTS}) i
                RETURNING id),
             stocked AS (INSERT INTO stock (product_id, quantity) SELECT id, {PLENTY} FROM made)
             INSERT INTO stock_ledger (product_id, kind, delta) SELECT id, 'INITIAL', {PLENTY} FROM made;
             INSERT INTO point_account (user_id, balance) SELECT i, {PLENTY} FROM generate_series(1, {BUYERS}) i;
             INSERT INTO point_ledger (user_id, kind, delta, balance_after)
                SELECT user_id, 'CHARGE', balance, balance FROM point_account"
        ))
        .context("could not fill the database")?;
    let row = client.query_one("SELECT min(id), max(id) FROM product", &[])?;
    let (first, last): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    ensure!(last - first + 1 == PRODUCTS, "the products' ids are not consecutive");
    client.batch_execute("ANALYZE")?;
    Ok(Goods { first_product: first, products: PRODUCTS, first_buyer: 1, buyers: BUYERS })
}
