//! `[[filters.redirects]]` and `[filters.rewrite]`.

use std::sync::Arc;

use topology::filters::{Redirect, RedirectStatus, Rewrite};
use topology::{HostPattern, PathMatch};

use crate::document::Table;

/// Each is compared with a request's path in turn.
const MAX_REDIRECTS: usize = 200;
/// A quarter of the longest target that is read, so that what follows still fits.
const MAX_TARGET_BYTES: usize = 2 << 10;

pub(super) fn read_redirects(filters: &Table<'_>) -> Vec<Redirect> {
    let mut redirects = Vec::new();
    for table in filters.tables("redirects", MAX_REDIRECTS) {
        let from = table.required("from", table.parsed("from", PathMatch::parse), "from = \"/old\"");
        let host = table.parsed("host", HostPattern::parse);
        let to = table.required("to", table.parsed("to", destination), "to = \"/new\"");
        let status = read_status(&table);
        let keep_query = table.boolean("keep_query").unwrap_or(true);
        table.finish();
        if let (Some(from), Some(to)) = (from, to) {
            redirects.push(Redirect { from, host, to, status, keep_query });
        }
    }
    redirects
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
