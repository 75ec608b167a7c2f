//! Paths that apps claim below their hosts.

use std::fmt;
use std::sync::Arc;

/// As long as the longest request target that the gateway reads.
const MAX_PATH_BYTES: usize = 8 << 10;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no path: use a prefix such as /api, or = and an exact path such as =/login; visible ASCII, without ? # % . or .. segments, or //"
)]
pub struct BadPath(String);

/// Which request paths a route takes. Compared with the request's path after dot segments and
/// percent-encoded unreserved characters are resolved (RFC 3986 section 6.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathMatch {
    /// Written `=/login`.
    Exact(Arc<str>),
    /// Written `/api`: that path and everything below it, segment by segment, so not `/apis`.
    /// Held without a trailing slash; the prefix of all paths is empty.
    Prefix(Arc<str>),
}

impl PathMatch {
    /// # Errors
    /// [`BadPath`] when no request path could ever equal it.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        let (exact, path) = match text.strip_prefix('=') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let reachable = path.starts_with('/')
            && path.len() <= MAX_PATH_BYTES
            && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%'))
            && !path.contains("//")
            && !path.split('/').any(|segment| segment == "." || segment == "..");
        if !reachable {
            return Err(BadPath(text.chars().take(256).collect()));
        }
        if exact {
            Ok(Self::Exact(Arc::from(path)))
        } else {
            Ok(Self::Prefix(Arc::from(path.trim_end_matches('/'))))
        }
    }

    /// What of `path`, a request's normalized one, lies below; `None` when it does not fit.
    pub fn below<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        match self {
            Self::Exact(exact) => (path == exact.as_bytes()).then_some(&[]),
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_bytes()).filter(|rest| matches!(rest, [] | [b'/', ..]))
            }
        }
    }

    /// Every path.
    pub fn all() -> Self {
        Self::Prefix(Arc::from(""))
    }

    /// Whether it is [`Self::all`].
    pub fn is_all(&self) -> bool {
        matches!(self, Self::Prefix(prefix) if prefix.is_empty())
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(formatter, "={path}"),
            Self::Prefix(path) if path.is_empty() => formatter.write_str("/"),
            Self::Prefix(path) => formatter.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_equals_sign_makes_a_path_exact() {
        assert_eq!(PathMatch::parse("=/login").unwrap(), PathMatch::Exact("/login".into()));
        assert_eq!(PathMatch::parse("/api/").unwrap(), PathMatch::Prefix("/api".into()));
        assert_eq!(PathMatch::parse("/").unwrap(), PathMatch::all());
        for bad in ["", "api", "/a?b", "/a//b", "/a/../b", "/a%20b", "/a b", "=", "/a/."] {
            assert!(PathMatch::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_takes_whole_segments() {
        let api = PathMatch::parse("/api").unwrap();
        assert_eq!(api.below(b"/api"), Some(&b""[..]));
        assert_eq!(api.below(b"/api/x"), Some(&b"/x"[..]));
        assert_eq!(api.below(b"/apis"), None);
        assert_eq!(PathMatch::all().below(b"/x"), Some(&b"/x"[..]));
        assert_eq!(PathMatch::parse("=/login").unwrap().below(b"/login/"), None);
    }
}
