//! A PostgreSQL cluster of our own: made on first use, on 127.0.0.1 and a free port, stopped by whoever started it.
//!
//! Three kinds. The *durable* one (`dev`) is what `up` and `db` use: it keeps its data and its promises (fsync is on).
//! The *scratch* one (`test`) is made anew for every run and gives up durability for speed. The *expendable* one
//! (`chaos`) keeps what was committed when the server dies, though not when the machine does. None touches a server
//! that the machine already runs, and nobody but this machine can reach them (there is no password: `trust`).
//!
//! PostgreSQL refuses to run as root. When we are root it runs as the user `postgres`, or `nobody`; when that user
//! can't enter the checkout (a checkout under root's home), the data goes to a folder under `/var/tmp` instead.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::{Uid, User};

use crate::process;

/// The superuser of the cluster, and the name of the database that the programs use.
pub(crate) const ROLE: &str = "holdfast";
pub(crate) const DATABASE: &str = "holdfast";

const BOTH_KINDS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "lc_messages=C",
    "timezone=UTC",
    "max_connections=300",
    "shared_buffers=128MB",
    "log_line_prefix=%m_[%p]_",
];
const SCRATCH_ONLY: &[&str] =
    &["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum_naptime=10min"];

/// Commits are still written to the operating system before they are answered (`synchronous_commit` stays on).
const EXPENDABLE_ONLY: &[&str] = &["fsync=off"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Keeps its data between starts.
    Durable,
    /// Made anew at every start, not durable.
    Scratch,
    /// Outlives the death of the server, not that of the machine: it waits for no disk, whose speed is not what is
    /// tested.
    Expendable,
}

/// Who runs the server, when we ourselves may not because we are root.
#[derive(Clone, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    kind: Kind,
    binaries: PathBuf,
    account: Option<Account>,
    base: PathBuf,
}

/// What `postmaster.pid` says about a server that runs, or ran.
#[derive(Debug, PartialEq, Eq)]
struct Postmaster {
    pid: i32,
    port: u16,
}

impl Cluster {
    /// The cluster called `name` of the checkout at `root`; nothing is made or started yet.
    pub(crate) fn new(root: &Path, name: &str, kind: Kind) -> Result<Self> {
        let binaries = find_binaries()?;
        let account = server_account()?;
        let base = prepare_base(root, name, account.as_ref())?;
        Ok(Self { kind, binaries, account, base })
    }

    /// A program of PostgreSQL (`psql`, `pg_dump` ...).
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.base.join("log")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.base
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    /// User and group id of who runs the server, if not we ourselves.
    pub(crate) fn account(&self) -> Option<(u32, u32)> {
        self.account.as_ref().map(|account| (account.uid, account.gid))
    }

    /// Process id of the server that all others are children of, if it runs.
    pub(crate) fn postmaster(&self) -> Option<u32> {
        self.running().and_then(|server| u32::try_from(server.pid).ok())
    }

    /// Its port, if it runs.
    pub(crate) fn port(&self) -> Option<u16> {
        self.running().map(|server| server.port)
    }

    /// Connection string for `database`, if the server runs.
    pub(crate) fn url(&self, database: &str) -> Option<String> {
        self.running().map(|server| url(server.port, database))
    }

    /// Starts the server unless it runs already, makes the project's database, and returns the port.
    pub(crate) fn start(&self) -> Result<u16> {
        if self.kind == Kind::Scratch {
            // A run that was killed can leave its server behind; its data is worth nothing.
            self.destroy()?;
        }
        let port = match self.running() {
            Some(server) => server.port,
            None => {
                self.remove_stale_pid_file()?;
                self.initialise()?;
                self.launch()?
            }
        };
        self.create_database()?;
        Ok(port)
    }

    /// Stops the server: clients are disconnected, work that was committed is kept.
    pub(crate) fn stop(&self) -> Result<bool> {
        if self.running().is_none() {
            return Ok(false);
        }
        let mode = if self.kind == Kind::Durable { "fast" } else { "immediate" };
        self.run(
            self.as_server("pg_ctl").arg("-D").arg(self.data()).args(["-m", mode, "-t", "60", "-w", "stop"]),
        )?;
        Ok(true)
    }

    /// Stops the server and removes all it stored.
    pub(crate) fn destroy(&self) -> Result<()> {
        self.stop()?;
        for folder in [self.data(), self.base.join("data.new")] {
            if folder.exists() {
                std::fs::remove_dir_all(&folder)
                    .with_context(|| format!("could not remove {}", folder.display()))?;
            }
        }
        Ok(())
    }

