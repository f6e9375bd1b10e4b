//! Every operation of the documents that are checked in has an example of its request, and the example works: sent as it
//! stands there, it gets the documented success in the documented form.

use crate::orders::callback_token;
use crate::support::{Request, Response, Server, eventually};
use domain::ports::GatewayAnswer;
use domain::settlement::{Discrepancy, DiscrepancyKind, Transaction, TransactionStatus};
use domain::{GatewayKey, Money, OrderId, PaymentId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The key that the examples name.
/// The order of the examples, as the gateway knows it.
const ORDER_REF: &str = "k3f9a2-100001-00c1d2e3f4a5b6c7";
const KEY: &str = "20250816:TR:9577c5";

fn document(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("a document")).expect("JSON")
}

/// One operation of a document.
struct Operation<'a> {
    document: &'a Value,
    name: String,
    method: String,
    path: String,
    of: &'a Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, of) in item.as_object().unwrap() {
            let name = of["operationId"].as_str().unwrap().to_owned();
            all.push(Operation { document, name, method: method.to_uppercase(), path: path.clone(), of });
        }
    }
    all
}

/// The events of a stream, each with its fields.
fn events(stream: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for event in stream.split("\n\n") {
        let fields: BTreeMap<_, _> = event.lines().filter_map(|line| line.split_once(": ")).collect();
        if !fields.is_empty() {
            events.push(json!(fields));
        }
    }
    events
}

impl Operation<'_> {
    /// The request that the example describes; what has no example fails the test. `token` is the one thing that no
    /// document can tell.
    fn request(&self, addr: SocketAddr, token: &str, order_ref: &str) -> Request {
        let (mut path, mut query, mut headers) = (self.path.clone(), Vec::new(), Vec::new());
        for parameter in self.of["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let example = &parameter["example"];
            assert!(!example.is_null(), "{}: the parameter {name} has no example", self.name);
            self.check(&parameter["schema"], example, name);
            let text = match (name, example) {
                ("token", _) => token.to_owned(),
                (_, Value::String(text)) => text.clone(),
                (_, other) => other.to_string(),
            };
            match parameter["in"].as_str().unwrap() {
                "path" => path = path.replace(&format!("{{{name}}}"), &text),
                "query" => query.push(format!("{name}={text}")),
                "header" => headers.push((name, text)),
                other => panic!("{}: a parameter in {other}", self.name),
            }
        }
        assert!(!path.contains('{'), "{}: {path} has an undocumented parameter", self.name);
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let mut request = Request::new(addr, &self.method, &path);
        for (name, text) in headers {
            request = request.header(name, &text);
        }
        let body = &self.of["requestBody"]["content"]["application/json"];
        if body.is_null() {
            return request;
        }
        assert!(!body["example"].is_null(), "{}: the body has no example", self.name);
        self.check(&body["schema"], &body["example"], "the request's body");
        // What the gateway was given as order id is drawn by chance.
        request.json(body["example"].to_string().replace(ORDER_REF, order_ref))
    }

    /// The answer is the documented success: status, headers, and a body that keeps its schema.
    fn check_success(&self, told: &Response) {
        let documented = &self.of["responses"][told.status.to_string()];
        assert!((200..300).contains(&told.status), "{}: {} {}", self.name, told.status, told.body);
        assert!(!documented.is_null(), "{}: {} is not documented", self.name, told.status);
        for name in documented["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            assert!(told.header(&name.to_lowercase()).is_some(), "{}: no header {name}", self.name);
        }
        let sent = told.header("content-type").unwrap_or_default();
        let media_type = sent.split(';').next().unwrap().trim();
        let schema = &documented["content"][media_type]["schema"];
        assert!(!schema.is_null(), "{}: {media_type} is not documented", self.name);
        let bodies = match media_type {
            "application/json" => vec![told.value()],
            "text/event-stream" => events(&told.body),
            _ => vec![json!(told.body)],
        };
        assert!(!bodies.is_empty(), "{}: nothing was said", self.name);
        for body in bodies {
            self.check(schema, &body, &told.body);
        }
    }

    /// All examples of failures keep their schema.
    fn check_failures(&self) {
        for (status, response) in self.of["responses"].as_object().unwrap() {
            if !status.starts_with(['4', '5']) {
                continue;
            }
            let content = &response["content"]["application/json"];
            let examples = content["examples"].as_object().unwrap_or_else(|| {
                panic!("{}: {status} has no examples", self.name);
            });
            for (reason, example) in examples {
                self.check(&content["schema"], &example["value"], reason);
            }
        }
    }

    fn check(&self, schema: &Value, value: &Value, what: &str) {
        let mut root = schema.clone();
        root["components"] = self.document["components"].clone();
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .build(&root)
            .unwrap_or_else(|error| panic!("{}: {what}: {error}", self.name));
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {what}: {errors:#?}", self.name);
    }
}

