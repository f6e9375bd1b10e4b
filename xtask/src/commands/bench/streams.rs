//! `bench streams`: who waits for the end of an order is told within a second, and an idle event stream costs little.
//!
//! Two app-servers on one database. The gateway decides, and tells nobody, so that every payment ends by the sync that is
//! asked for here: the clock of each client starts before that, and so before the commit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::figures::Verdict;
use crate::commands::demo::shop::Shop;
use crate::load::percentile;
use crate::private::{self, Plan, Private};
use crate::process;
use crate::scrape::Scrape;
use crate::workspace;

/// From before the sync is asked for until a client has heard of the end.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// Resident memory of one idle stream, in KiB.
const MOST_PER_STREAM: f64 = 20.0;
/// Opened and closed before memory is looked at, so that what is made once is no stream's.
const WARM_UP: u32 = 200;
const OPENERS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(60);
const CARD_NUMBER: &str = "1234-5678-9814-1451";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Clients that wait, half of them on each server, half by `?wait=` and half by events
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(4..=500))]
    clients: u32,
    /// Idle event streams on one server
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=20_000))]
    streams: u32,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let files = open_files()?;
    ensure!(
        files > u64::from(args.streams) + 500,
        "{} streams need more open files than the {files} that this user may have (`ulimit -Hn`)",
        args.streams
    );
    let root = workspace::root()?;
    println!("building the programs for release");
    let binaries = private::build(&root, true)?;
    let plan = Plan { name: "streams", binaries: &binaries, second: true, reconciler: false, settings: &[] };
    let system = Private::start(&root, &plan)?;
    let shop = Shop::new(&system.api, &system.ops);
    let stage = Stage {
        product: shop.make_product("streams", 10_000, 100_000)?,
        buyer: shop.buyer(0)?,
        system: &system,
        shop: &shop,
    };
    stage.gateway()?;
    let told = stage.waiting(args.clients)?;
    let idle = stage.idle(args.streams)?;
    system.stop()?;

    let longest = percentile(&told, 1.0);
    println!(
        "{} clients on two servers, half by ?wait=, half by events; from before the sync until each had heard of the end: \
         p50 {:.0} ms, p99 {:.0} ms, the last {:.0} ms",
        told.len(),
        millis(percentile(&told, 0.5)),
        millis(percentile(&told, 0.99)),
        millis(longest)
    );
    println!(
        "{} idle event streams on one server: resident memory {:.1} MiB before, {:.1} MiB with them: {:.1} KiB a stream",
        args.streams,
        idle.before / (1024.0 * 1024.0),
        idle.with / (1024.0 * 1024.0),
        idle.each(args.streams)
    );
    println!();
    let mut verdict = Verdict::default();
    verdict.hold(
        longest <= TOLD_WITHIN,
        &format!("the last client was told within {:.2} s (at most 1)", longest.as_secs_f64()),
    );
    verdict.hold(
        idle.each(args.streams) < MOST_PER_STREAM,
        &format!("an idle stream costs {:.1} KiB (less than {MOST_PER_STREAM:.0})", idle.each(args.streams)),
    );
    if !verdict.failed.is_empty() {
        bail!("{} of these do not hold", verdict.failed.len());
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Lets this process, and the programs that it starts, open as many files as the user may.
fn open_files() -> Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("setrlimit")?;
    Ok(most)
}

struct Idle {
    before: f64,
    with: f64,
}

impl Idle {
    /// KiB a stream.
    fn each(&self, streams: u32) -> f64 {
        (self.with - self.before) / 1024.0 / f64::from(streams)
    }
}

/// How a client waits.
#[derive(Clone, Copy)]
enum Way {
    Wait,
    Events,
}

struct Stage<'a> {
    system: &'a Private,
    shop: &'a Shop,
    product: i64,
    buyer: i64,
}

