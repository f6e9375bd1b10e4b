//! PostgreSQL behind the ports [`Store`](domain::ports::Store) and [`Queries`](domain::ports::Queries), by diesel,
//! diesel-async and deadpool, without libpq.
//!
//! - [`PgStore`]: a pool of connections; both ports. A process has two, one for requests and one for settlement, so that
//!   neither starves the other.
//! - [`migrate`]: brings the schema up to date; the migrations are embedded.
//! - [`PgListener`]: tells which orders ended, across processes (`LISTEN`/`NOTIFY`).
//!
//! What stands behind the port's promises:
//!
//! - **A transaction that is dropped frees its locks at once.** Its connection never goes back into the pool but is
//!   closed; PostgreSQL rolls back when it sees that. The server's own `idle_in_transaction_session_timeout` covers a
//!   process that hangs.
//! - **A failed or abandoned statement poisons its transaction.** diesel-async's own `commit` answers `Ok` after a
//!   statement error that somebody swallowed, with nothing stored; ours refuses.
//! - **Independent statements travel together.** Every method works over a shared reference of the connection, so
//!   `try_join!` around several of them costs one round trip.
//! - **Nothing waits without a limit**: neither for a connection, a lock, a statement, nor for the answer of a server
//!   that has vanished from the network.
//!
//! SQLSTATEs are recognised by their English message, because diesel-async hides most of them: [`PgStore`] sets
//! `lc_messages=C` where it may (that takes a superuser); else set it for the database's role.
//!
//! Deliberately absent: TLS (connections are `NoTls`; put the database on a private network or behind a TLS tunnel),
//! pgbouncer in transaction mode (prepared statements are kept per connection), retries (the use-cases decide), and any
//! type of diesel in the public interface.

mod callbacks;
mod catalogue;
mod claims;
mod connecting;
mod coupons;
mod error;
mod keys;
mod ledger;
mod listener;
mod migrations;
mod moves;
mod options;
mod placing;
mod points;
mod pool;
mod queries;
mod readiness;
mod reading;
mod rows;
mod schema;
mod session;
mod settled;
mod settling;
mod starting;
mod statement;
mod store;
mod transaction;
mod worklist;

pub use listener::{ORDER_CHANNEL, OrderNotice, PgListener};
pub use migrations::{MigrateError, migrate};
pub use options::{AddressError, DatabaseOptions, check_address};
pub use store::PgStore;
