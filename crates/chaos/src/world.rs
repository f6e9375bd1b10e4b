//! The running system: programs, proxies, addresses.
//!
//! ```text
//!  buyers -> app-0, app-1 -> proxy -> PostgreSQL <- proxy <- rec-0, rec-1
//!                         -> proxy -> simulator  <- proxy <-
//!            app-0 <- callbacks of app-1's payments <- simulator, and the other way round
//! ```

use anyhow::{Context, Result, bail};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use test_support::FaultProxy;
use tokio::sync::Mutex;

use crate::database::Server;
use crate::diary::Diary;
use crate::gateway::{Gateway, PREFIX};
use crate::http::Http;
use crate::programs::{Program, free_port};
use crate::times::Times;

/// Both app-servers make and check tokens with it.
const CALLBACK_SECRET: &str = "chaos-chaos-chaos-chaos-chaos-chaos-chaos";

/// How large a system to start.
pub(crate) struct Shape {
    pub(crate) database: &'static str,
    pub(crate) servers: usize,
    pub(crate) reconcilers: usize,
    pub(crate) times: Times,
    pub(crate) seed: u64,
}

/// Ports of one app-server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) ops: u16,
}

pub(crate) struct World {
    pub(crate) diary: Arc<Diary>,
    pub(crate) http: Http,
    pub(crate) server: Server,
    pub(crate) database: &'static str,
    pub(crate) database_proxy: FaultProxy,
    pub(crate) gateway: Gateway,
    pub(crate) gateway_proxy: FaultProxy,
    pub(crate) simulator: Mutex<Program>,
    pub(crate) servers: Vec<Ports>,
    pub(crate) reconcilers: Vec<u16>,
    /// App-servers first, then reconcilers. Whoever does something to one holds its lock meanwhile.
    pub(crate) programs: Vec<Arc<Mutex<Program>>>,
    /// What the programs are told, the ports of their own excepted.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) binaries: PathBuf,
    pub(crate) folder: PathBuf,
}

