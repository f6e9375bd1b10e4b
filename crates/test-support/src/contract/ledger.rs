//! The discrepancy ledger.

use super::World;
use super::world::{Placed, key, nothing, tick, waits_for, won};
use domain::DiscrepancyId;
use domain::ports::DiscrepancyStatus;
use domain::settlement::{Changes, Discrepancy, DiscrepancyKind};

pub(super) fn row(kind: DiscrepancyKind, name: &str) -> Discrepancy {
    Discrepancy { kind, key: Some(key(name)), amount: Some(won(1000)), evidence: "증거".into() }
}

pub(super) async fn record(world: &World, placed: Placed, rows: Vec<Discrepancy>) {
    world.change(placed, |case, _| Changes { discrepancies: rows, ..nothing(case) }).await;
}

/// A payment's rows, newest first.
pub(super) async fn ids(world: &World, placed: Placed) -> Vec<DiscrepancyId> {
    let rows = world.ports.queries.discrepancies_of(placed.payment_id).await.unwrap();
    rows.iter().map(|row| row.id).collect()
}

/// The same fact makes one row, however often it is found and even in one go; another key or another payment makes
/// another.
pub async fn one_fact_makes_one_row(world: World) {
    let (placed, other) = (world.place().await, world.place().await);
    let fact = || row(DiscrepancyKind::PgLost, "a");
    record(&world, placed, vec![fact(), fact()]).await;
    let first = ids(&world, placed).await;
    assert_eq!(first.len(), 1);
    record(&world, placed, vec![fact()]).await;
    assert_eq!(ids(&world, placed).await, first);
    record(&world, placed, vec![row(DiscrepancyKind::PgLost, "b")]).await;
    assert_eq!(ids(&world, placed).await.len(), 2);
    record(&world, other, vec![fact()]).await;
    assert_eq!(ids(&world, other).await.len(), 1);
    let view = world.ports.queries.discrepancy(first[0]).await.unwrap().unwrap();
    assert_eq!((view.kind, view.status), (DiscrepancyKind::PgLost, DiscrepancyStatus::Open));
    assert_eq!((view.payment_id, view.order_id), (placed.payment_id, placed.order_id));
    assert_eq!((view.key, view.amount), (Some(key("a")), Some(won(1000))));
    assert_eq!(view.evidence, "증거");
    assert_eq!((view.resolution, view.resolved_by, view.resolved_at), (None, None, None));
}

/// One charge makes one row, whatever it is first seen as.
pub async fn a_charge_is_one_fact(world: World) {
    let placed = world.place().await;
    record(&world, placed, vec![row(DiscrepancyKind::AmountMismatch, "a")]).await;
    record(&world, placed, vec![row(DiscrepancyKind::LateSuccess, "a")]).await;
    assert_eq!(ids(&world, placed).await.len(), 1);
    record(&world, placed, vec![row(DiscrepancyKind::Conflict, "a")]).await;
    assert_eq!(ids(&world, placed).await.len(), 2);
}

/// Two persons at once: the second waits, and learns that it was closed before.
pub async fn two_resolve_a_row_at_once(world: World) {
    let placed = world.place().await;
    record(&world, placed, vec![row(DiscrepancyKind::LateSuccess, "a")]).await;
    let id = ids(&world, placed).await[0];
    let (one, two) = (world.begin().await, world.begin().await);
    assert_eq!(one.resolve_discrepancy(id, "REFUNDED", "", "first").await, Ok(Some(true)));
    let late = two.resolve_discrepancy(id, "NOTHING", "", "second");
    let (late, _) = waits_for(late, one.commit()).await;
    assert_eq!(late, Ok(Some(false)));
    two.commit().await.unwrap();
    let view = world.ports.queries.discrepancy(id).await.unwrap().unwrap();
    assert_eq!(view.resolved_by.as_deref(), Some("first"));
}

/// Resolving a second time changes nothing.
pub async fn a_row_is_resolved_once(world: World) {
    let placed = world.place().await;
    let charge = || row(DiscrepancyKind::LateSuccess, "a");
    record(&world, placed, vec![charge()]).await;
    let id = ids(&world, placed).await[0];
    for (by, first) in [("first", true), ("second", false)] {
        let tx = world.begin().await;
        assert_eq!(tx.resolve_discrepancy(id, "REFUNDED", "메모", by).await, Ok(Some(first)));
        tx.commit().await.unwrap();
        tick().await;
    }
    let view = world.ports.queries.discrepancy(id).await.unwrap().unwrap();
    assert_eq!(view.status, DiscrepancyStatus::Resolved);
    assert_eq!(view.resolution.as_deref(), Some("REFUNDED"));
    assert_eq!(view.note.as_deref(), Some("메모"));
    assert_eq!(view.resolved_by.as_deref(), Some("first"));
    assert!(view.resolved_at.is_some());
    let open = Some(DiscrepancyStatus::Open);
    assert!(world.ports.queries.discrepancies(open, None, 10).await.unwrap().is_empty());
    // A resolved fact is still the same fact.
    record(&world, placed, vec![charge()]).await;
    assert_eq!(ids(&world, placed).await, [id]);
    let unknown = DiscrepancyId::new(1 << 40).unwrap();
    let tx = world.begin().await;
    assert_eq!(tx.resolve_discrepancy(unknown, "x", "", "me").await, Ok(None));
    tx.commit().await.unwrap();
}
