//! A server on the fakes, and a plain HTTP/1.1 client that can also misbehave.

use app_server::{CircuitBody, CircuitCommand, Circuits, OrderChanges, Parts, Running};
use application::{Adapters, Application, CallbackTokens, Policy};
use async_trait::async_trait;
use bootstrap::settings::{Environment, Settings, load};
use bootstrap::shutdown::{Drained, Shutdown};
use domain::ports::{
    ChargeOutcome, ChargeRequest, GatewayAnswer, Lookup, LookupError, PaymentGateway, Store as _,
    TransactionSummary,
};
use domain::settlement::{Changes, Discrepancy, SettlingNeeds, Transaction, TransactionStatus};
use domain::{GatewayKey, GatewayOrderRef, MerchantId, OrderId, PaymentId};
use futures_util::FutureExt as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::{
    ConnectionOptions, FakeDatabase, FakeGateway, FakeStore, Fault, Faults, Site, TestEntropy,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Nothing here takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The fake gateway, behind a gate that can be closed: a charge then hangs until it is opened.
pub(crate) struct GatedGateway {
    pub(crate) inner: FakeGateway,
    gate: watch::Sender<bool>,
    /// Charges that have begun.
    pub(crate) begun: Semaphore,
}

impl GatedGateway {
    pub(crate) fn close(&self) {
        self.gate.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }
}

#[async_trait]
impl PaymentGateway for GatedGateway {
    async fn charge(&self, request: &ChargeRequest) -> ChargeOutcome {
        self.begun.add_permits(1);
        self.gate.subscribe().wait_for(|open| *open).await.expect("the gate lives as long as the gateway");
        self.inner.charge(request).await
    }

    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
    ) -> Result<Lookup<Transaction>, LookupError> {
        self.inner.find_by_key(merchant, key).await
    }

    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
    ) -> Result<Lookup<Vec<TransactionSummary>>, LookupError> {
        self.inner.find_by_order(merchant, order_ref).await
    }
}

/// The database can be switched off.
#[derive(Default)]
pub(crate) struct Switch {
    /// It is off.
    pub(crate) off: AtomicBool,
    /// It answers nothing as long as this is true.
    pub(crate) silent: AtomicBool,
    /// How often it was asked something.
    pub(crate) asked: AtomicUsize,
}

#[async_trait]
impl Faults for Switch {
    async fn before(&self, _site: Site) -> Fault {
        self.asked.fetch_add(1, Ordering::SeqCst);
        while self.silent.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if self.off.load(Ordering::SeqCst) { Fault::Unavailable } else { Fault::None }
    }
}

/// Two circuits that remember what they were told.
#[derive(Default)]
struct TestCircuits(Mutex<BTreeMap<&'static str, &'static str>>);

impl TestCircuits {
    fn body(name: &str, state: &str) -> CircuitBody {
        CircuitBody {
            name: name.to_owned(),
            state: state.to_owned(),
            failure_rate: -1.0,
            slow_call_rate: -1.0,
            buffered_calls: 0,
            not_permitted_calls: 0,
            retry_after: None,
        }
    }
}

impl Circuits for TestCircuits {
    fn list(&self) -> Vec<CircuitBody> {
        let states = self.0.lock().unwrap();
        ["pg-payment", "pg-query"]
            .map(|name| Self::body(name, states.get(name).copied().unwrap_or("CLOSED")))
            .into()
    }

    fn set(&self, name: &str, command: CircuitCommand) -> Option<CircuitBody> {
        let name = ["pg-payment", "pg-query"].into_iter().find(|known| *known == name)?;
        self.0.lock().unwrap().insert(name, command.as_str());
        Some(Self::body(name, command.as_str()))
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) gateway: Arc<GatedGateway>,
    pub(crate) switch: Arc<Switch>,
    /// The database behind it.
    pub(crate) store: Arc<FakeStore>,
    pub(crate) changes: OrderChanges,
    /// The use-cases of another process on the same database, whose notices are lost.
    pub(crate) application: Application,
    running: Running,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With settings over the defaults.
    pub(crate) fn with(environment: &[(&str, &str)]) -> Self {
        Self::changed(environment, |_| {})
    }

