//! Callbacks on their way: from the gateway, and from somebody who pretends to be it.

use crate::flow::Stage;
use crate::kinds::Kind;
use crate::process::{Process, Role, Running};
use crate::world::{World, lock};
use application::callbacks::ReceiveCallbackError;
use domain::{GatewayKey, GatewayOrderRef};
use std::sync::Arc;
use std::time::Duration;
use test_support::Site;
use tokio::time::{Instant, sleep_until};

/// The server answers the gateway.
const ANSWER: Site = Site { within: "http", call: "callback answer" };

/// An app-server that takes requests, as a load balancer picks it.
pub fn some_app(world: &World) -> Option<(Arc<Process>, Running)> {
    let apps: Vec<(Arc<Process>, Running)> = lock(&world.processes)
        .iter()
        .filter(|process| process.role == Role::App)
        .filter_map(|process| Some((Arc::clone(process), process.accepting()?)))
        .collect();
    let count = u64::try_from(apps.len()).unwrap_or_default();
    let at = usize::try_from(world.draw.below(count)).unwrap_or_default();
    apps.into_iter().nth(at)
}

/// Sends what the gateway sends for a transaction: once, when it is decided; or as its faults have it.
pub fn schedule_callbacks(
    world: &Arc<World>,
    order: i64,
    token: &str,
    key: &GatewayKey,
    created: Instant,
    decided: Option<Instant>,
) {
    let mut times = Vec::new();
    if world.strikes(Kind::CallbackEarly, order) {
        // Before the answer to the request, when that is still on its way.
        let now = Instant::now();
        let early = created.saturating_duration_since(now) / 2;
        times.push(now + early);
    }
    if let Some(decided) = decided
        && !world.strikes(Kind::CallbackLost, order)
    {
        let on_its_way = Duration::from_millis(1 + world.draw.below(30));
        let mut at = decided + on_its_way;
        if world.strikes(Kind::CallbackLate, order) {
            at += Duration::from_millis(world.chance(Kind::CallbackLate).below(600_000));
        }
        times.push(at);
        if world.strikes(Kind::CallbackTwice, order) {
            let chance = world.chance(Kind::CallbackTwice);
            for _ in 0..=chance.below(4) {
                times.push(at + Duration::from_millis(chance.below(2) * chance.below(60_000)));
            }
        }
    }
    for at in times {
        let (world, token, key) = (Arc::clone(world), token.to_owned(), key.clone());
        let tasks = world.tasks.clone();
        tasks.spawn(async move {
            sleep_until(at).await;
            let due = decided.is_some_and(|decided| decided <= Instant::now());
            if due && !lock(&world.gateway).will_tell(&key, &token, Instant::now()) {
                return;
            }
            lock(&world.gateway).tell(key.clone(), token.clone());
            let taken = deliver(&world, order, &token, &key).await;
            if taken == Some(Err(true)) {
                world.violation("F45", order, "the gateway's own callback was refused as unknown");
            }
        });
    }
}

/// One callback to one app-server, as its handler treats it. `None`: nobody there, or it died; `Err(true)`: refused as
/// unknown; `Err(false)`: the database was away.
pub async fn deliver(
    world: &Arc<World>,
    order: i64,
    token: &str,
    key: &GatewayKey,
) -> Option<Result<(), bool>> {
    let (process, running) = some_app(world)?;
    world.tell(order, "callback", || format!("a callback for {key} reaches {}", process.name));
    let (receiver, token, key) = (running.application.clone(), token.to_owned(), key.clone());
    let (server, outside) = (Arc::clone(&process), Arc::clone(world));
    let receive = process.spawn(order, Stage::Receiving, async move {
        let received = receiver.receive_callback(&token, &key).await;
        server.step(&outside, ANSWER).await;
        received
    });
    match receive.await.ok()? {
        Ok(_) => Some(Ok(())),
        Err(ReceiveCallbackError::Unknown) => Some(Err(true)),
        Err(ReceiveCallbackError::Store(_)) => Some(Err(false)),
    }
}

/// A callback without a token.
pub async fn deliver_without_token(world: &Arc<World>, order: i64, order_ref: GatewayOrderRef) {
    let Some((process, running)) = some_app(world) else { return };
    let (server, outside) = (Arc::clone(&process), Arc::clone(world));
    let receive = process.spawn(order, Stage::Receiving, async move {
        let received = running.application.receive_unproven_callback(order_ref).await;
        server.step(&outside, ANSWER).await;
        received
    });
    if let Ok(Err(ReceiveCallbackError::Unknown)) = receive.await {
        world.violation("F51", order, "a callback for an order of ours was refused as unknown");
    }
}
