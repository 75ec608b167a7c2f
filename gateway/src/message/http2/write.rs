//! From the model to HTTP/2.

use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use super::super::encode::{self, Hop};
use super::super::{
    Field, FieldKind, Fields, Framing, Malformed, Method, RequestHead, ResponseEdits, ResponseHead,
};

/// The head that goes to an endpoint: what HTTP/1.1 endpoints get ([`encode::request`]), less what
/// HTTP/2 says in other ways.
///
/// # Errors
/// [`Malformed::Target`] or [`Malformed::Host`] for what an HTTP/1.1 client may say and HTTP/2 cannot.
pub fn write_request(
    request: &RequestHead,
    head: &[u8],
    hop: &Hop<'_>,
) -> Result<http::Request<()>, Malformed> {
    let mut out = http::Request::new(());
    *out.uri_mut() = uri(request, head, hop)?;
    *out.method_mut() =
        http::Method::from_bytes(request.method_name.within(head)).map_err(|_| Malformed::Grammar)?;
    if let Some(protocol) = request.upgrade {
        let protocol = std::str::from_utf8(protocol.within(head)).map_err(|_| Malformed::Grammar)?;
        *out.method_mut() = http::Method::CONNECT;
        out.extensions_mut().insert(Protocol::from(protocol));
    }
    let names = encode::names_fields(&request.fields, head);
    let mut lines = Vec::with_capacity(FORWARDING_BYTES);
    encode::forwarding_fields(request, head, hop, &mut lines);
    let fields = out.headers_mut();
    fields.reserve(request.fields.len() + FORWARDING_FIELDS);
    copy_fields(&request.fields, head, fields, |field| match field.kind {
        FieldKind::Host => false,
        FieldKind::SecWebSocketKey => request.upgrade.is_none(),
        _ => encode::is_sent_on(field, request, head, hop, names),
    })?;
    append_lines(&lines, fields)?;
    append_lines(hop.edits.map_or(&[], |edits| edits.added), fields)?;
    if request.takes_trailers(head) {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // What follows an extended CONNECT is the tunnel, whatever the handshake said of its own body.
    if let Framing::Length(length) = request.framing
        && request.upgrade.is_none()
    {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(out)
}

/// What [`encode::forwarding_fields`] writes.
const FORWARDING_BYTES: usize = 320;
const FORWARDING_FIELDS: usize = 8;

fn uri(request: &RequestHead, head: &[u8], hop: &Hop<'_>) -> Result<Uri, Malformed> {
    let authority = encode::sent_host(request, head, hop);
    let path = match encode::sent_target(request, head, hop) {
        b"" if request.method == Method::Options => b"*",
        b"" => &b"/"[..],
        path => path,
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if hop.is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(authority).map_err(|_| Malformed::Host)?);
    parts.path_and_query = Some(match path {
        [b'?', ..] => PathAndQuery::try_from([b"/", path].concat()).map_err(|_| Malformed::Target)?,
        _ => PathAndQuery::try_from(path).map_err(|_| Malformed::Target)?,
    });
    Uri::from_parts(parts).map_err(|_| Malformed::Target)
}

/// A final response's head for the client, with the fields that [`encode::response`] passes on.
///
/// # Errors
/// [`Malformed::Grammar`] for a field that HTTP/2 cannot carry.
pub fn write_response(
    response: &ResponseHead,
    head: &[u8],
    edits: Option<ResponseEdits<'_>>,
) -> Result<http::Response<()>, Malformed> {
    let is_passed_on = encode::passed_on(response, head, edits);
    let mut out = respond(response.status, &response.fields, head, is_passed_on)?;
    append_lines(edits.map_or(&[], |edits| edits.added), out.headers_mut())?;
    let recoding = edits.and_then(|edits| edits.recoding);
    append_lines(recoding.map_or(&[], |recoding| &recoding.lines), out.headers_mut())?;
    // Nothing need be said of a body that the head itself ends.
    if let Some(length) = encode::unsaid_length(response, head, edits).filter(|length| *length > 0) {
        out.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(out)
}

/// What agrees to leave HTTP: 200 instead of 101 (RFC 8441 section 5).
///
/// # Errors
/// As [`write_response`].
pub fn write_switched(response: &ResponseHead, head: &[u8]) -> Result<http::Response<()>, Malformed> {
    let mut is_passed_on = encode::passed_on(response, head, None);
    respond(200, &response.fields, head, |field| {
        field.kind != FieldKind::SecWebSocketAccept && is_passed_on(field)
    })
}

/// An interim response's head (1xx).
///
/// # Errors
/// As [`write_response`].
pub fn write_interim(response: &ResponseHead, head: &[u8]) -> Result<http::Response<()>, Malformed> {
    let mut is_passed_on = encode::passed_on(response, head, None);
    respond(response.status, &response.fields, head, |field| {
        field.kind != FieldKind::ContentLength && is_passed_on(field)
    })
}

fn respond(
    status: u16,
    fields: &Fields,
    head: &[u8],
    keep: impl FnMut(&Field) -> bool,
) -> Result<http::Response<()>, Malformed> {
    let mut out = http::Response::new(());
    *out.status_mut() = StatusCode::from_u16(status).map_err(|_| Malformed::Status)?;
    out.headers_mut().reserve(fields.len());
    copy_fields(fields, head, out.headers_mut(), keep)?;
    Ok(out)
}

fn copy_fields(
    fields: &Fields,
    head: &[u8],
    out: &mut HeaderMap,
    mut keep: impl FnMut(&Field) -> bool,
) -> Result<(), Malformed> {
    for field in fields.iter().filter(|field| keep(field)) {
        append(field.name.within(head), field.value.within(head), out)?;
    }
    Ok(())
}

/// `lines`: `name: value`, each ended by CR LF.
///
/// # Errors
/// [`Malformed`] for one that HTTP/2 cannot carry.
pub fn append_lines(lines: &[u8], out: &mut HeaderMap) -> Result<(), Malformed> {
    let mut rest = lines;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        let colon = memchr::memchr(b':', line).ok_or(Malformed::Grammar)?;
        append(&line[..colon], line[colon + 1..].trim_ascii(), out)?;
    }
    Ok(())
}

fn append(name: &[u8], value: &[u8], out: &mut HeaderMap) -> Result<(), Malformed> {
    let name = HeaderName::from_bytes(name).map_err(|_| Malformed::Grammar)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Malformed::Grammar)?;
    // The map refuses more than any head that we take has.
    out.try_append(name, value).map_err(|_| Malformed::TooManyFields)?;
    Ok(())
}
