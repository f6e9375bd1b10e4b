//! What must hold when all is quiet, and the report.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

use crate::buyers::Promise;
use crate::canary::Canary;
use crate::database::Connection;
use crate::diary::percentile;
use crate::run::read_operations;
use crate::world::World;

/// Of answers that were given while database and server were there (04-failures, tier C).
const P99: Duration = Duration::from_millis(4_500);

/// How everything came to rest after the last fault.
pub(crate) struct Rest {
    pub(crate) unsettled_at_first: i64,
    pub(crate) settled_after: Duration,
    /// The greatest age that an unsettled payment reached after the last fault.
    pub(crate) oldest: Duration,
    pub(crate) watched_until: Duration,
}

/// Audits, ends the programs, searches for card numbers, and prints the report. `strict`: slow answers count too.
pub(crate) async fn judge(
    world: &World,
    promises: &[Promise],
    auditor: &Path,
    log_from: u64,
    rest: Option<&Rest>,
    strict: bool,
) -> Result<()> {
    let diary = &world.diary;
    let connection = world.server.connect(world.database).await?;
    audit(world, auditor).await?;
    keep_promises(world, &connection, promises).await?;
    let canary = Canary::new();
    read_operations(world, &canary).await;
    let dump = world.folder.join("dump.sql");
    world.server.dump(world.database, &dump).await?;
    let sums = world.gateway.sums().await?;
    world.stop().await?;
    let log = world.server.log_since(log_from)?;
    let searched = search(world, &canary, &dump, &log)?;
    let deadlocks = String::from_utf8_lossy(&log).matches("deadlock detected").count();
    if deadlocks > 0 {
        diary.violation(format!("I11: {deadlocks} deadlocks in PostgreSQL's log"));
    }

    println!("\n--- report");
    print_counts("faults", &diary.counts("fault: "));
    print_counts("orders", &diary.counts("load: "));
    print_counts("answers", &diary.counts("answer: "));
    print_latencies(world, strict);
    print_tally(&connection, "payments", "SELECT status::text, count(*) FROM payment GROUP BY 1 ORDER BY 1")
        .await?;
    let ledger = "SELECT kind || ' ' || status, count(*) FROM discrepancy GROUP BY 1 ORDER BY 1";
    print_tally(&connection, "discrepancy ledger", ledger).await?;
    let causes = "SELECT cause || ' -> ' || to_status, count(*) FROM payment_event
                  WHERE to_status IN ('PAID', 'FAILED') GROUP BY 1 ORDER BY 1";
    print_tally(&connection, "who ended payments", causes).await?;
    println!("gateway's ledger: {sums}");
    println!(
        "connections: {} to PostgreSQL, {} to the gateway; {} and {} struck by a fault at their worst moment",
        world.database_proxy.connections(),
        world.gateway_proxy.connections(),
        world.database_proxy.fired(),
        world.gateway_proxy.fired()
    );
    if let Some(rest) = rest {
        println!(
            "after the last fault: {} payments unsettled; the last ended after {:.1} s, when it or another was {:.1} s \
             old; the watch list was empty after {:.1} s",
            rest.unsettled_at_first,
            rest.settled_after.as_secs_f64(),
            rest.oldest.as_secs_f64(),
            rest.watched_until.as_secs_f64()
        );
    }
    println!("deadlocks: {deadlocks}");
    println!("card numbers found: {} in {} MiB of logs, dump and metrics", searched.1, searched.0 >> 20);
    Ok(())
}

