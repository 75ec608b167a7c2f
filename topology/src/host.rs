//! Host names that apps claim and requests ask for.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// RFC 1035 section 2.3.4: a name is at most 255 octets on the wire, 253 as text.
const MAX_NAME_BYTES: usize = 253;
/// RFC 1035 section 2.3.4.
const MAX_LABEL_BYTES: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host: use a name such as shop.example.com, *.shop.example.com, an IP address, or *; no port, no path"
)]
pub struct BadHost(String);

/// A host name, or a set of them. Always lower case, never with a trailing dot or a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    Exact(Arc<str>),
    /// `*.example.com`, held as `example.com`: every name below it, at any depth, but not itself.
    Wildcard(Arc<str>),
    /// `*`: any host that nobody else claims.
    Any,
}

impl HostPattern {
    /// # Errors
    /// [`BadHost`] when `text` is neither `*`, nor `*.` and a name, nor a name or an IP address.
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let bad = || BadHost(text.chars().take(MAX_NAME_BYTES).collect());
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if is_name(&name) {
            let name = Arc::from(name);
            return Ok(if wildcard { Self::Wildcard(name) } else { Self::Exact(name) });
        }
        match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) if !wildcard && v6.parse::<std::net::Ipv6Addr>().is_ok() => {
                Ok(Self::Exact(Arc::from(name)))
            }
            _ => Err(bad()),
        }
    }

    /// Whether `host`, a normalized one, is one of these.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Wildcard(name) => host
                .strip_suffix(&**name)
                .and_then(|start| start.strip_suffix('.'))
                .is_some_and(|start| !start.is_empty()),
            Self::Any => true,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name),
            Self::Wildcard(name) => write!(formatter, "*.{name}"),
            Self::Any => formatter.write_str("*"),
        }
    }
}

/// Underscores are no part of RFC 1123 names, but tenants use them and resolvers answer for them.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.split('.').all(|label| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

/// The name that a request's authority (Host field or absolute target) asks for: lower case, without
/// port and trailing dot. `None` when it is no authority of RFC 9110 section 7.2 without user
/// information. The empty authority is valid and names no host.
pub fn normalize_host(authority: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(authority).ok()?;
    let (name, port) = split_port(text)?;
    // An empty port is valid: RFC 3986 section 3.2.3.
    if port.len() > 5
        || !port.bytes().all(|byte| byte.is_ascii_digit())
        || port.parse::<u32>().is_ok_and(|p| p > 65535)
    {
        return None;
    }
    let name = if name.len() > 1 { name.strip_suffix('.').unwrap_or(name) } else { name };
    let valid = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok(),
        // RFC 9110 section 4.2.1: with a port there must be a host.
        None => text.is_empty() || is_name(name),
    };
    if !valid {
        return None;
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(name.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(name))
}

fn split_port(text: &str) -> Option<(&str, &str)> {
    let name_end =
        if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    match text[name_end..].strip_prefix(':') {
        Some(port) => Some((&text[..name_end], port)),
        None if name_end == text.len() => Some((text, "")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_exact_wildcard_or_any() {
        assert_eq!(
            HostPattern::parse("Shop.Example.com.").unwrap(),
            HostPattern::Exact("shop.example.com".into())
        );
        assert_eq!(HostPattern::parse("*.example.com").unwrap(), HostPattern::Wildcard("example.com".into()));
        assert_eq!(HostPattern::parse("*").unwrap(), HostPattern::Any);
        assert_eq!(HostPattern::parse("[::1]").unwrap(), HostPattern::Exact("[::1]".into()));
        for bad in ["", "a..b", "a.*.b", "*.", "http://a", "a:80", "a/b", "a b", "ä.de", "*.[::1]", "[::g]"]
        {
            assert!(HostPattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wildcard_is_for_names_below_it() {
        let wildcard = HostPattern::parse("*.example.com").unwrap();
        assert!(wildcard.matches("a.b.example.com"));
        for other in ["example.com", ".example.com", "aexample.com", "a.example.com.evil"] {
            assert!(!wildcard.matches(other), "{other}");
        }
        assert!(HostPattern::parse("a.b").unwrap().matches("a.b") && HostPattern::Any.matches("x"));
    }

    #[test]
    fn authorities_lose_port_case_and_trailing_dot() {
        for (given, wanted) in [
            ("Shop.example.com:8080", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("shop:", "shop"),
            ("[::1]:80", "[::1]"),
            ("", ""),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(normalize_host(given.as_bytes()).as_deref(), Some(wanted), "{given}");
        }
        for bad in [
            "a:b", "a:80:80", "user@a", "a/b", "a b", "[::1", "::1", "a:99999", "a:000080", "a\u{e4}",
            "[::1]x", "a,b",
        ] {
            assert_eq!(normalize_host(bad.as_bytes()), None, "{bad}");
        }
    }
}
