//! The description of this API, made of the types and functions that serve it. `docs/openapi.json` is a copy.

use utoipa::OpenApi;

use super::{changes, entries};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice admin API",
        description = "Reads and changes what a gateway serves: apps, routes, certificates and operators' words on endpoints. \
                       docs/admin-api.md tells how.",
        version = "1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        entries::list,
        entries::show,
        entries::put,
        entries::remove,
        entries::show_word,
        entries::put_word,
        entries::remove_word,
        changes::apply,
        changes::history,
        changes::record,
        changes::roll_back,
    ),
    tags(
        (name = "config", description = "Entries as they are."),
        (name = "history", description = "What was changed, and the way back."),
    ),
)]
struct Document;

/// As it is served, and as it is checked in.
pub fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SLUICE_WRITE_DOCS=1` writes it anew.
    #[test]
    fn the_copy_in_the_docs_is_what_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let copy = std::fs::read_to_string(path).unwrap_or_default();
        assert!(copy == document(), "docs/openapi.json is old: run this test with SLUICE_WRITE_DOCS=1");
    }
}
