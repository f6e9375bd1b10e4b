//! A TCP proxy that breaks the network on command, before PostgreSQL or before the gateway.
//!
//! It forwards bytes and knows no protocol. What it can do is what networks do: hold bytes back, slow them down, refuse
//! or lose connections, and above all lose one at the worst moment: after a request was delivered, before its answer
//! was. That moment is named by bytes of the request ([`FaultProxy::arm`]).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const BUFFER: usize = 16 * 1024;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// FIN: an orderly end, after what was under way.
    Close,
    /// RST: at once.
    Reset,
}

/// What an armed fault does to the connection whose request bears its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFault {
    /// The request is not delivered; both sides are cut.
    BeforeRequest(Cut),
    /// The request is delivered; when the server answers, the answer is lost and both sides are cut.
    BeforeAnswer(Cut),
    /// The request is delivered, and so are this many bytes of the answer; then both sides are cut.
    InAnswer(usize, Cut),
    /// The request is delivered, and nothing comes back any more; the connection stays open.
    SilentAfterRequest,
    /// The request is not delivered, nor anything after it; the connection stays open.
    SilentBeforeRequest,
}

/// What holds for all connections, those to come included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Conditions {
    /// Each piece of data waits so long, in both directions.
    delay: Duration,
    /// Nothing passes in either direction until this is taken back.
    held: bool,
    /// New connections are cut at once.
    refuse: Option<Cut>,
    /// Connections older than this generation are cut.
    generation: u64,
    cut: Cut,
}

#[derive(Debug)]
struct Armed {
    bytes: Vec<u8>,
    skip: usize,
    fault: NetworkFault,
}

#[derive(Debug, Default)]
struct Plan {
    armed: Vec<Armed>,
    fired: u64,
    connections: u64,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    plan: Mutex<Plan>,
    conditions: watch::Sender<Conditions>,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that these bytes of a request set off, if any; each strikes once. Leaves of the bytes what may be the
    /// beginning of ones that are waited for.
    fn strikes(&self, seen: &mut Vec<u8>) -> Option<NetworkFault> {
        let mut plan = self.plan();
        let mut found = None;
        for (at, armed) in plan.armed.iter_mut().enumerate() {
            if !seen.windows(armed.bytes.len()).any(|window| window == armed.bytes) {
                continue;
            }
            seen.clear();
            if armed.skip == 0 {
                found = Some(at);
                break;
            }
            armed.skip -= 1;
        }
        let longest = plan.armed.iter().map(|armed| armed.bytes.len()).max().unwrap_or(1);
        seen.drain(..seen.len().saturating_sub(longest - 1));
        let armed = plan.armed.remove(found?);
        plan.fired += 1;
        Some(armed.fault)
    }
}

