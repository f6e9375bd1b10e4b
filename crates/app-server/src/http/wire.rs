//! What a request's method and version make of its answer: HEAD, and clients that speak HTTP/1.0.

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, Method, Version};
use actix_web::web::Bytes;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How one answer is to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    without_body: bool,
    without_chunks: bool,
}

impl Wire {
    /// Reads it off a request, and makes HEAD a GET for all that comes after: every path is asked by both alike.
    pub(crate) fn take(request: &mut ServiceRequest) -> Self {
        let without_body = *request.method() == Method::HEAD;
        if without_body {
            request.head_mut().method = Method::GET;
        }
        Self { without_body, without_chunks: request.version() < Version::HTTP_11 }
    }

    /// An answer as its client can read it.
    pub(crate) fn fit(self, mut response: ServiceResponse) -> ServiceResponse {
        let size = response.response().body().size();
        if self.without_chunks && size == BodySize::Stream {
            // The end of such a body is the end of the connection.
            let head = response.response_mut().head_mut();
            head.no_chunking(true);
            head.set_connection_type(ConnectionType::Close);
        }
        if self.without_body { response.map_body(|_, _| BoxBody::new(NoBody(size))) } else { response }
    }
}

/// Announces a body and has none. The framework would not send the true one either, but would wait for its end.
struct NoBody(BodySize);

impl MessageBody for NoBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}