    fn initialise(&self) -> Result<()> {
        let data = self.data();
        if let Ok(made_by) = std::fs::read_to_string(data.join("PG_VERSION")) {
            let ours = self.major_version()?;
            if made_by.trim() != ours {
                bail!(
                    "the cluster in {} was made by PostgreSQL {}, and PostgreSQL {ours} can't read it: \
                     `cargo xtask db reset` makes a new, empty one",
                    data.display(),
                    made_by.trim()
                );
            }
            return Ok(());
        }
        // Under another name until it is whole: an initdb that was interrupted must not pass for a cluster.
        let unfinished = self.base.join("data.new");
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished)
                .with_context(|| format!("could not remove {}", unfinished.display()))?;
        }
        let mut initdb = self.as_server("initdb");
        initdb.arg("-D").arg(&unfinished);
        initdb.args(["--username", ROLE, "--auth=trust", "--locale=C", "--encoding=UTF8"]);
        if self.kind != Kind::Durable {
            initdb.arg("--no-sync");
        }
        self.run(&mut initdb)?;
        std::fs::rename(&unfinished, &data)
            .with_context(|| format!("could not rename {}", unfinished.display()))
    }

    fn major_version(&self) -> Result<String> {
        let output =
            self.as_server("postgres").arg("--version").output().context("could not start postgres")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        parse_major_version(&text).with_context(|| format!("could not read a version from `{}`", text.trim()))
    }

    /// Starts the server on the port it had last time, or another when that one is taken meanwhile.
    fn launch(&self) -> Result<u16> {
        let port_file = self.base.join("port");
        let mut last_error = None;
        for attempt in 0..3 {
            let before =
                std::fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse::<u16>().ok());
            let port = match before {
                Some(port) if attempt == 0 && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() => {
                    port
                }
                _ => free_port()?,
            };
            let mut settings: Vec<String> = BOTH_KINDS.iter().map(|setting| option(setting)).collect();
            let own: &[&str] = match self.kind {
                Kind::Durable => &[],
                Kind::Scratch => SCRATCH_ONLY,
                Kind::Expendable => EXPENDABLE_ONLY,
            };
            settings.extend(own.iter().map(|setting| option(setting)));
            settings.push(option(&format!("port={port}")));
            let mut pg_ctl = self.as_server("pg_ctl");
            pg_ctl.arg("-D").arg(self.data()).arg("-l").arg(self.log_file());
            pg_ctl.args(["-t", "60", "-w", "-o", &settings.join(" "), "start"]);
            match self.run(&mut pg_ctl) {
                Ok(()) => {
                    std::fs::write(&port_file, port.to_string())
                        .with_context(|| format!("could not write {}", port_file.display()))?;
                    return Ok(port);
                }
                Err(error) => last_error = Some(error),
            }
        }
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail =
            lines.iter().skip(lines.len().saturating_sub(15)).copied().collect::<Vec<_>>().join("\n  ");
        let error = last_error.unwrap_or_else(|| anyhow!("pg_ctl was not started"));
        Err(error.context(format!(
            "PostgreSQL did not start; the end of {}:\n  {tail}",
            self.log_file().display()
        )))
    }

    /// The server, if it answers and really is this one: a pid file alone may be stale, and its port someone else's.
    fn running(&self) -> Option<Postmaster> {
        let pid_file = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let server = parse_pid_file(&pid_file)?;
        let config = url(server.port, "postgres").parse::<postgres::Config>().ok()?;
        // A server that was started or stopped a moment ago refuses for a moment.
        let mut found = None;
        process::wait_until(Duration::from_secs(10), || {
            let mut config = config.clone();
            match config.connect_timeout(Duration::from_secs(2)).connect(postgres::NoTls) {
                Ok(mut client) => {
                    found =
                        client.query_one("SHOW data_directory", &[]).ok().map(|row| row.get::<_, String>(0));
                    true
                }
                Err(error) => error.code() != Some(&postgres::error::SqlState::CANNOT_CONNECT_NOW),
            }
        });
        (found.map(PathBuf::from) == Some(self.data())).then_some(server)
    }

    /// PostgreSQL removes a pid file whose process is gone, but not one whose number another program has got since.
    fn remove_stale_pid_file(&self) -> Result<()> {
        let path = self.data().join("postmaster.pid");
        let Some(server) = std::fs::read_to_string(&path).ok().and_then(|text| parse_pid_file(&text)) else {
            return Ok(());
        };
        let Ok(command_line) = std::fs::read(format!("/proc/{}/cmdline", server.pid)) else {
            return Ok(());
        };
        if String::from_utf8_lossy(&command_line).contains("postgres") {
            return Ok(());
        }
        std::fs::remove_file(&path).with_context(|| format!("could not remove the stale {}", path.display()))
    }

    fn create_database(&self) -> Result<()> {
        let mut client = self.connect("postgres")?;
        let known = client.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&DATABASE])?;
        if known.is_empty() {
            client.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
        }
        Ok(())
    }

    /// A connection of our own, as superuser.
    pub(crate) fn connect(&self, database: &str) -> Result<postgres::Client> {
        let url = self.url(database).context("the PostgreSQL cluster doesn't run")?;
        postgres::Client::connect(&url, postgres::NoTls)
            .with_context(|| format!("could not connect to {url}"))
    }

    /// A program of PostgreSQL run by the account that owns the data, in a folder which that account can enter.
    fn as_server(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command.current_dir("/").env("LC_ALL", "C").stdin(std::process::Stdio::null());
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid).env("HOME", "/");
        }
        // A group of its own: Ctrl-C in the terminal is for us to handle, not for the server.
        command.process_group(0);
        command
    }

    fn run(&self, command: &mut Command) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        // Into a file, not a pipe: the server inherits it, and a pipe would stay open as long as the server runs.
        let path = self.base.join("command-output");
        let file = File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
        let status = command
            .stdout(file.try_clone().context("could not share a file")?)
            .stderr(file)
            .status()
            .with_context(|| format!("could not start {name}"))?;
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        bail!("{name} failed ({status}): {}", said.trim());
    }
}