/// A proxy before one server. It stops, and cuts its connections, when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `upstream`, without any fault.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), upstream).await
    }

    /// As [`FaultProxy::start`], on an address of the caller's choice.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn start_on(address: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let calm =
            Conditions { delay: Duration::ZERO, held: false, refuse: None, generation: 0, cut: Cut::Close };
        let shared =
            Arc::new(Shared { upstream, plan: Mutex::default(), conditions: watch::Sender::new(calm) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lays a fault in wait: it strikes the connection on which `bytes` next come from a client, once. For PostgreSQL
    /// `b"COMMIT"`, for HTTP `b"POST /api"`.
    pub fn arm(&self, bytes: impl Into<Vec<u8>>, fault: NetworkFault) {
        self.arm_after(0, bytes, fault);
    }

    /// As [`FaultProxy::arm`], passing over the first `skip` pieces of data that bear the bytes.
    pub fn arm_after(&self, skip: usize, bytes: impl Into<Vec<u8>>, fault: NetworkFault) {
        let bytes = bytes.into();
        assert!(!bytes.is_empty(), "a fault needs bytes to wait for");
        self.shared.plan().armed.push(Armed { bytes, skip, fault });
    }

    /// Takes every armed fault away that has not struck.
    pub fn disarm(&self) {
        self.shared.plan().armed.clear();
    }

    /// How many armed faults have struck.
    pub fn fired(&self) -> u64 {
        self.shared.plan().fired
    }

    /// How many connections have been accepted.
    pub fn connections(&self) -> u64 {
        self.shared.plan().connections
    }

    /// Every piece of data waits so long before it is passed on.
    pub fn delay(&self, delay: Duration) {
        self.shared.conditions.send_modify(|conditions| conditions.delay = delay);
    }

    /// A black hole: connections stay open and new ones are accepted, but nothing passes. Taken back, what was held
    /// back passes, as after a partition.
    pub fn hold(&self, held: bool) {
        self.shared.conditions.send_modify(|conditions| conditions.held = held);
    }

    /// New connections are cut at once; `None`: served again.
    pub fn refuse(&self, refuse: Option<Cut>) {
        self.shared.conditions.send_modify(|conditions| conditions.refuse = refuse);
    }

    /// Cuts all connections that are open now.
    pub fn cut(&self, cut: Cut) {
        self.shared.conditions.send_modify(|conditions| {
            conditions.generation += 1;
            conditions.cut = cut;
        });
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, for one: what is open goes on.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        shared.plan().connections += 1;
        let conditions = shared.conditions.subscribe();
        connections.spawn(connection(client, Arc::clone(&shared), conditions));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>, conditions: watch::Receiver<Conditions>) {
    let refuse = conditions.borrow().refuse;
    if let Some(cut) = refuse {
        end(&client, cut);
        return;
    }
    let Ok(mut server) = TcpStream::connect(shared.upstream).await else {
        // What a client sees of a server that is not there.
        end(&client, Cut::Reset);
        return;
    };
    // Small pieces must not wait for each other here.
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let struck = Mutex::new(None);
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = requests(from_client, to_server, &shared, &struck, conditions.clone());
        let down = answers(from_server, to_client, &struck, conditions.clone());
        tokio::select! {
            cut = generation_ends(conditions) => cut,
            // Both directions must have ended; one may go on after the other (half-closed).
            ends = futures_util::future::try_join(up, down) => match ends {
                Ok(((), ())) => Cut::Close,
                Err(cut) => cut,
            },
        }
    };
    end(&client, cut);
    end(&server, cut);
}

/// Dropping the stream afterwards closes it; with zero linger that is a reset.
fn end(stream: &TcpStream, cut: Cut) {
    if cut == Cut::Reset {
        // An error says that it is gone already.
        drop(stream.set_zero_linger());
    }
}

async fn generation_ends(mut conditions: watch::Receiver<Conditions>) -> Cut {
    let own = conditions.borrow().generation;
    match conditions.wait_for(|now| now.generation > own).await {
        Ok(now) => now.cut,
        Err(_) => Cut::Close,
    }
}

/// Waits as long as the conditions demand before a piece of data may pass.
async fn admit(conditions: &mut watch::Receiver<Conditions>) {
    let delay = conditions.borrow().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    // An error says that the proxy is being dropped.
    drop(conditions.wait_for(|now| !now.held).await);
}

type Struck = Mutex<Option<NetworkFault>>;

async fn requests(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    struck: &Struck,
    mut conditions: watch::Receiver<Conditions>,
) -> Result<(), Cut> {
    let mut buffer = vec![0; BUFFER];
    // The end of what came before, in case the bytes waited for are cut in two.
    let mut seen: Vec<u8> = Vec::new();
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| Cut::Reset)?;
        let data = buffer.get(..read).unwrap_or_default();
        if data.is_empty() {
            // The client said all it has to say; the answer may still come.
            return to.shutdown().await.map_err(|_| Cut::Reset);
        }
        seen.extend_from_slice(data);
        if let Some(fault) = shared.strikes(&mut seen) {
            *struck.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            match fault {
                NetworkFault::BeforeRequest(cut) => return Err(cut),
                NetworkFault::SilentBeforeRequest => std::future::pending().await,
                NetworkFault::BeforeAnswer(_)
                | NetworkFault::InAnswer(..)
                | NetworkFault::SilentAfterRequest => {}
            }
        }
        admit(&mut conditions).await;
        to.write_all(data).await.map_err(|_| Cut::Reset)?;
    }
}

