//! Clients that are sent elsewhere.

use topology::filters::Redirect;

use super::{Asked, Changes, Decision};
use crate::reason::Reason;

#[derive(Debug)]
pub struct Redirects(pub Box<[Redirect]>);

impl Redirects {
    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        let fits = |redirect: &&Redirect| redirect.host.as_ref().is_none_or(|host| host.matches(asked.host));
        let found = self
            .0
            .iter()
            .filter(fits)
            .find_map(|redirect| redirect.from.below(asked.path).map(|rest| (redirect, rest)));
        let Some((redirect, rest)) = found else { return Decision::Pass };
        let query = if redirect.keep_query { asked.query() } else { &[] };
        changes.always.extend_from_slice(b"Location: ");
        push_location(&redirect.to, rest, query, &mut changes.always);
        changes.always.extend_from_slice(b"\r\n");
        changes.status = Some(redirect.status.0);
        Decision::Refuse(Reason::Redirected)
    }

    pub(super) fn describe(&self) -> String {
        let one = |redirect: &Redirect| {
            let host = redirect.host.as_ref().map(|host| format!("{host} ")).unwrap_or_default();
            format!("{host}{} → {} ({})", redirect.from, redirect.to, redirect.status.0)
        };
        self.0.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// `to`, then what lay below the prefix, then the query. The joint has one slash: a location that began
/// with two would name a host.
fn push_location(to: &str, rest: &[u8], query: &[u8], out: &mut Vec<u8>) {
    let (to, own_query) = to.split_at(to.find(['?', '#']).unwrap_or(to.len()));
    let is_joined = !rest.is_empty() && to.ends_with('/');
    out.extend_from_slice(to.strip_suffix('/').filter(|_| is_joined).unwrap_or(to).as_bytes());
    push_encoded(rest, out);
    if own_query.is_empty() {
        push_encoded(query, out);
    } else {
        out.extend_from_slice(own_query.as_bytes());
    }
}

/// Browsers take a backslash for a slash, so one after another would name a host (WHATWG URL,
/// "relative slash state"). The others are no part of any path (RFC 3986 section 3.3).
fn push_encoded(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            b'!'..=b'~' => out.push(*byte),
            // No target that was parsed has any.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(to: &str, rest: &str, query: &str) -> String {
        let mut out = Vec::new();
        push_location(to, rest.as_bytes(), query.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_lies_below_follows_and_the_query_too() {
        assert_eq!(location("/new", "/a", "?q=1"), "/new/a?q=1");
        assert_eq!(location("/new/", "/a", ""), "/new/a");
        assert_eq!(location("https://b.example/", "", "?q"), "https://b.example/?q");
        assert_eq!(location("/new?own=1", "/a", "?q"), "/new/a?own=1");
    }

    #[test]
    fn nobody_is_sent_to_a_host_that_the_path_names() {
        assert_eq!(location("/", "/\\evil.example", ""), "/%5Cevil.example");
        assert_eq!(location("/", "/evil.example", ""), "/evil.example");
    }
}