async fn audit(world: &World, auditor: &Path) -> Result<()> {
    println!("\n--- audit");
    let mut command = Command::new(auditor);
    command.args(["audit", "--database", &world.server.url(world.server.address()?.port(), world.database)?]);
    command.args(["--simulator", &world.gateway.base]).stdin(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.context("could not start the audit")?;
    if !status.success() {
        world.diary.violation(format!("the audit of {} found violations (see above)", world.database));
    }
    Ok(())
}

/// What buyers were told must be so: an order that was named is there, PAID stays paid, a refusal stays one, and a key
/// names one order.
async fn keep_promises(world: &World, connection: &Connection, promises: &[Promise]) -> Result<()> {
    let diary = &world.diary;
    let mut by_key: HashMap<&str, i64> = HashMap::new();
    for promise in promises {
        if let (Some(key), Some(order)) = (promise.key.as_deref(), promise.order)
            && *by_key.entry(key).or_insert(order) != order
        {
            diary.violation(format!("I13: key {key} was answered with two orders, one of them {order}"));
        }
    }
    let told: Vec<&Promise> =
        promises.iter().filter(|promise| matches!(promise.status, 201 | 202 | 402)).collect();
    let users: Vec<i64> = told.iter().map(|promise| promise.user).collect();
    let statuses: Vec<i32> = told.iter().map(|promise| i32::from(promise.status)).collect();
    let orders: Vec<Option<i64>> = told.iter().map(|promise| promise.order).collect();
    let keys: Vec<Option<&str>> = told.iter().map(|promise| promise.key.as_deref()).collect();
    let rows = connection
        .client
        .query(
            "SELECT format('user %s was answered %s for order %s with key %s: it is %s', t.user_id, t.status, t.order_id,
                           t.key, coalesce(p.status, 'not there'))
             FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[]) AS t(user_id, status, order_id, key)
             LEFT JOIN idempotency_key k ON k.user_id = t.user_id AND k.key = t.key
             LEFT JOIN payment p ON p.order_id = coalesce(t.order_id, k.order_id) AND p.user_id = t.user_id
             WHERE CASE t.status
                     WHEN 201 THEN p.status IS DISTINCT FROM 'PAID'
                     WHEN 202 THEN p.status IS NULL
                     ELSE coalesce(t.order_id, k.order_id) IS NOT NULL AND p.status IS DISTINCT FROM 'FAILED' END",
            &[&users, &statuses, &orders, &keys],
        )
        .await
        .context("could not hold the answers against the books")?;
    for row in rows {
        diary.violation(row.try_get::<_, String>(0)?);
    }
    println!("{} answers to buyers held against the books", told.len());
    Ok(())
}

/// Bytes searched, and card numbers found; whatever of the programs' logs tells of a panic is a violation as well.
fn search(world: &World, canary: &Canary, dump: &Path, database_log: &[u8]) -> Result<(u64, u64)> {
    let (mut bytes, mut hits) = canary.search(database_log)?;
    if hits > 0 {
        world.diary.violation(format!("I14: {hits} card numbers in PostgreSQL's log"));
    }
    let mut files = vec![dump.to_owned()];
    for entry in std::fs::read_dir(&world.folder).context("could not list the logs")? {
        let path = entry.context("could not list the logs")?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    for file in files {
        let (read, found) = canary.search_file(&file)?;
        bytes += read;
        hits += found;
        if found > 0 {
            world.diary.violation(format!("I14: {found} card numbers in {}", file.display()));
        }
        let (_, panics) = Canary::of_panics().search_file(&file)?;
        if panics > 0 {
            world.diary.violation(format!("{panics} panics in {}", file.display()));
        }
    }
    Ok((bytes, hits))
}

fn print_counts(title: &str, counts: &[(String, u64)]) {
    if counts.is_empty() {
        return;
    }
    println!("{title}: {}", counts.iter().map(|(_, count)| count).sum::<u64>());
    for (name, count) in counts {
        println!("{count:>8}  {name}");
    }
}

async fn print_tally(connection: &Connection, title: &str, sql: &str) -> Result<()> {
    let tally = connection.tally(sql).await?;
    println!("{title}: {}", tally.iter().map(|(_, count)| count).sum::<i64>());
    for (name, count) in tally {
        println!("{count:>8}  {name}");
    }
    Ok(())
}

fn print_latencies(world: &World, strict: bool) {
    let (all, fair) = world.diary.latencies();
    for (title, times) in
        [("all that were answered", &all), ("those while database and server were there", &fair)]
    {
        println!(
            "POST /orders, {title}: {}; p50 {} ms, p99 {} ms, longest {} ms",
            times.len(),
            percentile(times, 50).as_millis(),
            percentile(times, 99).as_millis(),
            percentile(times, 100).as_millis()
        );
    }
    println!("of these, by the faults that struck something else meanwhile or up to 3 s before (ms):");
    println!("{:>16} {:>6} {:>6} {:>6} {:>8} {:>8}", "fault", "n", "p50", "p99", "longest", "4.5 s +");
    for (fault, times) in world.diary.latencies_by_fault() {
        let [p50, p99, longest] = [50, 99, 100].map(|percent| percentile(&times, percent).as_millis());
        let slow = times.iter().filter(|time| **time >= P99).count();
        println!("{fault:>16} {:>6} {p50:>6} {p99:>6} {longest:>8} {slow:>8}", times.len());
    }
    for (answer, count) in world.diary.slow_answers(P99) {
        println!("{count:>8}  took 4.5 s or more: {answer}");
    }
    let p99 = percentile(&fair, 99);
    if strict && p99 >= P99 {
        world.diary.violation(format!("p99 of POST /orders is {} ms, 4500 are allowed", p99.as_millis()));
    }
}
