//! All interleavings of two or three threads, by the model checker loom. Only with the feature of that name:
//! `cargo test -p adapters-pg --lib --features loom breaker::tests::interleavings`

use loom::{
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use super::{super::*, ms, start};

/// Explores with at most `preemptions` forced switches between threads; loom's authors found that two or three of them
/// suffice for nearly all bugs.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn config() -> Config {
    Config {
        window: SlidingWindow::CountBased(4),
        minimum_calls: 2,
        failure_rate_threshold: 50,
        open_wait: ms(10),
        open_wait_max: ms(10),
        open_wait_factor: 1.0,
        open_wait_jitter: 0,
        half_open_calls: 2,
        half_open_max: None,
        ..Config::default()
    }
}

fn build(config: Config, now: Instant) -> CircuitBreaker {
    CircuitBreaker::builder("loom", config, 0).build(now).unwrap()
}

/// Closed and with known rates: from here on successes are counted in the stripes.
fn warm(config: Config, now: Instant) -> CircuitBreaker {
    let breaker = build(config, now);
    for _ in 0..2 {
        breaker.acquire(now).unwrap().success(now, ms(0));
    }
    breaker
}

fn open(config: Config, now: Instant) -> CircuitBreaker {
    let breaker = build(config, now);
    for _ in 0..2 {
        breaker.acquire(now).unwrap().failure(now, ms(0), "Failure");
    }
    breaker
}

#[test]
fn successes_of_two_stripes_are_all_counted_while_a_third_thread_fails_and_looks() {
    let now = start();
    explore(2, move || {
        let breaker = warm(Config { failure_rate_threshold: 100, ..config() }, now);
        let succeed = |stripe: usize| {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.acquire_as(stripe, now).unwrap().success(now, ms(0)))
        };
        let threads = [succeed(0), succeed(1)];
        breaker.acquire_as(0, now).unwrap().failure(now, ms(0), "Failure");
        let between = breaker.snapshot(now);
        assert_eq!(between.totals.failed, 1);
        assert!((2..=4).contains(&between.totals.successful));
        for thread in threads {
            thread.join().unwrap();
        }
        let seen = breaker.snapshot(now);
        assert_eq!((seen.totals.successful, seen.totals.failed, seen.totals.stale), (4, 1, 0));
        assert_eq!((seen.buffered.calls, seen.buffered.failed), (4, 1));
    });
}

#[test]
fn a_success_that_races_with_the_opening_is_counted_or_stale_never_both_nor_in_the_next_window() {
    let now = start();
    explore(6, move || {
        let breaker = warm(Config { window: SlidingWindow::CountBased(5), ..config() }, now);
        let ticket = breaker.acquire_as(1, now).unwrap();
        let late = thread::spawn(move || ticket.success(now, ms(0)));
        // Beside two successes two failures make 50 %, beside three 40 %.
        for _ in 0..2 {
            breaker.acquire_as(0, now).unwrap().failure(now, ms(0), "Failure");
        }
        let opened = breaker.snapshot(now).state == State::Open;
        late.join().unwrap();
        let seen = breaker.snapshot(now);
        let (successful, stale, buffered) = if opened { (2, 1, 4) } else { (3, 0, 5) };
        assert_eq!(seen.state == State::Open, opened);
        assert_eq!((seen.totals.successful, seen.totals.stale), (successful, stale));
        assert_eq!((seen.buffered.calls, seen.buffered.failed), (buffered, 2));
    });
}

#[test]
fn a_late_success_never_enters_a_stripe_that_was_opened_again() {
    let now = start();
    explore(6, move || {
        let breaker = warm(config(), now);
        let ticket = breaker.acquire_as(1, now).unwrap();
        let late = thread::spawn(move || ticket.success(now, ms(0)));
        breaker.apply(Command::Reset, now);
        for _ in 0..2 {
            breaker.acquire_as(0, now).unwrap().success(now, ms(0));
        }
        late.join().unwrap();
        let seen = breaker.snapshot(now);
        assert_eq!(seen.buffered.calls, 2);
        assert_eq!(seen.totals.successful + seen.totals.stale, 5);
    });
}

#[test]
fn nothing_passes_once_a_thread_has_seen_it_open() {
    let now = start();
    explore(6, move || {
        let breaker = warm(Config { minimum_calls: 2, failure_rate_threshold: 1, ..config() }, now);
        let failing = breaker.acquire_as(0, now).unwrap();
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || {
                let early = breaker.acquire_as(1, now).ok();
                let open = breaker.snapshot(now).state == State::Open;
                let late = breaker.acquire_as(1, now);
                assert!(!(open && late.is_ok()), "passed an open breaker");
                drop((early, late));
            })
        };
        failing.failure(now, ms(0), "Failure");
        assert!(breaker.acquire_as(0, now).is_err());
        other.join().unwrap();
        assert!(breaker.acquire_as(1, now).is_err());
    });
}

#[test]
fn three_callers_of_an_open_breaker_get_two_probes() {
    let now = start();
    explore(4, move || {
        let breaker = open(config(), now);
        let after = now + ms(11);
        let out = Arc::new(AtomicU32::new(0));
        let caller = || {
            let (breaker, out) = (breaker.clone(), Arc::clone(&out));
            move || {
                if let Ok(ticket) = breaker.acquire(after) {
                    assert!(out.fetch_add(1, Ordering::AcqRel) < 2, "a third probe");
                    assert!(ticket.is_probe());
                    out.fetch_sub(1, Ordering::AcqRel);
                    drop(ticket);
                }
            }
        };
        let threads = [thread::spawn(caller()), thread::spawn(caller())];
        caller()();
        for thread in threads {
            thread.join().unwrap();
        }
        let seen = breaker.snapshot(after);
        assert_eq!((seen.state, seen.probes_left), (State::HalfOpen, Some(2)));
    });
}

#[test]
fn a_stale_probe_gives_no_permit_to_the_next_period() {
    let now = start();
    explore(6, move || {
        let breaker = open(config(), now);
        let (first, second) = (now + ms(11), now + ms(22));
        let stale = breaker.acquire(first).unwrap();
        breaker.acquire(first).unwrap().failure(first, ms(0), "Failure");
        // One of two results doesn't decide, and the other probe is still out.
        assert_eq!(breaker.acquire(first).unwrap_err().state, State::HalfOpen);
        let dropping = thread::spawn(move || drop(stale));
        breaker.apply(Command::ForceOpen, first);
        breaker.apply(Command::Reset, first);
        for _ in 0..2 {
            breaker.acquire(first).unwrap().failure(first, ms(0), "Failure");
        }
        let probes: Vec<_> = (0..2).map(|_| breaker.acquire(second).unwrap()).collect();
        assert!(breaker.acquire(second).is_err());
        dropping.join().unwrap();
        assert!(breaker.acquire(second).is_err());
        let totals = breaker.snapshot(second).totals;
        assert_eq!(totals.abandoned + totals.stale, 1);
        drop(probes);
        assert_eq!(breaker.snapshot(second).probes_left, Some(2));
    });
}
