//! App specs: one shape, whether it stands in a file (TOML) or in the registry (JSON).
//!
//! Decides which apps can be meant by a text; every bound is here. Pure: no files, no registry.

mod address;
mod app;
mod balance;
mod capacity;
mod containment;
mod endpoint;
pub mod filters;
mod health;
mod intern;
mod limits;
mod log;
mod matching;
mod port;
mod retries;
mod route;
mod statistics;
mod sticky;
mod timeouts;

use std::path::Path;

use topology::{App, AppId, AppSpec, Endpoint, Protocol};

pub use address::{BadAddress, parse_address};

use self::filters::Place;
use crate::document::{Document, Mistakes, Table};

pub use endpoint::parse_zone;
pub(crate) use endpoint::{read_address, read_backup, read_protocol, read_weight, read_zone};
pub(crate) use intern::Interner;
pub use route::parse_route_value;

/// Reads an app file: the spec with its id and its `[[endpoint]]` sections. Endpoints are
/// [`topology::Origin::File`], and `claimed` is 0, as for every app from a file. `name` is the file's
/// path, for mistakes.
///
/// # Errors
/// Everything that is wrong with it, each with its line.
pub fn parse_app_file(name: &str, text: &str) -> Result<App, Mistakes> {
    read_app_file(name, text).1
}

/// As [`parse_app_file`], and tells which app the text is about even when it is wrong.
pub(crate) fn read_app_file(name: &str, text: &str) -> (Option<AppId>, Result<App, Mistakes>) {
    let document = match Document::toml(name, text) {
        Ok(document) => document,
        Err(mistakes) => return (None, Err(mistakes)),
    };
    let (parts, mistakes) = document.read_leniently(|table| {
        let id = app_id(&table);
        let id = table.required("id", id, "id = \"shop\"");
        let spec = app::read_spec(&table, Place::File(Path::new(name)));
        let endpoints = endpoint::read_endpoints(&table);
        refuse_datagram_probes(&table, spec.as_ref(), &endpoints);
        table.finish();
        (id, spec, endpoints)
    });
    match parts {
        (Some(id), Some(spec), endpoints) if mistakes.is_empty() => {
            let app = App { id: id.clone(), spec: spec.into(), endpoints, claimed: 0 };
            (Some(id), Ok(app))
        }
        (id, ..) => (id, Err(mistakes)),
    }
}

/// Nothing can be asked of a datagram service that all of them answer, and settings that do nothing would
/// be taken for protection.
fn refuse_datagram_probes(table: &Table<'_>, spec: Option<&AppSpec>, endpoints: &[Endpoint]) {
    let is_asked = spec.is_some_and(|spec| spec.health.is_some() && spec.probing);
    let mut protocols = endpoints.iter().map(|endpoint| endpoint.protocol);
    if is_asked && !endpoints.is_empty() && protocols.all(|protocol| protocol == Protocol::Udp) {
        table.mistake("health", "endpoints with protocol = \"udp\" are not probed; remove the section");
    }
}

/// Reads the value of `app/{appId}`: the same keys in JSON, without `endpoint`. `id` may be absent, but
/// must not contradict the key. `key` is the registry key, for mistakes.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_app_value(key: &str, value: &[u8], app: &AppId) -> Result<AppSpec, Mistakes> {
    Document::json(key, value)?.read(|table| {
        if app_id(&table).is_some_and(|given| given != *app) {
            table.mistake("id", format!("is not {:?}, the id in the key; leave it out", app.as_str()));
        }
        if table.has("endpoint") {
            table.mistake("endpoint", "only files list endpoints; in the registry each has its own key");
        }
        let spec = app::read_spec(&table, Place::Registry);
        table.finish();
        spec
    })
}

fn app_id(table: &Table<'_>) -> Option<AppId> {
    table.parsed("id", AppId::parse)
}

#[cfg(test)]
mod tests;
