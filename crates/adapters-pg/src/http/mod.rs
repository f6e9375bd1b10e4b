//! [`Transport`] over HTTP by reqwest.
//!
//! The client is built for one property: what happened to the request is known as exactly as TCP allows. No redirects (a
//! 307 would send the card number, and perhaps charge, a second time), no proxies from the environment, no retries of the
//! client's own, every time bounded. The two kinds of call have a connection pool each.
//!
//! Whether a payment request's bytes have left is not guessed from an error: its body ([`gate::GatedBody`]) is the witness.
//! A time-out before the first byte is a connect time-out, one after it is uncertain, and a request whose deadline passed
//! while it waited, or while the process was stopped, does not leave at all.
//!
//! Deliberately absent: repeated attempts, and any log line with a request's or an answer's content.

mod failure;
mod gate;

use crate::classify::{self, Answer, Body};
use crate::transport::{Limits, LookupAttempt, LookupFailure, PaymentAttempt, Transport, cause};
use async_trait::async_trait;
use domain::ports::{ChargeRequest, FailureCause, TransactionSummary};
use domain::settlement::Transaction;
use domain::{CardType, GatewayKey, GatewayOrderRef, MerchantId};
use gate::{GatedBody, SendGate};
use pg_protocol::{
    MERCHANT_HEADER, PAYMENTS_PATH, PaymentRequest, order_transactions_path, transaction_path,
};
use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, Url, redirect, retry};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use zeroize::Zeroizing;

/// Settings of the HTTP client; the defaults are those of spec 03.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// `pg.base_url`: scheme, host, port and at most a path; `/api/v1/payments` is added.
    pub base_url: String,
    /// `pg.payment.connect_timeout`.
    pub payment_connect_timeout: Duration,
    /// `pg.query.connect_timeout`.
    pub query_connect_timeout: Duration,
    /// `pg.max_answer_size`, in bytes. A longer answer is not read, and refused unread when it says so itself.
    pub max_answer_size: usize,
    /// `pg.idle_connection_timeout`: must be shorter than the gateway's, because a request on a connection that the gateway
    /// closes at that moment is uncertain. Zero: no connection is used twice.
    pub idle_connection_timeout: Duration,
    /// `pg.max_concurrent_calls`: so many idle connections are kept at most, of each kind.
    pub max_idle_connections: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            base_url: "http://localhost:8082".to_owned(),
            payment_connect_timeout: Duration::from_secs(1),
            query_connect_timeout: Duration::from_secs(1),
            max_answer_size: 64 * 1024,
            idle_connection_timeout: Duration::from_secs(4),
            max_idle_connections: 256,
        }
    }
}

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpTransportError {
    /// `pg.base_url` is not an address of the form `http://host:port`.
    #[error("pg.base_url is not an http or https address without query, fragment and credentials")]
    BaseUrl,
    /// The TLS set-up failed, for instance because the machine has no root certificates.
    #[error("set up the payment gateway's HTTP client")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The payment gateway over HTTP.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    payments: Client,
    queries: Client,
    /// Without a slash at its end.
    base: String,
    max_answer_size: usize,
}

impl HttpTransport {
    /// Builds both clients. No connection is made yet. The first call makes ring the process's TLS provider, unless it
    /// has one.
    ///
    /// # Errors
    /// [`HttpTransportError`].
    pub fn new(config: &HttpConfig) -> Result<Self, HttpTransportError> {
        let base = Url::parse(&config.base_url).map_err(|_unreadable| HttpTransportError::BaseUrl)?;
        let plain = base.query().is_none() && base.fragment().is_none();
        let anonymous = base.username().is_empty() && base.password().is_none();
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || !plain || !anonymous {
            return Err(HttpTransportError::BaseUrl);
        }
        let with_tls = base.scheme() == "https";
        Ok(Self {
            payments: client(config, config.payment_connect_timeout, with_tls)?,
            queries: client(config, config.query_connect_timeout, with_tls)?,
            base: base.as_str().trim_end_matches('/').to_owned(),
            max_answer_size: config.max_answer_size,
        })
    }

    /// Asks and waits for the answer's head, then its body.
    async fn ask(&self, merchant: &MerchantId, path: &str, limits: Limits) -> Result<Answer, LookupFailure> {
        // Connections come from the pool nearly always, so the time to open one is not kept apart here as it is for
        // payments, where it decides about money.
        let until = earlier(Instant::now(), limits.read, limits.until);
        let request = self.queries.get(format!("{}{path}", self.base));
        let sent = headers(request, merchant).send();
        match timeout_at(until, sent).await {
            Ok(Ok(response)) => Ok(self.read(response, until).await),
            Ok(Err(error)) => Err(unreachable(failure::cause(&error))),
            Err(_elapsed) => Err(unreachable(cause::READ_TIMEOUT)),
        }
    }

