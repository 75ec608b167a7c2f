//! `[[filters.redirects]]` and `[filters.rewrite]`.

use std::sync::Arc;

use topology::filters::{Redirect, RedirectStatus, Respond, Rewrite};
use topology::{HostPattern, PathMatch};

use crate::document::Table;

/// Each is compared with a request's path in turn.
const MAX_REDIRECTS: usize = 200;
/// A quarter of the longest target that is read, so that what follows still fits.
const MAX_TARGET_BYTES: usize = 2 << 10;
/// A notice, `robots.txt`, a small page. What is larger is an app.
const MAX_BODY_BYTES: usize = 16 << 10;
const MAX_TYPE_BYTES: usize = 128;

pub(super) fn read_redirects(filters: &Table<'_>) -> Vec<Redirect> {
    let mut redirects = Vec::new();
    for table in filters.tables("redirects", MAX_REDIRECTS) {
        let from = table.required("from", table.parsed("from", PathMatch::parse), "from = \"/old\"");
        let host = table.parsed("host", HostPattern::parse);
        let to = read_destination(&table);
        table.finish();
        if let (Some(from), Some((to, status, keep_query))) = (from, to) {
            redirects.push(Redirect { from, host, to, status, keep_query });
        }
    }
    redirects
}

fn read_destination(table: &Table<'_>) -> Option<(Arc<str>, RedirectStatus, bool)> {
    let to = table.required("to", table.parsed("to", destination), "to = \"/new\"");
    let status = read_status(table);
    let keep_query = table.boolean("keep_query").unwrap_or(true);
    Some((to?, status, keep_query))
}

/// The `redirect` of a route without an app: from each of its paths.
pub(crate) fn read_redirect(route: &Table<'_>, paths: &[PathMatch]) -> Option<Vec<Redirect>> {
    let table = route.table("redirect")?;
    let to = read_destination(&table);
    table.finish();
    let (to, status, keep_query) = to?;
    let from =
        |from: &PathMatch| Redirect { from: from.clone(), host: None, to: to.clone(), status, keep_query };
    Some(paths.iter().map(from).collect())
}

/// The `respond` of a route without an app.
pub(crate) fn read_respond(route: &Table<'_>) -> Option<Respond> {
    let table = route.table("respond")?;
    let status = table.integer("status", 200..=599u16);
    let status = table.required("status", status, "status = 200");
    let content_type = table.parsed("content_type", field_value);
    let body = table.parsed("body", |text| match text.len() {
        0..=MAX_BODY_BYTES => Ok(Arc::from(text)),
        given => Err(format!("has {given} bytes; the limit is {MAX_BODY_BYTES}")),
    });
    // RFC 9110 section 15.3.5 and 15.4.5: these have no content.
    if status.is_some_and(|status| matches!(status, 204 | 304)) && table.has("body") {
        table.mistake("body", "an answer of this status has none; remove it");
    }
    table.finish();
    Some(Respond {
        status: status?,
        content_type: content_type.unwrap_or_else(|| Respond::DEFAULT_TYPE.into()),
        body: body.unwrap_or_default(),
    })
}

fn field_value(text: &str) -> Result<Arc<str>, String> {
    let is_value =
        (1..=MAX_TYPE_BYTES).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    is_value
        .then(|| text.into())
        .ok_or_else(|| format!("{text:?} is no media type; write one such as text/html; charset=utf-8"))
}

/// 308 by default: the method stays, and the client need not ask here again.
fn read_status(table: &Table<'_>) -> RedirectStatus {
    const KNOWN: [u16; 5] = [301, 302, 303, 307, 308];
    let status = table.integer("status", 0..=999u16);
    if let Some(status) = status.filter(|status| !KNOWN.contains(status)) {
        table.mistake("status", format!("{status} is no redirect; write 301, 302, 303, 307 or 308"));
    }
    RedirectStatus(status.unwrap_or(308))
}

fn destination(text: &str) -> Result<Arc<str>, String> {
    let is_plain = text.len() <= MAX_TARGET_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte));
    let authority = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_uri = authority.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty() && topology::normalize_host(host.as_bytes()).is_some()
    });
    let is_path = text.starts_with('/') && !text.starts_with("//");
    if is_plain && (is_uri || is_path) {
        return Ok(text.into());
    }
    Err(format!(
        "{text:?} is no destination; write a path such as /new, or a URI such as https://example.com/new"
    ))
}

pub(super) fn read_rewrite(filters: &Table<'_>) -> Option<Rewrite> {
    let table = filters.table("rewrite")?;
    let rewrite = Rewrite {
        strip_prefix: table.parsed("strip_prefix", prefix),
        add_prefix: table.parsed("add_prefix", prefix),
        host: table.parsed("host", host),
    };
    if !["strip_prefix", "add_prefix", "host"].iter().any(|key| table.has(key)) {
        table.mistake_here("changes nothing; write strip_prefix, add_prefix or host");
    }
    table.finish();
    Some(rewrite)
}

fn prefix(text: &str) -> Result<Arc<str>, String> {
    match PathMatch::parse(text) {
        Ok(PathMatch::Prefix(prefix)) if !prefix.is_empty() && prefix.len() <= MAX_TARGET_BYTES => Ok(prefix),
        _ => Err(format!("{text:?} is no prefix; write a path such as /api")),
    }
}

fn host(text: &str) -> Result<Arc<str>, String> {
    let is_host = !text.is_empty() && topology::normalize_host(text.as_bytes()).is_some();
    is_host
        .then(|| text.into())
        .ok_or_else(|| format!("{text:?} is no host; write a name, or a name and a port"))
}
