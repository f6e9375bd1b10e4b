//! A simulator on a free port, a client that shows everything, and a merchant that receives callbacks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pg_simulator::engine::{LookupFate, RequestFate};
use pg_simulator::knobs::{Knobs, patch};
use pg_simulator::server::{Config, RunningSimulator, start};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// Nothing here takes that long; it only ends a test that would hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const CARD: &str = "1234-5678-9814-1451";

pub(crate) struct Gateway {
    pub(crate) running: RunningSimulator,
    http: Client,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn data(&self) -> &Value {
        assert_eq!(self.body["meta"]["result"], "SUCCESS", "{self:?}");
        assert_eq!(self.status, 200, "{self:?}");
        &self.body["data"]
    }

    /// Status, errorCode and message of a FAIL envelope that is complete and bears nothing else.
    pub(crate) fn failure(&self) -> (u16, &str, &str) {
        assert_eq!(self.body["meta"]["result"], "FAIL", "{self:?}");
        assert_eq!(self.body["data"], Value::Null, "{self:?}");
        assert_eq!(self.body.as_object().unwrap().len(), 2, "{self:?}");
        let text = |name: &str| self.body["meta"][name].as_str().unwrap_or_default();
        (self.status, text("errorCode"), text("message"))
    }
}

/// Without delays, without chance: accepts, and approves at once. `change` is laid over that.
pub(crate) async fn gateway(change: Value) -> Gateway {
    let obedient = json!({
        "callback_url_prefix": "http://127.0.0.1",
        "request": { "error_500": 0.0, "latency": { "min": "0s", "max": "0s" } },
        "settlement": {
            "processing": { "min": "0s", "max": "0s" }, "success": 1.0, "limit_exceeded": 0.0, "invalid_card": 0.0,
        },
    });
    let mut knobs = Knobs::default();
    for layer in [obedient, change] {
        knobs = patch::apply(&knobs, &patch::changes_in(&layer).unwrap()).unwrap();
    }
    gateway_with(knobs).await
}

pub(crate) async fn gateway_with(knobs: Knobs) -> Gateway {
    let running = start(Config { bind: "127.0.0.1:0".parse().unwrap(), knobs }).await.unwrap();
    let http = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DEADLINE)
        .build()
        .unwrap();
    Gateway { running, http }
}

pub(crate) fn payment(order_id: &str) -> Value {
    json!({
        "orderId": order_id, "cardType": "SAMSUNG", "cardNo": CARD, "amount": 5000,
        "callbackUrl": "http://127.0.0.1:9/callback/token",
    })
}

/// `value` with one member changed, or removed when `to` is null.
pub(crate) fn but(mut value: Value, member: &str, to: Value) -> Value {
    let members = value.as_object_mut().unwrap();
    match to {
        Value::Null => members.remove(member),
        to => members.insert(member.to_owned(), to),
    };
    value
}

impl Gateway {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Reply {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> reqwest::Result<Reply> {
        let mut request = self.http.request(method, format!("{}{path}", self.running.base_url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Ok(Reply { status, headers, body })
    }

    pub(crate) async fn pay(&self, body: &Value) -> Reply {
        self.try_pay(body).await.unwrap()
    }

    pub(crate) async fn try_pay(&self, body: &Value) -> reqwest::Result<Reply> {
        let headers = [("X-USER-ID", "holdfast"), ("content-type", "application/json")];
        self.try_send(Method::POST, "/api/v1/payments", &headers, Some(body.to_string())).await
    }

    pub(crate) async fn pay_raw(&self, body: impl Into<String>) -> Reply {
        let headers = [("X-USER-ID", "holdfast"), ("content-type", "application/json")];
        self.send(Method::POST, "/api/v1/payments", &headers, Some(body.into())).await
    }

    /// Accepts a payment and answers its key.
    pub(crate) async fn accepted(&self, body: &Value) -> String {
        self.pay(body).await.data()["transactionKey"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn look_up(&self, merchant: &str, rest: &str) -> Reply {
        let path = format!("/api/v1/payments{rest}");
        self.send(Method::GET, &path, &[("X-USER-ID", merchant)], None).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], None).await
    }

    pub(crate) async fn admin(&self, method: Method, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, Some(body.to_string())).await
    }

    pub(crate) fn next_request(&self, fate: &str) {
        self.running.script_requests([RequestFate::named(fate).unwrap()]);
    }

    pub(crate) fn next_lookup(&self, fate: &str) {
        self.running.script_lookups([LookupFate::named(fate).unwrap()]);
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(result) = attempt().await {
            return result;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a merchant was told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// Answers every request with the same status, and keeps what it was told.
pub(crate) struct Merchant {
    pub(crate) url: String,
    told: UnboundedReceiver<Told>,
    answers: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

impl Merchant {
    pub(crate) async fn answering(status: u16) -> Self {
        let merchant = Self::with(status).await;
        merchant.answer();
        merchant
    }

    /// Hears everything and answers nothing, until [`Merchant::answer`].
    pub(crate) async fn silent() -> Self {
        Self::with(200).await
    }

    pub(crate) fn answer(&self) {
        self.answers.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    async fn with(status: u16) -> Self {
        let answers = Arc::new(Semaphore::new(0));
        let may_answer = Arc::clone(&answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/callback/t0ken", listener.local_addr().unwrap());
        let (sender, told) = unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(receive(stream, status, sender.clone(), Arc::clone(&may_answer)));
            }
        });
        Self { url, told, answers, _tasks: tasks }
    }

    pub(crate) async fn told(&mut self) -> Told {
        tokio::time::timeout(DEADLINE, self.told.recv()).await.expect("a callback in time").unwrap()
    }

    pub(crate) fn told_already(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }
}

async fn receive(mut stream: TcpStream, status: u16, sender: UnboundedSender<Told>, answers: Arc<Semaphore>) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < length.and_then(|length| length.parse().ok()).unwrap_or(0) {
            continue;
        }
        let body = serde_json::from_str(body).unwrap();
        let answer = format!(
            "HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        sender.send(Told { head, body }).unwrap();
        answers.acquire().await.unwrap().forget();
        // Who has given up waiting is told nothing.
        stream.write_all(answer.as_bytes()).await.ok();
        return;
    }
}
