//! Makes the engine's schedule happen in real time, and sends its callbacks.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::Shared;
use crate::engine::Delivery;

/// How long a merchant may take to answer a callback. The answer does not matter, but a socket must not be held for ever.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(2);

/// How many callbacks are under way at once; more wait, which makes them late and nothing else.
const CALLBACKS_AT_ONCE: usize = 256;

/// No proxies, no redirects: a callback goes where the merchant said, or nowhere.
pub(super) fn callback_client() -> Result<reqwest::Client, reqwest::Error> {
    if CryptoProvider::get_default().is_none() {
        // Refused only when somebody else installed one in the meantime, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(CALLBACK_TIMEOUT)
        .build()
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
            let slot = tokio::select! {
                () = shared.stop.cancelled() => return,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            // The semaphore is never closed.
            let Ok(slot) = slot else { return };
            tasks.spawn(send(Arc::clone(&shared), client.clone(), delivery, slot));
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

async fn send(shared: Arc<Shared>, client: reqwest::Client, delivery: Delivery, slot: OwnedSemaphorePermit) {
    let sending = client.post(&delivery.url).json(&delivery.body.record()).send();
    let sent = tokio::select! {
        () = shared.stop.cancelled() => return,
        sent = sending => sent,
    };
    let (key, order_id) = (&delivery.body.transaction_key, &delivery.body.order_id);
    let status = match sent {
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
    if !delivery.forged {
        shared.engine().callback_answered(delivery.transaction, status);
    }
    drop(slot);
}
