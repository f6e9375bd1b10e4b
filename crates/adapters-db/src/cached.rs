//! Hand-written SQL that is prepared once per connection.
//!
//! `diesel::sql_query` is never put into the statement cache, as its text could differ each time: it costs a round trip
//! to prepare at every use. Ours are constants with binds, so this wrapper says that they may be kept.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;

/// A constant statement with its binds.
pub(crate) struct Cached<Q>(Q);

/// Keeps `query`, made by `sql_query` from a constant text, prepared.
pub(crate) fn cached<Q>(query: Q) -> Cached<Q> {
    Cached(query)
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Cached<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

// No static id: the cache's key is the text and the types of the binds.
impl<Q> QueryId for Cached<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Cached<Q> {
    type SqlType = Q::SqlType;
}
