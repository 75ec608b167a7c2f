//! A request's head.

use std::mem::MaybeUninit;

use super::fields::list_items;
use super::framing::{self, Coding};
use super::target::{self, Target};
use super::{FieldKind, Fields, Framing, Malformed, Span, Version};

/// nginx takes 4 × 8 KiB, HAProxy 16 KiB; large cookies and bearer tokens stay below a half of this.
pub const MAX_HEAD_BYTES: usize = 32 << 10;
/// Browsers send about 20, chains of gateways add a dozen. HAProxy's limit is 101, nginx has none.
pub const MAX_FIELDS: usize = 128;
/// RFC 9112 section 3 asks for 8,000 octets of request line at least.
pub const MAX_TARGET_BYTES: usize = 8 << 10;
/// What the setting may raise [`MAX_FIELDS`] to: twice what anybody needed, 8 KiB of stack.
pub const CEILING_FIELDS: usize = 256;
/// What the setting may raise [`MAX_HEAD_BYTES`] to. Spans are 16 bits wide, and HTTP/2's heads grow by what
/// HTTP/1.1 writes between fields.
pub const CEILING_HEAD_BYTES: usize = 48 << 10;

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Of the whole head. Default: [`MAX_HEAD_BYTES`].
    pub bytes: usize,
    /// Default: [`MAX_FIELDS`].
    pub fields: usize,
    /// Of the request target, in bytes. Default: [`MAX_TARGET_BYTES`].
    pub target: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: MAX_HEAD_BYTES, fields: MAX_FIELDS, target: MAX_TARGET_BYTES }
    }
}

/// Methods that the gateway tells apart: retries, bodies of responses, metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    Other,
}

impl Method {
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Options,
        Self::Patch,
        Self::Trace,
        Self::Connect,
        Self::Other,
    ];

    pub(super) fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "other",
        }
    }

    /// Doing it twice is doing it once (RFC 9110 section 9.2.2). An unknown method may be anything.
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

/// A request's head that breaks no rule; spans into the bytes that it was parsed from.
#[derive(Debug, Clone)]
pub struct RequestHead {
    pub method: Method,
    pub method_name: Span,
    pub version: Version,
    pub target: Span,
    /// What the target asks of the origin server: path and query, or `*`. Empty when an absolute-form
    /// target has no path.
    pub path_and_query: Span,
    /// The authority asked for: the target's if it has one, else the Host field's.
    pub authority: Span,
    pub fields: Fields,
    pub framing: Framing,
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// The protocol that the client wants to leave HTTP for (RFC 9110 section 7.8, RFC 8441 section 4).
    pub upgrade: Option<Span>,
}

impl RequestHead {
    /// `head` is complete, with its empty line, as [`super::scan::HeadScan`] found it.
    ///
    /// # Errors
    /// The first rule of RFC 9112 that it breaks; the connection must then be closed, since nobody can
    /// know where the next request begins.
    pub fn parse(head: &[u8]) -> Result<Self, Malformed> {
        Self::parse_within(head, HeadLimits::default())
    }

