//! From HTTP/2 to the model.

use h2::ext::Protocol;
use http::{HeaderMap, header};

use super::super::request::{HeadLimits, expects_continue};
use super::super::response::is_bodiless;
use super::super::{
    Field, FieldKind, Fields, Framing, Malformed, Method, RequestHead, ResponseHead, Span, Version, framing,
    target,
};

/// A head as it is written out, and where its fields are.
struct Text {
    bytes: Vec<u8>,
    fields: Fields,
    limits: HeadLimits,
}

impl Text {
    fn with_room_for(fields: &HeaderMap, start: usize, limits: HeadLimits) -> Self {
        let fields: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        // The status line or the version, and the Host line's name.
        Self { bytes: Vec::with_capacity(start + fields + 64), fields: Fields::default(), limits }
    }

    fn push(&mut self, part: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        Span::new(start, self.bytes.len())
    }

    fn field(&mut self, kind: FieldKind, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if self.bytes.len() + name.len() + value.len() > self.limits.bytes {
            return Err(Malformed::HeadTooLong);
        }
        if self.fields.len() == self.limits.fields {
            return Err(Malformed::TooManyFields);
        }
        if is_padded(value) {
            return Err(Malformed::Grammar);
        }
        let name = self.push(name);
        self.push(b": ");
        let value = self.push(value);
        self.push(b"\r\n");
        let line = Span::new(usize::from(name.start), self.bytes.len());
        self.fields.push(Field { kind, line, name, value });
        Ok(())
    }

    /// RFC 9113 section 8.2.3: one cookie's pairs may come in many fields, and leave in one.
    fn join_cookie(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if is_padded(value) {
            return Err(Malformed::Grammar);
        }
        if value.is_empty() {
            // The joint alone would end in a space.
            return Ok(());
        }
        if self.bytes.len() + value.len() > self.limits.bytes {
            return Err(Malformed::HeadTooLong);
        }
        let Some(last) = self.fields.last_mut() else { return Err(Malformed::Grammar) };
        self.bytes.truncate(usize::from(last.value.end));
        self.bytes.extend_from_slice(b"; ");
        self.bytes.extend_from_slice(value);
        last.value.end = self.bytes.len() as u16;
        self.bytes.extend_from_slice(b"\r\n");
        last.line.end = self.bytes.len() as u16;
        Ok(())
    }

    fn all(&mut self, fields: &HeaderMap) -> Result<(), Malformed> {
        let mut had_cookie = false;
        for (name, value) in fields {
            if *name == header::COOKIE && std::mem::replace(&mut had_cookie, *name == header::COOKIE) {
                self.join_cookie(value.as_bytes())?;
                continue;
            }
            let kind = FieldKind::of(name.as_str().as_bytes());
            match kind {
                FieldKind::Host => continue,
                FieldKind::Connection
                | FieldKind::KeepAlive
                | FieldKind::ProxyConnection
                | FieldKind::TransferEncoding
                | FieldKind::Upgrade => return Err(Malformed::ConnectionField),
                // RFC 9113 section 8.2.2.
                FieldKind::Te if !value.as_bytes().eq_ignore_ascii_case(b"trailers") => {
                    return Err(Malformed::ConnectionField);
                }
                _ => self.field(kind, name.as_str().as_bytes(), value.as_bytes())?,
            }
        }
        Ok(())
    }
}

