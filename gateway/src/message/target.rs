//! Request targets: their forms (RFC 9112 section 3.2), and the path that routes compare.

use std::borrow::Cow;

use super::{Malformed, Method};

/// A target taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Of the absolute form only.
    pub authority: Option<&'a [u8]>,
    pub path_and_query: &'a [u8],
}

/// # Errors
/// [`Malformed::Target`] for a byte outside visible ASCII, a fragment, or a form that `method` has not.
pub fn parse(method: Method, target: &[u8]) -> Result<Target<'_>, Malformed> {
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Malformed::Target);
    }
    match target {
        [b'/', ..] if method != Method::Connect => Ok(Target { authority: None, path_and_query: target }),
        b"*" if method == Method::Options => Ok(Target { authority: None, path_and_query: target }),
        // RFC 9112 section 3.2.3: CONNECT asks for an authority, and for no path there.
        _ if method == Method::Connect => {
            Ok(Target { authority: Some(target), path_and_query: &target[target.len()..] })
        }
        _ => absolute(target),
    }
}

fn absolute(target: &[u8]) -> Result<Target<'_>, Malformed> {
    let scheme_end = memchr::memmem::find(target, b"://").ok_or(Malformed::Target)?;
    let scheme = &target[..scheme_end];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Malformed::Target);
    }
    let rest = &target[scheme_end + b"://".len()..];
    let authority_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    // RFC 9110 section 4.2.1: an http URI without a host is invalid.
    if authority_end == 0 {
        return Err(Malformed::Target);
    }
    Ok(Target { authority: Some(&rest[..authority_end]), path_and_query: &rest[authority_end..] })
}

/// The path that routes are compared with: without the query, percent-encoded unreserved characters
/// decoded, dot segments removed and runs of slashes joined (RFC 3986 sections 6.2.2.2 and 6.2.2.3), as
/// the endpoint behind it may well do. What is forwarded stays as received.
///
/// # Errors
/// [`Malformed::PathAboveRoot`] when dot segments climb out of the root.
pub fn route_path(path_and_query: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    let path = match memchr::memchr(b'?', path_and_query) {
        Some(end) => &path_and_query[..end],
        None => path_and_query,
    };
    if path.is_empty() || path == b"*" {
        return Ok(Cow::Borrowed(b"/"));
    }
    if !needs_normalizing(path) {
        return Ok(Cow::Borrowed(path));
    }
    remove_dot_segments(&decode_unreserved(path)).map(Cow::Owned)
}

fn needs_normalizing(path: &[u8]) -> bool {
    memchr::memchr(b'%', path).is_some() || path.windows(2).any(|pair| pair == b"/." || pair == b"//")
}

fn decode_unreserved(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        match escaped(rest) {
            Some(plain) if plain.is_ascii_alphanumeric() || matches!(plain, b'-' | b'.' | b'_' | b'~') => {
                decoded.push(plain);
                rest = &rest[3..];
            }
            _ => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    decoded
}

/// The byte that `%XX` at the start of `rest` stands for.
fn escaped(rest: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = rest else { return None };
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    Some(digit(*high)? << 4 | digit(*low)?)
}

fn remove_dot_segments(path: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        ends_in_slash = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop().ok_or(Malformed::PathAboveRoot)?;
            }
            _ => kept.push(segment),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for segment in &kept {
        clean.push(b'/');
        clean.extend_from_slice(segment);
    }
    if ends_in_slash || kept.is_empty() {
        clean.push(b'/');
    }
    Ok(clean)
}

/// Whether endpoints may take a path, as received and without its query, for another one than
/// [`route_path`] does: some decode separators before they resolve dots, some resolve no dots or join no
/// slashes, some take a backslash for a slash, and of an escape that stands for nothing each makes something
/// else. We forward such paths as they came, so whoever opens a part of an app to somebody, or closes one, must
/// not go by them. Semicolons are no part of this: [`without_parameters`].
pub fn is_ambiguous(path: &[u8]) -> bool {
    path.iter().enumerate().any(|(at, byte)| match byte {
        b'\\' => true,
        b'%' => !escaped(&path[at..]).is_some_and(is_harmless),
        b'/' => begins_oddly(&path[at + 1..]),
        _ => false,
    })
}