    /// With settings that no check has seen.
    pub(crate) fn changed(environment: &[(&str, &str)], change: impl FnOnce(&mut Settings)) -> Self {
        let base = [
            ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
            ("HOLDFAST__SERVER__BIND", "127.0.0.1:0"),
            ("HOLDFAST__OPS__BIND", "127.0.0.1:0"),
            ("HOLDFAST__POINTS__SELF_CHARGE", "true"),
            ("HOLDFAST__SERVER__WORKERS", "2"),
            // On a busy machine nothing may run into these.
            ("HOLDFAST__ORDERS__RESPONSE_DEADLINE", "60s"),
            ("HOLDFAST__SERVER__CLIENT_REQUEST_TIMEOUT", "60s"),
        ];
        let all = base.iter().chain(environment).copied().collect::<BTreeMap<_, _>>();
        let mut settings = load(None, Environment::from_pairs(all)).expect("good settings").settings;
        change(&mut settings);
        Self::on(&settings)
    }

    fn on(settings: &Settings) -> Self {
        let (gate, _) = watch::channel(true);
        let gateway = Arc::new(GatedGateway { inner: FakeGateway::new(), gate, begun: Semaphore::new(0) });
        let switch = Arc::new(Switch::default());
        let store = Arc::new(FakeDatabase::new().connect(switch.clone(), ConnectionOptions::default()));
        let adapters = Adapters {
            store: store.clone(),
            queries: store.clone(),
            settlement_store: store.clone(),
            settlement_queries: store.clone(),
            health_queries: store.clone(),
            gateway: gateway.clone(),
            entropy: Arc::new(TestEntropy::new(7)),
        };
        let policy = Policy {
            deadline: DEADLINE,
            query_interval: Duration::from_millis(1),
            sync_interval: Duration::from_millis(1),
            ..Policy::new(MerchantId::new("test").unwrap(), "http://localhost:8080")
        };
        let tokens = CallbackTokens::new(b"a secret of the tests").unwrap();
        let changes = OrderChanges::new();
        let own = Application::new(adapters.clone(), policy.clone(), tokens.clone());
        let application = Application::new(adapters, policy, tokens);
        let parts = Parts {
            application: own,
            circuits: Arc::new(TestCircuits::default()),
            publish_metrics: Arc::new(|| async {}.boxed()),
            metrics: Arc::new(|| "up 1\n".to_owned()),
            changes: changes.clone(),
            shutdown: Shutdown::new(),
        };
        let running = app_server::start(&parts, settings).expect("ports that are free");
        let (addr, ops) = (running.addr, running.ops_addr);
        Self { addr, ops, gateway, switch, store, changes, application, running }
    }

    /// What the gateway calls an order.
    pub(crate) fn order_ref(&self, order: OrderId) -> GatewayOrderRef {
        self.store.database().read(|tables| tables.payment_of(order).unwrap().record.order_ref.clone())
    }

    /// Writes a row of the discrepancy ledger; its id.
    pub(crate) async fn record_discrepancy(&self, payment: i64, discrepancy: Discrepancy) -> i64 {
        let payment_id = PaymentId::new(payment).unwrap();
        let needs = SettlingNeeds { payment_id, keys: Vec::new(), goods: false };
        let (tx, settling) = self.store.open_settling(&[needs]).await.unwrap();
        let order_id = settling.cases[&payment_id].order.value.id();
        let changes = Changes { discrepancies: vec![discrepancy], ..Changes::none(payment_id, order_id) };
        tx.store_changes(&[changes]).await.unwrap();
        tx.commit().await.unwrap();
        self.store.database().read(|tables| tables.discrepancies.keys().last().unwrap().get())
    }