/// RFC 9113 section 8.2.1: no value begins or ends with white space.
fn is_padded(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// The head that HTTP/1.1 would have, and what it says. Extended CONNECT (RFC 8441) becomes what it
/// stands for, a GET with an upgrade.
///
/// # Errors
/// The first rule that it breaks. The stream is malformed; the connection is not.
pub fn read_request(
    parts: &http::request::Parts,
    has_body: bool,
) -> Result<(Vec<u8>, RequestHead), Malformed> {
    read_request_within(parts, has_body, HeadLimits::default())
}

/// As [`read_request`], of a head that may be as large as `limits` say.
///
/// # Errors
/// As [`read_request`].
pub fn read_request_within(
    parts: &http::request::Parts,
    has_body: bool,
    limits: HeadLimits,
) -> Result<(Vec<u8>, RequestHead), Malformed> {
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    let name = if protocol.is_some() { "GET" } else { parts.method.as_str() };
    let method = Method::of(name);
    let authority = authority(parts)?;
    let wanted = match parts.uri.path_and_query() {
        _ if method == Method::Connect => authority,
        Some(path) => path.as_str().as_bytes(),
        None => return Err(Malformed::Target),
    };
    if wanted.len() > limits.target {
        return Err(Malformed::TargetTooLong);
    }
    if target::parse(method, wanted)?.authority.is_some() != (method == Method::Connect) {
        return Err(Malformed::Target);
    }
    let start = name.len() + wanted.len() + authority.len();
    let mut text = Text::with_room_for(&parts.headers, start, limits);
    let method_name = text.push(name.as_bytes());
    text.push(b" ");
    let target = text.push(wanted);
    text.push(b" HTTP/1.1\r\n");
    text.field(FieldKind::Host, b"host", authority)?;
    let authority = text.fields.last_mut().map(|field| field.value).unwrap_or_default();
    text.all(&parts.headers)?;
    let Text { mut bytes, fields, .. } = text;
    bytes.extend_from_slice(b"\r\n");
    let framing = match protocol {
        // What follows is the tunnel.
        Some(_) => Framing::None,
        None if method == Method::Connect => Framing::None,
        None => request_framing(&fields, &bytes, has_body)?,
    };
    let upgrade = protocol.map(|protocol| {
        let start = bytes.len();
        bytes.extend_from_slice(protocol.as_bytes());
        Span::new(start, bytes.len())
    });
    let head = RequestHead {
        method,
        method_name,
        version: Version::Http2,
        target,
        path_and_query: if method == Method::Connect { Span::default() } else { target },
        authority,
        framing,
        keep_alive: true,
        expects_continue: expects_continue(&fields, &bytes, Version::Http2)?,
        upgrade,
        fields,
    };
    Ok((bytes, head))
}

/// RFC 9113 section 8.3.1: what the request is for, said once or twice and the same.
fn authority(parts: &http::request::Parts) -> Result<&[u8], Malformed> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(header::HOST).iter().map(|host| host.as_bytes());
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::HostCount);
    }
    let authority = match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(Malformed::HostAndAuthority);
        }
        (Some(authority), _) | (None, Some(authority)) => authority,
        (None, None) => return Err(Malformed::HostCount),
    };
    topology::normalize_host(authority).ok_or(Malformed::Host)?;
    Ok(authority)
}

/// RFC 9113 section 8.1.1. `h2` compares what is announced with what comes.
fn request_framing(fields: &Fields, head: &[u8], has_body: bool) -> Result<Framing, Malformed> {
    match (announced(fields, head)?, has_body) {
        (Some(1..), false) => Err(Malformed::LengthWithoutBody),
        (Some(length), _) => Ok(Framing::Length(length)),
        (None, true) => Ok(Framing::Chunked),
        (None, false) => Ok(Framing::None),
    }
}

fn announced(fields: &Fields, head: &[u8]) -> Result<Option<u64>, Malformed> {
    let mut lengths = fields.all(FieldKind::ContentLength);
    let length = lengths.next().map(|field| field.value.within(head));
    if lengths.next().is_some() {
        return Err(Malformed::ContentLength);
    }
    length.map(framing::content_length).transpose()
}

/// As [`read_request`]; `method` is what was asked.
///
/// # Errors
/// The first rule that it breaks: the response cannot be passed on.
pub fn read_response(
    parts: &http::response::Parts,
    method: Method,
    has_body: bool,
) -> Result<(Vec<u8>, ResponseHead), Malformed> {
    let status = parts.status.as_u16();
    // RFC 9113 section 8.6: HTTP/2 has no 101.
    if !(100..600).contains(&status) || status == 101 {
        return Err(Malformed::Status);
    }
    let mut text = Text::with_room_for(&parts.headers, 0, HeadLimits::default());
    text.push(b"HTTP/1.1 ");
    text.push(parts.status.as_str().as_bytes());
    let phrase = text.push(b" ").end;
    text.push(b"\r\n");
    text.all(&parts.headers)?;
    let Text { mut bytes, fields, .. } = text;
    bytes.extend_from_slice(b"\r\n");
    let framing = match announced(&fields, &bytes)? {
        _ if is_bodiless(status, method) => Framing::None,
        Some(1..) if !has_body => return Err(Malformed::LengthWithoutBody),
        Some(length) => Framing::Length(length),
        None if has_body => Framing::Chunked,
        None => Framing::Length(0),
    };
    let phrase = Span { start: phrase, end: phrase };
    Ok((bytes, ResponseHead { status, phrase, fields, framing, keep_alive: true }))
}
