//! Answers in the envelope, written as the real gateway's server writes them: without a reason phrase in the status line,
//! in chunks, and with `Connection: close` after a 500.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use pg_protocol::Envelope;
use serde::Serialize;
use serde_json::Value;

use crate::engine::Refusal;
use crate::knobs::WireKnobs;

/// For the admin calls: every member is there.
pub(super) const ADMIN: Form = Form { null_members: true };

/// How JSON is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    null_members: bool,
}

impl From<&WireKnobs> for Form {
    fn from(knobs: &WireKnobs) -> Self {
        Self { null_members: knobs.null_members }
    }
}

impl Form {
    /// 200 with data.
    pub(super) fn success<T: Serialize>(self, data: T) -> HttpResponse {
        self.answer(StatusCode::OK, &Envelope::success(data))
    }

    /// A FAIL envelope.
    pub(super) fn refusal(self, refusal: Refusal) -> HttpResponse {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.answer(status, &Envelope::<()>::failure(refusal.error_code, refusal.message))
    }

    /// A FAIL envelope whose errorCode is the status's reason phrase.
    pub(super) fn failure(self, status: StatusCode, message: impl Into<String>) -> HttpResponse {
        let error_code = status.canonical_reason().unwrap_or("Internal Server Error");
        self.answer(status, &Envelope::<()>::failure(error_code, message))
    }

    /// JSON as it goes onto the wire.
    pub(super) fn json<T: Serialize>(self, body: &T) -> Vec<u8> {
        let written = if self.null_members {
            serde_json::to_vec(body)
        } else {
            serde_json::to_value(body).and_then(|value| serde_json::to_vec(&without_nulls(value)))
        };
        // Texts and numbers always serialize.
        written.unwrap_or_default()
    }

    fn answer<T: Serialize>(self, status: StatusCode, body: &T) -> HttpResponse {
        let mut response = HttpResponse::build(status);
        response.content_type("application/json").reason("");
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            response.force_close();
        }
        response.body(InChunks(Some(self.json(body).into())))
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let there = members.into_iter().filter(|(_, member)| !member.is_null());
            Value::Object(there.map(|(name, member)| (name, without_nulls(member))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// A body that does not announce its length.
struct InChunks(Option<Bytes>);

impl MessageBody for InChunks {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}
