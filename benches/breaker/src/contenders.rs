//! The breakers that are compared, each as a loop of guarded successful calls.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use adapters_pg::breaker::{CircuitBreaker, Config, SlidingWindow};
use tower::{Layer, Service, service_fn};

pub(crate) const OURS: &str = "ours, count-based";
pub(crate) const OURS_TIME_GIVEN: &str = "ours, count-based, time given";
pub(crate) const OURS_TSC: &str = "ours, count-based, quanta's clock";

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) is_peer: bool,
    /// Whether it can tell a slow call from a quick one: `yes`, `no`, or `caller`, who could with what is measured here.
    pub(crate) slow_calls: &'static str,
    pub(crate) reads_clock: bool,
    /// Makes so many calls. A loop, so that the dynamic call is not measured.
    pub(crate) calls: Box<dyn Fn(u32) + Sync>,
}

fn ours(name: &'static str, calls: impl Fn(u32) + Sync + 'static) -> Contender {
    Contender { name, is_peer: false, slow_calls: "yes", reads_clock: true, calls: Box::new(calls) }
}

fn peer(
    name: &'static str,
    slow_calls: &'static str,
    reads_clock: bool,
    calls: impl Fn(u32) + Sync + 'static,
) -> Contender {
    Contender { name, is_peer: true, slow_calls, reads_clock, calls: Box::new(calls) }
}

/// The call that is guarded: the compiler can't see through it, and it costs next to nothing.
fn work() -> Result<u64, io::Error> {
    Ok(black_box(1))
}

pub(crate) fn contenders() -> Vec<Contender> {
    vec![
        base_line(),
        guarded(OURS, Config::default(), 0),
        guarded("ours, time-based", Config { window: SlidingWindow::TimeBased(10), ..Config::default() }, 0),
        guarded("ours, count-based, 3 % of the calls fail", Config::default(), 33),
        tsc(),
        time_given(),
        failsafe(),
        recloser(),
        recloser_timed(),
        tower_resilience(),
        circuitbreaker_rs(),
        nobreak(),
        nobreak_timed(),
        execution_policy(),
    ]
}

fn base_line() -> Contender {
    ours("two clock reads (base line)", |calls| {
        for _ in 0..calls {
            let start = Instant::now();
            let _result = black_box(work());
            black_box(start.elapsed());
        }
    })
}

fn build(config: Config) -> CircuitBreaker {
    CircuitBreaker::builder("bench", config, 1).build(Instant::now()).expect("the settings are in range")
}

/// As the adapter uses it: the time before and after, and the duration in between. Every `fails_every`th call fails.
fn guarded(name: &'static str, config: Config, fails_every: u32) -> Contender {
    let breaker = build(config);
    ours(name, move |calls| {
        for call in 1..=calls {
            let start = Instant::now();
            let ticket = breaker.acquire(start).expect("closed");
            let _result = black_box(work());
            let end = Instant::now();
            if fails_every != 0 && call % fails_every == 0 {
                ticket.failure(end, end - start, "Failure");
            } else {
                ticket.success(end, end - start);
            }
        }
    })
}

/// The same with the processor's time stamp counter for a clock: the breaker takes its time from the caller, and so from
/// whatever clock is at hand.
fn tsc() -> Contender {
    let breaker = build(Config::default());
    let clock = quanta::Clock::new();
    let (began, origin) = (clock.now(), Instant::now());
    ours(OURS_TSC, move |calls| {
        for _ in 0..calls {
            let start = origin + clock.now().duration_since(began);
            let ticket = breaker.acquire(start).expect("closed");
            let _result = black_box(work());
            let end = origin + clock.now().duration_since(began);
            ticket.success(end, end - start);
        }
    })
}

fn time_given() -> Contender {
    let breaker = build(Config::default());
    let now = Instant::now();
    let mut contender = ours(OURS_TIME_GIVEN, move |calls| {
        for _ in 0..calls {
            let ticket = breaker.acquire(black_box(now)).expect("closed");
            let _result = black_box(work());
            ticket.success(black_box(now), black_box(Duration::from_millis(1)));
        }
    });
    contender.reads_clock = false;
    contender
}

