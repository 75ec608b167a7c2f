//! `[filters.cors]`.

use std::sync::Arc;
use std::time::Duration;

use topology::filters::Cors;

use super::{field_name, is_token_byte};
use crate::document::Table;

/// Each is compared with a request's origin in turn.
const MAX_ORIGINS: usize = 100;
const MAX_NAMES: usize = 100;
/// What the Fetch standard lets pass without asking, and so what nobody is surprised by.
const DEFAULT_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
/// A change of the rules is seen by everybody within it; Chromium remembers for two hours at most.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(600);
const MAX_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

pub(super) fn read_cors(filters: &Table<'_>) -> Option<Cors> {
    let table = filters.table("cors")?;
    let origins = table.list("origins", MAX_ORIGINS, origin);
    let origins = table.required("origins", origins, "origins = [\"https://app.example.com\"]");
    table.refuse_empty("origins", "write the origins that may ask, or remove [filters.cors]");
    let methods = table.list("methods", MAX_NAMES, method);
    let headers = table.list("headers", MAX_NAMES, field_name);
    let expose = table.list("expose", MAX_NAMES, field_name).unwrap_or_default();
    let credentials = table.boolean("credentials").unwrap_or(false);
    let max_age = table.duration("max_age", Duration::ZERO..=MAX_MAX_AGE).unwrap_or(DEFAULT_MAX_AGE);
    let has_any = origins.as_ref().is_some_and(|origins| origins.iter().any(|origin| &**origin == "*"));
    if has_any && credentials {
        table.mistake("credentials", "no browser takes it together with origins = [\"*\"]; name the origins");
    }
    table.finish();
    let methods = methods.unwrap_or_else(|| DEFAULT_METHODS.map(Arc::from).into());
    Some(Cors { origins: origins?, methods, headers, expose, credentials, max_age })
}

/// As browsers write it: scheme, host, and a port that is not the scheme's own; the first label may be `*`.
fn origin(text: &str) -> Result<Arc<str>, String> {
    let text = text.to_ascii_lowercase();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_origin = rest.is_some_and(|authority| {
        let exact = authority.strip_prefix("*.").unwrap_or(authority);
        !exact.is_empty()
            && topology::normalize_host(exact.as_bytes()).is_some()
            && !exact.ends_with(['.', ':'])
    });
    if text == "*" || is_origin {
        return Ok(text.into());
    }
    Err(format!(
        "{text:?} is no origin; write https://app.example.com, https://*.example.com or *, without a path"
    ))
}

fn method(text: &str) -> Result<Arc<str>, String> {
    let is_method = (1..=32).contains(&text.len()) && text.bytes().all(is_token_byte);
    is_method.then(|| text.into()).ok_or_else(|| format!("{text:?} is no method; write one such as PUT"))
}
