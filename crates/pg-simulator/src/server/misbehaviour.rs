//! Acts faults out on the connection.
//!
//! actix-web has no call for "close this connection without an answer". What it does have: when a response body fails
//! before its first byte, the dispatcher drops the connection with nothing written. A reset is the same with `SO_LINGER`
//! set to zero, which needs the socket: a duplicate of it is kept with each connection.

use std::any::Any;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Extensions;
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use pg_protocol::{Envelope, PAYMENTS_PATH};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::Shared;
use super::reply::Form;
use crate::engine::Fault;

/// Between the half of a body that is sent and the cut: long enough for the first to leave.
const PAUSE_BEFORE_CUT: Duration = Duration::from_millis(50);

/// A duplicate of the connection's socket.
struct Connection(StdTcpStream);

/// For `HttpServer::on_connect`.
pub(super) fn remember_connection(stream: &dyn Any, extensions: &mut Extensions) {
    if let Some(stream) = stream.downcast_ref::<TcpStream>()
        && let Ok(duplicate) = stream.as_fd().try_clone_to_owned()
    {
        extensions.insert(Connection(StdTcpStream::from(duplicate)));
    }
}

/// Answers as badly as `fault` says.
pub(super) async fn act_out(fault: Fault, request: &HttpRequest, shared: &Shared) -> HttpResponse {
    let form = shared.form();
    let (hang_for, retry_after) = {
        let engine = shared.engine();
        (engine.knobs().hang_for, engine.knobs().retry_after)
    };
    match fault {
        Fault::Hang => {
            tokio::select! {
                () = shared.stop.cancelled() => {}
                () = tokio::time::sleep(hang_for) => {}
            }
            closed()
        }
        Fault::Close => closed(),
        Fault::Reset => {
            if let Err(error) = reset_on_close(request) {
                tracing::warn!(%error, "the connection cannot be reset, it is closed instead");
            }
            closed()
        }
        Fault::CutBody => cut(),
        Fault::Error429 => told_to_wait(form, StatusCode::TOO_MANY_REQUESTS, retry_after),
        Fault::Error503 => told_to_wait(form, StatusCode::SERVICE_UNAVAILABLE, retry_after),
        Fault::Error500 => unstable(form, StatusCode::INTERNAL_SERVER_ERROR),
        Fault::Error502 => unstable(form, StatusCode::BAD_GATEWAY),
        Fault::Error504 => unstable(form, StatusCode::GATEWAY_TIMEOUT),
        Fault::Redirect => {
            HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, PAYMENTS_PATH)).finish()
        }
        Fault::Garbage => {
            HttpResponse::Ok().content_type("application/json").body("<html><body>점검 중입니다")
        }
        Fault::Empty => HttpResponse::Ok().content_type("application/json").finish(),
        Fault::DataNull => form.success(None::<()>),
    }
}

/// No answer: the connection is closed.
pub(super) fn closed() -> HttpResponse {
    HttpResponse::Ok().body(Torn { rest: None, pause: None, announced: 1 })
}

fn unstable(form: Form, status: StatusCode) -> HttpResponse {
    form.failure(status, "현재 서버가 불안정합니다. 잠시 후 다시 시도해주세요.")
}

fn told_to_wait(form: Form, status: StatusCode, retry_after: Duration) -> HttpResponse {
    let mut response = unstable(form, status);
    if !retry_after.is_zero() {
        let seconds = header::HeaderValue::from(retry_after.as_secs());
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn cut() -> HttpResponse {
    let whole = serde_json::to_vec(&Envelope::<()>::failure("Internal Server Error", "절반만 보냅니다."))
        .unwrap_or_default();
    let half = whole.get(..whole.len() / 2).unwrap_or_default();
    let torn = Torn {
        rest: Some(Bytes::copy_from_slice(half)),
        pause: Some(Box::pin(tokio::time::sleep(PAUSE_BEFORE_CUT))),
        announced: u64::try_from(whole.len()).unwrap_or(u64::MAX),
    };
    HttpResponse::Ok().content_type("application/json").body(BoxBody::new(torn))
}

fn reset_on_close(request: &HttpRequest) -> io::Result<()> {
    let connection = request.conn_data::<Connection>().ok_or(io::ErrorKind::NotConnected)?;
    // tokio's type is the one whose zero linger can be set; the duplicate shares the option with the connection.
    TcpStream::from_std(connection.0.try_clone()?)?.set_zero_linger()
}

/// A body that announces more than it sends, and then fails.
struct Torn {
    rest: Option<Bytes>,
    pause: Option<Pin<Box<Sleep>>>,
    announced: u64,
}

impl MessageBody for Torn {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.announced)
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        if let Some(part) = self.rest.take() {
            return Poll::Ready(Some(Ok(part)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose"))))
    }
}