async fn answers(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    struck: &Struck,
    mut conditions: watch::Receiver<Conditions>,
) -> Result<(), Cut> {
    let mut buffer = vec![0; BUFFER];
    let mut answered = 0;
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| Cut::Reset)?;
        let mut data = buffer.get(..read).unwrap_or_default();
        if data.is_empty() {
            return to.shutdown().await.map_err(|_| Cut::Reset);
        }
        admit(&mut conditions).await;
        let fault = *struck.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            None => {}
            Some(NetworkFault::BeforeRequest(cut) | NetworkFault::BeforeAnswer(cut)) => return Err(cut),
            Some(NetworkFault::SilentAfterRequest | NetworkFault::SilentBeforeRequest) => continue,
            Some(NetworkFault::InAnswer(bytes, cut)) => {
                data = data.get(..(bytes - answered).min(read)).unwrap_or_default();
                answered += data.len();
                to.write_all(data).await.map_err(|_| Cut::Reset)?;
                if answered == bytes {
                    // A reset would overtake what was just written.
                    to.flush().await.map_err(|_| Cut::Reset)?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return Err(cut);
                }
                continue;
            }
        }
        to.write_all(data).await.map_err(|_| Cut::Reset)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Answers every piece of data with the same; says how many bytes it got.
    async fn echo() -> (SocketAddr, Arc<Mutex<Vec<u8>>>, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let heard = Arc::clone(&got);
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let heard = Arc::clone(&heard);
                streams.spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        heard.lock().unwrap().extend_from_slice(&buffer[..read]);
                        if stream.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        (address, got, tasks)
    }

    async fn ask(stream: &mut TcpStream, text: &str) -> io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut buffer = [0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap()?;
        Ok(String::from_utf8_lossy(&buffer[..read]).into_owned())
    }

    #[tokio::test]
    async fn it_passes_everything_on_until_told_otherwise() {
        let (upstream, _, _echo) = echo().await;
        let proxy = FaultProxy::start(upstream).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "hello").await.unwrap(), "hello");
        assert_eq!((proxy.connections(), proxy.fired()), (1, 0));
    }

    #[tokio::test]
    async fn an_armed_fault_strikes_once_at_its_bytes() {
        let (upstream, got, _echo) = echo().await;
        let proxy = FaultProxy::start(upstream).await.unwrap();
        for (fault, delivered) in [
            (NetworkFault::BeforeRequest(Cut::Reset), false),
            (NetworkFault::BeforeAnswer(Cut::Reset), true),
            (NetworkFault::BeforeRequest(Cut::Close), false),
            (NetworkFault::BeforeAnswer(Cut::Close), true),
        ] {
            got.lock().unwrap().clear();
            proxy.arm(*b"COMMIT", fault);
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            assert_eq!(ask(&mut stream, "BEGIN").await.unwrap(), "BEGIN");
            let answer = ask(&mut stream, "COMMIT;").await;
            match fault {
                NetworkFault::BeforeRequest(Cut::Close) | NetworkFault::BeforeAnswer(Cut::Close) => {
                    assert!(matches!(answer.as_deref(), Ok("") | Err(_)), "{fault:?}: {answer:?}");
                }
                _ => assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{fault:?}"),
            }
            let heard = String::from_utf8(got.lock().unwrap().clone()).unwrap();
            assert_eq!(heard.contains("COMMIT"), delivered, "{fault:?}: {heard}");
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            assert_eq!(ask(&mut stream, "COMMIT").await.unwrap(), "COMMIT", "once only");
        }
        assert_eq!(proxy.fired(), 4);
    }

    #[tokio::test]
    async fn bytes_cut_in_two_are_recognised_and_some_may_be_passed_over() {
        let (upstream, _, _echo) = echo().await;
        let proxy = FaultProxy::start(upstream).await.unwrap();
        proxy.arm_after(1, *b"COMMIT", NetworkFault::BeforeAnswer(Cut::Reset));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "COMMIT").await.unwrap(), "COMMIT");
        assert_eq!(ask(&mut stream, "x").await.unwrap(), "x");
        assert_eq!(ask(&mut stream, "COM").await.unwrap(), "COM");
        assert!(ask(&mut stream, "MIT").await.is_err());
    }

    #[tokio::test]
    async fn an_answer_can_be_cut_short() {
        let (upstream, _, _echo) = echo().await;
        let proxy = FaultProxy::start(upstream).await.unwrap();
        proxy.arm(*b"long", NetworkFault::InAnswer(3, Cut::Close));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"long answer").await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, b"lon");
    }

    #[tokio::test]
    async fn what_is_held_back_passes_later() {
        let (upstream, got, _echo) = echo().await;
        let proxy = FaultProxy::start(upstream).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.hold(true);
        let held = timeout(Duration::from_millis(50), ask(&mut stream, "hello")).await;
        assert!(held.is_err() && got.lock().unwrap().is_empty());
        proxy.hold(false);
        let mut buffer = [0; 5];
        timeout(PATIENCE, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer, b"hello");
    }

    #[tokio::test]
    async fn connections_are_cut_and_refused_on_command() {
        let (upstream, _, _echo) = echo().await;
        let proxy = FaultProxy::start(upstream).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "a").await.unwrap(), "a");
        proxy.cut(Cut::Reset);
        let mut buffer = [0; 1];
        let lost = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap();
        assert_eq!(lost.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        proxy.refuse(Some(Cut::Reset));
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(matches!(ask(&mut refused, "a").await.as_deref(), Err(_) | Ok("")));
        proxy.refuse(None);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "b").await.unwrap(), "b");
    }
}
