//! A route of no app: a redirect or a fixed response, by host and path.

use std::sync::Arc;

use topology::filters::Filters;
use topology::{AppSpec, HostPattern, PathMatch};

use super::app::{MAX_HOSTS, MAX_PATHS, distinct, read_listeners};
use super::filters::{read_redirect, read_respond};
use crate::document::{Document, Mistakes};

/// Reads the value of `route/{id}`: `hosts`, `paths`, `listeners` and `https_only` as of an app, and one of `redirect`
/// (`to`, `status`, `keep_query`) and `respond` (`status`, `content_type`, `body`). `key` is the registry key, for
/// mistakes. What it becomes is served as an app without endpoints is.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_route_value(key: &str, value: &[u8]) -> Result<AppSpec, Mistakes> {
    Document::json(key, value)?.read(|table| {
        let hosts = table.list("hosts", MAX_HOSTS, HostPattern::parse).map(distinct);
        let hosts = table.required("hosts", hosts, "hosts = [\"old.example.com\"]");
        table.refuse_empty("hosts", "write one such as old.example.com");
        let paths = table.list("paths", MAX_PATHS, PathMatch::parse).map(distinct);
        table.refuse_empty("paths", "write [\"/\"], or leave it out, to take every path");
        let paths = paths.unwrap_or_else(|| vec![PathMatch::all()]);
        let listeners = read_listeners(&table);
        let https_only = table.boolean("https_only").unwrap_or_default();
        let redirects = read_redirect(&table, &paths);
        let respond = read_respond(&table);
        match (table.has("redirect"), table.has("respond")) {
            (false, false) => table.mistake_here("does nothing; write redirect or respond"),
            (true, true) => table.mistake("respond", "a route does one thing; remove this or redirect"),
            _ => {}
        }
        table.finish();
        let filters = Filters {
            redirects: redirects.unwrap_or_default(),
            respond: respond.map(Arc::new),
            ..Filters::default()
        };
        let filters = Some(Arc::new(filters));
        Some(AppSpec {
            hosts: hosts?,
            paths,
            listeners,
            https_only,
            filters,
            probing: false,
            ..AppSpec::implied()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<AppSpec, String> {
        parse_route_value("route/old", value.as_bytes()).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_route_redirects_from_each_of_its_paths_or_responds() {
        let spec = read(
            r#"{"hosts": ["old.test"], "paths": ["/a", "/b"], "redirect": {"to": "https://new.test/"}}"#,
        );
        let spec = spec.unwrap();
        let filters = spec.filters.unwrap();
        assert_eq!((filters.redirects.len(), filters.redirects[0].status.0), (2, 308));
        let spec =
            read(r#"{"hosts": ["*"], "paths": ["=/robots.txt"], "respond": {"status": 200, "body": "x"}}"#);
        let filters = spec.unwrap().filters.unwrap();
        assert_eq!(filters.respond.as_ref().unwrap().content_type.as_ref(), "text/plain; charset=utf-8");
    }

    #[test]
    fn bad_routes_say_why() {
        for (value, told) in [
            ("{}", "hosts: is missing"),
            (r#"{"hosts": ["a.test"]}"#, "does nothing; write redirect or respond"),
            (r#"{"hosts": [], "respond": {"status": 200}}"#, "hosts: is empty"),
            (
                r#"{"hosts": ["a.test"], "respond": {"status": 99}}"#,
                "respond.status: must be an integer from 200 to 599",
            ),
            (
                r#"{"hosts": ["a.test"], "respond": {"status": 204, "body": "x"}}"#,
                "respond.body: an answer of this status has none",
            ),
            (
                r#"{"hosts": ["a.test"], "respond": {"status": 200, "content_type": "a\r\nb"}}"#,
                "respond.content_type: ",
            ),
            (r#"{"hosts": ["a.test"], "redirect": {"to": "//evil"}}"#, "redirect.to: "),
            (
                r#"{"hosts": ["a.test"], "redirect": {"to": "/"}, "respond": {"status": 200}}"#,
                "respond: a route does one thing",
            ),
            (
                r#"{"hosts": ["a.test"], "redirect": {"to": "/"}, "balance": "random"}"#,
                "balance: unknown key",
            ),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(told), "{value}: {error}");
        }
    }
}