/// A server that is stopped when this goes out of scope, whatever the reason.
pub(crate) struct Running {
    cluster: Cluster,
    /// Held as long as we run, and released by the system even when we are killed.
    _lock: File,
}

impl Running {
    /// Starts the scratch cluster `name`; a second run in the same checkout is refused, not disturbed.
    pub(crate) fn scratch(root: &Path, name: &str) -> Result<Self> {
        Self::fresh(root, name, Kind::Scratch)
    }

    /// Makes and starts the cluster `name` anew, without what an earlier run has left in it.
    pub(crate) fn fresh(root: &Path, name: &str, kind: Kind) -> Result<Self> {
        let cluster = Cluster::new(root, name, kind)?;
        let lock = lock(cluster.folder())?;
        let running = Self { cluster, _lock: lock };
        running.cluster.destroy()?;
        running.cluster.start()?;
        Ok(running)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.destroy() {
            eprintln!(
                "warning: could not stop the test cluster in {}: {error:#}",
                self.cluster.folder().display()
            );
        }
    }
}

/// Takes the lock of a cluster's folder for as long as the file is open.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("another cargo xtask of this checkout uses {}: wait for it", folder.display())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("could not lock {}", path.display()))
        }
    }
}

/// Where a database is found when the server, or what stands before it, listens on `port`.
pub(crate) fn url(port: u16, database: &str) -> String {
    format!("postgres://{ROLE}@127.0.0.1:{port}/{database}")
}

/// A setting as pg_ctl hands it, through a shell, to the server. `_` at the end of a log prefix stands for a space.
fn option(setting: &str) -> String {
    match setting.split_once('=') {
        Some(("log_line_prefix", value)) => format!("-c log_line_prefix='{}'", value.replace('_', " ")),
        Some((name, "")) => format!("-c {name}=''"),
        _ => format!("-c {setting}"),
    }
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("no free port on 127.0.0.1")?.port())
}

fn parse_pid_file(text: &str) -> Option<Postmaster> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let port = lines.nth(2)?.trim().parse().ok()?;
    Some(Postmaster { pid, port })
}

fn parse_major_version(text: &str) -> Option<String> {
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.chars().take_while(char::is_ascii_digit).collect())
}

fn server_account() -> Result<Option<Account>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) =
            User::from_name(name).with_context(|| format!("could not look up the user {name}"))?
        {
            return Ok(Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
        }
    }
    bail!(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor `nobody` to run it as"
    )
}

