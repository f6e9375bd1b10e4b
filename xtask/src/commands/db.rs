//! `db`: the private cluster that `up` uses, and the proof that every migration can be taken back.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::cluster::{Cluster, DATABASE, Kind, Running, lock};
use crate::{steps, workspace};

/// The name of the cluster that keeps its data.
pub(crate) const CLUSTER: &str = "dev";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start the cluster (made on first use) and print its address
    Start,
    /// Stop the cluster; its data stays
    Stop,
    /// Print the address of the running cluster's database
    Url,
    /// Open psql on the database, starting the cluster if need be
    Psql {
        /// Arguments for psql, after `--`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Apply the migrations to the database, by `app-server migrate`
    Migrate,
    /// Remove the database with all its data and make it anew, migrated
    Reset,
    /// Apply all migrations, take them back, apply them again on a cluster of its own; compare the schemas
    Check,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let root = workspace::root()?;
    if matches!(command, Command::Check) {
        let running = Running::scratch(&root, "check")?;
        return check(&root, running.cluster());
    }
    let cluster = Cluster::new(&root, CLUSTER, Kind::Durable)?;
    match command {
        Command::Start => {
            cluster.start()?;
            println!("{}", address(&cluster)?);
        }
        Command::Stop => {
            let stopped = cluster.stop()?;
            println!("{}", if stopped { "stopped" } else { "was not running" });
        }
        Command::Url => println!("{}", address(&cluster)?),
        Command::Psql { arguments } => {
            cluster.start()?;
            // Not in a group of its own: psql is talked to, so it must own the terminal.
            let status = Process::new(cluster.program("psql"))
                .arg(address(&cluster)?)
                .args(arguments)
                .status()
                .context("could not start psql")?;
            if !status.success() {
                bail!("psql: {status}");
            }
        }
        Command::Migrate => {
            cluster.start()?;
            migrate(&root, &address(&cluster)?)?;
        }
        Command::Reset => {
            let _lock = lock(cluster.folder())?;
            cluster.destroy()?;
            cluster.start()?;
            migrate(&root, &address(&cluster)?)?;
            println!("{}", address(&cluster)?);
        }
        Command::Check => {}
    }
    Ok(())
}

fn address(cluster: &Cluster) -> Result<String> {
    cluster
        .url(DATABASE)
        .context("the cluster doesn't run: `cargo xtask db start` or `cargo xtask up` starts it")
}

/// By the program that does it in production too, so that there is one way.
fn migrate(root: &Path, url: &str) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(root).args(["run", "--quiet", "--package", "app-server", "--", "migrate"]);
    steps::check(cargo.env("DATABASE_URL", url)).context("app-server migrate")?;
    Ok(())
}

/// One migration's folder, as diesel names it: `<time>_<name>/{up,down}.sql`.
pub(crate) struct Migration {
    name: String,
    pub(crate) up: String,
    down: String,
}

/// Up and down one by one, then all down, then all up: each time the schema must be what it was before.
pub(crate) fn check(root: &Path, cluster: &Cluster) -> Result<()> {
    let migrations = read_migrations(&root.join("migrations"))?;
    if migrations.is_empty() {
        bail!("there is no migration in {}", root.join("migrations").display());
    }
    const SCRATCH: &str = "holdfast_migration_check";
    // One statement at a time: neither may stand in a transaction, and several at once are one.
    let mut server = cluster.connect("postgres")?;
    server.batch_execute(&format!("DROP DATABASE IF EXISTS {SCRATCH} WITH (FORCE)"))?;
    server.batch_execute(&format!("CREATE DATABASE {SCRATCH}"))?;
    let mut client = cluster.connect(SCRATCH)?;
    let mut apply = |migration: &Migration, sql: &str, direction: &str| -> Result<()> {
        let mut transaction = client.transaction()?;
        transaction
            .batch_execute(sql)
            .and_then(|()| transaction.commit())
            .with_context(|| format!("{}/{direction}.sql", migration.name))
    };
    let dump = || dump_schema(cluster, SCRATCH);

    let mut before = vec![dump()?];
    for migration in &migrations {
        let previous = before.last().cloned().unwrap_or_default();
        apply(migration, &migration.up, "up")?;
        let up = dump()?;
        apply(migration, &migration.down, "down")?;
        compare(&previous, &dump()?, &format!("after down.sql of {}", migration.name))?;
        apply(migration, &migration.up, "up")?;
        compare(&up, &dump()?, &format!("after the second up.sql of {}", migration.name))?;
        before.push(up);
    }
    let complete = before.last().cloned().unwrap_or_default();
    for migration in migrations.iter().rev() {
        apply(migration, &migration.down, "down")?;
    }
    compare(before.first().map_or("", String::as_str), &dump()?, "after all down.sql")?;
    for migration in &migrations {
        apply(migration, &migration.up, "up")?;
    }
    compare(&complete, &dump()?, "after all up.sql again")?;
    drop(client);
    server.batch_execute(&format!("DROP DATABASE {SCRATCH} WITH (FORCE)"))?;
    println!("{} migrations: up, down, up leaves the same schema", migrations.len());
    Ok(())
}

pub(crate) fn read_migrations(folder: &Path) -> Result<Vec<Migration>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let read = |file: &str| {
                std::fs::read_to_string(path.join(file))
                    .with_context(|| format!("could not read {name}/{file}"))
            };
            Ok(Migration { up: read("up.sql")?, down: read("down.sql")?, name: name.clone() })
        })
        .collect()
}

/// The schema as pg_dump prints it, without what differs from run to run.
fn dump_schema(cluster: &Cluster, database: &str) -> Result<String> {
    let url = cluster.url(database).context("the cluster doesn't run")?;
    let output = Process::new(cluster.program("pg_dump"))
        .args(["--schema-only", "--no-owner", "--dbname", &url])
        .output()
        .context("could not start pg_dump")?;
    if !output.status.success() {
        bail!("pg_dump failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(normalise_dump(&String::from_utf8_lossy(&output.stdout)))
}

/// Newer versions of pg_dump bracket the script with a random key (`\restrict`, `\unrestrict`).
fn normalise_dump(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn compare(expected: &str, found: &str, when: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let missing = expected.lines().filter(|line| !found.lines().any(|other| other == *line));
    let surplus = found.lines().filter(|line| !expected.lines().any(|other| other == *line));
    let lines: Vec<String> = missing
        .map(|line| format!("  missing: {line}"))
        .chain(surplus.map(|line| format!("  surplus: {line}")))
        .take(20)
        .collect();
    let detail =
        if lines.is_empty() { "  the same lines in another order".to_owned() } else { lines.join("\n") };
    bail!("the schema differs {when}:\n{detail}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_random_key_of_a_dump_is_no_difference() {
        let one = "--\n\\restrict abc\nCREATE TABLE t ();\n\\unrestrict abc\n";
        let two = "--\n\\restrict xyz\nCREATE TABLE t ();\n\\unrestrict xyz\n";
        compare(&normalise_dump(one), &normalise_dump(two), "in a test").unwrap();
    }

    #[test]
    fn a_difference_is_shown_by_its_lines() {
        let error = compare("a\nb\n", "a\nc\n", "after x").unwrap_err().to_string();
        assert_eq!(error, "the schema differs after x:\n  missing: b\n  surplus: c");
        let error = compare("a\nb\n", "b\na\n", "after x").unwrap_err().to_string();
        assert!(error.ends_with("the same lines in another order"));
    }
}