fn accept_the_next_charge(server: &Server, key: &str) {
    let key = GatewayKey::new(key).unwrap();
    server
        .gateway
        .inner
        .on_charge_answer(GatewayAnswer::Accepted { key, status: TransactionStatus::Pending });
}

/// A server that has what the examples name: product 1, coupon 1, the order 100001 with payment 1 that has ended,
/// discrepancy 1.
async fn prepared() -> Server {
    let server = Server::start();
    assert_eq!(server.product(15_000, 100).await, 1);
    let coupon = r#"{"name":"10%","discountType":"RATE","discountValue":10}"#;
    assert_eq!(server.ops_post("/admin/coupons", coupon).send().await.data("couponId"), 1);
    let placed = server.accepted_order(1, KEY).await;
    assert_eq!((placed.data("orderId"), placed.data("paymentId")), (json!(100_001), json!(1)));
    let (order, payment) = (OrderId::new(100_001).unwrap(), PaymentId::new(1).unwrap());
    server.gateway.inner.put(Transaction {
        key: GatewayKey::new(KEY).unwrap(),
        order_ref: server.order_ref(order),
        amount: Money::new(15_000).unwrap(),
        status: TransactionStatus::Success,
        reason: None,
        made_before: None,
    });
    let sync = server.post("/api/v1/payments/1/sync", "");
    eventually(async || (sync.send().await.data("status") == "PAID").then_some(())).await;
    let discrepancy = Discrepancy {
        kind: DiscrepancyKind::DuplicateCharge,
        key: Some(GatewayKey::new("20250816:TR:0000d1").unwrap()),
        amount: Some(Money::new(15_000).unwrap()),
        evidence: "SUCCESS, 15000 won".to_owned(),
    };
    assert_eq!(server.record_discrepancy(payment.get(), discrepancy).await, 1);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_a_request_gets_what_is_documented() {
    let server = prepared().await;
    let token = callback_token(&server);
    let order_ref = server.order_ref(OrderId::new(100_001).unwrap());
    for (name, addr, count) in
        [("openapi.json", server.addr, 14), ("openapi-operations.json", server.ops, 14)]
    {
        let document = document(name);
        let operations = operations(&document);
        assert_eq!(operations.len(), count, "{name}");
        for operation in operations {
            if operation.name == "placeOrder" {
                accept_the_next_charge(&server, "20250816:TR:9577c6");
            }
            let told = operation.request(addr, &token, order_ref.as_str()).send().await;
            operation.check_success(&told);
            operation.check_failures();
        }
    }
}

#[test]
#[should_panic(expected = "the parameter limit has no example")]
fn an_operation_without_an_example_fails() {
    let document = json!({ "paths": { "/x": { "get": {
        "operationId": "x", "parameters": [{ "name": "limit", "in": "query", "schema": { "type": "integer" } }],
    } } } });
    operations(&document)[0].request("127.0.0.1:1".parse().unwrap(), "", "");
}
