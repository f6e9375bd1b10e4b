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
    for seed in 0..60 {
        match compare(&fake(), &generate(seed)).await.unwrap() {
            Compared::Equal { .. } => {}
            Compared::Differs(found) => panic!("seed {seed}: {found}"),
        }
    }
}

/// A comparison that meets nothing finds nothing.
#[tokio::test]
async fn schedules_meet_what_can_be_met() {
    let must_be_met = [
        "Free",
        "BeingTaken",
        "Known",
        "Claim {",
        "Hint {",
        "DiscrepancyView {",
        "IssuedCoupon {",
        "fails: Conflict",
        "Paid {",
        "Failed {",
        "parked_at: Some",
        "watch_wanted: true",
        "key_owners: {G",
        "balance:",
    ];
    let (mut waits, mut met) = (0, BTreeSet::<&str>::new());
    for seed in 0..200 {
        let program = generate(seed);
        let transcript = run(&fake(), &program, 1).await.unwrap();
        waits += transcript.outcomes.iter().filter(|outcome| !outcome.waiting.is_empty()).count();
        let returned = transcript.outcomes.iter().flat_map(|outcome| &outcome.returned).map(|(_, text)| text);
        for text in returned.chain(&transcript.stored) {
            assert!(!text.contains("Corrupt") && !text.contains("fails: Other"), "{text}\n{program}");
            met.extend(must_be_met.iter().filter(|what| text.contains(**what)));
        }
    }
    let missed: Vec<_> = must_be_met.iter().filter(|what| !met.contains(*what)).collect();
    assert!(missed.is_empty(), "{missed:?}");
    assert!(waits > 60, "{waits}");
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
        if let Compared::Differs(difference) = compare(&stale(), &generate(seed)).await.unwrap() {
            found = Some(difference);
            break;
        }
    }
    let found = found.unwrap();
    println!("{found}");
    // One that opens and stores and ends, and one that opens meanwhile.
    assert!(found.program.steps.len() <= 4, "{found}");
    assert!(found.to_string().contains("open_settling"));
}
