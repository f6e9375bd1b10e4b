//! Deterministic simulation of the whole shop (spec 04, tier A): the real use-cases and the real guard of the gateway
//! call, over a database and a gateway in memory, in virtual time, from one seed.
//!
//! | module | part |
//! | --- | --- |
//! | [`plan`], [`kinds`] | what a seed means: which faults, how often, how many programs and buyers |
//! | [`crash_points`], [`flow`] | where a process may die: C1 to C30, and which step is which |
//! | [`process`] | app-servers and reconcilers that die, stand still and come back |
//! | [`store`], [`draws`] | each program's way to the database: who is in which batch, and whose turn it was |
//! | [`gateway`], [`network`] | the gateway's truth, what it says instead, and callbacks on their way |
//! | [`buyers`], [`chaos`] | who orders, and what befalls them |
//! | [`oracle`] | what must hold: I1 to I18 of spec 04, as far as they can be seen here |
//! | [`run`](mod@run), [`minimise`](mod@minimise) | a run, and the smallest set of faults with which it fails |
//!
//! Deliberately absent: hooks in production code. Faults strike where the program meets the world: at its ports.

pub mod books;
pub mod buyers;
pub mod chaos;
pub mod crash_points;
pub mod draws;
pub mod flow;
pub mod gateway;
pub mod kinds;
pub mod minimise;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod process;
pub mod run;
pub mod store;
pub mod world;
