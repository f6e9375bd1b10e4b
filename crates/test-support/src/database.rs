//! An empty PostgreSQL schema for one test.
//!
//! All tests share one database of the cluster that `HOLDFAST_TEST_DATABASE_URL` names; each has a schema of its own,
//! which the address finds by its search path. That costs a few milliseconds where a database of its own would cost
//! over a hundred, and tests may run side by side and commit. The schema is dropped with the value; what a killed run
//! left is swept an hour later.
//!
//! Shared by all schemas: roles, settings, and `NOTIFY` channels.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

/// Where tests find PostgreSQL, as a user who may create schemas: `postgres://holdfast@127.0.0.1:5432/postgres`.
/// `cargo xtask test` sets it.
pub const DATABASE_VARIABLE: &str = "HOLDFAST_TEST_DATABASE_URL";

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEPT: AtomicBool = AtomicBool::new(false);

/// A schema that lives as long as this value. Its methods panic when the database can't be reached: that fails a test.
#[derive(Debug)]
pub struct TestDatabase {
    server: Config,
    schema: String,
}

/// A connection for looking behind an adapter's back. Closed when dropped.
#[derive(Debug)]
pub struct TestClient {
    client: Client,
    // Drives the connection.
    _driver: JoinSet<()>,
}

impl std::ops::Deref for TestClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl TestDatabase {
    /// Makes an empty schema; migrating it is the caller's business.
    ///
    /// # Panics
    /// When `HOLDFAST_TEST_DATABASE_URL` is not set or leads nowhere.
    pub async fn create() -> Self {
        let server = server();
        let client = connect(&server).await;
        if !SWEPT.swap(true, Ordering::Relaxed) {
            sweep(&client).await;
        }
        // The time is the server's, by which leftovers are swept.
        let row = client
            .query_one("SELECT extract(epoch FROM now())::bigint", &[])
            .await
            .unwrap_or_else(|error| fail("ask for the time", &error));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let schema = format!("test_{}_{}_{number}", row.get::<_, i64>(0), std::process::id());
        execute(&client, &format!("CREATE SCHEMA {schema}")).await;
        Self { server, schema }
    }

    /// The address whose search path is the schema.
    pub fn url(&self) -> String {
        let host = match self.server.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => encode(path.to_string_lossy().as_bytes()),
            None => "127.0.0.1".to_owned(),
        };
        let port = self.server.get_ports().first().copied().unwrap_or(5432);
        self.url_of(&format!("{host}:{port}"))
    }

    /// The same through `address`, which leads to the server: a [`FaultProxy`](crate::FaultProxy).
    pub fn url_through(&self, address: SocketAddr) -> String {
        self.url_of(&address.to_string())
    }

    fn url_of(&self, host_and_port: &str) -> String {
        let user = encode(self.server.get_user().unwrap_or("postgres").as_bytes());
        let password = self.server.get_password().map(|word| format!(":{}", encode(word)));
        let database = encode(self.server.get_dbname().unwrap_or("postgres").as_bytes());
        format!(
            "postgres://{user}{}@{host_and_port}/{database}?options=-csearch_path%3D{}",
            password.unwrap_or_default(),
            self.schema
        )
    }

    /// Where the server listens.
    pub async fn server_address(&self) -> SocketAddr {
        let port = self.server.get_ports().first().copied().unwrap_or(5432);
        let host = match self.server.get_hosts().first() {
            Some(Host::Tcp(host)) => host.as_str(),
            Some(Host::Unix(_)) | None => "127.0.0.1",
        };
        let mut found = tokio::net::lookup_host((host, port))
            .await
            .unwrap_or_else(|error| fail("look the server up", &error));
        found.next().unwrap_or_else(|| fail("look the server up", &"it has no address"))
    }

    /// The schema's name.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// A connection to the schema, without the adapter's session settings.
    pub async fn client(&self) -> TestClient {
        let url = self.url();
        connect(&url.parse().unwrap_or_else(|error| fail("read our own address", &error))).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let server = self.server.clone();
        // A test that broke its network may have left a session whose locks would be waited for.
        let end_users = format!(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
             WHERE c.relnamespace = '{}'::regnamespace AND l.pid <> pg_backend_pid()",
            self.schema
        );
        let drop_schema = format!("SET lock_timeout = '5s'; DROP SCHEMA {} CASCADE", self.schema);
        // A runtime of its own: this may run on any thread, inside any runtime, while it unwinds.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let (client, connection) = server.connect(NoTls).await.ok()?;
                let mut driver = JoinSet::new();
                driver.spawn(async { drop(connection.await) });
                client.batch_execute(&end_users).await.ok()?;
                client.batch_execute(&drop_schema).await.ok()
            })
        })
        .join();
        if !matches!(dropped, Ok(Some(()))) {
            // Someone still uses it, or the server is gone: the next sweep takes it.
            eprintln!("left behind: schema {}", self.schema);
        }
    }
}

fn server() -> Config {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but this one address")]
    let url = std::env::var(DATABASE_VARIABLE).unwrap_or_else(|_| {
        fail(
            "find PostgreSQL",
            &format!(
                "{DATABASE_VARIABLE} is not set; run the tests by `cargo xtask test`, or set it to the address of a \
                 server where schemas may be created, such as postgres://holdfast@127.0.0.1:5432/postgres"
            ),
        )
    });
    let mut config: Config = url.parse().unwrap_or_else(|error| fail(DATABASE_VARIABLE, &error));
    config.connect_timeout(Duration::from_secs(10));
    config
}

async fn connect(config: &Config) -> TestClient {
    let (client, connection) =
        config.connect(NoTls).await.unwrap_or_else(|error| fail("connect to PostgreSQL", &error));
    let mut driver = JoinSet::new();
    driver.spawn(async { drop(connection.await) });
    TestClient { client, _driver: driver }
}

async fn execute(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| fail(sql, &error));
}

/// Drops what runs that were killed left behind.
async fn sweep(client: &Client) {
    const OLD: &str = "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^test_[0-9]+_[0-9]+_[0-9]+$' \
        AND split_part(nspname, '_', 2)::bigint < extract(epoch FROM now()) - 3600";
    let Ok(old) = client.query(OLD, &[]).await else { return };
    for row in old {
        let schema: String = row.get(0);
        // Another process may sweep it at the same time.
        drop(client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await);
    }
}

fn encode(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    bytes
        .iter()
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[expect(clippy::panic, reason = "a test without its database fails")]
fn fail<T>(what: &str, why: &dyn std::fmt::Display) -> T {
    panic!("could not {what}: {why}")
}
