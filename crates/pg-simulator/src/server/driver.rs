//! Makes the engine's schedule happen in real time, and sends its callbacks.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use rustls::crypto::CryptoProvider;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::Shared;
use crate::engine::Delivery;

/// How many callbacks are under way at once when the engine sets no limit by its workers; more wait, which makes them late
/// and nothing else.
const CALLBACKS_AT_ONCE: usize = 256;

/// No proxies, no redirects: a callback goes where the merchant said, or nowhere. No time-out either: a merchant that does
/// not answer is waited for, unless the knobs say otherwise.
pub(super) fn callback_client() -> Result<reqwest::Client, reqwest::Error> {
    if CryptoProvider::get_default().is_none() {
        // Refused only when somebody else installed one in the meantime, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()
}

pub(super) async fn drive(shared: Arc<Shared>, client: reqwest::Client, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(CALLBACKS_AT_ONCE));
    loop {
        let now = shared.clock.now();
        let (deliveries, next_due) = {
            let mut engine = shared.engine();
            (engine.advance(now), engine.next_due())
        };
        for delivery in deliveries {
            let (shared, client, slots) = (Arc::clone(&shared), client.clone(), Arc::clone(&slots));
            tasks.spawn(async move {
                tokio::select! {
                    () = shared.stop.cancelled() => {}
                    () = send(&shared, &client, &slots, &delivery) => {}
                }
            });
        }
        let until_next = next_due.map(|due| due.saturating_sub(shared.clock.now()));
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.changed.notified() => {}
            () = wait_for(until_next) => {}
        }
    }
}

async fn wait_for(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}

async fn send(shared: &Shared, client: &reqwest::Client, slots: &Semaphore, delivery: &Delivery) {
    // The semaphore is never closed.
    let Ok(_slot) = slots.acquire().await else { return };
    let timeout = shared.engine().knobs().callback.timeout;
    let mut request = client
        .post(&delivery.url)
        .header(CONTENT_TYPE, "application/json")
        .body(shared.form().json(&delivery.body.record()));
    if !timeout.is_zero() {
        request = request.timeout(timeout);
    }
    let (key, order_id) = (&delivery.body.transaction_key, &delivery.body.order_id);
    let status = match request.send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            tracing::info!(key, order_id, outcome = ?delivery.body.status, status, forged = delivery.forged, "callback sent");
            Some(status)
        }
        Err(error) => {
            // The URL ends in the merchant's secret.
            let error = error.without_url();
            tracing::warn!(key, order_id, %error, "callback not delivered; it is never repeated");
            None
        }
    };
    shared.with_engine(|engine, now| engine.callback_ended(now, delivery, status));
}
