//! What happened in a run: lines for who watches, counts of everything, and what must not have happened.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Something that was out of order from one moment to another, so that answers of that time are not held against us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Nobody could reach the database.
    Database,
    /// The app-server with this number was stopped or not there.
    Server(usize),
}

/// One answered `POST /api/v1/orders`.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) server: usize,
    /// Status, error code, reason.
    pub(crate) answer: String,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

#[derive(Default)]
struct Pages {
    counts: BTreeMap<String, u64>,
    violations: Vec<String>,
    absences: Vec<(Absent, Instant, Option<Instant>)>,
    troubles: Vec<(String, Instant, Option<Instant>)>,
    posts: Vec<Post>,
}

/// For so long what a fault left behind (queues, new connections) may still be felt.
const AFTERMATH: Duration = Duration::from_secs(3);

impl Post {
    fn took(&self) -> Duration {
        self.ended.saturating_duration_since(self.began)
    }
}

impl Pages {
    /// Answers during which database and server were there all the time.
    fn fair(&self) -> impl Iterator<Item = &Post> {
        self.posts.iter().filter(|post| {
            !self.absences.iter().any(|(what, from, until)| {
                let concerns = matches!(what, Absent::Database) || *what == Absent::Server(post.server);
                concerns && *from < post.ended && until.is_none_or(|until| until > post.began)
            })
        })
    }
}

/// Shared by all tasks of a run.
pub(crate) struct Diary {
    began: Instant,
    pages: Mutex<Pages>,
}

impl Diary {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), pages: Mutex::default() }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line with the run's time.
    pub(crate) fn say(&self, text: &str) {
        println!("{:>7.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// One more of `what`.
    pub(crate) fn count(&self, what: impl Into<String>) {
        *self.pages().counts.entry(what.into()).or_default() += 1;
    }

    /// Counts whose names begin with `prefix`, without it.
    pub(crate) fn counts(&self, prefix: &str) -> Vec<(String, u64)> {
        let pages = self.pages();
        let named =
            pages.counts.iter().filter_map(|(name, count)| Some((name.strip_prefix(prefix)?, *count)));
        named.map(|(name, count)| (name.to_owned(), count)).collect()
    }

    /// What must never happen. The run goes on, and fails at its end.
    pub(crate) fn violation(&self, text: impl Into<String>) {
        let text = text.into();
        self.say(&format!("VIOLATION: {text}"));
        self.pages().violations.push(text);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.pages().violations.clone()
    }

    /// `what` is out of order from now until [`Diary::back`].
    pub(crate) fn absent(&self, what: Absent) {
        self.pages().absences.push((what, Instant::now(), None));
    }

    pub(crate) fn back(&self, what: Absent) {
        let now = Instant::now();
        for (absent, _, until) in &mut self.pages().absences {
            if *absent == what {
                until.get_or_insert(now);
            }
        }
    }

    /// A fault of this name strikes now. Returns what [`Diary::trouble_ended`] ends it by.
    pub(crate) fn trouble(&self, fault: impl Into<String>) -> usize {
        let mut pages = self.pages();
        pages.troubles.push((fault.into(), Instant::now(), None));
        pages.troubles.len() - 1
    }

    pub(crate) fn trouble_ended(&self, trouble: usize) {
        if let Some((_, _, until)) = self.pages().troubles.get_mut(trouble) {
            *until = Some(Instant::now());
        }
    }

    pub(crate) fn posted(&self, post: Post) {
        self.pages().posts.push(post);
    }

    /// How long answers took, sorted: all of them, and those during which database and server were there all the time.
    pub(crate) fn latencies(&self) -> (Vec<Duration>, Vec<Duration>) {
        let pages = self.pages();
        let mut all: Vec<Duration> = pages.posts.iter().map(Post::took).collect();
        let mut fair: Vec<Duration> = pages.fair().map(Post::took).collect();
        all.sort_unstable();
        fair.sort_unstable();
        (all, fair)
    }

    /// Of the answers while database and server were there: how long they took, sorted, by the faults that had struck
    /// something else meanwhile or within [`AFTERMATH`] before. An answer stands with each of them.
    pub(crate) fn latencies_by_fault(&self) -> BTreeMap<String, Vec<Duration>> {
        let pages = self.pages();
        let mut by_fault: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        for post in pages.fair() {
            let concerns = |(_, from, until): &&(String, Instant, Option<Instant>)| {
                *from < post.ended && until.is_none_or(|until| until + AFTERMATH > post.began)
            };
            let mut faults: Vec<&str> =
                pages.troubles.iter().filter(concerns).map(|(fault, _, _)| fault.as_str()).collect();
            faults.sort_unstable();
            faults.dedup();
            if faults.is_empty() {
                faults.push("none");
            }
            for fault in faults {
                by_fault.entry(fault.to_owned()).or_default().push(post.took());
            }
        }
        for times in by_fault.values_mut() {
            times.sort_unstable();
        }
        by_fault
    }

    /// What the answers were that took at least so long while database and server were there.
    pub(crate) fn slow_answers(&self, least: Duration) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for post in self.pages().fair().filter(|post| post.took() >= least) {
            *answers.entry(post.answer.clone()).or_default() += 1;
        }
        answers
    }
}

/// The smallest time that at least `percent` of all did not exceed; zero of none.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(50));
        assert_eq!(percentile(&times, 99), Duration::from_millis(99));
        assert_eq!(percentile(&times, 100), Duration::from_millis(100));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn answers_given_while_something_was_absent_are_not_held_against_us() {
        let diary = Diary::new();
        let at = |ms| diary.began + Duration::from_millis(ms);
        let absences = vec![
            (Absent::Database, at(100), Some(at(200))),
            (Absent::Server(1), at(300), Some(at(400))),
            (Absent::Server(0), at(500), None),
        ];
        diary.pages().absences = absences;
        for (server, began, ended) in [
            (0, 0, 90),
            (0, 50, 150),
            (1, 150, 250),
            (0, 310, 390),
            (1, 310, 320),
            (1, 510, 530),
            (0, 510, 550),
        ] {
            let answer = format!("answer {}", ended - began);
            diary.posted(Post { server, answer, began: at(began), ended: at(ended) });
        }
        diary.pages().troubles = vec![
            ("a".to_owned(), at(0), Some(at(60))),
            ("a".to_owned(), at(10), Some(at(70))),
            ("b".to_owned(), at(85), None),
            ("later".to_owned(), at(10_000), None),
        ];
        let by_fault = diary.latencies_by_fault();
        assert_eq!(by_fault["a"], [20, 80, 90].map(Duration::from_millis));
        assert_eq!(by_fault["b"], [20, 80, 90].map(Duration::from_millis));
        assert_eq!(by_fault.len(), 2);
        let slow = diary.slow_answers(Duration::from_millis(80));
        assert_eq!(
            slow.into_iter().collect::<Vec<_>>(),
            [("answer 80".to_owned(), 1), ("answer 90".to_owned(), 1)]
        );
        let (all, fair) = diary.latencies();
        assert_eq!(all.len(), 7);
        assert_eq!(fair, [20, 80, 90].map(Duration::from_millis));
    }
}
