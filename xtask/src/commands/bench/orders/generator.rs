//! The generator: a process of its own, so that what it costs can be told from what it measures. One thread drives all
//! connections.
//!
//! Closed loop: each client sends its next request when it has been answered; this finds the highest rate, and hides waits
//! that a slow system makes. Open loop (`rate`): requests are due at a constant rate whatever the answers do, the next free
//! connection takes one, and its time begins when it was due.
//!
//! It says `begin` and `end` on its output when the window begins and ends, and then what it saw, as one line of JSON.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use super::wire::{self, Goods, Kind, Maker, Scenario};
use crate::load::percentile;

/// How long answers are waited for after the window's end.
const DRAIN: Duration = Duration::from_secs(15);
/// The poll's resolution: what is due sooner is slept for.
const TICK: Duration = Duration::from_millis(1);
/// Precision of the open loop.
const NAP: Duration = Duration::from_micros(100);
/// So much of an answer that must not be is shown.
const SHOWN: usize = 300;

/// What a generator is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// Clients are dealt out over them.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) scenario: Scenario,
    pub(super) goods: Goods,
    pub(super) clients: u32,
    /// Before the window.
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
    /// No more than so many requests.
    pub(super) requests: Option<u64>,
    /// Requests a second, in an open loop.
    pub(super) rate: Option<f64>,
    pub(super) seed: u64,
}

/// What a generator saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Good answers that came within the window.
    pub(super) in_window: u64,
    /// Good answers to requests of the window, whenever they came.
    pub(super) good: u64,
    /// How long the window really was.
    pub(super) window: Duration,
    /// Of the generator, from the window's beginning to the last answer.
    pub(super) cpu: Duration,
    /// From when a request of the window was due until its answer had come.
    pub(super) p50: Duration,
    pub(super) p95: Duration,
    pub(super) p99: Duration,
    pub(super) longest: Duration,
    /// Answers that must not be, with one of them each; also those outside the window.
    pub(super) bad: BTreeMap<String, (u64, String)>,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The task, as JSON
    task: String,
}

