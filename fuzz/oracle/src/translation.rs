//! A head means the same in HTTP/2 and in HTTP/1.1.

use gateway::message::encode::{self, Downstream, Hop};
use gateway::message::{
    Field, FieldKind, Fields, Framing, Method, RequestHead, ResponseHead, Version, http2,
};
use h2::ext::Protocol;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request, response};

use crate::roundtrip::{is_near_a_limit, passing};
use crate::shown;

/// Of the first byte: whether the stream goes on after the head, whether it is an extended CONNECT, and
/// what the rest is.
const HAS_BODY: u8 = 1;
const IS_EXTENDED: u8 = 2;
const IS_HTTP1: u8 = 4;
const IS_RESPONSE: u8 = 8;
const IS_TRAILERS: u8 = 16;

/// Name and value of fields that nobody on the way owns, sorted.
type Passing = Vec<(Vec<u8>, Vec<u8>)>;

/// The first byte says what the rest is: lines of an HTTP/2 head, or an HTTP/1.1 request's head.
pub fn http2_translation(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    if kind & IS_HTTP1 != 0 {
        return from_http1(rest);
    }
    let mut lines = rest.split(|byte| *byte == b'\n');
    if kind & IS_TRAILERS != 0 {
        return trailers(&fields(lines));
    }
    if kind & IS_RESPONSE != 0 {
        let status = lines.next().unwrap_or_default();
        let Ok(head) = Response::builder().status(status).body(()) else { return };
        let mut head = head.into_parts().0;
        head.headers = fields(lines);
        return response(&head, kind & HAS_BODY != 0);
    }
    let [method, target, authority] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let Some(mut head) = plausible(method, target, authority, kind & IS_EXTENDED != 0) else { return };
    head.headers = fields(lines);
    request(&head, kind & HAS_BODY != 0);
}

/// What h2 could have made of the pseudo-fields.
fn plausible(method: &[u8], target: &[u8], authority: &[u8], is_extended: bool) -> Option<request::Parts> {
    let uri = http::Uri::builder();
    let uri = if target.is_empty() {
        uri.authority(authority)
    } else {
        uri.scheme("https").authority(authority).path_and_query(target)
    };
    let mut head = Request::builder().method(method).uri(uri.build().ok()?).body(()).ok()?;
    if is_extended && head.method() == http::Method::CONNECT {
        head.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    Some(head.into_parts().0)
}

fn fields<'l>(lines: impl Iterator<Item = &'l [u8]>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().skip(1).position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..=colon], &line[colon + 2..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // The map is full long before a head may be that long.
            let _ = fields.try_append(name, value);
        }
    }
    fields
}

fn hop() -> Hop<'static> {
    Hop {
        peer: std::net::Ipv4Addr::new(192, 0, 2, 7).into(),
        is_trusted: false,
        is_tls: true,
        local_authority: "gateway.example:8443",
        pseudonym: "gw-1",
        request_id: "0123456789abcdef",
        identity: None,
        trace: None,
        edits: None,
    }
}

/// What HTTP/2 says reaches HTTP/1.1 and HTTP/2 endpoints alike, and as nothing else.
fn request(head: &request::Parts, has_body: bool) {
    let Ok((bytes, read)) = http2::read_request(head, has_body) else { return };
    assert_eq!(read.version, Version::Http2);
    assert_eq!(sent(&head.headers), of(&read.fields, &bytes), "{}", shown(&bytes));
    if read.method == Method::Connect {
        // It goes no further than to the tunnel.
        return;
    }
    let mut written = Vec::new();
    encode::request(&read, &bytes, &hop(), &mut written);
    match RequestHead::parse(&written) {
        Ok(parsed) => {
            same(&read, &bytes, &parsed, &written);
            assert_eq!(read.upgrade.is_some(), parsed.upgrade.is_some(), "{}", shown(&written));
        }
        Err(error) => assert!(is_near_a_limit(&read.fields, &bytes), "{error}: {}", shown(&written)),
    }
    let again = http2::write_request(&read, &bytes, &hop());
    let again = again.unwrap_or_else(|error| panic!("{error}: {}", shown(&bytes)));
    through_http2(&read, &bytes, again);
}

/// What an HTTP/1.1 client says and HTTP/2 can carry is read there as what it was.
fn from_http1(head: &[u8]) {
    let Ok(parsed) = RequestHead::parse(head) else { return };
    if parsed.method == Method::Connect {
        return;
    }
    if let Ok(written) = http2::write_request(&parsed, head, &hop()) {
        through_http2(&parsed, head, written);
    }
}

fn through_http2(before: &RequestHead, head: &[u8], written: Request<()>) {
    let has_body = !matches!(before.framing, Framing::None | Framing::Length(0));
    let written = written.into_parts().0;
    match http2::read_request(&written, has_body) {
        Ok((bytes, read)) => same(before, head, &read, &bytes),
        Err(error) => assert!(is_near_a_limit(&before.fields, head), "{error}: {written:?}"),
    }
}