    pub(crate) async fn stop(self) -> Drained {
        tokio::time::timeout(DEADLINE, self.running.stop()).await.expect("a stop ends")
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        Request::new(self.addr, "GET", path).header("X-USER-ID", "1")
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Request {
        Request::new(self.addr, "POST", path).header("X-USER-ID", "1").json(body)
    }

    pub(crate) fn ops_get(&self, path: &str) -> Request {
        Request::new(self.ops, "GET", path)
    }

    pub(crate) fn ops_post(&self, path: &str, body: impl AsRef<[u8]>) -> Request {
        Request::new(self.ops, "POST", path).json(body)
    }

    /// A product through the operations API; its id.
    pub(crate) async fn product(&self, price: i64, stock: i64) -> i64 {
        let body = format!(r#"{{"name":"텀블러","price":{price},"stock":{stock}}}"#);
        let made = self.ops_post("/admin/products", body).send().await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.data("productId").as_i64().unwrap()
    }

    /// An order of one piece by card, with the next charge accepted under this key.
    pub(crate) async fn accepted_order(&self, product: i64, key: &str) -> Response {
        let key = GatewayKey::new(key).unwrap();
        self.gateway
            .inner
            .on_charge_answer(GatewayAnswer::Accepted { key, status: TransactionStatus::Pending });
        self.post("/api/v1/orders", card_order(product, 1)).send().await
    }
}

/// The body of an order by card.
pub(crate) fn card_order(product: i64, quantity: i64) -> String {
    format!(
        r#"{{"items":[{{"productId":{product},"quantity":{quantity}}}],"cardType":"SAMSUNG","cardNo":"1234-5678-9814-1451"}}"#
    )
}

/// A request to be sent on a connection of its own.
#[derive(Clone)]
pub(crate) struct Request {
    addr: SocketAddr,
    source: Option<Ipv4Addr>,
    head: String,
    body: Vec<u8>,
    is_chunked: bool,
}

impl Request {
    pub(crate) fn new(addr: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
        Self { addr, source: None, head, body: Vec::new(), is_chunked: false }
    }

    /// Comes from another address of this machine: all of 127.0.0.0/8 are.
    pub(crate) fn from(mut self, source: [u8; 4]) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Takes all headers of this name out again.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let prefix = format!("{}:", name.to_lowercase());
        self.head = self
            .head
            .split_inclusive("\r\n")
            .filter(|line| !line.to_lowercase().starts_with(&prefix))
            .collect();
        self
    }

    pub(crate) fn json(self, body: impl AsRef<[u8]>) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    /// A JSON body in chunks, as they stand on the wire.
    pub(crate) fn chunked(mut self, chunks: &str) -> Self {
        self.body = chunks.as_bytes().to_vec();
        self.is_chunked = true;
        self.header("Content-Type", "application/json").header("Transfer-Encoding", "chunked")
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Opens a connection and sends all of it.
    pub(crate) async fn begin(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(source) = self.source {
            socket.bind(SocketAddr::from((source, 0))).expect("an address of this machine");
        }
        let mut stream = socket.connect(self.addr).await.expect("a server listens");
        let length = if self.is_chunked || self.body.is_empty() && !self.head.starts_with("POST") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", self.body.len())
        };
        let head = format!("{}{length}\r\n", self.head);
        stream.write_all(head.as_bytes()).await.expect("a head that is read");
        // A server may refuse a long body before its end.
        drop(stream.write_all(&self.body).await);
        stream
    }

    pub(crate) async fn send(&self) -> Response {
        let mut stream = self.begin().await;
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
        read.expect("an answer in time").expect("an answer to its end");
        Response::parse(&bytes)
    }
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    pub(crate) fn data(&self, name: &str) -> Value {
        self.value()["data"][name].clone()
    }

    /// The envelope's codes, after a look at all its members.
    pub(crate) fn failure(&self) -> (u16, String, String) {
        let value = self.value();
        let meta = value["meta"].as_object().unwrap_or_else(|| panic!("no envelope: {}", self.body));
        assert_eq!(meta.keys().collect::<Vec<_>>(), ["errorCode", "message", "reason", "result"]);
        assert_eq!(meta["result"], "FAIL", "{}", self.body);
        assert!(value.get("data").is_some(), "{}", self.body);
        assert!(meta["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.body);
        assert!(self.header("x-request-id").is_some(), "{:?}", self.headers);
        let text = |name: &str| meta[name].as_str().unwrap().to_owned();
        (self.status, text("errorCode"), text("reason"))
    }
}

/// Sends these bytes and nothing more; what comes back until the server closes the connection.
pub(crate) async fn on_the_wire(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("a server listens");
    stream.write_all(bytes).await.expect("bytes that are read");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    read.expect("an end in time").expect("an orderly end");
    String::from_utf8(answer).expect("text")
}

/// Asserts status, code and reason.
#[track_caller]
pub(crate) fn assert_failure(response: &Response, status: u16, code: &str, reason: &str) {
    let expected = (status, code.to_owned(), reason.to_owned());
    assert_eq!(response.failure(), expected, "{}", response.body);
}

/// What looks like a secret and is none: its every beginning and end, more of it, another letter, another case.
pub(crate) fn almost(secret: &str) -> Vec<String> {
    let beginnings = (0..secret.len()).map(|length| secret[..length].to_owned());
    let ends = (1..secret.len()).map(|from| secret[from..].to_owned());
    let others = (0..secret.len()).map(|at| format!("{}~{}", &secret[..at], &secret[at + 1..]));
    let more = [format!("{secret}0"), format!("0{secret}"), secret.repeat(2), secret.to_uppercase()];
    beginnings.chain(ends).chain(others).chain(more).collect()
}

/// Asks again and again until it is so.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("it became so in time")
}

/// Runs something beside the test.
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio_util::task::TaskTracker::new().spawn(work)
}