    /// As [`Self::parse`]; that `head` is no longer than `limits` allow has been seen to.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_within(head: &[u8], limits: HeadLimits) -> Result<Self, Malformed> {
        let mut slots = [const { MaybeUninit::uninit() }; CEILING_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, &mut slots) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Malformed::Grammar),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
            Err(httparse::Error::Version) => return Err(version_error(head)),
            Err(_) => return Err(Malformed::Grammar),
        }
        let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Malformed::Grammar);
        };
        if target.len() > limits.target {
            return Err(Malformed::TargetTooLong);
        }
        if parsed.headers.len() > limits.fields {
            return Err(Malformed::TooManyFields);
        }
        let version = Version::from_minor(minor);
        let fields = Fields::of(parsed.headers, head);
        let kind = Method::of(method);
        let target_form = target::parse(kind, target.as_bytes())?;
        let authority = authority(&target_form, &fields, head, version)?;
        let framing = framing(&fields, head, version)?;
        Ok(Self {
            method: kind,
            method_name: Span::of(method.as_bytes(), head),
            version,
            target: Span::of(target.as_bytes(), head),
            path_and_query: Span::of(target_form.path_and_query, head),
            authority,
            framing,
            keep_alive: framing::keeps_alive(&fields, head, version),
            expects_continue: expects_continue(&fields, head, version)?,
            upgrade: upgrade(&fields, head, version).filter(|_| kind == Method::Get && !has_body(framing)),
            fields,
        })
    }

    /// Whether a TE field says that the client takes trailers (RFC 9110 section 10.1.4).
    pub fn takes_trailers(&self, head: &[u8]) -> bool {
        let mut fields = self.fields.all(FieldKind::Te);
        fields.any(|field| {
            list_items(field.value.within(head)).any(|item| item.eq_ignore_ascii_case(b"trailers"))
        })
    }

    /// Whether a Connection field names `name`, so that this field ends here (RFC 9110 section 7.6.1).
    pub fn connection_names(&self, head: &[u8], name: &[u8]) -> bool {
        framing::has_connection_option(&self.fields, head, name)
    }
}

/// A version that we do not speak, or nothing that is one (RFC 9112 section 2.3).
fn version_error(head: &[u8]) -> Malformed {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Malformed::Version
        }
        _ => Malformed::Grammar,
    }
}

/// RFC 9112 section 3.2: one Host field in HTTP/1.1; an absolute-form target overrides its value.
fn authority(target: &Target<'_>, fields: &Fields, head: &[u8], version: Version) -> Result<Span, Malformed> {
    let mut hosts = fields.all(FieldKind::Host);
    let host = hosts.next().map(|field| field.value);
    if hosts.next().is_some() || (host.is_none() && version == Version::Http11) {
        return Err(Malformed::HostCount);
    }
    for span in [host, target.authority.map(|authority| Span::of(authority, head))].into_iter().flatten() {
        topology::normalize_host(span.within(head)).ok_or(Malformed::Host)?;
    }
    Ok(target.authority.map(|authority| Span::of(authority, head)).or(host).unwrap_or_default())
}

/// RFC 9112 section 6.3, without the liberties that it leaves: one Content-Length field with one value.
fn framing(fields: &Fields, head: &[u8], version: Version) -> Result<Framing, Malformed> {
    let mut lengths = fields.all(FieldKind::ContentLength);
    let length = lengths.next().map(|field| field.value.within(head));
    if lengths.next().is_some() {
        return Err(Malformed::ContentLength);
    }
    let length = length.map(framing::content_length).transpose()?;
    match (framing::coding(fields, head, version)?, length) {
        (Coding::Chunked, Some(_)) => Err(Malformed::LengthAndCoding),
        (Coding::Chunked, None) => Ok(Framing::Chunked),
        (Coding::Absent, Some(length)) => Ok(Framing::Length(length)),
        (Coding::Absent, None) => Ok(Framing::None),
    }
}

fn has_body(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}

