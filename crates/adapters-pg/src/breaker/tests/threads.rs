//! Many real threads on one breaker: probes are never more than configured, permits are never lost, and every result
//! is counted exactly once. The interleavings are the machine's; `interleavings.rs` goes through all of them, on less.

use std::{
    collections::HashMap,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::{super::*, Duration, ms, start};

const THREADS: u64 = 8;

/// A cheap generator per thread; which numbers it gives doesn't matter.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn never_more_probes_than_permits_and_never_a_lost_one() {
    const PROBES: u32 = 3;
    const ENOUGH: u64 = 2_000;
    const PATIENCE: Duration = Duration::from_secs(120);
    let origin = start();
    let config = Config {
        window: SlidingWindow::CountBased(4),
        minimum_calls: 4,
        open_wait: ms(1),
        open_wait_factor: 1.0,
        open_wait_max: ms(1),
        open_wait_jitter: 0,
        half_open_calls: PROBES,
        half_open_max: None,
        ..Config::default()
    };
    let breaker = CircuitBreaker::builder("threads", config, 0).build(origin).unwrap();
    // Probes handed out and neither ignored nor dropped, by generation.
    let out: Arc<Mutex<HashMap<u64, u32>>> = Arc::default();
    let clock = Arc::new(AtomicU64::new(0));
    let barrier = Arc::new(Barrier::new(THREADS as usize));
    let probes = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (1..=THREADS)
        .map(|seed| {
            let (breaker, out, probes) = (breaker.clone(), Arc::clone(&out), Arc::clone(&probes));
            let (clock, barrier) = (Arc::clone(&clock), Arc::clone(&barrier));
            thread::spawn(move || {
                let mut random = seed * 0x9E37_79B9;
                barrier.wait();
                // Until enough was seen, however the system hands out processors. A lost permit would stop it for ever.
                while probes.load(Ordering::Relaxed) < ENOUGH {
                    assert!(origin.elapsed() < PATIENCE, "it got stuck: {:?}", breaker.snapshot(origin));
                    let now = origin + Duration::from_micros(clock.fetch_add(50, Ordering::Relaxed));
                    let Ok(ticket) = breaker.acquire(now) else {
                        thread::yield_now();
                        continue;
                    };
                    let generation = ticket.generation();
                    if ticket.is_probe() {
                        probes.fetch_add(1, Ordering::Relaxed);
                        let mut out = out.lock().unwrap();
                        let taken = out.entry(generation).or_default();
                        *taken += 1;
                        assert!(*taken <= PROBES, "{taken} probes in generation {generation}");
                    }
                    let give_back = |ticket: Ticket, by: fn(Ticket)| {
                        // Before the permit goes back, or another thread could be seen with it too early.
                        if ticket.is_probe() {
                            *out.lock().unwrap().entry(generation).or_default() -= 1;
                        }
                        by(ticket);
                    };
                    match next(&mut random) % 8 {
                        0 | 1 => ticket.success(now, ms(0)),
                        2 | 3 => ticket.failure(now, ms(0), "Failure"),
                        4 => ticket.success(now, ms(701)),
                        5 => give_back(ticket, Ticket::ignored),
                        6 => give_back(ticket, drop),
                        _ => {
                            // Settled late, by then most likely in another generation.
                            for _ in 0..next(&mut random) % 64 {
                                thread::yield_now();
                            }
                            give_back(ticket, drop);
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }

    // Whatever happened, in the next half-open period exactly the configured number gets through again.
    let now = origin + Duration::from_micros(clock.load(Ordering::Relaxed));
    breaker.apply(Command::Reset, now);
    for _ in 0..4 {
        breaker.acquire(now).unwrap().failure(now, ms(0), "Failure");
    }
    let later = now + ms(2);
    let held: Vec<_> = std::iter::from_fn(|| breaker.acquire(later).ok()).take(10).collect();
    assert_eq!(held.len() as u32, PROBES);
    drop(held);
    assert_eq!(breaker.snapshot(later).probes_left, Some(PROBES));
}

#[test]
fn every_result_is_counted_exactly_once() {
    let origin = start();
    let config = Config {
        window: SlidingWindow::CountBased(50),
        minimum_calls: 5,
        failure_rate_threshold: 60,
        open_wait: ms(1),
        open_wait_max: ms(1),
        open_wait_factor: 1.0,
        ..Config::default()
    };
    let told = Arc::new(AtomicU64::new(0));
    let observed = Arc::clone(&told);
    let breaker = CircuitBreaker::builder("threads", config, 0)
        .observer(move |_| {
            observed.fetch_add(1, Ordering::Relaxed);
        })
        .build(origin)
        .unwrap();
    let workers: Vec<_> = (1..=THREADS)
        .map(|seed| {
            let breaker = breaker.clone();
            thread::spawn(move || {
                let mut random = seed * 0x9E37_79B9;
                let (mut permitted, mut rejected) = (0_u64, 0_u64);
                for turn in 0..30_000_u64 {
                    let now = origin + Duration::from_micros(turn * 20);
                    let Ok(ticket) = breaker.acquire(now) else {
                        rejected += 1;
                        continue;
                    };
                    permitted += 1;
                    match next(&mut random) % 64 {
                        0 => ticket.failure(now, ms(0), "Failure"),
                        1 => ticket.ignored(),
                        2 => drop(ticket),
                        3 => ticket.success(now, ms(800)),
                        4 if turn % 500 == 0 => {
                            let seen = breaker.snapshot(now).buffered;
                            assert!(seen.calls <= 50 && seen.failed <= seen.calls, "{seen:?}");
                            ticket.ignored();
                        }
                        // A bad second now and then, so that it opens.
                        _ if turn % 10_000 > 9_950 => ticket.failure(now, ms(0), "Failure"),
                        _ => ticket.success(now, ms(1)),
                    }
                }
                (permitted, rejected)
            })
        })
        .collect();
    let (mut permitted, mut rejected) = (0, 0);
    for worker in workers {
        let (more_permitted, more_rejected) = worker.join().unwrap();
        permitted += more_permitted;
        rejected += more_rejected;
    }
    let seen = breaker.snapshot(origin + ms(600));
    let totals = seen.totals;
    let settled = totals.successful + totals.failed + totals.ignored + totals.abandoned + totals.stale;
    assert_eq!(settled, permitted);
    assert_eq!(totals.not_permitted, rejected);
    let changes: u64 = seen.transitions.iter().map(|(_, _, count)| count).sum();
    assert_eq!(changes, told.load(Ordering::Relaxed));
    assert_eq!(seen.generation, changes + 1);
}
