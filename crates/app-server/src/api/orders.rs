//! Reading orders: one, with waiting for its end; a page of them; and the events of one as they happen.

use super::views::{OrderBody, OrderPage};
use crate::auth::Buyer;
use crate::events;
use crate::http::envelope::{Envelope, ok};
use crate::http::failure::{Case, Failure};
use crate::http::read::{Id, PageParams, Query, digits, duration, page, single_header};
use crate::state::ApiState;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, web};
use domain::ports::{OrderCursor, OrderView};
use domain::{OrderId, OrderStatus, UserId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

/// The longest `?wait=` (spec 03).
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Shows an order; with `wait` as soon as its payment is final, or when the time is up.
#[utoipa::path(
    get, path = "/api/v1/orders/{orderId}", operation_id = "getOrder", tag = "orders",
    params(
        ("orderId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 100001),
        ("wait" = Option<String>, Query, pattern = "^([1-9]|[12][0-9]|30)s$|^[1-9][0-9]{0,3}ms$", example = "10s",
         description = "Wait for the payment's end, at most `30s`"),
    ),
    responses((status = 200, description = "The order", body = Envelope<OrderBody>)),
)]
pub(crate) async fn get_order(
    state: web::Data<ApiState>,
    buyer: Buyer,
    Id(id): Id<OrderId>,
    query: Query,
) -> Result<HttpResponse, Failure> {
    let wait = query.parsed("wait", |text| duration(text, MAX_WAIT))?;
    let until = Instant::now() + wait.unwrap_or_default();
    let mut watch = state.changes.watch(id);
    let mut order = find(&state, buyer.0, id).await?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || is_final(&order) || state.runner.is_stopping() {
            return ok(OrderBody::from(&order));
        }
        tokio::select! {
            () = watch.changed() => {}
            () = tokio::time::sleep(left) => {}
            () = state.runner.stopping() => {}
        }
        order = find_in_turn(&state, buyer.0, id).await?;
    }
}

/// An order of this buyer.
pub(crate) async fn find(state: &ApiState, user: UserId, id: OrderId) -> Result<OrderView, Failure> {
    let found = state.runner.run(move |app| async move { app.queries().order(Some(user), id).await }).await?;
    found.ok_or(Case::OrderNotFound.into())
}

/// The same, for somebody who waits for a change.
pub(crate) async fn find_in_turn(state: &ApiState, user: UserId, id: OrderId) -> Result<OrderView, Failure> {
    let read = state.read_in_turn(move |app| async move { app.queries().order(Some(user), id).await });
    read.await?.ok_or(Case::OrderNotFound.into())
}

/// Nothing will change in it any more.
pub(crate) fn is_final(order: &OrderView) -> bool {
    order.payment.payment.status().is_terminal()
}

/// Lists the buyer's orders, newest first.
#[utoipa::path(
    get, path = "/api/v1/orders", operation_id = "listOrders", tag = "orders",
    params(
        ("status" = Option<super::views::OrderStatus>, Query, example = "PAID"),
        PageParams,
    ),
    responses((status = 200, description = "A page of orders", body = Envelope<OrderPage>)),
)]
pub(crate) async fn list_orders(
    state: web::Data<ApiState>,
    buyer: Buyer,
    query: Query,
) -> Result<HttpResponse, Failure> {
    let status = query.parsed("status", OrderStatus::parse)?;
    let after = query.cursor(OrderId::new)?.map(OrderCursor);
    let limit = query.limit()?;
    let orders = state
        .runner
        .run(move |app| async move { app.queries().orders(buyer.0, status, after, limit + 1).await })
        .await?;
    let (orders, next_cursor) = page(orders, limit, |order| order.order.id().get());
    ok(OrderPage { orders: orders.iter().map(OrderBody::from).collect(), next_cursor })
}

/// One event of the stream.
#[derive(ToSchema)]
#[schema(as = OrderEvent)]
#[expect(dead_code, reason = "describes what events::stream sends in the OpenAPI document")]
struct OrderEventBody {
    /// `payment`, and at last `end`.
    #[schema(example = "payment", pattern = "^(payment|end)$")]
    event: String,
    /// Counts the changes of this order, from 1; the last one is `end`.
    #[schema(example = "2", pattern = "^([0-9]+|end)$")]
    id: String,
    /// JSON: a row of the payment's history, or the order.
    data: String,
}

/// Streams an order's changes as server-sent events: first what happened so far, then each change as it happens.
///
/// Each event has the name `payment`, an `id` that counts up from 1, and one row of the payment's history as `data`. The stream
/// ends with an event `end` that bears the order, once the payment is final: close the connection then. A client that lost it
/// sends the `Last-Event-ID` it has seen and gets only what came after. Whoever comes back although he has seen the `end`, as a
/// browser's `EventSource` does that was not closed, gets 204, upon which it does not come again.
#[utoipa::path(
    get, path = "/api/v1/orders/{orderId}/events", operation_id = "streamOrderEvents", tag = "orders",
    params(
        ("orderId" = i64, Path, minimum = 1, maximum = 9007199254740991_i64, example = 100001),
        ("Last-Event-ID" = Option<String>, Header, pattern = "^([0-9]{1,18}|end)$", example = "1", description = "The last event that was seen"),
    ),
    responses(
        (status = 200, description = "The stream; the schema is that of each event", body = OrderEventBody, content_type = "text/event-stream"),
        (status = 204, description = "The client has seen the end"),
    ),
)]
pub(crate) async fn stream_order_events(
    state: web::Data<ApiState>,
    request: HttpRequest,
    buyer: Buyer,
    Id(id): Id<OrderId>,
) -> Result<HttpResponse, Failure> {
    let seen = Seen::of(request.headers())?;
    let order = find(&state, buyer.0, id).await?;
    let seen = match seen {
        Seen::Changes(seen) => seen,
        Seen::End if is_final(&order) => return Ok(HttpResponse::NoContent().finish()),
        // Not of this order: its end is still to come.
        Seen::End => 0,
    };
    let payment_id = order.payment.payment.id();
    let permit =
        Arc::clone(&state.streams).try_acquire_owned().map_err(|_| Failure::new(Case::Overloaded))?;
    let state = state.into_inner();
    let stream = events::stream(state, buyer.0, id, payment_id, seen, permit);
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/event-stream")).streaming(stream))
}

/// What a client has seen of a stream.
enum Seen {
    /// So many changes.
    Changes(usize),
    /// All of it.
    End,
}

impl Seen {
    /// By the header `Last-Event-ID`.
    fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let invalid = || Failure::parameter("Last-Event-ID");
        match single_header(headers, "last-event-id").map_err(|()| invalid())? {
            None | Some("") => Ok(Self::Changes(0)),
            Some(events::END) => Ok(Self::End),
            Some(text) => digits(text)
                .and_then(|seen| usize::try_from(seen).ok())
                .map(Self::Changes)
                .ok_or_else(invalid),
        }
    }
}
