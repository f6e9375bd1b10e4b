//! Rules that the recorded cases don't hold: time-based windows, jitter, deadlines, commands, events, tickets.

use std::sync::{Arc, Mutex};

use super::{super::*, Duration, ms, start};

fn config() -> Config {
    Config {
        window: SlidingWindow::CountBased(10),
        minimum_calls: 5,
        open_wait: ms(5_000),
        open_wait_factor: 1.0,
        open_wait_max: ms(5_000),
        open_wait_jitter: 0,
        half_open_max: Some(ms(2_000)),
        automatic_half_open: false,
        ..Config::default()
    }
}

fn build(config: Config, now: Instant) -> CircuitBreaker {
    CircuitBreaker::builder("rules", config, 7).build(now).unwrap()
}

fn fail(breaker: &CircuitBreaker, now: Instant, times: usize) {
    for _ in 0..times {
        breaker.acquire(now).unwrap().failure(now, ms(0), "ReadTimeout");
    }
}

fn succeed(breaker: &CircuitBreaker, now: Instant, times: usize) {
    for _ in 0..times {
        breaker.acquire(now).unwrap().success(now, ms(0));
    }
}

fn state(breaker: &CircuitBreaker, now: Instant) -> State {
    breaker.snapshot(now).state
}

#[test]
fn handles_and_tickets_travel_between_threads() {
    fn travels<T: Send + 'static>() {}
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    travels::<Ticket>();
    is_shared::<CircuitBreaker>();
}

#[test]
fn settings_out_of_range_stop_the_build() {
    let refused =
        CircuitBreaker::builder("rules", Config { half_open_calls: 0, ..config() }, 0).build(start());
    assert_eq!(refused.map_err(|e| e.field).err(), Some("half_open_calls"));
}

#[test]
fn a_time_based_window_forgets_by_the_clock() {
    let t = start();
    let breaker = build(Config { window: SlidingWindow::TimeBased(10), ..config() }, t);
    fail(&breaker, t, 4);
    succeed(&breaker, t + ms(9_999), 1);
    assert_eq!(state(&breaker, t + ms(9_999)), State::Open);

    let breaker = build(Config { window: SlidingWindow::TimeBased(10), ..config() }, t);
    fail(&breaker, t, 4);
    succeed(&breaker, t + ms(10_000), 1);
    let seen = breaker.snapshot(t + ms(10_000));
    assert_eq!((seen.state, seen.buffered.calls, seen.failure_rate), (State::Closed, 1, None));
}

#[test]
fn in_a_time_based_window_a_success_trips_once_older_ones_are_gone() {
    let t = start();
    let breaker = build(Config { window: SlidingWindow::TimeBased(2), ..config() }, t);
    succeed(&breaker, t, 20);
    fail(&breaker, t + ms(1_500), 4);
    assert_eq!(state(&breaker, t + ms(1_500)), State::Closed);
    succeed(&breaker, t + ms(2_000), 1);
    assert_eq!(state(&breaker, t + ms(2_000)), State::Open);
}

#[test]
fn the_wait_is_lengthened_by_ten_to_twenty_percent_differently_per_seed() {
    let t = start();
    let waits: Vec<Duration> = (0..200)
        .map(|seed| {
            let config = Config { open_wait_jitter: 20, ..config() };
            let breaker = CircuitBreaker::builder("rules", config, seed).build(t).unwrap();
            fail(&breaker, t, 5);
            breaker.acquire(t).unwrap_err().retry_after
        })
        .collect();
    assert!(waits.iter().all(|wait| (ms(5_500)..=ms(6_001)).contains(wait)), "{waits:?}");
    let spread = *waits.iter().max().unwrap() - *waits.iter().min().unwrap();
    assert!(spread > ms(450), "{spread:?}");
}

#[test]
fn after_the_time_a_rejection_names_a_call_is_a_probe_and_not_before() {
    let t = start();
    for seed in 0..50 {
        let config = Config { open_wait_jitter: 20, ..config() };
        let breaker = CircuitBreaker::builder("rules", config, seed).build(t).unwrap();
        fail(&breaker, t, 5);
        let rejected = breaker.acquire(t + ms(1_234)).unwrap_err();
        let then = t + ms(1_234) + rejected.retry_after;
        assert!(breaker.acquire(then - Duration::from_nanos(1)).is_err());
        assert!(breaker.acquire(then).unwrap().is_probe());
    }
}

