//! A gateway below HTTP: it reads requests from raw sockets, counts them, and answers byte by byte what a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What the server does on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Sends this.
    Send(String),
    /// Sends so many further bytes of a body, one kibibyte at a time, as long as the client takes them.
    SendBytes(usize),
    /// Sends one byte every 20 ms, without end.
    Drip,
    /// Says nothing more, and keeps the connection.
    Hang,
    /// Resets the connection (RST).
    Reset,
    /// Closes it (FIN).
    Close,
}

/// How it treats payment requests. Look-ups by order are answered by `look_up`.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// Done before anything is read.
    pub(crate) before_reading: Vec<Step>,
    /// Done after each whole request, one list per request; the last one is repeated.
    pub(crate) answers: Vec<Vec<Step>>,
    /// Done after each look-up.
    pub(crate) look_up: Vec<Step>,
}

impl Manners {
    pub(crate) fn answering(steps: Vec<Step>) -> Self {
        Self { before_reading: Vec::new(), answers: vec![steps], look_up: vec![Step::Send(not_found())] }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn is_payment(&self) -> bool {
        self.line.starts_with("POST ")
    }
}

/// Ends with its value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _task: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        let log = Arc::clone(&received);
        task.spawn(async move {
            let manners = Arc::new(manners);
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&manners), Arc::clone(&log)));
            }
        });
        Self { address, received, _task: task }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Payment requests and look-ups that arrived whole.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// How many payment requests and look-ups arrived whole.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let received = self.received();
        let payments = received.iter().filter(|request| request.is_payment()).count();
        (payments, received.len() - payments)
    }
}

async fn serve(mut stream: TcpStream, manners: Arc<Manners>, log: Arc<Mutex<Vec<Received>>>) {
    if !run(&mut stream, &manners.before_reading).await {
        return;
    }
    while let Some(request) = read_request(&mut stream).await {
        let is_payment = request.is_payment();
        let nth = {
            let mut log = log.lock().unwrap();
            log.push(request);
            log.iter().filter(|request| request.is_payment()).count().saturating_sub(1)
        };
        let last = manners.answers.last().cloned().unwrap_or_default();
        let steps = if is_payment {
            manners.answers.get(nth).cloned().unwrap_or(last)
        } else {
            manners.look_up.clone()
        };
        if !run(&mut stream, &steps).await {
            return;
        }
    }
}

/// Whether the connection goes on after the steps.
async fn run(stream: &mut TcpStream, steps: &[Step]) -> bool {
    for step in steps {
        match step {
            Step::Send(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return false;
                }
            }
            Step::SendBytes(bytes) => {
                for _ in 0..bytes / 1024 {
                    if stream.write_all(&[b' '; 1024]).await.is_err() {
                        return false;
                    }
                }
            }
            Step::Drip => loop {
                if stream.write_all(b" ").await.is_err() {
                    return false;
                }
                sleep(Duration::from_millis(20)).await;
            },
            Step::Hang => {
                // Reads, so that the client's going away is noticed, and never answers.
                let mut ignored = [0; 1024];
                while stream.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {}
                return false;
            }
            Step::Reset => {
                stream.set_zero_linger().unwrap();
                return false;
            }
            Step::Close => {
                let _closed_already = stream.shutdown().await;
                return false;
            }
        }
    }
    true
}

/// One request with its body, or `None` when the client has gone.
async fn read_request(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let end_of_head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, &mut bytes).await?;
    };
    let head = String::from_utf8(bytes[..end_of_head].to_vec()).ok()?;
    let (line, headers) = head.split_once("\r\n")?;
    let lower = headers.to_ascii_lowercase();
    let length = lower.lines().find_map(|header| header.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
    while bytes.len() < end_of_head + length {
        read_more(stream, &mut bytes).await?;
    }
    let body = String::from_utf8(bytes[end_of_head..].to_vec()).ok()?;
    Some(Received { line: line.to_owned(), headers: lower, body })
}

async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 4096];
    let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
    bytes.extend_from_slice(&chunk[..read]);
    Some(())
}

/// A listener that never accepts, with its backlog full: further connections are neither made nor refused.
pub(crate) struct FullBacklog {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _waiting: JoinSet<Option<TcpStream>>,
}

impl FullBacklog {
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = JoinSet::new();
        for _ in 0..8 {
            waiting.spawn(async move {
                let stream = TcpStream::connect(address).await.ok();
                std::future::pending::<()>().await;
                stream
            });
        }
        // Full when a connection of one's own is neither made nor refused.
        loop {
            let attempt = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await;
            if attempt.is_err() {
                break;
            }
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}

/// An address where nobody listens, nor can as long as the socket is there.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// An answer with a JSON body.
pub(crate) fn json(status: &str, body: &str) -> String {
    answer(status, "Content-Type: application/json\r\n", body)
}

/// An answer with these further headers.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) const MADE: &str = r#"{"meta":{"result":"SUCCESS","errorCode":null,"message":null},"data":{"transactionKey":"20250816:TR:9577c5","status":"PENDING","reason":null}}"#;
pub(crate) const REFUSED: &str = r#"{"meta":{"result":"FAIL","errorCode":"Bad Request","message":"카드 번호는 xxxx-xxxx-xxxx-xxxx 형식이어야 합니다."},"data":null}"#;
const NOT_FOUND: &str =
    r#"{"meta":{"result":"FAIL","errorCode":"Not Found","message":"없습니다."},"data":null}"#;
pub(crate) const LISTED: &str = r#"{"meta":{"result":"SUCCESS","errorCode":null,"message":null},"data":{"orderId":"000007","transactions":[{"transactionKey":"20250816:TR:9577c5","status":"PENDING","reason":null}]}}"#;

pub(crate) fn not_found() -> String {
    json("404 Not Found", NOT_FOUND)
}
