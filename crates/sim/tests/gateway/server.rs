//! `pg-simulator` on a port of its own, reached by the real HTTP client, and somebody who takes its callbacks.

use crate::driver::{Driver, LookUpFault, Manners, RequestFault};
use adapters_pg::transport::Transport;
use adapters_pg::{HttpConfig, HttpTransport};
use domain::GatewayKey;
use pg_simulator::engine::{Fault, LookupFate, RequestFate};
use pg_simulator::knobs::{Knobs, patch};
use pg_simulator::server::{Config, RunningSimulator, start};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// More requests and look-ups than a case makes.
const ALWAYS: usize = 1000;
/// Nothing here takes that long; it only ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

type Told = Arc<Mutex<Vec<(GatewayKey, String)>>>;

pub(crate) struct Server {
    running: RunningSimulator,
    transport: HttpTransport,
    base: String,
    told: Told,
    _listener: JoinSet<()>,
}

/// What is laid over the documented behaviour.
fn change(manners: Manners) -> Value {
    match manners {
        Manners::Undecided => json!({ "settlement": { "stuck": 1.0 } }),
        Manners::DecidedAtOnce => json!({ "request": { "decided_at_once": 1.0 } }),
        Manners::WrongAmount => json!({ "request": { "wrong_amount": 1.0 } }),
        Manners::KeyReused => json!({ "key": { "collision": 1.0 } }),
        Manners::CallbackLost => json!({ "callback": { "dropped": 1.0 } }),
        Manners::CallbackRepeated => json!({ "callback": { "duplicated": 1.0, "copies": 3 } }),
        Manners::Documented | Manners::Obedient | Manners::Request(_) | Manners::LookUp(_) => json!({}),
    }
}

fn fates(fault: RequestFault) -> Vec<RequestFate> {
    use RequestFate::{CreateThen, Fail};
    match fault {
        RequestFault::Http500 => vec![Fail(Fault::Error500)],
        RequestFault::Create500 => vec![CreateThen(Fault::Error500)],
        RequestFault::Http503 => vec![Fail(Fault::Error503)],
        RequestFault::Create503 => vec![CreateThen(Fault::Error503)],
        RequestFault::Http429 => vec![Fail(Fault::Error429)],
        RequestFault::BadGateway => vec![
            Fail(Fault::Error502),
            CreateThen(Fault::Error502),
            Fail(Fault::Error504),
            CreateThen(Fault::Error504),
        ],
        RequestFault::Garbage => vec![Fail(Fault::Garbage), CreateThen(Fault::Garbage)],
        RequestFault::ResetLost => vec![Fail(Fault::Reset)],
        RequestFault::ResetCreated => vec![CreateThen(Fault::Reset)],
        RequestFault::HangLost => vec![Fail(Fault::Hang)],
        RequestFault::HangCreated => vec![CreateThen(Fault::Hang)],
    }
}

impl Driver for Server {
    async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut layers = vec![json!({ "callback_url_prefix": base })];
        if manners != Manners::Documented {
            let latency = json!({ "min": "0s", "max": "5ms" });
            layers.push(json!({ "request": { "error_500": 0.0, "latency": latency } }));
        }
        layers.push(change(manners));
        let mut knobs = Knobs::default();
        for layer in layers {
            knobs = patch::apply(&knobs, &patch::changes_in(&layer).unwrap()).unwrap();
        }
        let running = start(Config { bind: "127.0.0.1:0".parse().unwrap(), knobs }).await.unwrap();
        match manners {
            Manners::Request(fault) => running.script_requests(fates(fault).into_iter().cycle().take(ALWAYS)),
            Manners::LookUp(fault) => {
                let fate = match fault {
                    LookUpFault::Error => LookupFate::Fail(Fault::Error500),
                    LookUpFault::Hang => LookupFate::Fail(Fault::Hang),
                    LookUpFault::False404 => LookupFate::NotFound,
                };
                running.script_lookups(std::iter::repeat_n(fate, ALWAYS));
            }
            _ => {}
        }
        let http = HttpConfig {
            base_url: running.base_url(),
            payment_connect_timeout: PATIENCE,
            query_connect_timeout: PATIENCE,
            ..HttpConfig::default()
        };
        let transport = HttpTransport::new(&http).unwrap();
        let told = Told::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, Arc::clone(&told)));
        Self { running, transport, base, told, _listener: tasks }
    }

    fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    fn callback_base(&self) -> String {
        self.base.clone()
    }

    fn told(&self) -> Vec<(GatewayKey, String)> {
        self.told.lock().unwrap().clone()
    }

    fn wipe(&self) {
        self.running.wipe();
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

async fn listen(listener: TcpListener, told: Told) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(receive(stream, Arc::clone(&told)));
    }
}

/// One callback: the key in its body, and the token at the end of its path.
async fn receive(mut stream: TcpStream, told: Told) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let Ok(body) = serde_json::from_str::<Value>(body) else { continue };
        let path = head.split(' ').nth(1).unwrap();
        let token = path.rsplit('/').next().unwrap().to_owned();
        assert_eq!(body["orderId"], token, "a callback of another order");
        let key = GatewayKey::new(body["transactionKey"].as_str().unwrap()).unwrap();
        told.lock().unwrap().push((key, token));
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
}