fn same(before: &RequestHead, head: &[u8], after: &RequestHead, bytes: &[u8]) {
    let shown = shown(bytes);
    assert_eq!(before.method_name.within(head), after.method_name.within(bytes), "{shown}");
    let path = match before.path_and_query.within(head) {
        b"" if before.method == Method::Options => b"*".to_vec(),
        path @ (b"*" | [b'/', ..]) => path.to_vec(),
        rest => [b"/", rest].concat(),
    };
    assert_eq!(path, after.path_and_query.within(bytes), "{shown}");
    let authority = match before.authority.within(head) {
        b"" => hop().local_authority.as_bytes(),
        authority => authority,
    };
    assert!(authority.eq_ignore_ascii_case(after.authority.within(bytes)), "{shown}");
    // Only nothing may be announced with an upgrade, and a tunnel has no length.
    let framing = if before.upgrade.is_some() { Framing::None } else { before.framing };
    assert_eq!(framing, after.framing, "{shown}");
    assert_eq!(before.expects_continue, after.expects_continue, "{shown}");
    assert_eq!(before.takes_trailers(head), after.takes_trailers(bytes), "{shown}");
    let kept = |field: &Field| !before.connection_names(head, field.name.within(head));
    // The key belongs to HTTP/1.1's handshake: it is made, or ends here (RFC 8441 section 5.1).
    let is_key = |name: &[u8]| before.upgrade.is_some() && name == b"sec-websocket-key";
    let mut wanted = collect(before.fields.iter().filter(|field| kept(field)), head);
    let mut found = of(&after.fields, bytes);
    wanted.retain(|(name, _)| !is_key(name));
    found.retain(|(name, _)| !is_key(name));
    assert_eq!(wanted, found, "{shown}");
}

/// With one cookie of all its pieces, as HTTP/1.1 has it (RFC 9113 section 8.2.3).
fn collect<'f>(fields: impl Iterator<Item = &'f Field>, head: &[u8]) -> Passing {
    let fields = fields.filter(|field| passing(field.kind));
    joined(
        fields.map(|field| (field.name.within(head).to_ascii_lowercase(), field.value.within(head).to_vec())),
    )
}

fn of(fields: &Fields, head: &[u8]) -> Passing {
    collect(fields.iter(), head)
}

fn sent(fields: &HeaderMap) -> Passing {
    let passing = fields.iter().filter(|(name, _)| passing(FieldKind::of(name.as_str().as_bytes())));
    joined(passing.map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())))
}

fn joined(fields: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Passing {
    let (cookies, mut others): (Passing, Passing) = fields.partition(|(name, _)| name == b"cookie");
    let cookies: Vec<_> = cookies
        .into_iter()
        .map(|(_, value)| value)
        .enumerate()
        // Nothing is joined to a cookie by itself.
        .filter(|(at, value)| *at == 0 || !value.is_empty())
        .map(|(_, value)| value)
        .collect();
    if !cookies.is_empty() {
        others.push((b"cookie".to_vec(), cookies.join(&b"; "[..])));
    }
    others.sort();
    others
}

/// What an endpoint answers reaches clients of both versions.
fn response(head: &response::Parts, has_body: bool) {
    for method in [Method::Get, Method::Head] {
        let Ok((bytes, read)) = http2::read_response(head, method, has_body) else { continue };
        assert_eq!(read.status, head.status.as_u16());
        let keep_alive = !encode::needs_close(read.framing, Version::Http11);
        assert!(keep_alive, "an HTTP/2 response says where it ends");
        let mut written = Vec::new();
        let downstream =
            Downstream { version: Version::Http11, keep_alive, hsts: None, date: |_| {}, edits: None };
        encode::response(&read, &bytes, downstream, &mut written);
        match ResponseHead::parse(&written, method) {
            Ok(parsed) => {
                assert_eq!(
                    (read.status, read.framing),
                    (parsed.status, parsed.framing),
                    "{}",
                    shown(&written)
                );
                assert_eq!(plain(&read, &bytes), plain(&parsed, &written), "{}", shown(&written));
            }
            Err(error) => assert!(is_near_a_limit(&read.fields, &bytes), "{error}: {}", shown(&written)),
        }
        let again = http2::write_response(&read, &bytes, None);
        let again = again.unwrap_or_else(|error| panic!("{error}: {}", shown(&bytes))).into_parts().0;
        let (text, read_again) = http2::read_response(&again, method, has_body)
            .unwrap_or_else(|error| panic!("{error}: {again:?}"));
        assert_eq!((read.status, read.framing), (read_again.status, read_again.framing), "{again:?}");
        assert_eq!(plain(&read, &bytes), plain(&read_again, &text), "{again:?}");
    }
}

/// Fields of a response, which has no cookie to join, and whose Connection options end here.
fn plain(head: &ResponseHead, bytes: &[u8]) -> Passing {
    of(&head.fields, bytes)
}

/// What is left of trailers in HTTP/1.1 comes back into HTTP/2 as it is, and nothing that frames or routes
/// is left of them.
fn trailers(fields: &HeaderMap) {
    let mut lines = Vec::new();
    http2::write_trailers(fields, &mut lines);
    let back = http2::read_trailers(&lines).unwrap_or_else(|error| panic!("{error}: {}", shown(&lines)));
    for never in ["content-length", "transfer-encoding", "host", "connection", "te", "upgrade"] {
        assert!(!back.contains_key(never), "{never} in {}", shown(&lines));
    }
    for (name, value) in &back {
        let mut given = fields.get_all(name).iter().map(|given| given.as_bytes().trim_ascii());
        assert!(given.any(|given| given == value.as_bytes()), "{name:?} in {}", shown(&lines));
    }
    let mut again = Vec::new();
    http2::write_trailers(&back, &mut again);
    assert_eq!(shown(&lines), shown(&again));
}
