//! JSON over HTTP to the programs that `up` started: every answer is read, whatever its status.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Longer than the order API's promise of 5 s, so that a broken promise is seen as a number and not as a time-out.
const LIMIT: Duration = Duration::from_secs(15);

/// Bytes; a page of the simulator's ledger is the longest there is.
const LONGEST_BODY: u64 = 64 * 1024 * 1024;

/// An answer whose body is not read.
pub(crate) type Stream = ureq::http::Response<ureq::Body>;

#[derive(Clone)]
pub(crate) struct Http {
    agent: ureq::Agent,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Null when the body is no JSON.
    pub(crate) body: Value,
}

impl Answer {
    /// A text of the envelope's `meta`, empty when it is not there.
    pub(crate) fn meta(&self, name: &str) -> &str {
        self.body.pointer(&format!("/meta/{name}")).and_then(Value::as_str).unwrap_or_default()
    }

    /// A part of the envelope's `data`, by JSON pointer.
    pub(crate) fn data(&self, pointer: &str) -> Option<&Value> {
        self.body.pointer(&format!("/data{pointer}"))
    }

    /// A whole number of the envelope's `data`.
    pub(crate) fn number(&self, pointer: &str) -> Result<i64> {
        self.data(pointer)
            .and_then(Value::as_i64)
            .with_context(|| format!("the answer has no number at data{pointer}: {}", self.body))
    }
}

impl Http {
    pub(crate) fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections_per_host(64)
            .build();
        Self { agent: config.into() }
    }

    pub(crate) fn get(&self, url: &str, user: Option<i64>) -> Result<Answer> {
        let mut request = self.agent.get(url);
        if let Some(user) = user {
            request = request.header("X-USER-ID", user.to_string());
        }
        read(request.call(), url)
    }

    /// As a buyer, with an Idempotency-Key.
    pub(crate) fn post_keyed(&self, url: &str, user: i64, key: &str, body: &Value) -> Result<Answer> {
        let request = self.agent.post(url).header("X-USER-ID", user.to_string());
        read(request.header("Idempotency-Key", key).send_json(body), url)
    }

    pub(crate) fn put(&self, url: &str, body: &Value) -> Result<Answer> {
        read(self.agent.put(url).send_json(body), url)
    }

    /// An answer whose body is not read: it stays open as long as what is returned lives.
    pub(crate) fn stream(&self, url: &str, user: i64) -> Result<Stream> {
        let response = self.agent.get(url).header("X-USER-ID", user.to_string()).call();
        let response = response.with_context(|| format!("no answer from {url}"))?;
        if response.status() != 200 {
            bail!("{url} answered {}", response.status());
        }
        Ok(response)
    }

    /// A text that must be there: the body of an answer 200.
    pub(crate) fn text(&self, url: &str) -> Result<String> {
        let mut response = self.agent.get(url).call().with_context(|| format!("no answer from {url}"))?;
        if response.status() != 200 {
            bail!("{url} answered {}", response.status());
        }
        let body = response.body_mut().with_config().limit(LONGEST_BODY);
        body.read_to_string().with_context(|| format!("cut answer from {url}"))
    }

    pub(crate) fn post(&self, url: &str, user: Option<i64>, body: &Value) -> Result<Answer> {
        let mut request = self.agent.post(url);
        if let Some(user) = user {
            request = request.header("X-USER-ID", user.to_string());
        }
        read(request.send_json(body), url)
    }
}

fn read(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>, url: &str) -> Result<Answer> {
    let mut response = result.with_context(|| format!("no answer from {url}"))?;
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .with_config()
        .limit(LONGEST_BODY)
        .read_to_string()
        .with_context(|| format!("cut answer from {url}"))?;
    Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
}