/// The hidden command: does what it is told, and prints what it saw.
pub(crate) fn run(args: &Args) -> Result<()> {
    let task: Task = serde_json::from_str(&args.task).context("could not read the task")?;
    let seen = Generator::connect(task)?.run()?;
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

struct Client {
    address: SocketAddr,
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// What is asked and since when, as long as the answer is waited for.
    asked: Option<(Kind, Instant)>,
}

/// When things happen.
struct Times {
    start: Instant,
    begin: Instant,
    end: Instant,
}

struct Generator {
    task: Task,
    poll: Poll,
    clients: Vec<Client>,
    /// Clients without a request, the one that waits longest first.
    idle: VecDeque<usize>,
    maker: Maker,
    times: Times,
    sent: u64,
    took: Vec<Duration>,
    seen: Seen,
}

impl Generator {
    fn connect(task: Task) -> Result<Self> {
        ensure!(!task.addresses.is_empty() && task.clients > 0, "no address, or no client");
        let poll = Poll::new().context("no poll")?;
        let mut clients = Vec::new();
        for (index, address) in task.addresses.iter().cycle().take(usize::try_from(task.clients)?).enumerate()
        {
            let stream = connect(&poll, index, *address)?;
            clients.push(Client { address: *address, stream, request: vec![], answer: vec![], asked: None });
        }
        let start = Instant::now();
        let begin = start + task.warm_up;
        Ok(Self {
            maker: Maker::new(task.scenario, task.goods.clone(), task.seed),
            times: Times { start, begin, end: begin + task.window },
            idle: (0..clients.len()).collect(),
            poll,
            clients,
            task,
            sent: 0,
            took: Vec::new(),
            seen: Seen::default(),
        })
    }

    fn run(mut self) -> Result<Seen> {
        let mut events = Events::with_capacity(1_024);
        let mut begun = None;
        let mut ended = None;
        loop {
            let now = Instant::now();
            if begun.is_none() && now >= self.times.begin {
                println!("begin");
                begun = Some(cpu()?);
            }
            let busy = self.idle.len() < self.clients.len();
            let done = now >= self.times.end || (self.all_sent() && !busy);
            if ended.is_none() && done {
                println!("end");
                ended = Some(now.min(self.times.end));
            }
            match (ended, begun) {
                (Some(end), Some(before)) if !busy || now > self.times.end + DRAIN => {
                    self.seen.window = end - self.times.begin;
                    self.seen.cpu = cpu()?.saturating_sub(before);
                    break;
                }
                (Some(_), _) => {}
                (None, _) => self.send_what_is_due()?,
            }
            self.wait(&mut events, ended.is_some())?;
            for event in &events {
                self.read(event.token().0)?;
            }
        }
        let unanswered = self.clients.iter().filter_map(|client| client.asked).count();
        for _ in 0..unanswered {
            self.bad("no answer", b"");
        }
        self.took.sort_unstable();
        let share = |share| percentile(&self.took, share);
        (self.seen.p50, self.seen.p95) = (share(0.5), share(0.95));
        (self.seen.p99, self.seen.longest) = (share(0.99), share(1.0));
        Ok(self.seen)
    }

    fn all_sent(&self) -> bool {
        self.task.requests.is_some_and(|requests| self.sent >= requests)
    }

    /// When the next request has to be sent: at once in a closed loop. None: none has to be.
    fn next_due(&self) -> Option<Instant> {
        if self.all_sent() {
            return None;
        }
        let Some(rate) = self.task.rate else { return Some(Instant::now()) };
        #[expect(clippy::cast_precision_loss, reason = "requests of one run are far fewer than 2^52")]
        let due = self.times.start + Duration::from_secs_f64(self.sent as f64 / rate);
        (due < self.times.end).then_some(due)
    }

    fn send_what_is_due(&mut self) -> Result<()> {
        while let Some(due) = self.next_due() {
            if due > Instant::now() {
                return Ok(());
            }
            let Some(index) = self.idle.pop_front() else { return Ok(()) };
            let client = self.clients.get_mut(index).context("no such client")?;
            let kind = self.maker.next(&mut client.request);
            client.asked = Some((kind, due));
            self.sent += 1;
            // A request is far shorter than the empty buffer of a connection on which nothing is under way.
            let written = client.stream.write(&client.request);
            if !matches!(written, Ok(length) if length == client.request.len()) {
                self.bad("a request could not be written", b"");
                self.reconnect(index)?;
            }
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, ended: bool) -> Result<()> {
        let now = Instant::now();
        let boundary = [self.times.begin, self.times.end].into_iter().find(|time| *time > now);
        let mut wait = boundary.map_or(Duration::from_millis(100), |time| time - now);
        if self.task.rate.is_some() && !ended && !self.idle.is_empty() {
            wait = wait.min(self.next_due().map_or(wait, |due| due.saturating_duration_since(now)));
            if wait < TICK {
                std::thread::sleep(wait.min(NAP));
                wait = Duration::ZERO;
            }
        }
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error).context("poll"),
            _ => Ok(()),
        }
    }

    /// Something came on a connection.
    fn read(&mut self, index: usize) -> Result<()> {
        let client = self.clients.get_mut(index).context("no such client")?;
        let mut chunk = [0; 16 * 1024];
        let lost = loop {
            match client.stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(length) => {
                    client.answer.extend_from_slice(chunk.get(..length).unwrap_or_default());
                    if length < chunk.len() {
                        break false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        match wire::answer(&client.answer) {
            Ok(Some(answer)) => {
                let bytes = std::mem::take(&mut client.answer);
                let asked = client.asked.take();
                let body = bytes.get(answer.body).unwrap_or_default();
                self.answered(asked, answer.status, body);
                if let Some(client) = self.clients.get_mut(index) {
                    client.answer = bytes;
                    client.answer.clear();
                }
                self.idle.push_back(index);
                Ok(())
            }
            Ok(None) if lost => {
                if client.asked.is_some() {
                    self.bad("the connection was closed", b"");
                    self.reconnect(index)?;
                } else {
                    client.stream = connect(&self.poll, index, client.address)?;
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(reason) => Err(anyhow!("the generator does not understand the server: {reason}")),
        }
    }

    fn answered(&mut self, asked: Option<(Kind, Instant)>, status: u16, body: &[u8]) {
        let Some((kind, since)) = asked else {
            self.bad("an answer that nobody asked for", body);
            return;
        };
        if !kind.expects(status) {
            self.bad(&format!("{}: {status}", kind.name()), body);
            return;
        }
        let now = Instant::now();
        let window = self.times.begin..self.times.end;
        self.seen.in_window += u64::from(window.contains(&now));
        if window.contains(&since) {
            self.seen.good += 1;
            self.took.push(now - since);
        }
    }

    fn bad(&mut self, what: &str, body: &[u8]) {
        let entry = self.seen.bad.entry(what.to_owned()).or_default();
        entry.0 += 1;
        if entry.1.is_empty() {
            entry.1 = String::from_utf8_lossy(body).chars().take(SHOWN).collect();
        }
    }

    /// A connection in place of one that is lost with its request.
    fn reconnect(&mut self, index: usize) -> Result<()> {
        let client = self.clients.get_mut(index).context("no such client")?;
        client.stream = connect(&self.poll, index, client.address)?;
        client.answer.clear();
        client.asked = None;
        self.idle.push_back(index);
        Ok(())
    }
}

fn connect(poll: &Poll, index: usize, address: SocketAddr) -> Result<TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(10))
        .with_context(|| format!("no connection to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
    Ok(stream)
}

/// Of this process until now.
fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    let [user, system] = [usage.user_time(), usage.system_time()]
        .map(|time| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0));
    Ok(Duration::from_micros(user + system))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each request by what `answer` says, given how many came before.
    fn server(answer: impl Fn(usize) -> String + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            for count in 0.. {
                if stream.read(&mut request).map_or(true, |length| length == 0) {
                    break;
                }
                stream.write_all(answer(count).as_bytes()).ok();
            }
        });
        address
    }

    fn task(address: SocketAddr) -> Task {
        Task {
            addresses: vec![address],
            scenario: Scenario::Point,
            goods: Goods { first_product: 1, products: 2, first_buyer: 1, buyers: 2 },
            clients: 1,
            warm_up: Duration::ZERO,
            window: Duration::from_secs(30),
            requests: Some(20),
            rate: None,
            seed: 1,
        }
    }

    fn created() -> String {
        "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}".to_owned()
    }

    #[test]
    fn every_answer_is_counted_and_those_that_must_not_be_are_told_apart() {
        let refused = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy".to_owned();
        let address = server(move |count| if count % 5 == 4 { refused.clone() } else { created() });
        let seen = Generator::connect(task(address)).unwrap().run().unwrap();
        assert_eq!((seen.good, seen.in_window), (16, 16));
        let expected = [("order by points: 503".to_owned(), (4, "busy".to_owned()))];
        assert_eq!(seen.bad, expected.into());
    }

    #[test]
    fn an_open_loop_counts_the_waits_that_a_stall_makes_for_those_behind_it() {
        const STALL: Duration = Duration::from_millis(200);
        let address = server(|count| {
            if count == 0 {
                std::thread::sleep(STALL);
            }
            created()
        });
        let task = Task { rate: Some(1_000.0), requests: Some(150), ..task(address) };
        let seen = Generator::connect(task).unwrap().run().unwrap();
        // 150 requests were due within 150 ms of a stall of 200: none took less than 50, half of them 100 and more.
        assert!(seen.good == 150 && seen.longest >= STALL, "{seen:?}");
        assert!(seen.p50 >= STALL / 2, "{seen:?}");
    }

    #[test]
    fn what_the_generator_cannot_read_ends_it() {
        let address = server(|_| "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n".to_owned());
        let error = Generator::connect(task(address)).unwrap().run().unwrap_err().to_string();
        assert!(error.ends_with("an answer without a length"), "{error}");
    }
}
