//! The clients: one that behaves, and one that hangs up in the middle.

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Longer than the order API's promise of 5 s, and than most stops of a process.
const LIMIT: Duration = Duration::from_secs(12);

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// Null when the text is no JSON.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn number(&self, pointer: &str) -> Option<i64> {
        self.body.pointer(pointer).and_then(Value::as_i64)
    }

    /// The envelope's error code; empty in an answer that tells of success.
    pub(crate) fn error_code(&self) -> &str {
        self.body.pointer("/meta/errorCode").and_then(Value::as_str).unwrap_or_default()
    }
}

#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
}

impl Http {
    pub(crate) fn new() -> Result<Self> {
        // The library asks for a TLS provider even when no address is https.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(2))
            .timeout(LIMIT)
            .build()
            .context("could not make an HTTP client")?;
        Ok(Self { client })
    }

    /// Sends a request, as the buyer `user` if there is one.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        user: Option<i64>,
        idempotency_key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut request = self.client.request(method, url);
        if let Some(user) = user {
            request = request.header("X-USER-ID", user.to_string());
        }
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("no answer from {url}"))?;
        let status = response.status().as_u16();
        let text = response.text().await.with_context(|| format!("cut answer from {url}"))?;
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
    }

    pub(crate) async fn get(&self, url: &str) -> Result<Answer> {
        self.send(Method::GET, url, None, None, None).await
    }

    /// For what must succeed: an answer other than 2xx is an error.
    pub(crate) async fn post(&self, url: &str, user: Option<i64>, body: &Value) -> Result<Answer> {
        self.demand(Method::POST, url, user, body).await
    }

    pub(crate) async fn demand(
        &self,
        method: Method,
        url: &str,
        user: Option<i64>,
        body: &Value,
    ) -> Result<Answer> {
        let answer = self.send(method, url, user, None, Some(body)).await?;
        if !(200..300).contains(&answer.status) {
            bail!("{url} answered {}: {}", answer.status, answer.text);
        }
        Ok(answer)
    }
}

/// Places an order and resets the connection after `patience`, answer or not.
pub(crate) async fn place_and_hang_up(
    port: u16,
    user: i64,
    idempotency_key: Option<&str>,
    body: &Value,
    patience: Duration,
) -> std::io::Result<()> {
    let body = body.to_string();
    let key = idempotency_key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /api/v1/orders HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-USER-ID: {user}\r\n{key}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // Dropped then: a reset instead of an orderly end.
    stream.set_zero_linger()?;
    stream.write_all(request.as_bytes()).await?;
    tokio::time::sleep(patience).await;
    Ok(())
}
