//! A payment gateway for development and tests: it speaks the gateway's protocol to the letter, and misbehaves on demand.
//!
//! Two halves. [`engine`] is the gateway itself, pure and deterministic: no socket, no clock, no runtime; whoever drives it
//! says what time it is, and a seed decides everything that looks like chance. [`server`] puts it on a port, with the
//! admin calls and the kinds of misbehaviour that only exist on sockets (reset, hang, cut answer). Tests start it
//! in-process by [`server::start`]. The deterministic simulation has a model of its own, which knows its whole future at once;
//! `sim/tests/gateway` holds both to the same cases.
//!
//! [`knobs`] is everything that can be set, at start ([`settings`]) and while it runs.
//!
//! Deliberately absent: any knowledge of Holdfast. It shares the wire types with the client and nothing else, so that a
//! misunderstanding on our side cannot be built into both ends.

pub mod engine;
pub mod knobs;
pub mod server;
pub mod settings;
