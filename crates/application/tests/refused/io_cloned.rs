// error: E0599
//! One capability per run: it is not multiplied.
use application::Io;

/// Does not compile.
pub fn run(io: Io) -> (Io, Io) {
    (io.clone(), io)
}

fn main() {}
