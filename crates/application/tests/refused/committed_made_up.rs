// error: E0451
//! A4: only a commit makes something committed.
use application::Committed;

/// Does not compile.
pub fn run(now: i64) -> Committed<i64> {
    Committed { value: now }
}

fn main() {}
