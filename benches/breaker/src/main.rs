//! One guarded successful call: what does it cost, alone and with two threads on one breaker, in this project's circuit
//! breaker and in others?
//!
//! Everything is measured in one run, in many short rounds that visit all contenders in turn, so that whatever else the
//! machine does falls on all alike; a round in which a thread had to wait for a processor is repeated, and the medians
//! are printed. The base line is what any caller pays who wants to know how long a call took: reading the clock twice.
//! "2 threads" is the time per call as each of two threads sees it.
//!
//! The peers are called as their documentation shows, with settings as near to one another as they allow. Those that
//! read no clock know no slow calls; beside them stands our breaker with the time given, which shows its own cost, and
//! they stand here a second time with the clock reads that their caller would have to add.

mod contenders;

use std::{
    hint::black_box,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use contenders::{Contender, contenders};

const ROUNDS: usize = 41;
const TRIES: usize = 15;
/// After this long nothing is repeated any more: on a machine that is never quiet the run still ends.
const PATIENCE: Duration = Duration::from_secs(45);
/// Long enough that starting threads doesn't show, short enough that a round sees one state of the machine.
const BATCH: Duration = Duration::from_millis(2);

/// Nanoseconds per call, one per round.
#[derive(Default)]
struct Samples {
    alone: Vec<f64>,
    together: Vec<f64>,
}

/// One batch: nanoseconds per call, and nanoseconds that its threads wanted to run and got no processor.
#[derive(Clone, Copy)]
struct Batch {
    per_call: f64,
    waited: u64,
}

/// How long this thread has waited for a processor so far: 0 where the system doesn't tell (only Linux does).
fn waited() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split_whitespace().nth(1).and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn alone(calls: u32, call: &(dyn Fn(u32) + Sync)) -> Batch {
    let before = waited();
    let begin = Instant::now();
    call(black_box(calls));
    let per_call = begin.elapsed().as_nanos() as f64 / f64::from(calls);
    Batch { per_call, waited: waited().saturating_sub(before) }
}

/// The slower of two threads that start together.
fn together(calls: u32, call: &(dyn Fn(u32) + Sync)) -> Batch {
    let ready = AtomicU32::new(0);
    let measure = || {
        // Both spin, so that both have a processor when they start.
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < 2 {
            std::hint::spin_loop();
        }
        let begin = Instant::now();
        (begin, alone(calls, call))
    };
    thread::scope(|scope| {
        let other = scope.spawn(measure);
        let (own_begin, own) = measure();
        let Ok((their_begin, theirs)) = other.join() else {
            return Batch { per_call: f64::NAN, waited: u64::MAX };
        };
        let apart = own_begin.max(their_begin) - own_begin.min(their_begin);
        let apart = u64::try_from(apart.as_nanos()).unwrap_or(u64::MAX);
        let waited = own.waited.saturating_add(theirs.waited).saturating_add(apart);
        Batch { per_call: own.per_call.max(theirs.per_call), waited }
    })
}

/// The first batch that was left in peace, of a few: two threads that don't really run side by side don't contend, and on
/// a busy machine all figures would be those of one.
fn in_peace(until: Instant, batch: impl Fn() -> Batch) -> f64 {
    let mut best = batch();
    for _ in 0..TRIES {
        if u128::from(best.waited) * 50 <= BATCH.as_nanos() || Instant::now() > until {
            break;
        }
        let next = batch();
        if next.waited < best.waited {
            best = next;
        }
    }
    best.per_call
}

/// How many calls fill a batch.
fn calibrate(call: &(dyn Fn(u32) + Sync)) -> u32 {
    let first = alone(10_000, call).per_call;
    ((BATCH.as_nanos() as f64 / first.max(1.0)) as u32).clamp(1_000, 3_000_000)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> ExitCode {
    let contenders = contenders();
    let calls: Vec<u32> = contenders.iter().map(|contender| calibrate(&*contender.calls)).collect();
    let mut samples: Vec<Samples> = contenders.iter().map(|_| Samples::default()).collect();
    let until = Instant::now() + PATIENCE;
    for _ in 0..ROUNDS {
        for ((contender, calls), samples) in contenders.iter().zip(&calls).zip(&mut samples) {
            samples.alone.push(in_peace(until, || alone(*calls, &*contender.calls)));
            samples.together.push(in_peace(until, || together(*calls, &*contender.calls)));
        }
    }
    let rows: Vec<Row> = contenders
        .iter()
        .zip(&mut samples)
        .map(|(contender, samples)| Row {
            contender,
            alone: median(&mut samples.alone),
            together: median(&mut samples.together),
        })
        .collect();
    print(&rows);
    judge(&rows)
}

struct Row<'a> {
    contender: &'a Contender,
    alone: f64,
    together: f64,
}

fn print(rows: &[Row]) {
    let Some(base) = rows.first() else { return };
    println!(
        "median ns per guarded successful call, {ROUNDS} rounds of {} ms; x = times the base line\n",
        BATCH.as_millis()
    );
    println!(
        "| {:<46} | slow calls | {:>8} | {:>6} | {:>9} | {:>6} |",
        "", "1 thread", "x", "2 threads", "x"
    );
    println!("| {:-<46} | ---------- | -------: | -----: | --------: | -----: |", "");
    for row in rows {
        println!(
            "| {:<46} | {:<10} | {:>8.1} | {:>6.2} | {:>9.1} | {:>6.2} |",
            row.contender.name,
            row.contender.slow_calls,
            row.alone,
            row.alone / base.alone,
            row.together,
            row.together / base.together,
        );
    }
    println!();
}

/// Holds our breaker against its targets.
fn judge(rows: &[Row]) -> ExitCode {
    let of = |wanted: &str| rows.iter().find(|row| row.contender.name == wanted);
    let (Some(base), Some(ours), Some(tsc), Some(given)) =
        (rows.first(), of(contenders::OURS), of(contenders::OURS_TSC), of(contenders::OURS_TIME_GIVEN))
    else {
        println!("a row is missing");
        return ExitCode::FAILURE;
    };
    let peers = || rows.iter().filter(|row| row.contender.is_peer);
    let knows = |row: &&Row| row.contender.slow_calls == "yes";
    // Against the same work: with the clock read where the peer's row reads it, else with the time given.
    let (timed, untimed): (Vec<&Row>, Vec<&Row>) = peers().partition(|peer| peer.contender.reads_clock);
    let targets = [
        ("1 thread: at most 1.6 x two clock reads", ours.alone <= 1.6 * base.alone),
        (
            "1 thread: faster than every peer that knows slow calls",
            peers().filter(knows).all(|p| ours.alone < p.alone),
        ),
        (
            "2 threads: faster than every peer whose call is timed",
            timed.iter().all(|p| ours.together < p.together),
        ),
        (
            "2 threads: faster, with the time given, than every peer that reads no clock",
            untimed.iter().all(|p| given.together < p.together),
        ),
        (
            "2 threads: faster, two reads of quanta's clock included, than every peer that reads no clock",
            untimed.iter().all(|p| tsc.together < p.together),
        ),
        (
            "2 threads: faster, two reads of the standard clock included, than every peer that reads no clock",
            untimed.iter().all(|p| ours.together < p.together),
        ),
    ];
    for (target, reached) in targets {
        println!("{} {target}", if reached { "reached:    " } else { "NOT reached:" });
    }
    ExitCode::SUCCESS
}
