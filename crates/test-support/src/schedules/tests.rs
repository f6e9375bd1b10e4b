//! The comparison itself: it repeats, it covers what it should, and it finds and shortens a stale read.

use super::*;
use domain::placement::{Placing, PlacingNeeds};
use domain::ports::{CallbackNote, Claim, ClaimOptions, StoreTx};
use domain::settlement::{Settling, SettlingNeeds};
use domain::{OrderId, PaymentId};
use std::collections::BTreeSet;

#[tokio::test]
async fn a_seed_repeats_its_schedule_and_two_runs_are_equal() {
    assert_eq!(generate(7), generate(7));
    let (mut waits, mut conflicts) = (0, 0);
    for seed in 0..300 {
        let program = generate(seed);
        assert_eq!(
            compare(&fake(), &program).await.unwrap().map(|found| found.to_string()),
            None,
            "seed {seed}"
        );
        let transcript = run(&fake(), &program, 1).await.unwrap();
        let outcomes = transcript.outcomes.iter();
        waits += outcomes.clone().filter(|outcome| !outcome.waiting.is_empty()).count();
        let texts = outcomes.flat_map(|outcome| &outcome.returned);
        conflicts += texts.filter(|(_, text)| text == "fails: Conflict").count();
        assert!(
            !transcript.outcomes.iter().any(|outcome| outcome.to_string().contains("Corrupt")),
            "{program}"
        );
    }
    println!("{waits} steps wait, {conflicts} conflicts");
    assert!(waits > 60 && conflicts > 5, "{waits} {conflicts}");
}

/// The fake, with a read beside a lock as PostgreSQL makes it: after a wait it shows the moment before.
struct Stale {
    inner: Side,
    step: fn(&mut domain::settlement::Case, &domain::settlement::Case),
}

#[async_trait]
impl Store for Stale {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn StoreTx>, StoreError> {
        self.inner.store.begin(name).await
    }

    async fn open_placing(&self, orders: &[PlacingNeeds]) -> Result<(Box<dyn StoreTx>, Placing), StoreError> {
        self.inner.store.open_placing(orders).await
    }

    async fn open_settling(
        &self,
        payments: &[SettlingNeeds],
    ) -> Result<(Box<dyn StoreTx>, Settling), StoreError> {
        let mut before = std::collections::BTreeMap::new();
        for need in payments {
            if let Some(view) = self.inner.queries.payment(None, need.payment_id).await? {
                before.insert(need.payment_id, view);
            }
        }
        let (tx, mut settling) = self.inner.store.open_settling(payments).await?;
        for (id, case) in &mut settling.cases {
            let mut stale = case.clone();
            if before.get(id).is_some_and(|view| view.next_check_at != case.check.next_at()) {
                stale.check = domain::settlement::Check::default();
                (self.step)(case, &stale);
            }
        }
        Ok((tx, settling))
    }

    async fn start_payments(&self, payments: &[PaymentId]) -> Result<BTreeSet<PaymentId>, StoreError> {
        self.inner.store.start_payments(payments).await
    }

    async fn note_callbacks(&self, notes: &[CallbackNote]) -> Result<Vec<Option<PaymentId>>, StoreError> {
        self.inner.store.note_callbacks(notes).await
    }

    async fn claim(&self, options: &ClaimOptions) -> Result<Vec<Claim>, StoreError> {
        self.inner.store.claim(options).await
    }

    async fn announce_ended(&self, orders: &[OrderId]) -> Result<(), StoreError> {
        self.inner.store.announce_ended(orders).await
    }
}

fn stale() -> Side {
    let inner = fake();
    let step =
        |case: &mut domain::settlement::Case, stale: &domain::settlement::Case| case.check = stale.check;
    let (queries, bench) = (Arc::clone(&inner.queries), Arc::clone(&inner.bench));
    Side { name: "the one with a stale read", store: Arc::new(Stale { inner, step }), queries, bench }
}

#[tokio::test]
async fn a_stale_read_is_found_and_shortened() {
    let mut found = None;
    for seed in 0..2000 {
        found = compare(&stale(), &generate(seed)).await.unwrap();
        if found.is_some() {
            break;
        }
    }
    let found = found.unwrap();
    println!("{found}");
    // One that opens and stores and ends, and one that opens meanwhile.
    assert!(found.program.steps.len() <= 4, "{found}");
    assert!(found.to_string().contains("open_settling"));
}
