//! What the system has used until now: CPU by process, transaction ids, batches; and what PostgreSQL's statistics say of
//! tables.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::proxy;
use crate::http::Http;
use crate::process;
use crate::scrape::Scrape;

/// Linux counts CPU time for other processes in hundredths of a second, on every architecture that Rust runs on.
const TICK: Duration = Duration::from_millis(10);
/// PostgreSQL's processes end a moment after their clients.
const GOODBYE: Duration = Duration::from_secs(10);

/// The system at one moment.
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) server: Duration,
    pub(super) database: Duration,
    pub(super) simulator: Duration,
    /// Of everybody on the machine, all cores together, and of those who run it for us.
    pub(super) machine: Duration,
    /// Transaction ids given out: each transaction that writes takes one.
    pub(super) transactions: i64,
    /// By name: how many batches, and how many members they had.
    pub(super) batches: BTreeMap<String, (f64, f64)>,
    /// Where servers talk to the database through the proxy.
    pub(super) wire: Option<proxy::Counts>,
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: Duration,
    /// Of its children that have ended.
    children: Duration,
}

/// CPU time of a process until now, its ended children included.
pub(super) fn of_process(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let stat = parse(&text).with_context(|| format!("could not understand {path}"))?;
    Ok(stat.own + stat.children)
}

/// CPU time of a process and all its children until now, those that have ended included.
pub(super) fn of_family(pid: u32) -> Result<Duration> {
    let mut total = of_process(pid)?;
    for entry in std::fs::read_dir("/proc").context("could not read /proc")?.flatten() {
        if !entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit())) {
            continue;
        }
        // One that has ended meanwhile is in its parent's sum the next time.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(stat) = parse(&text).filter(|stat| stat.parent == pid) {
            total += stat.own + stat.children;
        }
    }
    Ok(total)
}

/// `4711 (name of it) S 1 ...`: the name may hold anything, so that fields are counted from its end.
fn parse(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    let time = |user, system| Some(TICK * (ticks(user)? + ticks(system)?));
    Some(Stat { parent: ticks(1)?, own: time(11, 12)?, children: time(13, 14)? })
}

/// CPU time of the machine until now: all that was not idle.
pub(super) fn of_machine() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat").context("could not read /proc/stat")?;
    machine(&text).context("could not understand /proc/stat")
}

/// `cpu  user nice system idle iowait irq softirq steal ...`
fn machine(text: &str) -> Option<Duration> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = *ticks.as_slice() else {
        return None;
    };
    let busy = user + nice + system + irq + softirq + steal;
    Some(TICK * u32::try_from(busy).ok()?)
}

pub(super) fn transactions(client: &mut postgres::Client) -> Result<i64> {
    let row = client.query_one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint", &[])?;
    Ok(row.try_get(0)?)
}

/// How many batches there were and how many members they had, by what was batched; empty when servers don't say.
pub(super) fn batches(http: &Http, operations: &[String]) -> Result<BTreeMap<String, (f64, f64)>> {
    let mut batches = BTreeMap::new();
    for ops in operations {
        add_batches(&Scrape::fetch(http, ops)?, &mut batches);
    }
    Ok(batches)
}

/// Of the histogram `batch_size`.
fn add_batches(scrape: &Scrape, batches: &mut BTreeMap<String, (f64, f64)>) {
    for series in &scrape.series {
        let Some(name) = series.labels.get("batch") else { continue };
        match series.name.as_str() {
            "batch_size_count" => batches.entry(name.clone()).or_default().0 += series.value,
            "batch_size_sum" => batches.entry(name.clone()).or_default().1 += series.value,
            _ => {}
        }
    }
}

/// Updates of a table, and how many of them left its indices alone.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Updates {
    pub(super) all: i64,
    pub(super) hot: i64,
}

/// Of every table of the database, when nobody else is connected any more: PostgreSQL's processes hand in what they
/// have counted when they end.
pub(super) fn updates(client: &mut postgres::Client) -> Result<BTreeMap<String, Updates>> {
    let alone = "SELECT count(*) = 0 FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let mut failed = None;
    process::wait_until(GOODBYE, || match client.query_one(alone, &[]).and_then(|row| row.try_get(0)) {
        Ok(alone) => alone,
        Err(error) => {
            failed = Some(error);
            true
        }
    });
    if let Some(error) = failed {
        return Err(error).context("could not ask who is connected");
    }
    let rows = client.query(
        "SELECT relname::text, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = 'public'",
        &[],
    )?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, Updates { all: row.try_get(1)?, hot: row.try_get(2)? })))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_read_whatever_the_process_is_called() {
        let text = "4711 (a) b (c) S 42 1 1 0 -1 4194560 1 2 3 4 150 50 7 3 20 0 1 0 1 1 1";
        let ms = Duration::from_millis;
        assert_eq!(parse(text), Some(Stat { parent: 42, own: ms(2_000), children: ms(100) }));
        assert_eq!(parse("4711 (a"), None);
        assert_eq!(parse("4711 (a) S 42 1"), None);
    }

    #[test]
    fn the_machine_is_busy_when_it_is_not_idle() {
        let text = "cpu  100 20 30 5000 400 1 2 3 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(machine(text), Some(Duration::from_millis(1_560)));
        assert_eq!(machine("cpu  100 20"), None);
    }

    #[test]
    fn batches_of_several_servers_are_added_up() {
        let text = "batch_size_bucket{batch=\"placing\",le=\"1\"} 3\nbatch_size_sum{batch=\"placing\"} 30\n\
                    batch_size_count{batch=\"placing\"} 4\nbatch_size_count{batch=\"settling\"} 1\nother_count 7\n";
        let mut batches = BTreeMap::new();
        for _ in 0..2 {
            add_batches(&Scrape::parse(text).unwrap(), &mut batches);
        }
        let expected = [("placing".to_owned(), (8.0, 60.0)), ("settling".to_owned(), (2.0, 0.0))];
        assert_eq!(batches, expected.into());
    }

    #[test]
    fn a_family_has_used_at_least_as_much_as_its_head() {
        let me = std::process::id();
        let alone = of_process(me).unwrap();
        assert!(of_family(me).unwrap() >= alone);
        assert!(of_process(u32::MAX).is_err());
    }
}
