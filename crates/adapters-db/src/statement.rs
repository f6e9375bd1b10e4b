//! Hand-written SQL that is prepared once per connection.
//!
//! `diesel::sql_query` is never put into the statement cache, as its text could differ each time: it costs a round trip
//! to prepare at every use. Ours are constants with binds, so this wrapper says that they may be kept. (Of diesel's own
//! builders an `UPDATE` and an `INSERT` with optional columns are never kept either, so that none of ours is built.)

use crate::error::Failure;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, BoxedSqlQuery, Query, QueryFragment, QueryId, SqlQuery};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, BigInt, HasSqlType, Nullable, Text, Untyped};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

/// A constant statement with its binds.
pub(crate) struct Statement<'a>(BoxedSqlQuery<'a, Pg, SqlQuery>);

/// Keeps `sql` prepared. Arrays among its parameters are cast (`$1::bigint[]`).
pub(crate) fn statement<'a>(sql: &'static str) -> Statement<'a> {
    Statement(sql_query(sql).into_boxed())
}

impl<'a> Statement<'a> {
    /// The next parameter.
    pub(crate) fn bind<ST, V>(self, value: V) -> Self
    where
        Pg: HasSqlType<ST>,
        ST: Send + 'a,
        V: ToSql<ST, Pg> + Send + 'a,
    {
        Self(self.0.bind::<ST, V>(value))
    }

    /// The next parameter, `bigint[]`.
    pub(crate) fn numbers(self, values: Vec<i64>) -> Self {
        self.bind::<Array<BigInt>, _>(values)
    }

    /// The next parameter, `bigint[]` with gaps.
    pub(crate) fn numbers_or_null(self, values: Vec<Option<i64>>) -> Self {
        self.bind::<Array<Nullable<BigInt>>, _>(values)
    }

    /// The next parameter, `text[]`.
    pub(crate) fn texts<T: AsRef<str> + Send + 'a>(self, values: Vec<T>) -> Self
    where
        Vec<T>: ToSql<Array<Text>, Pg>,
    {
        self.bind::<Array<Text>, _>(values)
    }

    /// The next parameter, `text[]` with gaps.
    pub(crate) fn texts_or_null<T: AsRef<str> + Send + 'a>(self, values: Vec<Option<T>>) -> Self
    where
        Vec<Option<T>>: ToSql<Array<Nullable<Text>>, Pg>,
    {
        self.bind::<Array<Nullable<Text>>, _>(values)
    }

    /// All rows.
    pub(crate) async fn rows<R>(self, mut connection: &AsyncPgConnection) -> QueryResult<Vec<R>>
    where
        R: QueryableByName<Pg> + Send + 'static,
    {
        RunQueryDsl::load(self, &mut connection).await
    }

    /// The one row.
    pub(crate) async fn row<R>(self, mut connection: &AsyncPgConnection) -> QueryResult<R>
    where
        R: QueryableByName<Pg> + Send + 'static,
    {
        RunQueryDsl::get_result(self, &mut connection).await
    }

    /// How many rows it changed, or gave.
    pub(crate) async fn execute(self, mut connection: &AsyncPgConnection) -> QueryResult<usize> {
        RunQueryDsl::execute(self, &mut connection).await
    }
}

impl QueryFragment<Pg> for Statement<'_> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

// No static id: the cache's key is the text and the types of the binds.
impl QueryId for Statement<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement<'_> {
    type SqlType = Untyped;
}

/// The element of an array that belongs to a row: `found!("$2::text[]" by "p.id" in "$1")`, where $1 holds ids ascending.
///
/// Rows are found by `= ANY`, not by a join with the arrays: of one table there is one plan, its index, whatever the
/// statistics say. A join that was planned while the table was empty reads the whole table until the next ANALYZE.
macro_rules! found {
    ($array:literal by $id:literal in $ids:literal) => {
        concat!("(", $array, ")[width_bucket(", $id, ", ", $ids, "::bigint[])]")
    };
}
pub(crate) use found;

/// A command without parameters or rows, such as BEGIN.
pub(crate) async fn command(mut connection: &AsyncPgConnection, sql: &'static str) -> Result<(), Failure> {
    Ok(connection.batch_execute(sql).await?)
}

/// A part of a burst that not every burst has. Nothing is sent before it is polled, so that it keeps its place.
pub(crate) async fn when<T: Default, E>(
    needed: bool,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    if needed { work.await } else { Ok(T::default()) }
}
