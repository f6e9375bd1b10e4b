//! Whether this database serves: it answers, has the migrations, and takes writes.

use crate::error::{Failure, unavailable};
use crate::migrations;
use crate::statement::statement;
use diesel::QueryableByName;
use diesel::sql_types::Bool;
use diesel_async::AsyncPgConnection;

#[derive(QueryableByName)]
struct Writing {
    #[diesel(sql_type = Bool)]
    standby: bool,
    #[diesel(sql_type = Bool)]
    read_only: bool,
}

/// All of `versions` have been applied, and a transaction that writes would be let in.
pub(crate) async fn ready(connection: &AsyncPgConnection, versions: &[String]) -> Result<(), Failure> {
    const SQL: &str = "SELECT pg_is_in_recovery() AS standby, \
        current_setting('transaction_read_only') = 'on' AS read_only";
    migrations::ready(connection, versions).await?;
    let writing: Writing = statement(SQL).row(connection).await?;
    let why = match writing {
        Writing { standby: true, .. } => "it is a standby",
        Writing { read_only: true, .. } => "default_transaction_read_only is on",
        Writing { standby: false, read_only: false } => return Ok(()),
    };
    Err(unavailable(format_args!("the database takes no writes: {why}")).into())
}