/// RFC 9110 section 7.8, of one protocol; asked for with GET, as WebSocket is, and without a body, since
/// nobody could tell where that ends and the tunnel begins. HTTP/2 and TLS are not ours to pass through: an endpoint that switches to them
/// takes requests that we cannot see.
fn upgrade(fields: &Fields, head: &[u8], version: Version) -> Option<Span> {
    if version != Version::Http11 || !framing::has_connection_option(fields, head, b"upgrade") {
        return None;
    }
    let is_ours = |item: &&[u8]| {
        let name = item.split(|byte| *byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    let items = fields.all(FieldKind::Upgrade).flat_map(|field| list_items(field.value.within(head)));
    let mut foreign = items.filter(|item| !is_ours(item));
    let only = foreign.next()?;
    let is_token = only.iter().all(|byte| byte.is_ascii_graphic() && !b"\"(),;<=>?@[\\]{}:".contains(byte));
    (foreign.next().is_none() && is_token).then(|| Span::of(only, head))
}

/// RFC 9110 section 10.1.1: an HTTP/1.0 expectation is ignored, an unknown one may be refused.
pub(super) fn expects_continue(fields: &Fields, head: &[u8], version: Version) -> Result<bool, Malformed> {
    let mut expects = false;
    for field in fields.all(FieldKind::Expect) {
        for item in list_items(field.value.within(head)) {
            if !item.eq_ignore_ascii_case(b"100-continue") {
                return Err(Malformed::Expectation);
            }
            expects = true;
        }
    }
    Ok(expects && version >= Version::Http11)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<RequestHead, Malformed> {
        RequestHead::parse(head.as_bytes())
    }

    #[test]
    fn a_plain_request_is_understood() {
        let head =
            "POST /a?b HTTP/1.1\r\nHost: Shop:80\r\nContent-Length: 12\r\nConnection: close, x\r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!(request.method, Method::Post);
        assert_eq!(request.framing, Framing::Length(12));
        assert!(!request.keep_alive);
        assert_eq!(request.authority.within(head.as_bytes()), b"Shop:80");
        assert_eq!(request.path_and_query.within(head.as_bytes()), b"/a?b");
        assert!(request.connection_names(head.as_bytes(), b"X"));
    }

    #[test]
    fn only_a_well_formed_version_is_an_unknown_one() {
        for (line, wanted) in [
            ("GET / HTTP/2.0", Malformed::Version),
            ("GET / HTTP/1.2", Malformed::Version),
            ("GET /  HTTP/1.1", Malformed::Grammar),
            ("GET / a HTTP/1.1", Malformed::Grammar),
            ("GET / http/1.1", Malformed::Grammar),
            ("GET / HTTP/1", Malformed::Grammar),
            ("GET / HTTP/01.1", Malformed::Grammar),
        ] {
            assert_eq!(parse(&format!("{line}\r\nHost: a\r\n\r\n")).err(), Some(wanted), "{line}");
        }
    }

    #[test]
    fn an_absolute_target_overrides_the_host_field() {
        let head = "GET http://a.example:81/x HTTP/1.1\r\nHost: b\r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!(request.authority.within(head.as_bytes()), b"a.example:81");
        assert_eq!(request.path_and_query.within(head.as_bytes()), b"/x");
    }

    #[test]
    fn http_1_0_needs_no_host_and_closes_by_default() {
        let request = parse("GET / HTTP/1.0\r\n\r\n").unwrap();
        assert!(!request.keep_alive && request.authority == Span::default());
        assert!(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keep_alive);
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        for (fields, wanted) in [
            ("Content-Length: 1\r\nContent-Length: 1", Malformed::ContentLength),
            ("Content-Length: 1, 1", Malformed::ContentLength),
            ("Content-Length: +1", Malformed::ContentLength),
            ("Content-Length:", Malformed::ContentLength),
            ("Content-Length: 18446744073709551616", Malformed::ContentLength),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", Malformed::LengthAndCoding),
            ("Transfer-Encoding: xchunked", Malformed::TransferEncoding),
            ("Transfer-Encoding: chunked, identity", Malformed::TransferEncoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Malformed::TransferEncoding),
            ("Transfer-Encoding: gzip, chunked", Malformed::UnknownCoding),
            ("Transfer-Encoding:", Malformed::TransferEncoding),
            ("Transfer-Encoding: \u{b}chunked", Malformed::Grammar),
            ("Host: b", Malformed::HostCount),
            ("Expect: tea", Malformed::Expectation),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
            assert_eq!(parse(&head).err(), Some(wanted), "{fields}");
        }
        let http10 = parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(http10.err(), Some(Malformed::CodingInHttp10));
    }

    #[test]
    fn the_number_of_fields_and_the_target_are_bounded() {
        let fields = "A: b\r\n".repeat(MAX_FIELDS);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(parse(&head).err(), Some(Malformed::TooManyFields));
        let head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(MAX_TARGET_BYTES));
        assert_eq!(parse(&head).err(), Some(Malformed::TargetTooLong));
    }
}