impl World {
    /// Migrates the database and starts everything; returns when all of it works.
    pub(crate) async fn start(
        shape: &Shape,
        server: Server,
        binaries: &Path,
        folder: &Path,
        diary: Arc<Diary>,
    ) -> Result<Self> {
        let http = Http::new()?;
        let mut taken = Vec::new();
        let mut port = || free_port(&mut taken);
        let simulator_port = port()?;
        let servers: Vec<Ports> =
            (0..shape.servers).map(|_| Ok(Ports { api: port()?, ops: port()? })).collect::<Result<_>>()?;
        let reconcilers: Vec<u16> = (0..shape.reconcilers).map(|_| port()).collect::<Result<_>>()?;

        let database_proxy = FaultProxy::start(server.address()?).await.context("no proxy for PostgreSQL")?;
        let gateway_proxy = FaultProxy::start((Ipv4Addr::LOCALHOST, simulator_port).into()).await;
        let gateway_proxy = gateway_proxy.context("no proxy for the simulator")?;
        let gateway =
            Gateway { http: http.clone(), base: format!("{PREFIX}{simulator_port}"), times: shape.times };
        let mut settings = shape.times.settings();
        settings.extend(
            [
                ("DATABASE_URL", server.url(database_proxy.address().port(), shape.database)?),
                ("HOLDFAST__PG__BASE_URL", format!("{PREFIX}{}", gateway_proxy.address().port())),
                ("HOLDFAST__PG__CALLBACK_SECRET", CALLBACK_SECRET.to_owned()),
                ("HOLDFAST__SERVER__WORKERS", "2".to_owned()),
                ("RUST_LOG", "info,actix_server=warn".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let simulator = Program::new(
            "simulator",
            binaries.join("pg-simulator"),
            folder,
            format!("{}/admin/ledger?limit=1", gateway.base),
        )
        .arguments(["--bind", &format!("127.0.0.1:{simulator_port}"), "--seed", &shape.seed.to_string()])
        .arguments(["--set", &format!("callback_url_prefix={PREFIX}")]);
        let mut world = Self {
            diary,
            http,
            server,
            database: shape.database,
            database_proxy,
            gateway,
            gateway_proxy,
            simulator: Mutex::new(simulator),
            servers,
            reconcilers,
            programs: Vec::new(),
            settings,
            binaries: binaries.to_owned(),
            folder: folder.to_owned(),
        };
        world.programs = world.list_programs();
        world.launch().await?;
        Ok(world)
    }

    fn list_programs(&self) -> Vec<Arc<Mutex<Program>>> {
        let mut programs = Vec::new();
        for (index, ports) in self.servers.iter().enumerate() {
            // The other one's: a payment's callback comes to a server that doesn't know it.
            let other = self.servers.get((index + 1) % self.servers.len()).unwrap_or(ports);
            let mut own = vec![
                ("HOLDFAST__SERVER__BIND".to_owned(), format!("127.0.0.1:{}", ports.api)),
                ("HOLDFAST__OPS__BIND".to_owned(), format!("127.0.0.1:{}", ports.ops)),
                ("HOLDFAST__PG__CALLBACK_BASE_URL".to_owned(), format!("{PREFIX}{}", other.api)),
            ];
            if index == 1 {
                // One of them tells all it can: no card number is logged at any level.
                own.push(("RUST_LOG".to_owned(), "trace".to_owned()));
            }
            let ready = format!("{PREFIX}{}/health/ready", ports.ops);
            programs.push(self.program(&format!("app-{index}"), "app-server", ready).settings(&own));
        }
        for (index, port) in self.reconcilers.iter().enumerate() {
            let own = [("HOLDFAST__RECONCILER__BIND".to_owned(), format!("127.0.0.1:{port}"))];
            let ready = format!("{PREFIX}{port}/health/ready");
            let program = self.program(&format!("rec-{index}"), "reconciler", ready);
            programs.push(program.arguments(["run"]).settings(&own));
        }
        programs.into_iter().map(|program| Arc::new(Mutex::new(program))).collect()
    }

    /// A program with the settings that all share.
    pub(crate) fn program(&self, name: &str, binary: &str, ready: String) -> Program {
        Program::new(name, self.binaries.join(binary), &self.folder, ready).settings(&self.settings)
    }

    async fn launch(&self) -> Result<()> {
        let migrate = self.program("migrate", "app-server", String::new());
        let status = migrate.run_to_end(&["migrate"]).await?;
        if !status.success() {
            bail!("app-server migrate failed: {status}; see {}", migrate.log.display());
        }
        let mut simulator = self.simulator.lock().await;
        simulator.start()?;
        simulator.wait_until_ready(&self.http).await?;
        for program in &self.programs {
            program.lock().await.start()?;
        }
        self.wait_until_ready().await
    }

    pub(crate) async fn wait_until_ready(&self) -> Result<()> {
        for program in &self.programs {
            program.lock().await.wait_until_ready(&self.http).await?;
        }
        Ok(())
    }

    /// Ends everything in good order, and says who does not end as it must.
    pub(crate) async fn stop(&self) -> Result<()> {
        for program in &self.programs {
            let mut program = program.lock().await;
            let grace = std::time::Duration::from_secs(30);
            match program.terminate(grace).await? {
                Some(status) if status.success() => {}
                Some(status) => {
                    self.diary.violation(format!("{} ended on SIGTERM with {status}", program.name))
                }
                None => self.diary.violation(format!("{} did not end within 30 s of SIGTERM", program.name)),
            }
        }
        self.simulator.lock().await.kill().await
    }

    /// The base address of an app-server's public API.
    pub(crate) fn api(&self, server: usize) -> Result<String> {
        let ports = self.servers.get(server).context("there is no such server")?;
        Ok(format!("{PREFIX}{}", ports.api))
    }

    pub(crate) fn ops(&self, server: usize) -> Result<String> {
        let ports = self.servers.get(server).context("there is no such server")?;
        Ok(format!("{PREFIX}{}", ports.ops))
    }
}
