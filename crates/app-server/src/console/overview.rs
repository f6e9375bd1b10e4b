//! The overview: what is wrong, and the numbers that say why. It works without the database.

use super::alarms::{Alarm, Facts, alarms};
use super::chart::{self, Chart, Rect};
use super::circuits::{CircuitPanel, panels};
use super::format::{latency, length, percent};
use super::history::{Calls, History, Orders};
use super::page::{Context, Frame, Nav, answer, html};
use crate::http::failure::{Case, Failure};
use crate::texts::{Texts, grouped};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;
use domain::ports::{PaymentStatistics, StoreError, Worklist};
use domain::settlement::DiscrepancyKind;
use std::time::Duration;

/// So many of the next looks are held against the clock.
const LOOKED_AT: u32 = 200;
/// The database gets no longer than this: the page is needed most when it is away.
const PATIENCE: Duration = Duration::from_secs(3);
/// Latencies are drawn in steps of this length ...
const STEP: Duration = Duration::from_secs(30);
/// ... and so many of them.
const STEPS: u32 = 60;

/// Payments of an age.
struct AgeRow {
    name: &'static str,
    count: String,
    link: &'static str,
    rects: Vec<Rect>,
}

/// Latencies of one kind of call.
struct LatencyPanel {
    title: &'static str,
    chart: Chart,
    /// Of the last five minutes: name and value.
    quantiles: Vec<(&'static str, String)>,
    calls: String,
    slow: String,
}

struct PoolRow {
    name: String,
    text: String,
    waiting: u64,
    rects: Vec<Rect>,
}

#[derive(Template)]
#[template(path = "console/overview.html")]
struct OverviewPage {
    frame: Frame,
    t: Texts,
    alarms: Vec<Alarm>,
    last_minute: String,
    share: String,
    five_minutes: Orders,
    orders: Chart,
    /// None when the database can't be read.
    payments: Option<Payments>,
    latencies: Vec<LatencyPanel>,
    circuits: Vec<CircuitPanel>,
    pools: Vec<PoolRow>,
}

/// What the database says.
struct Payments {
    unsettled: String,
    any_unsettled: bool,
    oldest: Option<String>,
    ages: Vec<AgeRow>,
    open: String,
    kinds: Vec<(&'static str, u64)>,
    watched: String,
}

/// Shows the overview.
pub(super) async fn show(context: Context) -> HttpResponse {
    answer(&context, async {
        let read = read_database(&context).await;
        if let Err(failure) = &read {
            failure.log();
        }
        let database = read.ok();
        Ok(html(&page(&context, database.as_ref()), StatusCode::OK))
    })
    .await
}

async fn read_database(context: &Context) -> Result<(PaymentStatistics, Worklist), Failure> {
    let asked = context.ops.runner.run(|app| async move {
        let queries = app.queries();
        let statistics = queries.statistics().await?;
        Ok::<_, StoreError>((statistics, queries.worklist(LOOKED_AT).await?))
    });
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(read) => read,
        Err(_) => Err(Case::DatabaseUnavailable.into()),
    }
}

fn page(context: &Context, database: Option<&(PaymentStatistics, Worklist)>) -> OverviewPage {
    let t = context.texts();
    let history = context.console.history.read();
    let circuits = context.ops.circuits.list();
    let minute = Duration::from_secs(60);
    let five_minutes = history.orders(5 * minute);
    let facts = Facts {
        database: database.map(|(statistics, worklist)| (statistics, worklist)),
        circuits: &circuits,
        orders: five_minutes,
        policy: context.ops.runner.application.policy(),
        t,
    };
    let alarms = alarms(&facts);
    let title = if alarms.is_empty() {
        t.say("overview").to_owned()
    } else {
        format!("({}) {}", alarms.len(), t.say("overview"))
    };
    let mut frame = context.frame(Nav::Overview, title);
    if let Some((_, worklist)) = database {
        frame = frame.at(worklist.now);
    }
    OverviewPage {
        frame,
        t,
        alarms,
        last_minute: grouped(history.orders(minute).total()),
        share: percent(five_minutes.accepted, five_minutes.total()),
        five_minutes,
        orders: orders_chart(context, &history),
        payments: database.map(|(statistics, worklist)| payments(context, statistics, worklist)),
        latencies: vec![
            latency_panel(context, &history, Calls::Charges),
            latency_panel(context, &history, Calls::LookUps),
        ],
        circuits: panels(context, &circuits, &history),
        pools: pool_rows(context, &history),
    }
}

fn orders_chart(context: &Context, history: &History) -> Chart {
    let t = context.texts();
    let minutes = history.orders_by_minute(60);
    let (rects, most) = chart::orders(&minutes, |ago, orders| {
        let Orders { accepted, refused, troubled } = orders;
        let counts =
            [("accepted", accepted.into()), ("refused", refused.into()), ("troubled", troubled.into())];
        t.fill("minutes-ago", counts.into_iter().chain([("minutes", ago.into())]))
    });
    let total: u64 = minutes.iter().flatten().map(|orders| orders.total()).sum();
    Chart {
        label: format!("{}: {}", t.say("orders-per-minute"), grouped(total)),
        top: grouped(most),
        left: t.say("hour-ago").to_owned(),
        right: t.say("now").to_owned(),
        empty: rects.is_empty(),
        rects,
        lines: Vec::new(),
    }
}

fn latency_panel(context: &Context, history: &History, calls: Calls) -> LatencyPanel {
    let t = context.texts();
    let [payment, query] = &context.console.limits;
    let (title, limits) = match calls {
        Calls::Charges => (t.say("latency-charge"), payment),
        Calls::LookUps => (t.say("latency-look-up"), query),
    };
    let slow = limits.slow.as_secs_f64();
    let steps = history.latencies_by(calls, STEP, STEPS);
    let of =
        |percent| chart::even(&steps, |step| step.as_ref().and_then(|buckets| buckets.quantile(percent)));
    let (median, p95) = (of(50), of(95));
    let highest = p95.iter().filter_map(|(_, value)| *value).fold(slow * 1.2, f64::max);
    let recent = history.latencies(calls, Duration::from_secs(300));
    let quantile = |percent| recent.quantile(percent).map_or("–".to_owned(), latency);
    let quantiles = vec![("p50", quantile(50)), ("p95", quantile(95)), ("p99", quantile(99))];
    let spoken: Vec<_> = quantiles.iter().map(|(name, value)| format!("{name} {value}")).collect();
    LatencyPanel {
        title,
        chart: Chart {
            label: format!("{title}: {}", spoken.join(", ")),
            top: latency(highest),
            left: t.say("half-hour-ago").to_owned(),
            right: t.say("now").to_owned(),
            rects: Vec::new(),
            empty: median.iter().all(|(_, value)| value.is_none()),
            lines: vec![
                chart::level(slow, highest, "line-limit"),
                chart::line(&p95, highest, "line-second"),
                chart::line(&median, highest, "line-first"),
            ],
        },
        quantiles,
        calls: grouped(recent.total()),
        slow: latency(slow),
    }
}

fn payments(context: &Context, statistics: &PaymentStatistics, worklist: &Worklist) -> Payments {
    let t = context.texts();
    let names = [t.say("under-1m"), t.say("under-5m"), t.say("under-30m"), t.say("over-30m")];
    let links = [
        "/payments?status=UNSETTLED",
        "/payments?status=UNSETTLED&older=1m",
        "/payments?status=UNSETTLED&older=5m",
        "/payments?status=UNSETTLED&older=30m",
    ];
    let classes = ["fill-accent", "fill-accent", "fill-warn", "fill-bad"];
    let most = worklist.unsettled_by_age.iter().copied().max().unwrap_or(0);
    let rows = names.into_iter().zip(links).zip(classes).zip(worklist.unsettled_by_age);
    let ages = rows.map(|(((name, link), class), count)| AgeRow {
        name,
        count: grouped(count),
        link,
        rects: chart::parts(most, &[(count, class)]),
    });
    let kinds = statistics.open_discrepancies.iter().filter(|(_, count)| *count > 0);
    let open: u64 = statistics.open_discrepancies.iter().map(|(_, count)| count).sum();
    Payments {
        unsettled: grouped(statistics.unsettled),
        any_unsettled: statistics.unsettled > 0,
        oldest: statistics.oldest_unsettled.map(|age| length(age, context.texts())),
        ages: ages.collect(),
        open: grouped(open),
        kinds: kinds.map(|(kind, count)| (DiscrepancyKind::as_str(*kind), *count)).collect(),
        watched: grouped(statistics.watched),
    }
}

fn pool_rows(context: &Context, history: &History) -> Vec<PoolRow> {
    let t = context.texts();
    let pools = history.latest().map(|sample| sample.pools.as_slice()).unwrap_or_default();
    let row = |pool: &super::history::Pool| {
        let full = pool.in_use >= pool.max && pool.max > 0;
        let used = if full { "fill-bad" } else { "fill-accent" };
        PoolRow {
            name: pool.name.clone(),
            text: format!(
                "{} {} / {} · {} {}",
                pool.in_use,
                t.say("in-use"),
                pool.max,
                pool.idle,
                t.say("idle")
            ),
            waiting: pool.waiting,
            rects: chart::parts(pool.max, &[(pool.in_use, used), (pool.idle, "fill-idle")]),
        }
    };
    pools.iter().map(row).collect()
}
