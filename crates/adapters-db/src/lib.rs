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
//! - **One round trip for what is loaded, one for what is stored.** Statements are sent together, in the order in which
//!   they stand in `join!`: locks first, in the port's global order, and behind them what must be read after the wait.
//!   That order holds because every statement is prepared when its connection is opened (`connecting`).
//! - **Plans don't hang on statistics.** Rows are found by `= ANY` in one table at a time, never by a join with the
//!   arrays: a shop that was empty a minute ago is as fast as an old one.
//! - **A transaction that is dropped frees its locks at once.** Its connection never goes back into the pool but is
//!   closed; PostgreSQL rolls back when it sees that. The server's own `idle_in_transaction_session_timeout` covers a
//!   process that hangs.
//! - **A failed or abandoned statement poisons its transaction.** diesel-async's own `commit` answers `Ok` after a
//!   statement error that somebody swallowed, with nothing stored; ours refuses.
//! - **A session that may be spoilt is closed, never given out again** (`error::Health`): the database became read-only, a
//!   table changed beneath its prepared statements, anything unexpected. What was being opened, read, or surely not done is
//!   done once more on a new one.
//! - **Nothing waits without a limit**: neither for a connection, a lock, a statement, nor for the answer of a server
//!   that has vanished from the network.
//!
//! SQLSTATEs are recognised by their English message, because diesel-async hides most of them: [`PgStore`] sets
//! `lc_messages=C` where it may (that takes a superuser), and refuses a database that speaks anything but English then.
//!
//! Deliberately absent: TLS (connections are `NoTls`; put the database on a private network or behind a TLS tunnel),
//! pgbouncer in transaction mode (prepared statements are kept per connection), retries of what the server refused (the
//! use-cases decide), and any type of diesel in the public interface.

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
