//! Field lines as spans, and the names that the gateway itself acts on.

use smallvec::SmallVec;

/// A range of a head's bytes. Heads are far below 64 KiB, see [`super::request::MAX_HEAD_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u16,
    pub end: u16,
}

impl Span {
    /// `part` must be a slice of `whole`, which is how `httparse` hands out what it found.
    pub fn of(part: &[u8], whole: &[u8]) -> Self {
        debug_assert!(
            whole.as_ptr_range().start <= part.as_ptr()
                && part.as_ptr_range().end <= whole.as_ptr_range().end
        );
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        Self::new(start, start + part.len())
    }

    pub fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX));
        Self { start: start as u16, end: end as u16 }
    }

    pub fn within(self, whole: &[u8]) -> &[u8] {
        &whole[usize::from(self.start)..usize::from(self.end)]
    }
}

/// Fields that the gateway reads, removes or writes. All others are [`FieldKind::Other`] and pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FieldKind {
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Upgrade,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    Expect,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    Forwarded,
    XRequestId,
    Via,
    Date,
    UserAgent,
    Referer,
    ContentType,
    GrpcTimeout,
    SecWebSocketKey,
    SecWebSocketAccept,
    StrictTransportSecurity,
    Traceparent,
    Tracestate,
    /// Says who the client is, or how it came, in one of the many ways that are no standard.
    ClientClaim,
    /// Says what certificate the client proved to have (RFC 9440).
    ClientCertificate,
    /// Has an underscore, and would be one of the above with a hyphen. CGI and its heirs make both the
    /// same variable.
    Imitation,
}

impl FieldKind {
    /// Case-insensitive (RFC 9110 section 5.1).
    pub fn of(name: &[u8]) -> Self {
        if memchr::memchr(b'_', name).is_some() { Self::with_underscore(name) } else { Self::known(name) }
    }

    fn with_underscore(name: &[u8]) -> Self {
        let hyphenated: SmallVec<[u8; 32]> =
            name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
        if Self::known(&hyphenated) == Self::Other { Self::Other } else { Self::Imitation }
    }

    /// The length decides which names are compared at all.
    fn known(name: &[u8]) -> Self {
        let candidates: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"te", Self::Te)],
            3 => &[(b"via", Self::Via)],
            4 => &[(b"host", Self::Host), (b"date", Self::Date)],
            6 => &[(b"expect", Self::Expect)],
            7 => &[(b"upgrade", Self::Upgrade), (b"referer", Self::Referer)],
            9 => &[(b"forwarded", Self::Forwarded), (b"x-real-ip", Self::ClientClaim)],
            10 => &[
                (b"connection", Self::Connection),
                (b"keep-alive", Self::KeepAlive),
                (b"user-agent", Self::UserAgent),
                (b"tracestate", Self::Tracestate),
            ],
            11 => &[
                (b"x-client-ip", Self::ClientClaim),
                (b"client-cert", Self::ClientCertificate),
                (b"traceparent", Self::Traceparent),
            ],
            12 => &[
                (b"x-request-id", Self::XRequestId),
                (b"content-type", Self::ContentType),
                (b"grpc-timeout", Self::GrpcTimeout),
            ],
            14 => &[(b"content-length", Self::ContentLength), (b"true-client-ip", Self::ClientClaim)],
            15 => &[(b"x-forwarded-for", Self::XForwardedFor), (b"x-forwarded-ssl", Self::ClientClaim)],
            16 => &[
                (b"proxy-connection", Self::ProxyConnection),
                (b"x-forwarded-host", Self::XForwardedHost),
                (b"x-forwarded-port", Self::ClientClaim),
                (b"cf-connecting-ip", Self::ClientClaim),
            ],
            17 => &[
                (b"transfer-encoding", Self::TransferEncoding),
                (b"sec-websocket-key", Self::SecWebSocketKey),
                (b"client-cert-chain", Self::ClientCertificate),
                (b"x-client-cert-san", Self::ClientCertificate),
                (b"x-forwarded-proto", Self::XForwardedProto),
            ],
            18 => &[
                (b"proxy-authenticate", Self::ProxyAuthenticate),
                (b"x-forwarded-prefix", Self::ClientClaim),
                (b"x-forwarded-server", Self::ClientClaim),
                (b"x-forwarded-scheme", Self::ClientClaim),
            ],
            19 => &[
                (b"proxy-authorization", Self::ProxyAuthorization),
                (b"x-cluster-client-ip", Self::ClientClaim),
            ],
            20 => &[(b"sec-websocket-accept", Self::SecWebSocketAccept)],
            21 => &[(b"x-client-cert-subject", Self::ClientCertificate)],
            25 => &[(b"strict-transport-security", Self::StrictTransportSecurity)],
            _ => &[],
        };
        let found = candidates.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        found.map_or(Self::Other, |(_, kind)| *kind)
    }

    /// Concerns one connection only and is never forwarded (RFC 9110 section 7.6.1; the two Proxy
    /// fields belong to the hop before us as well). `Transfer-Encoding` and `Content-Length` are
    /// among them because the next hop's framing is ours to write.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::Te
                | Self::Upgrade
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
        )
    }

    /// Whether what a request says in it may decide anything: not of this connection only, and no claim
    /// about earlier hops by a peer that is not `trusted` to know.
    pub fn is_heeded(self, trusted: bool) -> bool {
        let is_claim = matches!(
            self,
            Self::XForwardedFor
                | Self::XForwardedProto
                | Self::XForwardedHost
                | Self::Forwarded
                | Self::XRequestId
                | Self::ClientClaim
                | Self::ClientCertificate
        );
        self != Self::Imitation && !self.is_hop_by_hop() && (trusted || !is_claim)
    }
}

