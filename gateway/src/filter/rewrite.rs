//! What endpoints are asked for instead.

use topology::PathMatch;
use topology::filters::Rewrite;

use super::{Asked, Changes, Decision};

#[derive(Debug)]
pub struct Rewrites(pub Rewrite);

impl Rewrites {
    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        changes.host = self.0.host.clone();
        // CONNECT and `OPTIONS *` ask for no path.
        if matches!(asked.request.path_and_query.within(asked.head), [b'/', ..]) {
            // Another filter may have taken a secret out of the query.
            let former = changes.target.take();
            let query = former.as_deref().map_or_else(|| asked.query(), query_of);
            changes.target = self.target(asked.path, query).or(former);
        }
        Decision::Pass
    }

    /// From the normalized path, which is what routing and the other filters have seen: what an endpoint
    /// resolves from the raw one could climb out of the prefix that is put in front.
    fn target(&self, path: &[u8], query: &[u8]) -> Option<Box<[u8]>> {
        let strip = self.0.strip_prefix.clone().map(PathMatch::Prefix);
        let below = strip.and_then(|prefix| prefix.below(path));
        if below.is_none() && self.0.add_prefix.is_none() {
            return None;
        }
        let rest = below.unwrap_or(path);
        let prefix = self.0.add_prefix.as_deref().unwrap_or("").as_bytes();
        let slash: &[u8] = if prefix.is_empty() && rest.is_empty() { b"/" } else { b"" };
        Some([prefix, rest, slash, query].concat().into())
    }

    pub(super) fn describe(&self) -> String {
        let part = |verb: &str, value: &Option<std::sync::Arc<str>>| match value {
            Some(value) => format!("{verb} {value} "),
            None => String::new(),
        };
        let Rewrite { strip_prefix, add_prefix, host } = &self.0;
        let text = [part("strip", strip_prefix), part("add", add_prefix), part("host", host)];
        text.concat().trim_end().to_owned()
    }
}

/// With its question mark; empty without one.
fn query_of(target: &[u8]) -> &[u8] {
    memchr::memchr(b'?', target).map_or(&[], |at| &target[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(strip: Option<&str>, add: Option<&str>, path: &str, query: &str) -> Option<String> {
        let rewrite =
            Rewrite { strip_prefix: strip.map(Into::into), add_prefix: add.map(Into::into), host: None };
        let target = Rewrites(rewrite).target(path.as_bytes(), query.as_bytes())?;
        Some(String::from_utf8(target.into()).unwrap())
    }

    #[test]
    fn prefixes_go_by_whole_segments() {
        for (strip, add, path, wanted) in [
            (Some("/api"), None, "/api/x", Some("/x?q")),
            (Some("/api"), None, "/api", Some("/?q")),
            (Some("/api"), None, "/apis", None),
            (Some("/api"), Some("/v2"), "/api/x", Some("/v2/x?q")),
            (Some("/api"), Some("/v2"), "/other", Some("/v2/other?q")),
            (None, Some("/v2"), "/", Some("/v2/?q")),
            (Some("/api"), Some("/v2"), "/api", Some("/v2?q")),
        ] {
            assert_eq!(rewritten(strip, add, path, "?q").as_deref(), wanted, "{path}");
        }
    }
}