    /// Reads the body, up to the limits of size and time. What is missing then stands in the answer.
    async fn read(&self, mut response: Response, until: Instant) -> Answer {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let mut answer = Answer {
            status: response.status().as_u16(),
            is_json: classify::is_json(header(CONTENT_TYPE)),
            retry_after: classify::retry_after(header(RETRY_AFTER), header(DATE)),
            body: Body::TooLarge,
        };
        let announced = response.content_length().unwrap_or(0);
        if usize::try_from(announced).is_ok_and(|announced| announced <= self.max_answer_size) {
            answer.body = match timeout_at(until, collect(&mut response, self.max_answer_size)).await {
                Ok(body) => body,
                Err(_elapsed) => Body::Broken(cause::READ_TIMEOUT),
            };
        }
        answer
    }
}

async fn collect(response: &mut Response, limit: usize) -> Body {
    let mut whole = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if whole.len().saturating_add(chunk.len()) <= limit => {
                whole.extend_from_slice(&chunk);
            }
            Ok(Some(_too_much)) => return Body::TooLarge,
            Ok(None) => return Body::Whole(whole),
            Err(error) => return Body::Broken(failure::cause(&error)),
        }
    }
}

fn client(
    config: &HttpConfig,
    connect_timeout: Duration,
    with_tls: bool,
) -> Result<Client, HttpTransportError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been faster: then there is one, which is all that is needed.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .http1_only()
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(config.idle_connection_timeout)
        .pool_max_idle_per_host(if config.idle_connection_timeout.is_zero() {
            0
        } else {
            config.max_idle_connections
        })
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")));
    if !with_tls {
        // No certificates are looked for, so that a machine without any can use a gateway without TLS.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| HttpTransportError::Client(Box::new(error)))
}

fn headers(request: RequestBuilder, merchant: &MerchantId) -> RequestBuilder {
    request.header(MERCHANT_HEADER, merchant.as_str()).header(ACCEPT, "application/json")
}

fn unreachable(cause: FailureCause) -> LookupFailure {
    LookupFailure::Unreachable { cause, retry_after: None }
}

/// `from + span`, at most `until`.
fn earlier(from: Instant, span: Duration, until: Instant) -> Instant {
    from.checked_add(span).map_or(until, |end| end.min(until))
}

/// The request's body, in memory that is wiped when it has been sent.
fn payment_body(request: &ChargeRequest) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let wire = PaymentRequest {
        order_id: Cow::Borrowed(request.order_ref.as_str()),
        card_type: match request.card_type {
            CardType::Samsung => pg_protocol::CardType::Samsung,
            CardType::Kb => pg_protocol::CardType::Kb,
            CardType::Hyundai => pg_protocol::CardType::Hyundai,
        },
        card_no: Cow::Borrowed(request.card_number.expose()),
        amount: request.amount.won(),
        callback_url: Cow::Borrowed(&request.callback_url),
    };
    // Room for all of it: a vector that grows leaves copies of the card number behind.
    let mut body = Zeroizing::new(Vec::with_capacity(512 + 2 * request.callback_url.len()));
    serde_json::to_writer(&mut *body, &wire)?;
    Ok(body)
}

#[async_trait]
impl Transport for HttpTransport {
    async fn request_payment(&self, request: &ChargeRequest, limits: Limits) -> PaymentAttempt {
        let Ok(body) = payment_body(request) else {
            // Texts and numbers always serialize; nothing was sent.
            return PaymentAttempt::NotReached {
                cause: cause::HTTP_CLIENT,
                may_have_created: false,
                retry_after: None,
            };
        };
        let gate = Arc::new(SendGate::new(limits.until));
        let builder = self.payments.post(format!("{}{PAYMENTS_PATH}", self.base));
        let sent = headers(builder, &request.merchant)
            .header(CONTENT_TYPE, "application/json")
            .body(reqwest::Body::wrap(GatedBody::new(body, Arc::clone(&gate))))
            .send();
        // The client's own connect time-out comes first and knows more; this one is for what it does not cover.
        let connect_until =
            earlier(Instant::now(), limits.connect + Duration::from_millis(100), limits.until);
        let time_is_up = async {
            tokio::select! {
                () = gate.opened() => sleep_until(gate.read_until(limits)).await,
                () = sleep_until(connect_until) => {}
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = sent => outcome,
            () = time_is_up => return failure::timed_out(&gate),
        };
        match outcome {
            Ok(response) => classify::payment(&self.read(response, gate.read_until(limits)).await),
            Err(error) => failure::payment(&error, &gate),
        }
    }

    async fn find_by_key(
        &self,
        merchant: &MerchantId,
        key: &GatewayKey,
        limits: Limits,
    ) -> LookupAttempt<Transaction> {
        if matches!(key.as_str(), "." | "..") {
            // As a path segment these address another resource, however they are encoded.
            return Err(LookupFailure::NotAskable);
        }
        let answer = self.ask(merchant, &transaction_path(key.as_str()), limits).await?;
        classify::by_key(&answer, key)
    }

    async fn find_by_order(
        &self,
        merchant: &MerchantId,
        order_ref: &GatewayOrderRef,
        limits: Limits,
    ) -> LookupAttempt<Vec<TransactionSummary>> {
        let answer = self.ask(merchant, &order_transactions_path(order_ref.as_str()), limits).await?;
        classify::by_order(&answer, order_ref)
    }
}
