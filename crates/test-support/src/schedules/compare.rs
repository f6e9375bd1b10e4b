//! Two runs of one schedule held against each other, and the shortest schedule that still differs.

use super::program::Program;
use super::{Side, Transcript, fake, run};
use domain::ports::StoreError;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

/// So often a schedule must differ before that is believed: whom of several that wait PostgreSQL serves first when a row
/// was changed is left to chance.
const TIMES: usize = 4;
/// Shorter schedules that are tried at most.
const TRIES: usize = 400;

static NEXT: AtomicI64 = AtomicI64::new(1);

/// A schedule whose two runs differ.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The shortest that was found.
    pub program: Program,
    /// What the fake did.
    pub fake: Transcript,
    /// What the other did.
    pub other: Transcript,
    other_name: &'static str,
}

/// What came of a comparison.
#[derive(Debug, Clone)]
pub enum Compared {
    /// Nothing differs.
    Equal {
        /// To its end; false: up to where chance decides.
        whole: bool,
    },
    /// Something does.
    Differs(Box<Difference>),
}

/// Runs `program` on an empty fake and on `other`, and shortens it when they differ.
///
/// # Errors
/// [`StoreError`] of the rows that a run needs.
pub async fn compare(other: &Side, program: &Program) -> Result<Compared, StoreError> {
    let mut found = match held_against(other, program).await? {
        Compared::Differs(found) => found,
        equal @ Compared::Equal { .. } => return Ok(equal),
    };
    // Each is tried on what the ones before it left; from the beginning again whenever one still differs.
    let (mut at, mut tries) = (0, 0);
    while let Some(shorter) = found.program.shorter(at).filter(|_| tries < TRIES) {
        tries += 1;
        match held_against(other, &shorter).await? {
            Compared::Differs(difference) => {
                found = difference;
                at = 0;
            }
            Compared::Equal { .. } => at += 1,
        }
    }
    Ok(Compared::Differs(found))
}

async fn held_against(other: &Side, program: &Program) -> Result<Compared, StoreError> {
    let unique = || NEXT.fetch_add(1, Ordering::Relaxed);
    let mut difference = None;
    for _ in 0..TIMES {
        let mut fake = run(&fake(), program, unique()).await?;
        let mut theirs = run(other, program, unique()).await?;
        let chance = fake.outcomes.iter().position(|outcome| outcome.chance);
        if let Some(at) = chance {
            for side in [&mut fake, &mut theirs] {
                side.outcomes.truncate(at);
                side.stored.clear();
            }
        }
        if fake == theirs {
            return Ok(Compared::Equal { whole: chance.is_none() });
        }
        let program = program.clone();
        difference = Some(Difference { program, fake, other: theirs, other_name: other.name });
    }
    Ok(difference.map_or(Compared::Equal { whole: true }, |found| Compared::Differs(Box::new(found))))
}

/// A text that is compared, field by field.
fn fields(text: &str) -> Vec<&str> {
    text.split_inclusive(", ").collect()
}

impl Difference {
    /// Where two texts differ, with what comes before it.
    fn write_texts(&self, f: &mut fmt::Formatter<'_>, ours: &str, theirs: &str) -> fmt::Result {
        let (mine, other) = (fields(ours), fields(theirs));
        let at = mine.iter().zip(&other).take_while(|(one, two)| one == two).count();
        for (name, fields) in [("the fake", &mine), (self.other_name, &other)] {
            let from = at.saturating_sub(2);
            let shown: String = fields.iter().skip(from).take(6).copied().collect();
            writeln!(f, "      {name}: {}{shown}", if from > 0 { "... " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the fake and {} differ on this schedule:\n{}", self.other_name, self.program)?;
        let (ours, theirs) = (&self.fake.outcomes, &self.other.outcomes);
        for (mine, other) in ours.iter().zip(theirs) {
            if mine == other {
                continue;
            }
            match mine.step {
                Some(step) => writeln!(f, "first at step {step}:")?,
                None => writeln!(f, "first at the end, when what is open is taken back:")?,
            }
            let same_steps = mine.waiting == other.waiting
                && mine
                    .returned
                    .iter()
                    .map(|(actor, _)| actor)
                    .eq(other.returned.iter().map(|(actor, _)| actor));
            if !same_steps {
                return write!(f, "  the fake, {mine}\n  {}, {other}", self.other_name);
            }
            for ((_, mine), (_, other)) in mine.returned.iter().zip(&other.returned) {
                if mine != other {
                    self.write_texts(f, mine, other)?;
                }
            }
            return Ok(());
        }
        if ours.len() != theirs.len() {
            return write!(f, "{} steps against {}", ours.len(), theirs.len());
        }
        writeln!(f, "in what is stored:")?;
        // What comes after the first has other names, too.
        match self.fake.stored.iter().zip(&self.other.stored).find(|(mine, other)| mine != other) {
            Some((mine, other)) => self.write_texts(f, mine, other),
            None => write!(f, "{} rows against {}", self.fake.stored.len(), self.other.stored.len()),
        }
    }
}
