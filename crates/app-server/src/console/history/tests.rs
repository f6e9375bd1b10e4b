use super::*;

const TEXT: &str = "\
order_placed_total{result=\"paid\"} 3
order_placed_total{result=\"confirming\"} 1
order_placed_total{result=\"refused\"} 2
order_placed_total{result=\"circuit_open\"} 4
order_placed_total{result=\"invalid\"} 9
orders_refused_total 1
pg_request_latency_seconds_bucket{operation=\"charge\",result=\"accepted\",le=\"0.5\"} 2
pg_request_latency_seconds_bucket{operation=\"charge\",result=\"accepted\",le=\"+Inf\"} 2
pg_request_latency_seconds_bucket{operation=\"charge\",result=\"uncertain\",le=\"+Inf\"} 1
pg_request_latency_seconds_bucket{operation=\"probe\",result=\"found\",le=\"+Inf\"} 7
database_pool_connections{pool=\"settlement\",state=\"max\"} 8
database_pool_connections{pool=\"api\",state=\"in_use\"} 2
database_pool_connections{pool=\"api\",state=\"idle\"} 1
database_pool_connections{pool=\"api\",state=\"max\"} 4
database_pool_waiting{pool=\"api\"} 5
";

fn circuit(state: &str, failure_rate: f64) -> CircuitBody {
    CircuitBody {
        name: "pg-payment".to_owned(),
        state: state.to_owned(),
        failure_rate,
        slow_call_rate: -1.0,
        buffered_calls: 0,
        not_permitted_calls: 0,
        retry_after: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_sample_has_the_numbers_of_the_scrape() {
    let sample = Sample::read(Instant::now(), TEXT, &[circuit("OPEN", 50.0)]);
    assert_eq!(sample.orders, Orders { accepted: 4, refused: 2, troubled: 5 });
    assert_eq!((sample.charges.total(), sample.look_ups.total()), (3, 7));
    let names: Vec<_> = sample.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["api", "settlement"]);
    let api = Pool { name: "api".to_owned(), in_use: 2, idle: 1, max: 4, waiting: 5 };
    assert_eq!(sample.pools[0], api);
    assert_eq!((sample.circuits[0].state, known_state("?")), ("OPEN", "UNKNOWN"));
}

/// One sample every ten seconds; the counter grows by one each.
fn filled(samples: u64, state: impl Fn(u64) -> &'static str) -> History {
    let (start, mut history) = (Instant::now(), History::default());
    for nth in 0..samples {
        let at = start + Duration::from_secs(10 * nth);
        let text = format!("order_placed_total{{result=\"paid\"}} {nth}\n");
        history.push(Sample::read(at, &text, &[circuit(state(nth), -1.0)]));
    }
    history
}

#[tokio::test(start_paused = true)]
async fn orders_are_counted_by_the_minute() {
    let history = filled(16, |_| "CLOSED");
    assert_eq!(history.orders(Duration::from_secs(60)).accepted, 6);
    assert_eq!(history.orders(SPAN).accepted, 15, "no more than was recorded");
    let minutes: Vec<_> =
        history.orders_by_minute(4).into_iter().map(|orders| orders.map(Orders::total)).collect();
    assert_eq!(minutes, [None, Some(3), Some(6), Some(6)]);
    assert_eq!(History::default().orders_by_minute(2), [None, None]);
    assert_eq!(History::default().orders(SPAN), Orders::default());
}

#[tokio::test(start_paused = true)]
async fn the_oldest_samples_make_room() {
    let history = filled(CAPACITY as u64 + 10, |_| "CLOSED");
    assert_eq!(history.samples.len(), CAPACITY);
    assert_eq!(history.samples[0].orders.accepted, 10);
}

#[tokio::test(start_paused = true)]
async fn states_follow_each_other_without_gaps() {
    let history = filled(361, |nth| if (100..110).contains(&nth) { "OPEN" } else { "CLOSED" });
    let runs = history.states("pg-payment");
    let states: Vec<_> = runs.iter().map(|run| run.state).collect();
    assert_eq!(states, ["CLOSED", "OPEN", "CLOSED"]);
    assert!(runs[0].from.abs() < 1e-9 && (runs[2].to - 1.0).abs() < 1e-9, "{runs:?}");
    assert!((runs[1].from - 100.0 / 360.0).abs() < 1e-9 && (runs[1].to - 110.0 / 360.0).abs() < 1e-9);
    assert!(runs.windows(2).all(|two| (two[0].to - two[1].from).abs() < 1e-9));
    assert!(history.states("other").is_empty());
    assert!(history.failure_rates("pg-payment").iter().all(|(_, rate)| rate.is_none()));
}