/// The folder of one cluster: made, and owned by the account that runs the server.
fn prepare_base(root: &Path, name: &str, account: Option<&Account>) -> Result<PathBuf> {
    let preferred = root.join("target").join("postgres");
    std::fs::create_dir_all(&preferred).with_context(|| format!("could not make {}", preferred.display()))?;
    let parent = match account {
        Some(account) if !can_enter(&preferred, account) => {
            let elsewhere = PathBuf::from(format!(
                "/var/tmp/holdfast-{:016x}",
                fnv1a(root.as_os_str().as_encoded_bytes())
            ));
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&elsewhere)
                .with_context(|| format!("could not make {}", elsewhere.display()))?;
            let owner = std::fs::symlink_metadata(&elsewhere)?;
            if !owner.is_dir() || owner.uid() != Uid::effective().as_raw() {
                bail!("{} belongs to someone else: remove it", elsewhere.display());
            }
            elsewhere
        }
        _ => preferred,
    };
    let base = parent.join(name);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&base)
        .with_context(|| format!("could not make {}", base.display()))?;
    if let Some(account) = account {
        chown(&base, Some(account.uid), Some(account.gid))
            .with_context(|| format!("could not give {} to the server's user", base.display()))?;
    }
    base.canonicalize().with_context(|| format!("could not resolve {}", base.display()))
}

/// Whether the account really gets there: tried, not computed from permission bits.
fn can_enter(folder: &Path, account: &Account) -> bool {
    Command::new("test")
        .arg("-x")
        .arg(folder)
        .current_dir("/")
        .uid(account.uid)
        .gid(account.gid)
        .status()
        .is_ok_and(|status| status.success())
}

/// FNV-1a, 64 bits: a short name for a path that stays the same over versions of the compiler.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn find_binaries() -> Result<PathBuf> {
    if let Some(folder) = installed_binaries() {
        return Ok(folder);
    }
    let debian = Path::new("/etc/debian_version").exists() && in_path("apt-get").is_some();
    if !(debian && Uid::effective().is_root()) {
        bail!(
            "PostgreSQL's server (initdb, postgres) was not found: install it (Debian, Ubuntu: `sudo apt-get install \
             postgresql`; macOS: `brew install postgresql`), or name the folder of its programs in HOLDFAST_PG_BIN"
        );
    }
    install_on_debian()?;
    installed_binaries()
        .context("PostgreSQL's programs were not found even after apt-get installed the package")
}

fn installed_binaries() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("HOLDFAST_PG_BIN").map(PathBuf::from).into_iter().collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));
    folders.extend(in_path("initdb"));
    // The server's own programs: Debian's client package alone has a pg_config too.
    folders
        .into_iter()
        .find(|folder| ["initdb", "postgres", "pg_ctl", "psql"].iter().all(|p| folder.join(p).is_file()))
}

/// The folder of the search path that has `program`.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| folder.join(program).is_file())
}

fn install_on_debian() -> Result<()> {
    eprintln!("PostgreSQL is not installed: installing Debian's package `postgresql` (apt-get)");
    // Tells Debian's scripts not to make and start a cluster of their own.
    let settings = Path::new("/etc/postgresql-common/createcluster.conf");
    if !settings.exists() {
        std::fs::create_dir_all("/etc/postgresql-common").context("could not make /etc/postgresql-common")?;
        std::fs::write(settings, "create_main_cluster = false\n")
            .with_context(|| format!("could not write {}", settings.display()))?;
    }
    let commands: [&[&str]; 2] = [
        &["update"],
        &["install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "postgresql"],
    ];
    for arguments in commands {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(std::process::Stdio::null())
            .status()
            .context("could not start apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed ({status}): install PostgreSQL by hand", arguments.join(" "));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_tells_pid_and_port() {
        let text = "4711\n/somewhere/data\n1763800000\n54321\n\n127.0.0.1\n  123 456\nready   \n";
        assert_eq!(parse_pid_file(text), Some(Postmaster { pid: 4711, port: 54321 }));
        assert_eq!(
            parse_pid_file("4711\n/somewhere/data\n"),
            None,
            "a server that is still starting has no port yet"
        );
        assert_eq!(parse_pid_file(""), None);
    }

    #[test]
    fn the_major_version_is_read_from_debians_answer_too() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(parse_major_version(debian).as_deref(), Some("15"));
        assert_eq!(parse_major_version("postgres (PostgreSQL) 18beta1").as_deref(), Some("18"));
        assert_eq!(parse_major_version("no version"), None);
    }

    #[test]
    fn options_survive_the_shell() {
        assert_eq!(option("fsync=off"), "-c fsync=off");
        assert_eq!(option("unix_socket_directories="), "-c unix_socket_directories=''");
        assert_eq!(option("log_line_prefix=%m_[%p]_"), "-c log_line_prefix='%m [%p] '");
    }

    #[test]
    fn a_folder_is_locked_once() {
        let folder = std::env::temp_dir().join(format!("holdfast-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let first = lock(&folder).unwrap();
        assert!(lock(&folder).unwrap_err().to_string().contains("another cargo xtask"));
        drop(first);
        lock(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
