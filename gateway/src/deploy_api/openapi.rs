//! The description of this API, made of the types and functions that serve it. `docs/openapi-deploy.json` is a copy.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi};

use super::{apps, configuration, events, instances, operations};
use crate::admin::problem::{FieldMistake, Problem};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice deploy API",
        description = "Says what is to run, and shows what does: apps, their rollouts, instances and hosts. docs/deploy.md tells how.",
        version = "1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        apps::list,
        apps::show,
        apps::put,
        apps::remove,
        apps::status,
        apps::scale,
        apps::command,
        apps::explain,
        configuration::show,
        configuration::replace,
        configuration::merge,
        operations::list,
        operations::show,
        instances::list,
        instances::logs,
        instances::hosts,
        instances::put_host,
        instances::remove_host,
        events::stream,
    ),
    components(schemas(Problem, FieldMistake)),
    tags(
        (name = "apps", description = "What is wanted, and how it is."),
        (name = "operations", description = "What was asked, and what has become of it."),
        (name = "instances", description = "What runs, and what it writes."),
        (name = "hosts", description = "Where it may run."),
    ),
)]
struct Document;

/// As it is served, and as it is checked in.
pub(super) fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

pub(super) async fn serve() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}

/// Statuses of answers that are problems.
macro_rules! problems {
    ($(#[$what:meta])* $name:ident, $($status:literal),+) => {
        $(#[$what])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
                [$($status),+].into_iter().map(problem).collect()
            }
        }
    };
}

problems!(
    /// Of requests that change nothing.
    ReadProblems, 400, 401, 403, 404, 429
);
problems!(
    /// Of those that an instance's host answers.
    HostProblems, 400, 401, 403, 404, 429, 502
);
problems!(
    /// Of requests that change something.
    ChangeProblems, 400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503
);

fn problem(status: u16) -> (String, RefOr<utoipa::openapi::Response>) {
    let words = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description(words.unwrap_or_default())
        .content("application/problem+json", content)
        .build();
    (status.to_string(), RefOr::T(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SLUICE_WRITE_DOCS=1` writes it anew.
    #[test]
    fn the_copy_in_the_docs_is_what_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi-deploy.json");
        if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let copy = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            copy == document(),
            "docs/openapi-deploy.json is old: run this test with SLUICE_WRITE_DOCS=1"
        );
    }
}
