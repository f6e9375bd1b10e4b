//! A toy for work, in virtual time: who leads, who waits, who is refused, and that nobody is forgotten.

mod storm;

use super::*;
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

/// What the toy is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    number: u64,
    /// No batch with it can be stored.
    bad: bool,
}

fn job(number: u64) -> Job {
    Job { number, bad: false }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the batches did.
#[derive(Debug, Default)]
struct Seen {
    /// The members of each batch, in the order in which they began.
    begun: Mutex<Vec<Vec<u64>>>,
    /// Members that are stored.
    stored: Mutex<Vec<u64>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Seen {
    fn begun(&self) -> Vec<Vec<u64>> {
        self.begun.lock().unwrap().clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.begun().iter().map(Vec::len).collect()
    }

    fn stored(&self) -> Vec<u64> {
        let mut stored = self.stored.lock().unwrap().clone();
        stored.sort_unstable();
        stored
    }
}

/// A batch takes so long; it is stored at its end, all of it or nothing.
struct Toy {
    seen: Arc<Seen>,
    takes: Duration,
    away: bool,
}

/// Counts down however the batch ends.
struct UnderWay<'a>(&'a Seen);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Work for Toy {
    type Member = Job;
    type Outcome = u64;

    const NAME: &'static str = "toy";

    async fn run(&self, members: &[Job]) -> Result<Vec<u64>, StoreError> {
        let seen = &*self.seen;
        seen.begun.lock().unwrap().push(members.iter().map(|job| job.number).collect());
        let now = seen.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        let _under_way = UnderWay(seen);
        seen.most_at_once.fetch_max(now, Ordering::Relaxed);
        sleep(self.takes).await;
        if self.away {
            return Err(StoreError::Unavailable { what: "away".into() });
        }
        if members.iter().any(|job| job.bad) {
            return Err(conflict());
        }
        seen.stored.lock().unwrap().extend(members.iter().map(|job| job.number));
        Ok(members.iter().map(|job| job.number).collect())
    }
}

fn conflict() -> StoreError {
    StoreError::Conflict { what: "bad".into() }
}

/// One lane of batches that take 10 ms each.
fn limits() -> BatchLimits {
    BatchLimits { size: 64, lanes: 1, queue: 100, wait: Duration::from_secs(2) }
}

fn toy(limits: BatchLimits) -> (Arc<Batcher<Toy>>, Arc<Seen>) {
    toy_that(limits, ms(10), false)
}

fn toy_that(limits: BatchLimits, takes: Duration, away: bool) -> (Arc<Batcher<Toy>>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (Batcher::new(Toy { seen: Arc::clone(&seen), takes, away }, limits), seen)
}

type Told = Result<u64, BatchError>;

/// Submits all at once, in this order; what each is told, and when.
async fn all(batcher: &Arc<Batcher<Toy>>, jobs: impl IntoIterator<Item = Job>) -> Vec<(Told, Duration)> {
    let began = Instant::now();
    let told = jobs.into_iter().map(|job| async move { (batcher.submit(job).await, began.elapsed()) });
    join_all(told).await
}

/// Nobody waits, and all lanes are free: who comes now leads at once, and alone.
async fn assert_at_rest(batcher: &Arc<Batcher<Toy>>, seen: &Seen) {
    assert!(batcher.state().queue.is_empty());
    assert_eq!(batcher.state().free_lanes, batcher.limits.lanes);
    assert_eq!(seen.at_once.load(Ordering::Relaxed), 0);
    let began = Instant::now();
    let told = batcher.submit(job(99_999)).await;
    assert_eq!((told, began.elapsed()), (Ok(99_999), batcher.work.takes));
    assert_eq!(seen.begun().last(), Some(&vec![99_999]));
}

#[tokio::test(start_paused = true)]
async fn who_comes_to_a_free_lane_leads_at_once() {
    let (batcher, seen) = toy(limits());
    for number in 1..=3 {
        assert_eq!(all(&batcher, [job(number)]).await, [(Ok(number), ms(10))]);
    }
    assert_eq!(seen.begun(), [[1], [2], [3]]);
    assert_at_rest(&batcher, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_in_the_next_batch_in_order_of_arrival() {
    let (batcher, seen) = toy(limits());
    let told = all(&batcher, (1..=5).map(job)).await;
    let later = |number| (Ok(number), ms(20));
    assert_eq!(told, [(Ok(1), ms(10)), later(2), later(3), later(4), later(5)]);
    assert_eq!(seen.begun(), [vec![1], vec![2, 3, 4, 5]]);
    assert_at_rest(&batcher, &seen).await;
}

/// Nobody is overtaken, not even by who comes while the batch before is under way.
#[tokio::test(start_paused = true)]
async fn a_batch_holds_no_more_than_its_size_and_the_rest_keeps_its_turn() {
    let (batcher, seen) = toy(BatchLimits { size: 3, ..limits() });
    let late = async {
        sleep(ms(15)).await;
        all(&batcher, [job(9)]).await
    };
    let (told, late) = tokio::join!(all(&batcher, (1..=8).map(job)), late);
    assert_eq!(seen.begun(), [vec![1], vec![2, 3, 4], vec![5, 6, 7], vec![8, 9]]);
    assert_eq!(told[7], (Ok(8), ms(40)));
    assert_eq!(late, [(Ok(9), ms(25))]);
    assert_at_rest(&batcher, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn lanes_work_side_by_side() {
    let (batcher, seen) = toy(BatchLimits { lanes: 3, size: 2, ..limits() });
    let told = all(&batcher, (1..=12).map(job)).await;
    // Lanes that become free at once are handed to as many leaders; each takes what waits behind all of them.
    assert_eq!(seen.sizes(), [1, 1, 1, 2, 2, 2, 1, 1, 1]);
    assert_eq!(seen.most_at_once.load(Ordering::Relaxed), 3);
    let ended: Vec<_> = told.iter().map(|(_, at)| at.as_millis()).collect();
    assert_eq!(ended, [10, 10, 10, 20, 20, 20, 20, 20, 20, 30, 30, 30]);
    assert!(told.iter().map(|(told, _)| told.clone()).eq((1..=12).map(Ok)));
    assert_at_rest(&batcher, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn limits_of_nothing_still_work() {
    let (batcher, seen) = toy(BatchLimits { size: 0, lanes: 0, queue: 2, wait: ms(100) });
    assert_eq!(all(&batcher, (1..=2).map(job)).await, [(Ok(1), ms(10)), (Ok(2), ms(20))]);
    assert_eq!(seen.sizes(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_and_loses_nobody() {
    let (batcher, seen) = toy(BatchLimits { queue: 2, ..limits() });
    let told = all(&batcher, (1..=5).map(job)).await;
    let full = (Err(BatchError::Full), Duration::ZERO);
    assert_eq!(told, [(Ok(1), ms(10)), (Ok(2), ms(20)), (Ok(3), ms(20)), full.clone(), full]);
    assert_eq!(seen.begun(), [vec![1], vec![2, 3]]);
    assert_at_rest(&batcher, &seen).await;

    let (batcher, seen) = toy(BatchLimits { queue: 0, ..limits() });
    let told = all(&batcher, (1..=2).map(job)).await;
    assert_eq!(told, [(Ok(1), ms(10)), (Err(BatchError::Full), Duration::ZERO)]);
    assert_at_rest(&batcher, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_so_and_nothing_is_done_for_it() {
    let (batcher, seen) = toy_that(BatchLimits { wait: ms(100), ..limits() }, ms(150), false);
    let late = async {
        sleep(ms(60)).await;
        all(&batcher, [job(4)]).await
    };
    let (told, late) = tokio::join!(all(&batcher, (1..=3).map(job)), late);
    let too_late = (Err(BatchError::TooLate), ms(100));
    assert_eq!(told, [(Ok(1), ms(150)), too_late.clone(), too_late]);
    // Who came later has waited for 90 ms when its turn comes.
    assert_eq!(late, [(Ok(4), ms(240))]);
    assert_eq!(seen.begun(), [[1], [4]]);
    assert_at_rest(&batcher, &seen).await;
}

/// Who was refused leaves its place in the queue to others at once.
#[tokio::test(start_paused = true)]
async fn who_waited_too_long_makes_room() {
    let limits = BatchLimits { queue: 2, wait: ms(50), ..limits() };
    let (batcher, seen) = toy_that(limits, ms(100), false);
    let next = async {
        sleep(ms(60)).await;
        all(&batcher, [job(4), job(5)]).await
    };
    let (told, next) = tokio::join!(all(&batcher, (1..=3).map(job)), next);
    let too_late = (Err(BatchError::TooLate), ms(50));
    assert_eq!(told, [(Ok(1), ms(100)), too_late.clone(), too_late]);
    assert_eq!(next, [(Ok(4), ms(140)), (Ok(5), ms(140))]);
    assert_at_rest(&batcher, &seen).await;
}

/// Who waits behind a leader that was late itself (its task was not run in time) is told so, too.
#[tokio::test(start_paused = true)]
async fn who_waited_too_long_is_not_taken_into_a_batch() {
    let (batcher, seen) = toy_that(BatchLimits { wait: ms(100), ..limits() }, ms(10), false);
    let first = batcher.submit(job(1));
    tokio::pin!(first);
    assert_eq!(first.as_mut().now_or_never(), None);
    let mut waiting: Vec<_> = (2..=4).map(|number| Box::pin(batcher.submit(job(number)))).collect();
    for waits in &mut waiting {
        assert_eq!(waits.now_or_never(), None);
    }
    // Nobody's task is run for a while.
    sleep(ms(500)).await;
    assert_eq!(first.await, Ok(1));
    let told = join_all(waiting).await;
    // The one that was handed the lead leads; those behind it have had their time.
    assert_eq!(told, [Ok(2), Err(BatchError::TooLate), Err(BatchError::TooLate)]);
    assert_eq!(seen.begun(), [[1], [2]]);
    assert_at_rest(&batcher, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_is_passed_over() {
    // The first, one in the middle, the last of those that wait; all of them.
    for gone in [vec![2], vec![3], vec![5], vec![2, 3, 4, 5]] {
        let (batcher, seen) = toy(limits());
        let waits = |number: u64| {
            let (batcher, leaves) = (&batcher, gone.contains(&number));
            async move {
                let submitted = batcher.submit(job(number));
                if leaves { tokio::time::timeout(ms(5), submitted).await.ok() } else { Some(submitted.await) }
            }
        };
        let told = join_all((1..=5).map(waits)).await;
        let stay: Vec<u64> = (2..=5).filter(|number| !gone.contains(number)).collect();
        for (number, told) in (1..=5).zip(told) {
            assert_eq!(told, (!gone.contains(&number)).then_some(Ok(number)));
        }
        let mut expected = vec![vec![1]];
        expected.extend((!stay.is_empty()).then_some(stay));
        assert_eq!(seen.begun(), expected, "without {gone:?}");
        assert_at_rest(&batcher, &seen).await;
    }
}

/// It has the lead in its hands and never runs: another leads.
#[tokio::test(start_paused = true)]
async fn who_goes_away_with_the_lead_passes_it_on() {
    let (batcher, seen) = toy(limits());
    let first = batcher.submit(job(1));
    tokio::pin!(first);
    assert_eq!(first.as_mut().now_or_never(), None);
    let mut waiting: Vec<_> = (2..=5).map(|number| Box::pin(batcher.submit(job(number)))).collect();
    for waits in &mut waiting {
        assert_eq!(waits.now_or_never(), None);
    }
    assert_eq!(first.await, Ok(1));
    // Handed to 2, which goes; so to 3, which goes.
    drop(waiting.remove(0));
    drop(waiting.remove(0));
    assert_eq!(join_all(waiting).await, [Ok(4), Ok(5)]);
    assert_eq!(seen.begun(), [vec![1], vec![4, 5]]);
    // The last one that could lead goes: the lane is free again.
    let first = batcher.submit(job(6));
    tokio::pin!(first);
    assert_eq!(first.as_mut().now_or_never(), None);
    let mut last = Box::pin(batcher.submit(job(7)));
    assert_eq!((&mut last).now_or_never(), None);
    assert_eq!(first.await, Ok(6));
    drop(last);
    assert_at_rest(&batcher, &seen).await;
}

/// Its members may be stored or not, and are told so; those that wait are served.
#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_leaves_its_members_abandoned_and_the_lane_to_others() {
    let (batcher, seen) = toy(BatchLimits { size: 3, ..limits() });
    let tasks = TaskTracker::new();
    let submit = |number| {
        let batcher = Arc::clone(&batcher);
        tasks.spawn(async move { batcher.submit(job(number)).await })
    };
    let mut handles: Vec<_> = (1..=6).map(submit).collect();
    sleep(ms(15)).await;
    assert_eq!(seen.begun(), [vec![1], vec![2, 3, 4]]);
    handles.remove(1).abort();
    let told: Vec<Told> = join_all(handles).await.into_iter().map(|told| told.unwrap()).collect();
    let abandoned = || Err(BatchError::Abandoned);
    assert_eq!(told, [Ok(1), abandoned(), abandoned(), Ok(5), Ok(6)]);
    assert_eq!(seen.begun(), [vec![1], vec![2, 3, 4], vec![5, 6]]);
    assert_eq!(seen.stored(), [1, 5, 6]);
    assert_at_rest(&batcher, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn one_bad_member_of_many_fails_alone() {
    let (batcher, seen) = toy(limits());
    let jobs = (1..=17).map(|number| Job { number, bad: number == 9 });
    let told = all(&batcher, jobs).await;
    for (number, (told, _)) in (1..=17).zip(told) {
        let expected = if number == 9 { Err(conflict().into()) } else { Ok(number) };
        assert_eq!(told, expected);
    }
    // All together, and then each by itself, in their order.
    assert_eq!(seen.sizes(), [vec![1, 16], vec![1; 16]].concat());
    assert!(seen.stored().into_iter().eq((1..=17).filter(|number| *number != 9)));
    assert_at_rest(&batcher, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_one_is_not_tried_again() {
    let (batcher, seen) = toy(limits());
    let told = all(&batcher, [Job { number: 1, bad: true }]).await;
    assert_eq!(told, [(Err(conflict().into()), ms(10))]);
    assert_eq!(seen.begun(), [[1]]);
}

/// A store that is away must not let the last ones wait for all before them.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_refuses_the_rest_after_the_wait() {
    let (batcher, seen) = toy_that(BatchLimits { wait: ms(1000), ..limits() }, ms(300), true);
    let told = all(&batcher, (1..=33).map(job)).await;
    let away = BatchError::Store(StoreError::Unavailable { what: "away".into() });
    let (first, rest) = told.split_at(5);
    assert!(first.iter().all(|(told, _)| *told == Err(away.clone())), "{told:?}");
    assert!(rest.iter().all(|(told, _)| *told == Err(BatchError::TooLate)), "{told:?}");
    // The first alone, 32 together, then as many by themselves as a second begins.
    assert_eq!(seen.sizes(), [1, 32, 1, 1, 1, 1]);
    assert_eq!(told.iter().map(|(_, at)| *at).max(), Some(ms(300 * 6)));
}

/// Fewer outcomes than members: nobody waits for ever, and nobody gets another's.
#[tokio::test(start_paused = true)]
async fn who_gets_no_outcome_is_abandoned() {
    struct Forgetful;
    #[async_trait]
    impl Work for Forgetful {
        type Member = u64;
        type Outcome = u64;
        const NAME: &'static str = "forgetful";
        async fn run(&self, members: &[u64]) -> Result<Vec<u64>, StoreError> {
            sleep(ms(10)).await;
            Ok(members.iter().copied().take(2).collect())
        }
    }
    let batcher = Batcher::new(Forgetful, limits());
    let told = join_all((1..=5).map(|number| batcher.submit(number))).await;
    let abandoned = || Err(BatchError::Abandoned);
    assert_eq!(told, [Ok(1), Ok(2), Ok(3), abandoned(), abandoned()]);
}
