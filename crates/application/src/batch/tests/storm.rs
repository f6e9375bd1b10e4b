//! Storms from a seed: everything at once, and in the end everybody was told exactly once, what was stored is what was told,
//! and the batcher is at rest.

use super::*;
use std::collections::BTreeMap;
use test_support::TestEntropy;

/// What becomes of one submission.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Told(Told),
    /// It went away before it was told.
    Left,
}

/// A batch takes a while that is drawn for it, and fails now and then.
struct Weather {
    seen: Arc<Seen>,
    entropy: TestEntropy,
    fails: u64,
}

#[async_trait]
impl Work for Weather {
    type Member = Job;
    type Outcome = u64;

    const NAME: &'static str = "weather";

    async fn run(&self, members: &[Job]) -> Result<Vec<u64>, StoreError> {
        let calm = Toy {
            seen: Arc::clone(&self.seen),
            takes: ms(self.entropy.below(30)),
            away: self.entropy.percent(self.fails),
        };
        calm.run(members).await
    }
}

async fn storm(seed: u64) {
    let entropy = TestEntropy::new(seed);
    let limits = BatchLimits {
        size: 1 + usize::try_from(entropy.below(9)).unwrap(),
        lanes: 1 + usize::try_from(entropy.below(3)).unwrap(),
        queue: usize::try_from(entropy.below(30)).unwrap(),
        wait: ms(1 + entropy.below(60)),
    };
    let (fails, bad, leaves) = (entropy.below(30), entropy.below(20), entropy.below(30));
    let seen = Arc::new(Seen::default());
    let batcher = Batcher::new(Weather { seen: Arc::clone(&seen), entropy: entropy.child(), fails }, limits);
    let tasks = TaskTracker::new();
    let mut handles = Vec::new();
    for number in 1..=300 {
        let job = Job { number, bad: entropy.percent(bad) };
        let (comes, stays) = (ms(entropy.below(400)), ms(entropy.below(50)));
        let leaves = entropy.percent(leaves);
        let batcher = Arc::clone(&batcher);
        let submitted = async move {
            sleep(comes).await;
            let submitted = batcher.submit(job);
            if leaves { tokio::time::timeout(stays, submitted).await.ok() } else { Some(submitted.await) }
        };
        handles.push((job, tasks.spawn(submitted)));
    }
    let mut ends = BTreeMap::new();
    // Whoever is not told by then waits for ever.
    let told = async {
        for (job, handle) in handles {
            ends.insert(job.number, (job, handle.await.unwrap().map_or(End::Left, End::Told)));
        }
    };
    tokio::time::timeout(Duration::from_secs(600), told)
        .await
        .unwrap_or_else(|_| panic!("seed {seed}: somebody waits"));

    let (stored, begun) = (seen.stored(), seen.begun());
    let ran = |number: u64| begun.iter().flatten().any(|ran| *ran == number);
    let context = format!("seed {seed}, {limits:?}");
    for (number, (job, end)) in &ends {
        let times = stored.iter().filter(|stored| *stored == number).count();
        match end {
            End::Told(Ok(told)) => assert_eq!((told, times), (number, 1), "{context}: {job:?}"),
            End::Told(Err(BatchError::Full)) => assert!(times == 0 && !ran(*number), "{context}: {job:?}"),
            // Never begun, or in a batch that could not be stored and whose members then took too long one by one.
            End::Told(Err(BatchError::TooLate)) => assert_eq!(times, 0, "{context}: {job:?}"),
            End::Told(Err(BatchError::Store(_))) => assert_eq!(times, 0, "{context}: {job:?}"),
            // Nobody knows; but nothing is done twice.
            End::Told(Err(BatchError::Abandoned)) | End::Left => assert!(times <= 1, "{context}: {job:?}"),
        }
        assert!(!job.bad || times == 0);
    }
    assert_eq!(ends.len(), 300);
    let largest = seen.sizes().into_iter().max().unwrap_or_default();
    assert!(largest <= limits.size && seen.most_at_once.load(Ordering::Relaxed) <= limits.lanes, "{context}");
    assert!(batcher.state().queue.is_empty() && batcher.state().free_lanes == limits.lanes, "{context}");
}

#[tokio::test(start_paused = true)]
async fn everybody_is_told_exactly_once_in_any_weather() {
    for seed in 0..200 {
        storm(seed).await;
    }
}

/// The same on threads of the system, where dropping, handing over and leaving really happen at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_is_told_exactly_once_on_threads() {
    for seed in 0..8 {
        storm(seed).await;
    }
}
