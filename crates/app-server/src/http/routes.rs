//! One path with its methods. Another method on it is 405 with `Allow`, not the 404 that actix' route macros give.

use super::failure::{Case, Failure};
use actix_web::{Resource, Route, web};

/// A path and what it does for each method; `allow` lists these methods.
pub(crate) fn resource(path: &str, allow: &'static str, routes: impl IntoIterator<Item = Route>) -> Resource {
    let refuse =
        move || async move { Err::<&'static str, _>(Failure::new(Case::MethodNotAllowed).allow(allow)) };
    routes
        .into_iter()
        .fold(web::resource(path), |resource, route| resource.route(route))
        .default_service(web::route().to(refuse))
}

/// What answers for every path that there is not.
pub(crate) async fn unknown_path() -> Result<&'static str, Failure> {
    Err(Case::UnknownPath.into())
}
