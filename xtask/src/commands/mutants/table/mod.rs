//! The known bugs. Beside each: the faults with which it shows. A text may change without its bug: then the edit is adapted,
//! and `cargo xtask check` says which.

mod batches;
mod gateway;
mod placing;
mod settling;
mod tried;

use super::Mutant;

pub(super) const ALL: [&[Mutant]; 5] =
    [settling::MUTANTS, placing::MUTANTS, gateway::MUTANTS, batches::MUTANTS, tried::MUTANTS];
