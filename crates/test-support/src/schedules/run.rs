//! Runs a schedule on one store, step by step: after each step it waits until every step has returned or waits for a lock.

use super::Side;
use super::actor::{self, Actor, Returned};
use super::normal::Names;
use super::program::{self, Op, Program};
use super::setup::Rows;
use domain::ports::StoreError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A step that neither returns nor waits for a lock after so long is a defect of the store, or of this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of one step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The step; none for what is done at the end.
    pub step: Option<usize>,
    /// Steps that returned, this one or earlier ones, with what they gave; by their actors.
    pub returned: Vec<(program::Actor, String)>,
    /// Actors whose steps wait for a lock.
    pub waiting: BTreeSet<program::Actor>,
    /// A transaction ended for which several waited: from here on chance decides.
    pub chance: bool,
}

/// What came of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transcript {
    /// Step by step, in the order in which they were taken up.
    pub outcomes: Vec<Outcome>,
    /// What is stored in the end.
    pub stored: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {step}:")?,
            None => f.write_str("at the end:")?,
        }
        for (actor, text) in &self.returned {
            write!(f, "\n    {} returns {text}", program::name(*actor))?;
        }
        for actor in &self.waiting {
            write!(f, "\n    {} waits", program::name(*actor))?;
        }
        Ok(())
    }
}

struct Run<'a> {
    side: Side,
    rows: Arc<Rows>,
    names: Names,
    program: &'a Program,
    actors: BTreeMap<program::Actor, Arc<Mutex<Actor>>>,
    under_way: BTreeSet<program::Actor>,
    deferred: BTreeMap<program::Actor, VecDeque<usize>>,
    steps: JoinSet<(program::Actor, Returned)>,
    outcomes: Vec<Outcome>,
    /// Several wait for one transaction.
    crowded: bool,
}

/// Runs `program` on rows of its own; `unique` is a number that no other run in this database has.
///
/// # Errors
/// [`StoreError`] of making the rows or of reading them at the end.
///
/// # Panics
/// When a step neither returns nor waits for a lock.
pub async fn run(side: &Side, program: &Program, unique: i64) -> Result<Transcript, StoreError> {
    side.bench.forget().await?;
    let rows = Arc::new(Rows::make(&*side.store, unique).await?);
    let mut run = Run {
        side: side.clone(),
        names: Names::new(rows.key_prefix()),
        rows,
        program,
        actors: BTreeMap::new(),
        under_way: BTreeSet::new(),
        deferred: BTreeMap::new(),
        steps: JoinSet::new(),
        outcomes: Vec::new(),
        crowded: false,
    };
    // The rows of the setup are named in one order.
    run.see(&run.rows.all_orders().iter().map(|ids| format!("{ids:?}")).collect::<String>());
    for (step, (actor, _)) in program.steps.iter().enumerate() {
        let deferred = run.deferred.entry(*actor).or_default();
        if run.under_way.contains(actor) || !deferred.is_empty() {
            deferred.push_back(step);
        } else {
            run.take_up(step).await;
        }
        run.take_up_deferred().await;
    }
    run.end().await;
    let stored = actor::all(side, &run.rows).await?;
    let stored = stored.iter().map(|text| run.see(text)).collect();
    Ok(Transcript { outcomes: run.outcomes, stored })
}

impl Run<'_> {
    fn see(&mut self, text: &str) -> String {
        self.names.normal(text)
    }

    async fn take_up(&mut self, step: usize) {
        let Some((actor, op)) = self.program.steps.get(step).cloned() else { return };
        let opens = matches!(op, Op::Begin | Op::OpenPlacing(_) | Op::OpenSettling(_));
        if opens && self.is_open(actor).await {
            self.spawn(actor, step, Op::Rollback);
            self.quiet(Some(step)).await;
        }
        self.side.bench.tick().await;
        self.spawn(actor, step, op);
        self.quiet(Some(step)).await;
    }

    async fn is_open(&self, actor: program::Actor) -> bool {
        match self.actors.get(&actor) {
            Some(state) => state.lock().await.is_open(),
            None => false,
        }
    }

    fn spawn(&mut self, actor: program::Actor, step: usize, op: Op) {
        let state = Arc::clone(self.actors.entry(actor).or_default());
        let (side, rows) = (self.side.clone(), Arc::clone(&self.rows));
        self.under_way.insert(actor);
        self.steps.spawn(async move {
            let returned = state.lock().await.step(&side, &rows, step, &op).await;
            (actor, returned)
        });
    }

    /// Steps of actors that had to wait, now that they go on.
    async fn take_up_deferred(&mut self) {
        loop {
            let free = |(actor, steps): (&program::Actor, &VecDeque<usize>)| {
                let step = steps.front().filter(|_| !self.under_way.contains(actor))?;
                Some((*actor, *step))
            };
            let Some((actor, step)) = self.deferred.iter().find_map(free) else { return };
            self.deferred.entry(actor).or_default().pop_front();
            self.take_up(step).await;
        }
    }

    /// Whoever has not ended its transaction is taken back, so that those who wait for it go on.
    async fn end(&mut self) {
        loop {
            self.take_up_deferred().await;
            let mut open = None;
            for actor in self.actors.keys() {
                if !self.under_way.contains(actor) && self.is_open(*actor).await {
                    open = Some(*actor);
                    break;
                }
            }
            match open {
                Some(actor) => {
                    self.spawn(actor, 0, Op::Rollback);
                    self.quiet(None).await;
                }
                None if self.under_way.is_empty() => return,
                None => self.quiet(None).await,
            }
        }
    }

    /// Waits until each step that is under way has returned or waits for a lock.
    #[expect(clippy::panic, reason = "a store that hangs fails the test")]
    async fn quiet(&mut self, step: Option<usize>) {
        let begun = Instant::now();
        let crowded = self.crowded;
        let mut finished = BTreeMap::new();
        while !self.under_way.is_empty() {
            tokio::select! {
                biased;
                Some(done) = self.steps.join_next() => {
                    let (actor, returned) =
                        done.unwrap_or_else(|error| panic!("a step died: {error}\n{}", self.program));
                    self.under_way.remove(&actor);
                    finished.insert(actor, returned);
                }
                () = self.side.bench.pause() => {
                    if self.side.bench.waiting().await == self.under_way.len() {
                        break;
                    }
                    assert!(begun.elapsed() < PATIENCE, "a step hangs\n{}", self.program);
                }
            }
        }
        self.crowded = self.side.bench.crowded().await;
        let chance = crowded && !self.crowded;
        let mut outcome = Outcome { step, waiting: self.under_way.clone(), chance, ..Outcome::default() };
        for (actor, returned) in finished {
            self.rows.add_orders(&returned.orders);
            outcome.returned.push((actor, self.names.normal(&returned.text)));
        }
        self.outcomes.push(outcome);
    }
}