#[test]
fn a_half_open_period_without_results_opens_again_from_its_deadline() {
    let t = start();
    let breaker = build(config(), t);
    fail(&breaker, t, 5);
    let stuck = breaker.acquire(t + ms(5_001)).unwrap();
    assert_eq!(state(&breaker, t + ms(7_001)), State::HalfOpen);
    // Nobody looked in between; the late result finds the period over.
    stuck.success(t + ms(7_002), ms(2_001));
    let seen = breaker.snapshot(t + ms(7_002));
    assert_eq!((seen.state, seen.totals.stale, seen.since), (State::Open, 1, t + ms(7_001)));
    assert!(breaker.acquire(t + ms(12_001)).is_err());
    assert!(breaker.acquire(t + ms(12_002)).is_ok());
}

#[test]
fn a_half_open_period_outlasts_a_service_that_is_well_but_seldom_called() {
    let t = start();
    let breaker = build(config(), t);
    fail(&breaker, t, 5);
    for at in [6_000, 60_000] {
        succeed(&breaker, t + ms(at), 1);
        assert_eq!(state(&breaker, t + ms(at + 50_000)), State::HalfOpen);
    }
    // A probe that never ends is still given up, counted from when it began.
    let hangs = breaker.acquire(t + ms(120_000)).unwrap();
    assert_eq!(state(&breaker, t + ms(122_000)), State::HalfOpen);
    assert_eq!(state(&breaker, t + ms(122_001)), State::Open);
    hangs.success(t + ms(122_002), ms(2));
    assert_eq!(state(&breaker, t + ms(122_002)), State::Open);
}

#[test]
fn an_idle_breaker_goes_half_open_when_looked_at_and_waits_there_for_a_call() {
    let t = start();
    let breaker = build(Config { automatic_half_open: true, ..config() }, t);
    fail(&breaker, t, 5);
    assert_eq!(state(&breaker, t + ms(5_000)), State::Open);
    assert_eq!(state(&breaker, t + ms(5_001)), State::HalfOpen);
    // The deadline runs from the first probe, so a quiet night doesn't end in OPEN.
    let morning = t + Duration::from_secs(30_000);
    assert_eq!(state(&breaker, morning), State::HalfOpen);
    for _ in 0..3 {
        breaker.acquire(morning).unwrap().success(morning, ms(0));
    }
    assert_eq!(state(&breaker, morning), State::Closed);
}

#[test]
fn commands_move_it_and_nothing_else_ends_what_they_began() {
    let t = start();
    let breaker = build(config(), t);
    breaker.apply(Command::ForceOpen, t);
    let rejected = breaker.acquire(t + Duration::from_secs(86_400)).unwrap_err();
    assert_eq!((rejected.state, rejected.retry_after), (State::ForcedOpen, ms(5_000)));
    breaker.apply(Command::ForceOpen, t);
    assert_eq!(breaker.snapshot(t).generation, 2, "the same command again changes nothing");

    breaker.apply(Command::MetricsOnly, t);
    fail(&breaker, t, 20);
    let seen = breaker.snapshot(t);
    assert_eq!((seen.state, seen.buffered.failed), (State::MetricsOnly, 10));
    assert_eq!(seen.failure_percent(), 100.0);

    breaker.apply(Command::Disable, t);
    fail(&breaker, t, 20);
    assert_eq!(breaker.snapshot(t).buffered.calls, 0);

    breaker.apply(Command::Close, t);
    fail(&breaker, t, 4);
    breaker.apply(Command::Close, t);
    assert_eq!(breaker.snapshot(t).buffered.calls, 4, "closing what is closed keeps the window");
    breaker.apply(Command::Reset, t);
    let seen = breaker.snapshot(t);
    assert_eq!((seen.state, seen.buffered.calls, seen.totals.failed), (State::Closed, 0, 24));
}

#[test]
fn reset_makes_tickets_stale_and_the_wait_short_again() {
    let t = start();
    let breaker = build(Config { open_wait_factor: 2.0, open_wait_max: ms(60_000), ..config() }, t);
    fail(&breaker, t, 5);
    let late = t + ms(5_001);
    fail(&breaker, late, 3);
    assert_eq!(breaker.snapshot(late).retry_after, Some(ms(10_000) + Duration::from_nanos(1)));
    breaker.apply(Command::Reset, late);
    let ticket = breaker.acquire(late).unwrap();
    breaker.apply(Command::Reset, late);
    assert!(!ticket.is_current());
    ticket.failure(late, ms(0), "Late");
    let seen = breaker.snapshot(late);
    assert_eq!((seen.buffered.calls, seen.totals.stale), (0, 1));
    fail(&breaker, late, 5);
    assert_eq!(breaker.snapshot(late).retry_after, Some(ms(5_000) + Duration::from_nanos(1)));
}