/// One field line.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub kind: FieldKind,
    /// From the name's first byte to the start of the next line.
    pub line: Span,
    pub name: Span,
    /// Without surrounding white space.
    pub value: Span,
}

/// Most heads have fewer fields than this, and then the list needs no allocation.
const INLINE_FIELDS: usize = 24;

#[derive(Debug, Default, Clone)]
pub struct Fields(SmallVec<[Field; INLINE_FIELDS]>);

impl Fields {
    /// `parsed` are `httparse`'s findings in `head`, whose lines all end in CR LF.
    pub fn of(parsed: &[httparse::Header<'_>], head: &[u8]) -> Self {
        let mut fields: SmallVec<[Field; INLINE_FIELDS]> = parsed
            .iter()
            .map(|header| {
                let name = Span::of(header.name.as_bytes(), head);
                let value = if header.value.is_empty() {
                    Span { start: name.end, end: name.end }
                } else {
                    Span::of(header.value, head)
                };
                Field { kind: FieldKind::of(header.name.as_bytes()), line: name, name, value }
            })
            .collect();
        let mut next = (head.len() - b"\r\n".len()) as u16;
        for field in fields.iter_mut().rev() {
            field.line.end = next;
            next = field.line.start;
        }
        Self(fields)
    }

    pub(super) fn push(&mut self, field: Field) {
        self.0.push(field);
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Field> {
        self.0.last_mut()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    pub fn all(&self, kind: FieldKind) -> impl Iterator<Item = &Field> {
        self.0.iter().filter(move |field| field.kind == kind)
    }

    pub fn first(&self, kind: FieldKind) -> Option<&Field> {
        self.all(kind).next()
    }
}

/// The elements of a comma-separated value, without white space and empty ones (RFC 9110 section 5.6.1).
pub fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_without_regard_to_case() {
        assert_eq!(FieldKind::of(b"HOST"), FieldKind::Host);
        assert_eq!(FieldKind::of(b"Transfer-Encoding"), FieldKind::TransferEncoding);
        assert_eq!(FieldKind::of(b"x-forwarded-proto"), FieldKind::XForwardedProto);
        assert_eq!(FieldKind::of(b"X-Real-IP"), FieldKind::ClientClaim);
        assert_eq!(FieldKind::of(b"X_Forwarded_For"), FieldKind::Imitation);
        assert_eq!(FieldKind::of(b"content_length"), FieldKind::Imitation);
        assert_eq!(FieldKind::of(b"x_my_field"), FieldKind::Other);
        assert_eq!(FieldKind::of(b"hosts"), FieldKind::Other);
        assert_eq!(FieldKind::of(b""), FieldKind::Other);
    }

    #[test]
    fn lists_lose_white_space_and_empty_items() {
        let items: Vec<_> = list_items(b" a, ,b ,, c").collect();
        assert_eq!(items, [b"a", b"b", b"c"]);
    }
}
