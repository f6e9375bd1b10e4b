//! Fakes of the ports and the contract that the fakes and the real adapters both keep. For tests and the simulation only.
//!
//! - [`FakeDatabase`] and [`FakeStore`]: the database in memory, with locks, transactions and constraints as PostgreSQL
//!   has them; [`Faults`] makes it fail.
//! - [`TestDatabase`]: an empty schema on a real PostgreSQL; [`FaultProxy`]: a network that breaks on command.
//! - [`FakeGateway`]: a scripted payment gateway. [`TestEntropy`]: seeded randomness.
//! - [`contract`]: named cases over `Store` and `Queries`, run here on the fake and by `adapters-db` on PostgreSQL, so
//!   that what is proven on the fake holds for the real one. [`schedules`]: random interleavings, run on both and compared
//!   step by step.
//!
//! Deliberately absent: hooks in production code. A fault strikes at a port's border, which is where the fakes stand.

mod clock;
pub mod contract;
mod database;
mod entropy;
mod faults;
mod gateway;
mod proxy;
pub mod schedules;
pub mod store;

pub use clock::Clock;
pub use database::{DATABASE_VARIABLE, TestClient, TestDatabase};
pub use entropy::TestEntropy;
pub use faults::{Fault, Faults, NoFaults, Site};
pub use gateway::{FakeGateway, GatewayCall};
pub use proxy::{Cut, FaultProxy, NetworkFault};
pub use store::{CommitObserver, ConnectionOptions, FakeDatabase, FakeStore};