impl Stage<'_> {
    /// Accepts at once, charges, and tells nobody.
    fn gateway(&self) -> Result<()> {
        let config = json!({
            "callback_url_prefix": self.system.api,
            "request": { "latency": { "min": "0s", "max": "1ms" }, "error_500": 0 },
            "settlement": {
                "processing": { "min": "1ms", "max": "10ms" },
                "success": 1, "limit_exceeded": 0, "invalid_card": 0,
            },
            "callback": { "dropped": 1 },
        });
        let answer = self.system.http.put(&format!("{}/admin/config", self.system.simulator), &config)?;
        ensure!(answer.status == 200, "the simulator answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    /// An order that stays IN_PROGRESS, and its payment.
    fn order(&self) -> Result<(i64, i64)> {
        let items = json!([{ "productId": self.product, "quantity": 1 }]);
        let body = json!({ "items": items, "cardType": "SAMSUNG", "cardNo": CARD_NUMBER });
        let answer = self.shop.place(self.buyer, &body)?;
        ensure!(answer.status == 202, "an order was answered {}: {}", answer.status, answer.body);
        Ok((answer.number("/orderId")?, answer.number("/paymentId")?))
    }

    /// Clients that each wait for an order of their own; how long after its sync began each had heard of the end, sorted.
    fn waiting(&self, clients: u32) -> Result<Vec<Duration>> {
        let orders = (0..clients).map(|_| self.order()).collect::<Result<Vec<_>>>()?;
        let told: Mutex<Vec<Option<Instant>>> = Mutex::new(vec![None; orders.len()]);
        let mut asked = Vec::new();
        std::thread::scope(|scope| -> Result<()> {
            let mut waiting = Vec::new();
            for (index, (order, _)) in orders.iter().enumerate() {
                let api = if index % 2 == 0 { &self.system.api } else { &self.system.second_api };
                let way = if index / 2 % 2 == 0 { Way::Wait } else { Way::Events };
                let told = &told;
                waiting.push(scope.spawn(move || -> Result<()> {
                    self.wait(api, *order, way)?;
                    let mut told = told.lock().map_err(|_| anyhow::anyhow!("a client panicked"))?;
                    if let Some(slot) = told.get_mut(index) {
                        *slot = Some(Instant::now());
                    }
                    Ok(())
                }));
            }
            self.all_wait(clients)?;
            for (_, payment) in &orders {
                let url = format!("{}/api/v1/payments/{payment}/sync", self.system.api);
                asked.push(Instant::now());
                let answer = self.system.http.post(&url, Some(self.buyer), &Value::Null)?;
                ensure!(answer.status == 200, "a sync was answered {}: {}", answer.status, answer.body);
            }
            for client in waiting {
                client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            }
            Ok(())
        })?;
        let told = told.into_inner().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        let mut times = told
            .iter()
            .zip(&asked)
            .map(|(told, asked)| Ok(told.context("a client was not told")?.saturating_duration_since(*asked)))
            .collect::<Result<Vec<_>>>()?;
        times.sort_unstable();
        Ok(times)
    }

    /// Returns when the client has heard that the order is PAID.
    fn wait(&self, api: &str, order: i64, way: Way) -> Result<()> {
        let url = format!("{api}/api/v1/orders/{order}");
        match way {
            Way::Wait => {
                let answer = self.system.http.get(&format!("{url}?wait=12s"), Some(self.buyer))?;
                let status = answer.data("/status").and_then(Value::as_str).unwrap_or_default();
                ensure!(status == "PAID", "a client that waited was told {status:?}");
            }
            Way::Events => {
                let mut stream = self.system.http.stream(&format!("{url}/events"), self.buyer)?;
                let mut lines = BufReader::new(stream.body_mut().as_reader()).lines();
                let heard =
                    lines.any(|line| line.is_ok_and(|line| line == "event: end" || line == "event:end"));
                ensure!(heard, "an event stream ended without its last event");
            }
        }
        Ok(())
    }

    /// Both servers have every client: those by events are counted, those by `?wait=` are sent before them.
    fn all_wait(&self, clients: u32) -> Result<()> {
        let first = (0..clients).filter(|index| index % 2 == 0 && index / 2 % 2 == 1).count();
        self.streams_open(u32::try_from(first)?)?;
        // The second server's count is not looked at: a moment for its clients, and for those who wait.
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    fn streams_open(&self, count: u32) -> Result<()> {
        let began = Instant::now();
        while self.scrape()?.sum("event_streams_open", &[]) != f64::from(count) {
            if process::interrupted() {
                bail!("interrupted");
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "{count} event streams are not open after {} s",
                PATIENCE.as_secs()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn scrape(&self) -> Result<Scrape> {
        Scrape::fetch(&self.system.http, &self.system.ops)
    }

    fn memory(&self) -> Result<f64> {
        Ok(self.scrape()?.sum("process_resident_memory_bytes", &[]))
    }

    /// Opens so many streams on the first server, and looks at its memory.
    fn idle(&self, streams: u32) -> Result<Idle> {
        let (order, _) = self.order()?;
        drop(self.open(order, WARM_UP)?);
        self.streams_open(0)?;
        let before = self.memory()?;
        let open = self.open(order, streams)?;
        self.streams_open(streams)?;
        let with = self.memory()?;
        drop(open);
        self.streams_open(0)?;
        Ok(Idle { before, with })
    }

    fn open(&self, order: i64, streams: u32) -> Result<Vec<TcpStream>> {
        let opened = Mutex::new(Vec::new());
        std::thread::scope(|scope| -> Result<()> {
            let openers: Vec<_> = (0..OPENERS)
                .map(|opener| {
                    let opened = &opened;
                    scope.spawn(move || -> Result<()> {
                        for _ in (opener..streams).step_by(usize::try_from(OPENERS)?) {
                            let stream = self.event_stream(order)?;
                            opened.lock().map_err(|_| anyhow::anyhow!("an opener panicked"))?.push(stream);
                        }
                        Ok(())
                    })
                })
                .collect();
            for opener in openers {
                opener.join().map_err(|_| anyhow::anyhow!("an opener panicked"))??;
            }
            Ok(())
        })?;
        opened.into_inner().map_err(|_| anyhow::anyhow!("an opener panicked"))
    }

    /// A connection on which an event stream has begun. Nothing more is read from it, so that it costs no thread.
    fn event_stream(&self, order: i64) -> Result<TcpStream> {
        let address = self.system.api.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).context("no connection for an event stream")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let buyer = self.buyer;
        let request = format!(
            "GET /api/v1/orders/{order}/events HTTP/1.1\r\nHost: {address}\r\nX-USER-ID: {buyer}\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).context("an event stream was not answered")?;
        ensure!(
            &head == b"HTTP/1.1 200",
            "an event stream was answered {:?}",
            String::from_utf8_lossy(&head)
        );
        Ok(stream)
    }
}
