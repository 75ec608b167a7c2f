//! The description of this API, made of the types and functions that serve it. `docs/openapi.json` is a copy.
//!
//! Its paths are not listed here: [`super::routes`] makes the router and them of one list.

use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

use super::problem::{FieldMistake, Problem};
use super::query::{Nothing, Queried};

/// What the description says beside its paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice admin API",
        description = "Shows what a gateway does, and reads and changes what it serves: apps, routes, certificates and \
                       operators' words on endpoints. docs/admin-api.md tells how.",
        version = "1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem, FieldMistake)),
    tags(
        (name = "probes", description = "What machines ask of the gateway itself, in plain text."),
        (name = "table", description = "What is in force."),
        (name = "gateway", description = "What the gateway has, holds and does."),
        (name = "vips", description = "Virtual IPs, and moving them by hand."),
        (name = "config", description = "Entries as they are."),
        (name = "history", description = "What was changed, and the way back."),
    ),
)]
pub(super) struct Document;

/// As it is served, and as it is checked in.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = super::routes().into_openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
});

/// This description.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "gateway", operation_id = "describe",
    responses((status = 200, body = Object), ReadProblems),
)]
pub(super) async fn serve(query: Queried<Nothing>) -> Result<Response, Problem> {
    query?;
    Ok(([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response())
}

/// Statuses of answers that are problems.
macro_rules! problems {
    ($(#[$what:meta])* $name:ident, $($status:literal),+) => {
        $(#[$what])*
        pub(crate) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                [$($status),+].into_iter().map($crate::admin::openapi::problem).collect()
            }
        }
    };
}
pub(crate) use problems;

problems!(
    /// Of what nobody has to say for who he is: a page in a browser is refused all the same.
    OpenProblems, 403
);
problems!(
    /// Of everything else, before it is looked at.
    GuardProblems, 401, 403, 429
);
problems!(
    /// Of what has parameters, or ought to have none.
    ReadProblems, 400, 401, 403, 429
);
problems!(
    /// Of what is built aside, where that fails.
    BuildProblems, 400, 401, 403, 429, 500
);
problems!(
    /// Of what there may not be, and is built aside.
    FindBuildProblems, 400, 401, 403, 404, 429, 500
);
problems!(
    /// Of what the registry says.
    RegistryProblems, 400, 401, 403, 404, 429, 503
);
problems!(
    /// Of taking an entry away.
    RemoveProblems, 400, 401, 403, 404, 409, 412, 429, 503
);
problems!(
    /// Of writing entries.
    WriteProblems, 400, 401, 403, 408, 409, 412, 413, 415, 422, 429, 503
);
problems!(
    /// Of writing one of a kind.
    PutProblems, 400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 429, 503
);
problems!(
    /// Of one change that was made.
    RecordProblems, 400, 401, 403, 404, 429, 500, 503
);
problems!(
    /// Of going back to it.
    RollbackProblems, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503
);

pub(crate) fn problem(status: u16) -> (String, RefOr<utoipa::openapi::Response>) {
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
    use std::collections::BTreeSet;

    use super::*;

    /// `SLUICE_WRITE_DOCS=1` writes it anew.
    #[test]
    fn the_copy_in_the_docs_is_what_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
            std::fs::write(path, &*DOCUMENT).unwrap();
        }
        let copy = std::fs::read_to_string(path).unwrap_or_default();
        assert!(copy == *DOCUMENT, "docs/openapi.json is old: run this test with SLUICE_WRITE_DOCS=1");
    }

    /// `routes!` describes what it routes; everything else that a router can be given does not.
    #[test]
    fn nothing_is_routed_that_is_not_described() {
        let source = include_str!("mod.rs");
        assert!(source.contains(".routes(routes!("));
        for other in [".route(", ".route_service(", ".nest", ".merge(", ".fallback", "Router::new"] {
            assert!(!source.contains(other), "{other}…): write .routes(routes!(…)) in admin/mod.rs");
        }
    }

    #[test]
    fn operations_have_names_of_their_own_and_every_status_says_what_it_is() {
        let document: serde_json::Value = serde_json::from_str(&DOCUMENT).unwrap();
        let mut names = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} is there twice");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.contains_key("403"), "{method} {path}: a page in a browser is refused");
                for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                    let is_probe = path == "/metrics" || path == "/ready";
                    let content = response["content"].as_object().unwrap();
                    let is_view = (&**status, &**path) == ("504", "/v1/revisions");
                    let is_problem = content.contains_key("application/problem+json");
                    assert!(is_problem || is_view || is_probe, "{method} {path}: {status}");
                }
            }
        }
    }
}
