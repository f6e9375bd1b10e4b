//! The simulator over real sockets: the protocol to the letter, every fault as a client sees it, every admin call, and the
//! program itself.
//!
//! The modules say `cfg(test)` although everything here is a test: it is what clippy looks for before it allows helpers to
//! unwrap.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod callbacks;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod process;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod support;
#[cfg(test)]
mod wire;
