//! One measurement: a scenario, so many clients, one build.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::drive::{self, count};
use super::generator::Seen;
use super::stage::{PATIENCE, Side};
use super::usage::Reading;
use super::wire::Scenario;

/// How one measurement is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) scenario: Scenario,
    pub(super) clients: u32,
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
    /// Requests a second in an open loop; none: a closed loop.
    pub(super) rate: Option<f64>,
}

/// What came of it. Times are milliseconds, CPU times microseconds per request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Requests a second; where orders have a life, until the last has ended.
    pub(super) rate: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) longest: f64,
    pub(super) server: f64,
    pub(super) database: f64,
    pub(super) simulator: f64,
    pub(super) generator: f64,
    /// Transactions that write, per request.
    pub(super) commits: f64,
    /// Of the generator's own time, the share of one core.
    pub(super) generator_busy: f64,
    /// What processes that are no part of this took, as a share of the machine.
    pub(super) others: f64,
    /// Members of a batch, on average, by what was batched; empty when the server does not say.
    pub(super) batches: BTreeMap<String, f64>,
    /// Seen by the proxy, where there was one.
    pub(super) wire: Option<Wire>,
    /// Where orders have a life.
    pub(super) life: Option<Life>,
    /// What must not be.
    pub(super) trouble: Vec<String>,
}

/// Between server and database, per request.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Wire {
    pub(super) trips: f64,
    pub(super) statements: f64,
    pub(super) prepared: f64,
}

/// Of payments by card, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Life {
    /// From the last answer to a buyer until the last payment had ended.
    pub(super) tail: f64,
    /// From a payment's beginning to its end, by the database's clock.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) longest: f64,
    /// The longest from a callback's arrival to the payment's end, by the database's clock.
    pub(super) after_callback: f64,
}

pub(super) fn measure(side: &mut Side, generator: &Path, how: &How) -> Result<Sample> {
    if !how.scenario.has_a_life() && !side.is_counted() {
        let mut task = side.task(how.scenario, how.clients, how.warm_up, how.window);
        task.rate = how.rate;
        let (begin, end, seen) = drive::run(generator, &task, || side.read())?;
        return Ok(sample(&begin, &end, &seen, seen.in_window, seen.window));
    }
    // Apart, so that nothing of it is under way when the clock starts.
    let task = side.task(how.scenario, how.clients, Duration::ZERO, how.warm_up);
    let ((), (), warmed_up) = drive::run(generator, &task, || Ok(()))?;
    side.wait_for_ends(0)?;
    let open = side.open()?;
    let newest = newest_payment(side)?;
    let mut task = side.task(how.scenario, how.clients, Duration::ZERO, how.window);
    task.rate = how.rate;
    let (begin, _, seen) = drive::run(generator, &task, || side.read())?;
    let answered = side.read()?.at;
    let unended = side.wait_for_ends(open)?;
    let ended = side.read()?;
    let mut sample = sample(&begin, &ended, &seen, seen.good, ended.at - begin.at);
    sample.trouble.extend(trouble(&warmed_up));
    sample.life = life(side, newest, millis(ended.at - answered))?;
    if unended > 0 {
        let seconds = PATIENCE.as_secs();
        sample.trouble.push(format!("{unended} payments had not ended {seconds} s after the last order"));
    }
    Ok(sample)
}

fn sample(begin: &Reading, end: &Reading, seen: &Seen, requests: u64, length: Duration) -> Sample {
    let requests = count(requests).max(1.0);
    let each =
        |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / requests;
    let ours: Duration = [
        end.server.saturating_sub(begin.server),
        end.database.saturating_sub(begin.database),
        end.simulator.saturating_sub(begin.simulator),
        seen.cpu,
    ]
    .iter()
    .sum();
    let others = end.machine.saturating_sub(begin.machine).saturating_sub(ours);
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| count(cores.get() as u64));
    let wire = begin.wire.zip(end.wire).map(|(before, after)| Wire {
        trips: count(after.trips - before.trips) / requests,
        statements: count(after.statements - before.statements) / requests,
        prepared: count(after.prepared - before.prepared) / requests,
    });
    let batches = end.batches.iter().filter_map(|(name, (batches, members))| {
        let (batches_before, members_before) = begin.batches.get(name).copied().unwrap_or_default();
        let batches = batches - batches_before;
        (batches > 0.0).then(|| (name.clone(), (members - members_before) / batches))
    });
    #[expect(clippy::cast_precision_loss, reason = "transactions of one measurement are far fewer than 2^52")]
    let commits = (end.transactions - begin.transactions) as f64 / requests;
    Sample {
        rate: requests / length.as_secs_f64().max(1e-9),
        p50: millis(seen.p50),
        p95: millis(seen.p95),
        p99: millis(seen.p99),
        longest: millis(seen.longest),
        server: each(end.server, begin.server),
        database: each(end.database, begin.database),
        simulator: each(end.simulator, begin.simulator),
        generator: seen.cpu.as_secs_f64() * 1e6 / count(seen.good).max(1.0),
        commits,
        generator_busy: seen.cpu.as_secs_f64() / length.as_secs_f64().max(1e-9),
        others: others.as_secs_f64() / (length.as_secs_f64() * cores).max(1e-9),
        batches: batches.collect(),
        wire,
        life: None,
        trouble: trouble(seen),
    }
}

/// What was answered and must not be, and how often.
fn trouble(seen: &Seen) -> Vec<String> {
    seen.bad
        .iter()
        .map(|(what, (count, one))| format!("{count} x {what} {one}").trim_end().to_owned())
        .collect()
}

fn newest_payment(side: &mut Side) -> Result<i64> {
    Ok(side.client.query_one("SELECT coalesce(max(id), 0) FROM payment", &[])?.try_get(0)?)
}

/// Of the card payments after `newest`.
fn life(side: &mut Side, newest: i64, tail: f64) -> Result<Option<Life>> {
    let sql = "WITH life AS (
            SELECT id, updated_at, extract(epoch FROM updated_at - created_at)::float8 * 1000 AS took
            FROM payment WHERE id > $1 AND paid_amount > 0 AND status IN ('PAID', 'FAILED'))
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took), percentile_cont(0.99) WITHIN GROUP (ORDER BY took),
               max(took), (SELECT max(extract(epoch FROM life.updated_at - c.received_at)::float8 * 1000)
                           FROM life JOIN callback_inbox c ON c.payment_id = life.id)
        FROM life";
    let row = side.client.query_one(sql, &[&newest]).context("could not ask how payments lived")?;
    let (p50, p99): (Option<f64>, Option<f64>) = (row.try_get(0)?, row.try_get(1)?);
    let (longest, after_callback): (Option<f64>, Option<f64>) = (row.try_get(2)?, row.try_get(3)?);
    Ok(p50.zip(p99).zip(longest).map(|((p50, p99), longest)| Life {
        tail,
        p50,
        p99,
        longest,
        after_callback: after_callback.unwrap_or_default().max(0.0),
    }))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
