//! PostgreSQL from outside: immediate restarts, its log, and questions that go past the fault proxy.

use anyhow::{Context, Result, bail};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::{Client, Config, NoTls};

/// Recovery after an immediate stop, on a machine with much else to do.
const RESTART_LIMIT: Duration = Duration::from_secs(90);

/// The private cluster that was started for this run, and whose account may restart it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Server {
    /// The superuser's address of the cluster's database `postgres`
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// Folder of PostgreSQL's programs
    #[arg(long, value_name = "FOLDER")]
    postgres_bin: PathBuf,
    /// The cluster's data
    #[arg(long, value_name = "FOLDER")]
    postgres_data: PathBuf,
    /// The server's log
    #[arg(long, value_name = "FILE")]
    postgres_log: PathBuf,
    /// Who runs the server, if not we ourselves
    #[arg(long, value_name = "UID:GID")]
    postgres_account: Option<String>,
}

/// A connection of our own, which no fault strikes but the server's restart.
pub(crate) struct Connection {
    pub(crate) client: Client,
    _driver: JoinSet<()>,
}

impl Server {
    fn config(&self) -> Result<Config> {
        self.postgres.parse().with_context(|| format!("{} is no address of a PostgreSQL", self.postgres))
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let port = self.config()?.get_ports().first().copied().context("the address has no port")?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }

    /// The address of `database` by way of `port`.
    pub(crate) fn url(&self, port: u16, database: &str) -> Result<String> {
        let config = self.config()?;
        let user = config.get_user().context("the address names no user")?;
        Ok(format!("postgres://{user}@127.0.0.1:{port}/{database}"))
    }

    pub(crate) async fn connect(&self, database: &str) -> Result<Connection> {
        let mut config = self.config()?;
        config.dbname(database).connect_timeout(Duration::from_secs(5));
        let (client, connection) = config
            .connect(NoTls)
            .await
            .with_context(|| format!("could not connect to database {database}"))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its end is seen by whoever asks next.
            drop(connection.await);
        });
        Ok(Connection { client, _driver: driver })
    }

    pub(crate) async fn create_database(&self, name: &str) -> Result<()> {
        let connection = self.connect("postgres").await?;
        connection
            .client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .with_context(|| format!("could not make the database {name}"))
    }

    /// Stops the server as if the machine had lost power, and starts it again; returns when it serves. Returns how long
    /// that took.
    pub(crate) async fn restart(&self) -> Result<Duration> {
        let began = Instant::now();
        let mut command = Command::new(self.postgres_bin.join("pg_ctl"));
        command.arg("-D").arg(&self.postgres_data).arg("-l").arg(&self.postgres_log);
        command.args(["-m", "immediate", "-w", "-t", "90", "restart"]);
        command.current_dir("/").env("LC_ALL", "C");
        // A pipe would stay open as long as the server runs.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(account) = &self.postgres_account {
            let (uid, gid) = account.split_once(':').context("--postgres-account is UID:GID")?;
            command.uid(uid.parse()?).gid(gid.parse()?);
        }
        let status = command.status().await.context("could not start pg_ctl")?;
        if !status.success() {
            bail!("pg_ctl restart failed: {status}; see {}", self.postgres_log.display());
        }
        while self.connect("postgres").await.is_err() {
            if began.elapsed() > RESTART_LIMIT {
                bail!("PostgreSQL did not serve within {} s after a restart", RESTART_LIMIT.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(began.elapsed())
    }

    /// Where the log ends now.
    pub(crate) fn log_end(&self) -> u64 {
        std::fs::metadata(&self.postgres_log).map_or(0, |file| file.len())
    }

    /// What the server has logged since [`Server::log_end`] was asked.
    pub(crate) fn log_since(&self, from: u64) -> Result<Vec<u8>> {
        let path = self.postgres_log.display();
        let mut file =
            std::fs::File::open(&self.postgres_log).with_context(|| format!("could not open {path}"))?;
        file.seek(SeekFrom::Start(from)).with_context(|| format!("could not read {path}"))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(|| format!("could not read {path}"))?;
        Ok(text)
    }

    /// All of a database as text, into a file.
    pub(crate) async fn dump(&self, database: &str, to: &std::path::Path) -> Result<()> {
        let mut command = Command::new(self.postgres_bin.join("pg_dump"));
        command.arg("--file").arg(to).arg(self.url(self.address()?.port(), database)?);
        let status = command.stdin(Stdio::null()).status().await.context("could not start pg_dump")?;
        if !status.success() {
            bail!("pg_dump failed: {status}");
        }
        Ok(())
    }
}

/// How far the payments of a database are from their ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Open {
    /// PENDING or IN_PROGRESS, parked ones not counted.
    pub(crate) unsettled: i64,
    /// Given up by the reconciler and left to people.
    pub(crate) parked: i64,
    /// Ended, and to be looked at again.
    pub(crate) watched: i64,
    /// Age in seconds of the oldest of the unsettled; 0 of none.
    pub(crate) oldest: f64,
}

impl Connection {
    pub(crate) async fn open(&self) -> Result<Open> {
        let row = self
            .client
            .query_one(
                "SELECT count(*) FILTER (WHERE unsettled AND parked_at IS NULL),
                        count(*) FILTER (WHERE parked_at IS NOT NULL),
                        count(*) FILTER (WHERE NOT unsettled AND parked_at IS NULL
                                         AND (due_at < 'infinity' OR woken_at IS NOT NULL)),
                        coalesce(extract(epoch FROM now() - min(created_at)
                                 FILTER (WHERE unsettled AND parked_at IS NULL)), 0)::float8
                 FROM (SELECT p.created_at, p.status IN ('PENDING', 'IN_PROGRESS') AS unsettled, c.parked_at, c.due_at,
                              c.woken_at
                       FROM payment p LEFT JOIN payment_check c ON c.payment_id = p.id) payments",
                &[],
            )
            .await
            .context("could not ask for open payments")?;
        Ok(Open {
            unsettled: row.try_get(0)?,
            parked: row.try_get(1)?,
            watched: row.try_get(2)?,
            oldest: row.try_get(3)?,
        })
    }

    /// Name and number, of a query that returns both.
    pub(crate) async fn tally(&self, sql: &str) -> Result<Vec<(String, i64)>> {
        let rows = self.client.query(sql, &[]).await.with_context(|| format!("could not ask: {sql}"))?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}