/// What nobody splits a path at, decoded early or twice; 0xC0 and 0xC1 begin overlong forms of such bytes.
fn is_harmless(decoded: u8) -> bool {
    !decoded.is_ascii_control() && !matches!(decoded, b'/' | b'\\' | b'.' | b';' | b'%' | 0xc0 | 0xc1)
}

/// Whether what follows a slash begins with another one, or with a segment of one or two dots, with
/// parameters or without.
fn begins_oddly(rest: &[u8]) -> bool {
    match rest {
        [b'/', ..] => true,
        [b'.', b'.', rest @ ..] | [b'.', rest @ ..] => matches!(rest, [] | [b'/' | b';', ..]),
        _ => false,
    }
}

/// A path in which every segment ends at its first semicolon, as Java's servers read it; `None` where there
/// is no semicolon.
pub fn without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b';', path)?;
    let segments = path.split(|byte| *byte == b'/');
    let names = segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default());
    Some(names.collect::<Vec<_>>().join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_its_parts() {
        let absolute = parse(Method::Get, b"HTTP://a:80?x").unwrap();
        assert_eq!((absolute.authority, absolute.path_and_query), (Some(&b"a:80"[..]), &b"?x"[..]));
        assert!(parse(Method::Options, b"*").is_ok());
        for bad in ["*", "a", "ftp://a/", "http://", "http:///x", "/a#b", "/\u{e4}"] {
            assert_eq!(parse(Method::Get, bad.as_bytes()), Err(Malformed::Target), "{bad}");
        }
    }

    #[test]
    fn a_route_sees_the_path_that_an_endpoint_would_resolve() {
        for (given, wanted) in [
            ("/", "/"),
            ("", "/"),
            ("*", "/"),
            ("?q", "/"),
            ("/a/b?c/../d", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a//b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/%61%2fb", "/a%2fb"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/a%", "/a%"),
            ("/a%2", "/a%2"),
            ("/.well-known/x", "/.well-known/x"),
        ] {
            assert_eq!(route_path(given.as_bytes()).unwrap(), wanted.as_bytes(), "{given}");
        }
        for bad in ["/..", "/a/../..", "/%2e%2e/x"] {
            assert_eq!(route_path(bad.as_bytes()), Err(Malformed::PathAboveRoot), "{bad}");
        }
    }

    #[test]
    fn paths_that_endpoints_may_read_otherwise_are_known() {
        for path in [
            "/a/..%2fb",
            "/a/..%5Cb",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/.;/b",
            "/a\\..\\b",
            "/a/%252e",
            "/a%00",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/a/.",
            "/a//b",
            "//a",
            "/a//",
            "/%2e%2e/a",
            "/a/%2E/b",
            "/a/..//b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%u002fb",
            "/a%0ab",
            "/a/%c0%ae%c0%ae/b",
            "/a%3bx/b",
            "/.;/a",
        ] {
            assert!(is_ambiguous(path.as_bytes()), "{path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/a/b",
            "/a/b/",
            "/a;v=1/b",
            "/a..;b",
            "/%20/%c3%bc",
            "/a.b/..c",
            "/%61",
            "/...",
            "/.a/..a/a.",
        ] {
            assert!(!is_ambiguous(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn parameters_end_a_segment() {
        let cut =
            |path: &str| without_parameters(path.as_bytes()).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(cut("/a;v=1/b;w;x/c").as_deref(), Some("/a/b/c"));
        assert_eq!((cut("/a;").as_deref(), cut("/a/b")), (Some("/a"), None));
    }
}
