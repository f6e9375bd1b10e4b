//! `audit`: our books by themselves, and against the gateway's.
//!
//! Every check is one SQL query that returns a line for each violation; the gateway's ledger is put into a temporary
//! table beside our own, so that comparing the two is a query as well. All of it reads one snapshot of the database:
//! the system may go on working meanwhile. Payments that are still under way are no violation until they are overdue.

mod books;
mod gateway;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};
use postgres::{Client, IsolationLevel, NoTls, Transaction};

use crate::http::Http;
use crate::running::System;
use crate::workspace;

/// So many violations of one check are printed; the number counts all.
const SHOWN: usize = 5;

/// One check: the invariant's name in the failure catalogue, what must hold, and the query that finds what breaks it.
struct Check {
    invariant: &'static str,
    what: &'static str,
    /// Returns one text column.
    sql: &'static str,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Database, if not that of `cargo xtask up`
    #[arg(long)]
    database: Option<String>,
    /// Simulator, if not that of `cargo xtask up`
    #[arg(long)]
    simulator: Option<String>,
    /// Hold only payments from this time on (RFC 3339) against the simulator's ledger, which it forgets when it ends;
    /// by default since `up` started it
    #[arg(long)]
    since: Option<String>,
    /// Only our own books: no simulator is asked
    #[arg(long, conflicts_with_all = ["simulator", "since"])]
    without_simulator: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let running = match (&args.database, &args.simulator, args.without_simulator) {
        (Some(_), Some(_), _) | (Some(_), None, true) => None,
        _ => Some(System::load(&workspace::root()?)?),
    };
    let from_up = |choose: fn(&System) -> &String| running.as_ref().map(|system| choose(system).clone());
    let database =
        args.database.clone().or_else(|| from_up(|system| &system.database)).context("no --database")?;
    let mut client = Client::connect(&database, NoTls).context("could not connect to the database")?;
    let mut snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start()?;
    // The first statement takes the snapshot; the gateway's ledger is read after it, so it is never the older one.
    snapshot.batch_execute("SET LOCAL statement_timeout = '5min'; SELECT count(*) FROM payment")?;

    let mut violations = run_checks(&mut snapshot, books::CHECKS)?;
    if !args.without_simulator {
        let simulator = args
            .simulator
            .clone()
            .or_else(|| from_up(|system| &system.simulator))
            .context("no --simulator")?;
        let since = args.since.clone().or_else(|| from_up(|system| &system.simulator_since));
        let ledger = gateway::fetch(&Http::new(), &simulator)?;
        gateway::load(&mut snapshot, &ledger, since.as_deref())?;
        violations += run_checks(&mut snapshot, gateway::CHECKS)?;
    }
    println!("\n{}", summary(&mut snapshot)?);
    snapshot.rollback()?;
    if violations > 0 {
        bail!("{violations} violations");
    }
    println!("0 violations");
    Ok(())
}

/// What breaks our own books in a database where no reconciler runs: whether somebody looks in time (I9) is not asked.
pub(crate) fn broken_books(client: &mut Client) -> Result<Vec<String>> {
    let mut snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start()?;
    let mut broken = Vec::new();
    for check in books::CHECKS.iter().filter(|check| check.invariant != "I9") {
        broken
            .extend(find(&mut snapshot, check)?.iter().map(|found| format!("{}: {found}", check.invariant)));
    }
    Ok(broken)
}

fn run_checks(snapshot: &mut Transaction<'_>, checks: &[Check]) -> Result<usize> {
    let mut total = 0;
    for check in checks {
        let found = find(snapshot, check)?;
        println!("{:<4} {:<72} {:>6}", check.invariant, check.what, found.len());
        for violation in found.iter().take(SHOWN) {
            println!("       {violation}");
        }
        if found.len() > SHOWN {
            println!("       ... and {} more", found.len() - SHOWN);
        }
        total += found.len();
    }
    Ok(total)
}

/// A line for each violation.
fn find(snapshot: &mut Transaction<'_>, check: &Check) -> Result<Vec<String>> {
    let rows = snapshot
        .query(check.sql, &[])
        .with_context(|| format!("the query of {} ({}) failed", check.invariant, check.what))?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// What was looked at, so that "0 violations" of an empty database can be told from those of a full one.
fn summary(snapshot: &mut Transaction<'_>) -> Result<String> {
    let row = snapshot.query_one(
        "SELECT format('%s payments (%s PAID, %s FAILED, %s under way), %s stock movements, %s point movements, \
                %s coupon movements, %s open ledger rows',
                count(*), count(*) FILTER (WHERE status = 'PAID'), count(*) FILTER (WHERE status = 'FAILED'),
                count(*) FILTER (WHERE status IN ('PENDING', 'IN_PROGRESS')),
                (SELECT count(*) FROM stock_ledger), (SELECT count(*) FROM point_ledger),
                (SELECT count(*) FROM coupon_ledger), (SELECT count(*) FROM discrepancy WHERE status = 'OPEN'))
         FROM payment",
        &[],
    )?;
    Ok(row.try_get(0)?)
}