#[test]
fn a_retry_loop_sees_that_its_breaker_has_moved_on() {
    let t = start();
    let breaker = build(config(), t);
    let ticket = breaker.acquire(t).unwrap();
    assert!(ticket.is_current());
    fail(&breaker, t, 5);
    assert!(!ticket.is_current());
    drop(breaker);
    assert!(!ticket.is_current(), "a breaker that is gone has no calls");
    ticket.success(t, ms(0));
}

#[test]
fn a_panic_while_the_call_is_under_way_is_a_failure() {
    let t = start();
    let breaker = build(config(), t);
    for _ in 0..5 {
        let ticket = breaker.acquire(t).unwrap();
        let call = std::panic::AssertUnwindSafe(move || {
            let _held = ticket;
            std::panic::resume_unwind(Box::new("the call panics"));
        });
        assert!(std::panic::catch_unwind(call).is_err());
    }
    let seen = breaker.snapshot(t);
    assert_eq!((seen.state, seen.last_failure, seen.totals.abandoned), (State::Open, Some("Panic"), 0));
}

#[test]
fn the_observer_is_told_in_order_may_use_the_breaker_and_gets_the_lines_operators_search_for() {
    let t = start();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let itself: Arc<Mutex<Option<CircuitBreaker>>> = Arc::default();
    let (log, again) = (Arc::clone(&lines), Arc::clone(&itself));
    let breaker = CircuitBreaker::builder("pg-payment", config(), 0)
        .observer(move |change| {
            // With a lock held this would never return.
            let seen = again.lock().unwrap().as_ref().map(|breaker| breaker.snapshot(change.at));
            assert!(seen.is_none_or(|seen| seen.generation >= change.generation));
            assert_eq!(&*change.breaker, "pg-payment");
            let mut log = log.lock().unwrap();
            log.push(change.to_string());
            log.extend(change.opened().map(|opened| opened.to_string()));
        })
        .build(t)
        .unwrap();
    *itself.lock().unwrap() = Some(breaker.clone());
    succeed(&breaker, t, 4);
    fail(&breaker, t, 2);
    let probe = t + ms(5_001);
    for _ in 0..3 {
        breaker.acquire(probe).unwrap().success(probe, ms(701));
    }
    let stuck = breaker.acquire(t + ms(10_002)).unwrap();
    breaker.apply(Command::Disable, t + ms(12_003));
    drop(stuck);
    itself.lock().unwrap().take();
    assert_eq!(
        *lines.lock().unwrap(),
        [
            "CircuitBreaker state changed: CLOSED -> OPEN",
            "CircuitBreaker opened. reason=33.3%, lastException=ReadTimeout",
            "CircuitBreaker state changed: OPEN -> HALF_OPEN",
            "CircuitBreaker state changed: HALF_OPEN -> OPEN",
            "CircuitBreaker opened. reason=100.0% slow, lastException=none",
            "CircuitBreaker state changed: OPEN -> HALF_OPEN",
            "CircuitBreaker state changed: HALF_OPEN -> OPEN",
            "CircuitBreaker opened. reason=half-open deadline, lastException=none",
            "CircuitBreaker state changed: OPEN -> DISABLED",
        ]
    );
}

#[test]
fn clock_readings_that_overtake_each_other_do_no_harm() {
    let t = start() + Duration::from_secs(100);
    for window in [SlidingWindow::CountBased(10), SlidingWindow::TimeBased(10)] {
        let breaker = build(Config { window, ..config() }, t);
        let before = t.checked_sub(Duration::from_secs(50)).unwrap();
        fail(&breaker, t + ms(3_000), 2);
        fail(&breaker, before, 3);
        assert_eq!(state(&breaker, t), State::Open);
        assert!(breaker.acquire(before).is_err());
        assert!(breaker.snapshot(before).retry_after.is_some());
    }
}

#[test]
fn a_stripe_that_is_full_of_successes_hands_them_in() {
    // 65535 successes fit into a stripe; the next one takes the lock and empties it.
    let t = start();
    let breaker = build(config(), t);
    let calls = 200_000_u64;
    for _ in 0..calls {
        breaker.acquire_as(0, t).unwrap().success(t, ms(0));
    }
    assert_eq!(breaker.snapshot(t).totals.successful, calls);
}