fn failsafe() -> Contender {
    use failsafe::CircuitBreaker;
    let breaker = failsafe::Config::new().build();
    peer("failsafe 1.3.0", "no", true, move |calls| {
        for _ in 0..calls {
            black_box(breaker.call(work)).expect("closed");
        }
    })
}

fn build_recloser() -> recloser::Recloser {
    recloser::Recloser::custom()
        .error_rate(0.3)
        .closed_len(100)
        .half_open_len(3)
        .open_wait(Duration::from_secs(5))
        .build()
}

fn recloser() -> Contender {
    let breaker = build_recloser();
    peer("recloser 1.4.0", "no", false, move |calls| {
        for _ in 0..calls {
            assert!(black_box(breaker.call(work)).is_ok());
        }
    })
}

/// With what a caller has to add who wants to know how long the call took.
fn recloser_timed() -> Contender {
    let breaker = build_recloser();
    peer("recloser 1.4.0, caller reads the clock twice", "caller", true, move |calls| {
        for _ in 0..calls {
            let start = Instant::now();
            assert!(black_box(breaker.call(work)).is_ok());
            black_box(start.elapsed());
        }
    })
}

fn tower_resilience() -> Contender {
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.3)
        .sliding_window_size(100)
        .minimum_number_of_calls(20)
        .slow_call_duration_threshold(Duration::from_millis(700))
        .slow_call_rate_threshold(0.5)
        .build()
        .expect("the settings are in range");
    fn answer(_request: ()) -> Ready<Result<u64, Infallible>> {
        ready(Ok(black_box(1)))
    }
    let service = layer.layer(service_fn(answer as fn(()) -> Ready<Result<u64, Infallible>>));
    peer("tower-resilience-circuitbreaker 0.14.0", "yes", true, move |calls| {
        let mut service = service.clone();
        let waker = this_thread();
        let mut context = Context::from_waker(&waker);
        for _ in 0..calls {
            while service.poll_ready(&mut context).is_pending() {
                thread::park();
            }
            assert!(black_box(block_on(&waker, service.call(()))).is_ok());
        }
    })
}

fn circuitbreaker_rs() -> Contender {
    let breaker = circuitbreaker_rs::CircuitBreaker::<circuitbreaker_rs::DefaultPolicy, io::Error>::builder()
        .with_error_type::<io::Error>()
        .failure_threshold(0.3)
        .min_throughput(20)
        .cooldown(Duration::from_secs(5))
        .probe_interval(3)
        .build();
    // It measures durations, and gives them to a sink for metrics; its policies don't see them.
    peer("circuitbreaker-rs 0.1.1", "no", true, move |calls| {
        for _ in 0..calls {
            assert!(black_box(breaker.call(work)).is_ok());
        }
    })
}

fn build_nobreak() -> nobreak::CircuitBreaker {
    nobreak::builder().with_open_duration(Duration::from_secs(5)).build()
}

fn nobreak() -> Contender {
    let breaker = build_nobreak();
    peer("nobreak 0.1.0", "no", false, move |calls| {
        for _ in 0..calls {
            assert!(black_box(breaker.call(work)).is_ok());
        }
    })
}

/// With what a caller has to add who wants to know how long the call took.
fn nobreak_timed() -> Contender {
    let breaker = build_nobreak();
    peer("nobreak 0.1.0, caller reads the clock twice", "caller", true, move |calls| {
        for _ in 0..calls {
            let start = Instant::now();
            assert!(black_box(breaker.call(work)).is_ok());
            black_box(start.elapsed());
        }
    })
}

fn execution_policy() -> Contender {
    use execution_policy::{CircuitBreaker, ExecutionPolicyBuilder};
    let breaker = CircuitBreaker::failure_ratio()
        .ratio(0.3)
        .minimum_throughput(20)
        .sampling_window(Duration::from_secs(10))
        .open_for(Duration::from_secs(5))
        .half_open_max_calls(3);
    let policy = ExecutionPolicyBuilder::<u64, io::Error>::new().circuit_breaker(breaker).build();
    peer("execution-policy 0.0.6", "no", true, move |calls| {
        let waker = this_thread();
        for _ in 0..calls {
            let result = block_on(&waker, policy.run(async || work()));
            assert!(black_box(result).is_ok());
        }
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn this_thread() -> Waker {
    Arc::new(Unpark(thread::current())).into()
}

fn block_on<F: Future>(waker: &Waker, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
