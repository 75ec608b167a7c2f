//! The `[filters]` section: one key per kind of filter.

mod access;
mod compression;
mod cors;
mod faults;
mod headers;
mod identity;
mod pages;
mod routes;

use std::path::Path;
use std::sync::Arc;

use topology::filters::{FilePath, Filters};
use topology::{AppId, RequestMatch};

use crate::document::Table;

/// Where a spec stands, which decides whether it may name files.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A file of this machine; relative paths start at its folder.
    File(&'a Path),
    /// Whoever can write to the registry must not be able to have gateways read their own files.
    Registry,
}

/// More would be a platform of its own.
const MAX_LET_IN: usize = 64;

/// `matches`: the app's own, which filters may name.
pub(super) fn read_filters(
    spec: &Table<'_>,
    place: Place<'_>,
    matches: &[RequestMatch],
) -> Option<Arc<Filters>> {
    let table = spec.table("filters")?;
    let filters = Filters {
        error_pages: pages::read_error_pages(&table).map(Arc::new),
        addresses: access::read_addresses(&table, place),
        maintenance: pages::read_maintenance(&table),
        rate_limits: access::read_rate_limits(&table, "rate_limits", false),
        cors: cors::read_cors(&table),
        redirects: routes::read_redirects(&table),
        respond: None,
        api_keys: identity::read_api_keys(&table, place),
        basic_auth: identity::read_basic_auth(&table, place),
        jwt: identity::read_jwt(&table, place),
        forward_auth: identity::read_forward_auth(&table),
        rewrite: routes::read_rewrite(&table),
        request_headers: headers::read_edits(&table, "request_headers", headers::REQUEST),
        response_headers: headers::read_edits(&table, "response_headers", headers::RESPONSE),
        faults: faults::read_faults(&table, matches),
        mirror: faults::read_mirror(&table, matches),
        mirrored_by: table.list("mirrored_by", MAX_LET_IN, AppId::parse).unwrap_or_default(),
        asked_by: table.list("asked_by", MAX_LET_IN, AppId::parse).unwrap_or_default(),
        compression: compression::read_compression(&table),
    };
    identity::check(&table, &filters);
    identity::check_heeded(spec, &table, &filters, matches);
    table.finish();
    (!filters.is_empty()).then(|| Arc::new(filters))
}

pub use access::{network, read_rate_limits};
pub use identity::{consumer, sha256, user};
pub(crate) use routes::{read_redirect, read_respond};

/// A file that the spec may name.
fn read_file<'d>(table: &Table<'d>, key: &'d str, place: Place<'_>) -> Option<FilePath> {
    let text = table.text(key)?;
    match place {
        Place::Registry => {
            table.mistake(
                key,
                "only app files may name files of the gateway's machine; write the values here",
            );
            None
        }
        Place::File(_) if text.is_empty() || text.contains('\0') => {
            table.mistake(key, "is no path");
            None
        }
        Place::File(file) => Some(file.parent().unwrap_or(Path::new("")).join(text).into()),
    }
}

/// The name of a field (RFC 9110 section 5.1), of a length that leaves room for its value.
pub(crate) fn field_name(text: &str) -> Result<Arc<str>, String> {
    const MAX_BYTES: usize = 128;
    let is_token = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(is_token_byte);
    is_token
        .then(|| text.into())
        .ok_or_else(|| format!("{text:?} is no field name; write one such as X-Tenant"))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A name that becomes a metric label, or a word in a quoted string.
fn word(text: &str) -> Result<Arc<str>, String> {
    const MAX_BYTES: usize = 64;
    let is_word = (1..=MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    is_word
        .then(|| text.into())
        .ok_or_else(|| format!("is no name; write 1 to {MAX_BYTES} of a-z A-Z 0-9 . _ -"))
}

#[cfg(test)]
mod tests;
