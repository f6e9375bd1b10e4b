//! Stands between servers and PostgreSQL, and counts what goes to and fro.
//!
//! A *round trip* is a burst that a client sends while nothing is owed to it: whatever is sent before the answer to the
//! last is complete belongs to the same trip. (One that its sender tears apart may count twice.) A *statement* is one that was completed, BEGIN and COMMIT among them; those
//! that foreign keys and triggers make are the server's own, and not seen here. *Prepared* is what was parsed anew.
//! Taking part costs time, so that no rate is measured through it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use anyhow::{Context, Result};

/// Since the proxy was started, over all connections.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) trips: u64,
    pub(super) statements: u64,
    pub(super) prepared: u64,
}

#[derive(Default)]
struct Counters {
    trips: AtomicU64,
    statements: AtomicU64,
    prepared: AtomicU64,
}

/// Accepts connections as long as it lives.
pub(super) struct Proxy {
    port: u16,
    counters: Arc<Counters>,
    ends: Arc<AtomicBool>,
}

impl Proxy {
    /// Between a free port of 127.0.0.1 and PostgreSQL's.
    pub(super) fn start(postgres: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
        let port = listener.local_addr()?.port();
        let (counters, ends) = (Arc::new(Counters::default()), Arc::new(AtomicBool::new(false)));
        let (shared, told) = (Arc::clone(&counters), Arc::clone(&ends));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if told.load(Ordering::SeqCst) {
                    break;
                }
                if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, postgres)) {
                    pass(client, server, &shared).ok();
                }
            }
        });
        Ok(Self { port, counters, ends })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn counts(&self) -> Counts {
        let Counters { trips, statements, prepared } = &*self.counters;
        let [trips, statements, prepared] =
            [trips, statements, prepared].map(|counter| counter.load(Ordering::SeqCst));
        Counts { trips, statements, prepared }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

/// Two threads that end with the connection.
fn pass(client: TcpStream, server: TcpStream, counters: &Arc<Counters>) -> Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // Answers that PostgreSQL owes; it owes one from the start, to the client's first message.
    let owed = Arc::new(AtomicI64::new(1));
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let (counting, owing) = (Arc::clone(counters), Arc::clone(&owed));
    std::thread::spawn(move || {
        let mut messages = Messages { header: Vec::new(), left: 0, begun: false };
        copy(from, to, |bytes| {
            let idle = owing.load(Ordering::SeqCst) <= 0;
            messages.read(bytes, |kind| match kind {
                // Sync, and a query of the simple protocol: PostgreSQL says when it is ready again.
                b'S' | b'Q' => _ = owing.fetch_add(1, Ordering::SeqCst),
                b'P' => _ = counting.prepared.fetch_add(1, Ordering::SeqCst),
                _ => {}
            });
            counting.trips.fetch_add(u64::from(idle), Ordering::SeqCst);
        });
    });
    let counting = Arc::clone(counters);
    std::thread::spawn(move || {
        let mut messages = Messages { header: Vec::new(), left: 0, begun: true };
        copy(server, client, |bytes| {
            messages.read(bytes, |kind| match kind {
                b'C' => _ = counting.statements.fetch_add(1, Ordering::SeqCst),
                b'Z' => _ = owed.fetch_sub(1, Ordering::SeqCst),
                _ => {}
            });
        });
    });
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(&[u8])) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        seen(bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        stream.shutdown(Shutdown::Both).ok();
    }
}

/// Cuts one direction of PostgreSQL's protocol into messages: a byte that names the kind, and a length that counts itself.
/// A client's first message has no kind.
struct Messages {
    header: Vec<u8>,
    left: usize,
    begun: bool,
}

impl Messages {
    /// Calls `seen` with the kind of each message whose header is complete now.
    fn read(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8)) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else { return };
            if self.header.is_empty() && !self.begun {
                self.header.push(0);
                self.begun = true;
            }
            self.header.push(*first);
            bytes = rest;
            if let [kind, a, b, c, d] = *self.header.as_slice() {
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                self.left = length.saturating_sub(4);
                self.header.clear();
                seen(kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let mut bytes = vec![0, 0, 0, 9, 0, 3, 0, 0, 0];
        for (kind, length) in [(b'P', 20_usize), (b'S', 0), (b'Q', 300)] {
            bytes.push(kind);
            bytes.extend(u32::try_from(length + 4).unwrap().to_be_bytes());
            bytes.extend(vec![b'S'; length]);
        }
        for size in [1, 2, 5, 7, 64, bytes.len()] {
            let mut messages = Messages { header: Vec::new(), left: 0, begun: false };
            let mut kinds = Vec::new();
            for chunk in bytes.chunks(size) {
                messages.read(chunk, |kind| kinds.push(kind));
            }
            assert_eq!(kinds, [0, b'P', b'S', b'Q'], "in pieces of {size}");
        }
    }

    /// What a client sends, piece by piece, each after PostgreSQL's `answers` to the one before.
    fn counted(pieces: &[(&[u8], &[u8])]) -> Counts {
        let postgres = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(postgres.local_addr().unwrap().port()).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        let (mut server, _) = postgres.accept().unwrap();
        for (sent, answer) in pieces {
            client.write_all(sent).unwrap();
            server.read_exact(&mut vec![0; sent.len()]).unwrap();
            server.write_all(answer).unwrap();
            client.read_exact(&mut vec![0; answer.len()]).unwrap();
        }
        proxy.counts()
    }

    const STARTUP: &[u8] = &[0, 0, 0, 8, 0, 3, 0, 0];
    const READY: &[u8] = &[b'Z', 0, 0, 0, 5, b'I'];
    const DONE: &[u8] = &[b'C', 0, 0, 0, 4];
    const PARSE: &[u8] = &[b'P', 0, 0, 0, 4];
    const SYNC: &[u8] = &[b'S', 0, 0, 0, 4];

    #[test]
    fn what_is_sent_before_the_answer_is_complete_is_one_trip() {
        let burst = [PARSE, SYNC, SYNC].concat();
        let answer = [DONE, READY, DONE, READY].concat();
        let counts = counted(&[(STARTUP, READY), (&burst, &answer)]);
        assert_eq!(counts, Counts { trips: 1, statements: 2, prepared: 1 });
        // The first of two answers has come, the second is owed.
        let counts =
            counted(&[(STARTUP, READY), (&burst, READY), (SYNC, b""), (b"", &[READY, READY].concat())]);
        assert_eq!(counts.trips, 1);
    }

    #[test]
    fn what_is_sent_after_the_answer_is_another_trip() {
        let answer = [DONE, READY].concat();
        let counts = counted(&[(STARTUP, READY), (SYNC, &answer), (SYNC, &answer), (SYNC, &answer)]);
        assert_eq!(counts, Counts { trips: 3, statements: 3, prepared: 0 });
    }
}
